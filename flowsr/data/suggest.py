"""The manifest that would read a file, as far as the file tells; what it does not is left blank to fill in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import h5py

from flowsr.data.field import SPACE, VECTOR_DIMS, field_variables
from flowsr.data.open import ReadOptions, open_field, read_options
from flowsr.data.readers.assemble import Found
from flowsr.data.readers.base import recognized
from flowsr.data.readers.described import contents_of
from flowsr.data.readers.meeting import meet
from flowsr.data.readers.names import axis_of, velocity_among
from flowsr.data.readers.order import ASSUMED
from flowsr.data.readers.units import stated
from flowsr.errors import FlowsrError, missing_file
from flowsr.quarantine.hdf5 import items_of

#: What stands where a person has to say something.
BLANK = "FILL"
#: Groups of a file that are looked into.
MOST_GROUPS = 64


def suggested_manifest(path: str | os.PathLike, options: ReadOptions | None = None) -> str:
    """A manifest of a file as text, ``FILL`` where the file does not say.

    Raises:
        FlowsrError: no such file, or one without arrays that a manifest could name.
    """
    path, options = Path(path), options or ReadOptions()
    if not path.exists():
        raise missing_file(path)
    meet(path)
    head = [f"# {path.name}, as far as it tells what it is; what reads {BLANK} is for you to say."]
    head += [f"name: {json.dumps(path.stem)}", "description: ''", "source: ''", "licence: ''"]
    head += [f"root: {json.dumps(str(path.parent))}"] if str(path.parent) != "." else []
    head += [f"files: {{a: {json.dumps(path.name)}}}"]
    head += [f"group: {options.group}"] if options.group else []
    try:
        body = list(_of_dataset(path, options))
    except FlowsrError:
        body = list(_of_arrays(path, options))
    return "\n".join(head + body) + "\n"


def _of_dataset(path: Path, options: ReadOptions) -> Iterator[str]:
    """Of a file that opens: what it says, and what is assumed of it."""
    dataset = open_field(path, read_options(options, {"time": None}))
    assumed = str(dataset.attrs.get(ASSUMED, ""))
    yield f"reader: {options.reader or recognized(path)}"
    yield "variables:"
    for name in field_variables(dataset):
        array = dataset[name]
        words = [f"irreps: {array.attrs['irreps']}"]
        words += [f"units: {json.dumps(array.attrs['units'])}"] if stated(array.attrs.get("units")) else []
        guessed = "  # assumed: the file does not say" if f"{name}.irreps" in assumed else ""
        yield f"  {json.dumps(str(name))}: {{{', '.join(words)}}}{guessed}"
    guessed = "  # assumed: the file does not say" if "boundary" in assumed else ""
    yield f"boundary: [{', '.join(dataset.attrs['boundary'])}]{guessed}"
    if options.select:
        yield f"select: {json.dumps(options.select)}"
    for name in ("viscosity", "length_units"):
        if name in dataset.attrs:
            yield f"{name}: {json.dumps(dataset.attrs[name])}"


def _of_arrays(path: Path, options: ReadOptions) -> Iterator[str]:
    found = dict(_arrays(path, options.group))
    fields = {name: item for name, item in found.items() if _may_be_field(item)}
    if not fields:
        listed = ", ".join(f"{name} {item.array.shape}" for name, item in found.items())
        raise FlowsrError("no array of three axes", file=path, expected="a field", found=listed[:300] or "nothing")
    lines = {1: [], 3: []}
    names = {name: item.attrs for name, item in fields.items()}
    last = {name: name.rpartition("/")[2] for name in names}
    parts = velocity_among({last[name]: attrs for name, attrs in names.items()})
    extra: dict[str, int] = {}
    if parts:
        parts = [next(name for name in names if last[name] == part) for part in parts]
        first = fields[parts[0]]
        lines[3].append(_line("velocity", "1o", parts, first, options, found, extra))
    for name, item in fields.items():
        if not parts or name not in parts:
            vector = _is_vector(item)
            called = "velocity" if vector and not parts and not lines[3] else last[name]
            lines[3 if vector else 1].append(_line(called, "1o" if vector else "0e", name, item, options, found, extra))
    named = [item for name, item in fields.items() if parts and name in parts and item.dims is not None]
    if len(named) == len(SPACE) and not extra:  # the file says itself which dims are which
        lines = {3: ["velocity: {irreps: 1o}"], 1: []}
    yield "variables:"
    yield from (f"  {line}" for line in [*lines[3], *lines[1]])
    yield from _axes_of(fields, found, extra)
    boundary = next((item.attrs.get("boundary") for item in fields.values()), None)
    yield f"boundary: {json.dumps(boundary) if boundary else f'[{BLANK}, {BLANK}, {BLANK}]'}  # periodic, wall or open"
    if extra:
        shown = ", ".join(f"{axis}: 0" for axis in extra)
        yield f"select: {{{shown}}}  # of " + ", ".join(f"{n} along {axis}" for axis, n in extra.items())


def _line(name, irreps, paths, item: Found, options: ReadOptions, found, extra: dict[str, int]) -> str:
    axes, shape = _axes(item, options, found), item.array.shape
    units = stated(item.attrs.get("units"))
    extra |= {axis: n for axis, n in zip(axes, shape) if axis not in (*VECTOR_DIMS, BLANK) and n > 1}
    words = [f"irreps: {irreps}", f"path: {json.dumps(paths)}", f"axes: [{', '.join(axes)}]"]
    words += [f"units: {json.dumps(units)}"] if units else []
    return f"{json.dumps(name)}: {{{', '.join(words)}}}  # shape {shape}"


def _axes(item: Found, options: ReadOptions, found: dict[str, Found]) -> list[str]:
    """The axes of an array, by name or, where one length only fits, by the coordinates; blank where nothing tells."""
    shape = item.array.shape
    if options.axes is not None and len(options.axes) == len(shape):
        return list(options.axes)
    if item.dims is not None:
        return [axis_of(dim) or dim for dim in item.dims]
    lengths: dict[int, list[str]] = {}
    for axis, one in _coordinates(found).items():
        lengths.setdefault(found[one].array.shape[0], []).append(axis)
    axes = [lengths[n][0] if len(lengths.get(n, ())) == 1 and shape.count(n) == 1 else BLANK for n in shape]
    if axes.count(BLANK) == 1 and shape[axes.index(BLANK)] == 3 and "component" not in axes:
        axes[axes.index(BLANK)] = "component"
    return axes


def _coordinates(found: dict[str, Found]) -> dict[str, str]:
    """Axis to the one array that has its coordinate's name."""
    named: dict[str, list[str]] = {}
    for name, item in found.items():
        axis = axis_of(name.rpartition("/")[2], item.attrs)
        if axis not in (None, "component") and len(item.array.shape) == 1 and item.array.dtype.kind in "fiu":
            named.setdefault(axis, []).append(name)
    return {axis: names[0] for axis, names in named.items() if len(names) == 1}


