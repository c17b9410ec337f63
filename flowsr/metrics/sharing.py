"""Intermediate fields computed once where several metrics look at the same snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps

from torch import Tensor

from flowsr.grid import Grid

_remembered: ContextVar[dict | None] = ContextVar("flowsr.metrics.remembered", default=None)


@contextmanager
def shared_work() -> Iterator[None]:
    """Inside, a shareable function is computed once per field and remembered until the end of the block.

    Fields must not be changed in place inside the block. Outside, nothing is kept.
    """
    token = _remembered.set({})
    try:
        yield
    finally:
        _remembered.reset(token)


def shareable(function: Callable[[Tensor, Grid], Tensor]) -> Callable[[Tensor, Grid], Tensor]:
    """Decorator for a function of (field, grid) that :func:`shared_work` may remember."""

    @wraps(function)
    def once(field: Tensor, grid: Grid) -> Tensor:
        memory = _remembered.get()
        if memory is None:
            return function(field, grid)
        key = (function, id(field), grid)
        if key not in memory:
            memory[key] = (field, function(field, grid))  # the field is held so that its id stays its own
        return memory[key][1]

    return once
