"""A comparison as tables: on the screen, in Markdown, as CSV, as JSON, and as the card of one model's weights.

All are one sheet: a line per model, best first; what it costs, how it stands against the references, what was measured.
An experiment's has the truth too, no intervals where there is one seed, and the best network of each column marked.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from flowsr.compare.bootstrap import Interval
from flowsr.compare.findings import (
    AHEAD,
    BEHIND,
    LEVEL,
    Difference,
    LearningCurve,
    best_in_column,
    compared,
    interval_text,
    learning_curve,
    many,
    number,
    ranked,
    reference_label,
    score,
    shown_references,
    slope_text,
    sources_of,
    symmetry_errors,
    symmetry_tables,
    verdict,
    with_deviation,
)
from flowsr.compare.result import TRUTH, ComparisonResult, MeasuredRow, Row, rounded
from flowsr.files import plain, write_json_atomic, write_text_atomic
from flowsr.models.checkpoint import group_words
from flowsr.progress import SILENT, Progress

CARD_JSON, CARD_MARKDOWN, SYMMETRY = "card.json", "card.md", "symmetry.csv"
BEST = "bold green"
#: Head of a cost's column, where there is room and on a narrow screen.
_COSTS = {
    "parameters": ("Parameters", "Para-\nmeters"),
    "multiply_adds": ("Multiply-adds", "Mult.-\nadds"),
    "seconds": ("Seconds", "s"),
}
_STYLES = {AHEAD: BEST, BEHIND: "red", LEVEL: "dim"}


def write_tables(result: ComparisonResult, folder: Path, progress: Progress = SILENT) -> None:
    """Write the result, its tables and ``metrics.json`` or, of a study, ``study.json`` and ``differences.csv``.

    Where the group of a flow is known, ``symmetry.csv`` too.
    """
    result.save(folder)
    if result.single:
        write_json_atomic(folder / "metrics.json", metrics_json(result))
    else:
        write_json_atomic(folder / "study.json", study_json(result, progress))
        write_text_atomic(folder / "differences.csv", differences_csv(result))
    if any(data.group for data in result.data.values()):
        write_text_atomic(folder / SYMMETRY, symmetry_csv(result))
    write_text_atomic(folder / "table.csv", csv_table(result))
    write_text_atomic(folder / "table.md", markdown_table(result))


def screen_table(result: ComparisonResult) -> Table:
    """As a rich table that fits 80 columns: main metrics of an experiment, ranking and differences of a study."""
    return _sheet(result, result.home, result.home, brief=True).screen()


def markdown_table(result: ComparisonResult) -> str:
    """Every metric as Markdown.

    Of an experiment mean and deviation over snapshots, the best network of each column bold; of a study one table per
    data set with differences and their intervals, learning curves, and what was found.
    """
    if result.single:
        return "\n".join([_sheet(result, result.home, result.home).markdown(), *_symmetry_markdown(result)])
    parts = [f"# {result.name}\n", *(f"{sentence}\n" for sentence in verdict(result))]
    parts += [f"{one.label}, {of}: {words}.\n" for one in result.data.values() for of, words in one.discovered.items()]
    parts += [_sheet(result, on, by).markdown("## ") for on in result.data for by in sources_of(result, on)]
    return "\n".join([*parts, *_symmetry_markdown(result), *_learning_markdown(result)])


def csv_table(result: ComparisonResult) -> str:
    """Every mean in full precision.

    Of an experiment one line per model, with a column and a ``_std`` per metric; of a study one line per model, data,
    size, data tested on and metric, with its interval.
    """
    lines = experiment_lines(result) if result.single else _study_lines(result)
    return _csv(pd.DataFrame(lines, dtype=object))


def differences_csv(result: ComparisonResult) -> str:
    """Every difference to a reference, with its interval and what it allows to say."""
    columns = ["model", "data", "size", "tested_on", "metric", "reference", "against"]
    columns += ["estimate", "low", "high", "share", "blocks", "n_seeds", "verdict"]
    return _csv(pd.DataFrame(differences(result), columns=columns))


def symmetry_csv(result: ComparisonResult) -> str:
    """Every row's equivariance errors under what the flow keeps and under all else, and over how many elements each."""
    columns = ["model", "label", "trained_on", "train_snapshots", "tested_on", "group"]
    columns += ["kept", "kept_elements", "broken", "broken_elements"]
    lines = []
    for on, data in result.data.items():
        for row in result.rows(on):
            if (found := symmetry_errors(result, row, on)) is not None:
                of = [row.model, result.models[row.model].label, row.data, row.size, on, data.group]
                kept, broken = rounded(found.kept), rounded(found.broken)
                lines.append([*of, kept, found.elements[0], broken, found.elements[1]])
    return _csv(pd.DataFrame(lines, columns=columns, dtype=object))


