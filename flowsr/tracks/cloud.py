"""Particles in a box: where they are, how fast, and who is near whom.

A cloud is one instant of a tracking experiment. Near means within a radius, across periodic sides as well; walls and
open sides end the neighbourhood. Nothing here knows a grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.spatial import cKDTree

from flowsr.grid import BOUNDARIES

Triple = tuple[float, float, float]
OF_PARTICLES = ("positions", "velocities", "accelerations", "uncertainty")
PERIODIC = ("periodic", "periodic", "periodic")


@dataclass(frozen=True, eq=False)
class Cloud:
    """Particles of one instant.

    Args:
        positions: (particles, 3) float64 along x, y, z, inside the box.
        velocities: (particles, 3).
        lower, upper: corners of the box, in the unit of the positions.
        boundary: ``periodic``, ``wall`` or ``open`` along x, y, z.
        accelerations: (particles, 3), following the particle; None: not measured.
        uncertainty: (particles,) standard deviation of a velocity's component; None: not known.

    Raises:
        ValueError: shapes that do not go together, a box without volume, particles outside it, or NaN.
    """

    positions: np.ndarray
    velocities: np.ndarray
    lower: Triple
    upper: Triple
    boundary: tuple[str, str, str] = PERIODIC
    accelerations: np.ndarray | None = None
    uncertainty: np.ndarray | None = None

    def __post_init__(self):
        for name in ("positions", "velocities", "accelerations"):
            values = getattr(self, name)
            if values is None and name == "accelerations":
                continue
            values = np.ascontiguousarray(values, dtype=np.float64)
            if values.ndim != 2 or values.shape[1] != 3 or len(values) != len(self.positions):
                raise ValueError(f"{name} have shape {values.shape}, expected ({len(self.positions)}, 3)")
            if not np.isfinite(values).all():
                raise ValueError(f"{name} hold NaN or infinite values")
            object.__setattr__(self, name, values)
        if self.uncertainty is not None:
            values = np.ascontiguousarray(self.uncertainty, dtype=np.float64)
            if values.shape != (len(self.positions),) or not (np.isfinite(values).all() and values.min() >= 0):
                raise ValueError(f"uncertainty is one number a particle, not below 0, got shape {values.shape}")
            object.__setattr__(self, "uncertainty", values)
        object.__setattr__(self, "lower", tuple(map(float, self.lower)))
        object.__setattr__(self, "upper", tuple(map(float, self.upper)))
        if min(self.lengths) <= 0 or any(each not in BOUNDARIES for each in self.boundary):
            raise ValueError(f"a box needs three positive sides and boundaries of {BOUNDARIES}, got {self.lengths}")
        inside = (self.positions >= self.lower) & (self.positions <= self.upper)
        if not inside.all():
            raise ValueError(f"{np.count_nonzero(~inside.all(1))} particles lie outside the box")

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def lengths(self) -> np.ndarray:
        """Sides of the box."""
        return np.subtract(self.upper, self.lower)

    @property
    def spacing(self) -> float:
        """Mean distance between particles: cube root of the volume that each has for itself."""
        return float((np.prod(self.lengths) / len(self)) ** (1 / 3))

    @property
    def periodic(self) -> np.ndarray:
        """Which axes are periodic."""
        return np.array([each == "periodic" for each in self.boundary])

    @cached_property
    def _tree(self) -> cKDTree:
        # a side of 0 is no period
        return cKDTree(self.wrapped(self.positions) - self.lower, boxsize=np.where(self.periodic, self.lengths, 0.0))

    def wrapped(self, points: np.ndarray) -> np.ndarray:
        """Points moved by whole periods into the box."""
        points = np.asarray(points, dtype=np.float64)
        inside = np.mod(points - self.lower, self.lengths)
        # a tiny negative number is moved onto the upper side
        inside = np.where(inside >= self.lengths, 0.0, inside) + self.lower
        return np.where(self.periodic, inside, points)

    def displacement(self, vectors: np.ndarray) -> np.ndarray:
        """The shortest of the displacements that are equal but for whole periods."""
        periods = np.where(self.periodic, np.round(vectors / self.lengths), 0.0)
        return vectors - periods * self.lengths

    def nearest(self, points: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The ``count`` nearest particles of each point: distances and indices, both (points, count), nearest first."""
        count = min(count, len(self))
        distances, indices = self._tree.query(self.wrapped(points) - self.lower, count)
        return distances.reshape(len(points), count), indices.reshape(len(points), count)

    def images(self, margin: float) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the particles and of their periodic images up to ``margin`` beyond the box; whose each is."""
        positions, owner = self.wrapped(self.positions), np.arange(len(self))
        for axis in np.flatnonzero(self.periodic):
            period = np.eye(3)[axis] * self.lengths[axis]
            low = positions[:, axis] < self.lower[axis] + margin
            high = positions[:, axis] > self.upper[axis] - margin
            positions = np.concatenate([positions, positions[low] + period, positions[high] - period])
            owner = np.concatenate([owner, owner[low], owner[high]])
        return positions, owner

    def with_walls(self) -> Cloud:
        """The cloud and, where there are walls, particles at rest on them: the feet of all that are a spacing away.

        One a spacing squared, so that every method knows of no slip as well as of the flow.
        """
        parts = [self]
        for axis in (a for a, kind in enumerate(self.boundary) if kind == "wall"):
            for wall in (self.lower[axis], self.upper[axis]):
                away = np.abs(self.positions[:, axis] - wall)
                if ((away == 0) & (self.velocities == 0).all(1)).any():
                    continue  # they are there
                near = (away < self.spacing) & (away > 0)
                feet = self.positions[near]
                feet[:, axis] = wall
                rest = np.zeros_like(feet)
                felt = None if self.accelerations is None else rest
                known = None if self.uncertainty is None else rest[:, 0]
                parts.append(replace(self, positions=feet, velocities=rest, accelerations=felt, uncertainty=known))
        values = {name: [getattr(part, name) for part in parts] for name in OF_PARTICLES}
        return replace(self, **{name: None if of[0] is None else np.concatenate(of) for name, of in values.items()})

    def of(self, particles: np.ndarray | slice) -> Cloud:
        """Some of its particles alone."""
        values = {name: getattr(self, name) for name in OF_PARTICLES}
        return replace(self, **{name: None if of is None else of[particles] for name, of in values.items()})

    def transformed(self, matrix: np.ndarray, shift: Triple = (0.0, 0.0, 0.0)) -> Cloud:
        """The cloud turned by an orthogonal matrix about the origin and moved; the box becomes an open one about it."""
        matrix = np.asarray(matrix, dtype=np.float64)
        positions = self.positions @ matrix.T + shift
        half = np.full(3, np.abs(positions).max() * 2 + 1)
        accelerations = None if self.accelerations is None else self.accelerations @ matrix.T
        return replace(
            self,
            positions=positions,
            velocities=self.velocities @ matrix.T,
            lower=tuple(-half),
            upper=tuple(half),
            boundary=("open",) * 3,
            accelerations=accelerations,
        )
