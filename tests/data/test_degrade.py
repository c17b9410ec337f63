import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsr.data import open_field
from flowsr.data.degrade import DEGRADE_OPERATORS, SymmetryWarning, degrade
from flowsr.data.field import grid_of, validate
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field
from tests.data.fields import random_field, store_field

COMMUTING = [name for name, operator in DEGRADE_OPERATORS.items() if operator.commutes]
OH = octahedral_group("Oh")


def transformed(field, element):
    return transform_field(torch.from_numpy(field), element, "1o", OH).numpy()


@pytest.mark.parametrize("name", COMMUTING)
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_commutes_with_all_48_elements_on_unequal_sides(name, factor):
    operator = DEGRADE_OPERATORS[name]()
    field = np.random.default_rng(0).normal(size=(3, 2 * factor, 3 * factor, 4 * factor))
    coarse = operator(field, factor)
    for element in range(OH.order):
        np.testing.assert_allclose(
            operator(transformed(field, element), factor), transformed(coarse, element), atol=1e-13
        )


@pytest.mark.parametrize("name", ["block_mean", "gaussian_block_mean"])
def test_commutes_beside_walls(name):
    operator = DEGRADE_OPERATORS[name]()
    field = np.random.default_rng(0).normal(size=(3, 8, 4, 12))
    walls = ("wall", "wall", "wall")
    coarse = operator(field, 2, walls)
    assert np.abs(operator(field, 2) - coarse).max() > 1e-3 or name == "block_mean"
    for element in range(OH.order):
        np.testing.assert_allclose(
            operator(transformed(field, element), 2, walls), transformed(coarse, element), atol=1e-13
        )


def test_strided_keeps_the_six_permutations_of_the_axes_only():
    operator = DEGRADE_OPERATORS["strided"]()
    assert not operator.commutes
    field = np.random.default_rng(0).normal(size=(3, 8, 8, 8))
    coarse = operator(field, 4)
    kept = [g for g in range(48) if np.allclose(operator(transformed(field, g), 4), transformed(coarse, g))]
    assert len(kept) == 6 and all((OH.matrices[g] >= 0).all() for g in kept)


