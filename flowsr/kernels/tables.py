"""The group's tables on the device of a layer: index permutations and matrices that are never trained nor saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowsr.group.fields import representation, subvoxel_permutation, tap_permutation
from flowsr.group.octahedral import PointGroup


class ConvolutionTables(nn.Module):
    """Constants of a group convolution. They follow the layer to its device, keep their precision whatever the layer's
    dtype becomes, and are not part of a state_dict.

    Args:
        group: a point group, order n.
        kernel_size: k, odd.
        irreps: e3nn irreps of a field the layer reads or writes, dimension D (lifting and projection).
        upsample: s, sub-positions per axis and cell (sub-voxel up-sampling).

    Attributes:
        inverse: (n,) [g] is g^-1.
        group_action: (n, n) [g, h] is g^-1 h.
        tap_action: (n, k^3) [g, y] is the tap g^-1 y.
        subvoxel_action: (n, s^3) [g, p] is the sub-position g^-1 p.
        representation: (n, D, D) float64, rho(g).
        invariants: (D, number of invariants) float64, see :func:`invariant_basis`.
        fourier: (n, n) float64, the orthogonal group Fourier matrix.
        cosets: of the elements that only change the signs of axes, 6 for O and O_h.
        irrep_dimensions: dimension d of every irrep, in the order of the rows of ``fourier``.
        irrep_copies: how often each is among the functions on the group: d, or d/2 for one of complex type.

    Raises:
        ValueError: an even kernel size, a factor below 1, or irreps that e3nn cannot read.
    """

    inverse: Tensor
    group_action: Tensor
    tap_action: Tensor
    subvoxel_action: Tensor
    representation: Tensor
    invariants: Tensor
    fourier: Tensor

    def __init__(self, group: PointGroup, kernel_size: int, irreps: str = "0e", upsample: int = 1):
        super().__init__()
        self.group = group
        self.kernel_size = int(kernel_size)
        self.upsample = int(upsample)
        # Kept here because torch.compile makes every array writable that a traced graph touches, the group's too.
        self.irrep_dimensions = tuple(irrep.dimension for irrep in group.irreps)
        self.cosets = group.order // len([m for m in group.matrices if np.count_nonzero(np.diag(m)) == 3])
        self.irrep_copies = tuple(irrep.copies for irrep in group.irreps)
        self._exact = {
            "inverse": group.inverse,
            "group_action": group.left_quotient,
            "tap_action": tap_permutation(group, self.kernel_size),
            "subvoxel_action": subvoxel_permutation(group, self.upsample),
            "representation": representation(str(irreps), group),
            "invariants": invariant_basis(representation(str(irreps), group)),
            "fourier": group.fourier,
        }
        self._remembered: dict[tuple[int, ...], tuple[Tensor, ...]] = {}
        for name, values in self._exact.items():
            self.register_buffer(name, torch.from_numpy(np.array(values)), persistent=False)

    @property
    def taps(self) -> int:
        """Number of taps, k^3."""
        return self.kernel_size**3

    @property
    def halo(self) -> int:
        """Cells that the filter reaches beyond its centre, k // 2."""
        return self.kernel_size // 2

    def remembered(self, key: tuple[int, ...], build: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """``build()``, made once for a key and kept until the tables move; made anew in a traced graph."""
        if torch.compiler.is_compiling():
            return build()
        if key not in self._remembered:
            with torch.inference_mode(False):
                self._remembered[key] = build()
        return self._remembered[key]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_remembered": {}}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ConvolutionTables:
        self._remembered.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, values in self._exact.items():  # `layer.float()` must not round the matrices
            moved, exact = self.get_buffer(name), torch.from_numpy(np.array(values))
            if moved.dtype != exact.dtype:
                self._buffers[name] = exact.to(moved.device)
        return self


def joint_index(axes: list[tuple[Tensor | int, int]], order: int, device: torch.device) -> Tensor:
    """Where every entry of a rotated filter is found in the unrotated one.

    Args:
        axes: for each dimension of the rotated filter, outermost first: the group's action on it, (n, size), or its
            size where the group leaves it alone; and the stride of that dimension in the unrotated filter.
        order: n.

    Returns:
        (n, product of the sizes) int64.
    """
    index = torch.zeros(order, 1, dtype=torch.int64, device=device)
    for action, stride in axes:
        moved = torch.arange(action, device=device)[None] if isinstance(action, int) else action
        index = (index[:, :, None] + stride * moved[:, None, :]).flatten(1)
    return index


def invariant_basis(representation: np.ndarray) -> np.ndarray:
    """Orthonormal vectors that every element leaves alone.

    Args:
        representation: (n, D, D), orthogonal matrices.

    Returns:
        (D, number of invariants) float64. The mean of the matrices projects onto these vectors.
    """
    values, vectors = np.linalg.eigh(representation.mean(0))
    return vectors[:, values > 0.5]
