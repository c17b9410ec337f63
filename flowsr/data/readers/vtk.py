"""VTK's structured grids: XML image data, rectilinear and (where rectilinear) structured grids, and their legacy files.

A file is one snapshot. XML files are read box by box, so a part of a field costs that part; legacy files are read whole
whenever something of them is used, and the last one is kept. Values at cells are taken as they are; values at nodes are
those of cells around the nodes, which the attribute ``values_at`` says. Files written by :func:`flowsr.data.convert` also
hold the attributes and coordinates that VTK has no place for, and come back exactly.
"""

from __future__ import annotations

import json
import mmap
import re
from base64 import b64decode
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
import xarray as xr

from flowsr.data.field import SPACE
from flowsr.data.readers.base import READERS, Reader, Request
from flowsr.data.readers.lazy import LazyArray
from flowsr.data.readers.structured import CELLS, NODES, STATED, Structured, centers_of, structured_dataset
from flowsr.data.readers.vtk_library import dtype_of, listening, numbers, vtk_module
from flowsr.errors import FlowsrError

#: Name of the text in which :class:`flowsr.data.convert.VtkTarget` keeps what VTK has no place for.
OWN_WORDS = "flowsr"
PIECE = re.compile(rb"<Piece[^>]*?\bExtent\s*=\s*[\"']([-\d\s]+)[\"'].*?(<(Coordinates|Points)\b.*?</\3>)", re.DOTALL)
TIME_NAMES = ("TimeValue", "TIME", "time")
HEAD = 4096
XML, LEGACY = "vtkIOXML", "vtkIOLegacy"
#: Kind of grid, as a file names it, to VTK's module and reader.
KINDS = {
    "ImageData": (XML, "vtkXMLImageDataReader"),
    "RectilinearGrid": (XML, "vtkXMLRectilinearGridReader"),
    "StructuredGrid": (XML, "vtkXMLStructuredGridReader"),
    "STRUCTURED_POINTS": (LEGACY, "vtkStructuredPointsReader"),
    "RECTILINEAR_GRID": (LEGACY, "vtkRectilinearGridReader"),
    "STRUCTURED_GRID": (LEGACY, "vtkStructuredGridReader"),
}
# VTK's compressors make at most this many bytes of one (zlib 1032).
GREATEST_RATIO = 1100
# Elements inside one another; VTK's own files have six.
DEEPEST = 64
# Points of a grid are those of a box when they are off by less than this share of its sides; float32 keeps 1e-7.
BOX_TOLERANCE = 1e-5
IGNORED = ("vtkGhostType", "vtkOriginalCellIds", "vtkOriginalPointIds")


@READERS.register("vtk")
class VtkReader(Reader):
    """One snapshot on a structured grid in a .vti, .vtr, .vts or legacy .vtk file."""

    signs = "a VTK file (.vti, .vtr, .vts, or legacy .vtk)"
    takes = STATED

    def recognizes(self, path: Path) -> bool:
        return path.is_file() and kind_of(path) is not None

    def open(self, path: Path, request: Request) -> xr.Dataset:
        kind = kind_of(path)
        if kind not in KINDS:
            raise FlowsrError(
                "not a grid of three axes",
                file=path,
                expected=" or ".join(KINDS),
                found=kind or "no VTK file",
                hint="resample it to image data in ParaView",
            )
        if kind in XML_KINDS:
            _check_elements(path)
            _check_claims(path)
            _check_coordinates(path)
        header = _header(path, kind)
        place = _place(header, request.group, path)
        structured = _structured(path, kind, header, place)
        words = header.words if request.layout is None else {k: v for k, v in header.words.items() if k == "attrs"}
        return _own_words(structured_dataset(structured, request.layout), words, path)


XML_KINDS = tuple(kind for kind, (module, _) in KINDS.items() if module == XML)


