"""The page of a comparison, of an experiment or a study: one HTML file that needs no network, now or in ten years.

An experiment is a study of one data set and one seed: both are the same tables, figures and sections, of which each
page shows those that it has something for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from flowsr.compare import findings
from flowsr.compare.findings import (
    BEYOND_CUTOFF,
    NRMSE,
    Difference,
    Score,
    compared,
    many,
    ranked,
    reference_label,
    score,
)
from flowsr.compare.result import TRUTH, ComparisonResult, Metric, Row
from flowsr.report import html
from flowsr.report.figures import curves, ranking
from flowsr.report.figures.curves import LONGITUDINAL, SPECTRAL_ERROR, SPECTRUM, TRANSVERSE, has_curve
from flowsr.report.figures.ranking import finite_mean, values_of
from flowsr.report.figures.slices import SliceSet, slices_figure
from flowsr.report.figures.weights import RelaxedWeights, weights_figure, weights_sentence
from flowsr.report.html import HowMade, Picture, count, drawn, number, size_text
from flowsr.report.style import ModelLook, model_looks, with_subscripts, without_mathematics

SLICE_BYTES = 700_000
MOST_NETWORKS_IN_SLICES = 4
#: More models than this make a spectrum unreadable; the best are drawn.
MOST_SPECTRA = 8
_FIGURED_CURVES = {SPECTRUM, SPECTRAL_ERROR, LONGITUDINAL, TRANSVERSE}
_KINDS = {findings.AHEAD: "ahead", findings.BEHIND: "behind"}
_AIMS = {
    "lower": ("↓", "lower is better"),
    "higher": ("↑", "higher is better"),
    "truth": ("→ truth", "best nearest the truth"),
}


_FLOW = {  # what a comparison knows of the flow, in the order in which it is shown
    "reynolds_lambda": Markup("Taylor-scale Reynolds number <i>Re</i><sub>λ</sub>"),
    "kmax_eta": Markup("Resolution <i>k</i><sub>max</sub> <i>η</i>"),
    "viscosity": Markup("Viscosity <i>ν</i>"),
    "dissipation": Markup("Dissipation rate <i>ε</i>"),
    "kinetic_energy": Markup("Kinetic energy <i>K</i>"),
    "taylor_length": Markup("Taylor length <i>λ</i>"),
    "kolmogorov_length": Markup("Kolmogorov length <i>η</i>"),
}


@dataclass(frozen=True)
class Head:
    """Head of a column, and what its tooltip and the legend say."""

    label: str
    unit: str = ""
    sign: str = ""
    aim: str = ""
    source: str = ""

    @classmethod
    def of(cls, metric: Metric) -> Head:
        """The head of a metric's column."""
        sign, aim = _AIMS.get(metric.better or "", ("", ""))
        return cls(metric.label, "" if metric.unit in (None, "1") else metric.unit, sign, aim, metric.source or "")


@dataclass(frozen=True)
class Cell:
    """Text of a cell, what stands small beneath it, and how it is marked."""

    text: str
    under: str = ""
    kind: str = ""
    strong: bool = False


@dataclass(frozen=True)
class Line:
    """One model in a table, or the truth."""

    label: str
    colour: str
    kind: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """One table: models tested on one data set, networks trained on one."""

    title: str
    note: str
    heads: tuple[Head, ...]
    rows: tuple[Line, ...]


def write_report(
    path: str | Path,
    result: ComparisonResult,
    slices: Sequence[SliceSet] = (),
    histories: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
    relaxed_weights: Sequence[RelaxedWeights] = (),
    how_made: HowMade | None = None,
    pictures: Sequence[Picture] = (),
    heading: tuple[str, str] | None = None,
) -> Path:
    """Write the page, whole or not at all; arguments as in :func:`render_report`, the path in return."""
    page = render_report(result, slices, histories or {}, relaxed_weights, how_made or HowMade(), pictures, heading)
    return html.write_page(path, page)


