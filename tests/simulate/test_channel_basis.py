import numpy as np
import pytest

from flowsr.simulate.channel import chebyshev


@pytest.mark.parametrize("cells", [4, 16, 64])
def test_derivative_and_interpolation_are_exact_on_polynomials(cells):
    y = chebyshev.lobatto_nodes(cells)
    assert (np.diff(y) > 0).all() and y[0] == -1 and y[-1] == 1
    points = np.array([-1.0, -0.3, 0.0, 0.77, 1.0])
    polynomial = np.polynomial.Chebyshev(np.random.default_rng(0).standard_normal(cells + 1))
    slope = chebyshev.differentiation_matrix(cells).astype(float) @ polynomial(y)
    np.testing.assert_allclose(slope, polynomial.deriv()(y), atol=1e-13 * cells**4)
    values = chebyshev.interpolation_matrix(cells, points).astype(float) @ polynomial(y)
    np.testing.assert_allclose(values, polynomial(points), atol=1e-13)


def test_centres_lie_between_faces():
    faces, centres = chebyshev.lobatto_nodes(16), chebyshev.gauss_points(16)
    assert (faces[:-1] < centres).all() and (centres < faces[1:]).all()


def test_truncation_cuts_the_series():
    fine, coarse = chebyshev.lobatto_nodes(24), chebyshev.lobatto_nodes(16)
    matrix = chebyshev.truncation_matrix(24, 16).astype(float)
    for degree in range(25):
        found = matrix @ np.cos(degree * np.arccos(fine))
        expected = np.cos(degree * np.arccos(coarse)) if degree <= 16 else np.zeros(17)
        np.testing.assert_allclose(found, expected, atol=1e-13)


@pytest.mark.parametrize("cells", [8, 32, 96])
def test_the_wall_basis_diagonalizes_the_second_derivative(cells):
    basis = chebyshev.wall_basis(cells)
    second = basis.derivative @ basis.derivative
    inside = second @ basis.vectors
    scale = np.abs(basis.eigenvalues).max()
    np.testing.assert_allclose(
        inside[1:-1].astype(float), (basis.vectors * basis.eigenvalues)[1:-1].astype(float), atol=1e-15 * float(scale)
    )
    assert (basis.eigenvalues < 0).all()
    np.testing.assert_allclose((basis.inverse @ basis.vectors).astype(float), np.eye(cells - 1), atol=1e-15)
    np.testing.assert_array_equal(basis.vectors[[0, -1]], 0)
    even = basis.vectors[:, : basis.even]
    np.testing.assert_array_equal(even, even[::-1])
    odd = basis.vectors[:, basis.even :]
    np.testing.assert_array_equal(odd, -odd[::-1])


def test_the_slowest_decay_rates_are_those_of_sines():
    values = np.sort(-chebyshev.wall_basis(48).eigenvalues.astype(float))[:12]
    np.testing.assert_allclose(values, (np.pi / 2 * np.arange(1, 13)) ** 2, rtol=1e-13)


def test_the_basis_is_well_conditioned():
    assert np.linalg.cond(chebyshev.wall_basis(128).vectors[1:-1].astype(float)) < 4


@pytest.mark.parametrize("k", [0.1, 1.0, 30.0])
def test_no_slip_stokes_modes_all_decay(k):
    """v_t = nabla^2 v + source * c with c such that v' = 0 at the walls: real, negative, and the analytic slowest."""
    basis = chebyshev.wall_basis(64)
    slope = basis.evaluate([1.0], derivatives=1)[0]
    slowest = []
    for part in (slice(0, basis.even), slice(basis.even, None)):
        laplacian = basis.eigenvalues[part].astype(float) - k**2
        source = basis.wall_source[part].astype(float) / laplacian
        matrix = np.diag(laplacian) - np.outer(source, slope[part] * laplacian) / (slope[part] @ source)
        values = np.linalg.eigvals(matrix)
        values = values[np.argsort(np.abs(values))][1:]  # the constraint takes one
        assert np.abs(values.imag).max() < 1e-9 * np.abs(values).max()
        assert values.real.max() < -(k**2)
        slowest.append(values.real.max())
    p = np.sqrt(-slowest[0] - k**2)  # even modes: p tan p = - k tanh k
    assert p * np.tan(p) == pytest.approx(-k * np.tanh(k), rel=1e-8)
    p = np.sqrt(-slowest[1] - k**2)  # odd modes: p cot p = k coth k
    assert p / np.tan(p) == pytest.approx(k / np.tanh(k), rel=1e-8)


@pytest.mark.parametrize("cells", [2, 7])
def test_unsuitable_degrees_are_refused(cells):
    with pytest.raises(ValueError, match="even and at least 4"):
        chebyshev.wall_basis(cells)
