"""The group convolution fused for GPUs, in Triton: registered as ``triton``.

Importing this imports no Triton: that happens when the kernel first runs.
"""

from __future__ import annotations

import importlib.util
import math

import torch

from flowsr.kernels.dispatch import KERNELS, Case, Kernel
from flowsr.kernels.triton_kernel.launch import interpreted
from flowsr.kernels.triton_kernel.operator import triton_convolution

INSTALLED = importlib.util.find_spec("triton") is not None
PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)
LARGEST_KERNEL = 5

# What the cost predicts with: not measured, of the order that the notes in benchmarks/ derive.
PRODUCT_RATE = {2: 2.5e14, 4: 1.5e13}  # multiply-adds per second by bytes per number, times two
MEMORY_RATE = 2.0e12  # bytes per second
OVERHEAD = 1.0e-4  # seconds per pass


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
    characters = case.order // 6
    products = case.voxels * case.taps * case.channels_in * case.channels_out * case.filter_banks * 36 * characters
    moved = case.voxels * case.order * (3 * case.channels_in + 3 * case.channels_out) * case.dtype.itemsize
    one = 2 * products / PRODUCT_RATE[case.dtype.itemsize] + moved / MEMORY_RATE + OVERHEAD
    return 3 * one if case.gradient else one


KERNELS.register("triton")(Kernel(convolve=triton_convolution, refusal=refusal, cost=cost, fused=triton_convolution))
