"""RRDB, the generator of ESRGAN, in three dimensions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowsr.models.base import MODELS
from flowsr.models.cnn import PaddedConv
from flowsr.models.image_networks import LateUpsampling
from flowsr.nn.padding import Boundary

#: Convolutions of a dense block, and dense blocks of a residual-in-residual block (ESRGAN, figure 4).
DENSE_LAYERS, DENSE_BLOCKS = 5, 3


class DenseBlock(nn.Module):
    """f + a conv([f, f1, f2, ...]), where every f_i is a convolution of all the features before it.

    Args:
        width: channels of f.
        growth: channels of every f_i.
        residual_scale: a.
    """

    def __init__(self, width: int, growth: int, residual_scale: float):
        super().__init__()
        sizes = [width + i * growth for i in range(DENSE_LAYERS)]
        self.layers = nn.ModuleList(PaddedConv(size, growth) for size in sizes[:-1])
        self.end = PaddedConv(sizes[-1], width)
        self.activation = nn.LeakyReLU(0.2)
        self.residual_scale = float(residual_scale)

    def forward(self, features: Tensor, boundary: Boundary) -> Tensor:
        known = features
        for layer in self.layers:
            known = torch.cat([known, self.activation(layer(known, boundary))], dim=1)
        return features + self.residual_scale * self.end(known, boundary)


class ResidualInResidual(nn.Module):
    """f + a dense(dense(dense(f))): the residual-in-residual dense block."""

    def __init__(self, width: int, growth: int, residual_scale: float):
        super().__init__()
        self.blocks = nn.ModuleList(DenseBlock(width, growth, residual_scale) for _ in range(DENSE_BLOCKS))
        self.residual_scale = float(residual_scale)

    def forward(self, features: Tensor, boundary: Boundary) -> Tensor:
        deep = features
        for block in self.blocks:
            deep = block(deep, boundary)
        return features + self.residual_scale * deep


@MODELS.register("rrdb")
class RRDB(LateUpsampling):
    """RRDB, the generator of ESRGAN, in 3-D: dense blocks, residual in residual (Wang et al. 2018).

    arXiv 1809.00219, section 3.1 and figure 4; the original has 23 blocks, 64 channels and a growth of 32. The network
    alone, fitted like the others: no adversary, no perceptual loss. Every block is 15 convolutions deep, so the halo is
    15 cells a block and 3: tiles pay for it.

    Args:
        width: channels; the dense layers grow by half as many.
        blocks: residual-in-residual dense blocks.
        residual_scale: factor on the branches, of the dense blocks and of the whole.
        frames, target_frame: see :class:`flowsr.models.base.Upscaler`.

    Raises:
        ValueError: a factor, width or number of frames below 1, or a negative number of blocks.
    """

    def __init__(
        self,
        factor: int,
        irreps: str = "1o",
        scale: float = 1.0,
        width: int = 16,
        blocks: int = 1,
        residual_scale: float = 0.2,
        frames: int = 1,
        target_frame: int = -1,
    ):
        super().__init__(factor, width, irreps=irreps, scale=scale, frames=frames, target_frame=target_frame)
        self.check_size(blocks)
        growth = max(1, width // 2)
        body = (ResidualInResidual(width, growth, residual_scale) for _ in range(blocks))
        self.set_body(body, reach=DENSE_LAYERS * DENSE_BLOCKS * blocks)
