"""Subgrid stress and energy transfer, and consistency with the coarse input."""

import numpy as np
import pytest
import torch

from flowsr.data.degrade import DEGRADE_OPERATORS
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field, transform_grid
from flowsr.metrics import (
    METRICS,
    block_mean,
    consistency_error,
    energy_transfer,
    subgrid_stress,
    subgrid_stress_correlation,
    subgrid_stress_error,
)
from flowsr.models import Task, build_model
from tests.metrics.fields import STRETCHED, UNEQUAL, mesh, noise, wave

GROUP = octahedral_group("Oh")
OPEN = Grid((8, 12, 20), (0.1, 0.2, 0.15), ("open",) * 3)
OPEN_STRETCHED = Grid(
    (8, 12, 20),
    (0.1, 0.2, 0.15),
    ("open", "wall", "open"),
    (0.0, -1.2, 0.0),
    (None, tuple(1.15 * np.sin(np.linspace(-1.5, 1.5, 12))), None),
)
GRADIENT = [[0.3, 1.0, -0.4], [0.2, -0.5, 0.6], [-0.7, 0.1, 0.2]]


def linear(grid):
    return torch.einsum("ij,jxyz->ixyz", torch.tensor(GRADIENT, dtype=torch.float64), torch.stack(mesh(grid)))[None]


def operator(name, factor):
    chosen = DEGRADE_OPERATORS[name]()
    return lambda field, grid: torch.from_numpy(chosen(field.numpy(), factor, grid=grid))


@pytest.mark.parametrize("grid", [UNEQUAL, STRETCHED, OPEN_STRETCHED], ids=["periodic", "channel", "open"])
def test_block_mean_is_the_operator_of_that_name(grid):
    field = noise(grid, batch=2)
    torch.testing.assert_close(block_mean(field, grid, 2), operator("block_mean", 2)(field, grid))
    with pytest.raises(ValueError, match="divide"):
        block_mean(field, grid, 7)


@pytest.mark.parametrize("factor", [2, 4])
def test_stress_and_transfer_of_a_linear_field(factor):
    """Cell centres within a coarse cell have variance (s^2 - 1) d^2 / 12 along each axis."""
    a = np.array(GRADIENT)
    expected = a @ np.diag([(factor**2 - 1) * d**2 / 12 for d in OPEN.spacing]) @ a.T
    stress = subgrid_stress(linear(OPEN), OPEN, factor)
    assert stress.shape == (1, 3, 3, 8 // factor, 12 // factor, 20 // factor)
    torch.testing.assert_close(stress, torch.as_tensor(expected)[None, :, :, None, None, None].expand(stress.shape))
    transfer = energy_transfer(linear(OPEN), OPEN, factor)
    torch.testing.assert_close(transfer, torch.full_like(transfer, -(expected * (a + a.T) / 2).sum()))


def test_stretched_cells_count_by_their_size():
    grid, a = OPEN_STRETCHED, np.array(GRADIENT)
    widths, centers = (values[1].reshape(-1, 2) for values in (grid.widths(), grid.coordinates()))
    weights = widths / widths.sum(1, keepdims=True)
    variance = (weights * centers**2).sum(1) - (weights * centers).sum(1) ** 2
    stress = subgrid_stress(linear(grid), grid, 2)[0, :, :, 1, :, 1]
    for row, spread in enumerate(variance):
        expected = a @ np.diag([0.1**2 / 4, spread, 0.15**2 / 4]) @ a.T
        torch.testing.assert_close(stress[..., row], torch.as_tensor(expected), atol=1e-13, rtol=1e-10)


def test_what_the_coarse_grid_cannot_see_is_all_subgrid():
    """The Nyquist wave along x has no mean over two cells: tau_xx is its square, and nothing is transferred."""
    sign = torch.tensor([1.0, -1.0]).repeat(8).double()[:, None, None].expand(UNEQUAL.shape)
    field = torch.stack([0 * sign, 0.3 * sign, 0 * sign])[None]
    stress = subgrid_stress(field, UNEQUAL, 2)
    torch.testing.assert_close(stress[:, 1, 1], torch.full_like(stress[:, 1, 1], 0.09))
    assert stress.sum() == pytest.approx(stress[:, 1, 1].sum().item())
    assert energy_transfer(field, UNEQUAL, 2).abs().max() < 1e-14
    mean, _ = wave(UNEQUAL, (0, 0, 1), [1.0, 0.0, 0.0])
    assert subgrid_stress_error(
        block_mean(mean, UNEQUAL, 2).repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4),
        mean,
        UNEQUAL,
        2,
    ).item() == pytest.approx(1)


def test_errors_and_correlations_of_a_scaled_field():
    target = noise(UNEQUAL, batch=2)
    torch.testing.assert_close(subgrid_stress_error(1.1 * target, target, UNEQUAL, 2), torch.full((2,), 0.21).double())
    one = torch.ones(2, dtype=torch.float64)
    torch.testing.assert_close(subgrid_stress_correlation(-1.1 * target, target, UNEQUAL, 2), one)
    unrelated = subgrid_stress_correlation(noise(UNEQUAL, seed=5), noise(UNEQUAL, seed=6), UNEQUAL, 2)
    assert abs(unrelated.item()) < 0.15
    result = METRICS["subgrid_stress"](factor=2)(-2 * target, target, UNEQUAL)
    assert result["energy_transfer_captured"].item() == pytest.approx(-8)  # cubic: the other way round
    assert result["energy_transfer_correlation"].item() == pytest.approx(-1)


