"""A comparison as tables: on the screen, in Markdown, as CSV, as JSON, and as the card of one model's weights.

A single experiment's tables have every metric, the truth first; a study's the ranking with its intervals.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
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
    Score,
    best_in_column,
    compared,
    interval_text,
    learning_curve,
    number,
    ranked,
    reference_label,
    score,
    shown_references,
    slope_text,
    sources_of,
    verdict,
    with_deviation,
)
from flowsr.compare.result import TRUTH, ComparisonResult, DataSet, MeasuredRow, Row, rounded
from flowsr.files import plain, write_json_atomic, write_text_atomic
from flowsr.progress import SILENT, Progress

COSTS = {"parameters": "Parameters", "seconds": "Seconds"}
CARD_JSON, CARD_MARKDOWN = "card.json", "card.md"
_STYLES = {AHEAD: "bold green", BEHIND: "red", LEVEL: "dim"}


def write_tables(result: ComparisonResult, folder: Path, progress: Progress = SILENT) -> None:
    """Write the result, its tables and ``metrics.json`` or, of a study, ``study.json`` and ``differences.csv``."""
    result.save(folder)
    if result.single:
        write_json_atomic(folder / "metrics.json", metrics_json(result))
    else:
        write_json_atomic(folder / "study.json", study_json(result, progress))
        write_text_atomic(folder / "differences.csv", differences_csv(result))
    write_text_atomic(folder / "table.csv", csv_table(result))
    write_text_atomic(folder / "table.md", markdown_table(result))


def screen_table(result: ComparisonResult) -> Table:
    """As a rich table that fits 80 columns: main metrics of an experiment, ranking and differences of a study."""
    return _metrics_screen(result) if result.single else _ranking_screen(result)


def markdown_table(result: ComparisonResult) -> str:
    """Every metric as Markdown.

    Of an experiment mean and standard deviation over snapshots, the best of each column bold; of a study one table per
    data set with differences and their intervals, learning curves, and what was found.
    """
    return _metrics_markdown(result) if result.single else _study_markdown(result)


def csv_table(result: ComparisonResult) -> str:
    """Every mean in full precision.

    Of an experiment one line per model, with a column and a ``_std`` per metric; of a study one line per model, data,
    size, data tested on and metric, with its interval.
    """
    return _metrics_csv(result) if result.single else _scores_csv(result)


def differences_csv(result: ComparisonResult) -> str:
    """Every difference to a reference, with its interval and what it allows to say."""
    columns = ["model", "data", "size", "tested_on", "metric", "reference", "against"]
    columns += ["estimate", "low", "high", "share", "blocks", "n_seeds", "verdict"]
    return _csv(pd.DataFrame([_difference_entry(result, one) for one in differences(result)], columns=columns))


def scores(result: ComparisonResult) -> Iterator[Score]:
    """Every row's mean on every data set."""
    for tested_on in result.data:
        for row in result.rows(tested_on):
            for metric in result.metrics_of(row, tested_on):
                yield score(result, row, tested_on, metric)


def differences(result: ComparisonResult) -> Iterator[Difference]:
    """Every row's differences to the references on every data set."""
    for tested_on in result.data:
        for row in result.rows(tested_on):
            for metric in result.metrics_of(row, tested_on):
                for reference in result.rules.references:
                    if (found := compared(result, row, reference, tested_on, metric)) is not None:
                        yield found


# -- a single experiment -----------------------------------------------------------------------------------------------


