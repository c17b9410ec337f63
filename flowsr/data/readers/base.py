"""What a reader is, how one is found for a file, and how the arrays in a file become a dataset.

To add a format, subclass :class:`Reader` with ``recognizes(path)`` and ``open(path, request)``, and either decorate it
with ``@READERS.register("name")`` or name it in the entry-point group ``flowsr.readers`` of a package. ``open`` returns
a dataset in the layout of :mod:`flowsr.data.field`, its fields as :class:`flowsr.data.readers.lazy.LazyArray`;
:func:`~.assemble.assemble` makes one of named arrays, :func:`assume` notes what the format has no place for. The
caller validates.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import xarray as xr

from flowsr.data.readers.lazy import one_line
from flowsr.data.readers.meeting import meet
from flowsr.data.readers.order import ASSUMED, in_order
from flowsr.data.readers.units import in_one_system
from flowsr.errors import BadValue, FlowsrError, UnknownFormat, require
from flowsr.registry import Registry

Boundary = Literal["periodic", "wall", "open"]


@dataclass(frozen=True)
class ReadOptions:
    """How a file is to be read: what is taken of it, and what it leaves unsaid. The same words everywhere.

    Raises:
        ValueError: a box without length, a boundary of another kind, a range of snapshots that is none, or a snapshot
            selected in the place of ``time``.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    group: str | None = None
    """Group inside the file, such as ``coarse`` or ``fine`` of an ingested store."""
    run: str | None = None
    """Which run or trajectory, where there are several."""
    reader: str | None = None
    """Registered reader; default: the one that recognizes the file."""
    time: int | str | None = None
    """Number of the one snapshot, or a range of them such as 10:20; default: all."""
    select: dict[str, int] = field(default_factory=dict)
    """Number along an axis that flowsr does not know: sample=3."""
    boundary: tuple[Boundary, Boundary, Boundary] | None = None
    """Along x, y, z, where the file does not say: periodic, wall or open."""
    units: dict[str, str] = field(default_factory=dict)
    """Variable to unit: what it is converted to, or what it is where the file does not say."""
    irreps: dict[str, str] = field(default_factory=dict)
    """Variable to field type, where the file does not say: velocity=1o."""
    lengths: tuple[float, float, float] | None = None
    """Sides of the box along x, y, z, where the file has no coordinates."""
    axes: tuple[str, ...] | None = None
    """What the axes of the arrays are, in order, where the file does not name them: time, z, y, x, component."""
    missing: Literal["refuse", "nan"] = "refuse"
    """Whether a field with missing values is refused, or its missing values are carried as NaN."""

    def __post_init__(self):
        if self.lengths is not None and not all(side > 0 for side in self.lengths):
            raise ValueError(f"lengths are positive, got {self.lengths}")
        if "time" in self.select:
            raise ValueError("select is for axes that flowsr does not know; a snapshot is named by the option time")
        snapshots(self.time)

    def declared(self) -> dict[str, Any]:
        """What differs from the defaults, by name, as JSON has it."""
        said = {f.name: asdict(self)[f.name] for f in fields(ReadOptions)}
        known = {name: value for name, value in said.items() if value not in (None, {}, "refuse")}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in known.items()}


def read_options(options: ReadOptions | None, stated: dict[str, Any]) -> ReadOptions:
    """Options with some of them stated one by one; None states nothing."""
    given, options = {name: value for name, value in stated.items() if value is not None}, options or ReadOptions()
    try:
        return replace(options, **given) if given else options
    except ValueError as error:
        raise BadValue("an option of reading that cannot be", expected=error) from None


def snapshots(time: int | str | None) -> slice:
    """The snapshots that an option ``time`` names.

    Raises:
        ValueError: neither a number nor a range.
    """
    if time is None:
        return slice(None)
    parts = str(time).split(":")
    if len(parts) > 3 or not all(part.strip().isdecimal() or (len(parts) > 1 and not part) for part in parts):
        raise ValueError(f"time is a number such as 3 or a range such as 10:20, got {time!r}")
    numbers = [int(part) if part else None for part in parts]
    return slice(numbers[0], numbers[0] + 1) if len(parts) == 1 else slice(*numbers)


