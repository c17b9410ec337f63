"""A study's findings as tables and sentences: on the screen, in Markdown, as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from flowsr.compare.findings import AHEAD, BEHIND, BEST_INTERPOLATION, LEVEL
from flowsr.compare.ranking import number

#: Fewer independent blocks than this are too few to show any but large differences.
FEW_BLOCKS = 6
_STYLES = {AHEAD: "bold green", BEHIND: "red", LEVEL: "dim"}


def score_of(
    results: Mapping, model: str, tested_on: str, metric: str, size: int | None = None, data: str | None = None
) -> dict | None:
    """A score by what it is of; at home, and on all training snapshots, unless said otherwise."""
    for found in results["scores"]:
        if (found["model"], found["tested_on"], found["metric"], found["size"]) == (model, tested_on, metric, size):
            if found["data"] == (data or tested_on):
                return found
    return None


def difference_of(
    results: Mapping, model: str, reference: str, tested_on: str, metric: str, data: str | None = None
) -> dict | None:
    """A difference to a reference, of a model trained on all of its own data."""
    for found in results["differences"]:
        if (found["model"], found["reference"], found["tested_on"], found["metric"]) == (
            model,
            reference,
            tested_on,
            metric,
        ):
            if found["size"] is None and found["data"] == (data or tested_on):
                return found
    return None


def ranked_models(results: Mapping, tested_on: str | None = None, data: str | None = None) -> list[str]:
    """Models on a data set (default: the first), the best by the study's own metric first."""
    tested_on = tested_on or results["home"]
    metric = results["rank_by"]
    better = results["metrics"][metric]["better"]
    aim = results["truth"][tested_on]["means"].get(metric)
    found = {}
    for name, model in results["models"].items():
        own = (data or tested_on) if model["trained"] else tested_on
        score = score_of(results, name, tested_on, metric, data=own)
        if score is not None and score["estimate"] is not None:
            value = score["estimate"]
            found[name] = -value if better == "higher" else abs(value - aim) if better == "truth" else value
    return sorted(found, key=found.get)


def study_screen(results: Mapping) -> Table:
    """The ranking by the study's own metric on its first data set, with the differences to the references."""
    home, metric = results["home"], results["rank_by"]
    data = results["data"][home]
    title = f"{results['study']}: {_shape(data['coarse_shape'])} to {_shape(data['fine_shape'])} on {data['label']}"
    caption = (
        f"{results['metrics'][metric]['label']}: mean (deviation over seeds). Against: difference in % of the "
        f"reference's, [{100 * results['confidence']:g} % interval over {data['blocks']} independent blocks and seeds]. "
        "Green: ahead; red: behind; dim: no difference shown."
    )
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.title_justify = table.caption_justify = "left"
    table.add_column("", min_width=12)
    for head in ("Para-\nmeters", "Mult.-\nadds", results["metrics"][metric]["label"]):
        table.add_column(head, justify="right", no_wrap=True, vertical="bottom")
    references = shown_references(results)
    for reference in references:
        heading = f"against\n{reference_label(results, reference)}"
        table.add_column(heading, justify="right", vertical="bottom", no_wrap=True)
    for name in ranked_models(results):
        model, score = results["models"][name], score_of(results, name, home, metric)
        cells = [_screen_difference(difference_of(results, name, one, home, metric)) for one in references]
        costs = short(model["parameters"]), short(model["multiply_adds"])
        table.add_row(Text(model["label"]), *costs, with_deviation(score, 2), *cells)
    return table


def study_markdown(results: Mapping) -> str:
    """Every data set's table, the learning curves and what was found, in Markdown."""
    parts = [f"# {results['study']}", "", *(f"{sentence}\n" for sentence in study_verdict(results))]
    for tested_on, data in results["data"].items():
        for trained_on in _sources_of(results, tested_on):
            parts += _markdown_of(results, tested_on, trained_on, data)
    parts += _learning_markdown(results)
    return "\n".join(parts).rstrip() + "\n"


def study_csv(results: Mapping) -> str:
    """Every mean: one line per model, data, size, data tested on and metric."""
    columns = [
        "model",
        "label",
        "trained_on",
        "train_snapshots",
        "tested_on",
        "metric",
        "mean",
        "low",
        "high",
        "deviation",
        "seeds",
        "blocks",
        "parameters",
        "multiply_adds",
    ]
    lines = []
    for found in results["scores"]:
        model = results["models"][found["model"]]
        trained_on = found["data"] if model["trained"] else None
        size = (found["size"] or results["data"][found["data"]]["train_snapshots"]) if model["trained"] else None
        lines.append(
            [
                found["model"],
                model["label"],
                trained_on,
                size,
                found["tested_on"],
                found["metric"],
                found["estimate"],
                found["low"],
                found["high"],
                found["deviation"],
                found["n_seeds"],
                found["blocks"],
                model["parameters"],
                model["multiply_adds"],
            ]
        )
    return _csv(columns, lines)


