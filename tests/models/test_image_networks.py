"""EDSR, RCAN and RRDB: what tells them apart from a plain network."""

import pytest
import torch

from flowsr.grid import Grid
from flowsr.models import Task, build_model
from flowsr.models.image_networks import ChannelAttention, DenseBlock, Residual, ScaledBlock

PERIODIC = ("periodic",) * 3


def random_features(width, sides=(4, 4, 5)):
    return torch.randn(2, width, *sides, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0])
def test_the_branch_of_a_residual_block_is_scaled(scale):
    torch.manual_seed(0)
    features, block = random_features(3), ScaledBlock(3, scale).double()
    branch = block.second(torch.relu(block.first(features, PERIODIC)), PERIODIC)
    torch.testing.assert_close(block(features, PERIODIC), features + scale * branch, rtol=0, atol=1e-14)


def test_dense_layers_see_all_before_them():
    block = DenseBlock(6, 3, 0.2)
    assert [layer.convolution.in_channels for layer in (*block.layers, block.end)] == [6, 9, 12, 15, 18]
    assert len(build_model("rrdb", Task(2), width=6).body[0].layers) == 3


def test_without_branches_rrdb_is_the_sum_of_its_skips():
    """All dense branches silent, a block is f + a f."""
    block = Residual([DenseBlock(4, 2, 0.2) for _ in range(3)], 0.2).double()
    with torch.no_grad():
        for dense in block.layers:
            dense.end.convolution.weight.zero_()
            dense.end.convolution.bias.zero_()
    torch.testing.assert_close(block(random_features(4), PERIODIC), 1.2 * random_features(4), rtol=0, atol=1e-14)


def test_channel_attention_is_one_gate_per_channel_of_the_box():
    torch.manual_seed(0)
    features, attention = random_features(4), ChannelAttention(4, 2).double()
    gate = attention(features) / features
    assert (gate - gate[..., :1, :1, :1]).abs().max() < 1e-12 and (gate > 0).all() and (gate < 1).all()
    shifted = attention(features.roll(2, -1))
    torch.testing.assert_close(shifted, attention(features).roll(2, -1), rtol=0, atol=1e-14)


def test_rcan_needs_the_whole_box_and_says_so():
    """A change at one end is felt at the other, however far: so there is no halo to state."""
    torch.manual_seed(0)
    model = build_model("rcan", Task(2), width=4, groups=1, blocks=1).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
        coarse = torch.randn(1, 3, 40, 3, 3, dtype=torch.float64)
        poked = coarse.clone()
        poked[:, :, 0] += 5.0
        grid = Grid((40, 3, 3), boundary=("wall", "periodic", "periodic"))
        assert (model(poked, grid) - model(coarse, grid))[:, :, -2:].abs().max() > 1e-6
    assert model.halo is None


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("edsr", {"width": 0}, "width must be at least 1, got 0"),
        ("edsr", {"blocks": -1}, "blocks must not be negative, got -1"),
        ("rcan", {"groups": 0}, "groups must be at least 1, got 0"),
        ("rcan", {"reduction": 0}, "reduction must be at least 1, got 0"),
        ("rrdb", {"width": -2}, "width must be at least 1, got -2"),
        ("paper_cnn", {"width": 0}, "width must be at least 1, got 0"),
        ("paper_strict", {"channels": 0}, "channels must be at least 1, got 0"),
        ("paper_relaxed", {"filter_banks": 0}, "filter_banks must be at least 1, got 0"),
        ("e3nn", {"width": 0}, "width must be at least 1, got 0"),
        ("e3nn", {"l_max": -1}, "l_max must not be negative"),
        ("e3nn", {"radius": 1.0}, "radius above 1"),
        ("e3nn", {"radial": 0}, "radial must be at least 1, got 0"),
        ("e3nn", {"blocks": -1}, "blocks must not be negative, got -1"),
    ],
)
def test_sizes_that_make_no_network_are_refused_by_name(model, options, told):
    with pytest.raises(ValueError, match=told):
        build_model(model, Task(2), **options)
