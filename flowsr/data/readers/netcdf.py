"""NetCDF 3, classic and 64-bit offset, through SciPy: dims and attributes as NetCDF names them, read part by part."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xarray as xr

from flowsr.data.readers.assemble import Found, assemble
from flowsr.data.readers.base import READERS, Reader, Request, missing, plain_value
from flowsr.data.readers.lazy import LazyArray
from flowsr.data.readers.words import meant
from flowsr.errors import require

VERSIONS = {b"CDF\x01": "classic", b"CDF\x02": "64-bit offset"}


@READERS.register("netcdf3")
class Netcdf3Reader(Reader):
    """A NetCDF 3 file in flowsr's layout; one in another layout is read as a manifest describes it."""

    signs = "a NetCDF 3 file"
    general = True
    takes_words = True

    def recognizes(self, path: Path) -> bool:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return file.read(3) == b"CDF"

    def open(self, path: Path, request: Request) -> xr.Dataset:
        found, attrs = netcdf3_contents(path, request.group)
        return assemble(found, attrs, path, request)


def netcdf3_contents(path: Path, group: str | None) -> tuple[dict[str, Found], dict]:
    """The variables by name, and the file's attributes.

    Raises:
        FlowsrError: a group is asked for.
    """
    require(not group, "NetCDF 3 has no groups", file=path, variable="group", found=group)
    with _opened(path) as file:
        found = {}
        for name, item in file.variables.items():
            dims, array = tuple(item.dimensions), netcdf3_array(path, name)
            if item.data.dtype.kind == "S" and len(dims) == 2:  # text is kept letter by letter
                dims, array = dims[:1], Letters(array)
            found[name] = Found(array, dims, _attributes(item))
        return found, _attributes(file)


class Letters(LazyArray):
    """Rows of letters as words."""

    def __init__(self, source: LazyArray):
        super().__init__(source.shape[:1], f"S{max(1, source.shape[1])}", source.file, source.variable)
        self.source = source

    def load(self, index):
        rows = np.atleast_2d(self.source.load((index[0], slice(None))))
        words = np.array([b"".join(row).strip(b"\0 ") for row in rows.astype("S1")], dtype=self.dtype)
        return words if isinstance(index[0], slice) else words[0]


class Netcdf3Array(LazyArray):
    """A variable of a NetCDF 3 file, which is mapped for each read."""

    def load(self, index):
        with _opened(self.file) as file:
            return np.array(file.variables[self.variable].data[index], dtype=self.dtype)


def netcdf3_array(path: Path, inner: str) -> LazyArray:
    """The lazy array of a variable, as its attributes mean its numbers.

    Raises:
        FlowsrError: no such variable.
    """
    with _opened(path) as file:
        name = inner.strip("/")
        if name not in file.variables:
            raise missing("array", path, inner, file.variables)
        item = file.variables[name]
        return meant(Netcdf3Array(item.data.shape, item.data.dtype, path, name), item._attributes, netcdf=True)


def netcdf3_attributes(path: Path, inner: str) -> dict:
    """Attributes of a variable, or of the file where ``inner`` is empty; none of a variable that is not there."""
    with _opened(path) as file:
        item = file.variables.get(inner) if inner else file
        return {} if item is None else _attributes(item)


@contextmanager
def _opened(path: Path) -> Iterator:
    """The file, mapped and not read."""
    from scipy.io import netcdf_file

    with open(path, "rb") as file:
        magic = file.read(4)
    expected, found = " or ".join(VERSIONS.values()) + ", or NetCDF 4", f"version {magic[3:].hex() or 'none'}"
    message, hint = "a version of NetCDF that is not read", "convert it: nccopy -k nc4 IN OUT"
    require(magic in VERSIONS, message, file=path, expected=expected, found=found, hint=hint)
    # SciPy warns when it lets a damaged file go, long after; nothing outlives the file, all that is read is copied.
    warnings.filterwarnings("ignore", message="Cannot close a netcdf_file", category=RuntimeWarning)
    with netcdf_file(path, "r", mmap=True) as file:
        yield file


def _attributes(item) -> dict:
    return {name: plain_value(value) for name, value in item._attributes.items()}
