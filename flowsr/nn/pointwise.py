"""Layers that act at every voxel alone: norm, activation and dropout.

A pointwise function of a regular feature commutes with the group as soon as it treats all group elements alike, because
the group only reorders them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


def activation(name: str) -> nn.Module:
    """A pointwise activation.

    Args:
        name: ``relu``, ``gelu`` or ``silu``.

    Raises:
        ValueError: another name.
    """
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(_ACTIVATIONS)}, got {name!r}")
    return _ACTIVATIONS[name]()


class RegularNorm(nn.Module):
    """f(x, c, g) scale(c) / RMS of f(x, ., .), the RMS over all channels and group elements of one voxel.

    The statistics of a voxel are its own, so a field treated tile by tile gives what the whole field gives, and they
    run over the whole group, so the norm commutes with it. (The RMS norm of Zhang & Sennrich 2019, arXiv 1910.07467.)

    Args:
        channels: regular channels.
        eps: added to the mean square.
    """

    def __init__(self, channels: int, eps: float = 1e-6):
        super().__init__()
        self.eps = float(eps)
        self.scale = nn.Parameter(torch.ones(channels))

    def forward(self, features: Tensor) -> Tensor:
        """(batch, channels, n, x, y, z) to the same shape; the mean square is taken in float32 at least."""
        wide = features if features.dtype == torch.float64 else features.float()
        inverse_rms = torch.rsqrt(wide.square().mean((1, 2), keepdim=True) + self.eps)
        return (wide * inverse_rms * self.scale.view(-1, 1, 1, 1, 1)).to(features.dtype)


class OrbitDropout(nn.Module):
    """Drops whole regular channels, all group elements and voxels at once, each with probability p, in training only.

    Dropping single group elements would break the symmetry at random; dropping the whole orbit cannot.

    Args:
        probability: p, in [0, 1).

    Raises:
        ValueError: another probability.
    """

    def __init__(self, probability: float = 0.1):
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"probability must be in [0, 1), got {probability}")
        self.probability = float(probability)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, channels, n, x, y, z) to the same shape; what is kept is scaled by 1/(1-p)."""
        if not self.training or self.probability == 0:
            return features
        keep = 1 - self.probability
        kept = torch.empty(features.shape[:2], device=features.device).bernoulli_(keep)
        return features * (kept / keep).to(features.dtype)[:, :, None, None, None, None]
