"""Fewer training snapshots: the first of each run, with the same validation and test."""

from __future__ import annotations

import os
from pathlib import Path

from flowsr.data import create_store, open_field
from flowsr.data.pairs import SPLITS, pair_store, pair_stores, read_statistics, write_statistics
from flowsr.errors import FlowsrError
from flowsr.progress import SILENT, Progress

GROUPS = ("coarse", "fine")


def shares(size: int, available: dict[str, int]) -> dict[str, int]:
    """How many training snapshots each run gives: as equally as the runs allow, earlier runs first; maybe none.

    Args:
        size: snapshots wanted.
        available: run -> training snapshots that it has.

    Raises:
        FlowsrError: more than there are, or none.
    """
    total = sum(available.values())
    if not 1 <= size <= total:
        raise FlowsrError(
            "not a number of training snapshots of this data",
            variable="learning_curve.sizes",
            expected=f"1 to {total}",
            found=size,
        )
    given = dict.fromkeys(available, 0)
    while size:
        for run in available:
            if size and given[run] < available[run]:
                given[run] += 1
                size -= 1
    return given


def write_subset(pairs: Path, output: Path, size: int, progress: Progress = SILENT) -> None:
    """Pairs with ``size`` of the training snapshots: the first in time of each run, so that smaller sets lie in larger.

    The statistics stay those of the whole: the scale is one number, and the same for every size. Validation and test
    are links to the whole's.

    Args:
        pairs: folder of the whole ingest.
        output: folder for the subset, in the same layout.
        size: training snapshots.
        progress: told the fraction done.
    """
    statistics = read_statistics(pairs)
    counts = {name: run.snapshots["train"] for name, run in statistics.runs.items()}
    parts = shares(size, {name: count for name, count in counts.items() if count})
    for split in SPLITS[1:]:
        (output / split).mkdir(parents=True, exist_ok=True)
        for store in pair_stores(pairs, split):
            link = output / split / store.name
            if not link.is_symlink():
                link.symlink_to(os.path.relpath(store, link.parent), target_is_directory=True)
    for number, (run, count) in enumerate(parts.items()):
        if count:
            _copy_first(pair_store(pairs, "train", run), pair_store(output, "train", run), count)
        entry = statistics.runs[run]
        entry.snapshots["train"], entry.times["train"] = count, entry.times["train"][:count]
        progress((number + 1) / len(parts), run)
    statistics.snapshots["train"] = size
    write_statistics(output, statistics)


def _copy_first(source: Path, target: Path, count: int) -> None:
    datasets = {group: open_field(source, group=group).isel(time=slice(0, count)) for group in GROUPS}
    with create_store(target, datasets) as store:
        for group, dataset in datasets.items():
            for variable in dataset.data_vars:
                for time in range(count):
                    if not store.is_written(variable, time, group=group):
                        store.write(variable, dataset[variable].isel(time=time).values, time=time, group=group)
        store.publish()
