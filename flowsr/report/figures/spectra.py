"""Energy spectra and their errors, wavenumber by wavenumber; probability densities of the velocity gradients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowsr.compare.result import ComparisonResult
from flowsr.report.figures.curves import Curve, curves_of, draw_curves, set_axes, shared_legend, truth_curve
from flowsr.report.style import FAINT, INK, ModelLook, panel_letter, styled

SPECTRUM = "energy_spectrum"
SPECTRAL_ERROR = "spectral_error_per_wavenumber"
LONGITUDINAL, TRANSVERSE = "pdf_longitudinal", "pdf_transverse"
_RESOLVED = 1e-12  # of the highest value: below it a float32 spectrum is round-off
_MARGIN = 30.0  # shown below the lowest resolved value of the truth


@styled
def spectra_figure(result: ComparisonResult, on: str, looks: Mapping[str, ModelLook]) -> Figure:
    """Three panels: E(k) with the inertial-range slope, k^(5/3) E(k), and the relative error of E(k).

    Args:
        result: of the comparison.
        on: data set.
        looks: look of each model that is drawn.
    """
    figure = Figure(figsize=(13.0, 4.6))
    panels = figure.subplots(1, 3)
    figure.subplots_adjust(left=0.062, right=0.99, bottom=0.125, top=0.84, wspace=0.27)
    spectra, truth = curves_of(result, SPECTRUM, on, looks), truth_curve(result, SPECTRUM, on)
    cutoff = result.data[on].cutoff_wavenumber

    draw_spectrum(panels[0], result, on, looks)
    set_axes(panels[1], result.curve_kinds.get(SPECTRUM), "log", "log")
    panels[1].set_ylabel(r"$k^{5/3}\,E(k)$")
    compensated = {name: _compensated(curve) for name, curve in spectra.items()}
    draw_curves(panels[1], compensated, truth and _compensated(truth), looks)
    _limit(panels[1], _compensated(truth) if truth else None)

    set_axes(panels[2], result.curve_kinds.get(SPECTRAL_ERROR), "log", "log")
    draw_curves(panels[2], curves_of(result, SPECTRAL_ERROR, on, looks), None, looks)
    panels[2].axhline(1.0, color=FAINT, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
    low, high = panels[2].get_ylim()
    panels[2].set_ylim(max(low, 1e-4), min(max(high, 1.6), 30.0))
    for axes, letter in zip(panels, "abc"):
        mark_cutoff(axes, cutoff)
        panel_letter(axes, letter)
    shared_legend(figure, panels[0], top=0.995)
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
    axes.annotate(
        "$k_c$",
        (cutoff, 1),
        (0, 5),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        ha="center",
        fontsize=12,
    )


def _compensated(curve: Curve) -> Curve:
    return Curve(curve.x, curve.x ** (5 / 3) * curve.y)


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
        result: of the comparison.
        on: data set.
        looks: look of each model that is drawn.
    """
    figure = Figure(figsize=(13.0, 4.6))
    panels = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.062, right=0.99, bottom=0.125, top=0.84, wspace=0.16)
    for axes, key, letter in zip(panels, (LONGITUDINAL, TRANSVERSE), "ab"):
        set_axes(axes, result.curve_kinds.get(key), "linear", "log")
        truth = truth_curve(result, key, on)
        draw_curves(axes, curves_of(result, key, on, looks), truth, looks)
        if truth is not None:
            _gaussian(axes, truth)
        panel_letter(axes, letter)
    shared_legend(figure, panels[0], top=0.995)
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
    axes.fill_between(
        x, low / 10, np.maximum(normal, low / 10), color="#ececec", linewidth=0, label="Gaussian", zorder=0
    )
    axes.set_ylim(low, max(density.max(), normal.max()) * 2)
    axes.set_xlim(x.min(), x.max())
