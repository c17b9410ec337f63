"""Errors of the field itself, point by point."""

from __future__ import annotations

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import METRICS, FieldMetric, check_same_grid, sum_over_space
from flowsr.metrics.quantity import Quantity


def nrmse(prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """Root mean square error of the whole vector over the root mean square of the truth, ||p - t|| / ||t||.

    The norm runs over all voxels and components together; no mean is taken off, so a prediction of zero scores 1.

    Args:
        prediction, target: (batch, component, x, y, z), same unit.
        grid: the grid of both.

    Returns:
        (batch,), float64, no unit.

    Raises:
        ValueError: shapes that differ.
    """
    check_same_grid(prediction, target, grid)
    return torch.sqrt(sum_over_space((prediction - target) ** 2) / sum_over_space(target**2))


@METRICS.register("nrmse")
class NormalizedError(FieldMetric):
    """:func:`nrmse`, pooled: the squared norms are summed over snapshots before the ratio is taken."""

    standard = True
    scalars = {
        "nrmse": Quantity("NRMSE", "1", "lower", "||p - t|| / ||t|| over all voxels and components", "NRMSE"),
    }
    totals = ("error", "power")

    def _measure(self, prediction, target, grid):
        return {"error": sum_over_space((prediction - target) ** 2), "power": sum_over_space(target**2)}

    def _finish(self, error, power):
        return {"nrmse": torch.sqrt(error / power)}
