"""VTK, where it is installed: imported when it is used, silent, and one error for what it has to say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import numpy as np

from flowsr.errors import FlowsrError


def vtk_module(name: str, file):
    """A module of VTK, such as ``vtkIOXML``.

    Raises:
        FlowsrError: VTK is not installed; the line says what to install.
    """
    try:
        return import_module(f"vtkmodules.{name}")
    except ImportError:
        raise FlowsrError(
            "read by VTK, which is not installed", file=file, hint="pip install 'flowsr[formats]'"
        ) from None


@contextmanager
def listening(file, variable: str | None = None, heard: bool = True) -> Iterator[None]:
    """What VTK complains of in here is raised, if it is ``heard``; a reader of VTK goes on with what it has, be that half
    a file.

    Raises:
        FlowsrError: with the first line of what VTK said.
    """
    core = vtk_module("vtkCommonCore", file)
    before, said = core.vtkOutputWindow.GetInstance(), core.vtkStringOutputWindow()
    loudness = core.vtkLogger.GetCurrentVerbosityCutoff()
    core.vtkLogger.SetStderrVerbosity(core.vtkLogger.VERBOSITY_OFF)
    core.vtkOutputWindow.SetInstance(said)
    refused = None
    try:
        yield
    except FlowsrError as error:
        refused = error
    finally:
        core.vtkOutputWindow.SetInstance(before)
        core.vtkLogger.SetStderrVerbosity(loudness)
    output = said.GetOutput()  # bytes where VTK quotes some that are no text
    output = output.decode("utf-8", "replace") if isinstance(output, bytes) else output
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if lines and heard:
        found = next((line for line in lines if not line.startswith(("ERROR: In", "Warning: In"))), lines[0])
        raise FlowsrError("damaged or not readable", file=file, variable=variable, found=found.split("): ")[-1][:200])
    if refused is not None:
        raise refused


def numbers(array) -> np.ndarray:
    """The values (tuple, component) of a VTK array, not copied where VTK keeps them as numpy does."""
    values = import_module("vtkmodules.util.numpy_support").vtk_to_numpy(array)
    return values.reshape(array.GetNumberOfTuples(), array.GetNumberOfComponents())


def dtype_of(vtk_type: int) -> np.dtype | None:
    """The numpy dtype of a VTK type's number; None for text and the like."""
    kinds = import_module("vtkmodules.util.numpy_support").get_vtk_to_numpy_typemap()
    return np.dtype(kinds[vtk_type]) if vtk_type in kinds else None
