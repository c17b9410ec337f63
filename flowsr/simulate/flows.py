"""The flows on offer: where each starts, what drives it, and whether it settles to a steady state.

A flow by name (:data:`FLOWS`) is a start and the forces that drive it. What the fluid and its frame add to any of them,
rotation, stratification, a mean stream, a passive scalar, is the medium. Both are told by
:class:`flowsr.simulate.Simulation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flowsr.group import Subgroup
from flowsr.registry import Registry
from flowsr.simulate.forces import (
    ABC_FACTOR,
    FOURFOLD_FACTOR,
    BandPower,
    Coriolis,
    Force,
    HelicalPower,
    LinearForcing,
    ShellEnergy,
    UniformFlow,
    abc_force,
    kolmogorov,
    kolmogorov_amplitude,
    kolmogorov_fourfold,
    lowest_wavenumber,
    measured_amplitude,
)
from flowsr.simulate.initial_conditions import abc, from_spectrum, random_solenoidal, taylor_green
from flowsr.simulate.scalars import MeanGradient, Scalar, Stratification, random_scalar
from flowsr.simulate.solver import BoxSolver
from flowsr.simulate.spectral import PeriodicBox
from flowsr.simulate.symmetry_group import right_hand_side_group

if TYPE_CHECKING:
    from flowsr.simulate.settings import Simulation


@dataclass(frozen=True)
class Flow:
    """A flow in a periodic box.

    Args:
        start: initial velocity coefficients in a box, by its settings and a seed.
        force: the body force in a box, by its settings; None for a flow that nothing drives.
        steady: statistically steady, so that it is spun up and settles before its first snapshot. A flow that is not
            begins with its first snapshot.
        random: its start depends on the seed, and is no part of what is known of the flow.
    """

    start: Callable[[PeriodicBox, Simulation, int], Tensor]
    force: Callable[[PeriodicBox, Simulation], Force] | None = None
    steady: bool = False
    random: bool = True


FLOWS: Registry[Flow] = Registry("flow")

# K (P / cutoff)^(-2/3), measured in statistically steady runs: 3.6 at Re_lambda 24, 4.3 at 48. To start there saves
# spin-up.
STEADY_ENERGY = 4.0
# The share of it that the held shells have where they feed the dissipation P, measured at Re_lambda 30 to 50.
HELD_ENERGY = 1.05


def _steady_energy(settings: Simulation) -> float:
    return STEADY_ENERGY * (settings.power / settings.forcing_cutoff) ** (2 / 3)


def _random_start(box: PeriodicBox, settings: Simulation, seed: int) -> Tensor:
    return random_solenoidal(box, seed, _steady_energy(settings), settings.forcing_cutoff)


def _spectrum_start(box: PeriodicBox, settings: Simulation, seed: int) -> Tensor:
    if not settings.spectrum:
        return _random_start(box, settings, seed)
    wavenumber, energy = zip(*settings.spectrum)
    return from_spectrum(box, seed, wavenumber, energy)


def _waves(box: PeriodicBox, settings: Simulation) -> float:
    """Wavenumber along y of a force of Kolmogorov's kind."""
    return lowest_wavenumber(box, 1, settings.forcing_mode)


#: What drives a statistically steady flow, in a box, by its settings.
DRIVES: dict[str, Callable[[PeriodicBox, Simulation], Force]] = {
    "forced_isotropic": lambda box, own: BandPower(box, own.power, own.forcing_cutoff),
    "fixed_energy": lambda box, own: ShellEnergy(
        box, HELD_ENERGY * _steady_energy(own), own.forcing_cutoff, own.viscosity
    ),
    "linear_forcing": lambda box, own: LinearForcing(box, own.power),
    "helical": lambda box, own: HelicalPower(box, own.power, own.forcing_cutoff),
    "kolmogorov": lambda box, own: kolmogorov(box, kolmogorov_amplitude(own.power, _waves(box, own)), own.forcing_mode),
    "kolmogorov_fourfold": lambda box, own: kolmogorov_fourfold(
        box, measured_amplitude(FOURFOLD_FACTOR, own.power, _waves(box, own)), own.forcing_mode
    ),
    "abc_forced": lambda box, own: abc_force(box, measured_amplitude(ABC_FACTOR, own.power, lowest_wavenumber(box, 0))),
}
for _name, _force in DRIVES.items():
    FLOWS.register(_name)(Flow(_random_start, _force, steady=True))