def render_report(
    result: ComparisonResult,
    slices: Sequence[SliceSet],
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    relaxed_weights: Sequence[RelaxedWeights],
    how_made: HowMade,
    pictures: Sequence[Picture] = (),
    heading: tuple[str, str] | None = None,
) -> str:
    """The page as text: it asks for nothing outside itself, and equal arguments give equal bytes.

    Args:
        slices: planes from :func:`flowsr.report.collect_slices`, the most telling first; panels carry the names of the
            models, others are ignored.
        histories: network -> lines of its ``history.jsonl``.
        relaxed_weights: one entry per relaxed network.
        how_made: configuration, versions, seeds, checksums and command.
        pictures: others, to stand first.
        heading: and a sentence under it, instead of those of a comparison on grids.
    """
    looks, single, home = model_looks(result.models), result.single, result.home
    planes = [_slices(plane, result, looks) for plane in slices]
    return html.rendered(
        "comparison.html",
        result=result,
        single=single,
        title=f"{size_text(result.data[home].coarse_shape)} to {size_text(result.data[home].fine_shape)}",
        headline=_headline(result),
        files=_files(result),
        budget=_budget(result),
        heading=heading,
        # Escaped, leads and lags in bold.
        verdict=[
            Markup(re.sub(r"(\d+ % (?:ahead|behind))", r"<b>\1</b>", str(escape(sentence))))
            for sentence in findings.verdict(result)
        ],
        facts=_facts(result) if single else _study_facts(result),
        first_plane=[*pictures, *planes[:1]],
        ranking=None if single else _ranking(result, looks),
        blocks=[
            *([experiment_block(result, looks)] if single else _study_blocks(result, looks)),
            *_symmetry_blocks(result, looks),
        ],
        heads=[Head.of(metric) for metric in result.metrics.values()],
        scores=_scores(result, looks) if single else None,
        more_planes=list(zip(slices, planes))[1:],
        learning_curves=None if single else _learning_curves(result, looks),
        elsewhere=_elsewhere(result, looks),
        spectra=list(_spectra(result, looks)),
        pdfs=_pdfs(result, looks) if single else None,
        more_curves=_more_curves(result, looks) if single else [],
        learning=_learning(histories, looks),
        weights=[_weights(index, relaxed, looks) for index, relaxed in enumerate(relaxed_weights)],
        how=how_made,
    )


def study_how_made(result: ComparisonResult, config: Mapping[str, Any]) -> HowMade:
    """What it takes to make a study's page again; ``config`` is the resolved study, JSON-able."""
    return HowMade(
        command=f"flowsr compare {config['output']}/config.yaml",
        config=config,
        versions=result.versions,
        seeds={"networks and patches": ", ".join(map(str, result.seeds))},
        checksums={f"{name} {run}": sha for name, data in result.data.items() for run, sha in data.sources.items()},
        notes={"rows": str(sum(model.rows for model in result.models.values()))},
    )


# -- words and facts ---------------------------------------------------------------------------------------------------


def _facts(result: ComparisonResult) -> list[tuple[Markup | str, str]]:
    """Label and value of everything known about an experiment's data, for the header."""
    data = result.data[result.home]
    runs = list(map(str, data.runs))
    facts: list[tuple[Markup | str, str]] = [
        ("Grid", f"{size_text(data.coarse_shape)} coarse, {size_text(data.fine_shape)} fine"),
        ("Refinement", f"× {data.factor} along each axis"),
        ("Coarse-graining", data.operator.replace("_", " ")),
        ("Held-out snapshots", str(data.snapshots)),
        ("Runs", f"{len(runs)}: {', '.join(runs)}" if len(runs) <= 4 else f"{len(runs)}: {runs[0]} … {runs[-1]}"),
    ]
    if data.cutoff_wavenumber:
        facts.append((Markup("Coarse cut-off <i>k</i><sub>c</sub>"), f"{data.cutoff_wavenumber:.3g}"))
    for key in sorted(data.flow, key=lambda key: list(_FLOW).index(key) if key in _FLOW else len(_FLOW)):
        value = data.flow[key]
        if value is not None:
            text = f"{value:.3g}" if isinstance(value, int | float) else str(value)
            if key == "kmax_eta" and value < 1:
                text += ", below 1: the smallest scales are not resolved"
            facts.append((_FLOW.get(key, key.replace("_", " ").capitalize()), text))
    return facts


def _study_facts(result: ComparisonResult) -> list[tuple[str, str]]:
    fitted = sum(model.rows for model in result.models.values() if model.trained)
    facts = [("Seeds", ", ".join(map(str, result.seeds))), ("Networks fitted", str(fitted))]
    for data in result.data.values():
        role = "test only" if data.role == "test_only" else f"{data.training_snapshots} training snapshots"
        reynolds = (data.flow or {}).get("reynolds_lambda")
        flow = "" if reynolds is None else f", Re_λ {reynolds:.0f}"
        shape = f"{size_text(data.coarse_shape)} to {size_text(data.fine_shape)}"
        facts.append((data.label, f"{shape}{flow}; {role}; {data.blocks} independent test blocks"))
        facts += [(f"{data.label}, {of}", words) for of, words in data.discovered.items()]
    seconds = sum(fit.seconds for model in result.models.values() for fit in model.fits)
    return [*facts, ("Training in all", f"{seconds / 60:.0f} processor minutes")] if seconds else facts


