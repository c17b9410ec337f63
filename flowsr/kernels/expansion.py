"""From the filters that are trained to the filters a convolution runs with: one copy for every group element.

The copy for g is the trained filter with its entries permuted by g (and, next to a field, multiplied by rho). Nothing is
interpolated. The permutation is one gather; its gradient is one gather by the inverse permutation and a sum over g, and
that in turn has the first gather as its gradient, so any number of derivatives can be taken.
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from flowsr.kernels.tables import ConvolutionTables, joint_index


class _Spread(torch.autograd.Function):
    """(rows, entries) -> (rows, n, entries): the n permuted copies of every row."""

    @staticmethod
    def forward(filters, index, inverse_index):
        return filters.index_select(1, index.flatten()).unflatten(1, index.shape)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.index, ctx.inverse_index = inputs

    @staticmethod
    def backward(ctx, grad):
        return _Collect.apply(grad, ctx.index, ctx.inverse_index), None, None


class _Collect(torch.autograd.Function):
    """(rows, n, entries) -> (rows, entries): every copy turned back, and summed."""

    @staticmethod
    def forward(copies, index, inverse_index):
        order, entries = inverse_index.shape
        offsets = entries * torch.arange(order, device=index.device)[:, None]
        turned_back = copies.reshape(-1, order * entries).index_select(1, (inverse_index + offsets).flatten())
        return turned_back.view(-1, order, entries).sum(1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.index, ctx.inverse_index = inputs

    @staticmethod
    def backward(ctx, grad):
        return _Spread.apply(grad, ctx.index, ctx.inverse_index), None, None


def spread(filters: Tensor, actions: list[Tensor | int], tables: ConvolutionTables) -> Tensor:
    """The n copies of a filter, copy g with entry (a, b, ...) taken from (g^-1 a, g^-1 b, ...).

    Args:
        filters: (rows, entries), the entries in C order over the dimensions of ``actions``.
        actions: for each of those dimensions the group's action (n, size), or its size where the group leaves it alone.

    Returns:
        (rows, n, entries).
    """
    sizes = [action if isinstance(action, int) else action.shape[1] for action in actions]
    strides = [prod(sizes[i + 1 :]) for i in range(len(sizes))]
    backward_actions = [action if isinstance(action, int) else action[tables.inverse] for action in actions]
    order, device = tables.group.order, filters.device
    index = joint_index(list(zip(actions, strides)), order, device)
    inverse_index = joint_index(list(zip(backward_actions, strides)), order, device)
    return _Spread.apply(filters, index, inverse_index)


def expand_group(filters: Tensor, relaxed_weights: Tensor, tables: ConvolutionTables) -> Tensor:
    """sum_l w_l(g) psi_l(g^-1 y, g^-1 h) for all g, h, y.

    Args:
        filters: psi, (filter_banks, channels_out, channels_in, n, k^3).
        relaxed_weights: w, (filter_banks, n).

    Returns:
        (channels_out n, channels_in n, k, k, k).
    """
    banks, channels_out, channels_in, order, taps = filters.shape
    copies = spread(filters.flatten(0, 1).flatten(1), [channels_in, tables.group_action, tables.tap_action], tables)
    weighted = copies.view(banks, channels_out, order, -1) * relaxed_weights[:, None, :, None]
    return _sum_banks(weighted).view(channels_out * order, channels_in * order, *(tables.kernel_size,) * 3)


def expand_lifting(filters: Tensor, relaxed_weights: Tensor, tables: ConvolutionTables) -> Tensor:
    """sum_l w_l(g) psi_l(g^-1 y) rho(g^-1) for all g, y.

    Args:
        filters: psi, (filter_banks, channels_out, channels_in, D, k^3).
        relaxed_weights: w, (filter_banks, n).

    Returns:
        (channels_out n, channels_in D, k, k, k).
    """
    banks, channels_out, channels_in, dimension, taps = filters.shape
    rows = channels_in * dimension
    copies = spread(filters.flatten(0, 1).flatten(1), [rows, tables.tap_action], tables)
    copies = copies.view(banks, channels_out, -1, channels_in, dimension, taps)
    turned = torch.einsum("logcdy,ged->logcey", copies, tables.representation.to(filters.dtype))
    weighted = turned * relaxed_weights[:, None, :, None, None, None]
    return _sum_banks(weighted).reshape(-1, rows, *(tables.kernel_size,) * 3)


def expand_projection(filters: Tensor, relaxed_weights: Tensor, tables: ConvolutionTables) -> Tensor:
    """(1/n) sum_l w_l(g) rho(g) phi_l(g^-1 y, g^-1 p) for all g, y and sub-positions p of a cell.

    Args:
        filters: phi, (filter_banks, D, s^3, channels_in, k^3).
        relaxed_weights: w, (filter_banks, n).

    Returns:
        (D s^3, channels_in n, k, k, k).
    """
    banks, dimension, subvoxels, channels_in, taps = filters.shape
    actions = [tables.subvoxel_action, channels_in, tables.tap_action]
    copies = spread(filters.flatten(0, 1).flatten(1), actions, tables)
    copies = copies.view(banks, dimension, -1, subvoxels, channels_in, taps)
    turned = torch.einsum("ldgpcy,ged,lg->epcgy", copies, tables.representation.to(filters.dtype), relaxed_weights)
    return (turned / tables.group.order).reshape(dimension * subvoxels, -1, *(tables.kernel_size,) * 3)


def _sum_banks(filters: Tensor) -> Tensor:
    return filters[0] if len(filters) == 1 else filters.sum(0)
