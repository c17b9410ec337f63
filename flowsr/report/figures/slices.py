"""One plane through the box, the same quantity of every field on it: the slices of a report, and the one picture that
says what flowsr does.

Derivatives are taken only on the plane, by one matrix per axis, so that no gradient of a whole volume is ever formed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowsr.compare.findings import NRMSE, best_of
from flowsr.compare.result import ComparisonResult
from flowsr.files import write_bytes_atomic
from flowsr.grid import Grid
from flowsr.metrics.derivatives import derivative
from flowsr.report import style
from flowsr.report.figures.curves import draw_spectrum, mark_cutoff
from flowsr.report.html import png_bytes, size_text
from flowsr.report.style import FAINT, INK, ModelLook, model_looks, plain, styled, with_unit

log = logging.getLogger(__name__)
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP, _ROW_GAP, _BAR = 0.50, 0.78, 0.36, 0.52, 0.09, 0.12, 0.13
_DOTS, _WIDE, _TALL = 100, 16.0, 3.66
HERO_LIMIT = 600_000


@dataclass(frozen=True)
class SliceSet:
    """One quantity on one plane: coarse, every model, truth.

    Args:
        label: what is drawn, in words ("Vorticity magnitude").
        symbol: the same as matplotlib mathematics, for the colour bar.
        unit: of the values; ``1`` or empty where they have none.
        signed: whether the values have a meaningful zero in their middle (diverging colours) or start at zero.
        axis_names: names of the two coordinates in the plane.
        length_unit: of the coordinates; ``1`` or empty where they have none.
        extent: low and high side of the box along the first coordinate, then along the second.
        plane: where the plane lies ("z = 3.14").
        coarse: (m1, m2), what the models were given.
        panels: model name -> (n1, n2), what each made of it.
        truth: (n1, n2).

    Raises:
        ValueError: a panel whose shape is not that of the truth.
    """

    label: str
    symbol: str
    unit: str
    signed: bool
    axis_names: tuple[str, str]
    length_unit: str
    extent: tuple[float, float, float, float]
    plane: str
    coarse: np.ndarray
    panels: dict[str, np.ndarray]
    truth: np.ndarray

    def __post_init__(self):
        for name, panel in self.panels.items():
            if panel.shape != self.truth.shape:
                raise ValueError(f"slice of '{name}' has shape {panel.shape}, the truth {self.truth.shape}")

    def error(self, name: str) -> np.ndarray:
        """Model minus truth, (n1, n2)."""
        return self.panels[name] - self.truth

    def relative_error(self, name: str) -> float:
        """r.m.s. error on the plane over the truth's standard deviation there; NaN where the truth is constant."""
        scale = float(np.std(self.truth))
        return float(np.sqrt(np.mean(self.error(name) ** 2))) / scale if scale > 0 else float("nan")