def _headline(result: ComparisonResult) -> tuple[str, str]:
    """The one number, and the sentence that says what it is."""
    if result.single:
        found = sorted(findings.leads(result, NRMSE), key=lambda lead: lead.value)
        if not found:
            return str(len(result.models)), "models are compared here; none of them was trained."
        lead, labels = found[0], {name: model.label for name, model in result.models.items()}
        rival = f"the best interpolation, {labels[lead.rival]} ({number(lead.rival_value)})"
        stands = f"{lead} of {rival}" if "ahead" in str(lead) else f"{lead} {rival}"
        return number(lead.value), f"is the error (NRMSE) of {labels[lead.network]}, the best network here: {stands}."
    home, metric, names = result.home, result.rules.rank_by, ranked(result)
    best = next((name for name in names if result.models[name].trained), None)
    if metric is None or best is None:
        return str(len(result.models)), f"models are compared on {result.data[home].label}; none of them was trained."
    row, label, of = result.row(best, home), result.models[best].label, result.metrics[metric].label
    for reference in findings.shown_references(result):
        found = compared(result, row, reference, home, metric)
        if found is not None and found.percent is not None:
            text, _, interval = findings.interval_text(found.interval, found.percent).replace("-", "−").partition(" ")
            about = f"{of} of {label}, the best network on {result.data[home].label}, against"
            return f"{text} %", f"{about} {reference_label(result, reference)}, {interval}: {found.verdict}."
    mean = score(result, row, home, metric)
    return number(mean and mean.interval.estimate), f"is the {of} of {label}, the best network here."


def _files(result: ComparisonResult) -> dict[str, str]:
    """What lies beside the page, by its name."""
    tables = {"table": "compare/table.csv", "table as Markdown": "compare/table.md"}
    tables["every value of every snapshot"] = "compare/tidy.csv"
    if any(data.group for data in result.data.values()):
        tables["symmetry kept and broken"] = "compare/symmetry.csv"
    return tables if result.single else {**tables, "differences": "compare/differences.csv"}


def _budget(result: ComparisonResult) -> str:
    budget = result.rules.budget
    if budget is None:
        return ""
    amount = budget["amount"] or getattr(result.models[budget["like"]], budget["by"])
    return f", the same budget of about {count(amount)} {budget['by'].replace('_', '-')}"


# -- tables ------------------------------------------------------------------------------------------------------------


def _line(look: ModelLook, cells: Sequence[Cell]) -> Line:
    return Line(look.label, look.colour, "network" if look.trained else "interpolation", tuple(cells))


