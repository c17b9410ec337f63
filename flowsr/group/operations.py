"""Single point operations: the 48 signed permutation matrices and what each of them does to space.

Everything here is read off one integer matrix: its order (the smallest n > 0 with R^n = 1), its determinant and the
axis it leaves fixed, up to sign. Nothing is looked up by position in a list.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from flowsr.grid import triple

Axis = tuple[int, int, int]


def signed_permutation_matrices() -> np.ndarray:
    """All signed permutation matrices of three axes, the symmetries of the cube.

    Returns:
        (48, 3, 3) int64. The 24 rotations (determinant +1) come first, the identity before all others; element 24 + j
        is element j followed by the inversion, so that O is the first half of O_h = O x {E, i}.
    """
    eye = np.eye(3, dtype=np.int64)
    every = [
        eye[list(permutation)] * np.array(signs)[:, None]
        for permutation in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)
    ]
    rotations = np.stack([matrix for matrix in every if determinant(matrix) == 1])
    return np.concatenate([rotations, -rotations])


def permutation_sign(matrix: np.ndarray) -> int:
    """Sign of the permutation of the three axes that is left when the signs of ``matrix`` (3, 3) are dropped."""
    return determinant(np.abs(matrix))


def determinant(matrix: np.ndarray) -> int:
    """Determinant of an integer matrix (3, 3), as the triple product of its rows, without rounding."""
    return int(matrix[0] @ np.cross(matrix[1], matrix[2]))


def axis_family(axis: Axis | None) -> str:
    """Crystallographic family of a direction: ``100``, ``110`` or ``111``; empty for no axis."""
    return "" if axis is None else "".join(str(abs(n)) for n in sorted(axis, key=abs, reverse=True))


def axis_label(axis: Axis | None) -> str:
    """A direction as crystallographers write it: ``[001]``, ``[1-10]``; empty for no axis."""
    return "" if axis is None else "[" + "".join(str(n) for n in axis) + "]"


@dataclass(frozen=True)
class Operation:
    """What one signed permutation matrix does.

    Args:
        rows: the matrix, as three rows of three integers.
    """

    rows: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, matrix: np.ndarray) -> Operation:
        """The operation of ``matrix`` (3, 3), integers."""
        return cls(triple(triple(int(n) for n in row) for row in matrix))

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) int64."""
        return np.array(self.rows, dtype=np.int64)

    @cached_property
    def order(self) -> int:
        """The smallest n > 0 whose n-th power is the identity."""
        return len(_powers(self.matrix))

    @cached_property
    def determinant(self) -> int:
        """+1 for a rotation, -1 for an operation that turns a right hand into a left one."""
        return determinant(self.matrix)

    @cached_property
    def axis(self) -> Axis | None:
        """Rotation axis, or normal of the mirror plane: coprime integers, the first that is not zero positive.

        It is the axis of det(R) R, which is a rotation; its powers sum to a multiple of the projector on the axis.
        None for the identity and the inversion, which have no axis.
        """
        powers = _powers(self.determinant * self.matrix)
        if len(powers) == 1:
            return None
        projector = np.sum(powers, axis=0)
        column = projector[:, np.flatnonzero(np.abs(projector).sum(axis=0))[0]]
        column = column // np.gcd.reduce(column)
        return triple(int(n) for n in column * np.sign(column[np.flatnonzero(column)[0]]))

    @property
    def family(self) -> str:
        """Family of the axis: ``100``, ``110``, ``111``, or empty."""
        return axis_family(self.axis)

    @cached_property
    def symbol(self) -> str:
        """Schoenflies symbol: E, C2, C3, C4, i, S4, S6, sigma_h (normal along an axis of the grid) or sigma_d."""
        if self.determinant == 1:
            return "E" if self.order == 1 else f"C{self.order}"
        if self.order > 2:
            return f"S{self.order}"
        if self.axis is None:
            return "i"
        return "sigma_h" if self.family == "100" else "sigma_d"

    @property
    def sense(self) -> str:
        """``+`` where it turns right-handed about ``axis`` (a rotoreflection: before it reflects), else ``-``.

        Empty where the two are the same: E, i, two-fold rotations and mirrors.
        """
        if self.order <= 2:
            return ""
        r = self.matrix
        twice_sine = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) @ np.array(self.axis)
        return "+" if twice_sine > 0 else "-"

    @property
    def label(self) -> str:
        """A name of its own for every element: ``C4+[001]``, ``sigma_d[1-10]``, ``i``."""
        return f"{self.symbol}{self.sense}{axis_label(self.axis)}"


def _powers(matrix: np.ndarray) -> list[np.ndarray]:
    """1, R, R^2, ... up to the last power before the identity returns."""
    powers = [np.eye(3, dtype=np.int64)]
    while not np.array_equal(following := powers[-1] @ matrix, powers[0]):
        powers.append(following)
    return powers
