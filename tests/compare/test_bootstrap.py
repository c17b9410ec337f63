"""Intervals against closed forms, and their coverage where the truth is known."""

import numpy as np
import pytest
from scipy import stats

from flowsr.compare.bootstrap import Interval, Sample, bootstrap, difference
from flowsr.compare.findings import AHEAD, BEHIND, LEVEL, ONE_BLOCK, ONE_SEED, verdict_of


def sample(values, name="a", trained=True):
    """(seeds, blocks) one snapshot a block."""
    values = np.atleast_2d(np.asarray(values, dtype=float))
    return Sample(name, values, np.ones_like(values), trained)


def test_the_mean_is_over_snapshots_not_over_blocks():
    values = Sample("a", np.array([[3.0, 10.0]]), np.array([[3.0, 1.0]]), trained=False)
    assert bootstrap([values], lambda means: means[0]).estimate == pytest.approx(13 / 4)


def test_without_training_the_width_is_students():
    """Normal values on n blocks, one number each: mean +- t s / sqrt(n)."""
    values = np.random.default_rng(0).normal(5, 2, 40)
    found = bootstrap([sample(values, trained=False)], lambda means: means[0], resamples=20000)
    half = stats.t.ppf(0.975, 39) * values.std(ddof=1) / np.sqrt(40)
    assert found.estimate == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * half, rel=0.03)
    assert found.blocks == 40 and found.seeds is None and found.known


def test_where_seeds_alone_vary_the_width_is_students_of_the_seeds():
    seeds = np.array([1.0, 2.0, 4.5])
    found = bootstrap([sample(np.repeat(seeds[:, None], 8, 1))], lambda means: means[0], resamples=20000)
    half = stats.t.ppf(0.975, 2) * seeds.std(ddof=1) / np.sqrt(3)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.15)  # three seeds: few distinct resampled values
    assert found.low < seeds.mean() < found.high


def test_what_all_models_share_cancels_in_a_difference():
    common = np.random.default_rng(1).normal(0, 100, 12)
    noise = np.random.default_rng(2).normal(0, 0.1, 12)
    pair = [sample(common + 1 + noise, "a", False), sample(common, "b", False)]
    found = bootstrap(pair, difference)
    assert found.estimate == pytest.approx(1 + noise.mean()) and found.high - found.low < 0.2
    unpaired = bootstrap(pair[:1], lambda means: means[0])
    assert unpaired.high - unpaired.low > 50


def test_equal_arguments_give_equal_intervals():
    values = np.random.default_rng(3).normal(size=(3, 7))
    assert bootstrap([sample(values)], lambda m: m[0]) == bootstrap([sample(values)], lambda m: m[0])


def test_one_block_or_one_seed_is_said_and_nothing_is_claimed():
    one_block = bootstrap([sample([[1.0], [2.0]])], lambda m: m[0])
    assert one_block.low is None and not one_block.known and verdict_of(one_block) == ONE_BLOCK
    one_seed = bootstrap([sample([[1.0, 2.0, 3.0]]), sample([[9.0, 8.0, 7.5]], "b")], difference)
    assert one_seed.seeds == 1 and not one_seed.known and verdict_of(one_seed) == ONE_SEED


def test_a_value_that_was_measured_on_one_block_alone_is_one_block_of_evidence():
    """Equivariance errors are taken on one snapshot: its blocks are not those of the whole test."""

    def once(level, name):
        values = np.array([[level, 0, 0, 0], [level + 0.1, 0, 0, 0], [level - 0.1, 0, 0, 0]])
        return Sample(name, values, np.array([[1.0, 0, 0, 0]] * 3), trained=True)

    found = bootstrap([once(1.0, "a"), once(9.0, "b")], difference)
    assert found.estimate == pytest.approx(-8) and found.blocks == 1 and found.low is None
    assert verdict_of(found) == ONE_BLOCK


def test_blocks_that_one_model_lacks_are_left_out_of_its_difference():
    hard = np.array([1.0, 2.0, 3.0, 100.0])
    lacking = Sample("a", np.array([[1.5, 2.5, 3.5, 0.0]]), np.array([[1.0, 1, 1, 0]]), trained=False)
    found = bootstrap([lacking, sample(hard, "b", trained=False)], difference)
    assert found.estimate == pytest.approx(0.5) and found.blocks == 3 and verdict_of(found) == BEHIND
    nothing = Sample("c", np.zeros((1, 4)), np.zeros((1, 4)), trained=False)
    nowhere = bootstrap([nothing, sample(hard, "b", trained=False)], difference)
    assert np.isnan(nowhere.estimate) and nowhere.low is None and nowhere.blocks == 0


def test_samples_on_other_blocks_are_refused():
    with pytest.raises(ValueError, match="different numbers of blocks"):
        bootstrap([sample(np.ones((2, 3))), sample(np.ones((2, 4)), "b")], difference)


@pytest.mark.parametrize(
    ("low", "high", "higher", "verdict"),
    [(-2, -1, False, AHEAD), (1, 2, False, BEHIND), (-1, 1, False, LEVEL), (1, 2, True, AHEAD), (-2, -1, True, BEHIND)],
)
def test_verdicts_follow_the_interval(low, high, higher, verdict):
    assert verdict_of(Interval((low + high) / 2, low, high, 5, 3), higher) == verdict


@pytest.mark.parametrize(
    ("blocks", "seeds", "of_blocks", "of_seeds", "of_both"),
    [(4, 3, 1.0, 0.3, 0.2), (6, 3, 0.3, 1.0, 0.2), (12, 3, 1.0, 1.0, 1.0), (20, 5, 1.0, 0.0, 0.3)],
)
def test_the_interval_of_a_difference_covers_the_truth_as_often_as_it_says(blocks, seeds, of_blocks, of_seeds, of_both):
    generator, covered, trials = np.random.default_rng(blocks), 0, 300
    for number in range(trials):
        common = generator.normal(0, 3, blocks)  # a hard snapshot is hard for both models

        def model(name, common=common):
            parts = generator.normal(0, of_blocks, blocks), generator.normal(0, of_seeds, (seeds, 1))
            return sample(common + sum(parts) + generator.normal(0, of_both, (seeds, blocks)), name)

        found = bootstrap([model("a"), model("b")], difference, resamples=500, seed=number)
        covered += found.low <= 0 <= found.high
    assert 0.90 <= covered / trials <= 0.995


def test_a_percentile_interval_alone_would_not():
    """Why the intervals are stretched: with three seeds the plain one covers far too seldom."""
    generator, covered = np.random.default_rng(0), 0
    for _ in range(300):
        seeds = generator.normal(0, 1, 3)
        resampled = seeds[generator.integers(0, 3, (500, 3))].mean(1)
        covered += np.quantile(resampled, 0.025) <= 0 <= np.quantile(resampled, 0.975)
    assert covered / 300 < 0.85
