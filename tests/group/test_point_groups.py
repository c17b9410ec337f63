"""Every one of the 98 subgroups of O_h as a group of its own: tables, irreps, Fourier transform, decompositions."""

import pickle

import numpy as np
import pytest

from flowsr.errors import FlowsrError
from flowsr.group import decompose, octahedral_group, point_group, representation, split_by_irrep

LABELS = [subgroup.label for subgroup in octahedral_group("Oh").subgroups]


@pytest.mark.parametrize("label", LABELS)
def test_tables_irreps_and_fourier_transform(label):
    group = point_group(label)
    products = np.einsum("gij,hjk->ghik", group.matrices, group.matrices)
    assert np.array_equal(group.matrices[group.multiplication], products)
    assert not (group.matrices[0] - np.eye(3)).any() and len(group.matrices) == group.order
    assert sum(irrep.copies * irrep.dimension for irrep in group.irreps) == group.order
    assert len({irrep.name for irrep in group.irreps}) == len(group.irreps)
    assert (group.irreps[0].characters == 1).all()
    for irrep in group.irreps:
        composed = np.einsum("gij,hjk->ghik", irrep.matrices, irrep.matrices)
        assert np.allclose(irrep.matrices[group.multiplication], composed, atol=1e-12)
        assert np.allclose(irrep.matrices @ irrep.matrices.transpose(0, 2, 1), np.eye(irrep.dimension), atol=1e-12)
    products = group.characters @ (group.characters * [len(c) for c in group.classes]).T
    assert np.allclose(products, np.diag([group.order * irrep.commutant for irrep in group.irreps]))
    assert np.allclose(group.fourier @ group.fourier.T, np.eye(group.order), atol=1e-12)


@pytest.mark.parametrize("label", [members[0].label for members in octahedral_group("Oh").subgroup_classes])
def test_field_types_fall_apart_into_its_irreps(label):
    group = point_group(label)
    matrices = representation("0e+1o+2x2e", group)
    found = decompose(matrices, group)
    rows = [group.irrep(name).matrices for name, count in found.multiplicities.items() for _ in range(count)]
    blocks, start = np.zeros_like(matrices), 0
    for row in rows:
        inside = slice(start, start + row.shape[1])
        blocks[:, inside, inside], start = row, inside.stop
    assert np.allclose(found.basis.T @ found.basis, np.eye(len(found.basis)), atol=1e-12)
    assert np.allclose(found.basis.T @ matrices @ found.basis, blocks, atol=1e-10)
    parts = split_by_irrep(group.fourier, group)
    assert sum(part.shape[-1] * part.shape[-2] for part in parts.values()) == group.order


@pytest.mark.parametrize(
    "label, names",
    [
        ("C1", "A"),
        ("Ci", "Ag Au"),
        ("Cs [010]", "A' A''"),
        ("C2v(100;100) [100]", "A1 A2 B1 B2"),
        ("D2(100)", "A B1 B2 B3"),
        ("C4 [001]", "A B E"),
        ("S4 [001]", "A B E"),
        ("C4v [001]", "A1 A2 B1 B2 E"),
        ("D2d(100;100) [001]", "A1 A2 B1 B2 E"),
        ("S6 [111]", "Ag Eg Au Eu"),
        ("D3d [111]", "A1g A2g Eg A1u A2u Eu"),
        ("D4h [001]", "A1g A2g B1g B2g Eg A1u A2u B1u B2u Eu"),
        ("T", "A E T"),
        ("Td", "A1 A2 E T1 T2"),
        ("Th", "Ag Eg Tg Au Eu Tu"),
    ],
)
def test_mulliken_symbols(label, names):
    """As printed character tables have them."""
    assert [irrep.name for irrep in point_group(label).irreps] == names.split()


def test_irreps_of_complex_type():
    """E of C4 and of T, and no irrep of O_h or D4h: their complex halves are conjugate, not equal."""
    for label, wanted in (("C4 [001]", {"E"}), ("T", {"E"}), ("S6 [111]", {"Eg", "Eu"}), ("D4h [001]", set())):
        irreps = point_group(label).irreps
        assert {irrep.name for irrep in irreps if irrep.commutant == 2} == wanted
    assert all(irrep.commutant == 1 for irrep in octahedral_group("Oh").irreps)


def test_a_group_is_found_by_its_label_and_is_one_object():
    channel = point_group("C2v(100;100)[100]")
    assert channel is point_group("C2v(100;100) [100]") and channel.order == 4
    assert sorted(o.label for o in channel.operations) == ["C2[100]", "E", "sigma_h[001]", "sigma_h[010]"]
    assert pickle.loads(pickle.dumps(channel)) is channel
    assert point_group("Oh") is octahedral_group("Oh") and point_group("O") is octahedral_group("O")
    assert point_group("Td").order == point_group("Th").order == 24
    assert channel.class_names == ("E", "C2", "sigma_h[010]", "sigma_h[001]")


@pytest.mark.parametrize("name, expected", [("C2v", "C2v(100;100) [100]"), ("C4v", "C4v [001]"), ("D6h", "subgroup")])
def test_a_name_of_several_or_of_none_is_refused(name, expected):
    with pytest.raises(FlowsrError) as refused:
        point_group(name)
    assert refused.value.variable == "group" and expected in refused.value.expected
