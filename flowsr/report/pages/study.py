"""A study as one page: the ranking with its intervals, every table, learning curves, other flows, spectra."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowsr.compare.findings import AHEAD, BEHIND, LEVEL
from flowsr.compare.study_table import (
    count,
    difference_of,
    interval_text,
    many,
    percent_of,
    ranked_models,
    reference_label,
    score_of,
    shown_references,
    slope_text,
    study_verdict,
)
from flowsr.report.figures.ranking import elsewhere_figure, learning_curves_figure, ranking_figure
from flowsr.report.html import HowMade, Picture, number, rendered, size_text, write_page
from flowsr.report.pages import pictures
from flowsr.report.style import ModelLook, model_looks

log = logging.getLogger(__name__)
_KINDS = {AHEAD: "ahead", BEHIND: "behind", LEVEL: "level"}
#: More models than this make a spectrum unreadable; the best are drawn.
_MOST_SPECTRA = 8


@dataclass(frozen=True)
class Cell:
    """Text of a cell, what stands small beneath it, and how it is marked."""

    text: str
    under: str = ""
    kind: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Line:
    """One model in a table."""

    label: str
    colour: str
    kind: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """One table: models tested on one data set, networks trained on one."""

    title: str
    note: str
    heads: tuple[str, ...]
    rows: tuple[Line, ...]


def write_study_report(
    path: str | Path, results: Mapping, config: Mapping[str, Any], versions: Mapping[str, str]
) -> Path:
    """Write the page, whole or not at all; equal arguments give equal bytes.

    Args:
        path: HTML file to write.
        results: what ``flowsr compare`` leaves in ``study.json``.
        config: the resolved study, JSON-able.
        versions: package -> version.

    Returns:
        ``path``.
    """
    page = render_study(results, config, versions)
    return write_page(path, page)


def render_study(results: Mapping, config: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    """The page as text; arguments as in :func:`write_study_report`."""
    looks = model_looks(results["models"])
    return rendered(
        "study.html",
        results=results,
        budget=_budget(results),
        verdict=study_verdict(results),
        facts=_facts(results),
        ranking=_ranking(results, looks),
        blocks=_blocks(results, looks),
        learning=_learning(results, looks),
        elsewhere=_elsewhere(results, looks),
        spectra=[(f"Scale by scale: {results['data'][data]['label']}", p) for data, p in _spectra(results, looks)],
        meanings=[(metric["label"], _meaning(metric)) for metric in results["metrics"].values()],
        how=_how_made(results, config, versions),
    )


def _budget(results: Mapping) -> str:
    budget = results["budget"]
    if budget is None:
        return ""
    named = budget["by"].replace("_", "-")
    amount = budget["amount"] or results["models"][budget["like"]][budget["by"]]
    return f", the same budget of about {count(amount)} {named}"


def _facts(results: Mapping) -> list[tuple[str, str]]:
    facts = [("Seeds", ", ".join(map(str, results["seeds"]))), ("Networks fitted", str(_fitted(results)))]
    for data in results["data"].values():
        role = "test only" if data["role"] == "test_only" else f"{data['train_snapshots']} training snapshots"
        reynolds = (data["flow"] or {}).get("reynolds_lambda")
        flow = "" if reynolds is None else f", Re_λ {reynolds:.0f}"
        shape = f"{size_text(data['coarse_shape'])} to {size_text(data['fine_shape'])}"
        facts.append((data["label"], f"{shape}{flow}; {role}; {data['blocks']} independent test blocks"))
    if results["fit_seconds"]:
        facts.append(("Training in all", f"{results['fit_seconds'] / 60:.0f} processor minutes"))
    return facts


def _fitted(results: Mapping) -> int:
    return sum(model["rows"] for model in results["models"].values() if model["trained"])


def _ranking(results: Mapping, looks: Mapping[str, ModelLook]) -> Picture | None:
    names = ranked_models(results)
    if not names:
        return None
    references = [(name, reference_label(results, name)) for name in shown_references(results)]
    label = results["metrics"][results["rank_by"]]["label"]
    home = results["data"][results["home"]]
    caption = (
        f"{home['label']}. (a) {label}: a dot for each seed, a tick at the mean, a bar for its {_percent(results)} "
        "interval. Then each model's difference to a reference on the same snapshots, with its interval: green is ahead, "
        "red is "
        "behind, grey is no difference shown."
    )
    alt = f"{label} of every model with intervals: " + "; ".join(
        f"{looks[name].label} {number(score_of(results, name, results['home'], results['rank_by'])['estimate'])}"
        for name in names
    )
    return pictures.drawn(ranking_figure(results, names, references, looks), "ranking", alt, caption)


def _learning(results: Mapping, looks: Mapping[str, ModelLook]) -> Picture | None:
    curves = [one for one in results["learning"] if one["metric"] == results["rank_by"] and one["slope"]]
    curves = [one for one in curves if one["data"] == curves[0]["data"]]
    if not curves:
        return None
    label = results["metrics"][results["rank_by"]]["label"]
    caption = (
        f"{results['data'][curves[0]['data']]['label']}. (a) {label} on the held-out snapshots against the number of "
        "training snapshots, always with the same number of training steps; points are set a little apart so that "
        "their intervals can be told from one another. (b) Slope of the straight line through the points in (a): at "
        "−0.1, ten times the data take a fifth off the error."
    )
    alt = "Learning curves; slopes: " + "; ".join(
        f"{looks[one['model']].label} {slope_text(one['slope'])}" for one in curves
    )
    return pictures.drawn(learning_curves_figure(results, curves, looks), "curves", alt, caption)


def _elsewhere(results: Mapping, looks: Mapping[str, ModelLook]) -> Picture | None:
    if len(results["data"]) < 2:
        return None
    names = ranked_models(results)
    label, home = results["metrics"][results["rank_by"]]["label"], results["data"][results["home"]]["label"]
    others = ", ".join(data["label"] for name, data in results["data"].items() if name != results["home"])
    caption = f"{label} of networks trained on {home}, (a) there and (b, …) on {others}; as in the first figure."
    return pictures.drawn(elsewhere_figure(results, names, looks), "elsewhere", caption, caption)


def _spectra(results: Mapping, looks: Mapping[str, ModelLook]) -> list[tuple[str, Picture]]:
    found = []
    for data, curves in results["spectra"].items():
        own = data if any(results["models"][name]["trained"] for name in curves) else None
        names = [name for name in ranked_models(results, data, own) if name in curves]
        best = [name for name in names if not results["models"][name]["trained"]][:1]
        best += [name for name in names if results["models"][name]["trained"]][: _MOST_SPECTRA - 1]
        if own is None:
            continue
        drawn = {name: {**results["models"][name], "curves": curves[name]} for name in names if name in best}
        comparison = {
            "models": drawn,
            "truth": results["truth"][data],
            "curves": results["curves"],
            "cutoff_wavenumber": results["data"][data]["cutoff_wavenumber"],
        }
        picture = pictures.spectra(comparison, {name: looks[name] for name in drawn}, name=f"spectra-{len(found)}")
        if picture is not None:
            found.append((data, picture))
    return found


def _blocks(results: Mapping, looks: Mapping[str, ModelLook]) -> list[Block]:
    blocks = []
    for tested_on in results["data"]:
        sources = [
            s["data"]
            for s in results["scores"]
            if s["tested_on"] == tested_on and results["models"][s["model"]]["trained"]
        ]
        for source in sorted(dict.fromkeys(sources), key=lambda name: name != tested_on) or [tested_on]:
            blocks.append(_block(results, tested_on, source, looks))
    return blocks


def _block(results: Mapping, tested_on: str, source: str, looks: Mapping[str, ModelLook]) -> Block:
    data, metrics = results["data"][tested_on], results["metrics"]
    keys = [
        key for key in metrics if any(s["metric"] == key and s["tested_on"] == tested_on for s in results["scores"])
    ]
    references = shown_references(results)
    lines = []
    for name in ranked_models(results, tested_on, source):
        model = results["models"][name]
        own = source if model["trained"] else tested_on
        cells = [Cell(count(model["parameters"])), Cell(count(model["multiply_adds"]))]
        for reference in references:
            cells.append(_difference(difference_of(results, name, reference, tested_on, results["rank_by"], own)))
        cells += [_score(score_of(results, name, tested_on, key, data=own)) for key in keys]
        lines.append(
            Line(
                looks[name].label, looks[name].colour, "network" if model["trained"] else "interpolation", tuple(cells)
            )
        )
    heads = ["Parameters", "Multiply-adds", *(f"Against {reference_label(results, one)}" for one in references)]
    heads += [
        metrics[key]["label"] + ("" if metrics[key]["unit"] == "1" else f" [{metrics[key]['unit']}]") for key in keys
    ]
    title = (
        data["label"]
        if source == tested_on
        else f"{data['label']}, networks trained on {results['data'][source]['label']}"
    )
    note = (
        f"Means over {many(data['snapshots'], 'held-out snapshot')} of {many(len(data['runs']), 'run')}, which make "
        f"{many(data['blocks'], 'independent block')}, and over seeds; beneath, the deviation from seed to seed. Against "
        f"a reference: the difference in {metrics[results['rank_by']]['label']}, in % of the reference's, and its "
        f"{_percent(results)} interval."
    )
    return Block(title, note, tuple(heads), tuple(lines))


def _difference(found: Mapping | None) -> Cell:
    if found is None or found["estimate"] is None:
        return Cell("–")
    scale = percent_of(found)
    if scale is None:
        return Cell("0")
    text, _, interval = interval_text(found, scale).partition(" ")
    kind = _KINDS.get(found["verdict"], "level")
    return Cell(f"{text} % {found['verdict']}".replace("-", "−"), interval.replace("-", "−"), kind, kind != "level")


def _score(found: Mapping | None) -> Cell:
    if found is None or found["estimate"] is None:
        return Cell("–")
    deviation = "" if found["deviation"] is None else f"± {number(found['deviation'], 2)}"
    return Cell(number(found["estimate"]), deviation)


def _percent(results: Mapping) -> str:
    return f"{100 * results['confidence']:g} %"


def _meaning(metric: Mapping) -> str:
    aims = {"lower": "Lower is better", "higher": "Higher is better", "truth": "Best nearest the truth"}
    return ". ".join(filter(None, [aims.get(metric["better"]), str(metric["source"] or "")]))


def _how_made(results: Mapping, config: Mapping[str, Any], versions: Mapping[str, str]) -> HowMade:
    sources: Sequence[tuple[str, str]] = [
        (f"{name} {run}", checksum)
        for name, data in results["data"].items()
        for run, checksum in data["sources"].items()
    ]
    return HowMade(
        command=f"flowsr compare {config['output']}/config.yaml",
        config=config,
        versions=versions,
        seeds={"networks and patches": ", ".join(map(str, results["seeds"]))},
        checksums=dict(sources),
        notes={"rows": str(results["rows"])},
    )