def experiment_block(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Block:
    """Every metric, then parameters and seconds per snapshot; models in order, the truth last, the best marked."""
    data, metrics = result.data[result.home], result.metrics
    best = {key: findings.best_in_column(result, key) for key in metrics}
    beyond = {key: findings.ahead_of_all_trained(result, key) for key in metrics}
    heads = [Head.of(metric) for metric in metrics.values()]
    heads.append(Head("Parameters", source="Numbers fitted to the training data."))
    heads.append(Head("Time", "s", source="Wall time to upscale one snapshot on the machine of this run."))
    lines = []
    for name, look in looks.items():
        cells = [_mean(values_of(result, name, key), name in best[key], name in beyond[key]) for key in metrics]
        model = result.models[name]
        lines.append(_line(look, [*cells, Cell(count(model.parameters)), Cell(number(model.seconds, 2))]))
    own = [result.by_snapshot(Row(TRUTH), result.home, key).ravel() for key in metrics]
    if any(len(values) for values in own):
        cells = [*(_mean(values, False) for values in own), Cell("–"), Cell("–")]
        lines.append(Line("Truth", "#000000", "truth", tuple(cells)))
    spread = ", and under them the standard deviation from one snapshot to the next" if data.snapshots > 1 else ""
    note = f"Means over {many(data.snapshots, 'held-out snapshot')}{spread}. "
    note += (
        f"The best {'network' if any(model.trained for model in result.models.values()) else 'model'} of each column "
    )
    note += "is marked, and an interpolation that is ahead of every network is underlined."
    return Block("The numbers", note, tuple(heads), tuple(lines))


def _mean(values: np.ndarray, best: bool, beyond: bool = False) -> Cell:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Cell("–")
    spread = float(np.std(finite, ddof=1)) if len(finite) > 1 else 0.0
    return Cell(
        number(finite_mean(values)),
        f"± {number(spread, 2)}" if spread else "",
        "best" if best else "beyond" if beyond else "",
        best,
    )


def _study_blocks(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> list[Block]:
    """A table for each data set to test on and each to train on."""
    every = [(on, source) for on in result.data for source in findings.sources_of(result, on)]
    return [_study_block(result, tested_on, trained_on, looks) for tested_on, trained_on in every]


def _study_block(result: ComparisonResult, tested_on: str, trained_on: str, looks: Mapping[str, ModelLook]) -> Block:
    data, metrics, rank_by = result.data[tested_on], result.metrics, result.rules.rank_by
    rows = {name: result.row(name, tested_on, trained_on) for name in ranked(result, tested_on, trained_on)}
    keys = [key for key in metrics if any(key in result.metrics_of(row, tested_on) for row in rows.values())]
    references = findings.shown_references(result)
    lines = []
    for name, row in rows.items():
        model = result.models[name]
        cells = [Cell(count(model.parameters)), Cell(count(model.multiply_adds))]
        cells += [_difference(compared(result, row, reference, tested_on, rank_by)) for reference in references]
        lines.append(_line(looks[name], [*cells, *(_score(score(result, row, tested_on, key)) for key in keys)]))
    heads = [Head("Parameters"), Head("Multiply-adds")]
    heads += [Head(f"Against {reference_label(result, one)}") for one in references]
    own = "" if trained_on == tested_on else f", networks trained on {result.data[trained_on].label}"
    note = (
        f"Means over {many(data.snapshots, 'held-out snapshot')} of {many(len(data.runs), 'run')}, which make "
        f"{many(data.blocks, 'independent block')}, and over seeds; beneath, the deviation from seed to seed. Against "
        f"a reference: the difference in {metrics[rank_by].label}, in % of the reference's, and its "
        f"{_percent(result)} interval."
    )
    return Block(data.label + own, note, (*heads, *(Head.of(metrics[key]) for key in keys)), tuple(lines))


def _symmetry_blocks(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Iterator[Block]:
    """Equivariance errors under what a flow keeps and under what it breaks, where that is known."""
    heads = (Head("Kept by the flow"), Head("Broken by the flow"))
    for title, note, lines in findings.symmetry_tables(result):
        yield Block(title, note, heads, tuple(_line(looks[name], [*map(Cell, texts)]) for name, *texts in lines))


def _difference(found: Difference | None) -> Cell:
    if found is None or not math.isfinite(found.interval.estimate):
        return Cell("–")
    if found.percent is None:
        return Cell("0")
    text, _, interval = findings.interval_text(found.interval, found.percent).replace("-", "−").partition(" ")
    kind = _KINDS.get(found.verdict, "level")
    return Cell(f"{text} % {found.verdict}".replace("-", "−"), interval, kind, kind != "level")


def _score(found: Score | None) -> Cell:
    if found is None or not math.isfinite(found.interval.estimate):
        return Cell("–")
    deviation = "" if found.deviation is None else f"± {number(found.deviation, 2)}"
    return Cell(number(found.interval.estimate), deviation)


def _percent(result: ComparisonResult) -> str:
    return f"{100 * result.rules.confidence:g} %"


# -- figures with their captions ---------------------------------------------------------------------------------------


def _shown_models(plane: SliceSet, result: ComparisonResult) -> list[str]:
    """Models worth a panel: the best interpolation, then the networks in their order (of more than four, the best)."""
    names = [name for name in result.models if name in plane.panels]
    networks = [name for name in names if result.models[name].trained]
    if len(networks) > MOST_NETWORKS_IN_SLICES:
        kept = sorted(networks, key=lambda name: np.nanmean(values_of(result, name, NRMSE)))[:MOST_NETWORKS_IN_SLICES]
        networks = [name for name in networks if name in kept]
    first = [name for name in names if not result.models[name].trained][:1]
    rival = findings.best_of(result, NRMSE, trained=False, among=names)
    return ([rival] if rival else first) + networks


def _slices(plane: SliceSet, result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Picture:
    """One plane: coarse, best interpolation, networks, truth, errors."""
    names = _shown_models(plane, result)
    listed = ", ".join(looks[name].label for name in names)
    errors = "; ".join(f"{looks[name].label} {100 * plane.relative_error(name):.0f} %" for name in names)
    caption = (
        f"{plane.label} on the plane {plane.plane} of a held-out snapshot. Above: what the models were given, what "
        "they made of it, and the truth, all on one colour scale. Below: model minus truth, on a scale of their own."
    )
    alt = f"Slices of {plane.label.lower()}: coarse input, {listed}, truth; r.m.s. errors on the plane: {errors}."
    return html.photographed(slices_figure(plane, dict(looks), names), 170, SLICE_BYTES, alt, caption)


def _scores(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Picture | None:
    """NRMSE and spectral error snapshot by snapshot; None where neither was measured."""
    keys = [key for key in (NRMSE, BEYOND_CUTOFF) if key in result.metrics]
    if not keys or not looks:
        return None
    labels = [result.metrics[key].label for key in keys]
    values = "; ".join(
        f"{look.label} " + ", ".join(number(finite_mean(values_of(result, name, key))) for key in keys)
        for name, look in looks.items()
    )
    caption = Markup(" and ").join(map(with_subscripts, labels)) + Markup(
        ": a dot for each held-out snapshot, a tick and its value at the mean. Shorter is better."
    )
    alt = f"{' and '.join(labels)} of every model: {values}."
    return drawn(ranking.scores_figure(result, looks, keys), "scores", alt, caption)


def _ranking(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Picture | None:
    names, home, metric = ranked(result), result.home, result.rules.rank_by
    if not names:
        return None
    references = [(name, reference_label(result, name)) for name in findings.shown_references(result)]
    label = result.metrics[metric].label
    caption = (
        f"{result.data[home].label}. (a) {label}: a dot for each seed, a tick at the mean, a bar for its "
        f"{_percent(result)} interval. Then each model's difference to a reference on the same snapshots, with its "
        "interval: green is ahead, red is behind, grey is no difference shown."
    )
    means = {name: score(result, result.row(name, home), home, metric) for name in names}
    alt = f"{label} of every model with intervals: " + "; ".join(
        f"{looks[name].label} {number(found and found.interval.estimate)}" for name, found in means.items()
    )
    return drawn(ranking.ranking_figure(result, names, references, looks), "ranking", alt, caption)


def _learning_curves(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Picture | None:
    metric = result.rules.rank_by
    if metric is None or result.metrics[metric].better != "lower":
        return None
    every = [findings.learning_curve(result, model, data, metric) for data in result.data for model in result.models]
    found = [curve for curve in every if curve is not None and math.isfinite(curve.slope.estimate)]
    if not found:
        return None
    shown = [curve for curve in found if curve.data == found[0].data]
    caption = (
        f"{result.data[shown[0].data].label}. (a) {result.metrics[metric].label} on the held-out snapshots against the "
        "number of training snapshots, always with the same number of training steps; points are set a little apart so "
        "that their intervals can be told from one another. (b) Slope of the straight line through the points in (a): "
        "at −0.1, ten times the data take a fifth off the error."
    )
    slopes = "; ".join(f"{looks[one.model].label} {findings.slope_text(one.slope)}" for one in shown)
    figure = ranking.learning_curves_figure(result, shown, looks)
    return drawn(figure, "curves", f"Learning curves; slopes: {slopes}", caption)


def _elsewhere(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Picture | None:
    if len(result.data) < 2:
        return None
    label, home = result.metrics[result.rules.rank_by].label, result.data[result.home].label
    others = ", ".join(data.label for name, data in result.data.items() if name != result.home)
    caption = f"{label} of networks trained on {home}, (a) there and (b, …) on {others}; as in the first figure."
    return drawn(ranking.elsewhere_figure(result, ranked(result), looks), "elsewhere", caption, caption)


def _spectra(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Iterator[tuple[str, Picture]]:
    """Title, and the spectra of the models on each data set that something was trained on."""
    caption = Markup(
        "(a) Energy spectrum <i>E</i>(<i>k</i>), with the slope of an inertial range for reference; (b) the same "
        "times <i>k</i><sup>5/3</sup>; (c) relative error of <i>E</i>(<i>k</i>): 1 (dotted) is none of the energy at "
        "that scale, or twice of it. The shaded wavenumbers, beyond <i>k</i><sub>c</sub>, are not on the coarse grid: "
        "what a model has there it has made."
    )
    alt = "Energy spectra of truth and models on logarithmic axes; compensated spectra; relative error of the spectra."
    for index, (on, data) in enumerate(result.data.items()):
        if not any(has_curve(result, key, on) for key in (SPECTRUM, SPECTRAL_ERROR)):
            continue
        shown, title, name = dict(looks), "Scale by scale", "spectra"
        if not result.single:
            names = ranked(result, on, on)
            networks = [one for one in names if looks[one].trained]
            if not networks:
                continue
            best = [one for one in names if not looks[one].trained][:1] + networks[: MOST_SPECTRA - 1]
            shown = {one: looks[one] for one in names if one in best}
            title, name = f"Scale by scale: {data.label}", f"spectra-{index}"
        yield title, drawn(curves.spectra_figure(result, on, shown), name, alt, caption)


def _pdfs(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Picture | None:
    """Velocity-gradient densities; None where there are none."""
    if not any(has_curve(result, key, result.home) for key in (LONGITUDINAL, TRANSVERSE)):
        return None
    caption = Markup(
        "Probability density of (a) longitudinal velocity gradients, such as ∂<i>u</i>/∂<i>x</i>, and (b) transverse "
        "ones, such as ∂<i>u</i>/∂<i>y</i>. Turbulence has wide tails and, in (a), a longer one on the left (negative "
        "skewness); the grey Gaussian has the truth’s mean and variance."
    )
    kinds = "Densities of longitudinal and transverse velocity gradients on a logarithmic axis"
    figure = curves.pdfs_figure(result, result.home, looks)
    return drawn(figure, "pdfs", f"{kinds}: truth, models, a Gaussian.", caption)


def _more_curves(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> list[Picture]:
    """Curves of metrics that have no figure of their own."""
    pictures = []
    for key, kind in result.curve_kinds.items():
        if key not in _FIGURED_CURVES and has_curve(result, key, result.home):
            label = without_mathematics(kind.label or key)
            name = "curve-" + re.sub(r"[^a-z0-9]+", "-", f"{len(pictures)}-{key}".lower())
            figure, alt = curves.curve_figure(result, key, looks), f"{label}, truth and models."
            pictures.append(drawn(figure, name, alt, f"{label}.", wide=False))
    return pictures


def _learning(histories: Mapping[str, Sequence[Mapping]], looks: Mapping[str, ModelLook]) -> Picture | None:
    """Learning curves of the networks in the comparison; None where there are none."""
    known = {name: lines for name, lines in histories.items() if lines and name in looks}
    if not known:
        return None
    ends = []
    for name, lines in known.items():
        finite = [line for line in lines if line.get("validation_loss") is not None]
        if finite:
            best = min(finite, key=lambda line: line["validation_loss"])
            when = f"best epoch {best['epoch'] + 1} of {len(lines)}"
            ends.append(f"{looks[name].label}: {when}, loss {number(best['validation_loss'])}")
    caption = (
        "Loss on the validation snapshots (solid) and on the training patches (dotted), (a) by epoch and (b) by wall "
        "time. The weights of the epoch with the lowest validation loss (dot) were kept and tested. "
        f"{'; '.join(ends)}."
    )
    return drawn(curves.learning_figure(known, looks), "learning", f"Learning curves. {'; '.join(ends)}.", caption)


def _weights(index: int, relaxed: RelaxedWeights, looks: Mapping[str, ModelLook]) -> tuple[str, Picture | None]:
    """The sentence and, where there is a layer, the figure."""
    label = looks[relaxed.model].label if relaxed.model in looks else relaxed.model
    sentence = weights_sentence(relaxed, label)
    if not relaxed.layers:
        return sentence, None
    caption = Markup(
        "{label}: relaxed weights. (a) One row per layer, one column per element of {group}, in conjugacy classes and "
        "named by axis and sense: deviation from the row’s mean, over its r.m.s. White everywhere would be exact "
        "equivariance. (b) The same taken apart by the group Fourier transform: the part of each row in every irrep "
        "other than the trivial one."
    ).format(label=label, group=Markup("<i>O</i><sub>h</sub>") if relaxed.group == "Oh" else relaxed.group)
    alt = f"Relaxed weights by layer and group element. {sentence}"
    return sentence, drawn(weights_figure(relaxed), f"weights-{index}", alt, caption)
