"""Structured grids of strangers' programs: VTK (XML and legacy), XDMF, and what they share with OpenFOAM.

A file is read in the quarantine (:mod:`flowsr.quarantine`), array by array when it is used, into files that are mapped
here. Values at cells are taken as they are; values at nodes are those of cells around the nodes, which the attribute
``values_at`` says. Arrays carry the names their program gave them: velocity, pressure, density and vorticity are known
by the usual ones; a manifest says (``path``) which array is which where those do not fit, and may declare the times.
Files written by :func:`flowsr.data.convert` also hold what VTK has no place for, and come back exactly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr

from flowsr.data.field import SPACE, six_component_irreps, tensor_irreps
from flowsr.data.readers.base import READERS, Reader, Request, assume
from flowsr.data.readers.lazy import Join, LazyArray, Mixed, Stack, View
from flowsr.data.readers.names import velocity_among
from flowsr.data.readers.order import places
from flowsr.data.readers.words import meant
from flowsr.errors import FlowsrError, require
from flowsr.quarantine import CELLS, OWN_WORDS, check_installed, first_look, place_of

#: What a manifest may declare of these files.
DECLARED = frozenset({"path", "times"})
HEAD, LONG_HEAD = 4096, 1 << 20
KINDS = (
    *("ImageData", "RectilinearGrid", "StructuredGrid"),
    *("STRUCTURED_POINTS", "RECTILINEAR_GRID", "STRUCTURED_GRID"),
)
# An array of at most this many bytes is converted whole when a part of it is used; of a larger one, only that part.
LARGEST_WHOLE = 1 << 28

#: Number of components to flowsr's name of a field to the names, in lower case, that programs give it.
ALIASES = {
    3: {"velocity": ("velocity", "vel", "u"), "vorticity": ("vorticity", "vort")},
    1: {"pressure": ("pressure", "p"), "density": ("density", "rho")},
}
AXIAL = ("vorticity", "vort", "omega", "magnetic_field", "magneticfield")
NODES_NOTE = "nodes of the file's grid: each is taken as the centre of a cell"


@READERS.register("vtk")
class VtkReader(Reader):
    """One snapshot on a structured grid in a .vti, .vtr, .vts or legacy .vtk file."""

    signs = "a VTK file (.vti, .vtr, .vts, or legacy .vtk)"
    takes = DECLARED

    def recognizes(self, path: Path) -> bool:
        return path.is_file() and kind_of(path) is not None

    def open(self, path: Path, request: Request) -> xr.Dataset:
        kind = kind_of(path)
        expected, hint = " or ".join(KINDS), "resample it to image data in ParaView"
        found = kind or "no VTK file"
        require(kind in KINDS, "not a grid of three axes", file=path, expected=expected, found=found, hint=hint)
        check_installed("vtkmodules", path, "formats")
        found = seen("flowsr.quarantine.vtk:describe", [path], kind)
        listed = found["arrays"]
        real = [a for a in listed if np.dtype(a["dtype"]).kind == "f"] or listed
        place = place_of({a["place"] for a in real}, request.group, path)
        others = [f"{a['name']} (at {a['place']}; name the group {a['place']})" for a in listed if a["place"] != place]
        found = {**found, "place": place, "left_out": others}
        read = LegacyArray if kind.isupper() else ForeignArray
        arrays = {
            (name := a["name"]): read("vtk", [path], name, a, found, kind, name, place, found["extent"])
            for a in listed
            if a["place"] == place
        }
        dataset = structured_dataset(path, found, arrays, request.layout)
        return _with_words(dataset, found["words"], request.layout, path)


@READERS.register("xdmf")
class XdmfReader(Reader):
    """One structured grid at one or several times in a .xdmf or .xmf file, its numbers in HDF5 or in the XML."""

    signs = "an XDMF file"
    takes = DECLARED

    def recognizes(self, path: Path) -> bool:
        if not path.is_file():
            return False
        return re.search(rb"<Xdmf\b", head_of(path)) is not None

    def open(self, path: Path, request: Request) -> xr.Dataset:
        found = first_look(path, "flowsr.quarantine.xdmf:describe", request.group)
        files = [path, *map(Path, found["files"])]
        arrays, units = {}, {}
        for name, stored in found["arrays"].items():
            parts = [ForeignArray("xdmf", files, name, stored, found, grid, name) for grid in found["grids"]]
            arrays[name] = Join([meant(part, said, netcdf=True) for part, said in zip(parts, stored["said"])])
            units[name] = stored["said"][0].get("units")
            same = all(said.get("units") == units[name] for said in stored["said"])
            require(same, "other units at other times", file=path, variable=name, expected=units[name])
        return structured_dataset(path, {**found, "units": units}, arrays, request.layout)


def head_of(path: Path) -> bytes:
    """The first bytes of a file; of XML more, since a comment may come before the first word that tells."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
        return (
            head + file.read(LONG_HEAD) if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<?xml", b"<!--")) else head
        )


