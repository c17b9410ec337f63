"""What VTK makes of an OpenFOAM case whose mesh is a box of bricks. Run in the quarantine.

VTK ends the process where a case claims more faces than there is memory for, or names a cell that does not exist.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
from vtkmodules.vtkCommonDataModel import vtkCompositeDataSet
from vtkmodules.vtkIOGeometry import vtkOpenFOAMReader

from flowsr.errors import require
from flowsr.quarantine import CELLS
from flowsr.quarantine.vtk import listening, numbers

MESH = Path("constant") / "polyMesh"
CONTROL = Path("system") / "controlDict"
TIME = re.compile(r"\d+(\.\d*)?([eE][+-]?\d+)?")
CLASS = re.compile(rb"class\s+vol(Scalar|Vector|SymmTensor|Tensor)Field\s*;")
COUNTS = {b"Scalar": 1, b"Vector": 3, b"SymmTensor": 6, b"Tensor": 9}
#: Powers of the base units of the SI that a field states, in OpenFOAM's order.
DIMENSIONS = re.compile(rb"^\s*dimensions\s*\[([^\]]*)\]\s*;", re.MULTILINE)
BASE_UNITS = ("kg", "m", "s", "K", "mol", "A", "cd")
PATCH = re.compile(r"([\w.:\-]+)\s*\{([^{}]*)\}")
PATCH_TYPE = re.compile(r"\btype\s+(\w+)\s*;")
KINDS = {"wall": "wall", "cyclic": "periodic"}
HEAD = 4096
HEXAHEDRON = 12
# Of a coordinate's largest size: float32, which VTK keeps points in, rounds to 6e-8 of it.
TOLERANCE = 1e-6


def describe(case: str) -> dict:
    """The mesh of a case and its fields at cells.

    Returns:
        ``lines``: (n + 1,) coordinates of the nodes along x, y, z; ``order``: (cell,) number in the case of each cell
        of the box, x slowest; ``boundary`` of each axis, None where the patches do not decide it; ``times`` and their
        ``folders``; ``arrays``: name to the count of components of the fields that are there at all times, ``units`` of
        those that state one; ``left_out``.
    """
    root = Path(case)
    pieces = sorted(p.name for p in root.glob("processor*") if re.fullmatch(r"processors?\d+(_\d+-\d+)?", p.name))
    whole = not pieces or ((root / MESH).is_dir() and _times(root))
    require(whole, "a case in pieces", file=case, expected=str(MESH), found=pieces[:1], hint="run reconstructPar first")
    for part in (CONTROL, *(MESH / name for name in ("points", "faces", "owner", "neighbour", "boundary"))):
        there = any((root / name).is_file() for name in (part, f"{part}.gz"))
        require(there, "an incomplete case", file=case, expected=str(part), found="nothing")
    folders = _times(root)
    moving = [p.name for p in folders if (p / "polyMesh").is_dir()]
    hint = "map the fields onto one mesh first: mapFields"
    require(
        not moving, "a mesh that moves or changes", file=case, expected=f"{MESH} alone", found=moving[:3], hint=hint
    )
    require(folders, "no field in this case", file=case, expected="time folders with vol...Fields")
    folders.sort(key=lambda p: float(p.name))
    stored = [_fields(folder) for folder in folders]
    everywhere = {
        name: count for name, (count, _) in stored[0].items() if all(s.get(name, (0,))[0] == count for s in stored)
    }
    units = {name: stored[0][name][1] for name in everywhere}
    differ = [name for name, unit in units.items() if any(s[name][1] != unit for s in stored)]
    require(not differ, "other dimensions at other times", file=case, variable=", ".join(differ))
    left_out = sorted({f"{name} (not at all times)" for s in stored for name in s if name not in everywhere})
    found = ", ".join(left_out) or "none"
    require(everywhere, "no field at all times", file=case, expected="a vol...Field", found=found)
    names = [folder.name for folder in folders]
    fields = {"place": CELLS, "times": [float(n) for n in names], "folders": names, "left_out": left_out}
    return {**fields, "arrays": everywhere, "units": units, **_mesh(root)}


def _times(root: Path) -> list[Path]:
    """The time folders that hold fields."""
    return [p for p in root.iterdir() if p.is_dir() and TIME.fullmatch(p.name) and _fields(p)]


def values(case: str, time: float, name: str) -> np.ndarray:
    """(cell, component) of a field at a time, as the case numbers its cells."""
    with listening(case, name):
        reader = _reader(Path(case))
        reader.SetCellArrayStatus(name, 1)
        reader.DisableAllPatchArrays()
        reader.SetPatchArrayStatus("internalMesh", 1)
        reader.UpdateTimeStep(time)
        grid = _block(reader.GetOutput(), "vtkUnstructuredGrid")
        array = None if grid is None else grid.GetCellData().GetArray(name)
        found = f"no values at time {time:g}"
        require(array is not None, "damaged or not readable", file=case, variable=name, found=found)
        return numbers(array)


def _reader(case: Path):
    """VTK's reader of a case; no array is chosen."""
    control = str(case / CONTROL)
    reader = vtkOpenFOAMReader(file_name=control, skip_zero_time=False, create_cell_to_point=False)
    reader.UpdateInformation()
    reader.DisableAllCellArrays()
    reader.DisableAllPointArrays()
    reader.DisableAllLagrangianArrays()
    return reader


