"""Subgroups, and the Schoenflies name of each, worked out from what its elements do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from flowsr.group.operations import Axis, Operation, axis_family, axis_label


@dataclass(frozen=True)
class Subgroup:
    """A subgroup of O or O_h.

    Args:
        elements: sorted numbers of its elements in the group it is part of.
        schoenflies: symbol of the point group, ``C4v``. Two subgroups that differ in their axes can share it.
        name: the symbol, and where several conjugacy classes share it, the families of axes in parentheses: that of the
            principal axis (of the mirror's normal for Cs), then, after a semicolon, those of the other two-fold axes
            or, where there are none, of the mirrors through the principal axis. ``C2(110)`` turns about a face
            diagonal, ``C2v(100;110)`` has its axis along the grid and its mirrors diagonal, the three axes of
            ``D2(100)`` are those of the grid. All members of a class, and they only, have the same name.
        axis: principal axis; None where there is none (C1, Ci) or where several are alike (the cubic groups, D2(100),
            D2h(100)).
    """

    elements: tuple[int, ...]
    schoenflies: str
    name: str
    axis: Axis | None

    @property
    def order(self) -> int:
        """Number of elements."""
        return len(self.elements)

    @property
    def label(self) -> str:
        """Name and axis, a label of its own for every subgroup: ``C4v [001]``, ``C2v(100;110) [001]``, ``Td``."""
        if self.axis is None:
            return self.name
        return f"{self.name.removesuffix(f'({axis_family(self.axis)})')} {axis_label(self.axis)}"

    def __contains__(self, element: int) -> bool:
        return element in self.elements

    def __le__(self, other: Subgroup) -> bool:
        """True where every element of this one is in ``other``."""
        return set(self.elements) <= set(other.elements)


def subgroup_classes(
    operations: Sequence[Operation], multiplication: np.ndarray, inverse: np.ndarray
) -> tuple[tuple[Subgroup, ...], ...]:
    """All subgroups in conjugacy classes, from the trivial one up to the whole group, sorted by order and name.

    Args:
        operations: what each of the n elements does.
        multiplication: (n, n), [g, h] -> g h.
        inverse: (n,), [g] -> g^-1.
    """
    conjugate = multiplication[multiplication, inverse[:, None]]  # [a, g] -> a g a^-1
    remaining = all_subgroups(multiplication)
    orbits = []
    while remaining:
        seed = list(next(iter(remaining)))
        orbit = {tuple(sorted(row)) for row in conjugate[:, seed].tolist()}
        remaining -= orbit
        orbits.append(sorted(orbit))
    shared = Counter(schoenflies_symbol(_pick(operations, orbit[0])) for orbit in orbits)
    classes = [tuple(_named(elements, operations, shared) for elements in orbit) for orbit in orbits]
    return tuple(sorted(classes, key=lambda members: (members[0].order, members[0].name)))


def all_subgroups(multiplication: np.ndarray) -> set[tuple[int, ...]]:
    """Every subgroup, a sorted tuple of elements each: cyclic ones, joined with cyclic ones until nothing new comes."""
    cyclic = {generated(multiplication, [g]) for g in range(len(multiplication))}
    found, frontier = set(cyclic), set(cyclic)
    while frontier:
        unions = {tuple(sorted({*h, *c})) for h in frontier for c in cyclic}
        frontier = {generated(multiplication, union) for union in unions} - found
        found |= frontier
    return found


def generated(multiplication: np.ndarray, generators: Iterable[int]) -> tuple[int, ...]:
    """The smallest subgroup with these ``generators``, sorted; a finite set closed under products is a group."""
    member = np.zeros(len(multiplication), dtype=bool)
    member[[0, *generators]] = True
    size = 0
    while size < (elements := np.flatnonzero(member)).size:
        size = elements.size
        member[multiplication[elements[:, None], elements]] = True
    return tuple(elements.tolist())


def schoenflies_symbol(operations: Sequence[Operation]) -> str:
    """Schoenflies symbol of the point group made of ``operations``.

    Source of the rules: the flow chart of point groups, e.g. F. A. Cotton, Chemical Applications of Group Theory,
    chapter 3, for groups without five- and six-fold rotations.
    """
    rotations = [o for o in operations if o.determinant == 1]
    improper = {o.symbol for o in operations if o.determinant == -1}
    highest = max(o.order for o in rotations)
    main_axes = {o.axis for o in rotations if o.order == highest}
    if len({o.axis for o in rotations if o.order == 3}) > 1:
        return _cubic_symbol(highest, improper)
    chiral = f"C{highest}" if len(rotations) == highest else f"D{highest}"
    if not improper:
        return chiral
    normals = {o.axis for o in operations if o.symbol.startswith("sigma")}
    if highest == 1:
        return "Cs" if normals else "Ci"
    if main_axes & normals:
        return chiral + "h"
    if normals:
        return chiral + ("v" if chiral.startswith("C") else "d")
    return f"S{2 * highest}"


def _cubic_symbol(highest: int, improper: set[str]) -> str:
    """Groups with several three-fold axes."""
    if highest == 4:
        return "Oh" if improper else "O"
    if not improper:
        return "T"
    return "Th" if "i" in improper else "Td"


def principal_axis(operations: Sequence[Operation]) -> Axis | None:
    """The axis of the highest rotation or rotoreflection, of several the one along the grid; else the mirror's normal.

    None where no single axis is left.
    """
    with_axis = [o for o in operations if o.axis]
    candidates = [o for o in with_axis if not o.symbol.startswith("sigma")] or with_axis
    if not candidates:
        return None
    rank = {o.axis: (-o.order, o.family) for o in sorted(candidates, key=lambda o: o.order)}
    best = [axis for axis in rank if rank[axis] == min(rank.values())]
    return best[0] if len(best) == 1 else None


def axis_families(operations: Sequence[Operation]) -> str:
    """Families of axes that tell apart the classes with one Schoenflies symbol, as ``Subgroup.name`` writes them."""
    principal = principal_axis(operations)
    two_fold = {o.family for o in operations if o.symbol == "C2" and o.axis != principal}
    mirrors = {o.family for o in operations if o.symbol.startswith("sigma") and o.axis != principal}
    parts = (axis_family(principal), ",".join(sorted(two_fold or mirrors)))
    return ";".join(part for part in parts if part)


def _named(elements: tuple[int, ...], operations: Sequence[Operation], shared: Counter[str]) -> Subgroup:
    own = _pick(operations, elements)
    symbol = schoenflies_symbol(own)
    name = f"{symbol}({axis_families(own)})" if shared[symbol] > 1 else symbol
    return Subgroup(elements, symbol, name, principal_axis(own))


def _pick(operations: Sequence[Operation], elements: Iterable[int]) -> list[Operation]:
    return [operations[g] for g in elements]
