"""How the arrays of a file become a dataset: which are fields, what their axes are, what is left out and why.

Named dims are known by flowsr's names, by CF's words and by the names that programs use (:mod:`~.names`); unnamed ones
follow from the lengths of the coordinates where only one order is possible. Three scalars with a velocity's names are
a velocity, its parts averaged from faces to centres where they lie on faces. What is no field is listed in the
attribute ``left_out``, and is fatal only where it says that it is a field, or where no field is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np
import xarray as xr

from flowsr.data.field import SCALAR_DIMS, SERIES_DIMS, SPACE, VECTOR_DIMS
from flowsr.data.readers.base import Request, assume
from flowsr.data.readers.lazy import Centred, LazyArray, Stack, View
from flowsr.data.readers.levels import GEOPOTENTIAL, mean_heights
from flowsr.data.readers.names import axis_of, bare, is_velocity, says_nothing, velocity_among
from flowsr.data.readers.order import ASSUMED
from flowsr.data.readers.units import Scaled, conversion, note, stated
from flowsr.data.readers.words import other
from flowsr.errors import FlowsrError, require

# A coordinate is read at once; one longer than this is no axis of a simulation but a mistake or an attack.
LONGEST_COORDINATE = 1 << 24
COORDINATES = VECTOR_DIMS
COMPONENTS = ("u", "v", "w")
#: Attributes and scalars of a file that give the spacing of an axis, and the side of the box.
SPACINGS = {"x": ("dx", "deltax"), "y": ("dy", "deltay"), "z": ("dz", "deltaz")}
SIDES = {"x": ("lx",), "y": ("ly",), "z": ("lz",)}


@dataclass(frozen=True)
class Found:
    """An array in a file, before anything is known of its meaning.

    Args:
        dims: its dims as the file names them, or ``None`` where the file is silent.
        scales: the array with the coordinate of each axis, by its name or path, where the file attaches one.
    """

    array: LazyArray
    dims: tuple[str, ...] | None
    attrs: dict = field(default_factory=dict)
    scales: Mapping[int, LazyArray] = field(default_factory=dict)


@dataclass(frozen=True)
class _Placed:
    """An array whose axes are known.

    Args:
        dims: as the file names them, or flowsr's where it does not.
        axes: what each is; None for an axis that is taken at one place, ``fixed``.
    """

    name: str
    item: Found
    dims: tuple[str, ...]
    axes: tuple[str | None, ...]
    fixed: dict[str, int]

    @property
    def grid(self) -> tuple[str, ...]:
        """The file's dims along x, y, z."""
        return tuple(self.dims[self.axes.index(axis)] for axis in SPACE)

    def length(self, axis: str) -> int:
        return self.item.array.shape[self.axes.index(axis)]


def assemble(found: Mapping[str, Found], attrs: dict, file, request: Request | None = None) -> xr.Dataset:
    """A dataset from the arrays of a file; coordinates are read, fields are not.

    Raises:
        FlowsrError: no field; or an array that says that it is one, and is not: lengths that disagree with the
            coordinates, dims that more than one order would fit; a coordinate that is not one-dimensional.
    """
    return _Assembly(found, attrs, file, request or Request()).dataset()


