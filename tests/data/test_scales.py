"""A field's own scales: one pass, whatever the pieces; the same in any orientation; frames only where they are free."""

import numpy as np
import pytest
import torch

from flowsr.data import scales
from flowsr.data.scales import FieldScales, free_components, measure_scales, normalized, restored, scales_of
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field, transform_grid

WALLS = Grid((4, 5, 6), (1.0, 0.4, 2.0), ("periodic", "wall", "open"), centers=(None, (0.1, 0.35, 0.8, 1.5, 1.9), None))


def noise(components=3, grid=WALLS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, components, *grid.shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(
    ("irreps", "free"),
    [
        ("1o", (True, False, True)),
        ("0e + 1o", (True, True, False, True)),
        ("1e", (False,) * 3),
        ("0o + 2e", (False,) * 6),
    ],
)
def test_a_constant_may_be_added_where_the_equations_allow_it(irreps, free):
    assert free_components(irreps, WALLS.boundary) == free


def test_mean_and_fluctuation_are_weighted_with_the_cells():
    field, widths = noise(), WALLS.widths()[1] / WALLS.lengths[1]
    average = (field[0].mean((1, 3)).numpy() * widths).sum(1)
    expected = np.where([True, False, True], average, 0.0)
    rest = np.square(field[0].numpy() - expected[:, None, None, None]).sum(0).mean((0, 2))
    mean, size = scales_of(field, WALLS, "1o")
    np.testing.assert_allclose(mean[0], expected, rtol=1e-13)
    assert float(size) == pytest.approx(np.sqrt((rest * widths).sum()), rel=1e-13)


@pytest.mark.parametrize("grid", [WALLS, Grid((6, 5, 4))])
def test_one_pass_in_pieces_is_the_whole(grid, monkeypatch):
    frames = noise(6, grid) + 1e4  # a mean that would swallow the variance of a plain sum of squares
    mean, size = scales_of(frames, grid, "1o")
    monkeypatch.setattr(scales, "SIDE", 2)
    found = measure_scales([frames[0, :3].numpy(), frames[0, 3:].numpy()], grid, "1o")
    np.testing.assert_allclose(found.mean, mean[0], rtol=1e-14)
    assert found.fluctuation == pytest.approx(float(size), rel=1e-12)


@pytest.mark.parametrize("grid", [WALLS, Grid((6, 5, 4))])
def test_cells_without_a_value_are_left_out(grid, monkeypatch):
    field = noise(3, grid)[0].numpy()
    holes = field.copy()
    holes[:, 2:] = np.nan  # all else is the field of a shorter box
    short = Grid((2, *grid.shape[1:]), grid.spacing, grid.boundary, grid.origin, grid.centers)
    monkeypatch.setattr(scales, "SIDE", 2)
    found, expected = measure_scales([holes], grid, "1o"), measure_scales([field[:, :2]], short, "1o")
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    assert found.fluctuation == pytest.approx(expected.fluctuation, rel=1e-12)


def test_they_turn_with_the_field():
    group, field = octahedral_group("Oh"), noise()
    mean, size = scales_of(field, WALLS, "1o")
    for element in range(group.order):
        moved = scales_of(transform_field(field, element, "1o", group), transform_grid(WALLS, element, group), "1o")
        rotated = torch.from_numpy(np.array(group.matrices[element], dtype=float)) @ mean[0]
        torch.testing.assert_close(moved[0][0], rotated, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(moved[1], size, rtol=1e-12, atol=0)


def test_normalized_and_back():
    field = noise(6).float()
    mean, size = FieldScales((1.0, 0.0, -2.0), 3.0).tensors(field)
    values = normalized(field, mean, size)
    torch.testing.assert_close(values[:, 3:], (field[:, 3:] - mean[0, :, None, None, None].float()) / 3)
    torch.testing.assert_close(restored(values[:, :3], mean, size), field[:, :3])
    silent = FieldScales((1.0, 1.0, 1.0), 0.0).tensors(field)
    assert not normalized(torch.ones(1, 3, 2, 2, 2), *silent).any()
