"""The interpolations every network has to beat. Cell-centred, boundary-aware, the same along x, y and z.

All four commute with the 48 elements of the octahedral group: none of them prefers an axis or a direction.
On a stretched axis they count in cells, not in lengths: what is linear in the cell's number is exact, what is linear in
the coordinate is not.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from flowsr.grid import Grid
from flowsr.models.base import MODELS, Upscaler, repeat_cells, trilinear

#: A cubic spline forgets a value by a factor |sqrt(3) - 2| = 0.27 a cell: below float32 round-off after this many.
_SPLINE_REACH = 14


@MODELS.register("nearest")
class Nearest(Upscaler):
    """Every fine cell takes the value of the coarse cell it lies in (the adjoint of the block mean)."""

    halo = 0

    def forward(self, coarse: Tensor, grid: Grid) -> Tensor:
        return repeat_cells(self.target(coarse), self.factor)


@MODELS.register("trilinear")
class Trilinear(Upscaler):
    """Linear interpolation between cell centres."""

    halo = 1

    def forward(self, coarse: Tensor, grid: Grid) -> Tensor:
        return trilinear(self.target(coarse), self.factor, grid.boundary)


@MODELS.register("tricubic")
class Tricubic(Upscaler):
    """Cubic spline through the cell centres along x, y, z in turn (scipy), computed on the CPU in double precision.

    A spline depends on every cell of its line, ever less with the distance: with a halo of 14 cells, tiles agree with
    the whole field to single precision, not to double round-off.
    """

    halo = _SPLINE_REACH

    def forward(self, coarse: Tensor, grid: Grid) -> Tensor:
        values = self.target(coarse).detach().cpu().double().numpy()
        for axis, kind in enumerate(grid.boundary, start=2):
            cells, ends = values.shape[axis], "natural"
            positions = (np.arange(cells * self.factor) + 0.5) / self.factor - 0.5
            if kind == "periodic":
                values = np.concatenate([values, values.take([0], axis=axis)], axis=axis)
                positions, ends = positions % cells, "periodic"
            values = CubicSpline(np.arange(values.shape[axis]), values, axis=axis, bc_type=ends)(positions)
        return torch.from_numpy(values).to(coarse)


@MODELS.register("spectral")
class Spectral(Upscaler):
    """Fourier interpolation: the coarse field's own modes on the fine grid, nothing added. Periodic boxes only.

    Raises:
        ValueError: an axis that is not periodic.
    """

    halo = None
    needs_periodic = True

    def forward(self, coarse: Tensor, grid: Grid) -> Tensor:
        if not grid.periodic:
            raise ValueError(f"spectral interpolation needs a periodic box, got boundaries {grid.boundary}")
        fine = self.target(coarse)
        for axis in (-3, -2, -1):
            fine = _refine_fourier(fine, axis, self.factor)
        return fine


def _refine_fourier(values: Tensor, axis: int, factor: int) -> Tensor:
    cells = values.shape[axis]
    modes = torch.fft.rfft(values, dim=axis)
    k = torch.arange(modes.shape[axis], device=values.device, dtype=values.real.dtype)
    # Cell centres: the first fine centre lies half a coarse cell less half a fine cell below the first coarse one.
    shift = torch.exp(-1j * torch.pi * k * (1 - 1 / factor) / cells)
    if cells % 2 == 0:
        shift[-1] = shift[-1] / 2 if factor > 1 else shift[-1]  # the Nyquist mode is shared by +k and -k
    modes = modes.movedim(axis, -1) * (shift * factor)
    return torch.fft.irfft(modes, n=cells * factor, dim=-1).movedim(-1, axis)
