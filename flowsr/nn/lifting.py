"""From a field to regular features."""

from __future__ import annotations

from torch import Tensor

from flowsr.group.octahedral import PointGroup
from flowsr.kernels.dense import convolve, expanded
from flowsr.kernels.expansion import expand_lifting
from flowsr.kernels.padding import PERIODIC, Boundary, paddings
from flowsr.kernels.tables import ConvolutionTables
from flowsr.nn.layer import RelaxedLayer, check_shape


class LiftingConv(RelaxedLayer):
    """f'(x,g) = b + sum_l w_l(g) sum_y psi_l(g^-1 y) rho(g^-1) f(x+y).

    The field is seen through every rotated copy of one filter; the copy for g turns the field's components back by g
    first. All components take part, in the combination the filter learns: nothing is projected out before. Relaxed as
    in Wang, Walters & Smidt 2023 (arXiv 2310.02299), with w on the output's group index.

    Args:
        group: a point group, order n.
        irreps_in: e3nn irreps of one input channel, dimension D (velocity ``1o``).
        channels_in: number of such fields, stacked along the component axis.
        channels_out: regular channels.
        kernel_size: k, odd.
        filter_banks: L.
        relaxed: train w; otherwise it stays at 1.
        relaxed_to: a subgroup that is kept while w is trained: w is the same for all elements of a coset of it.
        wall_padding: ``replicate``, ``reflect`` or ``zero``, for axes that are not periodic.
        bias: add a constant per output channel, the same for all g.
        gain: output RMS over input RMS at the start.
    """

    def __init__(
        self,
        group: PointGroup,
        irreps_in: str,
        channels_in: int,
        channels_out: int,
        kernel_size: int = 3,
        filter_banks: int = 1,
        relaxed: bool = True,
        wall_padding: str = "replicate",
        bias: bool = True,
        gain: float = 1.0,
        relaxed_to: PointGroup | None = None,
    ):
        tables = ConvolutionTables(group, kernel_size, irreps=irreps_in)
        dimension = tables.representation.shape[-1]
        super().__init__(
            filter_shape=(filter_banks, channels_out, channels_in, dimension, tables.taps),
            deviation=gain / (channels_in * dimension * tables.taps) ** 0.5,
            biases=channels_out if bias else 0,
            tables=tables,
            relaxed=relaxed,
            wall_padding=wall_padding,
            relaxed_to=relaxed_to,
        )

    def forward(self, field: Tensor, boundary: Boundary = PERIODIC) -> Tensor:
        """
        Args:
            field: (batch, channels_in D, x, y, z).
            boundary: ``periodic``, ``wall`` or ``open`` along x, y, z.

        Returns:
            (batch, channels_out, n, x, y, z).

        Raises:
            ValueError: a field of another shape, or an unknown boundary.
        """
        _, _, channels_in, dimension, _ = self.filters.shape
        check_shape(field, (channels_in * dimension,))
        weight = expanded(expand_lifting, field, (self.filters, self.weights()), self.tables, self.cache)
        lifted: Tensor = convolve(field, weight, paddings(boundary, self.wall_padding)).unflatten(
            1, (-1, self.group.order)
        )
        return lifted if self.bias is None else lifted + self.bias.to(lifted.dtype).view(-1, 1, 1, 1, 1)
