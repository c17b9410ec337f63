"""The one layout of a field, in memory and on disk: dims (time, component, x, y, z), cell-centred, with its attributes.

A dataset holds

- field variables with dims ``(time, component, x, y, z)``, or ``(time, x, y, z)`` for a scalar, each with the
  attributes ``irreps`` (e3nn), ``units`` and ``long_name``; a field with another number of components than the rest has
  a component dim of its own, ``component_6`` say;
- optionally series with dims ``(time,)``, one number a snapshot;
- coordinates ``time``, ``component``, ``x``, ``y``, ``z``, the last three cell centres; a stretched axis has the
  attribute ``extent``, where the box begins and ends along it (without it: half a step beyond the outermost centres);
- the attributes ``boundary`` (three of periodic, wall, open), ``viscosity`` (kinematic, in the units of the data, where
  known), ``length_units`` and ``provenance``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import xarray as xr

from flowsr.errors import FlowsrError
from flowsr.grid import BOUNDARIES, Grid

SPACE = ("x", "y", "z")
SCALAR_DIMS = ("time", *SPACE)
VECTOR_DIMS = ("time", "component", *SPACE)
SERIES_DIMS = ("time",)

# A coordinate kept in float32 is off by 1e-7 of its largest value: 1e-3 of a cell for 4096 cells.
UNIFORM_TOLERANCE = 1e-3

# Symmetry of a tensor of order two, as e3nn's formulas have it.
FORMULAS = {"none": "ij", "symmetric": "ij=ji", "antisymmetric": "ij=-ji"}

#: Row-major place of each of the six components that VTK and XDMF keep of a symmetric tensor: XX YY ZZ XY YZ XZ.
SIX = ((0,), (4,), (8,), (1, 3), (5, 7), (2, 6))

# Multiplicity, degree and parity of a term of an irreps string.
IRREP = re.compile(r"(?:(\d{1,6})x)?(\d{1,4})[eo]", re.ASCII)


def field_template(
    grid: Grid,
    times,
    *,
    variable: str = "velocity",
    irreps: str = "1o",
    components: tuple[str, ...] | None = ("u", "v", "w"),
    dtype="float32",
    units: str = "1",
    long_name: str | None = None,
    attrs: dict | None = None,
) -> xr.Dataset:
    """A field's dataset without its data: what :func:`flowsr.data.store.create_store` lays down.

    Args:
        grid: box of the field; gives the coordinates and the attribute ``boundary``.
        times: (n,) times of the snapshots, increasing.
        irreps: field type of the variable.
        components: names of the components; ``None`` for a scalar, which has no component dim.
        attrs: further dataset attributes, such as viscosity, length_units, provenance; values as JSON has them.

    Returns:
        Dataset whose variable reads NaN everywhere and takes no memory.
    """
    shape = (len(times),) + (() if components is None else (len(components),)) + grid.shape
    coords = {"time": np.asarray(times, dtype="float64"), **axes_of(grid)}
    if components is not None:
        coords["component"] = np.array(components)
    blank = np.broadcast_to(np.asarray(np.nan, dtype=dtype), shape)
    attributes = {"irreps": str(irreps), "units": units, "long_name": long_name or variable}
    dims = SCALAR_DIMS if components is None else VECTOR_DIMS
    return xr.Dataset(
        {variable: xr.Variable(dims, blank, attributes)},
        coords=coords,
        attrs={"boundary": list(grid.boundary), **(attrs or {})},
    )


def axes_of(grid: Grid) -> dict[str, xr.Variable]:
    """The coordinates x, y, z of a grid."""
    extents = ([low, low + side] for low, side in zip(grid.origin, grid.lengths))
    return {
        name: xr.Variable((name,), centers, {"extent": extent} if stretched else None)
        for name, centers, stretched, extent in zip(SPACE, grid.coordinates(), grid.stretched, extents)
    }


def field_variables(dataset: xr.Dataset) -> list[str]:
    """Names of the variables that are fields, in the dataset's order; series are left out."""
    return [name for name, array in dataset.data_vars.items() if array.dims != SERIES_DIMS]


