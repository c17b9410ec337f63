"""Arrays that are read when they are used: xarray's lazy indexing over a file, one error for whatever goes wrong."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from flowsr.errors import FlowsrError

# One chunk is unpacked in memory whole, whatever part of it is wanted.
LARGEST_CHUNK = 1 << 31


class LazyArray(BackendArray):
    """An array that exists only on demand; picklable as long as its subclass holds no open handle.

    Args:
        shape: its shape.
        dtype: its dtype; values come back in native byte order.
        file: what to name in an error.
        variable: what to name in an error.
    """

    def __init__(self, shape, dtype, file, variable: str):
        self.shape = tuple(int(n) for n in shape)
        dtype = np.dtype(dtype)
        self.dtype = dtype.newbyteorder("=") if dtype.kind in "fiuc" else dtype
        self.file, self.variable = file, variable

    @abstractmethod
    def load(self, index: tuple[int | slice, ...]) -> np.ndarray:
        """The values at ``index``, one integer or slice of positive step an axis."""

    def as_variable(self, dims, attrs=None) -> xr.Variable:
        """An xarray variable that reads from this array and keeps nothing of what it read."""
        return xr.Variable(dims, indexing.LazilyIndexedArray(self), attrs)

    def __getitem__(self, key):
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._load_or_say_why
        )

    def _load_or_say_why(self, index):
        try:
            return np.asarray(self.load(index), dtype=self.dtype)
        except FlowsrError:
            raise
        except Exception as error:  # a damaged file raises whatever its library happens to trip over
            raise unreadable(error, self.file, self.variable) from error


def check_chunk(chunk, dtype, shape, file, variable: str) -> None:
    """Refuse an array stored in pieces too large to be unpacked; a few bytes on the disk may claim any size.

    Raises:
        FlowsrError: a chunk of more than ``LARGEST_CHUNK`` bytes.
    """
    size = np.dtype(dtype).itemsize
    for length in chunk or ():
        size *= int(length)
    if size > LARGEST_CHUNK:
        raise FlowsrError(
            "chunks too large to be unpacked",
            file=file,
            variable=variable,
            expected=f"{LARGEST_CHUNK} bytes or less",
            found=f"{size} bytes, chunks {tuple(chunk)} of shape {tuple(shape)}",
        )


def unreadable(error: Exception, file, variable: str | None = None) -> FlowsrError:
    """The one line for bytes that a format's library cannot make sense of."""
    found = " ".join(str(error).split())[:200] or type(error).__name__
    return FlowsrError("damaged or not readable", file=file, variable=variable, found=found)
