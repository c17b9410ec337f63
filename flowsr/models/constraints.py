"""Physics that a model's output obeys exactly, whatever the model: it is moved to the nearest field that does.

- ``data_consistency``: the output, degraded by a named operator R, gives the input back: R u = c.
- ``solenoidal``: the divergence of the output vanishes, taken with flowsr's own derivatives, D u = 0: Fourier on
  periodic axes, finite differences on walls, open edges and stretched axes (:mod:`flowsr.metrics.derivatives`).

Nearest means least squares over the volume of the box. So each is an orthogonal projection that does nothing to a field
that obeys already, needs no choice of a solver, and commutes with every element of the group that R and D commute with:
all 48. They hold to round-off, not to a tolerance, and hold in training too.

A model gives a velocity and no vector potential, and needs none: where it would take one to be integrated over the
whole box before its curl is taken, the projection gives the nearest solenoidal field at once, on walls as in Fourier
space.

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
from collections.abc import Mapping
from contextvars import Context
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.group.fields import VECTORS
from flowsr.models.base import Upscaler

#: Operators whose degraded output can be made to equal the input.
OPERATORS = ("block_mean", "gaussian_block_mean", "spectral_cutoff")
CONSTRAINTS = ("data_consistency", "solenoidal")

#: Singular values below this share of the largest are zero: what is left of a null space by rounding in float64.
NULL = 1e-10


class Constrained(Upscaler):
    """A model, and the nearest field to its output that obeys a constraint.

    What else is asked of it (group, scale, weights) the model inside answers.

    Args:
        model: any up-scaler.
    """

    def __init__(self, model: Upscaler):
        super().__init__(model.task)
        self.model = model
        self.halo, self.frame_spacing = None, model.frame_spacing
        self.trainable, self.needs_periodic = model.trainable, model.needs_periodic

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)

    def forward(self, coarse: Tensor, grid: Grid) -> Tensor:
        """:meth:`Upscaler.forward`; never in less than single precision.

        Raises:
            ValueError: a box that the constraint is not for.
        """
        fine = self.model(coarse, grid)
        dtype = torch.promote_types(torch.promote_types(fine.dtype, coarse.dtype), torch.float32)
        with torch.autocast(fine.device.type, enabled=False):
            return self.nearest(fine.to(dtype), self.target(coarse).to(dtype), grid.refined(self.factor))

    def nearest(self, fine: Tensor, coarse: Tensor, grid: Grid) -> Tensor:
        """The field nearest to ``fine``, (batch, component, x, y, z) on ``grid``, that obeys."""
        raise NotImplementedError


class Solenoidal(Constrained):
    """Output without divergence: the Leray projection on periodic boxes, its discrete equal on all others.

    Raises:
        ValueError: a model of something else than one vector field.
    """

    def __init__(self, model: Upscaler):
        super().__init__(model)
        _check_vector(model)

    def nearest(self, fine: Tensor, coarse: Tensor, grid: Grid) -> Tensor:
        return solenoidal_part(fine, grid)


class DataConsistent(Constrained):
    """Output whose degraded field is the input.

    The block mean needs no more halo than the model; the other operators reach everywhere. On a stretched axis the fine
    cells are those of :meth:`flowsr.grid.Grid.refined`. A coarse Nyquist mode, which a spectral cut-off drops, stays
    dropped.

    Args:
        operator: ``block_mean``, ``gaussian_block_mean`` or ``spectral_cutoff``.

    Raises:
        ValueError: another operator.
    """

    def __init__(self, model: Upscaler, operator: str):
        super().__init__(model)
        self.operator = _checked(operator)
        if operator == "block_mean" and model.halo is not None:
            self.halo = max(model.halo, 1)  # a fine face between stretched cells lies where both their sizes say
        self.needs_periodic |= operator == "spectral_cutoff"

    def extra_repr(self) -> str:
        return f"operator={self.operator}"

    def nearest(self, fine: Tensor, coarse: Tensor, grid: Grid) -> Tensor:
        return consistent_field(fine, coarse, grid, self.operator)


class SolenoidalAndConsistent(Constrained):
    """Output without divergence whose degraded field is the input, on periodic boxes.

    Args:
        operator: as in :class:`DataConsistent`.

    Raises:
        ValueError: another operator, or a model of something else than one vector field.
    """

    def __init__(self, model: Upscaler, operator: str):
        super().__init__(model)
        _check_vector(model)
        self.operator, self.needs_periodic = _checked(operator), True

    def extra_repr(self) -> str:
        return f"operator={self.operator}"

    def nearest(self, fine: Tensor, coarse: Tensor, grid: Grid) -> Tensor:
        return solenoidal_consistent_field(fine, coarse, grid, self.operator)


def constrained(model: Upscaler, constraints: Mapping[str, Mapping[str, Any]]) -> Upscaler:
    """The model under constraints.

    Args:
        constraints: name to options: ``solenoidal`` has none, ``data_consistency`` has the ``operator``. Their order is
            of no account.

    Raises:
        ValueError: an unknown constraint, operator or option, or a field type that a constraint is not for.
    """
    if not isinstance(constraints, Mapping) or not all(isinstance(given, Mapping) for given in constraints.values()):
        raise ValueError(f"constraints are names with their options, got {constraints!r}")
    for name in constraints:
        if name not in CONSTRAINTS:
            raise ValueError(f"unknown constraint '{name}', expected one of {', '.join(CONSTRAINTS)}")
    options = {key: value for given in constraints.values() for key, value in given.items()}
    chosen = {
        frozenset(): lambda model: model,
        frozenset({"solenoidal"}): Solenoidal,
        frozenset({"data_consistency"}): DataConsistent,
        frozenset(CONSTRAINTS): SolenoidalAndConsistent,
    }[frozenset(constraints)]
    try:
        return chosen(model, **options)
    except TypeError as error:
        raise ValueError(f"constraints {', '.join(constraints)} do not take {sorted(options)}: {error}") from None


def solenoidal_part(field: Tensor, grid: Grid) -> Tensor:
    """The solenoidal field nearest to a vector field: u - D* (D D*)^+ D u.

    D is the divergence as :mod:`flowsr.metrics.derivatives` takes it and D* its adjoint over the volume of the box. On
    periodic boxes this is the Leray projection. On all others D D* is a sum of three matrices, one an axis, and is
    inverted in the product of their eigenvectors.

    Args:
        field: (batch, 3, x, y, z).
        grid: the field's grid; any boundary, stretched axes too.
    """
    return _leray(field, grid) if grid.periodic else _discrete_leray(field, grid)


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
    degrading = [_degrading(grid, axis, operator, factor, field.dtype, field.device) for axis in range(3)]
    change = coarse - _along_axes([down for down, _ in degrading], field)
    if operator == "block_mean":
        return field + _repeated(change, factor)
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


def _check_vector(model: Upscaler) -> None:
    if model.irreps not in VECTORS:
        raise ValueError(f"a solenoidal field is one vector field, 1o or 1e, got {model.irreps}")


def _checked(operator: str) -> str:
    if operator not in OPERATORS:
        raise ValueError(f"data_consistency is for the operators {', '.join(OPERATORS)}, got {operator}")
    return operator


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
        along = [1, 1, 1]
        along[axis] = -1
        found.append(k.reshape(along).to(device, dtype))
    return tuple(found)


def _without_gradient(modes: Tensor, wavenumbers: tuple[Tensor, ...]) -> Tensor:
    """(batch, 3, x, y, z) less its part along k."""
    square = sum(k**2 for k in wavenumbers)
    along = sum(k * modes[:, axis] for axis, k in enumerate(wavenumbers)) / torch.where(square > 0, square, 1)
    return torch.stack([modes[:, axis] - k * along for axis, k in enumerate(wavenumbers)], dim=1)


def _leray(field: Tensor, grid: Grid) -> Tensor:
    modes = torch.fft.rfftn(field, dim=(2, 3, 4))
    kept = _without_gradient(modes, _wavenumbers(grid, field.dtype, field.device))
    return torch.fft.irfftn(kept, s=grid.shape, dim=(2, 3, 4))


@lru_cache(maxsize=4)
def _aliasing(
    grid: Grid, operator: str, factor: int, dtype: torch.dtype, device: torch.device
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Transfer functions along x, y, z, broadcast over the others; G^+ (x/s, y/s, z/s, 3, 3) of every coarse mode."""
    single = [_transfer(grid, axis, operator, factor) for axis in range(3)]
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


