"""Does the prediction, made coarse again, give back the input?"""

from __future__ import annotations

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import METRICS, Degrade, InputMetric
from flowsr.metrics.quantity import Quantity
from flowsr.metrics.volumes import volume_sum

_SOURCE = "||D(p) - c|| / ||c||, D the data's operator; Sonderby et al., arXiv 1610.04490, sec. 3"


@METRICS.register("consistency")
class ConsistencyError(InputMetric):
    """:func:`consistency_error`, pooled: the squared norms are summed over snapshots before the ratio is taken."""

    scalars = {"consistency_error": Quantity("Consistency error", "1", "lower", _SOURCE)}
    totals = ("difference", "power")

    def _measure(self, degraded, coarse, grid):
        return {"difference": volume_sum((degraded - coarse) ** 2, grid), "power": volume_sum(coarse**2, grid)}

    def _finish(self, difference, power):
        return {"consistency_error": torch.sqrt(difference / power)}


def consistency_error(prediction: Tensor, coarse: Tensor, grid: Grid, degrade: Degrade) -> Tensor:
    """||D(p) - c|| / ||c||: how far the degraded prediction is from the coarse field that it was made of.

    0 for the truth, whatever the operator; an interpolation that smooths has lost something that the input held.
    Source: the consistency constraint of Sonderby et al., Amortised MAP Inference for Image Super-resolution, arXiv
    1610.04490, section 3.

    Args:
        prediction: (batch, component, x, y, z).
        coarse: (batch, component, X, Y, Z), same unit.
        grid: the grid of ``prediction``.
        degrade: the operator D that made the coarse field, ``degrade(field, grid)``.

    Returns:
        (batch,), float64, no unit.

    Raises:
        ValueError: a prediction that is not on the grid, or a degraded one of another shape than the input.
    """
    metric = ConsistencyError().to(prediction.device)
    errors = [metric(p, c, grid, degrade)["consistency_error"] for p, c in zip(prediction.split(1), coarse.split(1))]
    return torch.stack(errors)
