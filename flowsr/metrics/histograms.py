"""Histograms by volume: how much of the box has which value."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowsr.grid import Grid


def cell_volumes(grid: Grid, device: torch.device) -> Tensor:
    """(x, y, z) float64, length^3."""
    if not any(grid.stretched):
        volume = torch.tensor(math.prod(grid.spacing), dtype=torch.float64, device=device)
        return volume.expand(grid.shape)
    x, y, z = (torch.as_tensor(widths, device=device) for widths in grid.widths())
    return x[:, None, None] * y[:, None] * z


def bin_numbers(values: Tensor, low: float, high: float, bins: int) -> Tensor:
    """Number of each value's bin, 0 to bins - 1 from low to high; -1 below, at or above ``high``, and for nan.

    The topmost bin holds ``high`` itself.
    """
    scaled = (values.to(torch.float64) - low) * (bins / (high - low))
    number = torch.where(values == high, bins - 1, torch.floor(scaled))
    return torch.where((number >= 0) & (number < bins), number, -1).to(torch.int64)


def volume_per_bin(numbers: Tensor, bins: int, volumes: Tensor) -> Tensor:
    """Volume of the cells in every bin.

    Args:
        numbers: (batch, x, y, z) int64, -1 for none.
        bins: how many there are.
        volumes: (x, y, z), of the cells.

    Returns:
        (batch, bins), float64.
    """
    weights = volumes.flatten()
    rows = [(row >= 0, row) for row in numbers.flatten(1)]
    return torch.stack([torch.bincount(row[inside], weights[inside], minlength=bins) for inside, row in rows])
