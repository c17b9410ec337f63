"""From regular features to regular features."""

from __future__ import annotations

import torch
from torch import Tensor

from flowsr.group.octahedral import PointGroup
from flowsr.kernels import ConvolutionTables, group_convolution
from flowsr.kernels.dispatch import ACTIVATIONS
from flowsr.kernels.padding import PERIODIC, Boundary, paddings
from flowsr.nn.layer import ACTIVATION_GAIN, RelaxedLayer, check_shape


class GroupConv(RelaxedLayer):
    """f'(x,g) = b + sum_l w_l(g) sum_y sum_h psi_l(g^-1 y, g^-1 h) f(x+y, h).

    Cohen & Welling 2016 (arXiv 1602.07576), eq. 11, relaxed as in Wang, Walters & Smidt 2023 (arXiv 2310.02299) with w
    on the output's group index. How it is computed is chosen in :mod:`flowsr.kernels`.

    Every filter starts with mean zero over all it sums. What an activation puts out has a mean, and with random filters
    of few channels that mean takes over within a few layers and the signal fades; without it the variance stays (as in
    Brock et al. 2021, arXiv 2101.08692, there by constraint, here at the start only).

    Args:
        group: a point group, order n.
        channels_in, channels_out: regular channels, each with one value per group element.
        kernel_size: k, odd.
        filter_banks: L.
        relaxed: train w; otherwise it stays at 1.
        relaxed_to: a subgroup that is kept while w is trained: w is the same for all elements of a coset of it.
        wall_padding: ``replicate``, ``reflect`` or ``zero``, for axes that are not periodic.
        bias: add a constant per output channel, the same for all g.
        gain: output deviation over input deviation at the start; the default makes up for an activation before the
            layer.
        activation: ``relu``, ``gelu``, ``silu`` or None, applied to the result.
        kernel: force this kernel, by registered name; None lets :mod:`flowsr.kernels` choose.
    """

    def __init__(
        self,
        group: PointGroup,
        channels_in: int,
        channels_out: int,
        kernel_size: int = 3,
        filter_banks: int = 1,
        relaxed: bool = True,
        wall_padding: str = "replicate",
        bias: bool = True,
        gain: float = ACTIVATION_GAIN,
        activation: str | None = None,
        kernel: str | None = None,
        relaxed_to: PointGroup | None = None,
    ):
        if activation is not None and activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        tables = ConvolutionTables(group, kernel_size)
        fan_in = channels_in * group.order * tables.taps
        super().__init__(
            filter_shape=(filter_banks, channels_out, channels_in, group.order, tables.taps),
            deviation=gain / (fan_in - 1) ** 0.5,
            biases=channels_out if bias else 0,
            tables=tables,
            relaxed=relaxed,
            wall_padding=wall_padding,
            relaxed_to=relaxed_to,
        )
        with torch.no_grad():
            self.filters.sub_(self.filters.mean((2, 3, 4), keepdim=True))
        self.activation = activation
        self.kernel = kernel

    def forward(self, features: Tensor, boundary: Boundary = PERIODIC) -> Tensor:
        """
        Args:
            features: (batch, channels_in, n, x, y, z).
            boundary: ``periodic``, ``wall`` or ``open`` along x, y, z.

        Returns:
            (batch, channels_out, n, x, y, z).

        Raises:
            ValueError: features of another shape, or an unknown boundary.
            FlowsrError: a forced kernel that cannot do this case.
        """
        check_shape(features, (self.filters.shape[2], self.group.order))
        return group_convolution(
            features,
            self.filters,
            self.weights(),
            self.tables,
            paddings(boundary, self.wall_padding),
            bias=self.bias,
            activation=self.activation,
            cache=self.cache,
            kernel=self.kernel,
        )
