"""A plain convolutional network with late up-sampling: no symmetry built in but translations."""

from __future__ import annotations

from e3nn.o3 import Irreps
from torch import Tensor, nn

from flowsr.grid import Grid
from flowsr.models.base import MODELS
from flowsr.models.network import Network
from flowsr.nn.padding import pad
from flowsr.nn.upsample import subvoxels_to_space


class PaddedConv(nn.Module):
    """3 x 3 x 3 convolution that continues the field across the box's sides by their boundary."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.convolution = nn.Conv3d(channels_in, channels_out, 3)

    def forward(self, features: Tensor, boundary: tuple[str, str, str]) -> Tensor:
        return self.convolution(pad(features, 1, boundary))


@MODELS.register("cnn")
class CNN(Network):
    """Residual convolutional network on the coarse grid, one sub-voxel step at the end (Shi et al. 2016, in 3-D).

    Args:
        width: channels.
        blocks: residual blocks of two convolutions.
        frames, target_frame: see :class:`flowsr.models.base.Upscaler`.

    Raises:
        ValueError: a factor or width below 1, or a negative number of blocks.
    """

    def __init__(
        self,
        factor: int,
        irreps: str = "1o",
        scale: float = 1.0,
        width: int = 16,
        blocks: int = 2,
        frames: int = 1,
        target_frame: int = -1,
    ):
        super().__init__(factor, irreps, scale, frames, target_frame)
        self.check_size(blocks, width=width)
        components = Irreps(irreps).dim
        self.head = PaddedConv(self.frames * components, width)
        self.blocks = nn.ModuleList(
            nn.ModuleList([PaddedConv(width, width), PaddedConv(width, width)]) for _ in range(blocks)
        )
        self.tail = PaddedConv(width, components * factor**3)
        nn.init.zeros_(self.tail.convolution.weight)  # training starts from the interpolation
        nn.init.zeros_(self.tail.convolution.bias)
        self.activation = nn.GELU()
        self.halo = 2 + 2 * blocks

    def correction(self, coarse: Tensor, grid: Grid) -> Tensor:
        features = self.head(coarse, grid.boundary)
        for first, second in self.blocks:
            inner = first(self.activation(features), grid.boundary)
            features = features + second(self.activation(inner), grid.boundary)
        fine = self.tail(self.activation(features), grid.boundary)
        return subvoxels_to_space(fine.unflatten(1, (-1, self.factor**3)), self.factor)
