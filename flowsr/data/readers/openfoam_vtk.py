"""VTK's reader of OpenFOAM cases, and a trial of it in a process of its own.

VTK ends the process where a case claims more faces than there is memory for, or names a cell that does not exist. Run
as a program (``python openfoam_vtk.py PATHS CONTROL [TIME]``) this file reads a case and forgets it; :func:`trial` runs
it and says how it ended. Nothing but VTK is imported by it, so that a trial starts in a quarter of a second.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from functools import lru_cache

# Seconds a trial may take, and bytes of files a second beyond that; VTK reads text some twenty times as fast.
PATIENCE = 60
SLOWEST = 500_000


def case_reader(control: str):
    """VTK's reader of the case with this controlDict; no array is chosen."""
    from vtkmodules.vtkIOGeometry import vtkOpenFOAMReader

    reader = vtkOpenFOAMReader()
    reader.SetFileName(control)
    reader.SkipZeroTimeOff()
    reader.CreateCellToPointOff()
    reader.UpdateInformation()
    reader.DisableAllCellArrays()
    reader.DisableAllPointArrays()
    reader.DisableAllLagrangianArrays()
    return reader


def read_mesh(control: str):
    """VTK's blocks: the cells and the patches, without fields."""
    reader = case_reader(control)
    reader.EnableAllPatchArrays()
    reader.Update()
    return reader.GetOutput()


def read_cells(control: str, time: float, name: str | None = None):
    """VTK's blocks: the cells, with one field, or all, at a time."""
    reader = case_reader(control)
    if name is None:
        reader.EnableAllCellArrays()
    else:
        reader.SetCellArrayStatus(name, 1)
    reader.DisableAllPatchArrays()
    reader.SetPatchArrayStatus("internalMesh", 1)
    reader.UpdateTimeStep(time)
    return reader.GetOutput()


@lru_cache(maxsize=4096)
def trial(control: str, time: float | None, signature: tuple[tuple[str, int, int], ...]) -> str | None:
    """How VTK ends when it reads the mesh of a case, or all its fields at a time, in a process of its own.

    Args:
        control: path of the controlDict.
        time: None for the mesh.
        signature: name, bytes and time of change of the files that are read; a trial is held once for each.

    Returns:
        None where it comes to an end, be it with complaints; what happened to it otherwise.
    """
    limit = PATIENCE + sum(size for _, size, _ in signature) / SLOWEST
    command = [sys.executable, "-I", __file__, json.dumps(sys.path), control, *([] if time is None else [repr(time)])]
    quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    try:
        code = subprocess.run(command, **quiet, timeout=limit, check=False).returncode
    except subprocess.TimeoutExpired:
        return f"no end after {limit:.0f} s"
    except OSError as error:
        return f"no process to try it in: {error.strerror}"
    if code < 0:
        return f"VTK ends the process: {signal.strsignal(-code) or f'signal {-code}'}"
    return f"VTK ends the process: exit status {code}" if code else None


def _give_way() -> None:
    """Leave no core file; be the first to end where memory runs out."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def main(paths: str, control: str, time: str | None = None) -> None:
    sys.path[:] = json.loads(paths)
    _give_way()
    from vtkmodules.vtkCommonCore import vtkObject

    vtkObject.GlobalWarningDisplayOff()
    if time is None:
        read_mesh(control)
    else:
        read_cells(control, float(time))


if __name__ == "__main__":
    main(*sys.argv[1:])
