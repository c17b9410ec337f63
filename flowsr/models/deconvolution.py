"""The degrade operator undone, as far as the coarse grid allows: what can be had before anything is learned.

An operator damps a Fourier mode that the coarse grid resolves by its transfer function T(k), a product over the axes.
Interpolation leaves it damped; here it is amplified again. The modes between, which the coarse grid cannot hold, are
not invented.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from flowsr.data.degrade import DEGRADE_OPERATORS, Cells, DegradeOperator
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.models.base import MODELS, Task, Upscaler
from flowsr.models.constraints import OPERATORS
from flowsr.models.interpolation import Spectral
from flowsr.registry import suggestion

METHODS = ("auto", "wiener", "van_cittert")

#: Cells to either side of a coarse one that the cubic convolution sees.
CUBIC_REACH = 2

#: Coarse cells to either side of one that no operator's weights reach beyond.
FARTHEST = 4


def stencil(operator: str, factor: int) -> np.ndarray:
    """Weights of the fine cells about the centre of a coarse one, along one axis.

    Args:
        operator: ``block_mean``, ``gaussian_block_mean``, or ``spectral_cutoff`` of a field that has no modes to cut.
        factor: s, coarse cell size over fine cell size.

    Returns:
        (n,), even about its middle, n - s even, sum one. Empty for the spectral cut-off, which leaves the modes it
        keeps as they are.

    Raises:
        FlowsrError: another operator.
    """
    chosen = _known(operator)
    if not chosen.local:
        return np.empty(0)
    faces = np.arange((2 * FARTHEST + 1) * factor + 1.0)
    cells = Cells(faces, (faces[1:] + faces[:-1]) / 2, periodic=True)
    return np.trim_zeros(chosen.matrix(cells, factor)[[FARTHEST]].toarray()[0])


def transfer(operator: str, factor: int, cells: int) -> np.ndarray:
    """T(k) for the modes k = 2 pi m / (cells coarse cells), m = 0 ... cells / 2, and their negatives, in FFT order.

    That of :meth:`flowsr.data.degrade.DegradeOperator.transfer_function`; 1 for the spectral cut-off.
    """
    chosen = _known(operator)
    if not chosen.local:
        return np.ones(cells)
    return chosen.transfer_function(2 * np.pi * np.fft.fftfreq(cells), 1 / factor, factor)


def _known(operator: str) -> DegradeOperator:
    """The degrade operator of this name, one whose inverse is known."""
    if operator in OPERATORS:
        return DEGRADE_OPERATORS[operator]()
    raise FlowsrError(
        "no inverse of this operator",
        variable="operator",
        expected="one of " + ", ".join(OPERATORS),
        found=operator,
        hint=suggestion(operator, OPERATORS),
    )


def cubic_weights(factor: int) -> np.ndarray:
    """Cubic convolution from cell centres to the centres of their parts (Keys 1981, equation 15, a = -1/2).

    Returns:
        (s, 5): weight, for each part of a cell, of that cell and the two on either side.
    """
    parts = (np.arange(factor) + 0.5) / factor - 0.5
    x = np.abs(np.arange(-CUBIC_REACH, CUBIC_REACH + 1) - parts[:, None])
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def coarse_stencil(operator: str, factor: int) -> np.ndarray:
    """What interpolating and degrading again does to coarse values along an axis: (2 reach + 1,) weights."""
    weights, cubic = stencil(operator, factor), cubic_weights(factor)
    beyond = math.ceil((len(weights) - factor) / 2 / factor)
    row = np.zeros(2 * (CUBIC_REACH + beyond) + 1)
    first = beyond * factor - (len(weights) - factor) // 2
    for number, weight in enumerate(weights, start=first):
        cell, part = divmod(number, factor)
        row[cell : cell + 2 * CUBIC_REACH + 1] += weight * cubic[part]
    return row


def continued(values: Tensor, axis: int, width: int, periodic: bool) -> Tensor:
    """``width`` cells more at both ends of an axis: around it, or mirrored in its faces as the operators have it."""
    cells = values.shape[axis]
    numbers = torch.arange(-width, cells + width, device=values.device)
    if periodic:
        return values.index_select(axis, numbers % cells)
    folded = numbers % (2 * cells)
    return values.index_select(axis, torch.minimum(folded, 2 * cells - 1 - folded))


def along(values: Tensor, axis: int, weights: np.ndarray, periodic: bool) -> Tensor:
    """Every cell replaced by as many parts as ``weights`` (parts, 2 reach + 1) has rows, sums over its neighbours."""
    windows = continued(values, axis, weights.shape[1] // 2, periodic).unfold(axis, weights.shape[1], 1)
    parts = windows @ torch.as_tensor(weights.T, dtype=values.dtype, device=values.device)
    return parts.movedim(-1, axis % values.dim() + 1).flatten(axis % values.dim(), axis % values.dim() + 1)


@MODELS.register("deconvolved")
class Deconvolved(Upscaler):
    """The regularised inverse of the named degrade operator, on top of interpolation.

    - ``wiener``: Fourier interpolation (``spectral``) with every mode of the coarse grid multiplied by
      (1 + e) T / (T^2 + e), the Wiener filter for a noise-to-signal ratio e the same at all wavenumbers (Wiener 1949),
      normalized to leave the mean as it is. With e = 0 it is 1 / T: exact for a field without modes beyond the coarse
      grid's. Other fields fold what is beyond back on the coarse modes, most of it on the highest, where 1 / T is
      largest: e bounds the gain by (1 + e) / (2 sqrt(e)). Periodic boxes only; the whole field is needed.
    - ``van_cittert``: sum of (1 - G)^n for n = 0 ... N applied to the coarse field, G = interpolate and degrade again:
      approximate deconvolution (Stolz & Adams 1999, Physics of Fluids 11, 1699, with N = 5). Interpolation is the cubic
      convolution of Keys (1981, IEEE Trans. ASSP 29, 1153), fields are mirrored in walls as the degrade operators do.
      The result, degraded, comes nearer to the input with every step. Any boundary; on a stretched axis cells count
      alike. Halo: 2 cells, and 2 a step (4 for the Gaussian).
    - ``auto``: ``wiener`` in periodic boxes, ``van_cittert`` in others.

    Args:
        operator: registered name of the degrade operator that made the coarse field: ``block_mean``,
            ``gaussian_block_mean`` or ``spectral_cutoff`` (``wiener`` only; nothing to undo).
        method: see above.
        regularization: e.
        iterations: N.

    Raises:
        FlowsrError: an operator whose inverse is not known here.
        ValueError: an unknown method, negative numbers, or later a box that the method is not for.
    """

    halo = None

    def __init__(
        self,
        task: Task,
        operator: str = "block_mean",
        method: str = "auto",
        regularization: float = 0.02,
        iterations: int = 5,
    ):
        super().__init__(task)
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        if regularization < 0 or iterations < 0:
            raise ValueError(f"regularization and iterations must not be negative: {regularization}, {iterations}")
        self.operator, self.method = operator, method
        self.interpolation = Spectral(Task(self.factor, self.irreps))
        self.regularization, self.iterations = float(regularization), int(iterations)
        if len(stencil(operator, self.factor)):
            self.blur = coarse_stencil(operator, self.factor)[None]
        elif method == "van_cittert":
            raise ValueError(f"{operator} is defined on periodic boxes only, van_cittert is for the others")
        if method == "van_cittert":
            self.halo = CUBIC_REACH + self.iterations * (self.blur.shape[1] // 2)

    def forward(self, coarse: Tensor, grid: Grid) -> Tensor:
        target = self.target(coarse)
        if self.method == "wiener" or (self.method == "auto" and grid.periodic):
            return self._wiener(target, grid)
        if self.operator == "spectral_cutoff":
            raise ValueError(f"spectral_cutoff is defined on periodic boxes only, got boundaries {grid.boundary}")
        return self._van_cittert(target, grid)

    def _wiener(self, coarse: Tensor, grid: Grid) -> Tensor:
        if not grid.periodic:
            raise ValueError(f"the Wiener filter needs a periodic box, got boundaries {grid.boundary}")
        x, y, z = (transfer(self.operator, self.factor, cells) for cells in coarse.shape[-3:])
        damping = x[:, None, None] * y[:, None] * z[: len(z) // 2 + 1]
        gain = (1 + self.regularization) * damping / (damping**2 + self.regularization)
        modes = torch.fft.rfftn(coarse, dim=(-3, -2, -1))
        modes = modes * torch.as_tensor(gain, dtype=coarse.dtype, device=coarse.device)
        return self.interpolation(torch.fft.irfftn(modes, s=coarse.shape[-3:], dim=(-3, -2, -1)), grid)

    def _van_cittert(self, coarse: Tensor, grid: Grid) -> Tensor:
        periodic = [kind == "periodic" for kind in grid.boundary]
        sharp = coarse
        for _ in range(self.iterations):
            blurred = sharp
            for axis, wraps in enumerate(periodic):
                blurred = along(blurred, axis - 3, self.blur, wraps)
            sharp = sharp + (coarse - blurred)
        for axis, wraps in enumerate(periodic):
            sharp = along(sharp, axis - 3, cubic_weights(self.factor), wraps)
        return sharp
