"""What VTK makes of a file: its structured grid, and the values of its arrays. Run in the quarantine.

VTK says nothing where a file ends early or has too few coordinates, and leaves memory that nobody has written in the
place of what is missing; both are checked here first.
"""

from __future__ import annotations

import math
import mmap
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from vtkmodules import vtkCommonCore, vtkIOLegacy, vtkIOXML
from vtkmodules.util.numpy_support import get_vtk_to_numpy_typemap, vtk_to_numpy
from vtkmodules.vtkCommonDataModel import vtkDataObject

from flowsr.errors import FlowsrError, require, unreadable
from flowsr.quarantine import CELLS, MASKS, NODES, OWN_WORDS, without_value

EXTENT = re.compile(rb"\bExtent\s*=\s*[\"']([-\d\s]+)[\"']")
NODES_OF_PIECE = re.compile(rb"<(Coordinates|Points)\b")
TIME_NAMES = ("TimeValue", "TIME", "time")
HEAD = 4096
LABELLED = re.compile(rb"<DataArray\b[^<>]{0,4000}\bComponentName0\b[^<>]{0,4000}>")
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
ATTRIBUTE = re.compile(rb"(\w+)\s*=\s*[\"']([^\"']*)[\"']")
#: Kind of grid, as a file names it, to VTK's reader.
KINDS = {
    "ImageData": vtkIOXML.vtkXMLImageDataReader,
    "RectilinearGrid": vtkIOXML.vtkXMLRectilinearGridReader,
    "StructuredGrid": vtkIOXML.vtkXMLStructuredGridReader,
    "STRUCTURED_POINTS": vtkIOLegacy.vtkStructuredPointsReader,
    "RECTILINEAR_GRID": vtkIOLegacy.vtkRectilinearGridReader,
    "STRUCTURED_GRID": vtkIOLegacy.vtkStructuredGridReader,
}
# VTK's compressors make at most this many bytes of one (zlib 1032).
GREATEST_RATIO = 1100
# Points of a grid are those of a box when they are off by less than this share of its sides; float32 keeps 1e-7.
BOX_TOLERANCE = 1e-5
IGNORED = (*MASKS, "vtkOriginalCellIds", "vtkOriginalPointIds")


def describe(path: str, kind: str) -> dict:
    """The grid of a file and what arrays it has; of a legacy file, which is read whole, also their values.

    Args:
        kind: one of :data:`KINDS`.

    Returns:
        ``extent``: first and last node along x, y, z, and ``lines``, the coordinates of the nodes; ``times``: that of
        the snapshot, 0 where the file does not say; ``words``: the text that flowsr wrote for itself, or None;
        ``arrays``: ``name``, ``place`` (cells or nodes), ``count`` of components, ``dtype`` and, of a legacy file,
        ``values`` (component, x, y, z) of each; ``labels``: name of a vector to those of its components, if any.
    """
    if kind.isupper():
        return _describe_legacy(Path(path), kind)
    _check_xml(Path(path))
    with listening(path):
        reader = KINDS[kind](file_name=str(path))
        reader.UpdateInformation()
    information = reader.GetOutputInformation(0)
    arrays = _arrays(_in_header(information))
    extent = _checked_extent(information.Get(reader.GetExecutive().WHOLE_EXTENT()) or (), arrays, Path(path))
    direction = information.Get(vtkDataObject.DIRECTION()) if kind == "ImageData" else None
    straight = direction is None or np.array_equal(np.reshape(direction, (3, 3)), np.eye(3))
    expected = "x, y, z along the axes"
    require(straight, "a rotated grid", file=path, variable="Direction", expected=expected, found=direction)
    _select(reader, None, None)
    with listening(path):
        # An image's grid is in its header: one cell of it is enough to read.
        reader.UpdateExtent(extent if kind != "ImageData" else [e for low in extent[::2] for e in (low, low + 1)])
        output = reader.GetOutput()
        found = {"extent": extent, "lines": _lines(output, extent, path), "arrays": arrays, **_field_data(output)}
    return {**found, "labels": _labels(Path(path))}


