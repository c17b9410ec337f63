"""Which device the tensors live on, and how many threads work there."""

from __future__ import annotations

import torch

from flowsr.errors import BadValue

_ALL_THREADS = torch.get_num_threads()


def resolve_device(device: str) -> str:
    """``auto`` made concrete: CUDA where there is a device.

    Raises:
        FlowsrError: CUDA is asked for and there is none, or an unknown name.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise BadValue("unknown device", variable="device", expected="auto, cpu or cuda", found=device)
    if device == "cuda" and not torch.cuda.is_available():
        raise BadValue(
            "no CUDA device here", variable="device", expected="a CUDA device", found="none", hint="use cpu or auto"
        )
    return device


def use_threads(threads: int | None) -> None:
    """Let CPU work use this many threads; None for as many as the machine or OMP_NUM_THREADS allows."""
    torch.set_num_threads(threads or _ALL_THREADS)
