"""Direct numerical simulation of incompressible flow in a periodic box or between walls, for who has no data yet."""

from flowsr import make_callable
from flowsr.simulate.diagnostics import diagnose
from flowsr.simulate.flows import FLOWS, Flow, exact_group, forces_of, initial_state, scalars_of, solver_of
from flowsr.simulate.forces import (
    BandPower,
    Coriolis,
    Force,
    HelicalPower,
    LinearForcing,
    Pattern,
    ShellEnergy,
    UniformFlow,
    abc_force,
    helicity,
    kolmogorov,
    kolmogorov_fourfold,
)
from flowsr.simulate.initial_conditions import abc, from_spectrum, random_solenoidal, taylor_green
from flowsr.simulate.job import simulate
from flowsr.simulate.resolution import Target
from flowsr.simulate.scalars import MeanGradient, Scalar, Stratification
from flowsr.simulate.settings import Channel, Simulation
from flowsr.simulate.solver import BoxSolver
from flowsr.simulate.spectral import PeriodicBox, resample
from flowsr.simulate.symmetry_group import right_hand_side_group, symmetry_defects

__all__ = ["FLOWS", "Channel", "Flow", "Simulation", "Target", "diagnose", "simulate"]
# The solver, its forces and scalars.
__all__ += ["BandPower", "BoxSolver", "Coriolis", "Force", "HelicalPower", "LinearForcing", "PeriodicBox", "resample"]
__all__ += ["Pattern", "ShellEnergy", "UniformFlow", "abc_force", "helicity", "kolmogorov", "kolmogorov_fourfold"]
__all__ += ["MeanGradient", "Scalar", "Stratification"]
# What a run begins with, what it is made of, and its symmetry.
__all__ += ["abc", "from_spectrum", "random_solenoidal", "taylor_green"]
__all__ += ["forces_of", "initial_state", "scalars_of", "solver_of"]
__all__ += ["exact_group", "right_hand_side_group", "symmetry_defects"]

make_callable(__name__)  # flowsr.simulate(...) is flowsr.public.simulate
