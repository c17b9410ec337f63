"""Contributions of snapshots to the relaxed weights: how they turn, what irreps they hold, what penalties do to
them."""

import numpy as np
import pytest
import torch

from flowsr.group import octahedral_group
from flowsr.symmetry import NetworkShape, Training
from flowsr.symmetry.network import ProbeNetwork, explained, trained_strict
from flowsr.symmetry.weights import (
    PENALTIES,
    aligned,
    departures,
    deviation,
    exact_stabilizer,
    from_irreps,
    mean_eigenvalue,
    measure_scores,
    penalized,
    powers,
    to_irreps,
)
from flowsr.symmetry.words import losses, operator_group, survivors
from tests.symmetry.maps import isotropic_pairs, noisy_pairs, symmetric_kernel

GROUP = octahedral_group("Oh")
NOT_TRIVIAL = [irrep.name for irrep in GROUP.irreps[1:]]
SHAPE = NetworkShape(channels=2, hidden=1, filter_banks=2)


def subgroup(label):
    return next(s for s in GROUP.subgroups if s.label == label)


@pytest.fixture(scope="module")
def fitted():
    samples = isotropic_pairs(4, 4, 0).normalized(torch.float64)
    return samples, trained_strict(samples, SHAPE, Training(epochs=2, batch=2), seed=3)


@pytest.fixture(scope="module")
def scores(fitted):
    samples, network = fitted
    return measure_scores(network, samples, seed=1)


def test_the_transform_keeps_lengths_and_turns_from_the_left():
    generator = np.random.default_rng(0)
    w = generator.standard_normal((2, 3, 48))
    blocks = to_irreps(w)
    assert {name: x.shape for name, x in blocks.items()} == {
        i.name: (2, i.dimension, 3 * i.dimension) for i in GROUP.irreps
    }
    assert np.allclose(from_irreps(blocks), w, atol=1e-14)
    assert np.allclose(sum((x**2).sum() for x in blocks.values()), (w**2).sum())
    for g in (3, 17, 30, 47):
        turned = to_irreps(w[..., GROUP.left_quotient[g]])
        for irrep in GROUP.irreps:
            assert np.allclose(turned[irrep.name], irrep.matrices[g] @ blocks[irrep.name], atol=1e-13)


def test_turning_a_sample_turns_what_it_asks_for(fitted, scores):
    """Rotations and reflections alike: the null needs no new training."""
    samples, network = fitted
    for g in (1, 10, 23, 24, 37, 46):
        turned = measure_scores(network, samples.transformed([g, 0, 0, 0]), seed=1)
        assert np.allclose(turned.blocks[0], scores.blocks[0][:, GROUP.left_quotient[g]], atol=1e-10)
        assert np.allclose(turned.blocks[1:], scores.blocks[1:], atol=1e-12)


def test_the_strict_fit_does_not_see_how_samples_are_turned(fitted):
    samples, network = fitted
    turned = samples.transformed([5, 40, 13, 28])
    again = trained_strict(turned, SHAPE, Training(epochs=2, batch=2), seed=3)
    for name, values in network.state_dict().items():
        assert torch.allclose(again.state_dict()[name], values, atol=1e-9), name


def test_scores_are_minus_the_gradient_of_half_the_squared_error(fitted, scores):
    samples, network = fitted
    generator = np.random.default_rng(2)
    direction = generator.standard_normal(network.weights().shape)
    target_power = float(samples.targets.square().sum())

    def error(step):
        with network.relaxed(1 + step * direction):
            return (1 - explained(network, samples)) * target_power / 2

    slope = (error(1e-5) - error(-1e-5)) / 2e-5
    whole = scores.blocks.sum(axis=0) * len(samples) / len(scores.blocks)
    assert slope == pytest.approx(-float((whole * direction.reshape(-1, 48)).sum()), rel=1e-6)
    assert np.allclose(network.weights(), 1)


def test_the_network_is_equivariant_before_it_is_relaxed_and_not_after(fitted):
    samples, network = fitted
    turned = samples.transformed([21] * 4)
    expected = samples.__class__(network(samples.inputs).detach(), samples.targets, "1o", "1o").transformed([21] * 4)
    assert torch.allclose(network(turned.inputs), expected.inputs, atol=1e-12)
    with network.relaxed(1 + 0.3 * np.random.default_rng(0).standard_normal(network.weights().shape)):
        found = samples.__class__(network(samples.inputs).detach(), samples.targets, "1o", "1o").transformed([21] * 4)
        assert not torch.allclose(network(turned.inputs), found.inputs, atol=1e-3)


