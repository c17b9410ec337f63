"""A named collection with errors that help: models, metrics, degrade operators and readers each live in one.

Where a registry has an entry-point group, whatever installed packages offer in it is there as well: it is looked for
when a name is first asked for that is not flowsr's own, or when all names are, and imported no sooner.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, ItemsView, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from flowsr.errors import FlowsrError, suggestion, unknown_name

__all__ = ["GROUPS", "Registry", "suggestion"]

T = TypeVar("T")
log = logging.getLogger("flowsr.registry")

#: Entry-point groups that a package can add to; docs/extending.md has an example of each.
GROUPS = ("flowsr.models", "flowsr.metrics", "flowsr.degrade", "flowsr.losses", "flowsr.readers", "flowsr.kernels")


class Registry(Generic[T]):
    """Maps names to entries; an unknown name raises :class:`FlowsrError` with the known ones and a suggestion.

    What an installed package offers and cannot be used (its import fails, or its name is taken, by flowsr or by another
    package) is left out of the listing with one warning; asked for by name, it raises that line.

    Args:
        kind: what the entries are, as it should read in an error ("degrade operator").
        group: entry-point group that installed packages add entries in; None: they cannot.
    """

    def __init__(self, kind: str, group: str | None = None):
        self.kind, self.group = kind, group
        self._entries: dict[str, T] = {}
        self._offered: dict[str, list[EntryPoint]] | None = {} if group is None else None
        self._refused: dict[str, FlowsrError] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that files the decorated object under ``name``."""

        def file_under(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self._entries[name] = entry
            return entry

        return file_under

    def load(self) -> None:
        """Import everything that installed packages offer, where that has not been done."""
        for name in list(self._outside()):
            self._load(name)

    def __getitem__(self, name: str) -> T:
        if name not in self._entries:
            self._load(name)
        if name in self._entries:
            return self._entries[name]
        if name in self._refused:
            raise self._refused[name]
        raise unknown_name(self.kind, name, self)

    def __contains__(self, name: str) -> bool:
        self._load(name)
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self.load()
        return iter(self._entries)

    def items(self) -> ItemsView[str, T]:
        """Names and entries, flowsr's own first."""
        self.load()
        return self._entries.items()

    def _outside(self) -> dict[str, list[EntryPoint]]:
        """What installed packages offer and nobody has asked for yet, by name."""
        if self._offered is None:
            self._offered = {}
            for entry in entry_points(group=self.group or ""):
                self._offered.setdefault(entry.name, []).append(entry)
        return self._offered

    def _load(self, name: str) -> None:
        offers = self._outside().pop(name, [])
        if not offers:
            return
        packages = " and ".join(sorted({distribution_of(entry) for entry in offers}))
        reason = ""
        if name in self._entries:
            reason = "flowsr has one of that name"
        elif len(offers) > 1:
            reason = "offered more than once"
        else:
            try:
                self._entries[name] = offers[0].load()
            except Exception as error:  # somebody else's code: it may raise anything
                reason = f"{type(error).__name__}: {error}"
        if reason:
            line = FlowsrError(f"the {self.kind} '{name}' of {packages} cannot be used", found=reason)
            log.warning("%s", line)
            self._refused[name] = line


def distribution_of(entry: EntryPoint) -> str:
    """The package, and its version, that an entry point comes from."""
    return "an unknown package" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
