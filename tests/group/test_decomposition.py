"""Restriction of e3nn field types to O and O_h, held against e3nn and against characters in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import block_diag

from flowsr.group import decompose, multiplicities, octahedral_group, representation, restrict, split_by_irrep

bounded = settings(deadline=None, max_examples=25)  # no deadline: the first example imports e3nn
part = st.builds("{}x{}{}".format, st.integers(1, 2), st.integers(0, 4), st.sampled_from("eo"))
irreps_strings = st.lists(part, min_size=1, max_size=3).map(" + ".join)
groups = st.sampled_from(["O", "Oh"]).map(octahedral_group)


def full_rotation_character(degree, parity, matrix):
    """Trace of D^l: the sum over m of cos(m angle), with the sign that an ``o`` part takes from the inversion."""
    determinant = round(np.linalg.det(matrix))
    angle = np.arccos(np.clip((determinant * np.trace(matrix) - 1) / 2, -1, 1))
    sign = -1 if parity == "o" and determinant == -1 else 1
    return sign * sum(np.cos(m * angle) for m in range(-degree, degree + 1))


@bounded
@given(irreps=irreps_strings, group=groups)
def test_representation_is_an_orthogonal_homomorphism(irreps, group):
    d = representation(irreps, group)
    assert np.abs(np.einsum("gij,hjk->ghik", d, d) - d[group.multiplication]).max() < 1e-12
    assert np.abs(np.einsum("gij,gkj->gik", d, d) - np.eye(d.shape[1])).max() < 1e-12


@pytest.mark.parametrize("degree", range(5))
@pytest.mark.parametrize("parity", "eo")
def test_characters_in_closed_form(group, degree, parity):
    d = representation(f"{degree}{parity}", group)
    expected = [full_rotation_character(degree, parity, m) for m in group.matrices]
    assert np.allclose(np.trace(d, axis1=1, axis2=2), expected, atol=1e-12, rtol=0)


@bounded
@given(irreps=irreps_strings, group=groups)
def test_decomposition_adds_up_and_intertwines(irreps, group):
    d = representation(irreps, group)
    parts = restrict(irreps, group)
    assert sum(m * group.irrep(name).dimension for name, m in parts.multiplicities.items()) == d.shape[1]
    assert np.abs(parts.basis.T @ parts.basis - np.eye(d.shape[1])).max() < 1e-12
    blocks = [group.irrep(name).matrices for name, m in parts.multiplicities.items() for _ in range(m)]
    for g in range(group.order):
        assert np.abs(parts.basis.T @ d[g] @ parts.basis - block_diag(*[b[g] for b in blocks])).max() < 1e-12


@pytest.mark.parametrize(
    ("irreps", "in_Oh", "in_O"),
    [
        ("0e", "A1g", "A1"),
        ("0o", "A1u", "A1"),
        ("1o", "T1u", "T1"),
        ("1e", "T1g", "T1"),
        ("2e", "Eg + T2g", "E + T2"),
        ("2o", "Eu + T2u", "E + T2"),
        ("3o", "A2u + T1u + T2u", "A2 + T1 + T2"),
        ("4e", "A1g + Eg + T1g + T2g", "A1 + E + T1 + T2"),
        ("1o + 2x1e", "2 T1g + T1u", "3 T1"),
    ],
)
def test_known_splittings(irreps, in_Oh, in_O):
    """Crystal-field splitting of s, p, d, f, g levels in a cubic field."""
    assert str(restrict(irreps, octahedral_group("Oh"))) == in_Oh
    assert str(restrict(irreps, octahedral_group("O"))) == in_O


def test_regular_representation_holds_every_irrep_d_times(group):
    regular = np.stack([np.eye(group.order)[group.left_quotient[a]] for a in range(group.order)])
    assert multiplicities(regular, group) == {irrep.name: irrep.dimension for irrep in group.irreps}
    basis = decompose(regular, group).basis
    assert np.abs(basis.T @ basis - np.eye(group.order)).max() < 1e-12


def test_vectors_need_no_change_of_basis(group):
    assert np.array_equal(restrict("1o", group).basis, np.eye(3))


def test_what_is_no_representation_is_refused(group):
    with pytest.raises(ValueError, match="not a representation"):
        decompose(np.random.default_rng(0).normal(size=(group.order, 3, 3)), group)


def test_a_function_on_the_group_splits_into_blocks_that_hold_all_of_its_power(group):
    function = np.random.default_rng(0).standard_normal((5, group.order))
    blocks = split_by_irrep(function @ group.fourier.T, group)
    assert list(blocks) == [irrep.name for irrep in group.irreps]
    assert all(blocks[irrep.name].shape == (5, irrep.dimension, irrep.dimension) for irrep in group.irreps)
    power = sum((block**2).sum((-2, -1)) for block in blocks.values())
    np.testing.assert_allclose(power, (function**2).sum(-1), rtol=1e-12)
    for irrep in group.irreps:  # a matrix element of one irrep has no other
        blocks = split_by_irrep(group.fourier @ irrep.matrices[:, 0, -1], group)
        assert [name for name, block in blocks.items() if np.abs(block).max() > 1e-9] == [irrep.name]
        assert np.argwhere(np.abs(blocks[irrep.name]) > 1e-9).tolist() == [[0, irrep.dimension - 1]]