def collect_slices(
    truth, coarse, fields: Mapping[str, object], grid: Grid, *, velocity_unit: str = "1", length_unit: str = "1"
) -> tuple[SliceSet, ...]:
    """Vorticity magnitude and the first velocity component on the middle plane across z.

    The coarse cells whose layer holds the plane are shown as they are. Vorticity magnitude is over the r.m.s. vorticity
    of the truth on the plane, as is the custom; on the coarse grid it is the vorticity of the coarse field. Fields
    without three components have no vorticity: their first component alone is shown.

    Args:
        truth: (component, x, y, z), anything numpy can read.
        coarse: (component, x/s, y/s, z/s).
        fields: model name -> (component, x, y, z), in the order to be drawn.
        grid: grid of the truth.
        velocity_unit, length_unit: units of the values and of the grid's spacing.

    Raises:
        ValueError: fields that do not fit the grid.
    """
    truth, coarse = np.asarray(truth), np.asarray(coarse)
    fields = {name: np.asarray(field) for name, field in fields.items()}
    for name, field in {"truth": truth, **fields}.items():
        if field.shape[1:] != grid.shape:
            raise ValueError(f"'{name}' has shape {field.shape}, the grid {grid.shape}")
    factor = grid.shape[0] // coarse.shape[1]
    coarse_grid = grid.coarsened(factor)
    if coarse.shape[1:] != coarse_grid.shape:
        raise ValueError(f"coarse field has shape {coarse.shape}, the coarse grid {coarse_grid.shape}")
    middle = grid.shape[2] // 2
    (x, y, _), (wide, tall, _) = grid.origin, grid.lengths
    unit = f" {length_unit}" if length_unit not in ("", "1") else ""

    def plane(label: str, symbol: str, unit_of_values: str, signed: bool, of: Callable[[np.ndarray, Grid, int], Any]):
        true = of(truth, grid, middle)
        scale = 1.0 if signed else float(np.sqrt(np.mean(true**2))) or 1.0
        return SliceSet(
            label=label,
            symbol=symbol,
            unit=unit_of_values,
            signed=signed,
            axis_names=("x", "y"),
            length_unit=length_unit,
            extent=(x, x + wide, y, y + tall),
            plane=f"z = {grid.coordinates()[2][middle]:.3g}{unit}",
            coarse=of(coarse, coarse_grid, middle // factor) / scale,
            panels={name: of(field, grid, middle) / scale for name, field in fields.items()},
            truth=true / scale,
        )

    label = "Velocity component u" if len(truth) == 3 else "First component"
    component = plane(label, "$u$", velocity_unit, True, lambda field, _, layer: field[0, :, :, layer])
    if len(truth) != 3:
        return (component,)
    symbol = r"$|\boldsymbol{\omega}|/\omega_{\mathrm{rms}}$"
    return plane("Vorticity magnitude", symbol, "1", False, vorticity_magnitude), component


def vorticity_magnitude(velocity: np.ndarray, grid: Grid, layer: int) -> np.ndarray:
    """|curl u| on the plane z = centre of cell ``layer``, (x, y), of a velocity (3, x, y, z)."""
    along_x, along_y, along_z = (_differentiation_matrix(grid, axis) for axis in range(3))
    plane = velocity[..., layer].astype(np.float64)
    by_x = np.einsum("ij,cjk->cik", along_x, plane)
    by_y = np.einsum("ij,ckj->cki", along_y, plane)
    by_z = np.tensordot(velocity, along_z[layer], axes=(3, 0))
    curl = np.stack([by_y[2] - by_z[1], by_z[0] - by_x[2], by_x[1] - by_y[0]])
    return np.sqrt(np.sum(curl**2, axis=0))


def _differentiation_matrix(grid: Grid, axis: int) -> np.ndarray:
    """The matrix (cells, cells) of :func:`flowsr.metrics.derivatives.derivative` along one axis."""
    cells = grid.shape[axis]
    line = Grid((cells, 1, 1), (grid.spacing[axis], 1.0, 1.0), (grid.boundary[axis], "periodic", "periodic"))
    identity = torch.eye(cells, dtype=torch.float64).reshape(cells, cells, 1, 1)
    return derivative(identity, line, 0)[:, :, 0, 0].T.numpy()


def draw_plane(axes: Axes, slices: SliceSet, values: np.ndarray, error: float | None = None):
    """One panel: values (n1, n2) in physical coordinates, one square per cell.

    Fields are on one colour scale, 99 % of the truth, symmetric about zero for signed quantities; errors, where
    ``error`` is given, between minus and plus that.
    """
    axes.tick_params(direction="out", length=3, top=False, right=False)
    high = error or float(np.nanpercentile(np.abs(slices.truth), 99)) or 1.0
    about_zero = bool(error) or slices.signed
    colours = style.ERROR_MAP if error else style.SIGNED_MAP if slices.signed else style.POSITIVE_MAP
    scale = {"vmin": -high if about_zero else 0.0, "vmax": high, "cmap": colours}
    values, look = np.asarray(values, dtype=np.float64), {"origin": "lower", "interpolation": "nearest"}
    return axes.imshow(values.T, extent=slices.extent, aspect="auto", **look, **scale)


@styled
def slices_figure(slices: SliceSet, looks: dict[str, ModelLook], names: list[str], width: float = 13.0) -> Figure:
    """Fields above, errors below, one colour scale and one colour bar per row.

    Args:
        names: models to draw, left to right, between the coarse field and the truth.
        width: of the figure, inches.
    """
    columns = len(names) + 2
    side = (width - _LEFT - _RIGHT - _GAP * (columns - 1)) / columns
    low1, high1, low2, high2 = slices.extent
    tall = side * min(max((high2 - low2) / (high1 - low1), 0.25), 4.0)
    height = _TOP + tall + _ROW_GAP + tall + _BOTTOM
    figure = Figure(figsize=(width, height))
    upper, lower = _BOTTOM + tall + _ROW_GAP, _BOTTOM

    def place(left: float, bottom: float, wide: float) -> Axes:
        return figure.add_axes((left / width, bottom / height, wide / width, tall / height))

    def column(index: int) -> float:
        return _LEFT + index * (side + _GAP)

    for index, (title, colour, values) in enumerate(_panels(slices, looks, names)):
        axes = place(column(index), upper, side)
        image = draw_plane(axes, slices, values)
        axes.set_title(plain(title), color=colour, fontweight="bold", fontsize=12.5, pad=6)
        _label_axes(axes, slices, first=index == 0, last_row=not names)
    bar = place(column(columns - 1) + side + _GAP, upper, _BAR)
    figure.colorbar(image, cax=bar, extend="both" if slices.signed else "max")
    bar.set_ylabel(with_unit(slices.symbol, slices.unit))
    if not names:
        return figure
    # Half the common colour range of the errors: 99 % of the worst model's.
    error = max(float(np.nanpercentile(np.abs(slices.error(name)), 99)) for name in names) or 1.0
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2.5}
    for index, name in enumerate(names, start=1):
        axes = place(column(index), lower, side)
        image = draw_plane(axes, slices, slices.error(name), error)
        _label_axes(axes, slices, first=index == 1, last_row=True)
        share, inside = f"{100 * slices.relative_error(name):.0f} %", axes.transAxes
        axes.text(0.03, 0.97, share, transform=inside, ha="left", va="top", fontsize=12, color=INK, bbox=box)
    bar = place(column(columns - 1), lower, _BAR)
    figure.colorbar(image, cax=bar, extend="both")
    bar.set_ylabel("error in " + with_unit(slices.symbol, slices.unit))
    note = figure.add_axes((0.0, lower / height, (side + _LEFT - 0.38) / width, tall / height))
    note.set_axis_off()
    note.text(0.98, 0.96, "model $-$ truth", ha="right", va="top", fontsize=13, fontweight="bold")
    meaning = "per cent: r.m.s. error\nover r.m.s. variation of\nthe truth on this plane"
    note.text(0.98, 0.82, meaning, ha="right", va="top", fontsize=11, color=FAINT, linespacing=1.35)
    return figure