def _symmetry_markdown(result: ComparisonResult) -> Iterator[str]:
    for title, note, lines in symmetry_tables(result):
        cells = [[(text, "") for text in (result.models[name].label, *texts)] for name, *texts in lines]
        yield _Sheet(title, note, ["Model", "Kept", "Broken"], cells).markdown("## ")


def scores(result: ComparisonResult) -> Iterator[dict[str, Any]]:
    """Every row's mean on every data set, for JSON."""
    for row, tested_on, metric in _measured(result):
        found = score(result, row, tested_on, metric)
        of = {**_origin(result, row, tested_on), "tested_on": tested_on, "metric": metric, **_ends(found.interval)}
        yield {**of, "deviation": rounded(found.deviation), "by_seed": [rounded(value) for value in found.by_seed]}


def differences(result: ComparisonResult) -> Iterator[dict[str, Any]]:
    """Every row's differences to the references on every data set, for JSON."""
    for row, tested_on, metric in _measured(result):
        for reference in result.rules.references:
            if (found := compared(result, row, reference, tested_on, metric)) is not None:
                of = {**_origin(result, row, tested_on), "tested_on": tested_on, "metric": metric}
                against = {"reference": reference, "against": found.against.model, **_ends(found.interval)}
                yield {**of, **against, "share": rounded(found.share), "verdict": found.verdict}


def summary(result: ComparisonResult, row: Row, metric: str) -> dict[str, Any] | None:
    """Mean, standard deviation of the sample (0 for one snapshot) and values on the first data set, for JSON."""
    if metric not in result.metrics_of(row, result.home):
        return None
    lines = result.values[(result.values.model == row.model) & (result.values.metric == metric)]
    finite = [value for value in lines.value if np.isfinite(value)]
    spread = statistics.stdev(finite) if len(finite) > 1 else 0.0 if finite else None
    mean = statistics.fmean(finite) if finite else None
    return {"mean": rounded(mean), "std": rounded(spread), "values": [rounded(value) for value in lines.value]}


def metrics_json(result: ComparisonResult) -> dict[str, Any]:
    """What ``metrics.json`` holds: setting, flow, what metrics and curves mean, and those of models and truth."""
    data = result.data[result.home]
    setting = ("variable", "factor", "operator", "coarse_shape", "fine_shape", "snapshots", "runs", "cutoff_wavenumber")

    def entry(row: Row) -> dict[str, Any]:
        scalars = {metric: summary(result, row, metric) for metric in result.metrics_of(row, result.home)}
        found = {name: result.curve(row, result.home, name) for name in result.curve_kinds}
        found = {name: curve for name, curve in found.items() if curve is not None}
        curves = {name: {"x": [*map(rounded, x)], "y": [*map(rounded, y)]} for name, (x, y) in found.items()}
        return {"scalars": scalars, "curves": curves}

    facts = ("label", "trained", "parameters", "seconds")
    models = {
        name: {**{fact: getattr(model, fact) for fact in facts}, **entry(result.row(name, result.home))}
        for name, model in result.models.items()
    }
    return plain(
        {
            "experiment": result.name,
            **{name: getattr(data, name) for name in setting},
            "flow": data.flow,
            "metrics": result.metrics,
            "curves": result.curve_kinds,
            "models": models,
            "truth": {"label": "Truth", **entry(Row(TRUTH))},
        }
    )


def study_json(result: ComparisonResult, progress: Progress = SILENT) -> dict[str, Any]:
    """What ``study.json`` holds: the records, and every mean, difference and learning curve with its interval."""
    curves = [
        curve
        for data in result.data
        for model in result.models
        for key, metric in result.metrics.items()
        if metric.better == "lower" and (curve := learning_curve(result, model, data, key)) is not None
    ]
    means, tick = [], progress.steps(sum(1 for _ in _measured(result)))
    for found in scores(result):
        means.append(found)
        tick("statistics")
    learning = [
        {
            "model": one.model,
            "data": one.data,
            "metric": one.metric,
            "sizes": list(one.sizes),
            "scores": [rounded(each.interval.estimate) for each in one.scores],
            "slope": _ends(one.slope),
        }
        for one in curves
    ]
    return {**result.records, "scores": means, "differences": [*differences(result)], "learning": learning}