def values(path: str, kind: str, name: str, place: str, extent: list[int], box: list[list[int]] | None) -> np.ndarray:
    """(component, x, y, z) of an array of an XML file, or of the values in a box.

    Args:
        extent: the file's, as :func:`describe` says.
        box: first value and the one after the last along x, y, z; None for all.
    """
    if box is not None:
        cells = place == CELLS
        extent = [first + e for first, (low, high) in zip(extent[::2], box) for e in (low, high - 1 + cells)]
    with listening(path, name):
        reader = KINDS[kind](file_name=str(path))
        reader.UpdateInformation()
        _select(reader, name, place)
        reader.UpdateExtent(extent)
        return _values_of(reader.GetOutput(), name, place, extent, path)


def _describe_legacy(path: Path, kind: str) -> dict:
    whole = _read_legacy(path, kind)
    extent = _checked_extent(whole.GetExtent(), [], path)
    arrays = _arrays(_in_output(whole))
    with open(path, "rb") as file:
        if b"ASCII" in file.read(HEAD).upper():
            _check_all_there(path, kind, whole, arrays)
    for array in arrays:
        array["values"] = _values_of(whole, array["name"], array["place"], extent, path)
    vectors = [_data_of(whole, a["place"]).GetArray(a["name"]) for a in arrays if a["count"] == 3]
    labels = {v.GetName(): [v.GetComponentName(i) or "" for i in range(3)] for v in vectors if v.HasAComponentName()}
    found = {"extent": extent, "lines": _lines(whole, extent, path), "arrays": arrays, **_field_data(whole)}
    return {**found, "labels": labels}


def _labels(path: Path) -> dict[str, list[str]]:
    """Name of each array of three components whose components an XML file names, to these names."""
    found = {}
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content.find(b"<AppendedData")
        for tag in LABELLED.finditer(content, 0, end if end >= 0 else len(content)):
            said = {k.decode(): v.decode("utf-8", "replace") for k, v in ATTRIBUTE.findall(tag[0])}
            if said.get("NumberOfComponents") == "3":
                found[said.get("Name", "")] = [said.get(f"ComponentName{i}", "") for i in range(3)]
    return found


def _check_xml(path: Path) -> None:
    """Refuse a file that is cut short, claims too much, or says of its grid what VTK would take for something else."""
    size = path.stat().st_size
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        whole, found = b"</VTKFile>" in content[max(0, size - HEAD) :], f"an end at byte {size}"
        require(whole, "cut short", file=path, expected="</VTKFile> at its end", found=found)
        end = content.find(b"<AppendedData")
        end = end if end >= 0 else size
        start = content.find(b"<ImageData", 0, end)
        image = content[start : content.find(b">", start, end) + 1] if start >= 0 else b""
        # For an origin or a spacing that is no number VTK takes its own.
        given = re.findall(rb"\b(Origin|Spacing)\s*=\s*[\"']([^\"']*)", image)
        for key, text in given:
            origin, found = np.array(text.split(), dtype=float), repr(text.decode("utf-8", "replace"))[:80]
            three = origin.size == 3 and np.isfinite(origin).all()
            require(three, "not three numbers", file=path, variable=key.decode(), found=found)
        # A number of tuples or components beyond VTK's own would overflow, and be another.
        for claim in re.compile(rb'NumberOf(?:Tuples|Components)\s*=\s*["\']\s*(\d+)').finditer(content, 0, end):
            possible = int(claim[1][:20]) <= GREATEST_RATIO * size
            require(possible, "claims more numbers than it can hold", file=path, found=claim[1].decode()[:40])
        # Coordinates or points that are fewer than the nodes VTK fills up with whatever is in memory.
        for extent, grid in () if image else _pieces(content, end):
            nodes = _sides(extent, NODES)
            wanted = [3 * int(np.prod(nodes, dtype=object))] if grid.startswith(b"<Points") else list(nodes)
            found = [_count(item, content, end) for item in ElementTree.fromstring(grid).findall("DataArray")]
            message, expected = "coordinates and grid disagree", f"{wanted} numbers for the extent {extent}"
            require(found == wanted, message, file=path, variable="Coordinates", expected=expected, found=found)