def differences_csv(results: Mapping) -> str:
    """Every difference to a reference, with its interval and what it allows to say."""
    columns = [
        "model",
        "data",
        "size",
        "tested_on",
        "metric",
        "reference",
        "against",
        "estimate",
        "low",
        "high",
        "share",
        "blocks",
        "n_seeds",
        "verdict",
    ]
    return _csv(columns, [[found[column] for column in columns] for found in results["differences"]])


def study_verdict(results: Mapping) -> list[str]:
    """Sentences: how much evidence there is, who is best, and which differences are real."""
    home, metric = results["home"], results["rank_by"]
    names, label = ranked_models(results), results["metrics"][metric]["label"]
    sentences = [_evidence(results)]
    if names:
        best = score_of(results, names[0], home, metric)
        sentences.append(f"The best by {label} is {_label(results, names[0])}, {with_deviation(best)}.")
    for reference in shown_references(results):
        sentences += _against(results, names, reference)
    return sentences + _data_hunger(results)


def shown_references(results: Mapping) -> list[str]:
    """References that any model on the first data set was compared with."""
    found = [one["reference"] for one in results["differences"] if one["tested_on"] == results["home"]]
    return list(dict.fromkeys(found))


def with_deviation(score: Mapping | None, digits: int = 3) -> str:
    """``0.312 (0.004)``: the mean and the deviation over seeds, to so many digits, where there are several."""
    if score is None or score["estimate"] is None:
        return "-"
    deviation = score["deviation"]
    return number(score["estimate"]) + ("" if deviation is None else f" ({float(f'{deviation:.{digits - 1}e}'):g})")


def interval_text(found: Mapping, scale: float = 1.0, digits: int = 1) -> str:
    """``-12.3 [-15.0, -9.6]``, times ``scale``; without an interval where none is known."""
    if found["estimate"] is None:
        return "-"
    text = f"{scale * found['estimate']:+.{digits}f}"
    if found["low"] is None or found["high"] is None:
        return text
    ends = sorted((scale * found["low"], scale * found["high"]))
    return f"{text} [{ends[0]:+.{digits}f}, {ends[1]:+.{digits}f}]"


def percent_of(found: Mapping) -> float | None:
    """Factor that turns a difference into per cent of the reference; None where the reference is nought."""
    if not found["estimate"] or not found["share"]:
        return None
    return 100 * found["share"] / found["estimate"]


def slope_text(slope: Mapping) -> str:
    """``-0.21 [-0.25, -0.17]``."""
    return interval_text(slope, 1.0, 2)


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


def _evidence(results: Mapping) -> str:
    data = results["data"][results["home"]]
    networks = sum(model["trained"] for model in results["models"].values())
    seeds = len(results["seeds"])
    text = (
        f"{many(networks, 'network')} with {many(seeds, 'seed')} each and "
        f"{many(len(results['models']) - networks, 'model')} without training, on "
        f"{many(data['snapshots'], 'held-out snapshot')} of {many(len(data['runs']), 'run')}: "
        f"{many(data['blocks'], 'independent block')}."
    )
    if data["blocks"] < 2:
        return text + " One block says nothing of how results vary: no difference can be called real."
    if data["blocks"] < FEW_BLOCKS:
        text += " That is few: only large differences can show."
    if seeds == 1 and networks:
        text += " One seed says nothing of how training varies: no network's difference can be called real."
    return text


def _data_hunger(results: Mapping) -> list[str]:
    """What the learning curves show on the first data set: for which networks more data helped, and for which most."""
    home, metric = results["home"], results["rank_by"]
    curves = [one for one in results["learning"] if one["metric"] == metric and one["slope"] and one["data"] == home]
    if not curves:
        return []
    falling = [one for one in curves if one["slope"]["high"] is not None and one["slope"]["high"] < 0]
    label = results["metrics"][metric]["label"]
    if not falling:
        return [f"No network's {label} is shown to fall with more training data."]
    falling.sort(key=lambda one: one["slope"]["estimate"])
    slopes = ", ".join(f"n^{slope_text(one['slope'])} for {_label(results, one['model'])}" for one in falling)
    return [f"With more training data {label} falls like {slopes}."]


