"""The convolution and its gradients as operators of torch, and the entry points for the dispatch.

The gradient for the input is the same convolution with the transposed filter; the gradient for the filters needs the
same slabs of the output's gradient. Relaxed weights need the strict convolution once more, S_l(x, g), in dL/dw_l(g) =
sum_x dL/df'(x, g) S_l(x, g): with one bank it is in the result already, (f' - b) / w; otherwise, and where w is too
small to divide by, it is convolved again, slab by slab.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from flowsr.grid import triple
from flowsr.kernels.dense import FilterCache, convolution_dtype
from flowsr.kernels.dispatch import ACTIVATIONS
from flowsr.kernels.fourier import fourier_convolution
from flowsr.kernels.padding import pad
from flowsr.kernels.tables import ConvolutionTables
from flowsr.kernels.triton_kernel.launch import DIRECT_EDGES, Box, Source, Stages, boxes, workspace_bytes
from flowsr.kernels.triton_kernel.signs import sign_tables

# The result is divided by relaxed weights above this part of the largest weight or bias.
DIVISIBLE = 0.1


@dataclass(frozen=True)
class Setting:
    """What stays the same between a convolution and its gradients, as words and numbers that an operator may take.

    Args:
        group: name of a point group.
        padding: of x, y, z, with commas between.
        activation: ``relu``, ``gelu``, ``silu`` or ``none``.
        dtype: of the products and the result.
    """

    group: str
    padding: str
    activation: str
    dtype: torch.dtype

    @property
    def edges(self) -> tuple[str, str, str]:
        """The padding of x, y, z."""
        return triple(self.padding.split(","))

    def stages(self, filters: Tensor) -> Stages:
        """The programs for these filters, (..., k^3)."""
        precision = "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"
        kernel_size = round(filters.shape[-1] ** (1 / 3))
        return Stages(sign_tables(self.group, kernel_size, filters.device), self.dtype, precision)


def _strict_filters(filters: Tensor) -> Tensor:
    """Every bank's output channels side by side: (banks channels_out, channels_in, n, k^3) float32."""
    return filters.flatten(0, 1).float()


