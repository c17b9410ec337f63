"""Spherical shells of wavenumber space, for any periodic box."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from flowsr.grid import Grid

TIE = 1e-9  # modes on the edge of two shells go to the outer one, whatever order |k| was summed in


@dataclass(frozen=True, eq=False)
class Shells:
    """Shells n = 0, 1, 2, ... of one width: shell n holds the modes with (n - 1/2) width <= |k| < (n + 1/2) width.

    Attributes:
        axes: wavenumbers along x, y, z of a real-input transform over z, (x,), (y,), (z // 2 + 1,).
        width: the largest of the three fundamental wavenumbers 2 pi / L: the thinnest shell that no direction leaves
            empty.
        wavenumber: (n,) nominal wavenumber of each shell, n times the width.
        index: (x, y, z // 2 + 1) shell of every mode of a real-input transform over z.
        multiplicity: (z // 2 + 1,) modes that each of those stands for: 2 where the conjugate is not stored.
        modes: (n,) modes in each shell.
        expected: (n,) modes a shell of its volume would hold on average, volume times L_x L_y L_z / (2 pi)^3.
        complete: (n,) True where the whole shell lies inside the Nyquist wavenumber of every axis.
    """

    axes: tuple[np.ndarray, np.ndarray, np.ndarray]
    width: float
    wavenumber: np.ndarray
    index: np.ndarray
    multiplicity: np.ndarray
    modes: np.ndarray
    expected: np.ndarray
    complete: np.ndarray

    @property
    def compensation(self) -> np.ndarray:
        """(n,) modes expected over modes there are: what a shell's sum is multiplied by to be rid of its raggedness.

        On a box of unequal sides the thin directions hold few modes of a shell and the count scatters more. 1 for
        shell 0, which is one mode, the mean.
        """
        return np.append(1.0, self.expected[1:] / self.modes[1:])

    @property
    def magnitude(self) -> np.ndarray:
        """(x, y, z // 2 + 1) |k| of every mode."""
        kx, ky, kz = self.axes
        return np.sqrt(kx[:, None, None] ** 2 + ky[None, :, None] ** 2 + kz**2)


def shells_of(grid: Grid) -> Shells:
    """The shells of a box with unequal sides and spacings alike.

    Raises:
        ValueError: a box that is not periodic along all three axes.
    """
    if not grid.periodic:
        raise ValueError(f"wavenumber shells need three periodic axes, got {grid.boundary}")
    return _shells(grid.shape, grid.spacing)


def cutoff_wavenumber(grid: Grid, factor: int) -> float:
    """Radius of the largest sphere of wavenumbers that a grid ``factor`` times as coarse as ``grid`` resolves.

    The smallest of the three coarse Nyquist wavenumbers pi / (factor spacing).
    """
    return math.pi / (factor * max(grid.spacing))


@lru_cache(maxsize=8)
def _shells(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Shells:
    kx, ky = (2 * math.pi * np.fft.fftfreq(n, d) for n, d in zip(shape[:2], spacing[:2]))
    kz = 2 * math.pi * np.fft.rfftfreq(shape[2], spacing[2])
    width = max(2 * math.pi / (n * d) for n, d in zip(shape, spacing))
    magnitude = np.sqrt(kx[:, None, None] ** 2 + ky[None, :, None] ** 2 + kz**2)
    index = np.floor(magnitude / width + 0.5 + TIE).astype(np.int64)
    multiplicity = np.full(len(kz), 2.0)
    multiplicity[0] = 1
    if shape[2] % 2 == 0:
        multiplicity[-1] = 1
    modes = np.bincount(index.ravel(), np.broadcast_to(multiplicity, index.shape).ravel())
    number = np.arange(len(modes))
    inner, outer = np.maximum(number - 0.5, 0) * width, (number + 0.5) * width
    density = math.prod(n * d for n, d in zip(shape, spacing)) / (2 * math.pi) ** 3
    expected = 4 / 3 * math.pi * (outer**3 - inner**3) * density
    complete = outer <= math.pi / max(spacing) * (1 + TIE)
    return Shells((kx, ky, kz), width, number * width, index, multiplicity, modes, expected, complete)
