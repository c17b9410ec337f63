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

from flowsr.compare.findings import (
    AHEAD,
    BEHIND,
    BEYOND_CUTOFF,
    LEVEL,
    NRMSE,
    Difference,
    Score,
    best_in_column,
    best_of,
    compared,
    interval_text,
    learning_curve,
    many,
    ranked,
    reference_label,
    score,
    shown_references,
    slope_text,
    sources_of,
    verdict,
)
from flowsr.compare.result import TRUTH, ComparisonResult, Metric, Row
from flowsr.report.figures.curves import curve_figure, has_curve
from flowsr.report.figures.learning import learning_figure
from flowsr.report.figures.ranking import (
    elsewhere_figure,
    learning_curves_figure,
    ranking_figure,
    scores_figure,
    values_of,
)
from flowsr.report.figures.slices import SliceSet, slices_figure
from flowsr.report.figures.spectra import (
    LONGITUDINAL,
    SPECTRAL_ERROR,
    SPECTRUM,
    TRANSVERSE,
    pdfs_figure,
    spectra_figure,
)
from flowsr.report.figures.weights import RelaxedWeights, weights_figure, weights_sentence
from flowsr.report.html import (
    HowMade,
    Picture,
    count,
    data_address,
    drawn,
    number,
    png_bytes,
    rendered,
    size_text,
    write_page,
)
from flowsr.report.style import ModelLook, model_looks, with_subscripts, without_mathematics

SLICE_BYTES = 700_000
MOST_NETWORKS_IN_SLICES = 4
#: More models than this make a spectrum unreadable; the best are drawn.
MOST_SPECTRA = 8
_FIGURED_CURVES = {SPECTRUM, SPECTRAL_ERROR, LONGITUDINAL, TRANSVERSE}
_KINDS = {AHEAD: "ahead", BEHIND: "behind", LEVEL: "level"}
_AIMS = {
    "lower": ("↓", "lower is better"),
    "higher": ("↑", "higher is better"),
    "truth": ("→ truth", "best nearest the truth"),
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
) -> Path:
    """Write the page, whole or not at all.

    It asks for nothing outside itself, and equal arguments give equal bytes.

    Args:
        path: HTML file to write.
        result: of the comparison.
        slices: planes from :func:`flowsr.report.collect_slices`, the most telling first; panels carry the names of the
            models, others are ignored.
        histories: network -> lines of its ``history.jsonl``.
        relaxed_weights: one entry per relaxed network.
        how_made: configuration, versions, seeds, checksums and command.

    Returns:
        ``path``.
    """
    return write_page(path, render_report(result, slices, histories or {}, relaxed_weights, how_made or HowMade()))


