"""Pieces of a field that is too large for memory, each with the cells around it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from torch import Tensor

from flowsr.grid import Grid


@dataclass(frozen=True)
class Cut:
    """One axis of a tile: its cells from ``start`` to ``stop`` among those of the whole field.

    Args:
        cells: indices to read, halo included; they wrap on a periodic axis.
        before: how many of ``cells`` come before ``start``.
    """

    start: int
    stop: int
    cells: np.ndarray
    before: int

    @property
    def inside(self) -> slice:
        """The tile's own cells among those that are read."""
        return slice(self.before, self.before + self.stop - self.start)


@dataclass(frozen=True)
class Around:
    """A tile with its halo.

    Args:
        prediction, target: (batch, component, x, y, z).
        grid: their grid. Its periodic axes are those of the whole field: on one that is cut, what wraps is wrong in
            the halo, and only there.
        cuts: the three axes.
    """

    prediction: Tensor
    target: Tensor
    grid: Grid
    cuts: tuple[Cut, Cut, Cut]

    def inside(self, values: Tensor) -> Tensor:
        """What lies in the tile itself, of values (..., x, y, z)."""
        return values[(..., *(cut.inside for cut in self.cuts))]


@dataclass(frozen=True)
class Tile:
    """A tile without its halo, and with it.

    Args:
        prediction, target: (batch, component, x, y, z).
        grid: their grid.
        around: the same with the halo.
        whole: the grid of the whole field.
    """

    prediction: Tensor
    target: Tensor
    grid: Grid
    around: Around
    whole: Grid


def cuts_of(grid: Grid, side: int, halo: int) -> Iterator[tuple[Cut, Cut, Cut]]:
    """All tiles of a grid, ordered along x, then y, then z.

    Args:
        side: cells along a tile's side; an axis of no more cells is not cut.
        halo: cells to read around it; beyond a wall or an open edge there are none.
    """
    return product(*(_cuts(n, side, halo, kind == "periodic") for n, kind in zip(grid.shape, grid.boundary)))


def cut_axes(grid: Grid, side: int) -> tuple[int, ...]:
    """The axes that tiles of this side cut."""
    return tuple(axis for axis in range(3) if grid.shape[axis] > side)


def piece_of(grid: Grid, first: tuple[int, int, int], shape: tuple[int, int, int]) -> Grid:
    """The grid of a block of cells, the cells' sizes as they are in the whole; its boundaries are the whole's.

    Args:
        first: the block's first cell along each axis; before the first or beyond the last cell of a periodic axis too.
        shape: its cells along each axis.
    """
    origin, spacing, centers = list(grid.origin), list(grid.spacing), [None, None, None]
    for axis, (start, count) in enumerate(zip(first, shape)):
        if grid.centers[axis] is None:
            origin[axis] += start * spacing[axis]
        else:
            faces = grid.faces()[axis]
            origin[axis], spacing[axis] = faces[start], (faces[start + count] - faces[start]) / count
            centers[axis] = grid.centers[axis][start : start + count]
    return replace(grid, shape=shape, origin=tuple(origin), spacing=tuple(spacing), centers=tuple(centers))


def _cuts(length: int, side: int, halo: int, periodic: bool) -> list[Cut]:
    if side >= length:
        return [Cut(0, length, np.arange(length), 0)]
    cuts = []
    for start in range(0, length, side):
        stop = min(start + side, length)
        cells = np.arange(start - halo, stop + halo)
        cells = cells % length if periodic else cells[(cells >= 0) & (cells < length)]
        before = halo if periodic else start - int(cells[0])
        cuts.append(Cut(start, stop, cells, before))
    return cuts
