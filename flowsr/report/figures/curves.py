"""One family of curves of a comparison on one pair of axes: truth in black, every model in its own look."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowsr.report.style import TRUTH_COLOUR, ModelLook, plain, styled, typeset

_INCHES_PER_LETTER, _INCHES_PER_HANDLE = 0.083, 0.72
_KINDS = {"log": "log", "symlog": "symlog"}


@dataclass(frozen=True)
class Curve:
    """Points of one curve: x (n,) and y (n,), float64, NaN where there is nothing."""

    x: np.ndarray
    y: np.ndarray


def curve_of(entry: Mapping, key: str) -> Curve | None:
    """The curve ``key`` of a model or of the truth in a comparison; None where it is missing or has no finite point."""
    raw = (entry.get("curves") or {}).get(key)
    if not raw:
        return None
    x, y = (np.array([np.nan if v is None else v for v in raw[axis]], dtype=np.float64) for axis in ("x", "y"))
    return Curve(x, y) if np.any(np.isfinite(x) & np.isfinite(y)) else None


def curves_of(comparison: Mapping, key: str) -> dict[str, Curve]:
    """Every model's curve ``key``, in the comparison's order; models without it are left out."""
    found = {name: curve_of(model, key) for name, model in comparison["models"].items()}
    return {name: curve for name, curve in found.items() if curve is not None}


def truth_curve(comparison: Mapping, key: str) -> Curve | None:
    """The truth's curve ``key``, or None."""
    return curve_of(comparison["truth"], key)


def has_curve(comparison: Mapping, key: str) -> bool:
    """Whether any model or the truth has the curve ``key``."""
    return bool(curves_of(comparison, key)) or truth_curve(comparison, key) is not None


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


def set_axes(axes: Axes, description: Mapping) -> None:
    """Scales and labels as a comparison's ``curves`` entry describes them."""
    axes.set_xscale(_KINDS.get(description.get("x_scale"), "linear"))
    axes.set_yscale(_KINDS.get(description.get("y_scale"), "linear"))
    axes.set_xlabel(typeset(str(description.get("x_label", ""))))
    axes.set_ylabel(typeset(str(description.get("y_label", ""))))


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
def curve_figure(comparison: Mapping, key: str, looks: Mapping[str, ModelLook]) -> Figure:
    """Any curve of a comparison, as its description says; for curves that have no figure of their own.

    Args:
        comparison: see :func:`flowsr.report.write_report`.
        key: of the curve.
        looks: look of each model.
    """
    figure = Figure(figsize=(6.4, 4.3), layout="constrained")
    axes = figure.add_subplot()
    set_axes(axes, comparison["curves"][key])
    draw_curves(axes, curves_of(comparison, key), truth_curve(comparison, key), looks)
    axes.legend(fontsize=10.5, frameon=True, framealpha=0.9, edgecolor="none")
    return figure
