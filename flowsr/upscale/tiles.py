"""Tiling: a tile is computed with the halo its model needs and cropped, so that tiles and the whole field agree.

They agree to round-off for every model whose reach is finite, networks and `nearest` and `trilinear`; for `tricubic`,
whose reach is not and is cut at a halo of 14 cells, to single precision. `spectral` is never cut into tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.models import Upscaler

Reader = Callable[[tuple[np.ndarray, np.ndarray, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Span:
    """One axis of a tile: cells ``start`` to ``stop``, the cells to read for it, and where it lies among them.

    Args:
        start: first coarse cell of the tile.
        stop: one past its last.
        cells: indices to read, halo included; they wrap on a periodic axis.
        before: how many of ``cells`` come before ``start``.
        boundary: how the axis goes on beyond ``cells``.
    """

    start: int
    stop: int
    cells: np.ndarray
    before: int
    boundary: str


def spans(length: int, tile: int, halo: int, boundary: str) -> list[Span]:
    """The tiles of one axis. An axis that fits into one tile is taken whole, with its own boundary and no halo."""
    if tile >= length:
        return [Span(0, length, np.arange(length), 0, boundary)]
    found = []
    for start in range(0, length, tile):
        stop = min(start + tile, length)
        cells = np.arange(start - halo, stop + halo)
        if boundary == "periodic":
            found.append(Span(start, stop, cells % length, halo, "open"))
        else:
            inside = cells[(cells >= 0) & (cells < length)]
            touches = start < halo or stop > length - halo
            found.append(Span(start, stop, inside, start - inside[0], boundary if touches else "open"))
    return found


def tiles_of(grid: Grid, tile: int, halo: int | None) -> list[tuple[Span, Span, Span]]:
    """All tiles of a coarse grid, ordered along x, then y, then z; one tile where ``halo`` is None."""
    per_axis = [
        spans(length, length if halo is None else tile, halo or 0, boundary)
        for length, boundary in zip(grid.shape, grid.boundary)
    ]
    return list(product(*per_axis))


@torch.no_grad()
def upscale_tile(
    model: Upscaler, read: Reader, grid: Grid, tile: tuple[Span, Span, Span], device: str = "cpu"
) -> Tensor:
    """One fine tile.

    Args:
        model: the up-scaler, in eval mode on ``device``.
        read: gives the coarse field (frames component, x, y, z) at three index arrays.
        grid: grid of the whole coarse field.
        tile: one of :func:`tiles_of`.

    Returns:
        (component, factor x, factor y, factor z) for the cells ``start`` to ``stop`` of the tile, on the CPU.
    """
    coarse = torch.as_tensor(np.ascontiguousarray(read(tuple(span.cells for span in tile))), device=device)
    fine = model(coarse[None], tile_grid(grid, tile))[0]
    core = (slice(span.before * model.factor, (span.before + span.stop - span.start) * model.factor) for span in tile)
    return fine[(slice(None), *core)].cpu()


def tile_grid(grid: Grid, tile: tuple[Span, Span, Span]) -> Grid:
    """The grid of the cells read for a tile, halo included; cells of a stretched axis keep their sizes."""
    shape, boundary = tuple(len(span.cells) for span in tile), tuple(span.boundary for span in tile)
    if not any(grid.stretched):
        return Grid(shape, grid.spacing, boundary)
    spacing, origin, centers = list(grid.spacing), [0.0, 0.0, 0.0], [None, None, None]
    for axis, (span, stretched) in enumerate(zip(tile, grid.stretched)):
        if stretched:
            first, last = span.cells[0], span.cells[-1]
            low, high = grid.faces()[axis][[first, last + 1]]
            spacing[axis], origin[axis] = (high - low) / len(span.cells), low
            centers[axis] = grid.centers[axis][first : last + 1]
    return Grid(shape, tuple(spacing), boundary, tuple(origin), tuple(centers))


def fine_slices(tile: tuple[Span, Span, Span], factor: int) -> tuple[slice, slice, slice]:
    """Where a tile lies in the fine field."""
    return tuple(slice(span.start * factor, span.stop * factor) for span in tile)


def upscale_array(model: Upscaler, coarse: np.ndarray, grid: Grid, tile: int, device: str = "cpu") -> np.ndarray:
    """A field in memory, tile by tile: (frames component, x, y, z) to (component, factor x, factor y, factor z)."""
    shape = (coarse.shape[0] // model.frames, *(n * model.factor for n in grid.shape))
    fine = np.empty(shape, dtype=coarse.dtype)
    for part in tiles_of(grid, tile, model.halo):
        values = upscale_tile(model, lambda cells: coarse[(slice(None), *np.ix_(*cells))], grid, part, device)
        fine[(slice(None), *fine_slices(part, model.factor))] = values.numpy()
    return fine
