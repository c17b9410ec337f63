"""The comparison as rows of text cells: numbers rounded to what they are worth, the best of each column marked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from flowsr.compare.ranking import best_in_column, mean_of
from flowsr.report.html import count, number
from flowsr.report.style import ModelLook

_AIMS = {
    "lower": ("↓", "lower is better"),
    "higher": ("↑", "higher is better"),
    "truth": ("→ truth", "best nearest the truth"),
}


@dataclass(frozen=True)
class Column:
    """Head of a column and what its tooltip and the legend say."""

    label: str
    unit: str
    aim: str
    sign: str
    source: str


@dataclass(frozen=True)
class Cell:
    """One number as text, its spread over the snapshots, and whether it is the best of its column."""

    text: str
    spread: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """One model, or the truth."""

    label: str
    colour: str
    kind: str
    cells: tuple[Cell, ...]


def comparison_table(comparison: Mapping, looks: Mapping[str, ModelLook]) -> tuple[list[Column], list[Row]]:
    """Columns and rows: every metric, then parameters and seconds per snapshot; models in order, the truth last."""
    models, truth, metrics = comparison["models"], comparison["truth"], comparison["metrics"]
    best = {key: best_in_column(comparison, key) for key in metrics}
    columns = [
        Column(
            label=str(metric.get("label") or key),
            unit="" if metric.get("unit") in (None, "1") else str(metric["unit"]),
            aim=_AIMS.get(metric.get("better"), ("", ""))[1],
            sign=_AIMS.get(metric.get("better"), ("", ""))[0],
            source=str(metric.get("source") or ""),
        )
        for key, metric in metrics.items()
    ]
    columns.append(Column("Parameters", "", "", "", "Numbers fitted to the training data."))
    columns.append(Column("Time", "s", "", "", "Wall time to upscale one snapshot on the machine of this run."))
    rows = [
        Row(
            look.label,
            look.colour,
            "network" if look.trained else "interpolation",
            tuple(_score(models[name], key, name in best[key]) for key in metrics)
            + (Cell(count(models[name].get("parameters"))), Cell(number(models[name].get("seconds"), 2))),
        )
        for name, look in looks.items()
    ]
    if truth["scalars"]:
        cells = tuple(_score(truth, key, False) for key in metrics) + (Cell("–"), Cell("–"))
        rows.append(Row("Truth", "#000000", "truth", cells))
    return columns, rows


def _score(model: Mapping, key: str, best: bool) -> Cell:
    score = model.get("scalars", {}).get(key) or {}
    mean, spread = mean_of(model, key), score.get("std")
    if not math.isfinite(mean):
        return Cell("–")
    several = len(score.get("values") or []) > 1
    return Cell(number(mean), number(spread, 2) if several and spread else "", best)