def many(number: int, noun: str) -> str:
    """``1 run``, ``3 runs``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _against(results: Mapping, names: Sequence[str], reference: str) -> Iterator[str]:
    home, metric = results["home"], results["rank_by"]
    found = {name: difference_of(results, name, reference, home, metric) for name in names}
    found = {name: one for name, one in found.items() if one is not None}
    if reference == BEST_INTERPOLATION:
        found = {name: one for name, one in found.items() if results["models"][name]["trained"]}
    against = next((one["against"] for one in found.values()), None)
    if against is None:
        return
    groups: dict[str, list[str]] = {}
    for name, one in found.items():
        groups.setdefault(one["verdict"], []).append(_label(results, name))
    words = {AHEAD: "ahead", BEHIND: "behind", LEVEL: "no difference shown for"}
    parts = [f"{words.get(verdict, verdict + ':')} {', '.join(labels)}" for verdict, labels in groups.items()]
    yield f"Against {_label(results, against)}: {'; '.join(parts)}."


def _markdown_of(results: Mapping, tested_on: str, trained_on: str, data: Mapping) -> Iterator[str]:
    metrics = results["metrics"]
    shown = [
        key for key in metrics if any(s["metric"] == key and s["tested_on"] == tested_on for s in results["scores"])
    ]
    references = shown_references(results)
    origin = "" if trained_on == tested_on else f", networks trained on {results['data'][trained_on]['label']}"
    yield f"## {data['label']}: {_shape(data['coarse_shape'])} to {_shape(data['fine_shape'])}{origin}"
    yield ""
    yield (
        f"{data['snapshots']} held-out snapshots, {data['blocks']} independent blocks. Mean (deviation over seeds); "
        f"against a reference: difference in {metrics[results['rank_by']]['label']}, % of the reference's, with its "
        f"{100 * results['confidence']:g} % interval."
    )
    yield ""
    heads = [
        "Model",
        "Parameters",
        "Multiply-adds",
        *(f"Against {reference_label(results, one)}" for one in references),
    ]
    heads += [_head(metrics[key]) for key in shown]
    yield "| " + " | ".join(heads) + " |"
    yield "|---|" + "---:|" * (len(heads) - 1)
    for name in ranked_models(results, tested_on, trained_on):
        model = results["models"][name]
        own = trained_on if model["trained"] else tested_on
        cells = [model["label"], count(model["parameters"]), count(model["multiply_adds"])]
        for reference in references:
            cells.append(_difference_cell(difference_of(results, name, reference, tested_on, results["rank_by"], own)))
        cells += [with_deviation(score_of(results, name, tested_on, key, data=own)) for key in shown]
        yield "| " + " | ".join(cells) + " |"
    yield ""


def _sources_of(results: Mapping, tested_on: str) -> list[str]:
    """Data sets that networks tested on ``tested_on`` were trained on, itself first."""
    found = [
        s["data"] for s in results["scores"] if s["tested_on"] == tested_on and results["models"][s["model"]]["trained"]
    ]
    return sorted(dict.fromkeys(found), key=lambda name: name != tested_on) or [tested_on]


def _learning_markdown(results: Mapping) -> Iterator[str]:
    curves = [one for one in results["learning"] if one["metric"] == results["rank_by"]]
    if not curves:
        return
    label = results["metrics"][results["rank_by"]]["label"]
    yield "## Learning curves"
    yield ""
    yield f"{label} by number of training snapshots n, and the slope of its logarithm over log n."
    yield ""
    for data in dict.fromkeys(one["data"] for one in curves):
        here = [one for one in curves if one["data"] == data]
        sizes = sorted({size for one in here for size in one["sizes"]})
        yield f"| {results['data'][data]['label']} | " + " | ".join(f"n = {size}" for size in sizes) + " | slope |"
        yield "|---|" + "---:|" * (len(sizes) + 1)
        for one in here:
            by_size = dict(zip(one["sizes"], one["scores"]))
            cells = [with_deviation(by_size.get(size)) for size in sizes]
            yield f"| {_label(results, one['model'])} | " + " | ".join(cells) + f" | {slope_text(one['slope'])} |"
        yield ""


def _screen_difference(found: Mapping | None) -> Text:
    if found is None or found["estimate"] is None:
        return Text("-", style="dim")
    scale, style = percent_of(found), _STYLES.get(found["verdict"], "dim italic")
    if scale is None:
        return Text("0", style=style)
    widest = max(abs(scale * (found[end] or 0.0)) for end in ("estimate", "low", "high"))
    return Text(interval_text(found, scale, 0 if widest >= 9.95 else 1), style=style)


def _difference_cell(found: Mapping | None) -> str:
    if found is None or found["estimate"] is None:
        return "-"
    scale = percent_of(found)
    text = "0" if scale is None else f"{interval_text(found, scale)}"
    return f"{text} {found['verdict']}"


def reference_label(results: Mapping, reference: str) -> str:
    """What people read for a reference: a model's label, or the best interpolation."""
    return "best interpolation" if reference == BEST_INTERPOLATION else _label(results, reference)


def _label(results: Mapping, name: str) -> str:
    return results["models"][name]["label"]


def _head(metric: Mapping) -> str:
    label = metric["label"] if metric["unit"] == "1" else f"{metric['label']} [{metric['unit']}]"
    return label.replace("|", r"\|")


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _csv(columns: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        [["" if isinstance(cell, float) and math.isnan(cell) else cell for cell in line] for line in lines]
    )
    return text.getvalue()
