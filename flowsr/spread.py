"""Work in batches, for workers wherever they are; what hands them out is :mod:`flowsr.pipeline.cluster`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from flowsr.progress import Progress

T = TypeVar("T")

#: Batches that work is handed out in, about; a scheduler is at ease with some thousands.
BATCHES = 2048


class Spread(Protocol):
    """Workers: calls a function with each of some batches, in any order, and returns when all are done."""

    def __len__(self) -> int:
        """How many there are."""

    def __call__(self, call: Callable[[Sequence[T]], Any], batches: Sequence[Sequence[T]], progress: Progress) -> Any:
        """Results in the order of the batches; raises the first error that a call raised."""


def batches_of(pieces: Sequence[T], workers: int) -> list[Sequence[T]]:
    """Pieces in batches of neighbours.

    Each batch is a share of what is left, so that the first ones are long and the last ones end together; there are
    some ten a worker, and no more than a few thousand.

    >>> [len(batch) for batch in batches_of(range(20), 2)]
    [5, 3, 3, 2, 1, 1, 1, 1, 1, 1, 1]
    """
    least, found, start = math.ceil(len(pieces) / BATCHES), [], 0
    while start < len(pieces):
        left = len(pieces) - start
        size = max(least, left // (2 * max(workers, 1)))
        found.append(pieces[start : start + size])
        start += size
    return found
