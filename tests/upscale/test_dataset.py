"""The fine dataset of a coarse one: the same as the file's, at once or part by part, through every door."""

import numpy as np
import pytest
import xarray as xr

import flowsr
import flowsr.accessor
from flowsr.data import open_field
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, save_model
from flowsr.upscale import plan_upscale
from flowsr.windows import Window
from tests.data.fields import random_field, store_field

GRID = Grid((20, 12, 8), (0.1, 0.2, 0.3), ("periodic", "wall", "open"), (1.0, 0.0, -2.0))


def saved(folder, window=None, name="cnn"):
    task = Task(2) if window is None else Task(2, window=window)
    card = ModelCard(name, task, {"width": 4, "blocks": 1} if name == "cnn" else {})
    return save_model(folder, card.build(), card)


@pytest.fixture
def stored(tmp_path):
    store_field(random_field(GRID, np.arange(3.0)), tmp_path / "coarse.zarr")
    return tmp_path / "coarse.zarr"


@pytest.mark.parametrize("window", [None, Window(2)])
def test_in_memory_lazy_and_in_a_file_it_is_the_same(stored, tmp_path, window):
    saved(tmp_path / "model", window)
    flowsr.upscale(stored, tmp_path / "model", tmp_path / "fine.zarr", tile=6, metrics=False)
    expected = open_field(tmp_path / "fine.zarr")
    model, lazy = flowsr.load_model(tmp_path / "model"), open_field(stored)
    for found in (
        model.upscale(lazy.load(), tile=6),
        model.upscale(open_field(stored), tile=6),
        lazy.flowsr.upscale(tmp_path / "model", tile=6),
        flowsr.upscale(open_field(stored).chunk(x=7, time=1), tmp_path / "model", tile=6),
    ):
        np.testing.assert_array_equal(found.velocity, expected.velocity)
        for name in (*"xyz", "time", "component"):
            np.testing.assert_array_equal(found[name], expected[name])
        assert found.boundary == expected.boundary and found.velocity.attrs["irreps"] == "1o"
    part = dict(time=-1, component=[2, 0], x=slice(5, 37, 3), y=7, z=slice(2, 9))
    lazily = model.upscale(open_field(stored), tile=6).velocity
    assert not lazily._in_memory
    np.testing.assert_array_equal(lazily.isel(part), expected.velocity.isel(part))
    np.testing.assert_array_equal(lazily.chunk(x=10).isel(part).compute(), expected.velocity.isel(part))


def test_a_lazy_result_reads_no_more_than_its_tiles(stored, tmp_path, monkeypatch):
    saved(tmp_path / "model")
    fine = flowsr.load_model(tmp_path / "model").upscale(open_field(stored), tile=4)
    read = []
    original = xr.DataArray.values.fget

    def counting(self):
        read.append(self.size)
        return original(self)

    fine.velocity[0, 0, 0, 0, 0].load()  # the pass over the field for its scales
    monkeypatch.setattr(xr.DataArray, "values", property(counting))
    fine.velocity.isel(time=0, x=slice(0, 2), y=slice(0, 2), z=slice(0, 2)).load()
    assert max(read) < 0.7 * 3 * 20 * 12 * 8


def test_what_a_model_says_travels_with_the_result(stored, tmp_path):
    saved(tmp_path / "model")
    fine = open_field(stored).flowsr.upscale(tmp_path / "model")
    assert fine.provenance["model"] == "cnn" and fine.provenance["factor"] == 2
    assert "card does not say" in fine.provenance["home"]["unknown"][0]


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda d: d.drop_attrs(deep=False), "boundary"),
        (lambda d: d.where(d.x < 2.0), "NaN, infinite or missing"),
        (lambda d: d.rename(velocity="w"), "velocity"),
    ],
)
def test_a_dataset_that_cannot_be_upscaled_is_one_line(stored, tmp_path, spoil, told):
    saved(tmp_path / "model")
    with pytest.raises(FlowsrError, match=told) as refused:
        flowsr.load_model(tmp_path / "model").upscale(spoil(open_field(stored).load()))
    assert "\n" not in str(refused.value)


def test_a_file_needs_an_output_and_a_dataset_has_none(stored, tmp_path):
    saved(tmp_path / "model")
    with pytest.raises(TypeError, match="needs an output"):
        flowsr.upscale(stored, tmp_path / "model")
    with pytest.raises(TypeError, match="given back"):
        flowsr.upscale(open_field(stored), tmp_path / "model", tmp_path / "fine.zarr")
    with pytest.raises(TypeError, match="no metrics"):
        flowsr.upscale(open_field(stored), tmp_path / "model", metrics=["energy"])
    assert not (tmp_path / "fine.zarr").exists()


@pytest.mark.parametrize(("model", "planes"), [("spectral", None), ("linear", [1, 8, 1]), ("linear", [4, 1, 1])])
def test_a_box_that_a_model_is_not_for_is_one_line_and_leaves_nothing(tmp_path, model, planes):
    """A model for periodic boxes, and ones with weights for every plane: of another height, between other walls."""
    grid = Grid((4, 6, 4), boundary=("periodic", "wall", "periodic"))
    store_field(random_field(grid, np.arange(1.0)), tmp_path / "coarse.zarr")
    card = ModelCard(model, Task(2), {"planes": planes} if planes else {})
    save_model(tmp_path / "model", card.build(), card)
    with pytest.raises(FlowsrError, match="this model cannot upscale this field"):
        flowsr.upscale(open_field(tmp_path / "coarse.zarr"), tmp_path / "model").load()
    with pytest.raises(FlowsrError, match="this model cannot upscale this field"):
        flowsr.upscale(tmp_path / "coarse.zarr", tmp_path / "model", tmp_path / "fine.zarr", force=True)
    with pytest.raises(FlowsrError, match="this model cannot upscale this field"):
        plan_upscale(tmp_path / "coarse.zarr", tmp_path / "model", tmp_path / "fine.zarr", trial=True)
    assert not (tmp_path / "fine.zarr").exists()
