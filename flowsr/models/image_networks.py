"""Convolutional networks, as for images, in three dimensions: work on the coarse grid, one sub-voxel step at the end.

No symmetry is built into them but translations. What EDSR, RCAN and RRDB share is the frame: a convolution into
features, a body that corrects them, a convolution, a skip over both, and a sub-voxel convolution (Shi et al. 2016,
arXiv 1609.05158) that writes all parts of a coarse cell at once, whatever the factor. The originals up-sample in steps
of two before a last convolution; here that step is one for all of them, so that the comparison is between bodies.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from flowsr.grid import Grid
from flowsr.kernels.conv3d import conv3d
from flowsr.kernels.padding import Boundary, pad, paddings
from flowsr.models.base import MODELS, LearnedUpscaler, Task
from flowsr.nn import Chain, ResidualBlock

#: Convolutions of a dense block, and dense blocks of a residual-in-residual block (ESRGAN, figure 4).
DENSE_LAYERS, DENSE_BLOCKS = 5, 3


class PaddedConv(nn.Module):
    """3 x 3 x 3 convolution that continues the field across the box's sides by their boundary.

    Args:
        channels_in, channels_out: channels.
        silent: zero at the start, so that training starts from the interpolation.
    """

    def __init__(self, channels_in: int, channels_out: int, silent: bool = False):
        super().__init__()
        self.convolution = nn.Conv3d(channels_in, channels_out, 3)
        if silent:
            for parameter in self.convolution.parameters():
                nn.init.zeros_(parameter)

    def forward(self, features: Tensor, boundary: Boundary) -> Tensor:
        return conv3d(pad(features, 1, paddings(boundary)), self.convolution.weight, bias=self.convolution.bias)


@MODELS.register("cnn")
class CNN(LearnedUpscaler):
    """Residual convolutional network on the coarse grid, one sub-voxel step at the end (Shi et al. 2016, in 3-D).

    Args:
        width: channels.
        blocks: residual blocks of two convolutions.

    Raises:
        ValueError: a width below 1, or a negative number of blocks.
    """

    def __init__(self, task: Task, width: int = 16, blocks: int = 2):
        super().__init__(task)
        self.check_size(blocks, width=width)
        self.head = PaddedConv(self.components * self.frames, width)
        self.blocks = Chain(ResidualBlock(lambda: PaddedConv(width, width)) for _ in range(blocks))
        self.tail = PaddedConv(width, self.components * self.factor**3, silent=True)
        self.activation = nn.GELU()
        self.halo = 2 + 2 * blocks

    def correction(self, coarse: Tensor, grid: Grid) -> Tensor:
        features = self.blocks(self.head(coarse, grid.boundary), grid.boundary)
        return self.parts_to_space(self.tail(self.activation(features), grid.boundary))


class LateUpsampling(LearnedUpscaler):
    """head, body, skip, sub-voxel tail. A subclass sets ``body``, and ``halo``: 3 cells more than the body sees."""

    body: Chain

    def __init__(self, task: Task, width: int):
        super().__init__(task)
        self.check_size(0, width=width)
        self.head = PaddedConv(self.components * self.frames, width)
        self.body_end = PaddedConv(width, width)
        self.tail = PaddedConv(width, self.components * self.factor**3, silent=True)

    def correction(self, coarse: Tensor, grid: Grid) -> Tensor:
        features = self.head(coarse, grid.boundary)
        deep = self.body_end(self.body(features, grid.boundary), grid.boundary)
        return self.parts_to_space(self.tail(features + deep, grid.boundary))


class ScaledBlock(nn.Module):
    """f + a after(conv(relu(conv(f)))): the residual block that begins with a convolution.

    Args:
        width: channels.
        residual_scale: a.
        after: what is done to the branch before it is scaled, a module of the features.
    """

    def __init__(self, width: int, residual_scale: float = 1.0, after: nn.Module | None = None):
        super().__init__()
        self.first, self.second = PaddedConv(width, width), PaddedConv(width, width)
        self.after, self.residual_scale = after or nn.Identity(), float(residual_scale)

    def forward(self, features: Tensor, boundary: Boundary) -> Tensor:
        inner = self.second(torch.relu(self.first(features, boundary)), boundary)
        return features + self.residual_scale * self.after(inner)


class Residual(nn.Module):
    """f + a layers(f), the layers called in turn with (features, boundary): a group of RCAN, a block of RRDB."""

    def __init__(self, layers: Iterable[nn.Module], residual_scale: float = 1.0):
        super().__init__()
        self.layers, self.residual_scale = Chain(layers), float(residual_scale)

    def forward(self, features: Tensor, boundary: Boundary) -> Tensor:
        return features + self.residual_scale * self.layers(features, boundary)


@MODELS.register("edsr")
class EDSR(LateUpsampling):
    """EDSR in 3-D: residual blocks without norm, their branches scaled (Lim et al. 2017).

    arXiv 1707.02921, figures 2c and 3; the original has 32 blocks of 256 channels and scales by 0.1. Halo: 2 cells a
    block and 3.

    Args:
        width: channels.
        blocks: residual blocks of two convolutions.
        residual_scale: factor on every block's branch.

    Raises:
        ValueError: a width below 1, or a negative number of blocks.
    """

    def __init__(self, task: Task, width: int = 16, blocks: int = 4, residual_scale: float = 0.1):
        super().__init__(task, width)
        self.check_size(blocks)
        self.body = Chain(ScaledBlock(width, residual_scale) for _ in range(blocks))
        self.halo = 2 * blocks + 3


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

    Raises:
        ValueError: a width, reduction or number of groups below 1, or a negative number of blocks.
    """

    halo = None

    def __init__(self, task: Task, width: int = 16, groups: int = 2, blocks: int = 2, reduction: int = 4):
        super().__init__(task, width)
        self.check_size(blocks, groups=groups, reduction=reduction)
        self.body = Chain()
        for _ in range(groups):
            attended = [ScaledBlock(width, after=ChannelAttention(width, reduction)) for _ in range(blocks)]
            self.body.append(Residual([*attended, PaddedConv(width, width)]))


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

    Raises:
        ValueError: a width below 1, or a negative number of blocks.
    """

    def __init__(self, task: Task, width: int = 16, blocks: int = 1, residual_scale: float = 0.2):
        super().__init__(task, width)
        self.check_size(blocks)
        growth = max(1, width // 2)
        self.body = Chain()
        for _ in range(blocks):
            dense = [DenseBlock(width, growth, residual_scale) for _ in range(DENSE_BLOCKS)]
            self.body.append(Residual(dense, residual_scale))
        self.halo = DENSE_LAYERS * DENSE_BLOCKS * blocks + 3
