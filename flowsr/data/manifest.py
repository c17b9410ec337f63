"""Opening what a manifest describes: the file's own words and the manifest's must agree, and complete each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from flowsr.data.fetch import check_sha256
from flowsr.data.field import SPACE, grid_of, validate
from flowsr.data.manifest_files import ManifestedFile, files_of
from flowsr.data.readers.assumed import settle
from flowsr.data.readers.base import READERS, Request, accepting, read
from flowsr.data.readers.lazy import LazyArray
from flowsr.data.readers.views import Join
from flowsr.errors import FlowsrError

ATTRIBUTES = ("boundary", "viscosity", "length_units")


def open_manifest(path: Path, *, run: str | None = None, group: str | None = None) -> xr.Dataset:
    """Open one run of a manifest; see :func:`flowsr.data.open_field`.

    Attributes that the file leaves out come from the manifest.

    Raises:
        FlowsrError: a bad manifest, a run that it does not have, a file that is missing, lies outside the root or says
            something else than the manifest.
    """
    from flowsr.config.manifest import read_manifest

    manifest = read_manifest(path)
    files = files_of(manifest, Path(path), _run(manifest, path, run))
    for file in files:
        if not file.path.exists():
            fetched = f"fetch it with flowsr.data.fetch({str(path)!r})" if file.url else None
            raise FlowsrError(
                "no such file", file=file.path, hint="; ".join(filter(None, [fetched, manifest["obtain"]])) or None
            )
        check_sha256(file.path, file.sha256)
    reader, layouts = _layouts(manifest, files, path)
    group = group or manifest["group"]
    datasets = [read(f.path, Request(group, f.run, layout), reader) for f, layout in zip(files, layouts)]
    source = datasets[0].encoding["source"]
    dataset = settle(_complete(joined(datasets, files[0].path), manifest, files[0].path))
    validate(dataset, files[0].path)
    _check_grid(dataset, manifest["grid"], files[0].path)
    dataset.encoding["source"] = source
    return dataset


def joined(datasets: list[xr.Dataset], file) -> xr.Dataset:
    """Consecutive snapshots in several files as one run.

    Raises:
        FlowsrError: files that differ in grid, variables or field types, or whose times do not go on.
    """
    first = datasets[0]
    if len(datasets) == 1:
        return first
    for other in datasets[1:]:
        name = other.encoding.get("source", file)
        for axis in SPACE:
            if not np.array_equal(first[axis].values, other[axis].values):
                raise FlowsrError("files of one run differ in their grid", file=name, variable=axis)
        for key, array in first.data_vars.items():
            same = (
                key in other
                and other[key].dims == array.dims
                and other[key].attrs.get("irreps") == array.attrs.get("irreps")
            )
            if not same:
                raise FlowsrError("files of one run differ in their variables", file=name, variable=key)
    times = np.concatenate([d["time"].values for d in datasets])
    if not np.all(np.diff(times) > 0):
        raise FlowsrError(
            "the times of consecutive files do not increase",
            file=file,
            variable="time",
            found=times[:8].tolist(),
            hint="state them (times) or the order of the files in the manifest",
        )
    whole = xr.Dataset(coords={**first.drop_dims("time").coords, "time": times}, attrs=first.attrs)
    whole.encoding.update(first.encoding)
    for key, array in first.data_vars.items():
        parts = Join([_FromVariable(d[key].variable, file, str(key)) for d in datasets])
        whole[key] = parts.as_variable(array.dims, array.attrs)
        whole[key].encoding.update(array.encoding)
    return whole


class _FromVariable(LazyArray):
    """An xarray variable as a lazy array."""

    def __init__(self, variable: xr.Variable, file, name: str):
        super().__init__(variable.shape, variable.dtype, file, name)
        self.source = variable

    def load(self, index):
        return self.source[index].values


def _run(manifest: dict[str, Any], path: Path, run: str | None) -> str:
    if run is None and len(manifest["files"]) > 1:
        raise FlowsrError("which run?", file=path, variable="run", expected=f"one of {', '.join(manifest['files'])}")
    return next(iter(manifest["files"])) if run is None else run


def _layouts(
    manifest: dict[str, Any], files: list[ManifestedFile], path: Path
) -> tuple[str | None, list[dict[str, Any] | None]]:
    """The reader, and what the manifest says in place of each file; None where the files speak for themselves."""
    said = [key for key in ("path", "axes") if any(v[key] is not None for v in manifest["variables"].values())]
    said += [key for key in ("coordinates", "times", "dtype") if manifest[key]]
    if not said:
        return manifest["reader"], [None] * len(files)
    reader = manifest["reader"] or accepting(files[0].path) or "described"
    if not READERS[reader].takes.issuperset(said):
        takes = ", ".join(sorted(READERS[reader].takes)) or "nothing"
        raise FlowsrError(
            f"the reader {reader} takes the layout from the file",
            file=path,
            variable=next(key for key in said if key not in READERS[reader].takes),
            expected=f"{takes} from the manifest",
            found=", ".join(said),
            hint="the reader 'described' takes all of them",
        )
    return reader, _stated(manifest, files, path)


def _stated(manifest: dict[str, Any], files: list[ManifestedFile], path: Path) -> list[dict[str, Any]]:
    layout = {key: manifest[key] for key in ("variables", "coordinates", "times", "dtype", "grid")}
    times = manifest["times"]
    if not isinstance(times, list):
        return [layout] * len(files)
    share, left = divmod(len(times), len(files))
    if left or not share:
        raise FlowsrError(
            "times do not go into the files",
            file=path,
            variable="times",
            expected=f"as many for each of {len(files)} files",
            found=len(times),
        )
    return [{**layout, "times": times[n * share : (n + 1) * share]} for n in range(len(files))]


def _complete(dataset: xr.Dataset, manifest: dict[str, Any], file: Path) -> xr.Dataset:
    missing = [name for name in manifest["variables"] if name not in dataset.data_vars]
    if missing:
        found = ", ".join(map(str, dataset.data_vars)) or "none"
        raise FlowsrError("no such variable", file=file, variable=missing[0], expected=missing[0], found=found)
    dataset = dataset[list(manifest["variables"])]
    for name, stated in manifest["variables"].items():
        _lay_over(dataset[name].attrs, {key: stated[key] for key in ("irreps", "units")}, f"{name}.", file)
    _lay_over(dataset.attrs, {name: manifest[name] for name in ATTRIBUTES}, "", file)
    return dataset


def _lay_over(attrs: dict, stated: dict, prefix: str, file: Path) -> None:
    """Add what is stated to attributes that lack it; refuse what contradicts them."""
    for name, value in stated.items():
        value = list(value) if isinstance(value, tuple) else value
        if value is None:
            continue
        found = attrs.setdefault(name, value)
        if found != value and not _rounded(found, value):
            raise FlowsrError(
                "file and manifest disagree",
                file=file,
                variable=prefix + name,
                expected=f"{value} (manifest)",
                found=found,
            )


def _rounded(found, stated) -> bool:
    """Whether two numbers are one, written to fewer digits."""
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (found, stated))
    return numbers and bool(np.isclose(found, stated, rtol=1e-9, atol=0))


def _check_grid(dataset: xr.Dataset, stated: dict | None, file: Path) -> None:
    grid = grid_of(dataset, file)
    if stated is None:
        return
    if grid.shape != tuple(stated["cells"]) or not np.allclose(grid.lengths, stated["lengths"], rtol=1e-4):
        raise FlowsrError(
            "file and manifest disagree",
            file=file,
            variable="grid",
            expected=f"{stated['cells']} cells over {stated['lengths']} (manifest)",
            found=f"{grid.shape} cells over {tuple(round(length, 6) for length in grid.lengths)}",
        )
