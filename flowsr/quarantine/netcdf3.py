"""The first look at a stranger's NetCDF 3 file, in the disposable process."""

from __future__ import annotations

from contextlib import suppress

from scipy.io import netcdf_file


def meet(path: str) -> None:
    """Read the header and a value of each end of every variable; what is damaged is passed over."""
    with netcdf_file(path, "r", mmap=True) as file:
        for item in file.variables.values():
            for corner in (0, -1):
                with suppress(Exception):
                    float(item.data[(corner,) * item.data.ndim])
