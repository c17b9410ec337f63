"""What counts as independent: blocks of time, splits with gaps, and the eddy turnover time that measures both.

Snapshots that follow one another closely are the same flow. One number says after how many eddy turnover times they
count as another one, ``decorrelation_turnovers``: so far apart lie training, validation and test, and so long is a
block of held-out snapshots that counts once in a confidence interval or a test of significance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr

from flowsr.errors import FlowsrError
from flowsr.grid import Grid

if TYPE_CHECKING:
    from flowsr.metrics.scales import FlowScales, SpectralMoments

#: Field type of a velocity, as it may be written.
VELOCITY = ("1o", "1x1o")

SPLITS = ("train", "validation", "test")

#: Lengths and distances in time that are short of what is asked by less than this share are long enough.
ROUNDING = 1e-9


def independent_blocks(times: Sequence[np.ndarray], lengths: Sequence[float]) -> np.ndarray:
    """Number every snapshot's block of time; snapshots of one block are one independent sample.

    A block starts with a run's first snapshot, and again with every snapshot that is at least ``length`` after the
    start of the block before. Different runs never share a block.

    Args:
        times: increasing times of each run's snapshots.
        lengths: least length of a block in each run, in the unit of its times: ``decorrelation_turnovers`` times the
            run's eddy turnover time (:func:`turnover_time`). 0 makes every snapshot a block of its own.

    Returns:
        (snapshots,) int64, all runs in order; blocks are numbered from 0 without gaps.
    """
    numbers, block = [], -1
    for instants, length in zip(times, lengths, strict=True):
        start = -np.inf
        for time in np.asarray(instants, dtype=np.float64):
            if time - start >= length * (1 - ROUNDING):
                start, block = time, block + 1
            numbers.append(block)
    return np.array(numbers, dtype=np.int64)


def block_sums(values: np.ndarray, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the finite values of each block, and how many there are.

    Args:
        values: (..., snapshots); NaN where there is none.
        blocks: (snapshots,) from :func:`independent_blocks`.

    Returns:
        sums and counts, both (..., blocks) float64.
    """
    member = blocks[:, None] == np.arange(blocks.max() + 1)[None]
    finite = np.isfinite(values)
    return np.where(finite, values, 0.0) @ member, finite.astype(np.float64) @ member


@dataclass(frozen=True)
class Split:
    """How a run is divided in time, with gaps in which nothing is used.

    Raises:
        ValueError: shares that leave nothing for one of the three, a negative gap, or a turnover time that is not
            positive.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    train: float = 0.6
    """Share of the usable time (total less the two gaps) for training."""
    validation: float = 0.2
    """Share for validation; the rest is for the test."""
    decorrelation_turnovers: float = 2.0
    """Least distance in time between two splits, in eddy turnover times."""
    turnover_time: float | None = None
    """Eddy turnover time, in the data's unit; default: measured from the spectrum, which needs a periodic box."""

    def __post_init__(self):
        if not (self.train > 0 and self.validation > 0 and self.train + self.validation < 1):
            rule = "train > 0, validation > 0 and train + validation < 1, or nothing is left for one of the three"
            raise ValueError(f"{rule}; got {self.train} and {self.validation}")
        if not self.decorrelation_turnovers >= 0:
            raise ValueError(f"decorrelation_turnovers is not negative, got {self.decorrelation_turnovers}")
        if self.turnover_time is not None and not self.turnover_time > 0:
            raise ValueError(f"turnover_time is positive, got {self.turnover_time}")


