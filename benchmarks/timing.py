"""Timing by rounds: in every round each candidate runs once, and is compared with the baseline of that same round.

On a machine that others use, times wander by factors; ratios within a round far less, and their median less still.
What takes less than a few hundredths of a second is run several times in a row, and its mean taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from statistics import median, quantiles

import torch

SHORTEST = 0.03  # seconds a candidate runs for, at least, in every round
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Timing:
    """How long something took.

    Args:
        seconds: median over the rounds.
        ratio: median over the rounds of its time over the baseline's.
        quartiles: first and third quartile of that ratio.
        peak_bytes: most memory held on the device beyond what was there before; None on a CPU.
    """

    seconds: float
    ratio: float
    quartiles: tuple[float, float]
    peak_bytes: int | None


def compare(
    candidates: dict[str, Callable[[], object]], baseline: str, repeats: int, device: str = "cpu", clock: str = "wall"
) -> dict[str, Timing]:
    """Time candidates against one of them.

    Args:
        candidates: what to run, by name; each is run once beforehand to warm up.
        baseline: name of the one that ratios are taken against.
        repeats: rounds, at least 2.
        device: ``cpu`` or ``cuda``.
        clock: ``wall``, or ``cpu`` for the processor time of all threads: on a CPU shared with others it leaves out the
            time spent waiting for a core, and with one thread it is what the wall clock of a free machine would show.

    Returns:
        A :class:`Timing` for every name.
    """
    peaks = {name: _peak_bytes(run, device) for name, run in candidates.items()}
    tick = CLOCKS[clock]
    runs = {name: max(1, ceil(SHORTEST / max(_mean(run, 1, device, tick), 1e-6))) for name, run in candidates.items()}
    seconds = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            seconds[name].append(_mean(run, runs[name], device, tick))
    ratios = {name: [a / b for a, b in zip(values, seconds[baseline])] for name, values in seconds.items()}
    return {
        name: Timing(median(seconds[name]), median(values), tuple(quantiles(values, n=4)[::2]), peaks[name])
        for name, values in ratios.items()
    }


def _mean(run: Callable[[], object], times: int, device: str, clock: Callable[[], float]) -> float:
    _wait(device)
    start = clock()
    for _ in range(times):
        run()
    _wait(device)
    return (clock() - start) / times


def _peak_bytes(run: Callable[[], object], device: str) -> int | None:
    run()
    if device != "cuda":
        return None
    _wait(device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    _wait(device)
    return torch.cuda.max_memory_allocated() - before


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
