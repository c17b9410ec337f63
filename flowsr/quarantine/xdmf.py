"""What an XDMF file says, by the XML parser and h5py: its grids and their attributes. Run in the quarantine.

XDMF counts (z, y, x), also in the origin and spacing of a uniform grid, and puts values at nodes unless it has
``Center="Cell"``. Its numbers are in the XML or in HDF5 files beside it. Facts: XDMF model and format, www.xdmf.org.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np

from flowsr.errors import FlowsrError

# Numbers inside the XML are a few; a large field belongs into HDF5.
LARGEST_XML = 1 << 28
LONGEST_COORDINATE = 1 << 24
# Elements that refer to one another, at most, on the way to an array.
MOST_ITEMS = 256
SPACE = "xyz"
CELLS, NODES = "cells", "nodes"
UNIFORM = ("3dcorectmesh", "corectmesh")
RECTILINEAR = ("3drectmesh", "rectmesh")
COUNTS = {"scalar": 1, "vector": 3, "tensor6": 6, "tensor": 9}
# XDMF has xx xy xz yy yz zz where VTK, and what follows here, has xx yy zz xy yz xz.
TENSOR6 = [0, 3, 5, 1, 4, 2]
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


Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Item:
    """An array that an XDMF file describes: ``read`` gives the part that one slice an axis asks for."""

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[Slices], np.ndarray]


def describe(path: str, place: str | None) -> dict:
    """The grid of a file, its times, and the attributes that are there at all of them.

    Args:
        place: ``cells`` or ``nodes``; default: cells, where there are attributes.

    Returns:
        ``lines``: (n + 1,) coordinates of the nodes along x, y, z; ``times``, and ``grids``, the number in the file of
        each time's grid; ``place``; ``arrays``: name to ``place``, ``count`` of components and ``dtype``; ``left_out``;
        ``files``: the HDF5 files that the numbers are in.
    """
    light = _Light(Path(path))
    grids = [_Grid(light, element) for element in light.grids()]
    place = _place(grids[0], place, light.path)
    times = light.times(grids)
    here = [{a.name: a for a in grid.attributes if a.place == place} for grid in grids]
    names = sorted(set.intersection(*map(set, here)))
    arrays = {}
    for name in names:
        items = [grid.array(name, place) for grid in grids]
        dtype = np.result_type(*(item.dtype for item in items)) if items[0].dtype.kind in "fiub" else items[0].dtype
        arrays[name] = {"place": place, "count": here[0][name].count, "dtype": dtype.str}
    if any(not all(map(np.array_equal, grids[0].lines, grid.lines)) for grid in grids):
        raise FlowsrError("the grid changes in time", file=path, expected="one grid")
    left_out = sorted({f"{a.name} (at {a.place})" for g in grids for a in g.attributes if a.place != place})
    left_out += sorted({name for g in grids for name in g.others})
    left_out += sorted(set().union(*here) - set(names))
    order = np.argsort(times, kind="stable")
    found = {"lines": grids[0].lines, "times": times[order].tolist(), "grids": order.tolist(), "place": place}
    return {**found, "arrays": arrays, "left_out": left_out, "files": sorted(light.files)}


def values(path: str, grid: int, name: str, place: str, box: list[list[int]] | None) -> np.ndarray:
    """(component, x, y, z) of an attribute of one of the grids, or of its values in a box.

    Args:
        grid: its number in the file.
        box: first value and the one after the last along x, y, z; None for all.
    """
    light = _Light(Path(path))
    chosen = _Grid(light, list(light.grids())[grid])
    item = chosen.array(name, place)
    slices = [slice(0, n) for n in item.shape] if box is None else [slice(*ends) for ends in reversed(box)]
    found = item.read((*slices, slice(None))[: len(item.shape)])
    found = (found[..., None] if found.ndim == 3 else found).transpose(3, 2, 1, 0)
    return found[TENSOR6] if len(found) == 6 else found


@dataclass(frozen=True)
class _Attribute:
    name: str
    place: str
    count: int
    item: ElementTree.Element


class _Light:
    """The XML of a file and what its references mean."""

    def __init__(self, path: Path):
        self.path, self.root, self.files, self.items = path, _root(path), set(), 0

    def error(self, message: str, variable: str | None = None, **parts) -> FlowsrError:
        """An error in this file."""
        return FlowsrError(message, file=self.path, variable=variable, **parts)

    def grids(self) -> list[ElementTree.Element]:
        """The uniform (single) grids, one a time."""
        found = list(self._grids(self.root.find("Domain")))
        if not found:
            raise self.error("no grid in this file", expected="Xdmf/Domain/Grid")
        return found

    def _grids(self, parent) -> Iterator[ElementTree.Element]:
        children = [] if parent is None else [self.meant(e) for e in parent if e.tag == "Grid"]
        if len(children) > 1 and parent.tag == "Domain":
            raise self.error("several grids", expected="one, or one temporal collection", found=len(children))
        for grid in children:
            kind = grid.get("GridType", "Uniform").lower()
            if kind == "uniform":
                yield grid
            elif kind == "collection" and grid.get("CollectionType", "Spatial").lower() == "temporal":
                yield from self._grids(grid)
            else:
                raise self.error(
                    "not one box at several times",
                    grid.get("Name"),
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
                raise self.error("a reference to nothing", found=reference[:200])
        raise self.error("references that lead in circles", found=reference[:200])

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
            raise self.error("times and grids disagree", expected=f"{len(grids)} times", found=len(numbers))
        return numbers

    def array(self, element: ElementTree.Element, name: str) -> Item:
        """The array of a DataItem."""
        self.items += 1
        if self.items > MOST_ITEMS * (1 + len(self.root.findall(".//Grid"))):
            raise self.error("arrays made of too many others", name)
        element = self.meant(element)
        kind = element.get("ItemType", "Uniform").lower()
        if kind == "function" and JOIN.fullmatch((element.get("Function") or "").strip()):
            return self._joined([self.array(part, name) for part in element.findall("DataItem")], name)
        if kind == "hyperslab":
            return self._slab(element, name)
        if kind != "uniform":
            raise self.error(
                "not an array",
                name,
                expected="ItemType Uniform, HyperSlab or JOIN of some",
                found=f"{element.get('ItemType')} {element.get('Function', '')}".strip(),
            )
        shape = _whole_numbers(element.get("Dimensions"), self.path, name)
        form = element.get("Format", "XML").upper()
        if form == "HDF":
            return self._hdf(element, name, shape)
        if form != "XML":
            raise self.error("not an array", name, expected="Format HDF or XML", found=form)
        dtype = np.dtype(_dtype(element, self.path, name))
        return Item(shape, dtype, lambda part: self._inline(element, name, shape, dtype)[part])

    def _inline(self, element: ElementTree.Element, name: str, shape, dtype) -> np.ndarray:
        found = np.array((element.text or "").split(), dtype=dtype)
        if found.size != math.prod(shape):
            expected = f"{math.prod(shape)} numbers"
            raise self.error("size and shape disagree", name, expected=expected, found=found.size)
        return found.reshape(shape)

    def _joined(self, parts: list[Item], name: str) -> Item:
        shapes = {part.shape for part in parts}
        if len(shapes) != 1:
            raise self.error("arrays of different shapes", name, found=sorted(shapes))
        dtype = np.result_type(*(part.dtype for part in parts))
        return Item(
            (*parts[0].shape, len(parts)),
            dtype,
            lambda part: np.stack([p.read(part[:-1]) for p in parts[part[-1]]], -1),
        )

    def _hdf(self, element: ElementTree.Element, name: str, shape: tuple[int, ...]) -> Item:
        file, colon, inner = (element.text or "").strip().partition(":")
        path = (self.path.parent / file).resolve()
        if not colon or not path.is_relative_to(self.path.parent.resolve()):
            raise self.error(
                "a file outside its folder",
                name,
                expected="data.h5:/name beside the XDMF file",
                found=(element.text or "").strip()[:200],
            )
        if not path.is_file():
            raise FlowsrError(
                "no such file", file=path, variable=name, hint=f"{self.path.name} keeps its numbers there"
            )
        if not h5py.is_hdf5(path):
            raise FlowsrError("not an HDF5 file", file=path, variable=name, expected="HDF5, as the XDMF file says")
        self.files.add(str(path))
        with h5py.File(path, "r") as opened:
            found = _dataset(opened, inner, path)
            stored, dtype = found.shape or (), found.dtype
        # Axes of length 1 may be left out, or put in, on either side.
        kept, long = [n for n in stored if n != 1], [axis for axis, n in enumerate(shape) if n != 1]
        if kept != [shape[axis] for axis in long]:
            raise FlowsrError("XDMF and HDF5 disagree", file=path, variable=inner, expected=shape, found=stored)

        def read(part: Slices) -> np.ndarray:
            asked = iter([part[axis] for axis in long])
            with h5py.File(path, "r") as opened:
                values = _dataset(opened, inner, path)[tuple(0 if n == 1 else next(asked) for n in stored)]
            return np.reshape(values, [len(range(n)[s]) for n, s in zip(shape, part)])

        return Item(shape, dtype, read)

    def _slab(self, element: ElementTree.Element, name: str) -> Item:
        """One place along the first axes of an array: a snapshot out of many."""
        parts = element.findall("DataItem")
        source = self.array(parts[1], name) if len(parts) == 2 else None
        numbers = np.array((self.meant(parts[0]).text or "").split(), dtype=int) if source is not None else np.empty(0)
        if source is None or numbers.size != 3 * len(source.shape):
            raise self.error("not a hyperslab", name, expected="start, stride, count an axis")
        fixed: dict[int, int] = {}
        for axis, (start, stride, count, side) in enumerate(zip(*numbers.reshape(3, -1), source.shape)):
            if count == 1 and side > 1 and 0 <= start < side:
                fixed[axis] = int(start)
            elif (start, stride, count) != (0, 1, side):
                raise self.error(
                    "a part of an axis",
                    name,
                    expected="one place of it, or all of it",
                    found=f"start {start}, stride {stride}, count {count} of {side}",
                )
        axes = range(len(source.shape))

        def read(part: Slices) -> np.ndarray:
            asked = iter(part)
            whole = source.read(tuple(slice(fixed[a], fixed[a] + 1) if a in fixed else next(asked) for a in axes))
            return whole.squeeze(axis=tuple(fixed))

        return Item(tuple(n for axis, n in enumerate(source.shape) if axis not in fixed), source.dtype, read)


def _dataset(file: h5py.File, inner: str, path: Path) -> h5py.Dataset:
    """A dataset of an open file, by a path along which nothing leads out of the file."""
    node = file
    for part in inner.strip("/").split("/"):
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            raise FlowsrError("a link into another file", file=path, variable=inner, expected="data in this file")
        if link is None:
            found = ", ".join(node) if isinstance(node, h5py.Group) else "an array"
            raise FlowsrError("no such array", file=path, variable=inner, found=found or "nothing")
        node = node[part]
    if not isinstance(node, h5py.Dataset) or Path(node.file.filename).resolve() != path:
        raise FlowsrError("no such array", file=path, variable=inner, found="a group, or an array of another file")
    if node.external or node.is_virtual:
        raise FlowsrError("its numbers are in another file", file=path, variable=inner, expected="data in this file")
    return node


class _Grid:
    """A grid at one time: its nodes and its attributes."""

    def __init__(self, light: _Light, element: ElementTree.Element):
        self.light, self.path, self.element = light, light.path, element
        topology, geometry = (self._child(tag) for tag in ("Topology", "Geometry"))
        kind = (topology.get("TopologyType") or topology.get("Type") or "").lower()
        if kind not in UNIFORM + RECTILINEAR:
            raise self.light.error(
                "not a grid of three axes",
                expected="3DCoRectMesh or 3DRectMesh",
                found=kind or "no TopologyType",
                hint="resample it to image data in ParaView",
            )
        text = topology.get("Dimensions") or topology.get("NumberOfElements")
        self.nodes = _whole_numbers(text, self.path, "Topology")[::-1]
        if len(self.nodes) != 3 or min(self.nodes) < 2:
            raise self.light.error("not a grid of three axes", "Topology", found=text)
        self.lines = self._lines(geometry)
        found = {str(e.get("Name")): self._attribute(e) for e in element if e.tag == "Attribute"}
        self.attributes = [a for a in found.values() if a is not None]
        self.others = [name for name, a in found.items() if a is None]

    def _child(self, tag: str) -> ElementTree.Element:
        element = self.element.find(tag)
        if element is None:
            raise self.light.error("an incomplete grid", self.element.get("Name"), expected=tag)
        return self.light.meant(element)

    def _lines(self, geometry: ElementTree.Element) -> list[np.ndarray]:
        kind = (geometry.get("GeometryType") or geometry.get("Type") or "").upper()
        items = geometry.findall("DataItem")
        wanted = {"ORIGIN_DXDYDZ": [3, 3], "VXVYVZ": list(self.nodes)}.get(kind)
        if wanted is None or len(items) != len(wanted):
            raise self.light.error(
                "not a grid of three axes",
                "Geometry",
                expected="ORIGIN_DXDYDZ or VXVYVZ",
                found=f"{kind}, {len(items)} arrays",
            )
        values = []
        for item, length in zip(items, wanted):
            array = self.light.array(item, "Geometry")
            if math.prod(array.shape) != length or length > LONGEST_COORDINATE:
                raise self.light.error("coordinates and grid disagree", "Geometry", expected=length, found=array.shape)
            values.append(np.ravel(array.read((slice(None),) * len(array.shape))).astype(float))
        if kind == "VXVYVZ":
            return values
        low, step = values[0][::-1], values[1][::-1]
        return [o + d * np.arange(n) for o, d, n in zip(low, step, self.nodes)]

    def _attribute(self, element: ElementTree.Element) -> _Attribute | None:
        """What an attribute is; None where it is no field."""
        element = self.light.meant(element)
        place = {"cell": CELLS, "node": NODES}.get(element.get("Center", "Node").lower())
        count = COUNTS.get((element.get("AttributeType") or element.get("Type") or "Scalar").lower())
        item = element.find("DataItem")
        known = place is not None and count is not None and item is not None
        return _Attribute(str(element.get("Name")), place, count, item) if known else None

    def array(self, name: str, place: str) -> Item:
        """(z, y, x), or (z, y, x, component), of an attribute."""
        attribute = next(a for a in self.attributes if a.name == name and a.place == place)
        array = self.light.array(attribute.item, name)
        sides = tuple(n - (place == CELLS) for n in self.nodes)[::-1]
        if array.shape != (*sides, *([attribute.count] if len(array.shape) == 4 or attribute.count > 1 else [])):
            raise self.light.error(
                "shape and grid disagree",
                name,
                expected=f"{sides} (z, y, x) and {attribute.count} components",
                found=array.shape,
            )
        return array


def _root(path: Path) -> ElementTree.Element:
    """The XML of a file; entities, which can blow up to any size or name other files, are refused."""
    size = path.stat().st_size
    if size > LARGEST_XML:
        raise FlowsrError("XML too large", file=path, expected=f"{LARGEST_XML} bytes or less", found=size)
    content = path.read_bytes()
    found = re.search(rb"<!ENTITY|<(?:\w+:)?include\b", content, re.IGNORECASE)
    if found:
        raise FlowsrError(
            "XML that includes other text", file=path, expected="no entities, no xi:include", found=found[0]
        )
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise FlowsrError("damaged or not readable", file=path, found=f"XML: {error}") from None


def _place(grid: _Grid, group: str | None, path: Path) -> str:
    places = {a.place for a in grid.attributes}
    if not places:
        raise FlowsrError("no field in this file", file=path, expected="an Attribute")
    place = group or (CELLS if CELLS in places else NODES)
    if place not in places:
        raise FlowsrError("no such group", file=path, variable=group, expected=" or ".join(sorted(places)))
    return place


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
