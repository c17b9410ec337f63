"""Irreps, characters and the Fourier matrix, held against character theory."""

import numpy as np
import pytest
from scipy.linalg import block_diag

ROUNDING = 5e-15


def left_translation(group, a):
    """(L_a f)(g) = f(a^-1 g) as a matrix."""
    return np.eye(group.order)[group.left_quotient[a]]


def right_translation(group, a):
    """(R_a f)(g) = f(g a) as a matrix."""
    return np.eye(group.order)[group.multiplication[:, a]]


def test_names_and_dimensions(group):
    suffixes = ("g", "u") if group.name == "Oh" else ("",)
    assert [i.name for i in group.irreps] == [n + s for s in suffixes for n in ("A1", "A2", "E", "T1", "T2")]
    assert [i.dimension for i in group.irreps] == [1, 1, 2, 3, 3] * len(suffixes)


def test_homomorphism(group):
    for irrep in group.irreps:
        products = np.einsum("gij,hjk->ghik", irrep.matrices, irrep.matrices)
        error = np.abs(products - irrep.matrices[group.multiplication]).max()
        assert error <= (0 if irrep.dimension != 2 else 1e-15)  # signs and signed permutations are exact
        assert np.array_equal(irrep.matrices[0], np.eye(irrep.dimension)) or irrep.dimension == 2


def test_orthogonal_and_irreducible(group):
    for irrep in group.irreps:
        gram = np.einsum("gij,gkj->gik", irrep.matrices, irrep.matrices)
        assert np.allclose(gram, np.eye(irrep.dimension), atol=1e-15, rtol=0)
        assert irrep.characters @ irrep.characters == group.order


def test_characters_are_traces_and_constant_on_classes(group):
    for irrep, row in zip(group.irreps, group.characters):
        for members, value in zip(group.classes, row):
            for g in members:
                assert np.trace(irrep.matrices[g]) == pytest.approx(value, abs=1e-14)


def test_as_many_irreps_as_classes_and_their_squares_fill_the_group(group):
    assert len(group.irreps) == len(group.classes)
    assert sum(i.dimension**2 for i in group.irreps) == group.order


def test_orthogonality_of_rows_and_columns_of_the_character_table(group):
    table, sizes = group.characters, np.array([len(members) for members in group.classes])
    assert np.array_equal((table * sizes) @ table.T, group.order * np.eye(len(table)))
    assert np.array_equal(table.T @ table, np.diag(group.order / sizes))


def test_mulliken_symbols_mean_what_they_say(group):
    """A1 is trivial; A2 changes sign under a quarter turn; T1 has character +1 there, T2 -1; u changes sign with i."""
    quarter_turn = group.class_names.index("6C4")
    for irrep, row in zip(group.irreps, group.characters):
        letter = irrep.name.rstrip("gu")
        assert row[quarter_turn] == {"A1": 1, "A2": -1, "E": 0, "T1": 1, "T2": -1}[letter]
        if group.name == "Oh":
            assert row[group.class_names.index("i")] == irrep.dimension * (1 if irrep.name.endswith("g") else -1)


BASIS_FUNCTIONS = {
    "A1g": lambda x, y, z: [x**2 + y**2 + z**2],
    "A2g": lambda x, y, z: [x**4 * (y**2 - z**2) + y**4 * (z**2 - x**2) + z**4 * (x**2 - y**2)],
    "Eg": lambda x, y, z: [(2 * z**2 - x**2 - y**2) / np.sqrt(3), x**2 - y**2],
    "T2g": lambda x, y, z: [y * z, z * x, x * y],
    "T1g": lambda x, y, z: [y * z * (y**2 - z**2), z * x * (z**2 - x**2), x * y * (x**2 - y**2)],
    "A2u": lambda x, y, z: [x * y * z],
    "T1u": lambda x, y, z: [x, y, z],
    "T2u": lambda x, y, z: [x * (y**2 - z**2), y * (z**2 - x**2), z * (x**2 - y**2)],
}


@pytest.mark.parametrize("name", BASIS_FUNCTIONS)
def test_polynomials_turn_as_the_irrep_says(full_group, name):
    """f_i(R x) = sum_j rho_ij(R) f_j(x), component by component."""
    points = np.random.default_rng(0).normal(size=(3, 7))
    values = np.array(BASIS_FUNCTIONS[name](*points))
    for matrix, rho in zip(full_group.matrices, full_group.irrep(name).matrices):
        assert np.allclose(BASIS_FUNCTIONS[name](*(matrix @ points)), rho @ values, atol=1e-12, rtol=0)


