import numpy as np
import pytest

from flowsr.group import octahedral_group
from flowsr.report.figures.weights import (
    RelaxedWeights,
    irrep_shares,
    summarize_weights,
    weights_figure,
    weights_sentence,
)


def in_irrep(group, name, size, row=1):
    """Weights 1 plus a vector of r.m.s. ``size`` that lies in one irrep."""
    table = octahedral_group(group)
    starts = np.cumsum([0] + [irrep.dimension**2 for irrep in table.irreps])
    index = [irrep.name for irrep in table.irreps].index(name)
    width = table.irreps[index].dimension ** 2
    return 1 + size * np.sqrt(table.order) * table.fourier[starts[index] + row % width]


@pytest.mark.parametrize("group", ["O", "Oh"])
def test_a_vector_in_one_irrep_is_found_there_and_nowhere_else(group):
    for irrep in octahedral_group(group).irreps[1:]:
        summary = summarize_weights(RelaxedWeights("net", group, {"layer": in_irrep(group, irrep.name, 0.04)[None]}))
        expected = 0.04 / np.sqrt(1 + 0.04**2)
        assert summary.spread == pytest.approx(expected)
        assert summary.irrep_shares.pop(irrep.name) == pytest.approx(expected)
        assert max(summary.irrep_shares.values()) < 1e-12


def test_spread_is_the_standard_deviation_over_the_rms_and_shares_add_up():
    weights = np.random.default_rng(0).standard_normal((2, 48)) + 3
    summary = summarize_weights(RelaxedWeights("net", "Oh", {"layer": weights}))
    spreads = weights.std(axis=1) / np.sqrt(np.mean(weights**2, axis=1))
    np.testing.assert_allclose(list(summary.row_spreads.values()), spreads)
    assert list(summary.row_spreads) == ["layer, bank 1", "layer, bank 2"]
    assert summary.spread**2 == pytest.approx(sum(share**2 for share in summary.irrep_shares.values()))
    _, shares = irrep_shares(weights, "Oh")
    np.testing.assert_allclose(np.sum(shares**2, axis=1), 1)


def test_the_sentence_says_what_the_weights_are():
    layers = {"first": np.ones((1, 24)), "second": in_irrep("O", "E", 0.02)[None]}
    text = weights_sentence(RelaxedWeights("net", "O", layers), "Our <net>")
    assert "isotropic" in text and "Most in second, 2 %" in text and "irrep E" in text and "1.4 %" in text
    assert "exactly equivariant" in weights_sentence(
        RelaxedWeights("net", "O", {"first": np.full((1, 24), 0.7)}), "Net"
    )
    assert "no relaxed weights" in weights_sentence(RelaxedWeights("net", "O", {}), "Net")


@pytest.mark.parametrize("group", ["O", "Oh"])
def test_the_heat_map_shows_every_weight_once_class_by_class(group):
    table = octahedral_group(group)
    weights = 10 + np.arange(table.order, dtype=float)[None]
    figure = weights_figure(RelaxedWeights("net", group, {"layer": weights}))
    heat_map = figure.axes[0].images[0]
    scale = np.sqrt(np.mean(weights**2))
    elements = np.rint(np.asarray(heat_map.get_array())[0] / 100 * scale + weights.mean() - 10).astype(int)
    assert sorted(elements) == list(range(table.order))
    start = 0
    for members in table.classes:
        assert set(elements[start : start + len(members)]) == set(members)
        start += len(members)
    low, high = heat_map.get_clim()
    assert low == -high < 0
    labels = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    with_axis = [label for label in labels if label]
    assert len(with_axis) == table.order - (1 if group == "O" else 2)


def test_weights_of_the_wrong_group_are_refused():
    with pytest.raises(ValueError, match=r"'layer'.*24"):
        RelaxedWeights("net", "O", {"layer": np.ones((1, 48))})
    with pytest.raises(ValueError, match="no relaxed weights"):
        weights_figure(RelaxedWeights("net", "O", {}))
