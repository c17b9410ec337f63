"""HDF5 in the flowsr layout: reading, and writing for other programs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from flowsr.data.field import SERIES_DIMS
from flowsr.data.readers.assemble import Found, assemble
from flowsr.data.readers.base import READERS, Reader, Request, missing, plain_value
from flowsr.data.readers.lazy import LazyArray, check_chunk
from flowsr.data.readers.words import WORDS, meant
from flowsr.data.store import as_json
from flowsr.errors import FlowsrError
from flowsr.files import fsync_file, fsync_folder, remove
from flowsr.quarantine import OWN_WORDS
from flowsr.quarantine.hdf5 import check_inside, dataset_at, items_of, node_at
from flowsr.quarantine.hdf5 import read as read_within

BOOKKEEPING = (
    *("CLASS", "NAME", "DIMENSION_LIST", "DIMENSION_LABELS", "REFERENCE_LIST"),
    *("_Netcdf4Dimid", "_Netcdf4Coordinates", "_NCProperties", "_nc3_strict"),
)


#: What NetCDF 4 calls a scale that only names a dim.
BARE_DIM = "This is a netCDF dimension but not a netCDF variable."


@READERS.register("hdf5")
class Hdf5Reader(Reader):
    """Datasets ``velocity``, ``x``, ``y``, ``z``, ``time`` side by side; dims from the labels of the dimensions."""

    signs = "an HDF5 or NetCDF 4 file"
    general = True
    takes_words = True

    def recognizes(self, path: Path) -> bool:
        return path.is_file() and bool(h5py.is_hdf5(path))

    def open(self, path: Path, request: Request) -> xr.Dataset:
        found, attrs = hdf5_contents(path, request.group)
        return assemble(found, attrs, path, request)


def hdf5_contents(path: Path, group: str | None) -> tuple[dict[str, Found], dict]:
    """The arrays of a group by name, and its attributes.

    Raises:
        FlowsrError: no such group, or a link into another file.
    """
    with h5py.File(path, "r") as file:
        node = group_of(file, group, path)
        groups = [name for name, item in items_of(node, path).items() if isinstance(item, h5py.Group)]
        hint = "name a group: --group NAME" if groups else None
        found = ", ".join(groups)
        if groups and not datasets_of(node, path):
            raise FlowsrError(
                "no arrays at the top of this file", file=path, expected="a field", found=found, hint=hint
            )
        datasets = datasets_of(node, path).items()
        found = {name: _found(path, item) for name, item in datasets if not _is_bare_dim(item)}
        return found, attributes_of(node)


def _is_bare_dim(item: h5py.Dataset) -> bool:
    """Whether an array is there to give a dim its name alone, as NetCDF 4 has it."""
    name = item.attrs.get("NAME", b"")
    return BARE_DIM.encode() in name if isinstance(name, bytes) else BARE_DIM in str(name)


def group_of(file: h5py.File, group: str | None, path: Path):
    """A group of an open file; its root where ``group`` is None.

    Raises:
        FlowsrError: no such group.
    """
    if not group:
        return file
    with suppress(FlowsrError):
        node = node_at(file, group, path)
        if isinstance(node, h5py.Group):
            return node
    raise missing("group", path, group, file)


def datasets_of(node, path: Path) -> dict[str, h5py.Dataset]:
    """The datasets of a group by name.

    Raises:
        FlowsrError: a link into another file.
    """
    items = {name: item for name, item in items_of(node, path).items() if isinstance(item, h5py.Dataset)}
    return {name: check_inside(item, path) for name, item in items.items() if not _is_bare_dim(item)}


def _is_bare_dim(item: h5py.Dataset) -> bool:
    """Whether it stands for a dim of NetCDF 4 that has no coordinate: its numbers mean nothing."""
    name = item.attrs.get("NAME", b"")
    return isinstance(name, (bytes, np.bytes_)) and name.startswith(b"This is a netCDF dimension but not a netCDF")


def lazy_dataset(path: Path, item: h5py.Dataset) -> LazyArray:
    """The lazy array of an open dataset, as its attributes mean its numbers.

    Raises:
        FlowsrError: chunks too large to be unpacked, or numbers that are kept in another file.
    """
    check_inside(item, path)
    check_chunk(item.chunks, item.dtype, item.shape or (), path, item.name)
    said = {word: item.attrs[word] for word in WORDS if word in item.attrs}
    return meant(Hdf5Array(item.shape or (), item.dtype, path, item.name), said, netcdf=True)


def hdf5_array(path: Path, inner: str) -> LazyArray:
    """The lazy array at a path inside an HDF5 file.

    Raises:
        FlowsrError: no such array, or a link into another file.
    """
    with h5py.File(path, "r") as file:
        return lazy_dataset(path, dataset_at(file, inner, path))


class Hdf5Array(LazyArray):
    """A dataset of an HDF5 file, which is opened for each read and closed after it."""

    def load(self, index):
        with h5py.File(self.file, "r") as file:
            return read_within(dataset_at(file, self.variable, self.file), index, self.file)


def write_hdf5(dataset: xr.Dataset, path: str | os.PathLike) -> Path:
    """Write a field in the flowsr layout to HDF5, one snapshot at a time; the file appears when it is whole.

    Coordinates become dimension scales, so that other programs see the dims by name; attributes that HDF5 has no type
    for are kept as JSON.

    Returns:
        The path.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    remove(partial)
    with h5py.File(partial, "x") as file:
        write_header(file, dataset)
        for name, array in dataset.data_vars.items():
            for time in range(array.sizes["time"]):
                file[name][time] = array.isel(time=time).values
    fsync_file(partial)
    os.replace(partial, path)
    fsync_folder(path.parent)
    return path


