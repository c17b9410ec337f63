"""Second and third invariants of the velocity gradient, Q and R: which local topology the flow has, and how often."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import Curve, CurveQuantity, FieldMetric, Quantity, cell_volumes, volume_of, volume_sum
from flowsr.metrics.derivatives import DERIVATIVE_HALO
from flowsr.metrics.gradients import bin_numbers, density_curve, velocity_gradient, volume_per_bin

QR_RANGE = 8.0  # of Q / <S:S> and of R / <S:S>^(3/2), to either side
QR_BINS = 64

_SOURCE = "Chong, Perry & Cantwell, Phys. Fluids A 2, 765 (1990)"
_VIEILLEFOSSE = "Vieillefosse, J. Physique 43, 837 (1982); Cantwell, Phys. Fluids A 4, 782 (1992)"


class JointDensity(NamedTuple):
    """A probability density over R and Q: bin centres (bins,), and density (..., bins of R, bins of Q)."""

    r: Tensor
    q: Tensor
    density: Tensor


def gradient_invariants(velocity: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Q = -A_ij A_ji / 2 and R = -A_ij A_jk A_ki / 3 of the traceless part of the velocity gradient.

    A predicted field is not exactly incompressible; without its trace the gradient has the characteristic equation
    l^3 + Q l + R = 0 all the same. Source: Chong, Perry & Cantwell, Phys. Fluids A 2, 765 (1990).

    Args:
        velocity: (batch, 3, x, y, z).
        grid: the field's grid.

    Returns:
        Q (batch, x, y, z), 1/time^2: above 0 where rotation beats strain; R (batch, x, y, z), 1/time^3.

    Raises:
        ValueError: a field that has not three components or is not on the grid.
    """
    a = velocity_gradient(velocity, grid)
    third = (a[:, 0, 0] + a[:, 1, 1] + a[:, 2, 2]) / 3
    a = a - torch.eye(3, dtype=a.dtype, device=a.device)[:, :, None, None, None] * third[:, None, None]
    square = sum(a[:, :, None, j] * a[:, None, j] for j in range(3))
    q = -(square[:, 0, 0] + square[:, 1, 1] + square[:, 2, 2]) / 2
    r = -(square * a.transpose(1, 2)).sum((1, 2)) / 3
    return q, r


def strain_scale(velocity: Tensor, grid: Grid) -> Tensor:
    """Root mean square rate of strain, sqrt(<S_ij S_ij>), the unit of Q and R: (batch,), float64, 1/time."""
    a = velocity_gradient(velocity, grid)
    return torch.sqrt(volume_sum(((a + a.transpose(1, 2)) / 2) ** 2, grid) / volume_of(velocity, grid))


def qr_joint_pdf(prediction: Tensor, target: Tensor, grid: Grid, scale: float | None = None) -> JointDensity:
    """Joint probability density of R / s^3 and Q / s^2 of the prediction, s the true root mean square strain.

    In turbulence it has the shape of a tear drop, with a tail along Q^3 = -27 R^2 / 4 on the side of positive R.
    Source: Cantwell, Phys. Fluids A 4, 782 (1992).

    Args:
        prediction, target: (batch, 3, x, y, z).
        grid: the grid of both.
        scale: s, 1/time; default: each snapshot's own, :func:`strain_scale` of the truth.

    Returns:
        (batch, bins, bins); what lies beyond ``QR_RANGE`` is missing from the integral.
    """
    measured, _ = GradientInvariants(scale).measure_batch(prediction, target, grid)
    return _joint_density(measured["prediction_joint"], measured["volume"])


class StrainScaled(FieldMetric):
    """What is measured in units of the true root mean square strain of each snapshot.

    Args:
        scale: root mean square strain that every snapshot is scaled by instead, see :func:`strain_scale`. Tiles need
            it: a tile does not know the whole field's.
    """

    needs_vector = True

    def __init__(self, scale: float | None = None, **options):
        super().__init__(**options)
        self.scale = scale
        self.halo = None if scale is None else DERIVATIVE_HALO

    def unit(self, target: Tensor, grid: Grid) -> Tensor | float:
        return strain_scale(target, grid)[:, None, None, None] if self.scale is None else float(self.scale)