def split_times(times, turnover_time: float, rule: Split, file=None) -> dict[str, range]:
    """Indices of the snapshots of each split.

    Of all divisions into three stretches that are at least ``decorrelation_turnovers * turnover_time`` apart, the one
    whose counts come nearest to the shares.

    Args:
        times: (n,) increasing times, not necessarily equidistant.
        turnover_time: in the unit of ``times``.
        rule: shares and gap.
        file: what to name in an error.

    Returns:
        Split name to a range of indices, in the order of time, none empty.

    Raises:
        FlowsrError: the run is too short; the line says how long it would have to be.
    """
    times = np.asarray(times, dtype=float)
    gap = rule.decorrelation_turnovers * turnover_time
    count = len(times)
    # after[i]: the first snapshot that may follow when the first i snapshots are taken
    after = np.array([0, *np.searchsorted(times, times + gap * (1 - ROUNDING))])
    after[1:] = np.maximum(after[1:], np.arange(1, count + 1))
    shares = np.array([rule.train, rule.validation, 1 - rule.train - rule.validation])
    best, best_distance = None, np.inf
    for first in range(1, count - 1):
        start = after[first]
        stops = np.arange(start + 1, count)
        stops = stops[after[stops] < count]
        if len(stops) == 0:
            break
        counts = np.stack([np.full(len(stops), first), stops - start, count - after[stops]])
        distance = ((counts / counts.sum(axis=0) - shares[:, None]) ** 2).sum(axis=0)
        nearest = int(np.argmin(distance))
        if distance[nearest] < best_distance - 1e-12:
            best, best_distance = (first, int(start), int(stops[nearest])), distance[nearest]
    if best is not None:
        first, start, stop = best
        return dict(zip(SPLITS, (range(first), range(start, stop), range(int(after[stop]), count))))
    duration = times[-1] - times[0] if len(times) else 0.0
    interval = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    step = max(np.ceil(gap / interval - 1e-9) * interval, interval) if interval else gap
    gaps = f"two gaps of {rule.decorrelation_turnovers:g} eddy turnover times of {turnover_time:.4g}"
    expected = f"a run of {2 * step:.4g} at the least, and {2 * step / 0.6:.4g} for a split worth having"
    where = {"variable": "time", "expected": expected, "found": f"{len(times)} snapshots over {duration:.4g}"}
    hint = "simulate for longer, add snapshots, or set a smaller split.decorrelation_turnovers"
    raise FlowsrError(f"the run is too short for {gaps}", file=file, **where, hint=hint)


def turnover_time(velocity: xr.DataArray, grid: Grid, file=None, variable: str = "turnover_time") -> float:
    """The eddy turnover time of a run, measured from all of its snapshots.

    Args:
        velocity: (time, component, x, y, z), irreps ``1o``; read one snapshot at a time.
        grid: its grid.
        file: what to name in an error.
        variable: the setting that states the time where it cannot be measured, to name in an error.

    Returns:
        Integral length over rms velocity, in the unit of the data's time.

    Raises:
        FlowsrError: a box that is not periodic, a variable that is no velocity, or a fluid at rest.
    """
    if not grid.periodic or velocity.attrs.get("irreps") not in VELOCITY:
        raise unmeasurable(file, variable)
    from flowsr.metrics.scales import spectral_moments  # torch, which opening and splitting do without

    return run_scales([spectral_moments(snapshot.values, grid) for snapshot in velocity], None, file).turnover_time


def run_scales(moments: Sequence[SpectralMoments], viscosity: float | None, file=None) -> FlowScales:
    """:func:`flowsr.metrics.scales.flow_scales` of a run from a file.

    Raises:
        FlowsrError: a fluid at rest.
    """
    from flowsr.metrics.scales import flow_scales

    try:
        return flow_scales(moments, viscosity)
    except ValueError as error:
        raise FlowsrError(str(error), file=file, variable="velocity") from None


def unmeasurable(file, variable: str) -> FlowsrError:
    """The error where no turnover time can be measured; ``variable`` is the setting that could have given it."""
    expected = "a number, where the box is not periodic, values are missing or there is no velocity"
    message = "the eddy turnover time cannot be measured here"
    return FlowsrError(message, file=file, variable=variable, expected=expected, found="nothing")
