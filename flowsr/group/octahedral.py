"""The octahedral groups O (24 rotations of the cube) and O_h (all 48 symmetries), and every point group within them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import ArrayLike

from flowsr.errors import BadValue, FlowsrError
from flowsr.group.irreps import Irrep, fourier_matrix, irreps_of, irreps_within
from flowsr.group.operations import Operation, signed_permutation_matrices
from flowsr.group.subgroups import Subgroup, generated, subgroup_classes

OCTAHEDRAL = ("O", "Oh")

# The order in which character tables print the classes: (symbol of the operation, family of its axis).
CLASS_ORDER = (
    ("E", ""),
    ("C3", "111"),
    ("C2", "110"),
    ("C4", "100"),
    ("C2", "100"),
    ("i", ""),
    ("S4", "100"),
    ("S6", "111"),
    ("sigma_h", "100"),
    ("sigma_d", "110"),
)


@dataclass(frozen=True, eq=False, repr=False)
class PointGroup:
    """A group of signed permutation matrices: O_h, O or another subgroup of it, as tables of integers.

    Get one from :func:`point_group`; copies and unpickled ones are that same object.

    Elements are numbered 0 to n - 1, and every table is indexed by these numbers. Element 0 is the identity.

    Args:
        name: ``O``, ``Oh`` or the label of another subgroup of O_h, ``C4v [001]``.
        matrices: (n, 3, 3) int64, read-only.
        order: number of elements n. A number of its own: torch.compile would make writable what it counts.
    """

    name: str
    matrices: np.ndarray
    order: int

    def __repr__(self) -> str:
        return f"{'octahedral' if self.name in OCTAHEDRAL else 'point'}_group({self.name!r})"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return point_group, (self.name,)

    @cached_property
    def _index(self) -> dict[bytes, int]:
        return {matrix.tobytes(): g for g, matrix in enumerate(self.matrices)}

    def index(self, matrix: ArrayLike) -> int:
        """Number of the element with this matrix.

        Args:
            matrix: (3, 3), integers or floats that are integers.

        Raises:
            ValueError: a matrix that is not in the group.
        """
        wanted = np.asarray(matrix)
        key = np.ascontiguousarray(np.rint(wanted), dtype=np.int64)
        if key.shape != (3, 3) or not np.array_equal(key, wanted) or key.tobytes() not in self._index:
            raise ValueError(f"not an element of {self.name}: {wanted.tolist()}")
        return self._index[key.tobytes()]

    @cached_property
    def multiplication(self) -> np.ndarray:
        """(n, n) int64: [g, h] is the number of g h (first h, then g)."""
        products = np.einsum("gij,hjk->ghik", self.matrices, self.matrices)
        return _frozen([[self._index[gh.tobytes()] for gh in row] for row in products])

    @cached_property
    def inverse(self) -> np.ndarray:
        """(n,) int64: [g] is the number of g^-1."""
        return _frozen(np.argwhere(self.multiplication == 0)[:, 1])

    @cached_property
    def left_quotient(self) -> np.ndarray:
        """(n, n) int64: [g, h] is the number of g^-1 h."""
        return _frozen(self.multiplication[self.inverse])

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """What every element does: symbol, order, axis, label."""
        return tuple(Operation.of(matrix) for matrix in self.matrices)

    @cached_property
    def classes(self) -> tuple[tuple[int, ...], ...]:
        """Conjugacy classes, each a sorted tuple of element numbers, in the order of printed character tables."""
        conjugates = self.multiplication[self.multiplication, self.inverse[:, None]]  # [a, g] -> a g a^-1
        found = {tuple(sorted({int(g) for g in conjugates[:, g]})) for g in range(self.order)}
        return tuple(sorted(found, key=lambda members: (CLASS_ORDER.index(self._class_key(members)), members)))

    def _class_key(self, members: tuple[int, ...]) -> tuple[str, str]:
        operation = self.operations[members[0]]
        return operation.symbol, operation.family

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """``E``, ``8C3``, ... one for each class: how many elements, and what they do, with an axis if two do it."""
        keys = [(len(members), self.operations[members[0]].symbol) for members in self.classes]
        return tuple(
            (str(key[0]) if key[0] > 1 else "") + (key[1] if keys.count(key) == 1 else self.operations[first].label)
            for key, (first, *_) in zip(keys, self.classes, strict=True)
        )

    @cached_property
    def irreps(self) -> tuple[Irrep, ...]:
        """Real orthogonal irreducible representations, A1 A2 E T1 T2 (O_h: with g, then with u), the trivial one first.

        Real ones of complex type, such as E of C4, count as one of dimension 2.
        """
        return irreps_of(self.matrices) if self.name in OCTAHEDRAL else irreps_within(self.operations)

    def irrep(self, name: str) -> Irrep:
        """The irreducible representation of that name.

        Raises:
            KeyError: a name that is not one of the group's.
        """
        by_name = {irrep.name: irrep for irrep in self.irreps}
        if name not in by_name:
            raise KeyError(f"{self.name} has no irrep {name!r}, only {', '.join(by_name)}")
        return by_name[name]

    @cached_property
    def characters(self) -> np.ndarray:
        """(irreps, classes) float64: the character table."""
        return _frozen([irrep.characters[[members[0] for members in self.classes]] for irrep in self.irreps])

    @cached_property
    def subgroup_classes(self) -> tuple[tuple[Subgroup, ...], ...]:
        """Conjugacy classes of subgroups, by order and name: 11 for O, 33 for O_h."""
        return subgroup_classes(self.operations, self.multiplication, self.inverse)

    @cached_property
    def subgroups(self) -> tuple[Subgroup, ...]:
        """All subgroups, class after class: 30 of O, 98 of O_h."""
        return tuple(subgroup for members in self.subgroup_classes for subgroup in members)

    @cached_property
    def _subgroup_of_elements(self) -> dict[tuple[int, ...], Subgroup]:
        return {subgroup.elements: subgroup for subgroup in self.subgroups}

    def subgroup(self, elements: Iterable[int]) -> Subgroup:
        """The subgroup made of exactly these elements.

        Raises:
            ValueError: elements that are not a subgroup.
        """
        key = tuple(sorted({int(g) for g in elements}))
        if key not in self._subgroup_of_elements:
            raise ValueError(f"these elements of {self.name} are not a subgroup: {key}")
        return self._subgroup_of_elements[key]

    def generate(self, generators: Iterable[int]) -> Subgroup:
        """The smallest subgroup that contains ``generators``."""
        return self.subgroup(generated(self.multiplication, generators))

    def stabilizer(self, representation: str | np.ndarray, vector: ArrayLike, tolerance: float = 1e-9) -> Subgroup:
        """The elements that leave a vector as it is.

        Args:
            representation: name of an irrep, or the (n, D, D) matrices of any representation.
            vector: (D,), or (D, m) for m vectors that must all stay.
            tolerance: how far the vector may move, relative to its length.

        Raises:
            ValueError: a tolerance so wide that the elements within it are not a subgroup.
        """
        matrices = self.irrep(representation).matrices if isinstance(representation, str) else representation
        vector = np.asarray(vector, dtype=np.float64).reshape(matrices.shape[1], -1)
        moved = np.linalg.norm(matrices @ vector - vector, axis=(1, 2))
        return self.subgroup(np.flatnonzero(moved <= tolerance * np.linalg.norm(vector)))

    @cached_property
    def fourier(self) -> np.ndarray:
        """(n, n) float64, orthogonal: see :func:`flowsr.group.irreps.fourier_matrix`."""
        return fourier_matrix(self.irreps)


@lru_cache
def octahedral_group(name: str) -> PointGroup:
    """The group ``O`` (24 elements) or ``Oh`` (48 elements); always the same object.

    Raises:
        FlowsrError: another name.
    """
    if name not in OCTAHEDRAL:
        raise FlowsrError("unknown group", variable="group", expected="O or Oh", found=repr(name))
    matrices = signed_permutation_matrices()
    order = len(matrices) if name == "Oh" else len(matrices) // 2
    return PointGroup(name, _frozen(matrices[:order]), order)


def point_group(name: str, variable: str = "group") -> PointGroup:
    """O, O_h or any other of the 98 subgroups of O_h; always the same object.

    Args:
        name: ``O``, ``Oh``, or a :attr:`~flowsr.group.Subgroup.label`, with or without blanks: ``C4v [001]``,
            ``C2v(100;100)[100]``; the name alone where no other subgroup has it: ``Td``.
        variable: the setting that it is from, for messages.

    Raises:
        BadValue: another name, or one that several subgroups share.
    """
    if name in OCTAHEDRAL:
        return octahedral_group(name)
    wanted = "".join(str(name).split())
    subgroups = octahedral_group("Oh").subgroups
    found = [s for s in subgroups if s.label.replace(" ", "") == wanted]
    found = found or [s for s in subgroups if wanted in (s.name, s.schoenflies)]
    if len(found) != 1:
        near = found or [s for s in subgroups if s.schoenflies == wanted.partition("[")[0].partition("(")[0]]
        raise BadValue(
            "several subgroups have this name" if found else "unknown group",
            variable=variable,
            expected=" or ".join(s.label for s in near) or "O, Oh or a subgroup of Oh, such as C4v [001]",
            found=repr(name),
        )
    return _within(found[0].label)


@lru_cache
def _within(label: str) -> PointGroup:
    """The subgroup of O_h with a label, its elements in the order that they have there."""
    if label in OCTAHEDRAL:
        return octahedral_group(label)
    whole = octahedral_group("Oh")
    (subgroup,) = (subgroup for subgroup in whole.subgroups if subgroup.label == label)
    return PointGroup(label, _frozen(whole.matrices[list(subgroup.elements)]), subgroup.order)


def _frozen(values: ArrayLike) -> np.ndarray:
    array = np.array(values)
    array.setflags(write=False)
    return array
