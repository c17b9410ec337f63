"""Tiles against the whole: the same field to round-off, whatever the boundary, the tile or the box."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsr.grid import Grid
from flowsr.models import Task, build_model
from flowsr.upscale.tiles import tiles_of, upscale_array

PERIODIC = ("periodic", "periodic", "periodic")


def whole(model, coarse, grid):
    with torch.no_grad():
        return model(torch.from_numpy(coarse)[None], grid)[0].numpy()


def random_field(*sides, seed=0):
    return np.random.default_rng(seed).standard_normal((3, *sides))


@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(*[st.integers(3, 9)] * 3),
    tile=st.integers(1, 10),
    boundary=st.tuples(*[st.sampled_from(["periodic", "wall", "open"])] * 3),
    name=st.sampled_from(["nearest", "trilinear"]),
)
def test_interpolation_in_tiles_equals_the_whole(sides, tile, boundary, name):
    grid, model, coarse = Grid(sides, boundary=boundary), build_model(name, Task(2)), random_field(*sides)
    np.testing.assert_allclose(upscale_array(model, coarse, grid, tile), whole(model, coarse, grid), atol=1e-14)


@pytest.mark.parametrize("boundary", [PERIODIC, ("periodic", "wall", "open"), ("wall", "wall", "periodic")])
@pytest.mark.parametrize("name", ["cnn", "strict", "relaxed"])
def test_networks_in_tiles_equal_the_whole(name, boundary):
    torch.manual_seed(0)
    options = {"width": 5} if name == "cnn" else {"channels": 1}
    model = build_model(name, Task(2), blocks=1, **options).double().eval()
    grid, coarse = Grid((13, 9, 6), boundary=boundary), random_field(13, 9, 6)
    tiled, at_once = upscale_array(model, coarse, grid, tile=5), whole(model, coarse, grid)
    assert np.linalg.norm(tiled - at_once) <= 1e-13 * np.linalg.norm(at_once)


def test_a_halo_one_cell_too_small_is_noticed():
    model = build_model("trilinear", Task(2))
    model.halo = 0
    grid, coarse = Grid((8, 8, 8)), random_field(8, 8, 8)
    assert np.abs(upscale_array(model, coarse, grid, tile=4) - whole(model, coarse, grid)).max() > 0.01


def test_spline_tiles_agree_to_single_precision():
    model, grid, coarse = build_model("tricubic", Task(4)), Grid((40, 4, 4)), random_field(40, 4, 4)
    tiled, at_once = upscale_array(model, coarse, grid, tile=8), whole(model, coarse, grid)
    assert np.linalg.norm(tiled - at_once) <= 1e-7 * np.linalg.norm(at_once)


def test_a_model_that_needs_the_whole_field_gets_one_tile():
    assert len(tiles_of(Grid((8, 8, 8)), tile=2, halo=None)) == 1


@given(sides=st.tuples(*[st.integers(1, 20)] * 3), tile=st.integers(1, 25), halo=st.integers(0, 4))
def test_tiles_cover_every_cell_once(sides, tile, halo):
    counts = np.zeros(sides, dtype=int)
    for spans in tiles_of(Grid(sides), tile, halo):
        counts[tuple(slice(span.start, span.stop) for span in spans)] += 1
    assert (counts == 1).all()
