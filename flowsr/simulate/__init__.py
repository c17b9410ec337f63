"""Direct numerical simulation of incompressible flow in a periodic box, for people who have no data yet."""

from flowsr.simulate.diagnostics import COLUMNS, diagnose
from flowsr.simulate.flows import FLOWS, Case, Drive, Flow, Medium
from flowsr.simulate.forces import BandPower, Force, HelicalPower, LinearForcing, ShellEnergy, helicity
from flowsr.simulate.frames import Coriolis, UniformFlow
from flowsr.simulate.initial_conditions import abc, from_spectrum, random_solenoidal, taylor_green
from flowsr.simulate.job import simulate_batch, simulate_run
from flowsr.simulate.patterns import Pattern, abc_force, kolmogorov, kolmogorov_fourfold
from flowsr.simulate.scalars import MeanGradient, Scalar, Stratification
from flowsr.simulate.solver import BoxSolver
from flowsr.simulate.spectral import PeriodicBox, resample
from flowsr.simulate.symmetry_group import right_hand_side_group, symmetry_defects

__all__ = [
    "COLUMNS",
    "FLOWS",
    "BandPower",
    "BoxSolver",
    "Case",
    "Coriolis",
    "Drive",
    "Flow",
    "Force",
    "HelicalPower",
    "LinearForcing",
    "MeanGradient",
    "Medium",
    "Pattern",
    "PeriodicBox",
    "Scalar",
    "ShellEnergy",
    "Stratification",
    "UniformFlow",
    "abc",
    "abc_force",
    "diagnose",
    "from_spectrum",
    "helicity",
    "kolmogorov",
    "kolmogorov_fourfold",
    "random_solenoidal",
    "resample",
    "right_hand_side_group",
    "simulate_batch",
    "simulate_run",
    "symmetry_defects",
    "taylor_green",
]
