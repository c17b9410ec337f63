"""The Triton kernel, run by Triton's interpreter. `test_triton.py` starts this file in a process with
TRITON_INTERPRET=1.

Every comparison is with the dense kernel in float64, itself held to the formula elsewhere, or with the formula.
"""

import os

import pytest
import torch

from flowsr.errors import FlowsrError
from flowsr.group.octahedral import octahedral_group, point_group
from flowsr.kernels import ConvolutionTables, group_convolution
from flowsr.kernels.reference import reference_convolution
from flowsr.kernels.triton_kernel import launch, operator
from flowsr.nn import GroupConv

assert os.environ.get("TRITON_INTERPRET") == "1", "run by test_triton.py"
PERIODIC = ("periodic",) * 3
WALLS = ("zero", "replicate", "reflect")


def operands(name, banks=1, channels=(1, 1), cells=(2, 3, 4), k=3, batch=1, seed=0, bias=True):
    group = point_group(name)
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, channels[0], group.order, *cells, generator=generator)
    filters = torch.randn(banks, channels[1], channels[0], group.order, k**3, generator=generator)
    weights = 1 + 0.3 * torch.randn(banks, group.order, generator=generator)
    values = [features, filters, weights]
    return values + ([torch.randn(channels[1], generator=generator)] if bias else []), ConvolutionTables(group, k)


def convolve(values, tables, padding, kernel, activation=None):
    features, filters, weights, *bias = values
    return group_convolution(
        features,
        filters,
        weights,
        tables,
        padding,
        bias=bias[0] if bias else None,
        activation=activation,
        kernel=kernel,
    )


def errors(values, tables, padding, activation=None, seed=1):
    """Relative errors of the result and of every gradient."""
    ours = [value.detach().requires_grad_() for value in values]
    exact = [value.detach().double().requires_grad_() for value in values]
    result = convolve(ours, tables, padding, "triton", activation)
    expected = convolve(exact, tables, padding, "dense", activation)
    upstream = torch.randn(expected.shape, generator=torch.Generator().manual_seed(seed)).to(result.dtype)
    found = (result, *torch.autograd.grad(result, ours, upstream))
    wanted = (expected, *torch.autograd.grad(expected, exact, upstream.double()))
    assert all(a.shape == b.shape and a.dtype == v.dtype for a, b, v in zip(found[1:], wanted[1:], values))
    return [float((a.detach().double() - b.detach()).norm() / b.detach().norm()) for a, b in zip(found, wanted)]


def small_boxes(monkeypatch, lines):
    """Let a box have this many lines of z of one cell (float32, O, up to 16 columns, two slabs) with its halo; the
    boxes taken."""
    taken, original = [], launch.boxes
    monkeypatch.setattr(launch, "WORKSPACE_SHARE", 0)
    monkeypatch.setattr(launch, "WORKSPACE_BYTES", lines * 3 * (4 * 16 * 2 * 4))
    monkeypatch.setattr(operator, "boxes", lambda *arguments: taken.append(original(*arguments)) or taken[-1])
    return taken


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that nothing has written yet holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


class TestForward:
    @pytest.mark.parametrize(
        "name, banks, k, cells, padding",
        [
            pytest.param("O", 2, 3, (2, 3, 4), PERIODIC, marks=pytest.mark.slow),
            ("Oh", 1, 3, (2, 3, 4), WALLS),
            ("O", 2, 3, (3, 2, 1), ("reflect", "periodic", "replicate")),
            ("O", 1, 1, (2, 1, 1), WALLS),
            ("Oh", 2, 1, (1, 2, 3), PERIODIC),
            ("O", 1, 3, (1, 1, 1), ("periodic", "zero", "replicate")),
        ],
    )
    def test_it_is_the_formula(self, name, banks, k, cells, padding):
        (features, filters, weights), tables = operands(name, banks, (2, 1), cells, k, batch=2, bias=False)
        found = group_convolution(features, filters, weights, tables, padding, kernel="triton")
        expected = reference_convolution(features.double(), filters.double(), weights.double(), tables.group, padding)
        assert float((found - expected).norm() / expected.norm()) < 1e-6

    @pytest.mark.parametrize("activation", ["relu", "gelu", "silu", None])
    def test_bias_and_activation(self, activation):
        values, tables = operands("O", 2, (1, 2), cells=(2, 2, 1), k=1)
        expected = convolve([v.double() for v in values], tables, PERIODIC, "dense", activation)
        found = convolve(values, tables, PERIODIC, "triton", activation)
        assert float((found - expected).norm() / expected.norm()) < 1e-6

    def test_fields_of_any_strides(self):
        (features, *others), tables = operands("O", channels=(2, 1), cells=(2, 3, 2), k=1)
        expected = convolve([features, *others], tables, WALLS, "triton")
        last = features.permute(0, 3, 4, 5, 1, 2).contiguous().permute(0, 4, 5, 1, 2, 3)
        padded = torch.full((2, 4, 24, 4, 5, 4), torch.nan)
        padded[1:, ::2, :, 1:3, 1:4, :2] = features
        for other in (last, padded[1:, ::2, :, 1:3, 1:4, :2]):
            assert not other.is_contiguous()
            assert torch.equal(convolve([other, *others], tables, WALLS, "triton"), expected)

    def test_many_small_boxes_give_what_one_gives(self, monkeypatch):
        values, tables = operands("O", cells=(2, 1, 1), batch=2)
        whole = convolve(values, tables, ("periodic", "replicate", "zero"), "triton")
        taken = small_boxes(monkeypatch, lines=16)
        found = convolve(values, tables, ("periodic", "replicate", "zero"), "triton")
        assert float((found - whole).norm() / whole.norm()) < 1e-6
        assert [len(boxes) for boxes in taken] == [2]

    def test_an_impossible_padding_is_refused(self):
        values, tables = operands("O", cells=(1, 2, 2))
        with pytest.raises(ValueError, match="needs more cells"):
            convolve(values, tables, ("reflect", "zero", "zero"), "triton")

    def test_nothing_but_nan_is_not_a_number(self):
        """relu keeps NaN, as torch's does, and a NaN reaches only its neighbours."""
        values, tables = operands("O", cells=(4, 1, 1))
        values[0][0, 0, 0, 0] = torch.nan
        found = convolve(values, tables, ("zero",) * 3, "triton", "relu").isnan().flatten(0, 2).any(0).flatten()
        assert found.tolist() == [True, True, False, False]


