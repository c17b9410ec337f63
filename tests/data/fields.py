"""Small fields and files for the tests of :mod:`flowsr.data`, and a child process that dies where it is told to."""

from __future__ import annotations

import os
import signal

import numpy as np
import xarray as xr

from flowsr.data import create_store, field_template
from flowsr.grid import Grid

VISCOSITY = 0.01


def random_field(grid: Grid, times, seed: int = 0, dtype="float32", **attrs) -> xr.Dataset:
    """A velocity of smooth random modes and some noise: every value different, no symmetry."""
    dataset = field_template(grid, times, dtype=dtype, attrs={"viscosity": VISCOSITY, **attrs})
    generator = np.random.default_rng(seed)
    values = generator.normal(size=dataset["velocity"].shape)
    x, y, z = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in grid.shape), indexing="ij")
    for t in range(len(times)):
        for c in range(3):
            a, b, d = generator.normal(size=3)
            values[t, c] += 3 * np.sin(x + a) + 2 * np.cos(y + b + t) + np.sin(2 * z + d)
    return dataset.assign(velocity=(dataset["velocity"].dims, values.astype(dtype), dataset["velocity"].attrs))


def store_field(dataset: xr.Dataset, path, **options):
    """The dataset as a published store."""
    with create_store(path, dataset, **options) as store:
        for name, array in dataset.data_vars.items():
            for time in range(dataset.sizes["time"]):
                store.write(name, array.isel(time=time).values, time=time)
        return store.publish()


def in_child(work) -> int:
    """Run ``work`` in a forked child and return its exit status, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die(*_) -> None:
    """SIGKILL to this very process: no handler runs, nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)
