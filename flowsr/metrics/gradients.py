"""Small scales: what the velocity gradient says about incompressibility, vorticity, dissipation and intermittency."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import (
    Curve,
    CurveQuantity,
    FieldMetric,
    Quantity,
    cell_volumes,
    check_same_grid,
    check_velocity,
    of_both,
    volume_of,
    volume_sum,
)
from flowsr.metrics.derivatives import DERIVATIVE_HALO, gradient

PDF_RANGE = 10.0  # in units of the true gradient's root mean square
PDF_BINS = 100
KINDS = ("longitudinal", "transverse")

Scales = tuple[float, float]

_MOMENTS_SOURCE = "Sreenivasan & Antonia, Annu. Rev. Fluid Mech. 29, 435 (1997)"
_STRAIN_SOURCE = "<S_ij S_ij> predicted / true; Pope, Turbulent Flows (2000), sec. 5.3"
_PDF_SOURCE = "Gotoh, Fukayama & Nakano, Phys. Fluids 14, 1065 (2002)"


def velocity_gradient(velocity: Tensor, grid: Grid) -> Tensor:
    """A_ij = du_i/dx_j of a vector field.

    Args:
        velocity: (batch, 3, x, y, z).
        grid: the field's grid.

    Returns:
        (batch, 3, 3, x, y, z), 1/time: [:, i, j] is the derivative of component i along axis j.

    Raises:
        ValueError: a field that has not three components or is not on the grid.
    """
    check_velocity(velocity)
    return gradient(velocity, grid)


def vorticity(velocity: Tensor, grid: Grid) -> Tensor:
    """Curl of a velocity, w_i = e_ijk du_k/dx_j.

    Arguments and errors as in :func:`velocity_gradient`; (batch, 3, x, y, z), 1/time: an axial vector, ``1e`` where the
    velocity is ``1o``.
    """
    a = velocity_gradient(velocity, grid)
    return torch.stack([a[:, 2, 1] - a[:, 1, 2], a[:, 0, 2] - a[:, 2, 0], a[:, 1, 0] - a[:, 0, 1]], dim=1)


def normalized_divergence(velocity: Tensor, grid: Grid) -> Tensor:
    """Root mean square divergence over root mean square velocity gradient, sqrt(<A_ii^2> / <A_ij A_ij>).

    0 for an incompressible field, sqrt(1/3) for three unrelated isotropic components, 1 at most in a periodic box:
    for a potential flow. Arguments as in :func:`velocity_gradient`; (batch,), no unit.
    """
    return Divergence().each(velocity, velocity, grid)["divergence"]


def dissipation(velocity: Tensor, grid: Grid, viscosity: float = 1.0) -> Tensor:
    """Mean dissipation per unit mass, 2 nu <S_ij S_ij> with S the symmetric part of the gradient.

    Source: Pope, Turbulent Flows (2000), section 5.3. Velocity (batch, 3, x, y, z) and kinematic viscosity nu give
    (batch,), velocity^3 / length.
    """
    return viscosity * _strain_power(velocity, grid) / volume_of(velocity, grid)


def dissipation_captured(prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """Predicted over true mean dissipation, (batch,); the viscosity cancels. 1 is right, less is too smooth."""
    return DissipationCaptured().each(prediction, target, grid)["dissipation_captured"]


def enstrophy(velocity: Tensor, grid: Grid) -> Tensor:
    """Mean enstrophy <w.w> / 2, (batch,), float64, 1/time^2. Source: Taylor, Proc. R. Soc. A 164, 15 (1938).

    In a homogeneous incompressible flow the dissipation is 2 nu times this. Arguments as in :func:`velocity_gradient`.
    """
    return _enstrophy_integral(velocity, grid) / volume_of(velocity, grid)


def enstrophy_captured(prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """Predicted over true mean enstrophy, (batch,): 1 is right, less is too smooth."""
    return EnstrophyCaptured().each(prediction, target, grid)["enstrophy_captured"]


def derivative_skewness(velocity: Tensor, grid: Grid) -> Tensor:
    """Skewness of the longitudinal derivatives, the mean over i of <a_i^3> / <a_i^2>^(3/2).

    a_i = du_i/dx_i less its mean; no sum over i. Near -0.5 in developed turbulence, where it measures vortex
    stretching; 0 for a Gaussian field. Source: Sreenivasan & Antonia, Annu. Rev. Fluid Mech. 29, 435 (1997).

    Arguments as in :func:`velocity_gradient`; (batch,), no unit. A direction whose derivative vanishes everywhere is
    left out, nan if all do.
    """
    return DerivativeMoments().each(velocity, velocity, grid)["derivative_skewness"]


def derivative_flatness(velocity: Tensor, grid: Grid) -> Tensor:
    """Flatness of the longitudinal derivatives, the mean over i of <a_i^4> / <a_i^2>^2: 3 for a Gaussian field.

    Arguments, result and source as in :func:`derivative_skewness`.
    """
    return DerivativeMoments().each(velocity, velocity, grid)["derivative_flatness"]


def gradient_scales(velocity: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Root mean squares of the longitudinal and of the transverse derivatives: ``scales`` of :class:`GradientPdf`.

    Arguments as in :func:`velocity_gradient`; two of (batch,), float64, 1/time.
    """
    a = velocity_gradient(velocity, grid)
    longitudinal, transverse = (_root_mean_square(_components(a, kind), grid) for kind in KINDS)
    return longitudinal, transverse


