"""Vorticity and enstrophy."""

from __future__ import annotations

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import METRICS, FieldMetric, check_same_grid
from flowsr.metrics.derivatives import DERIVATIVE_HALO
from flowsr.metrics.gradients import velocity_gradient
from flowsr.metrics.quantity import Quantity
from flowsr.metrics.volumes import volume_of, volume_sum


def vorticity(velocity: Tensor, grid: Grid) -> Tensor:
    """Curl of a velocity, w_i = e_ijk du_k/dx_j.

    Args:
        velocity: (batch, 3, x, y, z).
        grid: the field's grid.

    Returns:
        (batch, 3, x, y, z), 1/time: an axial vector, ``1e`` where the velocity is ``1o``.

    Raises:
        ValueError: a field that has not three components or is not on the grid.
    """
    a = velocity_gradient(velocity, grid)
    return torch.stack([a[:, 2, 1] - a[:, 1, 2], a[:, 0, 2] - a[:, 2, 0], a[:, 1, 0] - a[:, 0, 1]], dim=1)


def enstrophy(velocity: Tensor, grid: Grid) -> Tensor:
    """Mean enstrophy <w.w> / 2. Source: Taylor, Proc. R. Soc. A 164, 15 (1938).

    Args:
        velocity: (batch, 3, x, y, z).
        grid: the field's grid.

    Returns:
        (batch,), float64, 1/time^2. In a homogeneous incompressible flow the dissipation is 2 nu times this.
    """
    return _enstrophy_integral(velocity, grid) / volume_of(velocity, grid)


def enstrophy_captured(prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """Predicted over true mean enstrophy.

    Args:
        prediction, target: (batch, 3, x, y, z).
        grid: the grid of both.

    Returns:
        (batch,), no unit; 1 is right, less is too smooth.
    """
    check_same_grid(prediction, target, grid)
    return _enstrophy_integral(prediction, grid) / _enstrophy_integral(target, grid)


@METRICS.register("enstrophy")
class EnstrophyCaptured(FieldMetric):
    """:func:`enstrophy_captured`; enstrophies are pooled over snapshots."""

    halo = DERIVATIVE_HALO
    needs_vector = True
    scalars = {
        "enstrophy_captured": Quantity(
            "Enstrophy captured", "1", "truth", "<w.w> predicted / true; Taylor, Proc. R. Soc. A 164, 15 (1938)"
        )
    }
    totals = ("prediction_enstrophy", "target_enstrophy")

    def _measure(self, prediction, target, grid):
        return {
            "prediction_enstrophy": _enstrophy_integral(prediction, grid),
            "target_enstrophy": _enstrophy_integral(target, grid),
        }

    def _finish(self, prediction_enstrophy, target_enstrophy):
        return {"enstrophy_captured": prediction_enstrophy / target_enstrophy}


def _enstrophy_integral(velocity: Tensor, grid: Grid) -> Tensor:
    return volume_sum(vorticity(velocity, grid) ** 2, grid) / 2
