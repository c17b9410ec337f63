"""Slices side by side: coarse, best interpolation, networks, truth, and below them what each got wrong."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from flowsr.report.planes import SliceSet
from flowsr.report.style import ERROR_MAP, FAINT, INK, POSITIVE_MAP, SIGNED_MAP, ModelLook, plain, styled, with_unit

_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP, _ROW_GAP, _BAR = 0.50, 0.78, 0.36, 0.52, 0.09, 0.12, 0.13


def colour_limits(slices: SliceSet) -> tuple[float, float]:
    """The common colour scale of the fields: 99 % of the truth, symmetric about zero for signed quantities."""
    high = float(np.nanpercentile(np.abs(slices.truth), 99)) or 1.0
    return (-high, high) if slices.signed else (0.0, high)


def error_limit(slices: SliceSet, names) -> float:
    """Half the common colour range of the errors: 99 % of the worst model's."""
    return max((float(np.nanpercentile(np.abs(slices.error(name)), 99)) for name in names), default=1.0) or 1.0


def draw_plane(axes, slices: SliceSet, values: np.ndarray, limits: tuple[float, float], colours: str):
    """One panel: values (n1, n2) in physical coordinates, one square per cell, on the given colour scale."""
    axes.tick_params(direction="out", length=3, top=False, right=False)
    return axes.imshow(
        np.asarray(values, dtype=np.float64).T,
        origin="lower",
        extent=slices.extent,
        vmin=limits[0],
        vmax=limits[1],
        cmap=colours,
        interpolation="nearest",
        aspect="auto",
    )


def field_colours(slices: SliceSet) -> str:
    """Name of the colour map for the fields themselves."""
    return SIGNED_MAP if slices.signed else POSITIVE_MAP


@styled
def slices_figure(slices: SliceSet, looks: dict[str, ModelLook], names: list[str], width: float = 13.0) -> Figure:
    """Fields above, errors below, one colour scale and one colour bar per row.

    Args:
        slices: what to draw.
        looks: look of each model.
        names: models to draw, left to right, between the coarse field and the truth.
        width: of the figure, inches.
    """
    columns = len(names) + 2
    side = (width - _LEFT - _RIGHT - _GAP * (columns - 1)) / columns
    low1, high1, low2, high2 = slices.extent
    tall = side * min(max((high2 - low2) / (high1 - low1), 0.25), 4.0)
    height = _TOP + tall + _ROW_GAP + tall + _BOTTOM
    figure = Figure(figsize=(width, height))

    def place(left: float, bottom: float, wide: float):
        return figure.add_axes((left / width, bottom / height, wide / width, tall / height))

    def column(index: int) -> float:
        return _LEFT + index * (side + _GAP)

    upper, lower = _BOTTOM + tall + _ROW_GAP, _BOTTOM
    limits, error = colour_limits(slices), error_limit(slices, names)
    fields = [("Coarse input", INK, slices.coarse)]
    fields += [(looks[name].label, looks[name].colour, slices.panels[name]) for name in names]
    fields += [("Truth", "#000000", slices.truth)]
    for index, (title, colour, values) in enumerate(fields):
        axes = place(column(index), upper, side)
        image = draw_plane(axes, slices, values, limits, field_colours(slices))
        axes.set_title(plain(title), color=colour, fontweight="bold", fontsize=12.5, pad=6)
        _label_axes(axes, slices, first=index == 0, last_row=not names)
    bar = place(column(columns - 1) + side + _GAP, upper, _BAR)
    figure.colorbar(image, cax=bar, extend="both" if slices.signed else "max")
    bar.set_ylabel(with_unit(slices.symbol, slices.unit))
    for index, name in enumerate(names, start=1):
        axes = place(column(index), lower, side)
        image = draw_plane(axes, slices, slices.error(name), (-error, error), ERROR_MAP)
        _label_axes(axes, slices, first=index == 1, last_row=True)
        axes.text(
            0.03,
            0.97,
            f"{100 * slices.relative_error(name):.0f} %",
            transform=axes.transAxes,
            ha="left",
            va="top",
            fontsize=12,
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2.5},
        )
    if names:
        bar = place(column(columns - 1), lower, _BAR)
        figure.colorbar(image, cax=bar, extend="both")
        bar.set_ylabel("error in " + with_unit(slices.symbol, slices.unit))
        note = figure.add_axes((0.0, lower / height, (side + _LEFT - 0.38) / width, tall / height))
        note.set_axis_off()
        note.text(0.98, 0.96, "model $-$ truth", ha="right", va="top", fontsize=13, fontweight="bold")
        meaning = "per cent: r.m.s. error\nover r.m.s. variation of\nthe truth on this plane"
        note.text(0.98, 0.82, meaning, ha="right", va="top", fontsize=11, color=FAINT, linespacing=1.35)
    return figure


def _label_axes(axes, slices: SliceSet, first: bool, last_row: bool) -> None:
    axes.locator_params(nbins=4)
    if last_row:
        axes.set_xlabel(with_unit(f"${slices.axis_names[0]}$", slices.length_unit), labelpad=2)
    else:
        axes.tick_params(labelbottom=False)
    if first:
        axes.set_ylabel(with_unit(f"${slices.axis_names[1]}$", slices.length_unit), labelpad=2)
    else:
        axes.tick_params(labelleft=False)
