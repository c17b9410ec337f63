"""Group convolution in the body frame, through the group Fourier transform.

Write r for a tap in the frame of the input's group element h, F_r(x, h) = f(x + h r, h), and psi'_r(u) = psi(u r, u).
Then

    f'(x, g) = sum_y sum_h psi(g^-1 y, g^-1 h) f(x + y, h) = sum_r sum_h psi'_r(g^-1 h) F_r(x, h),

a convolution over the group alone, at one voxel. The orthogonal Fourier matrix of the group turns it into one matrix
product per irrep rho of dimension d (k, i, j number rows and columns of rho; c, o the channels):

    F'_ki(o) = sqrt(n/d) sum_r sum_c sum_j  F_r,kj(c)  psi'_r,ij(o, c)

which is sum d^3 instead of n^2 multiply-adds per channel pair and tap: 64 instead of 576 for O, 128 instead of 2304 for
O_h. (Of an irrep of complex type, whose rows repeat each other, k takes d/2 values only.) Gathering f into F_r makes 27
copies of it, so that is done a block of voxels at a time, in a workspace of fixed size.

The gradient for the input is the same sum with the transposed filter psi'_r^T(u) = psi(-r, u^-1) on the gathered output
gradient, and the gradient for the filters needs that same gathered gradient next to the plain input: one gather serves
both. The two operators are each other's derivatives, so gradients of any order come from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from flowsr.grid import triple
from flowsr.kernels.dense import FilterCache, convolution_dtype
from flowsr.kernels.padding import Padding, pad
from flowsr.kernels.tables import ConvolutionTables

# Bytes of one of the two buffers that a block of voxels is gathered and transformed in: for each thread of a CPU about
# the size of a core's caches; on a GPU enough to keep it busy.
WORKSPACE = {"cpu": 2_700_000, "cuda": 256_000_000}

MOST_THREADS = 16  # that the buffers grow with


@dataclass(frozen=True)
class _Block:
    """Voxels x0 <= x < x1, y0 <= y < y1, all z."""

    x0: int
    x1: int
    y0: int
    y1: int

    def of(self, features: Tensor) -> Tensor:
        """The part of (..., x, y, z) in the block."""
        return features[..., self.x0 : self.x1, self.y0 : self.y1, :]


def _blocks(cells: Sequence[int], values_per_voxel: int, sample: Tensor) -> Iterator[_Block]:
    """Cover ``cells`` by blocks whose workspace fits; at least one line of z each."""
    device = "cuda" if sample.is_cuda else "cpu"
    threads = min(torch.get_num_threads(), MOST_THREADS) if device == "cpu" else 1
    budget = threads * WORKSPACE[device] // sample.element_size()
    lines = max(1, budget // (values_per_voxel * cells[2]))
    width_y = min(lines, cells[1])
    width_x = min(max(1, lines // cells[1]), cells[0])
    for x in range(0, cells[0], width_x):
        for y in range(0, cells[1], width_y):
            yield _Block(x, min(x + width_x, cells[0]), y, min(y + width_y, cells[1]))


class _Gathered:
    """F_r for blocks of voxels, Fourier transformed over the group.

    Args:
        extended: (channels, n, x + 2w, y + 2w, z + 2w), contiguous.
        rows: (n k^3,) the row (h, h r) of every (h, r).
        fourier: (n, n).
        workspace: two flat buffers, long enough for the largest block.
    """

    def __init__(self, extended: Tensor, rows: Tensor, fourier: Tensor, workspace: Tensor):
        self.extended, self.rows, self.fourier, self.workspace = extended, rows, fourier, workspace
        self.kernel_size = round((len(rows) / len(fourier)) ** (1 / 3))

    def transformed(self, block: _Block) -> Tensor:
        """(n, k^3 channels voxels): coefficient (irrep, k, j), then r, channel and voxel of the block."""
        channels, order, _, _, depth = self.extended.shape
        of_channel, of_element, *of_axis = self.extended.stride()
        k = self.kernel_size
        cells = (block.x1 - block.x0, block.y1 - block.y0, depth - k + 1)
        shape = (order, k, k, k, channels, *cells)
        neighbours = self.extended.as_strided(
            shape,
            (of_element, *of_axis, of_channel, *of_axis),
            self.extended.storage_offset() + block.x0 * of_axis[0] + block.y0 * of_axis[1],
        )
        by_offset, by_tap = (buffer[: neighbours.numel()].view(order * k**3, -1) for buffer in self.workspace)
        by_offset.view(shape).copy_(neighbours)
        torch.index_select(by_offset, 0, self.rows, out=by_tap)
        return torch.mm(self.fourier, by_tap.view(order, -1), out=by_offset.view(order, -1))


def _irrep_blocks(dimensions: Sequence[int], copies: Sequence[int]) -> Iterator[tuple[int, int, slice]]:
    """(irrep number, dimension d, rows of coefficients (k, .) ) for every irrep and every k below its copies."""
    start = 0
    for number, (d, count) in enumerate(zip(dimensions, copies, strict=True)):
        for _ in range(count):
            yield number, d, slice(start, start + d)
            start += d


def _spectra(body_filters: Tensor, fourier: Tensor, dimensions: Sequence[int], copies: Sequence[int]) -> list[Tensor]:
    """Matrices (d channels_out, d k^3 channels_in) of the product of each irrep, rows (i, o), columns (j, r, c).

    Args:
        body_filters: psi'_r(u), (channels_out, channels_in, n, k^3).
    """
    order = len(fourier)
    channels_out, channels_in, _, taps = body_filters.shape
    coefficients = torch.einsum("qu,ocur->qorc", fourier, body_filters)
    spectra, start = [], 0
    for d, count in zip(dimensions, copies, strict=True):
        part = coefficients[start : start + count * d].view(count, d, channels_out, taps, channels_in)
        if count < d:  # complex type: [[a, b], [-b, a]] of its first row
            part = torch.cat([part, torch.stack([-part[:, 1], part[:, 0]], 1)])
        spectra.append(((order / d) ** 0.5 * part.transpose(1, 2)).reshape(d * channels_out, d * taps * channels_in))
        start += count * d
    return spectra


def _from_spectra(
    spectra: list[Tensor], fourier: Tensor, dimensions: Sequence[int], copies: Sequence[int], shape: Sequence[int]
) -> Tensor:
    """The adjoint of :func:`_spectra`; ``shape`` is that of the body filters."""
    order = len(fourier)
    channels_out, channels_in, _, taps = shape
    parts = []
    for matrix, d, count in zip(spectra, dimensions, copies, strict=True):
        part = (order / d) ** 0.5 * matrix.view(d, channels_out, d, taps, channels_in).transpose(1, 2)
        if count < d:
            part = torch.stack([part[0, 0] + part[1, 1], part[0, 1] - part[1, 0]])[None]
        parts.append(part.flatten(0, 1))
    return torch.einsum("qu,qorc->ocur", fourier, torch.cat(parts))


def _body_filters(filters: Tensor, tap_action: Tensor, inverse: Tensor) -> Tensor:
    """psi'_r(u) = psi(u r, u)."""
    return filters.gather(3, tap_action[inverse].expand(*filters.shape[:2], -1, -1))


