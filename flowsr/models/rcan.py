"""RCAN, the residual channel attention network of image super-resolution, in three dimensions."""

from __future__ import annotations

from torch import Tensor, nn

from flowsr.models.base import MODELS
from flowsr.models.cnn import PaddedConv
from flowsr.models.image_networks import LateUpsampling, ScaledBlock
from flowsr.nn.padding import Boundary


class ChannelAttention(nn.Module):
    """f times a gate per channel, computed from the channels' means over the whole box (RCAN, equations 9 to 11).

    Args:
        width: channels.
        reduction: how many times fewer channels there are between the two layers of the gate.
    """

    def __init__(self, width: int, reduction: int):
        super().__init__()
        inner = max(1, width // reduction)
        self.gate = nn.Sequential(nn.Linear(width, inner), nn.SiLU(), nn.Linear(inner, width), nn.Sigmoid())

    def forward(self, features: Tensor) -> Tensor:
        return features * self.gate(features.mean((-3, -2, -1)))[..., None, None, None]


class ResidualGroup(nn.Module):
    """f + conv(blocks(f)), the blocks with channel attention (RCAN, equations 5 and 12)."""

    def __init__(self, width: int, blocks: int, reduction: int):
        super().__init__()
        self.blocks = nn.ModuleList(ScaledBlock(width, after=ChannelAttention(width, reduction)) for _ in range(blocks))
        self.end = PaddedConv(width, width)

    def forward(self, features: Tensor, boundary: Boundary) -> Tensor:
        deep = features
        for block in self.blocks:
            deep = block(deep, boundary)
        return features + self.end(deep, boundary)


@MODELS.register("rcan")
class RCAN(LateUpsampling):
    """RCAN in 3-D: residual groups with channel attention over the whole box (Zhang et al. 2018).

    arXiv 1807.02758, figures 2 to 4; the original has 10 groups of 20 blocks, 64 channels and a reduction of 16. The
    attention averages over the whole box, so no tile can be computed alone: the halo is None. Between its two layers
    stands a SiLU where the original has a ReLU: of a few channels a ReLU can die for good.

    Args:
        width: channels.
        groups: residual groups.
        blocks: residual blocks of two convolutions in each group.
        reduction: how many times fewer channels there are inside the attention.
        frames, target_frame: see :class:`flowsr.models.base.Upscaler`.

    Raises:
        ValueError: a factor, width, reduction, number of frames or of groups below 1, or a negative number of blocks.
    """

    halo = None

    def __init__(
        self,
        factor: int,
        irreps: str = "1o",
        scale: float = 1.0,
        width: int = 16,
        groups: int = 2,
        blocks: int = 2,
        reduction: int = 4,
        frames: int = 1,
        target_frame: int = -1,
    ):
        super().__init__(factor, width, irreps=irreps, scale=scale, frames=frames, target_frame=target_frame)
        self.check_size(blocks, groups=groups, reduction=reduction)
        self.set_body((ResidualGroup(width, blocks, reduction) for _ in range(groups)), reach=None)
