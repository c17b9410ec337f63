"""Deconvolution: exact where nothing was lost, a gain where something was, by the operators' transfer functions."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from flowsr.data.degrade import DEGRADE_OPERATORS
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field
from flowsr.models import Task, build_model
from flowsr.models.deconvolution import cubic_weights, stencil, transfer

OPERATORS = ["block_mean", "gaussian_block_mean"]


def random_field(sides, seed=0, below=None, dissipation=0.2):
    """A Gaussian random vector field with E(k) = k^(-5/3) exp(-2 a k), modes |k_i| < ``below`` only; RMS one."""
    rng = np.random.default_rng(seed)
    waves = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in sides), indexing="ij")
    k = np.sqrt(sum(w**2 for w in waves))
    k[0, 0, 0] = np.inf
    amplitude = np.sqrt(k ** (-11 / 3) * np.exp(-2 * dissipation * np.where(np.isinf(k), 0, k)))
    for wave, limit in zip(waves, below or (np.inf,) * 3):
        amplitude = amplitude * (np.abs(wave) < limit)
    noise = np.fft.fftn(rng.standard_normal((3, *sides)), axes=(1, 2, 3))
    values = np.fft.ifftn(noise * amplitude, axes=(1, 2, 3)).real
    return values / np.sqrt((values**2).mean())


def degraded(fine, operator, factor):
    coarse = DEGRADE_OPERATORS[operator]()(fine, factor)
    return torch.from_numpy(coarse)[None], Grid(coarse.shape[-3:])


def error(name, fine, made_by, factor, **options):
    coarse, grid = degraded(fine, made_by, factor)
    result = build_model(name, Task(factor), **options)(coarse, grid)[0].numpy()
    return np.sqrt(((result - fine) ** 2).mean() / (fine**2).mean())


@pytest.mark.parametrize("operator", [*OPERATORS, "spectral_cutoff"])
@pytest.mark.parametrize(("factor", "cells"), [(2, (6, 8, 5)), (3, (6, 4, 5)), (4, (4, 6, 8))])
def test_exact_where_the_coarse_grid_holds_every_mode(operator, factor, cells):
    fine = random_field(tuple(factor * n for n in cells), below=tuple(n / 2 for n in cells)) + 0.3
    assert error("deconvolved", fine, operator, factor, operator=operator, regularization=0.0) < 1e-12
    if operator != "spectral_cutoff":
        assert error("spectral", fine, operator, factor) > 1e-2


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("method", ["wiener", "van_cittert"])
def test_better_than_interpolation_on_a_known_spectrum(operator, method):
    fine = random_field((32, 32, 32))
    sharp = error("deconvolved", fine, operator, 4, operator=operator, method=method)
    assert sharp < (0.92 if method == "wiener" else 0.95) * error("spectral", fine, operator, 4)
    assert sharp < 0.7 * error("trilinear", fine, operator, 4)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_transfer_functions_are_those_of_the_data(operator, factor):
    cells, spacing = 10, 0.3
    k = 2 * np.pi * np.fft.fftfreq(cells, factor * spacing)
    expected = DEGRADE_OPERATORS[operator]().transfer_function(k, spacing, factor)
    np.testing.assert_allclose(transfer(operator, factor, cells), expected, atol=1e-14)
    np.testing.assert_allclose(stencil(operator, factor).sum(), 1.0, atol=1e-14)
    np.testing.assert_allclose(stencil(operator, factor), stencil(operator, factor)[::-1], atol=1e-16)


def test_regularization_bounds_the_gain_and_keeps_the_mean():
    damping = np.linspace(1e-4, 1, 1000)
    for e in (0.01, 0.3):
        gain = (1 + e) * damping / (damping**2 + e)
        assert gain.max() <= (1 + e) / (2 * np.sqrt(e)) + 1e-12
        model = build_model("deconvolved", Task(2), regularization=e)
        flat = torch.full((1, 3, 4, 4, 4), 0.7, dtype=torch.float64)
        torch.testing.assert_close(model(flat, Grid((4, 4, 4))), torch.full((1, 3, 8, 8, 8), 0.7, dtype=torch.float64))
    x = np.cos(np.pi * np.arange(4) / 2 + np.pi / 4)  # one mode of four cells: T = cos(pi/8) for blocks of two
    coarse = torch.from_numpy(np.broadcast_to(x[:, None, None], (4, 4, 4)).copy())[None, None]
    t = np.cos(np.pi / 8)
    grid, shared = Grid((4, 4, 4)), Task(2, "0e")
    amplitude = build_model("deconvolved", shared, regularization=0.3)(coarse, grid).abs().max()
    interpolated = build_model("spectral", shared)(coarse, grid).abs().max()
    assert amplitude / interpolated == pytest.approx(1.3 * t / (t**2 + 0.3), rel=1e-12)


@pytest.mark.parametrize("boundary", [("periodic",) * 3, ("wall", "periodic", "open")])
@pytest.mark.parametrize("operator", OPERATORS)
def test_van_cittert_comes_nearer_to_its_input_with_every_step(boundary, operator):
    coarse, grid = degraded(random_field((16, 12, 16)), operator, 2)
    grid = Grid(grid.shape, boundary=boundary)
    misfits = []
    for iterations in (0, 1, 2, 5, 20):
        model = build_model("deconvolved", Task(2), operator=operator, method="van_cittert", iterations=iterations)
        again = DEGRADE_OPERATORS[operator]()(model(coarse, grid)[0].numpy(), 2, boundary)
        misfits.append(np.abs(again - coarse[0].numpy()).max())
    assert all(later < earlier for earlier, later in pairwise(misfits)) and misfits[-1] < 0.05 * misfits[0]


def test_cubic_convolution_is_exact_on_quadratics():
    cells = np.arange(-2, 3)
    for factor in (2, 3, 4):
        parts = (np.arange(factor) + 0.5) / factor - 0.5
        for power in (0, 1, 2):
            np.testing.assert_allclose(cubic_weights(factor) @ cells**power, parts**power, atol=1e-14)


@pytest.mark.parametrize("method", ["wiener", "van_cittert"])
def test_commutes_with_all_48_elements(method):
    group, model = octahedral_group("Oh"), build_model("deconvolved", Task(2), method=method)
    boundary = ("periodic",) * 3 if method == "wiener" else ("wall",) * 3
    coarse = torch.randn(1, 3, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    fine = model(coarse, Grid((4, 5, 6), boundary=boundary))
    for element in range(group.order):
        transformed = transform_field(coarse, element, "1o", group)
        got = model(transformed, Grid(transformed.shape[-3:], boundary=boundary))
        torch.testing.assert_close(got, transform_field(fine, element, "1o", group), rtol=0, atol=1e-12)


def test_by_default_the_box_decides_the_method():
    coarse = torch.randn(1, 3, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for boundary, method in ((("periodic",) * 3, "wiener"), (("wall", "periodic", "periodic"), "van_cittert")):
        grid = Grid((4, 4, 4), boundary=boundary)
        chosen = build_model("deconvolved", Task(2))
        assert chosen.halo is None and not chosen.needs_periodic
        assert torch.equal(chosen(coarse, grid), build_model("deconvolved", Task(2), method=method)(coarse, grid))
    assert build_model("deconvolved", Task(2), method="van_cittert").halo == 12
    assert build_model("deconvolved", Task(4), method="van_cittert", operator="gaussian_block_mean").halo == 22


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"operator": "block_men"}, "did you mean 'block_mean'"),
        ({"operator": "strided"}, "no inverse of this operator"),
        ({"method": "landweber"}, "method must be one of auto, wiener, van_cittert"),
        ({"regularization": -0.1}, "must not be negative"),
        ({"operator": "spectral_cutoff", "method": "van_cittert"}, "periodic boxes only"),
    ],
)
def test_what_cannot_be_undone_is_refused_in_one_line(options, told):
    with pytest.raises((ValueError, FlowsrError), match=told) as error:
        build_model("deconvolved", Task(2), **options)
    assert "\n" not in str(error.value)


def test_methods_for_periodic_boxes_refuse_walls():
    coarse, grid = torch.zeros(1, 3, 4, 4, 4), Grid((4, 4, 4), boundary=("wall", "periodic", "periodic"))
    for options in ({"method": "wiener"}, {"operator": "spectral_cutoff"}):
        with pytest.raises(ValueError, match="periodic box"):
            build_model("deconvolved", Task(2), **options)(coarse, grid)
