"""The page beside an upscaled or evaluated field: slices, spectra, densities and the table, in one file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from markupsafe import Markup, escape
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from PIL import Image

from flowsr.evaluate.result import INPUT, OUTPUT, TRUTH, Plane, as_json, home_lines, metrics_table, write_dataset
from flowsr.files import write_text_atomic
from flowsr.report.html import HowMade, Picture, data_address, number, rendered, size_text
from flowsr.report.html import drawn as drawing
from flowsr.report.style import FAINT, SIGNED_MAP, TRUTH_COLOUR, on_any_page, styled, typeset, with_unit

_COLOURS = {INPUT: "#0072B2", OUTPUT: "#D55E00", TRUTH: TRUTH_COLOUR}
_LINES = {INPUT: (0, (5, 2)), OUTPUT: "-", TRUTH: (0, (1, 1.2))}
_RAISED = str.maketrans({"-": "⁻", **dict(zip("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))})
_ROUNDING = 1e-11  # of a spectrum's highest value: below it there is rounding, not flow


def write_metrics(folder: Path, dataset: xr.Dataset, planes: Sequence[Plane] = ()) -> None:
    """Into a store's folder: the groups ``metrics`` and ``report``, the latter with report.html and metrics.json."""
    import zarr

    write_dataset(folder, dataset)
    zarr.create_group(str(folder / "report"), zarr_format=3, overwrite=True)
    write_text_atomic(folder / "report" / "metrics.json", as_json(dataset))
    write_text_atomic(folder / "report" / "report.html", render_metrics(dataset, planes))


def render_metrics(dataset: xr.Dataset, planes: Sequence[Plane] = (), how_made: HowMade | None = None) -> str:
    """The page as text; equal arguments give equal bytes."""
    fields = [str(name) for name in dataset.field.values]
    table = metrics_table(dataset)
    rows = [
        {**row, "cells": ["" if row[name] is None or np.isnan(row[name]) else number(row[name]) for name in fields]}
        for row in table.to_dict("records")
    ]
    attrs = dataset.attrs
    facts = [("variable", attrs.get("variable", "")), ("snapshots", str(dataset.sizes["time"]))]
    facts += [(f"cells of the {name}", size_text(attrs["cells"][name])) for name in fields if name in attrs["cells"]]
    facts += [(key, str(attrs[key])) for key in ("input", "model") if attrs.get(key)]
    return rendered(
        "metrics.html",
        name=attrs.get("file", ""),
        headline=_headline(table),
        home=home_lines(attrs),
        facts=facts,
        fields=fields,
        rows=rows,
        notes=attrs.get("notes", []),
        pictures=[one for one in (_slices(planes), _spectra(dataset, fields), _densities(dataset, fields)) if one],
        how=how_made or HowMade(versions={"flowsr": str(attrs.get("flowsr", ""))}),
    )


def _headline(table: pd.DataFrame) -> tuple[str, str]:
    """The one number, and the sentence that says what it is: the error where the truth is known, or the consistency."""
    rows = {row["key"]: row for row in table.to_dict("records")}

    def value(key: str, field: str) -> float:
        found = rows.get(key, {}).get(field)
        return np.nan if found is None else float(found)

    if np.isfinite(error := value("nrmse", OUTPUT)):
        return number(error), "is the error over the truth (NRMSE), mean over the snapshots."
    energy, given = value("energy", OUTPUT), value("energy", INPUT)
    if given > 0 and np.isfinite(energy):
        what = rows["energy"]["metric"].lower()
        return number(energy / given), f"times the {what} of its input: what scales that the input lacks add."
    first = next((row for row in rows.values() if np.isfinite(value(row["key"], OUTPUT))), None)
    if first is None:
        return "–", "No number could be measured of this field."
    unit = f" {first['unit']}" if first["unit"] != "1" else ""
    return f"{number(value(first['key'], OUTPUT))}{unit}", f"{first['metric']}, mean over the snapshots."


def _slices(planes: Sequence[Plane]) -> Picture | None:
    if not planes:
        return None
    fields = list(dict.fromkeys(plane.field for plane in planes))
    alt = f"Slices through {', '.join(fields)}"
    caption = f"Slices at {planes[0].where}, one colour scale a row: {', '.join(fields)}."
    return Picture(alt, caption, drawing=slices_drawing(planes), wide=len(fields) > 1)


