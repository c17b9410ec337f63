"""Zarr, versions 2 and 3, in the flowsr layout."""

from __future__ import annotations

import logging
from itertools import product
from pathlib import Path

import numpy as np
import xarray as xr

from flowsr.data.field import SCALAR_DIMS
from flowsr.data.readers.assemble import Found, assemble
from flowsr.data.readers.base import READERS, Reader, Request, missing
from flowsr.data.readers.lazy import LazyArray, check_chunk
from flowsr.data.readers.words import meant
from flowsr.data.store import FINGERPRINT
from flowsr.errors import require

log = logging.getLogger(__name__)

V2_DIMS = "_ARRAY_DIMENSIONS"
METADATA_FILES = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


@READERS.register("zarr")
class ZarrReader(Reader):
    """A Zarr group with the arrays of a field; dims from ``dimension_names`` (v3) or ``_ARRAY_DIMENSIONS`` (v2)."""

    signs = "a folder with Zarr metadata"
    general = True
    takes_words = True

    def recognizes(self, path: Path) -> bool:
        return is_zarr(path)

    def open(self, path: Path, request: Request) -> xr.Dataset:
        found, attrs = zarr_contents(path, request.group)
        return assemble(found, attrs, path / (request.group or ""), request)


def is_zarr(path: Path) -> bool:
    """Whether a folder has Zarr's metadata."""
    return path.is_dir() and any((path / name).is_file() for name in METADATA_FILES)


def zarr_contents(path: Path, group: str | None) -> tuple[dict[str, Found], dict]:
    """The arrays of a group by name, and its attributes.

    Raises:
        FlowsrError: no such group, one without arrays, or an array that is not read.
    """
    import zarr

    from flowsr.quarantine.zarr import arrays_of, groups_of, open_node

    folder = path / group if group else path
    if not is_zarr(folder):
        known = [p.name for p in sorted(path.iterdir()) if is_zarr(p)] if path.is_dir() else []
        raise missing("group", path, group, known)
    check_inside(path, group or "")
    opened = open_node(folder)
    bare = isinstance(opened, zarr.Array)
    require(not bare, "a bare array", file=folder, expected="a group with a field and its coordinates")
    arrays, groups = dict(arrays_of(opened)), groups_of(opened)
    hint = f"name a group: {', '.join(groups)}"
    require(arrays or not groups, "no field at the top of this store", file=folder, hint=hint)
    found = {}
    for name, array in arrays.items():
        own = dict(array.attrs)
        dims = own.pop(V2_DIMS, None) or getattr(array.metadata, "dimension_names", None)
        named = dims is not None and all(dim is not None for dim in dims)
        found[name] = Found(checked_array(folder, name, array), tuple(dims) if named else None, own)
    attrs = {name: value for name, value in opened.attrs.items() if name != FINGERPRINT}
    return found, attrs


def check_inside(store: Path, name: str) -> None:
    """Refuse a group or an array whose name, or a link of that name, leads out of its store.

    Raises:
        FlowsrError: it does.
    """
    inside = (store / name).resolve().is_relative_to(store.resolve())
    require(inside, "leads out of the store", file=store, variable=name, expected="a name inside it, and no links")


class ZarrArray(LazyArray):
    """A Zarr array, opened in each process that reads from it."""

    _handle = None
    _told = False

    def load(self, index):
        from flowsr.quarantine.zarr import open_node

        if self._handle is None:
            self._handle = open_node(self.file / self.variable)
        self._tell_of_absent(index)
        return self._handle[index]

    def _tell_of_absent(self, index) -> None:
        """Say once that chunks are not on the disk: left out by who wrote the store, or lost; none can tell."""
        array = self._handle
        if self._told or array.ndim < len(SCALAR_DIMS) or array.fill_value in (None, "") or np.isnan(array.fill_value):
            return  # a coordinate may well be nothing but zeros; NaN is met by all who read
        parts = [(part, part + 1) if isinstance(part, int) else (part.start or 0, part.stop) for part in index]
        ends = [(start, n if stop is None else stop) for (start, stop), n in zip(parts, array.shape)]
        unit = array.shards or array.chunks
        for key in product(*(range(start // u, -(-stop // u)) for (start, stop), u in zip(ends, unit))):
            name = array.metadata.encode_chunk_key(key)
            if not (self.file / self.variable / name).exists():
                self._told = True
                line = (
                    "%s: %s: chunk %s, maybe others, is not on the disk and reads as %s: left out when written, or lost"
                )
                log.warning(line, self.file, self.variable, name, array.fill_value)
                return

    def __getstate__(self):
        return {**self.__dict__, "_handle": None}


def checked_array(folder: Path, name: str, array) -> LazyArray:
    """The lazy array of an opened Zarr array, as its attributes mean its numbers.

    Raises:
        FlowsrError: chunks too large to be unpacked, or a name that leads out of the store.
    """
    check_chunk(array.chunks, array.dtype, array.shape, folder, name)
    check_inside(folder, name)
    said = dict(array.attrs)
    if array.metadata.zarr_format == 2 and array.fill_value:  # there it stands for missing numbers too; zero does not
        said.setdefault("_FillValue", array.fill_value)
    return meant(ZarrArray(array.shape, array.dtype, folder, name), said)
