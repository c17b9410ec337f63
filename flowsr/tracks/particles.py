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

from flowsr.data.between import BetweenWalls
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
    """Places in each at which the flow is known, to train on."""
    lattice: int = 12
    """Places along the box's shortest side, a regular lattice of them, at which methods are tested."""
    tested: int = 6
    """Snapshots of the last run that are tested, evenly spread, one cloud each per condition."""

    def __post_init__(self) -> None:
        for name, least in (("cells", 1), ("clouds", 1), ("points", 1), ("lattice", 4), ("tested", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
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
        """Particles in a flow, and on its walls."""
        cell = min(truth.grid.lengths) / seeding.cells
        count = max(8, round(self.per_cell * float(np.prod(truth.grid.lengths)) / cell**3))
        noise = self.noise * cell / np.array(truth.grid.spacing)
        how = {"noise": noise, "dropped": seeding.dropped, "acceleration": acceleration}
        return seed_particles(truth, count, rng, **how).with_walls()


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

    def pressure_at(self, points: np.ndarray) -> np.ndarray | None:
        """(points,): over the density, without mean, of the flow on its own grid."""
        slopes = [
            [np.fft.irfftn(1j * k * each, self.grid.shape) for k in self.wavenumbers] for each in self._coefficients
        ]
        pressure = pressure_of(np.moveaxis(slopes, (0, 1), (3, 4)).reshape(-1, 3, 3), self.grid)
        return Truth(pressure[None], self.grid).velocity_at(points)[:, 0]

    def gradient_at(self, points: np.ndarray) -> np.ndarray:
        """(points, 3, 3): derivative of component i along axis j at [i, j]."""
        return np.stack([np.stack([self._at(each, points) for each in row], 1) for row in self._gradient_splines], 1)


@dataclass(frozen=True, eq=False)
class WallTruth(Truth):
    """The same between two walls, on which the fluid is at rest (:class:`flowsr.data.between.BetweenWalls`)."""

    def __post_init__(self):
        object.__setattr__(self, "between", BetweenWalls(self.velocity, self.grid))

    def velocity_at(self, points: np.ndarray) -> np.ndarray:
        """(points, 3)."""
        return self.between(points)

    def gradient_at(self, points: np.ndarray) -> np.ndarray:
        """(points, 3, 3): derivative of component i along axis j at [i, j]."""
        return self.between.gradient(points)

    def pressure_at(self, points: np.ndarray) -> None:
        """Not known: walls would have to be heard."""
        return None


def known_everywhere(velocity: np.ndarray, grid: Grid) -> Truth:
    """A field (3, x, y, z) between its cells too; raises ValueError where its grid is neither of both."""
    return Truth(velocity, grid) if grid.periodic else WallTruth(velocity, grid)


def lattice_of(grid: Grid, count: int) -> Grid:
    """A regular lattice over a box, ``count`` places along its shortest side."""
    shape = tuple(max(2, round(count * length / min(grid.lengths))) for length in grid.lengths)
    return Grid(shape, tuple(length / n for length, n in zip(grid.lengths, shape)), grid.boundary, grid.origin)


def pressure_of(gradient: np.ndarray, grid: Grid) -> np.ndarray:
    """Pressure over density, without mean, of a velocity gradient (cells, 3, 3) on a periodic grid: (x, y, z).

    Source: laplacian p = -d_i u_j d_j u_i (Pope, Turbulent Flows, 2000, equation 2.42), solved in Fourier space.
    """
    source = -np.einsum("pij,pji->p", gradient, gradient).reshape(grid.shape)
    waves = [2 * np.pi * np.fft.fftfreq(n, d) for n, d in zip(grid.shape, grid.spacing)]
    squared = sum(k**2 for k in np.meshgrid(*waves, indexing="ij", sparse=True))
    modes = np.fft.fftn(source)
    modes[0, 0, 0] = 0.0
    squared[0, 0, 0] = 1.0
    return np.fft.ifftn(-modes / squared).real


def pressure_of_velocity(velocity: np.ndarray, grid: Grid) -> np.ndarray:
    """The same of a velocity (cells, 3) that the grid does not resolve: (x, y, z).

    Source: laplacian p = -d_i d_j u_i u_j. Products of velocities hold less that a coarse grid takes for something else
    than products of their gradients do.
    """
    u = velocity.reshape(*grid.shape, 3)
    waves = [2 * np.pi * np.fft.fftfreq(n, d) for n, d in zip(grid.shape, grid.spacing)]
    k = np.stack(np.meshgrid(*waves, indexing="ij"), -1)
    squared = (k**2).sum(-1)
    squared[0, 0, 0] = 1.0
    products = np.fft.fftn(u[..., :, None] * u[..., None, :], axes=(0, 1, 2))
    modes = -np.einsum("xyzi,xyzj,xyzij->xyz", k, k, products) / squared
    modes[0, 0, 0] = 0.0
    return np.fft.ifftn(modes).real


def seed_particles(
    truth: Truth,
    count: int,
    rng: np.random.Generator,
    *,
    noise: float | np.ndarray = 0.0,
    dropped: float = 0.0,
    acceleration: Truth | None = None,
) -> Cloud:
    """Particles at random places of the box, with the velocity that the flow has there.

    Args:
        truth: the flow.
        count: particles before any are dropped.
        rng: decides the places.
        noise: standard deviation of the measured position about the true one, per axis, in grid cells.
            What is measured beyond a wall is put on it.
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
    periodic = [kind == "periodic" for kind in grid.boundary]
    measured = np.where(periodic, lower + np.mod(measured - lower, grid.lengths), np.clip(measured, lower, upper))
    felt = None if acceleration is None else acceleration.velocity_at(true)
    return Cloud(measured, truth.velocity_at(true), tuple(lower), tuple(upper), grid.boundary, felt)


def grid_points(grid: Grid) -> np.ndarray:
    """Cell centres as (cells, 3), in C order over x, y, z."""
    return np.stack(np.meshgrid(*grid.coordinates(), indexing="ij"), -1).reshape(-1, 3)
