"""Channels for the tests: velocities on the faces, and reference solutions."""

import math

import numpy as np
import torch

from flowsr.simulate.channel import ChannelSpace


def on_faces(space: ChannelSpace, state) -> torch.Tensor:
    """Velocity (3, Nx, Ny + 1, Nz) at cell centres along x and z and Lobatto points along y, mode by mode."""
    _nx, _ny, _nz = space.cells
    x, _, z = space.coordinates()
    coefficients = space.velocity(state, space.evaluation(space.points)).numpy()
    wave_x = np.exp(1j * np.outer(space.kx[:, 0], x))
    wave_z = np.exp(1j * np.outer(space.kz[0], z)) * space.weight.numpy()[:, None]
    return torch.from_numpy(np.einsum("cyab,ax,bz->cxyz", coefficients, wave_x, wave_z, optimize=True).real.copy())


def shear_flow(space: ChannelSpace, profile, disturbance=None) -> torch.Tensor:
    """State of a mean profile u(y) and a disturbance(x, y, z) -> (u, v, w)."""
    x, _, z = (torch.from_numpy(c) for c in space.coordinates())
    y = torch.from_numpy(space.points)
    shape = (space.cells[0], space.cells[1] + 1, space.cells[2])
    field = torch.zeros(3, *shape, dtype=torch.float64)
    field[0] = profile(y)[None, :, None]
    if disturbance is not None:
        parts = disturbance(x[:, None, None], y[None, :, None], z[None, None, :])
        field += torch.stack([torch.as_tensor(part).expand(shape) for part in parts])
    return space.state(field)


def random_state(space: ChannelSpace, seed: int = 0, amplitude: float = 1.0) -> torch.Tensor:
    """A solenoidal state without any symmetry that obeys no-slip, smooth enough for its grid; no mean flow."""
    generator = torch.Generator().manual_seed(seed)
    y = space.points
    state = space.zeros()
    for slot, envelope in ((0, (1 - y**2) ** 2), (1, 1 - y**2)):
        shapes = np.stack([envelope * np.cos(n * np.arccos(y)) for n in range(4)], axis=1)
        fit = space.tensor(space.basis.inverse @ shapes).to(state.dtype)
        draws = torch.randn(4, *space.modes, dtype=state.dtype, generator=generator)
        draws *= torch.exp(-(space.k_squared / space.k_squared.max()) * 8)
        state[slot] = torch.einsum("jn,nxz->jxz", fit, draws)
    state[:, :, 0, 0] = 0
    space.enforce_reality(state)
    return state * (amplitude / math.sqrt((space.field(state) ** 2).mean()))


def orr_sommerfeld(alpha: float, reynolds: float, degree: int = 96):
    """The most unstable mode v(y) exp(i alpha (x - c t)) of plane Poiseuille flow, from a dense eigenproblem.

    (U - c)(D^2 - a^2) v - U'' v = (D^2 - a^2)^2 v / (i a Re), v = v' = 0 at the walls (Orszag, J. Fluid Mech. 50, 689,
    1971), by Chebyshev coefficients: v is a series of (1 - y^2)^2 T_n, tested at Gauss points.

    Returns:
        c, and v and v' as functions of y.
    """
    from scipy.linalg import eig

    cheb = np.polynomial.chebyshev
    envelope = cheb.poly2cheb([1, 0, -2, 0, 1])
    series = [cheb.chebmul(envelope, np.eye(degree)[n]) for n in range(degree)]
    y = np.cos(np.pi * (np.arange(degree) + 0.5) / degree)
    v, v2, v4 = (np.stack([cheb.chebval(y, cheb.chebder(s, d)) for s in series], axis=1) for d in (0, 2, 4))
    laplacian = v2 - alpha**2 * v
    bilaplacian = v4 - 2 * alpha**2 * v2 + alpha**4 * v
    base = (1 - y**2)[:, None]
    left = base * laplacian + 2 * v - bilaplacian / (1j * alpha * reynolds)
    values, vectors = eig(left, laplacian)
    good = np.isfinite(values) & (np.abs(values) < 10)
    best = np.argmax(np.where(good, values.imag, -np.inf))
    shape = sum(coefficient * np.pad(s, (0, degree + 4 - len(s))) for coefficient, s in zip(vectors[:, best], series))
    return values[best], *(lambda y, d=d: cheb.chebval(y, cheb.chebder(shape, d)) for d in (0, 1))