def kind_of(path: Path) -> str | None:
    """The kind of grid that a VTK file says it holds, ``unknown`` where it does not say; None for another file."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"# vtk DataFile"):
        found = re.search(rb"^\s*DATASET\s+(\w+)", head, re.MULTILINE | re.IGNORECASE)
        return found[1].decode().upper() if found else "unknown"
    if b"<VTKFile" in head:
        found = re.search(rb'<VTKFile[^>]*?\btype\s*=\s*["\'](\w+)["\']', head)
        return found[1].decode() if found else "unknown"
    return None


def _check_elements(path: Path) -> None:
    """Refuse an XML file whose elements nest so deep that VTK, which calls itself for each, would run out of stack, or
    whose origin or spacing is no number, for which VTK takes its own.
    """
    parser, depth = expat.ParserCreate(), 0

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            expected = f"{DEEPEST} elements or less in each other"
            raise FlowsrError("XML nested too deep", file=path, expected=expected, found=name[:40])
        if name == "AppendedData":
            raise StopIteration
        for key in ("Origin", "Spacing") if name == "ImageData" else ():
            if key in attributes and not _three_numbers(attributes[key]):
                raise FlowsrError("not three numbers", file=path, variable=key, found=repr(attributes[key])[:80])

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    parser.StartElementHandler, parser.EndElementHandler = begin, end
    with open(path, "rb") as file:
        try:
            parser.ParseFile(file)
        except StopIteration:
            return
        except expat.ExpatError as error:
            raise FlowsrError("damaged or not readable", file=path, found=f"XML: {error}") from None


def _three_numbers(text: str) -> bool:
    try:
        values = np.array(text.split(), dtype=float)
    except ValueError:
        return False
    return values.size == 3 and bool(np.isfinite(values).all())


def _check_claims(path: Path) -> None:
    """Refuse an XML file that is cut short, or whose arrays are said to hold more than a file of its size can.

    VTK takes what it lacks from memory that nobody has written, and asks the system for whatever a file claims.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, size - HEAD))
        if b"</VTKFile>" not in file.read():
            raise FlowsrError("cut short", file=path, expected="</VTKFile> at its end", found=f"an end at byte {size}")
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content.find(b"<AppendedData")
        for said in re.compile(rb'NumberOf(?:Tuples|Components)\s*=\s*["\']\s*(\d+)').finditer(
            content, 0, end if end >= 0 else len(content)
        ):
            if int(said[1]) > GREATEST_RATIO * size:
                raise FlowsrError("claims more numbers than it can hold", file=path, found=said[1].decode()[:40])


