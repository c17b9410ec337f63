"""Step sizes by fan-in: what they are, and that networks of all 48 elements learn by them where equal ones fail."""

import pytest
import torch

from flowsr.grid import Grid
from flowsr.models import Task, build_model
from flowsr.models.base import trilinear
from flowsr.train.rates import REFERENCE_FAN_IN, groups_by_fan_in

GRID = Grid((4, 4, 4))


def rates(model, learning_rate):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(p)]: group["lr"] for group in groups_by_fan_in(model, learning_rate) for p in group["params"]}


def test_every_filter_has_a_step_over_what_its_layer_sums_and_every_parameter_has_one():
    model = build_model("relaxed", Task(2), group="O", channels=2, blocks=1)
    found = rates(model, 1.0)
    assert found.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert found["lifting.filters"] == pytest.approx(REFERENCE_FAN_IN / (3 * 27))
    assert found["blocks.0.convolutions.1.filters"] == pytest.approx(REFERENCE_FAN_IN / (2 * 24 * 27))
    assert found["projection.filters"] == pytest.approx(REFERENCE_FAN_IN / (2 * 27))
    assert {rate for name, rate in found.items() if not name.endswith("filters")} == {1.0}


def test_an_ordinary_network_of_the_reference_width_keeps_its_rate_inside():
    found = rates(build_model("cnn", Task(2), width=16), 0.002)
    assert found["blocks.0.convolutions.0.convolution.weight"] == pytest.approx(0.002)
    assert found["head.convolution.weight"] == pytest.approx(0.002 * REFERENCE_FAN_IN / (3 * 27))


def test_doublings_sum_the_taps_that_reach_a_cell():
    found = rates(build_model("paper_cnn", Task(2), width=4), 1.0)
    assert found["stages.0.1.convolution.weight"] == pytest.approx(REFERENCE_FAN_IN / (4 * 8))


def test_layers_that_work_cell_by_cell_keep_their_rate():
    for name, inside in (("e3nn", "mix"), ("rcan", "gate")):
        found = {key: rate for key, rate in rates(build_model(name, Task(2), width=4), 1.0).items() if inside in key}
        assert found and set(found.values()) == {1.0}


def waves(seed):
    """A Gaussian field of steep spectrum on 8^3 cells, and its block mean."""
    generator = torch.Generator().manual_seed(seed)
    k = torch.fft.fftfreq(8, 1 / 8)
    k = (k[:, None, None] ** 2 + k[:, None] ** 2 + k[:5] ** 2).sqrt().clamp_min(1)
    modes = torch.fft.rfftn(torch.randn(4, 3, 8, 8, 8, generator=generator), dim=(2, 3, 4)) * k ** (-11 / 6)
    fine = torch.fft.irfftn(modes, s=(8, 8, 8), dim=(2, 3, 4))
    fine = fine / fine.square().mean().sqrt()
    return torch.nn.functional.avg_pool3d(fine, 2), fine


def trained(choose, steps=40):
    """Mean error over the last ten of so many steps, over that of the interpolation it starts from."""
    torch.manual_seed(0)
    model = build_model("strict", Task(2), group="Oh", channels=1, blocks=2)
    optimizer = torch.optim.Adam(choose(model), lr=0.004)
    ratios = []
    for step in range(steps):
        coarse, fine = waves(step)
        loss = (model(coarse, GRID) - fine).abs().mean()
        ratios.append(float(loss.detach()) / float((trilinear(coarse, 2, GRID.boundary) - fine).abs().mean()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return sum(ratios[-10:]) / 10


def test_a_network_of_all_48_elements_learns_by_fan_in_where_equal_steps_leave_it_at_the_interpolation():
    equal = trained(lambda model: [p for p in model.parameters() if p.requires_grad])
    by_fan_in = trained(lambda model: groups_by_fan_in(model, 0.004))
    assert by_fan_in < 0.9 < equal
