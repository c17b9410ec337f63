"""Johns Hopkins Turbulence Databases: HDF5 cutouts and the Zarr 2 stores.

A cutout holds ``Velocity_0001`` or ``velocity_0001`` (and its like for the other fields and times), (nz, ny, nx, c),
the coordinates ``xcoor``, ``ycoor``, ``zcoor`` and attributes that say which part of which simulation it is, in indices
from 1. The stores hold one array (time, z, y, x, component) a field, and no coordinates. Points are samples of a
spectral code; here each is the centre of a cell.

What the files leave out is known for the simulations in :data:`SIMULATIONS` (sizes and periods from the database's
own configuration, viscosities from its documentation, turbulence.pha.jhu.edu); for others it is not guessed.
"""

from __future__ import annotations

import json
import logging
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from flowsr.data.field import SPACE
from flowsr.data.readers.assemble import read_coordinate
from flowsr.data.readers.base import READERS, Reader, Request
from flowsr.data.readers.hdf5 import attributes_of, datasets_of, group_of, lazy_dataset, own_words, with_own_words
from flowsr.data.readers.lazy import LazyArray, Stack, View
from flowsr.data.readers.words import meant
from flowsr.errors import require
from flowsr.files import read_json

log = logging.getLogger(__name__)

MISSING = -999.9
#: Attribute with the times of a cutout that flowsr wrote; the database's own number the snapshots only.
TIMES = "flowsr_times"
FIELD = re.compile(r"([A-Za-z][A-Za-z_]*?)_?(\d+)")
AXES = {"x": ("xcoor",), "y": ("ycoor",), "z": ("zcoor", "zcoor_uv")}
COMPONENTS = {1: None, 3: ("u", "v", "w")}
# The magnetic field is the curl of a vector: it keeps its sign under inversion.
AXIAL = ("magneticfield",)


@dataclass(frozen=True)
class KnownFlow:
    """What is known of one of the database's simulations, along x, y, z and in its own units.

    Args:
        periodic: the other axes have walls.
        viscosity: kinematic.
        time_step: between stored snapshots, or None where they are numbered only.
    """

    cells: tuple[int, int, int]
    lengths: tuple[float, float, float]
    periodic: tuple[bool, bool, bool]
    viscosity: float
    time_step: float | None


BOX = (2 * math.pi,) * 3
CHANNEL = (8 * math.pi, 2.0, 3 * math.pi)
SIMULATIONS = {
    "isotropic1024coarse": KnownFlow((1024,) * 3, BOX, (True,) * 3, 1.85e-4, 0.002),
    "channel": KnownFlow((2048, 512, 1536), CHANNEL, (True, False, True), 5e-5, 0.0065),
    "channel5200": KnownFlow((10240, 1536, 7680), CHANNEL, (True, False, True), 8e-6, None),
}


@READERS.register("jhtdb")
class CutoutReader(Reader):
    """A cutout of a Johns Hopkins Turbulence Database, as its web page, pyJHTDB or giverny writes it."""

    signs = "an HDF5 file with xcoor, ycoor, zcoor and fields such as velocity_0001"

    def recognizes(self, path: Path) -> bool:
        if not (path.is_file() and h5py.is_hdf5(path)):
            return False
        with h5py.File(path, "r") as file:
            return {"xcoor", "ycoor"} <= set(file) and any(FIELD.fullmatch(name) for name in file)

    def open(self, path: Path, request: Request) -> xr.Dataset:
        with h5py.File(path, "r") as file:
            node = group_of(file, request.group, path)
            datasets = datasets_of(node, path)
            attrs = attributes_of(node)
            axes = {name: _axis(name, datasets, path) for name in SPACE}
            fields = _fields(datasets, path)
            split = "zcoor_w" in datasets
            words = own_words(datasets, path)
        simulation = SIMULATIONS.get(str(attrs.get("dataset")))
        _check_indices(attrs, axes, path)
        numbers = sorted({number for numbered in fields.values() for number in numbered})
        dataset = xr.Dataset(coords={"time": ("time", _times(numbers, simulation, attrs)), **axes})
        for name, numbered in fields.items():
            whole, where = sorted(numbered) == numbers, {"file": path, "variable": name}
            require(whole, "a field lacks some of the times", **where, expected=numbers, found=sorted(numbered))
            dataset[name] = _variable(name, [numbered[n] for n in numbers], axes, path)
        dataset = _with_components(dataset)
        if split and "velocity" in dataset:
            note = "w is stored half a cell above the z of u and v (zcoor_w) and is not interpolated"
            log.warning("%s: %s", path.name, note)
            dataset["velocity"].attrs["staggered"] = note
        dataset.attrs = _attributes(attrs, simulation, dataset, path)
        return with_own_words(dataset, words, path)


