import csv
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr

from flowsr.data.field import grid_of, validate
from flowsr.errors import FlowsrError
from flowsr.files import partial_path, tree_checksum
from flowsr.simulate.channel import ChannelSolver, ChannelSpace, MeanDrive, bulk_velocity, disturbed, simulate_channel
from flowsr.simulate.channel import run as run_module
from tests.simulate.boxes import relative

TINY = {
    "re_tau": 100.0,
    "cells": (8, 24, 8),
    "lengths": (3.0, 2.0, 1.5),
    "drive": "pressure",
    "wall_dealiasing": True,
    "cfl": 0.4,
    "seed": 0,
    "spin_up_time": 0.3,
    "duration": 0.4,
    "snapshot_interval": 0.08,
    "device": "cpu",
}


def read(store):
    with xr.open_zarr(store, consolidated=False) as dataset:
        return dataset.load()


def table(path):
    with open(path) as file:
        lines = [line for line in file if not line.startswith("#")]
    return {name: np.array(values, dtype=float) for name, *values in zip(*csv.reader(lines))}


def files_of(store):
    return [store.with_suffix(".csv"), store.with_suffix(".profiles.csv")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    output = simulate_channel(tmp_path_factory.mktemp("whole") / "seed_000.zarr", **TINY)
    torch.set_num_threads(before)
    return output


def test_the_store_is_a_field_on_a_stretched_grid_between_walls(finished):
    field = validate(read(finished))
    assert field.velocity.dims == ("time", "component", "x", "y", "z")
    assert field.velocity.shape == (6, 3, 8, 24, 8)
    assert field.velocity.dtype == np.float32
    np.testing.assert_allclose(field.time, 0.3 + 0.08 * np.arange(6), rtol=1e-14)
    grid = grid_of(field)
    assert grid.boundary == ("periodic", "wall", "periodic")
    assert grid.stretched == (False, True, False)
    np.testing.assert_allclose(grid.lengths, (3.0, 2.0, 1.5), rtol=1e-12)
    np.testing.assert_allclose(grid.origin, (0.0, -1.0, 0.0), atol=1e-12)
    np.testing.assert_allclose(grid.coordinates()[1], -np.cos(np.pi * (np.arange(24) + 0.5) / 24), atol=1e-15)
    assert field.attrs["viscosity"] == 0.01
    assert field.attrs["provenance"]["config"]["re_tau"] == 100.0
    json.dumps(field.attrs)
    assert not partial_path(finished).exists()


def test_the_snapshots_are_those_of_a_solver_driven_by_hand(finished):
    space = ChannelSpace((8, 24, 8), (3.0, 1.5), wall_dealiasing=True)
    start, frame = disturbed(space, "turbulent", 100.0, 0), run_module.FRAME_SHARE * bulk_velocity(100.0)
    solver = ChannelSolver(space, start, 0.01, MeanDrive(pressure_gradient=1.0), frame_velocity=frame, cfl=0.4)
    field = read(finished)
    for snapshot, time in enumerate(field.time.values):
        while solver.time < time:
            solver.advance(time)
        np.testing.assert_array_equal(field.velocity[snapshot].values, solver.field().float().numpy())


def test_the_table_follows_the_run_and_its_budget_closes(finished):
    rows = table(finished.with_suffix(".csv"))
    assert (np.diff(rows["time"]) > 0).all() and (np.diff(rows["step"]) > 0).all()
    assert set(read(finished).time.values) <= set(rows["time"])
    assert (rows["cfl"] <= 0.4 * (1 + 1e-12)).all()
    np.testing.assert_allclose(rows["reynolds_tau"], 100 * rows["u_tau"], rtol=1e-12)
    np.testing.assert_allclose(rows["injected_power"], rows["bulk_velocity"], rtol=1e-12)
    spent = np.trapezoid(rows["dissipation"], rows["time"])
    gain = np.trapezoid(rows["injected_power"], rows["time"]) - spent
    assert rows["energy"][-1] - rows["energy"][0] == pytest.approx(gain, abs=0.04 * spent)  # eight cells are few


def test_the_profiles_are_averages_over_planes_and_time(finished):
    profiles = table(finished.with_suffix(".profiles.csv"))
    field = read(finished)
    velocity = field.velocity.astype("float64")
    with open(finished.with_suffix(".profiles.csv")) as file:
        heads = dict(line[2:].split(" = ") for line in file if line.startswith("#"))
    u_tau, averaged_over = float(heads["u_tau"]), float(heads["averaged_over"])
    assert averaged_over == pytest.approx(0.4)
    np.testing.assert_array_equal(profiles["y"], field.y.values)
    np.testing.assert_allclose(profiles["y_plus"], (1 - np.abs(field.y)) * u_tau * 100, rtol=1e-12)
    mean = velocity.mean(("time", "x", "z"))
    np.testing.assert_allclose(profiles["u_plus"] * u_tau, mean[0], rtol=0.05)
    fluctuation = velocity - mean
    for name, a, b in (("uu_plus", 0, 0), ("vv_plus", 1, 1), ("ww_plus", 2, 2), ("uv_plus", 0, 1)):
        snapshots = (fluctuation[:, a] * fluctuation[:, b]).mean(("time", "x", "z"))
        assert relative(torch.tensor(profiles[name] * u_tau**2), torch.from_numpy(snapshots.values)) < 0.15


def test_a_sample_of_one_moment_is_exact(tmp_path):
    """Averaged over the last snapshot alone, the profiles are its own plane averages."""
    space = ChannelSpace((8, 24, 8), (3.0, 1.5))
    state = disturbed(space, "turbulent", 100.0, 3)
    moments = run_module.ChannelStatistics(space).moments(state)
    u, v, w = space.field(state)
    for found, product in zip(moments, (u, u * u, v * v, w * w, u * v)):
        np.testing.assert_allclose(found, product.mean(dim=(0, 2)), atol=1e-12)
    slope = np.gradient(moments[0], space.coordinates()[1], edge_order=2)
    np.testing.assert_allclose(moments[5][5:-5], slope[5:-5], atol=0.05 * np.abs(slope).max())


def test_flux_holds_the_bulk_velocity(tmp_path):
    short = {**TINY, "drive": "flux", "spin_up_time": 0.0, "duration": 0.05, "snapshot_interval": 0.05}
    rows = table(simulate_channel(tmp_path / "run.zarr", **short).with_suffix(".csv"))
    np.testing.assert_allclose(rows["bulk_velocity"], (100 / 0.09) ** (1 / 0.88) / 200, rtol=1e-12)


def test_seeds_differ_and_starts_do_not_depend_on_the_grid():
    coarse, fine = ChannelSpace((10, 16, 10), (3.0, 1.5)), ChannelSpace((20, 32, 20), (3.0, 1.5))
    first, second = (disturbed(coarse, "laminar", 180.0, seed) for seed in (0, 1))
    first[1, :, 0, 0] = second[1, :, 0, 0] = 0
    assert abs(torch.vdot(first.flatten(), second.flatten())) < 0.5 * first.norm() * second.norm()
    points = fine.points
    on_both = [s.velocity(disturbed(s, "turbulent", 180.0, 5), s.evaluation(points)) for s in (coarse, fine)]
    kept = on_both[1][:, :, [0, 1, 2, 3, 4, -4, -3, -2, -1], :5]
    assert relative(on_both[0][:, :, :, :5][..., 1:], kept[..., 1:]) < 0.02
    energy = (coarse.field(first) ** 2).mean()
    assert 0.5 < float(energy) < 2.0


def test_a_finished_store_is_returned_at_once_and_another_is_not_overwritten(finished, monkeypatch):
    monkeypatch.setattr(run_module, "_Run", None)  # nothing may be simulated
    assert simulate_channel(finished, **TINY) == finished
    with pytest.raises(FlowsrError, match="other data or settings"):
        simulate_channel(finished, **{**TINY, "re_tau": 120.0})


CHILD = """
import json, os, signal, sys
import torch
from flowsr.simulate.channel import run, simulate_channel

torch.set_num_threads(1)
run.RESTART_SECONDS = 0.0
settings, output, fatal_time = json.loads(sys.argv[1]), sys.argv[2], float(sys.argv[3])
first = None

def watch(fraction, message):
    global first
    time = float(message.split("t=")[1].split()[0])
    if first is None:
        first = time
        print(first, flush=True)
    if time >= fatal_time:
        os.kill(os.getpid(), signal.SIGKILL)

simulate_channel(output, **settings, progress=watch)
"""


def child(output, fatal_time):
    """Run until ``fatal_time``, where SIGKILL ends it; the time of the first row of diagnostics it made itself."""
    command = [sys.executable, "-c", CHILD, json.dumps(TINY), str(output), str(fatal_time)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not output.exists()
    return float(ended.stdout)


def test_killed_in_the_spin_up_and_again_among_snapshots_it_ends_with_the_same_bits(finished, tmp_path):
    output = tmp_path / finished.name
    assert child(output, fatal_time=0.2) < 0.15
    assert child(output, fatal_time=0.5) > 0.15  # it went on from the spin-up's restart file
    begun = []
    simulate_channel(output, **TINY, progress=lambda fraction, message: begun.append(fraction))
    assert begun[0] > 0.4
    assert tree_checksum(output) == tree_checksum(finished)
    for found, expected in zip(files_of(output), files_of(finished)):
        assert found.read_bytes() == expected.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in [output, *files_of(output)])


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("where", ["_record", "_save", "_write_snapshot"])
def test_interrupted_at_every_turn_it_ends_with_the_same_bits(finished, tmp_path, monkeypatch, where):
    """Every few calls of one of its parts the run breaks off, just before or just after that part has done its work."""
    part, calls = getattr(run_module._Run, where), [0]

    def breaks_off(self, *arguments):
        calls[0] += 1
        if calls[0] % 5 == 3:
            raise Interrupted
        part(self, *arguments)
        if calls[0] % 5 == 0:
            raise Interrupted

    monkeypatch.setattr(run_module._Run, where, breaks_off)
    monkeypatch.setattr(run_module, "RESTART_SECONDS", 0.0)
    output, interruptions = tmp_path / finished.name, 0
    while not output.exists():
        try:
            simulate_channel(output, **TINY)
        except Interrupted:
            interruptions += 1
    assert interruptions >= 2
    assert tree_checksum(output) == tree_checksum(finished)
    for found, expected in zip(files_of(output), files_of(finished)):
        assert found.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "bit", "foreign", "ahead"])
