"""Block by block: the sums of blocks make the whole field's statistics, in closed form and however it is cut."""

import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

from flowsr.grid import Grid
from flowsr.metrics import (
    derivative_flatness,
    derivative_skewness,
    dissipation,
    energy_spectrum,
    enstrophy,
    finite_differences,
    gradient,
    line_spectrum,
    normalized_divergence,
    nrmse,
    vrmse,
)
from flowsr.metrics.statistics import (
    HALO,
    Lattice,
    Totals,
    block_totals,
    edge_totals,
    error_totals,
    errors_of,
    faces_of,
    gradient_density,
    moments_of,
    of_faces,
    of_whole,
    own_cells,
)
from flowsr.metrics.tiles import Cut, cuts_of

PERIODIC = Grid((28, 18, 24), (0.1, 0.25, 0.2))
WALLS = Grid((20, 41, 12), (0.3, 0.05, 0.4), ("periodic", "wall", "open"))
_FACES = np.tanh(np.linspace(-2, 2, 38)) / np.tanh(2)
STRETCHED = Grid(
    (16, 37, 20),
    (0.2, 2 / 37, 0.1),
    ("periodic", "wall", "periodic"),
    (0.0, -1.0, 0.0),
    (None, tuple((_FACES[1:] + _FACES[:-1]) / 2), None),
)
GRIDS = {"periodic": PERIODIC, "walls": WALLS, "stretched": STRETCHED}


def field_on(grid: Grid, seed: int = 0, dtype=np.float64) -> np.ndarray:
    """Not smooth, with a mean: every neighbour counts."""
    return (np.random.default_rng(seed).standard_normal((3, *grid.shape)) + 0.3).astype(dtype)


def totals_in_blocks(field: np.ndarray, grid: Grid, side: int, order=lambda parts: parts) -> Totals:
    parts = []
    for cuts in cuts_of(grid, side, HALO):
        values = field[(slice(None), *np.ix_(*(cut.cells for cut in cuts)))]
        parts.append(block_totals(values, grid, cuts, gradient=True))
    return Totals.of(order(parts))


@pytest.mark.parametrize("side", [9, 100])
@pytest.mark.parametrize("name", GRIDS)
def test_blocks_add_up_to_the_whole_fields_metrics(name, side):
    grid = GRIDS[name]
    field = field_on(grid)
    found = moments_of(totals_in_blocks(field, grid, side), viscosity=0.02)
    whole = torch.as_tensor(field)[None]
    with finite_differences((0, 1, 2)):
        expected = {
            "dissipation": dissipation(whole, grid, 0.02),
            "enstrophy": enstrophy(whole, grid),
            "divergence": normalized_divergence(whole, grid),
            "derivative_skewness": derivative_skewness(whole, grid),
            "derivative_flatness": derivative_flatness(whole, grid),
        }
    assert {key: found[key] for key in expected} == pytest.approx({k: float(v) for k, v in expected.items()}, rel=1e-11)


@pytest.mark.parametrize("side", [5, 20])
@pytest.mark.parametrize("name", GRIDS)
def test_blocks_without_a_halo_and_their_faces_make_the_same_sums(name, side):
    grid = GRIDS[name]
    field = field_on(grid)
    field[0, 3, 5, 7] = np.nan
    divisions = tuple([*range(0, n, side if n > side else n), n] for n in grid.shape)
    places = list(product(*(range(len(edges) - 1) for edges in divisions)))
    cuts = {
        place: tuple(
            Cut(edges[at], edges[at + 1], np.arange(edges[at], edges[at + 1]), 0) for edges, at in zip(divisions, place)
        )
        for place in places
    }
    blocks = {place: field[(slice(None), *(slice(cut.start, cut.stop) for cut in cuts[place]))] for place in places}
    parts = [block_totals(blocks[place], grid, cuts[place], gradient=True, part="inside") for place in places]
    faces = {place: faces_of(blocks[place], grid, cuts[place]) for place in places}
    edges = {
        "faces": [
            edge_totals(grid, divisions, partial(of_faces, grid, divisions, place, faces.__getitem__), place)
            for place in places
        ],
        "whole": [edge_totals(grid, divisions, partial(of_whole, field, grid))],
    }
    expected = totals_in_blocks(field, grid, 100)
    for rest in edges.values():
        found = Totals.of([*parts, *rest])
        assert set(found.values) == set(expected.values)
        assert all(found[key] == pytest.approx(expected[key], rel=1e-11, abs=1e-9) for key in expected.values)