def _adjoint_filters(filters: Tensor, inverse: Tensor) -> Tensor:
    """psi'_r^T(u) = psi(-r, u^-1), channels exchanged. Its own adjoint."""
    return filters[:, :, inverse].flip(3).transpose(0, 1)


def _rows(tap_action: Tensor, inverse: Tensor) -> Tensor:
    order, taps = tap_action.shape
    return (taps * torch.arange(order, device=inverse.device)[:, None] + tap_action[inverse]).flatten()


def _extend(features: Tensor, width: int, edges: str, zeros: int) -> Tensor:
    """``periodic`` and ``zero`` axes continued by ``width``, ``none`` axes by ``zeros`` zeros."""
    modes = triple(edges.split(","))
    inner = pad(features, width, modes)
    beyond = [zeros if mode == "none" else 0 for mode in modes]
    return F.pad(inner, [beyond[axis] for axis in (2, 2, 1, 1, 0, 0)]).contiguous()


def _workspace(blocks: list[_Block], depth: int, values_per_voxel: int, like: Tensor) -> Tensor:
    largest = max((b.x1 - b.x0) * (b.y1 - b.y0) for b in blocks)
    return like.new_empty(2, largest * depth * values_per_voxel)


@torch.library.custom_op("flowsr::fourier_convolution", mutates_args=())
def fourier_operator(
    features: Tensor,
    filters: Tensor,
    fourier: Tensor,
    tap_action: Tensor,
    inverse: Tensor,
    dimensions: Sequence[int],
    copies: Sequence[int],
    edges: str,
) -> Tensor:
    """sum_y sum_h psi(g^-1 y, g^-1 h) f(x+y, h), without relaxed weights.

    Args:
        features: (batch, channels_in, n, x, y, z); an axis with edge ``none`` already continued by k // 2 on both
            sides.
        filters: (channels_out, channels_in, n, k^3).
        fourier: (n, n) in the dtype of ``features``.
        tap_action, inverse: see :class:`~flowsr.kernels.tables.ConvolutionTables`.
        dimensions, copies: d of the irreps, in the order of the rows of ``fourier``, and d or, of complex type, d/2.
        edges: ``periodic``, ``zero`` or ``none`` along x, y, z, with commas between.

    Returns:
        (batch, channels_out, n, x, y, z); an axis with edge ``none`` is shorter by 2 (k // 2).
    """
    result = features.new_empty(_result_shape(features, filters, edges))
    channels_out, channels_in, order, taps = filters.shape
    halo = round(taps ** (1 / 3)) // 2
    with torch.autocast(features.device.type, enabled=False):
        extended = _extend(features, halo, edges, zeros=0)
        spectra = _spectra(_body_filters(filters, tap_action, inverse), fourier, dimensions, copies)
        values = order * taps * channels_in
        blocks = list(_blocks(result.shape[-3:], values, features))
        workspace = _workspace(blocks, result.shape[-1], values, features)
        for sample, target in zip(extended, result):
            gathered = _Gathered(sample, _rows(tap_action, inverse), fourier, workspace)
            for block in blocks:
                product = _multiply(spectra, gathered.transformed(block), dimensions, copies, channels_out)
                _write(target, block, torch.mm(fourier.t(), product))
    return result