# -- one sheet for screen and Markdown ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sheet:
    """A table: heads of its columns, and lines of cells, each a text and its style."""

    title: str
    note: str
    heads: Sequence[str]
    lines: Sequence[Sequence[tuple[str, str]]]
    padding: Any = 0

    def screen(self) -> Table:
        table = Table(title=self.title, caption=self.note, box=SIMPLE_HEAD, show_edge=False, padding=self.padding)
        table.title_justify = table.caption_justify = "left"
        table.add_column(self.heads[0], min_width=10)
        for head in self.heads[1:]:
            table.add_column(Text(head), justify="right", vertical="bottom", no_wrap=True)
        for line in self.lines:
            table.add_row(*(Text(text, style=style) for text, style in line))
        return table

    def markdown(self, level: str = "") -> str:
        lines = [[head.replace("|", r"\|") for head in self.heads], ["---"] + ["---:"] * (len(self.heads) - 1)]
        lines += [[f"**{text}**" if style == BEST else text for text, style in line] for line in self.lines]
        note = f"{self.note}\n\n" if self.note else ""
        return f"{level}{self.title}\n\n{note}" + "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _sheet(result: ComparisonResult, tested_on: str, trained_on: str, brief: bool = False) -> _Sheet:
    """Models on one data set, networks trained on one.

    Args:
        brief: what fits on the screen: of an experiment the metrics with a short head, of a study the one ranked by.
    """
    single, rank_by = result.single, result.rules.rank_by
    rows = {name: result.row(name, tested_on, trained_on) for name in ranked(result, tested_on, trained_on)}
    if single:
        keys = [key for key, metric in result.metrics.items() if metric.short or not brief]
        rows = {TRUTH: Row(TRUTH), **rows}
    else:
        keys = [key for key in result.metrics if any(key in result.metrics_of(row, tested_on) for row in rows.values())]
        keys = [rank_by] if brief else keys
    references = [] if single else shown_references(result)
    best = {key: best_in_column(result, key) if single else () for key in keys}
    costs = [_COSTS[cost][brief] for cost in ("parameters", "seconds" if single else "multiply_adds")]

    def line(name: str, row: Row) -> list[tuple[str, str]]:
        model = result.models.get(name)
        if single:
            measured = [_over_snapshots(result, row, key, spread=not brief) for key in keys]
            spent = ["-", "-"] if model is None else [f"{model.parameters:,}", number(model.seconds)]
        else:
            measured = [with_deviation(score(result, row, tested_on, key), 2 if brief else 3) for key in keys]
            spent = [(short if brief else count)(cost) for cost in (model.parameters, model.multiply_adds)]
        cells = [(text, BEST if name in best[key] else "") for text, key in zip(measured, keys, strict=True)]
        found = [compared(result, row, one, tested_on, rank_by) for one in references]
        against = [(_difference(one, brief), _STYLES.get(one and one.verdict, "dim") if brief else "") for one in found]
        spent = [(text, "") for text in spent]
        label = ("Truth" if model is None else model.label, "")
        return [label, *cells, *spent] if single else [label, *spent, *against, *cells]

    heads = [result.metrics[key].short if single and brief else result.metrics[key].head for key in keys]
    against = [("against\n" if brief else "Against ") + reference_label(result, one) for one in references]
    heads = ["" if brief else "Model", *([*heads, *costs] if single else [*costs, *against, *heads])]
    lines = [line(name, row) for name, row in rows.items()]
    if single and brief:
        lines[0] = [(text, style or "dim") for text, style in lines[0]]
    title, note = _words(result, tested_on, trained_on, brief)
    return _Sheet(title, note, heads, lines, 0 if single else (0, 1, 0, 0))


