"""What upscaling says of a field that the model does not know, and which model it takes where none is named."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowsr.data import grid_of, open_field
from flowsr.errors import FlowsrError
from flowsr.evaluate import MetricsBeside, metrics_lines, read_metrics
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, checkpoint, save_model
from flowsr.models.home import Home, measure_traits, ranges_of, traits_of
from flowsr.report.metrics_page import write_metrics
from flowsr.upscale import upscale_store
from tests.data.fields import random_field, store_field

BOX = Grid((6, 5, 4), (0.5, 0.5, 0.5))
WALLS = replace(BOX, boundary=("periodic", "wall", "periodic"))


def stored(path, grid=BOX, seed=0, **attrs):
    store_field(random_field(grid, [0.0, 0.5], seed=seed).assign_attrs(**attrs), path)
    return path


def saved(folder, home=None, factor=2, **options):
    card = ModelCard("cnn", Task(factor), {"width": 2, "blocks": 0, **options}, home=home)
    torch.manual_seed(0)
    model = card.build()
    torch.nn.init.normal_(model.tail.convolution.weight, std=0.1)
    save_model(folder, model, card)
    return folder


def test_a_field_with_holes_is_not_said_to_be_without_motion():
    values = random_field(BOX, [0.0]).velocity.values[0].copy()
    values[:, 0, 0, 0] = np.nan
    assert "roughness" not in measure_traits(values, BOX, "1o")
    assert measure_traits(np.ones_like(values), BOX, "1o")["roughness"] == 0


def home_of(path, operator="block_mean"):
    dataset = open_field(path)
    grid = grid_of(dataset, path)
    traits = traits_of(dataset.velocity, grid, "1o", None)
    return Home(operator, grid.boundary, False, len(traits), ranges_of(traits))


def provenance(store):
    return open_field(store).attrs["provenance"]


def test_scales_and_verdict_are_recorded(tmp_path, caplog):
    source = stored(tmp_path / "coarse.zarr", degrade_operator="block_mean")
    model = saved(tmp_path / "model", home_of(source))
    with caplog.at_level(logging.WARNING):
        told = provenance(upscale_store(source, model, tmp_path / "fine.zarr", strict=True))
    values = open_field(source).velocity.values[1].astype(float)
    rest = values - values.mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(told["scales"][1]["mean"], values.mean((1, 2, 3)), rtol=1e-6)
    assert told["scales"][1]["fluctuation"] == pytest.approx(np.sqrt(np.square(rest).sum(0).mean()), rel=1e-6)
    assert told["home"]["findings"] == [] and told["home"]["snapshots"] == 2 and not caplog.messages


def test_another_field_is_said_a_line_each_and_refused_when_strict(tmp_path, caplog):
    source = stored(tmp_path / "coarse.zarr", degrade_operator="spectral_cutoff")
    model = saved(tmp_path / "model", home_of(source))
    with caplog.at_level(logging.WARNING):
        target = upscale_store(source, model, tmp_path / "fine.zarr")
    assert [line.partition(": ")[2] for line in caplog.messages] == [
        "not at home: the field was made coarse by spectral_cutoff, the model is for block_mean"
    ]
    assert provenance(target)["home"]["findings"][0]["what"] == "operator"
    beside = MetricsBeside(("energy",), write=write_metrics)
    report = upscale_store(source, model, tmp_path / "seen.zarr", observers=[beside]) / "report"
    line = "the field was made coarse by spectral_cutoff, the model is for block_mean"
    found = json.loads((report / "metrics.json").read_text())["home"]["findings"]
    assert [finding["line"] for finding in found] == [line]
    page = (report / "report.html").read_text()
    assert f"not at home: {line}" in page and '<a href="metrics.json">' in page
    assert f"not at home: {line}" in metrics_lines(read_metrics(report.parent))
    with pytest.raises(FlowsrError, match="not for this field") as told:
        upscale_store(source, model, tmp_path / "other.zarr", strict=True)
    assert "spectral_cutoff" in told.value.found and not (tmp_path / "other.zarr").exists()


def test_a_field_that_is_a_result_of_upscaling_is_told_so(tmp_path, caplog):
    source, model = stored(tmp_path / "coarse.zarr"), saved(tmp_path / "model")
    fine = upscale_store(source, model, tmp_path / "fine.zarr")
    assert "itself" not in caplog.text
    upscale_store(fine, model, tmp_path / "finer.zarr")
    assert "fine.zarr: not at home: the field is itself what 'cnn' made of a coarser one" in caplog.text


def test_walls_are_refused_by_a_model_that_saw_none_unless_forced(tmp_path):
    model = saved(tmp_path / "model", home_of(stored(tmp_path / "box.zarr")))
    source = stored(tmp_path / "walls.zarr", WALLS)
    with pytest.raises(FlowsrError, match="walls") as told:
        upscale_store(source, model, tmp_path / "fine.zarr")
    assert "--force" in told.value.hint and not (tmp_path / "fine.zarr").exists()
    target = upscale_store(source, model, tmp_path / "fine.zarr", force=True)
    assert provenance(target)["home"]["findings"][0] == {
        "what": "boundary",
        "line": "the field has walls, and the model never saw any",
        "refused": True,
    }


def test_an_older_model_works_and_what_it_lacks_is_recorded(tmp_path):
    card = ModelCard("cnn", Task(2, scale=1.0), {"width": 2, "blocks": 0})
    save_model(tmp_path / "model", card.build(), card)
    told = provenance(upscale_store(stored(tmp_path / "a.zarr"), tmp_path / "model", tmp_path / "fine.zarr"))
    assert told["scales"] == [] and len(told["home"]["unknown"]) == 2


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PRETRAINED", tmp_path / "weights")
    box, walls = stored(tmp_path / "box.zarr"), stored(tmp_path / "walls.zarr", WALLS)
    saved(tmp_path / "weights" / "box-x2", home_of(box))
    saved(tmp_path / "weights" / "box-x3", home_of(box), factor=3)
    saved(tmp_path / "weights" / "walls-x2", home_of(walls))
    return box, walls


def test_a_model_is_found_by_name_factor_and_boundary(shipped, tmp_path):
    box, walls = shipped
    for source, named, expected in [
        (box, {"model_folder": "box-x3"}, None),
        (box, {"model_folder": None, "factor": 3}, "model box-x3: factor 3, sides periodic, periodic, periodic"),
        (walls, {"model_folder": None, "factor": 2}, "model walls-x2: factor 2, sides periodic, wall, periodic"),
    ]:
        target = tmp_path / f"fine_{expected}.zarr".replace(" ", "_").replace(":", "").replace(",", "")
        told = provenance(upscale_store(source, target=target, **named))
        assert told["factor"] == (3 if source is box else 2)
        assert told.get("chosen", "")[: len(expected or "")] == (expected or "")


def test_what_is_missing_is_said(shipped, tmp_path):
    box, walls = shipped
    with pytest.raises(FlowsrError, match="no model that comes with flowsr fits") as told:
        upscale_store(walls, None, tmp_path / "fine.zarr", factor=3)
    assert told.value.expected == "factor 3"
    assert told.value.found == (
        "box-x2: its factor is 2; box-x3: the field has walls, and the model never saw any; walls-x2: its factor is 2"
    )
    with pytest.raises(FlowsrError, match="another factor"):
        upscale_store(box, "box-x2", tmp_path / "fine.zarr", factor=3)
    with pytest.raises(FlowsrError, match="cannot read the model") as told:
        upscale_store(box, "box-x9", tmp_path / "fine.zarr")
    assert told.value.expected == "a folder with model.json, or one of box-x2, box-x3, walls-x2"
