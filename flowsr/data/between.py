"""A field between walls, known between its cells as well: Fourier's series along the walls, Chebyshev's across them."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.polynomial.chebyshev import chebder
from scipy.fft import dct, irfft, rfft
from scipy.ndimage import map_coordinates, spline_filter

from flowsr.grid import Grid

ORDER, REFINE = 5, 2


class BetweenWalls:
    """A field that is zero on two walls, at any place between them.

    The series are taken on a grid twice as fine, which is uniform in the angle whose cosine goes from wall to wall, and
    splines of order 5 between its points: 1e-4 of the RMS where the field is resolved.

    Args:
        field: (components, x, y, z) at cell centres, as a simulated channel has them.
        grid: two periodic axes, and one between walls with the Chebyshev-Gauss points.

    Raises:
        ValueError: another grid.
    """

    def __init__(self, field: np.ndarray, grid: Grid):
        walls = [axis for axis, kind in enumerate(grid.boundary) if kind == "wall"]
        if len(walls) != 1 or sum(kind == "periodic" for kind in grid.boundary) != 2:
            raise ValueError(f"one axis has walls and two are periodic, got {grid.boundary}")
        self.grid, (self.wall,) = grid, walls
        self.half, count = grid.lengths[self.wall] / 2, grid.shape[self.wall]
        self.middle = grid.origin[self.wall] + self.half
        points = self.middle - self.half * np.cos(np.pi * (np.arange(count) + 0.5) / count)
        if not np.allclose(grid.coordinates()[self.wall], points, atol=1e-6 * self.half):
            raise ValueError("between walls a field is known everywhere on the Chebyshev-Gauss points alone")
        values = np.moveaxis(np.asarray(field, dtype=np.float64), self.wall + 1, 1)
        series = dct(values, axis=1) / count  # in cosines of the angle, from the lower wall on
        series[:, 0] /= 2
        # what is 0 at all those points and makes both walls 0: (a + b s) T_n(s), s the cosine
        signs = (-1.0) ** np.arange(count)[:, None, None]
        at_lower, at_upper = series.sum(1), (signs * series).sum(1)
        even, odd = -(at_lower + (-1) ** count * at_upper) / 2, -(at_lower - (-1) ** count * at_upper) / 2
        self._series = np.concatenate([series, np.zeros_like(series[:, :2])], 1)
        self._series[:, count] += even
        self._series[:, [count - 1, count + 1]] += odd[:, None] / 2

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """(places, components)."""
        return self._at(self._values, places)

    def gradient(self, places: np.ndarray) -> np.ndarray:
        """(places, components, 3): derivative of component i along axis j at [i, j]."""
        return np.stack([self._at(each, places) for each in self._slopes], -1)

    def across(self, angles: np.ndarray) -> np.ndarray:
        """(components, x, y, z): cells along the walls; across them angles, 0 at the lower and pi at the upper one."""
        basis = np.cos(np.arange(self._series.shape[1]) * np.asarray(angles)[:, None])
        return np.moveaxis(np.einsum("ak,ckmn->camn", basis, self._series), 1, self.wall + 1)

    @cached_property
    def _values(self) -> list[np.ndarray]:
        return self._splines(None)

    @cached_property
    def _slopes(self) -> list[list[np.ndarray]]:
        return [self._splines(axis) for axis in range(3)]

    def _splines(self, along: int | None) -> list[np.ndarray]:
        """Splines of each component, or of its derivative along an axis, on the finer grid and its mirror image."""
        series, count = self._series, REFINE * self.grid.shape[self.wall]
        if along == self.wall:
            series = -chebder(series, axis=1) / self.half
        padded = np.zeros((len(series), count, *series.shape[2:]))
        padded[:, : series.shape[1]] = series
        padded[:, 1:] /= 2
        values = np.moveaxis(dct(padded, type=3, axis=1), 1, self.wall + 1)
        for axis in (axis for axis in range(3) if axis != self.wall):
            n, length = self.grid.shape[axis], self.grid.lengths[axis]
            modes = np.moveaxis(rfft(values, axis=axis + 1), axis + 1, -1)[..., : (n + 1) // 2]
            if along == axis:
                modes = modes * (2j * np.pi / length * np.arange(modes.shape[-1]))
            values = np.moveaxis(irfft(modes, REFINE * n) * REFINE, -1, axis + 1)
        mirrored = np.concatenate([values, np.flip(values, self.wall + 1)], self.wall + 1)
        return [spline_filter(each, ORDER, mode="grid-wrap") for each in mirrored]

    def _at(self, splines: list[np.ndarray], places: np.ndarray) -> np.ndarray:
        index = (places - np.array(self.grid.origin)) / np.array(self.grid.spacing) - 0.5
        index *= REFINE
        cosine = np.clip((self.middle - places[:, self.wall]) / self.half, -1.0, 1.0)
        count = REFINE * self.grid.shape[self.wall]
        index[:, self.wall] = np.arccos(cosine) * count / np.pi - 0.5
        options = {"order": ORDER, "mode": "grid-wrap", "prefilter": False}
        return np.stack([map_coordinates(each, index.T, **options) for each in splines], 1)
