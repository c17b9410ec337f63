"""Does a flow know its direction in time? Averages over pairs of snapshots, held against the film run backwards.

**The element.** Run backwards, the velocities (u(t), u(t + tau)) become (-u(t + tau), -u(t)). Together with the 48
elements g of O_h this reversal, written 1', makes 96: g and g 1'. A flow with the symmetries K may keep all of K 1' as
well, the *grey* group of K (of the crystal classes there are 32); or, of a larger group L in which K is every second
element, the rest of L with time reversed, written L(K): a rotating flow, run backwards, rotates the other way, and a
mirror puts that right; or neither, and then it knows its direction in time.

**The test** is that of :mod:`flowsr.symmetry.invariance`: if the group is kept, independent blocks moved by random
elements of it agree no worse than they do unmoved. The statistics are those, of either snapshot, and
<u_i(t) u_j(t + tau)>.

What dissipates shows in averages that are odd in the velocity (the third-order velocity gradients and increments of a
cascade are negative) and in what grows or decays from t to t + tau; what is inviscid and in equilibrium in none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.group import Subgroup, octahedral_group
from flowsr.symmetry.invariance import agreement_p
from flowsr.symmetry.moments import Statistic, octant_parts, octants, velocity_statistics
from flowsr.symmetry.randomization import STANDARD, Significance, block_means

TWO_TIMES = "two-time stresses"
ORDERS = {"mean velocity": 1, "velocity gradients, third order": 3, "structure functions, third order": 3}


@dataclass(frozen=True)
class TimeReversal:
    """Whether the film may as well be run backwards.

    Args:
        spatial: K, the symmetries that it is asked on top of.
        partner: L, kept where its elements beyond K reverse time; K itself where the reversal alone is kept (the grey
            group); None where the flow knows its direction in time.
        p: of that group; where there is none, of the best of all that were tried.
        grey_p: of the grey group of K.
        odd: family of statistics -> share of its squared length that changes sign, noise taken off.
        blocks: independent blocks.
        false_alarm_rate: chance that a reversal that is a symmetry is called broken.
    """

    spatial: Subgroup
    partner: Subgroup | None
    p: float
    grey_p: float
    odd: Mapping[str, float]
    blocks: int
    false_alarm_rate: float

    @property
    def label(self) -> str:
        """The group in words: ``Oh 1'`` (grey), ``D4h(C4h)``, or ``C4h`` alone."""
        if self.partner is None:
            return self.spatial.label
        return (
            f"{self.spatial.label} 1'"
            if self.partner == self.spatial
            else f"{self.partner.label}({self.spatial.label})"
        )

    @property
    def sentence(self) -> str:
        """The finding in words."""
        if self.partner == self.spatial:
            return f"Nothing tells the flow from itself run backwards (group {self.label}, p = {self.p:.2g})."
        most = max(self.odd, key=lambda name: self.odd[name])
        known = f"The flow knows its direction in time (p = {self.grey_p:.2g}; most of all in its {most})"
        if self.partner is None:
            return f"{known}."
        return (
            f"Run backwards the flow is another one (p = {self.grey_p:.2g}; most of all in its {most}), but turned "
            f"by what {self.partner.label} has beyond {self.spatial.label} it is itself again as far as can be told "
            f"(group {self.label}, p = {self.p:.2g})."
        )


def time_reversal(
    earlier: Tensor,
    later: Tensor,
    grid: Grid,
    spatial: Subgroup | None = None,
    *,
    blocks: np.ndarray | None = None,
    local: bool | None = None,
    significance: Significance = STANDARD,
) -> TimeReversal:
    """Whether pairs of snapshots are as likely run backwards, on top of symmetries that are known.

    Args:
        earlier, later: (samples, 3, x, y, z) velocities, a step in time apart, the same for all.
        grid: of the fields; a cube.
        spatial: K, such as :attr:`~flowsr.symmetry.DataSymmetry.surviving`; default: only the identity.
        blocks: (samples,) number of the independent block that each belongs to; default: each its own.
        local: see :func:`flowsr.symmetry.moments.velocity_statistics`.

    Raises:
        ValueError: fields that are not velocities on a cube, or fewer than two blocks.
    """
    if len(set(grid.shape)) > 1:
        raise ValueError(f"the 48 elements need as many cells along every axis, got {grid.shape}")
    group = octahedral_group("Oh")
    spatial = group.subgroup([0]) if spatial is None else spatial
    blocks = np.arange(len(earlier)) if blocks is None else np.asarray(blocks)
    products = {
        name: _products(Statistic(block_means(one.values, blocks), one.points), (-1) ** ORDERS.get(name, 2))
        for name, one in _pair_statistics(earlier, later, grid, local).items()
    }
    grey_p = p = _group_p(products, spatial, spatial, significance)
    partner = spatial if grey_p > significance.false_alarm_rate else None
    if partner is None:
        larger = [one for one in group.subgroups if one.order == 2 * spatial.order and spatial <= one]
        tried = {one: _group_p(products, spatial, one, significance) for one in larger}
        best = max(tried, key=tried.__getitem__, default=None)
        p = max(grey_p, *tried.values(), 0.0)
        partner = best if best is not None and tried[best] > significance.false_alarm_rate else None
    odd = {name: _odd_share(k) for name, k in products.items()}
    count = len(next(iter(products.values())))
    return TimeReversal(spatial, partner, p, grey_p, odd, count, significance.false_alarm_rate)


