"""Which irreps are broken and which subgroup survives, at a stated rate of false alarms.

**The null.** If the flow had the symmetry group K, a snapshot transformed by an element of K would be as likely as the
snapshot itself. So independent random turns k_i of the independent snapshots i, each from K, give data sets that the
real one cannot be told from. The weights they give are mean_i rho(k_i) x_i, x_i being what snapshot i contributes
(:mod:`flowsr.symmetry.weights`); of a statistic that is large when K is broken, the share of random data sets that
reach the real one's value is a p-value that is exact for any number of snapshots and any distribution: a randomization
test (Lehmann & Romano, Testing Statistical Hypotheses, 3rd ed., section 15.2).

**The statistic** of a subgroup K in one irrep is the squared length of the part of the weights that K does not leave
alone, each column (row of weights, filter frame) in units of its own r.m.s. over the null. Its cube root is nearly
normal (Wilson & Hilferty 1931, PNAS 17, 684); in units of its mean and deviation over the random data sets, the largest
over irreps is the statistic of K. The largest of nine is compared with the largest of nine: that corrects for looking
at all of them (Westfall & Young 1993).

**What is independent.** Snapshots further apart than the flow forgets count as independent, but some things a flow
hardly forgets: the helicity of a rotating one keeps its sign through a whole run. Where the contributions to an irrep
are more alike within runs than between them (an intraclass correlation that no shuffling of the blocks over the runs
reaches), runs are transformed and resampled as one in that irrep. So a few runs that happen to be right-handed are not
a handedness.

**The surviving group** is the largest of the 98 subgroups that is not rejected; of several as large, the one of largest
p. With isotropic data O_h itself is rejected with probability alpha, whatever the tests of the others say. In general
the true group is rejected with probability alpha; a larger one that is wrong is reported when the data are too few to
reject it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from flowsr.group import Subgroup, octahedral_group
from flowsr.progress import SILENT, Progress
from flowsr.symmetry.weights import Parts, deviation, exact_stabilizer, from_irreps, powers, projector, to_irreps


@dataclass(frozen=True)
class Significance:
    """How significance is decided.

    Raises:
        ValueError: so few draws that no p-value could be as small as the rate.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    false_alarm_rate: float = 0.05
    """Chance of calling isotropic data anisotropic."""
    draws: int = 499
    """Random data sets per subgroup, and bootstrap resamples."""
    seed: int = 0
    """Of the random elements."""

    def __post_init__(self):
        if not 0 < self.false_alarm_rate < 1 or (self.draws + 1) * self.false_alarm_rate < 1:
            raise ValueError(f"{self.draws} draws cannot show a rate of {self.false_alarm_rate}")


STANDARD = Significance()


def whole_group() -> Subgroup:
    """O_h itself."""
    return octahedral_group("Oh").subgroup(range(48))


