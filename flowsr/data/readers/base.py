"""What a reader is, how one is found for a file, and how the arrays in a file become a dataset.

To add a format, subclass :class:`Reader` with ``recognizes(path)`` and ``open(path, request)``, and either decorate it
with ``@READERS.register("name")`` or name it in the entry-point group ``flowsr.readers`` of a package. ``open`` returns
a dataset in the layout of :mod:`flowsr.data.field`, its fields as :class:`flowsr.data.readers.lazy.LazyArray`;
:func:`assemble` makes one of named arrays, :func:`assume` notes what the format has no place for. The caller validates.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import permutations
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import xarray as xr

from flowsr.data.field import SCALAR_DIMS, SERIES_DIMS, VECTOR_DIMS
from flowsr.data.readers.lazy import LazyArray, View, one_line
from flowsr.data.readers.meeting import meet
from flowsr.data.readers.order import in_order
from flowsr.data.readers.words import other
from flowsr.errors import BadValue, FlowsrError, require
from flowsr.registry import Registry

# A coordinate is read at once; one longer than this is no axis of a simulation but a mistake or an attack.
LONGEST_COORDINATE = 1 << 24
COORDINATES = VECTOR_DIMS

Boundary = Literal["periodic", "wall", "open"]


@dataclass(frozen=True)
class ReadOptions:
    """How a file is to be read: what is taken of it, and what it leaves unsaid. The same words everywhere.

    Raises:
        ValueError: a box without length, a boundary of another kind, or a range of snapshots that is none.
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
        snapshots(self.time)

    def declared(self) -> dict[str, Any]:
        """What differs from the defaults, by name, as JSON has it."""
        return {f.name: v for f in fields(ReadOptions) if (v := asdict(self)[f.name]) not in (None, {}, "refuse")}


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
    """

    layout: Mapping[str, Any] | None = None

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
    dataset = in_order(dataset, path)
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
        raise FlowsrError("not a format that flowsr reads", file=path, expected=" or ".join(READERS), found=kind)
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


@dataclass(frozen=True)
class Found:
    """An array in a file, before anything is known of its meaning.

    Args:
        dims: its dims as the file names them, or ``None`` where the file is silent.
    """

    array: LazyArray
    dims: tuple[str, ...] | None
    attrs: dict = field(default_factory=dict)


def assemble(found: Mapping[str, Found], attrs: dict, file) -> xr.Dataset:
    """A dataset from the arrays of a file; coordinates are read, fields are not.

    Unnamed dims follow from the lengths of the coordinates where only one order is possible, and are left in
    theirs; named ones are put in flowsr's.

    Raises:
        FlowsrError: lengths that disagree with the coordinates, dims that more than one order would fit, a coordinate
            that is not one-dimensional.
    """
    coords = {name: read_coordinate(name, found[name].array, file) for name in COORDINATES if name in found}
    lengths = {name: len(values) for name, values in coords.items()}
    variables = {}
    for name, item in found.items():
        if name not in coords:
            dims = _dims_by_length(name, item, lengths, file) if item.dims is None else item.dims
            array, shape, where = item.array, item.array.shape, {"file": file, "variable": name}
            require(len(dims) == len(shape), "number of dims", **where, expected=f"{len(shape)} names", found=dims)
            wanted = {dim: lengths.get(dim, n) for dim, n in zip(dims, shape)}
            agree = shape == tuple(lengths.get(dim, n) for dim, n in zip(dims, shape))
            require(agree, "shape and coordinates disagree", **where, expected=wanted, found=shape)
            order = dims if item.dims is None else _ordered(dims)
            if order != dims:
                array = View(array, dims, {dim: wanted[dim] for dim in order})
            variables[name] = array.as_variable(order, other(item.attrs))
    coordinates = {name: xr.Variable((name,), values, other(found[name].attrs)) for name, values in coords.items()}
    return xr.Dataset(variables, coords=coordinates, attrs=attrs)


def _ordered(dims: tuple[str, ...]) -> tuple[str, ...]:
    """The dims of a field in flowsr's order, whatever order the file has them in; others as they are."""
    component = [dim for dim in dims if dim not in SCALAR_DIMS]
    if not (set(SCALAR_DIMS) <= set(dims) and len(set(dims)) == len(dims) <= len(VECTOR_DIMS)):
        return dims
    return (SCALAR_DIMS[0], *component, *SCALAR_DIMS[1:])


def read_coordinate(name: str, array: LazyArray, file) -> np.ndarray:
    """The values of a coordinate.

    Raises:
        FlowsrError: an array with other than one dim, or one too long for an axis of a simulation.
    """
    shape, where = array.shape, {"file": file, "variable": name}
    require(len(shape) == 1, "a coordinate has one dim", **where, expected=f"{name}({name})", found=shape)
    expected = f"<= {LONGEST_COORDINATE}"
    short, message = shape[0] <= LONGEST_COORDINATE, "a coordinate too long to be true"
    require(short, message, **where, expected=expected, found=shape[0])
    values = array.read()
    if values.dtype.kind in "OST":
        values = np.array([v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values], dtype="U")
    return values


def _dims_by_length(name: str, item: Found, lengths: dict[str, int], file) -> tuple[str, ...]:
    shape = item.array.shape
    candidates = {1: SERIES_DIMS, 4: SCALAR_DIMS, 5: VECTOR_DIMS}.get(len(shape), ())
    told = candidates and all(d in lengths for d in candidates if d != "component")
    message = "dims are not named, and coordinates are missing that would tell them"
    expected = f"dims {SCALAR_DIMS} or {VECTOR_DIMS} with their coordinates"
    require(told, message, file=file, variable=name, expected=expected, found=f"shape {shape}")
    fitting = [p for p in permutations(candidates) if all(lengths.get(d, n) == n for d, n in zip(p, shape))]
    message, found = "the order of the axes is ambiguous", f"shape {shape}, which fits {len(fitting)} orders"
    expected = "named dims (Zarr dimension_names, HDF5 dimension labels)"
    require(len(fitting) <= 1, message, file=file, variable=name, expected=expected, found=found)
    return fitting[0] if fitting else candidates


#: Where a reader notes what it assumes, in the encoding of a dataset or variable; and the attribute that says what was.
ASSUMED = "assumed"


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
