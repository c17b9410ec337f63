"""Image super-resolution networks in three dimensions: work on the coarse grid, one sub-voxel step at the end.

What they share is the frame: a convolution into features, a body that corrects them, a convolution, a skip over both,
and a sub-voxel convolution (Shi et al. 2016, arXiv 1609.05158) that writes all parts of a coarse cell at once, whatever
the factor. The originals up-sample in steps of two before a last convolution; here that step is one for all of them, so
that the comparison is between bodies.
"""

from __future__ import annotations

from collections.abc import Iterable

from e3nn.o3 import Irreps
from torch import Tensor, nn

from flowsr.grid import Grid
from flowsr.models.cnn import PaddedConv
from flowsr.models.network import Network
from flowsr.nn.padding import Boundary
from flowsr.nn.upsample import subvoxels_to_space


class LateUpsampling(Network):
    """head, body, skip, sub-voxel tail; a subclass gives the body and says how far it sees.

    Args:
        width: channels.
        data: what the data decide: ``irreps``, ``scale``, ``frames``, ``target_frame`` of
            :class:`~flowsr.models.network.Network`.
    """

    def __init__(self, factor: int, width: int, **data):
        super().__init__(factor, **data)
        self.check_size(0, width=width)
        self.head = PaddedConv(Irreps(self.irreps_in).dim, width)
        self.body_end = PaddedConv(width, width)
        self.tail = PaddedConv(width, Irreps(self.irreps).dim * self.factor**3)
        nn.init.zeros_(self.tail.convolution.weight)  # training starts from the interpolation
        nn.init.zeros_(self.tail.convolution.bias)

    def set_body(self, blocks: Iterable[nn.Module], reach: int | None) -> None:
        """The body: modules called in turn with (features, boundary), and how many cells they see, or None."""
        self.body = nn.ModuleList(blocks)
        self.halo = None if reach is None else reach + 3

    def correction(self, coarse: Tensor, grid: Grid) -> Tensor:
        features = self.head(coarse, grid.boundary)
        deep = features
        for block in self.body:
            deep = block(deep, grid.boundary)
        fine = self.tail(features + self.body_end(deep, grid.boundary), grid.boundary)
        return subvoxels_to_space(fine.unflatten(1, (-1, self.factor**3)), self.factor)


class ScaledBlock(nn.Module):
    """f + a conv(act(conv(f))): the residual block without normalization, its branch scaled by a.

    Args:
        width: channels.
        residual_scale: a.
        after: what is done to the branch before it is scaled, a module of the features.
    """

    def __init__(self, width: int, residual_scale: float = 1.0, after: nn.Module | None = None):
        super().__init__()
        self.first, self.second = PaddedConv(width, width), PaddedConv(width, width)
        self.activation = nn.ReLU()
        self.after = nn.Identity() if after is None else after
        self.residual_scale = float(residual_scale)

    def forward(self, features: Tensor, boundary: Boundary) -> Tensor:
        inner = self.second(self.activation(self.first(features, boundary)), boundary)
        return features + self.residual_scale * self.after(inner)
