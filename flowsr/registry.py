"""A named collection with errors that help: models, metrics, degrade operators and readers each live in one."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from flowsr.errors import FlowsrError

T = TypeVar("T")


def suggestion(name: str, known) -> str | None:
    """`did you mean 'block_mean'?` for a misspelt name, or None when nothing is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else None


class Registry(Generic[T]):
    """Maps names to entries; an unknown name raises :class:`FlowsrError` with the known ones and a suggestion.

    Args:
        kind: what the entries are, as it should read in an error ("degrade operator").
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files the decorated object under ``name``."""

        def file_under(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self._entries[name] = entry
            return entry

        return file_under

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except KeyError:
            raise FlowsrError(
                f"unknown {self.kind} '{name}'",
                expected="one of " + ", ".join(sorted(self._entries)),
                hint=suggestion(name, self._entries),
            ) from None

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def items(self):
        return self._entries.items()
