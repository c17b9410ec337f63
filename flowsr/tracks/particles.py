"""Particles made from a simulated field, so that every cloud has its truth.

Values between grid points are taken from the field's own Fourier series, on a grid twice as fine, by splines of order
5: below 1e-4 of the RMS where the field is resolved.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from scipy.ndimage import map_coordinates, spline_filter

from flowsr.grid import Grid
from flowsr.tracks.cloud import Cloud

ORDER, REFINE = 5, 2


@dataclass(frozen=True)
class Seeding:
    """Clouds of particles in simulated flows: how dense, how noisy, how many."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    cells: int = 16
    """Cells of the field that is wanted along the box's shortest side; densities and noise are told in them."""
    per_cell: tuple[float, ...] = (1.0,)
    """Particles per cell; one condition of the test each."""
    noise: tuple[float, ...] = (0.0,)
    """Standard deviation of a measured position, in cells; one condition of the test each."""
    dropped: float = 0.0
    """Share of the particles that are lost."""
    accelerations: bool = False
    """Whether accelerations are measured as well."""
    clouds: int = 8
    """Clouds to train on, per condition, of snapshots evenly spread over all runs but the last."""
    points: int = 1000
    """Places in each at which the flow is known: to train on, and to be tested at."""
    tested: int = 6
    """Snapshots of the last run that are tested, evenly spread, one cloud each per condition."""

    def __post_init__(self) -> None:
        for name in ("cells", "clouds", "points", "tested"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.per_cell or min(self.per_cell) <= 0 or not self.noise or min(self.noise) < 0:
            raise ValueError("per_cell must be above 0 and noise not below, one of each at least")
        if not 0 <= self.dropped < 1:
            raise ValueError(f"dropped is from 0 to below 1, got {self.dropped}")

    @property
    def conditions(self) -> dict[str, Condition]:
        """By name, the densities in order, without noise first."""
        every = [Condition(density, noise) for noise in self.noise for density in self.per_cell]
        return {condition.name: condition for condition in every}


@dataclass(frozen=True)
class Condition:
    """How clouds of particles are seen.

    Args:
        per_cell: particles per cell of the field that is wanted.
        noise: standard deviation of a measured position, in cells.
    """

    per_cell: float
    noise: float = 0.0

    @property
    def name(self) -> str:
        """As folders have it."""
        return f"density_{self.per_cell:g}" + (f"_noise_{self.noise:g}" if self.noise else "")

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.per_cell:g} per cell" + (f", noise {self.noise:g} cell" if self.noise else "")

    def cloud(
        self, truth: Truth, seeding: Seeding, rng: np.random.Generator, acceleration: Truth | None = None
    ) -> Cloud:
        """Particles in a flow."""
        cell = min(truth.grid.lengths) / seeding.cells
        count = max(8, round(self.per_cell * float(np.prod(truth.grid.lengths)) / cell**3))
        noise = self.noise * cell / truth.grid.spacing[0]
        return seed_particles(truth, count, rng, noise=noise, dropped=seeding.dropped, acceleration=acceleration)


@dataclass(frozen=True, eq=False)
class Truth:
    """A field that is known everywhere: velocity and velocity gradient at any point of a periodic box.

    Args:
        velocity: (3, x, y, z) at cell centres.
        grid: periodic.

    Raises:
        ValueError: a grid that is not periodic.
    """

    velocity: np.ndarray
    grid: Grid

    def __post_init__(self):
        if not self.grid.periodic:
            raise ValueError("truth between grid points is known in a periodic box only")

    @cached_property
    def _coefficients(self) -> np.ndarray:
        return np.fft.rfftn(self.velocity.astype(np.float64), axes=(1, 2, 3))

    @cached_property
    def wavenumbers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """k along x, y, z of the coefficients, without the mode that alternates from cell to cell."""
        found = []
        for axis, (n, length) in enumerate(zip(self.grid.shape, self.grid.lengths)):
            k = (np.fft.rfftfreq if axis == 2 else np.fft.fftfreq)(n, 1 / n)
            k[np.abs(k) == n / 2] = 0
            found.append((2 * np.pi / length * k).reshape([-1 if a == axis else 1 for a in range(3)]))
        return tuple(found)

    def _splines(self, coefficients: np.ndarray) -> np.ndarray:
        """Spline coefficients of a scalar on the finer grid."""
        shape, fine = self.grid.shape, tuple(REFINE * n for n in self.grid.shape)
        padded = np.zeros((*fine[:2], fine[2] // 2 + 1), complex)
        halves = [[slice(0, n // 2), slice(-(n // 2) + 1, None)] for n in shape[:2]]
        for x in halves[0]:
            for y in halves[1]:
                padded[x, y, : shape[2] // 2] = coefficients[x, y, : shape[2] // 2]
        values = np.fft.irfftn(padded * REFINE**3, fine)
        return spline_filter(values, ORDER, mode="grid-wrap")

    @cached_property
    def _velocity_splines(self) -> list[np.ndarray]:
        return [self._splines(each) for each in self._coefficients]

    @cached_property
    def _gradient_splines(self) -> list[list[np.ndarray]]:
        return [[self._splines(1j * k * each) for k in self.wavenumbers] for each in self._coefficients]

    def _at(self, splines: np.ndarray, points: np.ndarray) -> np.ndarray:
        # the first sample of the finer grid stands where the first cell centre of the coarse one does
        first = np.add(self.grid.origin, np.divide(self.grid.spacing, 2))
        index = (points - first) / np.divide(self.grid.spacing, REFINE)
        return map_coordinates(splines, index.T, order=ORDER, mode="grid-wrap", prefilter=False)

    def velocity_at(self, points: np.ndarray) -> np.ndarray:
        """(points, 3)."""
        return np.stack([self._at(each, points) for each in self._velocity_splines], 1)

    def gradient_at(self, points: np.ndarray) -> np.ndarray:
        """(points, 3, 3): derivative of component i along axis j at [i, j]."""
        return np.stack([np.stack([self._at(each, points) for each in row], 1) for row in self._gradient_splines], 1)


def seed_particles(
    truth: Truth,
    count: int,
    rng: np.random.Generator,
    *,
    noise: float = 0.0,
    dropped: float = 0.0,
    acceleration: Truth | None = None,
) -> Cloud:
    """Particles at random places of the box, with the velocity that the flow has there.

    Args:
        truth: the flow.
        count: particles before any are dropped.
        rng: decides the places.
        noise: standard deviation of the measured position about the true one, per axis, in grid cells.
        dropped: share of the particles that are lost.
        acceleration: the field of the particles' accelerations, where they are measured.
    """
    if not 0 <= dropped < 1:
        raise ValueError(f"the share dropped is from 0 to below 1, got {dropped}")
    grid = truth.grid
    lower, upper = np.array(grid.origin), np.add(grid.origin, grid.lengths)
    true = rng.uniform(lower, upper, (count, 3))
    kept = rng.uniform(size=count) >= dropped
    true = true[kept]
    measured = true + noise * np.array(grid.spacing) * rng.normal(size=true.shape)
    measured = lower + np.mod(measured - lower, grid.lengths)
    felt = None if acceleration is None else acceleration.velocity_at(true)
    return Cloud(measured, truth.velocity_at(true), tuple(lower), tuple(upper), grid.boundary, felt)


def grid_points(grid: Grid) -> np.ndarray:
    """Cell centres as (cells, 3), in C order over x, y, z."""
    return np.stack(np.meshgrid(*grid.coordinates(), indexing="ij"), -1).reshape(-1, 3)
