"""Decompression that is bounded by what may come out, and that looks at the lengths in a header before C code does.

A few bytes of gzip unpack to gigabytes; Blosc reads as far as its header says, whether that is there or not.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache

import numpy as np

#: Bytes of a Blosc header: version, flags and type size in four, then three lengths.
BLOSC_HEADER = 16
# Working memory that LZMA may take; its highest level takes 65 MB.
LZMA_MEMORY = 1 << 28
# Zstandard makes at most 32,768 bytes of one: of this many, no more than 128 MiB.
SHORT = 1 << 12


def unpack(name: str, packed: bytes | memoryview, most: int) -> bytes:
    """What was compressed.

    Args:
        name: one of :data:`UNPACK`, as numcodecs names compressors.
        packed: bytes, whole.
        most: bytes that may come out.

    Raises:
        ValueError: bytes that are damaged, cut short, or of which more would come out.
    """
    try:
        unpacked = UNPACK[name](packed, most)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, RuntimeError) as error:
        raise ValueError(f"{name}: {error}") from None
    _check(len(unpacked) <= most, f"unpacks to more than {most} bytes")
    return unpacked


def _streams(start: Callable) -> Callable[[bytes | memoryview, int], bytes]:
    """Of a decompressor of the standard library; members that follow each other are read one after the other."""

    def unpacked(packed: bytes | memoryview, most: int) -> bytes:
        parts, left = [], most
        while not parts or bytes(packed).strip(b"\0"):  # a gzip file may be filled up with zeros
            stream = start()
            parts.append(stream.decompress(packed, left + 1))
            left -= len(parts[-1])
            _check(left >= 0, f"unpacks to more than {most} bytes")
            _check(stream.eof, "cut short")
            packed = stream.unused_data
        return parts[0] if len(parts) == 1 else b"".join(parts)

    return unpacked


def _blosc(packed: bytes | memoryview, most: int) -> bytes:
    _check(len(packed) >= BLOSC_HEADER, "cut short")
    size, block, stored = struct.unpack_from("<III", packed, 4)
    _check(stored == len(packed), f"Blosc says {stored} bytes, there are {len(packed)}")
    _check(size <= most, f"Blosc says {size} bytes come out, expected {most} at most")
    _check(size == 0 or 0 < block <= size, f"Blosc says blocks of {block} in {size} bytes")
    return _codec("blosc").decode(packed) if size else b""


def _lz4(packed: bytes | memoryview, most: int) -> bytes:
    _check(len(packed) >= 4, "cut short")
    size = struct.unpack_from("<I", packed)[0]
    _check(size <= most, f"LZ4 says {size} bytes come out, expected {most} at most")
    return _codec("lz4").decode(packed) if size else b""


def _zstd(packed: bytes | memoryview, most: int) -> bytes:
    size = _zstd_size(packed)
    _check(size is None or size <= most, f"Zstandard says {size} bytes come out, expected {most} at most")
    if size == 0:
        return b""
    if size is not None or len(packed) <= SHORT:
        return _codec("zstd").decode(packed)
    # A stream that does not say its length goes into a place of the length that is expected, and must fill it.
    return _codec("zstd").decode(packed, np.empty(most, "u1"))


def _zstd_size(packed: bytes | memoryview) -> int | None:
    """How much comes out of a frame, as its header says it, or None where it does not (RFC 8878, 3.1.1.1)."""
    _check(packed[:4] == b"\x28\xb5\x2f\xfd" and len(packed) > 5, "no Zstandard frame")
    flags = packed[4]
    single = bool(flags & 0x20)
    width = (1 if single else 0, 2, 4, 8)[flags >> 6]
    start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    _check(len(packed) >= start + width, "cut short")
    if not width:
        return None
    return int.from_bytes(packed[start : start + width], "little") + 256 * (width == 2)


@lru_cache
def _codec(name: str):
    import numcodecs

    return numcodecs.get_codec({"id": name})


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


#: Name of a compressor to what unpacks it: bytes, and the most that may come out, to bytes.
UNPACK: dict[str, Callable[[bytes | memoryview, int], bytes]] = {
    "blosc": _blosc,
    "bz2": _streams(bz2.BZ2Decompressor),
    "gzip": _streams(lambda: zlib.decompressobj(zlib.MAX_WBITS | 16)),
    "lz4": _lz4,
    "lzma": _streams(lambda: lzma.LZMADecompressor(memlimit=LZMA_MEMORY)),
    "zlib": _streams(zlib.decompressobj),
    "zstd": _zstd,
}
