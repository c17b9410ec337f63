"""The group convolution fused for GPUs, in Triton: registered as ``triton``.

Importing this imports no Triton: that happens when the kernel first runs.
"""

from __future__ import annotations

import importlib.util
import math

import torch

from flowsr.kernels.conv3d import constant_when_traced
from flowsr.kernels.dispatch import KERNELS, Case, Kernel
from flowsr.kernels.triton_kernel.launch import interpreted
from flowsr.kernels.triton_kernel.operator import triton_convolution

INSTALLED = importlib.util.find_spec("triton") is not None
PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)
LARGEST_KERNEL = 5

# What the cost predicts with: not measured; an H100's, counted in benchmarks/NOTES.md. In 16 bits what limits are loads
# and shared memory: clocks of a multiprocessor for a step of 128 voxels, 32 summed columns and a program's columns.
CLOCKS_PER_STEP, CLOCKS_PER_COLUMN = 400, 2.25
CLOCK_RATE = 132 * 1.755e9  # of all multiprocessors together
FLOAT32_RATE = {False: 7.5e12, True: 4.0e13}  # multiply-adds per second in float32, and in TF32
MEMORY_RATE = 2.5e12  # bytes per second
OVERHEAD = 3.0e-4  # seconds per pass
CORRELATE = 1.3  # time of the filters' gradient over that of a forward pass


def refusal(case: Case) -> str | None:
    """Why the kernel cannot do a case, or None."""
    if not INSTALLED:
        return "triton is not installed"
    if case.dtype not in PRECISIONS:
        return f"it computes in float32, bfloat16 or float16, not in {str(case.dtype).removeprefix('torch.')}"
    if case.taps > LARGEST_KERNEL**3:
        return f"kernel sizes up to {LARGEST_KERNEL} only"
    if case.device == "cpu" and not interpreted():
        return "it needs an NVIDIA GPU (TRITON_INTERPRET=1 runs it on a CPU, very slowly, for tests)"
    if case.device not in ("cpu", "cuda") or torch.version.hip is not None:
        return "it needs an NVIDIA GPU"
    return None


def cost(case: Case) -> float:
    """Predicted seconds on a GPU; on a CPU, where it is interpreted, it is never worth it."""
    if case.device != "cuda":
        return math.inf
    moved = case.voxels * case.order * 3 * (case.channels_in + case.channels_out) * case.dtype.itemsize
    one = _products(case) + moved / MEMORY_RATE + OVERHEAD
    return (2 + CORRELATE) * one if case.gradient else one


def _products(case: Case) -> float:
    """Seconds of the matrix products of one pass."""
    characters, cosets = case.order // case.cosets, case.cosets
    columns_in, columns_out = cosets * case.channels_in, cosets * case.channels_out
    columns_out *= case.filter_banks
    if case.dtype.itemsize > 2:
        return case.voxels * case.taps * characters * columns_in * columns_out / FLOAT32_RATE[_tf32()]
    blocks = math.ceil(columns_out / 96)
    steps = math.ceil(case.voxels / 128) * case.taps * characters * math.ceil(columns_in / 32) * blocks
    return steps * (CLOCKS_PER_STEP + CLOCKS_PER_COLUMN * columns_out / blocks) / CLOCK_RATE


@constant_when_traced  # nothing that a traced graph could ask for itself
def _tf32() -> bool:
    return torch.get_float32_matmul_precision() != "highest"


KERNELS.register("triton")(Kernel(convolve=triton_convolution, refusal=refusal, cost=cost, fused=triton_convolution))
