"""Which of the 48 elements the statistics of a velocity field are invariant under: a check without any network.

**The measure.** For a statistic T, a tensor averaged over n independent blocks, the defect of g is ||g T - T|| / ||T||.
Chance makes it positive even where g is kept, so its square is estimated by products of different blocks only,
sum_{s != t} <(g - 1) T_s, (g - 1) T_t> / n (n - 1), whose mean is ||(g - 1) <T>||^2 whatever the noise.

**The test.** If the flow has the symmetry group K, turning each block by an element of K of its own makes data as
likely as the real ones. The length of the mean statistic, again over pairs of different blocks, is largest where the
blocks agree without being transformed; the share of random turns that do as well is a p-value, exact for any number of
blocks (a randomization test: Lehmann & Romano, Testing Statistical Hypotheses, 3rd ed., section 15.2). Of the families
of statistics the one that is furthest out counts, against the furthest out of every draw (Westfall & Young 1993).

All of it is sums over K[s, t, g] = <T_s, g T_t>, computed once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from flowsr.grid import Grid
from flowsr.group import Subgroup, octahedral_group
from flowsr.symmetry.moments import Statistic, velocity_statistics
from flowsr.symmetry.randomization import STANDARD, Significance, SubgroupTest, block_means, largest_kept


@dataclass(frozen=True)
class ElementDefects:
    """How far one family of statistics is from each of the 48 elements, in the order of ``octahedral_group("Oh")``.

    Args:
        defect: (48,) ||g T - T|| / ||T||, noise taken off; 0 where it is below the noise.
        low, high: (48,) central 90 % over bootstrap resamples of the blocks.
        null_high: (48,) 95th percentile with every block transformed by a random element.
    """

    defect: np.ndarray
    low: np.ndarray
    high: np.ndarray
    null_high: np.ndarray


@dataclass(frozen=True)
class DataSymmetry:
    """The symmetry of the data themselves.

    Args:
        families: name of a family of statistics -> its defects.
        p_values: (48,) p-value of every element, that of the cyclic group it generates, all families together. Of 48,
            one or another is below 0.05 by chance: what decides is the test of whole subgroups.
        surviving: the largest subgroup that the data allow.
        p: its p-value.
        blocks: independent blocks that were averaged and transformed.
        false_alarm_rate: chance that a symmetry that is there is called broken.
    """

    families: Mapping[str, ElementDefects]
    p_values: np.ndarray
    surviving: Subgroup
    p: float
    blocks: int
    false_alarm_rate: float

    @property
    def kept(self) -> tuple[int, ...]:
        """The elements of the surviving subgroup."""
        return self.surviving.elements

    @property
    def broken(self) -> tuple[int, ...]:
        """The other elements."""
        return tuple(g for g in range(len(self.p_values)) if g not in self.kept)


def data_symmetry(
    fields: Tensor,
    grid: Grid,
    *,
    blocks: np.ndarray | None = None,
    local: bool | None = None,
    significance: Significance = STANDARD,
) -> DataSymmetry:
    """Reynolds stresses, spectra, structure functions and gradient moments of velocities under all 48 elements.

    Args:
        fields: (samples, 3, x, y, z) velocities.
        grid: of the fields; a cube, so that every element maps it to itself.
        blocks: (samples,) number of the independent block that each belongs to, such as its run; default: each its own.
        local: see :func:`flowsr.symmetry.moments.velocity_statistics`.

    Raises:
        ValueError: fields that are not velocities on a cube, or fewer than two blocks.
    """
    if len(set(grid.shape)) > 1:
        raise ValueError(f"the 48 elements need as many cells along every axis, got {grid.shape}")
    blocks = np.arange(len(fields)) if blocks is None else np.asarray(blocks)
    products = {
        name: pair_products(Statistic(block_means(statistic.values, blocks), statistic.points))
        for name, statistic in velocity_statistics(fields, grid, local=local).items()
    }
    return symmetry_of_products(products, significance)


def symmetry_of_products(products: Mapping[str, np.ndarray], significance: Significance) -> DataSymmetry:
    """:func:`data_symmetry` from K[s, t, g] (blocks, blocks, 48) of every family."""
    group = octahedral_group("Oh")
    count = len(next(iter(products.values())))
    cyclic = {g: group.generate([g]) for g in range(group.order)}
    tests = {s.elements: subgroup_p(products, s, significance) for s in set(cyclic.values())}
    p_values = np.array([tests[cyclic[g].elements] for g in range(group.order)])

    def test(subgroup: Subgroup) -> SubgroupTest:
        if subgroup.elements not in tests:
            tests[subgroup.elements] = subgroup_p(products, subgroup, significance)
        p = tests[subgroup.elements]
        return SubgroupTest(subgroup, p, 0.0, p > significance.false_alarm_rate)

    surviving, _ = largest_kept(test)
    return DataSymmetry(
        families={name: element_defects(k, significance) for name, k in products.items()},
        p_values=p_values,
        surviving=surviving.subgroup,
        p=surviving.p,
        blocks=count,
        false_alarm_rate=significance.false_alarm_rate,
    )


def pair_products(statistic: Statistic) -> np.ndarray:
    """(blocks, blocks, 48): K[s, t, g] = <T_s, g T_t>, each layer in units of its own r.m.s."""
    values = statistic.values
    axes = (0, *range(2, values.ndim))
    size = np.sqrt(np.mean(values**2, axis=axes, keepdims=True))
    scaled = Statistic(values / np.where(size > 0, size, 1.0), statistic.points)
    flat = scaled.values.reshape(len(values), -1)
    transformed = [scaled.transformed(g).reshape(len(values), -1) for g in range(octahedral_group("Oh").order)]
    return np.stack([flat @ t.T for t in transformed], axis=-1)


def subgroup_p(products: Mapping[str, np.ndarray], subgroup: Subgroup, significance: Significance) -> float:
    """p-value of a subgroup: how often blocks moved by random elements of it agree as well as they do unmoved."""
    if subgroup.order == 1:
        return 1.0
    group = octahedral_group("Oh")
    generator = np.random.default_rng([significance.seed, *subgroup.elements])
    count = len(next(iter(products.values())))
    turns = generator.choice(np.array(subgroup.elements), size=(significance.draws, count))
    turns = np.concatenate([np.zeros((1, count), dtype=turns.dtype), turns])
    return agreement_p(products, group.left_quotient[turns[:, :, None], turns[:, None, :]])


def agreement_p(products: Mapping[str, np.ndarray], relative: np.ndarray) -> float:
    """How often randomly moved blocks agree as well as they do unmoved, in the family that is furthest out.

    Args:
        products: family -> K[s, t, g] (blocks, blocks, elements) = <T_s, g T_t>.
        relative: (1 + draws, blocks, blocks) element g_s^-1 g_t of every pair; first that of the real data, all zero.
    """
    s, t = np.triu_indices(relative.shape[1], 1)
    values = np.stack([k[s, t][np.arange(len(s)), relative[:, s, t]].sum(axis=1) for k in products.values()], axis=1)
    spread = values.std(axis=0)
    normal = (values - values.mean(axis=0)) / np.where(spread > 1e-12 * np.abs(values).max(axis=0), spread, np.inf)
    largest = normal.max(axis=1)
    return float(np.mean(largest >= largest[0] - 1e-9))


def element_defects(products: np.ndarray, significance: Significance) -> ElementDefects:
    """Defects of one family, from its products (blocks, blocks, 48), with bootstrap and null."""
    group = octahedral_group("Oh")
    count = len(products)
    generator = np.random.default_rng(significance.seed)
    counts = generator.multinomial(count, np.full(count, 1 / count), size=significance.draws).astype(np.float64)
    again = np.stack([_defects(products, c) for c in counts])
    null = []
    for turns in generator.integers(group.order, size=(significance.draws, count)):
        left = group.inverse[turns]
        moved = group.multiplication[
            group.multiplication[left[:, None], np.arange(group.order)][:, None, :], turns[None, :, None]
        ]
        null.append(_defects(np.take_along_axis(products, moved, axis=2), np.ones(count)))
    return ElementDefects(
        _defects(products, np.ones(count)),
        np.nanquantile(again, 0.05, axis=0),
        np.nanquantile(again, 0.95, axis=0),
        np.nanquantile(np.stack(null), 0.95, axis=0),
    )


def _defects(products: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(48,): ||g T - T|| / ||T|| over pairs of different blocks, ``counts`` of each; 2 is the most there is.

    Where ||T|| is below its own standard error, that takes its place.
    """
    weight = np.outer(counts, counts)
    np.fill_diagonal(weight, 0)
    if not weight.any():
        return np.full(products.shape[2], np.nan)
    mean = np.einsum("st,stg->g", weight, products) / weight.sum()
    noise = counts @ np.diagonal(products[:, :, 0]) / counts.sum() ** 2
    whole = max(mean[0], noise, np.finfo(float).tiny)
    return np.sqrt(np.clip(2 * (mean[0] - mean) / whole, 0, 4))
