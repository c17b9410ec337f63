"""Which device the tensors live on, and how many threads work there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

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


def processors() -> int:
    """Processors for this process and all that it starts, as the machine or its scheduler has it."""
    return len(os.sched_getaffinity(0))


def processes_of(threads: int | None) -> int:
    """How many processes of so many threads each these are enough for; at least one."""
    return max(1, processors() // (threads or 1))


def cores() -> int:
    """Those that this one process may use: no more than OMP_NUM_THREADS, where that is set."""
    return min(_ALL_THREADS, processors())


def machine_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or what a container leaves of it."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        with suppress(OSError, ValueError):
            found = min(found, int(limit.read_text()))
    return found
