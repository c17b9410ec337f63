"""NetCDF 3, classic and 64-bit offset, through SciPy: dims and attributes as NetCDF names them, read part by part."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xarray as xr

from flowsr.data.readers.base import READERS, Found, Reader, Request, assemble
from flowsr.data.readers.lazy import LazyArray
from flowsr.errors import FlowsrError

VERSIONS = {b"CDF\x01": "classic", b"CDF\x02": "64-bit offset"}


@READERS.register("netcdf3")
class Netcdf3Reader(Reader):
    """A NetCDF 3 file in flowsr's layout; one in another layout is read as a manifest describes it."""

    signs = "a NetCDF 3 file"
    general = True

    def recognizes(self, path: Path) -> bool:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return file.read(3) == b"CDF"

    def open(self, path: Path, request: Request) -> xr.Dataset:
        if request.group:
            raise FlowsrError("NetCDF 3 has no groups", file=path, variable="group", found=request.group)
        with _opened(path) as file:
            found = {
                name: Found(_lazy(path, name, item), tuple(item.dimensions), _attributes(item._attributes))
                for name, item in file.variables.items()
                if item.data.dtype.kind in "fiu"
            }
            return assemble(found, _attributes(file._attributes), path)


class Netcdf3Array(LazyArray):
    """A variable of a NetCDF 3 file, which is mapped for each read."""

    def __init__(self, path: Path, name: str, shape, dtype):
        super().__init__(shape, dtype, path, name)

    def load(self, index):
        with _opened(self.file) as file:
            return np.array(file.variables[self.variable].data[index], dtype=self.dtype)


def netcdf3_array(path: Path, inner: str) -> Netcdf3Array:
    """The lazy array of a variable.

    Raises:
        FlowsrError: no such variable.
    """
    with _opened(path) as file:
        name = inner.strip("/")
        if name not in file.variables:
            raise FlowsrError("no such array", file=path, variable=inner, found=", ".join(file.variables) or "nothing")
        return _lazy(path, name, file.variables[name])


@contextmanager
def _opened(path: Path) -> Iterator:
    """The file, mapped and not read."""
    from scipy.io import netcdf_file

    with open(path, "rb") as file:
        magic = file.read(4)
    if magic not in VERSIONS:
        raise FlowsrError(
            "a version of NetCDF that is not read",
            file=path,
            expected=" or ".join(VERSIONS.values()) + ", or NetCDF 4",
            found=f"version {magic[3:].hex() or 'none'}",
            hint="convert it: nccopy -k nc4 IN OUT",
        )
    # SciPy warns when it lets a damaged file go, long after; nothing outlives the file, all that is read is copied.
    warnings.filterwarnings("ignore", message="Cannot close a netcdf_file", category=RuntimeWarning)
    with netcdf_file(path, "r", mmap=True) as file:
        yield file


def _lazy(path: Path, name: str, item) -> Netcdf3Array:
    return Netcdf3Array(path, name, item.data.shape, item.data.dtype)


def _attributes(stored) -> dict:
    """Attributes as Python has them; text in braces or brackets is JSON."""
    return {name: _value(value) for name, value in stored.items()}


def _value(value):
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        if value[:1] in "{[":
            try:
                return json.loads(value)
            except ValueError:
                return value
        return value
    return np.asarray(value).tolist()
