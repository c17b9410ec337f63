"""Errors over the cells that have a value: as if there were no others, whatever is in these."""

import numpy as np
import pytest
import torch

from flowsr.grid import Grid
from flowsr.metrics import METRICS

GRID = Grid((5, 4, 3), (0.5, 1.0, 2.0), ("periodic", "wall", "periodic"), centers=(None, (0.1, 0.4, 1.5, 3.2), None))


@pytest.fixture
def fields():
    generator = torch.Generator().manual_seed(0)
    target, noise = torch.randn(2, 2, 3, *GRID.shape, dtype=torch.float64, generator=generator)
    valid = torch.rand(2, *GRID.shape, generator=generator) > 0.3
    return target + 0.3 * noise, target, valid


def poisoned(field, valid):
    return torch.where(valid[:, None], field, torch.nan)


def test_errors_are_weighted_means_over_the_cells_with_a_value(fields):
    prediction, target, valid = fields
    weights = np.einsum("x,y,z->xyz", *GRID.widths())
    for number in range(2):
        keep = valid[number].numpy()
        w, p, t = weights[keep], prediction[number].numpy()[:, keep], target[number].numpy()[:, keep]

        def mean(values, w=w):
            return np.sum(values * w, axis=-1) / w.sum()

        mean_p, mean_t = mean(p), mean(t)
        variance = mean(((t - mean_t[:, None]) ** 2).sum(0))
        spread = mean(((p - mean_p[:, None]) ** 2).sum(0))
        covariance = mean(((p - mean_p[:, None]) * (t - mean_t[:, None])).sum(0))
        error = mean(((p - t) ** 2).sum(0))
        expected = {
            "nrmse": np.sqrt(error / mean((t**2).sum(0))),
            "vrmse": np.sqrt(error / variance),
            "mae": mean(np.abs(p - t).mean(0)),
            "largest_error": np.linalg.norm(p - t, axis=0).max(),
            "largest_error_over_rms": np.linalg.norm(p - t, axis=0).max() / np.sqrt(mean((t**2).sum(0))),
            "correlation": covariance / np.sqrt(variance * spread),
            "nrmse_v": np.sqrt(mean((p[1] - t[1]) ** 2) / mean(t[1] ** 2)),
            "mae_w": mean(np.abs(p[2] - t[2])),
        }
        found = {}
        for name in ("nrmse", "vrmse", "absolute_error", "correlation", "components"):
            batch = [poisoned(field, valid) for field in (prediction, target)]
            found |= METRICS[name]().each(*batch, GRID, valid)
        for key, value in expected.items():
            assert float(found[key][number]) == pytest.approx(value, rel=1e-12), key


@pytest.mark.parametrize("name", [name for name, metric in METRICS.items() if getattr(metric, "halo", None) == 0])
def test_all_cells_valid_is_no_mask_and_pooling_adds_up(fields, name):
    prediction, target, valid = fields
    plain, masked, pooled, single = (METRICS[name]() for _ in range(4))
    plain.update(prediction, target, GRID)
    masked.update(prediction, target, GRID, valid=torch.ones_like(valid))
    pooled.update(poisoned(prediction, valid), target, GRID, valid=valid)
    for number in range(2):
        part = slice(number, number + 1)
        single.update(prediction[part], poisoned(target, valid)[part], GRID, valid=valid[part])
    for one, other in ((plain, masked), (pooled, single)):
        for key, value in one.compute().items():
            torch.testing.assert_close(other.compute()[key], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["spectrum", "divergence"])
def test_what_needs_all_cells_says_so(fields, name):
    grid = Grid((5, 4, 3))
    prediction, target, valid = fields
    with pytest.raises(ValueError, match="needs every cell"):
        METRICS[name](factor=2).update(prediction, target, grid, valid=valid)
