"""From the arrays of a structured grid, as VTK, XDMF and OpenFOAM files have them, to a dataset in flowsr's layout.

Arrays carry the names their program gave them. Velocity, pressure, density and vorticity are known by the usual ones;
a manifest says (``path``) which array is which where those do not fit, and may state the times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from flowsr.data.field import SPACE
from flowsr.data.readers.base import assume
from flowsr.data.readers.lazy import LazyArray, Mixed, Stack, View
from flowsr.data.tensors import six_component_irreps, tensor_irreps
from flowsr.errors import FlowsrError

#: What a manifest may say of these files.
STATED = frozenset({"path", "times"})

#: Number of components to flowsr's name of a field to the names, in lower case, that programs give it.
ALIASES = {
    3: {"velocity": ("velocity", "vel", "u"), "vorticity": ("vorticity", "vort")},
    1: {"pressure": ("pressure", "p"), "density": ("density", "rho")},
}
AXIAL = ("vorticity", "vort", "omega", "magnetic_field", "magneticfield")
CELLS, NODES = "cells", "nodes"
NODES_NOTE = "nodes of the file's grid: each is taken as the centre of a cell"


@dataclass(frozen=True)
class Structured:
    """What a reader found.

    Args:
        path: file to name in errors.
        times: (n,) times of the snapshots.
        axes: the coordinates x, y, z.
        arrays: (time, component, x, y, z) by the name in the file.
        place: ``cells`` or ``nodes``, where the values are.
        left_out: names of what is in the file and is no field here, with the reason.
        notes: further dataset attributes.
    """

    path: Path
    times: np.ndarray
    axes: Mapping[str, xr.Variable]
    arrays: Mapping[str, LazyArray]
    place: str
    left_out: Sequence[str] = ()
    notes: Mapping[str, Any] | None = None


def centers_of(values: np.ndarray, place: str) -> xr.Variable:
    """The coordinate of an axis from its grid lines: half-way between them for cells, the lines themselves for nodes.

    Args:
        values: (n + 1,) faces of n cells, or (n,) nodes.
    """
    lines = np.asarray(values, dtype=float)
    if place == NODES:
        return xr.Variable(("axis",), lines)
    return xr.Variable(("axis",), (lines[1:] + lines[:-1]) / 2, {"extent": [float(lines[0]), float(lines[-1])]})


def structured_dataset(found: Structured, layout: Mapping[str, Any] | None) -> xr.Dataset:
    """The dataset, its fields unread.

    Args:
        layout: what a manifest says; see :data:`STATED`.

    Raises:
        FlowsrError: a variable that the file lacks, parts that do not make a vector, or times that do not fit.
    """
    times = _times(found, layout)
    left_out = list(found.left_out)
    axes = {name: xr.Variable((name,), axis.values, axis.attrs) for name, axis in found.axes.items()}
    dataset = xr.Dataset(coords={"time": ("time", times), **axes})
    for name, array, stored in _chosen(found, layout, left_out):
        dataset[name] = _variable(name, array, stored)
    if "component" in dataset.sizes:
        dataset["component"] = ["u", "v", "w"]
    dataset.attrs = {"values_at": CELLS if found.place == CELLS else NODES_NOTE, **(found.notes or {})}
    if left_out:
        dataset.attrs["left_out"] = ", ".join(left_out)
    assume(dataset, boundary=["open"] * 3)
    return dataset


def _times(found: Structured, layout) -> np.ndarray:
    stated = layout.get("times") if layout else None
    if stated is None:
        return found.times
    if isinstance(stated, str) or len(stated) != len(found.times):
        raise FlowsrError(
            "times do not fit the file",
            file=found.path,
            variable="times",
            expected=f"{len(found.times)} numbers",
            found=stated if isinstance(stated, str) else f"{len(stated)} numbers",
        )
    return np.array(stated, dtype=float)


def _chosen(found: Structured, layout, left_out: list[str]):
    """(name, array, name in the file) of each field; what is no field goes to ``left_out``."""
    if layout is not None:
        for name, stated in layout["variables"].items():
            yield name, *_named(found, name, stated.get("path"))
        return
    names = {stored: stored for stored in found.arrays}
    for count, aliases in ALIASES.items():
        for name, known in aliases.items():
            fitting = [s for s, array in found.arrays.items() if s.lower() in known and array.shape[1] == count]
            if len(fitting) == 1 and name not in found.arrays:
                names[fitting[0]] = name
    for stored, array in found.arrays.items():
        if array.dtype.kind != "f":
            left_out.append(f"{stored} ({array.dtype})")
        elif array.shape[1] not in (1, 3, 6, 9):
            left_out.append(f"{stored} ({array.shape[1]} components)")
        else:
            yield names[stored], array, stored


def _named(found: Structured, name: str, path) -> tuple[LazyArray, str]:
    """The array that a manifest means, one or stacked of several scalars."""
    if path is None:
        known = {alias for group in ALIASES.values() for alias in group.get(name, ())}
        fitting = [stored for stored in found.arrays if stored == name or stored.lower() in known]
        path = name if name in found.arrays or len(fitting) != 1 else fitting[0]
    parts = [path] if isinstance(path, str) else list(path)
    for part in parts:
        if part not in found.arrays:
            listed = ", ".join(found.arrays) or "none"
            raise FlowsrError("no such array", file=found.path, variable=name, expected=part, found=listed)
    if len(parts) == 1:
        return found.arrays[parts[0]], parts[0]
    scalars = [_scalar(found.arrays[part]) for part in parts if found.arrays[part].shape[1] == 1]
    if len(scalars) != len(parts):
        raise FlowsrError("components are scalars", file=found.path, variable=name, found=", ".join(parts))
    return Stack(scalars, 1), ", ".join(parts)


def _scalar(array: LazyArray) -> View:
    sizes = dict(zip(("time", "component", *SPACE), array.shape))
    count = sizes.pop("component")
    return View(array, ("time", "component", *SPACE), sizes, {"component": count - 1})


def _variable(name: str, array: LazyArray, stored: str) -> xr.Variable:
    count = array.shape[1]
    attrs = {"long_name": name} | ({"stored_as": stored} if stored != name else {})
    if count == 1:
        variable = _scalar(array).as_variable(("time", *SPACE), attrs)
        assume(variable, irreps="0e")
        return variable
    dim = "component" if count == 3 else f"component_{count}"
    if count in (6, 9):
        attrs["irreps"], matrix = six_component_irreps() if count == 6 else tensor_irreps("none")
        array = Mixed(array, matrix)
    variable = array.as_variable(("time", dim, *SPACE), attrs)
    if count == 3:
        assume(variable, irreps="1e" if stored.lower() in AXIAL or name in AXIAL else "1o")
    return variable
