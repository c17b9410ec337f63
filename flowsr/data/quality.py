"""NaN, infinite and missing values, found one snapshot at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from flowsr.data.field import field_variables
from flowsr.errors import FlowsrError


@dataclass
class BadValues:
    """NaN, infinite and missing values of one variable, counted as snapshots are shown to it.

    Attributes:
        count: how many.
        first: name of the first one's place, such as ``time 3, component 0, x 1, y 2, z 3`` (indices), or None.
    """

    array: xr.DataArray
    count: int = 0
    first: str | None = None

    def update(self, time: int, values: np.ndarray) -> None:
        """Look at the snapshot ``values`` (component, x, y, z) or (x, y, z) at index ``time``."""
        bad = self.mask(values)
        count = int(np.count_nonzero(bad))
        if count and self.first is None:
            index = (time, *np.unravel_index(np.argmax(bad), bad.shape))
            self.first = ", ".join(f"{dim} {int(i)}" for dim, i in zip(self.array.dims, index))
        self.count += count

    def mask(self, values: np.ndarray) -> np.ndarray:
        """Which of the values are NaN, infinite or missing, as the array's attributes say."""
        bad = ~np.isfinite(values)
        for key in ("_FillValue", "missing_value"):
            if key in self.array.attrs:
                bad |= values == np.asarray(self.array.attrs[key], dtype=values.dtype)
        return bad

    def refuse(self, file) -> None:
        """Raise a :class:`FlowsrError` if there were any."""
        if self.count:
            found = f"{self.count} of {self.array.size}, the first at {self.first}"
            where = {"variable": self.array.name, "expected": "finite values", "found": found}
            raise FlowsrError("NaN, infinite or missing values", file=file, **where)


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
