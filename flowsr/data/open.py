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
from flowsr.errors import FlowsrError, missing_file

__all__ = ["Input", "ReadOptions", "open_field", "read_options", "runs_of"]


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
