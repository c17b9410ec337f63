"""One snapshot at a glance: speed and vorticity on the middle plane, and its spectrum or its profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowsr.grid import Grid
from flowsr.metrics.base import physical_unit
from flowsr.metrics.spectra import energy_spectrum
from flowsr.report.figures.slices import vorticity_magnitude
from flowsr.report.style import POSITIVE_MAP, plain, styled, typeset, with_unit

_COLOURS, _LINES = ("#D55E00", "#0072B2", "#009E73"), ("-", (0, (5, 2)), (0, (1, 1.2)))
_ROUNDING = 1e-11


@dataclass(frozen=True)
class ViewedField:
    """A snapshot to look at.

    Args:
        name: of the field.
        values: (component, x, y, z).
        grid: its grid.
        unit, length_unit: of the values and of the lengths.
    """

    name: str
    values: np.ndarray
    grid: Grid
    unit: str = "1"
    length_unit: str = "1"

    @classmethod
    def of(cls, array: Any, grid: Grid, name: str, attrs: Mapping[str, Any]) -> ViewedField:
        """A snapshot (component, x, y, z) or (x, y, z) of xarray's."""
        values = np.asarray(array.values, dtype=np.float64)
        values = values if values.ndim == 4 else values[None]
        return cls(name, values, grid, str(array.attrs.get("units", "1")), str(attrs.get("length_units", "1")))

    @property
    def planes(self) -> dict[str, np.ndarray]:
        """Label to (x, y) values on the middle plane across z."""
        layer = self.grid.shape[2] // 2
        size = np.sqrt((self.values[..., layer] ** 2).sum(0))
        if len(self.values) != 3:
            return {"magnitude": size}
        return {"speed": size, "vorticity": vorticity_magnitude(self.values, self.grid, layer)}


@styled
def view_figure(viewed: Sequence[ViewedField]) -> Figure:
    """A row a field: its planes; and below, or beside a single one, what all of them have along wavenumber or height.

    Colours of a column are on the scale of the last field, so that two fields can be held against each other.
    """
    labels = list(viewed[-1].planes)
    columns = len(labels) + 1
    figure = Figure(figsize=(4.4 * columns, 3.9 * len(viewed)), layout="constrained")
    panels = figure.subplots(len(viewed), columns, squeeze=False)
    highest = {label: float(np.nanpercentile(values, 99.5)) or 1.0 for label, values in viewed[-1].planes.items()}
    for row, one in zip(panels, viewed):
        (x, y, _), (wide, tall, _) = one.grid.origin, one.grid.lengths
        height = one.grid.coordinates()[2][one.grid.shape[2] // 2]
        for axes, (label, values) in zip(row, one.planes.items()):
            look = {"origin": "lower", "interpolation": "nearest", "cmap": POSITIVE_MAP}
            extent = (x, x + wide, y, y + tall)
            image = axes.imshow(values.T, extent=extent, vmin=0, vmax=highest[label], **look)
            unit = one.unit if label != "vorticity" else physical_unit("velocity length^-1", one.unit, one.length_unit)
            figure.colorbar(image, ax=axes, label=with_unit(label, unit), shrink=0.85)
            place = f"z = {height:.3g}"
            axes.set(xlabel=with_unit("x", one.length_unit), ylabel=with_unit("y", one.length_unit))
            axes.set_title(plain(f"{one.name}, {place}" if one.name else place))
    for axes in panels[1:, -1]:
        axes.set_axis_off()
    draw = _spectra if all(one.grid.periodic for one in viewed) else _profiles
    draw(panels[0, -1], viewed)
    if len(viewed) > 1:
        panels[0, -1].legend(frameon=False)
    return figure


def _spectra(axes: Axes, viewed: Sequence[ViewedField]) -> None:
    for one, colour, line in zip(viewed, _COLOURS, _LINES):
        curve = energy_spectrum(torch.from_numpy(one.values)[None], one.grid)
        k, energy = np.asarray(curve.x), np.asarray(curve.y).ravel()
        shown = (k > 0) & np.isfinite(energy) & (energy > _ROUNDING * np.nanmax(energy))
        axes.plot(k[shown], energy[shown], color=colour, linestyle=line, label=plain(one.name))
    one = viewed[-1]
    axes.set(xscale="log", yscale="log")
    axes.set_xlabel(with_unit(typeset("k"), physical_unit("length^-1", one.unit, one.length_unit)))
    axes.set_ylabel(with_unit(typeset("E(k)"), physical_unit("velocity^2 length", one.unit, one.length_unit)))


def _profiles(axes: Axes, viewed: Sequence[ViewedField]) -> None:
    """Fluctuation about the mean of each plane, along the first axis that is not periodic."""
    along = next(axis for axis in range(3) if viewed[-1].grid.boundary[axis] != "periodic")
    for one, colour, line in zip(viewed, _COLOURS, _LINES):
        others = tuple(axis + 1 for axis in range(3) if axis != along)
        fluctuation = np.sqrt(one.values.var(axis=others).sum(0))
        axes.plot(one.grid.coordinates()[along], fluctuation, color=colour, linestyle=line, label=plain(one.name))
    axes.set_xlabel(with_unit("xyz"[along], viewed[-1].length_unit))
    axes.set_ylabel(with_unit("r.m.s. about the plane's mean", viewed[-1].unit))