def slices_drawing(planes: Sequence[Plane]) -> Markup:
    """A row a quantity, a column a field; a row's colours are of one scale.

    Written as it stands: of one colour map's pictures and some words, which take their colours from the page, a drawing
    library would make more work than of all else on the page.
    """
    labels = list(dict.fromkeys(plane.label for plane in planes))
    fields = list(dict.fromkeys(plane.field for plane in planes))
    low_x, high_x, low_y, high_y = planes[0].extent
    scale = 300 / max(high_x - low_x, high_y - low_y)
    wide, high = scale * (high_x - low_x), scale * (high_y - low_y)
    left, top, across, down, right = 62, 30, 26, 52, 96
    size = left + len(fields) * (wide + across) + right, top + len(labels) * (high + down)
    frame, parts = on_any_page("#333333"), []

    def put(x: float, y: float, text: object, anchor: str = "middle", turned: bool = False) -> None:
        turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
        parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{escape(text)}</text>')

    def show(x: float, y: float, width: float, values: np.ndarray, most: float) -> None:
        box = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{high:.1f}"'
        look = 'preserveAspectRatio="none" style="image-rendering: pixelated"'
        parts.append(f'<image {box} {look} href="{data_address(_coloured(values, most))}"/>')
        parts.append(f'<rect {box} style="fill: none; stroke: {frame}"/>')

    for row, label in enumerate(labels):
        own, y = [plane for plane in planes if plane.label == label], top + row * (high + down)
        reference = next(plane for plane in own[::-1] if plane.field in (OUTPUT, TRUTH)) if len(own) > 1 else own[0]
        finite = np.abs(reference.values[np.isfinite(reference.values)])
        most = float(np.percentile(finite, 99.5)) if finite.size and finite.max() > 0 else 1.0
        for plane in own:
            column = fields.index(plane.field)
            x = left + column * (wide + across)
            show(x, y, wide, plane.values, most)
            for at, end, anchor in ((x, plane.extent[0], "start"), (x + wide, plane.extent[1], "end")):
                put(at, y + high + 17, number(end), anchor)
            put(x + wide / 2, y + high + 17, "x")
            if row == 0:
                put(x + wide / 2, y - 10, plane.field)
            if column == 0:
                put(x - 8, y + high, number(plane.extent[2]), "end")
                put(x - 8, y + 12, number(plane.extent[3]), "end")
                put(x - 8, y + high / 2, "y", "end")
        beside = left + len(fields) * (wide + across)
        show(beside, y, 14, np.linspace(-most, most, 256)[None], most)
        for at, value in ((12, most), (high / 2 + 4, 0.0), (high, -most)):
            put(beside + 20, y + at, number(value), "start")
        put(beside + 84, y + high / 2, label, turned=True)
    look = f'font-size="14" style="max-width: {1.25 * size[0]:.0f}px"'
    head = f'<svg viewBox="0 0 {size[0]:.1f} {size[1]:.1f}" {look} aria-hidden="true" focusable="false">'
    return Markup("\n".join([head, *parts, "</svg>"]))


def _coloured(values: np.ndarray, most: float) -> bytes:
    """A PNG of values (x, y) between -most and most, y upwards; missing ones are transparent."""
    places = np.clip((values / most + 1) * 127.5, 0, 254)
    numbers = np.where(np.isfinite(places), places + 1, 0).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(numbers.T[::-1]), mode="P")
    colours = colormaps[SIGNED_MAP](np.linspace(0, 1, 255), bytes=True)[:, :3]
    picture.putpalette([0, 0, 0, *colours.ravel().tolist()])
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=0)
    return buffer.getvalue()


def _spectra(dataset: xr.Dataset, fields: Sequence[str]) -> Picture | None:
    keys = [key for key in ("energy_spectrum", *(f"line_spectrum_{a}" for a in "xyz")) if _has(dataset, key, fields)]
    if not keys:
        return None
    figure = spectra_figure(dataset, keys, fields)
    caption = "Energy spectra, means over the snapshots: in shells where the field fits in memory, and along the axes."
    return drawing(figure, "spectra", f"Energy spectra of {', '.join(fields)}", caption, wide=len(keys) > 1)


