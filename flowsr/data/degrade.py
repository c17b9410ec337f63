"""From fine to coarse by a named operator, which is stored with the data.

Every operator works along one axis at a time; the three-dimensional one is the product over the axes. What an operator
does to a Fourier mode exp(ikx) of the fine grid is its transfer function T(k): at the coarse cell centres X the
mode becomes T(k) exp(ikX).
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod

import numpy as np
import xarray as xr
from scipy import fft
from scipy.ndimage import gaussian_filter1d

from flowsr.data.layout import SPACE, field_template, field_variables, grid_of
from flowsr.data.lazy import LazyArray
from flowsr.errors import FlowsrError
from flowsr.registry import Registry

PERIODIC = ("periodic", "periodic", "periodic")


class SymmetryWarning(UserWarning):
    """Something asked for by name breaks the octahedral symmetry that flowsr's networks measure."""


class DegradeOperator(ABC):
    """A linear map from a fine to a coarse cell-centred grid, the same along every axis.

    Attributes:
        name: the name it is registered under.
        commutes: whether it commutes with the octahedral group, acting about the box's centre.
        needs_periodic: whether it is defined on periodic axes only.
    """

    name: str
    commutes: bool = True
    needs_periodic: bool = False

    def __call__(self, values: np.ndarray, factor: int, boundary: tuple[str, str, str] = PERIODIC) -> np.ndarray:
        """Degrade.

        Args:
            values: (..., x, y, z) on the fine grid.
            factor: coarse cell size over fine cell size.
            boundary: of the axes x, y, z.

        Returns:
            (..., x / factor, y / factor, z / factor), dtype of ``values``; sums are taken in float64.

        Raises:
            ValueError: a side that ``factor`` does not divide, or an axis that is not periodic where it must be.
        """
        if any(side % factor for side in values.shape[-3:]):
            raise ValueError(f"factor {factor} does not divide the shape {values.shape[-3:]}")
        if self.needs_periodic and tuple(boundary) != PERIODIC:
            raise ValueError(f"{self.name} is defined on periodic boxes, not on {tuple(boundary)}")
        coarse = values
        for axis, kind in zip((-3, -2, -1), boundary):
            coarse = self.along(coarse, axis, factor, kind == "periodic")
        return coarse.astype(values.dtype, copy=False)

    @abstractmethod
    def along(self, values: np.ndarray, axis: int, factor: int, periodic: bool) -> np.ndarray:
        """Degrade along one axis."""

    @abstractmethod
    def transfer_function(self, wavenumber, spacing: float, factor: int) -> np.ndarray:
        """T(k) along one periodic axis.

        Args:
            wavenumber: k along the axis, radians per length.
            spacing: fine cell size, a length.
        """


DEGRADE_OPERATORS: Registry[type[DegradeOperator]] = Registry("degrade operator")


@DEGRADE_OPERATORS.register("block_mean")
class BlockMean(DegradeOperator):
    """The mean over the fine cells in a coarse one: a finite-volume code's coarse field, exact on any box.

    T(k) = sin(s k d / 2) / (s sin(k d / 2)) for s fine cells of size d: the sum of s unit phasors.
    """

    name = "block_mean"

    def along(self, values, axis, factor, periodic):
        values = np.moveaxis(values, axis, -1)
        blocks = values.reshape(*values.shape[:-1], -1, factor)
        return np.moveaxis(blocks.mean(axis=-1, dtype=np.float64), -1, axis)

    def transfer_function(self, wavenumber, spacing, factor):
        cell = (np.arange(factor) - (factor - 1) / 2) * spacing
        return np.cos(np.multiply.outer(np.asarray(wavenumber, dtype=float), cell)).mean(axis=-1)


@DEGRADE_OPERATORS.register("gaussian_block_mean")
class GaussianBlockMean(BlockMean):
    """A Gaussian filter as wide as a coarse cell, then the mean over the coarse cell.

    The filter of width D has variance D^2 / 12 and, in the continuum, T(k) = exp(-k^2 D^2 / 24) (Pope, Turbulent Flows,
    2000, table 13.2). Here it is sampled on the fine grid out to six standard deviations and normalized, and T(k) is
    that of the samples. Walls and open edges mirror the field.
    """

    name = "gaussian_block_mean"
    reach = 6.0

    def along(self, values, axis, factor, periodic):
        smooth = gaussian_filter1d(
            values,
            _gaussian_deviation(factor),
            axis=axis,
            output=np.float64,
            mode="wrap" if periodic else "reflect",
            truncate=self.reach,
        )
        return super().along(smooth, axis, factor, periodic)

    def transfer_function(self, wavenumber, spacing, factor):
        deviation = _gaussian_deviation(factor)
        radius = int(self.reach * deviation + 0.5)
        cells = np.arange(-radius, radius + 1)
        weights = np.exp(-0.5 * (cells / deviation) ** 2)
        phases = np.cos(np.multiply.outer(np.asarray(wavenumber, dtype=float), cells * spacing))
        return phases @ (weights / weights.sum()) * super().transfer_function(wavenumber, spacing, factor)


