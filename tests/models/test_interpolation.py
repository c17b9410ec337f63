"""Interpolations: exact where theory says exact, and blind to the orientation of the axes."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field
from flowsr.models import Task, build_model

NAMES = ["nearest", "trilinear", "tricubic", "spectral"]
SIDES = (8, 6, 10)


@pytest.fixture
def coarse():
    return torch.randn(2, 3, *SIDES, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_shape_and_constants(name, factor):
    constant = torch.full((1, 3, *SIDES), 2.5, dtype=torch.float64)
    fine = build_model(name, Task(factor))(constant, Grid(SIDES))
    assert fine.shape == (1, 3, *(factor * n for n in SIDES))
    torch.testing.assert_close(fine, torch.full_like(fine, 2.5), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("factor", [2, 3])
def test_commutes_with_all_48_elements(name, factor, coarse):
    group, model = octahedral_group("Oh"), build_model(name, Task(factor))
    fine = model(coarse, Grid(SIDES))
    for element in range(group.order):
        transformed = transform_field(coarse, element, "1o", group)
        expected = transform_field(fine, element, "1o", group)
        torch.testing.assert_close(model(transformed, Grid(transformed.shape[-3:])), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES[:3])
def test_walls_commute_too_and_do_not_wrap(name, coarse):
    model = build_model(name, Task(2))
    grid = Grid(SIDES, boundary=("wall", "periodic", "open"))
    fine = model(coarse, grid)
    torch.testing.assert_close(model(coarse.flip(-3), grid), fine.flip(-3), rtol=0, atol=1e-12)
    far = coarse.clone()
    far[:, :, -1] += 100.0
    if name != "tricubic":  # a spline is global: it only forgets
        torch.testing.assert_close(model(far, grid)[:, :, 0], fine[:, :, 0])


def test_spectral_reproduces_every_resolved_mode_at_the_cell_centres():
    coarse_grid = Grid((8, 8, 8), spacing=(2 * np.pi / 8,) * 3)
    fine_grid = coarse_grid.refined(4)

    def field(grid):
        x, y, z = np.meshgrid(*grid.coordinates(), indexing="ij")
        return torch.from_numpy(np.sin(3 * x + 0.2) * np.cos(2 * y - z) + 0.5)[None, None]

    fine = build_model("spectral", Task(4))(field(coarse_grid), coarse_grid)
    torch.testing.assert_close(fine, field(fine_grid), rtol=0, atol=1e-12)


def test_trilinear_is_exact_on_linear_fields_away_from_walls():
    grid = Grid((6, 6, 6), boundary=("open", "open", "open"))
    x, y, z = np.meshgrid(*grid.coordinates(), indexing="ij")
    fx, fy, fz = np.meshgrid(*grid.refined(3).coordinates(), indexing="ij")
    fine = build_model("trilinear", Task(3))(torch.from_numpy(x + 2 * y - 3 * z)[None, None], grid)[0, 0]
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(fine.numpy()[inner], (fx + 2 * fy - 3 * fz)[inner], atol=1e-12)


def test_tricubic_is_the_periodic_cubic_spline(coarse):
    positions = [(np.arange(4 * n) + 0.5) / 4 - 0.5 for n in SIDES]
    expected = ndimage.map_coordinates(
        coarse[0, 0].numpy(), np.meshgrid(*positions, indexing="ij"), order=3, mode="grid-wrap"
    )
    fine = build_model("tricubic", Task(4))(coarse, Grid(SIDES))
    np.testing.assert_allclose(fine[0, 0].numpy(), expected, atol=1e-12)


def test_nearest_is_undone_by_the_block_mean(coarse):
    fine = build_model("nearest", Task(2))(coarse, Grid(SIDES))
    torch.testing.assert_close(torch.nn.functional.avg_pool3d(fine, 2), coarse)


def test_spectral_refuses_walls(coarse):
    with pytest.raises(ValueError, match="periodic"):
        build_model("spectral", Task(2))(coarse, Grid(SIDES, boundary=("wall", "periodic", "periodic")))


def test_an_unknown_model_is_named_with_a_suggestion():
    with pytest.raises(FlowsrError, match="did you mean 'tricubic'"):
        build_model("tri_cubic", Task(2))
