"""Real irreducible representations of O, O_h and their subgroups, and the group Fourier matrix they make.

All of them are algebra on the 3 x 3 matrices R. The one-dimensional ones are products of two signs, det R and the sign
of the permutation |R| (R without its signs). The three-dimensional ones are R times such a sign. The two-dimensional
ones are |R|, which permutes x^2, y^2, z^2, seen in the plane orthogonal to x^2 + y^2 + z^2; Eu has det R in front.
Those of a subgroup are what these ten fall apart into (Frobenius: every irrep of a subgroup is in one of the group).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import numpy as np

from flowsr.group.operations import Operation, determinant, permutation_sign
from flowsr.group.subgroups import principal_axis


@dataclass(frozen=True, eq=False)
class Irrep:
    """One irreducible representation over the reals.

    Args:
        name: Mulliken symbol, ``A1g`` ... ``T2u`` (without g and u for O).
        matrices: (n, d, d) float64, orthogonal, ``matrices[g] @ matrices[h] == matrices[g h]``; read-only.
        transforms_like: the simplest quantity that transforms by it, in words: ``yz, a shear``.
    """

    name: str
    matrices: np.ndarray
    transforms_like: str = ""

    @property
    def dimension(self) -> int:
        """d."""
        return int(self.matrices.shape[1])

    @property
    def characters(self) -> np.ndarray:
        """(n,) float64: the trace for every group element, integers for O, O_h and their subgroups."""
        return np.asarray(np.trace(self.matrices, axis1=1, axis2=2).round() + 0.0)

    @property
    def commutant(self) -> int:
        """Dimension of the matrices that commute with it: 1, or 2 for one of complex type, such as E of C4.

        By Schur's lemma it is the mean square of the characters. One of complex type is, over the complex numbers, a
        sum of two conjugate ones; its matrices are turns of a plane, [[a, -b], [b, a]].
        """
        return round(float(self.characters @ self.characters) / len(self.matrices))

    @property
    def copies(self) -> int:
        """How often it is among the functions on the group: d, or d/2 for one of complex type."""
        return self.dimension // self.commutant


# Rows: 2 z^2 - x^2 - y^2 and x^2 - y^2, normalized, as combinations of x^2, y^2, z^2.
E_BASIS = np.array([[-1.0, -1.0, 2.0] / np.sqrt(6.0), [1.0, -1.0, 0.0] / np.sqrt(2.0)])


def irreps_of(matrices: np.ndarray) -> tuple[Irrep, ...]:
    """The irreducible representations of the group of signed permutation matrices ``matrices``.

    Basis functions, in the order of the components: E (2z^2-x^2-y^2, x^2-y^2); T1u (x, y, z); T1g the axial vector
    about (x, y, z); T2g (yz, zx, xy); T2u as T1u with the sign of the permutation.

    Args:
        matrices: (n, 3, 3) int64, all of O or all of O_h.

    Returns:
        A1 A2 E T1 T2 for O; A1g A2g Eg T1g T2g A1u A2u Eu T1u T2u for O_h.
    """
    parity = np.array([determinant(r) for r in matrices], dtype=np.float64)
    if (parity > 0).all():
        return tuple(_irreps_of_parity(matrices, parity, ""))
    even = _irreps_of_parity(matrices, parity, "g")
    odd = _irreps_of_parity(matrices, np.ones_like(parity), "u")
    return (*even, *odd)


def irreps_within(operations: Sequence[Operation]) -> tuple[Irrep, ...]:
    """The irreducible representations over the reals of a point group that is neither O nor O_h.

    Mulliken symbols by his rules (J. Chem. Phys. 23, 1997, 1955): B changes sign under the principal rotation, g and u
    are the parities of groups with an inversion, primes those of Cs. Where rules of his that depend on a choice of
    axes would be needed, irreps of one letter are numbered as they are found, the trivial one first.

    Args:
        operations: the elements, the identity first.

    Returns:
        g before u, and A before B, E and T.
    """
    matrices = np.stack([operation.matrix for operation in operations])
    parity = np.array([operation.determinant for operation in operations], dtype=np.float64)
    restricted = [
        values
        for to_vector in (parity, np.ones_like(parity))
        for values in _representations_of_parity(matrices, to_vector).values()
    ]
    found: list[Irrep] = []
    for representation in restricted:
        for values in _irreducible_parts(representation):
            irrep = Irrep("", values)
            if all(not np.array_equal(irrep.characters, other.characters) for other in found):
                found.append(irrep)
    letters = [_mulliken(irrep.characters, irrep.dimension, operations) for irrep in found]
    order = sorted(range(len(found)), key=lambda i: (letters[i][1] in ("u", "''"), letters[i][0], i))
    shared, named, seen = Counter(letters), [], Counter[tuple[str, str]]()
    for i in order:
        letter, suffix = letters[i]
        seen[letters[i]] += 1
        number = str(seen[letters[i]]) if shared[letters[i]] > 1 else ""
        values = found[i].matrices
        named.append(Irrep(f"{letter}{number}{suffix}", values, simplest_quantity(values, matrices)))
    return tuple(named)


# A symmetric matrix without relations between its entries, and so without any symmetry.
_GENERIC = np.array([[1.0, 0.37, 0.61], [0.37, 2.13, 0.83], [0.61, 0.83, 3.71]])


def _irreducible_parts(representation: np.ndarray) -> Iterator[np.ndarray]:
    """The irreducible parts of a representation (n, D, D) with D up to 3, (n, d, d) each, in orthonormal bases.

    Averaged over the group, a symmetric matrix without symmetry commutes with all elements; its eigenspaces are
    irreducible. That of the first number in the basis comes first.
    """
    size = representation.shape[1]
    average = np.mean(representation @ _GENERIC[:size, :size] @ representation.transpose(0, 2, 1), axis=0)
    values, vectors = np.linalg.eigh(average)
    for value in np.unique(values.round(6)):
        space = vectors[:, np.abs(values - value) < 1e-5]
        basis = orthonormal_columns(space @ space.T, space.shape[1])
        part = basis.T @ representation @ basis
        whole = np.rint(part)
        part = np.where(np.abs(part - whole) < 1e-12, whole + 0.0, part)
        part.setflags(write=False)
        yield part


def _mulliken(characters: np.ndarray, dimension: int, operations: Sequence[Operation]) -> tuple[str, str]:
    """Letter, and g, u or primes, of the irrep with these characters; the number between them is left out."""
    of = {operation.label: character for operation, character in zip(operations, characters, strict=True)}
    mirror_alone = len(operations) == 2 and operations[1].symbol.startswith("sigma")
    suffix = ("g" if of["i"] > 0 else "u") if "i" in of else ""
    if mirror_alone:
        suffix = "'" if characters[1] > 0 else "''"
    if dimension > 1:
        return {2: "E", 3: "T"}[dimension], suffix
    proper = [operation for operation in operations if operation.determinant == 1]
    highest = max(operation.order for operation in proper)
    axes = {operation.axis for operation in proper if operation.order == highest}
    deciding = proper if len(axes) > 1 or highest == 1 else [o for o in proper if o.order == highest]
    if highest == 2 and "i" not in of and any(o.symbol == "S4" for o in operations):
        deciding = [o for o in operations if o.symbol == "S4" and o.axis == principal_axis(operations)]
    return ("A" if all(of[o.label] > 0 for o in deciding) else "B"), suffix


def orthonormal_columns(projector: np.ndarray, rank: int) -> np.ndarray:
    """(D, rank): Gram-Schmidt, longest column first; sparse where the projector is, no sign left to chance."""
    remaining, chosen = projector.copy(), []
    for _ in range(rank):
        lengths = np.linalg.norm(remaining, axis=0).round(9)
        column = remaining[:, lengths.argmax()]
        column = column / np.linalg.norm(column)
        chosen.append(column)
        remaining = remaining - np.outer(column, column @ remaining)
    return np.stack(chosen, axis=1)


def _irreps_of_parity(matrices: np.ndarray, to_vector: np.ndarray, suffix: str) -> Iterator[Irrep]:
    """A1 A2 E T1 T2 of one parity; ``to_vector`` (n,) times R is the three-dimensional T1 of that parity."""
    for name, values in _representations_of_parity(matrices, to_vector).items():
        values.setflags(write=False)
        yield Irrep(name + suffix, values, simplest_quantity(values, matrices))


def _representations_of_parity(matrices: np.ndarray, to_vector: np.ndarray) -> dict[str, np.ndarray]:
    """The matrices (n, d, d) of A1 A2 E T1 T2 of O_h, of one parity, for some or all of its elements."""
    parity = np.array([determinant(r) for r in matrices]) * to_vector
    swap = np.array([permutation_sign(r) for r in matrices])
    by_name: dict[str, np.ndarray] = {
        "A1": parity[:, None, None],
        "A2": (parity * swap)[:, None, None],
        "E": parity[:, None, None] * (E_BASIS @ np.abs(matrices) @ E_BASIS.T),
        "T1": to_vector[:, None, None] * matrices,
        "T2": (to_vector * swap)[:, None, None] * matrices,
    }
    return {name: values.astype(np.float64) for name, values in by_name.items()}


# What polynomials of a degree are called where they fill an irrep of a dimension, and what they are called times det R.
_CALLED = {
    (0, 1): ("a number", "a handedness"),
    (1, 3): ("a polar vector, such as gravity or a mean wind", "an axial vector, such as a rotation rate"),
    (2, 2): ("{}, a difference between the axes", "a handedness that differs between the axes"),
    (2, 3): ("{}, a shear", "a handedness times {}"),
}


def simplest_quantity(representation: np.ndarray, matrices: np.ndarray) -> str:
    """The polynomial in x, y, z of least degree that transforms by an irrep, or that times det R.

    Degree 3 is enough: every irrep of O_h is found among the polynomials up to it and these times a handedness.

    Args:
        representation: (n, d, d), the irrep.
        matrices: (n, 3, 3), the group's elements.
    """
    parity = np.array([determinant(r) for r in matrices], dtype=np.float64)
    for kind, sign in enumerate((np.ones_like(parity), parity)):
        for degree in range(4):
            found = _projected(sign[:, None, None] * representation, matrices, degree)
            if found:
                called = _CALLED.get((degree, representation.shape[1]), ("{}", "a handedness times {}"))
                return called[kind].format(found)
    raise ValueError("not an irrep of O or O_h")


def _projected(representation: np.ndarray, matrices: np.ndarray, degree: int) -> str:
    """The shortest polynomial of a degree in the span of an irrep; empty where there is none.

    P_ii = (d/n) sum_g rho_ii(g) D(g), with D the ``degree``-fold tensor product; a tensor's entries, summed over the
    orders of their indices, are the coefficients of its polynomial. Source: J.-P. Serre, Linear Representations of
    Finite Groups, section 2.7.
    """
    action = np.ones((len(matrices), 1, 1))
    for _ in range(degree):
        action = np.einsum("gab,gcd->gacbd", action, matrices).reshape(len(matrices), 3 * action.shape[1], -1)
    monomials = list(combinations_with_replacement(range(3), degree))
    entries = [tuple(sorted(indices)) for indices in product(range(3), repeat=degree)]
    coefficient = np.array([[float(entry == monomial) for entry in entries] for monomial in monomials])
    projectors = np.einsum("gii,gab->iab", representation, action) * representation.shape[1] / len(matrices)
    columns = [
        column for projector in coefficient @ projectors for column in projector.T if np.abs(column).max() > 1e-9
    ]
    if not columns:
        return ""
    shortest = min(columns, key=lambda column: np.count_nonzero(column.round(9)))
    return _written(shortest / shortest[np.flatnonzero(shortest.round(9))[0]], monomials)


def _written(coefficients: np.ndarray, monomials: list[tuple[int, ...]]) -> str:
    """``xy² - xz²`` of coefficients that are whole numbers."""
    terms = []
    for coefficient, monomial in zip(coefficients.round().astype(int), monomials):
        if coefficient:
            powers = ((axis, monomial.count(axis)) for axis in range(3))
            letters = "".join("xyz"[axis] + ("", "", "²", "³")[power] for axis, power in powers if power)
            size = "" if abs(coefficient) == 1 and letters else str(abs(coefficient))
            terms.append(f"{'−' if coefficient < 0 else '+'} {size}{letters}")
    return " ".join(terms).removeprefix("+ ")


def fourier_matrix(irreps: tuple[Irrep, ...]) -> np.ndarray:
    """The orthogonal group Fourier transform: ``f_hat = F @ f`` for a function f on the group.

    Row (irrep, i, j), in C order within each irrep, holds sqrt(d/n) rho_ij(g); column g. Orthogonality of the rows is
    Schur's; there are sum d^2 = n of them. Of an irrep of complex type, whose second row repeats the first, only i = 0
    has rows. Left translation (L_a f)(g) = f(a^-1 g) becomes F L_a F^T = the blocks
    rho(a) (x) 1_d. Source: J.-P. Serre, Linear Representations of Finite Groups, section 2.2, corollary 3, and 2.4.

    Returns:
        (n, n) float64, read-only.
    """
    rows = []
    for irrep in irreps:
        n, d, _ = irrep.matrices.shape
        rows.append(np.sqrt(d / n) * irrep.matrices[:, : irrep.copies].reshape(n, irrep.copies * d).T)
    matrix = np.concatenate(rows)
    matrix.setflags(write=False)
    return matrix
