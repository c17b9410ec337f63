"""What an XDMF file says, by the XML parser and h5py: its grids and their attributes. Run in the quarantine.

XDMF counts (z, y, x), also in the origin and spacing of a uniform grid, and puts values at nodes unless it has
``Center="Cell"``. Its numbers are in the XML or in HDF5 files beside it. Facts: XDMF model and format, www.xdmf.org.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np

from flowsr.errors import missing_file, require, unreadable
from flowsr.quarantine import CELLS, MASKS, NODES, place_of, without_value
from flowsr.quarantine.hdf5 import dataset_at

# Elements that refer to one another, at most, on the way to an array.
MOST_ITEMS = 256
MOST_REFERENCES = 32
REFERENCE = re.compile(r"(/[\w:]+(\[\d+\]|\[@\w+=('[^']*'|\"[^\"]*\")\])?)+")
TOPOLOGIES = ("3dcorectmesh", "corectmesh", "3drectmesh", "rectmesh")
COUNTS = {"scalar": 1, "vector": 3, "tensor6": 6, "tensor": 9}
# XDMF has xx xy xz yy yz zz where VTK, and what follows here, has xx yy zz xy yz xz.
TENSOR6 = [0, 3, 5, 1, 4, 2]
DTYPES = {(kind, n): f"{kind[0]}{n}" for kind in ("float", "int", "uint") for n in (4, 8)}
DTYPES |= {("char", 1): "i1", ("uchar", 1): "u1"}
#: Attributes of HDF5 arrays that say something of their numbers.
SAID = ("units", "_FillValue", "missing_value", "valid_min", "valid_max", "valid_range", "scale_factor", "add_offset")
JOIN = re.compile(r"join\s*\(\s*\$\d+\s*(?:[,;]\s*\$\d+\s*)*\)", re.IGNORECASE)

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Item:
    """An array that an XDMF file describes: ``read`` gives the part that one slice an axis asks for.

    Args:
        said: what the HDF5 array that holds it says of its numbers, in attributes: units, fill, scale ...
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[Slices], np.ndarray]
    said: dict[str, str | np.ndarray] = field(default_factory=dict)


def describe(path: str, place: str | None) -> dict:
    """The grid of a file, its times, and the attributes that are there at all of them.

    Args:
        place: ``cells`` or ``nodes``; default: cells, where there are attributes.

    Returns:
        ``lines``: (n + 1,) coordinates of the nodes along x, y, z; ``times``, and ``grids``, the number in the file of
        each time's grid; ``place``; ``arrays``: name to ``count`` of components, ``dtype`` and, for each time, what is
        ``said`` of its numbers; ``left_out``; ``files``: the HDF5 files that the numbers are in.
    """
    light = _Light(Path(path))
    grids = [_Grid(light, element) for element in light.grids()]
    place = place_of({here for here, _, _ in grids[0].attributes.values()}, place, light.path)
    times = light.times(grids)
    here = [{name for name, attribute in grid.attributes.items() if attribute[0] == place} for grid in grids]
    names = sorted(set.intersection(*here) - set(MASKS))
    order, arrays = np.argsort(times, kind="stable"), {}
    for name in names:
        items = [grid.array(name) for grid in grids]
        dtypes = [item.dtype for item in items]
        dtype = np.result_type(*dtypes) if dtypes[0].kind in "fiub" else dtypes[0]
        said = [items[number].said for number in order]
        arrays[name] = {"count": grids[0].attributes[name][1], "dtype": dtype.str, "said": said}
    one = all(all(map(np.array_equal, grids[0].lines, grid.lines)) for grid in grids)
    light.require(one, "the grid changes in time", expected="one grid")
    left_out = sorted({f"{n} (at {a[0]})" for g in grids for n, a in g.attributes.items() if a[0] != place})
    left_out += sorted({name for g in grids for name in g.others}) + sorted(set().union(*here) - {*names, *MASKS})
    found = {"lines": grids[0].lines, "times": times[order].tolist(), "grids": order.tolist(), "place": place}
    return {**found, "arrays": arrays, "left_out": left_out, "files": sorted(light.files)}


