"""Subgroups, their names, and stabilisers."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsr.group import octahedral_group, representation

bounded = settings(deadline=None, max_examples=25)  # no deadline: the first example imports e3nn


def closure(matrices, generators):
    """Products of matrices until nothing new comes: slow, and independent of the tables."""
    members = {matrices[0].tobytes(): matrices[0]}
    frontier = list(members.values())
    while frontier:
        products = [matrices[g] @ m for g in generators for m in frontier]
        frontier = [p for p in products if p.tobytes() not in members]
        members.update({p.tobytes(): p for p in frontier})
    return {g for g, m in enumerate(matrices) if m.tobytes() in members}


def expected_order(symbol):
    """Order of a point group, from its Schoenflies symbol."""
    if symbol in (cubic := {"Ci": 2, "Cs": 2, "T": 12, "Td": 24, "Th": 24, "O": 24, "Oh": 48}):
        return cubic[symbol]
    letter, n, kind = re.fullmatch(r"([CDS])(\d)([hvd]?)", symbol).groups()
    return int(n) * (2 if letter == "D" else 1) * (2 if kind else 1)


def test_how_many_there_are(group):
    assert (len(group.subgroups), len(group.subgroup_classes)) == {"O": (30, 11), "Oh": (98, 33)}[group.name]
    assert len({s.elements for s in group.subgroups}) == len(group.subgroups)


def test_each_is_a_subgroup(group):
    for subgroup in group.subgroups:
        elements = np.array(subgroup.elements)
        assert 0 in subgroup and group.order % subgroup.order == 0
        assert set(group.multiplication[np.ix_(elements, elements)].ravel()) == set(subgroup.elements)
        assert set(group.inverse[elements]) == set(subgroup.elements)


@pytest.mark.parametrize("name", ["O", "Oh"])
@bounded
@given(generators=st.lists(st.integers(0, 47), max_size=4))
def test_none_is_missing(name, generators):
    """Whatever any elements generate is in the list (every subgroup of O_h has at most four generators)."""
    group = octahedral_group(name)
    generators = [g % group.order for g in generators]
    generated = group.generate(generators)
    assert set(generated.elements) == closure(group.matrices, generators)
    assert generated in group.subgroups


def test_all_generated_by_two_elements_are_there(group):
    known = {s.elements for s in group.subgroups}
    for pair in itertools.combinations_with_replacement(range(group.order), 2):
        assert tuple(sorted(closure(group.matrices, pair))) in known


def test_classes_are_orbits_of_conjugation(group):
    for members in group.subgroup_classes:
        for subgroup in members:
            own = group.matrices[list(subgroup.elements)]
            conjugates = {tuple(sorted(group.index(m) for m in a @ own @ a.T)) for a in group.matrices}
            assert conjugates == {m.elements for m in members}


def test_cyclic_classes_are_as_many_as_classes_of_elements(group):
    """All characters of O and O_h are integers, so elements that generate the same cyclic group are conjugate."""
    cyclic = {group.generate([g]).name for g in range(group.order)}
    assert len(cyclic) == len(group.classes)


def test_order_follows_from_the_symbol(group):
    for subgroup in group.subgroups:
        assert subgroup.order == expected_order(subgroup.schoenflies), subgroup


def test_symbol_tells_which_operations_there_are_and_nothing_else(group):
    """Same symbol if and only if the same number of operations of each trace and determinant: conjugate in O(3)."""
    trace = np.trace(group.matrices, axis1=1, axis2=2)
    kinds = [(int(t), o.determinant) for t, o in zip(trace, group.operations)]
    pairs = {(s.schoenflies, tuple(sorted(kinds[g] for g in s.elements))) for s in group.subgroups}
    assert len(pairs) == len({symbol for symbol, _ in pairs}) == len({inside for _, inside in pairs})


def test_name_is_that_of_the_class(group):
    names = [{s.name for s in members} for members in group.subgroup_classes]
    assert all(len(n) == 1 for n in names)
    assert len(set.union(*names)) == len(group.subgroup_classes)
    assert len({s.label for s in group.subgroups}) == len(group.subgroups)


def test_suffix_only_where_the_symbol_is_shared(full_group):
    shared = Counter(members[0].schoenflies for members in full_group.subgroup_classes)
    for members in full_group.subgroup_classes:
        assert (members[0].name != members[0].schoenflies) == (shared[members[0].schoenflies] > 1)
    assert {n for n, times in shared.items() if times > 1} == {"C2", "Cs", "C2h", "C2v", "D2", "D2d", "D2h"}


def test_names_in_O_are_those_in_Oh(full_group):
    names = {s.elements: s.name for s in full_group.subgroups}
    assert all(names[s.elements] == s.name for s in octahedral_group("O").subgroups)


@pytest.mark.parametrize(
    ("generators", "label"),
    [
        (["C2[001]"], "C2 [001]"),
        (["C2[110]"], "C2 [110]"),
        (["sigma_h[001]"], "Cs [001]"),
        (["sigma_d[1-10]"], "Cs [1-10]"),
        (["i"], "Ci"),
        (["C2[001]", "i"], "C2h [001]"),
        (["C2[001]", "sigma_h[100]"], "C2v(100;100) [001]"),
        (["C2[001]", "sigma_d[110]"], "C2v(100;110) [001]"),
        (["C2[110]", "sigma_h[001]"], "C2v(110;100,110) [110]"),
        (["C2[001]", "C2[100]"], "D2(100)"),
        (["C2[001]", "C2[110]"], "D2(100;110) [001]"),
        (["C2[001]", "C2[100]", "i"], "D2h(100)"),
        (["C2[001]", "C2[110]", "i"], "D2h(100;110) [001]"),
        (["S4+[001]"], "S4 [001]"),
        (["S4+[001]", "C2[100]"], "D2d(100;100) [001]"),
        (["S4+[001]", "C2[110]"], "D2d(100;110) [001]"),
        (["C4+[001]"], "C4 [001]"),
        (["C4+[001]", "i"], "C4h [001]"),
        (["C4+[001]", "sigma_h[100]"], "C4v [001]"),
        (["C4+[001]", "C2[100]"], "D4 [001]"),
        (["C4+[001]", "C2[100]", "i"], "D4h [001]"),
        (["C3+[111]"], "C3 [111]"),
        (["C3+[111]", "i"], "S6 [111]"),
        (["C3+[111]", "sigma_d[1-10]"], "C3v [111]"),
        (["C3+[111]", "C2[1-10]"], "D3 [111]"),
        (["C3+[111]", "C2[1-10]", "i"], "D3d [111]"),
        (["C3+[111]", "C2[001]"], "T"),
        (["C3+[111]", "C2[001]", "i"], "Th"),
        (["C3+[111]", "S4+[001]"], "Td"),
        (["C3+[111]", "C4+[001]"], "O"),
        (["C3+[111]", "C4+[001]", "i"], "Oh"),
    ],
)
def test_names_from_generators(full_group, generators, label):
    number = {o.label: g for g, o in enumerate(full_group.operations)}
    assert full_group.generate([number[name] for name in generators]).label == label


def test_subgroup_refuses_what_is_none(group):
    quarter_turn = next(g for g, o in enumerate(group.operations) if o.symbol == "C4")
    for wrong in ([], [quarter_turn], [0, quarter_turn]):
        with pytest.raises(ValueError, match="not a subgroup"):
            group.subgroup(wrong)
    assert group.subgroup(range(group.order)).name == group.name


def test_inclusion(full_group):
    wind, rotation = full_group.stabilizer("T1u", [0, 0, 1]), full_group.stabilizer("T1g", [0, 0, 1])
    assert full_group.subgroup(set(wind.elements) & set(rotation.elements)).label == "C4 [001]"
    assert full_group.generate([0]) <= wind and not wind <= rotation


@pytest.mark.parametrize(
    ("irrep", "vector", "label"),
    [
        ("T1u", [0, 0, 1], "C4v [001]"),  # mean wind
        ("T1u", [1, 1, 0], "C2v(110;100,110) [110]"),
        ("T1u", [1, 1, 1], "C3v [111]"),
        ("T1u", [1, 2, 0], "Cs [001]"),
        ("T1u", [1, 1, 2], "Cs [1-10]"),
        ("T1u", [1, 2, 3], "C1"),
        ("T1g", [0, 0, 1], "C4h [001]"),  # system rotation
        ("T1g", [1, 1, 0], "C2h [110]"),
        ("T1g", [1, 1, 1], "S6 [111]"),
        ("T1g", [1, 2, 3], "Ci"),
        ("Eg", [1, 0], "D4h [001]"),  # 2 z^2 - x^2 - y^2
        ("Eg", [0, 1], "D2h(100)"),  # x^2 - y^2
        ("T2g", [0, 0, 1], "D2h(100;110) [001]"),  # xy
        ("T2g", [1, 1, 1], "D3d [111]"),
        ("A2u", [1], "Td"),  # xyz
        ("A2g", [1], "Th"),
        ("A1u", [1], "O"),  # helicity
        ("A1g", [1], "Oh"),
        ("T1u", [0, 0, 0], "Oh"),
    ],
)
def test_stabilizers_in_irreps(full_group, irrep, vector, label):
    assert full_group.stabilizer(irrep, vector).label == label


@pytest.mark.parametrize(
    ("irreps", "vector", "label"),
    [
        ("1o", [0, 1, 0], "C4v [010]"),
        ("1e", [0, 1, 0], "C4h [010]"),
        ("0e + 1o", [3, 0, 0, 1], "C4v [001]"),
        ("0o", [1], "O"),
        ("2e", [0, 0, 1, 0, 0], "D4h [010]"),  # 2 y^2 - x^2 - z^2: e3nn's polar axis is y
        ("2e", [1, 0, 0, 0, 0], "D2h(100;110) [010]"),  # xz
    ],
)
def test_stabilizers_in_field_types(full_group, irreps, vector, label):
    assert full_group.stabilizer(representation(irreps, full_group), vector).label == label


def gradient_stabilizer(group, gradient):
    """Elements with R A R^T = A."""
    squares = np.stack([np.kron(r, r) for r in group.matrices])
    return group.stabilizer(squares, np.ravel(gradient))


def test_stabilizers_of_velocity_gradients(full_group):
    assert gradient_stabilizer(full_group, [[0, 1, 0], [0, 0, 0], [0, 0, 0]]).label == "C2h [001]"  # shear u(y)
    assert gradient_stabilizer(full_group, np.diag([1, 1, -2])).label == "D4h [001]"  # axisymmetric strain
    assert gradient_stabilizer(full_group, np.diag([1, -1, 0])).label == "D2h(100)"  # plane strain
    assert gradient_stabilizer(full_group, [[0, -1, 0], [1, 0, 0], [0, 0, 0]]).label == "C4h [001]"  # rigid rotation


def test_joint_stabilizer_is_the_intersection(full_group):
    both = full_group.stabilizer("T1g", np.array([[0, 0, 1], [1, 0, 0]]).T)
    separate = [full_group.stabilizer("T1g", v) for v in ([0, 0, 1], [1, 0, 0])]
    assert set(both.elements) == set(separate[0].elements) & set(separate[1].elements)


@bounded
@given(vector=st.lists(st.integers(-2, 2), min_size=3, max_size=3), g=st.integers(0, 47))
def test_stabilizer_moves_with_the_vector(vector, g):
    """Stab(g v) = g Stab(v) g^-1, and orbit times stabiliser is the group."""
    group = octahedral_group("Oh")
    rho = group.irrep("T2u").matrices
    stabilizer = group.stabilizer("T2u", vector)
    moved = group.stabilizer("T2u", rho[g] @ vector)
    conjugate = group.multiplication[group.multiplication[g, list(stabilizer.elements)], group.inverse[g]]
    assert set(moved.elements) == set(conjugate.tolist())
    assert len({tuple(v) for v in (rho @ vector).tolist()}) * stabilizer.order == group.order


def test_tolerance_is_relative_and_must_leave_a_group(full_group):
    nearly_z = np.array([1e-3, 0, 1.0])
    for scale in (1e-6, 1.0, 1e6):
        assert full_group.stabilizer("T1u", scale * nearly_z).label == "Cs [010]"
        assert full_group.stabilizer("T1u", scale * nearly_z, tolerance=0.01).label == "C4v [001]"
    with pytest.raises(ValueError, match="not a subgroup"):
        full_group.stabilizer("T1u", nearly_z, tolerance=1.6)
