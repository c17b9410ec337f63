"""What was found of a field, of its input and of the truth, as one dataset: the group ``metrics``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from flowsr.errors import unknown_name
from flowsr.evaluate.measure import FieldMeasure, FieldValues
from flowsr.metrics.base import CurveQuantity, Quantity, physical_unit
from flowsr.metrics.fields import ConsistencyError
from flowsr.metrics.gradients import PDF_RANGE, GradientPdf
from flowsr.metrics.one_dimensional import LineSpectra
from flowsr.metrics.spectra import Spectrum, spectrum_quantity
from flowsr.metrics.statistics import ERRORS, MOMENTS, Totals, gradient_density

INPUT, OUTPUT, TRUTH = "input", "output", "truth"

#: Name -> what it gives.
MEASURES = {
    "energy": "kinetic energy, or half the mean square of any other field",
    "dissipation": "mean dissipation, where the viscosity is known",
    "enstrophy": "mean enstrophy",
    "divergence": "r.m.s. divergence over r.m.s. gradient",
    "skewness": "skewness of the longitudinal derivatives",
    "flatness": "flatness of the longitudinal derivatives",
    "pdfs": "probability densities of the velocity gradients",
    "spectra": "energy spectra: shells where the field fits in memory, lines along each periodic axis always",
    "consistency": "the output made coarse again, against the input",
    "errors": "errors of the field and its spectra, where a truth is given",
}
_HALF_SQUARE = Quantity("Half mean square", "velocity^2", None, "<q.q> / 2")
_KEYS = {"skewness": "derivative_skewness", "flatness": "derivative_flatness"}
QUANTITIES: dict[str, Quantity] = {
    **MOMENTS,
    **ConsistencyError.scalars,
    **ERRORS,
    **Spectrum.scalars,
    **LineSpectra.scalars,
}
CURVES: dict[str, CurveQuantity] = {
    "energy_spectrum": Spectrum.curves["energy_spectrum"],
    **{
        f"line_spectrum_{axis}": spectrum_quantity(
            f"Spectrum along {axis}",
            f"E(k_{axis})",
            "Pope, Turbulent Flows (2000), eq. 6.206",
            "velocity^2 length",
            k=f"k_{axis}",
        )
        for axis in "xyz"
    },
    **{
        key: CurveQuantity(one.label, one.x_label.replace("true rms", "rms"), one.y_label, one.source, y_scale="log")
        for key, one in GradientPdf.curves.items()
    },
}


@dataclass(frozen=True)
class Snapshot:
    """What was found at one time.

    Args:
        time: of it.
        fields: of each field, ``output`` and, where they are there, ``input`` and ``truth``.
        scalars: of the output against the others.
    """

    time: float
    fields: dict[str, FieldValues]
    scalars: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plane:
    """A slice through a field, for the page.

    Args:
        label: what is drawn.
        field: of which field.
        values: (n1, n2).
        extent: low and high side along the first coordinate, then along the second.
        where: which plane, and when.
    """

    label: str
    field: str
    values: np.ndarray
    extent: tuple[float, float, float, float]
    where: str


def chosen_measures(names: Sequence[str] | None) -> frozenset[str]:
    """The measures asked for; None for all.

    Raises:
        FlowsrError: an unknown name.
    """
    if names is None:
        return frozenset(MEASURES)
    for name in names:
        if name not in MEASURES:
            raise unknown_name("measure", name, MEASURES, variable="metrics")
    return frozenset(names)


def dataset_of(
    snapshots: Sequence[Snapshot],
    measures: Mapping[str, FieldMeasure],
    *,
    units: str,
    length_units: str,
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    """Everything found, with units and sources in the attributes.

    Scalars have the dims (field, time), or (time,) where they compare the output with another field; spectra (time,
    wavenumber), summed over the components along shells, by component along lines; densities are of all snapshots.
    """
    names = frozenset().union(*(measure.names for measure in measures.values()))
    fields = [name for name in (INPUT, OUTPUT, TRUTH) if name in measures]
    wanted = [key for key in MOMENTS if any(_KEYS.get(name, name) == key for name in names)]
    data: dict[str, xr.Variable] = {}

    def unit(of: str) -> str:
        return physical_unit(of, units, length_units)

    for key in wanted:
        values = [[one.fields[name].scalars.get(key, math.nan) for one in snapshots] for name in fields]
        if np.isfinite(values).any():
            scalar = key == "energy" and measures[OUTPUT].components == 1
            data[key] = _scalar(("field", "time"), values, _HALF_SQUARE if scalar else QUANTITIES[key], unit)
    for key in dict.fromkeys(key for one in snapshots for key in one.scalars):
        values = [one.scalars.get(key, math.nan) for one in snapshots]
        data[key] = _scalar(("time",), values, QUANTITIES[key], unit)
    missing = [[one.fields[name].missing for one in snapshots] for name in fields]
    about = {"units": "1", "long_name": "Cells without a value", "source": "NaN or infinite; left out of all else"}
    data["missing_cells"] = xr.Variable(("field", "time"), np.array(missing, dtype=np.int64), about)
    coords: dict[str, Any] = {
        "time": np.array([one.time for one in snapshots]),
        "field": np.array(fields, dtype=object),
    }
    for name in fields:
        _add_spectra(data, coords, name, [one.fields[name] for one in snapshots], unit)
        if "pdfs" in names and measures[name].gradient:
            _add_densities(data, coords, name, Totals.of(one.fields[name].totals for one in snapshots))
    return xr.Dataset(data, coords=coords, attrs=dict(attrs))


def metrics_table(dataset: xr.Dataset) -> pd.DataFrame:
    """One row a scalar, means over the snapshots: ``metric``, ``unit``, a column a field, ``source``.

    What compares the output with another field stands in the output's column.
    """
    fields, rows = [str(name) for name in dataset.field.values], []
    for key in (*QUANTITIES, "missing_cells"):
        array = dataset.get(key)
        if array is not None and array.dims in (("field", "time"), ("time",)):
            mean = array.sum("time") if key == "missing_cells" else array.mean("time")
            values = (
                mean.values if "field" in array.dims else [mean.item() if name == OUTPUT else None for name in fields]
            )
            row = {"key": key, "metric": array.attrs["long_name"], "unit": array.attrs["units"]}
            rows.append({**row, **dict(zip(fields, map(_plain, values))), "source": array.attrs["source"]})
    return pd.DataFrame(rows, columns=["key", "metric", "unit", *fields, "source"])


def metrics_lines(dataset: xr.Dataset) -> list[str]:
    """The table as lines of text, and the notes."""
    table = metrics_table(dataset)
    fields = [str(name) for name in dataset.field.values]
    shown = [["", *fields, ""]]
    for row in table.to_dict("records"):
        if row["key"] != "missing_cells" or any(row[name] for name in fields):
            cells = ["" if row[name] is None or math.isnan(row[name]) else f"{row[name]:.4g}" for name in fields]
            shown.append([row["metric"], *cells, row["unit"] if row["unit"] != "1" else ""])
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    lines = [
        f"{row[0]:<{widths[0]}}  " + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:-1], widths[1:]))
        + f"  {row[-1]}"
        for row in shown
    ]  # fmt: skip
    return [
        *(line.rstrip() for line in lines),
        *(f"({note})" for note in dataset.attrs.get("notes", [])),
        *home_lines(dataset.attrs),
    ]


def home_lines(attrs: Mapping[str, Any]) -> list[str]:
    """Whether to believe it, a line each: what of the input is not like the fields that the model was trained on.

    Args:
        attrs: of a dataset of metrics; ``home`` is a :class:`flowsr.models.home.Verdict` as JSON has it, where one was
            made.
    """
    home = attrs.get("home")
    if not home:
        return []
    lines = [f"not at home: {each['line']}" for each in home["findings"]]
    if not lines and home["snapshots"]:
        lines = ["at home: the input is like the fields that the model was trained on"]
    return lines + [f"not compared: {what}" for what in home["unknown"]]


def read_metrics(store: Path) -> xr.Dataset | None:
    """The group ``metrics`` of a store; None where it has none."""
    if not (store / "metrics" / "zarr.json").exists():
        return None
    return xr.open_dataset(str(store), engine="zarr", group="metrics", consolidated=False).load()


def as_json(dataset: xr.Dataset) -> str:
    """The scalars, snapshot by snapshot and their means, and what is to be known of them, as JSON."""
    scalars = {}
    for row in metrics_table(dataset).to_dict("records"):
        array = dataset[row["key"]]
        means = {name: _plain(row[name]) for name in map(str, dataset.field.values)}
        values = array.transpose("time", ...).values.tolist()
        about = {"label": row["metric"], "unit": row["unit"], "source": row["source"]}
        scalars[row["key"]] = {**about, **{k: v for k, v in means.items() if v is not None}, "by_snapshot": values}
    times = dataset.time.values.tolist()
    found = {**dataset.attrs, "fields": [str(one) for one in dataset.field.values], "times": times, "metrics": scalars}
    return json.dumps(_strict(found), indent=1, ensure_ascii=False) + "\n"


def write_dataset(folder: Path, dataset: xr.Dataset, planes: Sequence[Plane] = ()) -> None:
    """The group ``metrics`` inside a store's folder."""
    import zarr

    if not (folder / "zarr.json").exists():
        zarr.create_group(str(folder), zarr_format=3)
    attrs = {key: value for key, value in dataset.attrs.items() if value is not None}
    kept = dataset.assign_attrs(attrs)
    kept.to_zarr(str(folder), group="metrics", mode="w", zarr_format=3, consolidated=False)


