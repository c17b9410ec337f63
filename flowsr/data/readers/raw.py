"""Plain arrays in files: numpy's npy and npz, and raw numbers without a header."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from flowsr.data.readers.lazy import LazyArray
from flowsr.errors import FlowsrError

# A member of an archive that unpacks to more than this, and to this many times its size, is no field but an attack.
LARGEST_MEMBER = 1 << 32
GREATEST_RATIO = 200


class RawArray(LazyArray):
    """Numbers in C order in a file without a header, or in an npy file after it; only what is asked for is read.

    Args:
        path: the file.
        shape: shape of the array.
        dtype: numpy dtype with its byte order, such as ``<f4``.
        offset: bytes before the first number.

    Raises:
        FlowsrError: a file of another size.
    """

    def __init__(self, path: Path, shape, dtype, offset: int = 0, variable: str | None = None):
        super().__init__(shape, dtype, path, variable or path.name)
        self.stored, self.offset = np.dtype(dtype), offset
        wanted = offset + self.stored.itemsize * int(np.prod(self.shape, dtype=object))
        if path.stat().st_size != wanted:
            raise FlowsrError(
                "the file's size is not that of its array",
                file=path,
                expected=f"{wanted} bytes for shape {self.shape} of {self.stored.str}",
                found=path.stat().st_size,
            )

    def load(self, index):
        mapped = np.memmap(self.file, self.stored, "r", self.offset, self.shape)
        return np.array(mapped[index])


class NpzArray(LazyArray):
    """A member of an npz archive; the member is unpacked for every read, so read whole snapshots."""

    def __init__(self, path: Path, name: str, shape, dtype):
        super().__init__(shape, dtype, path, name)

    def load(self, index):
        with np.load(self.file, allow_pickle=False) as archive:
            return archive[self.variable][index]


def npy_array(path: Path) -> LazyArray:
    """The array of an npy file, unread.

    Raises:
        FlowsrError: not an npy file, one that holds Python objects (they are never unpickled), or one cut short.
    """
    with open(path, "rb") as file:
        shape, fortran, dtype = _header(file, path)
        offset = file.tell()
    if not fortran:
        return RawArray(path, shape, dtype, offset)
    from flowsr.data.readers.views import View

    axes = [str(axis) for axis in range(len(shape))]
    flipped = RawArray(path, shape[::-1], dtype, offset)
    return View(flipped, axes[::-1], dict(zip(axes, shape)))


def npz_arrays(path: Path) -> dict[str, LazyArray]:
    """The arrays of an npz archive by name, unread.

    Raises:
        FlowsrError: a member that is no npy array, holds Python objects, or unpacks to absurdly more than its size.
    """
    found = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                raise FlowsrError("not an array", file=path, variable=member.filename, expected="npy members only")
            if member.file_size > max(LARGEST_MEMBER, GREATEST_RATIO * member.compress_size):
                raise FlowsrError(
                    "unpacks to absurdly more than its size",
                    file=path,
                    variable=member.filename,
                    expected=f"at most {GREATEST_RATIO} times {member.compress_size} bytes",
                    found=member.file_size,
                )
            with archive.open(member) as file:
                shape, _, dtype = _header(file, path)
                start = file.tell()
            if start + dtype.itemsize * int(np.prod(shape, dtype=object)) != member.file_size:
                raise FlowsrError("size and shape disagree", file=path, variable=member.filename, found=shape)
            name = member.filename[: -len(".npy")]
            found[name] = NpzArray(path, name, shape, dtype)
    return found


def _header(file, path):
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, EOFError, SyntaxError, OSError) as error:
        found = " ".join(str(error).split())[:120]
        raise FlowsrError("not a numpy array", file=path, expected="an npy header", found=found) from None
    if dtype.hasobject:
        raise FlowsrError("Python objects are not unpickled", file=path, expected="numbers", found=dtype)
    return shape, fortran, dtype
