"""Initial states of a channel: a mean profile, turbulent or laminar, with a random solenoidal disturbance."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flowsr.registry import Registry
from flowsr.simulate.channel.chebyshev import quadrature
from flowsr.simulate.channel.space import HEIGHT, ChannelSpace

PROFILES: Registry = Registry("start of a channel")

KARMAN, DAMPING = 0.426, 25.4  # of Cess's eddy viscosity, fitted to channels (del Alamo and Jimenez 2006)
QUADRATURE = 200
DISTURBED_MODES = 4  # on either side of zero, along x and z: the same disturbance on every grid that has them
DISTURBED_DEGREES = 8
DISTURBANCE = 1.0  # root mean square of a component of the disturbance, in friction velocities


@PROFILES.register("turbulent")
def turbulent_profile(y: np.ndarray, re_tau: float) -> np.ndarray:
    """Mean profile of a turbulent channel in friction velocities: -Re_tau y = (1 + nu_t / nu) dU/dy.

    With Cess's eddy viscosity (Reynolds and Tiederman, J. Fluid Mech. 27, 253, 1967; constants of del Alamo and
    Jimenez, J. Fluid Mech. 559, 205, 2006).

    Args:
        y: points from -1 to 1.
        re_tau: friction Reynolds number u_tau h / nu.
    """
    nodes, weights = quadrature(QUADRATURE)
    depth = 1 - np.abs(np.asarray(y, dtype=float))  # from the nearer wall
    # The integral from the wall, with points crowded towards it: distance = depth * t^2.
    t, dt = (nodes + 1) / 2, weights / 2
    distance = depth[:, None] * t**2
    return (_slope(1 - distance, re_tau) * 2 * depth[:, None] * t) @ dt


def _slope(height: np.ndarray, re_tau: float) -> np.ndarray:
    """dU/d(distance from the wall) at a height (0 to 1) above or below the middle."""
    damping = 1 - np.exp((height - 1) * re_tau / DAMPING)
    mixing = KARMAN * re_tau / 3 * (1 - height**2) * (1 + 2 * height**2) * damping
    return re_tau * height / (0.5 + 0.5 * np.sqrt(1 + mixing**2))


@PROFILES.register("laminar")
def laminar_profile(y: np.ndarray, re_tau: float) -> np.ndarray:
    """The parabola that the same pressure gradient drives, in friction velocities: far faster than turbulence."""
    return re_tau / 2 * (1 - np.asarray(y, dtype=float) ** 2)


def bulk_velocity(re_tau: float) -> float:
    """Mean velocity of a turbulent channel in friction velocities: 15.7 at Re_tau 180.

    From Re_tau = 0.09 (2 Re_b)^0.88 (Pope, Turbulent Flows, 2000, section 7.1.5).
    """
    return (re_tau / 0.09) ** (1 / 0.88) / (2 * re_tau)


def disturbed(space: ChannelSpace, profile: str, re_tau: float, seed: int) -> Tensor:
    """A state: mean profile, scaled to the bulk velocity of turbulence at this Re_tau, and random disturbance.

    The disturbance fills the lowest modes and is strong enough to become turbulence at once.
    It is solenoidal and obeys no-slip: v is (1 - y^2)^2 and omega_y is (1 - y^2) times a random polynomial.
    It is drawn on the CPU, mode by mode, so that every device and grid starts from one flow.

    Args:
        profile: registered name, ``turbulent`` or ``laminar``.
        seed: of the disturbance.
    """
    y, fit = space.points, space.tensor(space.basis.inverse)
    state = space.zeros()
    reach = min(DISTURBED_MODES, space.cells[0] // 2 - 1), min(DISTURBED_MODES, space.cells[2] // 2 - 1)
    degrees = min(DISTURBED_DEGREES, space.cells[1] - 3)  # the envelope is of degree four
    damping = 1 - y**2
    for slot, envelope in ((0, damping**2), (1, damping)):
        chebyshev = np.cos(np.arange(degrees) * np.arccos(np.clip(y, -1, 1))[:, None])
        shapes = fit @ space.tensor(envelope[:, None] * chebyshev)
        amplitudes = _amplitudes(space, reach, seed, slot)[:degrees]
        state[slot] = torch.einsum("jn,nxz->jxz", shapes.to(state.dtype), amplitudes)
    state[:, :, 0, 0] = 0
    space.enforce_reality(state)
    alone = [torch.stack([state[0], torch.zeros_like(state[0])]), torch.stack([torch.zeros_like(state[1]), state[1]])]
    for slot, part in enumerate(alone):
        state[slot] *= DISTURBANCE * torch.sqrt(0.5 / (space.field(part) ** 2).mean())
    mean = fit @ space.tensor(PROFILES[profile](y, re_tau))
    mean *= bulk_velocity(re_tau) * HEIGHT / (space.integrals() @ mean)
    state[1, :, 0, 0] = mean.to(state.dtype)
    return state


def _amplitudes(space: ChannelSpace, reach: tuple[int, int], seed: int, slot: int) -> Tensor:
    """(degrees, x, z) complex Gaussian amplitudes of the disturbed modes."""
    side = 2 * DISTURBED_MODES + 1
    generator = np.random.default_rng([seed, slot])
    draws = generator.standard_normal((2, DISTURBED_DEGREES, side, DISTURBED_MODES + 1))
    amplitudes = torch.zeros(DISTURBED_DEGREES, *space.modes, dtype=space.complex_dtype)
    for m in range(-reach[0], reach[0] + 1):
        real, imaginary = draws[:, :, m + DISTURBED_MODES, : reach[1] + 1]
        amplitudes[:, m, : reach[1] + 1] = torch.from_numpy(real + 1j * imaginary)
    return amplitudes.to(space.device)