@torch.library.custom_op("flowsr::sign_convolution", mutates_args=())
def sign_convolution(
    features: Tensor,
    filters: Tensor,
    relaxed_weights: Tensor,
    bias: Tensor | None,
    group: str,
    padding: str,
    activation: str,
    dtype: torch.dtype,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """The relaxed group convolution with bias and activation.

    Args:
        features: (batch, channels_in, n, x, y, z).
        filters: (filter_banks, channels_out, channels_in, n, k^3).
        relaxed_weights: (filter_banks, n).
        bias: (channels_out,).
        group, padding, activation, dtype: see :class:`Setting`.
        keep: also return what goes into the activation.

    Returns:
        (batch, channels_out, n, x, y, z), and the same before the activation or, without ``keep``, nothing: shape (0,).
    """
    setting = Setting(group, padding, activation, dtype)
    stages, banks = setting.stages(filters), len(filters)
    result = features.new_empty(_result_shape(features, filters), dtype=dtype)
    before = torch.empty_like(result) if keep else result.new_empty(0)
    source = Source(features, setting.edges, stages.tables.cosets)
    weights, bias = relaxed_weights.float().contiguous(), None if bias is None else bias.float().contiguous()
    for box, strict in _convolved(stages, source, _strict_filters(filters), banks, workspace_bytes(features, result)):
        stages.synthesize(strict, box, result, weights, bias, activation, before if keep else None)
    return result, before


def _result_shape(features: Tensor, filters: Tensor) -> tuple[int, ...]:
    return (features.shape[0], filters.shape[1], *features.shape[2:])


def _convolved(
    stages: Stages, source: Source, filters: Tensor, banks: int, workspace: int
) -> Iterator[tuple[Box, Tensor]]:
    """(box, products) for boxes that cover the result, ``filters`` being those of all banks of results together."""
    tables = stages.tables
    matrices = stages.matrices(tables.spectra(filters), 1, banks)
    columns = tables.cosets * len(filters)
    room = workspace // stages.bytes_per_voxel((source.columns, columns))
    for box in boxes(len(source.values), source.values.shape[-3:], tables.half, room):
        yield box, stages.multiply(stages.analyze(source, box, tables.half), matrices, box, columns)


@sign_convolution.register_fake
def _(
    features: Tensor,
    filters: Tensor,
    relaxed_weights: Tensor,
    bias: Tensor | None,
    group: str,
    padding: str,
    activation: str,
    dtype: torch.dtype,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    result = features.new_empty(_result_shape(features, filters), dtype=dtype)
    return result, torch.empty_like(result) if keep else result.new_empty(0)


@torch.library.custom_op("flowsr::sign_convolution_gradients", mutates_args=())
def sign_convolution_gradients(
    gradient: Tensor,
    features: Tensor,
    filters: Tensor,
    relaxed_weights: Tensor,
    bias: Tensor | None,
    saved: Tensor | None,
    group: str,
    padding: str,
    activation: str,
    dtype: torch.dtype,
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`sign_convolution` for features, filters, relaxed weights and bias, as far as ``needed``.

    Args:
        gradient: of the result.
        saved: the result if the activation is relu or none, and what goes into the activation otherwise; None where it
            is needed neither for the slope of the activation nor for the relaxed weights.
    """
    setting = Setting(group, padding, activation, dtype)
    backward = _Backward(setting, gradient, features, filters, relaxed_weights, bias, saved)
    nothing = [value.new_empty(0) for value in (features, filters, relaxed_weights, filters if bias is None else bias)]
    found = list(nothing)
    if needed[0] or needed[1]:
        found[0], found[1] = backward.features_and_filters(needed[0], needed[1])
    if needed[2] or needed[3]:
        found[2], found[3] = backward.weights_and_bias(needed[2])
    features_, filters_, weights_, bias_ = (
        part if wanted else empty for part, wanted, empty in zip(found, needed, nothing, strict=True)
    )
    return features_, filters_, weights_, bias_


@sign_convolution_gradients.register_fake
def _(
    gradient: Tensor,
    features: Tensor,
    filters: Tensor,
    relaxed_weights: Tensor,
    bias: Tensor | None,
    saved: Tensor | None,
    group: str,
    padding: str,
    activation: str,
    dtype: torch.dtype,
    needed: list[bool],
) -> tuple[Tensor, ...]:
    sources = (features, filters, relaxed_weights, filters if bias is None else bias)
    return tuple(source.new_empty(source.shape if wanted else (0,)) for source, wanted in zip(sources, needed))


class _Backward:
    """The gradients of one convolution; arguments as those of :func:`sign_convolution_gradients`."""

    def __init__(
        self,
        setting: Setting,
        gradient: Tensor,
        features: Tensor,
        filters: Tensor,
        relaxed_weights: Tensor,
        bias: Tensor | None,
        saved: Tensor | None,
    ):
        self.setting, self.stages = setting, setting.stages(filters)
        self.gradient, self.features, self.filters, self.saved = gradient, features, filters, saved
        self.relaxed_weights, self.bias = relaxed_weights, bias
        self.weights = relaxed_weights.float().contiguous()

    def features_and_filters(self, features_wanted: bool, filters_wanted: bool) -> tuple[Tensor, Tensor]:
        """One pass over the slabs of the gradient, for both."""
        stages, tables, banks = self.stages, self.stages.tables, len(self.filters)
        source, plain, cells = self._sources()
        adjoint = tables.adjoint(_strict_filters(self.filters))
        matrices = stages.matrices(tables.spectra(adjoint), banks, 1)
        result = self._empty_gradient(plain)
        totals = stages.correlation_totals(source.columns, plain.columns, result.device) if filters_wanted else None
        slabs = stages.bytes_per_voxel((source.columns, plain.columns, plain.columns))
        for box in boxes(len(result), cells, tables.half, workspace_bytes(self.gradient, result) // slabs):
            slab = stages.analyze(source, box, tables.half)
            if features_wanted:
                self._write(stages.multiply(slab, matrices, box, plain.columns), box, result, plain)
            if totals is not None:
                stages.correlate(slab, stages.analyze(plain, box, 0), box, totals)
        return result, result if totals is None else self._filters(totals, adjoint.shape)

    def _sources(self) -> tuple[Source, Source, list[int]]:
        """The gradient as a field around the cells that the input was continued to, the input there, and those
        sides."""
        halo, cosets, edges = self.stages.tables.half, self.stages.tables.cosets, self.setting.edges
        beyond = triple(0 if edge in DIRECT_EDGES else halo for edge in edges)
        outside = triple(edge if edge in DIRECT_EDGES else "zero" for edge in edges)
        activation = self.setting.activation
        saved = None if activation == "none" else self.saved
        source = Source(self.gradient, outside, cosets, beyond, self.weights, saved, activation)
        plain = Source(self.features, edges, cosets, beyond)
        return source, plain, [side + 2 * more for side, more in zip(self.features.shape[-3:], beyond)]

    def _empty_gradient(self, plain: Source) -> Tensor:
        shape = self.features.shape
        return self.features.new_zeros(shape) if any(plain.beyond) else self.features.new_empty(shape)

    def _write(self, strict: Tensor, box: Box, result: Tensor, plain: Source) -> None:
        """Into the gradient for the input; what falls on continued cells is added to the cells they were copied
        from."""
        if not any(plain.beyond):
            self.stages.synthesize(strict, box, result)
            return
        part = result.new_empty((box.samples, *result.shape[1:3], *box.sides), dtype=torch.float32)
        self.stages.synthesize(strict, box, part, at=(0, 0, 0))
        starts = (box.x0, box.y0, 0)
        pieces = [
            _pieces(start, side, cells, beyond, edge)
            for start, side, cells, beyond, edge in zip(starts, box.sides, result.shape[-3:], plain.beyond, plain.edges)
        ]
        for (from_x, to_x), (from_y, to_y), (from_z, to_z) in product(*pieces):
            target = result[box.sample : box.sample + box.samples, ..., to_x, to_y, to_z]
            target += part[..., from_x, from_y, from_z]

    def _filters(self, totals: Tensor, adjoint_shape: torch.Size) -> Tensor:
        """From the totals of the matrices (shifted column, plain column) to the filters."""
        tables, banks = self.stages.tables, len(self.filters)
        channels_in, channels_out = adjoint_shape[0], adjoint_shape[1] // banks
        cosets = tables.cosets
        total = totals.sum(0)[:, :, : cosets * banks * channels_out, : cosets * channels_in]
        apart = total.unflatten(2, (banks, cosets, channels_out)).unflatten(5, (cosets, channels_in))
        spectra = apart.transpose(2, 3).flatten(3, 4)
        found: Tensor = tables.adjoint(tables.filters(spectra)).view(self.filters.shape)
        return found.to(self.filters.dtype).contiguous()

    def weights_and_bias(self, weights_wanted: bool) -> tuple[Tensor, Tensor]:
        """Sums of the gradient before the activation, alone and with the strict convolution."""
        saved = self.gradient if self.saved is None else self.saved
        totals, products = self.stages.collect(self.gradient, saved, saved, self.setting.activation)
        of_bias = totals.sum((0, 2))
        bias = self.filters.new_zeros(len(of_bias)) if self.bias is None else self.bias
        weights = self.relaxed_weights
        if weights_wanted:
            divisible = self._divisible(bias)
            weights = self._divided(totals, products, bias.float()) if divisible else self._convolved_again()
        return weights.to(self.relaxed_weights.dtype), of_bias.to(bias.dtype)

    def _divisible(self, bias: Tensor) -> bool:
        smallest, largest = self.weights.abs().min(), torch.maximum(self.weights.abs().max(), bias.abs().max())
        return len(self.weights) == 1 and bool(smallest > DIVISIBLE * largest)

    def _divided(self, totals: Tensor, products: Tensor, bias: Tensor) -> Tensor:
        return ((products - bias[:, None] * totals).sum((0, 1)) / self.weights[0])[None]

    def _convolved_again(self) -> Tensor:
        stages, banks, activation = self.stages, len(self.filters), self.setting.activation
        saved = self.gradient if self.saved is None else self.saved
        source, strict_filters = (
            Source(self.features, self.setting.edges, stages.tables.cosets),
            _strict_filters(self.filters),
        )
        found = torch.zeros_like(self.weights)
        workspace = workspace_bytes(self.features, self.gradient)
        for box, strict in _convolved(stages, source, strict_filters, 1, workspace):
            shape = (box.samples, len(strict_filters), self.features.shape[2], *box.sides)
            part = self.features.new_empty(shape, dtype=stages.dtype)
            stages.synthesize(strict, box, part, at=(0, 0, 0))
            for bank, of_bank in enumerate(part.unflatten(1, (banks, -1)).unbind(1)):
                _, products = stages.collect(box.of(self.gradient), box.of(saved), of_bank, activation)
                found[bank] += products.sum((0, 1))
        return found


def _pieces(start: int, side: int, cells: int, beyond: int, edge: str) -> list[tuple[slice, slice]]:
    """Where start <= i < start + side, i counted from ``beyond`` cells before the field, come from: (part of i,
    cells)."""
    first, last = max(start, beyond), min(start + side, beyond + cells)
    pieces = [(slice(first - start, last - start), slice(first - beyond, last - beyond))] if first < last else []
    for i in range(start, start + side):
        cell = i - beyond
        if 0 <= cell < cells:
            continue
        nearest = min(max(cell, 0), cells - 1)
        copied = nearest if edge == "replicate" else 2 * nearest - cell
        pieces.append((slice(i - start, i - start + 1), slice(copied, copied + 1)))
    return pieces


def _keep(ctx: Any, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
    features, filters, relaxed_weights, bias, group, padding, activation, dtype, keep = inputs
    result, before = output
    ctx.set_materialize_grads(False)
    ctx.settings = (group, padding, activation, dtype)
    used = activation != "none" or ctx.needs_input_grad[2]
    ctx.save_for_backward(features, filters, relaxed_weights, bias, (before if keep else result) if used else None)


def _backward(ctx: Any, gradient: Tensor | None, _: object) -> tuple[Tensor | None, ...]:
    *operands, saved = ctx.saved_tensors
    needed = list(ctx.needs_input_grad[:4])
    if gradient is None:
        return (None,) * 9
    if torch.is_grad_enabled():
        found = _differentiable_gradients(gradient, operands, needed, ctx.settings)
    else:
        found = sign_convolution_gradients(gradient, *operands, saved, *ctx.settings, needed)
    return *(part if wanted else None for part, wanted in zip(found, needed)), None, None, None, None, None


def _differentiable_gradients(
    gradient: Tensor, operands: list[Tensor], needed: list[bool], settings: tuple[str, str, str, torch.dtype]
) -> list[Tensor | None]:
    """The gradients where their own derivatives are wanted: through the Fourier kernel, whose are of any order."""
    group, padding, activation, dtype = settings
    features, filters, relaxed_weights, bias = operands
    tables = ConvolutionTables(sign_tables(group, 1, filters.device).group, round(filters.shape[-1] ** (1 / 3)))
    with torch.enable_grad(), torch.autocast(features.device.type, enabled=False):
        values = (features.to(dtype), filters, relaxed_weights, tables.to(filters.device), triple(padding.split(",")))
        result = _finished(fourier_convolution(*values), bias, None if activation == "none" else activation)
        wanted = [operand for operand, needs in zip(operands, needed) if needs]
        found = iter(torch.autograd.grad(result, wanted, gradient, create_graph=True))
    return [next(found) if needs else None for needs in needed]


sign_convolution.register_autograd(_backward, setup_context=_keep)


def _finished(result: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    if bias is not None:
        result = result + bias.to(result.dtype).view(-1, 1, 1, 1, 1)
    finish: Callable[[Tensor], Tensor] | None = None if activation is None else ACTIVATIONS[activation]
    return result if finish is None else finish(result)


def triton_convolution(
    features: Tensor,
    filters: Tensor,
    relaxed_weights: Tensor,
    tables: ConvolutionTables,
    padding: tuple[str, str, str],
    cache: FilterCache | None = None,
    bias: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """act(bias + sum_l w_l(g) sum_y sum_h psi_l(g^-1 y, g^-1 h) f(x+y, h)), without a copy of the input.

    Arguments and result as those of :func:`flowsr.kernels.group_convolution`; ``cache`` is not used. First derivatives
    are computed alike; derivatives of derivatives go through the Fourier kernel.

    Raises:
        ValueError: an unknown padding, or an axis too short for it.
    """
    nothing = torch.empty(1, 1, *features.shape[-3:], device="meta")
    pad(nothing, tables.halo, padding)  # raises where the padding is impossible
    dtype = convolution_dtype(features)
    operands = (features, filters, relaxed_weights, bias)
    derived = torch.is_grad_enabled() and any(value is not None and value.requires_grad for value in operands)
    keep = derived and activation in ("gelu", "silu")
    settings = (tables.group.name, ",".join(padding), activation or "none", dtype)
    with torch.autocast(features.device.type, enabled=False):  # the filters' transform keeps their own precision
        result: Tensor = sign_convolution(*operands, *settings, keep)[0]
    return result
