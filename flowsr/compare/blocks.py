"""Which held-out snapshots are independent: blocks of time at least one eddy turnover long."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def independent_blocks(times: Sequence[np.ndarray], lengths: Sequence[float]) -> np.ndarray:
    """Number every snapshot's block.

    Snapshots that follow one another closely are the same flow, and count as one. A block starts with a run's first
    snapshot, and again with every snapshot that is at least ``length`` after the start of the block before. Different
    runs never share a block.

    Args:
        times: increasing times of each run's snapshots.
        lengths: least length of a block in each run, in the unit of its times.

    Returns:
        (snapshots,) int64, all runs in order; blocks are numbered from 0 without gaps.
    """
    numbers, block = [], -1
    for instants, length in zip(times, lengths):
        start = -np.inf
        for time in np.asarray(instants, dtype=np.float64):
            if time - start >= length * (1 - 1e-9):
                start, block = time, block + 1
            numbers.append(block)
    return np.array(numbers, dtype=np.int64)


def block_sums(values: np.ndarray, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the finite values of each block, and how many there are.

    Args:
        values: (..., snapshots); NaN where there is none.
        blocks: (snapshots,) from :func:`independent_blocks`.

    Returns:
        sums and counts, both (..., blocks) float64.
    """
    member = blocks[:, None] == np.arange(blocks.max() + 1)[None]
    finite = np.isfinite(values)
    return np.where(finite, values, 0.0) @ member, finite.astype(np.float64) @ member
