"""Fields and maps whose symmetry is known."""

import numpy as np
import torch
import torch.nn.functional as F

from flowsr.group import Subgroup, octahedral_group, tap_permutation, transform_field
from flowsr.symmetry import Samples, pair_samples

GROUP = octahedral_group("Oh")


def kernel_turned(kernel: torch.Tensor, element: int) -> torch.Tensor:
    """(g Q g^-1) of the convolution Q with a kernel (3, 3, 27): components out, components in, taps."""
    rotation = torch.tensor(GROUP.matrices[element], dtype=torch.float64)
    taps = torch.tensor(tap_permutation(GROUP, 3)[element])
    return torch.einsum("ab,bcy,dc->ady", rotation, kernel[:, :, taps], rotation)


def symmetric_kernel(subgroup: Subgroup, seed: int) -> torch.Tensor:
    """A random linear map of velocities that commutes with a subgroup: the average of a random one over it."""
    generator = torch.Generator().manual_seed(seed)
    kernel = torch.randn(3, 3, 27, generator=generator, dtype=torch.float64)
    return sum(kernel_turned(kernel, g) for g in subgroup.elements) / subgroup.order


def kernel_group(kernel: torch.Tensor) -> Subgroup:
    """The elements that the map commutes with."""
    return GROUP.subgroup(g for g in range(48) if torch.allclose(kernel_turned(kernel, g), kernel, atol=1e-12))


def convolved(kernel: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
    """(n, 3, x, y, z) in a periodic box."""
    return F.conv3d(F.pad(field, (1,) * 6, mode="circular"), kernel.reshape(3, 3, 3, 3, 3))


def white(count: int, side: int, seed: int) -> torch.Tensor:
    """Velocities that are normal white noise, which no rotation or reflection changes in distribution."""
    return torch.randn(count, 3, side, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orbit_pairs(kernel: torch.Tensor, side: int, seed: int) -> Samples:
    """All 48 turned copies of one input and their targets: inputs without a preferred direction, and no noise."""
    one = white(1, side, seed)[0]
    inputs = torch.stack([transform_field(one, g, "1o", GROUP) for g in range(48)])
    return pair_samples(inputs, convolved(kernel, inputs), "1o")


def noisy_pairs(kernel: torch.Tensor, count: int, side: int, seed: int, noise: float) -> Samples:
    """Random inputs; targets with normal noise, its deviation relative to theirs."""
    inputs = white(count, side, seed)
    targets = convolved(kernel, inputs)
    return pair_samples(inputs, targets + noise * targets.std() * white(count, side, seed + 1000), "1o")


def isotropic_pairs(count: int, side: int, seed: int) -> Samples:
    """An isotropic nonlinear map of isotropic random fields: |u|^2 u + curl curl u, and noise."""
    u = white(count, side, seed)
    target = u.square().sum(1, keepdim=True) * u + curl(curl(u)) + white(count, side, seed + 1000)
    return pair_samples(u, target, "1o")


def curl(u: torch.Tensor) -> torch.Tensor:
    """By central differences in a periodic box of unit cells."""
    d = [(u.roll(-1, axis) - u.roll(1, axis)) / 2 for axis in (-3, -2, -1)]
    return torch.stack([d[1][:, 2] - d[2][:, 1], d[2][:, 0] - d[0][:, 2], d[0][:, 1] - d[1][:, 0]], dim=1)


def member(classes_index: int) -> Subgroup:
    """One subgroup of a class, not always the first."""
    members = GROUP.subgroup_classes[classes_index]
    return members[(7 * classes_index + 1) % len(members)]


def broken_irreps(subgroup: Subgroup) -> set[str]:
    """Irreps that hold something only a subgroup leaves alone: those of the permutations of its cosets."""
    inner = {i.name: i.characters[list(subgroup.elements)].mean() for i in GROUP.irreps}
    return {name for name, count in inner.items() if round(float(count)) and name != "A1g"}


def largest(values: np.ndarray) -> float:
    return float(np.abs(values).max())
