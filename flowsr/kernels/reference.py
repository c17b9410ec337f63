"""The three layers as their formulas, element by element, with g^-1 y computed from the matrices. Slow; for tests.

Nothing here uses the tables or the padding of the fast kernels, so that a mistake in those cannot hide.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

from flowsr.group.fields import representation
from flowsr.group.octahedral import PointGroup
from flowsr.kernels.padding import Padding


def reference_lifting(
    features: Tensor, filters: Tensor, relaxed_weights: Tensor, group: PointGroup, irreps: str, padding: Padding
) -> Tensor:
    """f'(x,g) = sum_l w_l(g) sum_y psi_l(g^-1 y) rho(g^-1) f(x+y).

    Args:
        features: (batch, channels_in, D, x, y, z).
        filters: (filter_banks, channels_out, channels_in, D, k^3).
        relaxed_weights: (filter_banks, n).
        padding: ``periodic``, ``zero``, ``replicate`` or ``reflect`` along x, y, z.

    Returns:
        (batch, channels_out, n, x, y, z).
    """
    rho = torch.tensor(representation(irreps, group), dtype=features.dtype)
    neighbours = _neighbours(features, filters.shape[-1], padding)
    parts = []
    for g in range(group.order):
        rotated_back = rho[group.index(group.matrices[g].T)]
        psi = filters[..., _taps_seen_by(group, g, filters.shape[-1])]
        parts.append(torch.einsum("l,locdt,de,tbcexyz->boxyz", relaxed_weights[:, g], psi, rotated_back, neighbours))
    return torch.stack(parts, 2)


def reference_convolution(
    features: Tensor, filters: Tensor, relaxed_weights: Tensor, group: PointGroup, padding: Padding
) -> Tensor:
    """f'(x,g) = sum_l w_l(g) sum_y sum_h psi_l(g^-1 y, g^-1 h) f(x+y, h).

    Args:
        features: (batch, channels_in, n, x, y, z).
        filters: (filter_banks, channels_out, channels_in, n, k^3).

    Returns:
        (batch, channels_out, n, x, y, z).
    """
    neighbours = _neighbours(features, filters.shape[-1], padding)
    parts = []
    for g, matrix in enumerate(group.matrices):
        quotients = [group.index(matrix.T @ h) for h in group.matrices]
        psi = filters[..., quotients, :][..., _taps_seen_by(group, g, filters.shape[-1])]
        parts.append(torch.einsum("l,locht,tbchxyz->boxyz", relaxed_weights[:, g], psi, neighbours))
    return torch.stack(parts, 2)


def reference_projection(
    features: Tensor,
    filters: Tensor,
    relaxed_weights: Tensor,
    group: PointGroup,
    irreps: str,
    padding: Padding,
    upsample: int = 1,
) -> Tensor:
    """v(x) = (1/n) sum_g sum_l w_l(g) rho(g) sum_y phi_l(g^-1 y, g^-1 p) f(x+y, g), p the sub-position of the fine
    cell.

    Args:
        features: (batch, channels_in, n, x, y, z).
        filters: (filter_banks, D, s^3, channels_in, k^3).

    Returns:
        (batch, D, s x, s y, s z).
    """
    rho = torch.tensor(representation(irreps, group), dtype=features.dtype)
    neighbours, s = _neighbours(features, filters.shape[-1], padding), upsample
    cells = list(product(range(s), repeat=3))
    result = features.new_zeros(features.shape[0], filters.shape[1], *(s * side for side in features.shape[-3:]))
    for g, matrix in enumerate(group.matrices):
        for p in cells:
            source = cells.index(tuple((matrix.T @ (2 * np.array(p) - (s - 1)) + s - 1) // 2))
            phi = filters[:, :, source][..., _taps_seen_by(group, g, filters.shape[-1])]
            part = torch.einsum("l,ed,ldct,tbcxyz->bexyz", relaxed_weights[:, g], rho[g], phi, neighbours[:, :, :, g])
            result[:, :, p[0] :: s, p[1] :: s, p[2] :: s] += part / group.order
    return result


def _offsets(taps: int) -> list[tuple[int, int, int]]:
    half = round(taps ** (1 / 3)) // 2
    along = range(-half, half + 1)
    return list(product(along, along, along))


def _taps_seen_by(group: PointGroup, g: int, taps: int) -> list[int]:
    """The number of the tap g^-1 y, for every y."""
    offsets = _offsets(taps)
    return [offsets.index(tuple(group.matrices[g].T @ y)) for y in offsets]


def _neighbours(features: Tensor, taps: int, padding: Padding) -> Tensor:
    """f(x + y) for every y, stacked in front."""
    return torch.stack([_shift(features, y, padding) for y in _offsets(taps)])


def _shift(features: Tensor, offset: tuple[int, int, int], padding: Padding) -> Tensor:
    """f(x + offset), by looking every cell up."""
    for axis, (step, mode) in enumerate(zip(offset, padding), start=features.dim() - 3):
        cells = features.shape[axis]
        wanted = np.arange(cells) + step
        source = {
            "periodic": wanted % cells,
            "zero": np.clip(wanted, 0, cells - 1),
            "replicate": np.clip(wanted, 0, cells - 1),
            "reflect": (cells - 1) - np.abs((cells - 1) - np.abs(wanted)),
        }[mode]
        features = features.index_select(axis, torch.tensor(source))
        if mode == "zero":
            inside = torch.tensor((wanted >= 0) & (wanted < cells), dtype=features.dtype)
            features = features * inside.view(-1, *(1,) * (features.dim() - 1 - axis))
    return features
