"""Body forces: small objects, each of which adds itself to the right-hand side, so that any number of them add up.

A force need not be solenoidal: the solver projects the sum, the pressure takes the rest. Here are the forces that drive
isotropic turbulence, those fixed in space and those of a rotating or moving frame; those that scalars exert or feel are
in :mod:`flowsr.simulate.scalars`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from flowsr.simulate.initial_conditions import abc, angles, coefficients_of
from flowsr.simulate.spectral import PeriodicBox, flat_real

Triple = tuple[float, float, float]
VELOCITY = slice(0, 3)  # components of a state that are the velocity; scalars come after


class Force(ABC):
    """Anything that can add its acceleration to a right-hand side.

    Attributes:
        drives: its work on the velocity is injected power; otherwise it exchanges energy with another form or does
            none.
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


class HelicalPower(BandPower):
    """Constant power, spent on right-handed helical waves of the large scales only; arguments as :class:`BandPower`.

    u+ = (u_band + i k x u_band / k) / 2 is the right-handed part of the velocity in 0 < |k| < cutoff (Waleffe, Phys.
    Fluids A 4, 350, 1992); f = P u+ / <u+ . u+>. Energy goes in at the rate P, and helicity with it: rotations leave
    the force as it is, reflections do not.
    """

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
    return Pattern(box, coefficients_of(box, torch.sin(mode * y), zero, zero), amplitude)


def kolmogorov_fourfold(box: PeriodicBox, amplitude: float, mode: int = 1) -> Pattern:
    """F (sin(k y) e_x + sin(k x) e_y): a quarter turn about z, followed by half a period, leaves it as it is."""
    x, y, _ = angles(box)
    zero = torch.zeros_like(y)
    return Pattern(box, coefficients_of(box, torch.sin(mode * y), torch.sin(mode * x), zero), amplitude)


def abc_force(box: PeriodicBox, amplitude: float) -> Pattern:
    """F times the Arnold-Beltrami-Childress field with A = B = C = 1: helical (Galanti and Sulem, Phys. Fluids A 3,
    1778, 1991).

    Raises:
        FlowsrError: a box whose sides are not equal.
    """
    return Pattern(box, abc(box), amplitude)


# F = c (P^2 k)^(1/3) is the amplitude that puts about the power P into a turbulent flow. Kolmogorov flow has the
# friction coefficient F / (k U^2) = 0.124 (Musacchio and Boffetta, Phys. Rev. E 89, 023004, 2014), and P = F U / 2; the
# factors of the other two were measured in steady runs at 32^3 (docs/simulation.md).
KOLMOGOROV_FRICTION = 0.124
FOURFOLD_FACTOR = 0.62
ABC_FACTOR = 0.335


def kolmogorov_amplitude(power: float, wavenumber: float) -> float:
    """Amplitude F that puts about the power P into turbulent Kolmogorov flow: (4 f)^(1/3) (P^2 k)^(1/3)."""
    return (4 * KOLMOGOROV_FRICTION * power**2 * wavenumber) ** (1 / 3)


def measured_amplitude(factor: float, power: float, wavenumber: float) -> float:
    """Amplitude F = c (P^2 k)^(1/3) that puts about the power P into a flow with a measured factor c."""
    return factor * (power**2 * wavenumber) ** (1 / 3)


def lowest_wavenumber(box: PeriodicBox, axis: int, mode: int = 1) -> float:
    """2 pi mode / L along an axis."""
    return 2 * math.pi * mode / box.grid.lengths[axis]


class Coriolis(Force):
    """-2 Omega x u, about any axis. It does no work; the centrifugal force is part of the pressure.

    Inertial waves have the frequency 2 Omega . k / k (Greenspan, The Theory of Rotating Fluids, 1968, section 4.3).

    Args:
        rotation: angular velocity Omega along x, y, z, radians per time.
    """

    drives = False

    def __init__(self, rotation: Triple):
        self.rotation = tuple(float(r) for r in rotation)
        self.rate = math.sqrt(sum(r**2 for r in self.rotation))
        self.frequency = 2 * self.rate

    def add(self, state: Tensor, tendency: Tensor) -> None:
        velocity, target = flat_real(state[VELOCITY]), flat_real(tendency[VELOCITY])
        for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
            if self.rotation[b]:
                target[a].add_(velocity[c], alpha=-2 * self.rotation[b])
            if self.rotation[c]:
                target[a].add_(velocity[b], alpha=2 * self.rotation[c])

    def diagnostics(self, solver) -> dict[str, float]:
        """rossby: omega' / (2 Omega), with omega' the RMS of a vorticity component."""
        box, velocity = solver.box, solver.velocity
        vorticity = math.sqrt(float(box.inner(velocity, velocity, box.k_squared)) / 3)
        return {"rossby": vorticity / (2 * self.rate) if self.rate else math.nan}


class UniformFlow(Force):
    """-U . grad of velocity and scalars: the turbulence drifts with a mean stream U, which nothing changes.

    The solver steps the fluctuations; the stream is added to the fields that are written.

    Args:
        box: the Fourier space it acts in.
        velocity: U along x, y, z, length per time.
    """

    drives = False

    def __init__(self, box: PeriodicBox, velocity: Triple):
        self.mean_velocity = tuple(float(u) for u in velocity)
        self._rate = sum(u * k for u, k in zip(self.mean_velocity, box.wavenumber)).expand(box.shape)

    def add(self, state: Tensor, tendency: Tensor) -> None:
        source, target = torch.view_as_real(state), torch.view_as_real(tendency)
        target[..., 0].addcmul_(source[..., 1], self._rate)
        target[..., 1].addcmul_(source[..., 0], self._rate, value=-1)