def test_a_gauss_newton_step_improves_the_fit():
    samples = noisy_pairs(symmetric_kernel(subgroup("C4v [001]"), 1), 8, 4, 0, 0.0).normalized(torch.float64)
    network = trained_strict(samples, NetworkShape(channels=2), Training(epochs=20), seed=0)
    strict = explained(network, samples)
    step = departures(measure_scores(network, samples)).mean(axis=0).reshape(network.weights().shape)
    with network.relaxed(1 + 0.5 * step):
        assert explained(network, samples) > strict + 0.02


def test_penalties_minimize_what_they_say(scores):
    """No small change of the weights lowers the penalized quadratic form."""
    generator = np.random.default_rng(0)
    strength = 0.05
    scale = mean_eigenvalue(scores.gram)
    z = to_irreps(scores.blocks.mean(axis=0))

    def value(w, penalty):
        total = 0.0
        for name, d in to_irreps(w).items():
            gram = scores.gram[name] + 0.3 * np.trace(scores.gram[name]) / len(scores.gram[name]) * np.eye(
                len(scores.gram[name])
            )
            total += 0.5 * np.einsum("ia,ab,ib", d, gram, d) - (z[name] * d).sum()
            if name != "A1g" and penalty == "symmetric":
                total += 0.5 * strength * scale * (d**2).sum()
            if name != "A1g" and penalty == "sparse":
                total += strength * scale * np.sqrt(d.size) * np.linalg.norm(d)
        return total

    for penalty in PENALTIES:
        best = penalized(scores, penalty, strength)
        lowest = value(best, penalty)
        for _ in range(20):
            change = generator.standard_normal(best.shape)
            assert value(best + 1e-3 * change, penalty) > lowest
    none, symmetric = (powers(penalized(scores, p, strength)) for p in ("none", "symmetric"))
    assert all((symmetric[n] <= none[n] * 1.3).all() for n in NOT_TRIVIAL)
    assert max(powers(penalized(scores, "sparse", 1e3))[n].max() for n in NOT_TRIVIAL) < 1e-30
    assert np.allclose(penalized(scores, "none"), departures(scores).mean(axis=0))
    with pytest.raises(ValueError, match="penalty must be"):
        penalized(scores, "lasso")


@pytest.mark.parametrize("label", ["Oh", "C4h [001]", "C3v [111]", "C1", "D2d(100;110) [010]"])
def test_stabilizer_and_deviation_of_invariant_weights(label):
    group = subgroup(label)
    w = np.random.default_rng(1).standard_normal((2, 48))
    w = np.mean([w[:, GROUP.left_quotient[g]] for g in group.elements], axis=0)
    blocks = to_irreps(w)
    assert exact_stabilizer(blocks) == group
    for other in GROUP.subgroups[::7]:
        assert (deviation(blocks, other) < 1e-12) == (other <= group)


def test_rows_are_aligned_by_turning_their_filters():
    w = 1 + np.random.default_rng(3).standard_normal((1, 48))
    turned = np.concatenate([w, w[:, GROUP.multiplication[:, 29]], w[:, GROUP.multiplication[:, 6]]])
    assert np.allclose(aligned(turned), np.repeat(w, 3, axis=0))


def test_up_sampling_and_hidden_layers():
    network = ProbeNetwork("1o", "0e", NetworkShape(channels=1, hidden=2), factor=3)
    assert network(torch.zeros(2, 3, 4, 5, 6)).shape == (2, 1, 12, 15, 18)
    assert list(network.relaxed_layers) == ["lifting", "group convolution 1", "group convolution 2", "projection"]
    assert not any(layer.relaxed_weights.requires_grad for layer in network.relaxed_layers.values())


def test_operators_are_tried_not_looked_up():
    assert operator_group("block_mean", 2).order == 48
    assert operator_group("strided", 4).label == "C3v [111]"


@pytest.mark.parametrize(
    "label, survive, lost",
    [
        (
            "C4h [001]",
            ["the four-fold axis along z", "the mirror plane normal to z", "the inversion"],
            ["all three-fold"],
        ),
        ("C4v [001]", ["the four-fold axis along z", "four mirror planes containing z"], ["the inversion"]),
        ("C3v [111]", ["the three-fold axis along [111]", "three mirror planes containing [111]"], ["all four-fold"]),
        ("Td", ["two-fold axes along x, y and z", "the four-fold rotoreflections about"], ["the inversion"]),
        ("O", ["the four-fold axes along"], ["all diagonal mirror planes", "the inversion"]),
        ("C1", ["nothing but the identity"], ["the inversion"]),
    ],
)
def test_groups_in_words(label, survive, lost):
    assert all(words in survivors(subgroup(label)) for words in survive), survivors(subgroup(label))
    assert all(words in losses(subgroup(label)) for words in lost), losses(subgroup(label))


def test_every_subgroup_has_its_own_words():
    said = {(survivors(s), losses(s)) for s in GROUP.subgroups}
    assert len(said) == len(GROUP.subgroups)