def test_unknown_irrep(group):
    with pytest.raises(KeyError, match="T1"):
        group.irrep("T3")


def test_fourier_matrix_is_orthogonal(group):
    assert np.allclose(group.fourier @ group.fourier.T, np.eye(group.order), atol=ROUNDING, rtol=0)


def test_fourier_rows_are_irrep_entries_in_c_order(group):
    row = 0
    for irrep in group.irreps:
        d = irrep.dimension
        for i in range(d):
            for j in range(d):
                expected = np.sqrt(d / group.order) * irrep.matrices[:, i, j]
                assert np.allclose(group.fourier[row], expected, atol=1e-16, rtol=0)
                row += 1
    assert row == group.order


def test_fourier_block_diagonalizes_both_translations(group):
    for a in range(group.order):
        left = block_diag(*[np.kron(i.matrices[a], np.eye(i.dimension)) for i in group.irreps])
        right = block_diag(*[np.kron(np.eye(i.dimension), i.matrices[a]) for i in group.irreps])
        assert np.allclose(group.fourier @ left_translation(group, a) @ group.fourier.T, left, atol=ROUNDING, rtol=0)
        assert np.allclose(group.fourier @ right_translation(group, a) @ group.fourier.T, right, atol=ROUNDING, rtol=0)


def test_group_convolution_is_one_matrix_product_per_irrep(group):
    """H(g) = sum_h psi(g^-1 h) f(h) becomes H_hat = f_hat psi_hat^T per irrep, up to sqrt(n/d)."""
    random = np.random.default_rng(1)
    psi, f = random.normal(size=(2, group.order))
    direct = np.array([psi[group.left_quotient[g]] @ f for g in range(group.order)])
    product, start = [], 0
    for irrep in group.irreps:
        d = irrep.dimension
        psi_hat, f_hat = ((group.fourier @ v)[start : start + d * d].reshape(d, d) for v in (psi, f))
        product.append(np.sqrt(group.order / d) * (f_hat @ psi_hat.T).ravel())
        start += d * d
    assert np.allclose(group.fourier.T @ np.concatenate(product), direct, atol=1e-13, rtol=0)


# Basis functions as character tables print them (Cotton, Chemical Applications of Group Theory, appendix).
PRINTED = {
    "A1g": "x**2 + y**2 + z**2",
    "Eg": "x**2 - y**2",
    "T2g": "y * z",
    "A2u": "x * y * z",
    "T1u": "z",
    "T2u": "x * (y**2 - z**2)",
}


def test_what_an_irrep_transforms_like_is_what_character_tables_print(group):
    if group.name == "Oh":
        said = {irrep.name: irrep.transforms_like for irrep in group.irreps}
        assert said == {
            "A1g": "a number",
            "A2g": "a handedness times xyz",
            "Eg": "x² − y², a difference between the axes",
            "T1g": "an axial vector, such as a rotation rate",
            "T2g": "yz, a shear",
            "A1u": "a handedness",
            "A2u": "xyz",
            "Eu": "a handedness that differs between the axes",
            "T1u": "a polar vector, such as gravity or a mean wind",
            "T2u": "xy² − xz²",
        }
    points = np.random.default_rng(0).standard_normal((3, 40))
    for name, formula in PRINTED.items():
        irrep = group.irrep(name if group.name == "Oh" else name[:-1])
        # the span of all images of the function has the dimension of the irrep, and its character
        images = np.array([eval(formula, dict(zip("xyz", r.T @ points))) for r in group.matrices])
        assert np.linalg.matrix_rank(images, tol=1e-9) == irrep.dimension
        weights = irrep.characters @ images  # sum_g chi(g) f(g^-1 x), not nothing exactly if f lies in the irrep
        assert np.allclose(weights * irrep.dimension / group.order, images[0], atol=1e-9)


def test_an_axial_vector_is_a_handedness_times_a_polar_one(group):
    """What ``a handedness times`` says: times det R, even and odd irreps change places."""
    parity = np.linalg.det(group.matrices).round()
    for even, odd in (("A1g", "A1u"), ("A2u", "A2g"), ("T1u", "T1g"), ("Eg", "Eu")):
        if group.name == "Oh":
            assert np.array_equal(group.irrep(even).characters * parity, group.irrep(odd).characters)
