"""Work in batches, for workers wherever they are; what hands them out is :mod:`flowsr.pipeline.cluster`."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from flowsr.progress import Progress

T = TypeVar("T")

#: Batches that work is handed out in, about; a scheduler is at ease with some thousands.
BATCHES = 2048


#: Lets the worker that this is called on begin its next batch; set by what hands out batches.
RELEASE: ContextVar[Callable[[], None] | None] = ContextVar("flowsr.spread.release", default=None)
#: Whether the call that this is called in is to end early, since another one of its batches raised an error.
STOP: ContextVar[Callable[[], bool]] = ContextVar("flowsr.spread.stop", default=lambda: False)
_writing = threading.Semaphore(1)  # batches of this process of which only the writing is left


class Spread(Protocol):
    """Workers: calls a function with each of some batches, in any order, and returns when all are done."""

    def __len__(self) -> int:
        """How many there are."""

    def __call__(self, call: Callable[[Sequence[T]], Any], batches: Sequence[Sequence[T]], progress: Progress) -> Any:
        """Results in the order of the batches; raises the first error that a call raised.

        The other batches have ended by then, where they look at :data:`STOP` between their pieces.
        """


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


@contextmanager
def only_writing() -> Iterator[None]:
    """Inside, what is left of a batch needs a disk and no core: the worker begins the next one meanwhile.

    No more than one batch of a process is there at a time; another waits, with its core idle, for a disk that is slow.
    """
    with _writing:
        if (release := RELEASE.get()) is not None:
            release()
        yield
