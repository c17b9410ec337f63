"""The rate of strain: shape of its eigenvalues, and how vorticity lies among its eigenvectors."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import CurveQuantity, FieldMetric, Quantity, cell_volumes, shareable, volume_sum
from flowsr.metrics.derivatives import DERIVATIVE_HALO
from flowsr.metrics.gradients import bin_numbers, density_curve, velocity_gradient, volume_per_bin, vorticity
from flowsr.metrics.invariants import StrainScaled

BINS = 20
RATE_RANGE, RATE_BINS = 5.0, 100  # of the eigenvalues, in units of the root mean square strain
AT_ONCE = 1 << 18  # 3 x 3 matrices diagonalized together
AXES = ("extensive", "intermediate", "compressive")

_ASHURST = "Ashurst, Kerstein, Kerr & Gibson, Phys. Fluids 30, 2343 (1987)"
_LUND = "Lund & Rogers, Phys. Fluids 6, 1838 (1994)"


@shareable
def strain_eigenframe(velocity: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the rate of strain S_ij = (A_ij + A_ji) / 2.

    Args:
        velocity: (batch, 3, x, y, z).
        grid: the field's grid.

    Returns:
        eigenvalues (batch, 3, x, y, z), 1/time, from the largest (extensive) to the smallest (compressive); unit
        eigenvectors (batch, 3, 3, x, y, z): [:, i, n] is component i of the n-th. float64.

    Raises:
        ValueError: a field that has not three components or is not on the grid.
    """
    a = velocity_gradient(velocity, grid).to(torch.float64)
    s = ((a + a.transpose(1, 2)) / 2).movedim((1, 2), (-2, -1))
    parts = [torch.linalg.eigh(part) for part in s.reshape(-1, 3, 3).split(AT_ONCE)]
    values = torch.cat([part[0] for part in parts]).flip(-1).reshape(s.shape[:-1])
    vectors = torch.cat([part[1] for part in parts]).flip(-1).reshape(s.shape)
    return values.movedim(-1, 1), vectors.movedim((-2, -1), (1, 2))


def vorticity_alignment(velocity: Tensor, grid: Grid) -> Tensor:
    """|cos| of the angle between vorticity and the extensive, intermediate and compressive eigenvector of the strain.

    Each is uniform on (0, 1) where the directions have nothing to do with each other; in turbulence vorticity prefers
    the intermediate one. Source: Ashurst, Kerstein, Kerr & Gibson, Phys. Fluids 30, 2343 (1987).

    Arguments as in :func:`strain_eigenframe`; (batch, 3, x, y, z), no unit, nan where strain or vorticity vanish
    against the gradient, to rounding.
    """
    _, vectors = strain_eigenframe(velocity, grid)
    return _cosines(velocity, grid, vectors)


def strain_state(velocity: Tensor, grid: Grid) -> Tensor:
    """s* = -3 sqrt(6) a b c / (a^2 + b^2 + c^2)^(3/2) with a, b, c the eigenvalues of the traceless rate of strain.

    1 for axisymmetric expansion (two directions stretch), 0 for plane strain, -1 for axisymmetric contraction. Uniform
    on (-1, 1) for a Gaussian incompressible field; in turbulence its density is largest at 1. Source: Lund & Rogers,
    Phys. Fluids 6, 1838 (1994).

    Arguments as in :func:`strain_eigenframe`; (batch, x, y, z), float64, no unit, nan where the strain vanishes against
    the gradient, to rounding.
    """
    s = _traceless_strain(velocity, grid)
    square = (s**2).sum((1, 2))[:, None]
    determinant = (
        s[:, 0, 0] * (s[:, 1, 1] * s[:, 2, 2] - s[:, 1, 2] ** 2)
        - s[:, 0, 1] * (s[:, 0, 1] * s[:, 2, 2] - s[:, 1, 2] * s[:, 0, 2])
        + s[:, 0, 2] * (s[:, 0, 1] * s[:, 1, 2] - s[:, 1, 1] * s[:, 0, 2])
    )
    state = (-3 * math.sqrt(6) * determinant / square[:, 0] ** 1.5).clamp(-1.0, 1.0)
    return torch.where(_not_rounding(velocity, grid, square)[:, 0], state, torch.nan)


