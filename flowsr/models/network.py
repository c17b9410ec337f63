"""What all networks here share: they work on non-dimensional fields and learn the correction to an interpolation."""

from __future__ import annotations

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.models.base import Upscaler
from flowsr.models.interpolation import trilinear


class Network(Upscaler):
    """fine = scale (T(coarse / scale) + correction(coarse / scale)), T trilinear, of the target frame alone.

    One scale for the whole vector (the RMS of the training field), never one per component: per-component statistics
    would break the symmetry that is to be measured.

    Args:
        factor: refinement along each axis.
        irreps: e3nn irreps of the field.
        scale: RMS of the field, in its own units.
        frames, target_frame: as in :class:`flowsr.models.base.Upscaler`.
    """

    trainable = True

    def __init__(self, factor: int, irreps: str = "1o", scale: float = 1.0, frames: int = 1, target_frame: int = -1):
        super().__init__(factor, irreps, frames, target_frame)
        self.register_buffer("scale", torch.tensor(float(scale)))

    @staticmethod
    def check_size(blocks: int, **widths: int) -> None:
        """
        Raises:
            ValueError: a width below 1, or a negative number of blocks.
        """
        for name, width in widths.items():
            if width < 1:
                raise ValueError(f"{name} must be at least 1, got {width}")
        if blocks < 0:
            raise ValueError(f"blocks must not be negative, got {blocks}")

    def correction(self, coarse: Tensor, grid: Grid) -> Tensor:
        """Non-dimensional correction: (batch, frames component, x, y, z) to (batch, component, s x, s y, s z)."""
        raise NotImplementedError

    def forward(self, coarse: Tensor, grid: Grid) -> Tensor:
        """:meth:`Upscaler.forward`, computed in the weights' precision; a field of another one gets its own back."""
        normalized = coarse.to(self.scale.dtype) / self.scale
        correction = self.correction(normalized, grid)
        base = trilinear(self.target(normalized), self.factor, grid.boundary)
        fine = self.scale * (base.to(correction.dtype) + correction)
        return fine if coarse.dtype == normalized.dtype else fine.to(coarse.dtype)