class _Assembly:
    def __init__(self, found: Mapping[str, Found], attrs: dict, file, request: Request):
        self.found, self.attrs, self.file, self.request = found, attrs, file, request
        self.left_out: dict[str, str] = {}
        self.refused: dict[str, FlowsrError] = {}
        self.used: set[str] = set()
        self.notes: list[str] = []
        #: Those that flowsr's own names say are coordinates, or a manifest.
        self.coords = {name: found[name] for name in COORDINATES if self._is_coordinate(name)}
        self.lengths = {
            name: item.array.shape[0] for name, item in self.coords.items() if len(item.array.shape) == 1
        } | {axis: len(values) for axis, values in request.coordinates.items()}

    def _is_coordinate(self, name: str) -> bool:
        item = self.found.get(name)
        if item is None or name in self.request.coordinates:
            return False
        return name != "time" or item.array.shape != ()  # one number is the time of one snapshot

    def dataset(self) -> xr.Dataset:
        placed = list(self._placed())
        known = {dim for item in self.found.values() for dim in item.dims or self.request.axes or ()}
        for dim in self.request.select:
            where = {"file": self.file, "variable": "select", "expected": "one of " + ", ".join(sorted(known))}
            require(dim in known, "no such axis", **where, found=dim)
        fields = [p for p in placed if set(SPACE) <= set(p.axes)]
        parts = self._velocity(fields)
        grid = self._grid(fields, parts)
        fields = [p for p in fields if p in parts or p.grid == grid or not self._leave(p.name, "on another grid")]
        coords = {axis: self._axis(axis, dim, fields, parts) for axis, dim in zip(SPACE, grid)} if fields else {}
        coords = {axis: values for axis, values in coords.items() if values is not None}
        coords |= self._own({*SPACE, "component"} - coords.keys())
        coords |= self._labels(fields) if "component" not in coords else {}
        times = self._times(fields, placed)
        coords |= {} if times is None else {"time": times}
        lengths = {axis: values.size for axis, values in coords.items()}
        variables, cells = {}, {}
        if parts:
            variables["velocity"], cells = self._stacked(parts, lengths, coords)
            coords = {name: axis[cells.get(name, slice(None))] for name, axis in coords.items()}
            if coords.get("component") is None or coords["component"].size != 3:
                coords["component"] = xr.Variable(("component",), np.array(COMPONENTS))
        for p in placed:
            if p not in parts and (p in fields or p.axes == SERIES_DIMS):
                variable = self._variable(p, lengths, parts)
                if variable is not None:
                    variables[p.name] = variable.isel({a: s for a, s in cells.items() if a in variable.dims})
        vectors = [n for n, v in variables.items() if v.encoding.get(ASSUMED, {}).get("irreps") == "1o"]
        if vectors:
            coords.setdefault("component", xr.Variable(("component",), np.array(COMPONENTS)))
        if len(vectors) == 1 and "velocity" not in variables and vectors[0] not in self.request.units:
            variables = {"velocity" if n == vectors[0] else n: v for n, v in variables.items()}
            variables["velocity"].attrs["stored_as"] = vectors[0]
        strangers = not any("irreps" in item.attrs for item in self.found.values())
        dataset = xr.Dataset(variables, coords=coords, attrs=dict(self.attrs))
        if not any(set(SPACE) <= set(array.dims) for array in dataset.data_vars.values()):
            self._refuse_all(dataset)
        for name in self.used:
            self.left_out.pop(name, None)
        stored = {array.attrs.get("stored_as") for array in dataset.data_vars.values()}
        known = self.used | stored | {*self.coords, *dataset.data_vars, *(p.name for p in parts)}
        for name in self.found.keys() - known:
            self.left_out.setdefault(name, f"{len(self.found[name].array.shape)} dims")
        if self.left_out:
            dataset.attrs["left_out"] = ", ".join(f"{name} ({why})" for name, why in sorted(self.left_out.items()))
        for text in self.notes:
            note(dataset, text)
        if strangers:
            assume(dataset, boundary=["open"] * 3)
        return dataset

    # -- what an array is ----------------------------------------------------------------------------------------------

    def _placed(self) -> Iterator[_Placed]:
        for name, item in self.found.items():
            if name in self.coords:
                continue
            try:
                dims = self._dims(name, item)
                placed = dims and self._with_axes(name, item, dims)
            except FlowsrError as error:
                if self._claims(name):
                    raise
                self._leave(name, str(error.args[0]).split("; ")[0].rpartition(": ")[2], error)
                continue
            if placed:
                yield placed

    def _claims(self, name: str) -> bool:
        """Whether an array says that it is a field: such a one is refused, not left out."""
        return "irreps" in self.found[name].attrs or name == "velocity"

    def _leave(self, name: str, why: str, error: FlowsrError | None = None) -> bool:
        if len(self.found[name].array.shape) > 1 or error is not None:
            self.left_out[name] = why
        if error is not None:
            self.refused[name] = error
        return True

    def _dims(self, name: str, item: Found) -> tuple[str, ...] | None:
        """The dims as the file, an option or the lengths of coordinates name them; None for no field."""
        shape, said = item.array.shape, self.request.axes
        if item.dims is not None:
            where = {"file": self.file, "variable": name}
            message, expected = "number of dims", f"{len(shape)} names"
            require(len(item.dims) == len(shape), message, **where, expected=expected, found=item.dims)
            return tuple(item.dims)
        if said is not None and len(said) == len(shape):
            return tuple(said)
        if said is not None and len(said) == len(shape) + 1 and "component" in said:  # of the scalars beside a vector
            return tuple(axis for axis in said if axis != "component")
        if len(shape) < 3 and not self._claims(name):
            series = len(shape) == 1 and shape == (self.lengths.get("time"),)
            return SERIES_DIMS if series and axis_of(name) is None else None
        return self._dims_by_length(name, item)

    def _dims_by_length(self, name: str, item: Found) -> tuple[str, ...]:
        shape, lengths = item.array.shape, {**self._known_lengths(), **self.lengths}
        sets = {1: [SERIES_DIMS], 3: [SPACE], 4: [SCALAR_DIMS, ("component", *SPACE)], 5: [VECTOR_DIMS]}
        sets = [dims for dims in sets.get(len(shape), []) if all(d in lengths for d in dims if d != "component")]
        message = "dims are not named, and coordinates are missing that would tell them"
        expected = f"dims {SCALAR_DIMS} or {VECTOR_DIMS} with their coordinates"
        hint = "name them: --axes time,z,y,x,component and --lengths, or axes in a manifest"
        require(sets, message, file=self.file, variable=name, expected=expected, found=f"shape {shape}", hint=hint)
        for candidates in sets:
            fitting = [
                p
                for p in permutations(candidates)
                if all(lengths.get(d, 3 if len(shape) == 4 else n) == n for d, n in zip(p, shape))
            ]
            message, found = "the order of the axes is ambiguous", f"shape {shape}, which fits {len(fitting)} orders"
            expected, hint = (
                "named dims (Zarr dimension_names, HDF5 dimension labels)",
                "or --axes time,z,y,x,component",
            )
            require(
                len(fitting) <= 1, message, file=self.file, variable=name, expected=expected, found=found, hint=hint
            )
            if fitting and "irreps" in item.attrs and fitting[0] != candidates:
                where = {"file": self.file, "variable": name, "expected": candidates, "found": fitting[0]}
                hint = "--axes, or axes in a manifest, name them"
                raise FlowsrError("dims are not in flowsr's order", **where, hint=hint)
            if fitting:
                return fitting[0]
        expected = ", ".join(f"{axis} {lengths.get(axis, 'any')}" for axis in sets[0])
        hint = "name the axes: --axes sample,time,x,y,z --select sample=0, or in a manifest"
        where = {"file": self.file, "variable": name, "expected": expected, "found": shape}
        raise FlowsrError("shape and coordinates disagree", **where, hint=hint)

    def _known_lengths(self) -> dict[str, int]:
        """Lengths of the axes by arrays that have a coordinate's name, where one only has it."""
        found: dict[str, list[int]] = {}
        for name, item in self.found.items():
            axis = axis_of(name, item.attrs) if len(item.array.shape) == 1 else None
            if axis is not None:
                found.setdefault(axis, []).append(item.array.shape[0])
        return {axis: lengths[0] for axis, lengths in found.items() if len(set(lengths)) == 1}

    def _with_axes(self, name: str, item: Found, dims: tuple[str, ...]) -> _Placed | None:
        axes: list[str | None] = []
        fixed: dict[str, int] = {}
        shape = item.array.shape
        if len(dims) == 1 and bare(name) == bare(dims[0]):
            return None  # the coordinate of its dim
        unnamed = self._components_in(name, dims, shape)
        for dim, length in zip(dims, shape):
            axis = "component" if dim == unnamed else self._axis_of(dim)
            if dim in self.request.select:
                fixed[dim], axis = self._selected(name, dim, length), None
            elif axis is None and length == 1:
                fixed[dim] = 0
            elif axis is None and len(shape) > 3:
                where = {"file": self.file, "variable": name, "expected": f"one of its {length} entries"}
                hint = f"--select {dim}=0, or select: {{{dim}: 0}} in a manifest"
                raise FlowsrError("an axis that flowsr does not know", **where, found=dim, hint=hint)
            axes.append(axis)
        known = [axis for axis in axes if axis is not None]
        if len(set(known)) < len(known):
            where = {"file": self.file, "variable": name, "expected": "each of time, component, x, y, z once"}
            raise FlowsrError(
                "two axes of one kind", **where, found=", ".join(dims), hint="axes in a manifest name them"
            )
        if self._claims(name) and not set(SPACE) <= set(known) and len(shape) > 1:
            expected = f"{VECTOR_DIMS} or {SCALAR_DIMS}"
            where = {"file": self.file, "variable": name, "expected": expected, "found": dims}
            raise FlowsrError(
                "dims are not in flowsr's order", **where, hint="--axes, or axes in a manifest, name them"
            )
        spatial = set(SPACE) <= set(known)
        if not spatial and tuple(axes) != SERIES_DIMS:
            self._leave(name, f"{len(shape)} dims: {', '.join(dims)}")
            return None
        if item.array.dtype.kind != "f" and not self._claims(name):
            self._leave(name, str(item.array.dtype))
            return None
        vector = next((n for axis, n in zip(axes, shape) if str(axis).startswith("component")), None)
        known = name in self.request.irreps or (vector == len(SPACE) and is_velocity(name))
        if vector is not None and not known and not self._claims(name):
            hint = f"--irreps {name}=1o, where it is a vector that a mirror reflects"
            error = FlowsrError("the field type is not stated", file=self.file, variable=name, hint=hint)
            self._leave(name, "of no stated field type", error)
            return None
        return _Placed(name, item, dims, tuple(axes), fixed)

    def _axis_of(self, dim: str) -> str | None:
        if dim in VECTOR_DIMS or dim.startswith("component_"):  # of flowsr's names
            return dim
        coordinate = self.found.get(dim)
        return axis_of(dim, coordinate.attrs if coordinate else None)

    def _components_in(self, name: str, dims: tuple[str, ...], shape: tuple[int, ...]) -> str | None:
        """The one dim of a velocity whose name says nothing, where it has three entries and x, y, z are known."""
        axes = {dim: self._axis_of(dim) for dim in dims}
        unknown = [d for d, n in zip(dims, shape) if axes[d] is None and d not in self.request.select and n > 1]
        vector = is_velocity(name) or name in self.request.irreps or "irreps" in self.found[name].attrs
        if not vector or len(unknown) != 1 or shape[dims.index(unknown[0])] != len(SPACE):
            return None
        named = any(str(axis).startswith("component") for axis in axes.values()) or not says_nothing(unknown[0])
        return unknown[0] if not named and set(SPACE) <= set(axes.values()) else None

    @staticmethod
    def _is_velocity(p: _Placed) -> bool:
        return "component" in p.axes and p.length("component") == len(SPACE) and is_velocity(p.name)

    def _selected(self, name: str, dim: str, length: int) -> int:
        number = self.request.select[dim]
        where = {"file": self.file, "variable": f"{name}, select {dim}", "expected": f"0 to {length - 1}"}
        require(0 <= number < length, "no such entry", **where, found=number)
        return number

    # -- the velocity and its grid -------------------------------------------------------------------------------------

    def _velocity(self, fields: list[_Placed]) -> tuple[_Placed, ...]:
        """The three scalars that are a velocity, along x, y, z; empty where there are none."""
        if "velocity" in self.found:
            return ()
        scalars = {p.name: p for p in fields if "component" not in p.axes and "irreps" not in p.item.attrs}
        names = velocity_among({name: p.item.attrs for name, p in scalars.items()})
        return tuple(scalars[name] for name in names) if names else ()

    def _grid(self, fields: list[_Placed], parts: tuple[_Placed, ...]) -> tuple[str, ...]:
        """The file's dims along x, y, z at the centres of cells: those of the two other components along each."""
        if parts:
            grids = []
            for number, axis in enumerate(SPACE):
                dims = [p.grid[number] for n, p in enumerate(parts) if n != number]
                where = {"file": self.file, "variable": ", ".join(p.name for p in parts), "expected": "one grid"}
                require(
                    dims[0] == dims[1], f"components on different grids along {axis}", **where, found=", ".join(dims)
                )
                grids.append(dims[0])
            return tuple(grids)
        claimed = [p for p in fields if self._claims(p.name)]
        counted = Counter(p.grid for p in claimed or fields)
        return counted.most_common(1)[0][0] if counted else SPACE

    def _axis(self, axis: str, dim: str, fields: list[_Placed], parts: tuple[_Placed, ...]) -> xr.Variable | None:
        """The coordinate of an axis at the centres of cells, or None where nothing tells it."""
        given = self.request.coordinates.get(axis)
        if given is not None:
            return given.astype(float)
        one = next(p for p in fields if p.grid[SPACE.index(axis)] == dim)
        found = self._coordinate(axis, dim, one)
        if found is not None:
            return found
        count, number = one.length(axis), SPACE.index(axis)
        if self.request.lengths is not None:
            step = self.request.lengths[number] / count
        else:
            side, step = self._number(SIDES[axis]), self._number(SPACINGS[axis])
            step = side / count if step is None and side is not None else step
        if step is not None:
            return xr.Variable((axis,), (np.arange(count) + 0.5) * step)
        arrays = {name: item.array for name, item in self.found.items()}
        layers = mean_heights(arrays, count, self.file) if axis == "z" else None
        if layers is None:
            return None
        self.used |= {*GEOPOTENTIAL}
        self.notes.append(layers[1])
        return layers[0]

    def _coordinate(self, axis: str, dim: str, placed: _Placed) -> xr.Variable | None:
        if axis in self.coords:
            return self._own({axis})[axis]
        place = placed.dims.index(dim)
        count, item = placed.item.array.shape[place], self.found.get(dim)
        if item is not None and len(item.array.shape) == 1:
            self.used.add(dim)
            return xr.Variable((axis,), read_coordinate(dim, item.array, self.file), other(item.attrs))
        named = [
            name
            for name, item in self.found.items()
            if item.array.shape == (count,) and axis_of(name, item.attrs) == axis and item.dims in (None, (dim,))
        ]
        if len(named) == 1:
            self.used.add(named[0])
            item = self.found[named[0]]
            return xr.Variable((axis,), read_coordinate(named[0], item.array, self.file), other(item.attrs))
        scale = placed.item.scales.get(place)
        if scale is not None and scale.shape == (count,):
            return xr.Variable((axis,), read_coordinate(axis, scale, self.file))
        return None

    def _own(self, names: set[str]) -> dict[str, xr.Variable]:
        """The coordinates of flowsr's own names."""
        return {
            name: xr.Variable((name,), read_coordinate(name, item.array, self.file), other(item.attrs))
            for name, item in self.coords.items()
            if name in names
        }

    def _labels(self, fields: list[_Placed]) -> dict[str, xr.Variable]:
        """The labels of components of a field, where their dim has some under another name."""
        one = next((p for p in fields if "component" in p.axes), None)
        found = one and self._coordinate("component", one.dims[one.axes.index("component")], one)
        return {} if found is None else {"component": found}

    def _number(self, names: tuple[str, ...]) -> float | None:
        """A positive number that the file has by one of some names, as an attribute or an array of one."""
        for name, value in self.attrs.items():
            if bare(name) in names and isinstance(value, (int, float)) and value > 0:
                return float(value)
        for name, item in self.found.items():
            if bare(name) in names and item.array.dtype.kind in "fi" and np.prod(item.array.shape, dtype=object) == 1:
                self.used.add(name)
                value = float(np.ravel(item.array.read())[0])
                return value if value > 0 else None
        return None

    def _times(self, fields: list[_Placed], placed: list[_Placed]) -> xr.Variable | None:
        """Times; of one snapshot whose file has none, zero. None where several snapshots have none."""
        given = self.request.coordinates.get("time")
        if given is not None:
            return given.astype(float)
        if "time" in self.coords:
            return self._own({"time"})["time"]
        along = [p for p in fields if "time" in p.axes]
        if along:
            place = along[0].axes.index("time")
            found = self._coordinate("time", along[0].dims[place], along[0])
            found = self._calendar(along[0].dims[place]) if found is None or found.dtype.kind not in "fiu" else found
            if found is None:
                found = self._one_more(along[0].item.array.shape[place])
            if found is not None or along[0].item.array.shape[place] > 1:
                return found
        for name, item in self.found.items():
            one = np.prod(item.array.shape, dtype=object) == 1 and item.array.dtype.kind in "fiu"
            if one and axis_of(name, item.attrs) == "time":
                self.used.add(name)
                return xr.Variable(("time",), np.ravel(item.array.read()).astype(float), other(item.attrs))
        stated = next((v for name, v in self.attrs.items() if axis_of(name) == "time"), 0.0)
        number = isinstance(stated, (int, float)) and not isinstance(stated, bool)
        return xr.Variable(("time",), [float(stated) if number else 0.0]) if fields else None

    def _one_more(self, count: int) -> xr.Variable | None:
        """Times where the file has one more of them than snapshots, as PDEBench's do: the last belongs to none."""
        longer = {
            name: item
            for name, item in self.found.items()
            if item.array.shape == (count + 1,)
            and item.array.dtype.kind in "fiu"
            and axis_of(name, item.attrs) == "time"
        }
        if len(longer) != 1:
            return None
        ((name, item),) = longer.items()
        self.left_out[name] = f"its last of {count + 1} times: there are {count} snapshots"
        return xr.Variable(("time",), read_coordinate(name, item.array, self.file)[:count], other(item.attrs))

    def _calendar(self, dim: str) -> xr.Variable | None:
        """Times that are written out, such as WRF's ``2001-06-11_12:00:00``, in seconds since the first."""
        for name, item in self.found.items():
            array, dims = item.array, item.dims
            if (
                dims
                and dims[0] == dim
                and len(dims) <= 2
                and array.dtype.kind in "SU"
                and len(array.shape) == len(dims)
            ):
                values = array.read()
                lines = values if values.ndim == 1 else np.array([b"".join(row) for row in values.astype("S1")])
                texts = [t.decode("ascii", "replace") if isinstance(t, bytes) else str(t) for t in lines]
                try:
                    dates = np.array([text.strip("\0 ").replace("_", "T") for text in texts], dtype="datetime64[ms]")
                except ValueError:
                    continue
                self.used.add(name)
                since = str(dates[0].astype("datetime64[s]")).replace("T", " ")
                seconds = (dates - dates[0]) / np.timedelta64(1, "s")
                return xr.Variable(("time",), seconds, {"units": f"seconds since {since}"})
        return None

    # -- the variables -------------------------------------------------------------------------------------------------

    def _variable(self, p: _Placed, lengths: dict[str, int], parts: tuple[_Placed, ...]) -> xr.Variable | None:
        array, shape, where = p.item.array, p.item.array.shape, {"file": self.file, "variable": p.name}
        named = [axis or dim for axis, dim in zip(p.axes, p.dims)]
        wanted = {name: lengths.get(name, n) for name, n in zip(named, shape)}
        if shape != tuple(wanted.values()):
            error = FlowsrError("shape and coordinates disagree", **where, expected=wanted, found=shape)
            if self._claims(p.name):
                raise error
            self._leave(p.name, "shape and coordinates disagree", error)
            return None
        if p.axes == SERIES_DIMS:
            return array.as_variable(SERIES_DIMS, other(p.item.attrs))
        order = self._order([n for n in named if n not in p.fixed], lengths)
        attrs = other(p.item.attrs)
        if list(order) != named:
            array = View(array, named, {n: wanted.get(n, lengths.get(n, 1)) for n in order}, p.fixed)
        components = [n for n in order if n not in SCALAR_DIMS]
        if components and components[0] == "component" and "component" not in lengths and wanted["component"] != 3:
            order = tuple(f"component_{wanted['component']}" if n == "component" else n for n in order)
        variable = array.as_variable(order, attrs)
        if "irreps" not in attrs and not components:
            assume(variable, irreps="0e")
        elif "irreps" not in attrs and p.name not in self.request.irreps and self._is_velocity(p):
            assume(variable, irreps="1o")
        return variable

    @staticmethod
    def _order(named: list[str], lengths: dict[str, int]) -> tuple[str, ...]:
        """The dims of a field in flowsr's order, with a time where the file has none."""
        component = [name for name in named if name not in SCALAR_DIMS]
        if not set(SPACE) <= set(named) or len(component) > 1:
            return tuple(named)
        return ("time", *component, *SPACE)

    def _stacked(
        self, parts: tuple[_Placed, ...], lengths: dict[str, int], coords
    ) -> tuple[xr.Variable, dict[str, slice]]:
        """The velocity of three scalars, and which cells of each axis have values on both their faces."""
        grid = self._grid([], parts)
        names = ", ".join(p.name for p in parts)
        arrays: list[LazyArray] = []
        cells: dict[str, slice] = {}
        averaged = []
        for number, (axis, part) in enumerate(zip(SPACE, parts)):
            array, named = part.item.array, [a or d for a, d in zip(part.axes, part.dims)]
            if part.grid[number] != grid[number] or part.length(axis) == lengths.get(axis, 0) + 1:
                centred, cells[axis] = self._centred(part, axis, lengths, coords)
                array, averaged = centred, [*averaged, part.name]
            shape = {n: array.shape[i] for i, n in enumerate(named)}
            wanted = {n: shape.get(n, lengths.get(n, 1)) for n in SCALAR_DIMS}
            expected = {n: lengths.get(n, wanted[n]) for n in SCALAR_DIMS}
            if axis in cells:
                expected[axis] = wanted[axis]
            where = {"file": self.file, "variable": part.name, "expected": expected, "found": wanted}
            require(wanted == expected, "shape and coordinates disagree", **where)
            arrays.append(View(array, named, wanted, part.fixed))
        # cells without a face on one side are left out of every component
        for number, (array, axis) in enumerate(zip(arrays, SPACE)):
            for other_axis, kept in cells.items():
                if other_axis != axis:
                    array = _Cut(array, 1 + SPACE.index(other_axis), kept)
            arrays[number] = array
        attrs = {**_common([other(p.item.attrs) for p in parts]), "long_name": "velocity", "stored_as": names}
        self._units(parts, attrs, arrays)
        if averaged:
            attrs["staggered"] = f"{', '.join(averaged)} averaged from faces to the centres between"
            short = [axis for axis, kept in cells.items() if kept.stop < lengths.get(axis, kept.stop)]
            if short:
                attrs["staggered"] += f"; the last cell along {', '.join(short)} has no face behind it and is left out"
                attrs["staggered"] += " (behind a periodic one, --boundary, is the first)"
        variable = Stack(arrays, 1).as_variable(VECTOR_DIMS, attrs)
        assume(variable, irreps="1o")
        return variable, cells

    def _centred(self, part: _Placed, axis: str, lengths, coords) -> tuple[LazyArray, slice]:
        """The component at the centres of cells, and which of them have a face on either side."""
        dim, place = part.grid[SPACE.index(axis)], part.axes.index(axis)
        count, faces = (
            part.item.array.shape[place],
            self._coordinate(axis, dim, part) if axis not in self.coords else None,
        )
        item = self.found.get(dim)
        if faces is None and item is not None and dim != axis and item.array.shape == (count,):
            faces = xr.Variable((axis,), read_coordinate(dim, item.array, self.file))
        self.used.add(dim)
        cells, periodic = (
            lengths.get(axis, count - 1),
            (self.request.boundary or ("",) * 3)[SPACE.index(axis)] == "periodic",
        )
        if faces is not None and axis in coords:
            centres, at = coords[axis].values.astype(float), faces.values.astype(float)
            lower = np.searchsorted(at, centres, side="right") - 1
            whole = (lower >= 0) & (centres > at[lower]) & (lower < count - (0 if periodic and count == cells else 1))
            kept = np.flatnonzero(whole)
            regular = len(kept) > 1 and (np.diff(kept) == 1).all() and (np.diff(lower[kept]) == 1).all()
            first, start, stop = (int(lower[kept[0]]), int(kept[0]), int(kept[-1]) + 1) if regular else (0, 0, 0)
        else:
            regular, first, start, stop = count == cells + 1, 0, 0, cells
        where = {
            "file": self.file,
            "variable": part.name,
            "expected": f"a face on either side of {cells} cells along {axis}",
        }
        hint = "--boundary periodic,... where the last face is the first" if count == cells else None
        require(regular, "no faces of the cells", **where, found=f"{count} along {dim}", hint=hint)
        return Centred(part.item.array, place, first, stop - start), slice(start, stop)

    def _units(self, parts: tuple[_Placed, ...], attrs: dict, arrays: list[LazyArray]) -> None:
        """Components in one unit, that of the first that states one."""
        said = [stated(p.item.attrs.get("units")) for p in parts]
        wanted = next((units for units in said if units), None)
        if wanted is not None:
            attrs["units"] = wanted
        for number, units in enumerate(said):
            factor = (1.0, 0.0) if units is None or wanted is None else conversion(units, wanted)
            where = {"file": self.file, "variable": parts[number].name, "expected": wanted, "found": units}
            require(factor is not None, "components in different units", **where)
            if factor != (1.0, 0.0):
                arrays[number] = Scaled(arrays[number], *factor)

    def _refuse_all(self, dataset: xr.Dataset) -> None:
        """There is no field: say of the likeliest array what is missing for it to be one."""
        if self.refused:
            raise max(self.refused.items(), key=lambda entry: len(self.found[entry[0]].array.shape))[1]
        listed = [f"{name} {item.array.shape}" for name, item in self.found.items() if len(item.array.shape) > 2]
        if listed:
            where = {"file": self.file, "expected": "three axes known as x, y, z", "found": ", ".join(listed)[:300]}
            hint = "--axes names them; flowsr inspect FILE --manifest prints a manifest to fill in"
            raise FlowsrError("no field in this file", **where, hint=hint)