def grid_of(dataset: xr.Dataset, file=None) -> Grid:
    """The grid of a dataset in the flowsr layout.

    Args:
        file: what to name in an error.

    Raises:
        FlowsrError: a missing, single-celled or unordered axis, a periodic one that is stretched, an ``extent`` that
            does not hold the centres, or no valid ``boundary`` attribute.
    """
    boundary = _boundary(dataset, file)
    axes = [_axis(dataset, name, kind, file) for name, kind in zip(SPACE, boundary)]
    return Grid(
        shape=tuple(len(axis.centers) for axis in axes),
        spacing=tuple(axis.spacing for axis in axes),
        boundary=boundary,
        origin=tuple(axis.low for axis in axes),
        centers=tuple(tuple(axis.centers) if axis.stretched else None for axis in axes),
    )


def validate(dataset: xr.Dataset, file=None) -> xr.Dataset:
    """Check that a dataset is in the flowsr layout; values are not read.

    Args:
        file: what to name in an error.

    Returns:
        The dataset itself.

    Raises:
        FlowsrError: the first thing that is not as the layout wants it.
    """
    names = field_variables(dataset)
    if not names:
        expected, found = f"a variable with dims {VECTOR_DIMS}", ", ".join(map(str, dataset.variables)) or "nothing"
        raise FlowsrError("no field in this file", file=file, expected=expected, found=found)
    for name in names:
        _check_variable(dataset, name, file)
    grid_of(dataset, file)
    _increasing(dataset, "time", file)
    _check_viscosity(dataset, file)
    return dataset


def is_vector(dims: tuple) -> bool:
    """Whether dims are those of a field with components: ``component``, or a name that begins with ``component_``."""
    named = len(dims) == 5 and (dims[1] == "component" or str(dims[1]).startswith("component_"))
    return named and (dims[0], *dims[2:]) == SCALAR_DIMS


def irreps_dimension(irreps: str) -> int:
    """Number of components of a field type, such as 3 for ``1o``.

    The usual strings are counted here, multiplicity times 2 l + 1; e3nn, which takes 300 MB of memory, counts the rest.

    Raises:
        ValueError: not an irreps string.
    """
    terms = [IRREP.fullmatch(term.strip()) for term in str(irreps).split("+")]
    if all(terms):
        return sum(int(term[1] or 1) * (2 * int(term[2]) + 1) for term in terms)
    from flowsr.group.o3 import Irreps

    return Irreps(irreps).dim


@lru_cache
def tensor_irreps(symmetry: str) -> tuple[str, np.ndarray]:
    """Irreps of a Cartesian tensor of two polar indices, and the orthogonal matrix to them from its nine components.

    Args:
        symmetry: ``none``, ``symmetric`` or ``antisymmetric``.
    """
    from flowsr.group.o3 import ReducedTensorProducts

    indices = {"i": "1o", "j": "1o"} if symmetry == "none" else {"i": "1o"}
    products = ReducedTensorProducts(FORMULAS[symmetry], **indices)
    matrix = products.change_of_basis.numpy().astype(float).reshape(-1, 9)
    return str(products.irreps_out), matrix


def six_component_irreps() -> tuple[str, np.ndarray]:
    """Irreps of a symmetric tensor, and the (6, 6) matrix to them from the components in the order of :data:`SIX`."""
    irreps, matrix = tensor_irreps("symmetric")
    return irreps, np.stack([matrix[:, places].sum(axis=1) for places in map(list, SIX)], axis=1)


def _check_variable(dataset, name, file) -> None:
    array, refused = dataset[name], partial(FlowsrError, file=file, variable=name)
    if array.dims != SCALAR_DIMS and not is_vector(array.dims):
        expected = f"{VECTOR_DIMS} or {SCALAR_DIMS}"
        raise refused("dims are not in flowsr's order", expected=expected, found=tuple(array.dims))
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise refused("not real numbers", expected="a dtype float16, float32 or float64", found=array.dtype)
    if 0 in array.shape:
        raise refused("an axis is empty", found=f"shape {array.shape}")
    components = array.shape[1] if is_vector(array.dims) else 1
    irreps = array.attrs.get("irreps")
    if irreps is None:
        hint = f"--irreps {name}=1o for a vector, 0e for a scalar, or irreps in a manifest"
        raise refused("the field type is not stated", expected="an attribute irreps, such as '1o'", hint=hint)
    try:
        dimension = irreps_dimension(irreps)
    except (ValueError, TypeError):
        where = {"variable": f"{name}.irreps", "expected": "such as '1o'", "found": repr(irreps)}
        raise refused("not an e3nn irreps string", **where) from None
    if dimension != components:
        expected = f"{dimension} components for irreps {irreps}"
        raise refused("field type and number of components disagree", expected=expected, found=components)


