"""Files that do not describe themselves, read as a manifest describes them: paths, axes, grid, times."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from flowsr.data.field import SPACE, irreps_dimension
from flowsr.data.readers.base import READERS, Reader, Request, read_coordinate
from flowsr.data.readers.hdf5 import lazy_dataset
from flowsr.data.readers.lazy import LazyArray, Stack, View
from flowsr.data.readers.netcdf import netcdf3_array
from flowsr.errors import FlowsrError

COMPONENTS = ("u", "v", "w")
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
            raise FlowsrError(
                "this file does not say what its axes are",
                file=path,
                expected="a manifest with the axes of each variable",
                found=", ".join(_members(path)) or "a bare array",
                hint="docs/data.md shows one in ten lines",
            )
        return _Described(path, request.layout, request.group).dataset()


class _Described:
    def __init__(self, path: Path, layout: Mapping[str, Any], group: str | None):
        self.path, self.layout = path, layout
        self.prefix = f"{group.strip('/')}/" if group else ""

    def dataset(self) -> xr.Dataset:
        lengths = {}
        coords = {name: self._axis(name) for name in SPACE}
        for name, axis in coords.items():
            lengths[name] = axis.size
        times = self._times()
        if times is not None:
            lengths["time"] = len(times)
        variables = {
            name: self._variable(name, declared, dict(lengths)) for name, declared in self.layout["variables"].items()
        }
        if times is None:
            times = np.zeros(1)
        dataset = xr.Dataset(coords={"time": ("time", times), **coords})
        for name, array in variables.items():
            dataset[name] = array
        if "component" in dataset.sizes:
            names = COMPONENTS if dataset.sizes["component"] == 3 else range(dataset.sizes["component"])
            dataset["component"] = [str(name) for name in names]
        return dataset

    def _variable(self, name: str, declared: Mapping, lengths: dict[str, int]) -> xr.Variable:
        count = irreps_dimension(declared["irreps"])
        paths = declared.get("path")
        paths = name if paths is None else paths
        axes = declared.get("axes")
        if isinstance(paths, str):
            lengths["component"] = count
            view = self._view(name, self._array(paths, axes, lengths), axes, lengths, count)
            return view.as_variable(self._dims(count), {"irreps": declared["irreps"]})
        if len(paths) != count:
            raise FlowsrError(
                "field type and number of paths disagree",
                file=self.path,
                variable=name,
                expected=count,
                found=len(paths),
            )
        parts = [self._view(name, self._array(path, axes, lengths), axes, lengths, 1) for path in paths]
        return Stack(parts, 1).as_variable(self._dims(count), {"irreps": declared["irreps"]})

    def _view(self, name: str, array: LazyArray, axes, lengths: dict[str, int], count: int) -> View:
        """(time, component, x, y, z), or without component where it is one."""
        axes = self._axes_by_length(name, array, lengths) if axes is None else self._checked(name, array, axes, lengths)
        stored = dict(zip(axes, array.shape))
        if "time" in stored and "time" not in lengths:
            raise FlowsrError(
                "the times are not declared",
                file=self.path,
                variable=name,
                expected="times in the manifest",
                found=f"{stored['time']} snapshots",
            )
        wanted = {"time": lengths.get("time", 1), **{axis: lengths[axis] for axis in SPACE}}
        if lengths.get("time", 1) > 1 and "time" not in stored:
            raise FlowsrError(
                "no axis for the times", file=self.path, variable=name, expected="time", found=tuple(axes)
            )
        fixed = {"component": 0} if count == 1 and "component" in stored else None
        if count > 1:
            wanted = {"time": wanted.pop("time"), "component": count, **wanted}
        return View(array, axes, wanted, fixed)

    def _dims(self, count: int) -> tuple[str, ...]:
        if count == 1:
            return ("time", *SPACE)
        return ("time", "component" if count == 3 else f"component_{count}", *SPACE)

    def _checked(self, name: str, array: LazyArray, axes, lengths: dict[str, int]) -> tuple[str, ...]:
        wanted = tuple(lengths.get(axis, n) for axis, n in zip(axes, array.shape))
        if len(axes) != len(array.shape) or wanted != array.shape or not set(SPACE) <= set(axes):
            raise FlowsrError(
                "axes and shape disagree",
                file=self.path,
                variable=name,
                expected=", ".join(f"{axis} {lengths.get(axis, 'any')}" for axis in axes) + ", x, y and z among them",
                found=array.shape,
            )
        return tuple(axes)

    def _axes_by_length(self, name: str, array: LazyArray, lengths: dict[str, int]) -> tuple[str, ...]:
        """The one order of axes that fits the lengths, if only one does."""
        shape = array.shape
        extra = [axis for axis in ("time", "component") if lengths.get(axis, 1) > 1]
        sets = [(*chosen, *SPACE) for chosen in ([], *([e] for e in extra), extra) if len(chosen) + 3 == len(shape)]
        sets = list(dict.fromkeys(tuple(s) for s in sets if set(extra) <= set(s)))
        fitting = [p for s in sets for p in permutations(s) if all(lengths[axis] == n for axis, n in zip(p, shape))]
        if len(set(fitting)) != 1:
            raise FlowsrError(
                "the order of the axes is ambiguous" if fitting else "shape and grid disagree",
                file=self.path,
                variable=name,
                expected="axes in the manifest, such as [time, z, y, x, component]",
                found=f"shape {shape}, which fits {len(set(fitting))} orders",
            )
        return fitting[0]

    def _array(self, inner: str, axes, lengths: dict[str, int]) -> LazyArray:
        return array_in(
            self.path, self.prefix + inner, lambda: self._raw_shape(axes, lengths), self.layout.get("dtype")
        )

    def _raw_shape(self, axes, lengths: dict[str, int]) -> tuple[int, ...]:
        if axes is None or any(axis not in lengths for axis in axes):
            raise FlowsrError(
                "raw numbers have no shape of their own",
                file=self.path,
                expected="axes and grid or times in the manifest",
            )
        return tuple(lengths[axis] for axis in axes)

    def _axis(self, name: str) -> xr.Variable:
        declared = (self.layout.get("coordinates") or {}).get(name)
        if isinstance(declared, str):
            array = array_in(self.path, self.prefix + declared, lambda: None, None)
            return xr.Variable((name,), read_coordinate(name, array, self.path))
        if declared is not None:
            return xr.Variable((name,), np.array(declared, dtype=float))
        grid = self.layout.get("grid")
        if grid is None:
            raise FlowsrError(
                "the grid is not declared",
                file=self.path,
                variable=name,
                expected="coordinates or grid in the manifest",
            )
        axis = SPACE.index(name)
        step = grid["lengths"][axis] / grid["cells"][axis]
        return xr.Variable((name,), grid["origin"][axis] + (np.arange(grid["cells"][axis]) + 0.5) * step)

    def _times(self) -> np.ndarray | None:
        declared = self.layout.get("times")
        if isinstance(declared, str):
            return read_coordinate("time", array_in(self.path, self.prefix + declared, lambda: None, None), self.path)
        return None if declared is None else np.array(declared, dtype=float)


def array_in(path: Path, inner: str, raw_shape, dtype) -> LazyArray:
    """The lazy array of a name inside a file of any format that holds arrays.

    Args:
        path: HDF5, NetCDF 3 or 4, Zarr, npz, npy, or a file of raw numbers.
        inner: name or path inside the file; of no account where the file is one array.
        raw_shape: called for the shape of raw numbers.
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
            raise FlowsrError("no such array", file=path, variable=inner, found=", ".join(members) or "nothing")
        return members[inner]
    with open(path, "rb") as file:
        magic = file.read(6)
    if magic == b"\x93NUMPY":
        return npy_array(path)
    if magic[:3] == b"CDF":
        return netcdf3_array(path, inner)
    if dtype is None:
        raise FlowsrError("raw numbers", file=path, expected="a dtype with byte order in the manifest, such as '<f4'")
    return RawArray(path, raw_shape(), dtype)


