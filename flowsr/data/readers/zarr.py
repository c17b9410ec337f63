"""Zarr, versions 2 and 3, in the flowsr layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xarray as xr

from flowsr.data.readers.base import READERS, Found, Reader, Request, assemble, missing
from flowsr.data.readers.lazy import LazyArray, check_chunk
from flowsr.data.readers.words import meant
from flowsr.data.store import FINGERPRINT
from flowsr.errors import FlowsrError, require
from flowsr.files import read_json

V2_DIMS = "_ARRAY_DIMENSIONS"
#: What a stranger's store may be packed with: names of both versions of the format. All others are refused unseen.
COMPRESSORS = frozenset({"blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"})
CODECS = COMPRESSORS | {
    *("adler32", "bitround", "bytes", "crc32", "crc32c", "delta", "endian", "fixedscaleoffset", "fletcher32"),
    *("quantize", "sharding_indexed", "shuffle", "transpose", "vlen-utf8"),
}
METADATA_FILES = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")


@READERS.register("zarr")
class ZarrReader(Reader):
    """A Zarr group with the arrays of a field; dims from ``dimension_names`` (v3) or ``_ARRAY_DIMENSIONS`` (v2)."""

    signs = "a folder with Zarr metadata"
    general = True

    def recognizes(self, path: Path) -> bool:
        return path.is_dir() and any((path / name).is_file() for name in METADATA_FILES)

    def open(self, path: Path, request: Request) -> xr.Dataset:
        import zarr

        group = request.group
        folder = path / group if group else path
        if not self.recognizes(folder):
            known = [p.name for p in sorted(path.iterdir()) if self.recognizes(p)] if path.is_dir() else []
            raise missing("group", path, group, known)
        check_codecs(folder)
        opened = zarr.open(str(folder), mode="r")
        bare = isinstance(opened, zarr.Array)
        require(not bare, "a bare array", file=folder, expected="a group with a field and its coordinates")
        arrays, groups = dict(opened.arrays()), sorted(opened.group_keys())
        hint = f"name a group: {', '.join(groups)}"
        require(arrays or not groups, "no field at the top of this store", file=folder, hint=hint)
        found = {}
        for name, array in sorted(arrays.items()):
            own = dict(array.attrs)
            dims = own.pop(V2_DIMS, None) or getattr(array.metadata, "dimension_names", None)
            named = dims is not None and all(dim is not None for dim in dims)
            found[name] = Found(checked_array(folder, name, array), tuple(dims) if named else None, own)
        attrs = {name: value for name, value in opened.attrs.items() if name != FINGERPRINT}
        return assemble(found, attrs, folder)


def check_codecs(folder: Path) -> None:
    """Refuse an array, or a group with one, that is packed in a way that is not known to be harmless.

    Its metadata are looked at before the format's library sees them, which finds codecs that run code.

    Raises:
        FlowsrError: a codec not in ``CODECS``, or one compressor within another, of which a few bytes fill the memory.
    """
    inner = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    for place in (folder, *inner):
        for name in (".zarray", "zarr.json", ".zmetadata"):
            for chain in _chains(read_json(place / name)):
                names = [_codec_name(codec) for codec in chain if codec is not None]
                where = {"file": place, "variable": "codecs", "found": ", ".join(names)}
                if not CODECS.issuperset(names):
                    expected = f"of {', '.join(sorted(CODECS))}"
                    raise FlowsrError("a codec that is not read", **where, expected=expected)
                if sum(codec in COMPRESSORS for codec in names) > 1:
                    raise FlowsrError("compressed more than once", **where, expected="one compressor")


def _chains(content: Any) -> Iterator[list]:
    """The codecs of each array, and of each shard of one, that metadata speak of, consolidated or not."""
    if isinstance(content, list):
        for item in content:
            yield from _chains(item)
    if isinstance(content, dict):
        if "compressor" in content or "filters" in content:
            filters = content.get("filters") or []
            yield [*(filters if isinstance(filters, list) else [filters]), content.get("compressor")]
        for key in ("codecs", "index_codecs"):
            if key in content:
                yield content[key] if isinstance(content[key], list) else [content[key]]
        for key, item in content.items():
            if key != "attributes" and not key.endswith(".zattrs"):
                yield from _chains(item)


def _codec_name(codec: Any) -> str:
    name = (codec.get("name") or codec.get("id")) if isinstance(codec, dict) else codec
    return str(name).removeprefix("numcodecs.")


class ZarrArray(LazyArray):
    """A Zarr array, opened in each process that reads from it."""

    _handle = None

    def load(self, index):
        import zarr

        if self._handle is None:
            self._handle = zarr.open_array(str(self.file / self.variable), mode="r")
        return self._handle[index]

    def __getstate__(self):
        return {**self.__dict__, "_handle": None}


def checked_array(folder: Path, name: str, array) -> LazyArray:
    """The lazy array of an opened Zarr array, as its attributes mean its numbers.

    Raises:
        FlowsrError: chunks too large to be unpacked, or a name that leads out of the store.
    """
    check_chunk(array.chunks, array.dtype, array.shape, folder, name)
    inside = (folder / name).resolve().is_relative_to(folder.resolve())
    require(inside, "leads out of the store", file=folder, variable=name, expected="no links")
    said = dict(array.attrs)
    if array.metadata.zarr_format == 2 and array.fill_value:  # there it stands for missing numbers too; zero does not
        said.setdefault("_FillValue", array.fill_value)
    return meant(ZarrArray(array.shape, array.dtype, folder, name), said)