def _pieces(content: mmap.mmap, end: int) -> Iterator[tuple[list[int], bytes]]:
    """Extent of each piece of a grid, and the XML of its coordinates or points; each byte is looked at a few times."""
    start = content.find(b"<Piece", 0, end)
    while start >= 0:
        inner = content.find(b">", start, end)
        following = content.find(b"<Piece", inner, end) if inner >= 0 else -1
        stop = following if following >= 0 else end
        extent = EXTENT.search(content, start, inner) if inner >= 0 else None
        grid = NODES_OF_PIECE.search(content, inner, stop) if extent else None
        close = content.find(b"</%s>" % grid[1], grid.end(), stop) if grid else -1
        if close >= 0:
            yield [int(word) for word in extent[1].split()], content[grid.start() : content.find(b">", close) + 1]
        start = following


def _count(item: ElementTree.Element, content: mmap.mmap, end: int) -> int:
    """How many numbers an XML array has, by its text or by the length that stands before its bytes."""
    head = content[: min(end, HEAD)]
    word = np.dtype("u8" if b'header_type="UInt64"' in head else "u4")
    word = word.newbyteorder(">" if b'"BigEndian"' in head else "<")
    if item.get("format") == "ascii":  # up to the first word that is no number, where VTK stops
        words = (item.text or "").split()
        wrong = (n for n, word in enumerate(words) if not NUMBER.fullmatch(word) or math.isinf(float(word)))
        return next(wrong, len(words))
    encoded = True
    if item.get("format") == "appended":
        start = content.find(b"_", end) + 1 + int(item.get("offset"))
        encoded = b'encoding="raw"' not in content[end : end + HEAD].split(b">", 1)[0]
        first = content[start : start + 4 * word.itemsize]
    else:
        first = (item.text or "").strip()[:44].encode()
    # Before the bytes stands their length or, where they are compressed, the number of blocks, the length of each and
    # that of the last, each a ``word``; the first 44 characters of base64 hold those three.
    first = b64decode(first[: len(first) // 4 * 4]) if encoded else first
    words = np.frombuffer(first[: 3 * word.itemsize], word)
    blocks, size, last = (int(n) for n in (*words, 0, 0)[:3])
    length = ((blocks - 1) * size + (last or size) if blocks else 0) if b"compressor=" in head else blocks
    return 8 * length // int(re.sub(r"\D", "", item.get("type", "")) or 8)


def _read_legacy(path: Path, kind: str, content: bytes | None = None, heard: bool = True):
    """A legacy file, or ``content`` in its place, as VTK reads it; its complaints count where they are ``heard``."""
    with listening(path, heard=heard):
        reader = KINDS[kind](file_name=str(path))
        if content is not None:
            reader.ReadFromInputStringOn()
            reader.SetBinaryInputString(content, len(content))
        for name in ("Scalars", "Vectors", "Normals", "Tensors", "ColorScalars", "TCoords", "Fields"):
            getattr(reader, f"ReadAll{name}On")()
        reader.Update()
        return reader.GetOutput()


def _check_all_there(path: Path, kind: str, found, arrays: list[dict]) -> None:
    """Refuse a file of text that ends before its numbers do.

    VTK says nothing then and leaves memory that nobody has written in the place of the missing numbers. So the file is
    read again with sevens and with threes after its end: a file that lacks no numbers never gets to them.
    """
    count = sum(a["count"] for a in arrays) * max(found.GetNumberOfCells(), found.GetNumberOfPoints())
    content = path.read_bytes()
    padded = [_read_legacy(path, kind, content + tail * (count + HEAD), heard=False) for tail in (b" 7", b" 3")]
    for array in arrays:
        one, other = (numbers(_data_of(read, array["place"]).GetArray(array["name"])) for read in padded)
        equal = np.array_equal(one, other, equal_nan=np.dtype(array["dtype"]).kind == "f")
        where, found = {"file": path, "variable": array["name"]}, "an end before the last"
        require(equal, "cut short", **where, expected=f"{one.size} numbers", found=found)


def _data_of(output, place: str):
    return output.GetCellData() if place == CELLS else output.GetPointData()


def _select(reader, name: str | None, place: str | None) -> None:
    for at, selection in ((CELLS, reader.GetCellDataArraySelection()), (NODES, reader.GetPointDataArraySelection())):
        selection.DisableAllArrays()
        for wanted in (name, *MASKS) if name is not None and at == place else ():
            selection.EnableArray(wanted)


def _arrays(listed: Iterable[tuple]) -> list[dict]:
    """What describes the arrays, of ``listed`` (place, name, count, type), that hold numbers."""
    kinds = get_vtk_to_numpy_typemap()
    return [
        {"name": name, "place": place, "count": count or 1, "dtype": np.dtype(kinds[kind]).str}
        for place, name, count, kind in listed
        if name and name not in IGNORED and kind in kinds
    ]


def _in_header(information) -> Iterator[tuple]:
    """Place, name, count and type of the arrays of an XML file, which its header describes."""
    objects = vtkDataObject
    keys = objects.FIELD_NAME(), objects.FIELD_NUMBER_OF_COMPONENTS(), objects.FIELD_ARRAY_TYPE()
    for place, key in ((CELLS, objects.CELL_DATA_VECTOR()), (NODES, objects.POINT_DATA_VECTOR())):
        vector = information.Get(key) if information.Has(key) else None
        for number in range(vector.GetNumberOfInformationObjects() if vector is not None else 0):
            yield place, *map(vector.GetInformationObject(number).Get, keys)


def _in_output(output) -> Iterator[tuple]:
    """Place, name, count and type of the arrays of what was read of a legacy file."""
    for place in (CELLS, NODES):
        data = _data_of(output, place)
        for array in filter(None, map(data.GetArray, range(data.GetNumberOfArrays()))):
            yield place, array.GetName(), array.GetNumberOfComponents(), array.GetDataType()


def _checked_extent(extent, arrays: list[dict], path: Path) -> list[int]:
    solid = len(extent) == 6 and all(high > low for low, high in zip(extent[::2], extent[1::2]))
    where, expected = {"file": path, "variable": "WholeExtent"}, "two nodes or more a side"
    require(solid, "not a grid of three axes", **where, expected=expected, found=tuple(extent) or "none")
    for array in arrays:
        values = array["count"] * int(np.prod(_sides(extent, array["place"]), dtype=object))
        possible = values * np.dtype(array["dtype"]).itemsize <= GREATEST_RATIO * path.stat().st_size
        where, found = {"file": path, "variable": array["name"]}, f"{values} numbers"
        expected = f"at most {GREATEST_RATIO} times {path.stat().st_size} bytes"
        require(possible, "claims more numbers than it can hold", **where, expected=expected, found=found)
    return [int(e) for e in extent]


def _sides(extent, place: str) -> tuple[int, ...]:
    return tuple(high - low + (place == NODES) for low, high in zip(extent[::2], extent[1::2]))


def _lines(output, extent: list[int], path: str | Path) -> list[np.ndarray]:
    """Coordinates of the nodes along x, y, z.

    Raises:
        FlowsrError: a curved or rotated grid.
    """
    if output.IsA("vtkImageData"):
        ranges = [np.arange(first, last + 1) for first, last in zip(extent[::2], extent[1::2])]
        return [low + step * r for low, step, r in zip(output.GetOrigin(), output.GetSpacing(), ranges)]
    if output.IsA("vtkRectilinearGrid"):
        return [numbers(getattr(output, f"Get{axis}Coordinates")())[:, 0].astype(float) for axis in "XYZ"]
    sides = _sides(output.GetExtent(), NODES)
    points = numbers(output.GetPoints().GetData()) if output.GetPoints() is not None else np.empty((0, 3))
    count = int(np.prod(sides))
    require(len(points) == count, "points are missing", file=path, expected=count, found=len(points))
    points = points.reshape(*sides[::-1], 3)
    lines = [points[0, 0, :, 0].astype(float), points[0, :, 0, 1].astype(float), points[:, 0, 0, 2].astype(float)]
    hint = "resample it to image data in ParaView"
    for axis, line in enumerate(lines):
        values, shape = points[..., axis], [-1 if n == 2 - axis else 1 for n in range(3)]
        off = float(np.abs(values - line.reshape(shape)).max())
        box, name = off <= BOX_TOLERANCE * float(np.ptp(values)), "xyz"[axis]
        where, expected = {"file": path, "variable": name}, f"one {name} for all points of a plane"
        require(box, "not a rectilinear grid", **where, expected=expected, found=f"points {off:.3g} off it", hint=hint)
    return lines


def _field_data(output) -> dict:
    """Time of the snapshot, and flowsr's own words."""
    fields = output.GetFieldData()
    arrays = [fields.GetArray(name) for name in TIME_NAMES]
    times = [a.GetTuple1(0) for a in arrays if a is not None and a.GetNumberOfValues() == 1]
    text = fields.GetAbstractArray(OWN_WORDS)
    there = text is not None and text.GetNumberOfValues() == 1
    return {
        "times": [float(times[0]) if times else 0.0],
        "words": text.GetVariantValue(0).ToString() if there else None,
    }


def _values_of(output, name: str, place: str, extent, path: str | Path) -> np.ndarray:
    """(component, x, y, z) of an array, NaN where the file says that there is no value."""
    array, sides = _data_of(output, place).GetArray(name), _sides(extent, place)
    count = 0 if array is None else array.GetNumberOfTuples()
    expected = f"{np.prod(sides)} values"
    require(count == np.prod(sides), "cut short", file=path, variable=name, expected=expected, found=count)
    found = numbers(array)
    masks = {mask: _data_of(output, place).GetArray(mask) for mask in MASKS if found.dtype.kind == "f"}
    masks = {mask: numbers(flags)[:, :1] for mask, flags in masks.items() if flags is not None}
    return without_value(found, masks, place).reshape(*sides[::-1], -1).transpose(3, 2, 1, 0)


def numbers(array) -> np.ndarray:
    """The values (tuple, component) of a VTK array, not copied where VTK keeps them as numpy does."""
    return vtk_to_numpy(array).reshape(array.GetNumberOfTuples(), array.GetNumberOfComponents())


@contextmanager
def listening(file, variable: str | None = None, heard: bool = True) -> Iterator[None]:
    """What VTK complains of in here is raised, if it is ``heard``; VTK goes on with what it has, be that half a file.

    Raises:
        FlowsrError: with the first line of what VTK said.
    """
    said = vtkCommonCore.vtkStringOutputWindow()
    vtkCommonCore.vtkLogger.SetStderrVerbosity(vtkCommonCore.vtkLogger.VERBOSITY_OFF)
    vtkCommonCore.vtkOutputWindow.SetInstance(said)
    refused = None
    try:
        yield
    except FlowsrError as error:
        refused = error
    output = said.GetOutput()  # bytes where VTK quotes some that are no text
    output = output.decode("utf-8", "replace") if isinstance(output, bytes) else output
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if lines and heard:
        found = next((line for line in lines if not line.startswith(("ERROR: In", "Warning: In"))), lines[0])
        raise unreadable(found.split("): ")[-1], file, variable)
    if refused is not None:
        raise refused