def hdf5_array(path: Path, inner: str) -> LazyArray:
    """The lazy array at a path inside an HDF5 file.

    Raises:
        FlowsrError: no such array, or a link into another file.
    """
    with h5py.File(path, "r") as file:
        node = file
        for part in inner.strip("/").split("/"):
            link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
            if isinstance(link, h5py.ExternalLink):
                raise FlowsrError("a link into another file", file=path, variable=inner, expected="data in this file")
            if link is None:
                found = ", ".join(node) if isinstance(node, h5py.Group) else "an array"
                raise FlowsrError("no such array", file=path, variable=inner, found=found or "nothing")
            node = node[part]
        if not isinstance(node, h5py.Dataset):
            raise FlowsrError("no such array", file=path, variable=inner, found=f"a group with {', '.join(node)}")
        return lazy_dataset(path, node)


def _zarr_array(path: Path, inner: str) -> LazyArray:
    import zarr

    from flowsr.data.readers.zarr import ZarrArray, checked_array

    if not (path / inner).resolve().is_relative_to(path.resolve()):
        raise FlowsrError("leads out of the store", file=path, variable=inner, expected="a name inside it")
    try:
        opened = zarr.open(str(path / inner), mode="r")
    except (FileNotFoundError, KeyError):
        opened = None
    if not isinstance(opened, zarr.Array):
        raise FlowsrError("no such array", file=path, variable=inner, expected="a Zarr array")
    checked: ZarrArray = checked_array(path, inner, opened)
    return checked


def _members(path: Path) -> list[str]:
    return [f"{name} {array.shape}" for name, array in npz_arrays(path).items()] if zipfile.is_zipfile(path) else []


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
