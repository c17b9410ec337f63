"""What a fit makes small: errors of fields, gradients and spectra, and divergence. All without units.

Each is the same for a pair of fields and for both of them transformed by any of the 48 elements of the octahedral
group, so that training does not prefer a direction: components and axes enter alike. (``l1`` and ``gradient_l1`` add up
components: that is invariant for scalars and vectors, whose components are permuted and change sign, not for 2e and
above, for which there are ``l2`` and ``gradient_l2``.) Means are over the volume: thin cells by a wall count by their
size, as they do in the metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.group.fields import VECTORS
from flowsr.metrics.derivatives import gradient
from flowsr.metrics.spectra import shell_sums, shells_of
from flowsr.registry import Registry

Term = Callable[[Tensor, Tensor, Grid, Tensor], Tensor]
LOSSES: Registry[Term] = Registry("loss", group="flowsr.losses")

NEEDS_PERIODIC, NEEDS_VECTOR = frozenset({"spectrum"}), frozenset({"divergence"})

#: Share of the energy below which a shell of the spectrum holds nothing worth a ratio.
ENERGY_FLOOR = 1e-10


@dataclass(frozen=True)
class Objective:
    """A weighted sum of registered losses, on one kind of patch.

    Args:
        weights: loss name to weight, as :class:`~flowsr.train.Schedule` has them; 0 leaves a loss out.
        grid: grid of a fine patch; its boundary says how derivatives and spectra are taken.
        irreps: field type.

    Raises:
        FlowsrError: an unknown loss, or one that this patch or field type does not have.
    """

    weights: Mapping[str, float]
    grid: Grid
    irreps: str = "1o"

    def __post_init__(self):
        for name, weight in self.weights.items():
            LOSSES[name]
            variable = f"train.loss.{name}"
            if weight == 0:
                continue
            if name in NEEDS_PERIODIC and not (self.grid.periodic and shells_of(self.grid).complete[1:].any()):
                raise FlowsrError(
                    f"the {name} loss needs whole periodic boxes",
                    variable=variable,
                    found=self.grid.boundary,
                    hint="leave train.patch out, or leave this loss out",
                )
            if name in NEEDS_VECTOR and self.irreps not in VECTORS:
                raise FlowsrError(
                    f"the {name} loss is for one vector field", variable=variable, expected="1o", found=self.irreps
                )

    def __call__(self, prediction: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            prediction, target: (batch, component, x, y, z) on the patch's fine grid; a prediction of lower precision
                is compared in the target's.
            scale: RMS of the field, in its own units.
        """
        prediction = prediction.to(target.dtype)
        weights = {name: weight for name, weight in self.weights.items() if weight}
        return sum(weight * LOSSES[name](prediction, target, self.grid, scale) for name, weight in weights.items())


@LOSSES.register("l1")
def l1(prediction: Tensor, target: Tensor, grid: Grid, scale: Tensor) -> Tensor:
    """Mean absolute error of a component over the scale (the loss of Wang, Walters & Smidt 2023)."""
    return _mean((prediction - target).abs(), grid) / scale


@LOSSES.register("l2")
def l2(prediction: Tensor, target: Tensor, grid: Grid, scale: Tensor) -> Tensor:
    """Mean square error of a component over the scale's square."""
    return _mean(((prediction - target) / scale).square(), grid)


@LOSSES.register("gradient_l1")
def gradient_l1(prediction: Tensor, target: Tensor, grid: Grid, scale: Tensor) -> Tensor:
    """Mean absolute error of an entry of the gradient, over scale / cell size."""
    return _mean(_gradient_error(prediction, target, grid, scale).abs(), grid)


@LOSSES.register("gradient_l2")
def gradient_l2(prediction: Tensor, target: Tensor, grid: Grid, scale: Tensor) -> Tensor:
    """Mean square error of an entry of the gradient, over (scale / cell size)^2."""
    return _mean(_gradient_error(prediction, target, grid, scale).square(), grid)


@LOSSES.register("spectrum")
def spectrum(prediction: Tensor, target: Tensor, grid: Grid, scale: Tensor) -> Tensor:
    """Mean of |ln E_p(k) / E_t(k)| over the shells from 1 to the last whole one: every scale counts alike.

    A shell with less than ``ENERGY_FLOOR`` of the true field's energy in these shells counts as if it had that much.
    """
    whole = slice(1, int(shells_of(grid).complete.sum()))  # but for the mean
    energy, truth = (shell_sums(field, grid)[:, whole] for field in (prediction, target))
    floor = ENERGY_FLOOR * truth.sum(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return ((energy + floor) / (truth + floor)).log().abs().mean().to(target.dtype)


@LOSSES.register("divergence")
def divergence(prediction: Tensor, target: Tensor, grid: Grid, scale: Tensor) -> Tensor:
    """Mean absolute divergence of the prediction, over scale / cell size; what the truth has of it is not asked for."""
    rates = gradient(prediction, grid)
    return _mean((rates[:, 0, 0] + rates[:, 1, 1] + rates[:, 2, 2]).abs(), grid) * (_cell_size(grid) / scale)


def _mean(values: Tensor, grid: Grid) -> Tensor:
    """Mean over all there is, (..., x, y, z), a cell of a stretched axis counting by its size."""
    for axis, (stretched, widths) in enumerate(zip(grid.stretched, grid.widths(), strict=True)):
        if stretched:
            share = torch.as_tensor(widths / widths.mean()).to(values)
            values = values * share.view([-1 if other == axis else 1 for other in range(3)])
    return values.mean()


def _gradient_error(prediction: Tensor, target: Tensor, grid: Grid, scale: Tensor) -> Tensor:
    return gradient(prediction - target, grid) * (_cell_size(grid) / scale)


def _cell_size(grid: Grid) -> float:
    """The cube root of the mean cell's volume: a length that prefers no axis."""
    return math.prod(grid.spacing) ** (1 / 3)
