"""Units as files write them: compared, and fields, lengths and times brought to one of them, through pint.

``m/s``, ``m s-1``, ``m*s**-1`` and ``meter second^-1`` are one unit, ``cm/s`` is another of the same dimension. Text
that is no unit (``code_velocity``) agrees with the same text alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import xarray as xr

from flowsr.data.field import SPACE
from flowsr.data.readers.lazy import FromVariable, Index, LazyArray
from flowsr.errors import contradiction

#: What files write where they state no unit, and where they state that there is none.
SILENT = ("", "-", "none", "n/a", "unknown", "?")
PURE = ("1", "nondim", "non-dim", "nondimensional", "non-dimensional", "dimensionless", "unitless")
SINCE = re.compile(r"(\w+)\s+since\s+(.+)", re.IGNORECASE)
#: The commonest units, known without pint, which takes a second to come.
COMMON = dict.fromkeys(("m", "cm", "mm", "km"), "[length]") | dict.fromkeys(
    ("s", "seconds", "min", "h", "hours"), "[time]"
)
#: Standard calendars: dates of others are not compared.
CALENDARS = ("standard", "gregorian", "proleptic_gregorian", "")


def stated(units: Any) -> str | None:
    """A unit as text, ``1`` where it says that there is none; None where nothing is said."""
    if isinstance(units, (bytes, np.bytes_)):
        units = units.decode("utf-8", "replace")
    if isinstance(units, (int, float)) and not isinstance(units, bool) and units == 1:
        return "1"
    if not isinstance(units, str) or units.strip().lower() in SILENT:
        return None
    return "1" if units.strip().lower() in PURE else units.strip()


def conversion(found: str, wanted: str) -> tuple[float, float] | None:
    """Factor and offset from one unit to another, exactly (1, 0) where they are one.

    Returns:
        None where they are not of one dimension, or one of them is no unit that pint knows.
    """
    if found == wanted or _powers(found) == _powers(wanted):
        return 1.0, 0.0
    one, other = _parsed(found), _parsed(wanted)
    if one is None or other is None or one.dimensionality != other.dimensionality:
        return None
    quantity = _registry().Quantity
    low, high = (float(quantity(value, one).to(other).magnitude) for value in (0.0, 1.0))
    factor = float(f"{high - low:.12g}")  # a factor of 100 is 100
    return factor, float(f"{low:.12g}")


def is_known(units: str) -> bool:
    """Whether pint knows a unit: one that it does not know can be compared with the same text alone."""
    return _parsed(units) is not None


def alike(one: Any, other: Any) -> bool:
    """Whether two statements of a unit agree; silence agrees with everything."""
    one, other = stated(one), stated(other)
    return one is None or other is None or conversion(one, other) == (1.0, 0.0)


def in_units(
    dataset: xr.Dataset, name: str, wanted: Any, file: object, said: str = "manifest", message: str | None = None
) -> xr.Dataset:
    """The dataset with a variable in a unit: converted as it is read, or labelled where the dataset does not say.

    Where the velocity is converted, what is in its units of length and time goes with it: the viscosity, coordinates
    in another unit of length, times.

    Args:
        said: who wants it, for the error, and ``message``, what it begins with.

    Raises:
        FlowsrError: a unit of another dimension.
    """
    array, wanted = dataset[name], stated(wanted)
    found = stated(array.attrs.get("units"))
    if wanted is None or found == wanted:
        return dataset
    if found is None:
        array.attrs["units"] = wanted
        return dataset
    known = conversion(found, wanted)
    if known is None:
        hint = None if wanted == "1" or found == "1" or _parsed(found) else f"flowsr does not know the unit {found}"
        where = {"file": file, "variable": f"{name}.units", "expected": f"{wanted} ({said})", "found": found}
        raise contradiction(message or f"file and {said} disagree", **where, hint=hint)
    if known == (1.0, 0.0):
        return dataset
    source, place = array.variable, dataset.encoding.get("source", file)
    scaled = _scaled(source, *known, place, name)
    scaled.attrs["units"] = wanted
    dataset = dataset.assign({name: scaled})
    note(dataset, f"{name} converted from {found} to {wanted}")
    if name == "velocity":
        viscosity = dataset.attrs.get("viscosity")
        lengths, times = _parts(found, wanted)
        if isinstance(viscosity, (int, float)) and lengths is not None and (lengths, times) != (1.0, 1.0):
            dataset.attrs["viscosity"] = float(viscosity) * lengths**2 / times
        dataset = in_one_system(dataset)
    return dataset


def in_length(
    dataset: xr.Dataset, wanted: Any, file: object, said: str = "manifest", message: str | None = None
) -> xr.Dataset:
    """The dataset with its coordinates in a unit of length; one that states none, or none that can be, is left to say.

    Raises:
        FlowsrError: a unit that is no length, where the dataset has one.
    """
    wanted, found = stated(wanted), stated(dataset.attrs.get("length_units"))
    if wanted is None or found is None or found == wanted:
        return dataset
    factor = conversion(found, wanted)
    if factor is None:
        where = {"file": file, "variable": "length_units", "expected": f"{wanted} ({said})", "found": found}
        raise contradiction(message or f"file and {said} disagree", **where)
    if factor != (1.0, 0.0):
        for axis in SPACE:
            dataset = _scaled_axis(dataset, axis, factor[0], wanted)
        note(dataset, f"lengths converted from {found} to {wanted}")
    dataset.attrs["length_units"] = wanted
    return dataset


def in_one_system(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with coordinates and times in the velocity's units of length and time, where the file states both.

    Without such a velocity the lengths are in the unit of the first axis that states one. Times since a date become
    seconds, or the velocity's unit, since that date.
    """
    attrs = [dataset[axis].attrs for axis in ("time", *SPACE) if axis in dataset.coords]
    if not any(stated(said.get("units")) for said in attrs) and stated(dataset.attrs.get("length_units")) is None:
        return dataset
    velocity = stated(dataset["velocity"].attrs.get("units")) if "velocity" in dataset else None
    length, time = _length_and_time(velocity) if velocity else (None, None)
    declared = stated(dataset.attrs.get("length_units"))
    units = {axis: stated(dataset[axis].attrs.get("units")) or declared for axis in SPACE if axis in dataset.coords}
    known = [unit for unit in units.values() if unit and _dimension(unit) == "[length]"]
    target = length or next(iter(known), None)
    for axis, unit in units.items():
        if unit is None or target is None:
            continue
        factor = conversion(unit, target)
        if factor is None:
            if unit != "1":
                note(dataset, f"{axis} stays in {unit}, which is no length")
            continue
        if factor != (1.0, 0.0):
            dataset = _scaled_axis(dataset, axis, factor[0], target)
            note(dataset, f"{axis} converted from {unit} to {target}")
        elif "units" in dataset[axis].attrs:
            dataset[axis].attrs["units"] = target
    if known and target is not None:
        dataset.attrs["length_units"] = target if conversion(declared or "", target) != (1.0, 0.0) else declared
    return _in_time(dataset, time)