def _mesh(case: Path) -> dict:
    with listening(case):
        reader = _reader(case)
        reader.EnableAllPatchArrays()
        reader.Update()
        output = reader.GetOutput()
        grid = _block(output, "vtkUnstructuredGrid")
        require(grid is not None and grid.GetNumberOfCells(), "no cells in this mesh", file=case)
        kinds = sorted(set(np.ravel(numbers(grid.GetDistinctCellTypesArray())).tolist()))
        _require_box(kinds == [HEXAHEDRON], case, expected="hexahedra", found=f"VTK cell types {kinds}")
        corners = numbers(grid.GetCells().GetConnectivityArray()).reshape(-1, 8)
        lines, order = _sorted_box(numbers(grid.GetPoints().GetData()), corners, case)
        return {"lines": lines, "order": order, "boundary": _boundary(case, output, lines)}


def _require_box(holds: object, case: Path, variable: str | None = None, **parts) -> None:
    hint = "sample the fields on a uniform grid"
    require(holds, "not a box of bricks", file=case, variable=variable, **parts, hint=hint)


def _fields(folder: Path) -> dict[str, tuple[int, str | None]]:
    """Name to number of components and unit of the cell fields in a time folder, by the headers of its files."""
    found = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        try:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
                head = file.read(HEAD)
        except (OSError, EOFError):
            continue
        kind = CLASS.search(head)
        if kind:
            found[path.name.removesuffix(".gz")] = COUNTS[kind[1]], _units(head)
    return found


def _units(head: bytes) -> str | None:
    """The unit that a field's dimensions make, such as ``m/s``; None where it states none that can be read."""
    stated = DIMENSIONS.search(head)
    words = stated[1].decode("utf-8", "replace").split() if stated else []
    if not words or len(words) > len(BASE_UNITS) or not all(re.fullmatch(r"[+-]?\d", word) for word in words):
        return None
    powers = [(unit, int(word)) for unit, word in zip(BASE_UNITS, words) if int(word)]
    above, below = (
        [unit if abs(power) == 1 else f"{unit}^{abs(power)}" for unit, power in powers if power * sign > 0]
        for sign in (1, -1)
    )
    return "/".join([" ".join(above) or "1", *below])


def _block(output, kind: str):
    blocks = map(output.GetBlock, range(output.GetNumberOfBlocks()))
    return next((block for block in blocks if block is not None and block.IsA(kind)), None)


