"""Missing values from files to pairs and patches: refused, or carried as NaN and never averaged or trained on."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from flowsr.data import create_store, open_field
from flowsr.data.degrade import DEGRADE_OPERATORS, degrade
from flowsr.data.independence import Split
from flowsr.data.pairs import Ingest, ingest, pair_stores, read_statistics
from flowsr.data.patches import PatchPairs
from flowsr.data.quality import any_within
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from tests.data.fields import random_field, store_field

SIDE = 16
SPLIT = Split(decorrelation_turnovers=0.5, turnover_time=1.0)
NAN = Ingest(factor=2, split=SPLIT, missing="nan")
WALLS = ("periodic", "wall", "open")


def city(boundary=("periodic",) * 3, times=6):
    """A field with a building: a block of cells that has no values at any time, and one component missing elsewhere."""
    dataset = random_field(Grid((SIDE,) * 3, boundary=boundary), np.arange(times) * 1.0)
    dataset.velocity[:, :, 5:8, :3, 9:12] = np.nan
    dataset.velocity[:, 1, 15, 8, 0] = np.nan
    return dataset


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("missing")
    ingest([store_field(city(), folder / "city.zarr")], folder / "pairs", NAN)
    return folder / "pairs"


@pytest.mark.parametrize("boundary", [("periodic",) * 3, WALLS])
@pytest.mark.parametrize("name", ["block_mean", "top_hat", "gaussian_block_mean", "strided"])
@pytest.mark.filterwarnings("ignore::flowsr.data.degrade.SymmetryWarning")
def test_coarse_cells_that_touch_a_missing_value_are_missing_and_no_others_change(name, boundary):
    dataset, grid = city(boundary, times=1), Grid((SIDE,) * 3, boundary=boundary)
    whole = random_field(grid, [0.0])
    coarse, without = (degrade(each, name, 2).velocity.values for each in (dataset, whole))
    x, y, z = supports(name, grid)
    touched = np.einsum("Xx,Yy,Zz,tcxyz->tcXYZ", x, y, z, np.isnan(dataset.velocity.values), optimize=True) > 0
    assert 0 < touched.sum() < touched.size
    np.testing.assert_array_equal(np.isnan(coarse), touched)
    np.testing.assert_array_equal(coarse[~touched], without[~touched])
    part = degrade(dataset, name, 2).velocity[0, :, 1:6, :3, 2:]
    np.testing.assert_array_equal(part.values, coarse[0, :, 1:6, :3, 2:])


def supports(name, grid):
    """(coarse, fine) along each axis, 1 where a coarse cell is made of a fine one, found by poking them one by one."""
    for kind in grid.boundary:
        pokes = np.zeros((SIDE, SIDE, 2, 2))
        pokes[np.arange(SIDE), np.arange(SIDE)] = 1.0
        line = Grid((SIDE, 2, 2), boundary=(kind, "wall", "wall"))
        yield (DEGRADE_OPERATORS[name]()(pokes, (2, 1, 1), grid=line)[..., 0, 0].T != 0).astype(float)


def test_a_favre_mean_is_missing_where_the_weight_is():
    dataset = random_field(Grid((8,) * 3), [0.0])
    density = np.full((1, 8, 8, 8), 2.0, dtype="f4")
    density[0, 3, 4, 5] = np.nan
    dataset["density"] = (("time", "x", "y", "z"), density, {"irreps": "0e", "units": "1"})
    coarse = degrade(dataset, "block_mean", 2, weight="density")
    assert np.argwhere(np.isnan(coarse.velocity.values[0, 0])).tolist() == [[1, 2, 2]]
    assert np.argwhere(np.isnan(coarse.density.values[0])).tolist() == [[1, 2, 2]]


def test_a_sharp_cutoff_refuses_missing_values():
    with pytest.raises(FlowsrError, match="mixes every cell") as found:
        degrade(city(times=1), "spectral_cutoff", 2).velocity.load()
    assert found.value.variable == "velocity" and found.value.found == 3 * 27 + 1
    with pytest.raises(ValueError, match="missing"):
        DEGRADE_OPERATORS["spectral_cutoff"]()(city(times=1).velocity.values, 2)


def test_an_ingest_refuses_missing_values_and_says_how_to_carry_them(tmp_path):
    path = store_field(city(), tmp_path / "city.zarr")
    with pytest.raises(FlowsrError) as found:
        ingest([path], tmp_path / "pairs", Ingest(factor=2, split=SPLIT))
    error = found.value
    assert error.variable == "velocity" and str(error.found).startswith(f"{6 * (3 * 27 + 1)} of ")
    assert "time 0, component 0, x 5, y 0, z 9" in str(error.found) and "ingest.missing=nan" in error.hint
    with pytest.raises(FlowsrError, match="mixes every cell"):
        ingest([path], tmp_path / "pairs", Ingest(factor=2, split=SPLIT, missing="nan", operator="spectral_cutoff"))
    assert not (tmp_path / "pairs").exists()


def test_infinite_values_are_never_missing(tmp_path):
    dataset = city()
    dataset.velocity[3, 0, 0, 0, 0] = np.inf
    with pytest.raises(FlowsrError, match="1 are infinite"):
        ingest([store_field(dataset, tmp_path / "city.zarr")], tmp_path / "pairs", NAN)


def test_pairs_carry_missing_values_and_their_scale_leaves_them_out(pairs):
    statistics, kept = read_statistics(pairs), {"coarse": [], "fine": []}
    for store in pair_stores(pairs, "train"):
        for group, values in kept.items():
            dataset = open_field(store, group=group)
            assert dataset.attrs["missing"] == "nan"
            values += [v[:, ~np.isnan(v).any(axis=0)] for v in dataset.velocity.values.astype(float)]
    for group, share in (("fine", 28 / SIDE**3), ("coarse", (2 * 2 * 2 + 1) * 8 / SIDE**3)):
        squares = np.concatenate([(v**2).sum(axis=0) for v in kept[group]])
        assert statistics.scale[group] == pytest.approx(np.sqrt(squares.mean()), rel=1e-6)
        assert statistics.missing[group] == pytest.approx(share)
    assert statistics.runs["city"].scales is None and statistics.flow is None


def test_without_a_turnover_time_the_split_says_what_it_needs(tmp_path):
    path = store_field(city(), tmp_path / "city.zarr")
    with pytest.raises(FlowsrError) as found:
        ingest([path], tmp_path / "pairs", Ingest(factor=2, missing="nan"))
    assert found.value.variable == "split.turnover_time" and "missing" in found.value.expected


@pytest.mark.parametrize(("patch", "halo"), [(2, 1), ((3, 2, 1), 0), (1, 2)])
def test_patches_avoid_missing_values_and_every_other_place_is_drawn(pairs, patch, halo):
    store = pair_stores(pairs, "train")[0]
    drawn = PatchPairs([store], patch=patch, halo=halo, samples=700, seed=0)
    coarse = open_field(store, group="coarse").velocity.values
    bad = np.isnan(coarse[0]).any(axis=0)
    sides = tuple(np.broadcast_to(patch, 3))
    expected = np.ones(bad.shape, dtype=bool)
    for place in np.ndindex(bad.shape):
        cells = [np.arange(o - halo, o + p + halo) % n for o, p, n in zip(place, sides, bad.shape)]
        expected[place] = not bad[np.ix_(*cells)].any()
    found = np.zeros(bad.shape, dtype=bool)
    times = len(coarse)
    for index in range(len(drawn)):
        low, high = drawn[index]
        assert np.isfinite(low.numpy()).all() and np.isfinite(high.numpy()).all()
        corner = low[:, halo, halo, halo].numpy()
        hits = np.argwhere((coarse == corner[None, :, None, None, None]).all(axis=1))
        assert len(hits) == 1
        found[tuple(hits[0, 1:])] = True
    assert not (found & ~expected).any()
    assert found.sum() > 0.9 * expected.sum() * (1 - np.exp(-700 / expected.sum())) and times > 1


def test_a_fine_value_missing_where_the_coarse_one_is_not_is_avoided(tmp_path):
    fine = random_field(Grid((12,) * 3), [0.0])
    fine.velocity[0, 0, 7, 7, 7] = np.nan  # strided takes x[::2]
    with pytest.warns(UserWarning):
        coarse = degrade(fine, "strided", 2)
    marked = [d.assign_attrs(missing="nan") for d in (coarse, fine)]
    with create_store(tmp_path / "a.zarr", dict(zip(("coarse", "fine"), marked))) as store:
        for group, dataset in zip(("coarse", "fine"), marked):
            store.write("velocity", dataset.velocity[0].values, time=0, group=group)
        store.publish()
    drawn = PatchPairs([tmp_path / "a.zarr"], patch=4, samples=300, seed=0)
    assert all(np.isfinite(high.numpy()).all() for _, high in (drawn[i] for i in range(300)))


def test_snapshots_without_a_free_place_are_left_out_and_none_at_all_is_refused(tmp_path, pairs):
    dataset = random_field(Grid((8,) * 3), [0.0, 1.0])
    dataset.velocity[0, 0, ::4, ::4, ::4] = np.nan
    coarse = degrade(dataset, "block_mean", 2)
    with create_store(
        tmp_path / "a.zarr", {"coarse": coarse.assign_attrs(missing="nan"), "fine": dataset.assign_attrs(missing="nan")}
    ) as store:
        for time in range(2):
            store.write("velocity", coarse.velocity[time].values, time=time, group="coarse")
            store.write("velocity", dataset.velocity[time].values, time=time, group="fine")
        store.publish()
    drawn = PatchPairs([tmp_path / "a.zarr"], patch=2, samples=4, seed=0)
    assert drawn.snapshots == [(0, 1)]
    with pytest.raises(FlowsrError, match="no patch of") as found:
        PatchPairs(pair_stores(pairs, "train"), samples=1, seed=0)
    assert "smaller" in found.value.hint


def test_rare_places_are_found(tmp_path):
    dataset = random_field(Grid((16,) * 3), [0.0])
    dataset.velocity[0, 0] = np.nan
    dataset.velocity[0, 0, 4:6, 8:10, 2:4] = 1.0
    coarse = degrade(dataset, "block_mean", 2).assign_attrs(missing="nan")
    with create_store(tmp_path / "a.zarr", {"coarse": coarse, "fine": dataset.assign_attrs(missing="nan")}) as store:
        store.write("velocity", coarse.velocity[0].values, time=0, group="coarse")
        store.write("velocity", dataset.velocity[0].values, time=0, group="fine")
        store.publish()
    drawn = PatchPairs([tmp_path / "a.zarr"], patch=1, samples=5, seed=0)
    for index in range(5):
        np.testing.assert_array_equal(drawn[index][1].numpy(), dataset.velocity[0, :, 4:6, 8:10, 2:4].values)


def test_a_dilation_in_many_directions_is_that_of_scipy():
    cells = np.random.default_rng(0).random((7, 9, 8)) < 0.02
    for kind, mode in (("periodic", "wrap"), ("wall", "constant")):
        found = any_within(cells, [(-2, 5), (0, 1), (-1, 3)], (kind,) * 3)
        expected = ndimage.maximum_filter(cells.astype("u1"), size=(5, 1, 3), mode=mode)
        np.testing.assert_array_equal(found, expected.astype(bool))
    assert any_within(cells, [(-20, 41)] * 3, ("open",) * 3).all()
