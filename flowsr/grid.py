"""The box a field lives in: shape, spacing and boundary of a cell-centred grid.

Array axis 0 of the three spatial axes is x, axis 1 is y, axis 2 is z, everywhere in flowsr. Cell ``i`` of an axis with
spacing ``d`` that starts at ``o`` has its centre at ``o + (i + 1/2) d``; a flip or a permutation of the axes is then
an exact index permutation. An axis between walls may be stretched: then its cell centres are listed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

T = TypeVar("T")
Triple = tuple[float, float, float]
Centers = tuple[float, ...] | None
BOUNDARIES = ("periodic", "wall", "open")

# Listed centres as near to equal steps as this, in mean cells, are an equal-step axis.
EQUAL_STEPS = 1e-9


@dataclass(frozen=True)
class Grid:
    """A cell-centred, three-dimensional grid, rectilinear; every axis is uniform unless its centres are listed.

    The cells of a stretched axis meet half-way between their centres; the first begins and the last ends where the box
    does. A centre may lie on the wall.

    Args:
        shape: number of cells along x, y, z.
        spacing: cell size along x, y, z, in the length unit of the data; the mean one on a stretched axis.
        boundary: ``periodic``, ``wall`` or ``open`` along x, y, z. ``open`` is an artificial edge (the side of a
            patch): what lies beyond is unknown and is extrapolated.
        origin: coordinate of the low corner of the box (not of the first cell centre).
        centers: cell-centre coordinates along x, y, z of a stretched axis, ``None`` for a uniform one.

    Raises:
        ValueError: a shape or spacing that is not positive, an unknown boundary, centres that do not increase inside
            the box, or a stretched axis that is periodic.
    """

    shape: tuple[int, int, int]
    spacing: Triple = (1.0, 1.0, 1.0)
    boundary: tuple[str, str, str] = ("periodic", "periodic", "periodic")
    origin: Triple = (0.0, 0.0, 0.0)
    centers: tuple[Centers, Centers, Centers] = (None, None, None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "spacing", tuple(float(d) for d in self.spacing))
        object.__setattr__(self, "boundary", tuple(str(b) for b in self.boundary))
        object.__setattr__(self, "origin", tuple(float(o) for o in self.origin))
        if not (len(self.shape) == len(self.spacing) == len(self.boundary) == len(self.origin) == 3):
            raise ValueError(f"a grid has three axes, got {self}")
        if any(n < 1 for n in self.shape) or any(not d > 0 for d in self.spacing):
            raise ValueError(f"shape and spacing must be positive, got {self.shape} and {self.spacing}")
        if any(b not in BOUNDARIES for b in self.boundary):
            raise ValueError(f"boundary must be one of {BOUNDARIES} per axis, got {self.boundary}")
        if len(self.centers) != 3:
            raise ValueError(f"centers are given for three axes, got {len(self.centers)}")
        object.__setattr__(self, "centers", tuple(self._checked_centers(axis) for axis in range(3)))

    @property
    def lengths(self) -> Triple:
        """Side lengths of the box."""
        return triple(n * d for n, d in zip(self.shape, self.spacing, strict=True))

    @property
    def periodic(self) -> bool:
        """True when all three axes are periodic."""
        return all(b == "periodic" for b in self.boundary)

    @property
    def stretched(self) -> tuple[bool, bool, bool]:
        """Which of the axes x, y, z have cells of different sizes."""
        return triple(c is not None for c in self.centers)

    def coordinates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cell-centre coordinates along x, y, z."""
        return triple(self._uniform(axis, 0.5) if c is None else np.array(c) for axis, c in enumerate(self.centers))

    def faces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coordinates (n + 1,) of the cells' faces along x, y, z."""
        return triple(self._faces(axis) for axis in range(3))

    def widths(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cell sizes (n,) along x, y, z; the volume of a cell is the product."""
        return triple(
            np.full(n, d) if c is None else np.diff(self._faces(axis))
            for axis, (n, d, c) in enumerate(zip(self.shape, self.spacing, self.centers, strict=True))
        )

    def refined(self, factor: int | tuple[int, int, int]) -> Grid:
        """The grid of the same box with every cell split into ``factor`` equal parts along each axis."""
        factors = _per_axis(factor)
        return replace(
            self,
            shape=triple(n * s for n, s in zip(self.shape, factors, strict=True)),
            spacing=triple(d / s for d, s in zip(self.spacing, factors, strict=True)),
            centers=triple(
                None if c is None else self._split(axis, factors[axis]) for axis, c in enumerate(self.centers)
            ),
        )

    def coarsened(self, factor: int | tuple[int, int, int]) -> Grid:
        """The grid of the same box with ``factor`` cells merged into one along each axis.

        The centre of a merged cell is the mean of its parts' centres, weighted with their sizes.

        Raises:
            ValueError: a side that ``factor`` does not divide.
        """
        factors = _per_axis(factor)
        if any(n % s for n, s in zip(self.shape, factors, strict=True)):
            raise ValueError(f"factor {factor} does not divide the shape {self.shape}")
        return replace(
            self,
            shape=triple(n // s for n, s in zip(self.shape, factors, strict=True)),
            spacing=triple(d * s for d, s in zip(self.spacing, factors, strict=True)),
            centers=triple(
                None if c is None else self._merged(axis, factors[axis]) for axis, c in enumerate(self.centers)
            ),
        )

    def transformed(self, source: tuple[int, int, int], flipped: tuple[int, ...]) -> Grid:
        """The grid after a permutation and flips of its axes about the centre of the box.

        Args:
            source: new axis i was axis ``source[i]``.
            flipped: the new axes that run backwards.
        """
        lengths = self.lengths
        origin = triple(self.origin[i] + (lengths[i] - lengths[axis]) / 2 for i, axis in enumerate(source))

        def centers(new: int, axis: int) -> Centers:
            if self.centers[axis] is None:
                return None
            inside = np.array(self.centers[axis]) - self.origin[axis]
            return tuple(origin[new] + (lengths[axis] - inside[::-1] if new in flipped else inside))

        return Grid(
            shape=triple(self.shape[axis] for axis in source),
            spacing=triple(self.spacing[axis] for axis in source),
            boundary=triple(self.boundary[axis] for axis in source),
            origin=origin,
            centers=triple(centers(new, axis) for new, axis in enumerate(source)),
        )

    def _uniform(self, axis: int, offset: float) -> np.ndarray:
        return self.origin[axis] + (np.arange(self.shape[axis]) + offset) * self.spacing[axis]

    def _faces(self, axis: int) -> np.ndarray:
        end = self.origin[axis] + self.lengths[axis]
        if self.centers[axis] is None:
            return np.append(self._uniform(axis, 0.0), end)
        centers = np.array(self.centers[axis])
        return np.concatenate([[self.origin[axis]], (centers[1:] + centers[:-1]) / 2, [end]])

    def _split(self, axis: int, factor: int) -> tuple[float, ...]:
        faces = self._faces(axis)
        parts = (np.arange(factor) + 0.5) / factor
        return tuple((faces[:-1, None] + np.diff(faces)[:, None] * parts).ravel())

    def _merged(self, axis: int, factor: int) -> tuple[float, ...]:
        centers, widths = self.coordinates()[axis].reshape(-1, factor), self.widths()[axis].reshape(-1, factor)
        return tuple((centers * widths).sum(axis=1) / widths.sum(axis=1))

    def _checked_centers(self, axis: int) -> Centers:
        if self.centers[axis] is None:
            return None
        centers = np.asarray(self.centers[axis], dtype=float)
        name, start, side = "xyz"[axis], self.origin[axis], self.lengths[axis]
        if centers.shape != (self.shape[axis],) or not np.all(np.isfinite(centers)):
            raise ValueError(f"{name} has {self.shape[axis]} cells, got {centers.shape} centers")
        slack = EQUAL_STEPS * self.spacing[axis]
        if np.abs(centers - self._uniform(axis, 0.5)).max() <= slack:
            return None
        if self.boundary[axis] == "periodic":
            raise ValueError(f"a periodic axis has equal steps, {name} is stretched")
        if not np.all(np.diff(centers) > 0) or centers[0] < start - slack or centers[-1] > start + side + slack:
            raise ValueError(f"the centers of {name} must increase from {start} to {start + side}")
        return tuple(centers.tolist())


def _per_axis(factor: int | tuple[int, int, int]) -> tuple[int, int, int]:
    return triple(factor) if isinstance(factor, Iterable) else (factor, factor, factor)


def triple(values: Iterable[T]) -> tuple[T, T, T]:
    """Three values, one for each of x, y, z."""
    x, y, z = values
    return x, y, z