def write_header(file: h5py.File, dataset: xr.Dataset) -> None:
    """Everything of a dataset but the values of its variables, whose places are laid down."""
    file.attrs.update({name: plain(value) for name, value in dataset.attrs.items()})
    for name, coord in dataset.coords.items():
        values = coord.values.astype(h5py.string_dtype()) if coord.dtype.kind in "UT" else coord.values
        file.create_dataset(name, data=values).make_scale(name)
        file[name].attrs.update({key: plain(value) for key, value in coord.attrs.items()})
    for dim in [dim for dim in dataset.dims if dim not in dataset.coords]:
        scale = file.create_dataset(dim, data=np.zeros(dataset.sizes[dim], ">f4"))
        scale.make_scale(f"{BARE_DIM}{dataset.sizes[dim]:10d}")
    for name, array in dataset.data_vars.items():
        stored = lay_down_array(file, name, array.shape, array.dtype)
        stored.attrs.update({key: plain(value) for key, value in array.attrs.items()})
        for axis, dim in enumerate(array.dims):
            stored.dims[axis].label = dim
            stored.dims[axis].attach_scale(file[dim])


def write_own_words(file: h5py.File, dataset: xr.Dataset, stored: Mapping[str, str]) -> None:
    """What a layout of others has no place for, as a text beside its arrays: names, attributes, labels, series.

    Args:
        stored: name of each field in the file, by its own.
    """
    words = {
        "attrs": dict(dataset.attrs),
        "coordinates": {str(name): dict(coord.attrs) for name, coord in dataset.coords.items()},
        "labels": {
            str(name): coord.values.tolist() for name, coord in dataset.coords.items() if coord.dtype.kind in "UT"
        },
        "variables": {place: {"name": name, "attrs": dict(dataset[name].attrs)} for name, place in stored.items()},
        "series": {
            str(name): {"values": array.values.tolist(), "attrs": dict(array.attrs)}
            for name, array in dataset.data_vars.items()
            if array.dims == SERIES_DIMS
        },
    }
    text = json.dumps(as_json(words))
    file.create_dataset(OWN_WORDS, data=text, dtype=h5py.string_dtype())


