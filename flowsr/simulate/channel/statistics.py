"""Statistics of a turbulent channel: one row of diagnostics, and profiles averaged over planes and time."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from flowsr.simulate.channel.chebyshev import gauss_points, interpolation_matrix, quadrature
from flowsr.simulate.channel.solver import ChannelSolver
from flowsr.simulate.channel.space import HALF_HEIGHT, HEIGHT, ChannelSpace

PROFILE_COLUMNS = ("y", "y_plus", "u_plus", "uu_plus", "vv_plus", "ww_plus", "uv_plus", "viscous_plus")
MOMENTS = ("u", "uu", "vv", "ww", "uv", "slope")
PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1))


class ChannelStatistics:
    """What is measured in a channel, with its matrices made once.

    Args:
        space: the discrete space.
    """

    def __init__(self, space: ChannelSpace):
        self.space = space
        ny = space.cells[1]
        points, weights = quadrature(ny + 1)
        interpolation = interpolation_matrix(ny, points)
        values = np.concatenate([interpolation, interpolation @ space.basis.derivative])
        self._quadrature = space.tensor(values).to(space.complex_dtype)  # values and slopes from values on the faces
        self._weights = space.tensor(weights / HEIGHT)
        self._faces = space.evaluation(space.points)
        self._centres = space.evaluation(gauss_points(ny))
        self._marks = space.evaluation(np.array([-HALF_HEIGHT, 0.0, HALF_HEIGHT]))

    def diagnose(self, solver: ChannelSolver) -> dict[str, float]:
        """Statistics of the solver's present state by name; volume averages, in the run's units.

        - time, step, and cfl of the step last taken (NaN before the first);
        - energy K = <u.u>/2, dissipation eps = nu <|grad u|^2>, injected_power: dK/dt = injected_power - eps;
        - bulk_velocity U_b, mean of u over the channel; centerline_velocity, mean of u at y = 0;
        - u_tau = sqrt(nu |dU/dy|), the shear averaged over both walls, and reynolds_tau = u_tau h / nu;
        - u_rms, v_rms, w_rms: fluctuations about the plane averages.
        """
        space, nu = self.space, solver.viscosity
        velocity = space.velocity(solver.state, self._faces)
        nodal = torch.einsum("qj,cjxz->cqxz", self._quadrature, velocity)
        values, slopes = nodal.chunk(2, dim=1)
        squares = self._volume(values)
        gradient = self._volume(slopes).sum() + self._volume(values * space.k_squared.sqrt()).sum()
        mean = values[:, :, 0, 0].real
        fluctuations = squares - mean.square() @ self._weights
        bulk = float(mean[0] @ self._weights)
        _, centerline, _, low, _, high = (self._marks @ solver.state[1, :, 0, 0].real).tolist()
        shear = (low - high) / 2  # dU/dn averaged over the two walls, n into the fluid
        u_tau = math.sqrt(nu * abs(shear))
        pressure_gradient = solver.drive.pressure_gradient
        if pressure_gradient is None:  # whatever holds the bulk velocity balances the walls' drag
            pressure_gradient = nu * shear / HALF_HEIGHT
        rms = fluctuations.clamp_min(0).sqrt().tolist()
        return {
            "time": solver.time,
            "step": solver.step,
            "cfl": solver.courant,
            "energy": float(squares.sum()) / 2,
            "dissipation": nu * float(gradient),
            "injected_power": pressure_gradient * bulk,
            "bulk_velocity": bulk,
            "centerline_velocity": centerline,
            "u_tau": u_tau,
            "reynolds_tau": u_tau * HALF_HEIGHT / nu,
            **dict(zip(("u_rms", "v_rms", "w_rms"), rms)),
        }

    def moments(self, state: Tensor) -> np.ndarray:
        """(6, Ny) plane averages of u, u u, v v, w w, u v and dU/dy at the cell centres, mean flow included."""
        velocity = self.space.velocity(state, self._centres)
        products = [self._plane(velocity[a], velocity[b]) for a, b in PAIRS]
        u, slope = (self._centres @ state[1, :, 0, 0].real).chunk(2)
        return torch.stack([u, *products, slope]).cpu().numpy()

    def _plane(self, a: Tensor, b: Tensor) -> Tensor:
        """Plane average of a b from coefficients (points, x, z)."""
        return ((a.real * b.real + a.imag * b.imag).sum(1) * self.space.weight).sum(1)

    def _volume(self, values: Tensor) -> Tensor:
        """(components,) volume averages of squares, from coefficients (components, points, x, z) at the quadrature."""
        return torch.stack([self._plane(each, each) for each in values]) @ self._weights


class ProfileSums:
    """Time integrals of plane averages.

    Args:
        cells: Ny.

    Attributes:
        sums: (6, Ny), time integrals of :meth:`ChannelStatistics.moments`.
        time: how long was averaged over.
    """

    def __init__(self, cells: int):
        self.sums, self.time = np.zeros((len(MOMENTS), cells)), 0.0

    def add(self, moments: np.ndarray, duration: float) -> None:
        """Let moments count for a stretch of time."""
        self.sums += duration * moments
        self.time += duration


def profile_table(sums: ProfileSums, viscosity: float) -> str:
    """Profiles in wall units as CSV; lines with '#' above them give what they are made dimensionless with.

    Columns: y; distance from the nearer wall y+; mean U+; Reynolds stresses <u'u'>+, <v'v'>+, <w'w'>+, <u'v'>+ of the
    fluctuations about the mean over planes and time; viscous stress dU+/dy+. u_tau is that of the total stress, which
    is linear in a steady flow, tau(y) = -u_tau^2 y, by least squares.
    """
    y = gauss_points(sums.sums.shape[1])
    mean, *products, slope = sums.sums / sums.time
    stresses = [product - mean * other for product, other in zip(products, (mean, 0.0, 0.0, 0.0))]
    weights = _cell_weights(len(y))
    total = viscosity * slope - stresses[3]
    u_tau = math.sqrt(abs(weights @ (total * y) / (weights @ (y * y))))
    bulk = float(weights @ mean) / HEIGHT
    re_tau = u_tau * HALF_HEIGHT / viscosity
    heads = {"viscosity": viscosity, "u_tau": u_tau, "reynolds_tau": re_tau, "bulk_velocity": bulk}
    heads["averaged_over"] = sums.time
    lines = [f"# {name} = {value!r}" for name, value in heads.items()]
    lines.append(",".join(PROFILE_COLUMNS))
    depth = 1 - np.abs(y)
    columns = [y, depth * re_tau, mean / u_tau, *(s / u_tau**2 for s in (*stresses, viscosity * slope))]
    lines += [",".join(repr(float(value)) for value in row) for row in zip(*columns)]
    return "\n".join(lines) + "\n"


def _cell_weights(cells: int) -> np.ndarray:
    """Weights on the Chebyshev-Gauss points that integrate polynomials of degree Ny - 1 (Fejer's first rule)."""
    angle = np.pi * (np.arange(cells) + 0.5) / cells
    order = np.arange(1, cells // 2 + 1)
    series = np.cos(2 * angle[:, None] * order) / (4 * order**2 - 1)
    return 2 / cells * (1 - 2 * series.sum(axis=1))
