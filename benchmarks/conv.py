"""What a group convolution costs next to an ordinary one of the same width: `python benchmarks/conv.py`.

Its kernels race plain conv3d, filters turned by interpolation, and escnn, on random data. It only measures.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path

# Threads that spin while they wait cost up to 20 times on a busy machine; this must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from rivals import resampled_filters, run_escnn
from timing import Timing, compare
from torch import Tensor

from flowsr.devices import resolve_device
from flowsr.errors import FlowsrError
from flowsr.files import write_text_atomic
from flowsr.group.octahedral import octahedral_group
from flowsr.kernels import KERNELS, Case, explain, group_convolution
from flowsr.kernels.expansion import expand_group
from flowsr.nn import GroupConv
from flowsr.progress import SILENT, Progress, shown

PADDING_MODES = {"zero": "zeros", "periodic": "circular"}
RESAMPLED = "affine_grid + grid_sample"
CLOCK_WORDS = {"wall": "wall-clock times", "cpu": "processor times of the threads together"}


@dataclass(frozen=True)
class BenchCase:
    """One layer of regular channels, in and out, on a box of ``cells`` along each side, padded zero or periodic."""

    group: str
    channels: int
    cells: int
    padding: str = "zero"
    kernel_size: int = 3
    filter_banks: int = 1

    def __str__(self) -> str:
        width = f"{self.channels} x {octahedral_group(self.group).order}"
        return f"{self.group}, {width} channels, {self.cells}^3, {self.padding}"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        case: what was run.
        quantity: ``forward``, ``forward+backward`` or ``filter expansion``.
        method: who ran it.
        timing: None where not measured.
        against: what the ratio is taken against.
        note: the dispatch's own choice, a prediction, or why nothing was measured.
    """

    case: str
    quantity: str
    method: str
    timing: Timing | None
    against: str
    note: str = ""


def default_cases(device: str) -> list[BenchCase]:
    """4 and 8 channels on 16^3 and 24^3 on a CPU; 16 channels of O_h on 64^3 on a GPU."""
    if device == "cuda":
        return [BenchCase(group, *size, "periodic") for group, *size in (("Oh", 16, 64), ("O", 16, 64), ("Oh", 8, 32))]
    small = [BenchCase("O", c, n, padding) for c in (4, 8) for n in (16, 24) for padding in PADDING_MODES]
    return small + [BenchCase(group, c, 16, "periodic") for group, c in (("O", 16), ("Oh", 4), ("Oh", 8))]


