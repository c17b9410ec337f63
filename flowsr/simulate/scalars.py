"""Scalars carried by the flow, passive or buoyant, and the forces they feel and exert."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowsr.simulate.forces import VELOCITY, Force, Triple
from flowsr.simulate.spectral import PeriodicBox, flat_real


@dataclass(frozen=True)
class Scalar:
    """A scalar s that is advected and diffuses: ds/dt + u . grad s = kappa lap s + forces.

    Args:
        name: of its variable in the store.
        diffusivity: kappa, length squared per time.
        units, long_name: of the variable.
    """

    name: str
    diffusivity: float
    units: str = "1"
    long_name: str = "scalar"


class Stratification(Force):
    """Boussinesq buoyancy: b e on the velocity, -N^2 u . e on the scalar b, with e the upward direction.

    Without viscosity the sum of kinetic energy and <b^2> / (2 N^2) is kept. Internal gravity waves have the frequency
    N |k x e| / k (Lighthill, Waves in Fluids, 1978, section 4.1).

    Args:
        frequency: buoyancy frequency N times e: its components along x, y, z, radians per time.
        component: which component of the state is the buoyancy b, length per time squared.
    """

    drives = False

    def __init__(self, frequency: Triple, component: int = 3):
        self.frequency = math.sqrt(sum(float(f) ** 2 for f in frequency))
        self.up = tuple(float(f) / self.frequency for f in frequency)
        self.component = int(component)

    def add(self, state: Tensor, tendency: Tensor) -> None:
        source, target = flat_real(state), flat_real(tendency)
        for a, up in enumerate(self.up):
            if up:
                target[a].add_(source[self.component], alpha=up)
                target[self.component].add_(source[a], alpha=-(self.frequency**2) * up)

    def diagnostics(self, solver) -> dict[str, float]:
        """Budget of the potential energy E_p = <b^2> / (2 N^2): dE_p/dt = -buoyancy_flux - potential_dissipation.

        buoyancy_flux <b u . e> is what the kinetic energy gains; froude is u' / (N L) with the integral length L, or
        eps / (N u'^2) where L has no value, here eps / (N K) as in Lindborg, J. Fluid Mech. 550, 207, 2006.
        """
        box, buoyancy = solver.box, solver.state[self.component][None]
        vertical = sum(up * u for up, u in zip(self.up, solver.velocity))[None]
        energy = float(box.inner(solver.velocity, solver.velocity)) / 2
        gradient = float(box.inner(solver.velocity, solver.velocity, box.k_squared))
        kappa = solver.scalars[self.component - 3].diffusivity
        return {
            "potential_energy": float(box.inner(buoyancy, buoyancy)) / (2 * self.frequency**2),
            "potential_dissipation": kappa * float(box.inner(buoyancy, buoyancy, box.k_squared)) / self.frequency**2,
            "buoyancy_flux": float(box.inner(buoyancy, vertical)),
            "froude": solver.viscosity * gradient / (self.frequency * energy) if energy else math.nan,
        }


class MeanGradient(Force):
    """-u . G on a passive scalar: fluctuations about a uniform mean gradient G, which feeds them for ever.

    Args:
        gradient: G along x, y, z, scalar per length; zero for a scalar that only decays.
        component: which component of the state is the scalar.
    """

    drives = False

    def __init__(self, gradient: Triple, component: int = 3):
        self.gradient, self.component = tuple(float(g) for g in gradient), int(component)

    def add(self, state: Tensor, tendency: Tensor) -> None:
        source, target = flat_real(state), flat_real(tendency)
        for a, slope in enumerate(self.gradient):
            if slope:
                target[self.component].add_(source[a], alpha=-slope)

    def diagnostics(self, solver) -> dict[str, float]:
        """Budget of the variance V = <s^2> / 2: dV/dt = scalar_production - scalar_dissipation."""
        box, scalar = solver.box, solver.state[self.component][None]
        kappa = solver.scalars[self.component - 3].diffusivity
        fed = sum(-slope * u for slope, u in zip(self.gradient, solver.velocity[VELOCITY]))[None]
        return {
            "scalar_energy": float(box.inner(scalar, scalar)) / 2,
            "scalar_dissipation": kappa * float(box.inner(scalar, scalar, box.k_squared)),
            "scalar_production": float(box.inner(scalar, fed)) if any(self.gradient) else 0.0,
        }


def random_scalar(box: PeriodicBox, velocity: Tensor, seed: int, variance: float) -> Tensor:
    """A random scalar with the spectrum of the velocity's large scales: one component of an independent random field.

    Args:
        box: the Fourier space.
        velocity: (3, ...) coefficients whose spectrum's shape it takes, mode by mode.
        seed: of its phases, apart from those of the velocity.
        variance: <s^2>, exactly.

    Returns:
        (Nx, Ny, Nz // 2 + 1).
    """
    noise = torch.randn(box.grid.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    coefficients = box.forward(noise.to(box.dtype).to(box.device))
    coefficients = coefficients * velocity.abs().square().sum(0).sqrt()
    coefficients[0, 0, 0] = 0
    norm = box.inner(coefficients[None], coefficients[None]).clamp_min(torch.finfo(torch.float64).tiny)
    return coefficients * torch.sqrt(variance / norm).to(box.dtype)
