"""One way to open a field, whatever its format: a file, a store, or what a manifest describes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from flowsr.data.field import validate
from flowsr.data.manifest import complete, is_manifest, open_manifest, read_manifest
from flowsr.data.quality import CARRIED
from flowsr.data.readers.assemble import Found, assemble
from flowsr.data.readers.base import (
    ReadOptions,
    Request,
    file_runs,
    fill_defaults,
    label,
    read,
    read_options,
    snapshots,
)
from flowsr.data.readers.lazy import FromVariable, one_line
from flowsr.data.readers.order import in_order
from flowsr.data.readers.units import in_one_system
from flowsr.errors import FlowsrError, missing_file, require

__all__ = ["Input", "ReadOptions", "field_of", "open_field", "read_options", "runs_of"]

#: Name of a dataset that has none, in errors.
IN_MEMORY = Path("dataset")


@dataclass(frozen=True, kw_only=True)
class Input(ReadOptions):
    """A field, and how it is to be read."""

    path: Path
    """A file, a store or a manifest."""

    @classmethod
    def of(cls, given: str | os.PathLike | Input) -> Input:
        """A path alone is read as it comes."""
        return given if isinstance(given, Input) else cls(path=Path(given))

    def runs(self) -> list[Input]:
        """Each run of the file as an input of its own.

        Raises:
            FlowsrError: as :func:`open_field`.
        """
        if self.run is not None:
            return [self]
        return [replace(self, run=run) for run in runs_of(self.path, self.reader) or [None]]


def open_field(path: str | os.PathLike, options: ReadOptions | None = None, **stated: Any) -> xr.Dataset:
    """Open a file, a store, or what a manifest describes; nothing but coordinates and attributes is read.

        open_field("les.nc", boundary=("periodic", "periodic", "wall"))

    Args:
        path: a file, a Zarr store, or a manifest (``.yaml``).
        options: how it is to be read.
        stated: options one by one, the fields of :class:`ReadOptions`: group, run, reader, time, select, boundary ...

    Returns:
        Dataset in the layout of :mod:`flowsr.data.field`, validated. Values are read when used and not kept.

    Raises:
        FlowsrError: no such file, no reader for it, a damaged file, or one that is not in the layout; the line says
            which variable, what was expected and what was found.
    """
    path, options = Path(path), read_options(options, stated)
    if not path.exists():
        raise missing_file(path)
    if is_manifest(path):
        dataset = open_manifest(path, options)
    else:
        name = label(path, options.group)
        dataset = read(path, Request.of(options))
        dataset = validate(fill_defaults(complete(dataset, options, name)), file=name)
    if options.missing == "nan":
        dataset.attrs[CARRIED] = "nan"
    return _at_times(dataset, options.time, path)


def field_of(dataset: xr.Dataset, options: ReadOptions | None = None, **stated: Any) -> xr.Dataset:
    """A dataset of xarray's, in memory or lazy, in the one layout; it itself where it says that it is in that.

        field_of(xr.open_dataset("les.nc"), boundary=("periodic", "periodic", "wall"))

    What says nothing of flowsr's own (no ``irreps`` on a variable) is taken as a file of a stranger's would be: ``u, v,
    w`` are a velocity, ``lon, lat, lev`` are x, y, z, sides are open where ``boundary`` does not say. Times of the
    calendar become seconds since the first.

    Args:
        dataset: any.
        options, stated: how it is to be read, as :func:`open_field` takes it: time, select, boundary, units, irreps,
            lengths, axes, missing.

    Returns:
        Dataset in the layout of :mod:`flowsr.data.field`, validated; in memory where ``dataset`` is.

    Raises:
        FlowsrError: a dataset without a field, or one that is ambiguous.
    """
    options = read_options(options, stated)
    for word in ("group", "run", "reader"):
        require(getattr(options, word) is None, "an option of files", variable=word)
    if any("irreps" in array.attrs for array in dataset.data_vars.values()):
        found = validate(complete(dataset, options, IN_MEMORY) if options.declared() else dataset, file=IN_MEMORY)
    else:
        arrays = {str(name): _found(str(name), variable) for name, variable in dataset.variables.items()}
        with one_line(IN_MEMORY):
            found = assemble(arrays, dict(dataset.attrs), IN_MEMORY, Request.of(options))
        for name, irreps in options.irreps.items():
            if name in found.data_vars:
                found[name].attrs.setdefault("irreps", irreps)
        found = in_one_system(in_order(found, IN_MEMORY))
        found = validate(fill_defaults(complete(found, options, IN_MEMORY)), file=IN_MEMORY)
        if all(isinstance(array.variable._data, np.ndarray) for array in dataset.data_vars.values()):
            found = found.load()
    if options.missing == "nan":
        found = found.assign_attrs({CARRIED: "nan"})
    return _at_times(found, options.time, IN_MEMORY)


def _found(name: str, variable: xr.Variable) -> Found:
    dims, attrs = tuple(map(str, variable.dims)), dict(variable.attrs)
    if variable.dtype.kind == "M":
        seconds = (variable.values - variable.values.min()) / np.timedelta64(1, "s")
        variable, attrs = xr.Variable(variable.dims, seconds), {**attrs, "units": "s"}
    return Found(FromVariable(variable, IN_MEMORY, name), dims, attrs)


def _at_times(dataset: xr.Dataset, time: int | str | None, path: Path) -> xr.Dataset:
    if time is None:
        return dataset
    chosen, count = snapshots(time), dataset.sizes["time"]
    if len(range(count)[chosen]) == 0:
        raise FlowsrError("no such snapshot", file=path, variable="time", expected=f"0 to {count - 1}", found=time)
    return dataset.isel(time=np.arange(count)[chosen] if chosen.step else chosen)


def runs_of(path: Path, reader: str | None = None) -> list[str]:
    """Names of the runs of a file or a manifest; empty where it is one run without a name.

    Raises:
        FlowsrError: as :func:`open_field`.
    """
    if not path.exists():
        raise missing_file(path)
    if is_manifest(path):
        return list(read_manifest(path).files)
    return file_runs(path, reader)
