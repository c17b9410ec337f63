"""EDSR, the enhanced deep residual network of image super-resolution, in three dimensions."""

from __future__ import annotations

from flowsr.models.base import MODELS
from flowsr.models.image_networks import LateUpsampling, ScaledBlock


@MODELS.register("edsr")
class EDSR(LateUpsampling):
    """EDSR in 3-D: residual blocks without norm, their branches scaled (Lim et al. 2017).

    arXiv 1707.02921, figures 2c and 3; the original has 32 blocks of 256 channels and scales by 0.1. Halo: 2 cells a
    block and 3.

    Args:
        width: channels.
        blocks: residual blocks of two convolutions.
        residual_scale: factor on every block's branch.
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
        blocks: int = 4,
        residual_scale: float = 0.1,
        frames: int = 1,
        target_frame: int = -1,
    ):
        super().__init__(factor, width, irreps=irreps, scale=scale, frames=frames, target_frame=target_frame)
        self.check_size(blocks)
        self.set_body((ScaledBlock(width, residual_scale) for _ in range(blocks)), reach=2 * blocks)