def _multiply(
    spectra: list[Tensor], coefficients: Tensor, dimensions: Sequence[int], copies: Sequence[int], channels: int
) -> Tensor:
    """The matrix product of every irrep: (n, k^3 channels_in voxels) to (n, channels voxels)."""
    order = len(coefficients)
    columns = [matrix.shape[1] for matrix in spectra]
    voxels = coefficients.shape[1] * dimensions[0] // columns[0]
    product = coefficients.new_empty(order, channels * voxels)
    for number, d, rows in _irrep_blocks(dimensions, copies):
        torch.mm(
            spectra[number],
            coefficients[rows].view(columns[number], voxels),
            out=product[rows].view(d * channels, voxels),
        )
    return product


def _write(target: Tensor, block: _Block, values: Tensor) -> None:
    """(n, channels voxels) into the block of (channels, n, x, y, z)."""
    part = block.of(target)
    part.copy_(values.view(part.shape[1], part.shape[0], *part.shape[2:]).transpose(0, 1))


@torch.library.custom_op("flowsr::fourier_convolution_gradients", mutates_args=())
def fourier_gradients(
    features: Tensor,
    filters: Tensor,
    gradient: Tensor,
    fourier: Tensor,
    tap_action: Tensor,
    inverse: Tensor,
    dimensions: Sequence[int],
    copies: Sequence[int],
    edges: str,
) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`fourier_operator` for its input and its filters, given that for its result."""
    channels_out, channels_in, order, taps = filters.shape
    halo = round(taps ** (1 / 3)) // 2
    result = torch.empty_like(features, memory_format=torch.contiguous_format)
    with torch.autocast(features.device.type, enabled=False):
        extended = _extend(gradient, halo, edges, zeros=2 * halo)
        adjoint = _adjoint_filters(filters, inverse)
        spectra = _spectra(adjoint, fourier, dimensions, copies)
        spectra_gradients = [torch.zeros_like(matrix) for matrix in spectra]
        values = order * taps * channels_out
        blocks = list(_blocks(features.shape[-3:], values, features))
        workspace = _workspace(blocks, features.shape[-1], values, features)
        for sample, source, target in zip(extended, features, result):
            gathered = _Gathered(sample, _rows(tap_action, inverse), fourier, workspace)
            for block in blocks:
                coefficients = gathered.transformed(block)
                product = _multiply(spectra, coefficients, dimensions, copies, channels_in)
                _write(target, block, torch.mm(fourier.t(), product))
                plain = torch.mm(fourier, block.of(source).transpose(0, 1).reshape(order, -1))
                _accumulate(spectra_gradients, plain, coefficients, dimensions, copies, channels_in)
        filters_gradient = _from_spectra(spectra_gradients, fourier, dimensions, copies, adjoint.shape)
        return result, _adjoint_filters(filters_gradient, inverse).contiguous()


def _accumulate(
    totals: list[Tensor],
    plain: Tensor,
    coefficients: Tensor,
    dimensions: Sequence[int],
    copies: Sequence[int],
    channels: int,
) -> None:
    """Add plain times gathered coefficients, summed over the voxels of the block and over k, to each irrep's total."""
    voxels = plain.shape[1] // channels
    for number, d, rows in _irrep_blocks(dimensions, copies):
        gathered = coefficients[rows].view(-1, voxels)
        totals[number].addmm_(plain[rows].view(d * channels, voxels), gathered.t())


