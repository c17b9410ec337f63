"""Metrics beside an upscaled field: in its store, the same whatever the order, resumed after a kill, or left out."""

from functools import partial
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import xarray as xr

from flowsr.cli import main
from flowsr.data import degrade, open_field, write_hdf5
from flowsr.data.store import damage_in
from flowsr.errors import FlowsrError
from flowsr.evaluate import MetricsBeside, beside, evaluate, evaluate_field, read_metrics
from flowsr.evaluate.measure import FieldMeasure
from flowsr.files import tree_checksum
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, save_model
from flowsr.upscale import upscale_store
from tests.evaluate.test_evaluate import dataset_on

BOX = Grid((24, 20, 16), (0.25, 0.5, 0.2), ("periodic", "wall", "periodic"))
HOW = {"tile": 4, "shard": 8}


@pytest.fixture
def model(tmp_path):
    card = ModelCard("trilinear", Task(2))
    save_model(tmp_path / "model", card.build(), card)
    return tmp_path / "model"


@pytest.fixture
def truth(tmp_path):
    return write_hdf5(dataset_on(BOX, dtype="float32"), tmp_path / "truth.h5")


@pytest.fixture
def source(tmp_path):
    return write_hdf5(degrade(dataset_on(BOX, dtype="float32"), "block_mean", 2).load(), tmp_path / "coarse.h5")


class Backwards:
    """Workers that take what is to be done from its end."""

    def __len__(self):
        return 3

    def __call__(self, work, batches, progress):
        for batch in batches[::-1]:
            for block in batch[::-1]:
                work((block,))


def test_they_are_those_of_the_field_that_was_written_whoever_wrote_it(tmp_path, model, source, truth):
    seen = MetricsBeside(truth=truth)
    one = upscale_store(source, model, tmp_path / "one" / "fine.zarr", observers=[seen], **HOW)
    other = upscale_store(source, model, tmp_path / "two" / "fine.zarr", observers=[seen], spread=Backwards(), **HOW)
    assert tree_checksum(one) == tree_checksum(other) and not damage_in(one)
    found, alone = read_metrics(one), evaluate_field(one, truth=truth, coarse=source)
    assert set(found.data_vars) == set(alone.data_vars)
    for key in found.data_vars:
        np.testing.assert_allclose(found[key].values, alone[key].values, rtol=2e-5, atol=1e-6, err_msg=key)


def test_of_a_field_too_large_for_memory_the_faces_of_its_blocks_are_enough(tmp_path, model, source, monkeypatch):
    named = ("energy", "enstrophy", "flatness", "pdfs")
    monkeypatch.setattr(beside, "FieldMeasure", partial(FieldMeasure, whole=1))
    store = upscale_store(source, model, tmp_path / "fine.zarr", observers=[MetricsBeside(named)], **HOW)
    found, whole = read_metrics(store), evaluate_field(store, metrics=named, coarse=source)
    assert set(found.data_vars) == set(whole.data_vars) > {"enstrophy", "pdf_transverse_output"}
    for key in whole.data_vars:
        np.testing.assert_allclose(found[key].values, whole[key].values, rtol=2e-5, atol=1e-6, err_msg=key)


@pytest.mark.parametrize("blocks", [1, 7])
def test_a_killed_run_is_resumed_with_the_states_it_left(tmp_path, model, source, blocks):
    seen = MetricsBeside()
    whole = upscale_store(source, model, tmp_path / "whole" / "fine.zarr", observers=[seen], **HOW)

    def stop(fraction, message):
        if int(message.split()[0]) >= blocks:
            raise KeyboardInterrupt

    target = tmp_path / "fine.zarr"
    with pytest.raises(KeyboardInterrupt):
        upscale_store(source, model, target, observers=[seen], progress=stop, **HOW)
    upscale_store(source, model, target, observers=[seen], **HOW)
    assert tree_checksum(target) == tree_checksum(whole)