class _Cut(LazyArray):
    """A stretch of an array along one axis."""

    def __init__(self, source: LazyArray, axis: int, kept: slice):
        shape = (*source.shape[:axis], kept.stop - kept.start, *source.shape[axis + 1 :])
        super().__init__(shape, source.dtype, source.file, source.variable)
        self.source, self.axis, self.kept = source, axis, range(kept.start, kept.stop)

    def load(self, index):
        chosen = self.kept[index[self.axis]]
        part = chosen if isinstance(chosen, int) else slice(chosen.start, chosen.stop, chosen.step)
        return self.source.load((*index[: self.axis], part, *index[self.axis + 1 :]))


def _common(several: list[dict[str, Any]]) -> dict[str, Any]:
    """The attributes that all have alike, less those that name one component."""
    first, *rest = several
    alike = {name: value for name, value in first.items() if all(str(other.get(name)) == str(value) for other in rest)}
    return {name: value for name, value in alike.items() if name not in ("long_name", "standard_name", "coordinates")}


def read_coordinate(name: str, array: LazyArray, file) -> np.ndarray:
    """The values of a coordinate.

    Raises:
        FlowsrError: an array with other than one dim, or one too long for an axis of a simulation.
    """
    shape, where = array.shape, {"file": file, "variable": name}
    hint = "a manifest can list its numbers (coordinates)"
    require(len(shape) == 1, "a coordinate has one dim", **where, expected=f"{name}({name})", found=shape, hint=hint)
    expected = f"<= {LONGEST_COORDINATE}"
    short, message = shape[0] <= LONGEST_COORDINATE, "a coordinate too long to be true"
    require(short, message, **where, expected=expected, found=shape[0])
    values = array.read()
    if values.dtype.kind in "OST":
        values = np.array([v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values], dtype="U")
    return values
