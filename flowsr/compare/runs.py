"""The held-out runs: coarse and fine snapshots, read one at a time, and upscaled stores checked against them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from flowsr.data import grid_of, open_field
from flowsr.data.degrade import DEGRADE_OPERATORS
from flowsr.data.quality import any_within, carries_missing
from flowsr.errors import FlowsrError, missing_variable, require
from flowsr.grid import Grid
from flowsr.metrics import Degrade
from flowsr.models.base import Upscaler, repeat_cells
from flowsr.windows import Window, check_spacing

ONE_FRAME = Window()


@dataclass(frozen=True, eq=False)
class HeldOutRun:
    """One test store: groups ``coarse`` and ``fine`` of the same snapshots.

    Args:
        path: the store.
        variable: the field in it.
        coarse, fine: its groups, unread.
        coarse_grid, fine_grid: their grids.
        judged: the snapshots that models are judged on, as indices along time; snapshot numbers below count these.
        reach: coarse cells about a missing value in which models are not judged, so that all are in the same cells.
        frames: coarse snapshots before and after the one judged that models see.
    """

    path: Path
    variable: str
    coarse: xr.Dataset
    fine: xr.Dataset
    coarse_grid: Grid
    fine_grid: Grid
    judged: tuple[int, ...]
    reach: int = 0
    frames: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def snapshots(self) -> int:
        return len(self.judged)

    @property
    def times(self) -> np.ndarray:
        """(n,) times of the snapshots judged."""
        return self.fine.time.values[list(self.judged)]

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

    @property
    def carries_missing(self) -> bool:
        """Whether NaN in the store stand for missing values."""
        return carries_missing(self.fine)

    def read_valid(self, number: int) -> Tensor | None:
        """(1, x, y, z) bool, the fine cells that one snapshot is judged in; None: all of them.

        Those with a value that lie beyond the reach of every model from cells that lack one in any of its frames.

        Raises:
            FlowsrError: no cell is left.
        """
        if not self.carries_missing:
            return None
        there = ~torch.isnan(self.read_fine(number)).any(dim=1)
        (before, after), time = self.frames, self.judged[number]
        frames = range(time - before, time + after + 1)
        coarse = torch.cat([read_snapshot(self.coarse, self.variable, frame, self.path) for frame in frames], dim=1)
        missing = torch.isnan(coarse[0]).any(dim=0).numpy()
        near = any_within(missing, [(-self.reach, 2 * self.reach + 1)] * 3, self.coarse_grid.boundary)
        valid = there & ~repeat_cells(torch.from_numpy(near), self.factor)
        message = f"no cell to judge models in at time {self.times[number]:g}"
        where = {"file": self.path, "variable": self.variable, "expected": "one or more"}
        require(valid.any(), message, **where, found=f"missing values within {self.reach} coarse cells of all")
        return valid

    def read_coarse(self, number: int, window: Window = ONE_FRAME) -> Tensor:
        """(1, frames component, x, y, z): the frames about one snapshot, in the stored precision."""
        frames = window.around(self.judged[number])
        return torch.cat([read_snapshot(self.coarse, self.variable, time, self.path) for time in frames], dim=1)

    def read_fine(self, number: int) -> Tensor:
        """(1, component, x, y, z) of one snapshot, in the stored precision."""
        return read_snapshot(self.fine, self.variable, self.judged[number], self.path)


def judged_by_all(runs: Sequence[HeldOutRun], models: Sequence[Upscaler]) -> list[HeldOutRun]:
    """The runs, judged on the snapshots that every model can make: those with a whole window about them for each.

    Raises:
        FlowsrError: a run without such a snapshot, or with its snapshots at another distance in time than a model's
            frames.
    """
    found = []
    for run in runs:
        times, judged = run.fine.time.values, set(run.judged)
        for model in models:
            check_spacing(model.window.spacing(times), model.frame_spacing, run.path)
            judged &= set(model.window.targets(times, run.path))
        require(judged, "no snapshot that every model's frames suffice for", file=run.path, variable="time")
        halos = [model.halo or 0 for model in models] if run.carries_missing else []
        sides = [(m.window.before, m.window.frames - 1 - m.window.before) for m in models if run.carries_missing]
        frames = tuple(max(side) for side in zip(*sides)) if sides else (0, 0)
        found.append(replace(run, judged=tuple(sorted(judged)), reach=max(halos, default=0), frames=frames))
    return found


def open_runs(stores: Sequence[Path], variable: str) -> list[HeldOutRun]:
    """Open the test stores; nothing but coordinates is read.

    Raises:
        FlowsrError: no store, one that lacks the variable, coarse and fine that do not belong together, or runs on
            different grids.
    """
    require(stores, "nothing to compare on", expected="at least one test store", found="none")
    runs = [_open_run(Path(store), variable) for store in stores]
    for run in runs[1:]:
        for name in ("fine_grid", "coarse_grid", "irreps"):
            expected, found = getattr(runs[0], name), getattr(run, name)
            message = "runs compared together need one grid and field type"
            require(found == expected, message, file=run.path, variable=name, expected=expected, found=found)
    return runs


def open_upscaled(store: Path, run: HeldOutRun) -> xr.Dataset:
    """Open what a model made of ``run``: the snapshots judged, in their order.

    Raises:
        FlowsrError: a store without the variable, or with another shape than the run's fine field, or without some of
            the times judged.
    """
    dataset = _with_variable(open_field(store), run.variable, store)
    whole = run.fine[run.variable].shape
    expected, found = (run.snapshots, *whole[1:]), dataset[run.variable].shape
    fits = found[1:] == expected[1:] and expected[0] <= found[0] <= whole[0]
    require(fits, "not the shape of the truth", file=store, variable=run.variable, expected=expected, found=found)
    times = dataset.time.values
    dataset = dataset.isel(time=[int(np.abs(times - time).argmin()) for time in run.times])
    same = _same_times(dataset, run.fine.isel(time=list(run.judged)))
    expected, found = run.times.tolist(), times.tolist()
    require(same, "not the times of the truth", file=store, variable="time", expected=expected, found=found)
    return dataset


def read_snapshot(dataset: xr.Dataset, variable: str, time: int, file: Path) -> Tensor:
    """One snapshot as (1, component, x, y, z); a scalar gets one component.

    Raises:
        FlowsrError: a value that is not finite, other than NaN in a store that carries missing values as such.
    """
    values = torch.from_numpy(np.ascontiguousarray(dataset[variable].isel(time=time).values))
    wrong = torch.isinf(values) if carries_missing(dataset) else ~torch.isfinite(values)
    if bad := int(wrong.sum()):
        found = f"{bad} NaN or infinite in snapshot {time}"
        raise FlowsrError(
            "values that are no numbers", file=file, variable=variable, expected="finite values", found=found
        )
    return values[None] if values.ndim == 4 else values[None, None]


def every_snapshot(runs: Sequence[HeldOutRun]) -> Iterator[tuple[HeldOutRun, int]]:
    """All runs' snapshots, in order: run and number among those judged."""
    return ((run, time) for run in runs for time in range(run.snapshots))


