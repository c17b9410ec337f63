"""With unequal relaxed weights the symmetry breaks by exactly what the formulas say."""

import pytest
import torch

from flowsr.kernels.reference import reference_projection
from flowsr.nn import GroupConv, LiftingConv, Projection
from tests.nn.fields import GROUPS, act, group_of, random_features, random_field, relative, set_weights

PERIODIC = ("periodic",) * 3


def random_weights(banks, group, seed=3):
    return torch.randn(banks, group.order, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def weights_seen_by(element, weights, group):
    """(k.w)(g) = w(k^-1 g): what a network with weights w is, looked at after rotating by k."""
    return weights[:, torch.tensor(group.left_quotient[element])]


@pytest.mark.parametrize("kind", ["lifting", "group"])
@pytest.mark.parametrize("name", GROUPS)
def test_one_bank_breaks_by_the_difference_of_its_weights(name, kind):
    """M_w(k.f) - k.M_w(f) = (w(g) - w(k^-1 g)) (k.M_1(f))(x, g), for every voxel, channel, g and k."""
    group = group_of(name)
    if kind == "lifting":
        layer, values, irreps = LiftingConv(group, "1o", 1, 2, bias=False).double(), random_field(3), "1o"
    else:
        layer, values, irreps = GroupConv(group, 1, 2, bias=False).double(), random_features(group, 1), None
    weights = random_weights(1, group)
    with torch.no_grad():
        strict = layer(values)
        set_weights(layer, weights)
        broken = layer(values)
        for k in range(group.order):
            error = layer(act(values, k, group, irreps)) - act(broken, k, group)
            difference = (weights - weights_seen_by(k, weights, group))[0, :, None, None, None]
            assert relative(error - difference * act(strict, k, group), strict) < 1e-12


@pytest.mark.parametrize("name", GROUPS)
def test_projection_with_banks_breaks_as_the_formula_says(name):
    """The projection is linear in w: M_w(k.f) - k.M_w(f) = M_{w - k.w}(k.f), the right side by brute force."""
    group = group_of(name)
    layer = Projection(group, 1, "1o", filter_banks=2, upsample=2).double()
    features = random_features(group, 1, cells=(2, 3, 2), batch=1)
    weights = random_weights(2, group)
    set_weights(layer, weights)
    with torch.no_grad():
        broken = layer(features)
        for k in range(0, group.order, 5):
            moved = act(features, k, group)
            error = layer(moved) - act(broken, k, group, "1o")
            difference = weights - weights_seen_by(k, weights, group)
            expected = reference_projection(moved, layer.filters, difference, group, "1o", PERIODIC, upsample=2)
            assert relative(error - expected, broken) < 1e-12


@pytest.mark.parametrize("name", GROUPS)
def test_group_layer_with_banks_is_the_sum_over_its_banks(name):
    """sum_l w_l(g) times the strict layer of bank l."""
    group = group_of(name)
    layer = GroupConv(group, 1, 1, filter_banks=3, bias=False).double()
    features, weights = random_features(group, 1), random_weights(3, group)
    set_weights(layer, weights)
    single = GroupConv(group, 1, 1, bias=False).double()
    with torch.no_grad():
        expected = 0
        for bank in range(3):
            single.filters.copy_(layer.filters[bank : bank + 1])
            expected = expected + weights[bank, :, None, None, None] * single(features)
        assert relative(layer(features) - expected, expected) < 1e-12


@pytest.mark.parametrize("size", [1e-3, 1e-2])
def test_error_is_of_the_size_of_the_perturbation(size):
    group = group_of("O")
    torch.manual_seed(0)
    layers = [LiftingConv(group, "1o", 1, 2), GroupConv(group, 2, 2), Projection(group, 2, "1o")]
    for seed, layer in enumerate(layers):
        layer.double()
        set_weights(layer, 1 + size * random_weights(1, group, seed))

    def network(field):
        return layers[2](torch.relu(layers[1](torch.relu(layers[0](field)))))

    field = random_field(3)
    with torch.no_grad():
        result = network(field)
        errors = [
            relative(network(act(field, g, group, "1o")) - act(result, g, group, "1o"), result)
            for g in range(1, group.order)
        ]
    assert 0.5 * size < sum(errors) / len(errors) < 5 * size


def test_a_bank_starts_with_its_share_of_the_variance():
    group = group_of("O")
    torch.manual_seed(0)
    one, four = GroupConv(group, 4, 4), GroupConv(group, 4, 4, filter_banks=4)
    assert float(one.filters.detach().var() / four.filters.detach().var()) == pytest.approx(4, rel=0.1)
    assert bool((four.relaxed_weights == 1).all())
