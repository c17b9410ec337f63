"""The Triton kernel: under the interpreter in processes of its own, compiled without a device, and on a GPU where there
is one."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flowsr.errors import FlowsrError
from flowsr.group.fields import tap_permutation
from flowsr.group.octahedral import octahedral_group
from flowsr.kernels import Case, ConvolutionTables, explain, group_convolution
from flowsr.kernels.reference import reference_convolution
from flowsr.kernels.triton_kernel import cost, launch, refusal
from flowsr.kernels.triton_kernel.signs import SignTables

HERE = Path(__file__).parent
PERIODIC = ("periodic",) * 3
needs_triton = pytest.mark.skipif(sys.platform != "linux", reason="Triton is made for Linux only")


def run(arguments, **environment):
    """Python in a process of its own, interpreting or not as ``environment`` says."""
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *arguments], env=inherited | environment, capture_output=True, text=True, cwd=HERE.parents[1]
    )


def interpreted(*selection):
    """Run tests of triton_under_interpreter.py; all of them must pass and none be skipped."""
    file = str(HERE / "triton_under_interpreter.py")
    outcome = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", *selection, file], TRITON_INTERPRET="1")
    last = outcome.stdout.strip().splitlines()[-1] if outcome.stdout.strip() else ""
    assert outcome.returncode == 0 and re.search(r"\b[1-9]\d* passed", last) and "skipped" not in last, outcome.stdout[
        -5000:
    ]


@needs_triton
@pytest.mark.parametrize("tests", ["TestGradients", "not TestGradients"])
def test_interpreted(tests):
    interpreted("-m", "not slow", "-k", tests)


@needs_triton
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_interpreted_at_length():
    interpreted("-m", "slow")


def case(**changes):
    base = Case(
        48, (1, 1, 2, 3, 3, 1, 1, 2, 3, 3), 1, 16, 16, 1, 27, (64, 64, 64), PERIODIC, torch.bfloat16, "cuda", True
    )
    return dataclasses.replace(base, **changes)


@pytest.mark.parametrize("interpreting", ["0", "1"])
def test_chosen_on_a_gpu_and_nowhere_else(interpreting, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", interpreting)
    assert explain(case()).kernel == "triton" and explain(case(gradient=False)).kernel == "triton"
    for elsewhere in (case(device="cpu"), case(device="mps"), case(dtype=torch.float64), case(taps=343)):
        assert explain(elsewhere).kernel != "triton"


def test_where_the_prediction_loses_cudnn_is_chosen(monkeypatch):
    narrow, short = case(order=24, channels_in=4, channels_out=4), case(cells=(8, 8, 8))
    assert explain(narrow).kernel == "dense" and explain(short).kernel == "dense"
    assert explain(case(order=24)).kernel == "triton"
    exact = case(dtype=torch.float32)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert explain(exact).kernel == "dense"
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert explain(exact).kernel == "triton"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_choice_on_a_gpu_can_be_traced(dtype):
    """torch.compile follows the cost model, and the check of conv3d, without a break."""

    def choice(values):
        return values + (explain(case(dtype=dtype)).kernel == "triton") + (explain(case(dtype=dtype)).fault is None)

    traced = torch.compile(choice, fullgraph=True, backend="eager")
    assert torch.equal(traced(torch.zeros(1)), choice(torch.zeros(1)))


def test_the_goal_of_four_times_is_what_the_counts_promise():
    """16 channels of O_h on 64^3 in bfloat16, forward and backward."""
    costs = explain(case()).costs
    assert costs["dense"] > 4 * costs["triton"] > 0.04


def test_refusals_are_said_in_words(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert refusal(case()) is None
    assert "NVIDIA GPU" in refusal(case(device="cpu")) and "TRITON_INTERPRET=1" in refusal(case(device="cpu"))
    assert "NVIDIA GPU" in refusal(case(device="xpu"))
    assert "float64" in refusal(case(dtype=torch.float64))
    assert "sizes up to 5" in refusal(case(taps=343))
    monkeypatch.setattr("flowsr.kernels.triton_kernel.INSTALLED", False)
    assert refusal(case()) == "triton is not installed"
    with pytest.raises(FlowsrError, match="triton is not installed"):
        explain(case(), "triton")


def test_cost_grows_with_the_work():
    assert 1.8 * cost(case()) < cost(case(batch=2)) < 2.2 * cost(case())
    assert 2.5 * cost(case(gradient=False)) < cost(case()) < 3.5 * cost(case(gradient=False))
    assert cost(case(filter_banks=3)) > 1.5 * cost(case()) and cost(case(dtype=torch.float32)) > 3 * cost(case())


def test_flowsr_without_triton():
    """Everything imports, and the kernel says why it cannot be used."""
    program = (
        "import sys; sys.modules['triton'] = None\n"
        "import flowsr.nn, flowsr.kernels\n"
        "from flowsr.kernels import KERNELS\n"
        "print(sorted(KERNELS))\n"
    )
    outcome = run(["-c", program])
    assert outcome.returncode == 0 and "'triton'" in outcome.stdout, outcome.stderr


def test_importing_flowsr_compiles_nothing():
    """The programs wait for their first use (torch and e3nn may import Triton for their own sake)."""
    outcome = run(["-c", "import sys, flowsr.nn; sys.exit('flowsr.kernels.triton_kernel.programs' in sys.modules)"])
    assert outcome.returncode == 0, outcome.stderr


def in_characters(tables, features, filters):
    """The formula of signs.py with whole periodic fields: slabs and sums in the precision of ``features``, products in
    float32 or better, as the programs do it."""
    order, dtype = tables.group.order, features.dtype
    wide = torch.promote_types(dtype, torch.float32)
    characters = torch.tensor(tables.characters, dtype=wide)
    transformed = torch.einsum("sk,bckqxyz->bsqcxyz", characters, features[:, :, tables.elements.long()].to(wide)).to(
        dtype
    )
    spectra, total = tables.spectra(filters.to(wide)).to(dtype).to(wide), 0
    for b, combination in enumerate(tables.combinations):
        shifted = transformed
        for axis, (m, sign) in enumerate(zip(combination.reach, combination.signs), start=4):
            shifted = shifted.roll(-m, axis) + sign * shifted.roll(m, axis) if m else shifted
        source = shifted[:, tables.sources[:, combination.parity].long()].to(wide)
        total = total + torch.einsum("sqcpo,bsqcxyz->bspoxyz", spectra[:, b], source)
    result = torch.empty(len(features), len(filters), order, *features.shape[-3:], dtype=dtype)
    values = torch.einsum("sk,bspoxyz->bokpxyz", characters, total.to(dtype).to(wide))
    result[:, :, tables.elements.long()] = values.to(dtype)
    return result


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("name", ["O", "Oh"])
def test_the_convolution_in_characters_is_the_convolution(name, k, dtype, tolerance):
    """Exactly in float64; and adding shifted fields of 16 bits, which the interpreter cannot show, costs no more than
    rounding."""
    group = octahedral_group(name)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 2, group.order, 5, 6, 7, dtype=torch.float64, generator=generator)
    filters = torch.randn(1, 3, 2, group.order, k**3, dtype=torch.float64, generator=generator) / k
    rounded, one = features.to(dtype), torch.ones(1, group.order, dtype=torch.float64)
    found = in_characters(SignTables(group, k, "cpu"), rounded, filters[0]).double()
    expected = reference_convolution(rounded.double(), filters, one, group, PERIODIC)
    assert float((found - expected).norm() / expected.norm()) < tolerance


@pytest.mark.parametrize("name", ["O", "Oh"])
def test_filter_maps_are_each_other_s_adjoints(name):
    tables = SignTables(octahedral_group(name), 3, "cpu")
    filters = torch.randn(2, 3, tables.group.order, 27, dtype=torch.float64)
    spectra = tables.spectra(filters)
    other = torch.randn_like(spectra)
    assert float((spectra * other).sum()) == pytest.approx(float((filters * tables.filters(other)).sum()), rel=1e-9)
    adjoint = tables.adjoint(filters)
    transformed = tap_permutation(tables.group, 3)
    for u, r in ((3, 5), (11, 0)):
        inverse = tables.group.inverse[u]
        assert torch.equal(adjoint[:, :, u, r], filters[:, :, inverse, 26 - transformed[u, r]].T)
    assert torch.equal(tables.adjoint(adjoint), filters)


def test_combinations_have_the_parity_they_claim():
    tables = SignTables(octahedral_group("Oh"), 5, "cpu")
    assert len(tables.combinations) == 125 == tables.first[-1]
    for number, combination in enumerate(tables.combinations):
        assert tables.first[combination.parity] <= number < tables.first[combination.parity + 1]
        taps = combination.coefficients(2).reshape(5, 5, 5)
        for axis in range(3):
            sign = -1 if combination.parity >> axis & 1 else 1
            assert (taps == sign * taps[tuple(slice(None, None, -1 if a == axis else 1) for a in range(3))]).all()


@pytest.mark.parametrize("sides, batch, halo", [((7, 5, 3), 4, 1), ((1, 1, 9), 2, 2), ((4, 4, 4), 1, 0)])
@pytest.mark.parametrize("lines", [1, 9, 40, 10**6])
def test_boxes_cover_everything_once_within_the_workspace(sides, batch, halo, lines):
    seen = torch.zeros(batch, 1, *sides)
    for box in launch.boxes(batch, sides, halo, lines * (sides[2] + 2 * halo)):
        box.of(seen).add_(1)
        extended = box.samples * (box.sides[0] + 2 * halo) * (box.sides[1] + 2 * halo)
        assert extended <= max(lines, (1 + 2 * halo) ** 2)
    assert (seen == 1).all()


def test_the_workspace_is_a_share_of_the_fields_within_bounds():
    field = torch.empty(2**20, device="meta", dtype=torch.bfloat16)
    assert launch.workspace_bytes(field, field) == launch.WORKSPACE_BYTES
    large = torch.empty(2**28, device="meta", dtype=torch.bfloat16)
    assert launch.workspace_bytes(large, large) == int(launch.WORKSPACE_SHARE * 2**30)
    assert launch.workspace_bytes(*[large] * 20) == launch.LARGEST_WORKSPACE < 2**31


def test_tiles_are_as_round_as_the_box_lets_them_be():
    assert launch.tile_sides((64, 64, 64), 128) == (4, 4, 8)
    assert launch.tile_sides((64, 64, 64), 64) == (4, 4, 4)
    assert launch.tile_sides((1, 64, 64), 64) == (1, 8, 8)
    assert launch.tile_sides((2, 3, 1), 64) == (2, 4, 8)


@needs_triton
@pytest.mark.parametrize(
    "dtype, channels, unit", [("bfloat16", 16, "HGMMA"), pytest.param("float32", 2, "FFMA", marks=pytest.mark.slow)]
)
def test_compiled_for_a_gpu_without_one(dtype, channels, unit):
    """The compiler takes every program; products run on the units meant for them, next to nothing is spilled, and a
    program's shared memory fits. The interpreter shows none of this."""
    sizes = ["--cells", "8", "--channels", str(channels)]
    outcome = run(["-m", "flowsr.kernels.triton_kernel.resources", *sizes, "--dtype", dtype])
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    lines = outcome.stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"analyze", "multiply", "synthesize", "correlate", "collect"}
    for line in lines:
        registers, stack, shared = [
            float(x) for x in re.search(r"(\d+) registers +(\d+) B stack +([\d.]+) KiB", line).groups()
        ]
        assert registers <= 255 and stack <= 128 and shared <= 227, line
        if line.split()[0] in ("multiply", "correlate"):
            assert unit in line, line
            assert dtype == "float32" or "LDG.E.128" in line, line


