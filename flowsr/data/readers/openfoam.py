"""OpenFOAM cases whose mesh is a box of bricks, such as a channel made by blockMesh; time folders are the times.

VTK reads mesh and fields, in the quarantine. The cells, which a case numbers as it likes, are sorted into the box by
where they are; the dimensions of a field are its unit. Values are VTK's float32, whatever the case has; a snapshot of
one field is read whole.
"""

from __future__ import annotations

import re
from pathlib import Path

import xarray as xr

from flowsr.data.readers.base import READERS, Reader, Request, assume
from flowsr.data.readers.lazy import Join
from flowsr.data.readers.vtk import DECLARED, ForeignArray, in_box, seen, structured_dataset
from flowsr.errors import require
from flowsr.quarantine import check_installed

MESH = Path("constant") / "polyMesh"
CONTROL = Path("system") / "controlDict"


@READERS.register("openfoam")
class OpenfoamReader(Reader):
    """A case folder, or the ``.foam`` file in it."""

    signs = "an OpenFOAM case (constant/polyMesh, system/controlDict, time folders)"
    takes = DECLARED

    def recognizes(self, path: Path) -> bool:
        if path.is_file() and path.suffix.lower() not in (".foam", ".openfoam"):
            return False
        case = _case(path)
        return (case / CONTROL).is_file() or (case / MESH).is_dir()

    def open(self, path: Path, request: Request) -> xr.Dataset:
        case = _case(path)
        check_installed("vtkmodules", case, "formats")
        found = _described(case)
        times = list(zip(found["times"], found["folders"]))
        arrays = {
            name: Join([FoamArray(case, time, folder, name, count, found) for time, folder in times])
            for name, count in found["arrays"].items()
        }
        notes = {"precision": "float32, as VTK reads OpenFOAM's numbers"}
        if any("m" in re.findall("[A-Za-z]+", unit or "") for unit in found["units"].values()):
            notes["length_units"] = "m"
        if None not in found["boundary"]:
            notes["boundary"] = found["boundary"]
        dataset = structured_dataset(case, found, arrays, request.layout, notes)
        assume(dataset, boundary=[kind or "open" for kind in found["boundary"]])
        return dataset


def _case(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _described(case: Path) -> dict:
    folders = [p for p in case.iterdir() if p.is_dir() and p.name[:1].isdecimal()]
    return seen("flowsr.quarantine.openfoam:describe", [case, *_mesh_files(case), *folders])


def _mesh_files(case: Path) -> list[Path]:
    return sorted(p for p in [*(case / MESH).glob("*"), case / CONTROL] if p.is_file())


class FoamArray(ForeignArray):
    """A field of a case at one time."""

    def __init__(self, case: Path, time: float, folder: str, name: str, count: int, found: dict):
        super().__init__("openfoam", [case], name, {"count": count, "dtype": "f4"}, found, time, name)
        self.folder = folder

    def converted(self, box):
        path = self.file / self.folder / self.variable
        path = path if path.exists() else path.with_name(f"{path.name}.gz")
        files = [self.file, path, *_mesh_files(self.file)]
        values, order = seen(f"{self.module}:values", files, *self.asked), _described(self.file)["order"]
        agree, expected = values.shape == (len(order), self.shape[1]), f"{len(order)} cells of {self.shape[1]}"
        where = {"file": path, "variable": self.variable}
        require(agree, "mesh and field disagree", **where, expected=expected, found=values.shape)
        return in_box(values[order].reshape(*self.shape[2:], -1).transpose(3, 0, 1, 2), box)
