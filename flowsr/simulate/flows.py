"""The flows on offer: where each starts, what drives it, and whether it settles to a steady state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from flowsr.registry import Registry
from flowsr.simulate.forces import BandPower, Force
from flowsr.simulate.spectral import PeriodicBox
from flowsr.simulate.starts import abc, random_solenoidal, taylor_green


@dataclass(frozen=True)
class Drive:
    """What a flow may be told beyond its box: seed of a random start, power and cutoff of the forcing."""

    seed: int = 0
    power: float = 0.1
    forcing_cutoff: float = 2.5


def _no_forces(box: PeriodicBox, drive: Drive) -> tuple[Force, ...]:
    return ()


@dataclass(frozen=True)
class Flow:
    """A flow in a periodic box.

    Args:
        start: initial coefficients in a box.
        forces: body forces in a box; they add up.
        steady: statistically steady, so that it is spun up and settles before its first snapshot. A flow that is not
            begins with its first snapshot.
    """

    start: Callable[[PeriodicBox, Drive], Tensor]
    forces: Callable[[PeriodicBox, Drive], tuple[Force, ...]] = _no_forces
    steady: bool = False


FLOWS: Registry[Flow] = Registry("flow")

# K (P / cutoff)^(-2/3), measured in statistically steady runs: 3.6 at Re_lambda 24, 4.3 at 48. To start there saves
# spin-up.
STEADY_ENERGY = 4.0


def _random_start(box: PeriodicBox, drive: Drive) -> Tensor:
    energy = STEADY_ENERGY * (drive.power / drive.forcing_cutoff) ** (2 / 3)
    return random_solenoidal(box, drive.seed, energy, drive.forcing_cutoff)


def _band_power(box: PeriodicBox, drive: Drive) -> tuple[Force, ...]:
    return (BandPower(box, drive.power, drive.forcing_cutoff),)


FLOWS.register("forced_isotropic")(Flow(_random_start, _band_power, steady=True))
FLOWS.register("taylor_green")(Flow(lambda box, drive: taylor_green(box)))
FLOWS.register("abc")(Flow(lambda box, drive: abc(box)))