def test_a_restart_file_that_cannot_be_trusted_is_not_used(finished, tmp_path, monkeypatch, caplog, damage):
    output = tmp_path / finished.name
    write = run_module._Run._write_snapshot

    def breaks_off(self, snapshot):
        if snapshot == 3:
            raise Interrupted
        write(self, snapshot)

    with monkeypatch.context() as patch:
        patch.setattr(run_module._Run, "_write_snapshot", breaks_off)
        with pytest.raises(Interrupted):
            simulate_channel(output, **TINY)
    file = partial_path(output) / "restart.npz"
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "bit":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "foreign":
        blank = {name: np.zeros(1) for name in run_module.ARRAYS}
        np.savez(file, header=np.array(json.dumps({"settings": {"cells": 8}})), **blank)
    else:  # it stands beyond a snapshot that is no longer there
        marker = next((partial_path(output) / "done" / "velocity").glob("1.*"))
        marker.unlink()
    simulate_channel(output, **TINY)
    assert ("starts again" in caplog.text) or damage == "ahead"
    assert tree_checksum(output) == tree_checksum(finished)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"re_tau": 20.0}, "re_tau; expected: 60 or more; found: 20.0"),
        ({"cells": (8, 15, 8)}, "cells; expected: three even numbers"),
        ({"lengths": (3.0, 1.0, 1.5)}, "lengths; expected: three positive numbers, 2 along y"),
        ({"drive": "wind"}, "pressure or flux"),
        ({"start": "turbulet"}, "did you mean 'turbulent'"),
        ({"time_step": -1.0}, "time_step; expected: a positive number"),
        ({"snapshot_interval": 2.0}, "at most the duration"),
        ({"spin_up_time": -1.0}, "spin_up_time"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_one_line(tmp_path, change, expected):
    with pytest.raises(FlowsrError, match=expected) as error:
        simulate_channel(tmp_path / "run.zarr", **{**TINY, **change})
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_blows_up_says_so_and_keeps_what_was_good(tmp_path):
    violent = {**TINY, "re_tau": 50000.0, "cfl": 8.0, "spin_up_time": 0.0, "duration": 50.0, "snapshot_interval": 50.0}
    with pytest.raises(FlowsrError, match=r"blew up at step \d+.*lower cfl"):
        simulate_channel(tmp_path / "run.zarr", **violent)
    assert not (tmp_path / "run.zarr").exists()
    assert partial_path(tmp_path / "run.zarr").exists()


def test_importing_the_channel_needs_no_zarr():
    blocked = "sys.modules.update(dict.fromkeys(['zarr', 'pydantic', 'prefect', 'dask']))"
    script = f"import sys; {blocked}; import flowsr.simulate.channel"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