@styled
def spectra_figure(dataset: xr.Dataset, keys: Sequence[str], fields: Sequence[str]) -> Figure:
    """A panel a kind of spectrum, a line a field."""
    figure, panels = _panels(len(keys), 3.3, 3.2)
    for axes, key in zip(panels, keys):
        axes.set(xscale="log", yscale="log")
        for name in fields:
            if f"{key}_{name}" in dataset:
                array = dataset[f"{key}_{name}"].mean("time")
                array = array.sum("component") / 2 if "component" in array.dims else array
                _line(axes, array, name)
        _decades(axes.xaxis, axes.yaxis)
        about = dataset[next(f"{key}_{name}" for name in fields if f"{key}_{name}" in dataset)]
        axis = dataset[about.dims[-1]]
        label = "E(k)" if key == "energy_spectrum" else f"E(k_{key[-1]}), all components"
        axes.set_xlabel(with_unit(typeset(axis.attrs["long_name"]), axis.attrs["units"]))
        axes.set_ylabel(with_unit(typeset(label), about.attrs["units"]))
    axes.legend(frameon=False)
    return figure


def _densities(dataset: xr.Dataset, fields: Sequence[str]) -> Picture | None:
    keys = [key for key in ("pdf_longitudinal", "pdf_transverse") if _has(dataset, key, fields)]
    if not keys:
        return None
    figure = densities_figure(dataset, keys, fields)
    caption = "Probability densities of the velocity gradients over their own r.m.s.; dotted grey: a Gaussian."
    return drawing(figure, "densities", f"Velocity gradients of {', '.join(fields)}", caption)


@styled
def densities_figure(dataset: xr.Dataset, keys: Sequence[str], fields: Sequence[str]) -> Figure:
    """Longitudinal and transverse gradients, a line a field."""
    figure, panels = _panels(len(keys), 4.0, 3.1)
    for axes, key in zip(panels, keys):
        axes.set(yscale="log", xlim=(-10, 10))
        lowest = 1.0
        for name in fields:
            if f"{key}_{name}" in dataset:
                array = dataset[f"{key}_{name}"]
                _line(axes, array, name)
                lowest = min(lowest, float(array.where(array > 0).min()))
                label = dataset[array.dims[-1]].attrs["long_name"]
        x = np.linspace(-5, 5, 201)
        axes.plot(x, np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi), color=FAINT, linestyle=":", zorder=1)
        axes.set_ylim(max(lowest / 2, 1e-9), 2)
        _decades(axes.yaxis)
        axes.set(xlabel=typeset(label), ylabel="probability density")
    axes.legend(frameon=False)
    return figure


def _panels(columns: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    """Equal panels side by side, in inches; placed by hand: asking labels for their size takes longer than drawing."""
    left, right, bottom, top, across = 0.95, 0.15, 0.65, 0.2, 0.95
    size = left + columns * width + (columns - 1) * across + right, bottom + height + top
    figure = Figure(figsize=size)
    edges = {"left": left / size[0], "right": 1 - right / size[0], "bottom": bottom / size[1], "top": 1 - top / size[1]}
    panels = figure.subplots(1, columns, squeeze=False, gridspec_kw={**edges, "wspace": across / width})
    return figure, panels[0]


def _decades(*logarithmic: Axis) -> None:
    """Few ticks, without mathematics: those between decades, and its parser, take longer than all the rest."""
    for axis in logarithmic:
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1.0,) if high > 100 * low else (1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(_power)


def _power(value: float, _: object = None) -> str:
    exponent = round(np.log10(value), 6)
    return "10" + str(int(exponent)).translate(_RAISED) if exponent % 1 == 0 else f"{value:g}"


def _line(axes: Axes, array: xr.DataArray, name: str) -> None:
    x, y = dataset_axis(array), array.values
    shown = np.isfinite(y) & (y > _ROUNDING * np.nanmax(np.append(y, 0))) & (y > 0)
    if axes.get_xscale() == "log":
        shown &= x > 0
    axes.plot(x[shown], y[shown], color=_COLOURS[name], linestyle=_LINES[name], label=name)


def dataset_axis(array: xr.DataArray) -> np.ndarray:
    """The abscissae of a curve."""
    return array[array.dims[-1]].values


def _has(dataset: xr.Dataset, key: str, fields: Sequence[str]) -> bool:
    return any(f"{key}_{name}" in dataset for name in fields)
