import csv
import json
import math
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr

from flowsr.errors import FlowsrError
from flowsr.files import partial_path, tree_checksum
from flowsr.simulate import BandPower, BoxSolver, random_solenoidal, simulate_run
from flowsr.simulate import job as run_module
from flowsr.simulate.flows import STEADY_ENERGY
from flowsr.simulate.spectral import resample
from tests.simulate.boxes import cube

TINY = {
    "flow": "forced_isotropic",
    "cells": 16,
    "viscosity": 0.06,
    "power": 0.1,
    "forcing_cutoff": 2.5,
    "seed": 0,
    "spin_up_time": 4.0,
    "settle_time": 0.5,
    "duration": 1.1,
    "snapshot_interval": 0.1,
    "cfl": 0.5,
    "precision": "float32",
    "device": "cpu",
}


def read(store):
    with xr.open_zarr(store, consolidated=False) as dataset:
        return dataset.load()


def table(store):
    with open(store.with_suffix(".csv")) as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    output = simulate_run(tmp_path_factory.mktemp("whole") / "seed_000.zarr", **TINY)
    torch.set_num_threads(before)
    return output


def test_the_store_is_a_field_in_flowsrs_layout(finished):
    field = read(finished)
    assert field.velocity.dims == ("time", "component", "x", "y", "z")
    assert field.velocity.shape == (12, 3, 16, 16, 16)
    assert field.velocity.dtype == np.float32
    np.testing.assert_array_equal(field.time, [4.5 + i * 0.1 for i in range(12)])
    assert list(field.component.values) == ["u", "v", "w"]
    for axis in "xyz":
        np.testing.assert_allclose(field[axis], (np.arange(16) + 0.5) * 2 * math.pi / 16, rtol=1e-14)
    assert field.velocity.attrs["irreps"] == "1o"
    assert field.attrs["boundary"] == ["periodic"] * 3
    assert field.attrs["viscosity"] == 0.06
    assert field.attrs["provenance"]["config"]["seed"] == 0
    json.dumps(field.attrs)
    assert not partial_path(finished).exists()


def test_the_snapshots_are_those_of_a_solver_driven_by_hand(finished):
    coarse, fine = cube(8, torch.float32), cube(16, torch.float32)
    start = random_solenoidal(coarse, 0, STEADY_ENERGY * (0.1 / 2.5) ** (2 / 3), 2.5)
    solver = BoxSolver(coarse, start, 0.06, forces=[BandPower(coarse, 0.1, 2.5)], cfl=0.5)
    while solver.time < 4.0:
        solver.advance(4.0)
    padded = resample(solver.velocity, coarse, fine)
    solver = BoxSolver(fine, padded, 0.06, forces=[BandPower(fine, 0.1, 2.5)], cfl=0.5, time=4.0)
    field = read(finished)
    for snapshot, time in enumerate(field.time.values):
        while solver.time < time:
            solver.advance(time)
        np.testing.assert_array_equal(field.velocity[snapshot].values, solver.field().numpy())


def test_the_table_follows_the_run_and_its_budget_closes(finished):
    rows = table(finished)
    assert [row["time"] for row in rows] == sorted({row["time"] for row in rows})
    assert {4.5 + i * 0.1 for i in range(12)} <= {row["time"] for row in rows}
    assert all(row["cfl"] <= 0.5 * (1 + 1e-12) for row in rows)
    snapshot = read(finished).velocity[-1].astype("float64")
    assert rows[-1]["energy"] == pytest.approx(float((snapshot**2).sum("component").mean() / 2), rel=1e-6)
    late = [row for row in rows if row["time"] >= 4.5]
    gain = sum(
        (b["time"] - a["time"]) * (0.2 - a["dissipation"] - b["dissipation"]) / 2 for a, b in zip(late, late[1:])
    )
    spent = sum((b["time"] - a["time"]) * (a["dissipation"] + b["dissipation"]) / 2 for a, b in zip(late, late[1:]))
    assert late[-1]["energy"] - late[0]["energy"] == pytest.approx(gain, abs=0.01 * spent)


def test_a_finished_store_is_returned_at_once_and_another_is_not_overwritten(finished, monkeypatch):
    monkeypatch.setattr(run_module, "_Run", None)  # nothing may be simulated
    assert simulate_run(finished, **TINY) == finished
    with pytest.raises(FlowsrError, match="other data or settings"):
        simulate_run(finished, **{**TINY, "viscosity": 0.05})


def test_seeds_differ(finished, tmp_path):
    short = {**TINY, "spin_up_time": 0.0, "settle_time": 0.0, "duration": 0.1}
    fields = [read(simulate_run(tmp_path / f"{s}.zarr", **{**short, "seed": s})).velocity.values for s in (0, 1)]
    correlation = np.vdot(fields[0], fields[1]) / np.linalg.norm(fields[0]) / np.linalg.norm(fields[1])
    assert abs(correlation) < 0.5