@dataclass(frozen=True)
class Request(ReadOptions):
    """What is asked of a file: which part of it, and what is said in place of it.

    Args:
        layout: what a manifest says of a file that does not describe itself; see :mod:`flowsr.data.readers.described`.
        coordinates: along time, x, y, z, that a manifest states in place of the file.
    """

    layout: Mapping[str, Any] | None = None
    coordinates: Mapping[str, xr.Variable] = field(default_factory=dict)

    @classmethod
    def of(cls, options: ReadOptions, **more: Any) -> Request:
        """A request with the options, and more."""
        return cls(**{**{f.name: getattr(options, f.name) for f in fields(ReadOptions)}, **more})

    def words(self) -> list[str]:
        """Which of axes, select and lengths are given."""
        return [name for name in ("axes", "select", "lengths") if getattr(self, name)]


class Reader(ABC):
    """Opens one format; a registered subclass is found by :func:`flowsr.data.open_field`.

    Attributes:
        signs: what the format is recognized by, as a person would say it.
        general: whether another reader that also recognizes the file knows better.
        holds_runs: whether one file may hold several runs.
        takes_words: whether axes, select and lengths may be said of the arrays in the file.
        takes: what a manifest may say in place of the file, of path, axes, coordinates, times and dtype.
    """

    signs: str
    general: bool = False
    holds_runs: bool = False
    takes_words: bool = False
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


def read(path: Path, request: Request) -> xr.Dataset:
    """Open a file or store, not yet validated: a manifest may add what the file leaves out."""
    meet(path)
    chosen, run = READERS[request.reader or recognized(path)], request.run
    one = run is None or chosen.holds_runs
    require(one, "this file is one run", file=path, variable="run", expected="none", found=run)
    words = [] if chosen.takes_words else request.words()
    hint = "the file says it itself" if words else None
    require(
        not words, "not to be said of this format", file=path, variable=", ".join(words), found=chosen.signs, hint=hint
    )
    with one_line(label(path, request.group)):
        dataset = chosen().open(path, request)
    for name, irreps in request.irreps.items():
        if name in dataset.data_vars:
            dataset[name].attrs.setdefault("irreps", irreps)
    dataset = in_one_system(in_order(dataset, path))
    dataset.encoding["source"] = str(path)
    return dataset


def recognized(path: Path) -> str:
    """Name of the reader that recognizes a file.

    Raises:
        FlowsrError: none does, or more than one.
    """
    meet(path)
    names = [name for name, reader in READERS.items() if _fits(reader(), path)]
    names = [name for name in names if not READERS[name].general] or names
    if not names:
        kind = "a folder" if path.is_dir() else f"{path.stat().st_size} bytes of something else"
        raise UnknownFormat("not a format that flowsr reads", file=path, expected=" or ".join(READERS), found=kind)
    message = "more than one reader fits"
    require(len(names) == 1, message, file=path, found=", ".join(names), hint="name the reader")
    return names[0]


def accepting(path: Path) -> str | None:
    """Name of the reader that recognizes a file and lets a manifest say something in place of it, or None."""
    meet(path)
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
    meet(path)
    with one_line(path):
        return READERS[reader or recognized(path)]().runs(path)


def label(path: Path, group: str | None) -> str:
    """What to call a file, or a group inside it, in an error."""
    return str(path / group) if group else str(path)


def missing(kind: str, file, name: object, known: Iterable[str]) -> FlowsrError:
    """There is no such ``kind`` (array, group) in a file, beside those that there are."""
    return FlowsrError(f"no such {kind}", file=file, variable=name, found=", ".join(known) or "nothing")


def plain_value(value):
    """An attribute of a file as Python has it: texts, numbers, lists; text in braces or brackets is JSON."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str) and value[:1] in "{[":
        try:
            return json.loads(value)
        except ValueError:
            return value
    if isinstance(value, np.ndarray) and value.shape == (1,) and value.dtype.kind in "biuf":
        value = value[0]  # NetCDF has no scalar attributes
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, list):
        return [plain_value(v) if isinstance(v, (bytes, str)) else v for v in value]
    return value


def assume(variable: xr.Variable | xr.Dataset, **attrs) -> None:
    """Note attributes that hold unless the file or a manifest declares them.

    VTK, XDMF and OpenFOAM files name no boundaries in our sense, and no parity of a vector.
    """
    variable.encoding[ASSUMED] = attrs


def fill_defaults(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with assumed attributes where it lacks them, and an attribute ``assumed`` that names them."""
    filled = []
    for label, owner in [("", dataset), *((f"{name}.", array) for name, array in dataset.data_vars.items())]:
        for name, value in owner.encoding.get(ASSUMED, {}).items():
            if name not in owner.attrs:
                owner.attrs[name] = value
                filled.append(f"{label}{name} {'/'.join(value) if isinstance(value, list) else value}")
    if filled:
        dataset.attrs[ASSUMED] = ", ".join(filled) + ": the file does not say; a manifest can"
    return dataset
