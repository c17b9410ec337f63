"""Metrics of a field that is larger than memory: tile by tile, each with the halo that the metrics ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import FieldMetric, remember, shared_work
from flowsr.metrics.derivatives import DERIVATIVE_HALO, finite_differences, gradient
from flowsr.metrics.tiles import Around, Cut, Tile, cut_axes, cuts_of, piece_of
from flowsr.progress import SILENT, Progress

Cells = tuple[np.ndarray, np.ndarray, np.ndarray]
Read = Callable[[Cells], np.ndarray]

SIDE = 128


@torch.no_grad()
def measure_in_tiles(
    metrics: Sequence[FieldMetric],
    prediction: Read,
    target: Read,
    grid: Grid,
    side: int = SIDE,
    device: str | torch.device = "cpu",
) -> None:
    """Update metrics with one snapshot, in the memory of one tile.

    The result is that of ``metric.update`` with the whole fields, to round-off, for metrics of values and of
    neighbourhoods. For metrics of derivatives it is that of ``metric.update`` inside
    :func:`~flowsr.metrics.finite_differences` for the axes that the tiles cut.

    Args:
        metrics: whose ``halo`` is not None.
        prediction, target: give the field (component, x, y, z) at three index arrays.
        grid: the grid of both.
        side: cells along a tile's side; an axis of no more cells is taken whole.
        device: where the tiles are measured; that of the metrics.

    Raises:
        ValueError: a metric that needs the whole field.
    """
    whole_only = [type(metric).__name__ for metric in metrics if metric.halo is None]
    if whole_only:
        raise ValueError(f"not to be had from tiles: {', '.join(whole_only)}")
    halo = max((metric.halo for metric in metrics), default=0)
    for cuts in cuts_of(grid, side, halo):
        cells = tuple(cut.cells for cut in cuts)
        fields = (np.ascontiguousarray(read(cells)) for read in (prediction, target))
        with shared_work(), finite_differences(cut_axes(grid, side)):
            tile = _tile(*(torch.as_tensor(field, device=device)[None] for field in fields), grid, cuts)
            if halo >= DERIVATIVE_HALO:  # the gradients of the tile's fields are those of the fields around it
                for own, wide in ((tile.prediction, tile.around.prediction), (tile.target, tile.around.target)):
                    remember(gradient, own, tile.grid, tile.around.inside(gradient(wide, tile.around.grid)))
            for metric in metrics:
                metric.update_tile(tile)


def measure_datasets(
    metrics: Sequence[FieldMetric],
    prediction: xr.DataArray,
    target: xr.DataArray,
    grid: Grid,
    side: int = SIDE,
    device: str | torch.device = "cpu",
    progress: Progress = SILENT,
) -> None:
    """Update metrics with all snapshots of two variables that are read when used.

    Args:
        metrics: as in :func:`measure_in_tiles`.
        prediction, target: dims (time, component, x, y, z) or (time, x, y, z), of one shape.
        grid: the grid of both, such as :func:`flowsr.data.grid_of` the target's dataset.
        side, device: as in :func:`measure_in_tiles`.
        progress: told the fraction of snapshots done.

    Raises:
        ValueError: variables that differ in shape, or a metric that needs the whole field.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction {prediction.shape} and target {target.shape} differ in shape")
    count = target.sizes["time"]
    for time in range(count):
        readers = (_reader(variable.isel(time=time)) for variable in (prediction, target))
        measure_in_tiles(metrics, *readers, grid, side, device)
        progress((time + 1) / count, f"{time + 1} of {count} snapshots")


def _tile(prediction: Tensor, target: Tensor, grid: Grid, cuts: tuple[Cut, Cut, Cut]) -> Tile:
    with_halo = piece_of(grid, tuple(c.start - c.before for c in cuts), tuple(len(c.cells) for c in cuts))
    around = Around(prediction, target, with_halo, cuts)
    own = piece_of(grid, tuple(c.start for c in cuts), tuple(c.stop - c.start for c in cuts))
    return Tile(around.inside(prediction), around.inside(target), own, around, grid)


def _reader(snapshot: xr.DataArray) -> Read:
    def read(cells: Cells) -> np.ndarray:
        values = snapshot.isel(dict(zip("xyz", cells))).values
        return values[None] if snapshot.ndim == 3 else values

    return read
