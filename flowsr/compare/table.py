"""The comparison as a table: on the screen, in Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from flowsr.compare.ranking import COSTS, best_in_column, number, ranked


class Cell(NamedTuple):
    """Text of a cell and whether it is the best of its column."""

    text: str
    best: bool = False


def screen_table(comparison: Mapping) -> Table:
    """The main metrics as a rich table that fits 80 columns: the true field first, then the models by NRMSE."""
    shorts = {key: metric["short"] for key, metric in comparison["metrics"].items() if metric["short"]}
    cutoff = comparison["cutoff_wavenumber"]
    caption = f"k_c = {cutoff:.3g}, the end of the coarse grid. Green: best, or nearest to the truth."
    table = Table(title=_title(comparison), caption=caption, box=SIMPLE_HEAD, show_edge=False, padding=0)
    table.title_justify = table.caption_justify = "left"
    table.add_column("", min_width=10)
    for head in (*shorts.values(), "Para-\nmeters", "s"):
        table.add_column(Text(head), justify="right", vertical="bottom", no_wrap=True)
    for label, cells in _rows(comparison, list(shorts)):
        style = "dim" if label == comparison["truth"]["label"] else None
        marked = (Text(cell.text, style="bold green" if cell.best else "") for cell in cells)
        table.add_row(Text(label), *marked, style=style)
    return table


def markdown_table(comparison: Mapping) -> str:
    """Every metric as Markdown: mean and standard deviation over the snapshots, the best of each column bold."""
    keys = list(comparison["metrics"])
    heads = ["Model", *(head.replace("|", r"\|") for head in _heads(comparison, keys))]
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    for label, cells in _rows(comparison, keys, spread=True):
        lines.append([label, *(f"**{cell.text}**" if cell.best else cell.text for cell in cells)])
    body = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    return f"{_title(comparison)}\n\n{body}"


def csv_table(comparison: Mapping) -> str:
    """Every metric as CSV, full precision: one row per model and per metric column a mean and a ``_std``."""
    keys = list(comparison["metrics"])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    scores = [column for key in keys for column in (key, f"{key}_std")]
    writer.writerow(["model", "label", "trained", *scores, *COSTS])
    rows = {"truth": comparison["truth"], **{name: comparison["models"][name] for name in ranked(comparison)}}
    for name, row in rows.items():
        values = [row["scalars"].get(key, {}).get(part) for key in keys for part in ("mean", "std")]
        writer.writerow([name, row["label"], row.get("trained"), *values, *(row.get(cost) for cost in COSTS)])
    return text.getvalue()


def _title(comparison: Mapping) -> str:
    coarse, fine = ("x".join(map(str, comparison[f"{which}_shape"])) for which in ("coarse", "fine"))
    runs = len(comparison["runs"])
    return (
        f"{comparison['experiment'] or 'Comparison'}: {coarse} to {fine} ({comparison['operator']}), "
        f"{comparison['snapshots']} held-out snapshots of {runs} run{'s' if runs > 1 else ''}"
    )


def _heads(comparison: Mapping, keys: list[str]) -> list[str]:
    metrics = [comparison["metrics"][key] for key in keys]
    return [m["label"] if m["unit"] == "1" else f"{m['label']} [{m['unit']}]" for m in metrics] + list(COSTS.values())


def _rows(comparison: Mapping, keys: list[str], spread: bool = False) -> list[tuple[str, list[Cell]]]:
    best = {key: best_in_column(comparison, key) for key in keys}
    truth = comparison["truth"]
    rows = [(truth["label"], [_score(truth, key, spread) for key in keys] + [Cell("-")] * len(COSTS))]
    for name in ranked(comparison):
        model = comparison["models"][name]
        cells = [_score(model, key, spread, name in best[key]) for key in keys]
        rows.append((model["label"], [*cells, Cell(f"{model['parameters']:,}"), Cell(number(model["seconds"]))]))
    return rows


def _score(row: Mapping, key: str, spread: bool, best: bool = False) -> Cell:
    score = row["scalars"].get(key) or {}
    text = number(score.get("mean"))
    several = spread and score.get("mean") is not None and len(score["values"]) > 1
    return Cell(f"{text} ({number(score['std'])})" if several else text, best)
