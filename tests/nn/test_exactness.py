"""Every layer, every element, every padding: M(g.x) = g.M(x) to rounding, while the relaxed weights are constant."""

import pytest
import torch
from torch import nn

from flowsr.nn import GroupConv, LiftingConv, OrbitDropout, Projection, RegularNorm, SubVoxelUpsample, activation
from tests.nn.fields import (
    CELLS,
    EDGES,
    GROUPS,
    MIXED,
    act,
    group_of,
    moved_boundary,
    random_features,
    random_field,
    relative,
    residual,
)

TOLERANCE = 1e-10
REGULAR_LAYERS = {
    "group": lambda group, **o: GroupConv(group, 2, 1, **o),
    "group, two banks": lambda group, **o: GroupConv(group, 1, 1, filter_banks=2, **o),
    "group, one tap": lambda group, **o: GroupConv(group, 2, 2, kernel_size=1, **o),
    "group, five taps": lambda group, **o: GroupConv(group, 1, 1, kernel_size=5, **o),
    "group, Fourier kernel": lambda group, **o: GroupConv(group, 1, 2, kernel="fourier", **o),
    "residual": lambda group, **o: residual(group, 1, **o),
    "sub-voxel x2": lambda group, **o: SubVoxelUpsample(group, 1, 1, 2, kernel_size=1, **o),
    "sub-voxel x3": lambda group, **o: SubVoxelUpsample(group, 1, 1, 3, kernel_size=1, **o),
}
CELLS_OF = {"group, five taps": (5, 3, 4)}  # reflecting two cells takes three
FIELDS = ("1o", "1e", "0e+2e", "0o+1o")


def worst_error(layer, values, group, irreps_in, irreps_out, boundary):
    """The largest equivariance error over all elements."""
    with torch.no_grad():
        result = layer(values, boundary)
        return max(
            relative(
                layer(act(values, g, group, irreps_in), moved_boundary(boundary, g, group))
                - act(result, g, group, irreps_out),
                result,
            )
            for g in range(group.order)
        )


@pytest.mark.parametrize("boundary, wall_padding", EDGES)
@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("kind", REGULAR_LAYERS)
def test_regular_layers(kind, name, boundary, wall_padding):
    group = group_of(name)
    layer = REGULAR_LAYERS[kind](group, wall_padding=wall_padding).double()
    channels = 2 if kind in ("group", "group, one tap") else 1
    features = random_features(group, channels, CELLS_OF.get(kind, CELLS))
    assert worst_error(layer, features, group, None, None, boundary) <= TOLERANCE


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("kind", REGULAR_LAYERS)
def test_strict_layers_are_the_untrained_relaxed_ones(kind, name):
    group = group_of(name)
    relaxed, strict = (REGULAR_LAYERS[kind](group, relaxed=relaxed).double() for relaxed in (True, False))
    strict.load_state_dict(relaxed.state_dict())
    features = random_features(group, 2 if kind in ("group", "group, one tap") else 1, CELLS_OF.get(kind, CELLS))
    assert torch.equal(strict(features), relaxed(features))


@pytest.mark.parametrize("boundary, wall_padding", EDGES)
@pytest.mark.parametrize("irreps", FIELDS)
@pytest.mark.parametrize("name", GROUPS)
def test_lifting(name, irreps, boundary, wall_padding):
    group = group_of(name)
    layer = LiftingConv(group, irreps, 1, 2, filter_banks=2, wall_padding=wall_padding).double()
    field = random_field(layer.filters.shape[3])
    assert worst_error(layer, field, group, irreps, None, boundary) <= TOLERANCE


def test_lifting_of_several_fields():
    group = group_of("Oh")
    layer = LiftingConv(group, "1o", 2, 1).double()
    assert worst_error(layer, random_field(6), group, "1o+1o", None, MIXED) <= TOLERANCE


@pytest.mark.parametrize("boundary, wall_padding", EDGES)
@pytest.mark.parametrize("irreps, upsample", [("1o", 1), ("1o", 2), ("1e", 3), ("0e+2e", 2), ("0o+1o", 1), ("4e", 1)])
@pytest.mark.parametrize("name", GROUPS)
def test_projection(name, irreps, upsample, boundary, wall_padding):
    group = group_of(name)
    layer = Projection(group, 1, irreps, filter_banks=2, upsample=upsample, wall_padding=wall_padding).double()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    assert worst_error(layer, random_features(group, 1), group, None, irreps, boundary) <= TOLERANCE


