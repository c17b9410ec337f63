"""Curves of a comparison, truth in black and every model in its own look: spectra and their errors, densities of the
velocity gradients, any other statistic over one variable; and the losses of the networks' training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from flowsr.compare.result import TRUTH, ComparisonResult, CurveKind, Row
from flowsr.report.style import FAINT, INK, TRUTH_COLOUR, ModelLook, panel_letter, plain, styled, typeset

SPECTRUM, SPECTRAL_ERROR = "energy_spectrum", "spectral_error_per_wavenumber"
LONGITUDINAL, TRANSVERSE = "pdf_longitudinal", "pdf_transverse"
_RESOLVED = 1e-12  # of the highest value: below it a float32 spectrum is round-off
_MARGIN = 30.0  # shown below the lowest resolved value of the truth
_INCHES_PER_LETTER, _INCHES_PER_HANDLE = 0.083, 0.72
_SCALES = {"log": "log", "symlog": "symlog"}
_BELOW_LEGEND = {"left": 0.062, "right": 0.99, "bottom": 0.125, "top": 0.84}
_DOTTED = {"linewidth": 1.0, "linestyle": (0, (2, 1.5))}


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
    """Lines of all models, networks over interpolations, and the truth below the networks as a broad black line.

    Points that a logarithmic axis cannot show are taken out.
    """
    lines = [(curve, *_line_of(looks[name])) for name, curve in curves.items()]
    if truth is not None:
        lines.append((truth, "Truth", {"color": TRUTH_COLOUR, "linewidth": 2.2, "zorder": 3}))
    for curve, label, look in lines:
        keep = np.isfinite(curve.x) & np.isfinite(curve.y)
        if axes.get_xscale() == "log":
            keep &= curve.x > 0
        if axes.get_yscale() == "log":
            keep &= curve.y > 0
        if keep.any():
            axes.plot(curve.x[keep], curve.y[keep], label=label, **look)


def _line_of(look: ModelLook) -> tuple[str, dict]:
    style = {"color": look.colour, "linestyle": look.line, "linewidth": look.width, "zorder": 4 if look.trained else 2}
    return plain(look.label), style


def set_axes(axes: Axes, kind: CurveKind | None, x_scale: str | None = None, y_scale: str | None = None) -> None:
    """Labels and scales as the comparison describes a curve; scales that are given go before."""
    kind = kind or CurveKind("", "", "")
    axes.set_xscale(_SCALES.get(x_scale or kind.x_scale, "linear"))
    axes.set_yscale(_SCALES.get(y_scale or kind.y_scale, "linear"))
    axes.set(xlabel=typeset(kind.x_label), ylabel=typeset(kind.y_label))


def _shared_legend(figure: Figure, axes: Axes) -> None:
    """One legend above all panels of a figure, truth first, in as many rows as its names need."""
    entries = sorted(zip(*axes.get_legend_handles_labels()), key=lambda entry: entry[1] != "Truth")
    if not entries:
        return
    handles, labels = zip(*entries)
    wanted = sum(_INCHES_PER_LETTER * len(label) + _INCHES_PER_HANDLE for label in labels)
    columns = math.ceil(len(labels) / math.ceil(wanted / figure.get_figwidth()))
    layout = {"columnspacing": 1.4, "handlelength": 2.1, "labelspacing": 0.25, "borderaxespad": 0.1}
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.995), ncols=columns, **layout)


@styled
def curve_figure(result: ComparisonResult, key: str, looks: Mapping[str, ModelLook]) -> Figure:
    """Any curve of the first data set, as its description says; for curves that have no figure of their own."""
    figure = Figure(figsize=(6.4, 4.3), layout="constrained")
    axes, on = figure.add_subplot(), result.home
    set_axes(axes, result.curve_kinds[key])
    draw_curves(axes, curves_of(result, key, on, looks), truth_curve(result, key, on), looks)
    axes.legend(fontsize=10.5, frameon=True, framealpha=0.9, edgecolor="none")
    return figure


@styled
def spectra_figure(result: ComparisonResult, on: str, looks: Mapping[str, ModelLook]) -> Figure:
    """Three panels: E(k) with the inertial-range slope, k^(5/3) E(k), and the relative error of E(k).

    Args:
        on: data set.
        looks: look of each model that is drawn.
    """
    figure = Figure(figsize=(13.0, 4.6))
    energy, compensated, errors = panels = figure.subplots(1, 3)
    figure.subplots_adjust(**_BELOW_LEGEND, wspace=0.27)
    draw_spectrum(energy, result, on, looks)

    set_axes(compensated, result.curve_kinds.get(SPECTRUM), "log", "log")
    compensated.set_ylabel(r"$k^{5/3}\,E(k)$")
    truth = _compensated(truth_curve(result, SPECTRUM, on))
    spectra = {name: _compensated(curve) for name, curve in curves_of(result, SPECTRUM, on, looks).items()}
    draw_curves(compensated, spectra, truth, looks)
    _limit(compensated, truth)

    set_axes(errors, result.curve_kinds.get(SPECTRAL_ERROR), "log", "log")
    draw_curves(errors, curves_of(result, SPECTRAL_ERROR, on, looks), None, looks)
    errors.axhline(1.0, color=FAINT, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
    low, high = errors.get_ylim()
    errors.set_ylim(max(low, 1e-4), min(max(high, 1.6), 30.0))
    for axes, letter in zip(panels, "abc"):
        mark_cutoff(axes, result.data[on].cutoff_wavenumber)
        panel_letter(axes, letter)
    _shared_legend(figure, energy)
    return figure


def draw_spectrum(axes: Axes, result: ComparisonResult, on: str, looks: Mapping[str, ModelLook]) -> None:
    """E(k) of the truth and of every model of ``looks``, with a k^(-5/3) guide, on logarithmic axes."""
    set_axes(axes, result.curve_kinds.get(SPECTRUM), "log", "log")
    truth = truth_curve(result, SPECTRUM, on)
    draw_curves(axes, curves_of(result, SPECTRUM, on, looks), truth, looks)
    _limit(axes, truth)
    if truth is not None:
        _guide(axes, truth)


def mark_cutoff(axes: Axes, cutoff: float | None) -> None:
    """Shade the wavenumbers that the coarse grid does not hold, and say so."""
    if not cutoff:
        return
    low, high = axes.get_xlim()
    axes.axvspan(cutoff, max(high, cutoff), color="#f4f1ea", zorder=0, linewidth=0)
    axes.axvline(cutoff, color=FAINT, linewidth=0.9, linestyle=(0, (4, 2)), zorder=1)
    axes.set_xlim(low, high)
    where = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points"}
    axes.annotate("$k_c$", (cutoff, 1), (0, 5), ha="center", fontsize=12, **where)


def _compensated(curve: Curve | None) -> Curve | None:
    return curve and Curve(curve.x, curve.x ** (5 / 3) * curve.y)


def _limit(axes: Axes, truth: Curve | None) -> None:
    """Show what the truth resolves and a little below it: spectra may fall to round-off from one shell to the next."""
    if truth is None:
        return
    positive = (truth.x > 0) & (truth.y > 0)
    k, values = truth.x[positive], truth.y[positive]
    if k.size:
        resolved = values > _RESOLVED * values.max()
        axes.set_ylim(values[resolved].min() / _MARGIN, values.max() * 15)
        axes.set_xlim(k[resolved].min() * 0.9, k[resolved].max() * 1.06)


def _guide(axes: Axes, truth: Curve) -> None:
    """A straight k^(-5/3) above the truth in the low wavenumbers, with its name."""
    positive = truth.x > 0
    k, energy = truth.x[positive], truth.y[positive]
    start, end = k[0] * 1.6, min(k[0] * 8, k[-1])
    if not (end > start and np.any(energy > 0)):
        return
    here = np.array([start, end])
    inside = (k >= start) & (k <= end)
    lift = 2.2 * np.max(energy[inside] * k[inside] ** (5 / 3)) if inside.any() else energy.max()
    line = lift * here ** (-5 / 3)
    axes.plot(here, line, color=INK, linewidth=0.9, zorder=1)
    axes.annotate("$k^{-5/3}$", (start, line[0]), (6, 3), textcoords="offset points", fontsize=12, color=INK)


@styled
def pdfs_figure(result: ComparisonResult, on: str, looks: Mapping[str, ModelLook]) -> Figure:
    """Longitudinal and transverse velocity-gradient densities on a logarithmic axis, with a Gaussian for reference.

    Args:
        on: data set.
        looks: look of each model that is drawn.
    """
    figure = Figure(figsize=(13.0, 4.6))
    panels = figure.subplots(1, 2)
    figure.subplots_adjust(**_BELOW_LEGEND, wspace=0.16)
    for axes, key, letter in zip(panels, (LONGITUDINAL, TRANSVERSE), "ab"):
        set_axes(axes, result.curve_kinds.get(key), "linear", "log")
        truth = truth_curve(result, key, on)
        draw_curves(axes, curves_of(result, key, on, looks), truth, looks)
        if truth is not None:
            _gaussian(axes, truth)
        panel_letter(axes, letter)
    _shared_legend(figure, panels[0])
    return figure


def _gaussian(axes: Axes, truth: Curve) -> None:
    """The normal density with the mean and variance of the truth's."""
    keep = np.isfinite(truth.y) & (truth.y > 0)
    x, density = truth.x[keep], truth.y[keep]
    mass = np.trapezoid(density, x)
    if x.size < 3 or not mass > 0:
        return
    mean = np.trapezoid(x * density, x) / mass
    variance = np.trapezoid((x - mean) ** 2 * density, x) / mass
    normal = np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    low = density.min() / 2
    area = {"color": "#ececec", "linewidth": 0, "label": "Gaussian", "zorder": 0}
    axes.fill_between(x, low / 10, np.maximum(normal, low / 10), **area)
    axes.set_ylim(low, max(density.max(), normal.max()) * 2)
    axes.set_xlim(x.min(), x.max())


