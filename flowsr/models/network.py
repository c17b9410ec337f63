"""What all networks here share: they work on non-dimensional fields and learn the correction to an interpolation."""

from __future__ import annotations

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.models.base import Upscaler
from flowsr.models.interpolation import trilinear


class Network(Upscaler):
    """fine = scale (T(coarse / scale) + correction(coarse / scale)), T trilinear.

    One scale for the whole vector (the RMS of the training field), never one per component: per-component statistics
    would break the symmetry that is to be measured.

    Args:
        factor: refinement along each axis.
        irreps: e3nn irreps of the field.
        scale: RMS of the field, in its own units.
    """

    trainable = True

    def __init__(self, factor: int, irreps: str = "1o", scale: float = 1.0):
        super().__init__(factor, irreps)
        self.register_buffer("scale", torch.tensor(float(scale)))

    def correction(self, coarse: Tensor, grid: Grid) -> Tensor:
        """Non-dimensional correction on the fine grid: (batch, component, x, y, z) to s times the sides."""
        raise NotImplementedError

    def forward(self, coarse: Tensor, grid: Grid) -> Tensor:
        normalized = coarse / self.scale
        correction = self.correction(normalized, grid)
        return self.scale * (trilinear(normalized, self.factor, grid.boundary).to(correction.dtype) + correction)