def own_words(datasets: Mapping[str, h5py.Dataset], path: Path) -> str | None:
    """The text that :func:`write_own_words` left among some datasets; None in a file of others."""
    item = datasets.get(OWN_WORDS)
    if item is None or item.shape != () or h5py.check_string_dtype(item.dtype) is None:
        return None
    return check_inside(item, path).asstr()[()]


def with_own_words(dataset: xr.Dataset, text: str | None, path: Path) -> xr.Dataset:
    """The dataset with what :func:`write_own_words` kept of it, where flowsr wrote the file.

    Raises:
        FlowsrError: words that do not go with the file.
    """
    if text is None:
        return dataset
    try:
        words = json.loads(text)
        series = {
            name: (SERIES_DIMS, np.array(one["values"], dtype=float), one["attrs"])
            for name, one in words["series"].items()
        }
        for place, one in words["variables"].items():
            dataset[place].attrs = dict(one["attrs"])
        for name, attrs in words["coordinates"].items():
            if name in dataset.coords:
                dataset[name].attrs = dict(attrs)
        labels = {name: (name, labels) for name, labels in words["labels"].items() if name in dataset.dims}
        renamed = {place: one["name"] for place, one in words["variables"].items() if one["name"] != place}
        dataset = dataset.rename(renamed).assign(series).assign_coords(labels)
        dataset.attrs = dict(words["attrs"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FlowsrError("flowsr's own words are damaged", file=path, variable=OWN_WORDS, found=error) from None
    return dataset


def lay_down_array(file: h5py.File, name: str, shape, dtype) -> h5py.Dataset:
    """A contiguous dataset whose place in the file is fixed at once: writing to it later touches nothing else."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    group, _, last = name.rpartition("/")
    node = file.require_group(group) if group else file
    space = h5py.h5s.create_simple(tuple(int(n) for n in shape))
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    return h5py.Dataset(h5py.h5d.create(node.id, last.encode(), kind, space, plist))


def plain(value):
    """An attribute's value as HDF5 has types for, or as JSON."""
    if isinstance(value, (str, bool, int, float, np.number)):
        return value
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, str) for v in value):
        return np.array(value, dtype=h5py.string_dtype())
    if isinstance(value, (list, tuple)) and len(value) > 1 and all(type(v) in (int, float) for v in value):
        numbers = np.array(value)
        if numbers.dtype.kind in "if":  # larger integers than HDF5 has are none
            return numbers
    return json.dumps(as_json(value))


def attributes_of(node) -> dict:
    """Attributes as Python has them; dimension-scale bookkeeping is left out."""
    return {name: plain_value(node.attrs[name]) for name in node.attrs if name not in BOOKKEEPING}


def _found(path: Path, item: h5py.Dataset) -> Found:
    """A dataset with the name of each dim, from its label or its scale.

    Attributes are read as such: the library's calls for dimension scales crash on a damaged file.
    """
    labels = [
        label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label or "")
        for label in np.ravel(item.attrs.get("DIMENSION_LABELS", ()))
    ]
    attached = item.attrs.get("DIMENSION_LIST", ())
    dims, scales = [], {}
    for axis in range(item.ndim):
        name = labels[axis] if axis < len(labels) else ""
        if axis < len(attached) and len(attached[axis]):
            scale = None
            with suppress(
                KeyError, ValueError, RuntimeError, TypeError
            ):  # a copied group refers to what it left behind
                scale = item.file[attached[axis][0]]
                name = name or scale.name.rpartition("/")[2]
            if (
                isinstance(scale, h5py.Dataset)
                and scale.shape == item.shape[axis : axis + 1]
                and not _is_bare_dim(scale)
            ):
                scales[axis] = lazy_dataset(path, scale)
        dims.append(name)
    if dims.count("") == 1 and len(dims) > 1 and item.shape[dims.index("")] == 3:  # Dedalus names all but components
        dims[dims.index("")] = "component"
    named = tuple(dims) if dims and all(dims) else None
    return Found(lazy_dataset(path, item), named, attributes_of(item), scales)