@styled
def learning_figure(histories: Mapping[str, Sequence[Mapping]], looks: Mapping[str, ModelLook]) -> Figure:
    """Two panels, the same losses, the epoch whose weights were kept marked: against the epoch and against wall time.

    Args:
        histories: model -> one mapping per epoch with ``epoch`` (from 0), ``train_loss``, ``validation_loss`` and
            ``seconds`` since the fit began.
    """
    figure = Figure(figsize=(13.0, 4.6))
    by_epoch, by_time = panels = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(**_BELOW_LEGEND, wspace=0.06)
    histories = {name: history for name, history in histories.items() if history}
    longest = max((history[-1]["seconds"] for history in histories.values()), default=0.0)
    unit, seconds_per_unit = ("min", 60.0) if longest > 180 else ("s", 1.0)
    for name, history in histories.items():
        colour = looks[name].colour
        epoch, seconds, training, validation = (
            np.array([np.nan if line.get(key) is None else line[key] for line in history], dtype=np.float64)
            for key in ("epoch", "seconds", "train_loss", "validation_loss")
        )
        for axes, x in zip(panels, (epoch + 1, seconds / seconds_per_unit)):
            axes.plot(x, training, color=colour, alpha=0.8, **_DOTTED)
            axes.plot(x, validation, color=colour, linewidth=1.9)
            if np.any(np.isfinite(validation)):
                best = int(np.nanargmin(validation))
                axes.plot(x[best], validation[best], "o", color=colour, markersize=8, markeredgecolor="white")
    for axes, letter in zip(panels, "ab"):
        axes.set_yscale("log")
        axes.grid(True, which="major")
        panel_letter(axes, letter)
    by_epoch.yaxis.set_minor_formatter(lambda value, _: f"{value:.2g}")
    by_epoch.yaxis.set_major_formatter(lambda value, _: f"{value:.2g}")
    by_epoch.tick_params(axis="y", which="minor", labelsize=10)
    by_epoch.xaxis.set_major_locator(MaxNLocator(integer=True))
    by_epoch.set(xlabel="epoch", ylabel="loss (mean absolute error / r.m.s. of the field)")
    by_time.set_xlabel(f"wall time since training began [{unit}]")
    by_time.tick_params(labelleft=False, which="both")
    handles = [
        Line2D([], [], color=looks[name].colour, linewidth=2, label=plain(looks[name].label)) for name in histories
    ]
    handles += [
        Line2D([], [], color=INK, linewidth=1.9, label="validation"),
        Line2D([], [], color=INK, label="training", **_DOTTED),
        Line2D([], [], color=FAINT, marker="o", linestyle="none", markersize=8, label="best epoch, kept"),
    ]
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.995), ncols=min(9, len(handles)))
    return figure
