"""Turbulence for the tests: small simulations of many seeds at once, pairs of snapshots a short time apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.simulate import BoxSolver, PeriodicBox, Simulation, resample, solver_of

DRIVE = {"power": 0.1, "forcing_cutoff": 2.5, "viscosity": 0.0287, "forcing_mode": 2}
FINE, COARSE = 24, 12  # cells; k_max eta is 1.4 on the fine grid at this viscosity and power
LAG = 0.25  # between the two snapshots of a pair; the eddies turn over in 2.3
APART = 4.0  # between pairs


@dataclass(frozen=True)
class KnownFlow:
    """A flow, and how much of it a discovery needs.

    Args:
        settings: the flow.
        label: of its group.
        seeds: runs.
        spin_up: time before the first pair; in a stratified fluid layers of shear grow slowly, which hide the waves,
            and the mark of the four-fold force is clearest before the mean flow it drives has come to balance it.
        first_seed: of the runs.
    """

    settings: Simulation
    label: str
    seeds: int = 32
    spin_up: float = 14.0
    first_seed: int = 0


FLOWS = {
    "isotropic": KnownFlow(Simulation("forced_isotropic", **DRIVE), "Oh"),
    "rotation": KnownFlow(Simulation("forced_isotropic", **DRIVE, rotation=(0, 0, 1)), "C4h [001]"),
    "stratification": KnownFlow(
        Simulation("forced_isotropic", **DRIVE, stratification=(0, 0, 4)), "D4h [001]", spin_up=10.0
    ),
    "Kolmogorov": KnownFlow(Simulation("kolmogorov", **DRIVE), "D2h(100)"),
    "four-fold Kolmogorov": KnownFlow(
        Simulation("kolmogorov_fourfold", **DRIVE), "D4h [001]", seeds=80, spin_up=5.0, first_seed=1000
    ),
    "rotation and Kolmogorov": KnownFlow(Simulation("kolmogorov", **DRIVE, rotation=(0, 0, 1)), "C2h [001]"),
}


@dataclass(frozen=True)
class Pairs:
    """Velocities (seeds * pairs, 3, x, y, z): on the fine grid, on the coarse one, and there ``LAG`` later; runs."""

    fine: Tensor
    now: Tensor
    later: Tensor
    runs: Tensor


def cube(cells: int) -> Grid:
    """The box of side 2 pi."""
    return Grid((cells,) * 3, (2 * math.pi / cells,) * 3)


def pairs_of(flow: KnownFlow, count: int = 3) -> Pairs:
    """``count`` pairs of every run; the coarse grid holds the same Fourier coefficients, as many as fit."""
    box, coarse = PeriodicBox(cube(FINE)), PeriodicBox(cube(COARSE))
    solver = solver_of(flow.settings, box, range(flow.first_seed, flow.first_seed + flow.seeds))

    def on_coarse() -> Tensor:
        states = [resample(solver.velocity[:, i], box, coarse) for i in range(flow.seeds)]
        return torch.stack([coarse.backward(state) for state in states])

    fine, now, later = [], [], []
    for number in range(count):
        _reach(solver, flow.spin_up + number * APART)
        fine.append(solver.field().movedim(1, 0).clone())
        now.append(on_coarse())
        _reach(solver, flow.spin_up + number * APART + LAG)
        later.append(on_coarse())
    runs = torch.arange(flow.seeds).repeat_interleave(count)
    return Pairs(*(torch.stack(fields, dim=1).flatten(0, 1) for fields in (fine, now, later)), runs)


def _reach(solver: BoxSolver, time: float) -> None:
    while solver.time < time:
        solver.advance(time)
