"""XDMF: an XML file that says what arrays in HDF5 files (or in the XML itself) are; uniform and rectilinear grids.

The XML is read with the standard library and the arrays with h5py, part by part. XDMF counts (z, y, x), also in the
origin and spacing of a uniform grid, and puts values at nodes unless it says ``Center="Cell"``. Facts: the XDMF model and
format, www.xdmf.org.
"""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import xarray as xr

from flowsr.data.field import SPACE
from flowsr.data.readers.base import LONGEST_COORDINATE, READERS, Reader, Request
from flowsr.data.readers.described import hdf5_array
from flowsr.data.readers.lazy import Join, LazyArray, Mixed, Stack, View
from flowsr.data.readers.structured import CELLS, NODES, STATED, Structured, centers_of, structured_dataset
from flowsr.errors import FlowsrError

HEAD = 4096
# Numbers inside the XML are a few; a large field belongs into HDF5.
LARGEST_XML = 1 << 28
UNIFORM = ("3dcorectmesh", "corectmesh")
RECTILINEAR = ("3drectmesh", "rectmesh")
COUNTS = {"scalar": 1, "vector": 3, "tensor6": 6, "tensor": 9}
# XDMF has xx xy xz yy yz zz where VTK, and what follows here, has xx yy zz xy yz xz.
TENSOR6 = np.eye(6)[[0, 3, 5, 1, 4, 2]]
DTYPES = {
    ("float", 4): "f4",
    ("float", 8): "f8",
    ("int", 4): "i4",
    ("int", 8): "i8",
    ("uint", 4): "u4",
    ("uint", 8): "u8",
    ("char", 1): "i1",
    ("uchar", 1): "u1",
}
JOIN = re.compile(r"join\s*\(\s*\$\d+\s*(?:[,;]\s*\$\d+\s*)*\)", re.IGNORECASE)


@READERS.register("xdmf")
class XdmfReader(Reader):
    """One structured grid at one or several times in a .xdmf or .xmf file."""

    signs = "an XDMF file"
    takes = STATED

    def recognizes(self, path: Path) -> bool:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return re.search(rb"<Xdmf\b", file.read(HEAD)) is not None

    def open(self, path: Path, request: Request) -> xr.Dataset:
        light = _Light(path, _root(str(path), *_state(path)))
        grids = [_Grid(light, element) for element in light.grids()]
        place = _place(grids[0], request.group, path)
        times, grids = _ordered(light.times(grids), grids, path)
        names = _common([{a.name for a in g.attributes if a.place == place} for g in grids])
        arrays = {name: Join([_field(g, name, place) for g in grids]) for name in names}
        for grid in grids[1:]:
            _check_same(grids[0], grid, path)
        axes = {name: centers_of(line, place) for name, line in zip(SPACE, grids[0].lines)}
        others = sorted({f"{a.name} (at {a.place})" for g in grids for a in g.attributes if a.place != place})
        others += sorted({name for g in grids for name in g.others})
        others += sorted({a.name for g in grids for a in g.attributes if a.place == place} - set(names))
        return structured_dataset(Structured(path, times, axes, arrays, place, others), request.layout)


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@lru_cache(maxsize=2)
def _root(path: str, size: int, modified: int) -> ElementTree.Element:
    """The XML of a file; entities, which can blow up to any size or name other files, are refused."""
    if size > LARGEST_XML:
        raise FlowsrError("XML too large", file=path, expected=f"{LARGEST_XML} bytes or less", found=size)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = re.search(rb"<!ENTITY|<(?:\w+:)?include\b", content, re.IGNORECASE)
        if found:
            raise FlowsrError(
                "XML that includes other text", file=path, expected="no entities, no xi:include", found=found[0]
            )
    try:
        return ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise FlowsrError("damaged or not readable", file=path, found=f"XML: {error}") from None


@dataclass(frozen=True)
class _Attribute:
    name: str
    place: str
    count: int
    item: ElementTree.Element


