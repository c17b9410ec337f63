"""The registry of formats: a reader is found by looking at the file, or named."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from flowsr.data.readers.lazy import unreadable
from flowsr.errors import FlowsrError
from flowsr.registry import Registry


@dataclass(frozen=True)
class Request:
    """What is asked of a file.

    Args:
        group: group inside the file.
        run: which of its runs, where a file holds several.
        layout: what a manifest says of a file that does not describe itself; see :mod:`flowsr.data.readers.described`.
    """

    group: str | None = None
    run: str | None = None
    layout: Mapping[str, Any] | None = None


class Reader(ABC):
    """Opens one format. Register a subclass with ``@READERS.register("name")`` and :func:`flowsr.data.open_field` finds it.

    Attributes:
        signs: what the format is recognized by, as a person would say it.
        general: whether another reader that also recognizes the file knows better.
        holds_runs: whether one file may hold several runs.
        takes: what a manifest may say in place of the file, of path, axes, coordinates, times and dtype.
    """

    signs: str
    general: bool = False
    holds_runs: bool = False
    takes: frozenset[str] = frozenset()

    @abstractmethod
    def recognizes(self, path: Path) -> bool:
        """Whether the file is of this format, by its first bytes or names. Reads little; to raise means no."""

    def runs(self, path: Path) -> list[str]:
        """Names of the runs in a file that may hold several; empty for a file that is one run."""
        return []

    @abstractmethod
    def open(self, path: Path, request: Request) -> xr.Dataset:
        """The dataset in flowsr's dims and names, its fields unread; the caller validates it."""


READERS: Registry[type[Reader]] = Registry("reader", group="flowsr.readers")


def read(path: Path, request: Request, reader: str | None = None) -> xr.Dataset:
    """Open a file or store, not yet validated: a manifest may add what the file leaves out."""
    group, run = request.group, request.run
    chosen = READERS[reader or recognized(path)]
    if run is not None and not chosen.holds_runs:
        raise FlowsrError("this file is one run", file=path, variable="run", expected="none", found=run)
    try:
        dataset = chosen().open(path, request)
    except FlowsrError:
        raise
    except Exception as error:  # a damaged file raises whatever its library happens to trip over
        raise unreadable(error, label(path, group)) from error
    dataset.encoding["source"] = str(path)
    return dataset


def recognized(path: Path) -> str:
    """Name of the reader that recognizes a file.

    Raises:
        FlowsrError: none does, or more than one.
    """
    names = [name for name, reader in READERS.items() if _fits(reader(), path)]
    names = [name for name in names if not READERS[name].general] or names
    if not names:
        kind = "a folder" if path.is_dir() else f"{path.stat().st_size} bytes of something else"
        raise FlowsrError("not a format that flowsr reads", file=path, expected=" or ".join(READERS), found=kind)
    if len(names) > 1:
        raise FlowsrError("more than one reader fits", file=path, found=", ".join(names), hint="name the reader")
    return names[0]


def accepting(path: Path) -> str | None:
    """Name of the reader that recognizes a file and lets a manifest say something in place of it, or None."""
    return next((name for name, reader in READERS.items() if reader.takes and _fits(reader(), path)), None)


def _fits(reader: Reader, path: Path) -> bool:
    try:
        return reader.recognizes(path)
    except Exception:  # a damaged file raises whatever its library happens to trip over
        return False


def file_runs(path: Path, reader: str | None = None) -> list[str]:
    """Names of the runs of a file; empty where it is one run without a name.

    Raises:
        FlowsrError: no reader for the file, or a damaged one.
    """
    try:
        return READERS[reader or recognized(path)]().runs(path)
    except FlowsrError:
        raise
    except Exception as error:  # a damaged file raises whatever its library happens to trip over
        raise unreadable(error, path) from error


def label(path: Path, group: str | None) -> str:
    """What to call a file, or a group inside it, in an error."""
    return str(path / group) if group else str(path)