def _check_coordinates(path: Path) -> None:
    """Refuse coordinates or points that are not as many as the grid's nodes: VTK fills up with whatever is in memory."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content.find(b"<AppendedData")
        end = end if end >= 0 else len(content)
        for piece in PIECE.finditer(content, 0, end):
            extent = [int(word) for word in piece[1].split()]
            nodes = _sides(extent, NODES)
            items = ElementTree.fromstring(piece[2]).findall("DataArray")
            wanted = [3 * int(np.prod(nodes, dtype=object))] if piece[2].startswith(b"<Points") else list(nodes)
            found = [_count(item, content, end) for item in items]
            if found != wanted:
                raise FlowsrError(
                    "coordinates and grid disagree",
                    file=path,
                    variable="Coordinates",
                    expected=f"{wanted} numbers for the extent {extent}",
                    found=found,
                )


def _count(item: ElementTree.Element, content: mmap.mmap, end: int) -> int:
    """How many numbers an XML array has, by its text or by the length that stands before its bytes."""
    head = content[: min(end, HEAD)]
    word = np.dtype("u8" if b'header_type="UInt64"' in head else "u4")
    word = word.newbyteorder(">" if b'"BigEndian"' in head else "<")
    if item.get("format") == "ascii":
        return len((item.text or "").split())
    encoded = True
    if item.get("format") == "appended":
        start = content.find(b"_", end) + 1 + int(item.get("offset"))
        encoded = b'encoding="raw"' not in content[end : end + HEAD].split(b">", 1)[0]
        first = content[start : start + 4 * word.itemsize]
    else:
        first = (item.text or "").strip()[:44].encode()
    words = np.frombuffer(
        b64decode(first[: len(first) // 4 * 4])[: 3 * word.itemsize] if encoded else first[: 3 * word.itemsize], word
    )
    blocks, size, last = (int(n) for n in (*words, 0, 0)[:3])
    length = ((blocks - 1) * size + (last or size) if blocks else 0) if b"compressor=" in head else blocks
    return 8 * length // int(re.sub(r"\D", "", item.get("type", "")) or 8)


@dataclass(frozen=True)
class _Stored:
    """An array of a file: its values are at cells or at nodes."""

    name: str
    place: str
    count: int
    dtype: np.dtype


@dataclass(frozen=True)
class _Header:
    """All of a file but its fields.

    Args:
        extent: first and last node along x, y, z.
        lines: (n + 1,) coordinates of the nodes along each axis.
        arrays: of those that hold numbers.
        time: of the snapshot; 0 where the file does not say.
        words: what flowsr wrote for itself, or an empty mapping.
    """

    extent: tuple[int, ...]
    lines: tuple[np.ndarray, ...]
    arrays: tuple[_Stored, ...]
    time: float
    words: dict


def _header(path: Path, kind: str) -> _Header:
    if kind not in XML_KINDS:
        whole = _whole(str(path), kind, *_state(path))
        extent = _checked_extent(whole.GetExtent(), (), path)
        return _Header(extent, _lines(whole, path), tuple(_arrays_of(whole)), *_said(whole, path))
    with listening(path):
        reader = _reader(path, kind)
        reader.UpdateInformation()
    information = reader.GetOutputInformation(0)
    arrays = tuple(_arrays_in(information))
    extent = _checked_extent(information.Get(reader.GetExecutive().WHOLE_EXTENT()) or (), arrays, path)
    _select(reader, None)
    with listening(path):
        reader.UpdateExtent(list(extent) if kind != "ImageData" else [e for low in extent[::2] for e in (low, low + 1)])
        output = reader.GetOutput()
        if kind == "ImageData":
            lines = _image_lines(information, output, extent, path)
        else:
            lines = _lines(output, path)
        return _Header(extent, lines, arrays, *_said(output, path))


def _reader(path: Path, kind: str):
    module, name = KINDS[kind]
    reader = getattr(vtk_module(module, path), name)()
    reader.SetFileName(str(path))
    return reader


def _state(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@lru_cache(maxsize=1)
def _whole(path: str, kind: str, size: int, modified: int):
    """A legacy file, all of it."""
    found = _read_legacy(Path(path), kind)
    with open(path, "rb") as file:
        if b"ASCII" in file.read(HEAD).upper():
            _check_all_there(Path(path), kind, found)
    return found


def _read_legacy(path: Path, kind: str, content: bytes | None = None, heard: bool = True):
    """What VTK makes of a legacy file, or of ``content`` in its place; its complaints count where they are ``heard``."""
    with listening(path, heard=heard):
        reader = _reader(path, kind)
        if content is not None:
            reader.ReadFromInputStringOn()
            reader.SetBinaryInputString(content, len(content))
        for name in ("Scalars", "Vectors", "Normals", "Tensors", "ColorScalars", "TCoords", "Fields"):
            getattr(reader, f"ReadAll{name}On")()
        reader.Update()
        return reader.GetOutput()


def _check_all_there(path: Path, kind: str, found) -> None:
    """Refuse a file of text that ends before its numbers do.

    VTK says nothing then and leaves memory that nobody has written in the place of the missing numbers. So the file is
    read again with sevens and with threes after its end: a file that lacks no numbers never gets to them.
    """
    count = sum(a.count for a in _arrays_of(found)) * max(found.GetNumberOfCells(), found.GetNumberOfPoints())
    content = path.read_bytes()
    padded = [_read_legacy(path, kind, content + tail * (count + HEAD), heard=False) for tail in (b" 7", b" 3")]
    for array in _arrays_of(found):
        one, other = (numbers(_data_of(read, array.place).GetArray(array.name)) for read in padded)
        if not np.array_equal(one, other, equal_nan=array.dtype.kind == "f"):
            raise FlowsrError(
                "cut short",
                file=path,
                variable=array.name,
                expected=f"{one.size} numbers",
                found="an end before the last",
            )


def _data_of(output, place: str):
    return output.GetCellData() if place == CELLS else output.GetPointData()


def _select(reader, wanted: _Stored | None) -> None:
    for place, selection in ((CELLS, reader.GetCellDataArraySelection()), (NODES, reader.GetPointDataArraySelection())):
        selection.DisableAllArrays()
        if wanted is not None and wanted.place == place:
            selection.EnableArray(wanted.name)


def _arrays_in(information):
    """Arrays of an XML file, which its header describes."""
    objects = vtk_module("vtkCommonDataModel", None).vtkDataObject
    for place, key in ((CELLS, objects.CELL_DATA_VECTOR()), (NODES, objects.POINT_DATA_VECTOR())):
        vector = information.Get(key) if information.Has(key) else None
        for number in range(vector.GetNumberOfInformationObjects() if vector is not None else 0):
            item = vector.GetInformationObject(number)
            name, dtype = item.Get(objects.FIELD_NAME()), dtype_of(item.Get(objects.FIELD_ARRAY_TYPE()))
            if name and dtype is not None and name not in IGNORED:
                yield _Stored(name, place, item.Get(objects.FIELD_NUMBER_OF_COMPONENTS()) or 1, dtype)


def _arrays_of(output):
    """Arrays of what was read of a legacy file."""
    for place in (CELLS, NODES):
        data = _data_of(output, place)
        for number in range(data.GetNumberOfArrays()):
            array = data.GetArray(number)
            if array is None or not array.GetName() or array.GetName() in IGNORED:
                continue
            dtype = dtype_of(array.GetDataType())
            if dtype is not None:
                yield _Stored(array.GetName(), place, array.GetNumberOfComponents(), dtype)


def _checked_extent(extent, arrays, path: Path) -> tuple[int, ...]:
    if len(extent) != 6 or any(high <= low for low, high in zip(extent[::2], extent[1::2])):
        raise FlowsrError(
            "not a grid of three axes",
            file=path,
            variable="WholeExtent",
            expected="two nodes or more a side",
            found=tuple(extent) or "none",
        )
    for array in arrays:
        size = array.count * array.dtype.itemsize * int(np.prod(_sides(extent, array.place), dtype=object))
        if size > GREATEST_RATIO * path.stat().st_size:
            raise FlowsrError(
                "claims more numbers than it can hold",
                file=path,
                variable=array.name,
                expected=f"at most {GREATEST_RATIO} times {path.stat().st_size} bytes",
                found=f"{size} bytes",
            )
    return tuple(int(e) for e in extent)


def _sides(extent, place: str) -> tuple[int, ...]:
    return tuple(high - low + (place == NODES) for low, high in zip(extent[::2], extent[1::2]))


def _image_lines(information, output, extent, path: Path) -> tuple[np.ndarray, ...]:
    direction = information.Get(vtk_module("vtkCommonDataModel", path).vtkDataObject.DIRECTION())
    if direction is not None and not np.array_equal(np.reshape(direction, (3, 3)), np.eye(3)):
        raise FlowsrError(
            "a turned grid", file=path, variable="Direction", expected="x, y, z along the axes", found=direction
        )
    return tuple(
        low + step * np.arange(first, last + 1)
        for low, step, first, last in zip(output.GetOrigin(), output.GetSpacing(), extent[::2], extent[1::2])
    )


def _lines(output, path: Path) -> tuple[np.ndarray, ...]:
    """Coordinates of the nodes along x, y, z."""
    if output.IsA("vtkImageData"):
        return tuple(
            low + step * np.arange(first, last + 1)
            for low, step, first, last in zip(
                output.GetOrigin(), output.GetSpacing(), output.GetExtent()[::2], output.GetExtent()[1::2]
            )
        )
    if output.IsA("vtkRectilinearGrid"):
        return tuple(numbers(getattr(output, f"Get{axis}Coordinates")())[:, 0].astype(float) for axis in "XYZ")
    sides = _sides(output.GetExtent(), NODES)
    points = numbers(output.GetPoints().GetData()) if output.GetPoints() is not None else np.empty((0, 3))
    if len(points) != np.prod(sides):
        raise FlowsrError("points are missing", file=path, expected=int(np.prod(sides)), found=len(points))
    return _box_lines(points.reshape(*sides[::-1], 3), path)


def _box_lines(points: np.ndarray, path: Path) -> tuple[np.ndarray, ...]:
    """Coordinates along x, y, z of points (z, y, x, 3) that are a box's.

    Raises:
        FlowsrError: a curved or turned grid.
    """
    lines = []
    for axis in range(3):
        values = points[..., axis]
        places = [0, 0, 0]
        places[2 - axis] = slice(None)
        line = values[tuple(places)].astype(float)
        shape = [1, 1, 1]
        shape[2 - axis] = -1
        off = float(np.abs(values - line.reshape(shape)).max())
        if not off <= BOX_TOLERANCE * float(np.ptp(values)):
            raise FlowsrError(
                "not a rectilinear grid",
                file=path,
                variable=SPACE[axis],
                expected=f"one {SPACE[axis]} for all points of a plane",
                found=f"points {off:.3g} off it",
                hint="resample it to image data in ParaView",
            )
        lines.append(line)
    return tuple(lines)


def _said(output, path: Path) -> tuple[float, dict]:
    """Time of the snapshot, and flowsr's own words."""
    fields = output.GetFieldData()
    time = 0.0
    for name in TIME_NAMES:
        array = fields.GetArray(name)
        if array is not None and array.GetNumberOfValues() == 1:
            time = float(array.GetTuple1(0))
            break
    text = fields.GetAbstractArray(OWN_WORDS)
    if text is None or text.GetNumberOfValues() != 1:
        return time, {}
    try:
        words = json.loads(text.GetVariantValue(0).ToString())
    except ValueError as error:
        raise FlowsrError("flowsr's own words are damaged", file=path, variable=OWN_WORDS, found=error) from None
    return time, words if isinstance(words, dict) else {}


