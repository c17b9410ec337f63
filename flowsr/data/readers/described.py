"""Files that do not describe themselves, read as a manifest describes them: paths, axes, grid, times."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from itertools import permutations
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import h5py
import numpy as np
import xarray as xr

from flowsr.data.field import SPACE, VECTOR_DIMS, irreps_dimension
from flowsr.data.readers.assemble import Found, assemble, read_coordinate
from flowsr.data.readers.base import READERS, Reader, Request, missing
from flowsr.data.readers.hdf5 import attributes_of, hdf5_array, hdf5_contents
from flowsr.data.readers.lazy import Centred, LazyArray, Stack, View
from flowsr.data.readers.meeting import meet
from flowsr.data.readers.names import axis_of
from flowsr.data.readers.netcdf import netcdf3_array, netcdf3_attributes, netcdf3_contents
from flowsr.data.readers.units import Scaled, alike, conversion
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
    takes_words = True
    takes = frozenset({"path", "axes", "coordinates", "times", "dtype"})

    def recognizes(self, path: Path) -> bool:
        return path.is_file() and path.suffix in (".npy", ".npz")

    def open(self, path: Path, request: Request) -> xr.Dataset:
        if request.layout is None and request.axes:
            found, attrs = contents_of(path, request.group)
            return assemble(found, attrs, path, request)
        if request.layout is None:
            members = npz_arrays(path).items() if zipfile.is_zipfile(path) else ()
            raise FlowsrError(
                "this file does not say what its axes are",
                file=path,
                expected="a manifest with the axes of each variable",
                found=", ".join(f"{name} {array.shape}" for name, array in members) or "a bare array",
                hint="--axes and --lengths name them too; docs/data.md shows a manifest in ten lines",
            )
        return _Described(path, request.layout, request).dataset()


class _Described:
    def __init__(self, path: Path, layout: Mapping[str, Any], request: Request):
        self.path, self.layout, self.request = path, layout, request
        self.prefix = f"{request.group.strip('/')}/" if request.group else ""

    @cached_property
    def found(self) -> dict[str, Found]:
        """The arrays that the file names; none of raw numbers."""
        with suppress(FlowsrError):
            return contents_of(self.path, self.request.group)[0]
        return {}

    def _is_plain(self) -> bool:
        """Whether the manifest leaves it to the file to say which arrays are the variables, and what their axes are."""
        declared = self.layout["variables"]
        silent = all(v.get("path") is None and v.get("axes") is None for v in declared.values())
        named = all(item.dims is not None for item in self.found.values())
        return silent and bool(self.found) and (named or not set(declared) <= self.found.keys())

    def _assembled(self) -> xr.Dataset:
        """The dataset as the file has it, with the coordinates and times that the manifest states."""
        given = {name: axis for name in SPACE if (axis := self._stated_axis(name)) is not None}
        times = self._times()
        given |= {} if times is None else {"time": times}
        found, attrs = contents_of(self.path, self.request.group)
        return assemble(found, attrs, self.path, replace(self.request, coordinates=given))

    def dataset(self) -> xr.Dataset:
        if self._is_plain():
            return self._assembled()
        coords, times = {name: self._axis(name) for name in SPACE}, self._times()
        lengths = {name: axis.size for name, axis in coords.items()}
        if times is not None:
            lengths["time"] = times.size
        coords = {"time": ("time", np.zeros(1)) if times is None else times, **coords}
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
        listed = [paths] if isinstance(paths, str) else paths
        attrs, factors = self._own_words(name, declared["irreps"], listed)
        if isinstance(paths, str):
            lengths["component"] = count
            return self._view(name, paths, axes, lengths, count).as_variable(dims, attrs)
        message, found = "field type and number of paths disagree", len(paths)
        self._require(found == count, message, name, expected=count, found=found)
        faces = SPACE if declared.get("staggered") and count == len(SPACE) else [None] * count
        parts = [self._view(name, path, axes, lengths, 1, on) for path, on in zip(paths, faces)]
        scaled = [part if factor == (1.0, 0.0) else Scaled(part, *factor) for part, factor in zip(parts, factors)]
        if declared.get("staggered"):
            attrs["staggered"] = f"{', '.join(paths)} averaged from faces to the centres between"
        return Stack(scaled, 1).as_variable(dims, attrs)

    def _own_words(self, name: str, irreps: str, paths: Sequence[str]) -> tuple[dict[str, Any], list[tuple]]:
        """What the file states of a variable, and the factors and offsets of its parts to the first one's unit."""
        attrs: dict[str, Any] = {"irreps": irreps}
        factors: list[tuple] = []
        for path in paths:
            said = self._stated(path, ("units", "irreps"))
            own, expected, found = said.pop("irreps", None), attrs.get("units"), said.get("units")
            whole = len(paths) > 1 or own in (None, irreps)
            message, stated = "file and manifest disagree", f"{irreps} (manifest)"
            self._require(whole, message, f"{name}.irreps", expected=stated, found=own)
            factor = (1.0, 0.0) if alike(expected, found) else conversion(found, expected)
            self._require(factor is not None, "components in different units", name, expected=expected, found=found)
            factors.append(factor)
            attrs = {**said, **attrs}
        return attrs, factors

    def _view(self, name: str, inner: str, axes, lengths: dict[str, int], count: int, faces: str | None = None) -> View:
        """(time, component, x, y, z), or without component where it is one; from the ``faces`` of an axis."""
        array = self._array(inner, axes, lengths)
        if faces is not None:
            place = axes.index(faces)
            array = Centred(array, place, 0, array.shape[place] - 1)
        if axes is None:
            axes = self._axes_by_name(inner) or self._axes_by_length(name, array.shape, lengths)
        fixed = self._fixed(name, axes, array.shape)
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
        return View(
            array, axes, wanted, {**fixed, **({"component": 0} if count == 1 and "component" in stored else {})}
        )

    def _fixed(self, name: str, axes: Sequence[str], shape: tuple[int, ...]) -> dict[str, int]:
        """The one entry of each axis that flowsr does not know."""
        found = {}
        for axis, length in zip(axes, shape):
            if axis not in VECTOR_DIMS:
                number, hint = self.request.select.get(axis, 0 if length == 1 else None), f"select: {{{axis}: 0}}"
                expected = f"one of its {length} entries"
                message = "an axis that flowsr does not know"
                self._require(number is not None, message, name, expected=expected, found=axis, hint=hint)
                self._require(0 <= number < length, "no such entry", f"{name}, select {axis}", found=number)
                found[axis] = number
        return found

    def _axes_by_name(self, inner: str) -> list[str] | None:
        """The axes of an array whose dims the file names, if all are known."""
        item = self.found.get(inner)
        dims = item.dims if item is not None else None
        named = [dim if dim in VECTOR_DIMS else axis_of(dim) or dim for dim in dims or ()]
        return named if named and set(SPACE) <= set(named) and len(set(named)) == len(named) else None

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
        """The coordinate of an axis, which the manifest states or, where it is silent, the file."""
        axis = self._stated_axis(name)
        if axis is None:
            axis = self._own_axis(name)
        message, expected = "the grid is not declared", "coordinates or grid in the manifest"
        self._require(axis is not None, message, name, expected=expected)
        return axis

    def _stated_axis(self, name: str) -> xr.Variable | None:
        declared, grid = (self.layout.get("coordinates") or {}).get(name), self.layout.get("grid")
        number = SPACE.index(name)
        if isinstance(declared, str):
            attrs = attributes_in(self.path, (self.prefix + declared).strip("/"))
            kept = {key: value for key, value in attrs.items() if key in ("units", "extent")}
            return xr.Variable((name,), read_coordinate(name, self._array(declared), self.path), kept)
        if declared is not None:
            values = np.array(declared, dtype=float)
            self._agree(name, values)
            return xr.Variable((name,), values)
        if grid is None and self.request.lengths is None:
            return None
        cells = grid["cells"][number] if grid else self._length_of(name)
        side, low = (grid["lengths"][number], grid["origin"][number]) if grid else (self.request.lengths[number], 0.0)
        return None if cells is None else xr.Variable((name,), low + (np.arange(cells) + 0.5) * (side / cells))

    def _own_axis(self, name: str) -> xr.Variable | None:
        """The coordinate that the file has of an axis: an array of its name, or one attached to a variable."""
        for declared in self.layout["variables"].values():
            paths = declared.get("path")
            item = self.found.get(paths[0] if isinstance(paths, list) else paths) if paths else None
            axes = declared.get("axes") or (self._axes_by_name(paths) if isinstance(paths, str) else None)
            if item is not None and axes and name in axes and axes.index(name) in item.scales:
                return xr.Variable((name,), read_coordinate(name, item.scales[axes.index(name)], self.path))
            if isinstance(paths, str) and "/" in paths and axes and name in axes:
                folder, _, last = f"{self.prefix}{paths}".rpartition("/")
                with suppress(FlowsrError):
                    item = contents_of(self.path, folder)[0].get(last)
                    if item is not None and axes.index(name) in item.scales:
                        return xr.Variable((name,), read_coordinate(name, item.scales[axes.index(name)], self.path))
        named = [stored for stored, item in self.found.items() if self._is_axis(stored, item, name)]
        stored = name if name in named else named[0] if len(named) == 1 else None
        if stored is None:
            return None
        attrs = {k: v for k, v in self.found[stored].attrs.items() if k in ("units", "extent", "calendar")}
        return xr.Variable((name,), read_coordinate(stored, self.found[stored].array, self.path), attrs)

    @staticmethod
    def _is_axis(stored: str, item: Found, name: str) -> bool:
        one = len(item.array.shape) == 1 and item.array.dtype.kind in "fiu"
        return one and (stored == name or axis_of(stored, item.attrs) == name)

    def _agree(self, name: str, values: np.ndarray) -> None:
        """Refuse coordinates that contradict those that the file has by the same name."""
        item = self.found.get(name)
        if item is None or item.array.shape != values.shape or item.array.dtype.kind not in "fiu" or len(values) < 2:
            return
        own = read_coordinate(name, item.array, self.path).astype(float)
        slack = 1e-3 * np.abs(np.diff(own)).min()
        same, found = np.allclose(own, values, rtol=0, atol=slack), f"{own[0]:.6g} .. {own[-1]:.6g}"
        expected = f"{values[0]:.6g} .. {values[-1]:.6g} (manifest)"
        self._require(same, "file and manifest disagree", name, expected=expected, found=found)

    def _length_of(self, name: str) -> int | None:
        """Cells along an axis, by the axes that the manifest states of a variable."""
        for stored, declared in self.layout["variables"].items():
            paths, axes = declared.get("path") or stored, declared.get("axes")
            if axes and name in axes:
                return self._array(paths if isinstance(paths, str) else paths[0]).shape[axes.index(name)]
        return None

    def _times(self) -> xr.Variable | None:
        """Times that the manifest states or, where it is silent, the file, which may say what they are since."""
        declared = self.layout.get("times")
        if isinstance(declared, str):
            attrs = attributes_in(self.path, (self.prefix + declared).strip("/"))
            kept = {key: value for key, value in attrs.items() if key in ("units", "calendar")}
            return xr.Variable(("time",), read_coordinate("time", self._array(declared), self.path), kept)
        if declared is not None:
            return xr.Variable(("time",), np.array(declared, dtype=float))
        return self._own_axis("time")