def test_any_order_is_the_same_to_round_off_and_one_order_to_the_bit():
    field = field_on(PERIODIC, dtype=np.float32)
    one = totals_in_blocks(field, PERIODIC, 16)
    same = totals_in_blocks(field, PERIODIC, 16)
    other = totals_in_blocks(field, PERIODIC, 16, order=lambda parts: parts[::-1])
    assert all(np.array_equal(one[name], same[name]) for name in one.values)
    assert all(one[name] == pytest.approx(other[name], rel=1e-12, abs=1e-9) for name in one.values)


def test_taylor_green_vortex_has_the_moments_of_its_formula():
    # u = sin x cos y cos z, v = -cos x sin y cos z, w = 0: energy 1/8, enstrophy 3/8, dissipation 2 nu 3/8
    grid = Grid((48, 48, 48), (2 * math.pi / 48,) * 3)
    x, y, z = np.meshgrid(*grid.coordinates(), indexing="ij")
    field = np.stack([np.sin(x) * np.cos(y) * np.cos(z), -np.cos(x) * np.sin(y) * np.cos(z), 0 * x])
    found = moments_of(totals_in_blocks(field, grid, 20), viscosity=0.1)
    assert found["energy"] == pytest.approx(1 / 8, rel=1e-13)
    assert found["enstrophy"] == pytest.approx(3 / 8, rel=1e-6)
    assert found["dissipation"] == pytest.approx(0.075, rel=1e-6)
    assert found["divergence"] < 1e-12
    assert found["derivative_flatness"] == pytest.approx((3 / 8) ** 3 / (1 / 2) ** 6, rel=1e-6)


def test_abc_flow_is_its_own_curl():
    grid = Grid((32, 40, 36), tuple(2 * math.pi / n for n in (32, 40, 36)))
    x, y, z = np.meshgrid(*grid.coordinates(), indexing="ij")
    field = np.stack([np.sin(z) + np.cos(y), np.sin(x) + np.cos(z), np.sin(y) + np.cos(x)])
    found = moments_of(totals_in_blocks(field, grid, 17))
    assert found["energy"] == pytest.approx(1.5, rel=1e-13)
    assert found["enstrophy"] == pytest.approx(found["energy"], rel=1e-5)
    assert "dissipation" not in found  # no viscosity


def test_densities_are_histograms_of_the_gradient():
    field = field_on(PERIODIC, dtype=np.float32)
    totals = totals_in_blocks(field, PERIODIC, 16)
    with finite_differences((0, 1, 2)):
        a = gradient(torch.as_tensor(field)[None], PERIODIC)[0].numpy()
    own = np.stack([a[i, i] for i in range(3)])
    across = np.stack([a[i, j] for i in range(3) for j in range(3) if i != j])
    for kind, values in (("longitudinal", own), ("transverse", np.stack([across, -across]))):
        x, density = (one.numpy() for one in gradient_density(totals, kind))
        edges = _edges_of(x)
        scale = np.sqrt(np.mean(values**2))
        expected = np.histogram(values / scale, edges, density=False)[0] / values.size / np.diff(edges)
        assert density == pytest.approx(expected, abs=2e-3)
        assert density @ np.diff(edges) == pytest.approx(1, abs=1e-12)


