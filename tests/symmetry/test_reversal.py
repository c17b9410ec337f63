"""The arrow of time: none in inviscid equilibrium, one in what dissipates, in rotation one that a mirror undoes."""

import numpy as np
import pytest
import torch

from flowsr.grid import Grid
from flowsr.group import octahedral_group, point_group
from flowsr.simulate.forces import Coriolis
from flowsr.simulate.initial_conditions import from_spectrum
from flowsr.simulate.solver import BoxSolver
from flowsr.simulate.spectral import PeriodicBox
from flowsr.symmetry import time_reversal

CELLS, RUNS = 12, 10
GRID = Grid((CELLS,) * 3, (2 * np.pi / CELLS,) * 3)
BOX = PeriodicBox(GRID, dtype=torch.float64)


def subgroup(label):
    group = octahedral_group("Oh")
    return group.subgroup(sorted(group.index(matrix) for matrix in point_group(label).matrices))


def pairs(viscosity, slope, before, step, rotation=0.0):
    """Velocities of independent runs, and the same a step later; the spectrum at the start is k to the slope."""
    forces = (Coriolis((0.0, 0.0, rotation)),) if rotation else ()
    found = []
    for seed in range(RUNS):
        k = np.arange(1.0, CELLS)
        solver = BoxSolver(BOX, from_spectrum(BOX, seed, k, k**slope / np.sum(k**slope)), viscosity, forces=forces)
        fields = []
        for time in (before, before + step):
            while solver.time < time:
                solver.advance(time)
            fields.append(solver.field().clone())
        found.append(fields)
    return [torch.stack(each) for each in zip(*found, strict=True)]


@pytest.fixture(scope="module")
def truncated_euler():
    """Equipartition, E ~ k^2: where an inviscid flow on finitely many modes ends, and stays (Lee 1952)."""
    return pairs(0.0, 2.0, 0.05, 0.05)


def test_an_inviscid_flow_in_equilibrium_may_be_run_backwards(truncated_euler):
    found = time_reversal(*truncated_euler, GRID, subgroup("Oh"))
    assert found.partner == found.spatial and found.label == "Oh 1'" and found.p > 0.05


def test_what_dissipates_knows_its_direction():
    found = time_reversal(*pairs(0.05, -1.0, 0.8, 0.1), GRID, subgroup("Oh"))
    assert found.partner is None and found.grey_p <= 0.05
    assert found.odd["velocity gradients, third order"] > 0.5 and "knows its direction" in found.sentence


def test_a_mirror_undoes_what_reversal_does_to_rotation():
    fast = pairs(0.0, 2.0, 0.02, 0.02, rotation=10.0)
    found = time_reversal(*fast, GRID, subgroup("C4h [001]"))
    assert found.grey_p <= 0.05 and found.odd["two-time stresses"] > 0.001
    assert found.partner == subgroup("D4h [001]") and found.label == "D4h [001](C4h [001])"


def test_a_film_and_its_reverse():
    """Run backwards as a whole a film has as much of a direction; half of its runs backwards, it has none."""
    earlier, later = pairs(0.05, -1.0, 0.8, 0.1)
    there = time_reversal(earlier, later, GRID, subgroup("Oh"))
    back = time_reversal(-later, -earlier, GRID, subgroup("Oh"))
    assert max(there.grey_p, back.grey_p) <= 0.05
    assert back.odd == pytest.approx(there.odd, abs=1e-9)
    half = RUNS // 2
    mixed = [torch.cat([a[:half], -b[half:]]) for a, b in ((earlier, later), (later, earlier))]
    assert time_reversal(*mixed, GRID, subgroup("Oh")).partner is not None


def test_false_alarms_come_at_their_rate():
    """Gaussian films without a direction: of twenty-four, no more are called broken than one in twenty allows."""
    generator = np.random.default_rng(0)
    alarms = 0
    for _ in range(24):
        first = torch.from_numpy(generator.standard_normal((6, 3, 4, 4, 4)))
        second = 0.8 * first + 0.6 * torch.from_numpy(generator.standard_normal((6, 3, 4, 4, 4)))
        found = time_reversal(first, second, Grid((4, 4, 4)))
        alarms += found.grey_p <= 0.05
    assert alarms <= 4
