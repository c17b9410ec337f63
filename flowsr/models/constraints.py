"""Physics that a model's output obeys exactly, whatever the model: it is moved to the nearest field that does.

- ``data_consistency``: the output, degraded by a named operator R, gives the input back: R u = c.
- ``solenoidal``: the divergence of the output vanishes, taken with flowsr's own derivatives, D u = 0: Fourier on
  periodic axes, finite differences on walls, open edges and stretched axes (:mod:`flowsr.metrics.derivatives`).

Nearest means least squares over the volume of the box. So each is an orthogonal projection that does nothing to a field
that obeys already, needs no choice of a solver, and commutes with every element of the group that R and D commute with:
all 48. They hold to round-off, not to a tolerance, and hold in training too.

Both at once, the nearest field that obeys both, is solved exactly on periodic boxes, one small system a coarse Fourier
mode. (One projection after the other would obey only the last.) On other boxes no such splitting exists, and both
together are refused. A block mean leaves the divergence of its result free but for the mean flux through planes; a
spectral cut-off fixes all of it. What of the input no solenoidal field can have been degraded to is not reproduced;
input that was degraded from a solenoidal field has no such part.

The discrete Helmholtz projection is due to Chorin, Math. Comp. 22, 745 (1968); that it is direct on a tensor-product
grid to Lynch, Rice & Thomas, Numer. Math. 6, 185 (1964).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextvars import Context
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flowsr.data.degrade import DEGRADE_OPERATORS, Cells
from flowsr.data.scales import FieldScales
from flowsr.grid import Grid
from flowsr.group.fields import VECTORS
from flowsr.models.base import Upscaler, Wrapper, repeat_cells

#: Operators whose degraded output can be made to equal the input.
OPERATORS = ("block_mean", "gaussian_block_mean", "spectral_cutoff")

#: Constraints, and the options of each; those of stretched pairs know the fine cells' ``centers`` as well.
CONSTRAINTS: dict[str, tuple[str, ...]] = {"data_consistency": ("operator",), "solenoidal": ()}

#: Cells are those that centres were stated for, where coarse centres agree to this share of the axis.
SAME_CELLS = 1e-4

#: Singular values below this share of the largest are zero: what is left of a null space by rounding in float64.
NULL = 1e-10


class Constrained(Wrapper):
    """A model, and the nearest field to its output that obeys.

    Consistency with block means needs no more halo than the model; all else reaches everywhere. On a stretched axis the
    fine cells are those of :meth:`flowsr.grid.Grid.refined`. A coarse Nyquist mode, which a spectral cut-off drops,
    stays dropped.

    Args:
        model: any up-scaler.
        solenoidal: whether the output has no divergence.
        operator: what degrades the output to the input: ``block_mean``, ``gaussian_block_mean`` or
            ``spectral_cutoff``; None: nothing need. With ``solenoidal`` as well on periodic boxes only.
        centers: along x, y, z of the pairs that it is for, the fine cells' centres as shares of a stretched axis, None
            along others. Fields in these cells, or in some of them, get their true means back; in other stretched cells
            means are those over equal parts of each.

    Raises:
        ValueError: another operator, or ``solenoidal`` of something else than one vector field.
    """

    def __init__(
        self,
        model: Upscaler,
        solenoidal: bool = False,
        operator: str | None = None,
        centers: Sequence[Sequence[float] | None] | None = None,
    ):
        super().__init__(model)
        if solenoidal and model.irreps not in VECTORS:
            raise ValueError(f"a solenoidal field is one vector field, 1o or 1e, got {model.irreps}")
        if operator not in (None, *OPERATORS):
            raise ValueError(f"data_consistency is for the operators {', '.join(OPERATORS)}, got {operator}")
        self.solenoidal, self.operator = solenoidal, operator
        self.needs_periodic = (
            model.needs_periodic or operator == "spectral_cutoff" or (solenoidal and operator is not None)
        )
        self.centers = [one for one in centers or () if one is not None]
        local = operator == "block_mean" and not solenoidal and model.halo is not None
        self.halo = max(model.halo, 1) if local else None  # a face between stretched cells lies where both sizes say

    def extra_repr(self) -> str:
        return f"solenoidal={self.solenoidal}, operator={self.operator}"

    def forward(self, coarse: Tensor, grid: Grid, scales: FieldScales | None = None) -> Tensor:
        """:meth:`Upscaler.forward`; never in less than single precision.

        Raises:
            ValueError: a box that the constraint is not for.
        """
        fine, fine_grid = self.inside(coarse, grid, scales), self._refined(grid)
        dtype = torch.promote_types(torch.promote_types(fine.dtype, coarse.dtype), torch.float32)
        with torch.autocast(fine.device.type, enabled=False):
            fine, target = fine.to(dtype), self.target(coarse).to(dtype)
            if self.operator is None:
                return solenoidal_part(fine, fine_grid)
            nearest = solenoidal_consistent_field if self.solenoidal else consistent_field
            return nearest(fine, target, fine_grid, self.operator)

    def _refined(self, grid: Grid) -> Grid:
        """The fine grid: a stretched axis in the cells that were stated, where its coarse ones are among theirs."""
        fine = grid.refined(self.factor)
        centers = list(fine.centers)
        for axis, coarse in enumerate(grid.centers):
            if coarse is not None:
                found = (_placed(np.array(stated), np.array(coarse), self.factor) for stated in self.centers)
                centers[axis] = next((one for one in found if one is not None), centers[axis])
        return replace(fine, centers=tuple(centers))


def _placed(stated: np.ndarray, coarse: np.ndarray, factor: int) -> tuple[float, ...] | None:
    """Stated fine centres, or a stretch of them, moved to where coarse ones lie; None where these are not theirs."""
    count = len(coarse)
    for shares in (stated, 1 - stated[::-1]):
        line = Grid((len(shares), 1, 1), (1 / len(shares), 1, 1), ("open",) * 3, centers=(tuple(shares), None, None))
        theirs = np.array(line.coarsened((factor, 1, 1)).centers[0] or ())
        for first in range(len(theirs) - count + 1 if count > 2 else 0):
            part = theirs[first : first + count]
            size = (coarse[-1] - coarse[0]) / (part[-1] - part[0])
            if np.abs(coarse[0] + size * (part - part[0]) - coarse).max() < SAME_CELLS * (coarse[-1] - coarse[0]):
                fine = shares[first * factor : (first + count) * factor]
                return tuple((coarse[0] + size * (fine - part[0])).tolist())
    return None


def constrained(model: Upscaler, constraints: Mapping[str, Mapping[str, Any]]) -> Upscaler:
    """The model under constraints, itself where there are none.

    Args:
        constraints: name to options: ``solenoidal`` has none, ``data_consistency`` has the ``operator``. Their order is
            of no account.

    Raises:
        ValueError: an unknown constraint, operator or option, or a field type that a constraint is not for.
    """
    if not isinstance(constraints, Mapping) or not all(isinstance(given, Mapping) for given in constraints.values()):
        raise ValueError(f"constraints are names with their options, got {constraints!r}")
    for name, given in constraints.items():
        if name not in CONSTRAINTS:
            raise ValueError(f"unknown constraint '{name}', expected one of {', '.join(CONSTRAINTS)}")
        if tuple(key for key in given if (name, key) != ("data_consistency", "centers")) != CONSTRAINTS[name]:
            raise ValueError(f"constraint '{name}' takes the options {[*CONSTRAINTS[name]]}, got {[*given]}")
    if not constraints:
        return model
    consistency = constraints.get("data_consistency")
    operator = None if consistency is None else str(consistency["operator"])
    return Constrained(model, "solenoidal" in constraints, operator, (consistency or {}).get("centers"))


def solenoidal_part(field: Tensor, grid: Grid) -> Tensor:
    """The solenoidal field nearest to a vector field: u - D* (D D*)^+ D u.

    D is the divergence as :mod:`flowsr.metrics.derivatives` takes it and D* its adjoint over the volume of the box. On
    periodic boxes this is the Leray projection. On all others D D* is a sum of three matrices, one an axis, and is
    inverted in the product of their eigenvectors.

    Args:
        field: (batch, 3, x, y, z).
        grid: the field's grid; any boundary, stretched axes too.
    """
    if grid.periodic:
        modes = torch.fft.rfftn(field, dim=(2, 3, 4))
        kept = _without_gradient(modes, _wavenumbers(grid, field.dtype, field.device))
        return torch.fft.irfftn(kept, s=grid.shape, dim=(2, 3, 4))
    # In double precision and in two passes: the second takes away what rounding left of the divergence in the first,
    # 1e-11 of the gradient where 128 cells are stretched as Chebyshev's are.
    return _less_divergence(_less_divergence(field.double(), grid), grid).to(field.dtype)


def consistent_field(field: Tensor, coarse: Tensor, grid: Grid, operator: str) -> Tensor:
    """The field nearest to another whose degraded field is given: u + R^+ (c - R u), R^+ = R* (R R*)^-1.

    For the block mean R^+ is the nearest-neighbor interpolation.

    Args:
        field: (batch, component, x, y, z).
        coarse: (batch, component, x / s, y / s, z / s), the degraded field.
        grid: the grid of ``field``.
        operator: one of ``OPERATORS``.

    Raises:
        ValueError: an operator that is not defined on this box.
    """
    factor = field.shape[-1] // coarse.shape[-1]
    if operator == "block_mean" and torch.compiler.is_exporting() and not any(grid.stretched):  # a graph for any size
        return field + repeat_cells(coarse - F.avg_pool3d(field, factor), factor)
    degrading = [_degrading(grid, axis, operator, factor, field.dtype, field.device) for axis in range(3)]
    change = coarse - _along_axes([down for down, _ in degrading], field)
    if operator == "block_mean":
        return field + repeat_cells(change, factor)
    return field + _along_axes([up for _, up in degrading], change)


def solenoidal_consistent_field(field: Tensor, coarse: Tensor, grid: Grid, operator: str) -> Tensor:
    """The field nearest to another that has no divergence and the given degraded field.

    Of all fine modes k that are seen as one coarse mode K, each with the transfer function T(k) and the projection
    P(k) = 1 - k k / k^2, the correction is conj(T(k)) P(k) G^+ (c - R u)(K) with the 3 x 3 matrix
    G(K) = sum of |T(k)|^2 P(k).

    Arguments as in :func:`consistent_field`, on a periodic box.

    Raises:
        ValueError: a box that is not periodic.
    """
    if not grid.periodic:
        raise ValueError(f"solenoidal and data consistent at once needs a periodic box, got {grid.boundary}")
    factor = field.shape[-1] // coarse.shape[-1]
    (x, y, z), inverse = _aliasing(grid, operator, factor, field.dtype, field.device)
    transfer = x * y * z
    wavenumbers = _wavenumbers(grid, field.dtype, field.device, real=False)
    modes = _without_gradient(torch.fft.fftn(field, dim=(2, 3, 4)), wavenumbers)
    missing = torch.fft.fftn(coarse, dim=(2, 3, 4)) - _folded(transfer * modes, factor) / factor**3
    wanted = torch.einsum("xyzij,bjxyz->bixyz", inverse, missing) * factor**3
    change = _without_gradient(transfer.conj() * wanted.repeat(1, 1, factor, factor, factor), wavenumbers)
    return torch.fft.ifftn(modes + change, dim=(2, 3, 4)).real


# Fourier


@lru_cache(maxsize=16)
def _wavenumbers(grid: Grid, dtype: torch.dtype, device: torch.device, real: bool = True) -> tuple[Tensor, ...]:
    """k along x, y, z, each broadcast over the others; 0 at the Nyquist mode, which has no derivative.

    ``real``: for a real-input transform, z // 2 + 1 along z.
    """
    found = []
    for axis, (cells, spacing) in enumerate(zip(grid.shape, grid.spacing)):
        k = 2 * math.pi * torch.fft.fftfreq(cells, spacing, dtype=torch.float64)
        if cells % 2 == 0:
            k[cells // 2] = 0
        if real and axis == 2:
            k = k[: cells // 2 + 1]
        found.append(_broadcast(k, axis).to(device, dtype))
    return tuple(found)


def _without_gradient(modes: Tensor, wavenumbers: tuple[Tensor, ...]) -> Tensor:
    """(batch, 3, x, y, z) less its part along k."""
    square = sum(k**2 for k in wavenumbers)
    along = sum(k * modes[:, axis] for axis, k in enumerate(wavenumbers)) / torch.where(square > 0, square, 1)
    return torch.stack([modes[:, axis] - k * along for axis, k in enumerate(wavenumbers)], dim=1)


@lru_cache(maxsize=4)
def _aliasing(
    grid: Grid, operator: str, factor: int, dtype: torch.dtype, device: torch.device
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Transfer functions along x, y, z, broadcast over the others; G^+ (x/s, y/s, z/s, 3, 3) of every coarse mode."""
    rows = [_matrix(grid, axis, operator, factor)[0] for axis in range(3)]
    single = [_broadcast(torch.from_numpy(np.fft.ifft(row) * len(row)), axis) for axis, row in enumerate(rows)]
    wavenumbers = _wavenumbers(grid, torch.float64, torch.device("cpu"), real=False)
    square = sum(k**2 for k in wavenumbers)
    power = (single[0] * single[1] * single[2]).abs().square()
    gram = torch.empty(*(n // factor for n in grid.shape), 3, 3, dtype=torch.float64)
    for i in range(3):
        for j in range(i + 1):
            direction = wavenumbers[i] * wavenumbers[j] / torch.where(square > 0, square, 1)
            gram[..., i, j] = gram[..., j, i] = _folded(power * (float(i == j) - direction), factor)
    inverse = torch.linalg.pinv(gram, atol=NULL * float(power.max()), rtol=0.0, hermitian=True)
    complex_type = torch.complex128 if dtype == torch.float64 else torch.complex64
    return tuple(along.to(device, complex_type) for along in single), inverse.to(device, complex_type)


def _broadcast(values: Tensor, axis: int) -> Tensor:
    """(n,) values along an axis, to be broadcast over the other two."""
    return values.reshape([-1 if other == axis else 1 for other in range(3)])


def _folded(modes: Tensor, factor: int) -> Tensor:
    """Sum over the fine modes that a coarse grid does not tell apart: (..., x, y, z) to (..., x/s, y/s, z/s)."""
    for dim in (-3, -2, -1):
        modes = modes.unflatten(dim, (factor, -1)).sum(dim=dim - 1)
    return modes


# Matrices along the axes


def _along_axes(matrices: list[Tensor], field: Tensor) -> Tensor:
    """A matrix (new, old) applied along each of x, y, z of (batch, component, x, y, z)."""
    for dim, matrix in enumerate(matrices, start=2):
        field = _along(matrix, field, dim)
    return field


def _along(matrix: Tensor, field: Tensor, dim: int) -> Tensor:
    return torch.tensordot(field, matrix, dims=([dim], [1])).movedim(-1, dim)


def _matrix(grid: Grid, axis: int, operator: str, factor: int) -> np.ndarray:
    """(coarse, fine) weights of a degrade operator along an axis, float64."""
    chosen = DEGRADE_OPERATORS[operator]()
    if chosen.needs_periodic and grid.boundary[axis] != "periodic":
        raise ValueError(f"{operator} is defined on periodic boxes, not on {grid.boundary}")
    return chosen.matrix(Cells.of(grid, axis), factor).toarray()


@lru_cache(maxsize=32)
def _degrading(
    grid: Grid, axis: int, operator: str, factor: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """R (coarse, fine) along an axis and R^+ (fine, coarse), its inverse that changes least over the volume."""
    down = _matrix(grid, axis, operator, factor)
    root = np.sqrt(grid.widths()[axis])
    up = np.linalg.pinv(down / root, rcond=NULL) / root[:, None]
    return tuple(torch.from_numpy(matrix).to(device, dtype) for matrix in (down, up))


def _less_divergence(field: Tensor, grid: Grid) -> Tensor:
    axes = [_differencing(grid, axis, field.device) for axis in range(3)]
    root = axes[0].root[:, None, None] * axes[1].root[:, None] * axes[2].root
    weighted = field * root
    rate = sum(_along(along.matrix, weighted[:, i : i + 1], i + 2) for i, along in enumerate(axes))
    potential = _along_axes([along.vectors.T for along in axes], rate)
    values = axes[0].values[:, None, None] + axes[1].values[:, None] + axes[2].values
    nothing = values <= NULL**2 * values.max()
    potential = torch.where(nothing, 0, potential / torch.where(nothing, 1, values))
    potential = _along_axes([along.vectors for along in axes], potential)
    gradient = [_along(along.matrix.T, potential, i + 2) for i, along in enumerate(axes)]
    return (weighted - torch.cat(gradient, dim=1)) / root


class _Differencing(NamedTuple):
    """The derivative along one axis, in variables whose squares add up to the integral over the volume; float64."""

    root: Tensor  # (n,) square roots of the cells' sizes over their mean
    matrix: Tensor  # (n, n) D
    vectors: Tensor  # (n, n) eigenvectors of D D^T, in columns
    values: Tensor  # (n,) its eigenvalues


@lru_cache(maxsize=32)
def _differencing(grid: Grid, axis: int, device: torch.device) -> _Differencing:
    from flowsr.metrics.derivatives import derivative  # torchmetrics, which no other model needs

    cells, boundary = grid.shape[axis], (grid.boundary[axis], "open", "open")
    origin, centers = (grid.origin[axis], 0.0, 0.0), (grid.centers[axis], None, None)
    line = Grid((cells, 1, 1), (grid.spacing[axis], 1.0, 1.0), boundary, origin, centers)
    units = torch.eye(cells, dtype=torch.float64)[:, :, None, None]
    columns = Context().run(derivative, units, line, 0)  # whatever this thread has asked derivatives to be meanwhile
    widths = grid.widths()[axis]
    root = np.sqrt(widths / widths.mean())
    matrix = root[:, None] * columns[:, :, 0, 0].T.numpy() / root
    vectors, values, _ = np.linalg.svd(matrix)  # of D itself: its Gram matrix would lose half the digits
    return _Differencing(*(torch.from_numpy(part).to(device) for part in (root, matrix, vectors, values**2)))
