"""The page beside an upscaled or evaluated field: slices, spectra, densities and the table, in one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowsr.evaluate.result import INPUT, OUTPUT, TRUTH, Plane, as_json, home_lines, metrics_table, write_dataset
from flowsr.files import write_text_atomic
from flowsr.report.html import HowMade, Picture, number, photographed, rendered, size_text
from flowsr.report.html import drawn as drawing
from flowsr.report.style import FAINT, SIGNED_MAP, TRUTH_COLOUR, plain, styled, typeset, with_unit

_COLOURS = {INPUT: "#0072B2", OUTPUT: "#D55E00", TRUTH: TRUTH_COLOUR}
_LINES = {INPUT: (0, (5, 2)), OUTPUT: "-", TRUTH: (0, (1, 1.2))}
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
        return number(energy / given), "times the kinetic energy of its input: what scales that the input lacks add."
    first = next((row for row in rows.values() if np.isfinite(value(row["key"], OUTPUT))), None)
    if first is None:
        return "–", "No number could be measured of this field."
    unit = f" {first['unit']}" if first["unit"] != "1" else ""
    return f"{number(value(first['key'], OUTPUT))}{unit}", f"{first['metric']}, mean over the snapshots."


def _slices(planes: Sequence[Plane]) -> Picture | None:
    if not planes:
        return None
    figure = slices_figure(planes)
    fields = list(dict.fromkeys(plane.field for plane in planes))
    alt = f"Slices through {', '.join(fields)}"
    caption = f"Slices at {planes[0].where}, one colour scale a row: {', '.join(fields)}."
    return photographed(figure, 110, 600_000, alt, caption)


@styled
def slices_figure(planes: Sequence[Plane]) -> Figure:
    """A row a quantity, a column a field; a row's colours are of one scale."""
    labels = list(dict.fromkeys(plane.label for plane in planes))
    fields = list(dict.fromkeys(plane.field for plane in planes))
    figure, panels = _panels(len(labels), len(fields), 3.4, 3.3, right=1.1, across=0.75)
    for row, label in enumerate(labels):
        own = [plane for plane in planes if plane.label == label]
        reference = next(plane for plane in own[::-1] if plane.field in (OUTPUT, TRUTH)) if len(own) > 1 else own[0]
        finite = np.abs(reference.values[np.isfinite(reference.values)])
        high = float(np.percentile(finite, 99.5)) if finite.size and finite.max() > 0 else 1.0
        for plane in own:
            axes = panels[row, fields.index(plane.field)]
            look = {"origin": "lower", "interpolation": "nearest", "cmap": SIGNED_MAP, "vmin": -high, "vmax": high}
            image = axes.imshow(plane.values.T, extent=plane.extent, aspect="equal", **look)
            axes.set(xlabel="x", ylabel="y", title=plane.field if row == 0 else "")
        beside = panels[row, -1].inset_axes((1.05, 0.0, 0.05, 1.0))
        figure.colorbar(image, cax=beside, label=plain(label))
    return figure


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
    figure, panels = _panels(1, len(keys), 3.3, 3.2)
    for axes, key in zip(panels[0], keys):
        axes.set(xscale="log", yscale="log")
        for name in fields:
            if f"{key}_{name}" in dataset:
                array = dataset[f"{key}_{name}"].mean("time")
                array = array.sum("component") / 2 if "component" in array.dims else array
                _line(axes, array, name)
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
    figure, panels = _panels(1, len(keys), 4.0, 3.1)
    for axes, key in zip(panels[0], keys):
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
        axes.set(xlabel=typeset(label), ylabel="probability density")
    axes.legend(frameon=False)
    return figure


def _panels(
    rows: int, columns: int, width: float, height: float, right: float = 0.15, across: float = 0.95
) -> tuple[Figure, np.ndarray]:
    """A figure of equal panels, in inches; placed by hand: asking every label for its size takes longer than drawing.

    Args:
        right: room beside the last column.
        across: between two columns.
    """
    left, bottom, top, between = 0.95, 0.65, 0.4, 0.7
    size = (
        left + columns * width + (columns - 1) * across + right,
        bottom + rows * height + (rows - 1) * between + top,
    )
    figure = Figure(figsize=size)
    edges = {"left": left / size[0], "right": 1 - right / size[0], "bottom": bottom / size[1], "top": 1 - top / size[1]}
    places = {**edges, "wspace": across / width, "hspace": between / height}
    return figure, figure.subplots(rows, columns, squeeze=False, gridspec_kw=places)


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
