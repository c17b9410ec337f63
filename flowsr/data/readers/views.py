"""Lazy arrays made of lazy arrays: axes reordered, fixed or repeated, arrays stacked or joined, components mixed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowsr.data.readers.lazy import LazyArray

Index = tuple[int | slice, ...]


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
        asked = dict(zip(self.wanted, index))
        values = self.source.load(tuple(self.fixed.get(name, asked.get(name)) for name in self.axes))
        left = [name for name in self.axes if name not in self.fixed and isinstance(asked[name], slice)]
        kept = [name for name in self.wanted if isinstance(asked[name], slice)]
        values = values.transpose([left.index(name) for name in kept if name in left])
        shape = [values.shape[[k for k in kept if k in left].index(name)] if name in left else 1 for name in kept]
        lengths = dict(zip(self.wanted, self.shape))
        full = [n if name in left else len(range(lengths[name])[asked[name]]) for n, name in zip(shape, kept)]
        return np.broadcast_to(values.reshape(shape), full)


class Stack(LazyArray):
    """Equal arrays side by side along a new axis.

    Args:
        parts: arrays of one shape.
        axis: where the new axis goes.

    Raises:
        ValueError: arrays that differ in shape.
    """

    def __init__(self, parts: Sequence[LazyArray], axis: int):
        first = parts[0]
        if any(part.shape != first.shape for part in parts):
            raise ValueError(f"arrays of different shapes: {', '.join(str(part.shape) for part in parts)}")
        dtype = np.result_type(*(part.dtype for part in parts))
        super().__init__((*first.shape[:axis], len(parts), *first.shape[axis:]), dtype, first.file, first.variable)
        self.parts, self.axis = list(parts), axis

    def load(self, index: Index) -> np.ndarray:
        rest = (*index[: self.axis], *index[self.axis + 1 :])
        number = index[self.axis]
        if not isinstance(number, slice):
            return self.parts[number].load(rest)
        chosen = self.parts[number]
        if not chosen:
            shape = [len(range(n)[s]) for n, s in zip(self.shape, index) if isinstance(s, slice)]
            return np.empty(shape, self.dtype)
        place = sum(isinstance(s, slice) for s in index[: self.axis])
        return np.stack([part.load(rest) for part in chosen], axis=place)


class Join(LazyArray):
    """Arrays one after the other along their first axis, such as consecutive snapshots in several files.

    Raises:
        ValueError: arrays that differ in more than the length of the first axis.
    """

    def __init__(self, parts: Sequence[LazyArray]):
        first = parts[0]
        if any(part.shape[1:] != first.shape[1:] for part in parts):
            raise ValueError(f"arrays of different shapes: {', '.join(str(part.shape) for part in parts)}")
        dtype = np.result_type(*(part.dtype for part in parts))
        super().__init__((sum(p.shape[0] for p in parts), *first.shape[1:]), dtype, first.file, first.variable)
        self.places = [(part, number) for part in parts for number in range(part.shape[0])]

    def load(self, index: Index) -> np.ndarray:
        if not isinstance(index[0], slice):
            part, number = self.places[index[0]]
            return part.load((number, *index[1:]))
        loaded = [part.load((number, *index[1:])) for part, number in self.places[index[0]]]
        if loaded:
            return np.stack(loaded)
        return np.empty([len(range(n)[s]) for n, s in zip(self.shape, index) if isinstance(s, slice)], self.dtype)


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
