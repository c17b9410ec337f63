"""Fair fights: what a network costs, and the width at which one architecture costs as much as another."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from operator import attrgetter

import torch
from torch.utils.flop_counter import FlopCounterMode

from flowsr.grid import Grid
from flowsr.group.o3 import Irreps
from flowsr.kernels import use_kernel
from flowsr.models.base import Upscaler
from flowsr.models.build import options_of

#: The options that set a network's width, where widths are to be matched.
WIDTHS = ("width", "channels")


def multiply_adds(model: Upscaler, grid: Grid, kernel: str = "dense") -> int:
    """Multiply-adds of one forward pass over one box.

    Counted are convolutions, matrix products and Fourier transforms (half of (5/2) N log2 N operations for a real one
    of N values, of 5 N log2 N for a complex one: Cooley & Tukey 1965), a complex product as four real ones; not what is
    done value by value: activations, gates, padding, interpolation. So ``nearest`` to ``tricubic`` have none. A model
    with a halo is run on two small boxes, since its count is a constant and so much a cell; one without is run on this
    box, on its own device.

    Args:
        model: the up-scaler; left as it is.
        grid: grid of the coarse box; shape, spacing and boundary count.
        kernel: how group convolutions are computed, by registered name: the plain convolution of all group elements by
            default, which the fewer of ``fourier`` can then be held against.
    """
    ready = copy.deepcopy(model).eval()
    if model.halo is None:
        return _counted(ready, grid, kernel)
    small = [replace(grid, shape=(4, 4, cells), centers=(None,) * 3) for cells in (4, 4, 8)]
    _, fewer, more = (_counted(ready, box, kernel) for box in small)  # the first pass also makes filters that are kept
    return fewer + (more - fewer) * (math.prod(grid.shape) - 64) // 64


def width_option(name: str) -> str | None:
    """The option that sets a registered model's width; None where it has none."""
    return next((option for option in WIDTHS if option in options_of(name)), None)


def matching_width(
    build: Callable[[int], Upscaler],
    target: float,
    widest: int = 4096,
    cost: Callable[[Upscaler], float] = attrgetter("parameter_count"),
) -> int:
    """The width whose model comes nearest to a cost.

    Args:
        build: makes the model of a given width; its cost grows with the width.
        target: the cost to match.
        widest: upper end of the search.
        cost: parameters by default; ``lambda model: multiply_adds(model, grid)`` for equal work on a box.
    """
    low, high = 1, 2
    while high < widest and cost(build(high)) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(build(middle)) < target else (low, middle)
    return min((low, high), key=lambda width: abs(cost(build(width)) - target))


@torch.no_grad()
def _counted(model: Upscaler, grid: Grid, kernel: str) -> int:
    state = next(chain(model.parameters(), model.buffers()), torch.zeros(()))
    field = torch.zeros(1, Irreps(model.irreps_in).dim, *grid.shape, dtype=state.dtype, device=state.device)
    counter = FlopCounterMode(display=False, custom_mapping=_COUNTS)
    with use_kernel(kernel), counter:
        model(field, grid)
    return counter.get_total_flops() // 2


def _convolution(shape, weight, bias, stride, padding, dilation, transposed, *_, out_shape, **__) -> int:
    """Operations of a convolution; of a transposed one those that reach the result: taps over stride, at every cell."""
    taps = math.prod(weight) // (math.prod(stride) if transposed else 1)
    return 2 * shape[0] * math.prod(out_shape[2:]) * taps


def _transform(shape, axes, *_, out_shape=None, **__) -> int:
    """Operations of real transforms of N values along some axes, (5/2) N log2 N each; the longer side is real."""
    real = max(shape, out_shape, key=math.prod)
    return int(2.5 * math.prod(real) * math.log2(max(2, math.prod(real[axis] for axis in axes))))


def _complex_transform(shape, axes, *_, **__) -> int:
    """Operations of complex transforms: 5 N log2 N each."""
    return 2 * _transform(shape, axes, out_shape=shape)


def _product(left, right, *_, out_val=None, **__) -> int:
    """Operations of a batch of matrix products, four times as many for complex numbers."""
    return (8 if left.is_complex() else 2) * left.numel() * right.shape[-1]


_product._get_raw = True  # asks the counter for tensors: shapes do not tell a complex one
_aten = torch.ops.aten
_COUNTS = {
    _aten.convolution: _convolution,
    _aten.bmm: _product,
    _aten._fft_c2c: _complex_transform,
    _aten._fft_r2c: _transform,
    _aten._fft_c2r: _transform,
}