def test_a_decaying_flow_begins_with_its_first_snapshot(tmp_path):
    settings = {**TINY, "flow": "taylor_green", "viscosity": 0.01, "duration": 0.5, "snapshot_interval": 0.25}
    field = read(simulate_run(tmp_path / "tg.zarr", **settings))
    assert list(field.time.values) == [0.0, 0.25, 0.5]
    expected = np.sin(field.x) * np.cos(field.y) * np.cos(field.z)
    np.testing.assert_allclose(field.velocity[0, 0].values, expected.values, atol=1e-6)
    decayed = simulate_run(tmp_path / "abc.zarr", **{**settings, "flow": "abc", "precision": "float64"})
    velocity = read(decayed).velocity
    np.testing.assert_allclose(velocity[2], velocity[0] * math.exp(-0.01 * 0.5), rtol=1e-5, atol=1e-6)


CHILD = """
import json, os, signal, sys
import torch
from flowsr.simulate import simulate_run
from flowsr.simulate import job as run

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

simulate_run(output, **settings, progress=watch)
"""


def child(output, fatal_time):
    """Run until ``fatal_time``, where SIGKILL ends it; the time of the first row of diagnostics it made itself."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, json.dumps(TINY), str(output), str(fatal_time)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not output.exists()
    return float(ended.stdout)


def test_killed_in_the_spin_up_and_again_among_snapshots_it_ends_with_the_same_bits(finished, tmp_path):
    output = tmp_path / finished.name
    assert child(output, fatal_time=2.0) < 1.5
    assert child(output, fatal_time=5.0) > 1.5  # it went on from the spin-up's restart file
    begun = []
    simulate_run(output, **TINY, progress=lambda fraction, message: begun.append(fraction))
    assert begun[0] > 0.3
    assert tree_checksum(output) == tree_checksum(finished)
    assert output.with_suffix(".csv").read_bytes() == finished.with_suffix(".csv").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([output.name, output.with_suffix(".csv").name])


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
            simulate_run(output, **TINY)
        except Interrupted:
            interruptions += 1
    assert interruptions >= 2
    assert tree_checksum(output) == tree_checksum(finished)
    assert output.with_suffix(".csv").read_bytes() == finished.with_suffix(".csv").read_bytes()


def interrupt(output, monkeypatch, at):
    """Leave a partial store behind that was broken off at the snapshot ``at``."""
    write = run_module._Run._write_snapshot

    def breaks_off(self, snapshot):
        if snapshot == at:
            raise Interrupted
        write(self, snapshot)

    with monkeypatch.context() as patch:
        patch.setattr(run_module._Run, "_write_snapshot", breaks_off)
        with pytest.raises(Interrupted):
            simulate_run(output, **TINY)


def test_a_begun_run_is_not_gone_on_with_under_other_settings(tmp_path, monkeypatch):
    output = tmp_path / "seed_000.zarr"
    interrupt(output, monkeypatch, at=2)
    with pytest.raises(FlowsrError, match="begun with other data or settings"):
        simulate_run(output, **{**TINY, "cfl": 0.4})
    assert not output.exists()


@pytest.mark.parametrize("damage", ["truncated", "bit", "foreign", "ahead"])
def test_a_restart_file_that_cannot_be_trusted_is_not_used(finished, tmp_path, monkeypatch, caplog, damage):
    output = tmp_path / finished.name
    interrupt(output, monkeypatch, at=3)
    file = partial_path(output) / "restart.npz"
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "bit":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "foreign":
        np.savez(file, header=np.array(json.dumps({"settings": {"cells": 8}})), velocity=np.zeros(1), rows=np.zeros(1))
    else:  # it stands beyond a snapshot that is no longer there
        marker = next((partial_path(output) / "done" / "velocity").glob("1.*"))
        marker.unlink()
    simulate_run(output, **TINY)
    assert ("starts again" in caplog.text) or damage == "ahead"
    assert tree_checksum(output) == tree_checksum(finished)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"flow": "forced_isotropc"}, "did you mean 'forced_isotropic'"),
        ({"viscosity": -1.0}, "variable: viscosity; expected: a positive number; found: -1.0"),
        ({"precision": "float16"}, "float32 or float64"),
        ({"cells": 4}, "8 or more to spin up on half the grid"),
        ({"snapshot_interval": 2.0}, "at most the duration"),
        ({"forcing_cutoff": 0.5}, "forcing_cutoff.*above 1"),
        ({"settle_time": math.nan}, "settle_time"),
        ({"duration": math.inf}, "duration"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_one_line(tmp_path, change, expected):
    with pytest.raises(FlowsrError, match=expected) as error:
        simulate_run(tmp_path / "run.zarr", **{**TINY, **change})
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_blows_up_says_so_and_publishes_nothing(tmp_path):
    violent = {**TINY, "viscosity": 1e-4, "cfl": 30.0, "duration": 50.0, "snapshot_interval": 10.0}
    with pytest.raises(FlowsrError, match=r"blew up at step \d+.*cfl 30"):
        simulate_run(tmp_path / "run.zarr", **violent)
    assert not (tmp_path / "run.zarr").exists()


def test_importing_the_solver_needs_no_zarr():
    blocked = "sys.modules.update(dict.fromkeys(['zarr', 'pydantic', 'prefect', 'dask']))"
    script = f"import sys; {blocked}; import flowsr.simulate"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