def render_report(
    result: ComparisonResult,
    slices: Sequence[SliceSet],
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    relaxed_weights: Sequence[RelaxedWeights],
    how_made: HowMade,
) -> str:
    """The page as text; arguments as in :func:`write_report`."""
    looks, single, home = model_looks(result.models), result.single, result.home
    planes = [_slices(plane, result, looks) for plane in slices]
    return rendered(
        "comparison.html",
        result=result,
        single=single,
        title=f"{size_text(result.data[home].coarse_shape)} to {size_text(result.data[home].fine_shape)}",
        budget=_budget(result),
        verdict=[_with_emphasis(sentence) for sentence in verdict(result)],
        facts=_facts(result) if single else _study_facts(result),
        first_plane=planes[:1],
        ranking=None if single else _ranking(result, looks),
        blocks=[_experiment_block(result, looks)] if single else list(_study_blocks(result, looks)),
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
    """What it takes to make a study's page again.

    Args:
        config: the resolved study, JSON-able.
    """
    return HowMade(
        command=f"flowsr compare {config['output']}/config.yaml",
        config=config,
        versions=result.versions,
        seeds={"networks and patches": ", ".join(map(str, result.seeds))},
        checksums={f"{name} {run}": sha for name, data in result.data.items() for run, sha in data.sources.items()},
        notes={"rows": str(sum(model.rows for model in result.models.values()))},
    )


# -- words and facts ---------------------------------------------------------------------------------------------------


def _with_emphasis(sentence: str) -> Markup:
    """The sentence, escaped, its leads and lags in bold."""
    return Markup(re.sub(r"(\d+ % (?:ahead|behind))", r"<b>\1</b>", str(escape(sentence))))


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
    named = {
        "reynolds_lambda": Markup("Taylor-scale Reynolds number <i>Re</i><sub>λ</sub>"),
        "kmax_eta": Markup("Resolution <i>k</i><sub>max</sub> <i>η</i>"),
        "taylor_length": Markup("Taylor length <i>λ</i>"),
        "kolmogorov_length": Markup("Kolmogorov length <i>η</i>"),
        "integral_length": Markup("Integral length <i>L</i>"),
        "eddy_turnover_time": Markup("Eddy turnover time <i>T</i><sub>e</sub>"),
    }
    for key in sorted(data.flow, key=lambda key: list(named).index(key) if key in named else len(named)):
        value = data.flow[key]
        if value is not None:
            text = f"{value:.3g}" if isinstance(value, int | float) else str(value)
            facts.append((named.get(key, key.replace("_", " ").capitalize()), text))
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
    seconds = sum(fit.seconds for model in result.models.values() for fit in model.fits)
    return [*facts, ("Training in all", f"{seconds / 60:.0f} processor minutes")] if seconds else facts


def _budget(result: ComparisonResult) -> str:
    budget = result.rules.budget
    if budget is None:
        return ""
    amount = budget["amount"] or getattr(result.models[budget["like"]], budget["by"])
    return f", the same budget of about {count(amount)} {budget['by'].replace('_', '-')}"


# -- tables ------------------------------------------------------------------------------------------------------------


def _line(look: ModelLook, cells: Sequence[Cell]) -> Line:
    return Line(look.label, look.colour, "network" if look.trained else "interpolation", tuple(cells))


def _experiment_block(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Block:
    """Every metric, then parameters and seconds per snapshot; models in order, the truth last, the best marked."""
    data, metrics = result.data[result.home], result.metrics
    best = {key: best_in_column(result, key) for key in metrics}
    heads = [Head.of(metric) for metric in metrics.values()]
    heads.append(Head("Parameters", source="Numbers fitted to the training data."))
    heads.append(Head("Time", "s", source="Wall time to upscale one snapshot on the machine of this run."))
    lines = []
    for name, look in looks.items():
        cells = [_mean(values_of(result, name, key), name in best[key]) for key in metrics]
        model = result.models[name]
        lines.append(_line(look, [*cells, Cell(count(model.parameters)), Cell(number(model.seconds, 2))]))
    own = [result.by_snapshot(Row(TRUTH), result.home, key).ravel() for key in metrics]
    if any(len(values) for values in own):
        cells = [*(_mean(values, False) for values in own), Cell("–"), Cell("–")]
        lines.append(Line("Truth", "#000000", "truth", tuple(cells)))
    several = data.snapshots > 1
    note = f"Means over {many(data.snapshots, 'held-out snapshot')}" + (
        ", and under them the standard deviation from one snapshot to the next" if several else ""
    )
    return Block("The numbers", f"{note}. The best of each column is marked.", tuple(heads), tuple(lines))


def _mean(values: np.ndarray, best: bool) -> Cell:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Cell("–")
    spread = float(np.std(finite, ddof=1)) if len(values) > 1 and len(finite) > 1 else 0.0
    return Cell(number(float(finite.mean())), f"± {number(spread, 2)}" if spread else "", "best" if best else "", best)


def _study_blocks(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Iterator[Block]:
    for tested_on in result.data:
        for trained_on in sources_of(result, tested_on):
            yield _study_block(result, tested_on, trained_on, looks)


def _study_block(result: ComparisonResult, tested_on: str, trained_on: str, looks: Mapping[str, ModelLook]) -> Block:
    data, metrics, rank_by = result.data[tested_on], result.metrics, result.rules.rank_by
    rows = {name: result.row(name, tested_on, trained_on) for name in ranked(result, tested_on, trained_on)}
    keys = [key for key in metrics if any(key in result.metrics_of(row, tested_on) for row in rows.values())]
    references = shown_references(result)
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


def _difference(found: Difference | None) -> Cell:
    if found is None or not math.isfinite(found.interval.estimate):
        return Cell("–")
    if found.percent is None:
        return Cell("0")
    text, _, interval = interval_text(found.interval, found.percent).partition(" ")
    kind = _KINDS.get(found.verdict, "level")
    return Cell(f"{text} % {found.verdict}".replace("-", "−"), interval.replace("-", "−"), kind, kind != "level")


def _score(found: Score | None) -> Cell:
    if found is None or not math.isfinite(found.interval.estimate):
        return Cell("–")
    deviation = "" if found.deviation is None else f"± {number(found.deviation, 2)}"
    return Cell(number(found.interval.estimate), deviation)


def _percent(result: ComparisonResult) -> str:
    return f"{100 * result.rules.confidence:g} %"


# -- figures with their captions ---------------------------------------------------------------------------------------


def shown_models(plane: SliceSet, result: ComparisonResult) -> list[str]:
    """Models worth a panel: the best interpolation, then the networks in their order (of more than four, the best)."""
    names = [name for name in result.models if name in plane.panels]
    networks = [name for name in names if result.models[name].trained]
    if len(networks) > MOST_NETWORKS_IN_SLICES:
        kept = sorted(networks, key=lambda name: np.nanmean(values_of(result, name, NRMSE)))[:MOST_NETWORKS_IN_SLICES]
        networks = [name for name in networks if name in kept]
    first = next((name for name in names if not result.models[name].trained), None)
    rival = best_of(result, NRMSE, trained=False, among=names) or first
    return ([rival] if rival else []) + networks


def _slices(plane: SliceSet, result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Picture:
    """One plane: coarse, best interpolation, networks, truth, errors."""
    names = shown_models(plane, result)
    listed = ", ".join(looks[name].label for name in names)
    errors = "; ".join(f"{looks[name].label} {100 * plane.relative_error(name):.0f} %" for name in names)
    caption = (
        f"{plane.label} on the plane {plane.plane} of a held-out snapshot. Above: what the models were given, what "
        "they made of it, and the truth, all on one colour scale. Below: model minus truth, on a scale of their own."
    )
    return Picture(
        alt=f"Slices of {plane.label.lower()}: coarse input, {listed}, truth; r.m.s. errors on the plane: {errors}.",
        caption=caption,
        photo=data_address(png_bytes(slices_figure(plane, dict(looks), names), 170, SLICE_BYTES)),
    )


def _scores(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Picture | None:
    """NRMSE and spectral error snapshot by snapshot; None where neither was measured."""
    keys = [key for key in (NRMSE, BEYOND_CUTOFF) if key in result.metrics]
    if not keys or not looks:
        return None
    labels = " and ".join(result.metrics[key].label for key in keys)
    named = Markup(" and ").join(with_subscripts(result.metrics[key].label) for key in keys)
    values = "; ".join(
        f"{look.label} " + ", ".join(_mean(values_of(result, name, key), False).text for key in keys)
        for name, look in looks.items()
    )
    caption = named + Markup(": a dot for each held-out snapshot, a tick and its value at the mean. Shorter is better.")
    return drawn(scores_figure(result, looks, keys), "scores", f"{labels} of every model: {values}.", caption)


def _ranking(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Picture | None:
    names, home, metric = ranked(result), result.home, result.rules.rank_by
    if not names:
        return None
    references = [(name, reference_label(result, name)) for name in shown_references(result)]
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
    return drawn(ranking_figure(result, names, references, looks), "ranking", alt, caption)


def _learning_curves(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Picture | None:
    metric = result.rules.rank_by
    if metric is None or result.metrics[metric].better != "lower":
        return None
    every = [learning_curve(result, model, data, metric) for data in result.data for model in result.models]
    found = [curve for curve in every if curve is not None and math.isfinite(curve.slope.estimate)]
    curves = [curve for curve in found if curve.data == found[0].data]
    if not curves:
        return None
    caption = (
        f"{result.data[curves[0].data].label}. (a) {result.metrics[metric].label} on the held-out snapshots against "
        "the "
        "number of training snapshots, always with the same number of training steps; points are set a little apart so "
        "that their intervals can be told from one another. (b) Slope of the straight line through the points in "
        "(a): at "
        "−0.1, ten times the data take a fifth off the error."
    )
    slopes = "; ".join(f"{looks[one.model].label} {slope_text(one.slope)}" for one in curves)
    return drawn(learning_curves_figure(result, curves, looks), "curves", f"Learning curves; slopes: {slopes}", caption)


def _elsewhere(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Picture | None:
    if len(result.data) < 2:
        return None
    label, home = result.metrics[result.rules.rank_by].label, result.data[result.home].label
    others = ", ".join(data.label for name, data in result.data.items() if name != result.home)
    caption = f"{label} of networks trained on {home}, (a) there and (b, …) on {others}; as in the first figure."
    return drawn(elsewhere_figure(result, ranked(result), looks), "elsewhere", caption, caption)


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
        yield title, drawn(spectra_figure(result, on, shown), name, alt, caption)


def _pdfs(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> Picture | None:
    """Velocity-gradient densities; None where there are none."""
    if not any(has_curve(result, key, result.home) for key in (LONGITUDINAL, TRANSVERSE)):
        return None
    caption = Markup(
        "Probability density of (a) longitudinal velocity gradients, such as ∂<i>u</i>/∂<i>x</i>, and (b) transverse "
        "ones, such as ∂<i>u</i>/∂<i>y</i>. Turbulence has wide tails and, in (a), a longer one on the left (negative "
        "skewness); the grey Gaussian has the truth’s mean and variance."
    )
    alt = (
        "Densities of longitudinal and transverse velocity gradients on a logarithmic axis: truth, models, a Gaussian."
    )
    return drawn(pdfs_figure(result, result.home, looks), "pdfs", alt, caption)


def _more_curves(result: ComparisonResult, looks: Mapping[str, ModelLook]) -> list[Picture]:
    """Curves of metrics that have no figure of their own."""
    pictures = []
    for key, kind in result.curve_kinds.items():
        if key in _FIGURED_CURVES or not has_curve(result, key, result.home):
            continue
        label = without_mathematics(kind.label or key)
        name = "curve-" + re.sub(r"[^a-z0-9]+", "-", f"{len(pictures)}-{key}".lower())
        pictures.append(
            drawn(curve_figure(result, key, looks), name, f"{label}, truth and models.", f"{label}.", wide=False)
        )
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
    alt = "Learning curves. " + "; ".join(ends) + "."
    return drawn(learning_figure(known, looks), "learning", alt, caption)


def _weights(index: int, relaxed: RelaxedWeights, looks: Mapping[str, ModelLook]) -> tuple[str, Picture | None]:
    """The sentence and, where there is a layer, the figure."""
    label = looks[relaxed.model].label if relaxed.model in looks else relaxed.model
    sentence = weights_sentence(relaxed, label)
    if not relaxed.layers:
        return sentence, None
    group = Markup("<i>O</i><sub>h</sub>") if relaxed.group == "Oh" else Markup("<i>O</i>")
    caption = Markup(
        "{label}: relaxed weights. (a) One row per layer, one column per element of {group}, in conjugacy classes and "
        "named by axis and sense: deviation from the row’s mean, over its r.m.s. White everywhere would be exact "
        "equivariance. (b) The same taken apart by the group Fourier transform: the part of each row in every irrep "
        "other than the trivial one."
    ).format(label=label, group=group)
    return sentence, drawn(
        weights_figure(relaxed), f"weights-{index}", f"Relaxed weights by layer and group element. {sentence}", caption
    )
