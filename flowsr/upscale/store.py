"""A trained model over a stored field: the fine store appears whole or not at all, and a killed run is resumed."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from flowsr import __version__
from flowsr.data import grid_of, open_field
from flowsr.data.field import field_template
from flowsr.data.quality import BadValues, refuse_doubled
from flowsr.data.store import create_store
from flowsr.devices import resolve_device
from flowsr.errors import FlowsrError, missing_variable
from flowsr.files import file_checksum, tree_checksum
from flowsr.models import Upscaler, load_model, read_card
from flowsr.models.checkpoint import WEIGHTS
from flowsr.progress import SILENT, Progress
from flowsr.upscale.tiles import Reader, fine_slices, tiles_of, upscale_tile
from flowsr.windows import check_spacing

log = logging.getLogger(__name__)
MANIFESTS = (".yaml", ".yml")


def upscale_store(
    source: Path,
    model_folder: Path,
    target: Path,
    *,
    variable: str = "velocity",
    group: str | None = None,
    tile: int = 32,
    device: str = "auto",
    overwrite: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Upscale every snapshot of a stored field; with a model of several frames, every one with a whole window about it.

    A store is resumed, or reused as it is, when it was made of the same content by the same weights and flowsr.

    Args:
        source: a coarse field that :func:`flowsr.data.open_field` can open.
        model_folder: folder of a saved model.
        target: Zarr store to write: same times (those of the windows' targets), components, units and boundaries, finer
            coordinates, and provenance.
        variable: which field of the source.
        group: group inside the source store.
        tile: coarse cells along a tile's side; a tile of the result is one shard.
        device: ``auto``, ``cpu`` or ``cuda``.
        overwrite: replace a store of another source or model.
        progress: told the fraction of tiles done.

    Returns:
        ``target``.

    Raises:
        FlowsrError: a source or model that cannot be used, frames at another distance in time than the model was
            trained on, NaN or infinite values in the source or out of the model, a target made from something else, or
            one that is the source, lies in it or holds it.
    """
    if tile < 1:
        raise FlowsrError("a tile has at least one cell", variable="tile", expected="1 or more", found=tile)
    source, model_folder, target = Path(source), Path(model_folder), Path(target)
    device = resolve_device(device)
    model, card = load_model(model_folder).to(device), read_card(model_folder)
    dataset = open_field(source, group=group)
    contents = list(_contents(source, group))
    ours = target.resolve()
    for theirs in (source, *contents):
        if ours.is_relative_to(theirs.resolve()) or theirs.resolve().is_relative_to(ours):
            message, expected = "the output would be written over the input", "a path apart from it"
            raise FlowsrError(message, file=target, expected=expected, found=theirs)
    field = _field_to_upscale(dataset, variable, model, source)
    grid = grid_of(dataset, source)
    refuse_doubled(dataset, [variable], grid.boundary, source)
    tiles = tiles_of(grid, tile, model.halo)
    targets = _targets(model, dataset.time.values, source)
    template = field_template(
        grid.refined(model.factor),
        dataset.time.values[targets],
        variable=variable,
        irreps=model.irreps,
        components=tuple(str(c) for c in dataset.component.values) if "component" in field.dims else None,
        dtype=field.dtype,
        units=field.attrs.get("units", "1"),
        long_name=field.attrs.get("long_name"),
        attrs={
            **{key: dataset.attrs[key] for key in ("viscosity", "length_units") if key in dataset.attrs},
            "provenance": {
                "source": source.name,
                "source_group": group,
                "source_sha256": [tree_checksum(path) for path in contents],
                "source_provenance": dataset.attrs.get("provenance"),
                "model": card.model,
                "options": card.options,
                "weights_sha256": file_checksum(model_folder / WEIGHTS),
                "factor": model.factor,
                "flowsr": __version__,
            },
        },
    )
    sides = tuple((span.stop - span.start) * model.factor for span in tiles[0])
    with create_store(target, template, shard=sides, fresh=overwrite) as store:
        if store.published:
            return target
        total, done = len(tiles) * len(targets), 0
        for time, snapshot in enumerate(targets):
            read = _reader(field, model.window.around(snapshot), source)
            for part in tiles:
                box = fine_slices(part, model.factor)
                if not store.is_written(variable, time, box):
                    values = _stored(upscale_tile(model, read, grid, part, device).numpy(), field.dtype)
                    if not np.isfinite(values).all():
                        raise _not_finite(values, box, time, variable, source, card.model)
                    store.write(variable, values if "component" in field.dims else values[0], time=time, box=box)
                done += 1
                progress(done / total, f"snapshot {time + 1} of {len(targets)}")
        return store.publish()


def _stored(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The values as they will be stored; what the dtype has no room for is infinite."""
    with np.errstate(over="ignore"):
        return values.astype(dtype, copy=False)


def _not_finite(values: np.ndarray, box, time: int, variable: str, source: Path, model: str) -> FlowsrError:
    bad = ~np.isfinite(values)
    first = zip("xyz", box, np.argwhere(bad)[0][-3:], strict=True)
    place = ", ".join(f"{axis} {span.start + index}" for axis, span, index in first)
    found = f"{np.count_nonzero(bad)} in this tile, the first at time {time}, {place} of the fine field"
    message, hint = "NaN or infinite values from finite ones", "look at the weights, and at the size of the values"
    return FlowsrError(f"{message}: {model}", file=source, variable=variable, expected="0", found=found, hint=hint)


def _targets(model: Upscaler, times: np.ndarray, source: Path) -> list[int]:
    """Snapshots that can be upscaled: those with a whole window about them."""
    targets = model.window.targets(times, source)
    check_spacing(model.window.spacing(times), model.frame_spacing, source)
    if len(targets) < len(times):
        line = "%s: %d frames in, one out: %d of %d snapshots have a whole window and are upscaled"
        log.info(line, source.name, model.frames, len(targets), len(times))
    return targets


def _reader(field: xr.DataArray, frames: Iterable[int], source: Path) -> Reader:
    """Reads cells of the frames of a window, along the components; refuses NaN, infinite and missing values."""
    quality = BadValues(field)

    def read_frame(time: int, cells: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        values = field.isel(time=time).isel(dict(zip("xyz", cells))).values
        bad = quality.mask(values)
        if bad.any():
            first = zip("xyz", cells, np.argwhere(bad)[0][-3:])
            place = ", ".join(f"{axis} {along[index]}" for axis, along, index in first)
            found = f"{np.count_nonzero(bad)} NaN, infinite or missing in this tile, the first at time {time}, {place}"
            message, expected = "NaN, infinite or missing values", "finite values"
            raise FlowsrError(message, file=source, variable=field.name, expected=expected, found=found)
        return values if values.ndim == 4 else values[None]

    return lambda cells: np.concatenate([read_frame(time, cells) for time in frames])


def _contents(source: Path, group: str | None) -> Iterator[Path]:
    """The files and folders that decide what the source holds."""
    if source.suffix in MANIFESTS:
        from flowsr.data.manifest import files_of, read_manifest

        manifest = read_manifest(source)
        yield source
        yield from (file.path for run in manifest.files for file in files_of(manifest, source, run))
    else:
        folder = source / (group or "")
        yield folder if folder.is_dir() else source


def _field_to_upscale(dataset, variable: str, model: Upscaler, source: Path):
    if variable not in dataset:
        raise missing_variable(variable, dataset.data_vars, file=source)
    found = dataset[variable].attrs["irreps"]
    if found != model.irreps:
        raise FlowsrError(
            "the model is for another field type", file=source, variable=variable, expected=model.irreps, found=found
        )
    return dataset[variable]
