"""Missing values of a coarse field: refused, or what they reach is missing in the fine one, and nothing else is."""

import numpy as np
import pytest
import torch

from flowsr.compare import Entry
from flowsr.compare.measure import compare
from flowsr.data import create_store, open_field
from flowsr.data.degrade import degrade
from flowsr.data.scales import FieldScales, scales_of
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, build_model, save_model
from flowsr.models.missing import around_missing
from flowsr.upscale import upscale_array, upscale_store
from tests.data.fields import random_field, store_field

BOX = Grid((12, 9, 7), boundary=("periodic", "wall", "periodic"))
HALO = 2


def network():
    torch.manual_seed(0)
    model = ModelCard("cnn", Task(2, scale=1.0), {"width": 2, "blocks": 0}).build().eval()
    torch.nn.init.normal_(model.tail.convolution.weight, std=0.1)
    return model


def holes(values):
    values = values.copy()
    values[..., 0, 0, 6] = np.nan  # its reach wraps around x and z, and not beyond the wall
    values[..., 0, 7, 4, 3] = np.nan  # of one component
    return values


def expected_mask(missing, halo, boundary):
    """Every cell, and whether one without a value is at most ``halo`` cells from it along every axis."""
    found = np.zeros_like(missing)
    for place in np.argwhere(missing):
        near = []
        for at, n, kind in zip(place, missing.shape, boundary):
            cells = np.arange(at - halo, at + halo + 1)
            near.append(np.unique(cells % n) if kind == "periodic" else cells[(cells >= 0) & (cells < n)])
        found[np.ix_(*near)] = True
    return found


def test_what_missing_values_reach_is_missing_whole_and_tile_by_tile_and_nothing_else_changes():
    model = network()
    coarse = random_field(BOX, [0.0]).velocity.values[0]
    whole, holed = (upscale_array(model, each, BOX, 100) for each in (coarse, holes(coarse)))
    tiled = upscale_array(model, holes(coarse), BOX, 4)
    mask = expected_mask(np.isnan(holes(coarse)).any(axis=0), model.halo, BOX.boundary)
    mask = mask.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert 0 < mask.sum() < mask.size
    for found in (holed, tiled):
        np.testing.assert_array_equal(np.isnan(found), np.broadcast_to(mask, found.shape))
    np.testing.assert_array_equal(holed[:, ~mask], whole[:, ~mask])
    np.testing.assert_allclose(tiled[:, ~mask], whole[:, ~mask], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["nearest", "trilinear", "relaxed"])
def test_no_model_reaches_beyond_what_is_masked(name):
    model = build_model(name, Task(2)).eval()
    grid = Grid((2 * model.halo + 6, 4, 4))
    coarse = torch.randn(1, 3, *grid.shape, generator=torch.Generator().manual_seed(0))
    holed = coarse.clone()
    holed[0, 1, 0, 2, 2] = torch.nan
    found = around_missing(model, holed, grid)
    with torch.no_grad():
        filled = torch.where(torch.isnan(holed), 1e3, holed)  # as far as anything in its place can be seen
        mean, size = scales_of(holed, grid, "1o")
        known = {"scales": FieldScales(tuple(mean[0].tolist()), float(size))} if model.needs_scales else {}
        loud = model(filled, grid, **known)
    there = ~torch.isnan(found)
    assert there.any() and not there.all()
    torch.testing.assert_close(found[there], loud[there], rtol=1e-4, atol=1e-4)


def test_a_model_that_needs_the_whole_field_says_so():
    holed = torch.full((1, 3, 4, 4, 4), torch.nan)
    with pytest.raises(FlowsrError, match="needs the whole field"):
        around_missing(build_model("spectral", Task(2)), holed, Grid((4,) * 3))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(folder, network(), ModelCard("cnn", Task(2, scale=1.0), {"width": 2, "blocks": 0}))
    return folder


def test_a_store_that_carries_missing_values_is_upscaled_and_another_is_refused(tmp_path, model):
    dataset = random_field(BOX, [0.0, 1.0])
    dataset = dataset.assign(velocity=dataset.velocity.copy(data=holes(dataset.velocity.values)))
    plain = store_field(dataset, tmp_path / "plain.zarr")
    with pytest.raises(FlowsrError) as found:
        upscale_store(plain, model, tmp_path / "a.zarr")
    assert found.value.variable == "velocity" and "--missing nan" in found.value.hint
    carrying = store_field(dataset.assign_attrs(missing="nan"), tmp_path / "carrying.zarr")
    for tile in (100, 4):
        upscale_store(carrying, model, tmp_path / f"{tile}.zarr", tile=tile)
    one, other = (open_field(tmp_path / f"{tile}.zarr") for tile in (100, 4))
    assert one.attrs["missing"] == "nan"
    whole = upscale_array(network(), dataset.velocity.values[1], BOX, 100)
    np.testing.assert_array_equal(np.isnan(one.velocity[1]), np.isnan(whole))
    np.testing.assert_allclose(one.velocity.values, other.velocity.values, rtol=1e-5, atol=1e-5)


def test_infinite_values_are_refused_all_the_same(tmp_path, model):
    dataset = random_field(BOX, [0.0]).assign_attrs(missing="nan")
    dataset.velocity[0, 0, 3, 3, 3] = np.inf
    with pytest.raises(FlowsrError, match="infinite"):
        upscale_store(store_field(dataset, tmp_path / "a.zarr"), model, tmp_path / "b.zarr")


def test_models_are_compared_in_the_cells_that_none_of_them_misses(tmp_path, caplog):
    fine = random_field(Grid((24, 16, 16), boundary=("periodic",) * 3), [0.0, 1.0]).assign_attrs(missing="nan")
    fine.velocity[:, :, 3, 4, 5] = np.nan
    coarse = degrade(fine, "block_mean", 2)
    with create_store(tmp_path / "test.zarr", {"coarse": coarse, "fine": fine}) as store:
        for time in range(2):
            for group, dataset in (("coarse", coarse), ("fine", fine)):
                store.write("velocity", dataset.velocity[time].values, time=time, group=group)
        store.publish()
    grid = Grid((12, 8, 8))
    models = {"nearest": build_model("nearest", Task(2)), "mine": network()}
    entries = [Entry(name, name, each) for name, each in models.items()]
    with caplog.at_level("INFO", "flowsr"):
        result = compare(
            [tmp_path / "test.zarr"], entries, metrics=["nrmse", "absolute_error", "spectrum", "dissipation"]
        )
    mask = expected_mask(np.isnan(coarse.velocity.values[0]).any(axis=0), network().halo, ("periodic",) * 3)
    keep = ~mask.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert f"judged in {100 * keep.mean():.3g} %" in caplog.text and "spectrum" in caplog.text
    for name, each in models.items():
        scalars = {key: result.by_snapshot(result.row(name, "data"), "data", key).ravel() for key in ("nrmse", "mae")}
        for time in range(2):
            made = upscale_array(each, np.nan_to_num(coarse.velocity.values[time]), grid, 100)[:, keep]
            true = fine.velocity.values[time][:, keep].astype(float)
            assert scalars["nrmse"][time] == pytest.approx(np.linalg.norm(made - true) / np.linalg.norm(true), rel=1e-5)
            assert scalars["mae"][time] == pytest.approx(np.abs(made - true).mean(), rel=1e-5)