class GradientInvariants(StrainScaled):
    """Q and R of the prediction; each snapshot is scaled by its own truth, then volumes and moments are pooled.

    The four topologies are told apart by the signs of R and of the discriminant 27 R^2 / 4 + Q^3. The correlation of Q
    and R is 0 for a Gaussian field and negative for the tear drop. The distance between the joint PDFs of prediction
    and truth is their total variation, sum |p - t| / 2: 0 for equal, 1 for disjoint. The curves are the marginals of
    the joint PDF, which :meth:`joint_pdf` gives. Options as in :class:`StrainScaled`.
    """

    scalars: ClassVar = {
        "qr_stable_focus": Quantity("Stable focus, stretching", "1", "truth", f"volume with D > 0, R < 0; {_SOURCE}"),
        "qr_unstable_focus": Quantity("Unstable focus", "1", "truth", f"volume with D > 0, R > 0; {_SOURCE}"),
        "qr_stable_node": Quantity("Stable node, saddle", "1", "truth", f"volume with D < 0, R < 0; {_SOURCE}"),
        "qr_unstable_node": Quantity("Unstable node, saddle", "1", "truth", f"volume with D < 0, R > 0; {_SOURCE}"),
        "qr_vieillefosse": Quantity("Vieillefosse tail", "1", "truth", f"volume with Q < 0, R > 0; {_VIEILLEFOSSE}"),
        "qr_correlation": Quantity("Correlation of Q and R", "1", "truth", f"<QR> / sqrt(<Q^2><R^2>); {_VIEILLEFOSSE}"),
        "qr_distance": Quantity("Distance of the Q-R PDFs", "1", "lower", "total variation, sum |p - t| / 2"),
    }
    curves: ClassVar = {
        "pdf_q": CurveQuantity("PDF of Q", "Q / true rms strain^2", "probability density", _SOURCE, y_scale="log"),
        "pdf_r": CurveQuantity("PDF of R", "R / true rms strain^3", "probability density", _SOURCE, y_scale="log"),
    }

    def joint_pdf(self) -> JointDensity:
        """The pooled joint density of the prediction, (bins, bins), as :func:`qr_joint_pdf`."""
        return _joint_density(self.prediction_joint, self.volume)

    def measure(self, prediction, target, grid):
        unit = self.unit(target, grid)
        q, r = _scaled(prediction, grid, unit)
        discriminant = 27 / 4 * r**2 + q**3
        focus, node = discriminant > 0, discriminant <= 0
        masks = focus & (r < 0), focus & (r > 0), node & (r < 0), node & (r > 0), (q < 0) & (r > 0)
        regions = [volume_sum(mask.to(torch.float64), grid) for mask in masks]
        return {
            "prediction_joint": _joint_volume(q, r, grid),
            "target_joint": _joint_volume(*_scaled(target, grid, unit), grid),
            "regions": torch.stack(regions, dim=1),
            "products": torch.stack([volume_sum(product, grid) for product in (q * r, q * q, r * r)], dim=1),
        }

    def finish(self, prediction_joint, target_joint, regions, products, volume):
        shares = dict(zip(("stable_focus", "unstable_focus", "stable_node", "unstable_node", "vieillefosse"), regions))
        both, q_power, r_power = products
        outside = (volume - prediction_joint.sum()) - (volume - target_joint.sum())
        distance = ((prediction_joint - target_joint).abs().sum() + outside.abs()) / (2 * volume)
        r, q, density = _joint_density(prediction_joint, volume)
        width = 2 * QR_RANGE / QR_BINS
        return {
            "pdf_q": Curve(q, density.sum(0) * width),
            "pdf_r": Curve(r, density.sum(1) * width),
            **{f"qr_{name}": share / volume for name, share in shares.items()},
            "qr_correlation": both / torch.sqrt(q_power * r_power),
            "qr_distance": distance,
        }


def _scaled(velocity: Tensor, grid: Grid, unit: Tensor | float) -> tuple[Tensor, Tensor]:
    q, r = gradient_invariants(velocity, grid)
    return q / unit**2, r / unit**3


def _joint_volume(q: Tensor, r: Tensor, grid: Grid) -> Tensor:
    """Volume per bin, (batch, bins of R, bins of Q)."""
    row, column = (bin_numbers(values, -QR_RANGE, QR_RANGE, QR_BINS) for values in (r, q))
    numbers = torch.where((row >= 0) & (column >= 0), row * QR_BINS + column, -1)
    flat = volume_per_bin(numbers, QR_BINS**2, cell_volumes(grid, q.device))
    return flat.reshape(-1, QR_BINS, QR_BINS)


def _joint_density(joint: Tensor, volume: Tensor) -> JointDensity:
    centres, _ = density_curve(joint, volume[..., None, None], -QR_RANGE, QR_RANGE)
    return JointDensity(centres, centres, joint / volume[..., None, None] * (QR_BINS / (2 * QR_RANGE)) ** 2)