def degrade_of(run: HeldOutRun) -> Degrade | None:
    """``degrade(field, grid)`` as the run's store states it; None where it does not, or weighted with a density.

    Fields are (..., x, y, z); they are degraded on the CPU, in float64 sums, and keep their dtype and device.
    """
    attrs = run.coarse.attrs
    name, width = attrs.get("degrade_operator"), attrs.get("degrade_width")
    if name not in DEGRADE_OPERATORS or "degrade_weight" in attrs:
        return None
    operator = DEGRADE_OPERATORS[name]() if width is None else DEGRADE_OPERATORS[name](float(width))

    def degrade(field: Tensor, grid: Grid) -> Tensor:
        return torch.from_numpy(operator(field.detach().cpu().numpy(), run.factor, grid=grid)).to(field.device)

    return degrade


def _open_run(store: Path, variable: str) -> HeldOutRun:
    coarse, fine = (_with_variable(open_field(store, group=group), variable, store) for group in ("coarse", "fine"))
    grids = grid_of(coarse, store), grid_of(fine, store)
    ratios = {n // m if n % m == 0 else None for n, m in zip(grids[1].shape, grids[0].shape)}
    require(
        len(ratios) == 1 and None not in ratios,
        "fine is not a whole refinement of coarse",
        file=store,
        variable=variable,
        expected="one whole factor along every axis",
        found=f"{grids[0].shape} and {grids[1].shape}",
    )
    times = {"expected": fine.time.values.tolist(), "found": coarse.time.values.tolist()}
    message = "coarse and fine are not the same snapshots"
    require(_same_times(coarse, fine), message, file=store, variable="time", **times)
    return HeldOutRun(store, variable, coarse, fine, *grids, judged=tuple(range(fine.sizes["time"])))


def _with_variable(dataset: xr.Dataset, variable: str, file: Path) -> xr.Dataset:
    if variable not in dataset:
        raise missing_variable(variable, dataset.data_vars, file=file)
    return dataset


def _same_times(one: xr.Dataset, other: xr.Dataset) -> bool:
    times = one.time.values, other.time.values
    return len(times[0]) == len(times[1]) and np.allclose(*times, rtol=1e-9, atol=1e-9)
