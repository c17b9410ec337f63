"""The group convolution in the characters of the reflections: the form that the Triton kernels compute.

Let K be the diagonal matrices of G, which only change the signs of coordinates: 8 of the 48 elements of O_h (the
reflections and what they make), 4 of the 24 of O. K is abelian and normal, and G is the union of six cosets K p (of
fewer for a subgroup, one for each permutation of the axes that it has). Its characters chi(k) = product of the signs
k_i over some of the three axes are +1 or -1, so transforming over K takes additions only:

    f^_chi(x, p) = sum_k chi(k) f(x, k p),          f(x, k p) = 1/|K| sum_chi chi(k) f^_chi(x, p).

Shifts are taken in combinations of definite parity as well. Along each axis f is taken in place, or as the sum or the
difference f(x + m) +- f(x - m) of two neighbours, m = 1 ... k // 2. Such a combination b = (b_1, b_2, b_3) is even or
odd along each axis; chi_b is the product over its odd axes. Inserting both into the convolution
f'(x, g) = sum_y sum_h psi(g^-1 y, g^-1 h) f(x + y, h) leaves, because K only changes the sign of an odd combination,

    f'^_chi(x, p) = |K| sum_b sum_q  W_chi,b[q, p] (b f^_(chi chi_b))(x, q)
    W_chi,b[q, p] = 1/|K| sum_v M_bv sum_k (chi chi_b)(k) psi(p^-1 v, p^-1 k q),

where M_bv is the product over axes of 1 (in place), 1/2 (sum) or +-1/2 (difference). For every chi and b that is one
matrix product of 6 C_in by 6 C_out: 36 |K| multiply-adds per channel pair and tap, 288 instead of 2304 for O_h and 144
instead of 576 for O. The full group Fourier transform needs 128 and 64, but its products are d C wide (d = 1, 2, 3)
where these are 6 C wide, and every tap costs it a 48 x 48 transform where this costs additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import product

import numpy as np
import torch
from torch import Tensor

from flowsr.grid import triple
from flowsr.group.fields import tap_permutation
from flowsr.group.octahedral import PointGroup, point_group

CLASSES = 8  # parities of a combination of shifts: bit i set where it is odd along axis i


@dataclass(frozen=True, eq=False)
class Combination:
    """A combination of shifted copies of a field: along every axis in place, or a sum or difference of two neighbours.

    Args:
        parity: bit i set where it is odd (a difference) along axis i.
        reach: m along x, y, z; 0 for in place.
    """

    parity: int
    reach: tuple[int, int, int]

    @property
    def signs(self) -> tuple[int, int, int]:
        """Sign of the second neighbour along x, y, z."""
        return triple(-1 if self.parity >> axis & 1 else 1 for axis in range(3))

    @property
    def pattern(self) -> int:
        """Bit i set where the axis is not taken in place."""
        return sum(1 << axis for axis, m in enumerate(self.reach) if m)

    def coefficients(self, half: int) -> np.ndarray:
        """M_bv over the taps v: (k^3,) float64."""
        rows = []
        for axis, m in enumerate(self.reach):
            row = np.zeros(2 * half + 1)
            row[half + m] = 0.5 if m else 1.0
            if m:
                row[half - m] = 0.5 * self.signs[axis]
            rows.append(row)
        return np.asarray(np.einsum("x,y,z->xyz", *rows).ravel())


@lru_cache
def combinations(kernel_size: int) -> tuple[Combination, ...]:
    """The k^3 combinations, those of equal parity together and parities ascending."""
    half = kernel_size // 2
    found = []
    for parity in range(CLASSES):
        reaches = triple(range(1, half + 1) if parity >> axis & 1 else range(half + 1) for axis in range(3))
        found += [Combination(parity, reach) for reach in product(*reaches)]
    return tuple(found)


def _lines(found: Sequence[Combination], m: int) -> list[tuple[int, ...]]:
    """Rows of ``SignTables.lines`` for a reach m along z."""
    numbers = {(b.parity, b.reach): number for number, b in enumerate(found)}
    flat = sorted((b for b in found if not b.reach[2]), key=lambda b: -b.pattern.bit_count())
    return [
        (
            b.pattern,
            *b.reach[:2],
            *b.signs[:2],
            b.parity,
            numbers[b.parity, b.reach],
            numbers[b.parity, (*b.reach[:2], m)],
            numbers[b.parity | 4 * (m > 0), (*b.reach[:2], m)],
        )
        for b in flat
    ]


class SignTables:
    """The index tables of one group and kernel size on one device. Get them from :func:`sign_tables`.

    Args:
        group: O, O_h or a subgroup, order n.
        kernel_size: k, odd.

    Attributes:
        cosets: of K, 6 for O and O_h; below, 6 stands for it.
        characters: (|K|, |K|) [chi, k] is chi(k), as a tuple of tuples of +1 and -1.
        elements: (|K|, 6) int32 [k, p] is the element k p.
        sources: (|K|, 8) int32 [chi, parity] is the character chi times that of the parity.
        combinations: of shifts, see :func:`combinations`.
        steps: their (pattern, reach along x, y, z, signs along x, y, z, parity).
        lines: int32, for m = 1 ... k // 2 (or 0 for k = 1) the combinations that agree along x and y, those with most
            terms first: (pattern, reach along x, y, signs along x, y, and parity along x and y; the numbers of the
            combinations that are, along z, in place, the sum at m, the difference at m).
        first: (9,) the first combination of every parity, and their number.
    """

    def __init__(self, group: PointGroup, kernel_size: int, device: torch.device | str):
        self.group, self.kernel_size = group, kernel_size
        self.taps, self.half = kernel_size**3, kernel_size // 2
        self.combinations = combinations(kernel_size)
        members = [g for g, matrix in enumerate(group.matrices) if np.count_nonzero(np.diag(matrix)) == 3]
        cosets = sorted({min(group.multiplication[members, g]) for g in range(group.order)})
        elements = group.multiplication[np.ix_(members, cosets)]
        self.order, self.cosets = len(members), len(cosets)
        signs = np.diagonal(group.matrices[members], axis1=1, axis2=2)
        numbers, characters = _characters(signs)
        self.characters = tuple(tuple(int(value) for value in row) for row in characters)
        self._load(device, elements, characters, numbers)
        self._load_filter_indices(device, elements, cosets)

    def _load(
        self, device: torch.device | str, elements: np.ndarray, characters: np.ndarray, of_axes: list[int]
    ) -> None:
        firsts = [of_axes.index(chi) for chi in range(self.order)]
        sources = [[of_axes[axes ^ parity] for parity in range(CLASSES)] for axes in firsts]
        shifts = np.stack([b.coefficients(self.half) for b in self.combinations])
        parities = [b.parity for b in self.combinations]
        self.elements = torch.tensor(elements, dtype=torch.int32, device=device)
        self.sources = torch.tensor(sources, dtype=torch.int32, device=device)
        self._character_matrix = torch.tensor(characters / self.order, dtype=torch.float64, device=device)
        self._shift_matrix = torch.tensor(shifts, dtype=torch.float64, device=device)
        self._source_of = torch.tensor(np.array(sources)[:, parities], device=device)
        self.steps = tuple((b.pattern, *b.reach, *b.signs, b.parity) for b in self.combinations)
        self.first = tuple(sum(p < parity for p in parities) for parity in range(CLASSES + 1))
        lines = [_lines(self.combinations, m) for m in range(min(1, self.half), self.half + 1)]
        self.lines = torch.tensor(lines, dtype=torch.int32, device=device)

    def _load_filter_indices(self, device: torch.device | str, elements: np.ndarray, cosets: list[int]) -> None:
        group, taps = self.group, self.taps
        moved = tap_permutation(group, self.kernel_size)
        position = np.argsort(elements.ravel())
        inverse = group.inverse[cosets]
        spread = group.multiplication[inverse[:, None], elements.reshape(1, -1)][:, :, None] * taps
        spread = spread + moved[cosets][:, None, :]
        collect = position[group.multiplication[cosets]][:, :, None] * taps + moved[inverse][:, None, :]
        adjoint = group.inverse[:, None] * taps + (taps - 1 - moved)
        self._spread, self._collect, self._adjoint = [
            torch.tensor(index.reshape(len(index), -1), device=device) for index in (spread, collect, adjoint)
        ]

    def adjoint(self, filters: Tensor) -> Tensor:
        """psi^T(r, u) = psi(-u^-1 r, u^-1), channels exchanged, for the gradient of the input. Its own inverse.

        Args:
            filters: (channels_out, channels_in, n, k^3).
        """
        flat = filters.transpose(0, 1).flatten(2)
        return flat[..., self._adjoint.flatten()].view(*flat.shape[:2], *filters.shape[2:])

    def spectra(self, filters: Tensor) -> Tensor:
        """W_chi,b[(q, c), (p, o)].

        Args:
            filters: psi, (channels_out, channels_in, n, k^3).

        Returns:
            (|K|, k^3, 6, channels_in, 6, channels_out) in the dtype of ``filters``.
        """
        copies = filters.flatten(2)[..., self._spread.flatten()]
        copies = copies.view(*filters.shape[:2], self.cosets, self.order, self.cosets, self.taps)
        by_shift = copies @ self._shift_matrix.to(filters.dtype).T
        by_character = torch.einsum("sk,ocpkqb->sbqcpo", self._character_matrix.to(filters.dtype), by_shift)
        return self._exchange(by_character)

    def filters(self, spectra: Tensor) -> Tensor:
        """The adjoint of :meth:`spectra`: (|K|, k^3, 6, channels_in, 6, channels_out) to a filter."""
        by_character = self._exchange(spectra)
        by_shift = torch.einsum("sk,sbqcpo->ocpkqb", self._character_matrix.to(spectra.dtype), by_character)
        copies = (by_shift @ self._shift_matrix.to(spectra.dtype)).flatten(3)
        channels = copies.shape[:2]
        parts = (copies[:, :, p].index_select(2, self._collect[p]) for p in range(self.cosets))
        return reduce(torch.add, parts).view(*channels, self.group.order, self.taps)

    def _exchange(self, spectra: Tensor) -> Tensor:
        """From the source's character to the result's, or back: both are the product with the parity's character."""
        return spectra[self._source_of, torch.arange(self.taps, device=spectra.device)]


def _characters(signs: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The characters of K, each the product of the signs along some axes.

    Products over different axes may be the same character: of O's the one over all three is +1. The axes are bits.

    Args:
        signs: (|K|, 3), +1 or -1.

    Returns:
        The number of the character of every set of axes, (8,); and the characters, (|K|, |K|).
    """
    every = [
        tuple(np.prod(signs[:, [axis for axis in range(3) if bits >> axis & 1]], axis=1)) for bits in range(CLASSES)
    ]
    without_x = sorted(range(CLASSES), key=lambda bits: bits & 1)
    chosen = sorted({every[bits]: bits for bits in reversed(without_x)}.values())
    characters = [every[bits] for bits in chosen]
    return [characters.index(character) for character in every], np.array(characters)


@lru_cache
def sign_tables(group: str, kernel_size: int, device: torch.device) -> SignTables:
    """The tables for a group's name, made once per kernel size and device."""
    return SignTables(point_group(group), kernel_size, device)