def gradient_pdf(prediction: Tensor, target: Tensor, grid: Grid, kind: str, scale: float | None = None) -> Curve:
    """Probability density of the predicted longitudinal or transverse derivatives, in units of the true ones' rms.

    Longitudinal: du_i/dx_i for all three i. Transverse: du_i/dx_j for all six i != j, with both signs: a reflection
    turns one into the other.  Source: Gotoh, Fukayama & Nakano, Phys. Fluids 14, 1065 (2002).

    Args:
        prediction, target: (batch, 3, x, y, z), on one grid.
        kind: ``longitudinal`` or ``transverse``.
        scale: the unit, 1/time; default: each snapshot's true root mean square.

    Returns:
        bin centres (bins,) and densities (batch, bins); what lies beyond ``PDF_RANGE`` is missing from the integral.
    """
    check_same_grid(prediction, target, grid)
    counts, samples = _histogram(prediction, target, grid, kind, scale)
    return density_curve(counts, samples[:, None], -PDF_RANGE, PDF_RANGE)


class Divergence(FieldMetric):
    """:func:`normalized_divergence` of the prediction; mean squares are pooled over snapshots."""

    standard = True
    halo = DERIVATIVE_HALO
    needs_vector = True
    scalars: ClassVar = {
        "divergence": Quantity("Divergence", "1", "truth", "sqrt(<(du_i/dx_i)^2> / <(du_i/dx_j)^2>)", "div u")
    }

    def measure(self, prediction, target, grid):
        a = velocity_gradient(prediction, grid)
        divergence = a[:, 0, 0] + a[:, 1, 1] + a[:, 2, 2]
        return {"divergence_power": volume_sum(divergence**2, grid), "gradient_power": volume_sum(a**2, grid)}

    def finish(self, divergence_power, gradient_power):
        return {"divergence": torch.sqrt(divergence_power / gradient_power)}


class DissipationCaptured(FieldMetric):
    """:func:`dissipation_captured`; dissipations are pooled over snapshots."""

    standard = True
    halo = DERIVATIVE_HALO
    needs_vector = True
    scalars: ClassVar = {
        "dissipation_captured": Quantity("Dissipation captured", "1", "truth", _STRAIN_SOURCE, "Dissi-\npation")
    }

    def measure(self, prediction, target, grid):
        return of_both(prediction, target, lambda field: {"power": _strain_power(field, grid)})

    def finish(self, prediction_power, target_power):
        return {"dissipation_captured": prediction_power / target_power}


class DerivativeMoments(FieldMetric):
    """:func:`derivative_skewness` and :func:`derivative_flatness` of the prediction; moments are pooled."""

    standard = True
    halo = DERIVATIVE_HALO
    needs_vector = True
    scalars: ClassVar = {
        "derivative_skewness": Quantity("Derivative skewness", "1", "truth", _MOMENTS_SOURCE, "Skew-\nness"),
        "derivative_flatness": Quantity("Derivative flatness", "1", "truth", _MOMENTS_SOURCE, "Flat-\nness"),
    }

    def measure(self, prediction, target, grid):
        a = _components(velocity_gradient(prediction, grid), "longitudinal").to(torch.float64)
        return {"power_sums": torch.stack([volume_sum(a**power, grid, keep=2) for power in (1, 2, 3, 4)], dim=-1)}

    def finish(self, power_sums, volume):
        mean, second, third, fourth = (power_sums / volume).unbind(-1)
        variance = second - mean**2
        skew = third - 3 * mean * second + 2 * mean**3
        flat = fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4
        return {
            "derivative_skewness": (skew / variance**1.5).nanmean(-1),
            "derivative_flatness": (flat / variance**2).nanmean(-1),
        }


class GradientPdf(FieldMetric):
    """:func:`gradient_pdf` of both kinds; each snapshot is scaled by its own truth, then counts are pooled.

    Args:
        scales: root mean squares of the longitudinal and the transverse derivatives that every snapshot is scaled by
            instead, see :func:`gradient_scales`. Tiles need them: a tile does not know the whole field's.
    """

    standard = True
    needs_vector = True
    curves: ClassVar = {
        f"pdf_{kind}": CurveQuantity(
            f"PDF of {kind} gradients", f"{entry} / true rms", "probability density", _PDF_SOURCE, y_scale="log"
        )
        for kind, entry in zip(KINDS, ("du_i/dx_i", "du_i/dx_j"))
    }

    def __init__(self, scales: Scales | None = None, **options):
        super().__init__(**options)
        self.scales = (None, None) if scales is None else scales
        self.halo = None if scales is None else DERIVATIVE_HALO

    def measure(self, prediction, target, grid):
        measured = {}
        for kind, scale in zip(KINDS, self.scales):
            measured[kind], measured[f"{kind}_samples"] = _histogram(prediction, target, grid, kind, scale)
        return measured

    def finish(self, longitudinal, longitudinal_samples, transverse, transverse_samples):
        volumes = (longitudinal, longitudinal_samples), (transverse, transverse_samples)
        return {f"pdf_{kind}": density_curve(*v, -PDF_RANGE, PDF_RANGE) for kind, v in zip(KINDS, volumes)}


