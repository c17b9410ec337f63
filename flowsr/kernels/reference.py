"""The three layers as loops over their formulas, with g^-1 y computed from the matrices. Slow; what tests compare with.

Nothing here uses the tables or the padding of the fast kernels, so that a mistake in those cannot hide.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

from flowsr.group.fields import representation
from flowsr.group.octahedral import OctahedralGroup


def reference_lifting(features, filters, relaxed_weights, group, irreps, padding) -> Tensor:
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
    offsets = _offsets(filters.shape[-1])
    shifted = [_shift(features, y, padding) for y in offsets]
    result = features.new_zeros(features.shape[0], filters.shape[1], group.order, *features.shape[-3:])
    for g, g_inverse in enumerate(_inverses(group)):
        turned_back = rho[group.index(g_inverse)]
        for bank, weight in enumerate(relaxed_weights[:, g]):
            for y, field in zip(offsets, shifted):
                psi = filters[bank, ..., offsets.index(tuple(g_inverse @ y))]
                result[:, :, g] += weight * torch.einsum("ocd,de,bcexyz->boxyz", psi, turned_back, field)
    return result


def reference_convolution(features, filters, relaxed_weights, group, padding) -> Tensor:
    """f'(x,g) = sum_l w_l(g) sum_y sum_h psi_l(g^-1 y, g^-1 h) f(x+y, h).

    Args:
        features: (batch, channels_in, n, x, y, z).
        filters: (filter_banks, channels_out, channels_in, n, k^3).

    Returns:
        (batch, channels_out, n, x, y, z).
    """
    offsets = _offsets(filters.shape[-1])
    shifted = [_shift(features, y, padding) for y in offsets]
    result = features.new_zeros(features.shape[0], filters.shape[1], group.order, *features.shape[-3:])
    for g, g_inverse in enumerate(_inverses(group)):
        quotients = [group.index(g_inverse @ h) for h in group.matrices]
        for bank, weight in enumerate(relaxed_weights[:, g]):
            for y, field in zip(offsets, shifted):
                psi = filters[bank, ..., offsets.index(tuple(g_inverse @ y))]
                for h, quotient in enumerate(quotients):
                    result[:, :, g] += weight * torch.einsum("oc,bcxyz->boxyz", psi[..., quotient], field[:, :, h])
    return result


def reference_projection(features, filters, relaxed_weights, group, irreps, padding, upsample=1) -> Tensor:
    """v(x) = (1/n) sum_g sum_l w_l(g) rho(g) sum_y phi_l(g^-1 y, g^-1 p) f(x+y, g), p the sub-position of the fine cell.

    Args:
        features: (batch, channels_in, n, x, y, z).
        filters: (filter_banks, D, s^3, channels_in, k^3).

    Returns:
        (batch, D, s x, s y, s z).
    """
    rho = torch.tensor(representation(irreps, group), dtype=features.dtype)
    offsets, s = _offsets(filters.shape[-1]), upsample
    cells = list(product(range(s), repeat=3))
    shifted = [_shift(features, y, padding) for y in offsets]
    result = features.new_zeros(features.shape[0], filters.shape[1], *(s * side for side in features.shape[-3:]))
    for g, g_inverse in enumerate(_inverses(group)):
        for bank, weight in enumerate(relaxed_weights[:, g]):
            for p in cells:
                centred = 2 * np.array(p) - (s - 1)
                source = cells.index(tuple((g_inverse @ centred + s - 1) // 2))
                for y, field in zip(offsets, shifted):
                    phi = filters[bank, :, source, :, offsets.index(tuple(g_inverse @ y))]
                    part = torch.einsum("ed,dc,bcxyz->bexyz", rho[g], phi, field[:, :, g])
                    result[:, :, p[0] :: s, p[1] :: s, p[2] :: s] += weight * part / group.order
    return result


def _inverses(group: OctahedralGroup) -> list[np.ndarray]:
    return [matrix.T for matrix in group.matrices]


def _offsets(taps: int) -> list[tuple[int, int, int]]:
    half = round(taps ** (1 / 3)) // 2
    return list(product(range(-half, half + 1), repeat=3))


def _shift(features: Tensor, offset: tuple[int, int, int], padding: tuple[str, str, str]) -> Tensor:
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
