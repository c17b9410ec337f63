"""Arrays that are read when they are used, and arrays made of such: axes reordered, parts stacked or mixed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing  # private by name, and what xarray tells writers of backends to use

from flowsr.errors import FlowsrError, require, unreadable

Index = tuple[int | slice, ...]
# One chunk is unpacked in memory whole, whatever part of it is wanted.
LARGEST_CHUNK = 1 << 31


@contextmanager
def one_line(file, variable: str | None = None) -> Iterator[None]:
    """Whatever a damaged file makes its library trip over in here is one line."""
    try:
        yield
    except (FlowsrError, MemoryError):
        raise
    except Exception as error:
        raise unreadable(error, file, variable) from error


class LazyArray(BackendArray):
    """An array that exists only on demand; picklable as long as its subclass holds no open handle.

    Args:
        dtype: of the file; values come back in native byte order.
        file, variable: what to name in an error.
    """

    def __init__(self, shape, dtype, file, variable: str):
        self.shape = tuple(int(n) for n in shape)
        dtype = np.dtype(dtype)
        self.dtype = dtype.newbyteorder("=") if dtype.kind in "fiuc" else dtype
        self.file, self.variable = file, variable

    @abstractmethod
    def load(self, index: Index) -> np.ndarray:
        """The values at ``index``: an integer, or a slice of positive step that is not empty, an axis."""

    def as_variable(self, dims, attrs=None) -> xr.Variable:
        """An xarray variable that reads from this array and keeps nothing of what it read."""
        return xr.Variable(dims, indexing.LazilyIndexedArray(self), attrs)

    def __getitem__(self, key):
        found = indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._gather)
        turned = any(stride < 0 for stride in np.asarray(found).strides)  # an axis that is flipped: torch takes none
        return np.ascontiguousarray(found) if turned else found

    def _gather(self, index: tuple[int | slice | np.ndarray, ...]) -> np.ndarray:
        """The values at integers, slices and rising lists of numbers, a list read as two stretches at most.

        Cells of a periodic box that lie about its seam are so read as eight boxes, and not with all between them.
        """
        if not any(isinstance(chosen, np.ndarray) for chosen in index):
            return self.read(index)
        lists = [
            range(n)[c] if isinstance(c, slice) else c for n, c in zip(self.shape, index) if not isinstance(c, int)
        ]
        out = np.empty([len(cells) for cells in lists], self.dtype)
        for stretches in product(*map(_stretches, index)):
            values = self.read(tuple(source for source, _, _ in stretches))
            kept = [(inside, to) for source, inside, to in stretches if isinstance(source, slice)]
            for axis, (inside, _) in enumerate(kept):
                values = values if inside is None else values.take(inside, axis)
            out[tuple(to for _, to in kept)] = values
        return out

    def read(self, index: Index | None = None) -> np.ndarray:
        """The values at ``index``, or all of them.

        Raises:
            FlowsrError: bytes that the format's library cannot make sense of.
        """
        index = (slice(None),) * len(self.shape) if index is None else index
        shape = [len(range(n)[part]) for n, part in zip(self.shape, index) if isinstance(part, slice)]
        with one_line(self.file, self.variable), np.errstate(all="ignore"):
            return np.asarray(self.load(index) if all(shape) else np.empty(shape), dtype=self.dtype)


def _stretches(chosen: int | slice | np.ndarray) -> list[tuple[int | slice, np.ndarray | None, slice]]:
    """Which cells to read at once, which of these are wanted (None: all), where they go; a list parts at its gap."""
    if not isinstance(chosen, np.ndarray):
        return [(chosen, None, slice(None))]
    gaps = np.diff(chosen)
    widest = int(np.argmax(gaps)) + 1 if len(gaps) and gaps.max() > 1 else len(chosen)
    found = []
    for start, part in ((0, chosen[:widest]), (widest, chosen[widest:])):
        if len(part):
            first, stop = int(part[0]), int(part[-1]) + 1
            inside = None if len(part) == stop - first and (np.diff(part) == 1).all() else part - first
            found.append((slice(first, stop), inside, slice(start, start + len(part))))
    return found


def check_chunk(chunk, dtype, shape, file, variable: str) -> None:
    """Refuse an array stored in pieces too large to be unpacked; a few bytes on the disk may claim any size.

    Raises:
        FlowsrError: a chunk of more than ``LARGEST_CHUNK`` bytes.
    """
    size = np.dtype(dtype).itemsize * int(np.prod(chunk or (), dtype=object))
    found = f"{size} bytes, chunks {chunk} of shape {tuple(shape)}"
    expected = f"{LARGEST_CHUNK} bytes or less"
    message = "chunks too large to be unpacked"
    require(size <= LARGEST_CHUNK, message, file=file, variable=variable, expected=expected, found=found)


class FromVariable(LazyArray):
    """An xarray variable as a lazy array."""

    def __init__(self, variable: xr.Variable, file, name: str):
        super().__init__(variable.shape, variable.dtype, file, name)
        self.source = variable

    def load(self, index):
        return self.source[index].values


class View(LazyArray):
    """An array with its axes named, in another order; axes that it lacks repeat, axes that are not wanted are fixed.

    Args:
        source: the array.
        axes: its axes' names, in its own order.
        wanted: names and lengths of the view's axes, in order; one that ``axes`` lacks repeats the same values.
        fixed: index along each axis of the source that is not wanted.

    Raises:
        ValueError: an axis of another length than is wanted, or one that is neither wanted nor fixed.
    """

    def __init__(
        self, source: LazyArray, axes: Sequence[str], wanted: dict[str, int], fixed: dict[str, int] | None = None
    ):
        super().__init__(wanted.values(), source.dtype, source.file, source.variable)
        self.source, self.axes, self.wanted, self.fixed = source, tuple(axes), tuple(wanted), dict(fixed or {})
        for name, length in zip(self.axes, source.shape, strict=True):
            if name not in self.fixed and wanted.get(name) != length:
                raise ValueError(f"axis {name} has {length} entries, wanted {wanted.get(name)}")
            if name in self.fixed and not 0 <= self.fixed[name] < length:
                raise ValueError(f"axis {name} has {length} entries, wanted number {self.fixed[name]}")

    def load(self, index: Index) -> np.ndarray:
        # The source is asked in its own axes: a fixed axis at its one place, any other at what is asked of the view.
        asked = dict(zip(self.wanted, index))
        values = self.source.load(tuple(self.fixed[n] if n in self.fixed else asked[n] for n in self.axes))
        # Axes at an integer are gone from the values: ``left`` names those that are there, in the source's order, and
        # ``kept`` those that the answer has, in the view's.
        left = [name for name in self.axes if name not in self.fixed and isinstance(asked[name], slice)]
        kept = [name for name in self.wanted if isinstance(asked[name], slice)]
        values = values.transpose([left.index(name) for name in kept if name in left])
        # An axis that the source lacks is put in with length 1, then repeated as often as is asked.
        values = np.expand_dims(values, [n for n, name in enumerate(kept) if name not in left])
        lengths = dict(zip(self.wanted, self.shape))
        return np.broadcast_to(values, [len(range(lengths[name])[asked[name]]) for name in kept])


def _alike(parts: Sequence[LazyArray], shapes) -> np.dtype:
    """The dtype that holds all of some arrays.

    Raises:
        ValueError: shapes that differ.
    """
    if len(set(shapes)) != 1:
        raise ValueError(f"arrays of different shapes: {', '.join(str(part.shape) for part in parts)}")
    return np.result_type(*(part.dtype for part in parts))


class Stack(LazyArray):
    """Equal arrays side by side along a new axis.

    Args:
        axis: where the new axis goes.

    Raises:
        ValueError: arrays that differ in shape.
    """

    def __init__(self, parts: Sequence[LazyArray], axis: int):
        first, dtype = parts[0], _alike(parts, [part.shape for part in parts])
        super().__init__((*first.shape[:axis], len(parts), *first.shape[axis:]), dtype, first.file, first.variable)
        self.parts, self.axis = list(parts), axis

    def load(self, index: Index) -> np.ndarray:
        before, chosen, after = index[: self.axis], index[self.axis], index[self.axis + 1 :]
        if not isinstance(chosen, slice):
            return self.parts[chosen].load((*before, *after))
        place = sum(isinstance(part, slice) for part in before)
        return np.stack([part.load((*before, *after)) for part in self.parts[chosen]], axis=place)


class Join(LazyArray):
    """Arrays one after the other along their first axis, such as consecutive snapshots in several files.

    Raises:
        ValueError: arrays that differ in more than the length of the first axis.
    """

    def __init__(self, parts: Sequence[LazyArray]):
        first, dtype = parts[0], _alike(parts, [part.shape[1:] for part in parts])
        super().__init__((sum(p.shape[0] for p in parts), *first.shape[1:]), dtype, first.file, first.variable)
        self.places = [(part, number) for part in parts for number in range(part.shape[0])]

    def load(self, index: Index) -> np.ndarray:
        if isinstance(index[0], slice):
            return np.stack([part.load((number, *index[1:])) for part, number in self.places[index[0]]])
        part, number = self.places[index[0]]
        return part.load((number, *index[1:]))


class Centred(LazyArray):
    """Values on faces averaged to the centres between neighbours along one axis; behind the last face is the first.

    Args:
        first: the face before the first centre.
        count: number of centres.
    """

    def __init__(self, source: LazyArray, axis: int, first: int, count: int):
        shape = (*source.shape[:axis], count, *source.shape[axis + 1 :])
        super().__init__(shape, source.dtype, source.file, source.variable)
        self.source, self.axis, self.first = source, axis, first

    def load(self, index: Index) -> np.ndarray:
        chosen = range(self.shape[self.axis])[index[self.axis]]
        if isinstance(chosen, int):
            below, above = (self._faces(index, self.first + chosen + shift) for shift in (0, 1))
        else:
            start, stop = self.first + chosen[0], self.first + chosen[-1] + 2
            count, place = self.source.shape[self.axis], sum(isinstance(part, slice) for part in index[: self.axis])
            faces = self._faces(index, slice(start, min(stop, count)))
            if stop > count:
                faces = np.concatenate([faces, self._faces(index, slice(0, stop - count))], axis=place)
            lower = np.arange(len(range(start, stop - 1)))[:: chosen.step]
            below, above = faces.take(lower, axis=place), faces.take(lower + 1, axis=place)
        return (below + above) * self.dtype.type(0.5)

    def _faces(self, index: Index, part: int | slice) -> np.ndarray:
        part = part % self.source.shape[self.axis] if isinstance(part, int) else part
        return self.source.load((*index[: self.axis], part, *index[self.axis + 1 :]))


class Mixed(LazyArray):
    """Linear combinations of an array's components: Cartesian tensor components as those of irreps.

    Args:
        source: (time, component, x, y, z).
        matrix: (new, component).
    """

    def __init__(self, source: LazyArray, matrix: np.ndarray):
        shape = (source.shape[0], len(matrix), *source.shape[2:])
        super().__init__(shape, source.dtype, source.file, source.variable)
        self.source, self.matrix = source, matrix

    def load(self, index: Index) -> np.ndarray:
        values = self.source.load((index[0], slice(None), *index[2:]))
        place = int(isinstance(index[0], slice))
        mixed = np.tensordot(self.matrix[index[1]], values, axes=(-1, place))
        return np.moveaxis(mixed, 0, place) if isinstance(index[1], slice) else mixed
