"""The residual block, and modules one after another."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from flowsr.kernels.padding import PERIODIC, Boundary
from flowsr.nn.pointwise import OrbitDropout, activation


class Chain(nn.ModuleList):
    """Modules of (features, boundary), called in turn."""

    def forward(self, features: Tensor, boundary: Boundary = PERIODIC) -> Tensor:
        for module in self:
            features = module(features, boundary)
        return features


class ResidualBlock(nn.Module):
    """f + conv(act(norm(conv(act(norm(f)))))), the pre-activation block of He et al. 2016 (arXiv 1603.05027).

    Args:
        convolution: makes a convolution, called with (features, boundary), that keeps the shape of its features:
            a :class:`~flowsr.nn.GroupConv`, or an ordinary one.
        activation_name: ``relu``, ``gelu`` or ``silu``.
        norm: makes a norm, such as :class:`~flowsr.nn.RegularNorm`; by default there is none.
        dropout: probability of :class:`~flowsr.nn.OrbitDropout` before the second convolution.
    """

    def __init__(
        self,
        convolution: Callable[[], nn.Module],
        activation_name: str = "gelu",
        norm: Callable[[], nn.Module] = nn.Identity,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.norms = nn.ModuleList(norm() for _ in range(2))
        self.activation = activation(activation_name)
        self.dropout = OrbitDropout(dropout)
        self.convolutions = nn.ModuleList(convolution() for _ in range(2))

    def forward(self, features: Tensor, boundary: Boundary = PERIODIC) -> Tensor:
        """
        Args:
            features: (batch, ..., x, y, z), such as the convolutions take.
            boundary: ``periodic``, ``wall`` or ``open`` along x, y, z.

        Returns:
            The same shape.
        """
        inner = self.convolutions[0](self.activation(self.norms[0](features)), boundary)
        inner = self.dropout(self.activation(self.norms[1](inner)))
        result: Tensor = features + self.convolutions[1](inner, boundary)
        return result
