"""Body forces that are fixed in space and time: Kolmogorov's, its four-fold sister, ABC."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowsr.simulate.forces import VELOCITY, Force
from flowsr.simulate.initial_conditions import abc, angles
from flowsr.simulate.spectral import PeriodicBox, flat_real


class Pattern(Force):
    """A steady body force.

    Args:
        box: the Fourier space it acts in.
        pattern: (3, Nx, Ny, Nz // 2 + 1) coefficients of its shape, without a unit.
        amplitude: F, length per time squared.
    """

    def __init__(self, box: PeriodicBox, pattern: Tensor, amplitude: float):
        self.box, self.pattern, self.coefficients = box, pattern, amplitude * pattern

    def add(self, state: Tensor, tendency: Tensor) -> None:
        members = tendency.dim() - 4
        flat_real(tendency[VELOCITY]).add_(flat_real(self.coefficients if not members else self.coefficients[:, None]))

    def diagnostics(self, solver) -> dict[str, float]:
        """pattern_velocity: amplitude U of the flow that follows the force, the velocity's part along the pattern.

        For Kolmogorov's force it is that of the mean profile U sin(k y), before averaging over time.
        """
        square = float(self.box.inner(self.pattern, self.pattern))
        return {"pattern_velocity": float(self.box.inner(self.pattern, solver.velocity)) / square}


def kolmogorov(box: PeriodicBox, amplitude: float, mode: int = 1) -> Pattern:
    """F sin(k y) e_x with k = 2 pi mode / L_y: Kolmogorov flow (Meshalkin and Sinai 1961; Borue and Orszag, J. Fluid
    Mech. 306, 293, 1996)."""
    _, y, _ = angles(box)
    zero = torch.zeros_like(y)
    return Pattern(box, _coefficients(box, torch.sin(mode * y), zero, zero), amplitude)


def kolmogorov_fourfold(box: PeriodicBox, amplitude: float, mode: int = 1) -> Pattern:
    """F (sin(k y) e_x + sin(k x) e_y): a quarter turn about z, followed by half a period, leaves it as it is."""
    x, y, _ = angles(box)
    zero = torch.zeros_like(y)
    return Pattern(box, _coefficients(box, torch.sin(mode * y), torch.sin(mode * x), zero), amplitude)


def abc_force(box: PeriodicBox, amplitude: float) -> Pattern:
    """F times the Arnold-Beltrami-Childress field with A = B = C = 1: helical (Galanti and Sulem, Phys. Fluids A 3,
    1778, 1991).

    Raises:
        FlowsrError: a box whose sides are not equal.
    """
    return Pattern(box, abc(box), amplitude)


def _coefficients(box: PeriodicBox, *components) -> Tensor:
    field = torch.stack([c.expand(box.grid.shape) for c in components])
    return box.forward(field.to(box.dtype).to(box.device))


# Friction coefficient of turbulent Kolmogorov flow, F / (k U^2) = 0.124 (Musacchio and Boffetta, Phys. Rev. E 89,
# 023004, 2014). With P = F U / 2 the amplitude for a power P follows.
KOLMOGOROV_FRICTION = 0.124


def kolmogorov_amplitude(power: float, wavenumber: float) -> float:
    """Amplitude F that puts about the power P into turbulent Kolmogorov flow: (4 f)^(1/3) (P^2 k)^(1/3)."""
    return (4 * KOLMOGOROV_FRICTION * power**2 * wavenumber) ** (1 / 3)


def lowest_wavenumber(box: PeriodicBox, axis: int, mode: int = 1) -> float:
    """2 pi mode / L along an axis."""
    return 2 * math.pi * mode / box.grid.lengths[axis]


# The same for the other two, F = c (P^2 k)^(1/3), measured in steady runs at 32^3 (docs/simulation.md).
FOURFOLD_FACTOR = 0.62
ABC_FACTOR = 0.335


def fourfold_amplitude(power: float, wavenumber: float) -> float:
    """Amplitude F that puts about the power P into the four-fold flow."""
    return FOURFOLD_FACTOR * (power**2 * wavenumber) ** (1 / 3)


def abc_amplitude(power: float, wavenumber: float) -> float:
    """Amplitude F that puts about the power P into ABC-forced turbulence."""
    return ABC_FACTOR * (power**2 * wavenumber) ** (1 / 3)
