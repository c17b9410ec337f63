"""The networks of Wang, Walters & Smidt 2023 (arXiv 2310.02299), section 5: up-sampled early, in steps of two.

A convolution in; for every doubling a residual block and a step to twice as many cells; a convolution out on the fine
grid. Three networks of this one layout: ordinary convolutions, octahedral ones, relaxed octahedral ones. The published
ones had about 125,000 parameters, took three coarse frames of 16^3 and gave one fine frame of 64^3.

What differs from the published code, so that "strict" means equivariant: every step commutes with the group (sub-voxels
that the group carries along, relaxed weights on the output's index, a projection at the end where theirs is an ordinary
convolution), the boundary is the box's own, and as in all networks here the field itself is interpolated and only its
correction is learned.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from flowsr.grid import Grid
from flowsr.group import point_group
from flowsr.kernels.padding import Boundary, pad, paddings
from flowsr.models.base import MODELS, LearnedUpscaler, Task
from flowsr.models.image_networks import PaddedConv, ScaledBlock
from flowsr.nn import Chain, GroupConv, LiftingConv, Projection, ResidualBlock, SubVoxelUpsample


class EarlyUpsampling(LearnedUpscaler):
    """head; for every doubling, blocks and a step of two; tail on the fine grid. A subclass gives the parts.

    Every part is called with (features, boundary); head and tail see 1 cell of their grid, a block 2.
    """

    def assemble(
        self,
        head: nn.Module,
        block: Callable[[], nn.Module],
        step: Callable[[], nn.Module],
        tail: nn.Module,
        blocks: int,
        first_needed: Callable[[int], int],
    ) -> None:
        """Put the parts together; ``block`` and ``step`` make one each, ``blocks`` of them stand before every step.

        ``first_needed`` tells the first cell that a step needs to know its cells from a given one on.
        """
        steps = self.factor.bit_length() - 1
        if self.factor != 2**steps:
            raise ValueError(f"factor must be a power of two, got {self.factor}")
        self.head, self.tail = head, tail
        self.stages = nn.ModuleList(Chain([*(block() for _ in range(blocks)), step()]) for _ in range(steps))
        first = -1  # the first cell that the result's cell 0 needs: beyond the tail, and then grid by coarser grid
        for _ in range(steps):
            first = first_needed(first) - 2 * blocks
        self.halo = 1 - first

    def correction(self, coarse: Tensor, grid: Grid) -> Tensor:
        features = self.head(coarse, grid.boundary)
        for *blocks, step in self.stages:
            for block in blocks:
                features = block(features, grid.boundary)
            features = step(torch.relu(features), grid.boundary)
        return self.tail(torch.relu(features), grid.boundary)


class DoublingConv(nn.Module):
    """Transposed convolution with 4 x 4 x 4 taps and a stride of 2.

    Its taps lie evenly about the fine cells; with 3 x 3 x 3 taps and output padding they would lie to one side, and no
    filter could commute with a reflection.
    """

    def __init__(self, width: int):
        super().__init__()
        self.convolution = nn.ConvTranspose3d(width, width, 4, stride=2, padding=3)

    def forward(self, features: Tensor, boundary: Boundary) -> Tensor:
        return self.convolution(pad(features, 1, paddings(boundary)))


@MODELS.register("paper_cnn")
class PaperCNN(EarlyUpsampling):
    """The paper's CNN: residual blocks and transposed convolutions, doubling by doubling (Wang et al. 2023).

    arXiv 2310.02299, section 5, "Conv". Halo for factor 4 and one block a step: 5 cells.

    Args:
        width: channels.
        blocks: residual blocks of two convolutions before every doubling.

    Raises:
        ValueError: a factor that is no power of two, a width below 1, or negative blocks.
    """

    def __init__(self, task: Task, width: int = 16, blocks: int = 1):
        super().__init__(task)
        self.check_size(blocks, width=width)
        head = PaddedConv(self.components * self.frames, width)
        tail = PaddedConv(width, self.components, silent=True)
        self.assemble(
            head, lambda: ScaledBlock(width), lambda: DoublingConv(width), tail, blocks, lambda first: (first - 1) // 2
        )


class PaperOctahedral(EarlyUpsampling):
    """The paper's layout of group convolutions. Halo for factor 4 and one block a step: 6 cells.

    Arguments as of :class:`~flowsr.models.octahedral.OctahedralNetwork`, ``blocks`` before every doubling.

    Raises:
        ValueError: as there, and a factor that is no power of two.
    """

    relaxed: bool

    def __init__(
        self,
        task: Task,
        group: str = "O",
        channels: int = 2,
        blocks: int = 1,
        filter_banks: int = 1,
        wall_padding: str = "replicate",
    ):
        super().__init__(task)
        self.check_size(blocks, channels=channels, filter_banks=filter_banks)
        self.group = point_group(group)
        layers = dict(filter_banks=filter_banks, relaxed=self.relaxed, wall_padding=wall_padding)
        tail = Projection(self.group, channels, self.irreps, **layers)
        self.assemble(
            LiftingConv(self.group, self.irreps, self.frames, channels, **layers),
            lambda: ResidualBlock(lambda: GroupConv(self.group, channels, channels, **layers), "relu"),
            lambda: SubVoxelUpsample(self.group, channels, channels, 2, **layers),
            tail,
            blocks,
            lambda first: first // 2 - 1,
        )
        nn.init.zeros_(tail.filters)  # training starts from the interpolation


@MODELS.register("paper_relaxed")
class PaperRelaxed(PaperOctahedral):
    """The paper's relaxed octahedral network, doubling by doubling; equivariant until trained (Wang et al. 2023)."""

    relaxed = True


@MODELS.register("paper_strict")
class PaperStrict(PaperOctahedral):
    """The paper's octahedral network, relaxed weights frozen: exactly equivariant for ever (Wang et al. 2023)."""

    relaxed = False
