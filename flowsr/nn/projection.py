"""From regular features back to a field, on the same grid or on a finer one."""

from __future__ import annotations

from math import prod

from torch import Tensor

from flowsr.group.octahedral import PointGroup
from flowsr.kernels.dense import convolve, expanded
from flowsr.kernels.expansion import expand_projection
from flowsr.kernels.padding import PERIODIC, Boundary, paddings
from flowsr.kernels.tables import ConvolutionTables
from flowsr.nn.layer import ACTIVATION_GAIN, RelaxedLayer, check_shape
from flowsr.nn.upsample import subvoxels_to_space


class Projection(RelaxedLayer):
    """v(x) = b + (1/n) sum_g sum_l w_l(g) rho(g) sum_y phi_l(g^-1 y) f(x+y, g).

    With ``upsample=s`` every cell X becomes s^3, and the sub-position p of a cell has a filter of its own that the
    group carries along: v(X, p) = b + (1/n) sum_g sum_l w_l(g) rho(g) sum_y phi_l(g^-1 y, g^-1 p) f(X+y, g). All the
    work is done on the coarse grid. Relaxed as in Wang, Walters & Smidt 2023 (arXiv 2310.02299).

    The bias lies in the part of the field's representation that no element changes: a scalar gets one, a velocity none.

    Args:
        group: a point group, order n.
        channels_in: regular channels.
        irreps_out: e3nn irreps of the field, dimension D (velocity ``1o``).
        kernel_size: k, odd.
        filter_banks: L.
        relaxed: train w; otherwise it stays at 1.
        relaxed_to: a subgroup that is kept while w is trained: w is the same for all elements of a coset of it.
        wall_padding: ``replicate``, ``reflect`` or ``zero``, for axes that are not periodic.
        upsample: s, cells of the result per cell and axis.
        bias: add a constant invariant field, where the representation has one.
        gain: output deviation over input deviation at the start; the default makes up for an activation before the
            layer.
    """

    def __init__(
        self,
        group: PointGroup,
        channels_in: int,
        irreps_out: str,
        kernel_size: int = 3,
        filter_banks: int = 1,
        relaxed: bool = True,
        wall_padding: str = "replicate",
        upsample: int = 1,
        bias: bool = True,
        gain: float = ACTIVATION_GAIN,
        relaxed_to: PointGroup | None = None,
    ):
        tables = ConvolutionTables(group, kernel_size, irreps=irreps_out, upsample=upsample)
        dimension, invariants = tables.invariants.shape
        super().__init__(
            filter_shape=(filter_banks, dimension, upsample**3, channels_in, tables.taps),
            deviation=gain * (group.order / (channels_in * tables.taps)) ** 0.5,
            biases=invariants if bias else 0,
            tables=tables,
            relaxed=relaxed,
            wall_padding=wall_padding,
            relaxed_to=relaxed_to,
        )

    @property
    def fan_in(self) -> int:
        """Products that are summed for one output, of one element: over the group it is a mean."""
        return self.filters.shape[0] * prod(self.filters.shape[3:])

    def forward(self, features: Tensor, boundary: Boundary = PERIODIC) -> Tensor:
        """
        Args:
            features: (batch, channels_in, n, x, y, z).
            boundary: ``periodic``, ``wall`` or ``open`` along x, y, z.

        Returns:
            (batch, D, s x, s y, s z).

        Raises:
            ValueError: features of another shape, or an unknown boundary.
        """
        check_shape(features, (self.filters.shape[3], self.group.order))
        weight = expanded(expand_projection, features, (self.filters, self.weights()), self.tables, self.cache)
        projected = convolve(features.flatten(1, 2), weight, paddings(boundary, self.wall_padding))
        field = subvoxels_to_space(projected.unflatten(1, (-1, self.tables.upsample**3)), self.tables.upsample)
        if self.bias is None:
            return field
        constant = (self.tables.invariants.to(self.bias.dtype) * self.bias).sum(1)
        return field + constant.to(field.dtype).view(-1, 1, 1, 1)