def _edges_of(centres: np.ndarray) -> np.ndarray:
    """Edges of symmetric bins from their centres: the middle one is 0."""
    half = centres[len(centres) // 2 :]
    edges = [0.0]
    for centre in half:
        edges.append(2 * centre - edges[-1])
    return np.concatenate([-np.array(edges[:0:-1]), edges])


def test_missing_cells_are_left_out_and_counted_and_lose_only_the_gradients_that_see_them():
    grid = PERIODIC
    field = field_on(grid)
    field[1, 20, 11, 5] = np.nan
    field[:, 3:5, 2, 20] = np.inf
    totals = totals_in_blocks(field, grid, 16)
    assert totals["missing"] == 3 and totals["cells"] == math.prod(grid.shape)
    good = np.isfinite(field).all(axis=0)
    assert moments_of(totals)["energy"] == pytest.approx((field**2)[:, good].sum() / good.sum() / 2, rel=1e-12)
    with finite_differences((0, 1, 2)):
        a = gradient(torch.as_tensor(np.where(good, field, 0))[None], grid)[0].numpy()
    seen = good.copy()
    for axis in range(3):
        for shift in range(-HALO, HALO + 1):
            seen &= np.roll(good, shift, axis)
    power = (a**2).sum((0, 1))[seen].mean()
    assert np.trace(totals["gradient"]) / totals["gradient_volume"] == pytest.approx(power, rel=1e-12)
    assert totals["gradient_volume"] == pytest.approx(seen.sum() * math.prod(grid.spacing))
    assert totals["longitudinal"].sum() == pytest.approx(3 * totals["gradient_volume"])


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_single_precision_holds_in_any_units(scale):
    field = field_on(PERIODIC)
    one = moments_of(totals_in_blocks(field, PERIODIC, 16))
    other = moments_of(totals_in_blocks((field * scale).astype(np.float32), PERIODIC, 16))
    for key in ("divergence", "derivative_skewness", "derivative_flatness"):
        assert other[key] == pytest.approx(one[key], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", GRIDS)
def test_errors_are_those_of_the_whole_field(name):
    grid = GRIDS[name]
    truth, prediction = field_on(grid, 1), field_on(grid, 2)
    parts = []
    for cuts in cuts_of(grid, 15, 0):
        place = (slice(None), *(slice(cut.start, cut.stop) for cut in cuts))
        parts.append(error_totals(prediction[place], truth[place], grid, cuts))
    found = errors_of(Totals.of(parts))
    whole = (torch.as_tensor(field)[None] for field in (prediction, truth))
    one, other = whole
    assert found["nrmse"] == pytest.approx(float(nrmse(one, other, grid)), rel=1e-12)
    assert found["vrmse"] == pytest.approx(float(vrmse(one, other, grid)), rel=1e-12)
    assert found["largest_error"] == pytest.approx(np.sqrt(((prediction - truth) ** 2).sum(0).max()), rel=1e-12)


@pytest.mark.parametrize("name", GRIDS)
def test_all_lines_of_a_small_field_give_its_line_spectrum(name):
    grid = GRIDS[name]
    field = field_on(grid)
    lattice = Lattice.of(grid, 0, field[0].size)
    assert lattice.complete
    lines = lattice.empty(3, field.dtype)
    for cuts in cuts_of(grid, 9, 2):
        values = field[(slice(None), *np.ix_(*(cut.cells for cut in cuts)))]
        lattice.place(lines, lattice.piece(own_cells(values, cuts), cuts), cuts)
    found, expected = lattice.spectrum(lines), line_spectrum(torch.as_tensor(field)[None], grid, 0)
    assert torch.equal(found.x, expected.x)
    assert found.y.numpy() == pytest.approx(expected.y[0].numpy(), rel=1e-12)


def test_few_lines_of_a_large_field_are_spread_and_exact_on_a_single_mode():
    grid = Grid((64, 48, 50), (0.1, 0.1, 0.1))
    k = 2 * math.pi * 5 / grid.lengths[2]
    z = grid.coordinates()[2]
    field = np.broadcast_to(np.sin(k * z), (1, *grid.shape))
    lattice = Lattice.of(grid, 2, 4000)
    assert not lattice.complete and 40 <= lattice.lines <= 100
    assert lattice.weights.sum() == pytest.approx(1)
    lines = lattice.empty(1, field.dtype)
    for cuts in cuts_of(grid, 20, 0):
        values = field[(slice(None), *(slice(cut.start, cut.stop) for cut in cuts))]
        lattice.place(lines, lattice.piece(values, cuts), cuts)
    found = lattice.spectrum(lines)
    assert float(found.x[5]) == pytest.approx(k)
    assert float(found.y[0, 5] * found.x[1]) == pytest.approx(0.5, rel=1e-12)  # the mean square of a sine
    lines[0, 0, 0, 3] = np.nan
    assert torch.allclose(lattice.spectrum(lines).y, found.y, atol=1e-14)


def test_lines_that_are_a_sample_are_off_by_one_over_the_root_of_their_number():
    grid = Grid((64, 64, 64))
    field = np.random.default_rng(0).standard_normal((3, *grid.shape))  # the worst case: no line knows of its neighbour
    lattice = Lattice.of(grid, 2, 8 * 8 * 64)
    assert lattice.lines == 64
    found = lattice.spectrum(field[:, lattice.picks[0]][:, :, lattice.picks[1]]).y
    expected = line_spectrum(torch.as_tensor(field)[None], grid, 2).y[0]
    error = (found / expected - 1)[:, 1:-1].square().mean().sqrt()  # the ends have one mode, not two: root 2 more
    assert float(error) == pytest.approx(math.sqrt(1 / 64), rel=0.2)


def test_shells_and_lines_hold_the_same_energy():
    field = field_on(PERIODIC)
    lattice = Lattice.of(PERIODIC, 1, field.size)
    lines = lattice.empty(3, field.dtype)
    lattice.place(
        lines, lattice.piece(field, next(iter(cuts_of(PERIODIC, 99, 0)))), next(iter(cuts_of(PERIODIC, 99, 0)))
    )
    shells = energy_spectrum(torch.as_tensor(field)[None], PERIODIC)
    along = lattice.spectrum(lines)
    assert float(along.y.sum() * along.x[1]) / 2 == pytest.approx(float(shells.y.sum() * shells.x[1]), rel=1e-12)
