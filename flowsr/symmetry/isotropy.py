"""At which scale a flow forgets its directions: the anisotropy of the spectral tensor, octave by octave.

In every octave of wavenumbers the spectral tensor towards the 26 directions of the cube
(:func:`flowsr.symmetry.moments.velocity_statistics`) has a part that all 48 elements of O_h leave alone and a rest. The
share of the rest in the squared length is 0 where no direction is preferred. Chance makes it positive; so it is taken
over pairs of different blocks only, as in :mod:`flowsr.symmetry.invariance`, and its p-value is that of O_h there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from torch import Tensor

from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.symmetry.invariance import pair_products, subgroup_p
from flowsr.symmetry.moments import Statistic, velocity_statistics
from flowsr.symmetry.randomization import STANDARD, Significance, block_means, whole_group

SPECTRA = "directional spectra"

#: Share of the squared length below which an octave is called isotropic.
LEVEL = 0.05
#: Blocks for an interval: of fewer, too many resamples are one block over and over.
FEWEST = 5


@dataclass(frozen=True)
class ReturnToIsotropy:
    """The share of anisotropy by octave, and where it ends.

    Args:
        wavenumbers: (n,) middle of each octave, 1/length, in radians.
        share: (n,) of the squared length of the spectral tensor that prefers directions, noise taken off.
        low, high: (n,) central 90 % over bootstrap resamples of the blocks.
        p_values: (n,) of O_h in each octave.
        level: what the share has to fall below.
        scale: wavenumber from which on it stays below; None where it does not within the data. The first octave's
            where it is below from the start.
        scale_low, scale_high: central 90 % of it; None where that lies beyond the data, or there are too few blocks.
        blocks: independent blocks.
        shown: whether the octaves together are not isotropic at the rate of false alarms (Simes 1986, Biometrika 73,
            751), and one that is not has more than the level.
    """

    wavenumbers: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    p_values: tuple[float, ...]
    level: float
    scale: float | None
    scale_low: float | None
    scale_high: float | None
    blocks: int
    shown: bool = True

    @property
    def sentence(self) -> str:
        """The finding in words."""
        begin = f"Anisotropy by scale (share of the spectral tensor that prefers directions, {self.level:.0%} at most)"
        if not self.shown:
            return f"{begin}: no octave shows more beyond chance, from {self.blocks} blocks."
        if self.scale is None:
            return f"{begin}: it does not end within the data, {self.share[-1]:.2g} in the last octave."
        band = " to ".join(
            "beyond the data" if each is None else f"{each:.3g}" for each in (self.scale_low, self.scale_high)
        )
        about = f"90 %: {band}" if self.blocks >= FEWEST else f"{self.blocks} blocks are too few for an interval"
        return f"{begin}: isotropy returns at wavenumber {self.scale:.3g} ({about})."


def return_to_isotropy(
    fields: Tensor,
    grid: Grid,
    *,
    blocks: np.ndarray | None = None,
    level: float = LEVEL,
    significance: Significance = STANDARD,
) -> ReturnToIsotropy:
    """At which wavenumber velocities in a periodic cube return to isotropy.

    Args:
        fields: (samples, 3, x, y, z) velocities.
        grid: of the fields; a periodic cube with cubic cells.
        blocks: (samples,) number of the independent block that each belongs to; default: each its own.
        level: share below which an octave is isotropic.

    Raises:
        ValueError: another grid, fields that are not velocities on it, or fewer than two blocks.
    """
    if len(set(grid.shape)) > 1 or not grid.periodic or np.ptp(grid.spacing) > 1e-9 * max(grid.spacing):
        raise ValueError(f"wavenumbers need a periodic cube, got {grid.shape} cells, boundaries {grid.boundary}")
    blocks = np.arange(len(fields)) if blocks is None else np.asarray(blocks)
    spectra = velocity_statistics(fields, grid, local=False)[SPECTRA]
    means = block_means(spectra.values[:, ::2], blocks)  # real parts: of the imaginary ones O_h leaves nothing
    lowest, count = 2 * np.pi / max(grid.lengths), means.shape[1]
    wavenumbers = lowest * np.sqrt(2.0) * 2.0 ** np.arange(count)
    generator = np.random.default_rng(significance.seed)
    drawn = generator.multinomial(len(means), np.full(len(means), 1 / len(means)), size=significance.draws)
    counts = np.concatenate([np.ones((1, len(means))), drawn])
    shares, p_values = [], []
    for octave in range(count):
        products = pair_products(Statistic(means[:, octave : octave + 1], spectra.points))
        shares.append([_share(products, each) for each in counts])
        p_values.append(subgroup_p({SPECTRA: products}, whole_group(), significance))
    every = np.array(shares)  # (octaves, 1 + resamples)
    scales = np.array([_crossing(wavenumbers, one, level) for one in every.T])
    low, high = np.nanquantile(every[:, 1:], (0.05, 0.95), axis=1)
    first, last = np.quantile(scales[1:], (0.05, 0.95), method="nearest") if len(means) >= FEWEST else (np.inf, np.inf)
    rate = significance.false_alarm_rate
    together = bool(stats.false_discovery_control(p_values).min() <= rate)
    return ReturnToIsotropy(
        *(tuple(float(v) for v in values) for values in (wavenumbers, every[:, 0], low, high, p_values)),
        level,
        *(float(value) if np.isfinite(value) else None for value in (scales[0], first, last)),
        len(means),
        together and any(p <= rate and share >= level for p, share in zip(p_values, every[:, 0], strict=True)),
    )


def _share(products: np.ndarray, counts: np.ndarray) -> float:
    """Share of the squared length of the mean that O_h does not leave alone, over pairs of different blocks."""
    weight = np.outer(counts, counts)
    np.fill_diagonal(weight, 0)
    if not weight.any():
        return np.nan
    whole = np.einsum("st,stg->g", weight, products) / weight.sum()
    identity = octahedral_group("Oh").multiplication[0, 0]
    noise = counts @ np.diagonal(products[:, :, identity]) / counts.sum() ** 2
    return float(np.clip(1 - whole.mean() / max(whole[identity], noise), 0, 1))


def _crossing(wavenumbers: np.ndarray, share: np.ndarray, level: float) -> float:
    """Where the share falls below a level for good, between octaves on logarithmic axes; infinity: nowhere."""
    above = np.flatnonzero(~(share < level))
    if not len(above):
        return float(wavenumbers[0])
    last = above[-1]
    if last == len(share) - 1:
        return np.inf
    high, low = np.log(max(share[last], level)), np.log(max(share[last + 1], 1e-3 * level))
    part = (high - np.log(level)) / (high - low)
    return float(wavenumbers[last] * 2.0**part)