def kind_of(path: Path) -> str | None:
    """The kind of grid that a VTK file says it holds, ``unknown`` where it does not say; None for another file."""
    head = head_of(path)
    if head.startswith(b"# vtk DataFile"):
        found = re.search(rb"^\s*DATASET\s+(\w+)", head, re.MULTILINE | re.IGNORECASE)
        return found[1].decode().upper() if found else "unknown"
    if b"<VTKFile" in head:
        found = re.search(rb'<VTKFile[^>]*?\btype\s*=\s*["\'](\w+)["\']', head)
        return found[1].decode() if found else "unknown"
    return None


def seen(function: str, files: Sequence[Path], *arguments):
    """What a function finds in a file, in the quarantine; kept while the files do not change.

    Args:
        files: the file or folder, and what else the answer depends on.
    """
    states = tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files)
    return _seen(function, json.dumps(arguments), states)


# A mesh, and a few fields of a snapshot; each takes its room in the folder for temporary files.
@lru_cache(maxsize=4)
def _seen(function: str, arguments: str, states: tuple):
    return first_look(states[0][0], function, *json.loads(arguments))


class ForeignArray(LazyArray):
    """(1, component, x, y, z) of an array of a stranger's file, converted when it is used.

    Args:
        module: of the quarantine; its ``values`` are asked for.
        files: the file, and what else the values depend on.
        name: of the array.
        stored: its ``count`` of components and ``dtype``.
        found: the ``lines`` of the grid, and ``place``.
        asked: what ``values`` is called with, before the box.
    """

    def __init__(self, module: str, files: Sequence[Path], name: str, stored: Mapping, found: Mapping, *asked):
        sides = [len(line) - (found["place"] == CELLS) for line in found["lines"]]
        super().__init__((1, stored["count"], *sides), stored["dtype"], files[0], name)
        self.module, self.files, self.asked = f"flowsr.quarantine.{module}", files, asked

    def converted(self, box: list[list[int]] | None) -> np.ndarray:
        """(component, x, y, z) of the values in a box (first, after the last along x, y, z), or of all."""
        return seen(f"{self.module}:values", self.files, *self.asked, box)

    def load(self, index):
        wanted = [range(n)[s] if isinstance(s, slice) else range(s, s + 1) for n, s in zip(self.shape, index)]
        whole = np.prod(self.shape, dtype=object) * self.dtype.itemsize <= LARGEST_WHOLE
        box = [[0, n] for n in self.shape[2:]] if whole else [[w[0], w[-1] + 1] for w in wanted[2:]]
        values, sides = self.converted(None if whole else box), (self.shape[1], *(high - low for low, high in box))
        where = {"file": self.file, "variable": self.variable}
        require(values.shape == sides, "cut short", **where, expected=sides, found=values.shape)
        # The index, counted from the corner of the box.
        corner = [0, *(low for low, _ in box)]
        inner = [slice(w[0] - c, w[-1] + 1 - c, w.step) for w, c in zip(wanted[1:], corner)]
        values = values[tuple(inner)][None]
        return np.array(values[tuple(slice(None) if isinstance(s, slice) else 0 for s in index)])


