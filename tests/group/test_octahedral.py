"""Elements, tables and classes, held against the group axioms and plain matrix algebra."""

import copy
import itertools
import pickle

import numpy as np
import pytest

from flowsr.errors import FlowsrError
from flowsr.group import octahedral_group


def test_elements_are_all_signed_permutation_matrices(group):
    entries = itertools.product((-1, 0, 1), repeat=9)
    every = [np.reshape(m, (3, 3)) for m in entries if sum(map(abs, m)) == 3]
    orthogonal = [m for m in every if np.array_equal(m @ m.T, np.eye(3))]
    wanted = [m for m in orthogonal if group.name == "Oh" or round(np.linalg.det(m)) == 1]
    assert {m.astype(np.int64).tobytes() for m in wanted} == {m.tobytes() for m in group.matrices}
    assert group.order == len(wanted) == {"O": 24, "Oh": 48}[group.name]


def test_identity_is_first(group):
    assert np.array_equal(group.matrices[0], np.eye(3))
    assert group.operations[0].label == "E"


def test_rotations_come_first_and_the_second_half_is_their_product_with_the_inversion(full_group):
    rotations = octahedral_group("O").matrices
    assert np.array_equal(full_group.matrices, np.concatenate([rotations, -rotations]))


def test_tables_agree_with_matrices(group):
    m = group.matrices
    for g, h in itertools.product(range(group.order), repeat=2):
        assert np.array_equal(m[group.multiplication[g, h]], m[g] @ m[h])
        assert np.array_equal(m[group.left_quotient[g, h]], m[g].T @ m[h])
    assert np.array_equal(m[group.inverse], m.transpose(0, 2, 1))


def test_group_axioms(group):
    table, everyone = group.multiplication, np.arange(group.order)
    assert np.array_equal(table[table], table[:, table])  # [g, h, k]: (g h) k == g (h k)
    assert np.array_equal(table[0], everyone) and np.array_equal(table[:, 0], everyone)
    assert (table[everyone, group.inverse] == 0).all() and (table[group.inverse, everyone] == 0).all()
    assert all(np.array_equal(np.sort(row), everyone) for row in (*table, *table.T))


def test_index_finds_every_element_and_refuses_others(group):
    assert [group.index(m) for m in group.matrices] == list(range(group.order))
    assert group.index(group.matrices[5].astype(float).tolist()) == 5
    for wrong in (2 * np.eye(3), np.eye(2), np.eye(3) + 1e-3, np.zeros((3, 3))):
        with pytest.raises(ValueError, match="not an element"):
            group.index(wrong)


def test_a_reflection_is_not_in_O():
    with pytest.raises(ValueError, match="not an element of O"):
        octahedral_group("O").index(np.diag([-1, 1, 1]))


def test_classes_are_the_orbits_of_conjugation(group):
    assert sorted(itertools.chain(*group.classes)) == list(range(group.order))
    m = group.matrices
    for members in group.classes:
        for member in members:
            assert {group.index(a @ m[member] @ a.T) for a in m} == set(members)


def test_class_names(group):
    names = ["E", "8C3", "6C2", "6C4", "3C2", "i", "6S4", "8S6", "3sigma_h", "6sigma_d"]
    assert list(group.class_names) == (names if group.name == "Oh" else names[:5])


def test_operations_in_a_class_share_what_conjugation_keeps(group):
    for members, name in zip(group.classes, group.class_names):
        kept = {(o.order, o.determinant, o.symbol, o.family) for o in (group.operations[g] for g in members)}
        assert len(kept) == 1
        assert name.lstrip("0123456789") == group.operations[members[0]].symbol


def test_axis_is_left_alone_by_rotations_and_turned_over_by_rotoreflections(group):
    for operation in group.operations:
        if operation.axis is None:
            assert operation.symbol in ("E", "i")
        else:
            assert np.array_equal(operation.matrix @ operation.axis, operation.determinant * np.array(operation.axis))


@pytest.mark.parametrize(
    ("matrix", "label"),
    [
        ([[0, -1, 0], [1, 0, 0], [0, 0, 1]], "C4+[001]"),  # x -> y
        ([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], "C4-[001]"),
        ([[0, 0, 1], [1, 0, 0], [0, 1, 0]], "C3+[111]"),  # x -> y -> z -> x
        ([[0, -1, 0], [1, 0, 0], [0, 0, -1]], "S4+[001]"),
        ([[0, 1, 0], [1, 0, 0], [0, 0, 1]], "sigma_d[1-10]"),  # x <-> y
        ([[1, 0, 0], [0, 1, 0], [0, 0, -1]], "sigma_h[001]"),
        ([[0, 1, 0], [1, 0, 0], [0, 0, -1]], "C2[110]"),
        ([[-1, 0, 0], [0, -1, 0], [0, 0, -1]], "i"),
    ],
)
def test_labels_of_operations_one_can_picture(full_group, matrix, label):
    assert full_group.operations[full_group.index(matrix)].label == label


def test_every_operation_has_a_label_of_its_own_and_inverses_turn_the_other_way(group):
    labels = [o.label for o in group.operations]
    assert len(set(labels)) == group.order
    swapped = {"+": "-", "-": "+"}
    for g, operation in enumerate(group.operations):
        inverse = group.operations[group.inverse[g]]
        assert (inverse.symbol, inverse.axis) == (operation.symbol, operation.axis)
        assert inverse.sense == swapped.get(operation.sense, "")


def test_one_object_per_name_that_nobody_can_change(group):
    assert octahedral_group(group.name) is group
    assert copy.deepcopy(group) is group and pickle.loads(pickle.dumps(group)) is group
    tables = (group.matrices, group.multiplication, group.inverse, group.left_quotient, group.fourier, group.characters)
    for array in (*tables, *(irrep.matrices for irrep in group.irreps)):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(AttributeError):
        group.name = "Td"


@pytest.mark.parametrize("name", ["O_h", "oh", "D4", None])
def test_an_unknown_group_is_named_in_one_line(name):
    with pytest.raises(FlowsrError, match="O or Oh") as caught:
        octahedral_group(name)
    assert str(name) in str(caught.value) and "\n" not in str(caught.value)
