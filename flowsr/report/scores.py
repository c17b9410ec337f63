"""The two numbers that decide, snapshot by snapshot: a dot per held-out snapshot, a bar at the mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowsr.compare.ranking import mean_of
from flowsr.report.style import FAINT, INK, ModelLook, panel_letter, plain, styled, typeset, with_unit
from flowsr.report.table import number


@styled
def scores_figure(comparison: Mapping, looks: Mapping[str, ModelLook], keys: Sequence[str]) -> Figure:
    """One panel per metric, one row per model.

    Args:
        comparison: see :func:`flowsr.report.write_report`.
        looks: look of each model.
        keys: scalar metrics, one per panel.
    """
    names = list(comparison["models"])
    figure = Figure(figsize=(13.0, 1.15 + 0.36 * len(names)), layout="constrained")
    panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    for axes, key, letter in zip(panels, keys, "abcdefgh"):
        metric = comparison["metrics"].get(key, {})
        edge = _edge([mean_of(comparison["models"][name], key) for name in names])
        axes.set_xlim(0, edge)
        for row, name in enumerate(names):
            _row(axes, row, comparison["models"][name]["scalars"].get(key), looks[name])
        axes.set_xlabel(with_unit(typeset(str(metric.get("label") or key)), metric.get("unit")))
        axes.grid(True, axis="x")
        panel_letter(axes, letter)
    panels[0].set_yticks(range(len(names)), [plain(looks[name].label) for name in names], fontsize=12)
    panels[0].invert_yaxis()
    figure.get_layout_engine().set(wspace=0.06)
    for axes in panels:
        axes.tick_params(axis="y", length=0)
    for tick, name in zip(panels[0].get_yticklabels(), names):
        tick.set_color(looks[name].colour if looks[name].trained else INK)
    return figure


def _edge(means: Sequence[float]) -> float:
    """Right end of the axis: the largest mean, or thrice the median where one would dwarf the rest."""
    finite = [mean for mean in means if np.isfinite(mean)]
    return 1.2 * min(max(finite), 3 * float(np.median(finite))) or 1.0 if finite else 1.0


def _row(axes: Axes, row: int, score: Mapping | None, look: ModelLook) -> None:
    """Dots for the snapshots, a thick tick at their mean, and the mean's value beside it."""
    if not score or score.get("mean") is None or not np.isfinite(score["mean"]):
        return
    values = np.array([v for v in score.get("values") or [] if v is not None and np.isfinite(v)])
    edge = axes.get_xlim()[1]
    if score["mean"] > edge:
        axes.hlines(row, 0, edge, color=look.colour, linewidth=5, alpha=0.22, zorder=2)
        beyond = f"{number(score['mean'])} \N{RIGHTWARDS ARROW}"
        axes.annotate(
            beyond, (edge, row), (-6, 0), textcoords="offset points", ha="right", va="center", fontsize=11, color=INK
        )
        return
    axes.hlines(row, 0, score["mean"], color=look.colour, linewidth=5, alpha=0.22, zorder=2)
    axes.plot(values, np.full(len(values), row), "o", color=look.colour, markersize=4.5, alpha=0.55, mew=0, zorder=3)
    axes.plot([score["mean"]] * 2, [row - 0.32, row + 0.32], color=look.colour, linewidth=2.6, zorder=4)
    right = max([score["mean"], *values])
    axes.annotate(
        number(score["mean"]), (right, row), (8, 0), textcoords="offset points", va="center", fontsize=11, color=FAINT
    )
