"""How group elements act on what lives on a grid: components, voxels, filter taps and sub-voxels.

The action on a field is (g.v)(x) = rho(g) v(g^-1 x), about the centre of the box. The last three dimensions of a tensor
are x, y, z in that order. With cell-centred grids the spatial part only reorders array entries: a permutation of the
three axes and some flips, never an interpolation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, reduce
from operator import add
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from flowsr.errors import FlowsrError
from flowsr.grid import Grid, triple
from flowsr.group.octahedral import PointGroup

if TYPE_CHECKING:
    from flowsr.group.o3 import Irreps

#: How the irreps of one vector field, polar or axial, may be written.
VECTORS = ("1o", "1e", "1x1o", "1x1e")


@lru_cache(maxsize=64)
def representation(irreps: str, group: PointGroup) -> np.ndarray:
    """Matrices of a field type for every group element, in e3nn's component order.

    This is the one place where e3nn's order enters flowsr. e3nn 0.6 orders the components of l = 1 as (x, y, z), which
    is our (u, v, w), so that ``1o`` is represented by R itself; another e3nn is refused. For l = 2 the order is
    (xz, xy, 2y^2 - x^2 - z^2, yz, z^2 - x^2), up to positive factors: the polar axis is y. Rotations act through the
    Wigner matrices; the inversion multiplies an ``e`` part by +1 and an ``o`` part by -1.

    Args:
        irreps: e3nn irreps, such as ``1o`` (velocity), ``1e`` (vorticity), ``0e + 2e`` (symmetric tensor), ``4x1o``.

    Returns:
        (n, D, D) float64, orthogonal, read-only; entries within 1e-12 of -1, 0 or 1 are exactly that, so that vectors
        transform without any rounding.

    Raises:
        FlowsrError: an irreps string that e3nn cannot read, or that has no components.
        RuntimeError: an e3nn whose l = 1 components are not in the order (x, y, z).
    """
    vector_type, field_type = _parsed("1o"), _parsed(irreps)
    with _double_precision_on_cpu():
        matrices = torch.tensor(group.matrices, dtype=torch.float64)
        vector, values = (kind.D_from_matrix(matrices).numpy() for kind in (vector_type, field_type))
    if not np.allclose(vector, group.matrices, rtol=0, atol=1e-12):
        raise RuntimeError("flowsr needs an e3nn that orders the components of 1o as (x, y, z), as version 0.6 does")
    whole = np.rint(values)
    values = np.where(np.abs(values - whole) < 1e-12, whole + 0.0, values)
    values.setflags(write=False)
    return np.asarray(values)


def _parsed(irreps: str) -> Irreps:
    """The string as ``e3nn.o3.Irreps``."""
    from flowsr.group.o3 import Irreps  # half a second to import, and only needed here

    try:
        parsed = Irreps(irreps)
    except ValueError:
        parsed = None
    if not parsed or not parsed.dim:
        expected = "e3nn irreps, such as 1o or 0e + 2e"
        raise FlowsrError("no such field type", variable="irreps", expected=expected, found=repr(irreps))
    return parsed


@contextmanager
def _double_precision_on_cpu() -> Iterator[None]:
    """e3nn builds the generators of its Wigner matrices in torch's default dtype, on its default device.

    The default is the process's own: for the milliseconds this lasts, another thread's new tensors are float64 too.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("cpu"), torch.no_grad():
            yield
    finally:
        torch.set_default_dtype(before)


def axis_action(element: int, group: PointGroup) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """The action of an element on an array of three axes, as a permutation and flips.

    Returns:
        ``(source, flipped)``: axis i of the result is axis ``source[i]`` of the input; then the axes of the result
        listed in ``flipped`` are reversed. In torch: ``array.permute(source).flip(flipped)``.
    """
    matrix = group.matrices[element]
    source = triple(int(axis) for axis in np.abs(matrix).argmax(axis=1))
    flipped = tuple(i for i in range(3) if matrix[i, source[i]] < 0)
    return source, flipped


def transform_scalar(field: Tensor, element: int, group: PointGroup) -> Tensor:
    """(g.s)(x) = s(g^-1 x): move voxels only.

    Args:
        field: (..., x, y, z), any number of leading dimensions, any dtype.

    Returns:
        (..., x', y', z'), the same entries; the sides permuted as the axes are.
    """
    source, flipped = axis_action(element, group)
    lead = field.dim() - 3
    moved = field.permute(*range(lead), *(lead + axis for axis in source))
    return moved.flip([lead + axis for axis in flipped]) if flipped else moved


