"""Who is chosen, who may overrule it, and what is said about it."""

import dataclasses

import pytest
import torch

from flowsr.errors import FlowsrError
from flowsr.group.octahedral import octahedral_group
from flowsr.kernels import KERNELS, Case, ConvolutionTables, Kernel, explain, group_convolution, use_kernel
from flowsr.kernels.dense import dense_convolution

PERIODIC = ("periodic",) * 3


def case_of(name="O", channels=8, cells=(16, 16, 16), gradient=True, banks=1, taps=27, **changes):
    group = octahedral_group(name)
    case = Case(
        order=group.order,
        irrep_dimensions=tuple(irrep.dimension for irrep in group.irreps),
        batch=1,
        channels_in=channels,
        channels_out=channels,
        filter_banks=banks,
        taps=taps,
        cells=cells,
        padding=PERIODIC,
        dtype=torch.float32,
        device="cpu",
        gradient=gradient,
        irrep_copies=tuple(irrep.copies for irrep in group.irreps),
    )
    return dataclasses.replace(case, **changes)


@pytest.fixture
def spy(monkeypatch):
    """A kernel that does what the dense one does and counts its calls."""
    calls = []

    def convolve(*operands):
        calls.append(operands)
        return dense_convolution(*operands)

    monkeypatch.setitem(KERNELS._entries, "spy", Kernel(convolve, lambda case: None, lambda case: 1e6))
    return calls


@pytest.fixture
def operands():
    group = octahedral_group("O")
    return (
        torch.randn(1, 1, 24, 3, 3, 3),
        torch.randn(1, 1, 1, 24, 27),
        torch.ones(1, 24),
        ConvolutionTables(group, 3),
        PERIODIC,
    )


def test_wide_layers_get_the_fourier_kernel_and_narrow_ones_the_dense_one():
    assert explain(case_of("Oh", channels=16)).kernel == "fourier"
    assert explain(case_of("O", channels=8)).kernel == "fourier"
    assert explain(case_of("O", channels=2)).kernel == "dense"
    assert explain(case_of("O", channels=8, taps=1)).kernel == "dense"


def test_where_nothing_was_measured_the_dense_kernel_runs():
    assert explain(case_of("Oh", channels=16, device="mps")).kernel == "dense"
    assert explain(case_of("Oh", channels=16, dtype=torch.bfloat16)).kernel == "dense"
    assert explain(case_of("Oh", channels=16, dtype=torch.float64)).kernel == "fourier"


def test_many_filter_banks_favour_the_dense_kernel():
    """It mixes the banks before it convolves; the other convolves every bank."""
    one, many = case_of(channels=8), case_of(channels=8, banks=8)
    ratio = [explain(c).costs["fourier"] / explain(c).costs["dense"] for c in (one, many)]
    assert ratio[1] > 2 * ratio[0]


def test_several_threads_favour_the_dense_kernel():
    one, two = (explain(case_of(channels=8, threads=threads)).costs for threads in (1, 2))
    assert two["fourier"] / two["dense"] > 1.2 * one["fourier"] / one["dense"]


def test_costs_grow_with_the_work():
    for name in ("dense", "fourier"):
        cost = KERNELS[name].cost
        base = cost(case_of(gradient=False))
        assert 1.7 * base < cost(case_of(gradient=False, cells=(32, 16, 16))) < 2.3 * base
        assert 1.7 * base < cost(case_of(gradient=True)) < 3.5 * base
        assert cost(case_of(gradient=False, channels=16)) > 2 * base


def test_the_case_is_read_off_the_operands(operands):
    features, filters, _, tables, padding = operands
    case = Case.of(features, filters, tables, padding)
    threads = torch.get_num_threads()
    assert case_of(channels=1, cells=(3, 3, 3), gradient=False, threads=threads) == case
    assert Case.of(features, filters.requires_grad_(), tables, padding).gradient
    with torch.no_grad():
        assert not Case.of(features, filters, tables, padding).gradient
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Case.of(features, filters, tables, padding).dtype == torch.bfloat16


def test_argument_beats_context_beats_environment_beats_cost(operands, spy, monkeypatch):
    group_convolution(*operands)
    assert len(spy) == 0
    monkeypatch.setenv("FLOWSR_KERNEL", "spy")
    group_convolution(*operands)
    assert len(spy) == 1
    with use_kernel("dense"):
        group_convolution(*operands)
        assert len(spy) == 1
        group_convolution(*operands, kernel="spy")
        assert len(spy) == 2
    group_convolution(*operands)
    assert len(spy) == 3
    assert "forced by FLOWSR_KERNEL" in str(explain(case_of()))


def test_explanation_names_winner_reason_costs_and_refusals(monkeypatch):
    refusing = Kernel(dense_convolution, lambda case: "only on Sundays", lambda case: 0.0)
    monkeypatch.setitem(KERNELS._entries, "sunday", refusing)
    text = str(explain(case_of(channels=2)))
    assert (
        text.startswith("dense: lowest predicted time")
        and "fourier" in text
        and "sunday cannot: only on Sundays" in text
    )
    with pytest.raises(FlowsrError, match="only on Sundays"):
        explain(case_of(), "sunday")


def test_unknown_kernels_are_refused_with_a_suggestion(operands, monkeypatch):
    with pytest.raises(FlowsrError, match="did you mean 'fourier'"):
        group_convolution(*operands, kernel="furier")
    with pytest.raises(FlowsrError, match="unknown convolution kernel"), use_kernel("nothing"):
        pass
    monkeypatch.setenv("FLOWSR_KERNEL", "cuda")
    with pytest.raises(FlowsrError, match="unknown convolution kernel 'cuda'"):
        group_convolution(*operands)


def test_use_kernel_ends_with_its_block_even_on_errors(operands, spy):
    with pytest.raises(RuntimeError), use_kernel("spy"):
        raise RuntimeError
    group_convolution(*operands)
    assert len(spy) == 0


def test_bias_and_activation_come_after(operands):
    plain = group_convolution(*operands)
    bias = torch.tensor([0.7])
    for name in ("relu", "gelu", "silu"):
        expected = getattr(torch.nn.functional, name)(plain + 0.7)
        for kernel in ("dense", "fourier"):
            found = group_convolution(*operands, bias=bias, activation=name, kernel=kernel)
            assert torch.allclose(found, expected, atol=1e-4)


def test_a_fused_kernel_gets_bias_and_activation(operands, monkeypatch):
    seen = {}

    def fused(*args, bias, activation):
        seen.update(bias=bias, activation=activation)
        return dense_convolution(*args)

    monkeypatch.setitem(KERNELS._entries, "fused", Kernel(dense_convolution, lambda c: None, lambda c: 0.0, fused))
    bias = torch.tensor([1.0])
    result = group_convolution(*operands, bias=bias, activation="relu")
    assert seen == {"bias": bias, "activation": "relu"}
    assert torch.equal(result, dense_convolution(*operands))
