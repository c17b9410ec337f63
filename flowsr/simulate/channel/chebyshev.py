"""Chebyshev collocation between two walls at y = -1 and y = 1, and the eigenbasis of the second derivative there.

In the basis of eigenvectors of d^2/dy^2 with zero values at the walls every Helmholtz and Poisson problem of every
wavenumber and time step is a division (matrix diagonalization: Haidvogel and Zang, J. Comput. Phys. 30, 167, 1979). All
wavenumbers share the matrices, so going to and fro is one large matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

# Matrices are made in the longest real type there is (64 bits of mantissa on x86) and rounded once: the second
# derivative of 65 points has a condition number near 1e6, which would cost six of the sixteen digits.
EXACT = np.longdouble
PI = np.arccos(EXACT(-1))
REFINEMENTS = 3


def lobatto_nodes(intervals: int) -> np.ndarray:
    """Chebyshev-Gauss-Lobatto points y_j = -cos(pi j / N), j = 0 .. N, ascending from wall to wall."""
    return _lobatto(intervals).astype(float)


def gauss_points(cells: int) -> np.ndarray:
    """Chebyshev-Gauss points -cos(pi (j + 1/2) / N), j = 0 .. N - 1, ascending: one in each Lobatto interval."""
    return -np.cos(np.pi * (np.arange(cells) + 0.5) / cells)


def _lobatto(intervals: int) -> np.ndarray:
    nodes = -np.cos(PI * np.arange(intervals + 1, dtype=EXACT) / intervals)
    return (nodes - nodes[::-1]) / 2


def differentiation_matrix(intervals: int) -> np.ndarray:
    """D with (D f)_i = f'(y_i) for polynomials of degree N on the Lobatto points; (N + 1, N + 1), longdouble.

    Barycentric weights and the negative sum trick (Trefethen, Spectral Methods in Matlab, 2000, chapter 6).
    """
    y = _lobatto(intervals)
    weight = _barycentric_weights(intervals)
    gap = y[:, None] - y[None, :]
    np.fill_diagonal(gap, 1)
    matrix = weight[None, :] / weight[:, None] / gap
    np.fill_diagonal(matrix, 0)
    np.fill_diagonal(matrix, -matrix.sum(axis=1))
    return matrix


def _barycentric_weights(intervals: int) -> np.ndarray:
    weight = (-1.0) ** np.arange(intervals + 1, dtype=EXACT)
    weight[[0, -1]] /= 2
    return weight


def interpolation_matrix(intervals: int, points: np.ndarray) -> np.ndarray:
    """Values at ``points`` of the polynomial through values on the Lobatto points; (len(points), N + 1), longdouble.

    Second barycentric formula (Berrut and Trefethen, SIAM Review 46, 501, 2004).
    """
    gap = np.asarray(points, dtype=EXACT)[:, None] - _lobatto(intervals)[None, :]
    hit = gap == 0
    gap[hit] = 1
    matrix = _barycentric_weights(intervals)[None, :] / gap
    on_node = hit.any(axis=1)
    matrix[on_node] = hit[on_node]
    return matrix / matrix.sum(axis=1, keepdims=True)


def truncation_matrix(fine: int, coarse: int) -> np.ndarray:
    """Chebyshev series through fine + 1 Lobatto points, cut at degree ``coarse``, on coarse + 1 points; longdouble."""
    degree, node = np.arange(coarse + 1, dtype=EXACT), np.arange(fine + 1, dtype=EXACT)
    ends = np.where((node == 0) | (node == fine), EXACT(0.5), EXACT(1))
    analysis = np.cos(PI * degree[:, None] * (node / fine)[None, :]) * ends * 2 / fine
    analysis[0] /= 2
    if coarse == fine:
        analysis[-1] /= 2
    synthesis = np.cos(PI * (np.arange(coarse + 1, dtype=EXACT) / coarse)[:, None] * degree[None, :])
    return synthesis @ analysis


def quadrature(order: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre points and weights on (-1, 1), ascending; exact up to degree 2 order - 1."""
    return np.polynomial.legendre.leggauss(order)


