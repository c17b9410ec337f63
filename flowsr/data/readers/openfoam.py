"""OpenFOAM cases whose mesh is a box of bricks, such as a channel made by blockMesh; time folders are the times.

VTK reads mesh and fields. The cells, which a case numbers as it likes, are sorted into the box by where they are. Values are
VTK's float32, whatever the case has; a snapshot of one field is read whole, and the last one is kept.
"""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import xarray as xr

from flowsr.data.field import SPACE
from flowsr.data.readers.base import READERS, Reader, Request, assume
from flowsr.data.readers.lazy import Join, LazyArray
from flowsr.data.readers.openfoam_vtk import read_cells, read_mesh, trial
from flowsr.data.readers.structured import CELLS, STATED, Structured, centers_of, structured_dataset
from flowsr.data.readers.vtk_library import listening, numbers, vtk_module
from flowsr.errors import FlowsrError

MESH = Path("constant") / "polyMesh"
CONTROL = Path("system") / "controlDict"
TIME = re.compile(r"\d+(\.\d*)?([eE][+-]?\d+)?")
CLASS = re.compile(rb"class\s+vol(Scalar|Vector|SymmTensor|Tensor)Field\s*;")
COUNTS = {b"Scalar": 1, b"Vector": 3, b"SymmTensor": 6, b"Tensor": 9}
PATCH = re.compile(r"([\w.:\-]+)\s*\{([^{}]*)\}")
PATCH_TYPE = re.compile(r"\btype\s+(\w+)\s*;")
LIST = re.compile(rb"(?m)^\s*(\d+)\s*\(")
KINDS = {"wall": "wall", "cyclic": "periodic"}
HEAD = 4096
HEXAHEDRON = 12
# Of a coordinate's largest size: float32, which VTK keeps points in, rounds to 6e-8 of it.
TOLERANCE = 1e-6


@READERS.register("openfoam")
class OpenfoamReader(Reader):
    """A case folder, or the ``.foam`` file in it."""

    signs = "an OpenFOAM case (constant/polyMesh, system/controlDict, time folders)"
    takes = STATED

    def recognizes(self, path: Path) -> bool:
        if path.is_file() and path.suffix.lower() not in (".foam", ".openfoam"):
            return False
        case = _case(path)
        return (case / CONTROL).is_file() or (case / MESH).is_dir()

    def open(self, path: Path, request: Request) -> xr.Dataset:
        case = _case(path)
        _check_parts(case)
        folders = _time_folders(case)
        times = [float(folder.name) for folder in folders]
        stored = [_fields(folder) for folder in folders]
        everywhere = {name: count for name, count in stored[0].items() if all(s.get(name) == count for s in stored)}
        left_out = sorted({f"{name} (not at all times)" for s in stored for name in s if name not in everywhere})
        if not everywhere:
            raise FlowsrError(
                "no field at all times", file=case, expected="a vol...Field", found=", ".join(left_out) or "none"
            )
        mesh = _mesh(str(case), _signature(case))
        arrays = {
            name: Join(
                [FoamArray(case, time, folder.name, name, count, mesh.sides) for time, folder in zip(times, folders)]
            )
            for name, count in everywhere.items()
        }
        axes = {name: centers_of(line, CELLS) for name, line in zip(SPACE, mesh.lines)}
        notes = {"precision": "float32, as VTK reads OpenFOAM's numbers"}
        if None not in mesh.boundary:
            notes["boundary"] = list(mesh.boundary)
        dataset = structured_dataset(
            Structured(case, np.array(times), axes, arrays, CELLS, left_out, notes), request.layout
        )
        assume(dataset, boundary=[kind or "open" for kind in mesh.boundary])
        return dataset