def in_box(values: np.ndarray, box: list[list[int]] | None) -> np.ndarray:
    """The part (component, x, y, z) of some values in a box, or all."""
    return values if box is None else values[(slice(None), *(slice(*ends) for ends in box))]


class LegacyArray(ForeignArray):
    """An array of a legacy VTK file, whose arrays are all converted together."""

    def converted(self, box):
        kind, name, place, _ = self.asked
        found = seen(f"{self.module}:describe", self.files, kind)
        return in_box(next(a["values"] for a in found["arrays"] if (a["name"], a["place"]) == (name, place)), box)


def _with_words(dataset: xr.Dataset, text: str | None, layout, path: Path) -> xr.Dataset:
    """Attributes and coordinates that flowsr wrote for itself, beside what VTK reads, into a file that it converted.

    Those of the file are kept where a manifest gives the ``layout``.
    """
    try:
        words = json.loads(text) if text is not None else {}
    except ValueError as error:
        raise FlowsrError("flowsr's own words are damaged", file=path, variable=OWN_WORDS, found=error) from None
    words = words if isinstance(words, dict) else {}
    if layout is None:  # what goes by its own name goes by no usual one
        named = {name: array.attrs.get("stored_as") for name, array in dataset.data_vars.items()}
        dataset = dataset.rename({name: own for name, own in named.items() if own in words.get("variables", {})})
    for name, attrs in words.get("variables", {}).items() if layout is None else ():
        if name in dataset.data_vars and isinstance(attrs, dict):
            dataset[name].attrs = attrs
    for name, one in words.get("series", {}).items() if layout is None else ():
        values = np.array(one["values"], dtype=float)
        require(
            values.shape == (dataset.sizes["time"],),
            "flowsr's own words and the grid disagree",
            file=path,
            variable=name,
        )
        dataset[name] = (("time",), values, one["attrs"])
    for name, axis in words.get("coordinates", {}).items() if layout is None else ():
        values, agree = np.asarray(axis["values"]), True
        if name in SPACE:
            middles = dataset[name].values
            slack = 0.5 * float(np.ptp(middles)) / max(1, len(middles) - 1)
            agree = values.dtype.kind == "f" and values.shape == middles.shape
            agree = agree and (np.abs(values - middles) <= slack).all()
        require(agree, "flowsr's own words and the grid disagree", file=path, variable=name)
        if values.shape == dataset.sizes.get(name, ()) or values.shape == (dataset.sizes.get(name, -1),):
            dataset = dataset.assign_coords({name: xr.Variable((name,), values, axis.get("attrs", {}))})
    if "attrs" in words:
        dataset.attrs = dict(words["attrs"])
    return dataset


def structured_dataset(
    path: Path, found: Mapping, arrays: Mapping[str, LazyArray], layout: Mapping | None, notes: Mapping | None = None
) -> xr.Dataset:
    """The dataset of what the quarantine found in a file, its fields unread.

    Args:
        found: ``lines``, the coordinates of the nodes along x, y, z; ``place`` of the values, half-way between the
            nodes where it is cells; ``times``; ``left_out``: what is no field here, with the reason; ``units``, and
            ``labels`` of components, by the name in the file, where it states some.
        arrays: (time, component, x, y, z) by the name in the file.
        layout: what a manifest says; see :data:`DECLARED`.
        notes: further attributes.

    Raises:
        FlowsrError: a variable that the file lacks, parts that do not make a vector, or times that do not fit.
    """
    times, left_out = np.array(found["times"], dtype=float), list(found["left_out"])
    declared = layout.get("times") if layout else None
    if declared is not None:
        text, expected = isinstance(declared, str), f"{len(times)} numbers"
        fit, said = not text and len(declared) == len(times), declared if text else f"{len(declared)} numbers"
        require(fit, "times do not fit the file", file=path, variable="times", expected=expected, found=said)
        times = np.array(declared, dtype=float)
    dataset = xr.Dataset(coords={"time": ("time", times)})
    for name, line in zip(SPACE, found["lines"]):
        values, attrs = np.asarray(line, dtype=float), {}
        if found["place"] == CELLS:
            values, attrs = (values[1:] + values[:-1]) / 2, {"extent": [float(values[0]), float(values[-1])]}
        dataset[name] = xr.Variable((name,), values, attrs)
    known, labels = found.get("units", {}), []
    for name, array, stored in _chosen(arrays, layout, left_out, path):
        dataset[name] = _variable(name, array, stored)
        labels += [found.get("labels", {}).get(stored)] if array.shape[1] == len(SPACE) else []
        units = {known.get(part) for part in ([stored] if stored in known else stored.split(", "))}
        require(len(units) == 1, "components in different units", file=path, variable=name, found=units)
        if None not in units:
            dataset[name].attrs["units"] = units.pop()
    if "component" in dataset.sizes:
        dataset["component"] = ["u", "v", "w"]
        orders = [places(one) if one else None for one in labels]
        if any(order not in (None, [0, 1, 2]) for order in orders):
            where = {"file": path, "variable": "component", "found": labels}
            require(all(order == orders[0] for order in orders), "vectors in different orders", **where)
            dataset["component"] = list(labels[0])
    dataset.attrs = {"values_at": CELLS if found["place"] == CELLS else NODES_NOTE, **(notes or {})}
    if left_out:
        dataset.attrs["left_out"] = ", ".join(left_out)
    assume(dataset, boundary=["open"] * 3)
    return dataset