class _Light:
    """The XML of a file and what its references mean."""

    def __init__(self, path: Path, root: ElementTree.Element):
        self.path, self.root = path, root

    def grids(self) -> list[ElementTree.Element]:
        """The uniform (single) grids, one a time."""
        found = list(self._grids(self.root.find("Domain")))
        if not found:
            raise FlowsrError("no grid in this file", file=self.path, expected="Xdmf/Domain/Grid")
        return found

    def _grids(self, parent) -> Iterator[ElementTree.Element]:
        children = [] if parent is None else [self.meant(e) for e in parent if e.tag == "Grid"]
        if len(children) > 1 and parent.tag == "Domain":
            raise FlowsrError(
                "several grids", file=self.path, expected="one, or one temporal collection", found=len(children)
            )
        for grid in children:
            kind = grid.get("GridType", "Uniform").lower()
            if kind == "uniform":
                yield grid
            elif kind == "collection" and grid.get("CollectionType", "Spatial").lower() == "temporal":
                yield from self._grids(grid)
            else:
                raise FlowsrError(
                    "not one box at several times",
                    file=self.path,
                    variable=grid.get("Name"),
                    expected="a uniform grid or a temporal collection",
                    found=f"{kind} {grid.get('CollectionType', '')}",
                )

    def meant(self, element: ElementTree.Element) -> ElementTree.Element:
        """An element, or the one that it refers to."""
        for _ in range(8):
            reference = element.get("Reference")
            if reference == "XML":
                reference = (element.text or "").strip()
            if not reference:
                return element
            start = re.match(r"^/Xdmf/", reference)
            try:
                element = self.root.find(reference[start.end() :]) if start else None
            except (SyntaxError, KeyError):
                element = None
            if element is None:
                raise FlowsrError("a reference to nothing", file=self.path, found=reference[:200])
        raise FlowsrError("references that lead in circles", file=self.path, found=reference[:200])

    def times(self, grids: list[_Grid]) -> np.ndarray:
        """Times of the grids: of their own, or of the collection."""
        single = [g.element.find("Time") for g in grids]
        if all(time is not None and time.get("Value") is not None for time in single):
            return np.array([float(time.get("Value")) for time in single])
        collections = [e for e in self.root.iter("Grid") if e.get("GridType", "").lower() == "collection"]
        time = collections[0].find("Time") if collections else None
        if time is None:
            return np.arange(float(len(grids)))
        item = time.find("DataItem")
        numbers = np.array((time.get("Value") or (item.text if item is not None else "") or "").split(), dtype=float)
        if time.get("TimeType", "Single").lower() == "hyperslab" and len(numbers) == 3:
            numbers = numbers[0] + numbers[1] * np.arange(int(min(numbers[2], len(grids))))
        if len(numbers) != len(grids):
            raise FlowsrError(
                "times and grids disagree", file=self.path, expected=f"{len(grids)} times", found=len(numbers)
            )
        return numbers

    def array(self, item: ElementTree.Element, name: str) -> LazyArray:
        """The lazy array of a DataItem."""
        item = self.meant(item)
        kind = item.get("ItemType", "Uniform").lower()
        if kind == "function" and JOIN.fullmatch((item.get("Function") or "").strip()):
            parts = [self.array(part, name) for part in item.findall("DataItem")]
            return Stack(parts, len(parts[0].shape))
        if kind == "hyperslab":
            return self._slab(item, name)
        if kind != "uniform":
            raise FlowsrError(
                "not an array",
                file=self.path,
                variable=name,
                expected="ItemType Uniform, HyperSlab or JOIN of some",
                found=f"{item.get('ItemType')} {item.get('Function', '')}".strip(),
            )
        shape = _whole_numbers(item.get("Dimensions"), self.path, name)
        form = item.get("Format", "XML").upper()
        if form == "XML":
            return InlineArray(self.path, name, self._place_of(item), shape, _dtype(item, self.path, name))
        if form != "HDF":
            raise FlowsrError("not an array", file=self.path, variable=name, expected="Format HDF or XML", found=form)
        array = self._hdf(item, name)
        if array.shape == shape:
            return array
        if _squeezed(array.shape) != _squeezed(shape):
            raise FlowsrError(
                "XDMF and HDF5 disagree", file=array.file, variable=array.variable, expected=shape, found=array.shape
            )
        axes = [str(n) for n in range(len(array.shape))]
        kept = [a for a, n in zip(axes, array.shape) if n != 1]
        squeezed = View(array, axes, {a: array.shape[int(a)] for a in kept}, {a: 0 for a in axes if a not in kept})
        wanted, left = {}, iter(kept)
        for number, n in enumerate(shape):
            wanted[f"new {number}" if n == 1 else next(left)] = n
        return View(squeezed, kept, wanted)

    def _hdf(self, item: ElementTree.Element, name: str) -> LazyArray:
        file, colon, inner = (item.text or "").strip().partition(":")
        path = (self.path.parent / file).resolve()
        if not colon or not path.is_relative_to(self.path.parent.resolve()):
            raise FlowsrError(
                "a file outside its folder",
                file=self.path,
                variable=name,
                expected="data.h5:/name beside the XDMF file",
                found=(item.text or "").strip()[:200],
            )
        if not path.is_file():
            raise FlowsrError(
                "no such file", file=path, variable=name, hint=f"{self.path.name} keeps its numbers there"
            )
        if not h5py.is_hdf5(path):
            raise FlowsrError("not an HDF5 file", file=path, variable=name, expected="HDF5, as the XDMF file says")
        return hdf5_array(path, inner)

    def _slab(self, item: ElementTree.Element, name: str) -> LazyArray:
        """One place along the first axes of an array: a snapshot out of many."""
        parts = item.findall("DataItem")
        source = self.array(parts[1], name) if len(parts) == 2 else None
        numbers = np.array((self.meant(parts[0]).text or "").split(), dtype=int) if source is not None else np.empty(0)
        if source is None or numbers.size != 3 * len(source.shape):
            raise FlowsrError("not a hyperslab", file=self.path, variable=name, expected="start, stride, count an axis")
        fixed = {}
        axes = [str(n) for n in range(len(source.shape))]
        for axis, start, stride, count, side in zip(axes, *numbers.reshape(3, -1), source.shape):
            if count == 1 and side > 1 and 0 <= start < side:
                fixed[axis] = int(start)
            elif (start, stride, count) != (0, 1, side):
                raise FlowsrError(
                    "a part of an axis",
                    file=self.path,
                    variable=name,
                    expected="one place of it, or all of it",
                    found=f"start {start}, stride {stride}, count {count} of {side}",
                )
        return View(source, axes, {a: n for a, n in zip(axes, source.shape) if a not in fixed}, fixed)

    def _place_of(self, item: ElementTree.Element) -> int:
        return next(n for n, element in enumerate(self.root.iter("DataItem")) if element is item)