def values(path: str, grid: int, name: str, box: list[list[int]] | None) -> np.ndarray:
    """(component, x, y, z) of an attribute of one of the grids, or of its values in a box; NaN where there is none.

    Args:
        grid: its number in the file.
        box: first value and the one after the last along x, y, z; None for all.
    """
    light = _Light(Path(path))
    whole = _Grid(light, light.grids()[grid])
    place = whole.attributes[name][0]

    def read(name: str) -> np.ndarray:
        item = whole.array(name)
        slices = [slice(0, n) for n in item.shape] if box is None else [slice(*ends) for ends in reversed(box)]
        return item.read((*slices, slice(None))[: len(item.shape)])

    found = read(name)
    masks = [m for m in MASKS if found.dtype.kind == "f" and whole.attributes.get(m, (None,))[0] == place]
    flags = {mask: read(mask) for mask in masks}
    found = without_value(found, {m: f if f.ndim == found.ndim else f[..., None] for m, f in flags.items()}, place)
    found = (found[..., None] if found.ndim == 3 else found).transpose(3, 2, 1, 0)
    return found[TENSOR6] if len(found) == 6 else found


class _Light:
    """The XML of a file and what its references mean."""

    def __init__(self, path: Path):
        content = path.read_bytes()
        found = re.search(rb"<!ENTITY|<(?:\w+:)?include\b", content, re.IGNORECASE)
        expected = "no entities, no xi:include"  # which can name other files, or blow up to any size
        require(not found, "XML that includes other text", file=path, expected=expected, found=found and found[0])
        try:
            self.root = ElementTree.fromstring(content)
        except (ElementTree.ParseError, LookupError, ValueError) as error:
            raise unreadable(f"XML: {error}", path) from None
        self.path, self.files = path, set()
        self.left = MOST_ITEMS * (1 + len(self.root.findall(".//Grid")))

    def require(self, holds: object, message: str, variable: str | None = None, **parts) -> None:
        """Refuse this file unless something ``holds``."""
        require(holds, message, file=self.path, variable=variable, **parts)

    def grids(self) -> list[ElementTree.Element]:
        """The uniform (single) grids, one a time."""
        grids = list(self._grids(self.root.find("Domain")))
        self.require(grids, "no grid in this file", expected="Xdmf/Domain/Grid")
        return grids

    def _grids(self, parent: ElementTree.Element | None) -> Iterator[ElementTree.Element]:
        children = [] if parent is None else [self.meant(e) for e in parent if e.tag == "Grid"]
        single, expected = len(children) < 2 or parent.tag != "Domain", "one, or one temporal collection"
        self.require(single, "several grids", expected=expected, found=len(children))
        for grid in children:
            kind = grid.get("GridType", "Uniform").lower()
            if kind == "uniform":
                yield grid
                continue
            temporal = kind == "collection" and grid.get("CollectionType", "").lower() == "temporal"
            found, expected = f"{kind} {grid.get('CollectionType', '')}", "a uniform grid or a temporal collection"
            message = "not one box at several times"
            self.require(temporal, message, grid.get("Name"), expected=expected, found=found)
            yield from self._grids(grid)

    def meant(self, element: ElementTree.Element, left: int = MOST_REFERENCES) -> ElementTree.Element:
        """An element, or the one that it refers to."""
        reference = element.get("Reference")
        reference = (element.text or "").strip() if reference == "XML" else reference
        if not reference:
            return element
        # Names from the root down, each with a number or an attribute at most; wildcards could take for ever.
        plain = REFERENCE.fullmatch(reference)
        try:
            found = self.root.find(reference.removeprefix("/Xdmf/")) if plain else None
        except (SyntaxError, KeyError):
            found = None
        self.require(found is not None, "a reference to nothing", found=reference[:200])
        self.require(left > 0, "references that lead to each other", found=reference[:200])
        return self.meant(found, left - 1)

    def times(self, grids: list[_Grid]) -> np.ndarray:
        """Times of the grids: of their own, or of the collection."""
        single = [g.element.find("Time") for g in grids]
        if all(time is not None and time.get("Value") is not None for time in single):
            return np.array([float(time.get("Value")) for time in single])
        collections = [e for e in self.root.iter("Grid") if e.get("GridType", "").lower() == "collection"]
        time = collections[0].find("Time") if collections else None
        if time is None:
            return np.arange(float(len(grids)))
        numbers = np.array((time.get("Value") or time.findtext("DataItem") or "").split(), dtype=float)
        if time.get("TimeType", "Single").lower() == "hyperslab" and len(numbers) == 3:
            numbers = numbers[0] + numbers[1] * np.arange(int(min(numbers[2], len(grids))))
        agree, expected = len(numbers) == len(grids), f"{len(grids)} times"
        self.require(agree, "times and grids disagree", expected=expected, found=len(numbers))
        return numbers

    def array(self, element: ElementTree.Element, name: str) -> Item:
        """The array of a DataItem."""
        self.left -= 1
        self.require(self.left >= 0, "arrays made of too many others", name)
        element = self.meant(element)
        kind, function = element.get("ItemType", "Uniform").lower(), (element.get("Function") or "").strip()
        if kind == "function" and JOIN.fullmatch(function):
            parts = [self.array(part, name) for part in element.findall("DataItem")]
            shapes, dtype = {part.shape for part in parts}, np.result_type(*(part.dtype for part in parts))
            self.require(len(shapes) == 1, "arrays of different shapes", name, found=sorted(shapes))
            alike = all(str(part.said) == str(parts[0].said) for part in parts)
            self.require(alike, "parts of which the file says different things", name, found=parts[0].said)
            shape, said = (*parts[0].shape, len(parts)), parts[0].said
            return Item(shape, dtype, lambda at: np.stack([part.read(at[:-1]) for part in parts[at[-1]]], -1), said)
        if kind == "hyperslab":
            return self._slab(element, name)
        expected = "ItemType Uniform, HyperSlab or JOIN of some"
        self.require(kind == "uniform", "not an array", name, expected=expected, found=f"{kind} {function}".strip())
        shape, form = self.dimensions(element.get("Dimensions"), name), element.get("Format", "XML").upper()
        if form == "HDF":
            return self._hdf(element, name, shape)
        self.require(form == "XML", "not an array", name, expected="Format HDF or XML", found=form)
        key = ((element.get("NumberType") or element.get("DataType") or "Float").lower(), element.get("Precision", 4))
        dtype = DTYPES.get((key[0], int(key[1])))
        self.require(dtype, "not numbers", name, expected=", ".join(f"{k} {n}" for k, n in DTYPES), found=key)

        def read(part: Slices) -> np.ndarray:
            found, size = np.array((element.text or "").split(), dtype=dtype), math.prod(shape)
            message = "size and shape disagree"
            self.require(found.size == size, message, name, expected=f"{size} numbers", found=found.size)
            return found.reshape(shape)[part]

        return Item(shape, np.dtype(dtype), read)

    def dimensions(self, text: str | None, name: str) -> tuple[int, ...]:
        """Lengths of axes as a file gives them."""
        words = (text or "").split()
        numbers = words and all(word.isdecimal() and len(word) < 16 for word in words)
        self.require(numbers, "not dimensions", name, expected="whole numbers", found=repr(text)[:200])
        return tuple(map(int, words))

    def _hdf(self, element: ElementTree.Element, name: str, shape: tuple[int, ...]) -> Item:
        text = (element.text or "").strip()
        file, colon, inner = text.partition(":")
        path = (self.path.parent / file).resolve()
        beside, expected = path.is_relative_to(self.path.parent.resolve()), "data.h5:/name beside the XDMF file"
        self.require(colon and beside, "a file outside its folder", name, expected=expected, found=text[:200])
        if not path.is_file():
            raise missing_file(path, variable=name, hint=f"{self.path.name} keeps its numbers there")
        good, expected = h5py.is_hdf5(path), "HDF5, as the XDMF file says"
        require(good, "not an HDF5 file", file=path, variable=name, expected=expected)
        self.files.add(str(path))
        with h5py.File(path, "r") as opened:
            found = dataset_at(opened, inner, path)
            stored, dtype, said = found.shape or (), found.dtype, _said(found)
        # Axes of length 1 may be left out, or put in, on either side.
        kept, long = [n for n in stored if n != 1], [axis for axis, n in enumerate(shape) if n != 1]
        agree = kept == [shape[axis] for axis in long]
        require(agree, "XDMF and HDF5 disagree", file=path, variable=inner, expected=shape, found=stored)

        def read(part: Slices) -> np.ndarray:
            asked = iter([part[axis] for axis in long])
            with h5py.File(path, "r") as opened:
                values = dataset_at(opened, inner, path)[tuple(0 if n == 1 else next(asked) for n in stored)]
            return np.reshape(values, [len(range(n)[s]) for n, s in zip(shape, part)])

        return Item(shape, dtype, read, said)

    def _slab(self, element: ElementTree.Element, name: str) -> Item:
        """One place along the first axes of an array: a snapshot out of many."""
        parts = element.findall("DataItem")
        self.require(len(parts) == 2, "not a hyperslab", name, expected="start, stride, count an axis, and an array")
        source, numbers = self.array(parts[1], name), np.array((self.meant(parts[0]).text or "").split(), dtype=int)
        axes = range(len(source.shape))
        self.require(numbers.size == 3 * len(axes), "not a hyperslab", name, expected="start, stride, count an axis")
        fixed: dict[int, int] = {}
        for axis, (start, stride, count, side) in enumerate(zip(*numbers.reshape(3, -1), source.shape)):
            if count == 1 and side > 1 and 0 <= start < side:
                fixed[axis] = int(start)
                continue
            whole, found = (
                (start, stride, count) == (0, 1, side),
                f"start {start}, stride {stride}, count {count} of {side}",
            )
            self.require(whole, "a part of an axis", name, expected="one place of it, or all of it", found=found)

        def read(part: Slices) -> np.ndarray:
            asked = iter(part)
            whole = source.read(tuple(slice(fixed[a], fixed[a] + 1) if a in fixed else next(asked) for a in axes))
            return whole.squeeze(axis=tuple(fixed))

        shape = tuple(n for axis, n in enumerate(source.shape) if axis not in fixed)
        return Item(shape, source.dtype, read, source.said)