@pytest.mark.gpu
@pytest.mark.parametrize("activation", [None, "gelu"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 1.5e-2), (torch.float16, 4e-3)])
@pytest.mark.parametrize(
    "name, channels, cells, padding, banks",
    [
        ("Oh", 16, (16, 16, 16), PERIODIC, 1),
        ("O", 5, (9, 14, 20), ("zero", "replicate", "reflect"), 2),
        ("Oh", 3, (1, 7, 33), ("replicate", "periodic", "zero"), 1),
    ],
)
def test_on_the_gpu(name, channels, cells, padding, banks, dtype, tolerance, activation):
    """Result and gradients against the dense kernel in float64 on the CPU; twice, for races."""
    group = octahedral_group(name)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, channels, group.order, *cells, generator=generator).to(dtype)
    filters = (
        torch.randn(banks, channels, channels, group.order, 27, generator=generator)
        / (27 * group.order * channels) ** 0.5
    )
    weights = 1 + 0.1 * torch.randn(banks, group.order, generator=generator)
    bias = torch.randn(channels, generator=generator)
    upstream = torch.randn(features.shape, generator=generator).to(dtype)

    def outcome(device, precision, kernel):
        values = [v.to(device, precision or v.dtype).requires_grad_() for v in (features, filters, weights, bias)]
        tables = ConvolutionTables(group, 3).to(device)
        result = group_convolution(*values[:3], tables, padding, bias=values[3], activation=activation, kernel=kernel)
        gradients = torch.autograd.grad(result, values, upstream.to(device, result.dtype))
        return [part.double().cpu() for part in (result, *gradients)]

    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        first, second = outcome("cuda", None, None), outcome("cuda", None, "triton")
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    for ours, exact in zip(first, outcome("cpu", torch.float64, "dense")):
        assert float((ours - exact).norm() / exact.norm()) < tolerance


@pytest.mark.gpu
def test_peak_memory_on_the_gpu():
    """Forward and backward hold the activations in and out, their gradients, and at most a quarter more."""
    group, tables = octahedral_group("Oh"), ConvolutionTables(octahedral_group("Oh"), 3).to("cuda")
    features = torch.randn(1, 16, 48, 64, 64, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    filters = torch.randn(1, 16, 16, group.order, 27, device="cuda", requires_grad=True)
    weights = torch.ones(1, group.order, device="cuda", requires_grad=True)
    upstream = torch.randn_like(features)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = group_convolution(features, filters, weights, tables, PERIODIC, kernel="triton")
    torch.autograd.grad(result, (features, filters, weights), upstream)
    one = features.numel() * features.element_size()
    assert torch.cuda.max_memory_allocated() - before < 2 * one + 0.25 * 2 * one
