"""e3nn's irreps, with torch's compiler left where it is until something is compiled.

The decorators of :mod:`torch.compiler` import the compiler, a second or more, with the module that uses them. e3nn uses
one, so flowsr imports e3nn here alone.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Marked = TypeVar("Marked", bound=Callable[..., Any])


def _skipped_when_traced(function: Marked, **options: Any) -> Marked:
    """``torch.compiler.disable``, called when the compiler is there."""

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        now = _disable(function, **options) if "torch._dynamo" in sys.modules else function
        return now(*arguments, **named)

    return called  # type: ignore[return-value]


_disable: Callable[..., Callable[..., Any]] = torch.compiler.disable
torch.compiler.disable = _skipped_when_traced  # type: ignore[assignment]
try:
    from e3nn.math import soft_one_hot_linspace
    from e3nn.o3 import (
        FullyConnectedTensorProduct,
        Irrep,
        Irreps,
        Linear,
        ReducedTensorProducts,
        TensorProduct,
        spherical_harmonics,
        wigner_3j,
    )
finally:
    torch.compiler.disable = _disable

__all__ = [
    "FullyConnectedTensorProduct",
    "Irrep",
    "Irreps",
    "Linear",
    "ReducedTensorProducts",
    "TensorProduct",
    "soft_one_hot_linspace",
    "spherical_harmonics",
    "wigner_3j",
]
