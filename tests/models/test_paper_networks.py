"""The paper's layout: steps of two that commute with the group, and its protocol's sizes."""

import pytest
import torch
from e3nn.o3 import Irreps

from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field, transform_scalar
from flowsr.models import Task, build_model, relaxed_weights
from flowsr.models.budget import matching_width
from flowsr.models.wang2023 import DoublingConv
from flowsr.windows import Window
from tests.models.build import model_of

PAPER_PARAMETERS = 125_000


def stirred(name, **options):
    torch.manual_seed(0)
    model = model_of(name, **{"scale": 0.7, **options}).double().eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if not key.endswith("relaxed_weights"):
                parameter.normal_(std=0.2)
    return model


def worst_error(model, boundary=("periodic",) * 3, sides=(3, 4, 5)):
    group = model.group
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(1, Irreps(model.irreps_in).dim, *sides, dtype=torch.float64, generator=generator)
    worst = 0.0
    with torch.no_grad():
        fine = model(coarse, Grid(sides, boundary=boundary))
        for element in range(group.order):
            transformed = transform_field(coarse, element, model.irreps_in, group)
            got = model(transformed, Grid(transformed.shape[-3:], boundary=boundary))
            expected = transform_field(fine, element, model.irreps, group)
            worst = max(worst, float((got - expected).norm() / fine.norm()))
    return worst


@pytest.mark.parametrize("name", ["paper_strict", "paper_relaxed", "strict", "relaxed"])
@pytest.mark.parametrize("group", ["O", "Oh"])
def test_several_filter_banks_commute_with_every_element(name, group):
    model = stirred(name, group=group, channels=1, filter_banks=2, frames=2)
    assert worst_error(model) <= 1e-10
    assert worst_error(model, boundary=("wall", "periodic", "open")) > 0  # walls of one axis: the group no longer fits


@pytest.mark.parametrize("name", ["paper_strict", "paper_relaxed"])
def test_walls_all_round_and_factor_four(name):
    assert worst_error(stirred(name, channels=1, factor=4), boundary=("wall",) * 3, sides=(2, 3, 3)) <= 1e-10


@pytest.mark.parametrize("name", ["paper_relaxed", "relaxed"])
@pytest.mark.parametrize("group", ["O", "Oh"])
def test_training_steps_move_the_relaxed_weights_of_both_banks(name, group):
    torch.manual_seed(0)
    model = build_model(name, Task(2), group=group, channels=1, filter_banks=2)
    coarse = torch.randn(2, 3, 3, 3, 3)
    wanted = torch.randn(2, 3, 6, 6, 6) * torch.tensor([2.0, 0.5, 0.1]).view(1, 3, 1, 1, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        (model(coarse, Grid((3, 3, 3))) - wanted).abs().mean().backward()
        optimizer.step()
    for name, weights in relaxed_weights(model).items():
        assert weights.shape == (2, model.group.order)
        assert ((weights - 1).abs() > 1e-4).any(dim=1).all(), name


def test_strict_is_relaxed_with_its_weights_frozen():
    strict, relaxed = (stirred(name, channels=1, filter_banks=2) for name in ("paper_strict", "paper_relaxed"))
    coarse, grid = torch.randn(1, 3, 3, 4, 5, dtype=torch.float64), Grid((3, 4, 5))
    strict.load_state_dict(relaxed.state_dict())
    assert torch.equal(strict(coarse, grid), relaxed(coarse, grid))
    assert relaxed.parameter_count - strict.parameter_count == sum(w.numel() for w in relaxed_weights(relaxed).values())


def test_the_doubling_convolution_can_commute_with_reflections():
    """With taps that are even about the fine cells it does, for all 48; with other taps it does not."""
    group, layer = octahedral_group("Oh"), DoublingConv(1).double().requires_grad_(False)
    taps = layer.convolution.weight
    uneven = taps.clone()
    taps.copy_(sum(transform_scalar(uneven, g, group) for g in range(48)) / 48)
    features = torch.randn(1, 1, 3, 4, 5, dtype=torch.float64)
    periodic = ("periodic",) * 3

    def worst():
        fine = layer(features, periodic)
        return max(
            float((layer(transform_scalar(features, g, group), periodic) - transformed).abs().max())
            for g in range(48)
            for transformed in [transform_scalar(fine, g, group)]
        )

    assert worst() < 1e-14
    taps.copy_(uneven)
    assert worst() > 1e-2


@pytest.mark.parametrize("factor", [3, 6, 12])
@pytest.mark.parametrize("name", ["paper_cnn", "paper_strict", "paper_relaxed"])
def test_only_powers_of_two(name, factor):
    with pytest.raises(ValueError, match=f"factor must be a power of two, got {factor}"):
        build_model(name, Task(factor))


@pytest.mark.parametrize(
    ("name", "width"), [("paper_cnn", "width"), ("paper_strict", "channels"), ("paper_relaxed", "channels")]
)
def test_the_protocol_has_its_parameters(name, width):
    """Three coarse frames, factor 4, about 125,000 parameters; regular channels come in steps, so within a tenth."""

    def build(size):
        return build_model(name, Task(4, window=Window(3)), **{width: size})

    model = build(matching_width(build, PAPER_PARAMETERS))
    assert abs(model.parameter_count - PAPER_PARAMETERS) < 0.1 * PAPER_PARAMETERS
    assert model.frames == 3 and model.halo in (5, 6)


def test_the_protocol_runs_on_a_small_box():
    model = build_model("paper_relaxed", Task(4, window=Window(3)), channels=1)
    assert model(torch.randn(1, 9, 4, 4, 4), Grid((4, 4, 4))).shape == (1, 3, 16, 16, 16)
