"""A trained model over a dataset of xarray's: in memory, or read, tile by tile, when the result is used."""

from __future__ import annotations

import copy
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr

from flowsr import __version__
from flowsr.data import grid_of
from flowsr.data.field import axes_of
from flowsr.data.open import IN_MEMORY, field_of
from flowsr.data.quality import carries_missing
from flowsr.data.readers.lazy import Index, LazyArray
from flowsr.devices import resolve_device
from flowsr.errors import FlowsrError
from flowsr.models import ModelCard, Upscaler, load_model, read_card
from flowsr.upscale.blocks import read_cells
from flowsr.upscale.plan import check_verdict, choose_model, field_to_upscale, home_verdict, targets_of
from flowsr.upscale.tiles import around, fine_slices, scales_for, tiles_in, upscale_tile, within

#: Coarse cells along the sides of a tile.
TILE = 48


def upscale_dataset(
    dataset: xr.Dataset,
    model: Upscaler | str | Any | None = None,
    *,
    variable: str = "velocity",
    factor: int | None = None,
    tile: int = TILE,
    device: str = "auto",
    force: bool = False,
    strict: bool = False,
) -> xr.Dataset:
    """The fine field of a coarse one, both datasets.

    A field in memory is upscaled at once. Of one that is read when it is used (what :func:`flowsr.open_field` gives, or
    one in chunks of Dask's), the result is as well: each part of it that is asked for reads the coarse cells about it,
    so that ``fine.isel(x=slice(0, 64))`` or ``fine.chunk(...).to_zarr(...)`` never hold the whole. Both equal the file
    that ``flowsr upscale`` writes.

    Args:
        dataset: in the one layout (:mod:`flowsr.data.field`): dims time, component, x, y, z; ``irreps`` on the variable
            and ``boundary`` on the dataset. Of any other :func:`flowsr.data.open.field_of` makes such a one, with open
            sides; ``dataset.flowsr.field(boundary=...)`` does it with what only you know.
        model: a model, the folder or the name of one; None: the one of those that come with flowsr that fits.
        variable: of the dataset.
        factor: wanted, where no model is given.
        tile: coarse cells along the sides of a tile.
        device: ``auto``, ``cpu`` or ``cuda``.
        force: also where the model cannot be right.
        strict: refuse a field that is not like those that the model was trained on.

    Returns:
        The variable on the refined grid, units and boundaries as they were, with the model, and whether it is at home,
        in the attribute ``provenance``.

    Raises:
        FlowsrError: a dataset or model that cannot be used, NaN, or a field that the model is not for.
    """
    dataset = field_of(dataset)
    if tile < 1:
        raise FlowsrError("a tile is at least 1", variable="tile", expected="1 or more", found=tile)
    chosen, card = None, getattr(model, "card", None)
    if not isinstance(model, Upscaler):
        folder, chosen = choose_model(model, dataset, variable, factor, IN_MEMORY)
        model, card = load_model(folder), read_card(folder)
    array, grid = field_to_upscale(dataset, variable, model, IN_MEMORY), grid_of(dataset)
    model = copy.deepcopy(model).to(resolve_device(device)).eval()  # the caller's stays where and as it is
    if array.dtype == np.float64 and model.in_double:
        model = model.double()
    targets = targets_of(model, dataset.time.values, IN_MEMORY)
    verdict = home_verdict(model, card, array, grid, dataset.attrs, targets)
    check_verdict(verdict, IN_MEMORY, variable, force=force, strict=strict)
    fine = _Fine(model, array, grid, tuple(targets), tile, carries_missing(dataset), dataset.attrs.get("viscosity"))
    values = fine.as_variable(array.dims, dict(array.attrs))
    provenance = {
        "source_provenance": dataset.attrs.get("provenance"),
        **({} if card is None else _said_of(card)),
        **({} if chosen is None else {"chosen": chosen}),
        "factor": model.factor,
        "home": asdict(verdict),
        "flowsr": __version__,
    }
    coords = {"time": dataset.time[targets], **axes_of(grid.refined(model.factor))}
    if "component" in array.dims:
        coords["component"] = dataset.component
    kept = {key: value for key, value in dataset.attrs.items() if key not in ("provenance", "degrade_operator")}
    result = xr.Dataset({variable: values}, coords, {**kept, "provenance": provenance})
    return result.load() if isinstance(array.variable._data, np.ndarray) else result


def _said_of(card: ModelCard) -> dict[str, Any]:
    said = {"model": card.model, "options": card.options}
    return said | {k: card.training[k] for k in ("weights_sha256",) if k in card.training}


class _Fine(LazyArray):
    """The fine field, of which a part is computed when it is read."""

    def __init__(
        self,
        model: Upscaler,
        array: xr.DataArray,
        grid,
        targets: tuple[int, ...],
        tile: int,
        missing: bool,
        viscosity: float | None,
    ):
        shape = (len(targets), *array.shape[1:-3], *(n * model.factor for n in grid.shape))
        super().__init__(shape, array.dtype, IN_MEMORY, str(array.name))
        self.model, self.array, self.grid, self.targets, self.missing = model, array, grid, targets, missing
        self.viscosity = viscosity
        self.sides = tuple(n if model.halo is None else min(tile, n) for n in grid.shape)
        self._scales: dict[int, Any] = {}

    def load(self, index: Index) -> np.ndarray:
        ranges = [
            range(n)[part if isinstance(part, slice) else slice(part, part + 1)] for n, part in zip(self.shape, index)
        ]
        out = np.empty([len(each) for each in ranges], self.dtype)
        for place, time in enumerate(ranges[0]):
            values = self._snapshot(self.targets[time], ranges[-3:])
            out[place] = values[list(ranges[1])] if len(self.shape) == 5 else values[0]
        return out[tuple(0 if isinstance(part, int) else slice(None) for part in index)]

    def _snapshot(self, target: int, wanted: list[range]) -> np.ndarray:
        """(component, x, y, z) of the fine cells that are wanted, whole tiles computed and cut."""
        factor, halo = self.model.factor, self.model.halo or 0
        ends = [(each[0], each[-1] + 1) for each in wanted]
        box = tuple(
            slice(low // (factor * side) * side, min(n, math.ceil(high / (factor * side)) * side))
            for (low, high), side, n in zip(ends, self.sides, self.grid.shape)
        )
        fine = np.empty((self.model.components, *((part.stop - part.start) * factor for part in box)), self.dtype)
        whole = around(self.grid, box, self.sides, halo)
        frames, cells = self.model.window.around(target), tuple(each.cells for each in whole)
        coarse = read_cells(self.array, frames, cells, IN_MEMORY, "nan" if self.missing else "refuse")
        device = next((str(p.device) for p in self.model.parameters()), "cpu").partition(":")[0]
        for tile in tiles_in(self.grid, box, self.sides, halo):
            read = within(tile, whole)
            values = upscale_tile(
                self.model,
                lambda cells, read=read: coarse[(slice(None), *read)],
                self.grid,
                tile,
                device,
                self._scale(target),
            )
            places = (
                slice(at.start - part.start * factor, at.stop - part.start * factor)
                for at, part in zip(fine_slices(tile, factor), box)
            )
            fine[(slice(None), *places)] = values.numpy()
        cut = (
            slice(each.start - part.start * factor, each.stop - part.start * factor, each.step)
            for each, part in zip(wanted, box)
        )
        return fine[(slice(None), *cut)]

    def _scale(self, target: int):
        if target not in self._scales:
            frames = [self.array.isel(time=time) for time in self.model.window.around(target)]
            self._scales[target] = scales_for(self.model, frames, self.grid, self.viscosity)
        return self._scales[target]
