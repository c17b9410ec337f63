"""What a file says of an array's numbers beside the array: which are missing, and how they are packed.

The words are those of NetCDF and CF: ``_FillValue``, ``missing_value`` (one or several), ``valid_min``, ``valid_max``,
``valid_range``, ``scale_factor``, ``add_offset``, ``_Unsigned``. :func:`meant` applies them, block by block as an array
is read, for every reader: missing numbers become NaN, packed ones are unpacked. They are used up by that, and
:func:`other` leaves them out of the attributes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from flowsr.data.readers.lazy import FromVariable, Index, LazyArray
from flowsr.errors import FlowsrError

MISSING = ("_FillValue", "missing_value")
VALID = ("valid_min", "valid_max", "valid_range")
PACKING = ("scale_factor", "add_offset")
WORDS = (*MISSING, *VALID, *PACKING, "_Unsigned")

#: What NetCDF leaves in places of a float array that were never written; no velocity is as large.
UNWRITTEN = 9.969209968386869e36


def meant(array: LazyArray, attrs: Mapping[str, Any], *, netcdf: bool = False) -> LazyArray:
    """The array as its attributes mean it; the array itself where they say nothing of its numbers.

    Args:
        attrs: its attributes, numbers in the types that the file has them in, where it has types.
        netcdf: whether places that were never written hold NetCDF's default number.

    Raises:
        FlowsrError: a word that is no number.
    """
    if array.dtype.kind not in "fiu":
        return array
    said = {word: attrs[word] for word in WORDS if attrs.get(word) is not None}
    if netcdf and array.dtype.kind == "f" and "_FillValue" not in said:
        said["_FillValue"] = np.array(UNWRITTEN)
    packing = {word: _numbers(said, word, array) for word in PACKING if word in said}
    trivial = np.all(packing.get("scale_factor", 1) == 1) and np.all(packing.get("add_offset", 0) == 0)
    real = array.dtype.kind == "f"
    if not said or (real and trivial and not set(said) & {*MISSING, *VALID}):
        return array
    return _Meant(array, said, {} if trivial and real else packing)


def other(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that say something else."""
    return {name: value for name, value in attrs.items() if name not in WORDS}


def meant_dataset(dataset: xr.Dataset) -> xr.Dataset:
    """A dataset whose variables may still carry words, of any origin, with the words applied when it is read."""
    carrying = [name for name, array in dataset.data_vars.items() if set(WORDS) & set(array.attrs)]
    for name in carrying:
        array = dataset[name]
        numbers = meant(FromVariable(array.variable, None, str(name)), array.attrs)
        dataset = dataset.assign({name: numbers.as_variable(array.dims, other(array.attrs))})
    return dataset


class _Meant(LazyArray):
    """An array with missing numbers as NaN, and unpacked."""

    def __init__(self, source: LazyArray, said: Mapping[str, Any], packing: Mapping[str, np.ndarray]):
        self.stored = source.dtype
        if str(said.get("_Unsigned", "")).lower() == "true" and source.dtype.kind == "i":
            self.stored = np.dtype(f"u{source.dtype.itemsize}")
        super().__init__(source.shape, _unpacked_dtype(self.stored, packing), source.file, source.variable)
        self.source = source
        self.factor, self.offset = packing.get("scale_factor"), packing.get("add_offset")
        self.missing = [number for word in MISSING for number in self._comparable(_numbers(said, word, source))]
        self.low, self.high = [], []
        for word, bounds in (("valid_min", self.low), ("valid_max", self.high)):
            bounds.extend(_numbers(said, word, source))
        if "valid_range" in said:
            low, high = _pair(_numbers(said, "valid_range", source), source)
            self.low.append(low)
            self.high.append(high)
        # the bounds of packed integers are packed too, unless they have the type of what is unpacked
        self.bounds_unpacked = self.stored.kind != "f" and any(b.dtype.kind == "f" for b in [*self.low, *self.high])

    def load(self, index: Index) -> np.ndarray:
        stored = np.asarray(self.source.load(index), dtype=self.source.dtype)
        stored = stored if self.stored == stored.dtype else stored.view(self.stored)
        values = stored.astype(self.dtype, copy=False)
        if self.factor is not None:
            values = values * self.factor[0].astype(self.dtype)
        if self.offset is not None:
            values = values + self.offset[0].astype(self.dtype)
        bad = np.zeros(stored.shape, dtype=bool)
        for number in self.missing:
            bad |= stored == number
        bounded = values if self.bounds_unpacked else stored
        for low in self.low:
            bad |= bounded < low
        for high in self.high:
            bad |= bounded > high
        return np.where(bad, self.dtype.type(np.nan), values) if bad.any() else values

    def _comparable(self, numbers: np.ndarray) -> list[np.generic]:
        """Numbers in the stored type, as -999.9 is in float32; those that it cannot hold are met nowhere."""
        if self.stored.kind == "f":
            with np.errstate(over="ignore"):
                return list(numbers.astype(self.stored))
        bits = np.iinfo(self.stored)
        # a fill of -1 for a byte that is meant unsigned is 255
        whole = [int(n) for n in numbers if np.isfinite(n) and n == int(n)]
        whole = [n % (bits.max + 1) if n < 0 and self.stored.kind == "u" else n for n in whole]
        return [self.stored.type(n) for n in whole if bits.min <= n <= bits.max]


def _unpacked_dtype(stored: np.dtype, packing: Mapping[str, np.ndarray]) -> np.dtype:
    """CF's rule: unpacked numbers have the type of the factor and offset, where these have one; never a narrower."""
    least = stored if stored.kind == "f" else np.dtype("f4" if stored.itemsize <= 2 else "f8")
    types = [numbers.dtype for numbers in packing.values() if numbers.dtype.kind == "f"]
    if stored.kind != "f" and types:
        least = np.dtype("f4")
    return np.result_type(least, *types)


def _numbers(said: Mapping[str, Any], word: str, array: LazyArray) -> np.ndarray:
    """The numbers of a word, (n,); text is what xarray makes of a number for Zarr 3, eight bytes in base64."""
    if word not in said:
        return np.empty(0)
    value = said[word]
    value = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    try:
        if isinstance(value, str):
            return np.array([_from_text(value)])
        if not isinstance(value, (np.ndarray, np.generic)) and array.dtype == np.float32:
            return np.ravel(np.array(value, dtype=np.float32))  # JSON's numbers have no type of their own
        numbers = np.ravel(np.asarray(value))
        return numbers if numbers.dtype.kind in "fiu" else numbers.astype(float)
    except (TypeError, ValueError):
        where = {"file": array.file, "variable": f"{array.variable}.{word}"}
        raise FlowsrError("not a number", **where, expected="a number", found=repr(value)[:80]) from None


def _from_text(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        packed = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError(text) from None
    if len(packed) != 8:
        raise ValueError(text)
    return float(np.frombuffer(packed, "<f8")[0])


def _pair(numbers: np.ndarray, array: LazyArray) -> tuple[np.generic, np.generic]:
    if len(numbers) != 2:
        where = {"file": array.file, "variable": f"{array.variable}.valid_range"}
        raise FlowsrError("not a range", **where, expected="two numbers", found=numbers.tolist())
    return numbers[0], numbers[1]