def _result_shape(features: Tensor, filters: Tensor, edges: str) -> tuple[int, ...]:
    halo = round(filters.shape[-1] ** (1 / 3)) // 2
    cells = [side - 2 * halo * (mode == "none") for side, mode in zip(features.shape[-3:], edges.split(","))]
    return (features.shape[0], filters.shape[0], filters.shape[2], *cells)


@fourier_operator.register_fake
def _(
    features: Tensor,
    filters: Tensor,
    fourier: Tensor,
    tap_action: Tensor,
    inverse: Tensor,
    dimensions: Sequence[int],
    copies: Sequence[int],
    edges: str,
) -> Tensor:
    return features.new_empty(_result_shape(features, filters, edges))


@fourier_gradients.register_fake
def _(features: Tensor, filters: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(features, memory_format=torch.contiguous_format), filters.new_empty(filters.shape)


def _keep_operands(ctx: Any, inputs: Any, output: Tensor) -> None:
    features, filters, fourier, tap_action, inverse, ctx.dimensions, ctx.copies, ctx.edges = inputs
    ctx.save_for_backward(features, filters, fourier, tap_action, inverse)


def _operator_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    features, filters, *tables = ctx.saved_tensors
    gradients = fourier_gradients(features, filters, gradient, *tables, ctx.dimensions, ctx.copies, ctx.edges)
    return *gradients, None, None, None, None, None, None


def _keep_operands_and_gradient(ctx: Any, inputs: Any, output: object) -> None:
    features, filters, gradient, fourier, tap_action, inverse, ctx.dimensions, ctx.copies, ctx.edges = inputs
    ctx.save_for_backward(features, filters, gradient, fourier, tap_action, inverse)


def _gradients_backward(ctx: Any, of_features: Tensor, of_filters: Tensor) -> tuple[Tensor | None, ...]:
    """The operator is bilinear: its second derivatives are itself and its first ones, with operands exchanged."""
    features, filters, gradient, *tables = ctx.saved_tensors
    constants = (*tables, ctx.dimensions, ctx.copies, ctx.edges)
    for_features, for_filters = fourier_gradients(of_features, of_filters, gradient, *constants)
    for_gradient = fourier_operator(of_features, filters, *constants) + fourier_operator(
        features, of_filters, *constants
    )
    return for_features, for_filters, for_gradient, None, None, None, None, None, None


fourier_operator.register_autograd(_operator_backward, setup_context=_keep_operands)
fourier_gradients.register_autograd(_gradients_backward, setup_context=_keep_operands_and_gradient)


def fourier_convolution(
    features: Tensor,
    filters: Tensor,
    relaxed_weights: Tensor,
    tables: ConvolutionTables,
    padding: Padding,
    cache: FilterCache | None = None,
) -> Tensor:
    """f'(x,g) = sum_l w_l(g) sum_y sum_h psi_l(g^-1 y, g^-1 h) f(x+y, h), by one matrix product per irrep.

    Every filter bank is a strict convolution; the relaxed weights are applied to its result, point by point. Arguments
    and result as those of :func:`flowsr.kernels.dense.dense_convolution`; ``cache`` is not used, the transformed
    filters are small.
    """
    dtype = convolution_dtype(features)
    inside = [mode in ("periodic", "zero") for mode in padding]
    walls = triple("none" if done else mode for done, mode in zip(inside, padding, strict=True))
    edges = ",".join(mode if done else "none" for done, mode in zip(inside, padding))
    strict = fourier_operator(
        pad(features, tables.halo, walls).to(dtype),
        filters.flatten(0, 1).to(dtype),
        tables.fourier.to(dtype),
        tables.tap_action,
        tables.inverse,
        tables.irrep_dimensions,
        tables.irrep_copies,
        edges,
    )
    weighted: Tensor = strict.unflatten(1, filters.shape[:2]) * relaxed_weights.to(dtype)[:, None, :, None, None, None]
    return weighted[:, 0] if filters.shape[0] == 1 else weighted.sum(1)
