"""The exact symmetry group of a flow, computed from the solver itself.

An element g of O_h is a symmetry of the equation of motion du/dt = N(u) when N(g u) = g N(u) for every u. A shift of
the origin may go with it (the turbulence does not know where the box begins), and so may a change of sign of a scalar.
The group is found by trying all 48 on a random state, to round-off: no thinking about what a force is like.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.group import Subgroup, octahedral_group, transform_field, transform_grid, transform_scalar
from flowsr.simulate.forces import Force
from flowsr.simulate.initial_conditions import random_solenoidal
from flowsr.simulate.scalars import Scalar
from flowsr.simulate.solver import BoxSolver
from flowsr.simulate.spectral import SPATIAL, PeriodicBox

CELLS = 8  # enough for convection, and for forces of the lowest wavenumber
SHIFT = CELLS // 4  # symmetries of forces of the lowest wavenumber go with quarter periods at most
KEPT = 1e-10  # relative; a kept symmetry is kept to 1e-15, a broken one is off by the size of the force
CUBE = (2 * math.pi,) * 3

Forces = Callable[[PeriodicBox], Sequence[Force]]


def right_hand_side_group(forces: Forces = lambda box: (), **options) -> Subgroup:
    """The subgroup of O_h that commutes with the right-hand side, with its Schoenflies symbol and axis.

    Args:
        forces, options: as :func:`symmetry_defects` takes them.
    """
    return octahedral_group("Oh").subgroup(np.flatnonzero(symmetry_defects(forces, **options) <= KEPT))


def symmetry_defects(
    forces: Forces = lambda box: (),
    *,
    scalars: Sequence[Scalar] = (),
    start: Callable[[PeriodicBox], Tensor] | None = None,
    lengths: tuple[float, float, float] = CUBE,
    flip_scalars: bool = True,
    shifts: bool = True,
) -> np.ndarray:
    """How far each element of O_h is from being a symmetry of the right-hand side, shifts allowed.

    Args:
        forces: makes the body forces in a box.
        scalars: what the state holds besides the velocity.
        start: initial velocity coefficients in a box, where they are part of the flow: they must be left alone too, by
            the same shift. None for a random start.
        lengths: sides of the box.
        flip_scalars: a symmetry may change the sign of scalars, as buoyancy does when up and down are exchanged.
        shifts: a symmetry may go with a shift; without, it must hold about the centre of the box.

    Returns:
        (48,) float64: ||N(g u) - g N(u)|| / ||N(u)|| of the best shift and signs; infinite where g does not map the
        box to itself.
    """
    group = octahedral_group("Oh")
    trial = _Trial(forces, scalars, start, lengths)
    signs = list(product((1, -1), repeat=len(scalars))) if flip_scalars else [(1,) * len(scalars)]
    moves = list(trial.shifts()) if shifts else [(0, 0, 0)]
    defects = np.full(group.order, np.inf)
    for g in range(group.order):
        if not np.allclose(transform_grid(trial.box.grid, g, group).lengths, lengths):
            continue
        for sign, shift in product(signs, moves):
            defects[g] = min(defects[g], trial.defect(g, sign, shift))
            if defects[g] <= KEPT:
                break
    return defects


class _Trial:
    """A solver in a small alias-free box, where every shift is exact, with a state that has no symmetry."""

    def __init__(self, forces: Forces, scalars: Sequence[Scalar], start, lengths):
        grid = Grid((CELLS,) * 3, tuple(length / CELLS for length in lengths))
        self.box = box = PeriodicBox(grid, dealiasing="cube", dtype=torch.float64)
        lowest = 2 * math.pi / max(lengths)
        states = [random_solenoidal(box, seed, 1.0, 2 * lowest) for seed in range(1 + len(scalars))]
        state = torch.cat([states[0], *(each[:1] for each in states[1:])])
        self.solver = BoxSolver(box, state, 0.1, forces=forces(box), scalars=scalars)
        self.state, self.tendency = box.backward(state), box.backward(self.solver.tendency(state))
        self.start = None if start is None else box.backward(start(box))

    def shifts(self) -> Iterator[tuple[int, int, int]]:
        """No shift first, then quarters of the box along the axes that matter."""
        along = []
        for axis in range(3):
            unit = tuple(int(a == axis) for a in range(3))
            along.append(range(0, CELLS, SHIFT) if self.defect(0, None, unit) > KEPT else (0,))
        return product(*along)

    def defect(self, element: int, signs, shift) -> float:
        if self.start is not None:
            found = _relative(self._move(self.start, element, signs, shift), self.start)
            if found > KEPT:
                return found
        moved = self._move(self.state, element, signs, shift)
        expected = self._move(self.tendency, element, signs, shift)
        return _relative(self.box.backward(self.solver.tendency(self.box.forward(moved))), expected)

    def _move(self, field: Tensor, element: int, signs, shift) -> Tensor:
        group = octahedral_group("Oh")
        velocity = transform_field(field[:3], element, "1o", group)
        signed = zip(signs or [1] * len(field), field[3:])
        scalars = [sign * transform_scalar(scalar, element, group)[None] for sign, scalar in signed]
        return torch.cat([velocity, *scalars]).roll(shift, SPATIAL)


def _relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())
