"""From the filters that are trained to the filters a convolution runs with: one copy for every group element.

The copy for g is the trained filter with its entries permuted by g, times w(g) (and, next to a field, multiplied by
rho). Nothing is interpolated. Forward is one gather; backward is one gather by the inverse permutations, and sums over
g and over entries. Each is made of parts that can be derived again, so any number of derivatives can be taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from flowsr.kernels.tables import ConvolutionTables, joint_index


class _Permutation(torch.autograd.Function):
    """(rows, entries) with the entries reordered."""

    @staticmethod
    def forward(values: Tensor, order: Tensor, inverse_order: Tensor) -> Tensor:
        return values.index_select(1, order)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        _, ctx.order, ctx.inverse_order = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return _Permutation.apply(gradient, ctx.inverse_order, ctx.order), None, None  # type: ignore[no-untyped-call]


class _Spread(torch.autograd.Function):
    """(banks, rows, entries) filters and (banks, n) weights -> (rows, n, entries): sum_l w_l(g) (g psi_l).

    Only the result is allocated at its size, and only the trained filters are kept for the backward pass.
    """

    @staticmethod
    def forward(filters: Tensor, weights: Tensor, index: Tensor, places: Tensor) -> Tensor:
        total: Tensor | None = None
        for bank, weight in zip(filters, weights, strict=True):
            copies = bank.index_select(1, index.flatten()).unflatten(1, index.shape).mul_(weight[:, None])
            total = copies if total is None else total.add_(copies)
        assert total is not None  # there is a filter bank
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        filters, weights, ctx.index, ctx.places = inputs
        ctx.save_for_backward(filters, weights)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        filters, weights = ctx.saved_tensors
        order, entries = ctx.index.shape
        offsets = entries * torch.arange(order, device=gradient.device, dtype=ctx.index.dtype)[:, None]
        moved_back = _Permutation.apply(  # type: ignore[no-untyped-call]
            gradient.flatten(1), (ctx.places + offsets).flatten(), (ctx.index + offsets).flatten()
        ).unflatten(1, (order, entries))
        for_filters = torch.bmm(weights.expand(len(moved_back), -1, -1), moved_back).transpose(0, 1)
        for_weights = torch.matmul(moved_back, filters.permute(1, 2, 0)).sum(0).t() if ctx.needs_input_grad[1] else None
        return for_filters, for_weights, None, None


def spread(filters: Tensor, weights: Tensor, actions: Sequence[Tensor | int], tables: ConvolutionTables) -> Tensor:
    """sum_l w_l(g) times the copy g of filter l, whose entry (a, b, ...) is the filter's entry (g^-1 a, g^-1 b, ...).

    Args:
        filters: (banks, rows, entries), the entries in C order over the dimensions of ``actions``.
        weights: (banks, n).
        actions: for each of those dimensions the group's action (n, size), or its size where the group leaves it alone.

    Returns:
        (rows, n, entries).
    """
    sizes = [action if isinstance(action, int) else action.shape[1] for action in actions]
    strides = [prod(sizes[i + 1 :]) for i in range(len(sizes))]

    def build() -> tuple[Tensor, Tensor]:
        backwards = [action if isinstance(action, int) else action[tables.inverse] for action in actions]
        order, device = tables.group.order, filters.device
        forwards, places = (joint_index(list(zip(way, strides)), order, device).int() for way in (actions, backwards))
        return forwards, places

    tables_of_sizes = tables.remembered(tuple(sizes), build)
    copies: Tensor = _Spread.apply(filters, weights, *tables_of_sizes)  # type: ignore[no-untyped-call]
    return copies


def expand_group(filters: Tensor, relaxed_weights: Tensor, tables: ConvolutionTables) -> Tensor:
    """sum_l w_l(g) psi_l(g^-1 y, g^-1 h) for all g, h, y.

    Args:
        filters: psi, (filter_banks, channels_out, channels_in, n, k^3).
        relaxed_weights: w, (filter_banks, n).

    Returns:
        (channels_out n, channels_in n, k, k, k).
    """
    _, channels_out, channels_in, order, _ = filters.shape
    actions: list[Tensor | int] = [channels_in, tables.group_action, tables.tap_action]
    copies = spread(filters.flatten(2), relaxed_weights, actions, tables)
    return copies.view(channels_out * order, channels_in * order, *(tables.kernel_size,) * 3)


def expand_lifting(filters: Tensor, relaxed_weights: Tensor, tables: ConvolutionTables) -> Tensor:
    """sum_l w_l(g) psi_l(g^-1 y) rho(g^-1) for all g, y.

    Args:
        filters: psi, (filter_banks, channels_out, channels_in, D, k^3).
        relaxed_weights: w, (filter_banks, n).

    Returns:
        (channels_out n, channels_in D, k, k, k).
    """
    _, channels_out, channels_in, dimension, taps = filters.shape
    rows = channels_in * dimension
    copies = spread(filters.flatten(2), relaxed_weights, [rows, tables.tap_action], tables)
    copies = copies.view(channels_out, -1, channels_in, dimension, taps)
    transformed = torch.einsum("ogcdy,ged->ogcey", copies, tables.representation.to(filters.dtype))
    return transformed.reshape(-1, rows, *(tables.kernel_size,) * 3)


def expand_projection(filters: Tensor, relaxed_weights: Tensor, tables: ConvolutionTables) -> Tensor:
    """(1/n) sum_l w_l(g) rho(g) phi_l(g^-1 y, g^-1 p) for all g, y and sub-positions p of a cell.

    Args:
        filters: phi, (filter_banks, D, s^3, channels_in, k^3).
        relaxed_weights: w, (filter_banks, n).

    Returns:
        (D s^3, channels_in n, k, k, k).
    """
    _, dimension, subvoxels, channels_in, taps = filters.shape
    actions: list[Tensor | int] = [tables.subvoxel_action, channels_in, tables.tap_action]
    copies = spread(filters.flatten(2), relaxed_weights, actions, tables)
    copies = copies.view(dimension, -1, subvoxels, channels_in, taps)
    transformed = torch.einsum("dgpcy,ged->epcgy", copies, tables.representation.to(filters.dtype))
    return (transformed / tables.group.order).reshape(dimension * subvoxels, -1, *(tables.kernel_size,) * 3)
