"""Boxes for the tests: a cube of side 2 pi, and one whose sizes, sides and parity all differ."""

import math

import torch

from flowsr.grid import Grid
from flowsr.simulate import PeriodicBox

UNEQUAL = Grid((12, 15, 16), (0.25, 0.4, 0.3), origin=(0.5, -1.0, 2.0))


def cube(cells: int, dtype=torch.float64, **options) -> PeriodicBox:
    return PeriodicBox(Grid((cells,) * 3, (2 * math.pi / cells,) * 3), dtype=dtype, **options)


def unequal(dtype=torch.float64, **options) -> PeriodicBox:
    return PeriodicBox(UNEQUAL, dtype=dtype, **options)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """||a - b|| / ||b||."""
    return float((a - b).abs().square().sum().sqrt() / b.abs().square().sum().sqrt())


def divergence(box: PeriodicBox, velocity: torch.Tensor) -> float:
    """RMS divergence over RMS velocity gradient."""
    gradient = box.inner(velocity, velocity, box.k_squared)
    div = box.divergence(velocity)[None]
    return float(torch.sqrt(box.inner(div, div) / gradient))
