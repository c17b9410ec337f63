"""Body forces: small objects, each of which adds itself to the right-hand side, so that any number of them add up.

A force need not be solenoidal: the solver projects the sum, the pressure takes the rest. Here are the forces that drive
isotropic turbulence; those fixed in space are in :mod:`flowsr.simulate.patterns`, those of a rotating or moving frame
in :mod:`flowsr.simulate.frames`, those that scalars exert or feel in :mod:`flowsr.simulate.scalars`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from flowsr.simulate.spectral import PeriodicBox, flat_real

VELOCITY = slice(0, 3)  # components of a state that are the velocity; scalars come after


class Force(ABC):
    """Anything that can add its acceleration to a right-hand side.

    Attributes:
        drives: its work on the velocity is injected power; otherwise it exchanges energy with another form or does none.
        closing: it looks at the sum of all others (convection included) and is therefore added last.
        frequency: of the fastest wave it makes, radians per time; the time step resolves it.
        mean_velocity: of the frame, on top of the velocity that is stepped.
    """

    drives = True
    closing = False
    frequency = 0.0
    mean_velocity = (0.0, 0.0, 0.0)

    @abstractmethod
    def add(self, state: Tensor, tendency: Tensor) -> None:
        """Add the force's coefficients to ``tendency`` in place.

        Args:
            state: (3 + scalars, [member,] Nx, Ny, Nz // 2 + 1) coefficients, velocity first, not to be changed.
            tendency: the same shape, units of the state per time; holds what was added before.
        """

    def diagnostics(self, solver) -> dict[str, float]:
        """The force's own columns in the table of diagnostics."""
        return {}


class Band:
    """The kept modes with 0 < |k| < cutoff of a box, gathered into a short list.

    Args:
        box: the Fourier space.
        cutoff: radians per length.

    Raises:
        ValueError: no kept mode below the cutoff.
    """

    def __init__(self, box: PeriodicBox, cutoff: float):
        inside = (box.k_squared > 0) & (box.k_squared < cutoff**2) & (box.mask > 0)
        self.modes = inside.flatten().nonzero().squeeze(1)
        if not len(self.modes):
            raise ValueError(f"no mode of the box has 0 < k < {cutoff}")
        self.weight = box.weight.expand(box.shape).flatten()[self.modes]
        self.wavenumber = torch.stack([k.expand(box.shape).flatten()[self.modes] for k in box.wavenumber])

    def gather(self, velocity: Tensor) -> Tensor:
        """(component, [member,] modes) of (component, [member,] Nx, Ny, Nz // 2 + 1) coefficients."""
        return velocity.flatten(-3).index_select(-1, self.modes)

    def scatter_add(self, band: Tensor, tendency: Tensor) -> None:
        """Add (component, [member,] modes) to coefficients in place."""
        tendency.view(*tendency.shape[:-3], -1).index_add_(-1, self.modes, band)

    def mean_square(self, band: Tensor) -> Tensor:
        """<u . u> of (component, [member,] modes), one number or one a member."""
        return (torch.view_as_real(band).square().sum((0, -1)) * self.weight).sum(-1)

    def curl_over_k(self, band: Tensor) -> Tensor:
        """i k x u / |k|: +u on right-handed helical waves, -u on left-handed ones."""
        k = self.wavenumber
        crossed = torch.stack([k[b] * band[c] - k[c] * band[b] for b, c in ((1, 2), (2, 0), (0, 1))])
        return crossed * 1j * k.square().sum(0).rsqrt()


def _power_rate(power: float, mean_square: Tensor) -> Tensor:
    return power / mean_square.clamp_min(torch.finfo(mean_square.dtype).tiny)


class BandPower(Force):
    """Constant power per unit mass, spent on the large scales: f = P u_band / <u_band . u_band>.

    u_band is the part of the velocity with 0 < |k| < cutoff, so that <f . u> = P at every instant (Ghosal, Lund, Moin
    and Akselvoll, J. Fluid Mech. 286, 229, 1995; Machiels, Phys. Rev. Lett. 79, 3411, 1997).

    Args:
        box: the Fourier space it acts in.
        power: P, length squared per time cubed.
        cutoff: radians per length.

    Raises:
        ValueError: no kept mode below the cutoff.
    """

    def __init__(self, box: PeriodicBox, power: float, cutoff: float):
        self._band = Band(box, cutoff)
        self.power, self.cutoff = float(power), float(cutoff)

    def add(self, state: Tensor, tendency: Tensor) -> None:
        band = self._band.gather(state[VELOCITY])
        rate = _power_rate(self.power, self._band.mean_square(band))
        self._band.scatter_add(band * rate[..., None], tendency[VELOCITY])


class HelicalPower(Force):
    """Constant power, spent on right-handed helical waves of the large scales only.

    u+ = (u_band + i k x u_band / k) / 2 is the right-handed part of the velocity in 0 < |k| < cutoff (Waleffe, Phys.
    Fluids A 4, 350, 1992); f = P u+ / <u+ . u+>. Energy goes in at the rate P, and helicity with it: rotations leave
    the force as it is, reflections do not.

    Args:
        box: the Fourier space it acts in.
        power: P, length squared per time cubed.
        cutoff: radians per length.

    Raises:
        ValueError: no kept mode below the cutoff.
    """

    def __init__(self, box: PeriodicBox, power: float, cutoff: float):
        self._band = Band(box, cutoff)
        self.power, self.cutoff = float(power), float(cutoff)

    def add(self, state: Tensor, tendency: Tensor) -> None:
        band = self._band.gather(state[VELOCITY])
        right = (band + self._band.curl_over_k(band)) * 0.5
        rate = _power_rate(self.power, self._band.mean_square(right))
        self._band.scatter_add(right * rate[..., None], tendency[VELOCITY])

    def diagnostics(self, solver) -> dict[str, float]:
        """helicity <u . omega>, length per time squared."""
        return {"helicity": helicity(solver)}


def helicity(solver) -> float:
    """<u . omega> of the solver's present velocity."""
    curl = torch.empty_like(solver.velocity)
    solver.box.curl(solver.velocity, out=curl)
    return float(solver.box.inner(solver.velocity, curl))


class LinearForcing(Force):
    """f = P u / <u . u> at all wavenumbers: Lundgren's linear forcing with its rate tied to a constant power.

    Lundgren, CTR Annual Research Briefs 2003, p. 461; Rosales and Meneveau, Phys. Fluids 17, 095106, 2005. Needs no
    Fourier space to be stated, and ends with an integral length of a fifth of the box.

    Args:
        box: the Fourier space it acts in.
        power: P, length squared per time cubed.
    """

    def __init__(self, box: PeriodicBox, power: float):
        self.box, self.power = box, float(power)

    def add(self, state: Tensor, tendency: Tensor) -> None:
        velocity = state[VELOCITY]
        mean_square = self.box.inner(velocity, velocity).to(self.box.dtype)
        rate = _power_rate(self.power, mean_square)
        flat_real(tendency[VELOCITY]).addcmul_(flat_real(velocity), rate[..., None, None, None])


class ShellEnergy(Force):
    """Holds the energy of the low shells: f = a_s u in each shell s, with a_s such that dE_s/dt = (target - E_s) / tau.

    Once there, the energy of a shell stays where it is to the accuracy of the time step, whatever the flow does:
    convection, viscosity and every other force in the shell are made up for (She, Jackson and Orszag, Nature 344, 226,
    1990, with E(k) ~ k^(-5/3) in the shells; the Johns Hopkins isotropic data hold |k| <= 2 likewise).

    Args:
        box: the Fourier space it acts in.
        energy: of all shells together, length squared per time squared.
        cutoff: radians per length; shells are one lowest wavenumber thick and centred on its multiples.
        viscosity: nu, whose drain is made up for.

    Raises:
        ValueError: no kept mode below the cutoff.
    """

    closing = True

    def __init__(self, box: PeriodicBox, energy: float, cutoff: float, viscosity: float):
        self._band = Band(box, cutoff)
        lowest = 2 * math.pi / max(box.grid.lengths)
        k = self._band.wavenumber.square().sum(0).sqrt()
        shell = (k / lowest).round().long().clamp_min(1)
        kinds, self._shell = shell.unique(return_inverse=True)
        self._member = torch.nn.functional.one_hot(self._shell, len(kinds)).to(box.dtype) * self._band.weight[:, None]
        share = kinds.to(box.dtype) ** (-5 / 3)
        self._target = energy * share / share.sum()
        self._drain = viscosity * k**2
        self._rate = math.sqrt(2 * energy / 3) * cutoff  # 1 / tau, an eddy turnover
        self.energy, self.cutoff, self.viscosity = float(energy), float(cutoff), float(viscosity)

    def add(self, state: Tensor, tendency: Tensor) -> None:
        velocity = self._band.gather(state[VELOCITY])
        gain = self._band.gather(tendency[VELOCITY]) - velocity * self._drain
        energy = 0.5 * self._by_shell(velocity, velocity)
        missing = (self._target - energy) * self._rate - self._by_shell(velocity, gain)
        rate = missing / (2 * energy).clamp_min(torch.finfo(energy.dtype).tiny)
        self._band.scatter_add(velocity * rate[..., self._shell], tendency[VELOCITY])

    def _by_shell(self, a: Tensor, b: Tensor) -> Tensor:
        """<a . b> of each shell, ([member,] shells)."""
        products = (torch.view_as_real(a) * torch.view_as_real(b)).sum((0, -1))
        return (products[..., None] * self._member).sum(-2)

    def shell_energies(self, velocity: Tensor) -> Tensor:
        """(shells,) kinetic energy of each shell that is held."""
        band = self._band.gather(velocity[VELOCITY])
        return 0.5 * self._by_shell(band, band)

    def diagnostics(self, solver) -> dict[str, float]:
        """held_energy: kinetic energy of the held shells together."""
        return {"held_energy": float(self.shell_energies(solver.velocity).sum())}
