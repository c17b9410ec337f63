"""Copying fields between layouts: equal, resumable, whole or not at all; and inspecting them."""

import importlib
import random
import xml.etree.ElementTree as ElementTree
from functools import partial

import h5py
import numpy as np
import pytest
import xarray as xr

from flowsr.cli import main
from flowsr.data import convert, create_store, degrade, grid_of, inspect, open_field, write_hdf5
from flowsr.data.convert import copy_boxes
from flowsr.data.open import ReadOptions
from flowsr.data.pairs import Ingest, write_pairs_at
from flowsr.errors import FlowsrError
from flowsr.files import partial_path
from flowsr.grid import Grid
from flowsr.progress import Progress
from flowsr.spread import STOP
from tests.data.fields import die, in_child, random_field, store_field

MODULE = importlib.import_module("flowsr.data.convert")
CENTERS = tuple(-np.cos(np.pi * (np.arange(6) + 0.5) / 6))
CHANNEL = Grid((4, 6, 8), (0.5, 1 / 3, 0.1), ("periodic", "wall", "open"), (0.25, -1, 2.0), (None, CENTERS, None))
UNIFORM = Grid((4, 6, 8), (0.5, 0.25, 0.1), ("periodic", "wall", "open"), (1.0, 2.0, 3.0))


def source(folder, grid=CHANNEL, dtype="float32"):
    fine = random_field(grid, [0.5, 1.0, 2.5], dtype=dtype, units="m/s", provenance={"made": [1, 2.5]})
    pressure = fine["velocity"].values[:, 0] ** 2
    fine["pressure"] = (("time", "x", "y", "z"), pressure, {"irreps": "0e", "units": "Pa", "long_name": "pressure"})
    return store_field(fine, folder / "in.zarr"), fine


