"""How a field goes on beyond the edge of the array, axis by axis."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

# What a kernel may be asked to continue an axis with, and torch's word for it.
PADDINGS = {"periodic": "circular", "zero": "constant", "replicate": "replicate", "reflect": "reflect"}


def pad(features: Tensor, width: int, padding: tuple[str, str, str]) -> Tensor:
    """Continue the last three dimensions by ``width`` cells on both sides.

    Args:
        features: (batch, ..., x, y, z).
        width: cells to add on each side.
        padding: ``periodic``, ``zero``, ``replicate`` or ``reflect`` along x, y, z; ``none`` leaves an axis as it is.
            ``reflect`` mirrors about the centre of the edge cell, ``replicate`` repeats that cell.

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
    for mode, cells in zip(padding, features.shape[-3:]):
        if width > cells - (mode == "reflect") and mode in ("periodic", "reflect"):
            raise ValueError(f"{mode} padding by {width} needs more cells than {cells} along an axis")
    padded = features.reshape(features.shape[0], -1, *features.shape[-3:])
    for mode, name in PADDINGS.items():
        axes = tuple(width if chosen == mode else 0 for chosen in padding)
        if any(axes):
            padded = F.pad(padded, [axes[axis] for axis in (2, 2, 1, 1, 0, 0)], mode=name)
    return padded.reshape(*features.shape[:-3], *padded.shape[-3:])