def _said(array: h5py.Dataset) -> dict[str, str | np.ndarray]:
    """What an array's attributes say of its numbers, texts and numbers in the types that they have there."""
    found = {}
    for name in SAID:
        value = array.attrs.get(name)
        value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        if isinstance(value, str) or np.asarray(value).dtype.kind in "fiu":
            found[name] = value if isinstance(value, str) else np.ravel(value)
    return found


class _Grid:
    """A grid at one time: its nodes and its attributes."""

    def __init__(self, light: _Light, element: ElementTree.Element):
        self.light, self.element = light, element
        topology, geometry = (self._child(tag) for tag in ("Topology", "Geometry"))
        kind = (topology.get("TopologyType") or topology.get("Type") or "no TopologyType").lower()
        expected, hint = "3DCoRectMesh or 3DRectMesh", "resample it to image data in ParaView"
        message = "not a grid of three axes"
        light.require(kind in TOPOLOGIES, message, expected=expected, found=kind, hint=hint)
        text = topology.get("Dimensions") or topology.get("NumberOfElements")
        self.nodes = light.dimensions(text, "Topology")[::-1]
        light.require(len(self.nodes) == 3 and min(self.nodes) > 1, message, "Topology", found=text)
        self.lines = self._lines(geometry)
        # Place, count of components and DataItem of each attribute by name; a name without them is no field.
        self.attributes: dict[str, tuple[str, int, ElementTree.Element]] = {}
        self.others = []
        for name, attribute in {str(e.get("Name")): light.meant(e) for e in element.findall("Attribute")}.items():
            place = {"cell": CELLS, "node": NODES}.get(attribute.get("Center", "Node").lower())
            count = COUNTS.get((attribute.get("AttributeType") or attribute.get("Type") or "Scalar").lower())
            item = attribute.find("DataItem")
            if place is None or count is None or item is None:
                self.others.append(name)
            else:
                self.attributes[name] = place, count, item

    def _child(self, tag: str) -> ElementTree.Element:
        element = self.element.find(tag)
        self.light.require(element is not None, "an incomplete grid", self.element.get("Name"), expected=tag)
        return self.light.meant(element)

    def _lines(self, geometry: ElementTree.Element) -> list[np.ndarray]:
        kind = (geometry.get("GeometryType") or geometry.get("Type") or "").upper()
        items = [self.light.array(item, "Geometry") for item in geometry.findall("DataItem")]
        wanted = {"ORIGIN_DXDYDZ": [3, 3], "VXVYVZ": list(self.nodes)}.get(kind)
        expected, found = "ORIGIN_DXDYDZ or VXVYVZ", f"{kind}, {len(items)} arrays"
        known = wanted is not None and len(items) == len(wanted)
        self.light.require(known, "not a grid of three axes", "Geometry", expected=expected, found=found)
        sizes = [math.prod(item.shape) for item in items]
        self.light.require(sizes == wanted, "coordinates and grid disagree", "Geometry", expected=wanted, found=sizes)
        values = [np.ravel(item.read((slice(None),) * len(item.shape))).astype(float) for item in items]
        if kind == "VXVYVZ":
            return values
        return [o + d * np.arange(n) for o, d, n in zip(values[0][::-1], values[1][::-1], self.nodes)]

    def array(self, name: str) -> Item:
        """(z, y, x), or (z, y, x, component), of an attribute."""
        place, count, item = self.attributes[name]
        array = self.light.array(item, name)
        sides = tuple(n - (place == CELLS) for n in self.nodes)[::-1]
        agree = array.shape == (*sides, *([count] if len(array.shape) == 4 or count > 1 else []))
        expected = f"{sides} (z, y, x) and {count} components"
        self.light.require(agree, "shape and grid disagree", name, expected=expected, found=array.shape)
        return array
