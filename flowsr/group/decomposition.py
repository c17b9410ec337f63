"""What irreps of a point group a representation contains, and the basis in which that can be seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from torch import Tensor

from flowsr.group.fields import representation
from flowsr.group.irreps import Irrep, orthonormal_columns
from flowsr.group.octahedral import PointGroup

Array = TypeVar("Array", np.ndarray, Tensor)


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A representation D(g), taken apart.

    Args:
        multiplicities: how often each irrep occurs, in the order of the group's irreps; none with 0.
        basis: (D, D) float64, orthogonal, read-only. ``basis.T @ D(g) @ basis`` is block-diagonal: the irreps in that
            order, each as often as it occurs, each block the irrep's own matrix.
    """

    multiplicities: dict[str, int]
    basis: np.ndarray

    def __str__(self) -> str:
        return " + ".join(name if m == 1 else f"{m} {name}" for name, m in self.multiplicities.items())


def multiplicities(matrices: np.ndarray, group: PointGroup) -> dict[str, int]:
    """How often each irrep occurs: the inner product of the characters.

    Args:
        matrices: (n, D, D), a real representation of ``group``.

    Raises:
        ValueError: matrices whose characters are not those of a representation.
    """
    characters = np.trace(matrices, axis1=1, axis2=2)
    counts = {
        irrep.name: float(irrep.characters @ characters) / group.order / irrep.commutant for irrep in group.irreps
    }
    if any(abs(count - round(count)) > 1e-6 or round(count) < 0 for count in counts.values()):
        raise ValueError(f"not a representation of {group.name}: multiplicities {counts}")
    return {name: round(count) for name, count in counts.items() if round(count)}


def decompose(matrices: np.ndarray, group: PointGroup) -> Decomposition:
    """Take a representation apart into irreps.

    Args:
        matrices: (n, D, D) float64, an orthogonal representation of ``group``.

    Raises:
        ValueError: matrices whose characters are not those of a representation.
    """
    counts = multiplicities(matrices, group)
    columns = [_adapted_columns(matrices, group.irrep(name), count) for name, count in counts.items()]
    basis = np.concatenate(columns, axis=1)
    basis.setflags(write=False)
    return Decomposition(counts, basis)


@lru_cache(maxsize=64)
def restrict(irreps: str, group: PointGroup) -> Decomposition:
    """A field type of full O(3), restricted to a point group: ``restrict("2e", octahedral_group("Oh"))`` is Eg + T2g.

    Args:
        irreps: e3nn irreps.
    """
    return decompose(representation(irreps, group), group)


def split_by_irrep(coefficients: Array, group: PointGroup) -> dict[str, Array]:
    """The rows of the group's Fourier transform, irrep by irrep.

    Args:
        coefficients: (..., n) array or tensor: ``group.fourier`` applied to functions on the group, or their squares.

    Returns:
        name of each irrep, in the group's order, to its block (..., d, d): entry [..., i, j] goes with rho_ij. For one
        of complex type (..., 1, 2).
    """
    blocks, start = {}, 0
    for irrep in group.irreps:
        d = irrep.dimension
        size = irrep.copies * d
        blocks[irrep.name] = coefficients[..., start : start + size].reshape(*coefficients.shape[:-1], -1, d)
        start += size
    return blocks


def _adapted_columns(matrices: np.ndarray, irrep: Irrep, count: int) -> np.ndarray:
    """(D, count d): orthonormal columns e_aj, copy a and component j, with D(g) e_aj = sum_i rho_ij(g) e_ai.

    The operators P_i0 = (d/n) sum_g rho_i0(g) D(g) take the first component of every copy to its i-th.
    Source: J.-P. Serre, Linear Representations of Finite Groups, section 2.7, proposition 8.
    """
    n, size = matrices.shape[:2]
    transfer = irrep.dimension / n * np.einsum("gi,gab->iab", irrep.matrices[:, :, 0], matrices)
    if irrep.commutant > 1:
        return _columns_of_complex_type(transfer, count)
    first = orthonormal_columns(transfer[0], count)
    columns: np.ndarray = np.einsum("iab,bc->aci", transfer, first).reshape(size, count * irrep.dimension)
    return columns


def _columns_of_complex_type(transfer: np.ndarray, count: int) -> np.ndarray:
    """The same for an irrep of complex type, of which P_00 keeps both components and P_10 takes the first to the
    second."""
    remaining, chosen = transfer[0].copy(), []
    for _ in range(count):
        (first,) = orthonormal_columns(remaining, 1).T
        for column in (first, transfer[1] @ first):
            chosen.append(column)
            remaining = remaining - np.outer(column, column @ remaining)
    return np.stack(chosen, axis=1)
