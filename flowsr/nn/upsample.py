"""Finer grids, in a way that commutes with the group: sub-voxels that the group carries along."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flowsr.group.octahedral import PointGroup
from flowsr.kernels.padding import PERIODIC, Boundary
from flowsr.kernels.tables import ConvolutionTables
from flowsr.nn.group_conv import GroupConv


def subvoxels_to_space(features: Tensor, factor: int) -> Tensor:
    """Put the sub-positions of every cell where they belong.

    Args:
        features: (batch, ..., s^3, x, y, z), sub-positions in C order over (p_x, p_y, p_z).
        factor: s.

    Returns:
        (batch, ..., s x, s y, s z).
    """
    if factor == 1:
        return features.squeeze(-4)
    *lead, _, x, y, z = features.shape
    split = features.reshape(-1, factor, factor, factor, x, y, z).permute(0, 4, 1, 5, 2, 6, 3)
    return split.reshape(*lead, factor * x, factor * y, factor * z)


class SubVoxelUpsample(nn.Module):
    """f'(X, p, g) = sum_l w_l(g) sum_y sum_h psi_l(g^-1 y, g^-1 h, g^-1 p) f(X+y, h): each cell X becomes s^3.

    A group convolution with s^3 times the channels, one for each sub-position in the frame of g; in the frame of the
    grid that is sub-position p = g q. The group counterpart of the sub-pixel convolution of Shi et al. 2016
    (arXiv 1609.05158).

    Args:
        group: a point group, order n.
        channels_in, channels_out: regular channels.
        factor: s.
        options: those of :class:`~flowsr.nn.GroupConv`.
    """

    def __init__(self, group: PointGroup, channels_in: int, channels_out: int, factor: int, **options: Any):
        super().__init__()
        self.tables = ConvolutionTables(group, kernel_size=1, upsample=factor)
        self.convolution = GroupConv(group, channels_in, channels_out * factor**3, **options)

    def forward(self, features: Tensor, boundary: Boundary = PERIODIC) -> Tensor:
        """
        Args:
            features: (batch, channels_in, n, x, y, z).
            boundary: ``periodic``, ``wall`` or ``open`` along x, y, z.

        Returns:
            (batch, channels_out, n, s x, s y, s z).
        """
        in_body_frame = self.convolution(features, boundary).unflatten(1, (-1, self.tables.upsample**3))
        elements = torch.arange(self.tables.group.order, device=features.device)[:, None]
        on_grid = in_body_frame[:, :, self.tables.subvoxel_action, elements]
        return subvoxels_to_space(on_grid, self.tables.upsample)
