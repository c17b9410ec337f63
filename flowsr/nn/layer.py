"""What lifting, group and projection layers have in common: filter banks, relaxed weights, bias, tables, padding."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, prod
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from flowsr.errors import BadValue
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
        deviation: standard deviation at the start of the filters that an output sees, the sum over the banks.
        biases: number of biases.
        tables: the group's tables.
        relaxed: whether the relaxed weights are trained. If not they stay at 1, and the layer is exactly equivariant.
        relaxed_to: a subgroup H that the layer commutes with whatever its relaxed weights become: w(h g) = w(g), one
            weight for every coset H g. None: one for every element.
        wall_padding: ``replicate``, ``reflect`` or ``zero``, for axes that are not periodic.

    Attributes:
        filters: psi; every bank starts with 1/filter_banks of the variance.
        relaxed_weights: w, (filter_banks, n), all ones at the start; of cosets (filter_banks, cosets).
        deviation: standard deviation of ``filters`` at the start.
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
        relaxed_to: PointGroup | None = None,
    ):
        super().__init__()
        if min(filter_shape) < 1:
            raise ValueError(
                f"channels, filter banks and components must be at least 1, got filters of shape {filter_shape}"
            )
        paddings(PERIODIC, wall_padding)
        self.tables = tables
        self.wall_padding = wall_padding
        self.deviation = deviation / filter_shape[0] ** 0.5
        self.filters = nn.Parameter(torch.randn(filter_shape) * self.deviation)
        cosets = None if relaxed_to is None else torch.from_numpy(right_cosets(tables.group, relaxed_to))
        self.register_buffer("cosets", cosets, persistent=False)
        different = tables.group.order if cosets is None else int(cosets.max()) + 1
        self.relaxed_weights = nn.Parameter(torch.ones(filter_shape[0], different), requires_grad=relaxed)
        self._weights = FilterCache()
        self.bias = nn.Parameter(torch.zeros(biases)) if biases else None
        self.cache = FilterCache()

    cosets: Tensor | None

    @property
    def group(self) -> PointGroup:
        """The group the layer commutes with while its relaxed weights are constant."""
        return self.tables.group

    @property
    def fan_in(self) -> int:
        """Products that are summed for one output, those of every filter bank."""
        return self.filters.shape[0] * prod(self.filters.shape[2:])

    def weights(self) -> Tensor:
        """The relaxed weight of every element, (filter_banks, n)."""
        if self.cosets is None:
            return self.relaxed_weights
        sources, cosets = (self.relaxed_weights,), self.cosets
        return self._weights.get(sources, sources[0].dtype, lambda: sources[0][:, cosets])

    def train(self, mode: bool = True) -> Self:
        self.cache.clear()
        self._weights.clear()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.cache.clear()
        self._weights.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def extra_repr(self) -> str:
        return f"{self.group.name}, filters={tuple(self.filters.shape)}, relaxed={self.relaxed_weights.requires_grad}"


def right_cosets(group: PointGroup, subgroup: PointGroup) -> np.ndarray:
    """(n,) int64: [g] is the number of the coset H g of a subgroup H of ``group``.

    Raises:
        BadValue: no subgroup of ``group``.
    """
    try:
        members = [group.index(matrix) for matrix in subgroup.matrices]
    except ValueError:
        raise BadValue(f"no subgroup of {group.name}", variable="relaxed_to", found=subgroup.name) from None
    first = group.multiplication[members].min(axis=0)
    return np.asarray(np.unique(first, return_inverse=True)[1])


def check_shape(features: Tensor, expected: tuple[int, ...]) -> None:
    """
    Raises:
        ValueError: dimensions after the batch, and before x, y, z, that are not ``expected``.
    """
    found = tuple(features.shape[1:-3])
    if features.dim() != len(expected) + 4 or found != expected:
        dims = ", ".join(map(str, expected))
        raise ValueError(f"expected features of shape (batch, {dims}, x, y, z), got {tuple(features.shape)}")