class TestGradients:
    @pytest.mark.parametrize(
        "name, banks, k, cells, padding, activation",
        [
            pytest.param("O", 1, 3, (2, 2, 1), PERIODIC, None, marks=pytest.mark.slow),
            ("O", 2, 1, (2, 1, 3), WALLS, "gelu"),
            ("Oh", 1, 1, (1, 2, 1), PERIODIC, "silu"),
            pytest.param("O", 1, 3, (2, 1, 2), ("reflect", "zero", "replicate"), "relu", marks=pytest.mark.slow),
            ("C2v(100;100) [100]", 2, 3, (2, 1, 2), ("periodic", "replicate", "zero"), "gelu"),
            ("C3 [111]", 1, 3, (2, 1, 2), ("reflect", "zero", "replicate"), "relu"),
            pytest.param("C3 [111]", 1, 3, (2, 2, 1), PERIODIC, None, marks=pytest.mark.slow),
        ],
    )
    def test_all_gradients(self, name, banks, k, cells, padding, activation):
        values, tables = operands(name, banks, (1, 2), cells, k)
        assert max(errors(values, tables, padding, activation)) < 3e-6

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "banks, activation, padding",
        [
            (1, None, PERIODIC),
            (2, "relu", WALLS),
            (2, "gelu", ("reflect", "periodic", "zero")),
            (1, "silu", ("replicate", "reflect", "periodic")),
        ],
    )
    @pytest.mark.parametrize("name", ["O", "Oh"])
    def test_all_gradients_of_larger_fields(self, name, banks, activation, padding):
        values, tables = operands(name, banks, (2, 3), (3, 4, 5), batch=2)
        assert max(errors(values, tables, padding, activation)) < 3e-6

    @pytest.mark.slow
    def test_kernels_of_five_taps_a_side(self):
        values, tables = operands("O", 1, (1, 1), (3, 4, 5), 5)
        assert max(errors(values, tables, ("replicate", "periodic", "reflect"))) < 3e-6

    def test_columns_in_two_parts(self):
        """36 columns are worked on as 32 and 16."""
        assert launch.Blocks.of(torch.float32, torch.device("cpu")).parts(36) == (32, 16)
        values, tables = operands("C3 [111]", channels=(12, 12), cells=(2, 1, 1), k=1)
        assert max(errors(values, tables, PERIODIC, "relu")) < 3e-6

    def test_relaxed_weights_too_small_to_divide_by(self):
        values, tables = operands("O", k=1, cells=(2, 2, 2))
        values[2][0, 5], values[2][0, 7] = 0.0, 1e-6
        assert max(errors(values, tables, PERIODIC, "relu")) < 3e-6

    def test_only_what_is_asked_for(self):
        values, tables = operands("O", k=1, cells=(2, 1, 1))
        for wanted in range(4):
            ours = [value.clone().requires_grad_(number == wanted) for number, value in enumerate(values)]
            result = convolve(ours, tables, PERIODIC, "triton", "silu")
            result.sum().backward()  # the gradient is one number seen everywhere: all strides zero
            exact = [value.double().requires_grad_(number == wanted) for number, value in enumerate(values)]
            convolve(exact, tables, PERIODIC, "dense", "silu").sum().backward()
            assert torch.allclose(ours[wanted].grad.double(), exact[wanted].grad, rtol=1e-4, atol=1e-4)
            assert all(value.grad is None for number, value in enumerate(ours) if number != wanted)

    def test_gradients_in_small_boxes(self, monkeypatch):
        values, tables = operands("O", k=3, cells=(2, 1, 1), bias=False)
        values[2][0, 3] = 0.0
        taken = small_boxes(monkeypatch, lines=20)
        assert max(errors(values, tables, ("replicate", "periodic", "zero"))) < 3e-6
        assert [len(boxes) for boxes in taken] == [1, 2, 1]

    def test_derivatives_of_derivatives(self):
        values, tables = operands("O", cells=(2, 1, 2), k=3)
        outcomes = []
        for kernel, dtype in (("triton", torch.float32), ("dense", torch.float64)):
            ours = [value.to(dtype).requires_grad_() for value in values]
            first = torch.autograd.grad(
                convolve(ours, tables, PERIODIC, kernel, "silu").sin().sum(), ours, create_graph=True
            )
            outcomes.append(torch.autograd.grad(sum(part.square().sum() for part in first), ours))
        assert all(float((a - b).norm() / b.norm()) < 1e-5 for a, b in zip(*outcomes))


