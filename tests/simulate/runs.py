"""Small runs for the tests: a forced box, one with everything on, a channel."""

import math
from pathlib import Path

import xarray as xr

from flowsr.progress import SILENT
from flowsr.simulate import Channel, Simulation, simulate

BOX = {
    "flow": "forced_isotropic",
    "cells": 16,
    "viscosity": 0.06,
    "power": 0.1,
    "forcing_cutoff": 2.5,
    "spin_up_time": 4.0,
    "settle_time": 0.5,
    "duration": 1.1,
    "snapshot_interval": 0.1,
    "cfl": 0.5,
}
SHORT = {**BOX, "spin_up_time": 1.0, "settle_time": 0.2, "duration": 0.6, "snapshot_interval": 0.2}
MEDIA = {
    **SHORT,
    "cells": (16, 12, 8),
    "lengths": (2 * math.pi, 1.5 * math.pi, math.pi),
    "rotation": (0, 0, 1.0),
    "stratification": (0, 0, 1.2),
    "prandtl": 0.7,
    "mean_flow": (1.0, 0, 0),
    "passive_scalar": True,
    "scalar_gradient": (0, 0.5, 0),
    "schmidt": 2.0,
}
CHANNEL = {
    "re_tau": 100.0,
    "cells": (8, 24, 8),
    "lengths": (3.0, 2.0, 1.5),
    "wall_dealiasing": True,
    "cfl": 0.4,
    "spin_up_time": 0.3,
    "duration": 0.4,
    "snapshot_interval": 0.08,
}


def run(output: Path, settings: dict, seed: int = 0, progress=SILENT) -> Path:
    """One seed of a box or, where the settings have a friction Reynolds number, of a channel."""
    walls = "re_tau" in settings
    stated = Simulation(flow="channel", channel=Channel(**settings)) if walls else Simulation(**settings)
    return simulate(output, stated, seeds=seed, device="cpu", progress=progress)[0]


def read(store: Path) -> xr.Dataset:
    with xr.open_zarr(store, consolidated=False) as dataset:
        return dataset.load()


def files_of(store: Path) -> list[Path]:
    """What lies beside a store."""
    profiles = store.with_suffix(".profiles.csv")
    return [store.with_suffix(".csv"), *([profiles] if profiles.exists() else [])]
