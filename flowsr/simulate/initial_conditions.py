"""Initial velocity fields, as coefficients: solenoidal and truncated, evaluated at the true cell centres."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from flowsr.errors import FlowsrError
from flowsr.simulate.spectral import PeriodicBox


def angles(box: PeriodicBox) -> tuple[Tensor, Tensor, Tensor]:
    """Cell centres in radians of the box's own period."""
    return tuple(2 * math.pi / length * x for x, length in zip(box.coordinates(), box.grid.lengths))


def coefficients_of(box: PeriodicBox, u, v, w) -> Tensor:
    """Coefficients of three components that broadcast over (x, y, z)."""
    field = torch.stack([c.expand(box.grid.shape) for c in (u, v, w)])
    return box.forward(field.to(box.dtype).to(box.device))


def taylor_green(box: PeriodicBox) -> Tensor:
    """Taylor-Green vortex: u = sin x cos y cos z, v = -cos x sin y cos z, w = 0, with x in radians of each side.

    On unequal sides v is scaled by L_y / L_x, so it stays solenoidal (Brachet et al., J. Fluid Mech. 130, 411, 1983).

    Returns:
        (3, Nx, Ny, Nz // 2 + 1); kinetic energy 1/8 on a cube.
    """
    x, y, z = angles(box)
    ratio = box.grid.lengths[1] / box.grid.lengths[0]
    u = torch.sin(x) * torch.cos(y) * torch.cos(z)
    v = -ratio * torch.cos(x) * torch.sin(y) * torch.cos(z)
    return coefficients_of(box, u, v, torch.zeros_like(u))


def abc(box: PeriodicBox, a: float = 1.0, b: float = 1.0, c: float = 1.0) -> Tensor:
    """Arnold-Beltrami-Childress flow, curl u = k u with k = 2 pi / L: it decays as exp(-nu k^2 t) and keeps its shape.

    u = a sin z + c cos y, v = b sin x + a cos z, w = c sin y + b cos x (Dombre et al., J. Fluid Mech. 167, 353, 1986).

    Returns:
        (3, Nx, Ny, Nz // 2 + 1); kinetic energy (a^2 + b^2 + c^2) / 2.

    Raises:
        FlowsrError: a box whose sides are not equal.
    """
    if len({round(length, 12) for length in box.grid.lengths}) != 1:
        raise FlowsrError("the ABC flow needs a cube", expected="equal side lengths", found=box.grid.lengths)
    x, y, z = angles(box)
    u = a * torch.sin(z) + c * torch.cos(y)
    v = b * torch.sin(x) + a * torch.cos(z)
    w = c * torch.sin(y) + b * torch.cos(x)
    return coefficients_of(box, u, v, w)


def random_solenoidal(box: PeriodicBox, seed: int, energy: float, k_peak: float) -> Tensor:
    """Gaussian random solenoidal field with E(k) proportional to k^4 exp(-2 (k / k_peak)^2).

    White noise is drawn in physical space on the CPU in float64, so every device and precision starts from one field.

    Args:
        box: the Fourier space.
        seed: seed of the generator.
        energy: kinetic energy per unit mass, exactly.
        k_peak: wavenumber of the spectrum's maximum (Rogallo, NASA TM 81315, 1981, has the construction).

    Returns:
        (3, Nx, Ny, Nz // 2 + 1).
    """
    space, coefficients = _white_noise(box, seed)
    # Per mode |u|^2 is E(k) / (4 pi k^2), so the amplitude is k exp(-(k / k_peak)^2).
    coefficients *= space.k_squared.sqrt() * torch.exp(-space.k_squared / k_peak**2)
    space.project(coefficients, space.empty(1)[0])
    coefficients *= torch.sqrt(2 * energy / space.inner(coefficients, coefficients))
    return coefficients.to(box.complex_dtype).to(box.device)


def from_spectrum(box: PeriodicBox, seed: int, wavenumber: Sequence[float], energy: Sequence[float]) -> Tensor:
    """Random solenoidal field whose spectrum E(k) is a given table, exactly so in every shell.

    Shells are one lowest wavenumber thick, centred on its multiples, and hold E(k) times their thickness. The table is
    interpolated linearly in the logarithms of both; beyond its ends there is no energy.

    Args:
        box: the Fourier space.
        seed: seed of the generator of the phases; the same field on every device and in either precision.
        wavenumber: (n,) increasing, radians per length.
        energy: (n,) E(k), positive, length cubed per time squared.

    Returns:
        (3, Nx, Ny, Nz // 2 + 1).

    Raises:
        FlowsrError: a table that is not increasing and positive, or that has no shell of the box.
    """
    k, e = np.asarray(wavenumber, dtype=np.float64), np.asarray(energy, dtype=np.float64)
    if k.ndim != 1 or k.shape != e.shape or len(k) < 2 or not (np.all(np.diff(k) > 0) and k[0] > 0 and np.all(e > 0)):
        expected = "two rows or more of k, E(k), k increasing, both positive"
        raise FlowsrError("not a spectrum", variable="spectrum", expected=expected)
    space, coefficients = _white_noise(box, seed)
    lowest, shell = space.lowest, space.shells()
    centres = lowest * np.arange(int(shell.max()) + 1)
    inside = (centres >= k[0]) & (centres <= k[-1])
    wanted = np.where(inside, np.exp(np.interp(np.log(np.maximum(centres, k[0])), np.log(k), np.log(e))), 0.0) * lowest
    space.project(coefficients, space.empty(1)[0])
    present = space.shell_energies(coefficients)
    wanted = torch.from_numpy(wanted).where(present > 0, 0.0)
    if not float(wanted.sum()) > 0:
        expected, found = f"wavenumbers between {lowest:g} and {box.k_max:g}", f"{k[0]:g} to {k[-1]:g}"
        message = "no shell of the box lies in the spectrum"
        raise FlowsrError(message, variable="spectrum", expected=expected, found=found)
    factor = torch.sqrt(wanted / present.clamp_min(torch.finfo(torch.float64).tiny))
    coefficients *= factor[shell]
    return coefficients.to(box.complex_dtype).to(box.device)


def _white_noise(box: PeriodicBox, seed: int) -> tuple[PeriodicBox, Tensor]:
    """The same Fourier space on the CPU in float64, and coefficients of white noise there."""
    space = PeriodicBox(box.grid, dealiasing=box.dealiasing, dtype=torch.float64)
    noise = torch.randn(3, *space.grid.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return space, space.forward(noise)
