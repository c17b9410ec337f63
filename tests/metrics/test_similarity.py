import math

import numpy as np
import pytest
import torch

from flowsr.grid import Grid
from flowsr.metrics import METRICS, data_range_of, gaussian_mean, ssim
from flowsr.metrics.similarity import WINDOW_RADIUS, WINDOW_SIGMA
from tests.metrics.fields import CHANNEL, STRETCHED, UNEQUAL, abc, mesh, noise, wave

TAPS = np.arange(-WINDOW_RADIUS, WINDOW_RADIUS + 1)
WEIGHTS = np.exp(-0.5 * (TAPS / WINDOW_SIGMA) ** 2)


def test_the_window_multiplies_a_fourier_mode_by_its_transform():
    field, k = wave(UNEQUAL, (2, -1, 3), [1.0, 0.5, 2.0])
    phases = [number * spacing * TAPS for number, spacing in zip(k.tolist(), UNEQUAL.spacing)]
    factor = math.prod((WEIGHTS * np.cos(phase)).sum() / WEIGHTS.sum() for phase in phases)
    torch.testing.assert_close(gaussian_mean(field, UNEQUAL), factor * field)


@pytest.mark.parametrize("grid", [CHANNEL, STRETCHED, Grid((3, 20, 1), boundary=("periodic", "open", "wall"))])
def test_the_window_ends_at_walls_and_keeps_a_uniform_field(grid):
    ones = torch.ones(grid.shape, dtype=torch.float64)
    torch.testing.assert_close(gaussian_mean(ones, grid), ones)


def test_nothing_comes_through_a_wall():
    grid = Grid((20, 1, 1), boundary=("wall", "periodic", "periodic"))
    far = torch.zeros(grid.shape, dtype=torch.float64)
    far[-1] = 1
    assert gaussian_mean(far, grid)[:10].abs().max() == 0
    wrapping = Grid((20, 1, 1))
    assert gaussian_mean(far, wrapping)[0] > 0.1


def by_hand(p, t, data_range, x, y, z):
    """The index of one cell from its 11^3 neighbours on a periodic box, p and t (component, x, y, z)."""
    weight = WEIGHTS[:, None, None] * WEIGHTS[:, None] * WEIGHTS
    weight = weight / weight.sum()
    near = np.ix_(range(len(p)), *((c + TAPS) % n for c, n in zip((x, y, z), p.shape[1:])))
    p, t = p[near], t[near]
    mean_p, mean_t = ((weight * v).sum((1, 2, 3)) for v in (p, t))
    spread = [(weight * (v - m[:, None, None, None]) ** 2).sum() for v, m in ((p, mean_p), (t, mean_t))]
    both = (weight * (p - mean_p[:, None, None, None]) * (t - mean_t[:, None, None, None])).sum()
    c1, c2 = (len(p) * (k * data_range) ** 2 for k in (0.01, 0.03))
    return ((2 * mean_p @ mean_t + c1) * (2 * both + c2)) / (
        (mean_p @ mean_p + mean_t @ mean_t + c1) * (sum(spread) + c2)
    )


@pytest.mark.parametrize("components", [1, 3])
def test_index_is_that_of_its_definition(components):
    grid = Grid((5, 4, 6), (0.3, 0.2, 0.5))
    p, t = noise(grid, 1, components=components) + 0.4, noise(grid, 2, components=components)
    mean = np.mean([by_hand(p[0].numpy(), t[0].numpy(), 2.5, *cell) for cell in np.ndindex(grid.shape)])
    assert ssim(p, t, grid, data_range=2.5).item() == pytest.approx(mean, rel=1e-12)


def test_equal_fields_score_one_and_worse_ones_less():
    target = abc(UNEQUAL)
    assert ssim(target, target, UNEQUAL).item() == pytest.approx(1, rel=1e-12)
    scores = [ssim(target + s * noise(UNEQUAL), target, UNEQUAL).item() for s in (0.05, 0.2, 1.0)]
    assert 1 > scores[0] > scores[1] > scores[2] > 0


def test_score_has_no_units_and_does_not_depend_on_the_axes():
    p, t = noise(UNEQUAL, 1) + abc(UNEQUAL), abc(UNEQUAL)
    expected = ssim(p, t, UNEQUAL)
    torch.testing.assert_close(ssim(1e3 * p, 1e3 * t, UNEQUAL), expected)
    turn, _ = torch.linalg.qr(noise(UNEQUAL, 3)[0, :, :3, 0, 0])
    turned = (torch.einsum("ij,bjxyz->bixyz", turn, v) for v in (p, t))
    torch.testing.assert_close(ssim(*turned, UNEQUAL), expected)


def test_range_is_six_standard_deviations_of_a_component():
    field, _ = wave(UNEQUAL, (1, 2, 1), [1.0, 2.0, 2.0])
    torch.testing.assert_close(
        data_range_of(field + 7, UNEQUAL), torch.tensor([6 * (4.5 / 3) ** 0.5], dtype=torch.float64)
    )


def test_class_pools_over_snapshots_and_components_are_scalars():
    p, t = noise(UNEQUAL, 1, batch=2), noise(UNEQUAL, 2, batch=2)
    torch.testing.assert_close(METRICS["ssim"]()(p, t, UNEQUAL)["ssim"], ssim(p, t, UNEQUAL).mean())
    found = METRICS["component_ssim"]()(p, t, UNEQUAL)
    for index, component in enumerate("uvw"):
        expected = ssim(p[:, index, None], t[:, index, None], UNEQUAL).mean()
        torch.testing.assert_close(found[f"ssim_{component}"], expected)


def test_thin_cells_weigh_less():
    _, y, _ = mesh(STRETCHED)
    target = noise(STRETCHED, components=1)
    worse = target + torch.where(y > 0.6, 3.0, 0.0)
    similarity = METRICS["ssim"](data_range=6.0).similarity_map(worse, target, STRETCHED)
    widths = torch.as_tensor(STRETCHED.widths()[1])
    expected = (similarity.mean((1, 3)) * widths).sum(-1) / widths.sum()
    torch.testing.assert_close(ssim(worse, target, STRETCHED, 6.0), expected)
    assert abs(expected.item() - similarity.mean().item()) > 1e-3
