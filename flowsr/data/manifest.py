"""Opening what a manifest describes: the file's own words and the manifest's must agree, and complete each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from flowsr.data.layout import grid_of, validate
from flowsr.data.readers import read
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
    file = _file_of(manifest, Path(path), run)
    group = group or manifest["group"]
    dataset = read(file, group=group, reader=manifest["reader"])
    source = dataset.encoding["source"]
    dataset = validate(_complete(dataset, manifest, file), file)
    _check_grid(dataset, manifest["grid"], file)
    dataset.encoding["source"] = source
    return dataset


def _file_of(manifest: dict[str, Any], path: Path, run: str | None) -> Path:
    files = manifest["files"]
    if run is None and len(files) > 1:
        raise FlowsrError("which run?", file=path, variable="run", expected=f"one of {', '.join(files)}")
    name = next(iter(files)) if run is None else run
    if name not in files:
        raise FlowsrError("no such run", file=path, variable="run", expected=f"one of {', '.join(files)}", found=name)
    root = (path.parent / manifest["root"]).resolve()
    file = (root / files[name]).resolve()
    if not file.is_relative_to(root):
        raise FlowsrError(
            "a file outside the root", file=path, variable=f"files.{name}", expected=root, found=files[name]
        )
    if not file.exists():
        raise FlowsrError("no such file", file=file, hint=manifest["obtain"])
    return file


def _complete(dataset: xr.Dataset, manifest: dict[str, Any], file: Path) -> xr.Dataset:
    missing = [name for name in manifest["variables"] if name not in dataset.data_vars]
    if missing:
        found = ", ".join(map(str, dataset.data_vars)) or "none"
        raise FlowsrError("no such variable", file=file, variable=missing[0], expected=missing[0], found=found)
    dataset = dataset[list(manifest["variables"])]
    for name, stated in manifest["variables"].items():
        _lay_over(dataset[name].attrs, stated, f"{name}.", file)
    _lay_over(dataset.attrs, {name: manifest[name] for name in ATTRIBUTES}, "", file)
    return dataset


def _lay_over(attrs: dict, stated: dict, prefix: str, file: Path) -> None:
    """Add what is stated to attributes that lack it; refuse what contradicts them."""
    for name, value in stated.items():
        value = list(value) if isinstance(value, tuple) else value
        if value is None:
            continue
        found = attrs.setdefault(name, value)
        if found != value:
            raise FlowsrError(
                "file and manifest disagree",
                file=file,
                variable=prefix + name,
                expected=f"{value} (manifest)",
                found=found,
            )


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
