"""Homogeneity along each axis: channel-like profiles, Kolmogorov forcing, false alarms, error bars."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from flowsr.grid import Grid
from flowsr.symmetry.randomization import Significance
from flowsr.symmetry.result import plain
from flowsr.symmetry.translation import PROFILES, WEIGHTS, homogeneity

CELLS = 8
GRID = Grid((CELLS,) * 3)
QUICK = Significance(draws=199)
PLACE = torch.arange(CELLS, dtype=torch.float64) / CELLS * 2 * math.pi


def noise(samples=10, seed=0):
    values = np.random.default_rng(seed).standard_normal((samples, 3, CELLS, CELLS, CELLS))
    return torch.from_numpy(gaussian_filter(values, (0, 0, 0.8, 0.8, 0.8), mode="wrap"))


def verdicts(found):
    return {axis: each.homogeneous for axis, each in found.items()}


def test_kolmogorov_forcing_is_seen_as_a_force_along_its_axis():
    """du/dt = -0.1 u + 0.05 sin(y) e_x on homogeneous fields: the weight of bank 1 is the force, in the x component."""
    inputs = noise()
    change = -0.1 * inputs + 0.02 * noise(seed=1)
    change[:, 0] += 0.05 * torch.sin(PLACE)[None, None, :, None]
    found = homogeneity(inputs, change, GRID, significance=QUICK)
    assert verdicts(found) == {"x": True, "y": False, "z": True}
    y = found["y"]
    assert y.p_values[WEIGHTS] <= 0.05 < y.p_values[PROFILES]
    force = y.weights["1"] * float(change[:, 0].square().mean().sqrt())
    assert np.abs(force[0] - 0.05 * torch.sin(PLACE).numpy()).max() < 0.02
    share = 0.05**2 / 2 / float(change.square().mean()) / 3
    assert y.explained == pytest.approx(share, rel=0.3)
    assert found["x"].explained < 0.2 * share


def test_a_channel_is_homogeneous_along_the_walls_only():
    """A mean profile that vanishes at the walls, fluctuations that vanish with it, a damping that grows towards
    them."""
    walls = Grid((CELLS,) * 3, boundary=("periodic", "wall", "periodic"))
    height = (torch.arange(CELLS, dtype=torch.float64) + 0.5) / CELLS * 2 - 1
    shape = (1 - height**2)[None, None, None, :, None]
    inputs = noise() * shape
    inputs[:, :1] += 3 * shape
    found = homogeneity(inputs, -inputs * (0.1 + height**2)[None, None, None, :, None], walls, significance=QUICK)
    assert verdicts(found) == {"x": True, "y": False, "z": True}
    assert found["y"].p_values[WEIGHTS] <= 0.05 and found["y"].p_values[PROFILES] <= 0.05


def test_a_damping_that_varies_is_found_in_the_bank_of_the_field_itself():
    inputs = noise()
    found = homogeneity(inputs, -inputs * (1 + 0.5 * torch.cos(PLACE))[:, None, None], GRID, significance=QUICK)
    assert verdicts(found) == {"x": False, "y": True, "z": True}
    damping = -found["x"].weights["u"].mean(axis=0)
    assert np.corrcoef(damping, torch.cos(PLACE).numpy())[0, 1] > 0.99
    assert np.all(found["x"].errors["u"] > 0)


def test_a_homogeneous_law_is_homogeneous_at_about_the_stated_rate():
    alarms = 0
    for seed in range(12):
        inputs = noise(6, seed=seed)
        found = homogeneity(inputs, -0.1 * inputs + 0.1 * noise(6, seed=100 + seed), GRID, significance=QUICK)
        alarms += sum(not each.homogeneous for each in found.values())
    assert alarms <= 5  # of 36: six or more have probability 0.009


def test_shifting_the_box_shifts_the_weights():
    inputs = noise(4)
    change = -inputs * (1 + 0.5 * torch.cos(PLACE))[:, None, None]
    one = homogeneity(inputs, change, GRID, significance=QUICK)["x"]
    two = homogeneity(inputs.roll(3, 2), change.roll(3, 2), GRID, significance=QUICK)["x"]
    assert np.allclose(np.roll(one.weights["u"], 3, axis=-1), two.weights["u"], atol=1e-9)
    assert two.explained == pytest.approx(one.explained)


def test_finer_targets_and_other_components():
    inputs = noise(4)
    fine = inputs.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    found = homogeneity(inputs, fine[:, :1] * 2, GRID, significance=QUICK)
    assert set(found["x"].weights) == {"1", "input 0", "input 1", "input 2"}
    assert found["x"].explained < 1e-12
    assert json.loads(json.dumps(plain(found["x"]), allow_nan=False))["axis"] == "x"


def test_what_cannot_be_tested_is_refused():
    with pytest.raises(ValueError, match="independent block"):
        homogeneity(noise(1), noise(1), GRID)
    with pytest.raises(ValueError, match="do not fit"):
        homogeneity(noise(3), noise(2), GRID)
    with pytest.raises(ValueError, match="refinement"):
        homogeneity(noise(2), noise(2)[..., :3], GRID)
