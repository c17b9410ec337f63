"""Who is better: scores snapshot by snapshot, rankings with intervals, learning curves, flows that training never
saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from flowsr.compare.findings import AHEAD, BEHIND, Difference, LearningCurve, Score, compared, score, slope_text
from flowsr.compare.result import ComparisonResult
from flowsr.report.html import number
from flowsr.report.style import FAINT, INK, ModelLook, panel_letter, plain, styled, typeset, with_unit

_ROW = 0.36
_VERDICT_COLOURS = {AHEAD: "#00734f", BEHIND: "#b3001b"}


@styled
def ranking_figure(
    result: ComparisonResult,
    names: Sequence[str],
    references: Sequence[tuple[str, str]],
    looks: Mapping[str, ModelLook],
) -> Figure:
    """Panel (a): mean, interval and seeds of each model; one further panel for the differences to each reference.

    Args:
        names: models, from the top down.
        references: as the study names them, with a label each.
    """
    home, metric = result.home, result.rules.rank_by
    figure, panels = _panels(names, looks, [1.25] + [1.0] * len(references))
    for row, name in enumerate(names):
        _score(panels[0], row, score(result, result.row(name, home), home, metric), looks[name])
    panels[0].set_xlabel(typeset(result.metrics[metric].label))
    panels[0].set_xlim(left=0)
    for axes, (reference, label) in zip(panels[1:], references):
        axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
        for row, name in enumerate(names):
            _difference(axes, row, compared(result, result.row(name, home), reference, home, metric))
        axes.set_xlabel(fill(f"difference to {plain(label)} [%]", 100 // len(references)))
        axes.margins(x=0.12)
    return figure


@styled
def elsewhere_figure(result: ComparisonResult, names: Sequence[str], looks: Mapping[str, ModelLook]) -> Figure:
    """The study's metric on its first data set and on all others, for ``names``, top down, trained on the first."""
    home, metric = result.home, result.rules.rank_by
    figure, panels = _panels(names, looks, [1.0] * len(result.data))
    for axes, data in zip(panels, [home, *(data for data in result.data if data != home)]):
        for row, name in enumerate(names):
            _score(axes, row, score(result, result.row(name, data, home), data, metric), looks[name])
        axes.set_xlim(left=0)
        axes.set_xlabel(typeset(result.metrics[metric].label))
        axes.set_title(plain(result.data[data].label), fontsize=13)
    return figure


@styled
def scores_figure(result: ComparisonResult, looks: Mapping[str, ModelLook], keys: Sequence[str]) -> Figure:
    """One panel per scalar metric of ``keys``, one row per model: dots for the snapshots, a tick at their mean."""
    figure, panels = _panels(list(looks), looks, [1.0] * len(keys), title=1.15)
    for axes, key in zip(panels, keys):
        values = {name: values_of(result, name, key) for name in looks}
        axes.set_xlim(0, _edge([finite_mean(each) for each in values.values()]))
        for row, name in enumerate(looks):
            _snapshot_row(axes, row, values[name], looks[name])
        axes.set_xlabel(with_unit(typeset(result.metrics[key].label), result.metrics[key].unit))
    figure.get_layout_engine().set(wspace=0.06)
    return figure


def _panels(
    names: Sequence[str], looks: Mapping[str, ModelLook], widths: Sequence[float], title: float = 1.25
) -> tuple[Figure, Sequence[Axes]]:
    """Lettered panels side by side whose rows are models, the networks' names in their colours."""
    figure = Figure(figsize=(13.0, title + _ROW * len(names)), layout="constrained")
    panels = figure.subplots(1, len(widths), sharey=True, squeeze=False, width_ratios=widths)[0]
    for axes, letter in zip(panels, "abcdefgh"):
        axes.grid(True, axis="x")
        panel_letter(axes, letter)
    _name_rows(panels[0], [looks[name] for name in names])
    for axes in panels:
        axes.tick_params(axis="y", length=0)
    return figure, panels


def _name_rows(axes: Axes, looks: Sequence[ModelLook]) -> None:
    axes.set_yticks(range(len(looks)), [plain(look.label) for look in looks], fontsize=12)
    axes.invert_yaxis()
    for tick, look in zip(axes.get_yticklabels(), looks):
        tick.set_color(look.colour if look.trained else INK)