def _scalar(dims, values, quantity: Quantity, unit) -> xr.Variable:
    attrs = {"units": unit(quantity.unit), "long_name": quantity.label, "source": quantity.source}
    return xr.Variable(dims, np.array(values, dtype=np.float64), attrs)


def _add_spectra(data: dict, coords: dict, name: str, found: Sequence[FieldValues], unit) -> None:
    for key in dict.fromkeys(key for one in found for key in one.spectra):
        about, curves = CURVES[key], [one.spectra.get(key) for one in found]
        known = next((curve for curve in curves if curve is not None and len(curve.x)), None)
        if known is None:
            continue
        blank = torch.full_like(known.y, torch.nan)
        rows = [blank if curve is None or not len(curve.x) else curve.y for curve in curves]
        values = torch.stack(rows).numpy()
        axis = f"wavenumber_{name}" if key == "energy_spectrum" else f"wavenumber_{key[-1]}_{name}"
        attrs = {"units": unit(about.y_unit), "long_name": f"{about.label} of the {name}", "source": about.source}
        if key != "energy_spectrum":
            attrs |= dict(zip(("lines", "of_lines"), found[0].lines[key[-1]]))
        coords[axis] = xr.Variable((axis,), known.x.numpy(), {"units": unit(about.x_unit), "long_name": about.x_label})
        dims = ("time", axis) if key == "energy_spectrum" else ("time", "component", axis)
        data[f"{key}_{name}"] = xr.Variable(dims, values[:, 0] if key == "energy_spectrum" else values, attrs)


def _add_densities(data: dict, coords: dict, name: str, totals: Totals) -> None:
    for kind in ("longitudinal", "transverse"):
        curve = gradient_density(totals, kind)
        shown = curve.x.abs() <= PDF_RANGE
        if not shown.any():
            continue
        about, axis = CURVES[f"pdf_{kind}"], f"gradient_{kind}_{name}"
        coords[axis] = xr.Variable((axis,), curve.x[shown].numpy(), {"units": "1", "long_name": about.x_label})
        attrs = {"units": "1", "long_name": f"{about.label} of the {name}", "source": about.source}
        data[f"pdf_{kind}_{name}"] = xr.Variable((axis,), curve.y[shown].numpy(), attrs)


def _plain(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _strict(value: Any) -> Any:
    """A value in which numbers that JSON has not are null."""
    if isinstance(value, Mapping):
        return {str(key): _strict(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
