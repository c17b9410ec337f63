"""From the arrays a reader found to a dataset: which dims they have, which of them are coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
import xarray as xr

from flowsr.data.field import SCALAR_DIMS, SERIES_DIMS, VECTOR_DIMS
from flowsr.data.readers.lazy import LazyArray
from flowsr.data.readers.views import View
from flowsr.errors import FlowsrError

# A coordinate is read at once; one longer than this is no axis of a simulation but a mistake or an attack.
LONGEST_COORDINATE = 1 << 24
COORDINATES = VECTOR_DIMS


@dataclass(frozen=True)
class Found:
    """An array in a file, before anything is known of its meaning.

    Args:
        array: its lazy values.
        dims: its dims as the file names them, or ``None`` where the file is silent.
        attrs: its attributes.
    """

    array: LazyArray
    dims: tuple[str, ...] | None
    attrs: dict = field(default_factory=dict)


def assemble(found: Mapping[str, Found], attrs: dict, file) -> xr.Dataset:
    """A dataset from the arrays of a file; coordinates are read, fields are not.

    Unnamed dims are settled by the lengths of the coordinates where only one reading is possible, and left in their
    order; named ones are put in flowsr's.

    Raises:
        FlowsrError: lengths that disagree with the coordinates, dims that more than one reading would fit, a coordinate
            that is not one-dimensional.
    """
    coords = {name: read_coordinate(name, found[name].array, file) for name in COORDINATES if name in found}
    lengths = {name: len(values) for name, values in coords.items()}
    variables = {}
    for name, item in found.items():
        if name not in coords:
            dims = _settle(name, item, lengths, file) if item.dims is None else item.dims
            _check_lengths(name, dims, item.array.shape, lengths, file)
            order = dims if item.dims is None else _ordered(dims)
            variables[name] = _turned(item.array, dims, order).as_variable(order, item.attrs)
    coordinates = {name: xr.Variable((name,), values, found[name].attrs) for name, values in coords.items()}
    return xr.Dataset(variables, coords=coordinates, attrs=attrs)


def _ordered(dims: tuple[str, ...]) -> tuple[str, ...]:
    """The dims of a field in flowsr's order, whatever order the file has them in; others as they are."""
    component = [dim for dim in dims if dim not in SCALAR_DIMS]
    if not (set(SCALAR_DIMS) <= set(dims) and len(set(dims)) == len(dims) <= len(VECTOR_DIMS)):
        return dims
    return (SCALAR_DIMS[0], *component, *SCALAR_DIMS[1:])


def _turned(array: LazyArray, dims: tuple[str, ...], order: tuple[str, ...]) -> LazyArray:
    if tuple(order) == tuple(dims):
        return array
    lengths = dict(zip(dims, array.shape))
    return View(array, dims, {dim: lengths[dim] for dim in order})


def read_coordinate(name: str, array: LazyArray, file) -> np.ndarray:
    """The values of a coordinate.

    Raises:
        FlowsrError: an array with other than one dim, or one too long for an axis of a simulation.
    """
    shape = array.shape
    if len(shape) != 1:
        raise FlowsrError("a coordinate has one dim", file=file, variable=name, expected=f"{name}({name})", found=shape)
    if shape[0] > LONGEST_COORDINATE:
        raise FlowsrError(
            "a coordinate too long to be true",
            file=file,
            variable=name,
            expected=f"<= {LONGEST_COORDINATE}",
            found=shape[0],
        )
    values = array[_everything(1)]
    if values.dtype.kind in "OST":
        values = np.array([v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values], dtype="U")
    return values


def _everything(ndim: int):
    from xarray.core.indexing import BasicIndexer

    return BasicIndexer((slice(None),) * ndim)


def _settle(name: str, item: Found, lengths: dict[str, int], file) -> tuple[str, ...]:
    shape = item.array.shape
    candidates = {1: SERIES_DIMS, 4: SCALAR_DIMS, 5: VECTOR_DIMS}.get(len(shape), ())
    if not candidates or any(d not in lengths for d in candidates if d != "component"):
        raise FlowsrError(
            "dims are not named, and coordinates are missing that would settle them",
            file=file,
            variable=name,
            expected=f"dims {SCALAR_DIMS} or {VECTOR_DIMS} with their coordinates",
            found=f"shape {shape}",
        )
    fitting = [p for p in permutations(candidates) if all(lengths.get(d, n) == n for d, n in zip(p, shape))]
    if len(fitting) > 1:
        raise FlowsrError(
            "the order of the axes is ambiguous",
            file=file,
            variable=name,
            expected="named dims (Zarr dimension_names, HDF5 dimension labels)",
            found=f"shape {shape}, which fits {len(fitting)} orders",
        )
    return fitting[0] if fitting else candidates


def _check_lengths(name, dims, shape, lengths, file) -> None:
    if len(dims) != len(shape):
        raise FlowsrError("number of dims", file=file, variable=name, expected=f"{len(shape)} names", found=dims)
    wanted = tuple(lengths.get(d, n) for d, n in zip(dims, shape))
    if wanted != shape:
        raise FlowsrError(
            "shape and coordinates disagree", file=file, variable=name, expected=dict(zip(dims, wanted)), found=shape
        )
