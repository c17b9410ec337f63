"""How sure a difference between models is: a bootstrap over independent blocks of snapshots and over training seeds.

Two things could have come out otherwise: which pieces of the flow were held out, and with which seed a network was
trained. Both are drawn again, with replacement: the blocks together for all models, so that differences are paired, the
seeds for each network on its own. That is Owen's pigeonhole bootstrap ("The pigeonhole bootstrap", Annals of Applied
Statistics 1, 386, 2007), which errs to the wide side where blocks and seeds interact.

With three seeds or five blocks a plain percentile interval is much too narrow: the resampled variance lacks a factor
n / (n - 1), and normal quantiles stand where Student's should (Hesterberg, "What teachers should know about the
bootstrap", American Statistician 69, 371, 2015, section 3). So each source of variation is also resampled alone, its
variance put right by its own n / (n - 1), the degrees of freedom of the sum found as Welch and Satterthwaite did
(Satterthwaite, Biometrics Bulletin 2, 110, 1946), and the percentile interval stretched about the estimate to that
width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

#: Name of the source of variation that all models share.
BLOCKS = "blocks"


@dataclass(frozen=True)
class Interval:
    """An estimate, and where it would lie with another draw of blocks and seeds.

    Args:
        estimate: from all blocks and seeds as they are.
        low, high: ends of the interval; None where there is but one block, and nothing is known of the spread.
        blocks: independent blocks behind it.
        seeds: the fewest seeds of any trained model behind it; None where nothing was trained.
    """

    estimate: float
    low: float | None
    high: float | None
    blocks: int
    seeds: int | None

    @property
    def known(self) -> bool:
        """Whether there is an interval that covers both blocks and seeds."""
        return self.low is not None and (self.seeds is None or self.seeds > 1)


@dataclass(frozen=True, eq=False)
class Sample:
    """One model's values on the held-out snapshots, summed over blocks.

    Args:
        name: which model (and training size): two samples of one name share their draws of seeds.
        sums, counts: (seeds, blocks) from :func:`flowsr.data.independence.block_sums`.
        trained: whether seeds make a difference; an interpolation has one row and no seeds.
    """

    name: str
    sums: np.ndarray
    counts: np.ndarray
    trained: bool

    @property
    def seeds(self) -> int:
        return self.sums.shape[0]

    @property
    def blocks(self) -> int:
        return self.sums.shape[1]

    @property
    def measured(self) -> np.ndarray:
        """(blocks,) bool: where every seed has a value."""
        return (self.counts > 0).all(0)

    def on(self, blocks: np.ndarray) -> Sample:
        """The same on some of the blocks, given as (blocks,) bool."""
        return replace(self, sums=self.sums[:, blocks], counts=self.counts[:, blocks])

    def mean(self, blocks: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Mean over snapshots, then over seeds, as often drawn as the weights say.

        Args:
            blocks: (resamples, blocks) how often each block is drawn.
            seeds: (resamples, seeds) how often each seed is.

        Returns:
            (resamples,); NaN where no snapshot with a value was drawn.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            means = (blocks @ self.sums.T) / (blocks @ self.counts.T)
            return (np.where(seeds > 0, means, 0.0) * seeds).sum(1) / seeds.sum(1)


Statistic = Callable[[Sequence[np.ndarray]], np.ndarray]


def difference(means: Sequence[np.ndarray]) -> np.ndarray:
    """Mean of the first sample less that of the second."""
    return means[0] - means[1]


def bootstrap(
    samples: Sequence[Sample], statistic: Statistic, *, confidence: float = 0.95, resamples: int = 4000, seed: int = 0
) -> Interval:
    """An interval for a function of the samples' means, over the blocks on which all of them were measured.

    Args:
        samples: the models; all on the same blocks.
        statistic: takes one array of means (resamples,) per sample, gives (resamples,).
        confidence: share of intervals that should cover the true value.
        resamples: draws.
        seed: of the draws; equal arguments give equal intervals.

    Raises:
        ValueError: samples on different numbers of blocks.
    """
    counts = {sample.blocks for sample in samples}
    if len(counts) != 1:
        raise ValueError(f"samples on different numbers of blocks: {sorted(counts)}")
    measured = np.logical_and.reduce([sample.measured for sample in samples])
    samples = [sample.on(measured) for sample in samples]
    trained = {sample.name: sample.seeds for sample in samples if sample.trained}
    sources = {BLOCKS: int(measured.sum()), **{f"seeds of {name}": count for name, count in trained.items()}}
    if not measured.any():
        return Interval(float("nan"), None, None, 0, min(trained.values(), default=None))
    draws = _draws(sources, resamples, np.random.default_rng(seed))

    def value(drawn: frozenset[str]) -> np.ndarray:
        """The statistic with these sources drawn anew, the others as they are."""
        weights = {name: draws[name] if name in drawn else np.ones((1, count)) for name, count in sources.items()}
        alone = np.ones((1, 1))
        return statistic(
            [s.mean(weights[BLOCKS], weights[f"seeds of {s.name}"] if s.trained else alone) for s in samples]
        )

    estimate = float(value(frozenset())[0])
    fewest = min(trained.values(), default=None)
    if sources[BLOCKS] < 2 or not np.isfinite(estimate):
        return Interval(estimate, None, None, sources[BLOCKS], fewest)
    alone = {name: value(frozenset([name])) for name, count in sources.items() if count > 1}
    low, high = _stretched(estimate, value(frozenset(sources)), alone, sources, confidence)
    return Interval(estimate, low, high, sources[BLOCKS], fewest)


def _draws(sources: Mapping[str, int], resamples: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """How often each member of each source is drawn: n draws out of n, (resamples, n)."""
    return {
        name: generator.multinomial(count, np.full(count, 1 / count), size=resamples).astype(np.float64)
        for name, count in sources.items()
    }


def _stretched(
    estimate: float,
    together: np.ndarray,
    alone: Mapping[str, np.ndarray],
    sources: Mapping[str, int],
    confidence: float,
) -> tuple[float, float]:
    """The percentile interval, scaled about the estimate for small samples; see the module's text."""
    tail = (1 - confidence) / 2
    variances = {name: np.nanvar(values) * sources[name] / (sources[name] - 1) for name, values in alone.items()}
    variance, spread = sum(variances.values()), np.nanstd(together)
    if not variance > 0 or not spread > 0:
        return estimate, estimate
    freedom = variance**2 / sum(part**2 / (sources[name] - 1) for name, part in variances.items())
    stretch = stats.t.ppf(1 - tail, freedom) / stats.norm.ppf(1 - tail) * np.sqrt(variance) / spread
    low, high = np.nanquantile(together, [tail, 1 - tail])
    # resampled values may all lie on one side of the estimate; the interval holds it all the same
    return estimate + stretch * min(low - estimate, 0.0), estimate + stretch * max(high - estimate, 0.0)