@pytest.mark.parametrize("name", ["out.zarr", "out.h5", "out.nc"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("grid", [CHANNEL, UNIFORM], ids=["stretched", "uniform"])
def test_round_trips_are_exact(tmp_path, name, dtype, grid):
    path, _ = source(tmp_path, grid, dtype)
    out = convert(path, tmp_path / name)
    found, stored = open_field(out), open_field(path)
    for key in ("velocity", "pressure"):
        assert found[key].dtype == stored[key].dtype == dtype
        np.testing.assert_array_equal(found[key].values, stored[key].values)
        assert found[key].attrs == stored[key].attrs
    for axis in ("time", "component", "x", "y", "z"):
        np.testing.assert_array_equal(found[axis].values, stored[axis].values)
    assert grid_of(found) == grid_of(stored) and found.attrs["viscosity"] == stored.attrs["viscosity"]
    back = open_field(convert(out, tmp_path / "back.zarr"))
    xr.testing.assert_equal(back.load(), stored.load())
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({"in.zarr", name, "back.zarr"})


def test_netcdf_is_what_xarray_reads(tmp_path):
    path, fine = source(tmp_path)
    with xr.open_dataset(convert(path, tmp_path / "a.nc"), engine="h5netcdf") as found:
        np.testing.assert_array_equal(found["velocity"].values, fine["velocity"].values)
        assert found["velocity"].dims == ("time", "component", "x", "y", "z")
        np.testing.assert_array_equal(found["y"].values, np.array(CENTERS))


def test_the_jhtdb_layout_is_theirs(tmp_path):
    path, fine = source(tmp_path)
    out = convert(path, tmp_path / "a.h5", layout="jhtdb")
    with h5py.File(out) as file:
        assert file["velocity_0003"].shape == (8, 6, 4, 3) and file["pressure_0001"].shape == (8, 6, 4, 1)
        np.testing.assert_array_equal(file["velocity_0002"][7, 5, 3], fine["velocity"].values[1, :, 3, 5, 7])
        np.testing.assert_array_equal(file["ycoor"], CENTERS)
    np.testing.assert_array_equal(open_field(out)["velocity"].values, fine["velocity"].values)
    assert open_field(out)["time"].values.tolist() == [0.5, 1.0, 2.5]
    with h5py.File(out, "a") as file:  # as the database writes it: numbers of snapshots, no times
        del file.attrs["flowsr_times"]
    assert open_field(out)["time"].values.tolist() == [1, 2, 3]


def test_the_well_layout_is_theirs(tmp_path):
    path, fine = source(tmp_path)
    out = convert(path, tmp_path / "a.hdf5", layout="well")
    with h5py.File(out) as file:
        assert file["t1_fields/velocity"].shape == (1, 3, 4, 6, 8, 3) and list(file["t0_fields"]) == ["pressure"]
        np.testing.assert_array_equal(file["t1_fields/velocity"][0, 2, 3, 5, 7], fine["velocity"].values[2, :, 3, 5, 7])
        assert file["boundary_conditions/y_wall"].attrs["bc_type"] == "WALL"
    found = open_field(out)
    np.testing.assert_array_equal(found["velocity"].values, fine["velocity"].values)
    np.testing.assert_array_equal(found["pressure"].values, fine["pressure"].values)
    assert grid_of(found).boundary == CHANNEL.boundary


def read_vtk(path):
    """Arrays of a VTK XML file with raw appended data, by its offsets."""
    whole = path.read_bytes()
    mark = whole.index(b'encoding="raw">\n_') + len(b'encoding="raw">\n_')
    head = ElementTree.fromstring(whole[:mark].decode().rsplit("<AppendedData", 1)[0] + "</VTKFile>")
    arrays = {}
    for item in (item for item in head.iter("DataArray") if item.get("format") == "appended"):
        start = mark + int(item.get("offset"))
        size = int(np.frombuffer(whole, "<u8", 1, start)[0])
        kind = {"Float32": "<f4", "Float64": "<f8"}[item.get("type")]
        arrays[item.get("Name")] = np.frombuffer(whole, kind, size // np.dtype(kind).itemsize, start + 8)
    assert whole[mark:].endswith(b"</AppendedData></VTKFile>\n")
    return head, arrays


def test_vtk_image_data_for_paraview(tmp_path):
    path, fine = source(tmp_path, UNIFORM)
    with pytest.raises(FlowsrError, match=r"one snapshot.*--time"):
        convert(path, tmp_path / "a.vti")
    head, arrays = read_vtk(convert(path, tmp_path / "a.vti", time=1))
    box = head.find("ImageData")
    assert box.get("WholeExtent") == "0 4 0 6 0 8"
    np.testing.assert_allclose([float(v) for v in box.get("Spacing").split()], UNIFORM.spacing)
    np.testing.assert_allclose([float(v) for v in box.get("Origin").split()], UNIFORM.origin)
    velocity = arrays["velocity"].reshape(8, 6, 4, 3)  # VTK counts x fastest
    np.testing.assert_array_equal(velocity.transpose(3, 2, 1, 0), fine["velocity"].values[1])
    np.testing.assert_array_equal(arrays["pressure"].reshape(8, 6, 4).T, fine["pressure"].values[1])


def test_vtk_of_a_stretched_grid(tmp_path):
    path, fine = source(tmp_path)
    head, arrays = read_vtk(convert(path, tmp_path / "a.vtr", time=2))
    assert head.get("type") == "RectilinearGrid"
    np.testing.assert_allclose(arrays["y"], CHANNEL.faces()[1])
    np.testing.assert_array_equal(
        arrays["velocity"].reshape(8, 6, 4, 3).transpose(3, 2, 1, 0), fine["velocity"].values[2]
    )


@pytest.mark.parametrize("name", ["a.zarr", "a.h5", "a.nc", "a.vti"])
@pytest.mark.parametrize("kill_at", [0.2, 0.6])
def test_a_killed_conversion_is_resumed_and_ends_with_the_same_bytes(tmp_path, name, kill_at, monkeypatch):
    monkeypatch.setattr(MODULE, "PIECE", 300)
    path, _ = source(tmp_path, UNIFORM)
    time = 1 if name == "a.vti" else None
    whole = convert(path, tmp_path / "whole" / name, time=time)
    target = tmp_path / "killed" / name
    report = Progress(lambda _, fraction, message: die() if fraction > kill_at else None)
    assert in_child(lambda: convert(path, target, time=time, progress=report)) == -9
    assert not target.exists()
    written = []
    if name != "a.zarr":
        kind = MODULE.TARGETS[MODULE.SUFFIXES[target.suffix]]
        write = kind.write
        monkeypatch.setattr(kind, "write", lambda self, *piece: written.append(piece[:2]) or write(self, *piece))
    convert(path, target, time=time)
    if name in ("a.h5", "a.nc"):
        assert len(written) > 0 and ("pressure", 0) not in written, "finished pieces were written again"
        found, wanted = open_field(target), open_field(whole)
        xr.testing.assert_identical(found.load(), wanted.load())
    elif name == "a.vti":
        assert target.read_bytes() == whole.read_bytes()
    assert not any(p.name.startswith(".") for p in target.parent.iterdir())


def test_a_piece_damaged_while_the_conversion_was_down_is_written_again(tmp_path):
    path, fine = source(tmp_path, UNIFORM)
    target = tmp_path / "a.h5"
    assert in_child(lambda: convert(path, target, progress=lambda f, _: die() if f > 0.6 else None)) == -9
    with h5py.File(tmp_path / ".a.h5.partial" / "a.h5", "a") as file:
        file["velocity"][0, 1, 2, 3, 4] += 1
    np.testing.assert_array_equal(open_field(convert(path, target))["velocity"].values, fine["velocity"].values)


def test_bytes_that_do_not_read_back_are_refused(tmp_path, monkeypatch):
    write = MODULE.Hdf5Target.write
    wrong = lambda self, name, time, slab, v: write(self, name, time, slab, v + (time == 1))  # noqa: E731
    monkeypatch.setattr(MODULE.Hdf5Target, "write", wrong)
    with pytest.raises(FlowsrError, match="does not read back as it was written"):
        convert(source(tmp_path)[0], tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()


def test_what_is_there_stays_unless_asked(tmp_path):
    path, fine = source(tmp_path)
    (tmp_path / "a.h5").write_text("mine")
    with pytest.raises(FlowsrError, match=r"something already.*--fresh"):
        convert(path, tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_text() == "mine"
    (tmp_path / "b.h5").mkdir()
    with pytest.raises(FlowsrError, match="a folder has this name"):
        convert(path, tmp_path / "b.h5", fresh=True)
    np.testing.assert_array_equal(
        open_field(convert(path, tmp_path / "a.h5", fresh=True))["velocity"].values, fine["velocity"].values
    )


@pytest.mark.parametrize("copy", [copy_boxes, partial(write_pairs_at, None, "train", settings=Ingest(), times=[0])])
def test_workers_that_are_to_end_write_no_more(tmp_path, copy, monkeypatch):
    path, _ = source(tmp_path)
    monkeypatch.setattr("flowsr.data.pairs._pair_groups", lambda *given: {"": None})
    with create_store(tmp_path / "a.zarr", open_field(path)) as store:
        token = STOP.set(lambda: True)
        try:
            if copy is copy_boxes:
                copy(path, ReadOptions(), store.target, [("velocity", 0, box) for box in store.boxes("velocity")])
            else:
                copy(target=store.target)
        finally:
            STOP.reset(token)
        assert not any(store.is_written("velocity", 0, box) for box in store.boxes("velocity"))


@pytest.mark.parametrize(
    ("target", "options", "line"),
    [
        ("a.txt", {}, "which layout"),
        ("a.h5", {"layout": "wel"}, "unknown output layout 'wel'.*did you mean 'well'"),
        ("a.h5", {"time": 3}, "no such snapshot.*0 to 2"),
    ],
)
def test_conversions_that_are_none(tmp_path, target, options, line):
    path, _ = source(tmp_path)
    with pytest.raises(FlowsrError, match=line):
        convert(path, tmp_path / target, **options)
    assert [p.name for p in tmp_path.iterdir()] == ["in.zarr"]


def beltrami(n=32):
    """An ABC flow, free of divergence, on a box with unequal sides."""
    grid = Grid((n, n // 2, 2 * n), (2 * np.pi / n,) * 3)
    x, y, z = np.meshgrid(*grid.coordinates(), indexing="ij")
    fine = random_field(grid, [0.0], dtype="float64")
    values = np.stack([np.sin(z) + np.cos(y), 2 * np.sin(x) + np.cos(z), 3 * np.sin(y) + 2 * np.cos(x)])
    return fine, values, grid


def test_inspecting_says_what_is_there(tmp_path):
    fine, values, _ = beltrami()
    fine["velocity"].values[0] = values
    found = inspect(store_field(fine, tmp_path / "a.zarr"))
    assert found.reader == "zarr" and found.flow.divergence < 0.05 and found.flow.better_order is None
    report = found.variables[0]
    assert report.bad == 0 and report.lowest >= values.min() and report.highest <= values.max()
    assert report.rms == pytest.approx(np.sqrt(np.mean(values**2)), rel=0.2)
    text = "\n".join(found.lines())
    assert "Zarr metadata" in text and "32 cells of 0.19635, from 0 to 6.28319, periodic" in text
    assert "divergence" in text and "CHECK" not in text


def test_inspecting_notices_swapped_components(tmp_path):
    x, y, z = np.meshgrid(*(np.arange(32) * 2 * np.pi / 32,) * 3, indexing="ij")
    fine = random_field(Grid((32,) * 3, (2 * np.pi / 32,) * 3), [0.0], dtype="float64")
    u = np.sin(x) * np.cos(y), -np.cos(x) * np.sin(y), 0 * z
    fine["velocity"].values[0] = np.stack([u[0], u[2], u[1]])
    found = inspect(store_field(fine, tmp_path / "a.zarr"))
    assert found.flow.better_order == "uwv" and "CHECK THE AXES" in "\n".join(found.lines())


def test_inspecting_counts_what_is_no_number(tmp_path):
    fine = random_field(Grid((8, 6, 4)), [0.0])
    fine["velocity"].values[0, 1, 2, 3, 1] = np.nan
    report = inspect(store_field(fine, tmp_path / "a.zarr")).variables[0]
    assert report.bad > 0 and np.isfinite(report.rms)


def test_inspect_and_convert_at_the_command_line(tmp_path, capsys):
    path, _ = source(tmp_path, UNIFORM)
    assert main(["inspect", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "velocity" in printed and "[m/s]" not in printed and "periodic" in printed and "wall" in printed
    assert main(["convert", str(path), str(tmp_path / "a.vti"), "--time", "1"]) == 0
    assert "converted" in capsys.readouterr().out
    assert main(["convert", str(path), str(tmp_path / "a.txt")]) == 2
    assert main(["inspect", str(tmp_path / "none.h5")]) == 2
    assert capsys.readouterr().err.count("\n") >= 2


def test_a_degraded_field_is_converted_without_being_stored_first(tmp_path):
    path, _ = source(tmp_path, UNIFORM)
    coarse = degrade(open_field(path), "block_mean", 2)
    out = store_field(coarse, tmp_path / "coarse.zarr")
    np.testing.assert_array_equal(open_field(out)["velocity"].values, coarse["velocity"].values)


@pytest.mark.parametrize("name", ["out.zarr", "out.h5", "out.nc", "out.vti"])
def test_a_conversion_knows_what_its_source_held(tmp_path, name):
    """Two sources on the same grid: the second is neither taken for the first, nor mixed with it."""
    first, second = (store_field(random_field(UNIFORM, [0.5], seed=s), tmp_path / f"{s}.zarr") for s in (1, 2))
    convert(first, tmp_path / name)
    with pytest.raises(FlowsrError, match="--fresh"):
        convert(second, tmp_path / name)
    np.testing.assert_array_equal(open_field(tmp_path / name)["velocity"].values, open_field(first)["velocity"].values)
    convert(second, tmp_path / name, fresh=True)
    found = open_field(tmp_path / name)["velocity"].values
    np.testing.assert_array_equal(found, open_field(second)["velocity"].values)


@pytest.mark.parametrize("name", ["out.zarr", "out.h5", "out.nc"])
def test_a_source_that_changes_meanwhile_is_not_published(tmp_path, name):
    path = tmp_path / "in.h5"
    write_hdf5(random_field(UNIFORM, [0.5, 1.0]), path)

    def change(_, fraction, message):
        with h5py.File(path, "r+") as file:
            file["velocity"][1] += 1

    with pytest.raises(FlowsrError, match="the source changed while it was read"):
        convert(path, tmp_path / name, progress=Progress(change))
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["out.h5", "out.nc", "out.vti"])
def test_two_conversions_into_one_file_do_not_meet(tmp_path, name):
    path = store_field(random_field(UNIFORM, [0.5]), tmp_path / "in.zarr")
    found = []

    def second(_, fraction, message):
        if not found:
            found.append(in_child(lambda: refused(path, tmp_path / name)))

    convert(path, tmp_path / name, progress=Progress(second))
    assert found == [0]


def refused(path, target):
    with pytest.raises(FlowsrError, match="another process is writing"):
        convert(path, target)


@pytest.mark.parametrize("name", ["out.h5", "out.nc", "out.vti"])
def test_a_damaged_unfinished_file_is_repaired_or_refused_in_a_line(tmp_path, name):
    path = store_field(random_field(UNIFORM, [0.5]), tmp_path / "in.zarr")
    whole = convert(path, tmp_path / f"whole{name[3:]}")
    expected, draw = open_field(whole).load(), random.Random(name)

    def stop(_, fraction, message):
        raise KeyboardInterrupt

    for number in range(6):
        target = tmp_path / f"{number}{name[3:]}"
        with pytest.raises(KeyboardInterrupt):
            convert(path, target, progress=Progress(stop))
        file = partial_path(target) / target.name
        content = bytearray(file.read_bytes())
        if number == 0:
            file.unlink()
        else:
            place = draw.randrange(len(content) if number > 2 else 600)
            content[place] ^= 1 << draw.randrange(8)
            file.write_bytes(content[: place if number == 5 else None])
        for _ in range(2):
            try:
                convert(path, target)
                break
            except FlowsrError as error:
                assert "\n" not in str(error) and not target.exists()
        xr.testing.assert_identical(open_field(target).load(), expected)


STRANGE = ["velocity", "Velocity", "u1", "u2", "temperature 2m", "k-epsilon", "Q", "q", "p_0001", "w'w'", "x", "été"]


def strange(folder, names=STRANGE):
    """A field with names that other layouts do not allow, a series and attributes that they have no place for."""
    fine = random_field(UNIFORM, [0.5], units="m/s")
    dims, values = ("time", "x", "y", "z"), fine["velocity"].values[:, 0]
    fine = fine.rename(velocity=names[0]).assign(
        {n: (dims, values + k, {"irreps": "0o", "units": "K", "long_name": n}) for k, n in enumerate(names[1:])}
    )
    fine["energy"] = (("time",), np.array([2.5]), {"units": "J"})
    return fine


@pytest.mark.parametrize("layout", ["jhtdb", "well", "hdf5", "netcdf", "zarr", "vtk"])
def test_nothing_is_lost_on_the_way_to_another_layout_and_back(tmp_path, layout):
    names = [name for name in STRANGE if name != "x"]
    fine = strange(tmp_path, names)
    write_hdf5(fine, tmp_path / "in.h5")
    suffix = {"zarr": "zarr", "vtk": "vti"}.get(layout, "h5")
    out = convert(tmp_path / "in.h5", tmp_path / f"out.{suffix}", layout=layout)
    stored, found = open_field(tmp_path / "in.h5"), open_field(out)
    assert set(found.data_vars) == set(stored.data_vars) == {*names, "energy"}
    xr.testing.assert_equal(found.load(), stored.load())
    assert {n: a.attrs for n, a in found.variables.items()} == {n: a.attrs for n, a in stored.variables.items()}
    assert found.attrs == stored.attrs


@pytest.mark.parametrize("layout", ["jhtdb", "well"])
def test_what_a_layout_cannot_hold_is_named_and_left_out_on_demand(tmp_path, layout, caplog):
    fine = random_field(UNIFORM, [0.0])
    six = np.repeat(fine["velocity"].values, 2, axis=1)
    fine["stress"] = (("time", "component_6", "x", "y", "z"), six, {"irreps": "0e+2e", "units": "1"})
    path = store_field(fine, tmp_path / "a.zarr")
    with pytest.raises(FlowsrError) as found:
        convert(path, tmp_path / "b.h5", layout=layout)
    assert found.value.variable == "stress" and "0e+2e" in found.value.found and "--lossy" in found.value.hint
    with caplog.at_level("WARNING", "flowsr"):
        out = convert(path, tmp_path / "b.h5", layout=layout, lossy=True)
    assert "left out: stress" in caplog.text and list(open_field(out).data_vars) == ["velocity"]
    np.testing.assert_array_equal(open_field(out)["velocity"].values, fine["velocity"].values)


@pytest.mark.parametrize("layout", ["jhtdb", "well"])
@pytest.mark.parametrize(
    "text", ["{", "[]", '{"variables": 3}', '{"variables": {"nothing": {"attrs": {}, "name": "a"}}}']
)
def test_damaged_words_of_its_own_are_one_line(tmp_path, layout, text):
    out = convert(store_field(random_field(UNIFORM, [0.0]), tmp_path / "a.zarr"), tmp_path / "b.h5", layout=layout)
    with h5py.File(out, "a") as file:
        del file["flowsr"]
        file["flowsr"] = text
    with pytest.raises(FlowsrError, match="own words are damaged"):
        open_field(out)


def test_missing_values_are_carried_into_every_layout(tmp_path):
    fine = random_field(UNIFORM, [0.0])
    fine["velocity"][0, 1, 2, 3, 1] = np.nan
    path = store_field(fine, tmp_path / "a.zarr")
    for name, layout in (("b.h5", None), ("c.h5", "jhtdb"), ("d.h5", "well"), ("e.nc", None), ("f.vti", None)):
        found = open_field(convert(path, tmp_path / name, layout=layout))
        np.testing.assert_array_equal(found["velocity"].values, fine["velocity"].values)
