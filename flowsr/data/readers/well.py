"""The Well (polymathic-ai.org/the_well): HDF5 files of many trajectories with scalar, vector and tensor fields.

Fields lie in ``t0_fields``, ``t1_fields``, ``t2_fields`` with axes [sample][time](x, y, z)[component], each axis stored
only where the field varies along it. A trajectory is a run here, and the Cartesian components of a tensor of order two
become those of its irreps, which are an orthogonal transform away.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from flowsr.data.field import SPACE, tensor_irreps
from flowsr.data.readers.assemble import read_coordinate
from flowsr.data.readers.base import READERS, Reader, Request
from flowsr.data.readers.hdf5 import attributes_of, datasets_of, group_of, lazy_dataset, own_words, with_own_words
from flowsr.data.readers.lazy import LazyArray, Mixed, View
from flowsr.errors import require
from flowsr.grid import BOUNDARIES
from flowsr.quarantine.hdf5 import items_of

ORDERS = {"t0_fields": 0, "t1_fields": 1, "t2_fields": 2}
MOST_TRAJECTORIES = 1 << 20
AXIAL = ("magnetic_field", "vorticity")


@READERS.register("well")
class WellReader(Reader):
    """A file of The Well; its trajectories are runs, numbered from 0."""

    signs = "an HDF5 file with t0_fields, t1_fields, t2_fields and dimensions"
    holds_runs = True

    def recognizes(self, path: Path) -> bool:
        if not (path.is_file() and h5py.is_hdf5(path)):
            return False
        with h5py.File(path, "r") as file:
            return "dimensions" in set(file) and any(name in set(file) for name in ORDERS)

    def runs(self, path: Path) -> list[str]:
        with h5py.File(path, "r") as file:
            return [str(number) for number in range(_count(attributes_of(file)))]

    def open(self, path: Path, request: Request) -> xr.Dataset:
        with h5py.File(path, "r") as file:
            node = group_of(file, request.group, path)
            attrs = attributes_of(node)
            grid, axes = str(attrs.get("grid_type", "cartesian")).lower(), attrs.get("n_spatial_dims", 3)
            box, found = grid == "cartesian" and int(np.ravel(axes)[0]) == 3, f"{grid}, {axes} axes"
            require(box, "not a field in a box", file=path, expected="a cartesian grid with three axes", found=found)
            sample = _sample(attrs, request.run, path)
            inner = {name: item for name, item in items_of(node, path).items() if isinstance(item, h5py.Group)}
            dataset = xr.Dataset(coords=_coordinates(inner, sample, path))
            sizes = {name: dataset.sizes[name] for name in ("time", *SPACE)}
            for group, order in ORDERS.items():
                for name, item in datasets_of(inner[group], path).items() if group in inner else ():
                    dataset[name] = _variable(name, order, item, sizes, sample, path)
            if "component" in dataset.sizes:
                dataset["component"] = ["u", "v", "w"]
            own = {
                "dataset_name": str(attrs.get("dataset_name")),
                "trajectory": sample,
                **_scalars(inner, sample, path),
            }
            boundaries = _boundaries(inner, path)
            dataset.attrs = ({"boundary": boundaries} if boundaries else {}) | {"well": own}
            return with_own_words(dataset, own_words(datasets_of(node, path), path), path)


def _variable(name: str, order: int, item: h5py.Dataset, sizes: dict[str, int], sample: int, path: Path) -> xr.Variable:
    """A field in one trajectory, unread.

    Args:
        order: of the tensors that it is made of.
        sizes: along time, x, y, z.
    """
    array, stored_attrs, where = lazy_dataset(path, item), attributes_of(item), {"file": path, "variable": name}
    shape = array.shape
    varies = {key: _flag(stored_attrs.get(f"{key}_varying", True)) for key in ("sample", "time")}
    varies |= dict(zip(SPACE, np.ravel(stored_attrs.get("dim_varying", [True] * 3)).astype(bool).tolist()))
    axes = [axis for axis, varying in varies.items() if varying]
    tail, tails = shape[len(axes) :], {0: [()], 1: [(3,)], 2: [(9,), (3, 3)]}[order]
    good, expected = len(varies) == 5 and tail in tails, f"{tuple(axes)} and then {' or '.join(map(str, tails))}"
    good = good and len(shape) >= len(axes)
    require(good, "axes are not those of its group", **where, expected=expected, found=shape)
    stored = dict(zip(axes, shape))
    for axis in sizes.keys() & stored.keys():
        agree, expected = stored[axis] == sizes[axis], f"{sizes[axis]} along {axis}"
        require(agree, "shape and coordinates disagree", **where, expected=expected, found=shape)
    there, expected = sample < stored.get("sample", sample + 1), f"more than {sample}"
    require(there, "fewer trajectories than the file says", **where, expected=expected, found=stored.get("sample"))
    fixed, attrs = {"sample": sample} if "sample" in stored else {}, {"long_name": name}
    if order == 0:
        return View(array, axes, sizes, fixed).as_variable(("time", *SPACE), {"irreps": "0e", **attrs})
    flat = _Flattened(array) if tail == (3, 3) else array
    wanted = {"time": sizes["time"], "component": flat.shape[-1], **{n: sizes[n] for n in SPACE}}
    view = View(flat, [*axes, "component"], wanted, fixed)
    if order == 1:
        return view.as_variable(tuple(wanted), {"irreps": "1e" if name.lower() in AXIAL else "1o", **attrs})
    symmetries = [key for key in ("symmetric", "antisymmetric") if _flag(stored_attrs.get(key, False))]
    irreps, matrix = tensor_irreps(symmetries[0] if symmetries else "none")
    dims = ("time", f"component_{len(matrix)}", *SPACE)
    return Mixed(view, matrix).as_variable(dims, {"irreps": irreps, **attrs})


class _Flattened(LazyArray):
    """(..., 3, 3) as (..., 9)."""

    def __init__(self, source: LazyArray):
        super().__init__((*source.shape[:-2], 9), source.dtype, source.file, source.variable)
        self.source = source

    def load(self, index):
        values = self.source.load((*index[:-1], slice(None), slice(None)))
        return values.reshape(*values.shape[:-2], 9)[..., index[-1]]


def _sample(attrs: dict, run: str | None, path: Path) -> int:
    count = _count(attrs)
    where = {"file": path, "variable": "run", "expected": f"0 to {count - 1}"}
    hint = "name it (run), or in a manifest: files: {a: {path: ..., run: '0'}}"
    require(run is not None or count == 1, "which trajectory?", **where, hint=hint)
    run = "0" if run is None else str(run)
    require(run.isdecimal() and int(run) < count, "no such trajectory", **where, found=run)
    return int(run)


def _count(attrs: dict) -> int:
    return min(int(np.ravel(attrs.get("n_trajectories", 1))[0]), MOST_TRAJECTORIES)


def _coordinates(inner: Mapping, sample: int, path: Path) -> dict[str, xr.Variable]:
    require("dimensions" in inner, "coordinates are missing", file=path, expected="a group dimensions")
    group = inner["dimensions"]
    datasets = datasets_of(group, path)
    named = attributes_of(group).get("spatial_dims", list(SPACE))
    named = [named] if isinstance(named, str) else list(named)
    where, wanted = {"file": path, "variable": "spatial_dims"}, list(SPACE)
    require(named == wanted, "other axes than x, y, z", **where, expected=wanted, found=named)
    coords = {}
    for name in ("time", *SPACE):
        where = {"file": path, "variable": f"dimensions/{name}"}
        require(name in datasets, "a coordinate is missing", **where, found=list(datasets))
        array, attrs = lazy_dataset(path, datasets[name]), attributes_of(datasets[name])
        axes = [axis for axis in ("sample", "time") if axis != name and _flag(attrs.get(f"{axis}_varying", False))]
        good, expected = (
            "time" not in axes and len(array.shape) == len(axes) + 1,
            "one number a cell, the same at all times",
        )
        require(good, "not a coordinate", **where, expected=expected, found=array.shape)
        if axes:
            array = View(array, ["sample", name], {name: array.shape[1]}, {"sample": sample})
        coords[name] = xr.Variable((name,), read_coordinate(name, array, path))
    return coords


def _boundaries(inner: Mapping, path: Path) -> list[str] | None:
    """Boundary of each axis; None where the file does not say, or says two things of one axis."""
    found: dict[str, set[str]] = {name: set() for name in SPACE}
    groups = inner.get("boundary_conditions")
    for name, item in items_of(groups, path).items() if groups is not None else ():
        attrs = attributes_of(item)
        kind = str(np.ravel(attrs.get("bc_type", ""))[0]).lower()
        where, expected = {"file": path, "variable": f"boundary_conditions/{name}.bc_type"}, ", ".join(BOUNDARIES)
        require(kind in BOUNDARIES, "unknown boundaries", **where, expected=expected, found=repr(kind))
        for axis in np.ravel(attrs.get("associated_dims", [])):
            if str(axis) in found:
                found[str(axis)].add(kind)
    if any(len(kinds) != 1 for kinds in found.values()):
        return None
    return [kinds.pop() for kinds in found.values()]


def _scalars(inner: Mapping, sample: int, path: Path) -> dict:
    """Parameters of the trajectory: scalars that do not vary in time."""
    found = {}
    groups = inner.get("scalars")
    for name, item in items_of(groups, path).items() if groups is not None else ():
        attrs = attributes_of(item)
        if not isinstance(item, h5py.Dataset) or item.size > 1 << 16 or _flag(attrs.get("time_varying", False)):
            continue
        values = np.ravel(lazy_dataset(path, item).read())
        place = sample if _flag(attrs.get("sample_varying", False)) else 0
        if place < values.size and values.dtype.kind in "fiu":
            found[name] = float(values[place])
    return {"scalars": found} if found else {}


def _flag(value) -> bool:
    """HDF5 attributes hold booleans as such, as numbers, or as text."""
    value = np.ravel(value)[0] if np.size(value) else False
    return str(value).lower() not in ("false", "0", "")
