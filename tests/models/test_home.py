"""Where a model is at home: numbers that know no units, frame or orientation, and what is said of other fields."""

import numpy as np
import pytest
import torch

from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field, transform_grid
from flowsr.models import home as homes
from flowsr.models.home import Home, Verdict, already_fine, compare_with_home, measure_traits, ranges_of, spread

BOX = Grid((8, 12, 10), (0.5, 0.5, 0.5))
WALLS = Grid(
    (8, 6, 10), (0.5, 0.3, 0.4), ("periodic", "wall", "open"), centers=(None, (0.1, 0.3, 0.7, 1.1, 1.5, 1.7), None)
)


def noise(grid, seed=0):
    return np.random.default_rng(seed).normal(size=(3, *grid.shape))


def shear(grid):
    _x, y, _z = np.meshgrid(*grid.coordinates(), indexing="ij")
    return np.stack([np.sin(2 * np.pi * y / grid.lengths[1]), 0 * y, 0 * y])


def test_white_noise_and_a_linear_gradient_in_closed_form():
    grid = Grid((32, 32, 32))
    found = measure_traits(noise(grid), grid, "1o")
    assert found["slope"] == pytest.approx(0, abs=0.02) and found["wide_slope"] == pytest.approx(0, abs=0.02)
    assert found["roughness"] == pytest.approx(np.sqrt(2), rel=0.01) and found["flatness"] == pytest.approx(3, abs=0.1)
    assert found["skewness"] == pytest.approx(0, abs=0.05) and found["isotropy"] == pytest.approx(1, abs=0.02)
    line = Grid((8, 8, 8), (0.5, 0.5, 0.5), ("open",) * 3)
    x = line.coordinates()[0][:, None, None] * np.ones(line.shape)
    found = measure_traits(np.stack([2 * x, 0 * x, 0 * x]), line, "1o", viscosity=0.1)
    assert found["slope"] == pytest.approx(2) and found["divergence"] == pytest.approx(1)
    assert found["cell_reynolds"] == pytest.approx(0.5**2 * 2 / 0.1)


@pytest.mark.parametrize("grid", [BOX, WALLS])
def test_units_frames_and_orientation_are_of_no_account(grid):
    values, group = noise(grid), octahedral_group("Oh")
    expected = measure_traits(values, grid, "1o", viscosity=0.01)
    free = np.array([1.0, grid.boundary[1] != "wall", 1.0])
    moved = 1e3 * values + 5e3 * free[:, None, None, None]
    longer = Grid(
        grid.shape,
        tuple(7 * d for d in grid.spacing),
        grid.boundary,
        centers=tuple(c and tuple(7 * x for x in c) for c in grid.centers),
    )
    assert measure_traits(moved, longer, "1o", viscosity=0.01 * 7e3) == pytest.approx(expected, rel=1e-9)
    for element in range(0, group.order, 5):
        turned = transform_field(torch.from_numpy(values)[None], element, "1o", group)[0].numpy()
        found = measure_traits(turned, transform_grid(grid, element, group), "1o", viscosity=0.01)
        assert found == pytest.approx(expected, rel=1e-9)


def test_a_large_field_is_looked_at_in_boxes(monkeypatch):
    monkeypatch.setattr(homes, "CELLS", 1000)
    monkeypatch.setattr(homes, "BOX", 12)
    grid = Grid((40, 10, 31))
    whole = measure_traits(noise(Grid((40, 40, 40))), Grid((40, 40, 40)), "1o")
    assert measure_traits(noise(grid), grid, "1o")["roughness"] == pytest.approx(whole["roughness"], rel=0.05)


def test_scalars_have_no_longitudinal_traits():
    found = measure_traits(noise(BOX)[0], BOX, "0e", viscosity=0.01)  # whose cell Reynolds number would have a unit
    none = {"skewness", "divergence", "isotropy", "mean_over_rms", "cell_reynolds"}
    assert "slope" in found and not none & found.keys()


def home(grid=BOX, count=6, boundary=None):
    traits = [measure_traits(noise(grid, seed), grid, "1o", viscosity=0.01) for seed in range(count)]
    return Home("block_mean", boundary or grid.boundary, any(grid.stretched), count, ranges_of(traits))


