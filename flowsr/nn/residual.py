"""The residual block."""

from __future__ import annotations

from torch import Tensor, nn

from flowsr.group.octahedral import OctahedralGroup
from flowsr.nn.group_conv import GroupConv
from flowsr.nn.padding import PERIODIC, Boundary
from flowsr.nn.pointwise import OrbitDropout, RegularNorm, activation


class ResidualBlock(nn.Module):
    """f + conv(act(norm(conv(act(norm(f)))))), the pre-activation block of He et al. 2016 (arXiv 1603.05027).

    Args:
        group: O or O_h, order n.
        channels: regular channels.
        activation_name: ``relu``, ``gelu`` or ``silu``.
        normalize: with :class:`RegularNorm`; without, none.
        dropout: probability of :class:`OrbitDropout` before the second convolution.
        options: those of :class:`~flowsr.nn.GroupConv`.
    """

    def __init__(
        self,
        group: OctahedralGroup,
        channels: int,
        activation_name: str = "gelu",
        normalize: bool = False,
        dropout: float = 0.0,
        **options,
    ):
        super().__init__()
        self.norms = nn.ModuleList(RegularNorm(channels) if normalize else nn.Identity() for _ in range(2))
        self.activation = activation(activation_name)
        self.dropout = OrbitDropout(dropout)
        self.convolutions = nn.ModuleList(GroupConv(group, channels, channels, **options) for _ in range(2))

    def forward(self, features: Tensor, boundary: Boundary = PERIODIC) -> Tensor:
        """
        Args:
            features: (batch, channels, n, x, y, z).
            boundary: ``periodic``, ``wall`` or ``open`` along x, y, z.

        Returns:
            The same shape.
        """
        inner = self.convolutions[0](self.activation(self.norms[0](features)), boundary)
        inner = self.dropout(self.activation(self.norms[1](inner)))
        return features + self.convolutions[1](inner, boundary)
