"""flowsr inside xarray: ``dataset.flowsr.upscale(...)`` on any dataset, ``xarray.open_dataset(path, engine="flowsr")``.

The engine is there as soon as flowsr is installed, for every layout that :func:`flowsr.open_field` reads. The accessor
is there once this module has been imported, as ``open_field`` and the engine do; otherwise ``import flowsr.accessor``.

>>> import xarray as xr
>>> xr.open_dataset("velocity_cutout.h5", engine="flowsr").flowsr.upscale("hit-x4")  # doctest: +SKIP
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from xarray.backends import BackendEntrypoint

from flowsr.data import degrade as coarsened
from flowsr.data import grid_of, open_field
from flowsr.data.open import ReadOptions, field_of
from flowsr.data.store import create_store
from flowsr.errors import missing_variable
from flowsr.grid import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FlowsrBackend(BackendEntrypoint):
    """``engine="flowsr"``: HDF5, NetCDF, Zarr, VTK, XDMF, OpenFOAM, JHTDB, The Well, BLASTNet and manifests, lazily."""

    description = "Turbulence fields of any layout, in the one of flowsr"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", *(each.name for each in fields(ReadOptions)))

    def open_dataset(  # type: ignore[override]
        self, filename_or_obj: Any, *, drop_variables: str | Iterable[str] | None = None, **options: Any
    ) -> xr.Dataset:
        """As :func:`flowsr.open_field`, whose options it takes: run, time, units, boundary ..."""
        dataset = open_field(filename_or_obj, **options)
        return dataset.drop_vars(drop_variables) if drop_variables else dataset

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Never by itself: what other engines open, they open as before."""
        return False


@xr.register_dataset_accessor("flowsr")
class Flowsr:
    """What flowsr does to a dataset, in memory or lazy.

    >>> weather.flowsr.field(boundary=("open", "open", "wall")).flowsr.upscale("hit-x4")  # doctest: +SKIP

    Args:
        dataset: in flowsr's layout (:mod:`flowsr.data.field`), or any other that can be made so without asking
            (:func:`flowsr.data.open.field_of`), with open sides.
    """

    def __init__(self, dataset: xr.Dataset):
        self._given = dataset

    def field(self, **stated: Any) -> xr.Dataset:
        """The dataset in flowsr's layout, with what it does not say itself: boundary, units, irreps, lengths ...

        As :func:`flowsr.data.open.field_of`, whose options these are.
        """
        return field_of(self._given, **stated)

    @cached_property
    def _dataset(self) -> xr.Dataset:
        return field_of(self._given)

    @property
    def grid(self) -> Grid:
        """Shape, spacing, boundary and origin of the box."""
        return grid_of(self._dataset)

    def upscale(self, model: Any = None, **how: Any) -> xr.Dataset:
        """The fine field, by a model, a folder, a name or the one that fits: :func:`flowsr.upscale.upscale_dataset`."""
        import flowsr

        return flowsr.upscale(self._dataset, model, **how)

    def degrade(self, operator: str = "block_mean", factor: int | tuple[int, int, int] = 4, **how: Any) -> xr.Dataset:
        """The coarse field (:func:`flowsr.data.degrade`), computed when it is used."""
        return coarsened(self._dataset, operator, factor, **how)

    def spectrum(self, variable: str = "velocity") -> xr.DataArray:
        """Energy spectrum E(k) in shells, (time, wavenumber), of a periodic field (:func:`flowsr.metrics.spectra`).

        Raises:
            FlowsrError: a field that is not in the layout, or no such variable.
            ValueError: a box that is not periodic.
        """
        import torch

        from flowsr.metrics.spectra import energy_spectrum

        array, grid = self._field(variable), self.grid
        values = (torch.from_numpy(np.ascontiguousarray(array.isel(time=t).values))[None] for t in range(len(array)))
        curves = [energy_spectrum(each if each.dim() == 5 else each[None], grid) for each in values]
        wavenumber = np.asarray(curves[0].x)
        data = np.stack([np.asarray(curve.y).reshape(len(wavenumber)) for curve in curves])
        coords = {"time": array.time, "wavenumber": wavenumber}
        return xr.DataArray(data, coords, ("time", "wavenumber"), name="energy_spectrum")

    def metrics(self, names: Sequence[str] | None = None, variable: str = "velocity") -> xr.Dataset:
        """Physics metrics by name (:data:`flowsr.evaluate.MEASURES`; default: all), with units and sources.

        The dataset is written to a temporary store on the way, snapshot by snapshot.
        """
        import flowsr

        self._field(variable)
        whole = self._dataset[[variable]].reset_coords(drop=True)
        with tempfile.TemporaryDirectory(prefix="flowsr.") as folder:
            target = Path(folder) / "field.zarr"
            with create_store(target, whole.assign_attrs(provenance=None)) as store:
                for time in range(whole.sizes["time"]):
                    store.write(variable, whole[variable].isel(time=time).values, time=time)
                store.publish()
            found: xr.Dataset = flowsr.evaluate(target, metrics=names, variable=variable)
            return found.load()

    def plot(self, time: int = -1, variable: str = "velocity") -> Figure:
        """A picture of one snapshot: speed and vorticity on the middle plane, and the energy spectrum."""
        from flowsr.report.figures.view import ViewedField, view_figure

        array = self._field(variable)
        return view_figure([ViewedField.of(array.isel(time=time), self.grid, "", self._dataset.attrs)])

    def _field(self, variable: str) -> xr.DataArray:
        if variable not in self._dataset:
            raise missing_variable(variable, self._dataset.data_vars)
        return self._dataset[variable]


__all__ = ["Flowsr", "FlowsrBackend"]
