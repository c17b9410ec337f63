"""The flows on offer: where each starts, what drives it, and whether it settles to a steady state.

A flow by name (:data:`FLOWS`) is a start and the forces that drive it. What the fluid and its frame add to any of them,
rotation, stratification, a mean stream, a passive scalar, is a :class:`Medium`; the two together make a :class:`Case`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from flowsr.group import Subgroup
from flowsr.registry import Registry
from flowsr.simulate.forces import BandPower, Force, HelicalPower, LinearForcing, ShellEnergy
from flowsr.simulate.frames import Coriolis, UniformFlow
from flowsr.simulate.initial_conditions import abc, from_spectrum, random_solenoidal, taylor_green
from flowsr.simulate.patterns import (
    abc_amplitude,
    abc_force,
    fourfold_amplitude,
    kolmogorov,
    kolmogorov_amplitude,
    kolmogorov_fourfold,
    lowest_wavenumber,
)
from flowsr.simulate.scalars import MeanGradient, Scalar, Stratification, random_scalar
from flowsr.simulate.spectral import PeriodicBox
from flowsr.simulate.symmetry_group import CUBE, right_hand_side_group

Triple = tuple[float, float, float]
NONE = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Drive:
    """What a flow may be told beyond its box.

    Args:
        seed: of a random start.
        power: P per unit mass that the forcing is to spend.
        forcing_cutoff: wavenumber below which a forcing of the large scales acts.
        forcing_mode: waves of a fixed force that fit into the box.
        viscosity: nu.
        spectrum: rows of (k, E(k)) of a start from a given spectrum.
    """

    seed: int = 0
    power: float = 0.1
    forcing_cutoff: float = 2.5
    forcing_mode: int = 1
    viscosity: float = 0.0075
    spectrum: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Medium:
    """What the fluid and its frame add to a flow: nothing, by default.

    Args:
        rotation: angular velocity of the frame along x, y, z.
        stratification: buoyancy frequency times the upward direction, along x, y, z.
        prandtl: nu over the diffusivity of the buoyancy.
        mean_flow: velocity of a uniform stream along x, y, z.
        passive_scalar: carry a passive scalar.
        scalar_gradient: mean gradient of the passive scalar, along x, y, z.
        schmidt: nu over the diffusivity of the passive scalar.
    """

    rotation: Triple = NONE
    stratification: Triple = NONE
    prandtl: float = 1.0
    mean_flow: Triple = NONE
    passive_scalar: bool = False
    scalar_gradient: Triple = NONE
    schmidt: float = 1.0

    def scalars(self, viscosity: float) -> tuple[Scalar, ...]:
        """What the state holds besides the velocity."""
        found = []
        if any(self.stratification):
            found.append(Scalar("buoyancy", viscosity / self.prandtl, long_name="buoyancy, g times relative lightness"))
        if self.passive_scalar:
            found.append(Scalar("scalar", viscosity / self.schmidt, long_name="passive scalar, fluctuation"))
        return tuple(found)

    def forces(self, box: PeriodicBox) -> tuple[Force, ...]:
        """Those of the frame, of buoyancy and of the scalar's mean gradient."""
        found: list[Force] = []
        if any(self.rotation):
            found.append(Coriolis(self.rotation))
        if any(self.mean_flow):
            found.append(UniformFlow(box, self.mean_flow))
        component = 3
        if any(self.stratification):
            found.append(Stratification(self.stratification, component))
            component += 1
        if self.passive_scalar:
            found.append(MeanGradient(self.scalar_gradient, component))
        return tuple(found)


def _no_forces(box: PeriodicBox, drive: Drive) -> tuple[Force, ...]:
    return ()


@dataclass(frozen=True)
class Flow:
    """A flow in a periodic box.

    Args:
        start: initial velocity coefficients in a box.
        forces: body forces in a box; they add up.
        steady: statistically steady, so that it is spun up and settles before its first snapshot. A flow that is not
            begins with its first snapshot.
        random: its start depends on the seed, and is no part of what is known of the flow.
    """

    start: Callable[[PeriodicBox, Drive], Tensor]
    forces: Callable[[PeriodicBox, Drive], tuple[Force, ...]] = _no_forces
    steady: bool = False
    random: bool = True


FLOWS: Registry[Flow] = Registry("flow")

# K (P / cutoff)^(-2/3), measured in statistically steady runs: 3.6 at Re_lambda 24, 4.3 at 48. To start there saves
# spin-up.
STEADY_ENERGY = 4.0
# The share of it that the held shells have where they feed the dissipation P, measured at Re_lambda 30 to 50.
HELD_ENERGY = 1.05


def _steady_energy(drive: Drive) -> float:
    return STEADY_ENERGY * (drive.power / drive.forcing_cutoff) ** (2 / 3)


def _random_start(box: PeriodicBox, drive: Drive) -> Tensor:
    return random_solenoidal(box, drive.seed, _steady_energy(drive), drive.forcing_cutoff)


