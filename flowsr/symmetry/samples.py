"""Samples from files: whatever :func:`flowsr.data.open_field` opens, one file a run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.progress import SILENT, Progress
from flowsr.symmetry.tasks import Samples, dynamics_samples, pair_samples, superres_samples

MEMORY = 2.0  # eddy turnover times after which snapshots count as independent
COARSE, FINE = "coarse", "fine"


@dataclass(frozen=True)
class Reading:
    """What to make of the files.

    Args:
        task: ``dynamics``, ``superres`` or ``pair``.
        variable: of the input.
        target: variable of the target (``pair``).
        operator, factor: how fine fields are made coarse (``superres``), where a file does not hold both.
        coarsen: block mean before anything else.
        step: snapshots from input to target (``dynamics``).
        memory: time after which snapshots of one run count as independent; None: two eddy turnover times where they can be
            measured, else (``pair``) every snapshot.
    """

    task: str
    variable: str = "velocity"
    target: str | None = None
    operator: str = "block_mean"
    factor: int = 2
    coarsen: int = 1
    step: int = 1
    memory: float | None = None


@dataclass(frozen=True)
class _Run:
    """One file: its fields, what belongs to them, and how many snapshots make one independent unit."""

    fields: tuple[np.ndarray, ...]
    irreps: tuple[str, str]
    grid: Grid
    block: int
    notes: dict[str, Any]


def read_samples(paths: Sequence[Path], reading: Reading, progress: Progress = SILENT) -> Samples:
    """Read every file and make samples.

    Args:
        paths: files, one a run.
        reading: what to make of them.
        progress: told the fraction done and a short message.

    Raises:
        FlowsrError: a file that cannot be read or lacks the variable, runs that differ in grid or field type, or an eddy
            turnover time that cannot be measured and was not given.
    """
    runs = []
    for done, path in enumerate(paths):
        runs.append(_read(Path(path), reading))
        progress((done + 1) / len(paths), f"read {Path(path).name}")
    first = runs[0]
    for path, run in zip(paths, runs):
        if (run.grid.shape, run.irreps) != (first.grid.shape, first.irreps):
            raise FlowsrError(
                "runs differ",
                file=path,
                expected=f"{first.grid.shape} cells of {first.irreps[0]}",
                found=f"{run.grid.shape} cells of {run.irreps[0]}",
            )
    counts = [len(run.fields[0]) - (reading.step if reading.task == "dynamics" else 0) for run in runs]
    offsets = np.cumsum([0, *(max(0, -(-n // run.block)) for n, run in zip(counts, runs))])
    options = {
        "units": np.concatenate([o + np.arange(max(n, 0)) // run.block for o, n, run in zip(offsets, counts, runs)]),
        "grid": first.grid,
        "task": reading.task,
        "variable": reading.variable,
        "notes": first.notes,
    }
    if reading.task == "dynamics":
        return dynamics_samples([run.fields[0] for run in runs], first.irreps[0], step=reading.step, **options)
    inputs, targets = (np.concatenate(each) for each in zip(*(run.fields for run in runs)))
    options["runs"] = np.concatenate([np.full(n, i) for i, n in enumerate(counts)])
    if reading.task == "superres":
        return superres_samples(inputs, targets, first.irreps[0], **options)
    return pair_samples(inputs, targets, *first.irreps, **options)


def _read(path: Path, reading: Reading) -> _Run:
    from flowsr.data import degrade, open_field
    from flowsr.data.field import grid_of

    both = reading.task == "superres" and (path / COARSE).is_dir() and (path / FINE).is_dir()
    source = open_field(path, group=FINE if both else None)
    if reading.coarsen > 1 and not both:
        source = degrade(source, "block_mean", reading.coarsen)
    names = [reading.variable, *([reading.target] if reading.target else [])]
    for name in names:
        if name not in source.data_vars:
            raise FlowsrError("no such variable", file=path, expected=name, found=", ".join(map(str, source.data_vars)))
    given, wanted = source, source
    if reading.task == "superres":
        given = open_field(path, group=COARSE) if both else _degraded(source, reading)
    first = given[names[0]].values
    block, notes = _independence(source[names[0]], source, reading, path)
    notes |= {
        k: given.attrs[k]
        for k in ("degrade_operator", "degrade_factor")
        if reading.task == "superres" and k in given.attrs
    }
    return _Run(
        fields=(first,) if reading.task == "dynamics" else (first, wanted[names[-1]].values),
        irreps=(str(given[names[0]].attrs["irreps"]), str(wanted[names[-1]].attrs["irreps"])),
        grid=grid_of(given, path),
        block=block,
        notes=notes,
    )


def _degraded(source: xr.Dataset, reading: Reading) -> xr.Dataset:
    """Made coarse; an operator that breaks the symmetry is named in the findings, so that its warning is not needed."""
    from flowsr.data.degrade import SymmetryWarning, degrade

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SymmetryWarning)
        return degrade(source, reading.operator, reading.factor)


def _independence(
    values: xr.DataArray, dataset: xr.Dataset, reading: Reading, path: Path
) -> tuple[int, dict[str, Any]]:
    """How many snapshots make one independent unit, and what that rests on."""
    times = dataset["time"].values
    if len(times) < 2 or (reading.memory is None and reading.task == "pair"):
        return 1, {}
    memory = reading.memory
    if memory is None:
        memory = MEMORY * _turnover_time(values, dataset, path)
    return max(1, int(np.ceil(memory / float(np.median(np.diff(times))) - 1e-9))), {"memory": memory}


def _turnover_time(values: xr.DataArray, dataset: xr.Dataset, path: Path) -> float:
    from flowsr.data.field import grid_of
    from flowsr.data.independence import turnover_time

    return turnover_time(values, grid_of(dataset, path), path, "memory")
