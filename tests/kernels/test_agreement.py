"""Every kernel computes the written formula."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsr.group.fields import representation, subvoxel_permutation, tap_permutation
from flowsr.group.octahedral import octahedral_group
from flowsr.kernels import ConvolutionTables, group_convolution
from flowsr.kernels.dense import convolve
from flowsr.kernels.expansion import expand_group, expand_lifting, expand_projection
from flowsr.kernels.padding import pad
from flowsr.kernels.reference import reference_convolution, reference_lifting, reference_projection
from flowsr.nn.upsample import subvoxels_to_space

GROUPS = ("O", "Oh")
ON_ANY_DEVICE = ("dense", "fourier")  # the kernel for GPUs has tests of its own
PADDINGS = (("periodic",) * 3, ("zero",) * 3, ("replicate", "periodic", "replicate"), ("reflect", "zero", "periodic"))


def operands(group, taps=27, banks=1, channels=(1, 2), cells=(3, 4, 5), dtype=torch.float64, seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, channels[0], group.order, *cells, dtype=torch.float64, generator=generator)
    filters = torch.randn(banks, channels[1], channels[0], group.order, taps, dtype=torch.float64, generator=generator)
    weights = torch.randn(banks, group.order, dtype=torch.float64, generator=generator)
    return [operand.to(dtype) for operand in (features, filters, weights)]


def relative(error, of):
    return float(error.detach().norm() / of.detach().norm())


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(
    "taps, banks, cells", [(27, 1, (3, 4, 5)), (27, 2, (4, 2, 3)), (1, 2, (2, 3, 1)), (125, 1, (3, 4, 5))]
)
@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("kernel", ON_ANY_DEVICE)
def test_kernels_match_the_formula(kernel, name, taps, banks, cells, padding):
    group = octahedral_group(name)
    tables = ConvolutionTables(group, round(taps ** (1 / 3)))
    features, filters, weights = operands(group, taps, banks, cells=cells, batch=1)
    expected = reference_convolution(features, filters, weights, group, padding)
    found = group_convolution(features, filters, weights, tables, padding, kernel=kernel)
    assert found.shape == expected.shape
    assert relative(found - expected, expected) < 1e-12


def test_the_formula_itself_on_one_voxel():
    """The reference against five nested sums written out, on a field of one cell between zeros and in a 2^3 torus."""
    group = octahedral_group("O")
    features, filters, weights = operands(group, cells=(2, 2, 2), channels=(1, 1), batch=1)
    taps = [(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)]
    found = reference_convolution(features, filters, weights, group, ("periodic",) * 3)
    for g in (3, 11):
        total = 0.0
        for y in taps:
            for h in range(group.order):
                source = taps.index(tuple(group.matrices[group.inverse[g]] @ y))
                quotient = group.multiplication[group.inverse[g], h]
                psi = filters[0, 0, 0, quotient, source]
                total += float(weights[0, g] * psi * features[0, 0, h, y[0] % 2, (1 + y[1]) % 2, y[2] % 2])
        assert float(found[0, 0, g, 0, 1, 0]) == pytest.approx(total, rel=1e-10)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("name", GROUPS)
def test_lifting_and_projection_match_their_formulas(name, padding):
    group = octahedral_group(name)
    tables = ConvolutionTables(group, 3, irreps="0e+2e", upsample=2)
    generator = torch.Generator().manual_seed(1)
    field = torch.randn(1, 2, 6, 3, 2, 4, dtype=torch.float64, generator=generator)
    psi = torch.randn(2, 2, 2, 6, 27, dtype=torch.float64, generator=generator)
    weights = torch.randn(2, group.order, dtype=torch.float64, generator=generator)
    lifted = convolve(field.flatten(1, 2), expand_lifting(psi, weights, tables), padding).unflatten(
        1, (-1, group.order)
    )
    expected = reference_lifting(field, psi, weights, group, "0e+2e", padding)
    assert relative(lifted - expected, expected) < 1e-12
    phi = torch.randn(2, 6, 8, 2, 27, dtype=torch.float64, generator=generator)
    coarse = convolve(lifted.flatten(1, 2), expand_projection(phi, weights, tables), padding)
    projected = subvoxels_to_space(coarse.unflatten(1, (-1, 8)), 2)
    expected = reference_projection(lifted, phi, weights, group, "0e+2e", padding, upsample=2)
    assert relative(projected - expected, expected) < 1e-12


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(GROUPS),
    cells=st.tuples(*[st.integers(2, 5)] * 3),
    channels=st.tuples(*[st.integers(1, 3)] * 2),
    banks=st.integers(1, 2),
    batch=st.integers(1, 2),
    padding=st.tuples(*[st.sampled_from(("periodic", "zero", "replicate", "reflect"))] * 3),
    seed=st.integers(0, 9),
)
def test_kernels_agree_on_any_shape(name, cells, channels, banks, batch, padding, seed):
    """Results and all gradients, of the kernels among themselves."""
    group = octahedral_group(name)
    tables = ConvolutionTables(group, 3)
    values = [
        v.requires_grad_() for v in operands(group, banks=banks, channels=channels, cells=cells, seed=seed, batch=batch)
    ]
    outcomes = []
    for kernel in ON_ANY_DEVICE:
        result = group_convolution(*values, tables, padding, kernel=kernel)
        outcomes.append((result, *torch.autograd.grad(result.sin().sum(), values)))
    for outcome in outcomes[1:]:
        assert all(relative(a - b, a) < 1e-10 for a, b in zip(outcomes[0], outcome))


@pytest.mark.parametrize("name", GROUPS)
def test_float32_rounding_of_the_fourier_kernel(name):
    """Against float64: no worse than the dense kernel by more than a few units in the last place."""
    group = octahedral_group(name)
    tables, padding = ConvolutionTables(group, 3), ("periodic",) * 3
    exact = operands(group, channels=(2, 3))
    rounded = operands(group, channels=(2, 3), dtype=torch.float32)
    truth = group_convolution(*exact, tables, padding, kernel="dense")
    for kernel in ("dense", "fourier"):
        assert relative(group_convolution(*rounded, tables, padding, kernel=kernel).double() - truth, truth) < 1e-6


def test_fourier_in_many_small_blocks(monkeypatch):
    """Blocks of one line of cells give what one block gives, and the workspace is as small as asked for."""
    from flowsr.kernels import fourier

    group = octahedral_group("O")
    tables, padding = ConvolutionTables(group, 3), ("periodic", "zero", "zero")
    values = [v.requires_grad_() for v in operands(group)]
    outcomes = []
    for budget in (1, 27 * 24 * 5 * 8 * 3, 10**9):
        monkeypatch.setitem(fourier.WORKSPACE, "cpu", budget)
        result = group_convolution(*values, tables, padding, kernel="fourier")
        outcomes.append((result, *torch.autograd.grad(result.sin().sum(), values)))
    for outcome in outcomes[1:]:
        assert all(relative(a - b, a) < 1e-12 for a, b in zip(outcomes[0], outcome))


def test_fourier_never_holds_the_gathered_input(monkeypatch):
    """No buffer of the workspace exceeds its budget, while the gathered input would be many times that."""
    from flowsr.kernels import fourier

    budget, sizes = 300_000, []
    monkeypatch.setattr(fourier, "MOST_THREADS", 1)
    monkeypatch.setitem(fourier.WORKSPACE, "cpu", budget)
    original = fourier._workspace
    monkeypatch.setattr(fourier, "_workspace", lambda *a: sizes.append(original(*a)) or sizes[-1])
    group = octahedral_group("O")
    features, filters, weights = operands(group, cells=(8, 8, 8), dtype=torch.float32)
    values = [features.requires_grad_(), filters.requires_grad_(), weights]
    result = group_convolution(*values, ConvolutionTables(group, 3), ("periodic",) * 3, kernel="fourier")
    result.sum().backward()
    assert len(sizes) == 2 and all(w[0].numel() * w.element_size() <= budget for w in sizes)
    assert 27 * features.numel() * 4 > 5 * budget


def test_fourier_operators_keep_torch_s_contract():
    """Schema, autograd registration, shapes under tracing."""
    group = octahedral_group("O")
    tables = ConvolutionTables(group, 3)
    features, filters, _ = operands(group, cells=(3, 4, 3), channels=(1, 1), batch=1)
    dimensions = [irrep.dimension for irrep in group.irreps]
    constants = (tables.fourier, tables.tap_action, tables.inverse, dimensions, dimensions, "periodic,none,zero")
    result = torch.ops.flowsr.fourier_convolution(features, filters[0], *constants)
    values = (features.requires_grad_(), filters[0].clone().requires_grad_())
    tests = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.flowsr.fourier_convolution, (*values, *constants), test_utils=tests)
    gradient = torch.randn_like(result).requires_grad_()
    torch.library.opcheck(
        torch.ops.flowsr.fourier_convolution_gradients, (*values, gradient, *constants), test_utils=tests
    )


@pytest.mark.parametrize("name", GROUPS)
def test_expanded_filters_are_permutations(name):
    """Copy g of a group filter holds the same numbers, at (g^-1 h, g^-1 y); the identity's is the filter itself."""
    group = octahedral_group(name)
    tables = ConvolutionTables(group, 3)
    _, filters, _ = operands(group, channels=(2, 3))
    expanded = expand_group(filters, torch.ones(1, group.order, dtype=torch.float64), tables)
    expanded = expanded.view(3, group.order, 2, group.order, 27)
    assert torch.equal(expanded[:, 0], filters[0])
    taps = tap_permutation(group, 3)
    for g, h, y in ((1, 2, 3), (7, 20, 11), (group.order - 1, 5, 26)):
        assert torch.equal(expanded[:, g, :, h, y], filters[0][:, :, group.left_quotient[g, h], taps[g, y]])
    expected = filters[0].flatten().sort().values.repeat_interleave(group.order)
    assert torch.equal(expanded.flatten().sort().values, expected)


