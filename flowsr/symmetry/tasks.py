"""What the network is to learn: pairs of input and target, and which of them are independent of each other.

A task makes :class:`Samples` of fields: of arrays (:func:`dynamics_samples`, :func:`superres_samples`,
:func:`pair_samples`) or of files (:func:`read_samples`). The group acts on input and target together; a symmetry of the
task is an element g with (g input, g target) as likely as (input, target), for every pair of the data.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from flowsr.data import degrade, open_field
from flowsr.data.degrade import SymmetryWarning
from flowsr.data.field import grid_of
from flowsr.data.independence import independent_blocks, turnover_time
from flowsr.data.open import Input
from flowsr.errors import FlowsrError, missing_variable, require
from flowsr.grid import Grid
from flowsr.group import octahedral_group, representation, transform_field
from flowsr.progress import SILENT, Progress

Task = Literal["dynamics", "superres", "pair"]
TASKS: tuple[str, ...] = get_args(Task)
COARSE, FINE = "coarse", "fine"


@dataclass(frozen=True)
class SampleSettings:
    """What is learned, and from which variables of the files.

    Raises:
        ValueError: a target without the task ``pair`` or the other way round, or a number out of its range.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    task: Task
    """What is learned: later from earlier, fine from coarse, or target from input."""
    variable: str = "velocity"
    """Variable of the input."""
    target: str | None = None
    """Variable of the target (task pair)."""
    operator: str = "block_mean"
    """How fine fields are made coarse (task superres); ignored for stores that hold both."""
    factor: int = 2
    """Coarse cell size over fine cell size (task superres); ignored for stores that hold both."""
    coarsen: int = 1
    """Block mean before anything else: smaller fields, less to compute; ignored for stores that hold both."""
    step: int = 1
    """Snapshots from input to target (task dynamics)."""
    decorrelation_turnovers: float = 2.0
    """Eddy turnover times after which snapshots of one run count as independent; 0: every snapshot does."""
    turnover_time: float | None = None
    """Eddy turnover time, in the data's unit; default: measured, and for the task pair every snapshot counts."""

    def __post_init__(self):
        if (self.task == "pair") != (self.target is not None):
            raise ValueError("target goes with the task pair, and the task pair with a target")
        if min(self.factor, self.coarsen, self.step) < 1:
            raise ValueError("factor, coarsen and step are at least 1")
        if not self.decorrelation_turnovers >= 0:
            raise ValueError(f"decorrelation_turnovers is not negative, got {self.decorrelation_turnovers}")
        if self.turnover_time is not None and not self.turnover_time > 0:
            raise ValueError(f"turnover_time is positive, got {self.turnover_time}")


@dataclass(frozen=True)
class Samples:
    """Inputs and targets of a task.

    Args:
        inputs: (n, C, x, y, z).
        targets: (n, D, s x, s y, s z), with a whole number s.
        irreps_in, irreps_out: their field types (e3nn), of dimensions C and D.
        blocks: (n,) number of the independent block that each sample belongs to: samples of one run that lie closer in
            time than the flow forgets have the same number. Default: each is its own.
        runs: (n,) number of the run that each sample is from; default: each block is its own.
        grid: of the inputs; default: unit cells, periodic.
        task, variable: names, for the report.
        notes: what is known about the data, such as ``degrade_operator``.

    Raises:
        FlowsrError: shapes that do not fit each other or the irreps, or values that are not numbers.
    """

    inputs: Tensor
    targets: Tensor
    irreps_in: str
    irreps_out: str
    blocks: np.ndarray | None = None
    runs: np.ndarray | None = None
    grid: Grid | None = None
    task: str = "pair"
    variable: str = "field"
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.blocks is None:
            object.__setattr__(self, "blocks", np.arange(len(self.inputs)))
        if self.runs is None:
            object.__setattr__(self, "runs", self.blocks)
        if self.grid is None:
            object.__setattr__(self, "grid", Grid(tuple(self.inputs.shape[-3:])))
        _check_field("input", self.inputs, self.irreps_in)
        _check_field("target", self.targets, self.irreps_out)
        sides = zip(self.inputs.shape[-3:], self.targets.shape[-3:])
        if len({fine / coarse for coarse, fine in sides}) != 1 or self.targets.shape[-1] % self.inputs.shape[-1]:
            raise FlowsrError(
                "targets must have a whole number of times the cells of the inputs, the same along every axis",
                variable="target",
                expected=f"s times {tuple(self.inputs.shape[-3:])}",
                found=tuple(self.targets.shape[-3:]),
            )
        lengths = [len(each) for each in (self.inputs, self.targets, self.blocks, self.runs)]
        if len(set(lengths)) > 1:
            found = ", ".join(map(str, lengths))
            raise FlowsrError("inputs, targets, blocks and runs must be as many", variable=self.task, found=found)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def factor(self) -> int:
        """s, target cells per input cell and axis."""
        return self.targets.shape[-1] // self.inputs.shape[-1]

    @property
    def block_numbers(self) -> np.ndarray:
        """(blocks,) the different blocks, sorted."""
        return np.unique(self.blocks)

    @property
    def block_runs(self) -> np.ndarray:
        """(blocks,) the run of each."""
        _, first = np.unique(self.blocks, return_index=True)
        return np.asarray(self.runs)[first]

    def normalized(self, dtype: torch.dtype) -> Samples:
        """Inputs and targets divided by one number each, their r.m.s. over everything, so that no direction is
        preferred."""
        return replace(self, inputs=_unit_rms(self.inputs, dtype), targets=_unit_rms(self.targets, dtype))

    def transformed(self, elements: Sequence[int]) -> Samples:
        """Sample i transformed by element ``elements[i]`` of O_h, input and target together; the box must be a cube."""
        group = octahedral_group("Oh")

        def transformed(fields: Tensor, irreps: str) -> Tensor:
            each = [transform_field(f, int(g), irreps, group) for f, g in zip(fields, elements, strict=True)]
            return torch.stack(each)

        return replace(
            self, inputs=transformed(self.inputs, self.irreps_in), targets=transformed(self.targets, self.irreps_out)
        )


