"""What a run in a periodic box leaves: its store, its table, its scalars."""

import csv
import itertools
import json
import math

import numpy as np
import pytest
import torch
import xarray as xr

from flowsr.data import open_field
from flowsr.data.store import damage_in
from flowsr.files import partial_path
from flowsr.progress import Progress
from flowsr.simulate import BandPower, BoxSolver, random_solenoidal, resample
from flowsr.simulate.flows import STEADY_ENERGY
from tests.simulate.boxes import cube
from tests.simulate.runs import BOX, MEDIA, SHORT, read, run


def table(store):
    with open(store.with_suffix(".csv")) as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    torch.set_num_threads(1)
    return run(tmp_path_factory.mktemp("whole") / "seed_000.zarr", BOX)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    torch.set_num_threads(1)
    return run(tmp_path_factory.mktemp("media") / "seed_000.zarr", MEDIA)


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
        (b["time"] - a["time"]) * (0.2 - a["dissipation"] - b["dissipation"]) / 2 for a, b in itertools.pairwise(late)
    )
    spent = sum(
        (b["time"] - a["time"]) * (a["dissipation"] + b["dissipation"]) / 2 for a, b in itertools.pairwise(late)
    )
    assert late[-1]["energy"] - late[0]["energy"] == pytest.approx(gain, abs=0.01 * spent)


def test_seeds_differ(finished, tmp_path):
    short = {**BOX, "spin_up_time": 0.0, "settle_time": 0.0, "duration": 0.1}
    fields = [read(run(tmp_path / f"{s}.zarr", short, seed=s)).velocity.values for s in (0, 1)]
    correlation = np.vdot(fields[0], fields[1]) / np.linalg.norm(fields[0]) / np.linalg.norm(fields[1])
    assert abs(correlation) < 0.5


def test_a_decaying_flow_begins_with_its_first_snapshot(tmp_path):
    settings = {**BOX, "flow": "taylor_green", "viscosity": 0.01, "duration": 0.5, "snapshot_interval": 0.25}
    field = read(run(tmp_path / "tg.zarr", settings))
    assert list(field.time.values) == [0.0, 0.25, 0.5]
    expected = np.sin(field.x) * np.cos(field.y) * np.cos(field.z)
    np.testing.assert_allclose(field.velocity[0, 0].values, expected.values, atol=1e-6)
    decayed = run(tmp_path / "abc.zarr", {**settings, "flow": "abc", "precision": "float64"})
    velocity = read(decayed).velocity
    np.testing.assert_allclose(velocity[2], velocity[0] * math.exp(-0.01 * 0.5), rtol=1e-5, atol=1e-6)


def test_scalars_are_stored_beside_the_velocity(media):
    field = open_field(media)
    assert set(field.data_vars) == {"velocity", "buoyancy", "scalar"}
    assert field.velocity.shape == (4, 3, 16, 12, 8)
    for name in ("buoyancy", "scalar"):
        assert field[name].dims == ("time", "x", "y", "z") and field[name].shape == (4, 16, 12, 8)
        assert field[name].attrs["irreps"] == "0e"
        assert float(field[name].std()) > 1e-3 and abs(float(field[name].mean())) < 1e-6
    np.testing.assert_allclose(field.velocity.mean(("x", "y", "z")), [[1.0, 0, 0]] * 4, atol=1e-6)
    np.testing.assert_allclose(field.z, (np.arange(8) + 0.5) * math.pi / 8)
    config = field.attrs["provenance"]["config"]
    assert config["rotation"] == [0, 0, 1.0] and config["cells"] == [16, 12, 8] and config["forcing_mode"] == 1


def test_the_table_has_the_columns_of_every_force(media):
    with open(media.with_suffix(".csv")) as file:
        rows = list(csv.DictReader(file))
    new = {"rossby", "froude", "potential_energy", "potential_dissipation", "buoyancy_flux"}
    assert new | {"scalar_energy", "scalar_dissipation", "scalar_production"} <= set(rows[0])
    last = {name: float(value) for name, value in rows[-1].items()}
    buoyancy = open_field(media).buoyancy[-1].astype("float64")
    assert last["potential_energy"] == pytest.approx(float((buoyancy**2).mean()) / 2 / 1.2**2, rel=1e-5)


def test_a_given_spectrum_decays(tmp_path):
    decaying = {**BOX, "flow": "decaying", "duration": 0.4, "snapshot_interval": 0.2, "passive_scalar": True}
    store = run(tmp_path / "decay.zarr", {**decaying, "spectrum": [(1, 0.2), (3, 0.1)]})
    with xr.open_zarr(store, consolidated=False) as field:
        energy = (field.velocity.astype("float64") ** 2).sum("component").mean(("x", "y", "z")).values / 2
        variance = (field.scalar.astype("float64") ** 2).mean(("x", "y", "z")).values
        assert list(field.time.values) == [0.0, 0.2, 0.4]
    shells = 0.2 + 0.2 * 2 ** (math.log(0.5) / math.log(3)) + 0.1
    assert energy[0] == pytest.approx(shells, rel=1e-5) and np.all(np.diff(energy) < 0)
    assert variance[0] == pytest.approx(1.0, rel=1e-5) and np.all(np.diff(variance) < 0)


@pytest.mark.parametrize(("viscosity", "poor"), [(0.02, True), (0.06, False)])
def test_a_run_that_does_not_resolve_its_smallest_scales_says_so(tmp_path, viscosity, poor):
    told = []
    store = tmp_path / "seed_000.zarr"
    run(store, {**SHORT, "viscosity": viscosity}, progress=Progress(lambda title, done, text: told.append(text)))
    late = [row["kmax_eta"] for row in table(store) if row["time"] > 1.2 - 1e-9]
    assert (np.mean(late) < 1) == poor
    remark = f"under-resolved: kmax*eta={np.mean(late):.2f}, below 1"
    assert open_field(store).attrs.get("resolution") == (remark if poor else None)
    assert told[-1] == "4 snapshots" + (f", {remark}" if poor else "")
    assert any("below 1" in line for line in told if line.startswith("run t=")) is poor
    assert not any("below 1" in line for line in told if line.startswith("spin-up")), "that is on half the grid"
    assert damage_in(store) == [] and xr.open_zarr(store).attrs.get("resolution") == (remark if poor else None)