def contents_of(path: Path, group: str | None) -> tuple[dict[str, Found], dict[str, Any]]:
    """The arrays of a file of any format that holds arrays by name, and its attributes.

    Raises:
        FlowsrError: a file that holds none, or that fails the first look at it.
    """
    meet(path)
    if path.is_dir():
        from flowsr.data.readers.zarr import zarr_contents

        return zarr_contents(path, group)
    if h5py.is_hdf5(path):
        return hdf5_contents(path, group)
    if zipfile.is_zipfile(path):
        return {name: Found(array, None) for name, array in npz_arrays(path).items()}, {}
    with open(path, "rb") as file:
        magic = file.read(6)
    if magic[:3] == b"CDF":
        return netcdf3_contents(path, group)
    if magic == b"\x93NUMPY":
        return {"velocity": Found(npy_array(path), None)}, {}
    raise FlowsrError("a file that names no arrays", file=path, expected="HDF5, NetCDF, Zarr, npz or npy")


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


class NumpyHeader(NamedTuple):
    """What stands before the numbers of an npy file; ``size`` in bytes."""

    shape: tuple[int, ...]
    dtype: np.dtype
    order: str
    size: int


class RawArray(LazyArray):
    """Numbers in a file that hold no more than that, but for a head; only what is asked for is read.

    Args:
        dtype: numpy dtype with its byte order, such as ``<f4``.
        head: bytes before the first number.
        order: ``C`` or ``F``, of the axes in the file.

    Raises:
        FlowsrError: a file of another size.
    """

    def __init__(self, path: Path, shape, dtype, head: int = 0, order: str = "C"):
        super().__init__(shape, dtype, path, path.name)
        self.stored, self.head, self.order = np.dtype(dtype), head, order
        _check_size(path, head, self.shape, self.stored)

    def load(self, index):
        return np.array(np.memmap(self.file, self.stored, "r", self.head, self.shape, self.order)[index])