def _spectrum_start(box: PeriodicBox, drive: Drive) -> Tensor:
    if not drive.spectrum:
        return _random_start(box, drive)
    wavenumber, energy = zip(*drive.spectrum)
    return from_spectrum(box, drive.seed, wavenumber, energy)


def _band_power(box: PeriodicBox, drive: Drive) -> tuple[Force, ...]:
    return (BandPower(box, drive.power, drive.forcing_cutoff),)


def _held_shells(box: PeriodicBox, drive: Drive) -> tuple[Force, ...]:
    return (ShellEnergy(box, HELD_ENERGY * _steady_energy(drive), drive.forcing_cutoff, drive.viscosity),)


def _kolmogorov(box: PeriodicBox, drive: Drive) -> tuple[Force, ...]:
    k = lowest_wavenumber(box, 1, drive.forcing_mode)
    return (kolmogorov(box, kolmogorov_amplitude(drive.power, k), drive.forcing_mode),)


def _fourfold(box: PeriodicBox, drive: Drive) -> tuple[Force, ...]:
    k = lowest_wavenumber(box, 1, drive.forcing_mode)
    return (kolmogorov_fourfold(box, fourfold_amplitude(drive.power, k), drive.forcing_mode),)


def _abc_force(box: PeriodicBox, drive: Drive) -> tuple[Force, ...]:
    return (abc_force(box, abc_amplitude(drive.power, lowest_wavenumber(box, 0))),)


FLOWS.register("forced_isotropic")(Flow(_random_start, _band_power, steady=True))
FLOWS.register("fixed_energy")(Flow(_random_start, _held_shells, steady=True))
FLOWS.register("linear_forcing")(
    Flow(_random_start, lambda box, drive: (LinearForcing(box, drive.power),), steady=True)
)
FLOWS.register("helical")(
    Flow(_random_start, lambda box, drive: (HelicalPower(box, drive.power, drive.forcing_cutoff),), steady=True)
)
FLOWS.register("kolmogorov")(Flow(_random_start, _kolmogorov, steady=True))
FLOWS.register("kolmogorov_fourfold")(Flow(_random_start, _fourfold, steady=True))
FLOWS.register("abc_forced")(Flow(_random_start, _abc_force, steady=True))
FLOWS.register("decaying")(Flow(_spectrum_start))
FLOWS.register("taylor_green")(Flow(lambda box, drive: taylor_green(box), random=False))
FLOWS.register("abc")(Flow(lambda box, drive: abc(box), random=False))


@dataclass(frozen=True)
class Case:
    """A flow in its medium: everything about the physics but the box.

    Args:
        flow: registered name.
        drive: what the flow is told.
        medium: what fluid and frame add.

    Raises:
        FlowsrError: no such flow.
    """

    flow: str
    drive: Drive = field(default_factory=Drive)
    medium: Medium = field(default_factory=Medium)

    def __post_init__(self):
        FLOWS[self.flow]

    @property
    def steady(self) -> bool:
        """Whether it has a statistically steady state to reach."""
        return FLOWS[self.flow].steady

    @property
    def scalars(self) -> tuple[Scalar, ...]:
        """What the state holds besides the velocity."""
        return self.medium.scalars(self.drive.viscosity)

    def forces(self, box: PeriodicBox) -> tuple[Force, ...]:
        """All of them, in a box."""
        return FLOWS[self.flow].forces(box, self.drive) + self.medium.forces(box)

    def start(self, box: PeriodicBox) -> Tensor:
        """Initial state (3 + scalars, Nx, Ny, Nz // 2 + 1): buoyancy at rest; a passive scalar that nothing feeds with
        variance 1, one with a mean gradient at rest."""
        velocity = FLOWS[self.flow].start(box, self.drive)
        state = [velocity, *(torch.zeros_like(velocity[:1]) for _ in self.scalars)]
        if self.medium.passive_scalar and not any(self.medium.scalar_gradient):
            state[-1] = random_scalar(box, velocity, self.drive.seed + 1_000_003, 1.0)[None]
        return torch.cat(state) if self.scalars else velocity

    def truth(self, lengths: Triple = CUBE) -> Subgroup:
        """The exact symmetry group of the flow in a box with these sides, computed: see :mod:`flowsr.simulate.symmetry_group`.

        The number of waves of a fixed force does not change its group, nor does the power; both are taken as one, so
        that every force is of the order of the rest.
        """
        lowest = 2 * math.pi / max(lengths)
        cutoff = max(self.drive.forcing_cutoff, 1.5 * lowest)
        drive = replace(self.drive, power=1.0, forcing_mode=1, forcing_cutoff=cutoff)
        case = replace(self, drive=drive)
        flow = FLOWS[self.flow]
        return right_hand_side_group(
            case.forces,
            scalars=case.scalars,
            start=None if flow.random else lambda box: flow.start(box, drive),
            lengths=lengths,
        )