def block_means(values: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """(samples, ...) -> (blocks, ...): means over the samples of each block.

    Raises:
        ValueError: fewer than two blocks.
    """
    numbers = np.unique(blocks)
    if len(numbers) < 2:
        raise ValueError("what is chance cannot be told from one independent block: give two or more")
    return np.stack([values[blocks == block].mean(axis=0) for block in numbers])


@dataclass(frozen=True)
class SubgroupTest:
    """A subgroup held against the data.

    Args:
        subgroup: K.
        p: of the randomization test; None where nothing is random.
        deviation: share of the weights' varying part that K does not leave alone.
        kept: whether K is allowed.
    """

    subgroup: Subgroup
    p: float | None
    deviation: float
    kept: bool


def least_blocks(false_alarm_rate: float) -> int:
    """How many independent snapshots it takes to reject a subgroup of two elements, the smallest there is."""
    blocks = 1
    while 2.0 ** (1 - blocks) > false_alarm_rate:
        blocks += 1
    return blocks


PERSISTENT = 0.1  # intraclass correlation
BY_CHANCE = 0.05  # share of shuffles that may reach it; a shuffle can be the real runs themselves, where these are few
SHUFFLES = 199


def persistent_irreps(blocks: np.ndarray, runs: np.ndarray, seed: int = 0) -> frozenset[str]:
    """Irreps in which what a run prefers lasts as long as the run.

    Args:
        blocks: (blocks, rows, 48) contributions to w - 1.
        runs: (blocks,) number of each block's run.
        seed: of the shuffles.
    """
    if len(np.unique(runs)) in (1, len(runs)):
        return frozenset()
    generator = np.random.default_rng(seed)
    labels = np.stack([runs, *(generator.permutation(runs) for _ in range(SHUFFLES))])
    pairs = (labels[:, :, None] == labels[:, None, :]) & ~np.eye(len(runs), dtype=bool)
    found = set()
    for name, x in scaled(blocks).items():
        away = (x - x.mean(axis=0)).reshape(len(x), -1)
        inner = away @ away.T
        alike = np.einsum("suv,uv->s", pairs, inner) / pairs[0].sum() / max(np.trace(inner) / len(x), 1e-300)
        if alike[0] > PERSISTENT and np.mean(alike[1:] >= alike[0]) <= BY_CHANCE:
            found.add(name)
    return frozenset(found)


@dataclass(frozen=True)
class Evidence:
    """What the tests look at.

    Args:
        blocks: (blocks, rows, 48) what each independent block contributes to w - 1.
        runs: (blocks,) number of each block's run.
        persistent: irreps in which only runs are independent.
    """

    blocks: np.ndarray
    runs: np.ndarray
    persistent: frozenset[str] = frozenset()

    @classmethod
    def of(cls, blocks: np.ndarray, runs: np.ndarray | None = None) -> Evidence:
        """With the persistent irreps found; each block a run of its own where no runs are given."""
        runs = np.arange(len(blocks)) if runs is None else np.unique(runs, return_inverse=True)[1]
        return cls(blocks, runs, persistent_irreps(blocks, runs))

    @cached_property
    def scaled(self) -> dict[str, np.ndarray]:
        """:func:`scaled` contributions by irrep."""
        return scaled(self.blocks)

    def rows(self, chosen) -> Evidence:
        """Only some rows of weights."""
        return Evidence(self.blocks[:, chosen], self.runs, self.persistent)

    def together(self, irrep: str) -> np.ndarray:
        """(blocks,) numbers, the same for blocks that only count as one in an irrep."""
        return self.runs if irrep in self.persistent else np.arange(len(self.blocks))


def null_parts(
    parts: Parts, evidence: Evidence, subgroup: Subgroup, draws: int, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Weights of random data sets, what is independent transformed by random elements of a subgroup.

    Args:
        parts: irrep -> (blocks, d, columns), of ``evidence``.

    Returns:
        irrep -> (draws, d, columns).
    """
    group = octahedral_group("Oh")
    count = len(evidence.blocks)
    random_turns = generator.choice(np.array(subgroup.elements), size=(draws, count))
    found = {}
    for name, x in parts.items():
        d = x.shape[1]
        turns = random_turns[:, evidence.together(name)]
        matrices = group.irrep(name).matrices[turns]  # (draws, blocks, d, d)
        left = matrices.transpose(0, 2, 1, 3).reshape(draws * d, count * d)
        found[name] = (left @ x.reshape(count * d, -1)).reshape(draws, d, -1) / count
    return found


def scaled(blocks: np.ndarray) -> dict[str, np.ndarray]:
    """(blocks, rows, 48) -> irrep but A1g -> (blocks, d, columns), every column over its r.m.s. under the null.

    The scale is the mean square over blocks and over the rows i of the irrep: turning any block leaves it as it is.
    """
    parts = to_irreps(blocks)
    found = {}
    for name, x in parts.items():
        if name != "A1g":
            size = np.sqrt(np.mean(x**2, axis=(0, 1)))
            found[name] = x / np.where(size > 0, size, 1.0)
    return found


def statistics(parts: Parts, subgroup: Subgroup) -> tuple[list[str], np.ndarray]:
    """Cube roots of the squared lengths that a subgroup does not leave alone.

    Args:
        parts: irrep -> (draws, d, columns).

    Returns:
        names of the irreps that the subgroup does not leave alone altogether, and (draws, irreps).
    """
    names, values = [], []
    for name, x in parts.items():
        away = np.eye(x.shape[-2]) - projector(subgroup, name)
        if np.abs(away).max() > 1e-9:
            names.append(name)
            values.append(np.cbrt(np.sum((away @ x) ** 2, axis=(-2, -1))))
    return names, np.stack(values, axis=1) if values else np.empty((0, 0))


def against_subgroup(evidence: Evidence, subgroup: Subgroup, settings: Significance) -> tuple[float, dict[str, float]]:
    """p-value of a subgroup, and of every irrep in which it could be broken, corrected for their number."""
    generator = np.random.default_rng([settings.seed, *subgroup.elements])
    parts = evidence.scaled
    real = {name: x.mean(axis=0, keepdims=True) for name, x in parts.items()}
    drawn = null_parts(parts, evidence, subgroup, settings.draws, generator)
    names, values = statistics({name: np.concatenate([real[name], drawn[name]]) for name in parts}, subgroup)
    if not names:
        return 1.0, {}
    spread = values.std(axis=0)
    normal = (values - values.mean(axis=0)) / np.where(spread > 1e-12 * values.mean(axis=0), spread, np.inf)
    largest = normal.max(axis=1)
    reached = np.mean(largest[:, None] >= normal[:1] - 1e-9, axis=0)
    return float(np.mean(largest >= largest[0] - 1e-9)), dict(zip(names, reached.tolist()))


def surviving_subgroup(
    evidence: Evidence, settings: Significance, progress: Progress = SILENT
) -> tuple[SubgroupTest, tuple[SubgroupTest, ...]]:
    """:func:`largest_kept` by the relaxed weights of the blocks."""
    whole = to_irreps(evidence.blocks.mean(axis=0))

    def test(subgroup: Subgroup) -> SubgroupTest:
        p, _ = against_subgroup(evidence, subgroup, settings)
        return SubgroupTest(subgroup, p, deviation(whole, subgroup), p > settings.false_alarm_rate)

    return largest_kept(test, progress)


def largest_kept(
    test: Callable[[Subgroup], SubgroupTest], progress: Progress = SILENT
) -> tuple[SubgroupTest, tuple[SubgroupTest, ...]]:
    """The largest subgroup that the data allow, and all that were held against them.

    Args:
        test: holds one subgroup against the data; must allow the trivial one.

    Returns:
        the surviving one (of several as large that of largest p, then of least deviation), and every subgroup at least
        as large as it, largest first.
    """
    subgroups = octahedral_group("Oh").subgroups
    orders = sorted({s.order for s in subgroups}, reverse=True)
    tried: list[SubgroupTest] = []
    for done, order in enumerate(orders):
        tried += [test(subgroup) for subgroup in subgroups if subgroup.order == order]
        progress((done + 1) / len(orders), f"subgroups of order {order}")
        if kept := [each for each in tried if each.kept]:
            return max(kept, key=lambda each: (each.p, -each.deviation)), tuple(tried)
    raise AssertionError("the trivial subgroup is always kept")


def exact_subgroup(departure: np.ndarray) -> tuple[SubgroupTest, tuple[SubgroupTest, ...]]:
    """:func:`surviving_subgroup` of weights without noise, (rows, 48): what leaves them as they are, to rounding."""
    parts = to_irreps(departure)
    found = exact_stabilizer(parts)
    larger = sorted((s for s in octahedral_group("Oh").subgroups if s.order >= found.order), key=lambda s: -s.order)
    tried = tuple(SubgroupTest(s, None, deviation(parts, s), s <= found) for s in larger)
    return next(each for each in tried if each.subgroup == found), tried


@dataclass(frozen=True)
class PowerSpread:
    """How the power of one irrep varies.

    Args:
        null_mean, null_high: mean and 95th percentile over random data sets.
        low, high: central 90 % of the basic bootstrap over the blocks: resampling adds its own noise to a squared
            length, so the percentiles are taken as errors about the measured power and subtracted from it.
    """

    null_mean: float
    null_high: float
    low: float
    high: float


def power_spreads(evidence: Evidence, settings: Significance) -> Mapping[str, PowerSpread]:
    """Null and bootstrap of the mean power of each irrep."""
    generator = np.random.default_rng(settings.seed)
    parts = to_irreps(evidence.blocks)
    drawn = null_parts(parts, evidence, whole_group(), settings.draws, generator)
    again = _resampled(parts, evidence, settings.draws, generator)
    every = (evidence.blocks.mean(axis=0), from_irreps(drawn), from_irreps(again))
    measured, null, boot = ({name: p.mean(axis=-1) for name, p in powers(w).items()} for w in every)
    found = {}
    for name in parts:
        low, high = np.maximum(2 * measured[name] - np.quantile(boot[name], (0.95, 0.05)), 0)
        highest = np.quantile(null[name], 0.95)
        found[name] = PowerSpread(float(null[name].mean()), float(highest), float(low), float(high))
    return found


def _resampled(parts: Parts, evidence: Evidence, draws: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights of bootstrap resamples: irrep -> (draws, d, columns)."""
    found = {}
    for name, x in parts.items():
        together = evidence.together(name)
        many = together.max() + 1
        counts = generator.multinomial(many, np.full(many, 1 / many), size=draws)[:, together]
        found[name] = np.einsum("bn,nic->bic", counts / counts.sum(axis=1, keepdims=True), x)
    return found
