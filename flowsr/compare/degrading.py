"""The operator that made a run's coarse fields of its fine ones, for tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from flowsr.compare.runs import HeldOutRun
from flowsr.data.degrade import DEGRADE_OPERATORS
from flowsr.grid import Grid
from flowsr.metrics import Degrade


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