def _place(header: _Header, group: str | None, path: Path) -> str:
    places = {array.place for array in header.arrays if array.dtype.kind == "f"} or {a.place for a in header.arrays}
    if not places:
        raise FlowsrError("no field in this file", file=path, expected="cell data or point data", found="neither")
    place = group or (CELLS if CELLS in places else NODES)
    if place not in places:
        raise FlowsrError("no such group", file=path, variable=group, expected=" or ".join(sorted(places)))
    return place


def _structured(path: Path, kind: str, header: _Header, place: str) -> Structured:
    axes = {name: centers_of(line, place) for name, line in zip(SPACE, header.lines)}
    arrays = {a.name: VtkArray(path, kind, a, header.extent) for a in header.arrays if a.place == place}
    others = [f"{a.name} (at {a.place}; name the group {a.place})" for a in header.arrays if a.place != place]
    return Structured(path, np.array([header.time]), axes, arrays, place, others)


def _own_words(dataset: xr.Dataset, words: dict, path: Path) -> xr.Dataset:
    """Attributes and coordinates that a converted file keeps beside what VTK reads."""
    for name, attrs in words.get("variables", {}).items():
        if name in dataset.data_vars and isinstance(attrs, dict):
            dataset[name].attrs.clear()
            dataset[name].attrs.update(attrs)
    for name, axis in words.get("coordinates", {}).items():
        values = np.asarray(axis["values"])
        if name in SPACE and not _near(values, dataset[name].values):
            raise FlowsrError("flowsr's own words and the grid disagree", file=path, variable=name)
        if values.shape == dataset.sizes.get(name, ()) or values.shape == (dataset.sizes.get(name, -1),):
            dataset = dataset.assign_coords({name: xr.Variable((name,), values, axis.get("attrs", {}))})
    if "attrs" in words:
        dataset.attrs = dict(words["attrs"])
    return dataset


