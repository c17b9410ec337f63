"""Tiling: a tile is computed with the halo its model needs and cropped, so that tiles and the whole field agree.

They agree to round-off for every model whose reach is finite, networks and `nearest` and `trilinear`; for `tricubic`,
whose reach is not and is cut at a halo of 14 cells, to single precision. `spectral` is never cut into tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowsr.data.scales import FieldScales, measure_scales
from flowsr.errors import BadValue, FlowsrError
from flowsr.grid import Grid
from flowsr.models import Upscaler
from flowsr.models.missing import around_missing

Box = tuple[slice, slice, slice]
Cells = tuple[np.ndarray, np.ndarray, np.ndarray]
Reader = Callable[[Cells], np.ndarray]


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


Tile = tuple[Span, Span, Span]


def span(length: int, start: int, stop: int, halo: int, boundary: str) -> Span:
    """Cells ``start`` to ``stop`` of an axis with a halo; all of them are taken with their own boundary and no halo."""
    if stop - start >= length:
        return Span(0, length, np.arange(length), 0, boundary)
    return _cut(length, start, stop, halo, boundary)


def _cut(length: int, start: int, stop: int, halo: int, boundary: str) -> Span:
    cells = np.arange(start - halo, stop + halo)
    if boundary == "periodic":
        return Span(start, stop, cells % length, halo, "open")
    inside = cells[(cells >= 0) & (cells < length)]
    touches = start < halo or stop > length - halo
    return Span(start, stop, inside, start - int(inside[0]), boundary if touches else "open")


def spans(length: int, tile: int, halo: int, boundary: str) -> list[Span]:
    """The tiles of one axis. An axis that fits into one tile is taken whole, with its own boundary and no halo."""
    return [span(length, start, min(start + tile, length), halo, boundary) for start in range(0, length, tile)]


def tiles_of(grid: Grid, tile: int, halo: int | None) -> list[Tile]:
    """All tiles of a coarse grid, ordered along x, then y, then z; one tile where ``halo`` is None."""
    whole = tuple(slice(0, length) for length in grid.shape)
    return tiles_in(grid, whole, tuple(length if halo is None else tile for length in grid.shape), halo or 0)


def tiles_in(grid: Grid, box: Box, sides: tuple[int, int, int], halo: int) -> list[Tile]:
    """The tiles of a box of coarse cells, ordered along x, then y, then z.

    Args:
        grid: of the whole coarse field.
        box: slices along x, y, z.
        sides: cells along the sides of a tile.
        halo: cells to read around a tile.
    """
    return list(product(*(spans_in(grid, axis, box[axis], sides[axis], halo) for axis in range(3))))


def spans_in(grid: Grid, axis: int, part: slice, side: int, halo: int) -> list[Span]:
    """The tiles of a stretch of one axis."""
    length, boundary = grid.shape[axis], grid.boundary[axis]
    ends = [(start, min(start + side, part.stop)) for start in range(part.start, part.stop, side)]
    return [span(length, start, stop, halo, boundary) for start, stop in ends]


def around(grid: Grid, box: Box, sides: tuple[int, int, int], halo: int) -> Tile:
    """What all tiles of a box read between them: the box with a halo along the axes that tiles cut."""
    return tuple(
        (span if side >= length else _cut)(length, part.start, part.stop, halo, boundary)
        for length, boundary, part, side in zip(grid.shape, grid.boundary, box, sides)
    )


def within(tile: Tile, box: Tile) -> tuple[slice, slice, slice]:
    """Where the cells read for a tile lie among those read for the box that it is of."""
    firsts = ((part.start - part.before) - (whole.start - whole.before) for part, whole in zip(tile, box))
    return tuple(slice(first, first + len(part.cells)) for first, part in zip(firsts, tile))


@torch.no_grad()
def upscale_tile(
    model: Upscaler, read: Reader, grid: Grid, tile: Tile, device: str = "cpu", scales: FieldScales | None = None
) -> Tensor:
    """One fine tile.

    Args:
        model: the up-scaler, in eval mode on ``device``.
        read: gives the coarse field (frames component, x, y, z) at three index arrays.
        grid: grid of the whole coarse field.
        tile: one of :func:`tiles_of`.
        scales: of the whole coarse field (:func:`scales_for`), for a model that needs them.

    Returns:
        (component, factor x, factor y, factor z) for the cells ``start`` to ``stop`` of the tile, on the CPU.

    Raises:
        FlowsrError: a box that the model is not for.
    """
    coarse = torch.from_numpy(np.ascontiguousarray(read(tuple(span.cells for span in tile))))
    coarse = coarse.float() if coarse.dtype == torch.half else coarse  # whose sums overflow, and which has no transform
    if device == "cuda":
        coarse = coarse.pin_memory()
    given = coarse.to(device, non_blocking=True)[None], tile_grid(grid, tile)
    try:
        if bool(torch.isnan(coarse).any()):
            fine = around_missing(model, *given, scales)[0]
        else:
            fine = model(*given, **({"scales": scales} if model.needs_scales else {}))[0]
    except ValueError as error:
        if isinstance(error, FlowsrError):
            raise
        raise BadValue("this model cannot upscale this field", found=str(error)) from None
    core = (slice(span.before * model.factor, (span.before + span.stop - span.start) * model.factor) for span in tile)
    fine = fine[(slice(None), *core)]
    if not fine.is_cuda:
        return fine
    host = torch.empty(fine.shape, dtype=fine.dtype, pin_memory=True)
    host.copy_(fine, non_blocking=True)
    torch.cuda.current_stream().synchronize()
    return host


def scales_for(
    model: Upscaler, frames: Sequence[Any], grid: Grid, viscosity: float | None = None
) -> FieldScales | None:
    """The scales that every tile of a field shares, in one pass over it; None for a model that needs none.

    Args:
        frames: the whole coarse field, (component, x, y, z) each, arrays or lazy ones.
        viscosity: kinematic, where it is known.
    """
    found = measure_scales(frames, grid, model.irreps) if model.needs_scales else None
    return replace(found, viscosity=viscosity) if found is not None and model.takes_viscosity else found


def tile_grid(grid: Grid, tile: Tile) -> Grid:
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


def fine_slices(tile: Tile, factor: int) -> tuple[slice, slice, slice]:
    """Where a tile lies in the fine field."""
    return tuple(slice(span.start * factor, span.stop * factor) for span in tile)


def upscale_array(model: Upscaler, coarse: np.ndarray, grid: Grid, tile: int, device: str = "cpu") -> np.ndarray:
    """A field in memory, tile by tile: (frames component, x, y, z) to (component, factor x, factor y, factor z)."""
    shape = (coarse.shape[0] // model.frames, *(n * model.factor for n in grid.shape))
    fine = np.empty(shape, dtype=coarse.dtype)
    scales = scales_for(model, np.split(coarse, model.frames), grid)
    for part in tiles_of(grid, tile, model.halo):
        values = upscale_tile(model, lambda cells: coarse[(slice(None), *np.ix_(*cells))], grid, part, device, scales)
        fine[(slice(None), *fine_slices(part, model.factor))] = values.numpy()
    return fine