def _panels(slices: SliceSet, looks: Mapping[str, ModelLook], names: list[str]) -> list[tuple[str, str, np.ndarray]]:
    """Title, its colour and values: the coarse field, the models, the truth."""
    models = [(looks[name].label, looks[name].colour, slices.panels[name]) for name in names]
    return [("Coarse input", INK, slices.coarse), *models, ("Truth", style.TRUTH_COLOUR, slices.truth)]


def _label_axes(axes: Axes, slices: SliceSet, first: bool, last_row: bool) -> None:
    axes.locator_params(nbins=4)
    axes.tick_params(labelbottom=last_row, labelleft=first)
    if last_row:
        axes.set_xlabel(with_unit(f"${slices.axis_names[0]}$", slices.length_unit), labelpad=2)
    if first:
        axes.set_ylabel(with_unit(f"${slices.axis_names[1]}$", slices.length_unit), labelpad=2)


def hero_figure(path: str | Path, result: ComparisonResult, slices: SliceSet, network: str | None = None) -> Path:
    """Write the picture, 1600 dots wide and below 600 kB, as PNG, whole or not at all; the path.

    Args:
        slices: a plane with panels of the best interpolation and of ``network``.
        network: the network shown; default: the one with the lowest NRMSE.

    Raises:
        ValueError: ``slices`` lacks the network or every interpolation.
    """
    shown = [name for name in slices.panels if name in result.models]
    rival = best_of(result, NRMSE, trained=False, among=shown)
    network = network or best_of(result, NRMSE, trained=True, among=shown)
    if rival is None or network not in shown:
        raise ValueError(f"the slices hold {sorted(slices.panels)}: an interpolation and a network are needed")
    picture = png_bytes(draw_hero(result, slices, [rival, network]), _DOTS, HERO_LIMIT)
    path = write_bytes_atomic(path, picture)
    log.info("wrote %s (%d kB)", path, len(picture) // 1000)
    return path


@styled
def draw_hero(result: ComparisonResult, slices: SliceSet, names: list[str]) -> Figure:
    """Four planes on one colour scale, ``names`` between the coarse field and the truth, and the spectra."""
    looks, data = model_looks(result.models), result.data[result.home]
    figure = Figure(figsize=(_WIDE, _TALL))
    side, gap, left, bottom = 2.78, 0.09, 0.10, 0.26

    def place(x: float, y: float, wide: float, tall: float) -> Axes:
        return figure.add_axes((x / _WIDE, y / _TALL, wide / _WIDE, tall / _TALL))

    coarse, fine = (f"{size_text(shape)} cells" for shape in (data.coarse_shape, data.fine_shape))
    errors = [result.mean(result.row(name, result.home), result.home, NRMSE) for name in names]
    notes = [coarse, *(f"NRMSE {error:.3f}" for error in errors), fine]
    for index, ((title, colour, values), note) in enumerate(zip(_panels(slices, looks, names), notes)):
        axes = place(left + index * (side + gap), bottom, side, side)
        image = draw_plane(axes, slices, values)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        above = {"transform": axes.transAxes, "va": "baseline"}
        axes.text(0, 1.105, plain(title), fontsize=16, fontweight="bold", color=colour, **above)
        axes.text(0, 1.03, plain(note), fontsize=13, color="#555555", **above)
    start = left + 4 * (side + gap)
    bar = place(start, bottom, 0.12, side)
    figure.colorbar(image, cax=bar, extend="both" if slices.signed else "max")
    bar.set_title(with_unit(slices.symbol, slices.unit), fontsize=13, loc="left", pad=8)
    spectrum = place(start + 1.25, 0.62, _WIDE - start - 1.37, 2.42)
    draw_spectrum(spectrum, result, result.home, {name: looks[name] for name in names})
    mark_cutoff(spectrum, data.cutoff_wavenumber)
    title = {"transform": spectrum.transAxes, "fontsize": 16, "fontweight": "bold"}
    spectrum.text(0, 1.105 * side / 2.42 - 0.148, "Energy spectrum", **title)
    spectrum.set_xlabel("wavenumber $k$", labelpad=1)
    spectrum.set_ylabel("$E(k)$", labelpad=1)
    spectrum.legend(loc="lower left", fontsize=11, handlelength=1.7, borderaxespad=0.2)
    return figure
