"""A stranger's Zarr store, versions 2 and 3: which codecs are read, how much they may unpack, what files are opened.

Metadata are looked at before the format's library sees them. Its arrays are then read through a store that opens files
alone, none of them outside its folder, and through codecs that are told what may come out.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.codec import BytesBytesCodec, Codec
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.codecs import ShardingCodec
from zarr.codecs.vlen_utf8 import VLenUTF8Codec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.storage import LocalStore, StorePath

from flowsr.errors import FlowsrError, require
from flowsr.files import LARGEST_TEXT, open_regular, read_json
from flowsr.quarantine.unpack import UNPACK, unpack

METADATA_FILES = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
#: What a stranger's store may be packed with: names of both versions of the format. All others are refused unseen.
COMPRESSORS = frozenset(UNPACK)
#: Codecs that add this many bytes.
CHECKSUM, CHECKSUMS = 4, frozenset({"adler32", "crc32", "crc32c", "fletcher32"})
CODECS = COMPRESSORS | CHECKSUMS
CODECS |= {"bitround", "bytes", "delta", "endian", "fixedscaleoffset", "quantize", "sharding_indexed", "shuffle"}
CODECS |= {"transpose", "vlen-utf8"}
# Text of arrays of labels.
LARGEST_LABELS = 1 << 26
# Inner chunks of a shard; its index has 16 bytes for each.
MOST_IN_SHARD = 1 << 22
# Seconds after which the first look at a store is enough.
ENOUGH = 0.2


def open_node(path: Path) -> zarr.Group | zarr.Array:
    """A group or an array, to be read safely.

    Raises:
        FlowsrError: codecs that are not read, or a file that is none.
        FileNotFoundError: nothing there.
    """
    check_codecs(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library, on what is unusual; what is wrong is one line
        opened = zarr.open(_Files(path.resolve(), read_only=True), mode="r")
    return opened if isinstance(opened, zarr.Group) else bounded(opened)


def arrays_of(group: zarr.Group) -> Iterator[tuple[str, zarr.Array]]:
    """The arrays of a group by name, to be read safely."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, array in sorted(group.arrays()):
            yield name, bounded(array)


