"""Files that do not describe themselves, read as a manifest describes them: paths, axes, grid, times."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from contextlib import suppress
from itertools import permutations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from flowsr.data.field import SPACE, irreps_dimension
from flowsr.data.readers.base import READERS, Reader, Request, missing, read_coordinate
from flowsr.data.readers.hdf5 import attributes_of, hdf5_array
from flowsr.data.readers.lazy import LazyArray, Stack, View
from flowsr.data.readers.netcdf import netcdf3_array, netcdf3_attributes
from flowsr.data.readers.zarr import check_inside, checked_array
from flowsr.errors import FlowsrError, UnknownName, require
from flowsr.grid import BOUNDARIES
from flowsr.quarantine.hdf5 import node_at

COMPONENTS = ("u", "v", "w")
#: What a file may state of itself in attributes of its own.
OWN = ("boundary", "viscosity", "length_units")
# A member of an archive that unpacks to more than this, and to this many times its size, is no field but an attack.
LARGEST_MEMBER = 1 << 32
GREATEST_RATIO = 200


@READERS.register("described")
class DescribedReader(Reader):
    """HDF5, NetCDF 3 and 4, Zarr, npy, npz or raw numbers as a manifest describes them."""

    signs = "a manifest that names paths and axes"
    general = True
    takes = frozenset({"path", "axes", "coordinates", "times", "dtype"})

    def recognizes(self, path: Path) -> bool:
        return path.is_file() and path.suffix in (".npy", ".npz")

    def open(self, path: Path, request: Request) -> xr.Dataset:
        if request.layout is None:
            members = npz_arrays(path).items() if zipfile.is_zipfile(path) else ()
            raise FlowsrError(
                "this file does not say what its axes are",
                file=path,
                expected="a manifest with the axes of each variable",
                found=", ".join(f"{name} {array.shape}" for name, array in members) or "a bare array",
                hint="docs/data.md shows one in ten lines",
            )
        return _Described(path, request.layout, request.group).dataset()


class _Described:
    def __init__(self, path: Path, layout: Mapping[str, Any], group: str | None):
        self.path, self.layout = path, layout
        self.prefix = f"{group.strip('/')}/" if group else ""

    def dataset(self) -> xr.Dataset:
        coords, times = {name: self._axis(name) for name in SPACE}, self._times()
        lengths = {name: axis.size for name, axis in coords.items()}
        if times is not None:
            lengths["time"] = len(times)
        coords = {"time": ("time", np.zeros(1) if times is None else times), **coords}
        dataset = xr.Dataset(coords=coords, attrs=self._stated("", OWN))
        for name, declared in self.layout["variables"].items():
            dataset[name] = self._variable(name, declared, dict(lengths))
        if "component" in dataset.sizes:
            names = self._labels() or (
                COMPONENTS if dataset.sizes["component"] == 3 else range(dataset.sizes["component"])
            )
            dataset["component"] = [str(name) for name in names]
        return dataset

    def _labels(self) -> list[str] | None:
        """The file's own labels of three components, where the manifest does not list them one by one."""
        listed = any(isinstance(declared.get("path"), list) for declared in self.layout["variables"].values())
        if listed or not (self.path.is_dir() or h5py.is_hdf5(self.path)):
            return None
        with suppress(FlowsrError):
            labels = read_coordinate("component", self._array("component"), self.path)
            return labels.tolist() if len(labels) == 3 else None
        return None

    def _stated(self, inner: str, names: tuple[str, ...]) -> dict[str, Any]:
        """Attributes that the file itself states, of an array or of the whole; empty text states nothing."""
        found = attributes_in(self.path, (self.prefix + inner).strip("/"))
        return {name: found[name] for name in names if _says(name, found.get(name))}

    def _require(self, holds: object, message: str, variable: str | None, **parts) -> None:
        require(holds, message, file=self.path, variable=variable, **parts)

    def _variable(self, name: str, declared: Mapping, lengths: dict[str, int]) -> xr.Variable:
        count, axes = irreps_dimension(declared["irreps"]), declared.get("axes")
        dims = ("time", *(["component" if count == 3 else f"component_{count}"] if count > 1 else []), *SPACE)
        paths = name if declared.get("path") is None else declared["path"]
        if isinstance(paths, str):
            lengths["component"] = count
            array, paths = self._view(name, paths, axes, lengths, count), [paths]
        else:
            message, found = "field type and number of paths disagree", len(paths)
            self._require(found == count, message, name, expected=count, found=found)
            array = Stack([self._view(name, path, axes, lengths, 1) for path in paths], 1)
        attrs = {"irreps": declared["irreps"]}
        for path in paths:
            stated = self._stated(path, ("units",))
            expected, found = attrs.get("units"), stated.get("units")
            alike = expected is None or found in (None, expected)
            self._require(alike, "components in different units", name, expected=expected, found=found)
            attrs.update(stated)
        return array.as_variable(dims, attrs)

    def _view(self, name: str, inner: str, axes, lengths: dict[str, int], count: int) -> View:
        """(time, component, x, y, z), or without component where it is one."""
        array = self._array(inner, axes, lengths)
        if axes is None:
            axes = self._axes_by_length(name, array.shape, lengths)
        agree = array.shape == tuple(lengths.get(axis, n) for axis, n in zip(axes, array.shape))
        agree = agree and len(axes) == len(array.shape) and set(SPACE) <= set(axes)
        expected = ", ".join(f"{axis} {lengths.get(axis, 'any')}" for axis in axes) + ", x, y and z among them"
        self._require(agree, "axes and shape disagree", name, expected=expected, found=array.shape)
        stored, times = dict(zip(axes, array.shape)), lengths.get("time", 1)
        declared, found = "time" not in stored or "time" in lengths, f"{stored.get('time')} snapshots"
        message, expected = "the times are not declared", "times in the manifest"
        self._require(declared, message, name, expected=expected, found=found)
        there = times <= 1 or "time" in stored
        self._require(there, "no axis for the times", name, expected="time", found=tuple(axes))
        wanted = {
            "time": times,
            **({"component": count} if count > 1 else {}),
            **{axis: lengths[axis] for axis in SPACE},
        }
        return View(array, axes, wanted, {"component": 0} if count == 1 and "component" in stored else None)

    def _axes_by_length(self, name: str, shape: tuple[int, ...], lengths: dict[str, int]) -> tuple[str, ...]:
        """The one order of axes that fits the lengths, if only one does."""
        extra = [axis for axis in ("time", "component") if lengths.get(axis, 1) > 1]
        sets = {(*chosen, *SPACE) for chosen in ([], *([e] for e in extra), extra) if len(chosen) + 3 == len(shape)}
        fitting = {
            order
            for axes in sets
            for order in permutations(axes)
            if set(extra) <= set(axes) and all(lengths[axis] == n for axis, n in zip(order, shape))
        }
        message = "the order of the axes is ambiguous" if fitting else "shape and grid disagree"
        expected = "axes in the manifest, such as [time, z, y, x, component]"
        found = f"shape {shape}, which fits {len(fitting)} orders"
        self._require(len(fitting) == 1, message, name, expected=expected, found=found)
        return fitting.pop()

    def _array(self, inner: str, axes=None, lengths: Mapping[str, int] | None = None) -> LazyArray:
        """An array inside the file; raw numbers have the shape that axes and lengths say, if they do."""
        known = axes is not None and all(axis in lengths for axis in axes)
        shape = tuple(lengths[axis] for axis in axes) if known else None
        return array_in(self.path, self.prefix + inner, shape, self.layout.get("dtype"))

    def _axis(self, name: str) -> xr.Variable:
        declared, grid = (self.layout.get("coordinates") or {}).get(name), self.layout.get("grid")
        if isinstance(declared, str):
            return xr.Variable((name,), read_coordinate(name, self._array(declared), self.path))
        if declared is not None:
            return xr.Variable((name,), np.array(declared, dtype=float))
        self._require(
            grid is not None, "the grid is not declared", name, expected="coordinates or grid in the manifest"
        )
        axis = SPACE.index(name)
        step = grid["lengths"][axis] / grid["cells"][axis]
        return xr.Variable((name,), grid["origin"][axis] + (np.arange(grid["cells"][axis]) + 0.5) * step)

    def _times(self) -> np.ndarray | None:
        declared = self.layout.get("times")
        if isinstance(declared, str):
            return read_coordinate("time", self._array(declared), self.path)
        return None if declared is None else np.array(declared, dtype=float)


