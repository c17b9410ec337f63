"""Flow between two walls, in wall units: mean profile, Reynolds stresses and anisotropy against the wall distance.

The wall-normal axis is the one whose boundary is ``wall``; the two others are periodic, and means run over them and
over snapshots. Streamwise is the direction of the true mean flow, and both halves of the channel count alike: nothing
depends on which axis is which. Source: Pope, Turbulent Flows (2000), section 7.1; Kim, Moin & Moser, J. Fluid Mech.
177, 133 (1987).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import (
    Curve,
    CurveQuantity,
    FieldMetric,
    Quantity,
    check_on_grid,
    of_both,
    volume_of,
    volume_sum,
)
from flowsr.metrics.derivatives import STENCIL, finite_difference_weights

SYMMETRIC = 1e-6  # of the channel's height: centres this near to each other's mirror images are taken for that

_PROFILES = "Kim, Moin & Moser, J. Fluid Mech. 177, 133 (1987)"
_POPE = "Pope, Turbulent Flows (2000), sec. 7.1"
_STRESS = "||R_p - R_t|| / ||R_t||; R_ij of Pope, Turbulent Flows (2000), sec. 4.1"
_LUMLEY = "Lumley, Adv. Appl. Mech. 18, 123 (1978); Pope, Turbulent Flows (2000), eqs. 11.28-11.29"
_INVARIANTS = "Pope, Turbulent Flows (2000), eqs. 11.28-11.29; Lumley, Adv. Appl. Mech. 18, 123 (1978)"


@dataclass(frozen=True, eq=False)
class WallProfiles:
    """Profiles from the wall to the middle of a channel. All float64; d is the number of distances.

    Attributes:
        distance: (d,) from the nearer wall, length.
        mean: (d,) mean streamwise velocity U.
        stress: (d, 3, 3) Reynolds stress in the frame (streamwise, away from the wall, spanwise), velocity^2.
        half_height: () h, half the distance between the walls.
        viscosity: kinematic viscosity nu.
    """

    distance: Tensor
    mean: Tensor
    stress: Tensor
    half_height: Tensor
    viscosity: float

    @property
    def friction_velocity(self) -> Tensor:
        """u_tau = sqrt(nu dU/dy at the wall), of the polynomial through 0 at the wall and the four nearest means."""
        inside = self.distance > 0
        near = self.distance[inside][: STENCIL - 1]
        offsets = np.concatenate([[0.0], near.cpu().numpy()])
        weights = torch.as_tensor(finite_difference_weights(offsets)[1:], device=near.device)
        return torch.sqrt((self.viscosity * (weights * self.mean[inside][: STENCIL - 1]).sum()).abs())

    @property
    def reynolds_tau(self) -> Tensor:
        """Re_tau = u_tau h / nu."""
        return self.friction_velocity * self.half_height / self.viscosity

    def wall_distance(self, friction_velocity: Tensor) -> Tensor:
        """y+ = y u_tau / nu, (d,)."""
        return self.distance * friction_velocity / self.viscosity


def reynolds_stress(velocity: Tensor, grid: Grid) -> Tensor:
    """R_ij = <u_i u_j> - <u_i> <u_j>, means over the volume of a homogeneous box.

    Velocity (batch, 3, x, y, z) gives (batch, 3, 3), float64, velocity^2; ValueError where it is not on the grid.
    """
    check_on_grid(velocity, grid)
    return _stress(**_moments(velocity, grid), volume=volume_of(velocity, grid))


def anisotropy(stress: Tensor) -> Tensor:
    """b_ij = R_ij / R_kk - delta_ij / 3 of stresses (..., 3, 3); Pope, Turbulent Flows (2000), section 11.3.2."""
    trace = stress.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    return stress / trace - torch.eye(3, dtype=stress.dtype, device=stress.device) / 3


def lumley_invariants(stress: Tensor) -> tuple[Tensor, Tensor]:
    """xi and eta of a Reynolds stress: 6 eta^2 = b_ij b_ji, 6 xi^3 = b_ij b_jk b_ki, b the :func:`anisotropy`.

    (0, 0) is isotropic turbulence, xi = eta one large component (a cigar; 1/3 is one component alone), xi = -eta two
    equal large ones (a pancake; xi = -1/6 is two components alone). Source: Pope, Turbulent Flows (2000), eqs. 11.28
    and 11.29; the triangle is that of Lumley, Adv. Appl. Mech. 18, 123 (1978), and Choi & Lumley, J. Fluid Mech. 436,
    59 (2001). Of stresses (..., 3, 3), each (...).
    """
    b = anisotropy(stress)
    square = b @ b
    eta = torch.sqrt(square.diagonal(dim1=-2, dim2=-1).sum(-1) / 6)
    third = (square * b.transpose(-1, -2)).sum((-1, -2)) / 6
    return third.sign() * third.abs() ** (1 / 3), eta


def is_channel(grid: Grid) -> bool:
    """Whether one axis has walls and the two others are periodic."""
    return sorted(grid.boundary) == ["periodic", "periodic", "wall"]


def wall_axis(grid: Grid) -> int:
    """The axis between walls; ValueError where the box is not a channel."""
    if not is_channel(grid):
        raise ValueError(f"wall profiles need walls along one axis and two periodic ones, got {grid.boundary}")
    return grid.boundary.index("wall")


def wall_profiles(velocity: Tensor, grid: Grid, viscosity: float) -> WallProfiles:
    """Profiles of a channel flow, averaged over the batch.

    Args:
        velocity: (batch, 3, x, y, z).
        grid: walls along one axis, the two others periodic; the wall-normal one may be stretched.
        viscosity: kinematic viscosity, velocity length.

    Raises:
        ValueError: a field that is not on the grid, or a box that is not a channel.
    """
    check_on_grid(velocity, grid)
    first, second = (moment.mean(0) for moment in _plane_means(velocity, grid).values())
    channel = _Channel.of(grid, velocity.device)
    return channel.profiles(first, second, channel.direction(first), viscosity)


class ReynoldsAnisotropy(FieldMetric):
    """Reynolds stress of the prediction over the whole volume, for homogeneous boxes.

    Moments are pooled over snapshots: the mean that is taken off is that of everything seen.
    """

    halo = 0
    needs_vector = True
    scalars: ClassVar = {
        "reynolds_stress_error": Quantity("Reynolds stress error", "1", "lower", _STRESS),
        "lumley_xi": Quantity("Anisotropy xi", "1", "truth", f"6 xi^3 = b_ij b_jk b_ki; {_INVARIANTS}"),
        "lumley_eta": Quantity("Anisotropy eta", "1", "truth", f"6 eta^2 = b_ij b_ji; {_INVARIANTS}"),
    }

    def measure(self, prediction, target, grid):
        return of_both(prediction, target, lambda field: _moments(field, grid))

    def finish(self, prediction_first, prediction_second, target_first, target_second, volume):
        predicted = _stress(prediction_first, prediction_second, volume)
        true = _stress(target_first, target_second, volume)
        xi, eta = lumley_invariants(predicted)
        error = torch.linalg.vector_norm(predicted - true) / torch.linalg.vector_norm(true)
        return {"reynolds_stress_error": error, "lumley_xi": xi, "lumley_eta": eta}


class WallUnits(FieldMetric):
    """:func:`wall_profiles` of the prediction in wall units; plane means are pooled over snapshots.

    Friction velocity and Re_tau are the prediction's own. The curves are all in units of the *true* friction velocity,
    against the true y+, so that models can be held against each other and the truth.

    Args:
        viscosity: kinematic viscosity of the flow.
    """

    needs_vector = True
    needs_channel = True
    ensemble = True
    scalars: ClassVar = {
        "friction_velocity": Quantity("Friction velocity", "velocity", "truth", f"sqrt(nu dU/dy) at the wall; {_POPE}"),
        "reynolds_tau": Quantity("Re_tau", "1", "truth", f"u_tau h / nu; {_POPE}"),
        "mean_profile_error": Quantity("Mean profile error", "1", "lower", "||U_p - U_t|| / ||U_t|| over the channel"),
        "stress_profile_error": Quantity(
            "Reynolds stress profile error", "1", "lower", "||R_p - R_t|| / ||R_t|| over the channel and all components"
        ),
    }
    curves: ClassVar = {
        "mean_velocity_plus": CurveQuantity("Mean velocity", "y+", "U / u_tau", _PROFILES, x_scale="log"),
        "streamwise_rms_plus": CurveQuantity("Streamwise fluctuation", "y+", "u' / u_tau", _PROFILES),
        "normal_rms_plus": CurveQuantity("Wall-normal fluctuation", "y+", "v' / u_tau", _PROFILES),
        "spanwise_rms_plus": CurveQuantity("Spanwise fluctuation", "y+", "w' / u_tau", _PROFILES),
        "shear_stress_plus": CurveQuantity("Reynolds shear stress", "y+", "-<u'v'> / u_tau^2", _PROFILES),
        "lumley_xi_profile": CurveQuantity("Anisotropy xi", "y+", "xi", _LUMLEY),
        "lumley_eta_profile": CurveQuantity("Anisotropy eta", "y+", "eta", _LUMLEY),
    }
    axes = ("position", "widths", "axis")

    def measure(self, prediction, target, grid):
        if self.viscosity is None:
            raise ValueError("wall units need the viscosity")
        return of_both(prediction, target, lambda field: _plane_means(field, grid))

    def axis_values(self, grid):
        channel = _Channel.of(grid, torch.device("cpu"))
        return {"position": channel.position, "widths": channel.widths, "axis": channel.axis + 1.0}  # 0: not known yet

    def finish(
        self, prediction_first, prediction_second, target_first, target_second, snapshots, position, widths, axis
    ):
        channel = _Channel(int(axis) - 1, position, widths)
        along = channel.direction(target_first)
        predicted, true = (
            channel.profiles(first / snapshots, second / snapshots, along, self.viscosity)
            for first, second in ((prediction_first, prediction_second), (target_first, target_second))
        )
        unit = true.friction_velocity
        rms = torch.sqrt(predicted.stress.diagonal(dim1=-2, dim2=-1).clamp(min=0)) / unit
        xi, eta = lumley_invariants(predicted.stress)
        curves = {
            "mean_velocity_plus": predicted.mean / unit,
            "streamwise_rms_plus": rms[:, 0],
            "normal_rms_plus": rms[:, 1],
            "spanwise_rms_plus": rms[:, 2],
            "shear_stress_plus": -predicted.stress[:, 0, 1] / unit**2,
            "lumley_xi_profile": xi,
            "lumley_eta_profile": eta,
        }
        weights = channel.folded(widths)
        return {
            "friction_velocity": predicted.friction_velocity,
            "reynolds_tau": predicted.reynolds_tau,
            "mean_profile_error": _distance(predicted.mean[:, None, None], true.mean[:, None, None], weights),
            "stress_profile_error": _distance(predicted.stress, true.stress, weights),
            **{name: Curve(true.wall_distance(unit), values) for name, values in curves.items()},
        }


@dataclass(frozen=True, eq=False)
class _Channel:
    """Where the cells are between the walls: the wall-normal axis, their distance from its low end, and their sizes."""

    axis: int
    position: Tensor
    widths: Tensor

    @classmethod
    def of(cls, grid: Grid, device: torch.device) -> _Channel:
        axis = wall_axis(grid)
        position = grid.coordinates()[axis] - grid.origin[axis]
        return cls(axis, *(torch.as_tensor(values, device=device) for values in (position, grid.widths()[axis])))

    @property
    def height(self) -> Tensor:
        return self.widths.sum()

    @property
    def away(self) -> Tensor:
        """(n,) sign of the direction away from the nearer wall; 0 in the middle, which is as far from both."""
        below = self.height / 2 - self.position
        return torch.where(below.abs() > SYMMETRIC * self.height, below.sign(), 0.0)

    def direction(self, first: Tensor) -> Tensor:
        """(3,) unit vector of the mean flow along the walls, from plane means (3, n)."""
        flow = (first * self.widths).sum(-1)
        flow[self.axis] = 0
        return flow / torch.linalg.vector_norm(flow)

    def profiles(self, first: Tensor, second: Tensor, along: Tensor, viscosity: float) -> WallProfiles:
        """From plane means of u_i (3, n) and u_i u_j (3, 3, n), both halves of the channel counting alike."""
        normal = torch.eye(3, dtype=first.dtype, device=first.device)[self.axis]
        frame = torch.stack([along, normal, torch.linalg.cross(along, normal)])
        mean, square = frame @ first, torch.einsum("ai,bj,ijn->nab", frame, frame, second)
        stress = square - mean.T[:, :, None] * mean.T[:, None, :]
        away = torch.ones_like(stress)
        away[:, 1, 0] = away[:, 0, 1] = away[:, 1, 2] = away[:, 2, 1] = self.away
        distance = self.folded(torch.minimum(self.position, self.height - self.position))
        values = self.folded(mean[0]), self.folded(stress * away)
        return WallProfiles(distance, *values, self.height / 2, viscosity)

    def folded(self, profile: Tensor) -> Tensor:
        """Mean of both halves, (d, ...), by distance from the nearer wall; one point a cell where they do not match."""
        n = len(self.position)
        if (self.position + self.position.flip(0) - self.height).abs().max() <= SYMMETRIC * self.height:
            return ((profile + profile.flip(0)) / 2)[: (n + 1) // 2]
        return profile[torch.minimum(self.position, self.height - self.position).argsort()]


def _plane_means(velocity: Tensor, grid: Grid) -> dict[str, Tensor]:
    """Means over the two periodic axes: ``first`` of u_i, (batch, 3, n), ``second`` of u_i u_j, (batch, 3, 3, n)."""
    planes = velocity.to(torch.float64).movedim(2 + wall_axis(grid), 2).flatten(3)
    products = torch.einsum("bins,bjns->bijn", planes, planes) / planes.shape[-1]
    return {"first": planes.mean(-1), "second": products}


def _distance(prediction: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """||p - t|| / ||t|| of profiles (d, i, j), every distance counting by ``weights`` (d,)."""
    weights = weights[:, None, None]
    return torch.sqrt((weights * (prediction - target) ** 2).sum() / (weights * target**2).sum())


def _moments(velocity: Tensor, grid: Grid) -> dict[str, Tensor]:
    """``first`` and ``second``: integrals of u_i, (batch, 3), and of u_i u_j, (batch, 3, 3)."""
    velocity = velocity.to(torch.float64)
    rows = [volume_sum(velocity[:, i : i + 1] * velocity, grid, keep=2) for i in range(3)]
    return {"first": volume_sum(velocity, grid, keep=2), "second": torch.stack(rows, dim=1)}


def _stress(first: Tensor, second: Tensor, volume: Tensor) -> Tensor:
    mean = first / volume[..., None]
    return second / volume[..., None, None] - mean[..., :, None] * mean[..., None, :]