class _Grid:
    """A grid at one time: its nodes and its attributes."""

    def __init__(self, light: _Light, element: ElementTree.Element):
        self.light, self.path, self.element = light, light.path, element
        topology, geometry = (self._child(tag) for tag in ("Topology", "Geometry"))
        kind = (topology.get("TopologyType") or topology.get("Type") or "").lower()
        if kind not in UNIFORM + RECTILINEAR:
            raise FlowsrError(
                "not a grid of three axes",
                file=self.path,
                expected="3DCoRectMesh or 3DRectMesh",
                found=kind or "no TopologyType",
                hint="resample it to image data in ParaView",
            )
        text = topology.get("Dimensions") or topology.get("NumberOfElements")
        self.nodes = _whole_numbers(text, self.path, "Topology")[::-1]
        if len(self.nodes) != 3 or min(self.nodes) < 2:
            raise FlowsrError("not a grid of three axes", file=self.path, variable="Topology", found=text)
        self.lines = self._lines(geometry)
        found = {str(e.get("Name")): self._attribute(e) for e in element if e.tag == "Attribute"}
        self.attributes = [a for a in found.values() if a is not None]
        self.others = [name for name, a in found.items() if a is None]

    def _child(self, tag: str) -> ElementTree.Element:
        element = self.element.find(tag)
        if element is None:
            raise FlowsrError("an incomplete grid", file=self.path, variable=self.element.get("Name"), expected=tag)
        return self.light.meant(element)

    def _lines(self, geometry: ElementTree.Element) -> tuple[np.ndarray, ...]:
        kind = (geometry.get("GeometryType") or geometry.get("Type") or "").upper()
        items = geometry.findall("DataItem")
        wanted = {"ORIGIN_DXDYDZ": [3, 3], "VXVYVZ": list(self.nodes)}.get(kind)
        if wanted is None or len(items) != len(wanted):
            raise FlowsrError(
                "not a grid of three axes",
                file=self.path,
                variable="Geometry",
                expected="ORIGIN_DXDYDZ or VXVYVZ",
                found=f"{kind}, {len(items)} arrays",
            )
        values = []
        for item, length in zip(items, wanted):
            array = self.light.array(item, "Geometry")
            if math.prod(array.shape) != length or length > LONGEST_COORDINATE:
                raise FlowsrError(
                    "coordinates and grid disagree",
                    file=self.path,
                    variable="Geometry",
                    expected=length,
                    found=array.shape,
                )
            values.append(np.ravel(array.load((slice(None),) * len(array.shape))).astype(float))
        if kind == "VXVYVZ":
            return tuple(values)
        low, step = values[0][::-1], values[1][::-1]
        return tuple(o + d * np.arange(n) for o, d, n in zip(low, step, self.nodes))

    def _attribute(self, element: ElementTree.Element) -> _Attribute | None:
        """What an attribute is; None where it is no field."""
        element = self.light.meant(element)
        place = {"cell": CELLS, "node": NODES}.get(element.get("Center", "Node").lower())
        count = COUNTS.get((element.get("AttributeType") or element.get("Type") or "Scalar").lower())
        item = element.find("DataItem")
        known = place is not None and count is not None and item is not None
        return _Attribute(str(element.get("Name")), place, count, item) if known else None


