"""Learning curves: loss against epoch and against wall time, with the epoch whose weights were kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from flowsr.report.style import FAINT, INK, ModelLook, panel_letter, plain, styled


@styled
def learning_figure(histories: Mapping[str, Sequence[Mapping]], looks: Mapping[str, ModelLook]) -> Figure:
    """Two panels, the same losses: against the epoch and against the wall time since training began.

    Args:
        histories: model -> one mapping per epoch with ``epoch`` (from 0), ``train_loss``, ``validation_loss`` and
            ``seconds`` since the fit began.
        looks: look of each model of ``histories``.
    """
    figure = Figure(figsize=(13.0, 4.6))
    panels = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.062, right=0.99, bottom=0.125, top=0.84, wspace=0.06)
    longest = max((history[-1]["seconds"] for history in histories.values() if history), default=0.0)
    unit, seconds_per_unit = ("min", 60.0) if longest > 180 else ("s", 1.0)
    for name, history in histories.items():
        if not history:
            continue
        look = looks[name]
        epoch = _column(history, "epoch") + 1
        elapsed = _column(history, "seconds") / seconds_per_unit
        training, validation = _column(history, "train_loss"), _column(history, "validation_loss")
        for axes, x in zip(panels, (epoch, elapsed)):
            axes.plot(x, training, color=look.colour, linewidth=1.0, linestyle=(0, (2, 1.5)), alpha=0.8)
            axes.plot(x, validation, color=look.colour, linewidth=1.9)
            if np.any(np.isfinite(validation)):
                best = int(np.nanargmin(validation))
                axes.plot(x[best], validation[best], "o", color=look.colour, markersize=8, markeredgecolor="white")
    for axes, letter in zip(panels, "ab"):
        axes.set_yscale("log")
        axes.grid(True, which="major")
        panel_letter(axes, letter)
    panels[0].yaxis.set_minor_formatter(lambda value, _: f"{value:.2g}")
    panels[0].yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
    panels[0].tick_params(axis="y", which="minor", labelsize=10)
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_xlabel("epoch")
    panels[0].set_ylabel("loss (mean absolute error / r.m.s. of the field)")
    panels[1].set_xlabel(f"wall time since training began [{unit}]")
    panels[1].tick_params(labelleft=False, which="both")
    drawn = [name for name, history in histories.items() if history]
    figure.legend(
        handles=[
            Line2D([], [], color=looks[name].colour, linewidth=2, label=plain(looks[name].label)) for name in drawn
        ]
        + [
            Line2D([], [], color=INK, linewidth=1.9, label="validation"),
            Line2D([], [], color=INK, linewidth=1.0, linestyle=(0, (2, 1.5)), label="training"),
            Line2D([], [], color=FAINT, marker="o", linestyle="none", markersize=8, label="best epoch, kept"),
        ],
        loc="upper center",
        bbox_to_anchor=(0.5, 0.995),
        ncols=min(9, len(drawn) + 3),
    )
    return figure


def _column(history: Sequence[Mapping], key: str) -> np.ndarray:
    return np.array([np.nan if line.get(key) is None else line[key] for line in history], dtype=np.float64)