def test_what_a_killed_run_left_of_other_measures_is_not_used(tmp_path, model, source, truth):
    def stop(fraction, message):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        few = [MetricsBeside(("energy",))]
        upscale_store(source, model, tmp_path / "fine.zarr", observers=few, progress=stop, shard=16)
    more = [MetricsBeside(("errors",), truth)]
    store = upscale_store(source, model, tmp_path / "fine.zarr", observers=more, shard=16)
    made, true = (open_field(path).velocity.values for path in (store, truth))
    largest = np.sqrt(np.square(made - true).sum(1)).max((1, 2, 3))
    np.testing.assert_allclose(read_metrics(store).largest_error.values, largest, rtol=1e-5)


@pytest.mark.parametrize(("operator", "options"), [("top_hat", {"width": 2.0}), ("block_mean", {"weight": "density"})])
def test_operators_with_options_are_used_or_said_to_be_unknown(tmp_path, model, operator, options):
    fine = dataset_on(BOX, dtype="float32")
    fine["density"] = xr.ones_like(fine.velocity[:, 0].drop_vars("component")).assign_attrs(irreps="0e", units="1")
    coarse = write_hdf5(degrade(fine, operator, 2, **options).load(), tmp_path / "coarse.h5")
    store = upscale_store(coarse, model, tmp_path / "fine.zarr", observers=[MetricsBeside(("consistency",))])
    found = read_metrics(store)
    assert ("consistency_error" in found) == ("width" in options)
    assert any("density" in note for note in found.attrs.get("notes", [])) == ("weight" in options)


def test_a_field_in_half_precision_has_metrics_too(tmp_path, model, monkeypatch):
    def beside_the_store(dir):  # the system's own may be memory
        assert dir.is_relative_to(tmp_path)
        return TemporaryDirectory(dir=dir)

    monkeypatch.setattr(evaluate, "TemporaryDirectory", beside_the_store)
    box = Grid((16, 12, 8))
    coarse = degrade(dataset_on(box, dtype="float32"), "block_mean", 2).load()
    coarse["velocity"] = coarse.velocity.astype("float16").assign_attrs(coarse.velocity.attrs)
    source = write_hdf5(coarse, tmp_path / "coarse.h5")
    store = upscale_store(source, model, tmp_path / "fine.zarr", observers=[MetricsBeside(("spectra",))])
    assert np.isfinite(read_metrics(store).energy_spectrum_output.values).all()


def test_names_choose_and_none_are_left_where_none_are_wanted(tmp_path, model, source, capsys):
    command = ["upscale", "--input", str(source), "--model", str(model)]
    assert main([*command, "--output", str(tmp_path / "a.zarr"), "--metrics", "energy,spectra"]) == 0
    assert "Kinetic energy" in capsys.readouterr().out
    page = tmp_path / "a.zarr" / "report" / "report.html"
    assert page.exists() and not damage_in(tmp_path / "a.zarr")
    page.write_text("<p>other numbers")
    assert [one.file for one in damage_in(tmp_path / "a.zarr")] == [page]
    found = read_metrics(tmp_path / "a.zarr")
    assert "energy" in found and "line_spectrum_x_output" in found and "divergence" not in found
    assert main([*command, "--output", str(tmp_path / "b.zarr"), "--no-metrics"]) == 0
    assert sorted(one.name for one in (tmp_path / "b.zarr").iterdir()) == [
        "component",
        "time",
        "velocity",
        *"xyz",
        "zarr.json",
    ]
    assert main([*command, "--output", str(tmp_path / "c.zarr"), "--metrics", "enery"]) == 2
    assert not (tmp_path / "c.zarr").exists()


def test_a_truth_that_does_not_go_with_the_result_is_refused_before_anything_is_written(tmp_path, model, source):
    with pytest.raises(FlowsrError, match="the truth is of another grid"):
        upscale_store(source, model, tmp_path / "fine.zarr", observers=[MetricsBeside(truth=source)])
    assert {one.name for one in tmp_path.iterdir()} == {"model", "coarse.h5"}
