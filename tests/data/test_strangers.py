"""What a file says of its numbers reaches the numbers, whatever the reader and the way that leads to them."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import xarray as xr

from flowsr.data import Input, ReadOptions, open_field
from flowsr.data.convert import convert
from flowsr.data.degrade import degrade
from flowsr.data.independence import Split
from flowsr.data.inspect import inspect
from flowsr.data.pairs import Ingest, ingest
from flowsr.errors import FlowsrError

MANIFEST = "name: m\ndescription: d\nsource: s\nlicence: none\n"
STATED = (
    "variables: {velocity: {irreps: 1o, units: m/s, path: velocity, axes: [time, component, x, y, z]}}\n"
    "coordinates: {x: x, y: y, z: z}\ntimes: time\nboundary: [periodic, periodic, periodic]\n"
)
FORMATS = ("netcdf4", "netcdf3", "zarr2", "zarr3")


def box(times=(0.0,), side=16, seed=0) -> xr.Dataset:
    velocity = np.random.default_rng(seed).normal(size=(len(times), 3, side, side, side)).astype("f4")
    axes = {name: (np.arange(side) + 0.5) / side for name in "xyz"}
    dims, attrs = ("time", "component", "x", "y", "z"), {"irreps": "1o", "units": "m/s"}
    coords = {"time": np.array(times), "component": ["u", "v", "w"], **axes}
    return xr.Dataset({"velocity": (dims, velocity, attrs)}, coords, {"boundary": ["periodic"] * 3})


def save(dataset: xr.Dataset, folder, kind: str, name: str = "a", **encoding):
    """The dataset as xarray writes it; text that NetCDF 3 has no place for is left out."""
    encoding = {"velocity": encoding} if encoding else None
    if kind.startswith("zarr"):
        path = folder / f"{name}.zarr"
        dataset.to_zarr(path, encoding=encoding, zarr_format=int(kind[-1]), consolidated=False)
        return path
    path = folder / f"{name}.nc"
    if kind == "netcdf3":
        dataset = dataset.drop_vars("component").assign_attrs(boundary='["periodic", "periodic", "periodic"]')
        dataset.to_netcdf(path, engine="scipy", encoding=encoding)
    else:
        dataset.to_netcdf(path, engine="h5netcdf", encoding=encoding)
    return path


def ways(path):
    """The file opened as it is, and through a manifest that states its layout."""
    manifest = path.parent / "m.yaml"
    manifest.write_text(f"{MANIFEST}files: {{a: {path.name}}}\n{STATED}")
    return path, manifest


@pytest.mark.parametrize("kind", FORMATS)
def test_missing_numbers_are_nan_and_never_averaged(tmp_path, kind):
    dataset = box()
    dataset.velocity[:, :, :2] = np.nan
    for path in ways(save(dataset, tmp_path, kind, _FillValue=np.float32(-9999))):
        found = open_field(path)
        np.testing.assert_array_equal(found.velocity.values, dataset.velocity.values)
        assert found.velocity.dtype == np.float32 and "_FillValue" not in found.velocity.attrs
        np.testing.assert_array_equal(found.velocity[0, 1, ::3, 2].values, dataset.velocity[0, 1, ::3, 2].values)
        assert inspect(path).variables[0].bad > 0
        coarse = degrade(found, "block_mean", 4).velocity.values
        assert np.isnan(coarse[:, :, 0]).all()
        np.testing.assert_allclose(
            coarse[:, :, 1:], degrade(box(), "block_mean", 4).velocity.values[:, :, 1:], rtol=1e-6
        )
        with pytest.raises(FlowsrError, match="missing values"):
            ingest([path], tmp_path / "pairs", Ingest())


@pytest.mark.parametrize(
    "words",
    [
        {"missing_value": [-999.9, 1e20]},
        {"valid_range": [-50.0, 50.0]},
        {"valid_min": -50.0, "valid_max": 50.0},
        {"_FillValue": 1e20, "missing_value": -999.9},
    ],
)
def test_every_word_for_missing_numbers(tmp_path, words):
    dataset = box()
    dataset.velocity[0, 0, 1, 2, 3], dataset.velocity[0, 2, 5, 6, 7] = -999.9, 1e20
    expected = dataset.velocity.where(abs(dataset.velocity) < 50).values
    path = save(dataset, tmp_path, "netcdf4")
    with h5py.File(path, "a") as file:
        file["velocity"].attrs.pop("_FillValue", None)
        for word, value in words.items():
            file["velocity"].attrs[word] = np.array(value)
    for way in ways(path):
        np.testing.assert_array_equal(open_field(way).velocity.values, expected)


def test_numbers_that_were_never_written_are_missing(tmp_path):
    dataset = box()
    dataset.velocity[0, 0, 0, 0, 0] = 9.969209968386869e36
    path = save(dataset, tmp_path, "netcdf4")
    with h5py.File(path, "a") as file:
        del file["velocity"].attrs["_FillValue"]
    assert np.isnan(open_field(path).velocity.values).sum() == 1


def test_a_field_in_memory_that_declares_missing_numbers_is_not_averaged():
    dataset = box()
    dataset.velocity[0, 0, 0, 0, 0] = -999.9
    dataset.velocity.attrs["missing_value"] = -999.9
    coarse = degrade(dataset, "block_mean", 4).velocity
    assert np.isnan(coarse.values[0, 0, 0, 0, 0]) and np.isnan(coarse.values).sum() == 1


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "packing",
    [
        {"dtype": "f4", "scale_factor": np.float32(0.01)},
        {"dtype": "i2", "scale_factor": 0.001, "add_offset": 0.5, "_FillValue": np.int16(-32768)},
        {"dtype": "i4", "scale_factor": 1e-6},
    ],
)
def test_packed_numbers_are_unpacked(tmp_path, kind, packing):
    dataset = box()
    for path in ways(save(dataset, tmp_path, kind, **packing)):
        found = open_field(path).velocity
        assert found.dtype.kind == "f"
        np.testing.assert_allclose(found.values, dataset.velocity.values, atol=packing["scale_factor"] * 0.51)
        assert not {"scale_factor", "add_offset", "_FillValue"} & set(found.attrs)


def test_packed_coordinates_are_unpacked(tmp_path):
    dataset = box()
    path = tmp_path / "a.nc"
    dataset.to_netcdf(path, engine="h5netcdf", encoding={"x": {"dtype": "i2", "scale_factor": 1 / 32}})
    for way in ways(path):
        np.testing.assert_allclose(open_field(way).x, dataset.x)


def test_a_word_that_is_no_number_is_refused(tmp_path):
    path = save(box(), tmp_path, "netcdf4")
    with h5py.File(path, "a") as file:
        file["velocity"].attrs["scale_factor"] = "a lot"
    with pytest.raises(FlowsrError) as found:
        open_field(path)
    assert found.value.variable == "/velocity.scale_factor"


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
def test_what_xarray_writes_by_default_opens(tmp_path, kind):
    dataset = box()
    path = tmp_path / "a.zarr"
    dataset.to_zarr(path, zarr_format=int(kind[-1]))
    found = open_field(path)
    np.testing.assert_array_equal(found.velocity.values, dataset.velocity.values)
    assert list(found.component.values) == ["u", "v", "w"] and found.velocity.attrs == dataset.velocity.attrs
    assert inspect(path).variables[0].bad == 0


def refuse(text):
    raise AssertionError(f"{text} is no JSON")


@pytest.mark.parametrize("missing", [False, True])
def test_xarray_opens_what_we_write(tmp_path, missing):
    dataset = box(times=(0.0, 1.0))
    dataset.velocity[0, 0, 0, 0, 0] = np.nan if missing else 0.0
    source = save(dataset.assign_attrs(noise=np.nan), tmp_path, "netcdf4")
    target = convert(source, tmp_path / "b.zarr")
    for metadata in target.rglob("zarr.json"):
        json.loads(metadata.read_text(), parse_constant=refuse)
    with xr.open_zarr(target) as found:
        xr.testing.assert_equal(found.load(), dataset)
        assert found.velocity.attrs == dataset.velocity.attrs
    np.testing.assert_array_equal(open_field(target).velocity.values, dataset.velocity.values)


def test_a_fill_value_is_written_as_xarray_has_it(tmp_path):
    from tests.data.fields import store_field

    dataset = box()
    dataset.velocity[0, 0, 0, 0, 0] = -9999
    dataset.velocity.attrs["_FillValue"] = np.float32(-9999)
    path = store_field(dataset, tmp_path / "a.zarr")
    for found in (open_field(path), xr.open_zarr(path)):
        assert np.isnan(found.velocity.values).sum() == 1


@pytest.mark.parametrize("kind", ["netcdf4", "zarr2", "zarr3"])
@pytest.mark.parametrize("labels", [("u", "v", "w"), ("X", "Y", "Z"), ("Ux", "Uy", "Uz"), ("velocity_1",) * 3])
def test_components_are_put_in_order_by_their_labels(tmp_path, kind, labels):
    if len(set(labels)) == 1:
        labels = ("velocity_1", "velocity_2", "velocity_3")
    dataset = box().assign_coords(component=list(labels))
    for order in ([2, 1, 0], [1, 2, 0]):
        path = save(dataset.isel(component=order), tmp_path, kind, name=f"a{order[0]}")
        for way in ways(path):
            found = open_field(way)
            np.testing.assert_array_equal(found.velocity.values, dataset.velocity.values)
            assert list(found.component.values) == list(labels) and "put in order" in found.attrs["turned"]
            assert any("put in order" in line for line in inspect(way).lines())


def test_two_components_of_one_name_are_refused(tmp_path):
    path = save(box().assign_coords(component=["u", "u", "w"]), tmp_path, "netcdf4")
    for way in ways(path):
        with pytest.raises(FlowsrError) as found:
            open_field(way)
        assert found.value.variable == "component"


def test_labels_in_nobodys_order_are_left(tmp_path):
    path = save(box().assign_coords(component=["b", "a", "c"]), tmp_path, "netcdf4")
    np.testing.assert_array_equal(open_field(path).velocity.values, box().velocity.values)


@pytest.mark.parametrize("kind", FORMATS)
def test_axes_that_decrease_are_flipped(tmp_path, kind):
    dataset = box()
    turned = dataset.isel(x=slice(None, None, -1), z=slice(None, None, -1))
    for way in ways(save(turned, tmp_path, kind)):
        found = open_field(way)
        np.testing.assert_array_equal(found.velocity.values, dataset.velocity.values)
        assert min(found.velocity.values.strides) > 0  # torch takes no other
        np.testing.assert_array_equal(found.velocity[0, 1, 2:5, 3, ::2].values, dataset.velocity[0, 1, 2:5, 3, ::2])
        np.testing.assert_array_equal(found.x, dataset.x)
        assert any("z decreases and is flipped" in line for line in inspect(way).lines())


def two_files(folder, change):
    first, second = box(), change(box(times=(9.0,)))
    save(first, folder, "netcdf4", "e1")
    save(second, folder, "netcdf4", "e2")
    path = folder / "m.yaml"
    path.write_text(f"{MANIFEST}files: {{a: [e1.nc, e2.nc]}}\nvariables: {{velocity: {{irreps: 1o}}}}\n")
    return path


@pytest.mark.parametrize(
    ("variable", "change"),
    [
        ("velocity.units", lambda d: d.assign(velocity=(d.velocity * 100).assign_attrs(irreps="1o", units="Pa"))),
        ("velocity.units", lambda d: d.assign(velocity=d.velocity.assign_attrs(irreps="1o", units="code_velocity"))),
        ("boundary", lambda d: d.assign_attrs(boundary=["periodic", "wall", "periodic"])),
        ("viscosity", lambda d: d.assign_attrs(viscosity=0.2)),
        ("velocity", lambda d: d.assign(velocity=d.velocity.assign_attrs(irreps="1e", units="m/s"))),
    ],
)
def test_files_of_one_run_that_disagree_are_refused(tmp_path, variable, change):
    def changed(dataset):
        return change(dataset.assign_attrs(viscosity=0.1))

    path = two_files(tmp_path, changed)
    save(box().assign_attrs(viscosity=0.1), tmp_path, "netcdf4", "e1")
    with pytest.raises(FlowsrError, match="files of one run differ") as found:
        open_field(path)
    assert found.value.variable == variable


def test_a_file_in_another_unit_is_converted_to_that_of_the_first(tmp_path):
    second = box(times=(9.0,)).velocity.values
    path = two_files(
        tmp_path, lambda d: d.assign(velocity=(d.velocity * 100).assign_attrs(irreps="1o", units="cm s-1"))
    )
    found = open_field(path)
    assert found.velocity.attrs["units"] == "m/s" and not found.velocity._in_memory
    np.testing.assert_allclose(found.velocity.values, np.concatenate([box().velocity.values, second]), rtol=1e-6)
    np.testing.assert_allclose(found.velocity[1, 2, ::3, 1, 4:].values, second[0, 2, ::3, 1, 4:], rtol=1e-6)


def test_one_unit_in_two_spellings_is_one_unit(tmp_path):
    path = two_files(tmp_path, lambda d: d.assign(velocity=d.velocity.assign_attrs(irreps="1o", units="m s-1")))
    assert open_field(path).velocity.attrs["units"] == "m/s"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("units", ["m/s", "m s-1", "m*s**-1", "cm/s", "Pa", None])
def test_units_of_manifest_and_file_agree(tmp_path, kind, units):
    dataset = box()
    dataset.velocity.attrs["units"] = units or ""
    for way in ways(save(dataset, tmp_path, kind))[1:]:
        if units == "cm/s":
            found = open_field(way).velocity
            assert found.attrs["units"] == "m/s"
            np.testing.assert_allclose(found.values, dataset.velocity.values / 100, rtol=1e-6)
        elif units == "Pa":
            with pytest.raises(FlowsrError, match="file and manifest disagree") as found:
                open_field(way)
            assert found.value.variable == "velocity.units" and found.value.found == "Pa"
        else:
            assert open_field(way).velocity.attrs["units"] in (units, "m/s")


@pytest.mark.parametrize(
    ("name", "value"), [("viscosity", 0.5), ("boundary", ["periodic", "wall", "periodic"]), ("length_units", "K")]
)
def test_attributes_of_manifest_and_file_agree(tmp_path, name, value):
    path = save(box().assign_attrs({name: value}), tmp_path, "netcdf4")
    ways(path)
    text = (tmp_path / "m.yaml").read_text() + "viscosity: 0.1\nlength_units: m\n"
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(FlowsrError, match="file and manifest disagree") as found:
        open_field(tmp_path / "m.yaml")
    assert found.value.variable == name


@pytest.mark.parametrize("layout", [True, False])
def test_a_manifest_silent_on_units_takes_the_files(tmp_path, layout):
    path = save(box(), tmp_path, "netcdf4")
    stated = STATED.replace(", units: m/s", "") if layout else "variables: {velocity: {irreps: 1o}}\n"
    (tmp_path / "m.yaml").write_text(f"{MANIFEST}files: {{a: {path.name}}}\n{stated}")
    assert open_field(tmp_path / "m.yaml").velocity.attrs["units"] == "m/s"


@pytest.mark.parametrize("stated", [STATED, STATED.replace(", path: velocity, axes: [time, component, x, y, z]", "")])
def test_units_of_times_and_coordinates_that_a_manifest_names_are_the_files(tmp_path, stated):
    dataset = box(times=(0.0, 2.0)).assign_coords(x=("x", (np.arange(16) + 0.5) / 16000, {"units": "km"}))
    dataset.time.attrs["units"] = "hours since 2001-01-01"
    for axis in "yz":
        dataset[axis].attrs["units"] = "m"
    path = save(dataset, tmp_path, "netcdf4")
    (tmp_path / "m.yaml").write_text(f"{MANIFEST}files: {{a: {path.name}}}\n{stated}")
    for way in (path, tmp_path / "m.yaml"):
        found = open_field(way)
        np.testing.assert_allclose(found.x, box().x)
        assert found.time.values.tolist() == [0.0, 7200.0]
        assert found.time.attrs["units"] == "seconds since 2001-01-01"


def with_end(dataset, axis):
    """The dataset with the first plane once more behind the last one."""
    step = float(dataset[axis][1] - dataset[axis][0])
    end = dataset.isel({axis: slice(0, 1)}).assign_coords({axis: dataset[axis].values[-1:] + step})
    return xr.concat([dataset, end], axis).assign_attrs(dataset.attrs)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_a_periodic_end_stored_twice_is_refused(tmp_path, axis):
    path = save(with_end(box(side=15, times=(0.0, 1.0)), axis), tmp_path, "netcdf4")
    assert any(f"the end of {axis}" in note and "stored twice" in note for note in inspect(path).notes)
    with pytest.raises(FlowsrError, match="stored twice") as found:
        ingest([path], tmp_path / "pairs", Ingest())
    assert found.value.variable == axis and found.value.expected == "15 cells"


@pytest.mark.parametrize("shape", [lambda z: 0 * z, lambda z: np.cos(2 * np.pi * z)])
def test_equal_ends_of_even_fields_are_no_end_stored_twice(tmp_path, shape):
    dataset = box()
    dataset["velocity"] = (dataset.velocity * 0 + 1).copy() * shape(dataset.z).astype("f4")
    dataset["velocity"] = dataset.velocity.assign_attrs(irreps="1o", units="m/s")
    values = dataset.velocity.values
    values[..., 8:] = values[..., :8][..., ::-1]  # even to the last bit
    path = save(dataset, tmp_path, "netcdf4")
    assert not any("stored twice" in note for note in inspect(path).notes)


def test_samples_of_a_small_field_are_counted_once(tmp_path):
    report = inspect(save(box(), tmp_path, "netcdf4")).variables[0]
    assert report.sampled == 3 * 16**3


def test_what_a_file_says_reaches_every_way_to_use_it(tmp_path):
    """Labels out of order, a flipped axis, another unit, packed numbers, no word on type and sides: all at once."""
    from flowsr.evaluate import evaluate_field
    from flowsr.upscale import upscale_store
    from tests.flows.fields import save_small_model

    written = box(times=tuple(map(float, range(6))), side=8)
    written.to_netcdf(tmp_path / "plain.nc", engine="h5netcdf")
    other = (written * 100).isel(component=[2, 0, 1], x=slice(None, None, -1)).rename(velocity="U").drop_attrs()
    other.U.attrs["units"] = "cm/s"
    packed = {"U": {"dtype": "i4", "scale_factor": 1e-6, "_FillValue": np.int32(-1)}}
    other.to_netcdf(tmp_path / "other.nc", engine="h5netcdf", encoding=packed)
    model, options = save_small_model(tmp_path / "model"), {"boundary": ("periodic",) * 3, "units": {"velocity": "m/s"}}
    found = []
    for name, said in (("plain", {}), ("other", options)):
        path, read, folder = tmp_path / f"{name}.nc", ReadOptions(**said), tmp_path / name
        field = open_field(path, read)
        ingest([Input(path=path, **said)], folder / "pairs", Ingest(factor=2, split=Split(turnover_time=0.4)))
        pairs = [open_field(store, group="coarse").velocity for store in sorted((folder / "pairs").glob("*/*.zarr"))]
        ways = {
            "open": field.velocity,
            "degrade": degrade(field, "block_mean", 2).velocity,
            "convert": open_field(convert(path, folder / "a.zarr", read)).velocity,
            "ingest": xr.concat(pairs, "time").sortby("time"),
            "upscale": open_field(upscale_store(path, model, folder / "fine.zarr", device="cpu", **said)).velocity,
            "evaluate": evaluate_field(path, metrics=["energy", "spectra"], options=read).to_array(),
        }
        found.append(ways)
    for way, expected in found[0].items():
        np.testing.assert_allclose(found[1][way].values, expected.values, rtol=1e-5, atol=1e-5, err_msg=way)
        assert "component" not in expected.coords or list(found[1][way].component) == ["u", "v", "w"], way