def _chosen(arrays: Mapping[str, LazyArray], layout, left_out: list[str], path: Path):
    """(name, array, name in the file) of each field; what is no field goes to ``left_out``."""
    if layout is not None:
        for name, declared in layout["variables"].items():
            yield name, *_named(arrays, name, declared.get("path"), path)
        return
    names = {stored: stored for stored in arrays}
    for count, aliases in ALIASES.items():
        for name, known in aliases.items():
            fitting = [s for s, array in arrays.items() if s.lower() in known and array.shape[1] == count]
            if len(fitting) == 1 and name not in arrays:
                names[fitting[0]] = name
    scalars = {stored: {} for stored, array in arrays.items() if array.dtype.kind == "f" and array.shape[1] == 1}
    parts = () if "velocity" in names.values() else velocity_among(scalars) or ()
    if parts:
        yield "velocity", Stack([_scalar(arrays[part]) for part in parts], 1), ", ".join(parts)
    for stored, array in arrays.items():
        if stored in parts:
            continue
        if array.dtype.kind != "f":
            left_out.append(f"{stored} ({array.dtype})")
        elif array.shape[1] not in (1, 3, 6, 9):
            left_out.append(f"{stored} ({array.shape[1]} components)")
        else:
            yield names[stored], array, stored


def _named(arrays: Mapping[str, LazyArray], name: str, declared, path: Path) -> tuple[LazyArray, str]:
    """The array that a manifest means, one or stacked of several scalars."""
    if declared is None:
        known = {alias for group in ALIASES.values() for alias in group.get(name, ())}
        fitting = [stored for stored in arrays if stored == name or stored.lower() in known]
        parts = velocity_among({s: {} for s, a in arrays.items() if a.shape[1] == 1}) if name == "velocity" else None
        declared = name if name in arrays or len(fitting) != 1 else fitting[0]
        declared = list(parts) if parts and declared not in arrays else declared
    parts = [declared] if isinstance(declared, str) else list(declared)
    for part in parts:
        found = ", ".join(arrays) or "none"
        require(part in arrays, "no such array", file=path, variable=name, expected=part, found=found)
    if len(parts) == 1:
        return arrays[parts[0]], parts[0]
    scalars = all(arrays[part].shape[1] == 1 for part in parts)
    require(scalars, "components are scalars", file=path, variable=name, found=", ".join(parts))
    return Stack([_scalar(arrays[part]) for part in parts], 1), ", ".join(parts)


def _scalar(array: LazyArray) -> View:
    times, _, *sides = array.shape
    wanted = {"time": times, **dict(zip(SPACE, sides))}
    return View(array, ("time", "component", *SPACE), wanted, {"component": 0})


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