def _pair_statistics(earlier: Tensor, later: Tensor, grid: Grid, local: bool | None) -> dict[str, Statistic]:
    """Statistics in two halves of layers, which the reversal exchanges: those of either snapshot, and across both."""
    first, second = (velocity_statistics(fields, grid, local=local) for fields in (earlier, later))
    found = {}
    for name, one in first.items():
        found[name] = Statistic(np.concatenate([one.values, second[name].values], axis=1), one.points)
    by_place = not grid.periodic if local is None else local
    points = octants() if by_place else np.zeros((1, 3), dtype=np.int64)
    halves = [octant_parts(fields) if by_place else [fields] for fields in (earlier.double(), later.double())]
    each = [torch.einsum("nixyz,njxyz->nij", a, b) / a[0, 0].numel() for a, b in zip(*halves, strict=True)]
    across = torch.stack(each, dim=1).numpy()
    found[TWO_TIMES] = Statistic(np.stack([across, across.swapaxes(-1, -2)], axis=1), points)
    return found


def _products(statistic: Statistic, sign: int) -> np.ndarray:
    """(blocks, blocks, 96): <T_s, e T_t>, each layer in units of its r.m.s. in both halves; reversals come last."""
    values, layers = statistic.values, statistic.values.shape[1] // 2
    size = np.mean(values**2, axis=(0, *range(2, values.ndim)), keepdims=True)
    size = np.sqrt((size + np.roll(size, layers, axis=1)) / 2)
    scaled = values / np.where(size > 0, size, 1.0)
    flat = scaled.reshape(len(values), -1)
    both = []
    for moved in (scaled, sign * np.roll(scaled, layers, axis=1)):
        one = Statistic(moved, statistic.points)
        both += [flat @ one.transformed(g).reshape(len(values), -1).T for g in range(octahedral_group("Oh").order)]
    return np.stack(both, axis=-1)


def _group_p(products: Mapping[str, np.ndarray], kept: Subgroup, whole: Subgroup, significance: Significance) -> float:
    """p-value of the group of K and of what ``whole`` has beyond it with time reversed (of K itself: of K 1')."""
    group = octahedral_group("Oh")
    reversing = kept.elements if whole == kept else tuple(g for g in whole.elements if g not in kept)
    elements = np.array([(g, 0) for g in kept.elements] + [(g, 1) for g in reversing])
    generator = np.random.default_rng([significance.seed, 1, *whole.elements, *kept.elements])
    count = len(next(iter(products.values())))
    drawn = elements[generator.integers(len(elements), size=(significance.draws, count))]
    drawn = np.concatenate([np.zeros((1, count, 2), dtype=drawn.dtype), drawn])
    g, reversed_ = drawn[..., 0], drawn[..., 1]
    relative = group.left_quotient[g[:, :, None], g[:, None, :]]
    return agreement_p(products, relative + group.order * (reversed_[:, :, None] ^ reversed_[:, None, :]))


def _odd_share(products: np.ndarray) -> float:
    """Share of the squared length of the mean statistic that the reversal turns into its negative, 0 to 1."""
    count = len(products)
    apart = ~np.eye(count, dtype=bool)
    whole, back = products[apart][:, 0].mean(), products[apart][:, octahedral_group("Oh").order].mean()
    noise = np.trace(products[:, :, 0]) / count**2
    return float(np.clip((whole - back) / 2 / max(whole, noise, np.finfo(float).tiny), 0, 1))
