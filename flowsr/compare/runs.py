"""The held-out runs: coarse and fine snapshots, read one at a time, and upscaled stores checked against them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from flowsr.data import grid_of, open_field
from flowsr.errors import FlowsrError
from flowsr.files import tree_checksum
from flowsr.grid import Grid


@dataclass(frozen=True, eq=False)
class HeldOutRun:
    """One test store: groups ``coarse`` and ``fine`` of the same snapshots.

    Args:
        path: the store.
        variable: the field in it.
        coarse, fine: its groups, unread.
        coarse_grid, fine_grid: their grids.
    """

    path: Path
    variable: str
    coarse: xr.Dataset
    fine: xr.Dataset
    coarse_grid: Grid
    fine_grid: Grid

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def snapshots(self) -> int:
        return self.fine.sizes["time"]

    @property
    def factor(self) -> int:
        """Refinement from coarse to fine, the same along every axis."""
        return self.fine_grid.shape[0] // self.coarse_grid.shape[0]

    @property
    def irreps(self) -> str:
        """Field type of the variable."""
        return str(self.fine[self.variable].attrs["irreps"])

    @property
    def viscosity(self) -> float | None:
        """Kinematic viscosity, where the store states it."""
        value = self.fine.attrs.get("viscosity")
        return None if value is None else float(value)

    @cached_property
    def checksum(self) -> str:
        """sha256 of the whole store."""
        return tree_checksum(self.path)

    def read_coarse(self, time: int) -> Tensor:
        """(1, component, x, y, z) of one snapshot, in the stored precision."""
        return read_snapshot(self.coarse, self.variable, time, self.path)

    def read_fine(self, time: int) -> Tensor:
        """(1, component, x, y, z) of one snapshot, in the stored precision."""
        return read_snapshot(self.fine, self.variable, time, self.path)


def open_runs(stores: Sequence[Path], variable: str) -> list[HeldOutRun]:
    """Open the test stores; nothing but coordinates is read.

    Raises:
        FlowsrError: no store, one that lacks the variable, coarse and fine that do not belong together, or runs on
            different grids.
    """
    if not stores:
        raise FlowsrError("nothing to compare on", expected="at least one test store", found="none")
    runs = [_open_run(Path(store), variable) for store in stores]
    first = runs[0]
    for run in runs[1:]:
        for name in ("fine_grid", "coarse_grid", "irreps"):
            if getattr(run, name) != getattr(first, name):
                raise FlowsrError(
                    "runs compared together need one grid and field type",
                    file=run.path, variable=name, expected=getattr(first, name), found=getattr(run, name),
                )  # fmt: skip
    return runs


def open_upscaled(store: Path, run: HeldOutRun) -> xr.Dataset:
    """Open what a model made of ``run``.

    Raises:
        FlowsrError: a store without the variable, or with another shape or other times than the run's fine field.
    """
    dataset = _with_variable(open_field(store), run.variable, store)
    expected, found = run.fine[run.variable].shape, dataset[run.variable].shape
    if found != expected:
        raise FlowsrError(
            "not the shape of the truth", file=store, variable=run.variable, expected=expected, found=found
        )
    if not _same_times(dataset, run.fine):
        raise FlowsrError(
            "not the times of the truth", file=store, variable="time",
            expected=run.fine.time.values.tolist(), found=dataset.time.values.tolist(),
        )  # fmt: skip
    return dataset


def read_snapshot(dataset: xr.Dataset, variable: str, time: int, file: Path) -> Tensor:
    """One snapshot as (1, component, x, y, z); a scalar gets one component.

    Raises:
        FlowsrError: a value that is not finite.
    """
    values = torch.from_numpy(np.ascontiguousarray(dataset[variable].isel(time=time).values))
    if not torch.isfinite(values).all():
        raise FlowsrError(
            "values that are no numbers", file=file, variable=variable, expected="finite values",
            found=f"{int((~torch.isfinite(values)).sum())} NaN or infinite in snapshot {time}",
        )  # fmt: skip
    return values[None] if values.ndim == 4 else values[None, None]


def every_snapshot(runs: Sequence[HeldOutRun]) -> Iterator[tuple[HeldOutRun, int]]:
    """All runs' snapshots, in order: run and index along its time."""
    return ((run, time) for run in runs for time in range(run.snapshots))


def _open_run(store: Path, variable: str) -> HeldOutRun:
    coarse, fine = (_with_variable(open_field(store, group=group), variable, store) for group in ("coarse", "fine"))
    grids = grid_of(coarse, store), grid_of(fine, store)
    ratios = {n // m if n % m == 0 else None for n, m in zip(grids[1].shape, grids[0].shape)}
    if len(ratios) != 1 or None in ratios:
        raise FlowsrError(
            "fine is not a whole refinement of coarse", file=store, variable=variable,
            expected="one whole factor along every axis", found=f"{grids[0].shape} and {grids[1].shape}",
        )  # fmt: skip
    if not _same_times(coarse, fine):
        raise FlowsrError(
            "coarse and fine are not the same snapshots", file=store, variable="time",
            expected=fine.time.values.tolist(), found=coarse.time.values.tolist(),
        )  # fmt: skip
    return HeldOutRun(store, variable, coarse, fine, *grids)


def _with_variable(dataset: xr.Dataset, variable: str, file: Path) -> xr.Dataset:
    if variable not in dataset:
        found = ", ".join(map(str, dataset.data_vars))
        raise FlowsrError("no such variable", file=file, variable=variable, expected=variable, found=found)
    return dataset


def _same_times(one: xr.Dataset, other: xr.Dataset) -> bool:
    times = one.time.values, other.time.values
    return len(times[0]) == len(times[1]) and np.allclose(*times, rtol=1e-9, atol=1e-9)
