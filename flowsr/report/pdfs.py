"""Probability densities of the velocity gradients: where turbulence is unlike noise."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowsr.report.curves import Curve, curves_of, draw_curves, set_axes, shared_legend, truth_curve
from flowsr.report.style import ModelLook, panel_letter, styled

LONGITUDINAL, TRANSVERSE = "pdf_longitudinal", "pdf_transverse"


@styled
def pdfs_figure(comparison: Mapping, looks: Mapping[str, ModelLook]) -> Figure:
    """Longitudinal and transverse velocity-gradient densities on a logarithmic axis, with a Gaussian for reference.

    Args:
        comparison: see :func:`flowsr.report.write_report`.
        looks: look of each model.
    """
    figure = Figure(figsize=(13.0, 4.6))
    panels = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.062, right=0.99, bottom=0.125, top=0.84, wspace=0.16)
    for axes, key, letter in zip(panels, (LONGITUDINAL, TRANSVERSE), "ab"):
        description = comparison["curves"].get(key, {})
        set_axes(axes, description | {"x_scale": "linear", "y_scale": "log"})
        truth = truth_curve(comparison, key)
        draw_curves(axes, curves_of(comparison, key), truth, looks)
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