FLOWS.register("decaying")(Flow(_spectrum_start))
FLOWS.register("taylor_green")(Flow(lambda box, settings, seed: taylor_green(box), random=False))
FLOWS.register("abc")(Flow(lambda box, settings, seed: abc(box), random=False))


def scalars_of(settings: Simulation) -> tuple[Scalar, ...]:
    """What the state holds besides the velocity: buoyancy, then a passive scalar."""
    scalars, nu = [], settings.viscosity
    if any(settings.stratification):
        scalars.append(Scalar("buoyancy", nu / settings.prandtl, long_name="buoyancy, g times relative lightness"))
    if settings.passive_scalar:
        scalars.append(Scalar("scalar", nu / settings.schmidt, long_name="passive scalar, fluctuation"))
    return tuple(scalars)


def forces_of(settings: Simulation, box: PeriodicBox) -> tuple[Force, ...]:
    """What drives the flow, and what its medium adds: the frame, buoyancy and the scalar's mean gradient."""
    drive = FLOWS[settings.flow].force
    forces = [] if drive is None else [drive(box, settings)]
    if any(settings.rotation):
        forces.append(Coriolis(settings.rotation))
    if any(settings.mean_flow):
        forces.append(UniformFlow(box, settings.mean_flow))
    component = 3
    if any(settings.stratification):
        forces.append(Stratification(settings.stratification, component))
        component += 1
    if settings.passive_scalar:
        forces.append(MeanGradient(settings.scalar_gradient, component))
    return tuple(forces)


def initial_state(settings: Simulation, box: PeriodicBox, seed: int) -> Tensor:
    """State (3 + scalars, Nx, Ny, Nz // 2 + 1) that a run begins with: buoyancy at rest; a passive scalar that nothing
    feeds with variance 1, one with a mean gradient at rest."""
    velocity, scalars = FLOWS[settings.flow].start(box, settings, seed), scalars_of(settings)
    state = [velocity, *(torch.zeros_like(velocity[:1]) for _ in scalars)]
    if settings.passive_scalar and not any(settings.scalar_gradient):
        state[-1] = random_scalar(box, velocity, seed + 1_000_003, 1.0)[None]
    return torch.cat(state) if scalars else velocity


def solver_of(
    settings: Simulation, box: PeriodicBox, seeds: Sequence[int] = (0,), state: Tensor | None = None, **clock: float
) -> BoxSolver:
    """A solver of the flow in a box.

    Args:
        settings: the flow and its medium.
        box: the Fourier space; its grid need not be the whole one of the settings.
        seeds: of the random starts; several are stepped together.
        state: to begin with instead of those starts.
        clock: ``time`` and ``step`` of that state.
    """
    if state is None:
        starts = [initial_state(settings, box, seed) for seed in seeds]
        state = starts[0] if len(starts) == 1 else torch.stack(starts, dim=1)
    forces, scalars = forces_of(settings, box), scalars_of(settings)
    return BoxSolver(box, state, settings.viscosity, forces=forces, scalars=scalars, cfl=settings.cfl, **clock)


def exact_group(settings: Simulation) -> Subgroup:
    """The exact symmetry group of a flow in its box, computed: see :mod:`flowsr.simulate.symmetry_group`.

    The number of waves of a fixed force does not change its group, nor does the power; both are taken as one, so
    that every force is of the order of the rest.
    """
    cutoff = max(settings.forcing_cutoff, 1.5 * 2 * math.pi / max(settings.lengths))
    like = replace(settings, power=1.0, forcing_mode=1, forcing_cutoff=cutoff)
    flow = FLOWS[settings.flow]
    return right_hand_side_group(
        lambda box: forces_of(like, box),
        scalars=scalars_of(like),
        start=None if flow.random else lambda box: flow.start(box, like, 0),
        lengths=settings.lengths,
    )