def note(dataset: xr.Dataset, text: str) -> None:
    """Say, in the attribute ``converted``, what was converted."""
    dataset.attrs["converted"] = ", ".join(filter(None, [dataset.attrs.get("converted"), text]))


def from_reference(dataset: xr.Dataset, first: xr.Dataset, file: object) -> xr.Dataset:
    """The dataset with its times since the date that another one's are since.

    Raises:
        FlowsrError: times of which one has a date and the other none, in other units, or dates that are not compared.
    """
    (here, since), (there, start) = (_clock(d["time"].attrs) for d in (dataset, first))
    factor, shift = 1.0, 0.0
    if here and there:
        known = conversion(here, there)
        if known is None:
            where = {"variable": "time.units", "expected": f"{there} as in the first file", "found": here}
            raise contradiction("files of one run differ", file=file, **where)
        factor = known[0]
    if since != start:
        dates = _date(since, dataset["time"].attrs), _date(start, first["time"].attrs)
        if None in dates or there is None:
            where = {"variable": "time.units", "expected": f"since {start}, as in the first file", "found": since}
            raise contradiction("files of one run count time from different dates", file=file, **where)
        shift = (dates[0] - dates[1]).total_seconds() * conversion("s", there)[0]
    if (factor, shift) == (1.0, 0.0):
        return dataset
    return dataset.assign_coords(time=("time", dataset["time"].values * factor + shift, dict(first["time"].attrs)))


