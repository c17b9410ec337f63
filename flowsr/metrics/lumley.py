"""Reynolds stress and how far it is from isotropic: the invariants of its anisotropy."""

from __future__ import annotations

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import METRICS, FieldMetric, check_on_grid
from flowsr.metrics.quantity import Quantity
from flowsr.metrics.volumes import volume_of, volume_sum

_LUMLEY = "Pope, Turbulent Flows (2000), eqs. 11.28-11.29; Lumley, Adv. Appl. Mech. 18, 123 (1978)"


def reynolds_stress(velocity: Tensor, grid: Grid) -> Tensor:
    """R_ij = <u_i u_j> - <u_i> <u_j>, means over the volume of a homogeneous box.

    Args:
        velocity: (batch, 3, x, y, z).
        grid: the field's grid.

    Returns:
        (batch, 3, 3), float64, velocity^2.

    Raises:
        ValueError: a field that is not on the grid.
    """
    check_on_grid(velocity, grid)
    return _stress(*_moments(velocity, grid), volume_of(velocity, grid))


def anisotropy(stress: Tensor) -> Tensor:
    """b_ij = R_ij / R_kk - delta_ij / 3 of Reynolds stresses (..., 3, 3).

    Source: Pope, Turbulent Flows (2000), section 11.3.2.
    """
    trace = stress.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    return stress / trace - torch.eye(3, dtype=stress.dtype, device=stress.device) / 3


def lumley_invariants(stress: Tensor) -> tuple[Tensor, Tensor]:
    """xi and eta of a Reynolds stress: 6 eta^2 = b_ij b_ji, 6 xi^3 = b_ij b_jk b_ki, b the :func:`anisotropy`.

    (0, 0) is isotropic turbulence, xi = eta one large component (a cigar; 1/3 is one component alone), xi = -eta two
    equal large ones (a pancake; xi = -1/6 is two components alone). Source: Pope, Turbulent Flows (2000), eqs. 11.28
    and 11.29; the triangle is that of Lumley, Adv. Appl. Mech. 18, 123 (1978), and Choi & Lumley, J. Fluid Mech. 436,
    59 (2001).

    Args:
        stress: (..., 3, 3).

    Returns:
        xi and eta, each (...).
    """
    b = anisotropy(stress)
    square = b @ b
    eta = torch.sqrt(square.diagonal(dim1=-2, dim2=-1).sum(-1) / 6)
    third = (square * b.transpose(-1, -2)).sum((-1, -2)) / 6
    return third.sign() * third.abs() ** (1 / 3), eta


def two_component_distance(xi: Tensor, eta: Tensor) -> Tensor:
    """F = 1 - 27 eta^2 + 54 xi^3: 0 where one component of the velocity vanishes (at a wall), 1 for isotropy.

    27 times the determinant of R_ij / R_kk. Source: Choi & Lumley, J. Fluid Mech. 436, 59 (2001), in Pope's invariants.
    """
    return 1 - 27 * eta**2 + 54 * xi**3


@METRICS.register("anisotropy")
class ReynoldsAnisotropy(FieldMetric):
    """Reynolds stress of the prediction over the whole volume, for homogeneous boxes.

    Moments are pooled over snapshots: the mean that is taken off is that of everything seen.
    """

    halo = 0
    needs_vector = True
    scalars = {
        "reynolds_stress_error": Quantity(
            "Reynolds stress error",
            "1",
            "lower",
            "||R_p - R_t|| / ||R_t||; R_ij of Pope, Turbulent Flows (2000), sec. 4.1",
        ),
        "lumley_xi": Quantity("Anisotropy xi", "1", "truth", f"6 xi^3 = b_ij b_jk b_ki; {_LUMLEY}"),
        "lumley_eta": Quantity("Anisotropy eta", "1", "truth", f"6 eta^2 = b_ij b_ji; {_LUMLEY}"),
    }
    totals = ("prediction_first", "prediction_second", "target_first", "target_second", "volume")

    def _measure(self, prediction, target, grid):
        prediction_first, prediction_second = _moments(prediction, grid)
        target_first, target_second = _moments(target, grid)
        return {
            "prediction_first": prediction_first,
            "prediction_second": prediction_second,
            "target_first": target_first,
            "target_second": target_second,
            "volume": volume_of(prediction, grid),
        }

    def _finish(self, prediction_first, prediction_second, target_first, target_second, volume):
        predicted, true = (
            _stress(*moments, volume)
            for moments in ((prediction_first, prediction_second), (target_first, target_second))
        )
        xi, eta = lumley_invariants(predicted)
        error = torch.linalg.vector_norm(predicted - true) / torch.linalg.vector_norm(true)
        return {"reynolds_stress_error": error, "lumley_xi": xi, "lumley_eta": eta}


def _moments(velocity: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Integrals of u_i, (batch, 3), and of u_i u_j, (batch, 3, 3)."""
    velocity = velocity.to(torch.float64)
    rows = [volume_sum(velocity[:, i : i + 1] * velocity, grid, keep=2) for i in range(3)]
    return volume_sum(velocity, grid, keep=2), torch.stack(rows, dim=1)


def _stress(first: Tensor, second: Tensor, volume: Tensor) -> Tensor:
    mean = first / volume[..., None]
    return second / volume[..., None, None] - mean[..., :, None] * mean[..., None, :]