def transform_field(field: Tensor, element: int, irreps: str, group: PointGroup) -> Tensor:
    """(g.v)(x) = rho(g) v(g^-1 x): move voxels and turn components.

    Args:
        field: (..., component, x, y, z).
        element: number of g in ``group``.
        irreps: e3nn irreps of the components.

    Returns:
        (..., component, x', y', z'). For scalars, vectors and axial vectors every entry of the result is an entry of
        the input or its negative.

    Raises:
        ValueError: a number of components that is not the dimension of ``irreps``.
    """
    matrix = representation(str(irreps), group)[element]
    if field.shape[-4] != len(matrix):
        raise ValueError(f"irreps {irreps} have {len(matrix)} components, the field has {field.shape[-4]}")
    moved = transform_scalar(field, element, group)
    return torch.stack([_combination(moved, row) for row in matrix], dim=-4)


def _combination(field: Tensor, row: np.ndarray) -> Tensor:
    """sum_c row[c] field[c]; a sum over the entries that are not zero, because 0 times nan must not spread."""
    return reduce(add, (_scaled(field.select(-4, int(c)), float(row[c])) for c in np.flatnonzero(row)))


def _scaled(field: Tensor, weight: float) -> Tensor:
    """weight * field, keeping the dtype, integers too, where the weight is only a sign."""
    if weight == 1:
        return field
    return -field if weight == -1 else weight * field


def transform_regular(features: Tensor, element: int, group: PointGroup) -> Tensor:
    """(g.f)(x, h) = f(g^-1 x, g^-1 h): move voxels and group index.

    Args:
        features: (..., n, x, y, z) with n the order of ``group``.

    Returns:
        (..., n, x', y', z'), the same entries.

    Raises:
        ValueError: a group dimension that is not n.
    """
    if features.shape[-4] != group.order:
        raise ValueError(f"{group.name} has {group.order} elements, the features have {features.shape[-4]}")
    source = torch.tensor(group.left_quotient[element], device=features.device)
    return transform_scalar(features, element, group).index_select(-4, source)


def transform_grid(grid: Grid, element: int, group: PointGroup) -> Grid:
    """The grid of a transformed field: its axes permuted and reversed, the centre of the box where it was."""
    return grid.transformed(*axis_action(element, group))


def tap_permutation(group: PointGroup, kernel_size: int) -> np.ndarray:
    """Where a rotated filter takes its taps from.

    Taps are numbered in C order over (y_x, y_y, y_z), each from -(k//2) to k//2.

    Returns:
        (n, k^3) int64, read-only: [g, y] is the number of the tap g^-1 y.

    Raises:
        ValueError: an even or non-positive kernel size, which has no central tap.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel size must be odd and positive, got {kernel_size}")
    return _cube_permutation(group, kernel_size)


def subvoxel_permutation(group: PointGroup, factor: int) -> np.ndarray:
    """Where the parts of a divided cell go when the cell is rotated about its centre.

    Sub-positions of a cell split into s^3 are numbered in C order over (p_x, p_y, p_z), each from 0 to s - 1.

    Returns:
        (n, s^3) int64, read-only: [g, p] is the number of the sub-position g^-1 p.

    Raises:
        ValueError: a factor below 1.
    """
    if factor < 1:
        raise ValueError(f"factor must be at least 1, got {factor}")
    return _cube_permutation(group, factor)


@lru_cache(maxsize=64)
def _cube_permutation(group: PointGroup, side: int) -> np.ndarray:
    """(n, side^3): [g, p] is the C-order number of g^-1 p among the cells of a cube, g about the cube's centre."""
    cells = np.indices((side,) * 3).reshape(3, -1)
    doubled = 2 * cells - (side - 1)  # integers, and the centre at 0, for odd and even sides alike
    moved = group.matrices[group.inverse] @ doubled
    numbers = np.ravel_multi_index(tuple(np.moveaxis((moved + side - 1) // 2, 1, 0)), (side,) * 3).astype(np.int64)
    numbers.setflags(write=False)
    return np.asarray(numbers)
