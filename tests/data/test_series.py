"""A series for ParaView, read back by VTK: times, velocity as it was, vorticity and Q of a known flow."""

import importlib
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from flowsr.cli import main
from flowsr.data import convert
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from tests.data.fields import random_field, store_field

COPY = importlib.import_module("flowsr.data.convert")
GRID = Grid((12, 16, 20), tuple(2 * np.pi / n for n in (12, 16, 20)))


def taylor_green(folder):
    """(sin x cos y, -cos x sin y, 0): vorticity 2 sin x sin y along z, Q = (sin x sin y)^2 - (cos x cos y)^2."""
    field = random_field(GRID, [0.0, 0.5], dtype="float64", units="m/s")
    x, y, z = np.meshgrid(*GRID.coordinates(), indexing="ij")
    field["velocity"].values[0] = np.sin(x) * np.cos(y), -np.cos(x) * np.sin(y), 0 * z
    field["velocity"].values[1] = 0 * x, np.sin(2 * z), 0 * z
    return store_field(field, folder / "in.zarr"), field, (x, y, z)


def read_by_vtk(file):
    pytest.importorskip("vtkmodules")
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkIOXML import vtkXMLGenericDataObjectReader

    reader = vtkXMLGenericDataObjectReader()
    reader.SetFileName(str(file))
    reader.Update()
    cells = reader.GetOutput().GetCellData()
    shape = tuple(n - 1 for n in reader.GetOutput().GetDimensions())[::-1]
    arrays = [cells.GetArray(number) for number in range(cells.GetNumberOfArrays())]
    return {a.GetName(): vtk_to_numpy(a).reshape(*shape, a.GetNumberOfComponents()).T for a in arrays}


def listed(pvd):
    return [(float(e.get("timestep")), pvd.parent / e.get("file")) for e in ElementTree.parse(pvd).iter("DataSet")]


def test_vtk_reads_the_flow_with_its_vorticity_and_q(tmp_path, monkeypatch, capsys):
    path, field, (x, y, z) = taylor_green(tmp_path)
    monkeypatch.setattr(COPY, "PIECE", 6 * field["velocity"][0].nbytes // 20)  # slabs of six planes
    assert main(["convert", str(path), str(tmp_path / "out.pvd")]) == 0
    capsys.readouterr()
    (start, first), (later, second) = listed(tmp_path / "out.pvd")
    assert (start, later) == (0.0, 0.5) and first.name == "out_0000.vti"
    found = read_by_vtk(first)
    np.testing.assert_array_equal(found["velocity"], field["velocity"].values[0])
    np.testing.assert_allclose(found["vorticity"][2], 2 * np.sin(x) * np.sin(y), atol=2e-4)
    np.testing.assert_allclose(found["vorticity"][:2], 0, atol=1e-12)
    q = (np.sin(x) * np.sin(y)) ** 2 - (np.cos(x) * np.cos(y)) ** 2
    np.testing.assert_allclose(found["Q"][0], q, atol=5e-4)
    np.testing.assert_allclose(read_by_vtk(second)["vorticity"][0], -2 * np.cos(2 * z), atol=2e-3)


def test_a_stretched_axis_between_walls_is_a_series_too(tmp_path):
    centers = tuple(-np.cos(np.pi * (np.arange(16) + 0.5) / 16))
    grid = Grid((4, 5, 16), (0.5, 0.25, 0.125), ("periodic", "open", "wall"), (0.0, 0.0, -1.0), (None, None, centers))
    field = random_field(grid, [1.0], dtype="float64")
    field["velocity"].values[:] = np.stack([0 * v for v in range(3)]).reshape(1, 3, 1, 1, 1)
    field["velocity"].values[0, 0] = 1 - np.array(centers) ** 2  # a channel: vorticity du/dz = -2 z along y
    ((_, file),) = listed(convert(store_field(field, tmp_path / "in.zarr"), tmp_path / "out.pvd"))
    found = read_by_vtk(file)
    assert file.suffix == ".vtr"
    np.testing.assert_allclose(found["vorticity"][1], np.broadcast_to(-2 * np.array(centers), (4, 5, 16)), atol=1e-12)


def test_a_killed_series_resumes_and_another_is_refused(tmp_path, monkeypatch):
    path, _, _ = taylor_green(tmp_path)
    write, written = COPY.write_file, []

    def once(dataset, target, *rest, **how):
        if written:
            raise KeyboardInterrupt
        written.append(target)
        return write(dataset, target, *rest, **how)

    with monkeypatch.context() as patch:
        patch.setattr(COPY, "write_file", once)
        with pytest.raises(KeyboardInterrupt):
            convert(path, tmp_path / "out.pvd")
    assert not (tmp_path / "out.pvd").exists()
    before = written[0].stat().st_mtime_ns
    convert(path, tmp_path / "out.pvd")
    assert written[0].stat().st_mtime_ns == before and len(listed(tmp_path / "out.pvd")) == 2
    with pytest.raises(FlowsrError, match="--fresh"):
        convert(path, tmp_path / "out.pvd")
    (tmp_path / "out.pvd").unlink()
    other = store_field(random_field(GRID, [3.0]), tmp_path / "other.zarr")
    with pytest.raises(FlowsrError, match="--fresh"):
        convert(other, tmp_path / "out.pvd")
    assert len(listed(convert(other, tmp_path / "out.pvd", fresh=True))) == 1
