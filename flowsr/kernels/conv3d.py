"""Whether conv3d can be trusted on a device, asked once for each device and precision; and what stands in where not.

cuDNN 9.8 to 9.14 has kernels for 16-bit conv3d that give wrong numbers on large grids (pytorch/pytorch#163539). torch
before 2.9 runs them; torch 2.9.0 with cuDNN from 9.8 on, and later torch with those versions, go round cuDNN instead,
at about 17 times the memory (pytorch/pytorch#166643). Small convolutions do not show it, so versions are asked as well
as numbers. What stands in is a sum of two-dimensional convolutions, one for each plane of the filter.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

BAD_CUDNN = range(90800, 91500)
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-3, torch.bfloat16: 2e-2, torch.float16: 4e-3}  # TF32 counts
HALVES = (torch.bfloat16, torch.float16)
Marked = TypeVar("Marked", bound=Callable[..., Any])


def constant_when_traced(function: Marked) -> Marked:
    """What ``torch.compiler.assume_constant_result`` does, without importing the compiler: a second or more."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@constant_when_traced  # a traced graph takes the answer as it is
def conv3d_fault(device: str, dtype: torch.dtype) -> str | None:
    """What is wrong with conv3d on a kind of device in a precision, or None; found out at the first call."""
    if device != "cuda" or not torch.cuda.is_available():
        return None
    return _fault(device, dtype)


@lru_cache
def _fault(device: str, dtype: torch.dtype) -> str | None:
    known = version_fault(dtype, torch.__version__, torch.backends.cudnn.version())
    return known or numbers_fault(device, dtype)


def version_fault(dtype: torch.dtype, torch_version: str, cudnn: int | None) -> str | None:
    """What is known of a version of torch with one of cuDNN (91002 for 9.10.2; None without it)."""
    if cudnn is None or dtype not in HALVES:
        return None
    release = tuple(int(part) for part in torch_version.split("+")[0].split(".")[:2])
    if torch_version.startswith("2.9.0") and cudnn >= BAD_CUDNN.start:
        return "torch 2.9.0 runs it without cuDNN"
    if cudnn not in BAD_CUDNN:
        return None
    wrong = f"cuDNN {cudnn // 10000}.{cudnn // 100 % 100}.{cudnn % 100} gives wrong numbers on large grids"
    return wrong if release < (2, 9) else f"torch {torch_version} runs it without cuDNN ({wrong})"


def numbers_fault(device: str, dtype: torch.dtype) -> str | None:
    """Run one small conv3d on the device, and again in float64 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 16, 8, 8, 8, generator=generator).to(dtype)
    weight = (torch.randn(16, 16, 3, 3, 3, generator=generator) / 20).to(dtype)
    with torch.no_grad(), torch.autocast(device, enabled=False), torch.autocast("cpu", enabled=False):
        found = F.conv3d(features.to(device), weight.to(device)).double().cpu()
        exact = F.conv3d(features.double(), weight.double())
    error = float((found - exact).norm() / exact.norm())
    return None if error < TOLERANCE.get(dtype, 1e-2) else f"a test convolution is {error:.1e} off"


def conv3d(features: Tensor, weight: Tensor, padding: int = 0, bias: Tensor | None = None) -> Tensor:
    """torch's conv3d, or :func:`conv3d_by_planes` on devices where it cannot be trusted.

    Args:
        features: (batch, channels_in, x, y, z).
        weight: (channels_out, channels_in, k, k, k); the sides may differ where nothing is padded.
        padding: zeros on every side.
        bias: (channels_out,) or None.
    """
    device = features.device.type
    if device == "cuda" and max(weight.shape[2:]) > 1:
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
        if conv3d_fault(device, dtype) is not None:
            result = conv3d_by_planes(features, weight, padding)
            return result if bias is None else result + bias.to(result.dtype)[:, None, None, None]
    return F.conv3d(features, weight, bias, padding=padding)


def conv3d_by_planes(features: Tensor, weight: Tensor, padding: int = 0) -> Tensor:
    """The same as a sum of two-dimensional convolutions: y and z are convolved, x is counted among the batch."""
    batch, planes = features.shape[0], F.pad(features, (0, 0, 0, 0, padding, padding)).transpose(1, 2)
    count = planes.shape[1] - weight.shape[2] + 1
    total: Tensor | None = None
    for shift in range(weight.shape[2]):
        part = F.conv2d(planes[:, shift : shift + count].flatten(0, 1), weight[:, :, shift], padding=padding)
        total = part if total is None else total + part
    assert total is not None
    result: Tensor = total.unflatten(0, (batch, count)).transpose(1, 2).contiguous()
    return result