@READERS.register("jhtdb_zarr")
class StoreReader(Reader):
    """A store of a Johns Hopkins Turbulence Database: Zarr 2, arrays (time, z, y, x, component) without coordinates."""

    signs = "a Zarr 2 group named after one of the simulations, of arrays with five unnamed dims"

    def recognizes(self, path: Path) -> bool:
        return path.stem in SIMULATIONS and bool(_stored(path))

    def open(self, path: Path, request: Request) -> xr.Dataset:
        from flowsr.data.readers.zarr import checked_array
        from flowsr.quarantine.zarr import open_node

        folder = path / request.group if request.group else path
        simulation = SIMULATIONS.get(path.stem)
        expected, hint = "the name of one of " + ", ".join(SIMULATIONS), "a manifest can say what its axes and grid are"
        message = "a store without coordinates"
        require(simulation, message, file=path, expected=expected, found=path.stem, hint=hint)
        message, hint = "the stretched axis is not in this store", "a manifest can name the cell centres (coordinates)"
        require(all(simulation.periodic), message, file=path, variable="y", hint=hint)
        axes = {
            name: xr.Variable((name,), np.arange(cells) * (length / cells))
            for name, cells, length in zip(SPACE, simulation.cells, simulation.lengths)
        }
        wanted, variables = simulation.cells[::-1], {}
        for name in _stored(folder):
            array = checked_array(folder, name, open_node(folder / name))
            fits = array.shape[1:4] == wanted and array.shape[4] in COMPONENTS
            expected, message = f"(time, {', '.join(map(str, wanted))}, 1 or 3)", "not the shape of this simulation"
            require(fits, message, file=path, variable=name, expected=expected, found=array.shape)
            variables[name] = array
        times = sorted({array.shape[0] for array in variables.values()})
        require(len(times) == 1, "fields differ in their number of times", file=path, expected="one", found=times)
        dataset = xr.Dataset(coords={"time": ("time", _times(list(range(1, times[0] + 1)), simulation, {})), **axes})
        for name, array in variables.items():
            dataset[name] = _oriented(name, array, times[0], axes)
        dataset = _with_components(dataset)
        dataset.attrs = {"boundary": ["periodic"] * 3, "viscosity": simulation.viscosity, "simulation": path.stem}
        return dataset


