"""First derivatives that follow the grid: Fourier on periodic axes, finite differences on walls and open edges."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import check_on_grid, shareable

STENCIL = 5
DERIVATIVE_HALO = 4  # cells to each side that the derivatives inside finite_differences() look at

_differenced: ContextVar[frozenset[int]] = ContextVar("flowsr.metrics.differenced", default=frozenset())


@contextmanager
def finite_differences(axes: Sequence[int]) -> Iterator[None]:
    """Inside, derivatives along these axes, where they are periodic, are central differences of eighth order.

    A Fourier derivative needs the whole axis; this one needs four cells to each side, so that a large field can be
    taken tile by tile (Fornberg, Math. Comp. 51, 1988). At half the Nyquist wavenumber it is 3 % low, at the Nyquist
    wavenumber it is 0. Wall and open axes are differentiated as always. Gradients that :func:`shared_work` remembers
    from before are not taken again: enter this block first.

    Args:
        axes: numbers of the axes, 0, 1, 2 for x, y, z.
    """
    token = _differenced.set(frozenset(axes))
    try:
        yield
    finally:
        _differenced.reset(token)


def derivative(field: Tensor, grid: Grid, axis: int) -> Tensor:
    """Derivative along one axis.

    Periodic axes: exact for every resolved Fourier mode; the Nyquist mode of an even number of cells, whose derivative
    the grid cannot hold, gives 0 (Canuto et al., Spectral Methods, 2006, section 2.1.3). Wall and open axes: the
    polynomial through the five nearest cell centres (Fornberg, Math. Comp. 51, 1988), central inside and one-sided at
    the edges, fourth order everywhere; nothing is assumed about the value on the wall.

    Args:
        field: (..., x, y, z).
        grid: the field's grid.
        axis: 0, 1, 2 for x, y, z.

    Returns:
        (..., x, y, z), in units of the field per length; 0 along an axis of one cell.
    """
    dim = field.ndim - 3 + axis
    if grid.shape[axis] == 1:
        return torch.zeros_like(field)
    if grid.boundary[axis] == "periodic" and axis in _differenced.get():
        return _central_differences(field, dim, grid.spacing[axis])
    if grid.boundary[axis] == "periodic":
        return _fourier_derivative(field, dim, grid.spacing[axis])
    return _stencil_derivative(field, dim, grid.coordinates()[axis])


@shareable
def gradient(field: Tensor, grid: Grid) -> Tensor:
    """All first derivatives of all components.

    Args:
        field: (batch, component, x, y, z).
        grid: the field's grid.

    Returns:
        (batch, component, 3, x, y, z): entry [:, i, j] is the derivative of component i along axis j.

    Raises:
        ValueError: a field that is not on the grid.
    """
    check_on_grid(field, grid)
    return torch.stack([derivative(field, grid, axis) for axis in range(3)], dim=2)


@lru_cache(maxsize=12)
def difference_rows(grid: Grid, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The finite differences of every cell of an axis, those inside :func:`finite_differences` where it is periodic.

    Args:
        grid: the whole field's grid.
        axis: 0, 1, 2 for x, y, z.

    Returns:
        the cells (n, taps) that each one's derivative looks at, below 0 and beyond the last on a periodic axis, and
        their weights (n, taps), 1/length. All weights are 0 along an axis of one cell.
    """
    cells = np.arange(grid.shape[axis])
    if grid.boundary[axis] == "periodic":
        taps = np.arange(-DERIVATIVE_HALO, DERIVATIVE_HALO + 1)
        weights = finite_difference_weights(taps.astype(float)) / grid.spacing[axis]
        return cells[:, None] + taps, np.tile(weights * (len(cells) > 1), (len(cells), 1))
    if len(cells) == 1:
        return cells[:, None], np.zeros((1, 1))
    return _nearest_rows(grid.coordinates()[axis])


def finite_difference_weights(offsets: np.ndarray) -> np.ndarray:
    """Weights of the first derivative at 0 of the polynomial through values at ``offsets`` (n,) -> (n,)."""
    scale = np.abs(offsets).max()
    powers = np.vander(offsets / scale, increasing=True).T
    return np.linalg.solve(powers, np.eye(len(offsets))[1]) / scale


def _fourier_derivative(field: Tensor, dim: int, spacing: float) -> Tensor:
    cells = field.shape[dim]
    wavenumber = 2 * math.pi * torch.fft.rfftfreq(cells, spacing, dtype=field.dtype, device=field.device)
    if cells % 2 == 0:
        wavenumber[-1] = 0
    along = [1] * field.ndim
    along[dim] = -1
    return torch.fft.irfft(1j * wavenumber.reshape(along) * torch.fft.rfft(field, dim=dim), n=cells, dim=dim)


def _central_differences(field: Tensor, dim: int, spacing: float) -> Tensor:
    weights = finite_difference_weights(np.arange(-DERIVATIVE_HALO, DERIVATIVE_HALO + 1.0))
    result = torch.zeros_like(field)
    for tap in range(1, DERIVATIVE_HALO + 1):
        pair = torch.roll(field, -tap, dims=dim) - torch.roll(field, tap, dims=dim)
        result += float(weights[DERIVATIVE_HALO + tap] / spacing) * pair
    return result


def _stencil_derivative(field: Tensor, dim: int, coordinates: np.ndarray) -> Tensor:
    neighbours, weights = _nearest_rows(coordinates)
    along = [1] * field.ndim
    along[dim] = len(coordinates)
    result = torch.zeros_like(field)
    for tap in range(neighbours.shape[1]):
        index = torch.as_tensor(neighbours[:, tap], device=field.device)
        weight = torch.as_tensor(weights[:, tap], dtype=field.dtype, device=field.device)
        result += weight.reshape(along) * field.index_select(dim, index)
    return result


def _nearest_rows(coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest cells (n, taps) of every cell and the weights of the polynomial through them."""
    cells = len(coordinates)
    width = min(STENCIL, cells)
    first = np.clip(np.arange(cells) - width // 2, 0, cells - width)
    neighbours = first[:, None] + np.arange(width)
    offsets = coordinates[neighbours] - coordinates[:, None]
    return neighbours, np.stack([finite_difference_weights(row) for row in offsets])
