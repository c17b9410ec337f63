"""What a run between walls leaves: its store, its table, its profiles."""

import csv
import json

import numpy as np
import pytest
import torch

from flowsr.data.field import grid_of, validate
from flowsr.files import partial_path
from flowsr.simulate.channel import ChannelSolver, ChannelSpace, ChannelStatistics, MeanDrive, bulk_velocity, disturbed
from flowsr.simulate.job import FRAME_SHARE
from tests.simulate.boxes import relative
from tests.simulate.runs import CHANNEL, read, run


def table(path):
    with open(path) as file:
        lines = [line for line in file if not line.startswith("#")]
    return {name: np.array(values, dtype=float) for name, *values in zip(*csv.reader(lines))}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    torch.set_num_threads(1)
    return run(tmp_path_factory.mktemp("whole") / "seed_000.zarr", CHANNEL)


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
    start, frame = disturbed(space, "turbulent", 100.0, 0), FRAME_SHARE * bulk_velocity(100.0)
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
    moments = ChannelStatistics(space).moments(state)
    u, v, w = space.field(state)
    for found, product in zip(moments, (u, u * u, v * v, w * w, u * v)):
        np.testing.assert_allclose(found, product.mean(dim=(0, 2)), atol=1e-12)
    slope = np.gradient(moments[0], space.coordinates()[1], edge_order=2)
    np.testing.assert_allclose(moments[5][5:-5], slope[5:-5], atol=0.05 * np.abs(slope).max())


def test_flux_holds_the_bulk_velocity(tmp_path):
    short = {**CHANNEL, "drive": "flux", "spin_up_time": 0.0, "duration": 0.05, "snapshot_interval": 0.05}
    rows = table(run(tmp_path / "run.zarr", short).with_suffix(".csv"))
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
