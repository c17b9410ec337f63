"""Means over the volume of the box: where cells differ in size, each counts by its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowsr.grid import Grid


def volume_sum(values: Tensor, grid: Grid, keep: int = 1) -> Tensor:
    """Integral over the box of what is given in every cell, summed over whatever else there is.

    Args:
        values: (..., x, y, z).
        grid: its grid; a cell of a stretched axis counts by its size.
        keep: leading dimensions that stay.

    Returns:
        the first ``keep`` dimensions, float64, in units of the values times length^3.
    """
    if not any(grid.stretched):
        return values.sum(dim=tuple(range(keep, values.ndim)), dtype=torch.float64) * math.prod(grid.spacing)
    for widths in reversed(grid.widths()):
        values = values.to(torch.float64) @ torch.as_tensor(widths, device=values.device)
    return values.sum(dim=tuple(range(keep, values.ndim))) if values.ndim > keep else values


def volume_of(values: Tensor, grid: Grid) -> Tensor:
    """The box's volume, once for each of a batch: (batch,), float64, length^3."""
    return torch.full((len(values),), math.prod(grid.lengths), dtype=torch.float64, device=values.device)
