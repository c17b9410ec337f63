"""The benchmark measures what it says: same results from rivals, ratios within rounds, honest gaps."""

import sys

import pytest
import timing as timing_module
import torch
from conv import BenchCase, bench_conv, conv_markdown, main
from rivals import resampled_filters
from timing import compare

from flowsr.errors import FlowsrError
from flowsr.group.octahedral import octahedral_group
from flowsr.kernels import ConvolutionTables
from flowsr.kernels.expansion import expand_group

TINY = BenchCase("O", 1, 3, "zero")


@pytest.mark.parametrize("name", ["O", "Oh"])
def test_the_rival_turns_filters_the_same_way(name):
    """Interpolation at the taps themselves differs by rounding only, so the race is fair."""
    group = octahedral_group(name)
    filters = torch.randn(2, 1, 2, group.order, 27, dtype=torch.float64)
    weights = torch.randn(2, group.order, dtype=torch.float64)
    ours = expand_group(filters, weights, ConvolutionTables(group, 3))
    for at_once in (False, True):
        assert torch.allclose(resampled_filters(filters, weights, group, at_once), ours, atol=1e-12)


def test_ratios_are_taken_within_rounds(monkeypatch):
    """A machine that slows down tenfold half-way changes the times, not the ratio."""
    now = [0.0]
    rounds = [0]

    def takes(seconds):
        def run():
            rounds[0] += 1
            now[0] += seconds * (10 if rounds[0] > 12 else 1)

        return run

    monkeypatch.setitem(timing_module.CLOCKS, "wall", lambda: now[0])
    result = compare({"slow": takes(3.0), "fast": takes(1.0)}, "slow", repeats=10)
    assert result["fast"].ratio == pytest.approx(1 / 3) and result["slow"].ratio == 1
    assert result["fast"].quartiles == pytest.approx((1 / 3, 1 / 3))
    assert result["fast"].peak_bytes is None


def test_rows_cover_every_kernel_and_quantity_and_become_a_table():
    seen = []
    rows = bench_conv([TINY], repeats=2, progress=lambda fraction, text: seen.append((fraction, text)))
    measured = {(row.quantity, row.method) for row in rows if row.timing is not None}
    for quantity in ("forward", "forward+backward"):
        assert {(quantity, method) for method in ("conv3d", "dense", "fourier")} <= measured
    assert ("filter expansion", "index gather") in measured
    gap = next(row for row in rows if row.method == "escnn")
    assert gap.timing is None and "not measured" in gap.note
    assert sum("chosen" in row.note for row in rows) == 2
    assert seen[0] == (0.0, str(TINY)) and seen[-1][0] == 1.0
    page = conv_markdown(rows, command="python benchmarks/conv.py")
    for words in ("`python benchmarks/conv.py`", "| O, 1 x 24 channels, 3^3, zero | dense |", "not measured"):
        assert words in page


def test_threads_are_put_back():
    before = torch.get_num_threads()
    bench_conv([TINY], repeats=2, threads=before + 1)
    assert torch.get_num_threads() == before


def test_an_environment_without_escnn_is_one_clear_line(tmp_path):
    with pytest.raises(FlowsrError, match="escnn"):
        bench_conv([TINY], repeats=2, escnn_python=sys.executable)
    with pytest.raises(FlowsrError, match="cannot run escnn"):
        bench_conv([TINY], repeats=2, escnn_python=str(tmp_path / "nowhere"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_asking_for_an_absent_gpu_is_one_clear_line():
    with pytest.raises(FlowsrError, match="no CUDA device"):
        bench_conv([TINY], device="cuda")


def test_the_command_prints_and_writes_the_same_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("conv.default_cases", lambda device: [TINY])
    assert main(["--device", "cpu", "--repeats", "2", "--output", str(tmp_path / "conv.md")]) == 0
    page = (tmp_path / "conv.md").read_text()
    assert "Made by `python benchmarks/conv.py --device cpu --repeats 2" in page and page in capsys.readouterr().out
    assert main(["--device", "tpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown device") and error.count("\n") == 1