def pair_samples(inputs, targets, irreps_in: str, irreps_out: str | None = None, **options) -> Samples:
    """Any input and target arrays; further options are those of :class:`Samples`.

    Args:
        inputs: (n, C, x, y, z); without the component axis for a scalar.
        targets: (n, D, s x, s y, s z), likewise.
        irreps_in: field type of the inputs, ``1o`` for a velocity.
        irreps_out: that of the targets; default: as the inputs.
    """
    inputs, targets = (_with_component(torch.as_tensor(np.asarray(a))) for a in (inputs, targets))
    return Samples(inputs, targets, irreps_in, irreps_out or irreps_in, **options)


def dynamics_samples(
    runs: Sequence[np.ndarray | Tensor], irreps: str = "1o", *, step: int = 1, pairs_per_block: int = 1, **options
) -> Samples:
    """From a snapshot to what has changed ``step`` snapshots later.

    The target is the difference, because the identity between the two has every symmetry and would only hide the rest;
    over a short step it is the time derivative, in which a body force shows at first order.

    Args:
        runs: one (time, component, x, y, z) array for each independent run.
        step: how many snapshots later.
        pairs_per_block: how many consecutive pairs make one independent block; as many as the flow takes to forget.

    Raises:
        FlowsrError: runs without a pair of snapshots that far apart.
    """
    inputs, targets, blocks, number = [], [], [], []
    for run in runs:
        run = _with_component(torch.as_tensor(np.asarray(run)), 5)
        if len(run) <= step:
            expected = f"more than {step} snapshots"
            raise FlowsrError("a run without a later snapshot", variable="step", expected=expected, found=len(run))
        inputs.append(run[:-step])
        targets.append(run[step:] - run[:-step])
        first = blocks[-1][-1] + 1 if blocks else 0
        blocks.append(first + np.arange(len(run) - step) // pairs_per_block)
        number.append(np.full(len(run) - step, len(number)))
    options = {"task": "dynamics", "blocks": np.concatenate(blocks), "runs": np.concatenate(number), **options}
    return Samples(torch.cat(inputs), torch.cat(targets), irreps, irreps, **options)


def superres_samples(coarse, fine, irreps: str = "1o", **options) -> Samples:
    """From coarse, (n, C, x, y, z), to fine, (n, C, s x, s y, s z).

    The target is what the fine field has beyond the coarse one, each coarse value being spread over its cell; to spread
    commutes with the group. Further options are those of :class:`Samples`, such as ``notes``.
    """
    coarse, fine = (_with_component(torch.as_tensor(np.asarray(a))) for a in (coarse, fine))
    factor = fine.shape[-1] // coarse.shape[-1]
    spread = coarse
    for axis in (-3, -2, -1):
        spread = spread.repeat_interleave(factor, dim=axis)
    if spread.shape != fine.shape:
        found = {"expected": "sides times s", "found": f"{tuple(coarse.shape)} and {tuple(fine.shape)}"}
        raise FlowsrError("coarse and fine fields do not fit", variable="superres", **found)
    options = {"task": "superres", **options}
    return Samples(coarse, fine - spread, irreps, irreps, **options)


@dataclass(frozen=True)
class _Run:
    """One file: its fields, what belongs to them, and after how much time its snapshots are independent."""

    fields: tuple[np.ndarray, ...]
    irreps: tuple[str, str]
    grid: Grid
    times: np.ndarray
    block_length: float
    notes: dict[str, Any]


def read_samples(inputs: Sequence[Path | Input], settings: SampleSettings, progress: Progress = SILENT) -> Samples:
    """Samples from files: whatever :func:`flowsr.data.open_field` opens, alone or with options, each run of a file.

    Raises:
        FlowsrError: a file that cannot be read or lacks the variable, runs that differ in grid or field type, or an
            eddy turnover time that cannot be measured and was not given.
    """
    sources = [run for given in inputs for run in Input.of(given).runs()]
    runs, tick = [], progress.steps(len(sources))
    for source in sources:
        path = source.path
        runs.append(_read(source, settings))
        expected, found = (f"{run.grid.shape} cells of {' to '.join(run.irreps)}" for run in (runs[0], runs[-1]))
        require(found == expected, "runs differ", file=path, expected=expected, found=found)
        tick(f"read {path.name}")
    first = runs[0]
    counts = [max(len(run.times) - (settings.step if settings.task == "dynamics" else 0), 0) for run in runs]
    times, lengths = [run.times[:n] for run, n in zip(runs, counts)], [run.block_length for run in runs]
    options: dict[str, Any] = {
        "blocks": independent_blocks(times, lengths),
        "grid": first.grid,
        "task": settings.task,
        "variable": settings.variable,
        "notes": first.notes,
    }
    if settings.task == "dynamics":
        return dynamics_samples([run.fields[0] for run in runs], first.irreps[0], step=settings.step, **options)
    inputs, targets = (np.concatenate(each) for each in zip(*(run.fields for run in runs)))
    options["runs"] = np.repeat(np.arange(len(runs)), counts)
    if settings.task == "superres":
        return superres_samples(inputs, targets, first.irreps[0], **options)
    return pair_samples(inputs, targets, *first.irreps, **options)


def _read(given: Input, settings: SampleSettings) -> _Run:
    path, superres = given.path, settings.task == "superres"
    both = superres and given.group is None and (path / COARSE).is_dir() and (path / FINE).is_dir()
    source = open_field(path, given, group=FINE if both else None)
    if settings.coarsen > 1 and not both:
        source = degrade(source, "block_mean", settings.coarsen)
    for name in (settings.variable, *([settings.target] if settings.target else [])):
        if name not in source.data_vars:
            raise missing_variable(name, source.data_vars, file=path)
    seen, wanted, notes = source, source[settings.target or settings.variable], {}
    if superres:
        with warnings.catch_warnings():  # an operator that breaks the symmetry is named in the findings
            warnings.simplefilter("ignore", SymmetryWarning)
            seen = (
                open_field(path, given, group=COARSE) if both else degrade(source, settings.operator, settings.factor)
            )
        notes = {key: seen.attrs[key] for key in ("degrade_operator", "degrade_factor") if key in seen.attrs}
    inputs = seen[settings.variable]
    length = _block_length(source, settings, path)
    read = (inputs.values,) if settings.task == "dynamics" else (inputs.values, wanted.values)
    for array, values in zip((inputs, wanted), read):
        bad, expected = values.size - int(np.isfinite(values).sum()), "finite values"
        where = {"file": path, "variable": str(array.name), "hint": "cut a box without them out of it first"}
        require(not bad, "NaN, infinite or missing values", **where, expected=expected, found=f"{bad} of {values.size}")
    return _Run(
        fields=read,
        irreps=(str(inputs.attrs["irreps"]), str(wanted.attrs["irreps"])),
        grid=grid_of(seen, path),
        times=source["time"].values,
        block_length=length,
        notes={**notes, **({"block_length": length} if length else {})},
    )


def _block_length(source: xr.Dataset, settings: SampleSettings, path: Path) -> float:
    """Time after which snapshots are independent."""
    values, turnover = source[settings.variable], settings.turnover_time
    if turnover is None:
        if settings.task == "pair" or len(source["time"]) < 2 or not settings.decorrelation_turnovers:
            return 0.0
        turnover = turnover_time(values, grid_of(source, path), path)
    return settings.decorrelation_turnovers * turnover


def _with_component(fields: Tensor, dims: int = 5) -> Tensor:
    fields = fields if fields.is_floating_point() else fields.to(torch.float64)
    return fields.unsqueeze(1) if fields.dim() == dims - 1 else fields


def _unit_rms(fields: Tensor, dtype: torch.dtype) -> Tensor:
    scale = float(fields.double().square().mean().sqrt())
    return (fields.double() / (scale or 1.0)).to(dtype)


def _check_field(name: str, fields: Tensor, irreps: str) -> None:
    dimension = representation(irreps, octahedral_group("Oh")).shape[-1]
    if fields.dim() != 5 or fields.shape[1] != dimension or not len(fields):
        expected = f"(n, {dimension}, x, y, z), as {irreps} has {dimension} components"
        raise FlowsrError("not fields of this type", variable=name, expected=expected, found=tuple(fields.shape))
    if not torch.isfinite(fields).all():
        found = f"{int((~torch.isfinite(fields)).sum())} not finite"
        raise FlowsrError("values that are not numbers", variable=name, expected="finite values", found=found)
