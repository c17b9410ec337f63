"""One family of curves of a comparison on one pair of axes: truth in black, every model in its own look."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowsr.compare.result import TRUTH, ComparisonResult, CurveKind, Row
from flowsr.report.style import TRUTH_COLOUR, ModelLook, plain, styled, typeset

_INCHES_PER_LETTER, _INCHES_PER_HANDLE = 0.083, 0.72
_KINDS = {"log": "log", "symlog": "symlog"}


@dataclass(frozen=True)
class Curve:
    """Points of one curve: x (n,) and y (n,), float64, NaN where there is nothing."""

    x: np.ndarray
    y: np.ndarray


def curve_of(result: ComparisonResult, row: Row | None, on: str, key: str) -> Curve | None:
    """The curve ``key`` of a row on the data set ``on``; None where it is missing or has no finite point."""
    found = None if row is None else result.curve(row, on, key)
    if found is None:
        return None
    curve = Curve(*(np.asarray(axis, dtype=np.float64) for axis in found))
    return curve if np.any(np.isfinite(curve.x) & np.isfinite(curve.y)) else None


def curves_of(result: ComparisonResult, key: str, on: str, names: Iterable[str]) -> dict[str, Curve]:
    """The curve ``key`` of each of these models on a data set, in the comparison's order; those without it left out."""
    wanted = set(names)
    found = {name: curve_of(result, result.row(name, on), on, key) for name in result.models if name in wanted}
    return {name: curve for name, curve in found.items() if curve is not None}


def truth_curve(result: ComparisonResult, key: str, on: str) -> Curve | None:
    """The true field's curve ``key``, or None."""
    return curve_of(result, Row(TRUTH), on, key)


def has_curve(result: ComparisonResult, key: str, on: str) -> bool:
    """Whether any model or the truth has the curve ``key``."""
    return bool(curves_of(result, key, on, result.models)) or truth_curve(result, key, on) is not None


def draw_curves(axes: Axes, curves: Mapping[str, Curve], truth: Curve | None, looks: Mapping[str, ModelLook]) -> None:
    """Lines of all models, networks over interpolations, and the truth below the networks as a broad black line."""
    for name, curve in curves.items():
        look, (x, y) = looks[name], _drawable(axes, curve)
        if x.size:
            order = 4 if look.trained else 2
            axes.plot(
                x,
                y,
                color=look.colour,
                linestyle=look.line,
                linewidth=look.width,
                label=plain(look.label),
                zorder=order,
            )
    if truth is not None:
        x, y = _drawable(axes, truth)
        if x.size:
            axes.plot(x, y, color=TRUTH_COLOUR, linewidth=2.2, label="Truth", zorder=3)


def _drawable(axes: Axes, curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Points with those taken out that a logarithmic axis cannot show."""
    keep = np.isfinite(curve.x) & np.isfinite(curve.y)
    if axes.get_xscale() == "log":
        keep &= curve.x > 0
    if axes.get_yscale() == "log":
        keep &= curve.y > 0
    return curve.x[keep], curve.y[keep]


def set_axes(axes: Axes, kind: CurveKind | None, x_scale: str | None = None, y_scale: str | None = None) -> None:
    """Labels and scales as the comparison describes a curve; scales that are given go before."""
    kind = kind or CurveKind("", "", "")
    axes.set_xscale(_KINDS.get(x_scale or kind.x_scale, "linear"))
    axes.set_yscale(_KINDS.get(y_scale or kind.y_scale, "linear"))
    axes.set_xlabel(typeset(kind.x_label))
    axes.set_ylabel(typeset(kind.y_label))


def shared_legend(figure: Figure, axes: Axes, top: float) -> None:
    """One legend above all panels of a figure, truth first, in as many rows as its names need."""
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: labels[i] != "Truth")
    if not order:
        return
    wanted = sum(_INCHES_PER_LETTER * len(label) + _INCHES_PER_HANDLE for label in labels)
    rows = math.ceil(wanted / figure.get_figwidth())
    figure.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="upper center",
        bbox_to_anchor=(0.5, top),
        ncols=math.ceil(len(order) / rows),
        columnspacing=1.4,
        handlelength=2.1,
        labelspacing=0.25,
        borderaxespad=0.1,
    )


@styled
def curve_figure(result: ComparisonResult, key: str, looks: Mapping[str, ModelLook]) -> Figure:
    """Any curve of the first data set, as its description says; for curves that have no figure of their own."""
    figure = Figure(figsize=(6.4, 4.3), layout="constrained")
    axes, on = figure.add_subplot(), result.home
    set_axes(axes, result.curve_kinds[key])
    draw_curves(axes, curves_of(result, key, on, looks), truth_curve(result, key, on), looks)
    axes.legend(fontsize=10.5, frameon=True, framealpha=0.9, edgecolor="none")
    return figure