def test_expanded_projection_follows_the_sub_positions():
    group = octahedral_group("Oh")
    tables = ConvolutionTables(group, 3, irreps="1o", upsample=2)
    filters = torch.randn(1, 3, 8, 1, 27, dtype=torch.float64)
    weights = torch.rand(1, group.order, dtype=torch.float64)
    expanded = expand_projection(filters, weights, tables).view(3, 8, 1, group.order, 27)
    taps, cells, rho = (
        tap_permutation(group, 3),
        subvoxel_permutation(group, 2),
        torch.tensor(representation("1o", group)),
    )
    for g, p, y in ((0, 1, 2), (9, 6, 13), (40, 3, 25)):
        expected = weights[0, g] * rho[g] @ filters[0, :, cells[g, p], 0, taps[g, y]] / group.order
        assert torch.allclose(expanded[:, p, 0, g, y], expected, rtol=1e-14)


def test_pad_continues_each_axis_as_asked():
    line = torch.arange(1.0, 4).view(1, 1, 3, 1, 1)
    continued = {
        "periodic": [2, 3, 1, 2, 3, 1, 2],
        "zero": [0, 0, 1, 2, 3, 0, 0],
        "replicate": [1, 1, 1, 2, 3, 3, 3],
        "reflect": [3, 2, 1, 2, 3, 2, 1],
    }
    for mode, expected in continued.items():
        padded = pad(line, 2, (mode, "replicate", "zero"))
        assert padded.shape == (1, 1, 7, 5, 5)
        assert padded[0, 0, :, 0, 2].tolist() == expected and padded[0, 0, :, 4, 1].tolist() == [0] * 7
    assert pad(line, 2, ("none", "zero", "none")).shape == (1, 1, 3, 5, 1)
    assert pad(line, 0, ("zero",) * 3) is line


def test_pad_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="needs more cells"):
        pad(torch.zeros(1, 1, 3, 3, 2), 2, ("zero", "zero", "reflect"))
    with pytest.raises(ValueError, match="needs more cells"):
        pad(torch.zeros(1, 1, 3, 3, 1), 2, ("zero", "zero", "periodic"))
    with pytest.raises(ValueError, match="padding must be"):
        pad(torch.zeros(1, 1, 3, 3, 3), 1, ("zero", "zero", "mirror"))
    with pytest.raises(ValueError, match="padding must be"):
        pad(torch.zeros(1, 1, 3, 3, 3), 1, ("zero", "zero"))