def _experiment_rows(result: ComparisonResult) -> dict[str, Row]:
    """The truth, and every model by rank."""
    return {TRUTH: Row(TRUTH), **{name: result.row(name, result.home) for name in ranked(result)}}


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
        return {"scalars": scalars, "curves": _curves_of(result, row, result.home)}

    models = {
        name: {
            "label": model.label,
            "trained": model.trained,
            "parameters": model.parameters,
            "seconds": model.seconds,
            **entry(result.row(name, result.home)),
        }
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


def _metrics_screen(result: ComparisonResult) -> Table:
    data = result.data[result.home]
    shorts = {key: metric.short for key, metric in result.metrics.items() if metric.short}
    cutoff = (
        "" if data.cutoff_wavenumber is None else f"k_c = {data.cutoff_wavenumber:.3g}, the end of the coarse grid. "
    )
    table = _table(_title(result), f"{cutoff}Green: best, or nearest to the truth.", padding=0)
    table.add_column("", min_width=10)
    for head in (*shorts.values(), "Para-\nmeters", "s"):
        table.add_column(Text(head), justify="right", vertical="bottom", no_wrap=True)
    for label, cells in _metrics_cells(result, list(shorts)):
        marked = (Text(text, style="bold green" if best else "") for text, best in cells)
        table.add_row(Text(label), *marked, style="dim" if label == "Truth" else None)
    return table


def _metrics_markdown(result: ComparisonResult) -> str:
    keys = list(result.metrics)
    lines = [["Model", *(result.metrics[key].head.replace("|", r"\|") for key in keys), *COSTS.values()]]
    lines.append(["---"] + ["---:"] * (len(lines[0]) - 1))
    for label, cells in _metrics_cells(result, keys, spread=True):
        lines.append([label, *(f"**{text}**" if best else text for text, best in cells)])
    return f"{_title(result)}\n\n" + "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _metrics_csv(result: ComparisonResult) -> str:
    lines = []
    for name, row in _experiment_rows(result).items():
        model = result.models.get(name)
        line = {"model": name, "label": "Truth" if model is None else model.label}
        line["trained"] = None if model is None else model.trained
        for key in result.metrics:
            found = summary(result, row, key) or {}
            line |= {key: found.get("mean"), f"{key}_std": found.get("std")}
        lines.append(line | {cost: getattr(model, cost, None) for cost in COSTS})
    return _csv(pd.DataFrame(lines, dtype=object))


def _metrics_cells(
    result: ComparisonResult, keys: Sequence[str], spread: bool = False
) -> Iterator[tuple[str, list[tuple[str, bool]]]]:
    """Label and cells of each row: text, and whether it is the best of its column."""
    best = {key: best_in_column(result, key) for key in keys}
    for name, row in _experiment_rows(result).items():
        cells = [(_spread_text(summary(result, row, key), spread), name in best[key]) for key in keys]
        if name == TRUTH:
            yield "Truth", [*cells, *[("-", False)] * len(COSTS)]
        else:
            model = result.models[name]
            costs = [(f"{model.parameters:,}", False), (number(model.seconds), False)]
            yield model.label, [*cells, *costs]


def _spread_text(found: Mapping | None, spread: bool) -> str:
    if found is None:
        return "-"
    several = spread and found["mean"] is not None and len(found["values"]) > 1
    return number(found["mean"]) + (f" ({number(found['std'])})" if several else "")


def _title(result: ComparisonResult) -> str:
    data = result.data[result.home]
    runs = len(data.runs)
    return (
        f"{result.name or 'Comparison'}: {_shape(data.coarse_shape)} to {_shape(data.fine_shape)} ({data.operator}), "
        f"{data.snapshots} held-out snapshots of {runs} run{'s' if runs > 1 else ''}"
    )


# -- a study -----------------------------------------------------------------------------------------------------------


def study_json(result: ComparisonResult, progress: Progress = SILENT) -> dict[str, Any]:
    """What ``study.json`` holds: every mean, difference and learning curve with its interval, and what they are of."""
    total = sum(len(result.metrics_of(row, of)) for of in result.data for row in result.rows(of))
    tick, means = progress.steps(total), []
    for found in scores(result):
        means.append(_score_entry(result, found))
        for reference in result.rules.references:
            compared(result, found.row, reference, found.tested_on, found.metric)
        tick("statistics")
    rules, whole = result.rules, {name: one.training_snapshots for name, one in result.data.items()}
    curves = [
        curve
        for data in result.data
        for model in result.models
        for key, metric in result.metrics.items()
        if metric.better == "lower" and (curve := learning_curve(result, model, data, key)) is not None
    ]
    at_home = {of: [row for row in result.rows(of) if row.data in (None, of)] for of in result.data}
    return plain(
        {
            "study": result.name,
            "seeds": result.seeds,
            **vars(rules),
            "home": result.home,
            "metrics": result.metrics,
            "curves": result.curve_kinds,
            "data": {name: {**vars(one), "train_snapshots": whole[name]} for name, one in result.data.items()},
            "models": {name: _model_entry(result, name) for name in result.models},
            "scores": means,
            "differences": [_difference_entry(result, one) for one in differences(result)],
            "learning": [
                {
                    "model": one.model,
                    "data": one.data,
                    "metric": one.metric,
                    "sizes": one.sizes,
                    "scores": [_score_entry(result, each) for each in one.scores],
                    "slope": _interval_entry(one.slope),
                }
                for one in curves
            ],
            "spectra": {
                of: {row.model: _curves_of(result, row, of) for row in rows if row.size in (None, whole[of])}
                for of, rows in at_home.items()
            },
            "truth": {
                of: {
                    "curves": _curves_of(result, Row(TRUTH), of),
                    "means": {key: rounded(result.truth(of, key)) for key in result.metrics_of(Row(TRUTH), of)},
                }
                for of in result.data
            },
            "rows": sum(model.rows for model in result.models.values()),
            "fit_seconds": rounded(sum(fit.seconds for model in result.models.values() for fit in model.fits)),
            "versions": result.versions,
        }
    )


def _ranking_screen(result: ComparisonResult) -> Table:
    home, metric = result.home, result.rules.rank_by
    data, label = result.data[home], result.metrics[metric].label
    title = f"{result.name}: {_shape(data.coarse_shape)} to {_shape(data.fine_shape)} on {data.label}"
    caption = (
        f"{label}: mean (deviation over seeds). Against: difference in % of the reference's, "
        f"[{100 * result.rules.confidence:g} % interval over {data.blocks} independent blocks and seeds]. "
        "Green: ahead; red: behind; dim: no difference shown."
    )
    table = _table(title, caption, padding=(0, 1, 0, 0))
    table.add_column("", min_width=12)
    for head in ("Para-\nmeters", "Mult.-\nadds", label):
        table.add_column(head, justify="right", no_wrap=True, vertical="bottom")
    references = shown_references(result)
    for reference in references:
        heading = f"against\n{reference_label(result, reference)}"
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    for name in ranked(result):
        model, row = result.models[name], result.row(name, home)
        cells = [_screen_difference(compared(result, row, one, home, metric)) for one in references]
        mean = with_deviation(score(result, row, home, metric), 2)
        table.add_row(Text(model.label), short(model.parameters), short(model.multiply_adds), mean, *cells)
    return table


def _study_markdown(result: ComparisonResult) -> str:
    parts = [f"# {result.name}", "", *(f"{sentence}\n" for sentence in verdict(result))]
    for tested_on, data in result.data.items():
        for trained_on in sources_of(result, tested_on):
            parts += _data_markdown(result, tested_on, trained_on, data)
    return "\n".join([*parts, *_learning_markdown(result)]).rstrip() + "\n"


def _scores_csv(result: ComparisonResult) -> str:
    lines = []
    for found in scores(result):
        model, interval = result.models[found.row.model], found.interval
        lines.append(
            {
                "model": found.row.model,
                "label": model.label,
                "trained_on": found.row.data,
                "train_snapshots": found.row.size,
                "tested_on": found.tested_on,
                "metric": found.metric,
                "mean": rounded(interval.estimate),
                "low": rounded(interval.low),
                "high": rounded(interval.high),
                "deviation": rounded(found.deviation),
                "seeds": interval.seeds,
                "blocks": interval.blocks,
                "parameters": model.parameters,
                "multiply_adds": model.multiply_adds,
            }
        )
    return _csv(pd.DataFrame(lines, dtype=object))


def _data_markdown(result: ComparisonResult, tested_on: str, trained_on: str, data: DataSet) -> Iterator[str]:
    rows = {name: result.row(name, tested_on, trained_on) for name in ranked(result, tested_on, trained_on)}
    shown = [key for key in result.metrics if any(key in result.metrics_of(row, tested_on) for row in rows.values())]
    references, rank_by = shown_references(result), result.rules.rank_by
    origin = "" if trained_on == tested_on else f", networks trained on {result.data[trained_on].label}"
    yield f"## {data.label}: {_shape(data.coarse_shape)} to {_shape(data.fine_shape)}{origin}\n"
    yield (
        f"{data.snapshots} held-out snapshots, {data.blocks} independent blocks. Mean (deviation over seeds); "
        f"against a reference: difference in {result.metrics[rank_by].label}, % of the reference's, with its "
        f"{100 * result.rules.confidence:g} % interval.\n"
    )
    heads = ["Model", "Parameters", "Multiply-adds"]
    heads += [f"Against {reference_label(result, one)}" for one in references]
    heads += [result.metrics[key].head.replace("|", r"\|") for key in shown]
    yield "| " + " | ".join(heads) + " |"
    yield "|---|" + "---:|" * (len(heads) - 1)
    for name, row in rows.items():
        model = result.models[name]
        cells = [model.label, count(model.parameters), count(model.multiply_adds)]
        cells += [_difference_text(compared(result, row, one, tested_on, rank_by)) for one in references]
        cells += [with_deviation(score(result, row, tested_on, key)) for key in shown]
        yield "| " + " | ".join(cells) + " |"
    yield ""


def _learning_markdown(result: ComparisonResult) -> Iterator[str]:
    rank_by = result.rules.rank_by
    found = [learning_curve(result, model, data, rank_by) for data in result.data for model in result.models]
    found = [curve for curve in found if curve is not None]
    if not found:
        return
    yield "## Learning curves\n"
    label = result.metrics[rank_by].label
    yield f"{label} by number of training snapshots n, and the slope of its logarithm over log n.\n"
    for data in dict.fromkeys(curve.data for curve in found):
        here = [curve for curve in found if curve.data == data]
        sizes = sorted({size for curve in here for size in curve.sizes})
        yield f"| {result.data[data].label} | " + " | ".join(f"n = {size}" for size in sizes) + " | slope |"
        yield "|---|" + "---:|" * (len(sizes) + 1)
        for curve in here:
            by_size = dict(zip(curve.sizes, curve.scores, strict=True))
            cells = " | ".join(with_deviation(by_size.get(size)) for size in sizes)
            yield f"| {result.models[curve.model].label} | {cells} | {slope_text(curve.slope)} |"
        yield ""


def _screen_difference(found: Difference | None) -> Text:
    if found is None or not np.isfinite(found.interval.estimate):
        return Text("-", style="dim")
    scale, style = found.percent, _STYLES.get(found.verdict, "dim italic")
    if scale is None:
        return Text("0", style=style)
    interval = found.interval
    widest = max(abs(scale * (end or 0.0)) for end in (interval.estimate, interval.low, interval.high))
    return Text(interval_text(interval, scale, 0 if widest >= 9.95 else 1), style=style)


def _difference_text(found: Difference | None) -> str:
    if found is None or not np.isfinite(found.interval.estimate):
        return "-"
    text = "0" if found.percent is None else interval_text(found.interval, found.percent)
    return f"{text} {found.verdict}"


def _model_entry(result: ComparisonResult, name: str) -> dict[str, Any]:
    model = result.models[name]
    whole = [fit for fit in model.fits if fit.size == result.data[fit.data].training_snapshots]
    kept = {key: value for key, value in vars(model).items() if key not in ("registered", "fits")}
    return {
        **kept,
        "model": model.registered,
        "fit_seconds": rounded(model.fit_seconds),
        "history": {f"{fit.data} {fit.seed}": fit.history for fit in whole},
    }


def _row_entry(result: ComparisonResult, row: Row, tested_on: str) -> dict[str, Any]:
    whole = not row.trained or row.size == result.data[row.data].training_snapshots
    return {"model": row.model, "data": row.data or tested_on, "size": None if whole else row.size}


def _score_entry(result: ComparisonResult, found: Score) -> dict[str, Any]:
    return {
        **_row_entry(result, found.row, found.tested_on),
        "tested_on": found.tested_on,
        "metric": found.metric,
        **_interval_entry(found.interval),
        "deviation": rounded(found.deviation),
        "by_seed": [rounded(value) for value in found.by_seed],
    }


def _difference_entry(result: ComparisonResult, found: Difference) -> dict[str, Any]:
    return {
        **_row_entry(result, found.row, found.tested_on),
        "tested_on": found.tested_on,
        "metric": found.metric,
        "reference": found.reference,
        "against": found.against.model,
        **_interval_entry(found.interval),
        "share": rounded(found.share),
        "verdict": found.verdict,
    }


def _interval_entry(interval: Interval) -> dict[str, Any]:
    ends = {name: rounded(getattr(interval, name)) for name in ("estimate", "low", "high")}
    return {**ends, "blocks": interval.blocks, "n_seeds": interval.seeds}


def _curves_of(result: ComparisonResult, row: Row, tested_on: str) -> dict[str, dict[str, list]]:
    found = {name: result.curve(row, tested_on, name) for name in result.curve_kinds}
    return {
        name: {"x": [rounded(x) for x in curve[0]], "y": [rounded(y) for y in curve[1]]}
        for name, curve in found.items()
        if curve is not None
    }


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


def _table(title: str, caption: str, padding: Any) -> Table:
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, show_edge=False, padding=padding)
    table.title_justify = table.caption_justify = "left"
    return table


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


# -- the card of one model's weights -----------------------------------------------------------------------------------


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write ``card.json`` and ``card.md`` beside a model's weights.

    Args:
        folder: of ``model.safetensors``.
        card: ``name``, ``model``, ``options``; ``weights`` (file, sha256, licence); ``data``, ``training``, ``budget``,
            ``metrics`` (data set -> metric -> mean), ``study`` and ``versions``.
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
