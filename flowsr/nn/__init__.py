"""Layers that commute with the octahedral group, exactly, until training says otherwise."""

from flowsr.nn.group_conv import GroupConv
from flowsr.nn.lifting import LiftingConv
from flowsr.nn.padding import pad, paddings
from flowsr.nn.pointwise import GroupPool, OrbitDropout, RegularNorm, activation
from flowsr.nn.projection import Projection
from flowsr.nn.residual import ResidualBlock
from flowsr.nn.upsample import InterpolatedUpsample, SubVoxelUpsample

__all__ = [
    "GroupConv",
    "GroupPool",
    "InterpolatedUpsample",
    "LiftingConv",
    "OrbitDropout",
    "Projection",
    "RegularNorm",
    "ResidualBlock",
    "SubVoxelUpsample",
    "activation",
    "pad",
    "paddings",
]
