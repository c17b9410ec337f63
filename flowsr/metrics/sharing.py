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
        key = (once, id(field), grid)
        if key not in memory:
            remember(once, field, grid, function(field, grid))
        return memory[key][1]

    return once


def remember(function: Callable[[Tensor, Grid], Tensor], field: Tensor, grid: Grid, value: Tensor) -> None:
    """Tell the :func:`shared_work` around this call what a shareable function gives for a field.

    Raises:
        RuntimeError: outside of :func:`shared_work`.
    """
    memory = _remembered.get()
    if memory is None:
        raise RuntimeError("nothing is remembered outside of shared_work()")
    memory[function, id(field), grid] = (field, value)  # the field is held so that its id stays its own