@dataclass(frozen=True)
class WallBasis:
    """Eigenvectors of the second derivative with zero values at both walls, the even ones first.

    Args:
        cells: N, even; polynomials of degree N on N + 1 Lobatto points.
        even: how many of the N - 1 eigenvectors are even in y.
        eigenvalues: (N - 1,), real and negative (Gottlieb and Lustman, SIAM J. Numer. Anal. 20, 909, 1983).
        vectors: (N + 1, N - 1), eigenvectors on the Lobatto points, zero at the walls.
        inverse: (N - 1, N + 1), coefficients of interior nodal values; the columns of the walls are zero.
        derivative: (N + 1, N + 1), the differentiation matrix.
        wall_source: (N - 1,), coefficients of what boundary values add to the second derivative inside: 1 at both
            walls for the even ones, 1 at y = 1 and -1 at y = -1 for the odd ones.
    """

    cells: int
    even: int
    eigenvalues: np.ndarray
    vectors: np.ndarray
    inverse: np.ndarray
    derivative: np.ndarray
    wall_source: np.ndarray

    def evaluate(self, points: np.ndarray, derivatives: int = 0) -> np.ndarray:
        """Values of the eigenvectors, or of one of their derivatives, at ``points``; (len(points), N - 1), float64."""
        nodal = self.vectors
        for _ in range(derivatives):
            nodal = self.derivative @ nodal
        return (interpolation_matrix(self.cells, points) @ nodal).astype(float)


@lru_cache(maxsize=8)
def wall_basis(cells: int) -> WallBasis:
    """The :class:`WallBasis` of polynomials of degree ``cells``.

    Raises:
        ValueError: a degree that is odd or below 4.
    """
    if cells < 4 or cells % 2:
        raise ValueError(f"the degree must be even and at least 4, got {cells}")
    derivative = differentiation_matrix(cells)
    second = derivative @ derivative
    half = cells // 2
    low, high = np.arange(1, half), np.arange(cells - 1, half, -1)
    inner = np.append(low, half)
    folded_even = second[np.ix_(inner, inner)].copy()
    folded_even[:, :-1] += second[np.ix_(inner, high)]
    folded_odd = second[np.ix_(low, low)] - second[np.ix_(low, high)]

    values, vectors, inverse = [], np.zeros((cells + 1, cells - 1), EXACT), np.zeros((cells - 1, cells + 1), EXACT)
    start = 0
    for rows, folded, sign in ((inner, folded_even, 1), (low, folded_odd, -1)):
        value, vector, reciprocal = _eigenpairs(folded)
        stop = start + len(value)
        vectors[rows, start:stop] = vector
        vectors[high, start:stop] = sign * vector[: len(low)]
        inverse[start:stop, rows] = reciprocal
        inverse[start:stop, low] /= 2
        inverse[start:stop, high] = sign * inverse[start:stop, low]
        values.append(value)
        start = stop
    source = inverse @ np.stack([second[:, -1] + second[:, 0], second[:, -1] - second[:, 0]], axis=1)
    wall_source = np.append(source[:half, 0], source[half:, 1])
    return WallBasis(cells, half, np.concatenate(values), vectors, inverse, derivative, wall_source)


def _eigenpairs(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues in order of size, eigenvectors as columns and their inverse, of a matrix whose spectrum is real.

    LAPACK's float64 result is refined in longdouble by first-order perturbation theory, which squares the error.
    """
    value, vector = np.linalg.eig(matrix.astype(float))
    order = np.argsort(-value.real)
    value, vector = value.real[order].astype(EXACT), vector.real[:, order].astype(EXACT)
    inverse = _inverse(vector)
    for _ in range(REFINEMENTS):
        residual = inverse @ matrix @ vector
        value = np.diag(residual).copy()
        gap = value[None, :] - value[:, None]
        np.fill_diagonal(gap, 1)
        np.fill_diagonal(residual, 0)
        vector = vector + vector @ (residual / gap)
        vector /= np.sqrt((vector**2).sum(axis=0))
        inverse = _inverse(vector)
    return value, vector, inverse


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse in longdouble: LAPACK's, and Newton's iteration X (2 - A X), which squares the error."""
    inverse = np.linalg.inv(matrix.astype(float)).astype(EXACT)
    two = 2 * np.eye(len(matrix), dtype=EXACT)
    for _ in range(2):
        inverse = inverse @ (two - matrix @ inverse)
    return inverse