@styled
def learning_curves_figure(
    result: ComparisonResult, curves: Sequence[LearningCurve], looks: Mapping[str, ModelLook]
) -> Figure:
    """Error against the number of training snapshots on logarithmic axes, and the slopes with their intervals.

    Args:
        curves: of one data set and metric.
    """
    figure = Figure(figsize=(13.0, max(4.4, 1.3 + _ROW * len(curves))), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.35, 1.0])
    for shift, curve in enumerate(curves):
        look, slope = looks[curve.model], curve.slope
        x = np.array(curve.sizes) * 1.012 ** (shift - len(curves) / 2)
        y = np.array([each.interval.estimate for each in curve.scores], dtype=float)
        ends = np.array([[each.interval.low, each.interval.high] for each in curve.scores], dtype=float)
        left.plot(x, y, color=look.colour, linestyle=look.line, marker="o", markersize=5, label=plain(look.label))
        left.vlines(x, ends[:, 0], ends[:, 1], color=look.colour, linewidth=1.1, alpha=0.7)
        right.plot(slope.estimate, shift, "o", color=look.colour, markersize=7)
        if slope.low is not None:
            right.hlines(shift, slope.low, slope.high, color=look.colour, linewidth=2.2, alpha=0.8)
        beside = {"xycoords": right.get_yaxis_transform(), "va": "center", "fontsize": 11, "color": FAINT}
        right.annotate(slope_text(slope), (1.02, shift), **beside)
    left.set(xscale="log", yscale="log")
    sizes = sorted({size for curve in curves for size in curve.sizes})
    left.xaxis.set_major_locator(FixedLocator(sizes))
    left.xaxis.set_minor_locator(NullLocator())
    left.set_xticks(sizes, [str(size) for size in sizes])
    left.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    left.yaxis.set_minor_formatter(lambda value, _: f"{value:.3g}")
    left.tick_params(axis="y", which="minor", labelsize=10)
    left.set(xlabel="training snapshots", ylabel=typeset(result.metrics[curves[0].metric].label))
    left.grid(True, which="both")
    _name_rows(right, [looks[curve.model] for curve in curves])
    right.axvline(0, color=INK, linewidth=0.9, zorder=1)
    right.set_xlabel("slope of log error over log snapshots")
    right.grid(True, axis="x")
    right.tick_params(axis="y", length=0)
    panel_letter(left, "a")
    panel_letter(right, "b")
    return figure


def _score(axes: Axes, row: int, found: Score | None, look: ModelLook) -> None:
    """Interval as a bar, seeds as dots, mean as a tick."""
    if found is None or not np.isfinite(found.interval.estimate):
        return
    whole = found.interval
    if whole.low is not None:
        axes.hlines(row, whole.low, whole.high, color=look.colour, linewidth=5, alpha=0.28, zorder=2)
    seeds = [value for value in found.by_seed if np.isfinite(value)]
    if len(seeds) > 1:
        axes.plot(seeds, np.full(len(seeds), row), "o", color=look.colour, markersize=4.5, alpha=0.7, mew=0, zorder=3)
    axes.plot([whole.estimate] * 2, [row - 0.3, row + 0.3], color=look.colour, linewidth=2.4, zorder=4)


def _difference(axes: Axes, row: int, found: Difference | None) -> None:
    if found is None or not np.isfinite(found.interval.estimate):
        return
    scale, whole = found.percent or 1.0, found.interval
    colour = _VERDICT_COLOURS.get(found.verdict, FAINT)
    if whole.low is not None:
        axes.hlines(row, scale * whole.low, scale * whole.high, color=colour, linewidth=2.4, zorder=2)
    axes.plot(scale * whole.estimate, row, "o", color=colour, markersize=6.5, zorder=3)


def _edge(means: Sequence[float]) -> float:
    """Right end of the axis: the largest mean, or thrice the median where one would dwarf the rest."""
    finite = [mean for mean in means if np.isfinite(mean)]
    return 1.2 * min(max(finite), 3 * float(np.median(finite))) or 1.0 if finite else 1.0


def values_of(result: ComparisonResult, name: str, metric: str) -> np.ndarray:
    """(snapshots,) of a model on the first data set, means over its seeds; NaN or nothing where it was not measured."""
    row = result.row(name, result.home)
    values = np.empty((0, 0)) if row is None else result.by_snapshot(row, result.home, metric)
    return values.mean(axis=0) if len(values) else np.empty(0)


def finite_mean(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")


def _snapshot_row(axes: Axes, row: int, values: np.ndarray, look: ModelLook) -> None:
    """Dots for the snapshots, a thick tick at their mean, and the mean's value beside it."""
    values, mean, edge = values[np.isfinite(values)], finite_mean(values), axes.get_xlim()[1]
    if not len(values):
        return
    bar = {"color": look.colour, "linewidth": 5, "alpha": 0.22, "zorder": 2}
    words = {"textcoords": "offset points", "va": "center", "fontsize": 11}
    if mean > edge:
        axes.hlines(row, 0, edge, **bar)
        axes.annotate(f"{number(mean)} \N{RIGHTWARDS ARROW}", (edge, row), (-6, 0), ha="right", color=INK, **words)
        return
    axes.hlines(row, 0, mean, **bar)
    axes.plot(values, np.full(len(values), row), "o", color=look.colour, markersize=4.5, alpha=0.55, mew=0, zorder=3)
    axes.plot([mean] * 2, [row - 0.32, row + 0.32], color=look.colour, linewidth=2.6, zorder=4)
    axes.annotate(number(mean), (max([mean, *values]), row), (8, 0), color=FAINT, **words)
