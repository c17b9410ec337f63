"""Files written here by a few lines of h5py and zarr, not by flowsr's own writers."""

import pickle

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowsr.data import READERS, check_finite, grid_of, open_field, write_hdf5
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from tests.data.fields import in_child, random_field, store_field

SIDES = (4, 6, 3)
DIMS = ("time", "component", "x", "y", "z")


def arrays(sides=SIDES, times=2, dtype="float32"):
    values = np.arange(times * 3 * np.prod(sides), dtype=dtype).reshape(times, 3, *sides)
    spacing = (0.5, 0.25, 1.0)
    axes = {name: (np.arange(n) + 0.5) * d for name, n, d in zip("xyz", sides, spacing)}
    return {"velocity": values, "time": np.arange(times) * 0.1, **axes}


def write_h5(path, content, *, attrs=None, labels=DIMS):
    with h5py.File(path, "w") as file:
        file.attrs["boundary"] = ["periodic", "wall", "open"]
        file.attrs["viscosity"] = 0.01
        for name, values in content.items():
            file[name] = values
        if "velocity" in content:
            file["velocity"].attrs["irreps"] = "1o"
            for axis, label in enumerate(labels or ()):
                file["velocity"].dims[axis].label = label
        for name, value in (attrs or {}).items():
            if value is None:
                del file.attrs[name]
            else:
                file.attrs[name] = value
    return path