def test_time_reversal_turns_forward_scatter_into_backscatter():
    field = noise(UNEQUAL)
    forward, backward = (METRICS["subgrid_stress"](factor=2)(f, field, UNEQUAL) for f in (field, -field))
    assert (forward["backscatter_volume"] + backward["backscatter_volume"]).item() == pytest.approx(1)
    assert (forward["backscatter_share"] + backward["backscatter_share"]).item() == pytest.approx(1)
    transfer = energy_transfer(field, UNEQUAL, 2)
    assert forward["backscatter_volume"].item() == pytest.approx((transfer < 0).double().mean().item())
    share = (-transfer).clamp(min=0).sum() / transfer.abs().sum()
    assert forward["backscatter_share"].item() == pytest.approx(share.item())


def test_linear_field_scatters_one_way_everywhere():
    backscatter = float(energy_transfer(linear(OPEN), OPEN, 2).mean() < 0)
    for sign, expected in ((1, backscatter), (-1, 1 - backscatter)):
        result = METRICS["subgrid_stress"](factor=2)(sign * linear(OPEN), linear(OPEN), OPEN)
        assert result["backscatter_volume"].item() == pytest.approx(expected)
        assert result["backscatter_share"].item() == pytest.approx(expected)


def test_subgrid_stress_needs_a_factor():
    with pytest.raises(ValueError, match="factor"):
        METRICS["subgrid_stress"]()(noise(UNEQUAL), noise(UNEQUAL), UNEQUAL)


@pytest.mark.parametrize("name", ["block_mean", "gaussian_block_mean", "spectral_cutoff", "strided"])
def test_the_truth_is_consistent_with_its_coarse_field_whatever_the_operator(name):
    fine = noise(UNEQUAL, batch=2)
    degrade = operator(name, 2)
    assert consistency_error(fine, degrade(fine, UNEQUAL), UNEQUAL, degrade).max() == 0
    error = consistency_error(1.2 * fine, degrade(fine, UNEQUAL), UNEQUAL, degrade)
    torch.testing.assert_close(error, torch.full((2,), 0.2).double())


def test_nearest_cell_is_consistent_with_the_block_mean_and_fourier_interpolation_with_the_cutoff():
    coarse_grid, coarse = UNEQUAL.coarsened(2), noise(UNEQUAL.coarsened(2))
    nearest, linear_, spectral = (
        build_model(name, Task(2))(coarse, coarse_grid) for name in ("nearest", "trilinear", "spectral")
    )
    assert consistency_error(nearest, coarse, UNEQUAL, operator("block_mean", 2)).item() < 1e-14
    assert consistency_error(linear_, coarse, UNEQUAL, operator("block_mean", 2)).item() > 0.05
    band_limited = operator("spectral_cutoff", 2)(spectral, UNEQUAL)
    fourier = build_model("spectral", Task(2))(band_limited, coarse_grid)
    assert consistency_error(fourier, band_limited, UNEQUAL, operator("spectral_cutoff", 2)).item() < 1e-13


def test_consistency_counts_coarse_cells_by_their_size_and_pools_norms():
    grid = OPEN_STRETCHED
    fine, degrade = noise(grid, batch=3), operator("block_mean", 2)
    coarse = degrade(fine, grid)
    wrong = fine.clone()
    wrong[:, :, :, :2] += 1  # one layer of coarse cells at the wall, off by one
    widths = grid.coarsened(2).widths()[1]
    power = (coarse**2).sum((0, 1, 2, 4)) @ torch.as_tensor(widths)
    expected = (3 * coarse[0, 0, :, 0, :].numel() * 3 * widths[0] / power).sqrt()
    metric = METRICS["consistency"]()
    for one, given in zip(wrong, coarse):
        metric.update(one[None], given[None], grid, degrade)
    assert metric.compute()["consistency_error"].item() == pytest.approx(expected.item(), rel=1e-10)


def test_consistency_is_the_same_under_all_48():
    fine, prediction = noise(STRETCHED, seed=1), noise(STRETCHED, seed=2)
    degrade = operator("gaussian_block_mean", 2)
    coarse = degrade(fine, STRETCHED)
    expected = consistency_error(prediction, coarse, STRETCHED, degrade)
    for element in range(48):
        turned = [transform_field(field, element, "1o", GROUP) for field in (prediction, coarse)]
        box = transform_grid(STRETCHED, element, GROUP)
        torch.testing.assert_close(consistency_error(*turned, box, degrade), expected, atol=1e-12, rtol=1e-12)


def test_shapes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="coarse field"):
        consistency_error(noise(UNEQUAL), noise(UNEQUAL.coarsened(4)), UNEQUAL, operator("block_mean", 2))
    with pytest.raises(ValueError, match="expected"):
        consistency_error(noise(OPEN), noise(OPEN.coarsened(2)), UNEQUAL, operator("block_mean", 2))
