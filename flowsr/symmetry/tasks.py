"""What the network is to learn: pairs of input and target, and which of them are independent of each other.

A task turns fields into :class:`Samples`. The group acts on input and target together; a symmetry of the task is an
element g with (g input, g target) as likely as (input, target), for every pair of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.group import octahedral_group, representation, transform_field

TASKS = ("dynamics", "superres", "pair")
STRIDED = "strided"


@dataclass(frozen=True)
class Samples:
    """Inputs and targets of a task.

    Args:
        inputs: (n, C, x, y, z).
        targets: (n, D, s x, s y, s z), with a whole number s.
        irreps_in, irreps_out: their field types (e3nn), of dimensions C and D.
        units: (n,) number of the independent unit that each sample belongs to: samples of one run that lie closer in
            time than the flow forgets have the same number. Default: each is its own.
        runs: (n,) number of the run that each sample is from; default: each unit is its own.
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
    units: np.ndarray | None = None
    runs: np.ndarray | None = None
    grid: Grid | None = None
    task: str = "pair"
    variable: str = "field"
    notes: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.units is None:
            object.__setattr__(self, "units", np.arange(len(self.inputs)))
        if self.runs is None:
            object.__setattr__(self, "runs", self.units)
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
        lengths = [len(each) for each in (self.inputs, self.targets, self.units, self.runs)]
        if len(set(lengths)) > 1:
            found = ", ".join(map(str, lengths))
            raise FlowsrError("inputs, targets, units and runs must be as many", variable=self.task, found=found)

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def factor(self) -> int:
        """s, target cells per input cell and axis."""
        return self.targets.shape[-1] // self.inputs.shape[-1]

    @property
    def unit_numbers(self) -> np.ndarray:
        """(units,) the different units, sorted."""
        return np.unique(self.units)

    @property
    def unit_runs(self) -> np.ndarray:
        """(units,) the run of each."""
        _, first = np.unique(self.units, return_index=True)
        return np.asarray(self.runs)[first]

    def normalized(self, dtype: torch.dtype) -> Samples:
        """Inputs and targets divided by one number each, their r.m.s. over everything, so that no direction is
        preferred."""
        return replace(self, inputs=_unit_rms(self.inputs, dtype), targets=_unit_rms(self.targets, dtype))

    def transformed(self, elements: Sequence[int]) -> Samples:
        """Sample i turned by element ``elements[i]`` of O_h, input and target together; the box must be a cube."""
        group = octahedral_group("Oh")

        def turned(fields: Tensor, irreps: str) -> Tensor:
            return torch.stack(
                [transform_field(f, int(g), irreps, group) for f, g in zip(fields, elements, strict=True)]
            )

        return replace(self, inputs=turned(self.inputs, self.irreps_in), targets=turned(self.targets, self.irreps_out))


def pair_samples(inputs, targets, irreps_in: str, irreps_out: str | None = None, **options) -> Samples:
    """Any input and target arrays.

    Args:
        inputs: (n, C, x, y, z); without the component axis for a scalar.
        targets: (n, D, s x, s y, s z), likewise.
        irreps_in: field type of the inputs, ``1o`` for a velocity.
        irreps_out: that of the targets; default: as the inputs.
        options: further ones of :class:`Samples`.
    """
    inputs, targets = (_with_component(torch.as_tensor(np.asarray(a))) for a in (inputs, targets))
    return Samples(inputs, targets, irreps_in, irreps_out or irreps_in, **options)


def dynamics_samples(
    runs: Sequence[np.ndarray | Tensor], irreps: str = "1o", *, step: int = 1, block: int = 1, **options
) -> Samples:
    """From a snapshot to what has changed ``step`` snapshots later.

    The target is the difference, because the identity between the two has every symmetry and would only hide the rest;
    over a short step it is the time derivative, in which a body force shows at first order.

    Args:
        runs: one (time, component, x, y, z) array for each independent run.
        irreps: field type.
        step: how many snapshots later.
        block: how many consecutive pairs make one independent unit; as many as the flow takes to forget.
        options: further ones of :class:`Samples`.

    Raises:
        FlowsrError: runs without a pair of snapshots that far apart.
    """
    inputs, targets, units, number = [], [], [], []
    for run in runs:
        run = _with_component(torch.as_tensor(np.asarray(run)), 5)
        if len(run) <= step:
            raise FlowsrError(
                "a run without a later snapshot",
                variable="step",
                expected=f"more than {step} snapshots",
                found=len(run),
            )
        inputs.append(run[:-step])
        targets.append(run[step:] - run[:-step])
        first = units[-1][-1] + 1 if units else 0
        units.append(first + np.arange(len(run) - step) // block)
        number.append(np.full(len(run) - step, len(number)))
    options = {"task": "dynamics", "units": np.concatenate(units), "runs": np.concatenate(number), **options}
    return Samples(torch.cat(inputs), torch.cat(targets), irreps, irreps, **options)


def superres_samples(coarse, fine, irreps: str = "1o", **options) -> Samples:
    """From coarse to fine. The target is what the fine field has beyond the coarse one, each coarse value being spread
    over its cell; to spread commutes with the group.

    Args:
        coarse: (n, C, x, y, z).
        fine: (n, C, s x, s y, s z).
        irreps: field type.
        options: further ones of :class:`Samples`, such as ``notes={"degrade_operator": "block_mean"}``.
    """
    coarse, fine = (_with_component(torch.as_tensor(np.asarray(a))) for a in (coarse, fine))
    factor = fine.shape[-1] // coarse.shape[-1]
    spread = coarse
    for axis in (-3, -2, -1):
        spread = spread.repeat_interleave(factor, dim=axis)
    if spread.shape != fine.shape:
        found = f"{tuple(coarse.shape)} and {tuple(fine.shape)}"
        raise FlowsrError(
            "coarse and fine fields do not fit", variable="superres", expected="sides times s", found=found
        )
    options = {"task": "superres", **options}
    return Samples(coarse, fine - spread, irreps, irreps, **options)


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
        bad = int((~torch.isfinite(fields)).sum())
        raise FlowsrError(
            "values that are not numbers", variable=name, expected="finite values", found=f"{bad} not finite"
        )
