"""Losses: closed forms, the same for transformed fields, differentiable, and reached from the settings."""

import math

import numpy as np
import pytest
import torch

from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field, transform_grid
from flowsr.metrics.spectra import shells_of
from flowsr.train.losses import LOSSES, Objective

BOX = Grid((8, 12, 10), (2 * np.pi / 8, np.pi / 12, 3 * np.pi / 10))
CHANNEL = Grid((8, 9, 10), (0.3, 0.25, 0.2), ("periodic", "wall", "open"))
SCALE = torch.tensor(2.0, dtype=torch.float64)


def fields(grid, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, 3, *grid.shape, dtype=torch.float64, generator=generator) for _ in range(2)]


def modes(grid, amplitude=1.0):
    """A shear wave: u = amplitude sin(2y), v = w = 0 (the box is pi long in y)."""
    y = torch.as_tensor(grid.coordinates()[1])[None, None, None, :, None]
    wave = amplitude * torch.sin(2 * y).expand(1, 1, *grid.shape)
    return torch.cat([wave, torch.zeros(1, 2, *grid.shape, dtype=torch.float64)], dim=1)


def test_closed_forms():
    wave, nothing = modes(BOX, 0.6), torch.zeros(1, 3, *BOX.shape, dtype=torch.float64)
    sine = np.abs(np.sin(2 * BOX.coordinates()[1])).mean()
    cosine = np.abs(np.cos(2 * BOX.coordinates()[1])).mean()
    cell = math.prod(BOX.spacing) ** (1 / 3)
    expected = {
        "l1": 0.6 * sine / 3 / 2,
        "l2": 0.36 / 2 / 3 / 4,
        "gradient_l1": 1.2 * cosine / 9 * cell / 2,
        "gradient_l2": 1.44 / 2 / 9 * cell**2 / 4,
    }
    for name, value in expected.items():
        found = LOSSES[name](wave, nothing, BOX, SCALE)
        torch.testing.assert_close(found, torch.tensor(value, dtype=torch.float64), rtol=1e-12, atol=0)
        assert LOSSES[name](wave, wave, BOX, SCALE) == 0


