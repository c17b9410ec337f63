"""Layers that act at every voxel alone: norm, activation and dropout.

A pointwise function of a regular feature commutes with the group as soon as it treats all group elements alike, because
the group only reorders them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowsr.grid import Grid

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


def wall_functions(grid: Grid, count: int) -> Tensor:
    """Functions of the distance to the nearest wall: cos(2 k t) for k = 1 ... ``count``.

    t runs from 0 at a wall to pi/2 in the middle between two of them, 1 - cos(t) being the distance over half the
    height: equal steps of t are short beside the walls, as the cells of a channel are. Places with the same distance
    have the same values, so the functions go along with every symmetry that maps walls to walls.

    Args:
        grid: whose axes with the boundary ``wall`` are counted.

    Returns:
        (count, x, y, z) float64, sides of 1 along other axes than that of the nearest wall; zeros without a wall.
    """
    nearest: Tensor | None = None
    for axis, (faces, centers) in enumerate(zip(grid.faces(), grid.coordinates(), strict=True)):
        if grid.boundary[axis] == "wall":
            half = (faces[-1] - faces[0]) / 2
            distance = torch.tensor([min(c - faces[0], faces[-1] - c) / half for c in centers], dtype=torch.float64)
            shape = [1, 1, 1]
            shape[axis] = -1
            distance = distance.view(shape)
            nearest = distance if nearest is None else torch.minimum(nearest, distance)
    if nearest is None:
        return torch.zeros(count, 1, 1, 1, dtype=torch.float64)
    angle = torch.arccos((1 - nearest).clamp(0, 1))
    return torch.stack([torch.cos(2 * k * angle) for k in range(1, count + 1)])


class WallWeights(nn.Module):
    """f(x, c, g) (1 + sum_k a_k(g) phi_k(x)): relaxed weights that depend on the distance to a wall.

    The relaxed translations of Wang, Walters & Smidt 2023 (arXiv 2310.02299), equal at mirrored places.

    Args:
        numbers: (n,) for every element the number of its weights a: those of one coset share them, all elements of a
            strict network do.
        functions: how many phi_k (:func:`wall_functions`).

    Attributes:
        weights: a, (functions, different numbers), zeros at the start.
    """

    numbers: Tensor

    def __init__(self, numbers: Tensor, functions: int):
        super().__init__()
        self.register_buffer("numbers", numbers, persistent=False)
        self.weights = nn.Parameter(torch.zeros(functions, int(numbers.max()) + 1))

    def forward(self, features: Tensor, functions: Tensor) -> Tensor:
        """(batch, channels, n, x, y, z) to the same shape."""
        profile = torch.einsum("kg,kxyz->gxyz", self.weights[:, self.numbers], functions.to(self.weights.dtype))
        return features * (1 + profile).to(features.dtype)


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
