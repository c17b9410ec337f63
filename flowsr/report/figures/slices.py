"""One plane through the box, the same quantity of every field on it: the slices of a report, and the one picture that
says what flowsr does.

Derivatives are taken only on the plane, by one matrix per axis, so that no gradient of a whole volume is ever formed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from flowsr.compare.findings import NRMSE, best_of
from flowsr.compare.result import ComparisonResult
from flowsr.files import write_bytes_atomic
from flowsr.grid import Grid
from flowsr.metrics.derivatives import derivative
from flowsr.report.figures.spectra import draw_spectrum, mark_cutoff
from flowsr.report.html import png_bytes, size_text
from flowsr.report.style import (
    ERROR_MAP,
    FAINT,
    INK,
    POSITIVE_MAP,
    SIGNED_MAP,
    ModelLook,
    model_looks,
    plain,
    styled,
    with_unit,
)

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
        velocity_unit: unit of the values.
        length_unit: unit of the grid's spacing.

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
    coarse_middle = middle // factor
    where = {
        "axis_names": ("x", "y"),
        "length_unit": length_unit,
        "extent": (grid.origin[0], grid.origin[0] + grid.lengths[0], grid.origin[1], grid.origin[1] + grid.lengths[1]),
        "plane": f"z = {grid.coordinates()[2][middle]:.3g}"
        + (f" {length_unit}" if length_unit not in ("", "1") else ""),
    }
    component = SliceSet(
        label="Velocity component u" if len(truth) == 3 else "First component",
        symbol="$u$",
        unit=velocity_unit,
        signed=True,
        coarse=coarse[0, :, :, coarse_middle],
        panels={name: field[0, :, :, middle] for name, field in fields.items()},
        truth=truth[0, :, :, middle],
        **where,
    )
    if len(truth) != 3:
        return (component,)
    true_vorticity = vorticity_magnitude(truth, grid, middle)
    scale = float(np.sqrt(np.mean(true_vorticity**2))) or 1.0
    vorticity = SliceSet(
        label="Vorticity magnitude",
        symbol=r"$|\boldsymbol{\omega}|/\omega_{\mathrm{rms}}$",
        unit="1",
        signed=False,
        coarse=vorticity_magnitude(coarse, coarse_grid, coarse_middle) / scale,
        panels={name: vorticity_magnitude(field, grid, middle) / scale for name, field in fields.items()},
        truth=true_vorticity / scale,
        **where,
    )
    return (vorticity, component)


def vorticity_magnitude(velocity: np.ndarray, grid: Grid, layer: int) -> np.ndarray:
    """|curl u| on the plane z = centre of cell ``layer``, (x, y).

    Args:
        velocity: (3, x, y, z).
        grid: its grid.
        layer: index along z.
    """
    along_x, along_y, along_z = (differentiation_matrix(grid, axis) for axis in range(3))
    plane = velocity[..., layer].astype(np.float64)
    by_x = np.einsum("ij,cjk->cik", along_x, plane)
    by_y = np.einsum("ij,ckj->cki", along_y, plane)
    by_z = np.tensordot(velocity, along_z[layer], axes=(3, 0))
    curl = np.stack([by_y[2] - by_z[1], by_z[0] - by_x[2], by_x[1] - by_y[0]])
    return np.sqrt(np.sum(curl**2, axis=0))


def differentiation_matrix(grid: Grid, axis: int) -> np.ndarray:
    """The matrix (cells, cells) of :func:`flowsr.metrics.derivatives.derivative` along one axis."""
    cells = grid.shape[axis]
    line = Grid((cells, 1, 1), (grid.spacing[axis], 1.0, 1.0), (grid.boundary[axis], "periodic", "periodic"))
    identity = torch.eye(cells, dtype=torch.float64).reshape(cells, cells, 1, 1)
    return derivative(identity, line, 0)[:, :, 0, 0].T.numpy()


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


def hero_figure(path: str | Path, result: ComparisonResult, slices: SliceSet, network: str | None = None) -> Path:
    """Write the picture, 1600 dots wide and below 600 kB, as PNG.

    Args:
        path: file to write, whole or not at all.
        result: of the comparison.
        slices: a plane with panels of the best interpolation and of ``network``.
        network: the network shown; default: the one with the lowest NRMSE.

    Returns:
        ``path``.

    Raises:
        ValueError: ``slices`` lacks the network or every interpolation.
    """
    shown = [name for name in slices.panels if name in result.models]
    rival = best_of(result, NRMSE, trained=False, among=shown)
    network = network or best_of(result, NRMSE, trained=True, among=shown)
    if rival is None or network not in shown:
        raise ValueError(f"the slices hold {sorted(slices.panels)}: an interpolation and a network are needed")
    figure = draw_hero(result, slices, [rival, network])
    picture = png_bytes(figure, _DOTS, HERO_LIMIT)
    path = write_bytes_atomic(path, picture)
    log.info("wrote %s (%d kB)", path, len(picture) // 1000)
    return path


@styled
def draw_hero(result: ComparisonResult, slices: SliceSet, names: list[str]) -> Figure:
    """Four planes on one colour scale and the spectra of the models among them.

    Args:
        result: of the comparison.
        slices: one plane.
        names: the models between the coarse field and the truth.
    """
    looks = model_looks(result.models)
    figure = Figure(figsize=(_WIDE, _TALL))
    side, gap, left, bottom = 2.78, 0.09, 0.10, 0.26
    data = result.data[result.home]
    coarse, fine = (f"{size_text(shape)} cells" for shape in (data.coarse_shape, data.fine_shape))
    panels = [("Coarse input", coarse, INK, slices.coarse)]
    panels += [(looks[n].label, _score(result, n), looks[n].colour, slices.panels[n]) for n in names]
    panels += [("Truth", fine, "#000000", slices.truth)]
    limits = colour_limits(slices)
    for index, (title, note, colour, values) in enumerate(panels):
        place = (left + index * (side + gap), bottom, side, side)
        axes = figure.add_axes(tuple(v / (_WIDE, _TALL)[i % 2] for i, v in enumerate(place)))
        image = draw_plane(axes, slices, values, limits, field_colours(slices))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.text(
            0,
            1.105,
            plain(title),
            transform=axes.transAxes,
            fontsize=16,
            fontweight="bold",
            color=colour,
            va="baseline",
        )
        axes.text(0, 1.03, plain(note), transform=axes.transAxes, fontsize=13, color="#555555", va="baseline")
    start = left + 4 * (side + gap)
    bar = figure.add_axes((start / _WIDE, bottom / _TALL, 0.12 / _WIDE, side / _TALL))
    figure.colorbar(image, cax=bar, extend="both" if slices.signed else "max")
    bar.set_title(with_unit(slices.symbol, slices.unit), fontsize=13, loc="left", pad=8)
    spectrum = figure.add_axes(((start + 1.25) / _WIDE, 0.62 / _TALL, (_WIDE - start - 1.37) / _WIDE, 2.42 / _TALL))
    draw_spectrum(spectrum, result, result.home, {name: looks[name] for name in names})
    mark_cutoff(spectrum, data.cutoff_wavenumber)
    spectrum.text(
        0, 1.105 * side / 2.42 - 0.148, "Energy spectrum", transform=spectrum.transAxes, fontsize=16, fontweight="bold"
    )
    spectrum.set_xlabel("wavenumber $k$", labelpad=1)
    spectrum.set_ylabel("$E(k)$", labelpad=1)
    spectrum.legend(loc="lower left", fontsize=11, handlelength=1.7, borderaxespad=0.2)
    return figure


def _score(result: ComparisonResult, name: str) -> str:
    return f"NRMSE {result.mean(result.row(name, result.home), result.home, NRMSE):.3f}"