def _transfer(grid: Grid, axis: int, operator: str, factor: int) -> Tensor:
    """T of every fine mode exp(2 pi i k j / n) along an axis, in the order of the discrete Fourier transform."""
    row = _matrix(grid, axis, operator, factor)[0]
    along = [1, 1, 1]
    along[axis] = -1
    return torch.from_numpy(np.fft.ifft(row) * len(row)).reshape(along)


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


def _repeated(field: Tensor, factor: int) -> Tensor:
    for dim in (-3, -2, -1):
        field = field.repeat_interleave(factor, dim=dim)
    return field


def _matrix(grid: Grid, axis: int, operator: str, factor: int) -> np.ndarray:
    """(coarse, fine) weights of a degrade operator along an axis, float64."""
    from flowsr.data.degrade import DEGRADE_OPERATORS, Cells

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


def _discrete_leray(field: Tensor, grid: Grid) -> Tensor:
    """In double precision and in two passes: the second takes away what rounding left of the divergence in the first.

    One pass leaves 1e-11 of the gradient where 128 cells are stretched as Chebyshev's are.
    """
    return _less_divergence(_less_divergence(field.double(), grid), grid).to(field.dtype)


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


class _Differencing:
    """The derivative along one axis, in variables whose squares add up to the integral over the volume; float64.

    Attributes:
        root: (n,) square roots of the cells' sizes over their mean.
        matrix: (n, n) D.
        vectors, values: eigenvectors (n, n), in columns, and eigenvalues (n,) of D D^T.
    """

    def __init__(self, derivative: np.ndarray, widths: np.ndarray, device: torch.device):
        root = np.sqrt(widths / widths.mean())
        matrix = root[:, None] * derivative / root
        vectors, values, _ = np.linalg.svd(matrix)  # of D itself: its Gram matrix would lose half the digits
        self.root, self.matrix, self.vectors, self.values = (
            torch.from_numpy(part).to(device) for part in (root, matrix, vectors, values**2)
        )


@lru_cache(maxsize=32)
def _differencing(grid: Grid, axis: int, device: torch.device) -> _Differencing:
    from flowsr.metrics.derivatives import derivative

    cells = grid.shape[axis]
    line = Grid(
        (cells, 1, 1),
        (grid.spacing[axis], 1.0, 1.0),
        (grid.boundary[axis], "open", "open"),
        (grid.origin[axis], 0.0, 0.0),
        (grid.centers[axis], None, None),
    )
    units = torch.eye(cells, dtype=torch.float64)[:, :, None, None]
    columns = Context().run(derivative, units, line, 0)  # whatever this thread has asked derivatives to be meanwhile
    return _Differencing(columns[:, :, 0, 0].T.numpy(), grid.widths()[axis], device)
