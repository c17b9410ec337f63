"""From the boundary of a grid to the padding of its arrays."""

from __future__ import annotations

from torch import Tensor

from flowsr.grid import BOUNDARIES
from flowsr.kernels import padding as kernel_padding

PERIODIC = ("periodic", "periodic", "periodic")
WALL_PADDINGS = ("replicate", "reflect", "zero")

Boundary = tuple[str, str, str]


def paddings(boundary: Boundary, wall_padding: str = "replicate") -> tuple[str, str, str]:
    """How each axis is continued: ``periodic`` axes around, ``wall`` and ``open`` ones by ``wall_padding``.

    The same padding serves every axis that is not periodic: anything else would not commute with the group.

    Raises:
        ValueError: an unknown boundary or padding.
    """
    if len(boundary) != 3 or any(kind not in BOUNDARIES for kind in boundary):
        raise ValueError(f"boundary must be one of {BOUNDARIES} per axis, got {boundary}")
    if wall_padding not in WALL_PADDINGS:
        raise ValueError(f"wall_padding must be one of {WALL_PADDINGS}, got {wall_padding!r}")
    return tuple("periodic" if kind == "periodic" else wall_padding for kind in boundary)


def pad(features: Tensor, width: int, boundary: Boundary = PERIODIC, wall_padding: str = "replicate") -> Tensor:
    """Continue a field by ``width`` cells beyond both ends of x, y and z.

    Args:
        features: (batch, ..., x, y, z).
        boundary: ``periodic``, ``wall`` or ``open`` along x, y, z.
        wall_padding: ``replicate``, ``reflect`` or ``zero``, for the axes that are not periodic.

    Returns:
        (batch, ..., x + 2 width, y + 2 width, z + 2 width).

    Raises:
        ValueError: an unknown boundary or padding, or an axis too short for it.
    """
    return kernel_padding.pad(features, width, paddings(boundary, wall_padding))