def _words(result: ComparisonResult, tested_on: str, trained_on: str, brief: bool) -> tuple[str, str]:
    """Title of a sheet, and what stands under it."""
    data, rank_by = result.data[tested_on], result.rules.rank_by
    coarse, fine = ("x".join(map(str, shape)) for shape in (data.coarse_shape, data.fine_shape))
    if result.single:
        snapshots = f"{data.snapshots} held-out snapshots of {many(len(data.runs), 'run')}"
        title = f"{result.name or 'Comparison'}: {coarse} to {fine} ({data.operator}), {snapshots}"
        known = data.cutoff_wavenumber is not None
        cutoff = f"k_c = {data.cutoff_wavenumber:.3g}, the end of the coarse grid. " if known else ""
        return title, f"{cutoff}Green: best network, or the nearest to the truth." if brief else ""
    label, percent = result.metrics[rank_by].label, f"{100 * result.rules.confidence:g} %"
    if brief:
        return f"{result.name}: {coarse} to {fine} on {data.label}", (
            f"{label}: mean (deviation over seeds). Against: difference in % of the reference's, "
            f"[{percent} interval over {data.blocks} independent blocks and seeds]. "
            "Green: ahead; red: behind; dim: no difference shown."
        )
    origin = "" if trained_on == tested_on else f", networks trained on {result.data[trained_on].label}"
    return f"{data.label}: {coarse} to {fine}{origin}", (
        f"{data.snapshots} held-out snapshots, {data.blocks} independent blocks. Mean (deviation over seeds); "
        f"against a reference: difference in {label}, % of the reference's, with its {percent} interval."
    )


def _over_snapshots(result: ComparisonResult, row: Row, key: str, spread: bool) -> str:
    """``0.312 (0.004)``: mean and standard deviation over the snapshots."""
    found = summary(result, row, key)
    if found is None:
        return "-"
    several = spread and found["mean"] is not None and len(found["values"]) > 1
    return number(found["mean"]) + (f" ({number(found['std'])})" if several else "")


def _difference(found: Difference | None, brief: bool) -> str:
    """In % of the reference, with the interval and, where the style does not say it, the verdict."""
    if found is None or not np.isfinite(found.interval.estimate):
        return "-"
    scale, interval = found.percent or 0.0, found.interval
    widest = max(abs(scale * (end or 0.0)) for end in (interval.estimate, interval.low, interval.high))
    text = interval_text(interval, scale, 0 if brief and widest >= 9.95 else 1) if scale else "0"
    return text if brief else f"{text} {found.verdict}"


def _learning_markdown(result: ComparisonResult) -> Iterator[str]:
    rank_by = result.rules.rank_by
    found = [learning_curve(result, model, data, rank_by) for data in result.data for model in result.models]
    by_data: dict[str, list[LearningCurve]] = {}
    for curve in found:
        if curve is not None:
            by_data.setdefault(curve.data, []).append(curve)
    if by_data:
        label = result.metrics[rank_by].label
        about = f"{label} by number of training snapshots n, and the slope of its logarithm over log n."
        yield f"## Learning curves\n\n{about}\n"
    for data, curves in by_data.items():
        sizes = sorted({size for curve in curves for size in curve.sizes})
        lines = []
        for one in curves:
            means = dict(zip(one.sizes, map(with_deviation, one.scores), strict=True))
            texts = [result.models[one.model].label, *(means.get(size, "-") for size in sizes), slope_text(one.slope)]
            lines.append([(text, "") for text in texts])
        heads = [result.data[data].label, *(f"n = {size}" for size in sizes), "slope"]
        yield _Sheet("", "", heads, lines).markdown().lstrip()


# -- lines of CSV and JSON ---------------------------------------------------------------------------------------------


def _measured(result: ComparisonResult) -> Iterator[tuple[Row, str, str]]:
    """Every row, data set that it was tested on and metric that was taken there."""
    for tested_on in result.data:
        for row in result.rows(tested_on):
            for metric in result.metrics_of(row, tested_on):
                yield row, tested_on, metric


def experiment_lines(result: ComparisonResult) -> Iterator[dict[str, Any]]:
    """The truth and every model, the best first: means and deviations over the snapshots, and costs."""
    for name in (TRUTH, *ranked(result)):
        model, row = result.models.get(name), Row(TRUTH) if name == TRUTH else result.row(name, result.home)
        line = {"model": name, "label": "Truth" if model is None else model.label}
        line["trained"] = getattr(model, "trained", None)
        for key in result.metrics:
            found = summary(result, row, key) or {}
            line |= {key: found.get("mean"), f"{key}_std": found.get("std")}
        yield line | {cost: getattr(model, cost, None) for cost in ("parameters", "seconds")}


