"""NaN, infinite and missing values, found one snapshot at a time; periodic axes whose end is stored twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Literal

import numpy as np
import xarray as xr

from flowsr.data.field import SPACE, field_variables
from flowsr.errors import FlowsrError

#: What is done about missing values: refuse the file that has them, or carry them on as NaN.
Missing = Literal["refuse", "nan"]
#: Attribute of a dataset, ``nan``, in which NaN stands for missing values that its maker chose to carry.
CARRIED = "missing"


def carries_missing(dataset: xr.Dataset) -> bool:
    """Whether NaN in a dataset stand for missing values: an ingest, an upscale with ``missing: nan`` made it."""
    return dataset.attrs.get(CARRIED) == "nan"


def any_within(
    cells: np.ndarray, spans: Sequence[tuple[int, int]], boundary: Sequence[str] = ("periodic",) * 3
) -> np.ndarray:
    """For every cell, whether any is true in the box that begins ``first`` cells from it.

    Args:
        cells: (x, y, z) bool.
        spans: first and length of the box along each axis.
        boundary: of the axes; on periodic ones the box is wrapped, beyond the others nothing is true.

    Returns:
        (x, y, z) bool.
    """
    for axis, ((first, length), kind) in enumerate(zip(spans, boundary)):
        side = cells.shape[axis]
        places = np.arange(first, side + first + length - 1)
        around = np.take(cells, places % side, axis=axis)
        if kind != "periodic":
            inside = (places >= 0) & (places < side)
            around = around & np.expand_dims(inside, [n for n in range(3) if n != axis])
        before = np.zeros([1 if n == axis else m for n, m in enumerate(around.shape)], dtype=np.int32)
        sums = np.concatenate([before, np.cumsum(around, axis=axis, dtype=np.int32)], axis=axis)
        starts = np.arange(side)
        cells = np.take(sums, starts + length, axis=axis) > np.take(sums, starts, axis=axis)
    return cells


@dataclass
class BadValues:
    """NaN, infinite and missing values of one variable, counted as snapshots are shown to it.

    Attributes:
        count: how many.
        infinite: how many of them are infinite, which no file calls missing.
        place: numbers of the first along time, component, x, y, z; None where there is none.
    """

    array: xr.DataArray
    count: int = 0
    infinite: int = 0
    place: tuple[int, ...] | None = None

    @property
    def first(self) -> str | None:
        """The place of the first, such as ``time 3, component 0, x 1, y 2, z 3``."""
        return self.place and ", ".join(f"{dim} {index}" for dim, index in zip(self.array.dims, self.place))

    def update(self, time: int, values: np.ndarray, box: Sequence[slice] = (slice(0, None),) * 3) -> None:
        """Look at ``values`` (component, x, y, z) or (x, y, z) at index ``time``, all or those of a box."""
        bad = self.mask(values)
        count = int(np.count_nonzero(bad))
        if count:
            starts = (time, *([0] * (values.ndim - 3)), *(part.start for part in box))
            inside = (0, *np.unravel_index(np.argmax(bad), bad.shape))
            place = tuple(int(start + index) for start, index in zip(starts, inside))
            self.place = place if self.place is None else min(self.place, place)
        self.count += count
        if count:
            self.infinite += int(np.count_nonzero(np.isinf(values)))

    def mask(self, values: np.ndarray) -> np.ndarray:
        """Which of the values are NaN, infinite or missing, as the array's attributes say."""
        bad = ~np.isfinite(values)
        for key in ("_FillValue", "missing_value"):
            if key in self.array.attrs:
                bad |= values == np.asarray(self.array.attrs[key], dtype=values.dtype)
        return bad

    def refuse(self, file, missing: Missing = "refuse", hint: str | None = None) -> None:
        """Raise a :class:`FlowsrError` if there were any; with ``missing: nan``, if there were infinite ones.

        Args:
            hint: how to go on with them, where there is a way.
        """
        if self.infinite or (self.count and missing == "refuse"):
            found = f"{self.count} of {self.array.size}, the first at {self.first}"
            found += f"; {self.infinite} are infinite" if self.infinite else ""
            where = {"variable": self.array.name, "expected": "finite values", "found": found}
            hint = None if self.infinite else hint
            raise FlowsrError("NaN, infinite or missing values", file=file, **where, hint=hint)


def check_finite(dataset: xr.Dataset, file=None, variables: list[str] | None = None) -> None:
    """Refuse fields with NaN, infinite or missing (``_FillValue``, ``missing_value``) values.

    Args:
        file: what to name in the error.
        variables: names to check; default all fields.

    Raises:
        FlowsrError: how many, of how many, and where the first one is.
    """
    for name in variables or field_variables(dataset):
        bad = BadValues(dataset[name])
        for time in range(dataset.sizes["time"]):
            bad.update(time, dataset[name].isel(time=time).values)
        bad.refuse(file)


# The planes next to the ends differ by this share of their size, or the field is the same forwards and backwards.
TELLING = 1e-3
# Cells along the sides of a part of a plane that is looked at at once.
PLANE = 1024


def doubled_axes(dataset: xr.Dataset, variables: list[str], boundary: tuple[str, ...]) -> list[str]:
    """The periodic axes whose last plane is the first one again, in every variable; a few planes are read.

    Nodes from 0 to 2 pi with both ends make a box one cell too long. Planes of a field that does not vary along the
    axis, or is mirror-symmetric about its middle, are equal too and tell nothing.
    """
    times, telling = (
        dataset.sizes["time"],
        dict.fromkeys((n for n, b in zip(SPACE, boundary) if b == "periodic"), False),
    )
    for name in variables:
        for time in sorted({0, times // 2, times - 1}):
            snapshot = dataset[name].isel(time=time)
            for axis in list(telling):
                differ = _neighbours_differ(snapshot, axis)
                if differ is None:
                    del telling[axis]
                else:
                    telling[axis] |= differ
    return [axis for axis, tells in telling.items() if tells]


def _neighbours_differ(snapshot: xr.DataArray, axis: str) -> bool | None:
    """Whether the second plane and the last but one differ, where the first and the last are equal; else None."""
    side, across = snapshot.sizes[axis], [other for other in SPACE if other != axis]
    if side < 4:
        return None
    corner = {other: slice(0, 8) for other in across}  # little to read, nearly always
    parts = product(*([slice(at, at + PLANE) for at in range(0, snapshot.sizes[other], PLANE)] for other in across))
    differ = largest = 0.0
    for part in chain([corner], (dict(zip(across, each)) for each in parts)):
        first, second, last_but_one, last = (
            snapshot.isel({axis: place, **part}).values for place in (0, 1, side - 2, side - 1)
        )
        if not np.array_equal(first, last, equal_nan=True):
            return None
        inner = np.nan_to_num(np.stack([second, last_but_one]))
        differ = max(differ, float(np.abs(inner[0] - inner[1]).max()))
        largest = max(largest, float(np.abs(inner).max()))
    return differ > TELLING * largest


def refuse_doubled(dataset: xr.Dataset, variables: list[str], boundary: tuple[str, ...], file) -> None:
    """Refuse a periodic axis whose end is stored twice.

    Raises:
        FlowsrError: which axis, and what to do.
    """
    for axis in doubled_axes(dataset, variables, boundary):
        cells = dataset.sizes[axis]
        where = {"variable": axis, "expected": f"{cells - 1} cells", "found": f"{cells}, the last plane is the first"}
        hint = f"leave the last plane out: dataset.isel({axis}=slice(None, -1))"
        raise FlowsrError("the end of a periodic axis is stored twice", file=file, **where, hint=hint)
