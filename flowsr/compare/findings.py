"""What a study's board says: means, differences that are real, learning curves and their slopes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flowsr.compare.bootstrap import Interval, bootstrap, difference
from flowsr.compare.result import Board, Key

BEST_INTERPOLATION = "best_interpolation"
AHEAD, BEHIND, LEVEL = "ahead", "behind", "no difference shown"
ONE_BLOCK, ONE_SEED = "one block, not known", "one seed, not known"


@dataclass(frozen=True)
class Resampling:
    """How intervals are made.

    Args:
        confidence: share of intervals that should cover the true value.
        resamples: draws of the bootstrap.
    """

    confidence: float = 0.95
    resamples: int = 4000

    def interval(self, samples, statistic) -> Interval:
        return bootstrap(samples, statistic, confidence=self.confidence, resamples=self.resamples)


@dataclass(frozen=True)
class Score:
    """A row's mean on one data set.

    Args:
        key, tested_on, metric: of what.
        interval: mean over seeds and snapshots, and how sure it is.
        by_seed: mean over the snapshots for each seed.
    """

    key: Key
    tested_on: str
    metric: str
    interval: Interval
    by_seed: tuple[float, ...]

    @property
    def deviation(self) -> float | None:
        """Standard deviation of the sample of seeds; None for fewer than two."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None


@dataclass(frozen=True)
class Difference:
    """A row less a reference on one data set, pair by pair.

    Args:
        key, tested_on, metric: of what.
        reference: as the study names it.
        against: the row that is meant.
        interval: of the difference of the means; of the distances from the truth for metrics that are best near it.
        share: the difference over the reference's mean.
        verdict: ``ahead``, ``behind``, ``no difference shown``, or why nothing is known.
    """

    key: Key
    tested_on: str
    metric: str
    reference: str
    against: Key
    interval: Interval
    share: float
    verdict: str


@dataclass(frozen=True)
class LearningCurve:
    """Error against the number of training snapshots n, and the exponent of error ~ n^slope.

    Args:
        model, data, metric: of what.
        sizes: numbers of training snapshots, increasing.
        scores: at each.
        slope: of log error over log n, least squares, and how sure it is; None for fewer than two sizes.
    """

    model: str
    data: str
    metric: str
    sizes: tuple[int, ...]
    scores: tuple[Score, ...]
    slope: Interval | None


def score(board: Board, key: Key, tested_on: str, metric: str, resampling: Resampling) -> Score:
    """Mean, spread over seeds, interval."""
    sample = board.sample(key, tested_on, metric)
    by_seed = tuple(float(m) for m in _by_seed(board.values(key, tested_on, metric)))
    return Score(key, tested_on, metric, resampling.interval([sample], lambda means: means[0]), by_seed)


def best_interpolation(board: Board, tested_on: str, metric: str, better: str) -> Key | None:
    """The row without training that is best by a metric; None where there is none."""
    keys = [
        key
        for key in board.keys(tested_on)
        if board.results(key, tested_on)[0].seed is None and metric in board.metrics(key, tested_on)
    ]
    losses = {key: _loss(board, key, tested_on, metric, better) for key in keys}
    losses = {key: loss for key, loss in losses.items() if math.isfinite(loss)}
    return min(losses, key=losses.get) if losses else None


def compared(
    board: Board,
    key: Key,
    reference: str,
    against: Key,
    tested_on: str,
    metric: str,
    better: str,
    resampling: Resampling,
) -> Difference:
    """One row against another on the same snapshots.

    Args:
        better: ``lower``, ``higher`` or ``truth``, see :class:`flowsr.metrics.Quantity`.
    """
    samples = [board.sample(one, tested_on, metric, aim=better == "truth") for one in (key, against)]
    interval = resampling.interval(samples, difference)
    measured = samples[0].measured & samples[1].measured
    whole = _means(samples[1].on(measured)) if measured.any() else math.nan
    share = interval.estimate / abs(whole) if whole else math.nan
    verdict = verdict_of(interval, higher_is_better=better == "higher")
    return Difference(key, tested_on, metric, reference, against, interval, share, verdict)


def verdict_of(interval: Interval, higher_is_better: bool = False) -> str:
    """What an interval of a difference allows to say."""
    if interval.low is None:
        return ONE_BLOCK
    if not interval.known:
        return ONE_SEED
    if interval.low <= 0 <= interval.high:
        return LEVEL
    return AHEAD if (interval.low > 0) == higher_is_better else BEHIND


def learning_curve(
    board: Board, keys: Mapping[int, Key], tested_on: str, metric: str, resampling: Resampling
) -> LearningCurve:
    """One model at several training sizes.

    The slope's interval resamples blocks (together for all sizes) and seeds; it takes the straight line for granted,
    and the training snapshots as they are.

    Args:
        keys: number of training snapshots -> row.
    """
    sizes = sorted(keys)
    scores = tuple(score(board, keys[size], tested_on, metric, resampling) for size in sizes)
    slope = None
    if len(sizes) > 1:
        logs = np.log(np.array(sizes, dtype=np.float64))
        weights = (logs - logs.mean()) / ((logs - logs.mean()) ** 2).sum()

        def fitted(means: Sequence[np.ndarray]) -> np.ndarray:
            with np.errstate(invalid="ignore", divide="ignore"):
                return sum(weight * np.log(mean) for weight, mean in zip(weights, means))

        slope = resampling.interval([board.sample(keys[size], tested_on, metric) for size in sizes], fitted)
    first = keys[sizes[0]]
    return LearningCurve(first.model, first.data, metric, tuple(sizes), scores, slope)


def _loss(board: Board, key: Key, tested_on: str, metric: str, better: str) -> float:
    mean = _means(board.sample(key, tested_on, metric, aim=better == "truth"))
    return -mean if better == "higher" else mean


def _means(sample) -> float:
    return float(sample.mean(np.ones((1, sample.blocks)), np.ones((1, sample.seeds)))[0])


def _by_seed(values: np.ndarray) -> np.ndarray:
    finite = np.isfinite(values)
    count = finite.sum(1)
    return np.where(count > 0, np.where(finite, values, 0).sum(1) / np.maximum(count, 1), np.nan)