def _with_components(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.assign_coords(component=list(COMPONENTS[3])) if "component" in dataset.dims else dataset


def _fields(datasets, path: Path) -> dict[str, dict[int, LazyArray]]:
    """Lower-case field name to time number to array."""
    fields: dict[str, dict[int, LazyArray]] = {}
    for name, item in datasets.items():
        match = FIELD.fullmatch(name)
        if match is None or item.ndim != 4:
            continue
        field, number = match[1].lower(), int(match[2])
        once, expected = number not in fields.setdefault(field, {}), "one spelling of each field and time"
        require(once, "stored twice", file=path, variable=name, expected=expected)
        fields[field][number] = lazy_dataset(path, item)
    found = ", ".join(datasets)
    require(fields, "no field in this cutout", file=path, expected="such as velocity_0001", found=found)
    return fields


def _axis(name: str, datasets, path: Path) -> xr.Variable:
    stored, found = next((key for key in AXES[name] if key in datasets), None), ", ".join(datasets)
    require(stored, "a coordinate is missing", file=path, variable=AXES[name][0], found=found)
    return xr.Variable((name,), read_coordinate(stored, lazy_dataset(path, datasets[stored]), path))


def _variable(name: str, arrays: list[LazyArray], axes, path: Path) -> xr.Variable:
    wanted = tuple(axes[axis].size for axis in "zyx")
    for array in arrays:
        where, (*sides, count) = {"file": path, "variable": array.variable}, array.shape
        agree, expected = tuple(sides) == wanted, f"(z, y, x) = {wanted}"
        require(agree, "shape and coordinates disagree", **where, expected=expected, found=array.shape)
        known, expected = count in COMPONENTS and count == arrays[0].shape[3], "1 or 3 values a point"
        hint = "a manifest can name the part that is wanted"
        require(known, "not a scalar or a vector", **where, expected=expected, found=count, hint=hint)
    return _oriented(name, Stack(arrays, 0), len(arrays), axes)


def _oriented(name: str, array: LazyArray, times: int, axes) -> xr.Variable:
    """(time, z, y, x, c) as (time, component, x, y, z), or without component where there is one value a point."""
    count = array.shape[-1]
    wanted = {"time": times, "component": count, **{axis: axes[axis].size for axis in SPACE}}
    if count == 1:
        del wanted["component"]
    view = View(array, ("time", "z", "y", "x", "component"), wanted, {"component": 0} if count == 1 else None)
    irreps = "0e" if count == 1 else "1e" if name in AXIAL else "1o"
    known = meant(view, {"missing_value": MISSING})
    return known.as_variable(tuple(wanted), {"irreps": irreps, "long_name": name})


def _times(numbers: list[int], simulation: KnownFlow | None, attrs: dict) -> np.ndarray:
    """Times of the snapshots numbered from 1; where the time step is not known, the numbers themselves.

    In a cutout of its own flowsr writes the times beside the numbers.
    """
    with suppress(KeyError, TypeError, ValueError):
        times = np.array(attrs[TIMES], dtype=float).ravel()
        if len(times) == len(numbers):
            return times
    step = simulation.time_step if simulation else None
    return np.array(numbers, dtype=float) if step is None else (np.array(numbers) - 1) * step


def _check_indices(attrs: dict, axes, path: Path) -> None:
    """First and last index and stride of each axis, where the file gives them, make up as many points as there are."""
    for name in SPACE:
        try:
            start, end, step = (int(np.ravel(attrs[f"{name}_{part}"])[0]) for part in ("start", "end", "step"))
        except (KeyError, TypeError, ValueError, IndexError):
            continue
        agree = start > 0 and step > 0 and end >= start and len(range(start, end + 1, step)) == axes[name].size
        where, found = {"file": path, "variable": f"{name}_start .. {name}_end"}, f"{start} to {end} in steps of {step}"
        expected = f"{axes[name].size} points, counted from 1"
        require(agree, "indices and coordinates disagree", **where, expected=expected, found=found)


def _attributes(attrs: dict, simulation: KnownFlow | None, dataset: xr.Dataset, path: Path) -> dict:
    kept = {k: v for k, v in attrs.items() if k not in ("boundary", "viscosity")}
    found = {"jhtdb": json.loads(json.dumps(kept, default=str)), "boundary": ["open"] * 3}
    if simulation is None:
        return found
    message = "more points than the simulation has"
    for number, (name, cells) in enumerate(zip(SPACE, simulation.cells)):
        size, expected = dataset.sizes[name], f"at most {cells}"
        require(size <= cells, message, file=path, variable=name, expected=expected, found=size)
        if size == cells:
            found["boundary"][number] = "periodic" if simulation.periodic[number] else "wall"
            if not simulation.periodic[number]:
                half = simulation.lengths[number] / 2  # the walls are at -1 and 1
                dataset[name].attrs["extent"] = [-half, -half + simulation.lengths[number]]
    return {**found, "viscosity": simulation.viscosity, "simulation": str(attrs["dataset"])}


def _stored(path: Path) -> list[str]:
    """Names of the arrays with five dims in a Zarr 2 group, by their metadata alone."""
    if not (path / ".zgroup").is_file():
        return []
    found = []
    for metadata in sorted(path.glob("*/.zarray")):
        try:
            shape = (read_json(metadata) or {}).get("shape", ())
        except AttributeError:
            continue
        if len(shape) == 5:
            found.append(metadata.parent.name)
    return found
