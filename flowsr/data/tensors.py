"""Cartesian tensors of order two as their irreps: an orthogonal transform of the components away."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# Symmetry of a tensor of order two, as e3nn's formulas have it.
FORMULAS = {"none": "ij", "symmetric": "ij=ji", "antisymmetric": "ij=-ji"}

#: Row-major place of each of the six components that VTK and XDMF keep of a symmetric tensor: XX YY ZZ XY YZ XZ.
SIX = ((0,), (4,), (8,), (1, 3), (5, 7), (2, 6))


@lru_cache
def tensor_irreps(symmetry: str) -> tuple[str, np.ndarray]:
    """Irreps of a Cartesian tensor of two polar indices, and the orthogonal matrix to them from its nine components.

    Args:
        symmetry: ``none``, ``symmetric`` or ``antisymmetric``.
    """
    from e3nn.o3 import ReducedTensorProducts

    indices = {"i": "1o", "j": "1o"} if symmetry == "none" else {"i": "1o"}
    products = ReducedTensorProducts(FORMULAS[symmetry], **indices)
    matrix = products.change_of_basis.numpy().astype(float).reshape(-1, 9)
    return str(products.irreps_out), matrix


def six_component_irreps() -> tuple[str, np.ndarray]:
    """Irreps of a symmetric tensor, and the (6, 6) matrix to them from the components in the order of :data:`SIX`."""
    irreps, matrix = tensor_irreps("symmetric")
    return irreps, np.stack([matrix[:, places].sum(axis=1) for places in map(list, SIX)], axis=1)
