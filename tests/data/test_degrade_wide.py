"""Degrading on stretched axes, by other factors along each axis, by wide filters, weighted with the density."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsr.data import degrade as package_degrade
from flowsr.data import open_field
from flowsr.data.degrade import DEGRADE_OPERATORS, TopHat, degrade
from flowsr.data.field import grid_of
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import axis_action, transform_field
from tests.data.fields import random_field, store_field

OH = octahedral_group("Oh")
ANY_BOX = {
    "block_mean": DEGRADE_OPERATORS["block_mean"](),
    "gaussian_block_mean": DEGRADE_OPERATORS["gaussian_block_mean"](),
    "top_hat 1.7": TopHat(1.7),
    "top_hat 0.4": TopHat(0.4),
    "top_hat 9": TopHat(9.0),
}
CENTERS = tuple(-np.cos(np.pi * (np.arange(12) + 0.5) / 12))
CHANNEL = Grid((8, 12, 6), (0.5, 1 / 6, 0.25), ("periodic", "wall", "open"), (0, -1, 0), (None, CENTERS, None))


def transformed(field, element):
    return transform_field(torch.from_numpy(field), element, "1o", OH).numpy()


@pytest.mark.parametrize("name", ANY_BOX)
@pytest.mark.parametrize("factors", [(2, 2, 2), (4, 2, 3), (1, 3, 2)])
def test_commutes_with_all_48_beside_walls_on_stretched_axes_by_any_factors(name, factors):
    operator = ANY_BOX[name]
    assert operator.commutes
    field = np.random.default_rng(0).normal(size=(3, *CHANNEL.shape))
    coarse = operator(field, factors, grid=CHANNEL)
    assert coarse.shape == (3, *(n // s for n, s in zip(CHANNEL.shape, factors)))
    for element in range(OH.order):
        source, flipped = axis_action(element, OH)
        there = operator(
            transformed(field, element), tuple(factors[a] for a in source), grid=CHANNEL.transformed(source, flipped)
        )
        np.testing.assert_allclose(there, transformed(coarse, element), atol=1e-12)


@pytest.mark.parametrize("factors", [(2, 1, 3), (4, 2, 1)])
def test_a_spectral_cutoff_by_any_factors_commutes_with_all_48(factors):
    operator = DEGRADE_OPERATORS["spectral_cutoff"]()
    field = np.random.default_rng(0).normal(size=(3, 8, 4, 6))
    coarse = operator(field, factors)
    for element in range(OH.order):
        there = operator(transformed(field, element), tuple(factors[a] for a in axis_action(element, OH)[0]))
        np.testing.assert_allclose(there, transformed(coarse, element), atol=1e-12)


@pytest.mark.parametrize("name", [*ANY_BOX, "spectral_cutoff", "strided"])
@pytest.mark.parametrize("periodic", [True, False])
def test_rows_of_the_matrix_sum_to_one_and_are_what_is_applied(name, periodic):
    operator = ANY_BOX.get(name) or DEGRADE_OPERATORS[name]()
    if operator.needs_periodic and not periodic:
        return
    from flowsr.data.degrade import Cells

    grid = Grid((12, 12, 12), boundary=("periodic" if periodic else "wall",) * 3)
    matrix = operator.matrix(Cells.of(grid, 1), 3).toarray()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    field = np.random.default_rng(0).normal(size=(12, 12, 12))
    whole = np.einsum("ax,by,cz,xyz->abc", matrix, matrix, matrix, field)
    np.testing.assert_allclose(operator(field, 3, grid.boundary), whole, atol=1e-12)


def test_the_block_mean_of_a_stretched_axis_keeps_integrals():
    field = np.random.default_rng(0).normal(size=CHANNEL.shape)
    coarse = DEGRADE_OPERATORS["block_mean"]()(field, 3 - 1, grid=CHANNEL)
    fine_volumes = np.einsum("x,y,z->xyz", *CHANNEL.widths())
    sums = [w.reshape(-1, 2).sum(axis=1) for w in CHANNEL.widths()]
    np.testing.assert_allclose(
        (coarse * np.einsum("x,y,z->xyz", *sums)).sum(), (field * fine_volumes).sum(), rtol=1e-12
    )
    y = DEGRADE_OPERATORS["block_mean"]()(
        np.broadcast_to(np.array(CENTERS)[:, None], CHANNEL.shape).copy(), 2, grid=CHANNEL
    )
    np.testing.assert_allclose(y[0, :, 0], CHANNEL.coarsened(2).coordinates()[1], atol=1e-13)


def test_a_top_hat_one_cell_wide_is_the_block_mean_and_two_wide_its_overlapping_one():
    field = np.random.default_rng(0).normal(size=CHANNEL.shape)
    block = DEGRADE_OPERATORS["block_mean"]()
    np.testing.assert_allclose(TopHat(1.0)(field, 2, grid=CHANNEL), block(field, 2, grid=CHANNEL), atol=1e-13)
    line = np.random.default_rng(1).normal(size=(12, 2, 2))
    wide = TopHat(2.0)(line, (2, 1, 1))
    half = (line[:, :1] + line[:, 1:]) / 2
    half = (half[:, :, :1] + half[:, :, 1:]) / 2
    want = [(half[(2 * i - 1) % 12] + half[2 * i] + half[2 * i + 1] + half[(2 * i + 2) % 12]) / 4 for i in range(6)]
    np.testing.assert_allclose(wide[:, :1, :1], np.array(want), atol=1e-13)
    walls = TopHat(2.0)(line, (2, 1, 1), ("wall", "periodic", "periodic"))
    np.testing.assert_allclose(walls[0, 0, 0], (2 * half[0] + half[1] + half[2])[0, 0] / 4, atol=1e-13)


@pytest.mark.parametrize("width", [0.4, 1.0, 1.7, 3.0])
def test_transfer_function_of_a_top_hat(width):
    grid, factor = Grid((24, 2, 2), (0.25, 1.0, 1.0)), 3
    operator = TopHat(width)
    fine, coarse = grid.coordinates()[0], grid.coarsened((factor, 1, 1)).coordinates()[0]
    for mode in range(13):
        k = 2 * np.pi * mode / grid.lengths[0]
        wave = np.cos(k * fine + 0.7)[:, None, None] * np.ones(grid.shape)
        found = operator(wave, (factor, 1, 1))[:, 0, 0]
        np.testing.assert_allclose(
            found, operator.transfer_function(k, grid.spacing[0], factor) * np.cos(k * coarse + 0.7), atol=1e-12
        )


@pytest.mark.parametrize("width", [0, -1.0, np.inf, np.nan, "wide"])
def test_widths_that_are_none(width):
    with pytest.raises(FlowsrError, match="not a width"):
        degrade(random_field(Grid((4, 4, 4)), [0.0]), "top_hat", 2, width=width)
    with pytest.raises(FlowsrError, match="only a top_hat has a width"):
        degrade(random_field(Grid((4, 4, 4)), [0.0]), "block_mean", 2, width=1.0)


def with_density(grid, times=(0.0, 1.0)):
    fine = random_field(grid, list(times), dtype="float64")
    density = 1 + np.random.default_rng(7).random((len(times), *grid.shape))
    return fine.assign(density=(("time", "x", "y", "z"), density, {"irreps": "0e"}))


@pytest.mark.parametrize("operator", ["block_mean", "gaussian_block_mean", "top_hat", "spectral_cutoff"])
def test_favre_means_carry_the_momentum_and_commute_with_all_48(operator):
    fine = with_density(Grid((8, 4, 6), (0.5, 0.25, 0.1)))
    coarse = degrade(fine, operator, (2, 1, 3), weight="density")
    velocity, density = fine["velocity"].values, fine["density"].values
    apply = DEGRADE_OPERATORS[operator]()
    momentum = apply(velocity * density[:, None], (2, 1, 3))
    np.testing.assert_allclose(coarse["density"].values, apply(density, (2, 1, 3)), atol=1e-12)
    np.testing.assert_allclose(coarse["velocity"].values * coarse["density"].values[:, None], momentum, atol=1e-10)
    assert coarse.attrs["degrade_weight"] == "density" and coarse.attrs["degrade_factor"] == [2, 1, 3]
    whole = coarse["velocity"].values
    for element in range(OH.order):
        source, _ = axis_action(element, OH)
        there = fine.isel(time=[0])
        box = Grid(tuple((8, 4, 6)[a] for a in source), tuple((0.5, 0.25, 0.1)[a] for a in source))
        other = random_field(box, [0.0], dtype="float64")
        other["velocity"] = other["velocity"].copy(data=transformed(there["velocity"].values, element))
        scalar = transform_field(torch.from_numpy(density[:1, None]), element, "0e", OH).numpy()[:, 0]
        other["density"] = (("time", "x", "y", "z"), scalar, {"irreps": "0e"})
        found = degrade(other, operator, tuple((2, 1, 3)[a] for a in source), weight="density")
        np.testing.assert_allclose(found["velocity"].values, transformed(whole[:1], element), atol=1e-11)


def test_weights_that_are_none():
    fine = with_density(Grid((4, 4, 4)))
    with pytest.raises(FlowsrError, match=r"no such weight.*found: density"):
        degrade(fine, "block_mean", 2, weight="velocity")
    fine["density"][1, 0, 0, 0] = 0.0
    coarse = degrade(fine, "block_mean", 2, weight="density")
    assert np.all(np.isfinite(coarse["velocity"].isel(time=0).values))
    with pytest.raises(FlowsrError, match=r"a weight that is not positive.*density"):
        coarse["velocity"].isel(time=1).load()


@settings(max_examples=25, deadline=None)
@given(data=st.data(), name=st.sampled_from([*ANY_BOX, "strided", "spectral_cutoff"]), weighted=st.booleans())
def test_a_part_is_that_part_of_the_whole_bit_for_bit(data, name, weighted):
    fine = with_density(CHANNEL if name != "spectral_cutoff" else Grid(CHANNEL.shape))
    factors = (2, 3, 1)
    options = {"width": float(name.split()[1])} if name.startswith("top_hat") else {}
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        coarse = degrade(fine, name.split()[0], factors, weight="density" if weighted else None, **options)
    whole = coarse["velocity"].values
    index = [data.draw(st.integers(0, 1)), data.draw(st.integers(0, 2))]
    for n in coarse["velocity"].shape[2:]:
        start = data.draw(st.integers(0, n - 1))
        index.append(
            data.draw(st.sampled_from([start, slice(start, None), slice(None, start + 1), slice(start, None, 2)]))
        )
    part = coarse["velocity"][tuple(index)].values
    if name == "spectral_cutoff":
        np.testing.assert_allclose(part, whole[tuple(index)], atol=1e-13)
    else:
        np.testing.assert_array_equal(part, whole[tuple(index)])


def test_only_the_neighbourhood_of_a_part_is_read(tmp_path, monkeypatch):
    from flowsr.data.readers import zarr as zarr_reader

    fine = open_field(store_field(random_field(Grid((32, 32, 32)), [0.0]), tmp_path / "a.zarr", chunk=8, shard=8))
    coarse = package_degrade(fine, "block_mean", 4)
    read = []
    load = zarr_reader.ZarrArray.load
    monkeypatch.setattr(zarr_reader.ZarrArray, "load", lambda self, index: read.append(load(self, index)) or read[-1])
    coarse["velocity"][0, :, 2:4, 0, 7].load()
    assert sum(values.size for values in read) == 3 * 8 * 4 * 4


def test_a_stretched_dataset_is_degraded_with_its_coordinates(tmp_path):
    fine = open_field(store_field(random_field(CHANNEL, [0.0]), tmp_path / "a.zarr"))
    coarse = degrade(fine, "block_mean", 2)
    grid = grid_of(coarse)
    assert grid.stretched == (False, True, False) and grid.boundary == CHANNEL.boundary
    np.testing.assert_allclose(grid.coordinates()[1], CHANNEL.coarsened(2).coordinates()[1])
    np.testing.assert_allclose(grid.lengths, CHANNEL.lengths)
    again = open_field(store_field(coarse, tmp_path / "b.zarr"))
    np.testing.assert_array_equal(again["velocity"].values, coarse["velocity"].values)
