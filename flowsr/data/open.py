"""One way to open a field, whatever its format: a file, a store, or what a manifest describes."""

from __future__ import annotations

import os
from pathlib import Path

import xarray as xr

from flowsr.data.field import validate
from flowsr.data.manifest import is_manifest, open_manifest, read_manifest
from flowsr.data.readers.base import Request, file_runs, fill_defaults, label, read
from flowsr.errors import missing_file


def open_field(
    path: str | os.PathLike, *, group: str | None = None, run: str | None = None, reader: str | None = None
) -> xr.Dataset:
    """Open a file, a store, or what a manifest describes; nothing but coordinates and attributes is read.

    Args:
        path: a file, a Zarr store, or a manifest (``.yaml``).
        group: a group inside the file, such as ``coarse`` or ``fine`` of an ingested store.
        run: which of a manifest's runs, or of a file's trajectories, where there are several.
        reader: a registered reader's name; by default the one that recognizes the file.

    Returns:
        Dataset in the layout of :mod:`flowsr.data.field`, validated. Values are read when used and not kept.

    Raises:
        FlowsrError: no such file, no reader for it, a damaged file, or one that is not in the layout; the line says
            which variable, what was expected and what was found.
    """
    path = Path(path)
    if not path.exists():
        raise missing_file(path)
    if is_manifest(path):
        return open_manifest(path, run=run, group=group)
    return validate(fill_defaults(read(path, Request(group, run), reader)), file=label(path, group))


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