def _sorted_box(points: np.ndarray, corners: np.ndarray, case) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Coordinates of the planes between cells, and the cells' numbers in the order of the box.

    Args:
        points: (point, 3).
        corners: (cell, 8) numbers of points.

    Raises:
        FlowsrError: cells that are no bricks, or that do not fill a box row by row.
    """
    lines, places = [], []
    for axis in range(3):
        values = points[:, axis].astype(float)[corners]
        low, high = values.min(axis=1), values.max(axis=1)
        slack = TOLERANCE * float(np.abs(values).max())
        skew = np.minimum(values - low[:, None], high[:, None] - values).max()
        # The planes: the distinct numbers among those that are equal to round-off.
        ends = np.unique(np.concatenate([low, high]))
        starts = np.flatnonzero(np.diff(ends, prepend=-np.inf) > 2 * slack)
        line = np.array([part.mean() for part in np.split(ends, starts[1:])])
        place = np.clip(np.searchsorted(line, (low + high) / 2) - 1, 0, max(0, len(line) - 2))
        off = max(np.abs(line[place] - low).max(), np.abs(line[np.minimum(place + 1, len(line) - 1)] - high).max())
        bricks, found = max(skew, off) <= 2 * slack and len(line) > 1, f"corners {max(skew, off):.3g} off them"
        _require_box(bricks, case, "xyz"[axis], expected="cells between parallel planes", found=found)
        lines.append(line)
        places.append(place)
    sides = tuple(len(line) - 1 for line in lines)
    expected = f"{' x '.join(map(str, sides))} cells"
    _require_box(np.prod(sides) == len(corners), case, expected=expected, found=len(corners))
    order = np.full(len(corners), -1)
    order[np.ravel_multi_index(places, sides)] = np.arange(len(corners))
    _require_box((order >= 0).all(), case, expected="one cell a place", found="cells that overlap")
    return tuple(lines), order


def _boundary(case: Path, output, lines) -> tuple[str | None, ...]:
    """Walls and cyclic sides as the patches' faces lie; None where a side has faces of several kinds or of none known.

    A patch may lie on several sides (one patch for both walls of a channel, frontAndBack): each of its faces counts for
    the side that it lies on. Where the two sides of an axis differ, the axis is as undecided.
    """
    path = case / MESH / "boundary"
    whole = path.read_bytes() if path.is_file() else gzip.decompress(path.with_name("boundary.gz").read_bytes())
    text = whole.decode("utf-8", "replace")
    types = {name: found[1] for name, inside in PATCH.findall(text) if (found := PATCH_TYPE.search(inside))}
    kinds: list[set[str | None]] = [set(), set(), set()]
    patches = _block(output, "vtkMultiBlockDataSet")
    for number in range(patches.GetNumberOfBlocks() if patches is not None else 0):
        block = patches.GetBlock(number)
        if block is None or not block.GetNumberOfPoints():
            continue
        kind = KINDS.get(types.get(patches.GetMetaData(number).Get(vtkCompositeDataSet.NAME())))
        points = numbers(block.GetPoints().GetData()).astype(float)
        cells = block.GetPolys() if block.IsA("vtkPolyData") else block.GetCells()
        starts, corners = numbers(cells.GetOffsetsArray())[:, 0], numbers(cells.GetConnectivityArray())[:, 0]
        for axis, line in enumerate(lines):
            slack = 2 * TOLERANCE * float(np.abs(line).max())
            along = points[corners, axis]
            low, high = (each.reduceat(along, starts[:-1]) for each in (np.minimum, np.maximum))
            ends = [(np.abs(low - end) <= slack) & (np.abs(high - end) <= slack) for end in line[[0, -1]]]
            if any(end.any() for end in ends):
                kinds[axis].add(kind)
    return tuple(next(iter(k)) if len(k) == 1 else None for k in kinds)