def _study_lines(result: ComparisonResult) -> Iterator[dict[str, Any]]:
    for row, tested_on, metric in _measured(result):
        model, found = result.models[row.model], score(result, row, tested_on, metric)
        of = {"model": row.model, "label": model.label, "trained_on": row.data, "train_snapshots": row.size}
        ends = _ends(found.interval)
        mean = {"mean": ends["estimate"], "low": ends["low"], "high": ends["high"]}
        spread = {"deviation": rounded(found.deviation), "seeds": ends["n_seeds"], "blocks": ends["blocks"]}
        costs = {"parameters": model.parameters, "multiply_adds": model.multiply_adds}
        yield {**of, "tested_on": tested_on, "metric": metric, **mean, **spread, **costs}


def _origin(result: ComparisonResult, row: Row, tested_on: str) -> dict[str, Any]:
    """Model, data and size of a row; no size where it is the whole training set."""
    whole = not row.trained or row.size == result.data[row.data].training_snapshots
    return {"model": row.model, "data": row.data or tested_on, "size": None if whole else row.size}


def _ends(interval: Interval) -> dict[str, Any]:
    ends = {name: rounded(getattr(interval, name)) for name in ("estimate", "low", "high")}
    return {**ends, "blocks": interval.blocks, "n_seeds": interval.seeds}


def short(value: int | None) -> str:
    """``125k``, ``12M``, ``3.1G``: three digits at the most."""
    if not value:
        return "-"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{value / size:.2g}{letter}" if value < 99.5 * size else f"{value / size:.0f}{letter}"
    return str(value)


def count(value: int | None) -> str:
    """``125,000``, ``12.3M``."""
    if not value:
        return "-"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size * 10 or (value >= size and letter != "M"):
            return f"{value / size:.3g}{letter}"
    return f"{value:,}"


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


# -- the card of one model's weights -----------------------------------------------------------------------------------


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write ``card.json`` and ``card.md`` beside a model's weights.

    Args:
        folder: of ``model.safetensors``.
        card: ``name``, ``model``, ``options``; ``weights`` (file, sha256, licence); ``data``, ``training``, ``budget``,
            ``metrics`` (data set -> metric -> mean), ``study`` and ``versions``; where its group was
            discovered, ``discovered`` as in ``model.json``.
    """
    write_json_atomic(folder / CARD_JSON, card)
    write_text_atomic(folder / CARD_MARKDOWN, card_markdown(card))


def card_markdown(card: Mapping[str, Any]) -> str:
    """The card for people."""
    data, training, budget, weights = (card[key] for key in ("data", "training", "budget", "weights"))
    coarse, fine = (" x ".join(map(str, data[which])) for which in ("coarse", "fine"))
    matched = budget["matched"]
    rule = "none" if matched is None else f"equal {matched['by'].replace('_', '-')}"
    lines = [
        f"# {card['name']}",
        "",
        f"`{card['model']}`, {budget['parameters']:,} parameters, {budget['multiply_adds']:,} multiply-adds a snapshot"
        f" (budget: {rule}). From the study {card['study']}.",
        "",
        f"- Weights: `{weights['file']}`, sha256 `{weights['sha256']}`, licence {weights['licence']}.",
        f"- Data: {data['name']}" + (f" ({data['flow']})" if data["flow"] else "") + f", licence: {data['licence']}.",
        f"- Task: {data['variable']}, {coarse} to {fine} cells, x{data['factor']} by {data['operator']}.",
        f"- Training: {data['training_snapshots']} snapshots, {training['epochs']} epochs, "
        f"best {training['best_epoch']}, seed {training['seed']}, {number(training['seconds'])} s.",
        f"- Options: {', '.join(f'{key} {value}' for key, value in card['options'].items())}.",
        *([f"- Training patches: turned by {training['turned_by']}."] if "turned_by" in training else []),
        *([f"- Group: {group_words(card['discovered'])}."] if "discovered" in card else []),
        "",
        "Means over the held-out snapshots:",
        "",
    ]
    names = list(card["metrics"])
    lines += ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for metric in dict.fromkeys(key for means in card["metrics"].values() for key in means):
        cells = [number(card["metrics"][name].get(metric)) for name in names]
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    sources = "\n".join(f"- {run}: sha256 `{checksum}`" for run, checksum in data["sources"].items())
    versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    return "\n".join(lines) + f"\n\nTrained on:\n\n{sources}\n\nMade with {versions}.\n"


def means_of(measured: MeasuredRow) -> dict[str, dict[str, float | None]]:
    """Data set -> metric -> mean over the snapshots of one row, as JSON has them."""
    return {
        data: {metric: rounded(mean) for metric, mean in test.values.groupby("metric", sort=False).value.mean().items()}
        for data, test in measured.tests.items()
    }