@DEGRADE_OPERATORS.register("spectral_cutoff")
class SpectralCutoff(DegradeOperator):
    """All Fourier modes that the coarse grid resolves, and none of the others; periodic boxes only.

    A mode is kept where each |k_i| is *below* the coarse Nyquist wavenumber pi / D. The mode at it has no phase of its
    own on the coarse grid and is dropped. Coefficients are shifted by the half cells between the first fine and the
    first coarse cell centre, so that the coarse values are those of the band-limited field at the coarse cell centres.
    """

    name = "spectral_cutoff"
    needs_periodic = True

    def along(self, values, axis, factor, periodic):
        side = values.shape[axis]
        kept = (side // factor + 1) // 2
        modes = np.arange(kept)
        spectrum = np.moveaxis(fft.rfft(values.astype(np.float64), axis=axis), axis, -1)[..., :kept]
        spectrum = spectrum * np.exp(1j * np.pi * modes * (factor - 1) / side) / factor
        return np.moveaxis(fft.irfft(spectrum, n=side // factor, axis=-1), -1, axis)

    def transfer_function(self, wavenumber, spacing, factor):
        nyquist = np.pi / (factor * spacing)
        return (np.abs(wavenumber) < nyquist * (1 - 1e-12)).astype(float)


@DEGRADE_OPERATORS.register("strided")
class Strided(DegradeOperator):
    """Every s-th cell, ``x[::s]``, taken for the whole coarse cell. Aliases, and does *not* commute with the group.

    The sample sits (s - 1) / 2 fine cells below the coarse cell's centre: T(k) = exp(-i k (s - 1) d / 2). About the
    box's centre only the six permutations of the axes survive; a network trained on such pairs finds a symmetry
    breaking that is not the flow's.
    """

    name = "strided"
    commutes = False

    def along(self, values, axis, factor, periodic):
        picked = [slice(None)] * values.ndim
        picked[axis] = slice(None, None, factor)
        return values[tuple(picked)]

    def transfer_function(self, wavenumber, spacing, factor):
        return np.exp(-0.5j * np.asarray(wavenumber, dtype=float) * (factor - 1) * spacing)


def degrade(dataset: xr.Dataset, operator: str, factor: int) -> xr.Dataset:
    """The coarse dataset of a fine one, computed when it is used, one snapshot at a time.

    Args:
        dataset: fields in the flowsr layout; all of its field variables are degraded, series are left out.
        operator: a registered operator's name.
        factor: coarse cell size over fine cell size, along every axis.

    Returns:
        Dataset on the coarse grid of the same box, with the attributes ``degrade_operator`` and ``degrade_factor``.

    Raises:
        FlowsrError: an unknown operator, one that the box's boundaries rule out, or a factor that does not divide the
            box into at least two coarse cells a side.
    """
    chosen = DEGRADE_OPERATORS[operator]()
    grid = grid_of(dataset)
    if int(factor) != factor or factor < 1 or any(n % factor or n // factor < 2 for n in grid.shape):
        raise FlowsrError(
            "the box cannot be coarsened by this factor",
            variable="factor",
            expected=f"a divisor of {grid.shape} that leaves two cells or more",
            found=factor,
        )
    if any(grid.stretched):
        raise FlowsrError("a stretched axis is not degraded", variable="grid", expected="uniform", found=grid.stretched)
    if chosen.needs_periodic and not grid.periodic:
        raise FlowsrError(
            f"{operator} is defined on periodic boxes only", variable="boundary", expected=PERIODIC, found=grid.boundary
        )
    if not chosen.commutes:
        message = (
            f"{operator} does not commute with the octahedral group: a network will learn its asymmetry as the flow's"
        )
        warnings.warn(message, SymmetryWarning, stacklevel=2)
    attrs = {**dataset.attrs, "degrade_operator": operator, "degrade_factor": int(factor)}
    coarse = xr.Dataset(coords=field_template(grid.coarsened(factor), dataset["time"].values).coords, attrs=attrs)
    coarse = coarse.drop_vars("component").assign_coords({k: c for k, c in dataset.coords.items() if k not in SPACE})
    for name in field_variables(dataset):
        array = _DegradedArray(dataset[name], chosen, int(factor), grid.boundary)
        coarse[name] = array.as_variable(dataset[name].dims, dataset[name].attrs)
    return coarse


class _DegradedArray(LazyArray):
    def __init__(self, fine: xr.DataArray, operator: DegradeOperator, factor: int, boundary):
        shape = (*fine.shape[:-3], *(n // factor for n in fine.shape[-3:]))
        super().__init__(shape, fine.dtype, None, str(fine.name))
        self.fine, self.operator, self.factor, self.boundary = fine, operator, factor, boundary

    def load(self, index):
        time, inner, space = index[0], index[1:-3], index[-3:]
        times = range(self.shape[0])[time]
        if isinstance(times, int):
            return self._snapshot(times, inner)[(..., *space)]
        empty = np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *inner, *space)]
        snapshots = [self._snapshot(t, inner)[(..., *space)] for t in times]
        return np.stack(snapshots) if snapshots else empty

    def _snapshot(self, time: int, inner) -> np.ndarray:
        fine = self.fine[(time, *inner)].values
        return self.operator(fine, self.factor, self.boundary)


def _gaussian_deviation(factor: int) -> float:
    """Standard deviation, in fine cells, of the Gaussian filter whose width is ``factor`` fine cells."""
    return factor / np.sqrt(12.0)