@dataclass(frozen=True)
class _Axis:
    centers: np.ndarray
    spacing: float
    low: float
    stretched: bool


def _axis(dataset, name, boundary, file) -> _Axis:
    centers = _increasing(dataset, name, file)
    if len(centers) < 2:
        where = {"file": file, "variable": name, "expected": "2 cells or more", "found": len(centers)}
        raise FlowsrError("an axis of one cell has no spacing", **where)
    steps = np.diff(centers)
    mean = float(centers[-1] - centers[0]) / len(steps)
    if np.abs(steps - mean).max() <= UNIFORM_TOLERANCE * mean:
        low, high = float(centers[0] - mean / 2), float(centers[-1] + mean / 2)
        ends = (low, high) if boundary == "periodic" else _extent(dataset, name, centers, file)
        if np.allclose(ends, (low, high), rtol=0, atol=0.01 * mean):
            return _Axis(centers, mean, low, False)
    if boundary == "periodic":
        expected, found = "a uniform spacing, or another boundary", f"steps from {steps.min():.6g} to {steps.max():.6g}"
        raise FlowsrError("a periodic axis is stretched", file=file, variable=name, expected=expected, found=found)
    low, high = _extent(dataset, name, centers, file)
    return _Axis(centers, (high - low) / len(centers), low, True)


def _extent(dataset, name, centers, file) -> tuple[float, float]:
    """Where the box begins and ends along a stretched axis."""
    extent = dataset.coords[name].attrs.get("extent")
    if extent is None:
        return float(1.5 * centers[0] - 0.5 * centers[1]), float(1.5 * centers[-1] - 0.5 * centers[-2])
    try:
        low, high = (float(value) for value in np.ravel(extent))
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    slack = 1e-6 * (centers[-1] - centers[0])
    if not low - slack <= centers[0] < centers[-1] <= high + slack:
        where = {"variable": f"{name}.extent", "expected": f"two numbers around {centers[0]:.6g} .. {centers[-1]:.6g}"}
        raise FlowsrError("the box does not hold its cells", file=file, found=extent, **where)
    return min(low, float(centers[0])), max(high, float(centers[-1]))


def _increasing(dataset, name, file) -> np.ndarray:
    """The values of a coordinate, float64."""
    refused = partial(FlowsrError, file=file, variable=name)
    if name not in dataset.coords:
        hint = (
            "times: [0.0, ...] in a manifest" if name == "time" else "--lengths, or coordinates or grid in a manifest"
        )
        raise refused("a coordinate is missing", expected=f"numbers {name}({name})", hint=hint)
    values = np.asarray(dataset.coords[name].values)
    if values.dtype.kind not in "fiu" or values.ndim != 1:
        raise refused("not a coordinate", expected=f"real numbers {name}({name})", found=values.dtype)
    values = values.astype("float64")
    if not np.all(np.isfinite(values)) or not np.all(np.diff(values) > 0):
        what = "times" if name == "time" else "cell centres"
        raise refused(f"{what} do not increase", expected="increasing numbers")
    return values


def _boundary(dataset, file) -> tuple[str, str, str]:
    boundary, refused = dataset.attrs.get("boundary"), partial(FlowsrError, file=file, variable="boundary")
    known = f"three of {', '.join(BOUNDARIES)}"
    if boundary is None:
        hint = "--boundary periodic,wall,periodic, or boundary in a manifest"
        raise refused("the boundaries are not stated", expected=f"an attribute with {known}", hint=hint)
    listed = [boundary] if isinstance(boundary, str) else list(np.ravel(boundary))
    if len(listed) != 3 or any(b not in BOUNDARIES for b in listed):
        raise refused("unknown boundaries", expected=known, found=listed)
    return tuple(str(b) for b in listed)


def _check_viscosity(dataset, file) -> None:
    viscosity = dataset.attrs.get("viscosity")
    try:
        valid = viscosity is None or (np.isfinite(float(viscosity)) and float(viscosity) >= 0)
    except (TypeError, ValueError):
        valid = False
    if not valid:
        where = {"variable": "viscosity", "expected": "a number", "found": repr(viscosity)}
        raise FlowsrError("not a viscosity", file=file, **where)
