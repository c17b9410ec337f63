"""flowsr inside xarray: the engine and the accessor."""

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import flowsr
import flowsr.accessor
from flowsr.cli import main
from flowsr.data import degrade, open_field
from flowsr.data.convert import convert
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from tests.data.fields import random_field, store_field

BOX = Grid((16, 16, 16), (2 * np.pi / 16,) * 3)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("field") / "field.zarr"
    store_field(random_field(BOX, np.arange(2.0)), path)
    return path


def test_the_engine_opens_what_flowsr_opens(store, tmp_path):
    convert(store, tmp_path / "cutout.h5", layout="jhtdb")
    for path in (store, tmp_path / "cutout.h5"):
        found = xr.open_dataset(path, engine="flowsr", time=1)
        xr.testing.assert_identical(found.load(), open_field(path, time=1).load())
    assert "velocity" not in xr.open_dataset(store, engine="flowsr", drop_variables="velocity")
    with pytest.raises(FlowsrError):
        xr.open_dataset(tmp_path / "missing.nc", engine="flowsr")


def test_the_engine_brings_the_accessor_without_a_word():
    program = "import xarray; assert 'flowsr' in xarray.backends.list_engines(); import flowsr.accessor; "
    program += "assert xarray.Dataset.flowsr"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_degrade_spectrum_and_metrics_are_those_of_the_package(store):
    field = open_field(store)
    xr.testing.assert_identical(field.flowsr.degrade(factor=2).load(), degrade(field, "block_mean", 2).load())
    assert field.flowsr.grid.shape == BOX.shape and field.flowsr.grid.periodic
    spectrum = field.flowsr.spectrum()
    step = float(spectrum.wavenumber[1] - spectrum.wavenumber[0])
    energy = 0.5 * (field.velocity**2).sum("component").mean(["x", "y", "z"])
    np.testing.assert_allclose(spectrum.sum("wavenumber") * step, energy, rtol=1e-5)
    found = field.load().assign_coords(run=3).flowsr.metrics(["energy"])
    assert float(found.energy.isel(time=0).squeeze()) == pytest.approx(float(energy[0]), rel=1e-5)


@pytest.mark.parametrize("boundary", [("periodic",) * 3, ("periodic", "wall", "periodic")])
def test_a_picture_of_a_field_has_its_planes_and_its_curve(boundary):
    field = random_field(Grid((12, 10, 8), boundary=boundary), np.arange(1.0))
    figure = field.flowsr.plot()
    titles = [axes.get_xlabel() for axes in figure.axes if axes.get_xlabel()]
    assert len(figure.axes) == 5 and (titles[-1].startswith("y") if "wall" in boundary else "k" in titles[-1])


def test_view_draws_two_fields_and_refuses_what_it_cannot(store, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    coarse = tmp_path / "coarse.zarr"
    store_field(degrade(open_field(store), "block_mean", 2).load(), coarse)
    assert main(["view", str(store), "--compare", str(coarse)]) == 0
    assert (tmp_path / "field.zarr.view.png").read_bytes().startswith(b"\x89PNG")
    assert main(["view", str(store), "--output", "a.svg", "--snapshot", "0"]) == 0
    assert "<svg" in (tmp_path / "a.svg").read_text()
    capsys.readouterr()
    for options in (["--snapshot", "9"], ["--variable", "pressure"], ["--output", "a.pdf"]):
        assert main(["view", str(store), *options]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_three_lines_upscale_a_field(store):
    coarse = open_field(store).flowsr.degrade(factor=2)
    fine = flowsr.upscale(coarse, flowsr.models.build_model("tricubic", flowsr.models.Task(2)))
    assert fine.velocity.shape == (2, 3, 16, 16, 16)


def weather(times=2):
    """A dataset as programs of the atmosphere leave it: u, v, w on lev, lat, lon, levels downwards, dates."""
    field = random_field(Grid((8, 6, 4), (0.5, 0.5, 0.25)), np.arange(float(times)))
    axes = {"lon": field.x.values, "lat": field.y.values, "lev": field.z.values[::-1]}
    data = {
        name: (("time", "lev", "lat", "lon"), field.velocity.values[:, number].transpose(0, 3, 2, 1)[:, ::-1])
        for number, name in enumerate("uvw")
    }
    dates = np.datetime64("2024-01-01T00:00", "ns") + np.arange(times) * np.timedelta64(90, "s")
    dataset = xr.Dataset(data, {**axes, "time": dates})
    for name in "uvw":
        dataset[name].attrs["units"] = "m/s"
    return dataset, field


def test_a_stranger_s_dataset_is_upscaled_as_it_is(caplog):
    dataset, field = weather()
    model = flowsr.models.build_model("trilinear", flowsr.models.Task(2))
    open_sided = field.assign_attrs(boundary=["open"] * 3)
    fine = dataset.flowsr.upscale(model)
    np.testing.assert_array_equal(fine.velocity.values, flowsr.upscale(open_sided, model).velocity.values)
    assert fine.time.values.tolist() == [0.0, 90.0] and fine.velocity.attrs["units"] == "m/s"
    np.testing.assert_array_equal(model.upscale(dataset).velocity.values, fine.velocity.values)
    assert dataset.flowsr.grid.shape == (8, 6, 4) and isinstance(fine.velocity.variable._data, np.ndarray)


def test_what_a_stranger_s_dataset_leaves_unsaid_is_said():
    dataset, field = weather(1)
    periodic = dataset.flowsr.field(boundary=("periodic",) * 3)
    np.testing.assert_array_equal(periodic.velocity.values, field.velocity.values)
    spectrum = periodic.flowsr.spectrum()
    np.testing.assert_allclose(spectrum.values, field.flowsr.spectrum().values, rtol=1e-6)
    with pytest.raises(ValueError, match="periodic"):
        dataset.flowsr.spectrum()
    with pytest.raises(FlowsrError, match="boundary"):
        periodic.flowsr.field(boundary=("wall",) * 3)
    with pytest.raises(FlowsrError):
        xr.Dataset({"t2m": (("lat", "lon"), np.zeros((3, 4)))}).flowsr.upscale(None)


def test_a_lazy_stranger_s_dataset_stays_lazy():
    pytest.importorskip("dask")
    dataset, _ = weather()
    model = flowsr.models.build_model("trilinear", flowsr.models.Task(2))
    fine = dataset.chunk(lev=2).flowsr.upscale(model)
    assert not isinstance(fine.velocity.variable._data, np.ndarray)
    part = fine.velocity.isel(x=slice(2, 9), time=1).values
    whole = dataset.flowsr.upscale(model).velocity.isel(x=slice(2, 9), time=1).values
    np.testing.assert_array_equal(part, whole)