def bench_conv(
    cases: list[BenchCase] | None = None,
    *,
    device: str = "cpu",
    precision: str | None = None,
    repeats: int = 15,
    threads: int = 1,
    clock: str = "wall",
    escnn_python: str | None = None,
    progress: Progress = SILENT,
) -> list[Row]:
    """Time every kernel against plain conv3d, the filter expansion against interpolation, and escnn where there is one.

    Args:
        cases: default: :func:`default_cases`.
        device: ``cpu`` or ``cuda``.
        precision: ``float32`` or ``bfloat16`` (autocast); default: bfloat16 on a GPU.
        repeats: rounds; a case's time is a median over them.
        threads: of torch on the CPU.
        clock: ``wall`` or ``cpu``, see :func:`timing.compare`.
        escnn_python: interpreter of an environment with escnn.
        progress: called with the fraction done and the case at hand.

    Raises:
        FlowsrError: an escnn environment that does not work, or no CUDA device where one is asked for.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise FlowsrError("no CUDA device here", variable="device", expected="cpu", found=device)
    cases = default_cases(device) if cases is None else cases
    precision = precision or ("bfloat16" if device == "cuda" else "float32")
    rows: list[Row] = []
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for number, case in enumerate(cases):
            progress(number / len(cases), str(case))
            rows += list(_layer_rows(case, device, precision, repeats, clock))
            if case.padding == "zero" or replace(case, padding="zero") not in cases:  # padding is no matter for filters
                rows += list(_expansion_rows(case, device, repeats, clock))
            rows += list(_escnn_rows(case, device, repeats, threads, clock, escnn_python))
    finally:
        torch.set_num_threads(before)
    progress(1.0, "done")
    return rows


def _layer(case: BenchCase, device: str) -> GroupConv:
    torch.manual_seed(0)
    sizes = case.channels, case.channels, case.kernel_size
    return GroupConv(octahedral_group(case.group), *sizes, filter_banks=case.filter_banks).to(device)


def _layer_rows(case: BenchCase, device: str, precision: str, repeats: int, clock: str) -> Iterator[Row]:
    layer = _layer(case, device)
    order = octahedral_group(case.group).order
    width, mode = case.channels * order, PADDING_MODES[case.padding]

    def plain() -> torch.nn.Conv3d:
        return torch.nn.Conv3d(width, width, case.kernel_size, padding=case.kernel_size // 2, padding_mode=mode)

    baseline = plain().to(device)
    features = torch.randn(1, case.channels, order, *(case.cells,) * 3, device=device)
    runs = {"conv3d": (baseline, features.flatten(1, 2))}
    if device == "cuda":
        last = {"memory_format": torch.channels_last_3d}
        runs["conv3d, channels last"] = (plain().to(device, **last), features.flatten(1, 2).to(**last))
    refusals = _choice(layer, features, case.padding, True, precision, device).refusals
    for kernel in [name for name in KERNELS if name not in refusals]:
        runs[kernel] = (_Forced(layer, case.padding, kernel), features)
    for quantity, backward in (("forward", False), ("forward+backward", True)):
        candidates = {name: _step(*run, backward, device, precision) for name, run in runs.items()}
        timings = compare(candidates, "conv3d", repeats, device, clock)
        choice = _choice(layer, features, case.padding, backward, precision, device)
        for name, timing in timings.items():
            note = ""
            if name in KERNELS:
                cost = choice.costs.get(name)
                note = f"predicted {1e3 * cost:.3g} ms" if cost is not None and cost < 1e6 else "not predicted"
                note += ", chosen" if name == choice.kernel else ""
            yield Row(str(case), quantity, name, timing, "conv3d", note)


class _Forced(torch.nn.Module):
    """A group layer with its kernel and padding given."""

    def __init__(self, layer: GroupConv, padding: str, kernel: str):
        super().__init__()
        self.layer, self.padding, self.kernel = layer, (padding,) * 3, kernel

    def forward(self, features: Tensor) -> Tensor:
        layer = self.layer
        given = layer.filters, layer.relaxed_weights, layer.tables, self.padding
        return group_convolution(features, *given, bias=layer.bias, kernel=self.kernel)


def _casting(device: str, precision: str):
    return torch.autocast(device, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _step(module: torch.nn.Module, values: Tensor, backward: bool, device: str, precision: str) -> Callable[[], object]:
    """One pass; with ``backward``, gradients for the input, itself in reduced precision, and every parameter."""
    values = values.detach().to(getattr(torch, precision)).requires_grad_(backward)
    wanted = [values, *module.parameters()]

    def forward(enabled: bool) -> Tensor:
        with torch.set_grad_enabled(enabled), _casting(device, precision):
            return module(values)

    gradient = torch.randn_like(forward(False))

    def run() -> object:
        result = forward(backward)
        return torch.autograd.grad(result, wanted, gradient.to(result.dtype)) if backward else result

    return run


def _choice(layer: GroupConv, features: Tensor, padding: str, backward: bool, precision: str, device: str):
    with torch.set_grad_enabled(backward), _casting(device, precision):
        return explain(Case.of(features, layer.filters, layer.tables, (padding,) * 3))


def _expansion_rows(case: BenchCase, device: str, repeats: int, clock: str) -> Iterator[Row]:
    """Filters turned by one gather against filters turned by interpolation."""
    layer, group = _layer(case, device), octahedral_group(case.group)
    parameters = (layer.filters, layer.relaxed_weights)
    with torch.no_grad():
        gradient = torch.randn_like(expand_group(*parameters, layer.tables))
    ways = {
        RESAMPLED: lambda: resampled_filters(*parameters, group),
        f"{RESAMPLED}, at once": lambda: resampled_filters(*parameters, group, at_once=True),
        "index gather": lambda: expand_group(*parameters, layer.tables),
    }
    for quantity, backward in (("filter expansion", False), ("filter expansion, forward+backward", True)):

        def run(way: Callable[[], Tensor], backward: bool = backward) -> object:
            with torch.set_grad_enabled(backward):
                result = way()
                return torch.autograd.grad(result, parameters, gradient) if backward else result

        candidates = {name: (lambda way=way: run(way)) for name, way in ways.items()}
        for name, timing in compare(candidates, RESAMPLED, repeats, device, clock).items():
            yield Row(str(case), quantity, name, timing, RESAMPLED)


def _escnn_rows(
    case: BenchCase, device: str, repeats: int, threads: int, clock: str, python: str | None
) -> Iterator[Row]:
    """escnn has zero padding only, so it is run, or said not to be run, once per width and box."""
    if case.padding != "zero":
        return
    if python is None:
        yield Row(str(case), "forward+backward", "escnn", None, "conv3d", "not measured: no --escnn-python")
        return
    settings = asdict(case) | dict(device=device, repeats=repeats, threads=threads, clock=clock)
    for quantity, found in run_escnn(python, settings).items():
        timing = Timing(found["seconds"], found["ratio"], tuple(found["quartiles"]), None)
        yield Row(str(case), quantity, "escnn", timing, "conv3d", "training mode, in its own interpreter")


def conv_markdown(rows: list[Row], *, command: str, device: str = "cpu", threads: int = 1, clock: str = "wall") -> str:
    """The rows as a Markdown page, which shows the command that makes it."""
    where = torch.cuda.get_device_name() if device == "cuda" else f"{_processor()}, {threads} thread(s) of torch"
    lines = [
        "# Group convolution against an ordinary convolution of the same width",
        "",
        f"Made by `{command}` on {where}; torch {torch.__version__}. Random data; {CLOCK_WORDS[clock]}. A ratio is the "
        "median, over rounds in which everybody runs, of the time over the baseline's in the same round; in brackets "
        "its quartiles. The kernel that flowsr chooses by itself is marked.",
        "",
    ]
    for quantity in dict.fromkeys(row.quantity for row in rows):
        chosen = [row for row in rows if row.quantity == quantity]
        memory = any(row.timing and row.timing.peak_bytes is not None for row in chosen)
        lines += [f"## {quantity[0].upper()}{quantity[1:]}", ""]
        head = ["case", "method", "ms", "ratio", "to", *(["peak MiB"] if memory else []), "note"]
        lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(_cells(row, memory)) + " |" for row in chosen] + [""]
    return "\n".join(lines)


def _cells(row: Row, memory: bool) -> list[str]:
    if row.timing is None:
        return [row.case, row.method, "-", "-", row.against, *(["-"] if memory else []), row.note]
    timing, (low, high) = row.timing, row.timing.quartiles
    peak = "-" if timing.peak_bytes is None else f"{timing.peak_bytes / 2**20:.0f}"
    measured = [f"{1e3 * timing.seconds:.3g}", f"**{timing.ratio:.2f}** ({low:.2f} to {high:.2f})"]
    return [row.case, row.method, *measured, row.against, *([peak] if memory else []), row.note]


def _processor() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} ({os.cpu_count()} cores)"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; bad input is one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="conv.py", description=__doc__)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=15, help="rounds; the table gives medians over them")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], help="default: what the device is best at")
    parser.add_argument("--clock", choices=list(CLOCK_WORDS), default="wall", help="cpu where others share the machine")
    parser.add_argument("--escnn-python", help="Python of an environment that has escnn, to measure it too")
    parser.add_argument("--output", type=Path, help="also write the table to this Markdown file")
    settings = vars(parser.parse_args(arguments))
    output, how = settings.pop("output"), {name: settings[name] for name in ("threads", "clock")}
    try:
        device = settings["device"] = resolve_device(settings["device"])
        with shown() as progress:
            rows = bench_conv(**settings, progress=progress.part("convolution"))
    except FlowsrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    given = sys.argv[1:] if arguments is None else arguments
    table = conv_markdown(rows, command=shlex.join(["python", "benchmarks/conv.py", *given]), device=device, **how)
    print(table)
    if output is not None:
        write_text_atomic(output, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
