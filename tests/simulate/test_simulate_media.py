"""Runs with everything on: unequal sides, rotation, buoyancy, a passive scalar, a mean stream; killed and resumed."""

import csv
import math

import numpy as np
import pytest
import xarray as xr

from flowsr.data import open_field
from flowsr.errors import FlowsrError
from flowsr.files import tree_checksum
from flowsr.simulate import job as run_module
from flowsr.simulate import simulate_run

TINY = {
    "flow": "forced_isotropic",
    "cells": (16, 12, 8),
    "lengths": (2 * math.pi, 1.5 * math.pi, math.pi),
    "viscosity": 0.06,
    "power": 0.1,
    "forcing_cutoff": 2.5,
    "seed": 0,
    "spin_up_time": 1.0,
    "settle_time": 0.2,
    "duration": 0.6,
    "snapshot_interval": 0.2,
    "cfl": 0.5,
    "device": "cpu",
    "rotation": (0, 0, 1.0),
    "stratification": (0, 0, 1.2),
    "prandtl": 0.7,
    "mean_flow": (1.0, 0, 0),
    "passive_scalar": True,
    "scalar_gradient": (0, 0.5, 0),
    "schmidt": 2.0,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return simulate_run(tmp_path_factory.mktemp("whole") / "seed_000.zarr", **TINY)


def test_scalars_are_stored_beside_the_velocity(finished):
    field = open_field(finished)
    assert set(field.data_vars) == {"velocity", "buoyancy", "scalar"}
    assert field.velocity.shape == (4, 3, 16, 12, 8)
    for name in ("buoyancy", "scalar"):
        assert field[name].dims == ("time", "x", "y", "z") and field[name].shape == (4, 16, 12, 8)
        assert field[name].attrs["irreps"] == "0e"
        assert float(field[name].std()) > 1e-3 and abs(float(field[name].mean())) < 1e-6
    np.testing.assert_allclose(field.velocity.mean(("x", "y", "z")), [[1.0, 0, 0]] * 4, atol=1e-6)
    np.testing.assert_allclose(field.z, (np.arange(8) + 0.5) * math.pi / 8)
    config = field.attrs["provenance"]["config"]
    assert config["rotation"] == [0, 0, 1.0] and config["cells"] == [16, 12, 8] and "forcing_mode" not in config


def test_the_table_has_the_columns_of_every_force(finished):
    with open(finished.with_suffix(".csv")) as file:
        rows = list(csv.DictReader(file))
    new = {"rossby", "froude", "potential_energy", "potential_dissipation", "buoyancy_flux"}
    assert new | {"scalar_energy", "scalar_dissipation", "scalar_production"} <= set(rows[0])
    last = {name: float(value) for name, value in rows[-1].items()}
    buoyancy = open_field(finished).buoyancy[-1].astype("float64")
    assert last["potential_energy"] == pytest.approx(float((buoyancy**2).mean()) / 2 / 1.2**2, rel=1e-5)


class Interrupted(BaseException):
    pass


def test_broken_off_among_its_snapshots_it_ends_with_the_same_bits(finished, tmp_path, monkeypatch):
    write, calls = run_module._Run._write_snapshot, [0]

    def breaks_off(self, snapshot):
        calls[0] += 1
        if calls[0] in (1, 3):
            raise Interrupted
        write(self, snapshot)

    monkeypatch.setattr(run_module._Run, "_write_snapshot", breaks_off)
    monkeypatch.setattr(run_module, "RESTART_SECONDS", 0.0)
    output, interruptions = tmp_path / finished.name, 0
    while not output.exists():
        try:
            simulate_run(output, **TINY)
        except Interrupted:
            interruptions += 1
    assert interruptions == 2
    assert tree_checksum(output) == tree_checksum(finished)
    assert output.with_suffix(".csv").read_bytes() == finished.with_suffix(".csv").read_bytes()


def test_a_given_spectrum_decays(tmp_path):
    plain = {name: TINY[name] for name in ("viscosity", "power", "forcing_cutoff", "seed", "cfl", "device")}
    settings = {**plain, "flow": "decaying", "cells": 16, "spin_up_time": 5.0, "settle_time": 1.0, "duration": 0.4}
    store = simulate_run(
        tmp_path / "decay.zarr", **settings, snapshot_interval=0.2, spectrum=[(1, 0.2), (3, 0.1)], passive_scalar=True
    )
    with xr.open_zarr(store, consolidated=False) as field:
        energy = (field.velocity.astype("float64") ** 2).sum("component").mean(("x", "y", "z")).values / 2
        variance = (field.scalar.astype("float64") ** 2).mean(("x", "y", "z")).values
        assert list(field.time.values) == [0.0, 0.2, 0.4]
    shells = 0.2 + 0.2 * 2 ** (math.log(0.5) / math.log(3)) + 0.1
    assert energy[0] == pytest.approx(shells, rel=1e-5) and np.all(np.diff(energy) < 0)
    assert variance[0] == pytest.approx(1.0, rel=1e-5) and np.all(np.diff(variance) < 0)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cells": (16, 16)}, "cells.*one number, or three"),
        ({"cells": (16, 12, 4)}, "8 or more to spin up"),
        ({"lengths": (1.0, 1.0, 0.0)}, "three positive sides"),
        ({"rotation": (0, 0, math.nan)}, "rotation"),
        ({"dealiasing": "none"}, "sphere or cube"),
        ({"passive_scalar": False}, "passive_scalar: true"),
        ({"spectrum": [(1, 1.0), (2, 1.0)]}, "the flow 'decaying'"),
        ({"prandtl": 0.0}, "prandtl.*positive"),
        ({"forcing_mode": 0}, "forcing_mode"),
        ({"flow": "abc_forced"}, "needs a cube"),
    ],
)
def test_what_cannot_be_simulated_is_refused(tmp_path, change, told):
    with pytest.raises(FlowsrError, match=told) as error:
        simulate_run(tmp_path / "run.zarr", **{**TINY, **change})
    assert "\n" not in str(error.value)


def test_a_blow_up_says_when_and_keeps_what_was_good(tmp_path):
    violent = {**TINY, "viscosity": 1e-4, "cfl": 30.0, "duration": 50.0, "stratification": (0, 0, 0)}
    with pytest.raises(FlowsrError, match=r"blew up at step \d+, time .*likely cause"):
        simulate_run(tmp_path / "run.zarr", **violent)
    assert not (tmp_path / "run.zarr").exists() and (tmp_path / ".run.zarr.partial" / "plan.json").exists()