def test_spectrum_counts_the_logarithm_of_energy_ratios_and_no_phases():
    field, _ = fields(BOX)
    torch.testing.assert_close(
        LOSSES["spectrum"](3 * field, field, BOX, SCALE).item(), 2 * math.log(3), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(
        LOSSES["spectrum"](field / 3, field, BOX, SCALE).item(), 2 * math.log(3), rtol=1e-6, atol=0
    )
    assert LOSSES["spectrum"](field.roll(3, -1), field, BOX, SCALE) < 1e-9
    assert LOSSES["spectrum"](field + 5.0, field, BOX, SCALE) < 1e-9, "the mean is no scale"
    grid = Grid((16, 16, 16), (np.pi / 16,) * 3)
    waves = modes(grid), modes(grid, 2.0)
    whole = shells_of(grid).complete.sum() - 1
    found = LOSSES["spectrum"](waves[1], waves[0], grid, SCALE).item()
    assert whole > 5 and found == pytest.approx(math.log(4) / whole, rel=1e-6), "empty shells count nothing"


def test_divergence_of_a_dilating_wave_and_of_none():
    x = torch.as_tensor(BOX.coordinates()[0])[None, None, :, None, None]
    wave = torch.cat([torch.sin(x).expand(1, 1, *BOX.shape), torch.zeros(1, 2, *BOX.shape)], dim=1)
    expected = np.abs(np.cos(BOX.coordinates()[0])).mean() * math.prod(BOX.spacing) ** (1 / 3) / 2
    assert LOSSES["divergence"](wave, None, BOX, SCALE).item() == pytest.approx(expected, rel=1e-12)
    assert LOSSES["divergence"](modes(BOX), None, BOX, SCALE) < 1e-12


def test_thin_cells_by_a_wall_count_by_their_size():
    """An error in one plane counts by the share of the volume that the plane has, as it does in the metrics."""
    centers = tuple(float(c) for c in np.tanh(np.linspace(-1.5, 1.5, 9)))
    grid = Grid((4, 9, 4), (1.0, 2 / 9, 1.0), ("periodic", "wall", "periodic"), (0.0, -1.0, 0.0), (None, centers, None))
    nothing = torch.zeros(1, 3, *grid.shape, dtype=torch.float64)
    for plane, width in enumerate(grid.widths()[1]):
        error = nothing.clone()
        error[..., plane, :] = 3.0
        assert LOSSES["l1"](error, nothing, grid, SCALE).item() == pytest.approx(3 / 2 * width / 2, rel=1e-12)
        assert LOSSES["l2"](error, nothing, grid, SCALE).item() == pytest.approx(9 / 4 * width / 2, rel=1e-12)


def test_derivatives_follow_walls_and_stretched_axes():
    """A linear shear between stretched walls has one constant derivative; an axis that wrapped round would not."""
    centers = tuple(float(c) for c in np.tanh(np.linspace(-1.5, 1.5, 9)))
    grid = Grid((4, 9, 4), (1.0, 2 / 9, 1.0), ("periodic", "wall", "periodic"), (0.0, -1.0, 0.0), (None, centers, None))
    shear = torch.zeros(1, 3, *grid.shape, dtype=torch.float64)
    shear[:, 0] = 3.0 * torch.tensor(centers, dtype=torch.float64)[:, None]
    cell = (2 / 9) ** (1 / 3)
    found = LOSSES["gradient_l2"](shear, torch.zeros_like(shear), grid, SCALE).item()
    assert found == pytest.approx(9 * cell**2 / 4 / 9, rel=1e-10)
    assert LOSSES["divergence"](shear, None, grid, SCALE).item() < 1e-12


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("grid", [BOX, CHANNEL], ids=["box", "channel"])
def test_losses_are_the_same_for_turned_fields(name, grid):
    if name == "spectrum" and grid is CHANNEL:
        with pytest.raises(FlowsrError, match="whole periodic boxes"):
            Objective({name: 1.0}, grid)
        return
    prediction, target = fields(grid)
    loss, group = LOSSES[name](prediction, target, grid, SCALE), octahedral_group("Oh")
    for element in range(48):
        transformed = [transform_field(field, element, "1o", group) for field in (prediction, target)]
        found = LOSSES[name](*transformed, transform_grid(grid, element, group), SCALE)
        torch.testing.assert_close(found, loss, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", list(LOSSES))
def test_gradients_are_those_of_the_loss(name):
    grid = Grid((4, 5, 4), (0.5, 0.3, 0.4))
    prediction, target = (field[:1, :, :4, :5, :4].clone().requires_grad_() for field in fields(grid))
    direction = torch.randn(prediction.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    slope = torch.autograd.grad(LOSSES[name](prediction, target.detach(), grid, SCALE), prediction)[0]
    with torch.no_grad():
        up, down = (LOSSES[name](prediction + e * direction, target, grid, SCALE) for e in (1e-6, -1e-6))
    assert (slope * direction).sum().item() == pytest.approx(((up - down) / 2e-6).item(), rel=1e-4)
    assert slope.norm() > 0


def test_an_objective_is_the_weighted_sum_in_the_targets_precision():
    prediction, target = fields(BOX)
    weights = {"l1": 1.0, "gradient_l2": 0.3, "spectrum": 0.02}
    expected = sum(w * LOSSES[name](prediction, target, BOX, SCALE) for name, w in weights.items())
    assert Objective(weights, BOX)(prediction, target, SCALE) == expected
    assert Objective({**weights, "l2": 0.0}, BOX)(prediction, target, SCALE) == expected
    single = Objective({"l1": 1.0}, BOX)(prediction.bfloat16(), target.float(), SCALE.float())
    assert single.dtype == torch.float32
    assert torch.equal(single, (prediction.bfloat16() - target.float()).abs().mean() / SCALE.float())


@pytest.mark.parametrize(
    ("weights", "irreps", "says"),
    [({"l3": 1.0}, "1o", "did you mean 'l"), ({"divergence": 1.0}, "0e", "one vector field")],
)
def test_objectives_that_cannot_be_are_refused(weights, irreps, says):
    with pytest.raises(FlowsrError, match=says) as error:
        Objective(weights, BOX, irreps)
    assert "\n" not in str(error.value)
