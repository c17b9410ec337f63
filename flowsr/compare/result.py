"""All rows of a study on one board: aligned on the same snapshots, cut into the same independent blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from flowsr.compare.bootstrap import Sample
from flowsr.data.independence import block_sums, independent_blocks

#: (run, time): what makes a snapshot the same in two rows.
Snapshot = tuple[str, float]


@dataclass(frozen=True)
class Key:
    """Which row: who, trained on what, on how much of it.

    Args:
        model: name in the study.
        data: data set it was trained on; for a model that is not trained, the one it is tested on.
        size: training snapshots; None for all of them, and for a model that is not trained.
    """

    model: str
    data: str
    size: int | None = None


@dataclass(frozen=True)
class Result:
    """One row on one data set.

    Args:
        key: which row.
        seed: of its training; None for a model that is not trained.
        tested_on: data set.
        snapshots: run and time of each.
        values: metric -> (snapshots,), NaN where it was not measured.
        curves: curve -> {"x", "y"}, means over the snapshots.
    """

    key: Key
    seed: int | None
    tested_on: str
    snapshots: tuple[Snapshot, ...]
    values: Mapping[str, np.ndarray]
    curves: Mapping[str, Mapping] = field(default_factory=dict)


def spread_values(values: Sequence[float | None], snapshots: int) -> np.ndarray:
    """(snapshots,) float64 of values measured on all snapshots, or on some spread evenly over them; elsewhere NaN."""
    found = np.full(snapshots, np.nan)
    count = len(values)
    for number, value in enumerate(values):
        found[number * snapshots // count] = np.nan if value is None else value
    return found


class Board:
    """Results by row and data set.

    Args:
        results: of every row and every data set that it was tested on.
        truths: data set -> metric -> (snapshots,) the true field's own values, and where they were taken.
        block_lengths: data set -> run -> least length of a block in time.

    Attributes:
        snapshots: data set -> the snapshots that every row of it has, run by run in order of time.
        blocks: data set -> (snapshots,) number of the block of each.
    """

    def __init__(
        self, results: Sequence[Result], truths: Mapping[str, Result], block_lengths: Mapping[str, Mapping[str, float]]
    ):
        self.truths = truths
        self._results: dict[tuple[Key, str], list[Result]] = {}
        for result in results:
            self._results.setdefault((result.key, result.tested_on), []).append(result)
        self.snapshots, self.blocks = {}, {}
        for data, truth in truths.items():
            shared = set(truth.snapshots).intersection(*(r.snapshots for r in results if r.tested_on == data))
            runs = list(dict.fromkeys(run for run, _ in truth.snapshots if run in {of for of, _ in shared}))
            self.snapshots[data] = sorted(shared, key=lambda one: (runs.index(one[0]), one[1]))
            times = [np.array([time for of, time in self.snapshots[data] if of == run]) for run in runs]
            self.blocks[data] = independent_blocks(times, [block_lengths[data][run] for run in runs])

    def block_count(self, data: str) -> int:
        """Independent blocks of a data set's held-out snapshots."""
        return int(self.blocks[data].max()) + 1 if len(self.blocks[data]) else 0

    def keys(self, tested_on: str) -> list[Key]:
        """The rows that were tested on a data set."""
        return [key for key, data in self._results if data == tested_on]

    def results(self, key: Key, tested_on: str) -> list[Result]:
        """A row's results, one a seed."""
        return self._results[key, tested_on]

    def metrics(self, key: Key, tested_on: str) -> list[str]:
        return list(self._results[key, tested_on][0].values)

    def values(self, key: Key, tested_on: str, metric: str) -> np.ndarray:
        """(seeds, snapshots) of the shared snapshots."""
        return np.stack([self._aligned(r, metric) for r in self._results[key, tested_on]])

    def sample(self, key: Key, tested_on: str, metric: str, aim: bool = False) -> Sample:
        """A row's values as the bootstrap takes them.

        Args:
            aim: take the distance from the true field's own value instead, for metrics that are best near the truth.
        """
        values = self.values(key, tested_on, metric)
        if aim:
            values = np.abs(values - self._aligned(self.truths[tested_on], metric))
        sums, counts = block_sums(values, self.blocks[tested_on])
        trained = self._results[key, tested_on][0].seed is not None
        return Sample(f"{key.model} {key.data} {key.size}", sums, counts, trained)

    def _aligned(self, result: Result, metric: str) -> np.ndarray:
        place = {snapshot: number for number, snapshot in enumerate(result.snapshots)}
        values = result.values[metric]
        return np.array([values[place[snapshot]] for snapshot in self.snapshots[result.tested_on]])