class EnstrophyCaptured(FieldMetric):
    """:func:`enstrophy_captured`; enstrophies are pooled over snapshots."""

    halo = DERIVATIVE_HALO
    needs_vector = True
    scalars: ClassVar = {
        "enstrophy_captured": Quantity(
            "Enstrophy captured", "1", "truth", "<w.w> predicted / true; Taylor, Proc. R. Soc. A 164, 15 (1938)"
        )
    }

    def measure(self, prediction, target, grid):
        return of_both(prediction, target, lambda field: {"enstrophy": _enstrophy_integral(field, grid)})

    def finish(self, prediction_enstrophy, target_enstrophy):
        return {"enstrophy_captured": prediction_enstrophy / target_enstrophy}


def bin_numbers(values: Tensor, low: float, high: float, bins: int) -> Tensor:
    """Number of each value's bin, 0 to bins - 1 from low to high, which the topmost holds; -1 outside, and for nan."""
    scaled = (values.to(torch.float64) - low) * (bins / (high - low))
    number = torch.where(values == high, bins - 1, torch.floor(scaled))
    return torch.where((number >= 0) & (number < bins), number, -1).to(torch.int64)


def volume_per_bin(numbers: Tensor, bins: int, volumes: Tensor) -> Tensor:
    """Volume of the cells (x, y, z) in every bin, (batch, bins), float64, by their numbers, -1 for none."""
    weights = volumes.flatten()
    rows = [(row >= 0, row) for row in numbers.flatten(1)]
    return torch.stack([torch.bincount(row[inside], weights[inside], minlength=bins) for inside, row in rows])


def density_curve(volumes: Tensor, total: Tensor, low: float, high: float) -> Curve:
    """The probability density of volumes (..., bins) between two values, out of a total: bin centres and densities."""
    bins = volumes.shape[-1]
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64, device=volumes.device)
    return Curve((edges[1:] + edges[:-1]) / 2, volumes / total * (bins / (high - low)))


def _strain_power(velocity: Tensor, grid: Grid) -> Tensor:
    """Integral of 2 S_ij S_ij = A_ij A_ij + A_ij A_ji, (batch,)."""
    a = velocity_gradient(velocity, grid)
    return volume_sum(a**2, grid) + volume_sum(a * a.transpose(1, 2), grid)


def _enstrophy_integral(velocity: Tensor, grid: Grid) -> Tensor:
    return volume_sum(vorticity(velocity, grid) ** 2, grid) / 2


def _components(a: Tensor, kind: str) -> Tensor:
    """Longitudinal (batch, 3, x, y, z) or transverse (batch, 6, x, y, z) entries of the gradient."""
    if kind not in KINDS:
        raise ValueError(f"kind must be longitudinal or transverse, got {kind}")
    wanted = kind == KINDS[0]
    return torch.stack([a[:, i, j] for i in range(3) for j in range(3) if (i == j) == wanted], dim=1)


def _histogram(prediction: Tensor, target: Tensor, grid: Grid, kind: str, scale: float | None) -> tuple[Tensor, Tensor]:
    """Counts (batch, bins) and number of samples (batch,), those outside the bins included, by volume."""
    values = _components(velocity_gradient(prediction, grid), kind)
    unit = torch.full((len(values),), scale or 0.0, dtype=torch.float64, device=values.device)
    if scale is None:
        unit = _root_mean_square(_components(velocity_gradient(target, grid), kind), grid)
    counts = torch.stack([_count(one, grid) for one in values / unit[:, None, None, None, None]])
    if kind == "transverse":
        counts = (counts + counts.flip(-1)) / 2
    return counts, volume_of(values, grid) * values.shape[1]


def _root_mean_square(values: Tensor, grid: Grid) -> Tensor:
    """Over the volume and the components of values (batch, component, x, y, z)."""
    return torch.sqrt(volume_sum(values**2, grid) / (volume_of(values, grid) * values.shape[1]))


def _count(values: Tensor, grid: Grid) -> Tensor:
    """Volume in every bin, of values (component, x, y, z) in units of the scale."""
    index = torch.floor((values + PDF_RANGE) * (PDF_BINS / (2 * PDF_RANGE))).to(torch.int64)
    inside = (index >= 0) & (index < PDF_BINS)
    if not any(grid.stretched):
        return torch.bincount(index[inside], minlength=PDF_BINS).to(torch.float64) * math.prod(grid.spacing)
    volumes = cell_volumes(grid, values.device).expand(values.shape)
    return torch.bincount(index[inside], volumes[inside], minlength=PDF_BINS)
