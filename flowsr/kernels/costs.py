"""What each kernel costs, predicted from what it multiplies and moves, at rates measured on one core; and their
registration.

Per voxel, with C_in and C_out channels, L filter banks, n group elements, k^3 taps and irreps of dimension d:

- ``dense`` multiplies and adds C_in C_out n^2 k^3 times, whatever L, after gathering L C_in C_out n^2 k^3 filter
  entries once;
- ``fourier`` gathers C_in n k^3 values, transforms them with n multiply-adds each, multiplies and adds
  L C_in C_out k^3 sum d^3 times (half of d^3 for irreps of complex type), and transforms and writes L C_out n values.

A backward pass costs ``dense`` two more convolutions; ``fourier`` one more gather and transform, and two more products.
The rates are those of one AMD EPYC core (AVX-512; oneDNN's convolutions, MKL's matrix products), float32, from the
benchmark ``benchmarks/conv.py``, and only their ratios decide. Several threads help ``dense`` more: ``fourier`` is a
chain of short steps that all threads must finish together. On a device or in a precision that was not measured,
``fourier`` is only run when asked for: its cost there is infinite. On a GPU ``dense`` is cuDNN's convolution, at rates
that are published or usual and were not measured; the Triton kernel has a cost of its own, and where that loses cuDNN
is chosen.
"""

from __future__ import annotations

import math

import torch

from flowsr.kernels.dense import dense_convolution
from flowsr.kernels.dispatch import KERNELS, Case, Kernel
from flowsr.kernels.fourier import fourier_convolution

CONVOLUTION_RATE = 1.0e11  # multiply-adds per second of an ordinary 3-D convolution of 100 channels and more
PADDED_FACTOR = 1.15  # the same on an array padded beforehand, whose lines are not aligned any more
EXPANSION_RATE = 1.0e9  # filter entries gathered, or their gradients collected, per second
GATHER_RATE = 2.1e9  # values per second gathered from the neighbours
TRANSFORM_RATE = 3.2e10  # multiply-adds per second of the group Fourier transform
PRODUCT_RATE = 3.7e10  # multiply-adds per second of the products per irrep, for many channels
PRODUCT_HALF_RATE_CHANNELS = 3.0  # output channels at which they reach half of that
BLOCK_OVERHEAD = 1.0e-4  # seconds per block of voxels
BLOCK_VALUES = 6.5e5  # gathered values per block
SEVERAL_THREADS = 1.35  # how much less several threads help the Fourier kernel (two threads, on a shared machine)
# cuDNN's on an H100, not measured: multiply-adds per second by bytes per number (float32 is rounded to TF32 unless
# torch.backends.cudnn.allow_tf32 is off), channels padded to whole tiles; bytes per second; seconds per pass.
CUDA_RATE, CUDA_EXACT_RATE = {2: 2.0e14, 4: 9.0e13, 8: 2.0e13}, 2.2e13
CUDA_TILE, CUDA_MEMORY_RATE, CUDA_OVERHEAD = 64, 2.5e12, 1.0e-4
CPU_BYTES = (4, 8)  # bytes per number of the precisions the rates hold for


def dense_cost(case: Case) -> float:
    """Predicted seconds of the dense kernel."""
    if case.device == "cuda":
        return _cudnn_cost(case)
    entries = case.channels_in * case.channels_out * case.order**2 * case.taps
    padded = 1.0 if set(case.padding) == {"zero"} or case.taps == 1 else PADDED_FACTOR
    convolution = entries * case.voxels * padded / CONVOLUTION_RATE
    expansion = entries * case.filter_banks / EXPANSION_RATE
    return 3 * convolution + 2 * expansion if case.gradient else convolution + expansion


def _cudnn_cost(case: Case) -> float:
    width_in, width_out = case.channels_in * case.order, case.channels_out * case.order
    size, exact = case.dtype.itemsize, case.dtype.itemsize == 4 and not torch.backends.cudnn.allow_tf32
    tiles = math.ceil(width_in / CUDA_TILE) * math.ceil(width_out / CUDA_TILE)
    products = tiles * CUDA_TILE**2 * case.taps * case.voxels
    moved = 2 * (width_in + width_out) * case.voxels * size + 8 * width_in * width_out * case.taps * case.filter_banks
    rate = CUDA_EXACT_RATE if exact else CUDA_RATE[size]
    one = products / rate + moved / CUDA_MEMORY_RATE + CUDA_OVERHEAD
    return 3 * one if case.gradient else one


def fourier_cost(case: Case) -> float:
    """Predicted seconds of the Fourier kernel."""
    if case.device != "cpu" or case.dtype.itemsize not in CPU_BYTES:
        return math.inf
    channels_out = case.channels_out * case.filter_banks
    forward = _fourier_pass(case, case.channels_in, channels_out, case.voxels, products=1)
    if not case.gradient:
        return forward
    halo = round(case.taps ** (1 / 3)) // 2
    walls = [mode not in ("periodic", "zero") for mode in case.padding]
    voxels = case.batch * math.prod([side + 2 * halo * wall for side, wall in zip(case.cells, walls)])
    return forward + _fourier_pass(case, channels_out, case.channels_in, voxels, products=2)


def _fourier_pass(case: Case, gathered: int, produced: int, voxels: int, products: int) -> float:
    """One gather and transform of ``gathered`` channels, and products with ``produced`` channels."""
    values = gathered * case.order * case.taps * voxels
    written = products * produced * case.order * voxels
    multiplications = gathered * produced * case.taps * case.irrep_products * voxels
    product_rate = PRODUCT_RATE * produced / (produced + PRODUCT_HALF_RATE_CHANNELS)
    slower = SEVERAL_THREADS if case.threads > 1 else 1.0
    return slower * (
        (values + written) * (1 / GATHER_RATE + case.order / TRANSFORM_RATE)
        + products * multiplications / product_rate
        + (1 + values / BLOCK_VALUES) * BLOCK_OVERHEAD
    )


def never(case: Case) -> str | None:
    """The refusal of a kernel that can do every case."""
    return None


KERNELS.register("dense")(Kernel(convolve=dense_convolution, refusal=never, cost=dense_cost))
KERNELS.register("fourier")(Kernel(convolve=fourier_convolution, refusal=never, cost=fourier_cost))