def _says(name: str, value) -> bool:
    if name == "boundary":
        return np.size(value) == 3 and all(str(kind) in BOUNDARIES for kind in np.ravel(value))
    if name == "viscosity":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, str) and value.strip() not in ("", "-")


def attributes_in(path: Path, inner: str) -> dict[str, Any]:
    """Attributes of an array or group in a file, or of the file where ``inner`` is empty; raw numbers have none."""
    if path.is_dir():
        from flowsr.quarantine.zarr import open_node

        check_inside(path, inner)
        with suppress(FileNotFoundError, KeyError):
            return dict(open_node(path / inner).attrs)
        return {}
    if h5py.is_hdf5(path):
        with h5py.File(path, "r") as file, suppress(UnknownName):
            return attributes_of(node_at(file, inner, path))
        return {}
    with open(path, "rb") as file:
        return netcdf3_attributes(path, inner) if file.read(3) == b"CDF" else {}


def array_in(path: Path, inner: str, raw_shape: tuple[int, ...] | None, dtype) -> LazyArray:
    """The lazy array of a name inside a file of any format that holds arrays.

    Args:
        path: HDF5, NetCDF 3 or 4, Zarr, npz, npy, or a file of raw numbers.
        inner: name or path inside the file; of no account where the file is one array.
        raw_shape: shape of raw numbers, where it is known.
        dtype: numpy dtype of raw numbers, with byte order.

    Raises:
        FlowsrError: no such name, a link out of the file, or a format that holds no arrays.
    """
    if path.is_dir():
        return _zarr_array(path, inner)
    if h5py.is_hdf5(path):
        return hdf5_array(path, inner)
    if zipfile.is_zipfile(path):
        members = npz_arrays(path)
        if inner not in members:
            raise missing("array", path, inner, members)
        return members[inner]
    with open(path, "rb") as file:
        magic = file.read(6)
    if magic == b"\x93NUMPY":
        return npy_array(path)
    if magic[:3] == b"CDF":
        return netcdf3_array(path, inner)
    expected = "a dtype with byte order in the manifest, such as '<f4'"
    require(dtype is not None, "raw numbers", file=path, expected=expected)
    message, expected = "raw numbers have no shape of their own", "axes and grid or times in the manifest"
    require(raw_shape is not None, message, file=path, expected=expected)
    return RawArray(path, raw_shape, dtype)