def _field(grid: _Grid, name: str, place: str) -> LazyArray:
    """(1, component, x, y, z) of an attribute."""
    attribute = next(a for a in grid.attributes if a.name == name and a.place == place)
    array = grid.light.array(attribute.item, name)
    sides = tuple(n - (place == CELLS) for n in grid.nodes)
    wanted = {"time": 1, "component": attribute.count, **dict(zip(SPACE, sides))}
    stored = (*sides[::-1], *([attribute.count] if len(array.shape) == 4 else []))
    if array.shape != stored or (attribute.count > 1 and len(stored) == 3):
        raise FlowsrError(
            "shape and grid disagree",
            file=grid.path,
            variable=name,
            expected=f"{sides[::-1]} (z, y, x) and {attribute.count} components",
            found=array.shape,
        )
    view = View(array, (*SPACE[::-1], "component")[: len(stored)], wanted)
    return Mixed(view, TENSOR6) if attribute.count == 6 else view


def _place(grid: _Grid, group: str | None, path: Path) -> str:
    places = {a.place for a in grid.attributes}
    if not places:
        raise FlowsrError("no field in this file", file=path, expected="an Attribute")
    place = group or (CELLS if CELLS in places else NODES)
    if place not in places:
        raise FlowsrError("no such group", file=path, variable=group, expected=" or ".join(sorted(places)))
    return place


def _ordered(times: np.ndarray, grids: list, path: Path):
    order = np.argsort(times, kind="stable")
    return times[order], [grids[n] for n in order]


def _common(names: list[set[str]]) -> list[str]:
    return sorted(set.intersection(*names))


def _check_same(first: _Grid, other: _Grid, path: Path) -> None:
    if not all(np.array_equal(a, b) for a, b in zip(first.lines, other.lines)):
        raise FlowsrError("the grid changes in time", file=path, expected="one grid")


class InlineArray(LazyArray):
    """Numbers in the XML itself; what was parsed is kept while the file does not change."""

    def __init__(self, path: Path, name: str, place: int, shape, dtype):
        super().__init__(shape, dtype, path, name)
        self.place = place

    def load(self, index):
        items = _root(str(self.file), *_state(self.file)).iter("DataItem")
        text = next(element.text for n, element in enumerate(items) if n == self.place) or ""
        values = np.array(text.split(), dtype=self.dtype)
        if values.size != math.prod(self.shape):
            raise FlowsrError(
                "size and shape disagree",
                file=self.file,
                variable=self.variable,
                expected=f"{math.prod(self.shape)} numbers",
                found=values.size,
            )
        return values.reshape(self.shape)[index]


def _whole_numbers(text: str | None, path: Path, name: str) -> tuple[int, ...]:
    words = (text or "").split()
    if not words or not all(word.isdecimal() and len(word) < 16 for word in words):
        raise FlowsrError("not dimensions", file=path, variable=name, expected="whole numbers", found=repr(text)[:200])
    return tuple(map(int, words))


def _dtype(item: ElementTree.Element, path: Path, name: str) -> str:
    key = ((item.get("NumberType") or item.get("DataType") or "Float").lower(), int(item.get("Precision", 4)))
    if key not in DTYPES:
        raise FlowsrError(
            "not numbers", file=path, variable=name, expected=", ".join(f"{k} {n}" for k, n in DTYPES), found=key
        )
    return DTYPES[key]


def _squeezed(shape) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)
