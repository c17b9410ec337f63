"""Direct numerical simulation of incompressible flow in a periodic box, for people who have no data yet."""

from flowsr.simulate.diagnostics import COLUMNS, diagnose
from flowsr.simulate.flows import FLOWS, Drive, Flow
from flowsr.simulate.forces import BandPower, Force
from flowsr.simulate.run import simulate_run
from flowsr.simulate.solver import BoxSolver
from flowsr.simulate.spectral import PeriodicBox, resample
from flowsr.simulate.starts import abc, random_solenoidal, taylor_green

__all__ = [
    "COLUMNS",
    "FLOWS",
    "BandPower",
    "BoxSolver",
    "Drive",
    "Flow",
    "Force",
    "PeriodicBox",
    "abc",
    "diagnose",
    "random_solenoidal",
    "resample",
    "simulate_run",
    "taylor_green",
]
