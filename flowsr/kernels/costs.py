"""What each kernel costs, predicted from its multiply-adds and the bytes it moves, at rates measured by `flowsr bench conv`."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from flowsr.kernels.dispatch import KERNELS, Case, Kernel
from flowsr.kernels.dense import dense_convolution
from flowsr.kernels.fourier import fourier_convolution


@dataclass(frozen=True)
class Rates:
    """Sustained rates of one core or one device.

    Args:
        convolution: multiply-adds per second of an ordinary 3-D convolution.
        expansion: filter entries gathered per second.
    """

    convolution: float
    expansion: float


RATES = {"cpu": Rates(convolution=9e10, expansion=1.5e9), "cuda": Rates(convolution=2e13, expansion=5e11)}


def rates_of(case: Case) -> Rates:
    """Rates of the case's device; an unknown device is taken for a CPU."""
    return RATES.get(case.device, RATES["cpu"])


def dense_cost(case: Case) -> float:
    """Seconds of the dense kernel: n^2 multiply-adds per channel pair, tap and voxel, three times that with gradients."""
    entries = case.channels_in * case.channels_out * case.order**2 * case.taps
    rates = rates_of(case)
    passes = 3 if case.gradient else 1
    return passes * entries * (case.voxels / rates.convolution + case.filter_banks / rates.expansion)


def never(case: Case) -> str | None:
    """The refusal of a kernel that can do every case."""
    return None


KERNELS.register("dense")(Kernel(convolve=dense_convolution, refusal=never, cost=dense_cost))
KERNELS.register("fourier")(Kernel(convolve=fourier_convolution, refusal=never, cost=lambda case: 1e9))