def test_projection_biases_are_the_invariants():
    """A scalar has one; a pseudoscalar has one under rotations only; a vector none; l = 4 has the cubic harmonic."""
    for irreps, under_o, under_oh in (
        ("0e", 1, 1),
        ("0o", 1, 0),
        ("1o", 0, 0),
        ("2e", 0, 0),
        ("4e", 1, 1),
        ("2x0e+1o", 2, 2),
    ):
        found = [Projection(group_of(name), 1, irreps).bias for name in GROUPS]
        assert [0 if bias is None else len(bias) for bias in found] == [under_o, under_oh]


class Network(nn.Module):
    """One of everything."""

    def __init__(self, group, wall_padding="replicate", relaxed=True):
        super().__init__()
        shared = dict(relaxed=relaxed, wall_padding=wall_padding)
        self.lifting = LiftingConv(group, "1o", 1, 2, **shared)
        self.block = residual(group, 2, dropout=0.5, filter_banks=2, **shared)
        self.finer = SubVoxelUpsample(group, 2, 1, 2, **shared)
        self.norm = RegularNorm(1)
        self.activation = activation("silu")
        self.projection = Projection(group, 1, "1o", upsample=2, **shared)

    def forward(self, field, boundary):
        features = self.finer(self.block(self.lifting(field, boundary), boundary), boundary)
        return self.projection(self.activation(self.norm(features)), boundary)


@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize("name", GROUPS)
def test_whole_network(name, relaxed):
    group = group_of(name)
    network = Network(group, relaxed=relaxed).double().eval()
    assert worst_error(network, random_field(3, (3, 2, 4), batch=1), group, "1o", "1o", MIXED) <= TOLERANCE


def test_dropout_treats_the_group_alike():
    group = group_of("O")
    dropped = OrbitDropout(0.5).train()(torch.ones(50, 40, group.order, 2, 2, 2))
    orbits = dropped.flatten(2)
    assert bool((orbits == orbits[:, :, :1]).all()) and set(dropped.unique().tolist()) == {0.0, 2.0}
    assert abs(float(dropped.mean()) - 1) < 0.1
    assert torch.equal(OrbitDropout(0.5).eval()(dropped), dropped)


def test_activation_within_the_layer_is_the_one_after_it():
    group = group_of("O")
    layer, features = GroupConv(group, 1, 1), random_features(group, 1).float()
    plain = layer(features)
    for name in ("relu", "gelu", "silu"):
        layer.activation = name
        assert torch.equal(layer(features), activation(name)(plain))


def test_an_ordinary_convolution_fails_this_test():
    """The measure is able to say no."""
    group = group_of("O")
    plain = nn.Conv3d(3, 3, 3, padding=1, padding_mode="circular").double()
    assert worst_error(lambda v, b: plain(v), random_field(3), group, "1o", "1o", ("periodic",) * 3) > 0.3


def test_wrong_shapes_and_options_are_refused():
    group = group_of("O")
    with pytest.raises(ValueError, match="expected features of shape"):
        GroupConv(group, 2, 2)(torch.zeros(1, 2, 48, 3, 3, 3))
    with pytest.raises(ValueError, match="expected features of shape"):
        LiftingConv(group, "1o", 1, 2)(torch.zeros(1, 4, 3, 3, 3))
    with pytest.raises(ValueError, match="boundary must be"):
        GroupConv(group, 1, 1)(torch.zeros(1, 1, 24, 3, 3, 3), ("periodic", "wall", "mirror"))
    with pytest.raises(ValueError, match="wall_padding must be"):
        GroupConv(group, 1, 1, wall_padding="mirror")
    with pytest.raises(ValueError, match="kernel size must be odd"):
        GroupConv(group, 1, 1, kernel_size=2)
    with pytest.raises(ValueError, match="at least 1"):
        GroupConv(group, 0, 1)
    with pytest.raises(ValueError, match="activation must be"):
        GroupConv(group, 1, 1, activation="softmax")
    with pytest.raises(ValueError, match="probability"):
        OrbitDropout(1.0)
    with pytest.raises(ValueError, match="activation"):
        activation("softmax")