class NpzArray(LazyArray):
    """A member of an npz archive; the member is unpacked for every read, so read whole snapshots."""

    def __init__(self, path: Path, name: str, header: NumpyHeader):
        super().__init__(header.shape, header.dtype, path, name)
        self.header = header

    def load(self, index):
        # Not through np.load: it parses the header again, which under Python 3.11 fails at times in several threads.
        with zipfile.ZipFile(self.file) as archive, archive.open(f"{self.variable}.npy") as member:
            member.read(self.header.size)
            values = np.frombuffer(member.read(), self.header.dtype)
        return values.reshape(self.shape, order=self.header.order)[index].copy()


def npy_array(path: Path) -> RawArray:
    """The array of an npy file, unread.

    Raises:
        FlowsrError: not an npy file, one that holds Python objects (they are never unpickled), or one cut short.
    """
    with open(path, "rb") as file:
        header = _header(file, path)
    return RawArray(path, header.shape, header.dtype, header.size, header.order)


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
                header = _header(file, path)
            size = header.size + header.dtype.itemsize * int(np.prod(header.shape, dtype=object))
            require(size == member.file_size, "size and shape disagree", **where, found=header.shape)
            found[name] = NpzArray(path, name, header)
    return found


_ONE_PARSER = Lock()  # Python 3.11 loses count where two threads parse at once (its issue 106905)


def _header(file, path) -> NumpyHeader:
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with _ONE_PARSER:
            shape, fortran, dtype = read(file)
    except Exception as error:  # what Python's parser trips over: recursion, memory, its own counting
        found = " ".join(str(error).split())[:120]
        raise FlowsrError("not a numpy array", file=path, expected="an npy header", found=found) from None
    require(not dtype.hasobject, "Python objects are not unpickled", file=path, expected="numbers", found=dtype)
    return NumpyHeader(shape, dtype, "F" if fortran else "C", file.tell())