class StrainAlignment(FieldMetric):
    """:func:`strain_state` and :func:`vorticity_alignment` of the prediction, by volume, pooled over snapshots."""

    halo = DERIVATIVE_HALO
    needs_vector = True
    scalars: ClassVar = {
        **{
            f"alignment_{axis}": Quantity(f"Mean |cos|, vorticity and {axis} strain", "1", "truth", _ASHURST)
            for axis in AXES
        },
        "strain_state": Quantity("Mean s* of the strain", "1", "truth", _LUND),
        "strain_eigenvalue_ratio": Quantity(
            "Intermediate over extensive strain", "1", "truth", f"<b> / <a>, a >= b >= c eigenvalues of S; {_ASHURST}"
        ),
    }
    curves: ClassVar = {
        **{
            f"pdf_alignment_{axis}": CurveQuantity(
                f"Vorticity against {axis} strain", "|cos|", "probability density", _ASHURST
            )
            for axis in AXES
        },
        "pdf_strain_state": CurveQuantity("State of strain", "s*", "probability density", _LUND),
    }

    def measure(self, prediction, target, grid):
        values, vectors = strain_eigenframe(prediction, grid)
        cosines, state = _cosines(prediction, grid, vectors), strain_state(prediction, grid)
        volumes = cell_volumes(grid, prediction.device)
        bins = [volume_per_bin(bin_numbers(cosines[:, n], 0.0, 1.0, BINS), BINS, volumes) for n in range(3)]
        return {
            "cosine_volumes": torch.stack(bins, dim=1),
            "cosines": volume_sum(cosines.nan_to_num(0.0), grid, keep=2),
            "aligned": volume_sum((~cosines[:, 0].isnan()).to(torch.float64), grid),
            "state_volumes": volume_per_bin(bin_numbers(state, -1.0, 1.0, BINS), BINS, volumes),
            "state_integral": volume_sum(state.nan_to_num(0.0), grid),
            "strained": volume_sum((~state.isnan()).to(torch.float64), grid),
            "eigenvalues": volume_sum(values, grid, keep=2),
        }

    def finish(self, cosine_volumes, cosines, aligned, state_volumes, state_integral, strained, eigenvalues):
        result = {"strain_state": state_integral / strained, "strain_eigenvalue_ratio": eigenvalues[1] / eigenvalues[0]}
        for axis, volumes, total in zip(AXES, cosine_volumes, cosines):
            result[f"alignment_{axis}"] = total / aligned
            result[f"pdf_alignment_{axis}"] = density_curve(volumes, aligned, 0.0, 1.0)
        return {**result, "pdf_strain_state": density_curve(state_volumes, strained, -1.0, 1.0)}


class StrainEigenvalues(StrainScaled):
    """PDFs of the eigenvalues of the predicted strain, in units of the true root mean square strain, by volume.

    Each snapshot is scaled by its own truth, then volumes are pooled. What lies beyond ``RATE_RANGE`` is missing from
    the integral. Options as in :class:`~flowsr.metrics.invariants.StrainScaled`.
    """

    curves: ClassVar = {
        f"pdf_strain_{axis}": CurveQuantity(
            f"PDF of {axis} strain", "eigenvalue of S / true rms", "probability density", _ASHURST, y_scale="log"
        )
        for axis in AXES
    }

    def measure(self, prediction, target, grid):
        unit = self.unit(target, grid)
        values, _ = strain_eigenframe(prediction, grid)
        volumes = cell_volumes(grid, prediction.device)
        numbers = (bin_numbers(values[:, n] / unit, -RATE_RANGE, RATE_RANGE, RATE_BINS) for n in range(3))
        per_bin = [volume_per_bin(number, RATE_BINS, volumes) for number in numbers]
        return {"rate_volumes": torch.stack(per_bin, dim=1)}

    def finish(self, rate_volumes, volume):
        return {
            f"pdf_strain_{axis}": density_curve(volumes, volume, -RATE_RANGE, RATE_RANGE)
            for axis, volumes in zip(AXES, rate_volumes)
        }


def _cosines(velocity: Tensor, grid: Grid, vectors: Tensor) -> Tensor:
    w = vorticity(velocity, grid).to(torch.float64)
    length = torch.linalg.vector_norm(w, dim=1, keepdim=True)
    along = (vectors * w[:, :, None]).sum(1).abs() / length
    square = (_traceless_strain(velocity, grid) ** 2).sum((1, 2))[:, None]
    seen = _not_rounding(velocity, grid, length**2) & _not_rounding(velocity, grid, square)
    return torch.where(seen, along.clamp(max=1.0), torch.nan)


def _traceless_strain(velocity: Tensor, grid: Grid) -> Tensor:
    a = velocity_gradient(velocity, grid).to(torch.float64)
    third = (a[:, 0, 0] + a[:, 1, 1] + a[:, 2, 2]) / 3
    identity = torch.eye(3, dtype=a.dtype, device=a.device)[:, :, None, None, None]
    return (a + a.transpose(1, 2)) / 2 - identity * third[:, None, None]


def _not_rounding(velocity: Tensor, grid: Grid, square: Tensor) -> Tensor:
    """Where ``square`` is more of A_ij A_ij than rounding leaves."""
    a = velocity_gradient(velocity, grid)
    smallest = (1000 * torch.finfo(a.dtype).eps) ** 2
    return square > smallest * (a.to(torch.float64) ** 2).sum((1, 2))[:, None]