def _near(centers: np.ndarray, middles: np.ndarray) -> bool:
    if centers.shape != middles.shape or centers.dtype.kind != "f":
        return False
    return bool(np.all(np.abs(centers - middles) <= 0.5 * float(np.ptp(middles)) / max(1, len(middles) - 1)))


class VtkArray(LazyArray):
    """(1, component, x, y, z) of an array of a file; an XML file is read box by box."""

    def __init__(self, path: Path, kind: str, stored: _Stored, extent):
        super().__init__((1, stored.count, *_sides(extent, stored.place)), stored.dtype, path, stored.name)
        self.kind, self.stored, self.extent = kind, stored, tuple(extent)

    def load(self, index):
        wanted = [range(n)[s] if isinstance(s, slice) else range(s, s + 1) for n, s in zip(self.shape, index)]
        if not all(map(len, wanted)):
            return np.empty([len(w) for w, s in zip(wanted, index) if isinstance(s, slice)], self.dtype)
        box = [(w[0], w[-1] + 1) for w in wanted[2:]]
        values = self._box(box)
        inner = [slice(w[0], w[-1] + 1, w.step) for w in wanted[:2]]
        inner += [slice(0, high - low, w.step) for w, (low, high) in zip(wanted[2:], box)]
        values = values[None][tuple(inner)]
        return np.array(values[tuple(slice(None) if isinstance(s, slice) else 0 for s in index)])

    def _box(self, box: list[tuple[int, int]]) -> np.ndarray:
        """(component, x, y, z) of the values from ``low`` to ``high`` along each axis."""
        if self.kind not in XML_KINDS:
            whole = _whole(str(self.file), self.kind, *_state(self.file))
            return self._cut(whole, self.extent)[(slice(None), *(slice(*b) for b in box))]
        cells = self.stored.place == CELLS
        extent = [first + e for first, (low, high) in zip(self.extent[::2], box) for e in (low, high - 1 + cells)]
        with listening(self.file, self.variable):
            reader = _reader(self.file, self.kind)
            reader.UpdateInformation()
            _select(reader, self.stored)
            reader.UpdateExtent(extent)
            return self._cut(reader.GetOutput(), extent)

    def _cut(self, output, extent) -> np.ndarray:
        array = _data_of(output, self.stored.place).GetArray(self.stored.name)
        sides = _sides(extent, self.stored.place)
        count = 0 if array is None else array.GetNumberOfTuples()
        if count != np.prod(sides) or array.GetNumberOfComponents() != self.stored.count:
            raise FlowsrError(
                "cut short", file=self.file, variable=self.variable, expected=f"{np.prod(sides)} values", found=count
            )
        return numbers(array).reshape(*sides[::-1], self.stored.count).transpose(3, 2, 1, 0)
