"""Isotropic data must not be called anisotropic more often than is said."""

import numpy as np
import pytest
from scipy.stats import binom, kstest

from flowsr.symmetry import Method, NetworkShape, Significance, Training, discover_samples
from flowsr.symmetry.randomization import BY_CHANCE, Evidence, against_subgroup, persistent_irreps, surviving_subgroup
from tests.symmetry.maps import GROUP, isotropic_pairs

RATE = 0.05


def alarms(rate_allowed: float, trials: int) -> int:
    """The largest count of false alarms that is no surprise (one in a hundred) at a rate."""
    return int(binom.ppf(0.99, trials, rate_allowed))


def turned(x: np.ndarray, elements) -> np.ndarray:
    """(blocks, rows, 48) functions on the group, each turned by an element: (g f)(h) = f(g^-1 h)."""
    return np.stack([one[:, GROUP.left_quotient[g]] for one, g in zip(x, elements)])


def symmetric_contributions(subgroup, count, seed, heavy=False):
    """Random contributions whose distribution a subgroup leaves alone, and nothing larger does."""
    generator = np.random.default_rng(seed)
    shape = generator.standard_normal((1, 3, 48)) * 2
    x = shape + (generator.standard_t(2, (count, 3, 48)) if heavy else generator.standard_normal((count, 3, 48)))
    return turned(x, generator.choice(np.array(subgroup.elements), size=count))


def test_twenty_networks_on_isotropic_data():
    method = Method(
        network=NetworkShape(channels=2),
        training=Training(epochs=2, batch=4),
        significance=Significance(RATE, draws=199),
    )
    found = [discover_samples(isotropic_pairs(10, 4, seed), seeds=[seed], method=method) for seed in range(20)]
    alarmed = [f.surviving.order < 48 for f in found]
    assert sum(alarmed) <= alarms(RATE, 20)
    for discovery, alarm in zip(found, alarmed):
        assert any(irrep.broken for irrep in discovery.irreps.values()) == alarm
    assert kstest([f.candidates[0].p for f in found], "uniform").pvalue > 0.01
    assert all(f.false_alarm_rate == RATE for f in found)


@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "heavy tails"])
@pytest.mark.parametrize("name", ["Oh", "C4h [001]", "C3v [111]", "C2 [001]"])
def test_p_values_of_the_true_group_are_uniform(name, heavy):
    subgroup = next(s for s in GROUP.subgroups if s.label == name)
    settings = Significance(RATE, draws=99)
    p = [
        against_subgroup(Evidence.of(symmetric_contributions(subgroup, 12, seed, heavy)), subgroup, settings)[0]
        for seed in range(150)
    ]
    assert np.mean(np.array(p) <= RATE) <= binom.ppf(0.99, 150, RATE) / 150
    assert kstest(p, "uniform").statistic < 1.63 / np.sqrt(150) + 0.01


@pytest.mark.parametrize("name", ["C4h [001]", "C3v [111]", "D2h(100)"])
def test_the_group_of_the_contributions_is_found(name):
    subgroup = next(s for s in GROUP.subgroups if s.label == name)
    found, tried = surviving_subgroup(Evidence.of(symmetric_contributions(subgroup, 40, 1)), Significance(0.01))
    assert found.subgroup == subgroup
    assert [t.subgroup.order for t in tried] == sorted((t.subgroup.order for t in tried), reverse=True)
    assert all(not t.kept for t in tried if t.subgroup.order > subgroup.order)


def test_what_lasts_as_long_as_a_run_is_not_taken_for_a_property_of_the_flow():
    """Four runs, each with a handedness of its own that never changes: with snapshots as blocks that is a breaking."""
    generator = np.random.default_rng(4)
    runs = np.repeat(np.arange(4), 12)
    handedness = GROUP.irrep("A1u").matrices[:, 0, 0]
    x = generator.standard_normal((48, 3, 48)) + np.array([1.5, 1.0, 0.7, 0.2])[runs, None, None] * handedness
    alone = np.arange(len(runs))
    assert persistent_irreps(x, runs) == {"A1u"}
    assert persistent_irreps(x, alone) == frozenset()
    assert surviving_subgroup(Evidence.of(x, alone), Significance())[0].subgroup.name == "O"
    assert surviving_subgroup(Evidence.of(x, runs), Significance())[0].subgroup.name == "Oh"


def test_runs_that_are_alike_are_not_persistent():
    generator = np.random.default_rng(5)
    shared = generator.standard_normal((1, 3, 48))
    rates = [
        len(persistent_irreps(shared + generator.standard_normal((24, 3, 48)), np.arange(24) // 6)) for _ in range(20)
    ]
    assert sum(rates) <= binom.ppf(0.999, 20 * 9, BY_CHANCE)


def test_a_shuffle_that_is_the_runs_themselves_hides_nothing():
    """Four runs of three blocks: one shuffle in 15,400 is the runs themselves, and one in some sixty of 199 shuffles
    has it."""
    generator = np.random.default_rng(6)
    runs = np.repeat(np.arange(4), 3)
    handedness = GROUP.irrep("A1u").matrices[:, 0, 0]
    x = 0.3 * generator.standard_normal((12, 2, 48)) + np.array([1.5, 1.0, 0.7, 0.2])[runs, None, None] * handedness
    assert all("A1u" in persistent_irreps(x, runs, seed) for seed in range(100))


def test_too_few_draws_for_the_rate_are_refused():
    with pytest.raises(ValueError, match="cannot show"):
        Significance(0.01, draws=50)