def _axes_of(fields: dict[str, Found], found: dict[str, Found], extra: dict[str, int]) -> Iterator[str]:
    known = _coordinates(found)
    space = {axis: known[axis] for axis in SPACE if axis in known}
    cells = _cells(fields)
    listed = [f"{axis}: {json.dumps(space[axis]) if axis in space else f'[{BLANK}]'}" for axis in SPACE]
    attached = any(item.scales for item in fields.values())
    if space:
        yield f"coordinates: {{{', '.join(listed)}}}"
    elif cells and not attached:
        sides = ", ".join(str(cells[axis]) for axis in SPACE)
        yield f"grid: {{cells: [{sides}], lengths: [{BLANK}, {BLANK}, {BLANK}]}}  # along x, y, z"
    elif not attached:
        yield f"grid: {{cells: [{BLANK}, {BLANK}, {BLANK}], lengths: [{BLANK}, {BLANK}, {BLANK}]}}  # along x, y, z"
    if "time" in known:
        yield f"times: {json.dumps(known['time'])}"
    elif not any(axis_of(name) == "time" for name in found) and any(
        len(item.array.shape) - len(extra) > 3 for item in fields.values()
    ):
        yield f"times: [{BLANK}]  # a number a snapshot; leave out where there is one without an axis"


def _cells(fields: dict[str, Found]) -> dict[str, int]:
    """Cells along x, y, z, the fewest where components lie on faces; empty where dims have no names."""
    cells: dict[str, int] = {}
    for item in fields.values():
        for dim, n in zip(item.dims or (), item.array.shape):
            axis = axis_of(dim)
            if axis in SPACE:
                cells[axis] = min(n, cells.get(axis, n))
    return cells if len(cells) == len(SPACE) else {}


def _may_be_field(item: Found) -> bool:
    named = item.dims is None or set(SPACE) <= {axis_of(dim) for dim in item.dims}
    return len(item.array.shape) >= 3 and item.array.dtype.kind in "fiu" and named


def _is_vector(item: Found) -> bool:
    dims = [axis_of(dim) for dim in item.dims or ()]
    return "component" in dims or (item.dims is None and len(item.array.shape) > 3 and item.array.shape.count(3) == 1)


def _arrays(path: Path, group: str | None) -> Iterator[tuple[str, Found]]:
    """The arrays of a file, or of the group that is asked for, those of groups inside by their paths."""
    found = {}
    try:
        found = contents_of(path, group)[0]
    except FlowsrError:
        if path.is_dir() or not h5py.is_hdf5(path):
            raise
    yield from found.items()
    if group is None and path.is_file() and h5py.is_hdf5(path):
        for inner in _groups(path):
            with suppress(FlowsrError):  # a group of groups
                for name, item in contents_of(path, inner)[0].items():
                    yield f"{inner}/{name}", item


def _groups(path: Path) -> list[str]:
    with h5py.File(path, "r") as file:
        top = {name: node for name, node in items_of(file["/"], path).items() if isinstance(node, h5py.Group)}
        below = ((name, items_of(node, path)) for name, node in top.items())
        inner = [
            f"{name}/{one}" for name, found in below for one, node in found.items() if isinstance(node, h5py.Group)
        ]
        return [*top, *inner][:MOST_GROUPS]
