"""One way to open a field, whatever its format: readers are found by looking at the file, or named."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

import xarray as xr

from flowsr.data.layout import validate
from flowsr.data.lazy import unreadable
from flowsr.errors import FlowsrError
from flowsr.registry import Registry


class Reader(ABC):
    """Opens one format. Register a subclass with ``@READERS.register("name")`` and :func:`open_field` finds it."""

    @abstractmethod
    def recognizes(self, path: Path) -> bool:
        """Whether the file, judged by its first bytes or names, is of this format. Reads little, raises nothing."""

    @abstractmethod
    def open(self, path: Path, group: str | None) -> xr.Dataset:
        """The dataset in flowsr's dims and names, its fields unread; the caller validates it."""


READERS: Registry[type[Reader]] = Registry("reader")


def open_field(
    path: str | os.PathLike, *, group: str | None = None, run: str | None = None, reader: str | None = None
) -> xr.Dataset:
    """Open a file, a store, or what a manifest describes; nothing but coordinates and attributes is read.

    Args:
        path: a file, a Zarr store, or a manifest (``.yaml``).
        group: a group inside the file, such as ``coarse`` or ``fine`` of an ingested store.
        run: which of a manifest's runs, where it has several.
        reader: a registered reader's name; by default the one that recognizes the file.

    Returns:
        Dataset in the layout of :mod:`flowsr.data.layout`, validated. Values are read when used and not kept.

    Raises:
        FlowsrError: no such file, no reader for it, a damaged file, or one that is not in the layout; the line says
            which variable, what was expected and what was found.
    """
    path = Path(path)
    if not path.exists():
        raise FlowsrError("no such file", file=path)
    if path.suffix in (".yaml", ".yml"):
        from flowsr.data.manifest import open_manifest

        return open_manifest(path, run=run, group=group)
    if run is not None:
        raise FlowsrError("runs are named by manifests", file=path, variable="run", expected="none here", found=run)
    return validate(read(path, group=group, reader=reader), file=_label(path, group))


def read(path: Path, *, group: str | None = None, reader: str | None = None) -> xr.Dataset:
    """:func:`open_field` for a file or store, without the validation: a manifest may add what the file leaves out."""
    chosen = READERS[reader or _recognized(path)]
    try:
        dataset = chosen().open(path, group)
    except FlowsrError:
        raise
    except Exception as error:  # a damaged file raises whatever its library happens to trip over
        raise unreadable(error, _label(path, group)) from error
    dataset.encoding["source"] = str(path)
    return dataset


def _recognized(path: Path) -> str:
    names = [name for name, reader in READERS.items() if reader().recognizes(path)]
    if not names:
        kind = "a folder" if path.is_dir() else f"{path.stat().st_size} bytes of something else"
        raise FlowsrError("not a format that flowsr reads", file=path, expected=" or ".join(READERS), found=kind)
    if len(names) > 1:
        raise FlowsrError("more than one reader fits", file=path, found=", ".join(names), hint="name the reader")
    return names[0]


def _label(path: Path, group: str | None) -> str:
    return str(path / group) if group else str(path)
