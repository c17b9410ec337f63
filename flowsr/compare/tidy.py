"""Every number of a study, one a line: for whoever wants to draw their own conclusions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from flowsr.compare.result import Board
from flowsr.compare.scores import round_or_none
from flowsr.files import write_bytes_atomic, write_text_atomic

COLUMNS = (
    "model",
    "label",
    "trained_on",
    "train_snapshots",
    "seed",
    "tested_on",
    "run",
    "time",
    "block",
    "metric",
    "value",
)
TIDY_CSV, TIDY_PARQUET = "tidy.csv", "tidy.parquet"


def tidy_rows(board: Board, labels: Mapping[str, str], whole: Mapping[str, int]) -> Iterator[tuple]:
    """One tuple of :data:`COLUMNS` per model, data set, size, seed, snapshot and metric; the truth is a model too.

    Args:
        board: all rows.
        labels: model -> what people read.
        whole: data set -> training snapshots where a row was trained on all.
    """
    for tested_on, truth in board.truths.items():
        yield from _of(board, truth, "truth", "Truth", None, None)
        for key in board.keys(tested_on):
            for result in board.results(key, tested_on):
                trained = result.seed is not None
                size = (whole[key.data] if key.size is None else key.size) if trained else None
                yield from _of(board, result, key.model, labels[key.model], key.data if trained else None, size)


def write_tidy(folder: Path, board: Board, labels: Mapping[str, str], whole: Mapping[str, int]) -> None:
    """Write ``tidy.csv`` and ``tidy.parquet`` into ``folder``."""
    import pyarrow
    import pyarrow.parquet

    rows = list(tidy_rows(board, labels, whole))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    write_text_atomic(folder / TIDY_CSV, text.getvalue())
    types = {"train_snapshots": pyarrow.int64(), "seed": pyarrow.int64(), "block": pyarrow.int64()}
    types |= {"time": pyarrow.float64(), "value": pyarrow.float64()}
    columns = dict(zip(COLUMNS, map(list, zip(*rows)))) if rows else {name: [] for name in COLUMNS}
    schema = pyarrow.schema([(name, types.get(name, pyarrow.string())) for name in COLUMNS])
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns, schema=schema), sink)
    write_bytes_atomic(folder / TIDY_PARQUET, sink.getvalue())


def _of(board: Board, result, model: str, label: str, trained_on: str | None, size: int | None) -> Iterator[tuple]:
    place = {snapshot: number for number, snapshot in enumerate(result.snapshots)}
    for snapshot, block in zip(board.snapshots[result.tested_on], board.blocks[result.tested_on]):
        for metric, values in result.values.items():
            value = float(values[place[snapshot]])
            if value == value:  # not measured on this snapshot
                fixed = (model, label, trained_on, size, result.seed, result.tested_on)
                yield (*fixed, *snapshot, int(block), metric, round_or_none(value))