def _case(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _check_parts(case: Path) -> None:
    if not (case / MESH).is_dir() and (case / "processor0").is_dir():
        raise FlowsrError("a case in pieces", file=case, expected=str(MESH), hint="run reconstructPar first")
    for part in (CONTROL, *(MESH / name for name in ("points", "faces", "owner", "neighbour", "boundary"))):
        if not any((case / name).is_file() for name in (part, f"{part}.gz")):
            raise FlowsrError("an incomplete case", file=case, expected=str(part), found="nothing")


def _time_folders(case: Path) -> list[Path]:
    """Folders named after a time that hold fields, in the order of the times."""
    folders = [p for p in case.iterdir() if p.is_dir() and TIME.fullmatch(p.name) and _fields(p)]
    if not folders:
        raise FlowsrError("no field in this case", file=case, expected="time folders with vol...Fields")
    return sorted(folders, key=lambda p: float(p.name))


def _fields(folder: Path) -> dict[str, int]:
    """Name and number of components of the cell fields in a time folder, by the headers of its files."""
    found = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        try:
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
                said = CLASS.search(file.read(HEAD))
        except (OSError, EOFError):
            continue
        if said:
            found[path.name.removesuffix(".gz")] = COUNTS[said[1]]
    return found


def _signature(*paths: Path) -> tuple:
    """What changes when a case's mesh, or the files given, change."""
    named = [f for p in paths for f in ([*(p / MESH).glob("*"), p / CONTROL] if p.is_dir() else [p])]
    files = sorted(f for f in named if f.is_file())
    return tuple((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files)


def _check_labels(case: Path) -> None:
    """Refuse cells numbered beyond the number of faces, for each of which VTK would make room."""
    faces = None
    for part in ("owner", "neighbour"):
        path = case / MESH / part
        try:
            whole = path.read_bytes() if path.is_file() else gzip.decompress(path.with_name(f"{part}.gz").read_bytes())
        except (OSError, EOFError, zlib.error) as error:
            raise FlowsrError("damaged or not readable", file=path, found=error) from None
        begin = LIST.search(whole, whole.find(b"}") + 1)
        labels = _labels(whole, begin) if begin is not None else ()
        if not len(labels) or len(labels) < int(begin[1]):
            return  # VTK says what is wrong with it
        faces = len(labels) if faces is None else faces
        if not -1 <= labels.min() <= labels.max() < faces:
            raise FlowsrError(
                "no such cell",
                file=path,
                expected=f"numbers below {faces}, that of the faces",
                found=f"{labels.min()} to {labels.max()}",
            )


def _labels(whole: bytes, begin: re.Match) -> np.ndarray:
    """The numbers of a list of labels, as many as are there; none where its text has something else in it."""
    head, count = whole[: begin.start()], int(begin[1])
    if re.search(rb"format\s+binary", head):
        dtype = np.dtype((">" if b"MSB" in head else "<") + ("i8" if b"label=64" in head else "i4"))
        return np.frombuffer(whole, dtype, min(count, (len(whole) - begin.end()) // dtype.itemsize), begin.end())
    try:
        return np.fromstring(whole[begin.end() : whole.find(b")", begin.end())], dtype=np.int64, sep=" ")
    except ValueError:
        return np.empty(0, np.int64)


def _survive(case: Path, time: float | None, signature: tuple) -> None:
    """Refuse a case that VTK does not come back from, before VTK reads it here."""
    vtk_module("vtkIOGeometry", case)
    ended = trial(str(case / CONTROL), time, signature)
    if ended is not None:
        raise FlowsrError(
            "VTK cannot read this case",
            file=case,
            variable=None if time is None else f"time {time:g}",
            found=ended,
            hint="counts or labels of its files may be wrong: run checkMesh",
        )


@dataclass(frozen=True)
class _Mesh:
    """A box of bricks.

    Args:
        lines: coordinates of the nodes along x, y, z.
        order: (cell,) number in the case of each cell of the box, x slowest.
        boundary: of each axis, each None where the patches do not settle it.
    """

    lines: tuple[np.ndarray, ...]
    order: np.ndarray
    boundary: tuple[str | None, ...]

    @property
    def sides(self) -> tuple[int, ...]:
        return tuple(len(line) - 1 for line in self.lines)


@lru_cache(maxsize=2)
def _mesh(case: str, signature: tuple) -> _Mesh:
    _check_labels(Path(case))
    _survive(Path(case), None, signature)
    with listening(case):
        output = read_mesh(str(Path(case) / CONTROL))
        grid = _block(output, "vtkUnstructuredGrid")
        if grid is None or grid.GetNumberOfCells() == 0:
            raise FlowsrError("no cells in this mesh", file=case)
        kinds = set(np.ravel(numbers(grid.GetDistinctCellTypesArray())).tolist())
        if kinds != {HEXAHEDRON}:
            raise FlowsrError(
                "not a box of bricks",
                file=case,
                expected="hexahedra",
                found=f"VTK cell types {sorted(kinds)}",
                hint="sample the fields on a uniform grid",
            )
        corners = numbers(grid.GetCells().GetConnectivityArray()).reshape(-1, 8)
        points = numbers(grid.GetPoints().GetData())
        lines, order = _sorted_box(points, corners, case)
        return _Mesh(lines, order, _boundary(Path(case), output, lines))


def _block(output, kind: str):
    for number in range(output.GetNumberOfBlocks()):
        if output.GetBlock(number) is not None and output.GetBlock(number).IsA(kind):
            return output.GetBlock(number)
    return None


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
        line = _planes(np.concatenate([low, high]), slack)
        place = np.clip(np.searchsorted(line, (low + high) / 2) - 1, 0, max(0, len(line) - 2))
        off = max(np.abs(line[place] - low).max(), np.abs(line[np.minimum(place + 1, len(line) - 1)] - high).max())
        if not max(skew, off) <= 2 * slack or len(line) < 2:
            raise FlowsrError(
                "not a box of bricks",
                file=case,
                variable=SPACE[axis],
                expected="cells between parallel planes",
                found=f"corners {max(skew, off):.3g} off them",
                hint="sample the fields on a uniform grid",
            )
        lines.append(line)
        places.append(place)
    sides = tuple(len(line) - 1 for line in lines)
    if np.prod(sides) != len(corners):
        raise FlowsrError(
            "not a box of bricks",
            file=case,
            expected=f"{' x '.join(map(str, sides))} cells",
            found=len(corners),
            hint="sample the fields on a uniform grid",
        )
    box = np.ravel_multi_index(places, sides)
    order = np.full(len(corners), -1)
    order[box] = np.arange(len(corners))
    if (order < 0).any():
        raise FlowsrError("not a box of bricks", file=case, expected="one cell a place", found="cells that overlap")
    return tuple(lines), order


def _planes(values: np.ndarray, slack: float) -> np.ndarray:
    """The distinct numbers among some that are equal to round-off."""
    values = np.unique(values)
    starts = np.flatnonzero(np.diff(values, prepend=-np.inf) > 2 * slack)
    return np.array([part.mean() for part in np.split(values, starts[1:])])


def _boundary(case: Path, output, lines) -> tuple[str | None, ...]:
    """Walls and cyclic sides as the patches say; None where an axis has patches of several kinds or of none known."""
    path = case / MESH / "boundary"
    text = (
        path.read_text(errors="replace") if path.is_file() else gzip.open(f"{path}.gz", "rt", errors="replace").read()
    )
    types = {name: found[1] for name, inside in PATCH.findall(text) if (found := PATCH_TYPE.search(inside))}
    sides: dict[tuple[int, int], set[str | None]] = {}
    patches = _block(output, "vtkMultiBlockDataSet")
    for number in range(patches.GetNumberOfBlocks() if patches is not None else 0):
        block = patches.GetBlock(number)
        name = patches.GetMetaData(number).Get(vtk_module("vtkCommonDataModel", case).vtkCompositeDataSet.NAME())
        if block is None or not block.GetNumberOfPoints():
            continue
        for side in _sides_of(block.GetBounds(), lines):
            sides.setdefault(side, set()).add(KINDS.get(types.get(name)))
    kinds = [sides.get((axis, 0), set()) | sides.get((axis, 1), set()) for axis in range(3)]
    return tuple(next(iter(k)) if len(k) == 1 else None for k in kinds)


def _sides_of(bounds, lines) -> list[tuple[int, int]]:
    """The sides (axis, end) of the box that a patch lies in."""
    found = []
    for axis, line in enumerate(lines):
        slack = 2 * TOLERANCE * float(np.abs(line).max())
        if bounds[2 * axis + 1] - bounds[2 * axis] <= slack:
            found += [(axis, end) for end in (0, 1) if abs(bounds[2 * axis] - line[-end]) <= slack]
    return found or [(axis, end) for axis in range(3) for end in (0, 1)]


@lru_cache(maxsize=1)
def _values(case: str, time: float, name: str, signature: tuple) -> np.ndarray:
    """(cell, component) as the case numbers its cells."""
    with listening(case, name):
        grid = _block(read_cells(str(Path(case) / CONTROL), time, name), "vtkUnstructuredGrid")
        array = None if grid is None else grid.GetCellData().GetArray(name)
        if array is None:
            raise FlowsrError("damaged or not readable", file=case, variable=name, found=f"no values at time {time:g}")
        return numbers(array).copy()


class FoamArray(LazyArray):
    """(1, component, x, y, z) of a field of a case at one time."""

    def __init__(self, case: Path, time: float, folder: str, name: str, count: int, sides):
        super().__init__((1, count, *sides), "f4", case, name)
        self.time, self.folder = time, folder

    def load(self, index):
        path = self.file / self.folder / self.variable
        path = path if path.exists() else path.with_name(f"{path.name}.gz")
        mesh = _mesh(str(self.file), _signature(self.file))
        _survive(self.file, self.time, _signature(self.file, *path.parent.iterdir()))
        values = _values(str(self.file), self.time, self.variable, (str(path), *_signature(self.file, path)))
        if values.shape != (len(mesh.order), self.shape[1]):
            raise FlowsrError(
                "mesh and field disagree",
                file=path,
                variable=self.variable,
                expected=f"{len(mesh.order)} cells of {self.shape[1]}",
                found=values.shape,
            )
        return values[mesh.order].reshape(*mesh.sides, -1).transpose(3, 0, 1, 2)[None][index]
