"""HDF5 in the flowsr layout: reading, and writing for other programs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from flowsr.data.assemble import Found, assemble
from flowsr.data.lazy import LazyArray
from flowsr.data.readers import READERS, Reader
from flowsr.errors import FlowsrError
from flowsr.files import fsync_file, fsync_folder


@READERS.register("hdf5")
class Hdf5Reader(Reader):
    """Datasets ``velocity``, ``x``, ``y``, ``z``, ``time`` side by side; dims from the labels of the dimensions."""

    def recognizes(self, path: Path) -> bool:
        return path.is_file() and bool(h5py.is_hdf5(path))

    def open(self, path: Path, group: str | None) -> xr.Dataset:
        with h5py.File(path, "r") as file:
            if group and not isinstance(file.get(group), h5py.Group):
                raise FlowsrError("no such group", file=path, variable=group, found=", ".join(file) or "nothing")
            node = file[group] if group else file
            datasets = {name: item for name, item in node.items() if isinstance(item, h5py.Dataset)}
            found = {name: _found(path, item) for name, item in datasets.items()}
            return assemble(found, _attrs(node), path)


class Hdf5Array(LazyArray):
    """A dataset of an HDF5 file, which is opened for each read and closed after it."""

    def __init__(self, path: Path, name: str, shape, dtype):
        super().__init__(shape, dtype, path, name)

    def load(self, index):
        with h5py.File(self.file, "r") as file:
            return file[self.variable][index]


def write_hdf5(dataset: xr.Dataset, path: str | os.PathLike) -> Path:
    """Write a field in the flowsr layout to HDF5, one snapshot at a time; the file appears when it is whole.

    Coordinates become dimension scales, so that other programs see the dims by name; attributes that HDF5 has no type
    for are kept as JSON.

    Returns:
        The path.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    with h5py.File(partial, "w") as file:
        file.attrs.update({name: _plain(value) for name, value in dataset.attrs.items()})
        for name, coord in dataset.coords.items():
            values = coord.values.astype(h5py.string_dtype()) if coord.dtype.kind in "UT" else coord.values
            file.create_dataset(name, data=values).make_scale(name)
            file[name].attrs.update({key: _plain(value) for key, value in coord.attrs.items()})
        for name, array in dataset.data_vars.items():
            _write_variable(file, name, array)
    fsync_file(partial)
    os.replace(partial, path)
    fsync_folder(path.parent)
    return path


def _write_variable(file: h5py.File, name: str, array: xr.DataArray) -> None:
    stored = file.create_dataset(name, shape=array.shape, dtype=array.dtype)
    stored.attrs.update({key: _plain(value) for key, value in array.attrs.items()})
    for axis, dim in enumerate(array.dims):
        stored.dims[axis].label = dim
        stored.dims[axis].attach_scale(file[dim])
    for time in range(array.sizes["time"]):
        stored[time] = array.isel(time=time).values


def _plain(value):
    if isinstance(value, (str, bool, int, float, np.number)):
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, str) for v in value):
        return np.array(value, dtype=h5py.string_dtype())
    return json.dumps(value, default=lambda v: np.asarray(v).tolist())


def _attrs(node) -> dict:
    """Attributes as Python has them; dimension-scale bookkeeping is left out."""
    skipped = ("CLASS", "NAME", "DIMENSION_LIST", "DIMENSION_LABELS", "REFERENCE_LIST")
    return {name: _value(node.attrs[name]) for name in node.attrs if name not in skipped}


def _value(value):
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return json.loads(value)
        except ValueError:
            return value
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, list):
        return [_value(v) if isinstance(v, (bytes, str)) else v for v in value]
    return value


def _found(path: Path, item: h5py.Dataset) -> Found:
    labels = tuple(_label(dim) for dim in item.dims)
    dims = labels if labels and all(labels) else None
    return Found(Hdf5Array(path, item.name, item.shape or (), item.dtype), dims, _attrs(item))


def _label(dim) -> str:
    if dim.label:
        return dim.label
    return dim[0].name.rpartition("/")[2] if len(dim) else ""
