"""The group convolution of each of the 98 subgroups of O_h, by every kernel, is the written formula."""

import pytest
import torch

from flowsr.group import octahedral_group, point_group
from flowsr.kernels import Case, ConvolutionTables, group_convolution
from flowsr.kernels.costs import dense_cost, fourier_cost
from flowsr.kernels.reference import reference_convolution
from flowsr.kernels.triton_kernel.signs import SignTables
from tests.kernels.test_triton import PERIODIC, in_characters

WHOLE = octahedral_group("Oh")
SMALL = [subgroup.label for subgroup in WHOLE.subgroups if subgroup.order < 24]  # test_agreement has O and O_h
CLASSES = [members[0].label for members in WHOLE.subgroup_classes]
EDGES = ("replicate", "periodic", "zero")


def operands(label, cells, banks=1):
    group, generator = point_group(label), torch.Generator().manual_seed(0)
    shapes = ((1, 1, group.order, *cells), (banks, 2, 1, group.order, 27), (banks, group.order))
    return group, [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]


def relative(error, of):
    return float(error.detach().norm() / of.detach().norm())


@pytest.mark.parametrize("label", [*SMALL, "Td", "Th"])
def test_kernels_match_the_formula(label):
    group, values = operands(label, (2, 1, 3), banks=2)
    tables = ConvolutionTables(group, 3)
    expected = reference_convolution(*values, group, EDGES)
    wanted = torch.autograd.grad(expected.sin().sum(), values)
    for kernel in ("dense", "fourier"):
        found = group_convolution(*values, tables, EDGES, kernel=kernel)
        assert relative(found - expected, expected) < 1e-12
        gradients = torch.autograd.grad(found.sin().sum(), values)
        assert all(relative(a - b, b) < 1e-10 for a, b in zip(gradients, wanted))


@pytest.mark.parametrize("label", CLASSES)
def test_the_form_that_the_gpu_computes(label):
    """Sign changes of any order, cosets of any number, in float64; the programs have tests of their own."""
    group, (features, filters, _) = operands(label, (3, 2, 3))
    found = in_characters(SignTables(group, 3, "cpu"), features.detach(), filters.detach()[0])
    expected = reference_convolution(features, filters, torch.ones(1, group.order).double(), group, PERIODIC)
    assert relative(found - expected, expected) < 1e-12


@pytest.mark.parametrize("label", ["C1", "C2v(100;100) [100]", "C4 [001]", "C3v [111]", "D4h [001]", "T", "O"])
def test_no_dearer_than_its_order_says(label):
    """At the same channels, order / 48 of the work on O_h or less, whichever kernel."""

    def case(name):
        group, (features, filters, _) = operands(name, (4, 4, 4))
        wide = filters.expand(1, 2, 1, group.order, 27).repeat(1, 4, 8, 1, 1)
        return Case.of(features.expand(1, 8, *features.shape[2:]), wide, ConvolutionTables(group, 3), PERIODIC)

    own, whole = case(label), case("Oh")
    share = own.order / 48
    assert dense_cost(own) <= share * dense_cost(whole) and own.irrep_products <= share * whole.irrep_products
    assert fourier_cost(own) < fourier_cost(whole)