class TestPrecisions:
    @pytest.mark.parametrize(
        "k, dtype, tolerance",
        [
            pytest.param(3, torch.bfloat16, 1e-2, marks=pytest.mark.slow),
            (1, torch.bfloat16, 1e-2),
            (1, torch.float16, 2e-3),
        ],
    )
    def test_sixteen_bit_features(self, k, dtype, tolerance):
        values, tables = operands("O", channels=(2, 1), cells=(2, 2, 2), k=k)
        values[0] = values[0].to(dtype)
        assert convolve(values, tables, PERIODIC, "triton").dtype == dtype
        found = errors(values, tables, PERIODIC)
        assert max(found) < tolerance and max(found) > 1e-5

    def test_autocast_reads_float32_and_writes_bfloat16(self):
        values, tables = operands("O", k=1, cells=(2, 2, 1))
        ours = [value.requires_grad_() for value in values]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = convolve(ours, tables, PERIODIC, "triton")
        assert result.dtype == torch.bfloat16
        assert all(part.dtype == torch.float32 for part in torch.autograd.grad(result.float().sum(), ours))


class TestLayer:
    def test_a_layer_is_equivariant_on_it(self):
        from flowsr.group.fields import transform_regular

        group = octahedral_group("O")
        layer = GroupConv(group, 1, 1, activation="relu", kernel="triton")
        features = torch.randn(1, 1, 24, 2, 3, 1, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            result = layer(features)
            for element in (7, 20):
                transformed = layer(transform_regular(features, element, group))
                expected = transform_regular(result, element, group)
                assert float((transformed - expected).norm() / expected.norm()) < 1e-5

    def test_compiled_whole(self):
        """torch.compile sees one operator, forward and backward."""
        group = octahedral_group("O")
        layer = GroupConv(group, 1, 1, kernel_size=1, activation="gelu", kernel="triton")
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        features = torch.randn(1, 1, 24, 2, 2, 1, requires_grad=True)
        expected = torch.autograd.grad(layer(features).sin().sum(), [features, *layer.parameters()])
        found = torch.autograd.grad(compiled(features).sin().sum(), [features, *layer.parameters()])
        assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip(found, expected))

    def test_compiled_under_autocast(self):
        """The same bits as eager: autocast rounds what is convolved, and nothing inside."""
        layer = GroupConv(octahedral_group("O"), 1, 1, kernel_size=1, activation="gelu", kernel="triton")
        features = torch.randn(1, 1, 24, 2, 2, 1, generator=torch.Generator().manual_seed(0))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = [run(features) for run in (layer, torch.compile(layer, fullgraph=True, backend="aot_eager"))]
        assert torch.equal(*found)

    def test_operators_keep_torch_s_contract(self):
        values, _ = operands("O", k=1, cells=(1, 2, 1))
        values = [value.requires_grad_() for value in values]
        tests = ("test_schema", "test_autograd_registration", "test_faketensor")
        for activation, keep in (("silu", True), ("none", False)):
            settings = ("O", "periodic,zero,replicate", activation, torch.float32)
            torch.library.opcheck(torch.ops.flowsr.sign_convolution, (*values, *settings, keep), test_utils=tests)
            result, before = torch.ops.flowsr.sign_convolution(*[v.detach() for v in values], *settings, keep)
            gradients = (torch.randn_like(result), *[v.detach() for v in values], before if keep else result, *settings)
            for needed in ([True] * 4, [True, False, False, True]):
                operation = torch.ops.flowsr.sign_convolution_gradients
                torch.library.opcheck(operation, (*gradients, needed), test_utils=("test_schema", "test_faketensor"))


class TestChoice:
    def test_float64_is_refused(self):
        values, tables = operands("O", k=1, cells=(1, 1, 1))
        with pytest.raises(FlowsrError, match="not in float64"):
            convolve([value.double() for value in values], tables, PERIODIC, "triton")
