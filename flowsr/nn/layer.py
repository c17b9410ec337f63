"""What lifting, group and projection layers have in common: filter banks, relaxed weights, bias, tables, padding."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, prod
from typing import Self

import torch
from torch import Tensor, nn

from flowsr.group.octahedral import PointGroup
from flowsr.kernels.dense import FilterCache
from flowsr.kernels.padding import PERIODIC, paddings
from flowsr.kernels.tables import ConvolutionTables

# Makes up for a ReLU before the layer, whose output has variance (1 - 1/pi)/2 for a normal input; 1.70 would for GELU.
ACTIVATION_GAIN = (2 / (1 - 1 / pi)) ** 0.5


class RelaxedLayer(nn.Module):
    """A convolution with filter banks psi_l and relaxed weights w_l(g).

    Args:
        filter_shape: shape of ``filters``, the number of filter banks first.
        deviation: standard deviation of the filters at the start.
        biases: number of biases.
        tables: the group's tables.
        relaxed: whether the relaxed weights are trained. If not they stay at 1, and the layer is exactly equivariant.
        wall_padding: ``replicate``, ``reflect`` or ``zero``, for axes that are not periodic.

    Attributes:
        filters: psi; every bank starts with 1/filter_banks of the variance.
        relaxed_weights: w, (filter_banks, n), all ones at the start.
        bias: (biases,), zeros at the start, or None when there is none.
    """

    def __init__(
        self,
        filter_shape: tuple[int, ...],
        deviation: float,
        biases: int,
        tables: ConvolutionTables,
        relaxed: bool = True,
        wall_padding: str = "replicate",
    ):
        super().__init__()
        if min(filter_shape) < 1:
            raise ValueError(
                f"channels, filter banks and components must be at least 1, got filters of shape {filter_shape}"
            )
        paddings(PERIODIC, wall_padding)
        self.tables = tables
        self.wall_padding = wall_padding
        self.filters = nn.Parameter(torch.randn(filter_shape) * deviation / filter_shape[0] ** 0.5)
        self.relaxed_weights = nn.Parameter(torch.ones(filter_shape[0], tables.group.order), requires_grad=relaxed)
        self.bias = nn.Parameter(torch.zeros(biases)) if biases else None
        self.cache = FilterCache()

    @property
    def group(self) -> PointGroup:
        """The group the layer commutes with while its relaxed weights are constant."""
        return self.tables.group

    @property
    def fan_in(self) -> int:
        """Products that are summed for one output, of one filter bank."""
        return prod(self.filters.shape[2:])

    def train(self, mode: bool = True) -> Self:
        self.cache.clear()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.cache.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def extra_repr(self) -> str:
        return f"{self.group.name}, filters={tuple(self.filters.shape)}, relaxed={self.relaxed_weights.requires_grad}"


def check_shape(features: Tensor, expected: tuple[int, ...]) -> None:
    """
    Raises:
        ValueError: dimensions after the batch, and before x, y, z, that are not ``expected``.
    """
    found = tuple(features.shape[1:-3])
    if features.dim() != len(expected) + 4 or found != expected:
        dims = ", ".join(map(str, expected))
        raise ValueError(f"expected features of shape (batch, {dims}, x, y, z), got {tuple(features.shape)}")
