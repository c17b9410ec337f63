"""How a field goes on beyond the edge of the array, axis by axis."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from flowsr.grid import BOUNDARIES

#: ``periodic``, ``wall`` or ``open`` along x, y, z.
Boundary = tuple[str, str, str]

#: ``periodic``, ``zero``, ``replicate`` or ``reflect`` along x, y, z; ``none`` leaves an axis as it is.
Padding = tuple[str, str, str]

PERIODIC: Boundary = ("periodic", "periodic", "periodic")

#: How an axis that is not periodic may be continued.
WALL_PADDINGS = ("replicate", "reflect", "zero")

# What a kernel may be asked to continue an axis with, and torch's word for it.
PADDINGS = {"periodic": "circular", "zero": "constant", "replicate": "replicate", "reflect": "reflect"}


def paddings(boundary: Boundary, wall_padding: str = "replicate") -> Padding:
    """How each axis is continued: ``periodic`` axes around, ``wall`` and ``open`` ones by ``wall_padding``.

    The same padding serves every axis that is not periodic: anything else would not commute with the group.

    Raises:
        ValueError: an unknown boundary or padding.
    """
    if len(boundary) != 3 or any(kind not in BOUNDARIES for kind in boundary):
        raise ValueError(f"boundary must be one of {BOUNDARIES} per axis, got {boundary}")
    if wall_padding not in WALL_PADDINGS:
        raise ValueError(f"wall_padding must be one of {WALL_PADDINGS}, got {wall_padding!r}")
    x, y, z = ("periodic" if kind == "periodic" else wall_padding for kind in boundary)
    return x, y, z


def pad(features: Tensor, width: int, padding: Padding) -> Tensor:
    """Continue the last three dimensions by ``width`` cells on both sides.

    Args:
        features: (batch, ..., x, y, z).
        width: cells to add on each side.
        padding: ``periodic``, ``zero``, ``replicate`` or ``reflect`` along x, y, z, as :func:`paddings` has them of a
            boundary; ``none`` leaves an axis as it is. ``reflect`` mirrors about the centre of the edge cell,
            ``replicate`` repeats that cell.

    Returns:
        (batch, ..., x + 2 width, y + 2 width, z + 2 width), fewer where the padding is ``none``.

    Raises:
        ValueError: an unknown padding, or an axis too short for it.
    """
    known = (*PADDINGS, "none")
    if len(padding) != 3 or any(mode not in known for mode in padding):
        raise ValueError(f"padding must be one of {', '.join(known)} for each of three axes, got {padding}")
    if width == 0 or set(padding) == {"none"}:
        return features
    for mode, cells in zip(padding, features.shape[-3:], strict=True):
        if width > cells - (mode == "reflect") and mode in ("periodic", "reflect"):
            raise ValueError(f"{mode} padding by {width} needs more cells than {cells} along an axis")
    padded = features.reshape(features.shape[0], -1, *features.shape[-3:])
    for mode, name in PADDINGS.items():
        axes = tuple(width if chosen == mode else 0 for chosen in padding)
        if any(axes):
            padded = F.pad(padded, [axes[axis] for axis in (2, 2, 1, 1, 0, 0)], mode=name)
    return padded.reshape(*features.shape[:-3], *padded.shape[-3:])