@pytest.mark.parametrize("name", list(DEGRADE_OPERATORS))
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_transfer_function_is_what_happens_to_a_fourier_mode(name, axis, factor):
    grid = Grid((24, 12, 36), (0.5, 0.25, 0.1))
    operator = DEGRADE_OPERATORS[name]()
    fine, coarse = grid.coordinates()[axis], grid.coarsened(factor).coordinates()[axis]
    shape = [1, 1, 1]
    shape[axis] = -1
    for mode in range(grid.shape[axis] // 2 + 1):
        k = 2 * np.pi * mode / grid.lengths[axis]
        gain = operator.transfer_function(k, grid.spacing[axis], factor)
        for phase in (0.0, 0.7):
            wave = np.cos(k * fine + phase).reshape(shape) * np.ones(grid.shape)
            expected = np.real(gain * np.exp(1j * (k * coarse + phase))).reshape(shape)
            assert np.abs(operator(wave, factor) - expected).max() < 1e-12


def test_transfer_functions_in_closed_form():
    k, d, s = np.linspace(0.01, 6, 40), 0.5, 4
    block = DEGRADE_OPERATORS["block_mean"]().transfer_function(k, d, s)
    np.testing.assert_allclose(block, np.sin(s * k * d / 2) / (s * np.sin(k * d / 2)), atol=1e-12)
    both = DEGRADE_OPERATORS["gaussian_block_mean"]().transfer_function(k, d, s)
    np.testing.assert_allclose(both, np.exp(-((k * s * d) ** 2) / 24) * block, atol=1e-4)


def test_spectral_cutoff_samples_the_band_limited_field():
    """A field of resolved modes only is reproduced at the coarse cell centres, half-cell phase included."""
    grid, factor = Grid((12, 8, 16), (1 / 12, 1 / 8, 1 / 16)), 4
    operator = DEGRADE_OPERATORS["spectral_cutoff"]()

    def field(grid):
        x, y, z = np.meshgrid(*grid.coordinates(), indexing="ij")
        return 1.5 + np.sin(2 * np.pi * x + 0.3) * np.cos(2 * np.pi * z) + 0 * y

    np.testing.assert_allclose(operator(field(grid), factor), field(grid.coarsened(factor)), atol=1e-13)
    assert (
        abs(
            operator(field(grid) + 1e3 * np.cos(2 * np.pi * 2 * grid.coordinates()[2]), factor)
            - field(grid.coarsened(4))
        ).max()
        < 1e-9
    )


@settings(max_examples=20, deadline=None)
@given(
    sides=st.tuples(*[st.integers(2, 4)] * 3), factor=st.integers(1, 4), name=st.sampled_from(sorted(DEGRADE_OPERATORS))
)
def test_constants_stay_and_means_are_kept(sides, factor, name):
    operator = DEGRADE_OPERATORS[name]()
    shape = tuple(n * factor for n in sides)
    constant = operator(np.full((2, *shape), 1.25, "float32"), factor)
    assert constant.shape == (2, *sides) and constant.dtype == np.float32
    np.testing.assert_allclose(constant, 1.25, rtol=1e-6)
    if operator.commutes:
        field = np.random.default_rng(1).normal(size=shape)
        for boundary in [("periodic",) * 3] + [("wall", "open", "periodic")] * (not operator.needs_periodic):
            np.testing.assert_allclose(operator(field, factor, boundary).mean(), field.mean(), atol=1e-12)


def test_a_dataset_is_degraded_when_used(tmp_path):
    fine = random_field(Grid((8, 4, 12), (0.5, 0.25, 0.1), origin=(1, 2, 3)), [0.0, 1.0, 3.0], units="m/s")
    fine["pressure"] = (("time", "x", "y", "z"), fine["velocity"].values[:, 0] ** 2, {"irreps": "0e"})
    stored = open_field(store_field(fine, tmp_path / "a.zarr"))
    coarse = validate(degrade(stored, "block_mean", 2))
    assert not coarse["velocity"]._in_memory
    assert coarse.attrs["degrade_operator"] == "block_mean" and coarse.attrs["degrade_factor"] == 2
    assert coarse.attrs["viscosity"] == fine.attrs["viscosity"] and coarse["velocity"].attrs == fine["velocity"].attrs
    grid, wanted = grid_of(coarse), grid_of(fine).coarsened(2)
    assert grid.shape == (4, 2, 6) and grid.boundary == wanted.boundary
    np.testing.assert_allclose([*grid.spacing, *grid.origin], [*wanted.spacing, *wanted.origin], rtol=1e-12)
    values = fine["velocity"].values.reshape(3, 3, 4, 2, 2, 2, 6, 2).mean(axis=(3, 5, 7))
    np.testing.assert_allclose(coarse["velocity"].values, values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(coarse["velocity"][1, :, 1:3].values, coarse["velocity"].values[1, :, 1:3])
    np.testing.assert_array_equal(coarse["velocity"][::-1, 2, :, 1].values, coarse["velocity"].values[::-1, 2, :, 1])
    assert coarse["velocity"][0:0].values.shape == (0, 3, 4, 2, 6)
    assert coarse["pressure"].values.shape == (3, 4, 2, 6)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(coarse))["velocity"].values, coarse["velocity"].values)


def test_strided_warns_and_the_others_do_not():
    fine = random_field(Grid((4, 4, 4)), [0.0])
    with pytest.warns(SymmetryWarning, match="does not commute"):
        degrade(fine, "strided", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in COMMUTING:
            degrade(fine, name, 2)


def test_what_cannot_be_degraded_is_refused():
    fine = random_field(Grid((8, 6, 4)), [0.0])
    with pytest.raises(FlowsrError, match=r"unknown degrade operator 'block_men'.*did you mean 'block_mean'"):
        degrade(fine, "block_men", 2)
    for factor in (3, 4, 0, -2, 1.5):
        with pytest.raises(FlowsrError, match="variable: factor"):
            degrade(fine, "block_mean", factor)
    walls = random_field(Grid((8, 4, 4), boundary=("periodic", "wall", "periodic")), [0.0])
    with pytest.raises(FlowsrError, match="spectral_cutoff is defined on periodic boxes only"):
        degrade(walls, "spectral_cutoff", 2)
    with pytest.raises(ValueError, match="does not divide"):
        DEGRADE_OPERATORS["block_mean"]()(np.zeros((5, 4, 4)), 2)