def groups_of(group: zarr.Group) -> list[str]:
    """The names of the groups in a group."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sorted(group.group_keys())


def bounded(array: zarr.Array) -> zarr.Array:
    """An array whose codecs are told what may come out of them.

    Raises:
        FlowsrError: shards of too many chunks.
    """
    inner, metadata = array.async_array, array.metadata
    # What comes out of a chunk's codecs, and what may be in a file: a chunk, or a shard and its index, hardly packed.
    cells = math.prod(array.shards or array.chunks)
    largest = cells * _width(array.dtype) if _width(array.dtype) else LARGEST_LABELS
    in_shard = cells // max(1, math.prod(array.chunks)) if array.shards else 0
    where = {"file": str(array.store_path), "variable": "shards", "found": f"{in_shard} chunks in each"}
    require(in_shard <= MOST_IN_SHARD, "shards of too many chunks", **where, expected=f"at most {MOST_IN_SHARD}")
    store = array.store_path.store
    if isinstance(store, _Files):
        place = StorePath(store.reading(largest + largest // 8 + 32 * in_shard + LARGEST_TEXT), array.store_path.path)
        object.__setattr__(inner, "store_path", place)
    if metadata.zarr_format == 2:
        codecs: Sequence[Codec] = [_old_codec(metadata, array.dtype, array.chunks)]
    else:
        codecs = _bounded_chain(metadata.codecs)
    object.__setattr__(inner, "codec_pipeline", BatchedCodecPipeline.from_codecs(codecs))
    return array


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
                names = [codec_name(codec) for codec in chain if codec is not None]
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


def codec_name(codec: Any) -> str:
    """Name of a codec as metadata write it, without the prefix that version 3 has for those of version 2."""
    name = (codec.get("name") or codec.get("id")) if isinstance(codec, dict) else codec
    return str(name).removeprefix("numcodecs.")


def meet(path: str) -> None:
    """Open a store and its groups and read a value of the first and the last chunk of each kind of array.

    For the disposable process: what is damaged is passed over, for whoever reads it to say so.
    """
    end, kinds = time.monotonic() + ENOUGH, set()
    folder = Path(path)
    for place in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
        arrays: list[tuple[str, zarr.Array]] = []
        with suppress(Exception):
            node = open_node(place) if any((place / name).is_file() for name in METADATA_FILES) else None
            arrays = [("", node)] if isinstance(node, zarr.Array) else list(arrays_of(node)) if node else []
        for _, array in arrays:
            kind = (str(array.metadata.to_dict().get("codecs")), str(array.dtype), array.chunks)
            if kind not in kinds and all(array.shape):
                kinds.add(kind)
                for corner in (0, -1):
                    with suppress(Exception):
                        array[(corner,) * len(array.shape)]
            if time.monotonic() > end:
                return


class _Files(LocalStore):
    """The files of a folder: no pipes, no devices, none that lies outside it, and no more of one than it may hold."""

    most = LARGEST_TEXT

    def reading(self, most: int) -> _Files:
        """The store with another bound on the bytes that are read at once."""
        other = _Files(self.root, read_only=True)
        other.most = most
        return other

    def with_read_only(self, read_only: bool = False) -> _Files:
        return self.reading(self.most)

    async def get(self, key, prototype=None, byte_range=None):
        return await asyncio.to_thread(self._read, key, prototype or default_buffer_prototype(), byte_range)

    async def get_partial_values(self, prototype, key_ranges):
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    def _read(self, key: str, prototype, byte_range):
        path = self.root / key
        try:
            file = open_regular(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except FlowsrError as error:
            if error.found == "a folder":
                return None
            raise
        with file:
            inside = Path(os.path.realpath(path)).is_relative_to(self.root)
            require(inside, "leads out of the store", file=self.root, variable=key, expected="no links")
            size = os.fstat(file.fileno()).st_size
            require(size, "cut short", file=path, found="an empty file")
            start, stop = 0, size
            if isinstance(byte_range, RangeByteRequest):
                start, stop = byte_range.start, min(byte_range.end, size)
            elif isinstance(byte_range, OffsetByteRequest):
                start = byte_range.offset
            elif isinstance(byte_range, SuffixByteRequest):
                start = max(0, size - byte_range.suffix)
            where = {"file": path, "expected": f"at most {self.most} bytes", "found": f"{stop - start} bytes"}
            require(stop - start <= self.most, "more than it may hold", **where)
            file.seek(start)
            return prototype.buffer.from_bytes(file.read(max(0, stop - start)))


def _width(dtype) -> int:
    """Bytes of a number; 0 of text of any length."""
    return 0 if dtype.kind in "OT" else dtype.itemsize


def _bounded_chain(codecs: Sequence[Codec]) -> list[Codec]:
    """Codecs of version 3 of the format."""
    found: list[Codec] = []
    sums = 0
    for codec in codecs:
        name = codec_name(codec.to_dict())
        if isinstance(codec, ShardingCodec):
            codec = _Shards(
                chunk_shape=codec.chunk_shape,
                codecs=_bounded_chain(codec.codecs),
                index_codecs=codec.index_codecs,
                index_location=codec.index_location,
            )
        elif isinstance(codec, VLenUTF8Codec):
            codec = _Labels()
        elif name in COMPRESSORS:
            codec = _Bounded(name, sums * CHECKSUM)
        found.append(codec)
        sums += name in CHECKSUMS
    return found


class _Shards(ShardingCodec):
    """Chunks within a shard, whose codecs are bounded; another engine for codecs would not know them."""

    @property
    def codec_pipeline(self):
        return BatchedCodecPipeline.from_codecs(self.codecs)


@dataclass(frozen=True)
class _Bounded(BytesBytesCodec):
    """A compressor, to unpack with.

    Args:
        name: of it.
        more: bytes that checksums add to a chunk before it is compressed.
    """

    name: str
    more: int

    is_fixed_size = False

    def to_dict(self):
        return {"name": self.name}

    async def _decode_single(self, chunk_bytes, chunk_spec):
        width = _width(chunk_spec.dtype.to_native_dtype())
        most = math.prod(chunk_spec.shape) * width + self.more if width else LARGEST_LABELS
        found = await asyncio.to_thread(unpack, self.name, memoryview(chunk_bytes.as_numpy_array()), most)
        return chunk_spec.prototype.buffer.from_bytes(found)

    async def _encode_single(self, chunk_bytes, chunk_spec):
        raise NotImplementedError

    def compute_encoded_size(self, input_byte_length, chunk_spec):
        raise NotImplementedError


class _Labels(VLenUTF8Codec):
    """Text of any length; its head says how many there are, and as many places are made."""

    async def _decode_single(self, chunk_bytes, chunk_spec):
        _check_count(chunk_bytes.to_bytes()[:4], math.prod(chunk_spec.shape))
        return await super()._decode_single(chunk_bytes, chunk_spec)


def _check_count(head: bytes, count: int) -> None:
    found = int.from_bytes(bytes(head), "little")
    if len(head) < 4 or found != count:
        raise ValueError(f"{found} texts in a chunk of {count}")


def _old_codec(metadata, dtype, chunks: Sequence[int]) -> Codec:
    """The codec of version 2 of the format."""
    from zarr.codecs._v2 import V2Codec

    filters = [_OldLabels(math.prod(chunks)) if f.codec_id == "vlen-utf8" else f for f in metadata.filters or ()]
    compressor = metadata.compressor
    if compressor is not None:
        width, more = _width(dtype), 0
        for each in metadata.filters or ():
            width = np.dtype(each.get_config().get("astype") or dtype).itemsize if width else width
            more += CHECKSUM * (each.codec_id in CHECKSUMS)
        most = math.prod(chunks) * width + more if width else LARGEST_LABELS
        compressor = _OldBounded(compressor.codec_id, most)
    return V2Codec(filters=tuple(filters) or None, compressor=compressor)


@dataclass(frozen=True)
class _OldBounded:
    """A compressor of version 2, to unpack with."""

    codec_id: str
    most: int

    def decode(self, packed, out=None):
        """What was compressed."""
        return unpack(self.codec_id, memoryview(packed), self.most)


@dataclass(frozen=True)
class _OldLabels:
    """Text of any length in version 2."""

    count: int
    codec_id = "vlen-utf8"

    def decode(self, packed, out=None):
        """The texts."""
        import numcodecs

        packed = bytes(packed)
        _check_count(packed[:4], self.count)
        return numcodecs.VLenUTF8().decode(packed)