def _zarr_array(path: Path, inner: str) -> LazyArray:
    import zarr

    from flowsr.quarantine.zarr import open_node

    check_inside(path, inner)
    opened = None
    with suppress(FileNotFoundError, KeyError):
        opened = open_node(path / inner)
    there = isinstance(opened, zarr.Array)
    require(there, "no such array", file=path, variable=inner, expected="a Zarr array")
    return checked_array(path, inner, opened)


class RawArray(LazyArray):
    """Numbers in C order in a file without a header; only what is asked for is read.

    Args:
        dtype: numpy dtype with its byte order, such as ``<f4``.

    Raises:
        FlowsrError: a file of another size.
    """

    def __init__(self, path: Path, shape, dtype):
        super().__init__(shape, dtype, path, path.name)
        self.stored = np.dtype(dtype)
        _check_size(path, 0, self.shape, self.stored)

    def load(self, index):
        return np.array(np.memmap(self.file, self.stored, "r", 0, self.shape)[index])


class NpyArray(LazyArray):
    """The array of an npy file; only what is asked for is read."""

    def load(self, index):
        return np.array(np.load(self.file, mmap_mode="r", allow_pickle=False)[index])


class NpzArray(LazyArray):
    """A member of an npz archive; the member is unpacked for every read, so read whole snapshots."""

    def load(self, index):
        with np.load(self.file, allow_pickle=False) as archive:
            return archive[self.variable][index]


def npy_array(path: Path) -> NpyArray:
    """The array of an npy file, unread.

    Raises:
        FlowsrError: not an npy file, one that holds Python objects (they are never unpickled), or one cut short.
    """
    with open(path, "rb") as file:
        shape, dtype = _header(file, path)
        _check_size(path, file.tell(), shape, dtype)
    return NpyArray(shape, dtype, path, path.name)


def _check_size(path: Path, head: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
    wanted, size = head + dtype.itemsize * int(np.prod(shape, dtype=object)), path.stat().st_size
    expected = f"{wanted} bytes for shape {shape} of {dtype.str}"
    require(size == wanted, "the file's size is not that of its array", file=path, expected=expected, found=size)


def npz_arrays(path: Path) -> dict[str, LazyArray]:
    """The arrays of an npz archive by name, unread.

    Raises:
        FlowsrError: a member that is no npy array, holds Python objects, or unpacks to absurdly more than its size.
    """
    found = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            where, name = {"file": path, "variable": member.filename}, member.filename.removesuffix(".npy")
            require(name != member.filename, "not an array", **where, expected="npy members only")
            possible = member.file_size <= max(LARGEST_MEMBER, GREATEST_RATIO * member.compress_size)
            expected = f"at most {GREATEST_RATIO} times {member.compress_size} bytes"
            message = "unpacks to absurdly more than its size"
            require(possible, message, **where, expected=expected, found=member.file_size)
            with archive.open(member) as file:
                shape, dtype = _header(file, path)
                size = file.tell() + dtype.itemsize * int(np.prod(shape, dtype=object))
            require(size == member.file_size, "size and shape disagree", **where, found=shape)
            found[name] = NpzArray(shape, dtype, path, name)
    return found


def _header(file, path):
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
    except (ValueError, EOFError, SyntaxError, OSError) as error:
        found = " ".join(str(error).split())[:120]
        raise FlowsrError("not a numpy array", file=path, expected="an npy header", found=found) from None
    require(not dtype.hasobject, "Python objects are not unpickled", file=path, expected="numbers", found=dtype)
    return shape, dtype