def write_zarr(path, content, version, *, named=True):
    root = zarr.create_group(str(path), zarr_format=version)
    root.attrs.update({"boundary": ["periodic", "wall", "open"], "viscosity": 0.01})
    for name, values in content.items():
        dims = DIMS if name == "velocity" else (name,)
        options = {"dimension_names": dims} if version == 3 and named else {}
        array = root.create_array(name, data=values, chunks=tuple(max(1, n // 2) for n in values.shape), **options)
        if version == 2 and named:
            array.attrs["_ARRAY_DIMENSIONS"] = list(dims)
        if name == "velocity":
            array.attrs["irreps"] = "1o"
    return path


WRITERS = {
    "hdf5": lambda folder, content: write_h5(folder / "a.h5", content),
    "zarr 2": lambda folder, content: write_zarr(folder / "a.zarr", content, 2),
    "zarr 3": lambda folder, content: write_zarr(folder / "a.zarr", content, 3),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_strangers_files_come_back_equal_and_lazy(tmp_path, write):
    content = arrays()
    dataset = open_field(write(tmp_path, content))
    assert dataset["velocity"].dims == DIMS and not dataset["velocity"]._in_memory
    np.testing.assert_array_equal(dataset["velocity"].values, content["velocity"])
    assert not dataset["velocity"]._in_memory, "values are kept after reading"
    grid = grid_of(dataset)
    assert grid == Grid(SIDES, (0.5, 0.25, 1.0), ("periodic", "wall", "open"))
    assert dataset.attrs["viscosity"] == 0.01
    part = dataset["velocity"][1, ::-1, 1:3, [5, 0]].values
    np.testing.assert_array_equal(part, content["velocity"][1, ::-1, 1:3][:, :, [5, 0]])
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again["velocity"].values, content["velocity"])


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_handles_live_in_the_process_that_reads(tmp_path, write):
    content = arrays()
    dataset = open_field(write(tmp_path, content))
    assert dataset["velocity"][0].sum() == content["velocity"][0].sum()

    def child():
        np.testing.assert_array_equal(dataset["velocity"][1].values, content["velocity"][1])

    assert in_child(child) == 0


def test_zeros_in_zarr_2_are_not_missing_values(tmp_path):
    content = arrays()
    content["velocity"][:] = 0  # the fill value of a Zarr 2 array
    dataset = open_field(write_zarr(tmp_path / "a.zarr", content, 2))
    np.testing.assert_array_equal(dataset["velocity"].values, content["velocity"])


def test_big_endian_files_come_back_in_native_order(tmp_path):
    content = arrays()
    content["velocity"] = content["velocity"].astype(">f4")
    dataset = open_field(write_h5(tmp_path / "a.h5", content))
    assert dataset["velocity"].dtype == np.dtype("float32") == dataset["velocity"].values.dtype
    np.testing.assert_array_equal(dataset["velocity"].values, content["velocity"])


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(shape=st.tuples(*[st.integers(2, 5)] * 3), dtype=st.sampled_from(["float32", "float64"]), data=st.data())
def test_hdf5_round_trip(tmp_path_factory, shape, dtype, data):
    boundary = data.draw(st.tuples(*[st.sampled_from(["periodic", "wall", "open"])] * 3))
    provenance = {"source": "here", "list": [1, 2.5, None], "nested": {"a": "ü"}}
    dataset = random_field(Grid(shape, (0.1, 0.2, 0.3), boundary), [0.0, 0.5], dtype=dtype, provenance=provenance)
    path = write_hdf5(dataset, tmp_path_factory.mktemp("h5") / "a.h5")
    found = open_field(path)
    xr.testing.assert_identical(found.load(), dataset)
    assert [p.name for p in path.parent.iterdir()] == ["a.h5"]


def test_unnamed_dims_are_settled_by_lengths_or_refused(tmp_path):
    content = arrays(sides=(4, 6, 5))
    found = open_field(write_h5(tmp_path / "a.h5", content, labels=None))
    np.testing.assert_array_equal(found["velocity"].values, content["velocity"])
    with pytest.raises(FlowsrError, match=r"velocity.*fits 6 orders"):
        open_field(write_h5(tmp_path / "b.h5", arrays(sides=(4, 4, 4)), labels=None))
    # as many cells along z as there are components
    with pytest.raises(FlowsrError, match=r"velocity.*fits 2 orders"):
        open_field(write_zarr(tmp_path / "c.zarr", arrays(sides=(4, 5, 3)), 3, named=False))


def test_another_order_of_axes_is_not_taken_for_ours(tmp_path):
    content = arrays(sides=(4, 6, 5))
    content["velocity"] = content["velocity"].transpose(0, 4, 3, 2, 1)
    with pytest.raises(FlowsrError, match=r"order.*found: \('time', 'z', 'y', 'x', 'component'\)"):
        open_field(write_h5(tmp_path / "a.h5", content, labels=None))
    with pytest.raises(FlowsrError, match="shape and coordinates disagree"):
        open_field(write_h5(tmp_path / "b.h5", content))


def broken(name, **changes):
    content = {**arrays(), **changes.pop("content", {})}
    content = {k: v for k, v in content.items() if v is not None}
    return pytest.param(content, changes, id=name)


DEFECTS = [
    (broken("no x", content={"x": None}), r"variable: x; expected: numbers x\(x\)"),
    (broken("no time", content={"time": None}), "variable: time"),
    (broken("no field", content={"velocity": None}), "no field in this file"),
    (broken("short x", content={"x": np.arange(3.0)}), "variable: velocity; expected: .*'x': 3"),
    (broken("stretched x", content={"x": np.arange(4.0) ** 2}), "variable: x; expected: a uniform spacing"),
    (broken("repeated z", content={"z": np.zeros(3)}), "variable: z; expected: increasing"),
    (broken("zigzag z", content={"z": np.array([0.0, 2.0, 1.0])}), "variable: z; expected: increasing"),
    (broken("nan z", content={"z": np.array([0, np.nan, 2])}), "variable: z; expected: increasing"),
    (broken("times back", content={"time": np.array([1.0, 0.5])}), "variable: time; expected: increasing"),
    (broken("text axis", content={"x": np.array([b"a", b"b", b"c", b"d"])}), "variable: x"),
    (broken("2-d axis", content={"x": np.zeros((4, 1))}), "variable: x; expected: x\\(x\\)"),
    (
        broken("whole numbers", content={"velocity": arrays(dtype="int32")["velocity"]}),
        "expected: a dtype float16, float32 or float64; found: int32",
    ),
    (broken("complex", content={"velocity": arrays(dtype="complex64")["velocity"]}), "found: complex64"),
    (broken("no boundary", attrs={"boundary": None}), "variable: boundary"),
    (broken("odd boundary", attrs={"boundary": ["periodic", "wall", "sticky"]}), "found: .*sticky"),
    (broken("two boundaries", attrs={"boundary": ["periodic", "wall"]}), "expected: three of"),
    (
        broken("viscosity in words", attrs={"viscosity": "small"}),
        "variable: viscosity; expected: a number; found: 'small'",
    ),
    (broken("negative viscosity", attrs={"viscosity": -1.0}), "variable: viscosity"),
    (
        broken("two components", content={"velocity": arrays()["velocity"][:, :2]}),
        "expected: 3 components for irreps 1o; found: 2",
    ),
    (broken("other dims", labels=("time", "component", "z", "y", "x")), "velocity"),
]


@pytest.mark.parametrize(
    ("content", "changes", "line"), [pytest.param(*p.values, line, id=p.id) for p, line in DEFECTS]
)
def test_defects_are_one_line_that_says_where(tmp_path, content, changes, line):
    path = write_h5(tmp_path / "a.h5", content, **changes)
    with pytest.raises(FlowsrError, match=line) as caught:
        open_field(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("irreps", ["vector", "1x", 3, "", "1o+0e"])
def test_field_types_that_are_none(tmp_path, irreps):
    path = write_h5(tmp_path / "a.h5", arrays())
    with h5py.File(path, "a") as file:
        del file["velocity"].attrs["irreps"]
        file["velocity"].attrs["irreps"] = irreps
    with pytest.raises(FlowsrError, match="velocity"):
        open_field(path)


@pytest.mark.parametrize("keep", [0, 1, 8, 100, 0.3, 0.7, 0.95])
def test_truncated_hdf5(tmp_path, keep):
    path = write_h5(tmp_path / "a.h5", arrays())
    whole = path.read_bytes()
    path.write_bytes(whole[: keep if keep >= 1 else int(keep * len(whole))])
    with pytest.raises(FlowsrError) as caught:
        open_field(path)["velocity"].load()
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["a.zarr", "a.h5", "a.nc", "a"])
def test_text_is_not_a_field_whatever_its_name(tmp_path, name):
    path = tmp_path / name
    path.write_text("not a field")
    with pytest.raises(FlowsrError, match=r"not a format that flowsr reads.*11 bytes"):
        open_field(path)


@pytest.mark.parametrize(
    "metadata", ["", "{", "[]", "null", '{"zarr_format": 9}', '{"zarr_format": 3, "node_type": "group"}']
)
def test_broken_zarr_metadata(tmp_path, metadata):
    path = tmp_path / "a.zarr"
    path.mkdir()
    (path / "zarr.json").write_text(metadata)
    with pytest.raises(FlowsrError) as caught:
        open_field(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_coordinate_of_a_billion_cells_is_not_read(tmp_path):
    root = zarr.open_group(str(write_zarr(tmp_path / "a.zarr", arrays(), 3)))
    del root["x"]
    root.create_array("x", shape=(10**12,), chunks=(10**6,), dtype="f8", dimension_names=("x",))
    with pytest.raises(FlowsrError, match=r"variable: x.*1000000000000"):
        open_field(tmp_path / "a.zarr")


def test_missing_things_are_named(tmp_path):
    with pytest.raises(FlowsrError, match="no such file"):
        open_field(tmp_path / "nothing.zarr")
    dataset = random_field(Grid((4, 4, 4)), [0.0])
    path = store_field(dataset, tmp_path / "a.zarr")
    with pytest.raises(FlowsrError, match=r"no such group.*fine"):
        open_field(path, group="fine")
    with pytest.raises(FlowsrError, match=r"unknown reader 'hdf4'.*did you mean 'hdf5'"):
        open_field(path, reader="hdf4")
    with pytest.raises(FlowsrError, match="a bare array"):
        open_field(path / "velocity")
    with pytest.raises(FlowsrError, match="damaged or not readable"):
        open_field(path, reader="hdf5")
    own = {"zarr", "hdf5", "jhtdb", "jhtdb_zarr", "well", "blastnet", "described", "netcdf3", "vtk", "xdmf", "openfoam"}
    assert set(READERS) == own


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_counted_and_placed(tmp_path, bad):
    content = arrays(times=3)
    content["velocity"][1, 2, 3, 0, 1] = bad
    content["velocity"][2, 0, :2, 0, 0] = bad
    dataset = open_field(write_h5(tmp_path / "a.h5", content))
    line = r"^a.h5: .*velocity.* 3 of 648, the first at time 1, component 2, x 3, y 0, z 1(; 3 are infinite)?$"
    with pytest.raises(FlowsrError, match=line):
        check_finite(dataset, "a.h5")
    check_finite(dataset.isel(time=[0]))


def test_declared_missing_values_count_as_bad(tmp_path):
    content = arrays()
    content["velocity"][0, 1, 2, 3, 1] = -999.9
    path = write_h5(tmp_path / "a.h5", content)
    check_finite(open_field(path))
    with h5py.File(path, "a") as file:
        file["velocity"].attrs["missing_value"] = -999.9
    with pytest.raises(FlowsrError, match=r"1 of 432.*time 0, component 1, x 2, y 3, z 1"):
        check_finite(open_field(path))


@pytest.mark.parametrize("order", [("time", "z", "y", "x", "component"), ("component", "x", "time", "z", "y")])
def test_named_dims_in_another_order_are_turned(tmp_path, order):
    content = arrays()
    stored = content["velocity"].transpose([DIMS.index(dim) for dim in order])
    found = open_field(write_h5(tmp_path / "a.h5", {**content, "velocity": stored}, labels=order))
    assert found["velocity"].dims == DIMS and not found["velocity"]._in_memory
    np.testing.assert_array_equal(found["velocity"].values, content["velocity"])
    np.testing.assert_array_equal(found["velocity"][1, 2, ::2, 1, :2].values, content["velocity"][1, 2, ::2, 1, :2])
