"""Errors of the field itself, point by point: of the whole field, and of each component of a vector."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import Degrade, FieldMetric, InputMetric, Quantity, volume_sum

COMPONENTS = ("u", "v", "w")

_VRMSE_SOURCE = "sqrt(<|p - t|^2> / <|t - <t>|^2>); Ohana et al., The Well, arXiv 2412.00568, sec. 5"
_CONSISTENCY_SOURCE = "||D(p) - c|| / ||c||, D the data's operator; Sonderby et al., arXiv 1610.04490, sec. 3"
_CORRELATION_SOURCE = "<p'.t'> / sqrt(<p'.p'> <t'.t'>), p' = p - <p>; Pearson, Proc. R. Soc. 58, 240 (1895)"


def nrmse(prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """Root mean square error of the whole vector over the root mean square of the truth, ||p - t|| / ||t||.

    The norm runs over the volume and all components together; no mean is taken off, so a prediction of zero scores 1.

    Args:
        prediction, target: (batch, component, x, y, z), same unit.
        grid: the grid of both.

    Returns:
        (batch,), float64, no unit.

    Raises:
        ValueError: shapes that differ.
    """
    return NormalizedError().each(prediction, target, grid)["nrmse"]


def vrmse(prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """Root mean square error over the standard deviation of the truth, sqrt(<|p - t|^2> / <|t - <t>|^2>).

    A prediction of the truth's mean scores 1. The mean vector is taken off, and variances of components are added
    before the ratio is taken, so that the number does not depend on the axes. Source: Ohana et al., The Well, arXiv
    2412.00568, section 5, there for one component and with 1e-7 added to the variance.

    Arguments and result as in :func:`nrmse`; infinite where the truth is uniform.
    """
    return VarianceScaledError().each(prediction, target, grid)["vrmse"]


def mean_absolute_error(prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """Mean over the volume and over the components of |p - t|, the L1 distance.

    The same under the 48 rotations and reflections of the cube, not under all rotations. Arguments as in :func:`nrmse`;
    (batch,), float64, in units of the field.
    """
    return AbsoluteError().each(prediction, target, grid)["mae"]


def largest_error(prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """Largest length of the error vector anywhere, max |p - t|, the L-infinity distance.

    Arguments as in :func:`nrmse`; (batch,), float64, in units of the field.
    """
    return AbsoluteError().each(prediction, target, grid)["largest_error"]


def correlation(prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """Correlation coefficient of the whole vector, <p'.t'> / sqrt(<p'.p'> <t'.t'>) with the mean vectors taken off.

    The products are scalar products, so that the number does not depend on the axes: 1 for p' = a t' with any a > 0.
    Source: Pearson, Proc. R. Soc. 58, 240 (1895), for one component. Arguments and result as in :func:`nrmse`; nan
    where either field is uniform.
    """
    return Correlation().each(prediction, target, grid)["correlation"]


def consistency_error(prediction: Tensor, coarse: Tensor, grid: Grid, degrade: Degrade) -> Tensor:
    """||D(p) - c|| / ||c||: how far the degraded prediction is from the coarse field that it was made of.

    0 for the truth, whatever the operator; an interpolation that smooths has lost something that the input held.
    Source: the consistency constraint of Sonderby et al., Amortised MAP Inference for Image Super-resolution, arXiv
    1610.04490, section 3. Arguments and errors as in :meth:`InputMetric.update`; (batch,), float64, no unit.
    """
    metric = ConsistencyError().to(prediction.device)
    errors = [metric(p, c, grid, degrade)["consistency_error"] for p, c in zip(prediction.split(1), coarse.split(1))]
    return torch.stack(errors)


class NormalizedError(FieldMetric):
    """:func:`nrmse`, pooled: the squared norms are summed over snapshots before the ratio is taken."""

    standard = True
    halo = 0
    scalars: ClassVar = {
        "nrmse": Quantity("NRMSE", "1", "lower", "||p - t|| / ||t|| over all voxels and components", "NRMSE")
    }

    def measure(self, prediction, target, grid):
        return {"error": volume_sum((prediction - target) ** 2, grid), "power": volume_sum(target**2, grid)}

    def finish(self, error, power):
        return {"nrmse": torch.sqrt(error / power)}


class VarianceScaledError(FieldMetric):
    """:func:`vrmse`, pooled: the mean that is taken off is that of everything seen."""

    halo = 0
    scalars: ClassVar = {"vrmse": Quantity("VRMSE", "1", "lower", _VRMSE_SOURCE)}

    def measure(self, prediction, target, grid):
        true = target.to(torch.float64)
        error, power = (volume_sum(values, grid) for values in ((prediction - target) ** 2, true * true))
        return {"error": error, "mean": volume_sum(true, grid, keep=2), "power": power}

    def finish(self, error, mean, power, volume):
        return {"vrmse": torch.sqrt(error / _central_sum(mean, mean, power, volume))}


class AbsoluteError(FieldMetric):
    """:func:`mean_absolute_error` and :func:`largest_error`; the latter is the largest of everything seen."""

    halo = 0
    scalars: ClassVar = {
        "mae": Quantity("Mean absolute error", "velocity", "lower", "mean of |p_i - t_i| over voxels and components"),
        "largest_error": Quantity("Largest error", "velocity", "lower", "max over voxels of |p - t|"),
        "largest_error_over_rms": Quantity(
            "Largest error over r.m.s.", "1", "lower", "max over voxels of |p - t|, over sqrt(<|t|^2>)"
        ),
    }
    peaks = ("largest",)

    def measure(self, prediction, target, grid):
        error = prediction - target
        return {
            "absolute": volume_sum(error.abs(), grid),
            "power": volume_sum(target**2, grid),
            "largest": torch.linalg.vector_norm(error, dim=1).flatten(1).amax(1),
        }

    def measure_batch(self, prediction, target, grid, tile=None, valid=None):
        measured, axes = super().measure_batch(prediction, target, grid, tile, valid)
        return {**measured, "components": measured["volume"] * target.shape[1]}, axes

    def finish(self, absolute, power, volume, components, largest):
        return {
            "mae": absolute / components,
            "largest_error": largest,
            "largest_error_over_rms": largest / torch.sqrt(power / volume),
        }


class Correlation(FieldMetric):
    """:func:`correlation`, pooled: the means that are taken off are those of everything seen."""

    halo = 0
    scalars: ClassVar = {"correlation": Quantity("Correlation", "1", "higher", _CORRELATION_SOURCE)}

    def measure(self, prediction, target, grid):
        prediction, target = prediction.to(torch.float64), target.to(torch.float64)
        return {
            "prediction_mean": volume_sum(prediction, grid, keep=2),
            "target_mean": volume_sum(target, grid, keep=2),
            "prediction_power": volume_sum(prediction * prediction, grid),
            "product": volume_sum(prediction * target, grid),
            "target_power": volume_sum(target * target, grid),
        }

    def finish(self, prediction_mean, target_mean, prediction_power, product, target_power, volume):
        variance = _central_sum(prediction_mean, prediction_mean, prediction_power, volume)
        covariance = _central_sum(prediction_mean, target_mean, product, volume)
        true_variance = _central_sum(target_mean, target_mean, target_power, volume)
        return {"correlation": covariance / torch.sqrt(variance * true_variance)}


class ConsistencyError(InputMetric):
    """:func:`consistency_error`, pooled: the squared norms are summed over snapshots before the ratio is taken."""

    scalars: ClassVar = {"consistency_error": Quantity("Consistency error", "1", "lower", _CONSISTENCY_SOURCE)}

    def measure(self, degraded, coarse, grid):
        return {"difference": volume_sum((degraded - coarse) ** 2, grid), "power": volume_sum(coarse**2, grid)}

    def finish(self, difference, power):
        return {"consistency_error": torch.sqrt(difference / power)}


_PARTS = {"norm": NormalizedError, "variance": VarianceScaledError, "absolute": AbsoluteError, "product": Correlation}


class ComponentErrors(FieldMetric):
    """The errors of this page for u, v and w, each as a scalar field of its own: ``nrmse_u``, ``correlation_w``, ...

    They go by the names of the components, and so turn with the axes.
    """

    halo = 0
    invariant = False
    needs_vector = True
    scalars: ClassVar = {
        f"{key}_{component}": replace(quantity, label=f"{quantity.label}, {component}", short=None)
        for part in _PARTS.values()
        for key, quantity in part.scalars.items()
        for component in COMPONENTS
    }
    states = tuple(f"{name}_{state}" for name, part in _PARTS.items() for state in part.states)
    peaks = tuple(f"{name}_{peak}" for name, part in _PARTS.items() for peak in part.peaks)

    def __init__(self, **options):
        super().__init__(**options)
        self._parts = {name: part() for name, part in _PARTS.items()}

    def measure_batch(self, prediction, target, grid, tile=None, valid=None):
        singles = list(zip(prediction.split(1, dim=1), target.split(1, dim=1)))
        measured = {}
        for name, part in self._parts.items():
            each = [part.measure_batch(*pair, grid, valid=valid)[0] for pair in singles]
            measured |= {f"{name}_{state}": torch.stack([one[state] for one in each], dim=1) for state in part.states}
        return measured, {}

    def finish(self, **states):
        result = {}
        for name, part in self._parts.items():
            for index, component in enumerate(COMPONENTS):
                found = part.finish(**{state: states[f"{name}_{state}"][index] for state in part.states})
                result |= {f"{key}_{component}": value for key, value in found.items()}
        return result


def _central_sum(one: Tensor, other: Tensor, product: Tensor, volume: Tensor) -> Tensor:
    """The integral of the product of both fields less their means."""
    return product - (one * other).sum(-1) / volume