def judged(home, values, grid, operator="block_mean", viscosity=0.01):
    return compare_with_home(home, [measure_traits(values, grid, "1o", viscosity)], grid, operator)


def test_what_is_outside_is_said_in_a_line_each():
    known = home()
    assert judged(known, noise(BOX, 2), BOX) == Verdict(snapshots=1)
    assert {f.what for f in judged(known, shear(BOX), BOX).findings} >= {"slope", "roughness", "wide_slope"}
    assert [f.what for f in judged(known, 0 * noise(BOX), BOX).findings] == ["fluctuation"]
    assert {f.what for f in judged(known, noise(BOX, 2), BOX, viscosity=0.003).findings} == {"cell_reynolds"}
    other = judged(known, noise(BOX, 2), BOX, operator="spectral_cutoff")
    assert [f.what for f in other.findings] == ["operator"] and "spectral_cutoff" in other.findings[0].line
    assert not other.refused
    unsaid = judged(known, noise(BOX, 2), BOX, operator=None, viscosity=None)
    assert unsaid.at_home and len(unsaid.unknown) == 2


def test_a_field_whose_cells_hold_every_scale_is_said_to_be_fine_already():
    # a shear sin(x) in cells of size d: <|grad u|^2> = 1/2, so (d / eta)^2 = d^2 / (sqrt(2) nu)
    grid = Grid((64, 8, 8), (2 * np.pi / 64,) * 3)
    values = np.zeros((3, *grid.shape))
    values[1] = np.sin(grid.coordinates()[0])[:, None, None]
    for lengths, fine in ((2.0, True), (3.0, False)):
        viscosity = grid.spacing[0] ** 2 / (np.sqrt(2) * lengths**2)
        found = already_fine([measure_traits(values, grid, "1o", viscosity)])
        assert [one.what for one in found] == ["resolved"] * fine
        assert all("cells are 2 Kolmogorov lengths" in one.line for one in found)
    known = home()
    unsaid = judged(known, shear(BOX), BOX, viscosity=None)
    assert "fine already" in unsaid.findings[-1].line and not unsaid.refused
    assert "resolved" not in {one.what for one in judged(known, noise(BOX, 2), BOX, viscosity=None).findings}


def test_walls_stretched_axes_and_long_cells_are_refused():
    known = home()
    long = Grid(BOX.shape, (20.0, 0.5, 0.5))
    assert {f.what for f in judged(known, noise(BOX, 2), long, viscosity=None).refused} == {"aspect"}
    assert {f.what for f in judged(known, noise(WALLS), WALLS).refused} >= {"boundary", "stretched"}
    between = home(WALLS)
    assert not judged(between, noise(WALLS, 3), WALLS).refused
    assert next(f.what for f in judged(between, noise(BOX), BOX).findings) == "boundary"


def test_walls_across_another_axis_are_another_flow_to_a_model_that_tells_axes_apart():
    known = home(WALLS)
    group = octahedral_group("Oh")
    turned = transform_grid(WALLS, next(n for n in range(48) if abs(group.matrices[n][0, 1]) == 1), group)
    traits = [measure_traits(noise(WALLS, 2), WALLS, "1o", viscosity=0.01)]
    assert turned.boundary != WALLS.boundary and compare_with_home(known, traits, turned, "block_mean").at_home
    found = compare_with_home(known, traits, turned, "block_mean", oriented=True)
    assert [f.what for f in found.findings] == ["boundary"]


def test_a_few_snapshots_outside_do_not_make_a_finding():
    known = home()
    inside, out = measure_traits(noise(BOX, 2), BOX, "1o"), measure_traits(shear(BOX), BOX, "1o")
    assert compare_with_home(known, [inside] * 9 + [out], BOX, "block_mean").at_home
    found = compare_with_home(known, [inside] * 2 + [out], BOX, "block_mean")
    assert "1 of 3 snapshots" in found.findings[0].line


def test_snapshots_are_spread_with_both_ends():
    assert spread(5, 16) == [0, 1, 2, 3, 4] and spread(100, 3) == [0, 50, 99] and spread(1, 16) == [0]


def test_home_goes_through_json_and_back():
    import json
    from dataclasses import asdict

    assert Home.from_dict(json.loads(json.dumps(asdict(home())))) == home()