def _clock(attrs: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The unit of times, and the date that they are since."""
    units = stated(attrs.get("units"))
    dated = SINCE.fullmatch(units) if units else None
    return (dated[1], dated[2].strip()) if dated else (units, None)


def _in_time(dataset: xr.Dataset, wanted: str | None) -> xr.Dataset:
    """Times in a unit, those since a date as numbers since it."""
    if "time" not in dataset.coords or dataset["time"].ndim != 1 or dataset["time"].dtype.kind not in "fiu":
        return dataset
    units, since = _clock(dataset["time"].attrs)
    if units is None or _dimension(units) != "[time]":
        return dataset
    wanted = wanted or ("s" if since else units)
    factor, values = conversion(units, wanted)[0], dataset["time"].values
    dated = f"{'seconds' if wanted == 's' else wanted} since {since}" if since else wanted
    attrs = {**dataset["time"].attrs, "units": dated}
    return dataset.assign_coords(time=("time", values * factor if factor != 1 else values, attrs))


class Scaled(LazyArray):
    """An array in another unit."""

    def __init__(self, source: LazyArray, factor: float, offset: float):
        super().__init__(source.shape, source.dtype, source.file, source.variable)
        self.source, self.factor, self.offset = source, factor, offset

    def load(self, index: Index) -> np.ndarray:
        values = np.asarray(self.source.load(index), dtype=self.dtype) * self.dtype.type(self.factor)
        return values + self.dtype.type(self.offset) if self.offset else values


def _scaled(variable: xr.Variable, factor: float, offset: float, file, name: str) -> xr.Variable:
    array = Scaled(FromVariable(variable, file, name), factor, offset).as_variable(variable.dims, dict(variable.attrs))
    array.encoding.update(variable.encoding)
    return array


def _scaled_axis(dataset: xr.Dataset, axis: str, factor: float, units: str) -> xr.Dataset:
    attrs = {**dataset[axis].attrs, "units": units}
    if "extent" in attrs:
        attrs["extent"] = [float(end) * factor for end in np.ravel(attrs["extent"])]
    return dataset.assign_coords({axis: (axis, dataset[axis].values.astype(float) * factor, attrs)})


def _parts(found: str, wanted: str) -> tuple[float | None, float | None]:
    """How many of the wanted unit's lengths, and times, one of the found unit's is."""
    one, other = _length_and_time(found), _length_and_time(wanted)
    if None in (*one, *other):
        return None, None
    return conversion(one[0], other[0])[0], conversion(one[1], other[1])[0]


def _length_and_time(velocity: str) -> tuple[str | None, str | None]:
    """The units of length and time that a unit of velocity is made of."""
    powers = _powers(velocity)
    if isinstance(powers, dict) and sorted(powers.values()) == [-1, 1]:
        (time, _), (length, _) = sorted(powers.items(), key=lambda part: part[1])
        if (COMMON.get(length), COMMON.get(time)) == ("[length]", "[time]"):
            return length, "s" if time == "seconds" else time
    parsed = _parsed(velocity)
    if parsed is None or parsed.dimensionality != _registry().Unit("m/s").dimensionality:
        return None, None
    parts = dict(parsed._units)  # name to power
    found = {_dimension(name): (f"{_registry().Unit(name):~}", power) for name, power in parts.items()}
    length, time = found.get("[length]"), found.get("[time]")
    if len(parts) != 2 or not (length and time) or (length[1], time[1]) != (1, -1):
        return "m", "s"  # a knot is no length over a time
    return length[0], time[0]


def _dimension(units: str) -> str | None:
    if units in COMMON:
        return COMMON[units]
    parsed = _parsed(units)
    return None if parsed is None else str(parsed.dimensionality)


def _powers(units: str) -> Mapping[str, int] | str:
    """Units as powers, so that m/s, m s-1 and m*s**-1 are one; other text as it is."""
    powers: dict[str, int] = {}
    for number, part in enumerate(units.strip().replace("**", "^").split("/")):
        for token in re.split(r"[\s.*]+", part.strip()):
            match = re.fullmatch(r"([A-Za-z]+)\^?([+-]?\d{1,2})?|1", token)
            if match is None:
                return units
            if match[1]:
                power = int(match[2] or 1) * (-1 if number else 1)
                powers[match[1]] = powers.get(match[1], 0) + power
    return powers


@lru_cache
def _registry():
    import pint  # half a second, and wanted only where two units are written differently

    return pint.UnitRegistry(autoconvert_offset_to_baseunit=True)


@lru_cache(maxsize=256)
def _parsed(units: str):
    """A unit as pint has it, or None where it is none."""
    if len(units) > 64:
        return None
    powers = _powers(units)
    text = units if isinstance(powers, str) else " * ".join(f"{n}**({p})" for n, p in powers.items()) or "dimensionless"
    text = re.sub(r"(?<=[A-Za-z)])\s*\^?(?=[+-]?\d)", "**", text) if isinstance(powers, str) else text
    if not re.fullmatch(r"[\w\s*/^().+%°µ-]+", text) or text.count("**") > 8:
        return None
    try:
        return _registry().Unit(text)
    except Exception:  # pint raises what its tokenizer happens to trip over
        return None


def _date(text: str | None, attrs: Mapping[str, Any]) -> datetime | None:
    """A reference date of CF's, in UTC."""
    if text is None or str(attrs.get("calendar", "")).lower() not in CALENDARS:
        return None
    text = re.sub(r"\s*(UTC|GMT|Z)$", "", text.strip())
    match = re.match(r"(\d{1,4})-(\d{1,2})-(\d{1,2})(?:[T ](\d{1,2})(?::(\d{1,2}))?(?::(\d{1,2})(\.\d+)?)?)?$", text)
    if match is None:
        return None
    numbers = [int(part or 0) for part in match.groups()[:6]]
    try:
        return datetime(*numbers) + timedelta(seconds=float(match[7] or 0))
    except ValueError:
        return None
