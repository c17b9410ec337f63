"""Train, validation and test as three stretches of time, with gaps in which nothing is used.

Snapshots that follow one another closely are the same flow. A network tested on a neighbour of what it was trained on
is tested on what it has seen; so the splits lie at least ``gap_turnovers`` eddy turnover times apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flowsr.errors import FlowsrError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class SplitRule:
    """How a run is divided.

    Args:
        train: share of the used snapshots for training.
        validation: share for validation; the rest is for the test.
        gap_turnovers: least distance in time between two splits, in eddy turnover times.
        turnover_time: the eddy turnover time, in the data's unit; ``None``: measured from each run (periodic boxes).

    Raises:
        FlowsrError: shares that leave nothing for one of the three, or a negative gap.
    """

    train: float = 0.6
    validation: float = 0.2
    gap_turnovers: float = 2.0
    turnover_time: float | None = None

    def __post_init__(self):
        if not (self.train > 0 and self.validation > 0 and self.train + self.validation < 1):
            raise FlowsrError(
                "the shares leave nothing for one of train, validation and test",
                variable="split",
                expected="train > 0, validation > 0, train + validation < 1",
                found=f"{self.train} and {self.validation}",
            )
        if not self.gap_turnovers >= 0:
            raise FlowsrError("a gap is not negative", variable="split.gap_turnovers", found=self.gap_turnovers)


def split_times(times, turnover_time: float, rule: SplitRule, file=None) -> dict[str, range]:
    """Indices of the snapshots of each split.

    Of all divisions into three stretches that are at least ``gap_turnovers * turnover_time`` apart, the one whose
    counts come nearest to the shares.

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
    gap = rule.gap_turnovers * turnover_time
    count = len(times)
    # after[i]: the first snapshot that may follow when the first i snapshots are taken
    after = np.array([0, *np.searchsorted(times, times + gap * (1 - 1e-9))])
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
    if best is None:
        raise _too_short(times, gap, turnover_time, rule, file)
    first, start, stop = best
    return dict(zip(SPLITS, (range(first), range(start, stop), range(int(after[stop]), count))))


def _too_short(times, gap, turnover_time, rule, file) -> FlowsrError:
    duration = times[-1] - times[0] if len(times) else 0.0
    interval = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    step = max(np.ceil(gap / interval - 1e-9) * interval, interval) if interval else gap
    return FlowsrError(
        f"the run is too short for two gaps of {rule.gap_turnovers:g} eddy turnover times of {turnover_time:.4g}",
        file=file,
        variable="time",
        expected=f"a run of {2 * step:.4g} at the least, and {2 * step / 0.6:.4g} for a split worth having",
        found=f"{len(times)} snapshots over {duration:.4g}",
        hint="simulate for longer, add snapshots, or set a smaller split.gap_turnovers",
    )
