"""Metrics of a field: those of the whole, whatever the blocks, the formats and the gaps; one store, one page."""

import json
import os
import resource
import warnings
from functools import partial

import numpy as np
import pytest
import torch
import xarray as xr

from flowsr.cli import main
from flowsr.data import create_store, degrade, open_field, write_hdf5
from flowsr.data.field import field_template
from flowsr.errors import FlowsrError
from flowsr.evaluate import evaluate, evaluate_field, measure, metrics_table, read_metrics
from flowsr.files import tree_checksum
from flowsr.grid import Grid
from flowsr.metrics import (
    dissipation,
    energy_spectrum,
    enstrophy,
    finite_differences,
    line_spectrum,
    nrmse,
    nrmse_beyond,
    spectral_error,
)
from flowsr.report.metrics_page import write_metrics
from flowsr.spread import STOP
from tests.metrics.test_statistics import GRIDS

BOX = Grid((24, 16, 20), (0.25, 0.5, 0.2))


def dataset_on(grid, times=(0.0, 1.0), seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    attrs = {"viscosity": 0.02, "length_units": "m"}
    template = field_template(grid, list(times), dtype=dtype, units="m/s", attrs=attrs)
    values = (rng.standard_normal(template.velocity.shape) + 0.2).astype(dtype)
    return template.assign(velocity=(template.velocity.dims, values, template.velocity.attrs))


def stored(dataset, path):
    template = dataset.copy()
    with create_store(path, template) as store:
        for time in range(dataset.sizes["time"]):
            store.write("velocity", dataset.velocity.isel(time=time).values, time=time)
        store.publish()
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(evaluate, "SIDE", 9)


@pytest.mark.parametrize("name", GRIDS)
def test_what_is_found_in_blocks_is_the_whole_fields(tmp_path, small_blocks, name):
    grid = GRIDS[name]
    dataset = dataset_on(grid)
    found = evaluate_field(stored(dataset, tmp_path / "field.zarr"))
    for time in range(2):
        field = torch.as_tensor(dataset.velocity.values[time])[None]
        with finite_differences((0, 1, 2)):
            expected = {"dissipation": dissipation(field, grid, 0.02), "enstrophy": enstrophy(field, grid)}
        for key, value in expected.items():
            assert found[key].sel(field="output").values[time] == pytest.approx(float(value), rel=1e-10)
        for axis in (axis for axis in range(3) if grid.boundary[axis] == "periodic"):
            spectrum = line_spectrum(field, grid, axis).y[0].numpy()
            assert found[f"line_spectrum_{'xyz'[axis]}_output"].values[time] == pytest.approx(spectrum, rel=1e-10)
        if grid.periodic:
            assert found["energy_spectrum_output"].values[time] == pytest.approx(
                energy_spectrum(field, grid).y[0].numpy()
            )
    assert found.dissipation.attrs["units"] == "(m/s)^3 m^-1" and "Pope" in found.dissipation.attrs["source"]


def test_errors_and_consistency_are_those_of_the_whole_fields(tmp_path, small_blocks):
    fine, truth = dataset_on(BOX, seed=1), dataset_on(BOX, seed=2)
    coarse = write_hdf5(degrade(truth, "block_mean", 2).load(), tmp_path / "coarse.h5")
    paths = stored(fine, tmp_path / "fine.zarr"), stored(truth, tmp_path / "truth.zarr")
    found = evaluate_field(paths[0], truth=paths[1], coarse=coarse)
    for time in range(2):
        one, other = (torch.as_tensor(data.velocity.values[time])[None] for data in (fine, truth))
        expected = {
            "nrmse": nrmse(one, other, BOX),
            "spectral_error": spectral_error(one, other, BOX),
            "nrmse_beyond_cutoff": nrmse_beyond(one, other, BOX, np.pi / (2 * 0.5)),
        }
        for key, value in expected.items():
            assert found[key].values[time] == pytest.approx(float(value), rel=1e-10), key
    means = degrade(fine, "block_mean", 2).velocity.values
    reference = degrade(truth, "block_mean", 2).velocity.values
    consistency = np.sqrt(((means - reference) ** 2).sum((1, 2, 3, 4)) / (reference**2).sum((1, 2, 3, 4)))
    assert found.consistency_error.values == pytest.approx(consistency, rel=1e-10)
    assert list(found.field.values) == ["input", "output", "truth"]
    exact = evaluate_field(paths[1], truth=paths[1], coarse=coarse)
    assert exact.nrmse.values.max() == 0 and exact.consistency_error.values.max() < 1e-14


@pytest.mark.parametrize(("operator", "shown"), [("spectral_cutoff", True), ("gaussian_block_mean", True)])
def test_other_operators_are_used_where_the_whole_field_fits(tmp_path, monkeypatch, operator, shown):
    fine = dataset_on(BOX)
    path = stored(fine, tmp_path / "fine.zarr")
    coarse = write_hdf5(degrade(fine, operator, 2).load(), tmp_path / "coarse.h5")
    assert evaluate_field(path, coarse=coarse).consistency_error.values.max() < 1e-12
    monkeypatch.setattr(measure, "WHOLE", 1)
    monkeypatch.setattr(evaluate, "FieldMeasure", partial(measure.FieldMeasure, whole=1))
    found = evaluate_field(path, coarse=coarse)
    assert "consistency_error" not in found and any(operator in note for note in found.attrs["notes"])


def test_a_field_too_large_to_be_taken_whole_has_line_spectra_of_some_lines(tmp_path, monkeypatch, small_blocks):
    path = stored(dataset_on(BOX), tmp_path / "field.zarr")
    whole = evaluate_field(path)
    size = BOX.shape[0] * BOX.shape[1] * BOX.shape[2]
    monkeypatch.setattr(evaluate, "FieldMeasure", partial(measure.FieldMeasure, whole=16 * 3 * size // 9))
    found = evaluate_field(path)
    assert "energy_spectrum_output" not in found and "lines" in found.attrs["notes"][0]
    spectrum = found.line_spectrum_x_output
    assert spectrum.attrs["lines"] < spectrum.attrs["of_lines"] == 16 * 20
    assert float(spectrum.mean()) == pytest.approx(float(whole.line_spectrum_x_output.mean()), rel=0.2)
    assert found.dissipation.values == pytest.approx(whole.dissipation.values, rel=1e-12)


def test_missing_cells_are_counted_and_left_out(tmp_path, small_blocks):
    dataset = dataset_on(BOX, times=[0.0])
    values = dataset.velocity.values.copy()
    values[0, :, 3:6, 2, 7] = np.nan
    good = np.isfinite(values[0]).all(axis=0)
    found = evaluate_field(stored(dataset.assign(velocity=dataset.velocity.copy(data=values)), tmp_path / "gaps.zarr"))
    assert found.missing_cells.sel(field="output").item() == 3
    energy = (values[0][:, good] ** 2).sum() / good.sum() / 2
    assert found.energy.sel(field="output").item() == pytest.approx(energy, rel=1e-12)
    assert np.isfinite(found.line_spectrum_y_output.values).all() and "energy_spectrum_output" not in found


def test_a_scalar_has_its_energy_and_spectra(tmp_path):
    template = field_template(BOX, [0.0], variable="pressure", irreps="0e", components=None, dtype="float32")
    values = np.random.default_rng(0).standard_normal(template.pressure.shape).astype("float32")
    path = write_hdf5(template.assign(pressure=template.pressure.copy(data=values)), tmp_path / "p.h5")
    found = evaluate_field(path)
    assert found.energy.item() == pytest.approx(float((values**2).mean() / 2), rel=1e-6)
    assert found.energy.attrs["long_name"] == "Half mean square" and "notes" not in found.attrs
    assert "energy_spectrum_output" in found and "dissipation" not in found and "pdf_longitudinal_output" not in found


def test_the_store_opens_in_xarray_without_a_warning_and_the_page_is_one_file(tmp_path):
    path = stored(dataset_on(BOX), tmp_path / "field.zarr")
    target = tmp_path / "found.zarr"
    found = evaluate_field(path, target, write=write_metrics)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = xr.open_zarr(target, group="metrics", consolidated=False).load()
    xr.testing.assert_equal(read, found)
    assert read.energy.attrs == found.energy.attrs
    page = (target / "report" / "report.html").read_text(encoding="utf-8")
    assert "Kinetic energy" in page and "<svg" in page and "data:image/png" in page
    assert "http://" not in page and "https://" not in page
    told = json.loads((target / "report" / "metrics.json").read_text(encoding="utf-8"))
    assert told["metrics"]["energy"]["output"] == pytest.approx(float(found.energy.mean()))
    table = metrics_table(found).set_index("key")
    assert table.loc["energy", "unit"] == "(m/s)^2"


def test_the_command_tells_the_table_and_refuses_in_one_line(tmp_path, capsys):
    path = write_hdf5(dataset_on(BOX, dtype="float32"), tmp_path / "field.h5")
    other = write_hdf5(dataset_on(Grid((8, 8, 8))), tmp_path / "other.h5")
    hot = dataset_on(BOX, dtype="float32").assign_attrs(length_units="1")
    hot.velocity.attrs["units"] = "K"
    write_hdf5(hot, tmp_path / "hot.h5")
    assert main(["evaluate", str(path), "--metrics", "energy,skewness"]) == 0
    told = capsys.readouterr().out
    assert "Kinetic energy" in told and "Derivative skewness" in told and "Enstrophy" not in told
    assert read_metrics(tmp_path / "field.h5.metrics.zarr") is not None
    for arguments, line in (
        ([str(path), "--metrics", "enery"], "did you mean 'energy'?"),
        ([str(path), "--truth", str(other)], "the truth is of another grid"),
        ([str(path), "--truth", str(tmp_path / "hot.h5")], "the truth is in another unit; variable: velocity"),
        ([str(path), "--input", str(other)], "the input is of another grid"),
        ([str(tmp_path / "none.h5")], "none.h5"),
        ([str(path), "--truth-group", "fine"], "--truth-group is of --truth, which is missing"),
    ):
        assert main(["evaluate", *arguments]) == 2
        assert line in capsys.readouterr().err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["field.h5", "field.h5.metrics.zarr", "hot.h5", "other.h5"]


def test_nothing_but_earlier_metrics_is_replaced_and_nothing_is_left_of_a_failure(tmp_path, monkeypatch):
    field, folder = stored(dataset_on(BOX, (0.0,)), tmp_path / "field.zarr"), tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    before = tree_checksum(tmp_path)
    for there in (field, folder, tmp_path):
        with pytest.raises(FlowsrError, match="will not be replaced"):
            evaluate_field(field, there, metrics=["energy"])
    monkeypatch.setattr(evaluate, "planes_of", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate_field(field, tmp_path / "new", metrics=["energy"])
    assert tree_checksum(tmp_path) == before and not list(tmp_path.glob(".*"))
    monkeypatch.undo()
    for _ in range(2):
        evaluate_field(field, tmp_path / "new", metrics=["energy"])


def test_all_slices_of_a_page_are_of_one_part_of_the_box(monkeypatch):
    grid = Grid(
        (20, 12, 8), boundary=("periodic", "wall", "periodic"), centers=(None, tuple(np.arange(12.0) ** 1.01), None)
    )
    fields = {2: grid.coarsened(2), 1: grid}
    monkeypatch.setattr(evaluate, "PLANE_SIDE", 10)
    monkeypatch.setattr(evaluate.Field, "grid", property(lambda field: fields[2]))
    monkeypatch.setattr(
        evaluate.Field, "read", lambda field, time, box: np.zeros((1, *[b.stop - b.start for b in box]))
    )
    how = measure.FieldMeasure(grid, grid.shape, 1, "float32", frozenset())
    found = evaluate.planes_of(
        evaluate.Evaluation(how, (0.0,), coarse=evaluate.Field(None)), lambda box: evaluate.Field(None).read(0, box), 0
    )
    assert [plane.values.shape for plane in found] == [(5, 5), (10, 10)]
    np.testing.assert_allclose(found[0].extent, found[1].extent, rtol=1e-2)


def test_blocks_of_a_call_that_is_to_end_are_left_alone(tmp_path):
    whole = evaluate.Evaluation(measure.FieldMeasure(BOX, BOX.shape, 3, "float32", frozenset()), (0.0,))
    token = STOP.set(lambda: True)
    try:
        evaluate.observe_blocks(whole, evaluate.Field(tmp_path / "none"), 0, tmp_path / "none", [0])
    finally:
        STOP.reset(token)


def test_states_are_opened_when_they_are_used(tmp_path, monkeypatch):
    field = stored(dataset_on(Grid((8, 8, 8)), (0.0,)), tmp_path / "field.zarr")
    monkeypatch.setattr(evaluate, "SIDE", 2)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 40, before[1]))
    try:
        evaluate_field(field, truth=field, metrics=["energy", "errors"])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_truth_at_other_times_is_refused(tmp_path):
    paths = [write_hdf5(dataset_on(BOX, times), tmp_path / f"{times[1]}.h5") for times in ((0.0, 1.0), (0.0, 1.5))]
    with pytest.raises(FlowsrError) as error:
        evaluate_field(paths[0], truth=paths[1])
    assert error.value.variable == "time" and error.value.file == paths[1]
    assert open_field(paths[0]).sizes["time"] == 2
