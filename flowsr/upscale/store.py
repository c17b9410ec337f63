"""A trained model over a stored field: the fine store appears whole or not at all, and a killed run goes on."""

from __future__ import annotations

from pathlib import Path

from flowsr.data import grid_of, open_field
from flowsr.data.layout import field_template
from flowsr.data.store import create_store
from flowsr.devices import resolve_device
from flowsr.errors import FlowsrError
from flowsr.models import Upscaler, load_model, read_card
from flowsr.progress import Report
from flowsr.provenance import versions
from flowsr.upscale.tiles import fine_slices, tiles_of, upscale_tile


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
    progress: Report | None = None,
) -> Path:
    """Upscale every snapshot of a stored field.

    Args:
        source: a coarse field that :func:`flowsr.data.open_field` can open.
        model_folder: folder of a saved model.
        target: Zarr store to write: same times, components, units and boundaries, finer coordinates, and provenance.
        variable: which field of the source.
        group: group inside the source store.
        tile: coarse cells along a tile's side; a tile of the result is one shard.
        device: ``auto``, ``cpu`` or ``cuda``.
        overwrite: replace a store of another source or model.
        progress: told the fraction of tiles done.

    Returns:
        ``target``.

    Raises:
        FlowsrError: a source or model that cannot be used, or a target made from something else.
    """
    if tile < 1:
        raise FlowsrError("a tile has at least one cell", variable="tile", expected="1 or more", found=tile)
    device = resolve_device(device)
    model = load_model(model_folder).to(device)
    dataset = open_field(source, group=group)
    field = _field_to_upscale(dataset, variable, model, source)
    grid = grid_of(dataset, source)
    tiles = tiles_of(grid, tile, model.halo)
    template = field_template(
        grid.refined(model.factor), dataset.time.values, variable=variable, irreps=model.irreps,
        components=tuple(str(c) for c in dataset.component.values) if "component" in field.dims else None,
        dtype=field.dtype, units=field.attrs.get("units", "1"), long_name=field.attrs.get("long_name"),
        attrs=_attributes(dataset, source, model_folder, model, tile),
    )  # fmt: skip
    sides = tuple((span.stop - span.start) * model.factor for span in tiles[0])
    with create_store(target, template, shard=sides, fresh=overwrite) as store:
        if store.published:
            return target
        total, done = len(tiles) * field.sizes["time"], 0
        for time in range(field.sizes["time"]):
            read = _reader(field.isel(time=time))
            for part in tiles:
                box = fine_slices(part, model.factor)
                if not store.is_written(variable, time, box):
                    values = upscale_tile(model, read, grid, part, device).numpy()
                    store.write(variable, values if "component" in field.dims else values[0], time=time, box=box)
                done += 1
                if progress is not None:
                    progress(done / total, f"snapshot {time + 1} of {field.sizes['time']}")
        return store.publish()


def _reader(snapshot):
    def read(cells):
        values = snapshot.isel(dict(zip("xyz", cells))).values
        return values if values.ndim == 4 else values[None]

    return read


def _field_to_upscale(dataset, variable: str, model: Upscaler, source: Path):
    if variable not in dataset:
        found = ", ".join(map(str, dataset.data_vars))
        raise FlowsrError("no such variable", file=source, variable=variable, expected=variable, found=found)
    found = dataset[variable].attrs["irreps"]
    if found != model.irreps:
        raise FlowsrError("the model is for another field type", file=source, variable=variable, expected=model.irreps, found=found)
    return dataset[variable]


def _attributes(dataset, source: Path, model_folder: Path, model: Upscaler, tile: int) -> dict:
    kept = {key: dataset.attrs[key] for key in ("viscosity", "length_units") if key in dataset.attrs}
    card = read_card(model_folder)
    provenance = {
        "source": Path(source).name,
        "source_provenance": dataset.attrs.get("provenance"),
        "model": card.model,
        "options": card.options,
        "weights_sha256": card.training.get("weights_sha256"),
        "factor": model.factor,
        "tile": tile,
        "versions": versions(),
    }
    return {**kept, "provenance": provenance}
