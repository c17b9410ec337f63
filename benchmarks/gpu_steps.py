"""What `gpu.py` measures, step by step: each takes a place and a size, and yields rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import conv
import torch
from simulate import STAGES, bare_transforms
from timing import compare
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flowsr.grid import Grid
from flowsr.group.octahedral import octahedral_group
from flowsr.kernels import ConvolutionTables, group_convolution
from flowsr.kernels.conv3d import conv3d_fault
from flowsr.models import Task
from flowsr.models.build import build_model
from flowsr.nn import GroupConv
from flowsr.simulate import BoxSolver, PeriodicBox, diagnose, taylor_green
from flowsr.upscale import upscale_array

GIGA, TERA = 1e9, 1e12
COPY, MATMUL, TO_DEVICE, TO_HOST = "copy bandwidth", "bf16 matrix product", "copy from the host", "copy to the host"
# Predicted before anything was measured, on an H100; NOTES.md says from what.
PREDICTED = {
    COPY: 3.0e12 / TERA,
    MATMUL: 700.0,
    TO_DEVICE: 50.0,
    TO_HOST: 50.0,
    ("layer", "forward"): 5.0,
    ("layer", "forward+backward"): 14.5,
    "wide layer": 0.116,
    "upscaling": 2.5,
    "taylor-green": 25.0,
}
PERIODIC = ("periodic",) * 3
# Kinetic energy and dissipation of Taylor-Green at Re 1600, 512^3 (high-order CFD workshops).
RE_1600 = {5.0: (0.118436, 0.0041271), 8.97: (0.0867896, 0.0128575)}


@dataclass(frozen=True)
class Place:
    """Where a step runs.

    Args:
        device: ``cuda``, or ``cpu`` for a rehearsal.
        seconds: left to the step.
        ceilings: rates that the first step measured, by name.
    """

    device: str
    rehearsed: bool = False
    seconds: float = 60.0
    ceilings: dict[str, float] = field(default_factory=dict)

    def floor(self, moved: float, operations: float = 0.0) -> float | None:
        """Milliseconds that this many bytes, or operations of the matrix units, take at least."""
        if COPY not in self.ceilings or MATMUL not in self.ceilings:
            return None
        return 1e3 * max(moved / TERA / self.ceilings[COPY], operations / TERA / self.ceilings[MATMUL])


@dataclass(frozen=True)
class Row:
    """One line of the table; a row without ``measured`` says in its note why.

    Args:
        goal: what ``measured`` is to be, such as (">=", 4.0).
    """

    what: str
    unit: str = ""
    measured: float | None = None
    floor: float | None = None
    predicted: float | None = None
    goal: tuple[str, float] | None = None
    note: str = ""
    step: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without one or without a measurement."""
        if self.goal is None or self.measured is None:
            return None
        return self.measured >= self.goal[1] if self.goal[0] == ">=" else self.measured <= self.goal[1]

    def line(self) -> str:
        """A line of the Markdown table."""
        goal = "" if self.goal is None else f"{self.goal[0]} {self.goal[1]:g}"
        ratio = None if self.measured is None or not self.floor else self.measured / self.floor
        numbers = ["" if value is None else f"{value:.4g}" for value in (self.floor, self.predicted)]
        measured = [
            "-" if self.measured is None else f"**{self.measured:.4g}**",
            "" if ratio is None else f"{ratio:.2f}",
        ]
        met = {None: "", True: "yes", False: "**no**"}[self.met]
        return "| " + " | ".join([self.step, self.what, self.unit, goal, *numbers, *measured, met, self.note]) + " |"


def wait(place: Place) -> None:
    """Until the device has done what it was told."""
    if place.device == "cuda":
        torch.cuda.synchronize()


def seconds_of(run: Callable[[], object], place: Place, times: int = 5) -> float:
    """Mean seconds of a call after one to warm up."""
    run()
    wait(place)
    start = time.perf_counter()
    for _ in range(times):
        run()
    wait(place)
    return (time.perf_counter() - start) / times


def ceilings(place: Place, size: int) -> Iterator[Row]:
    """Name of the card; bandwidth of a copy, in and out; rate of a bf16 matrix product; copies to and from the host."""
    cuda = place.device == "cuda"
    name = torch.cuda.get_device_name() if cuda else "CPU"
    fault = conv3d_fault(place.device, torch.bfloat16)
    card = f"{name}; cuDNN {torch.backends.cudnn.version()}; bf16 conv3d: {fault or 'no fault found'}"
    values = torch.randn(size * size * 8, device=place.device)
    target = torch.empty_like(values)
    rate = 2 * values.nbytes / seconds_of(lambda: target.copy_(values), place) / TERA
    yield Row(COPY, "TB/s", rate, predicted=PREDICTED[COPY], note=card)
    a = torch.randn(size, size, device=place.device, dtype=torch.bfloat16)
    rate = 2 * size**3 / seconds_of(lambda: a @ a, place) / TERA
    yield Row(MATMUL, "TFLOP/s", rate, predicted=PREDICTED[MATMUL], note=f"{size}^3")
    host = torch.empty(values.numel() // 8, pin_memory=cuda)
    part = values[: host.numel()]
    for what, run in ((TO_DEVICE, lambda: part.copy_(host)), (TO_HOST, lambda: host.copy_(part))):
        yield Row(what, "GB/s", host.nbytes / seconds_of(run, place) / GIGA, predicted=PREDICTED[what])


@dataclass(frozen=True)
class Check:
    """A convolution to check: group, channels, box, padding, filter banks, precision, activation."""

    group: str
    channels: int
    cells: tuple[int, int, int]
    padding: tuple[str, str, str] = PERIODIC
    banks: int = 1
    dtype: torch.dtype = torch.bfloat16
    activation: str | None = None

    def __str__(self) -> str:
        parts = [f"{self.group} {self.channels} ch", "x".join(map(str, self.cells)), str(self.dtype).split(".")[1]]
        parts += [f"{self.banks} banks"] if self.banks > 1 else []
        return ", ".join([*parts, *dict.fromkeys(self.padding), *([self.activation] if self.activation else [])])


MIXED = ("zero", "replicate", "reflect")
CHECKS = (
    Check("Oh", 16, (8, 8, 16)),
    Check("Oh", 8, (8, 12, 10), dtype=torch.float32, activation="relu"),
    Check("O", 5, (9, 14, 20), MIXED, 2, activation="gelu"),
    Check("O", 5, (9, 14, 20), MIXED, 2, torch.float32),
    Check("Oh", 3, (1, 7, 33), ("replicate", "periodic", "zero"), activation="silu"),
)
TINY_CHECKS = (Check("O", 1, (2, 2, 2), MIXED, dtype=torch.float32, activation="relu"),)
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1.5e-2}


def kernel(place: Place, checks: tuple[Check, ...]) -> Iterator[Row]:
    """The Triton kernel is right: result and every gradient against float64, equal bits twice; compiled; autocast."""
    for check in checks:
        errors, equal = _errors(check, place)
        note = f"largest of result and 4 gradients; bits twice {'equal' if equal else '**differ**'}"
        worst = max(errors) if equal else float("inf")
        yield Row(f"error, {check}", "", worst, goal=("<=", TOLERANCE[check.dtype]), note=note)
    layer = GroupConv(octahedral_group("O"), 1, 1, activation="gelu", kernel="triton").to(place.device)
    features = torch.randn(1, 1, 24, 2, 2, 2, device=place.device, requires_grad=True)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager" if place.rehearsed else "inductor")

    def gradients(module: torch.nn.Module) -> list[Tensor]:
        with torch.autocast(place.device, dtype=torch.bfloat16):
            result = module(features)
        return [result.detach(), *torch.autograd.grad(result.float().sin().sum(), [features, *layer.parameters()])]

    pairs = zip(gradients(layer), gradients(compiled))
    worst = max(float((a.double() - b.double()).norm() / (a.double().norm() + 1e-30)) for a, b in pairs)
    yield Row("torch.compile, whole, under autocast, against eager", "", worst, goal=("<=", 1e-3))


def _errors(check: Check, place: Place) -> tuple[list[float], bool]:
    """Relative errors of the result and its gradients, and whether a second run gives the same bits."""
    group = octahedral_group(check.group)
    features = torch.randn(1, check.channels, group.order, *check.cells).to(check.dtype)
    fan_in = 27 * group.order * check.channels
    filters = torch.randn(check.banks, check.channels, check.channels, group.order, 27) / fan_in**0.5
    operands = (features, filters, 1 + 0.1 * torch.randn(check.banks, group.order), torch.randn(check.channels))
    upstream = torch.randn(features.shape).to(check.dtype)

    def outcome(device: str, dtype: torch.dtype | None, name: str) -> list[Tensor]:
        values = [value.to(device, dtype or value.dtype).requires_grad_() for value in operands]
        tables = ConvolutionTables(group, 3).to(device)
        result = group_convolution(
            *values[:3], tables, check.padding, bias=values[3], activation=check.activation, kernel=name
        )
        gradients = torch.autograd.grad(result, values, upstream.to(device, result.dtype))
        return [part.detach().double().cpu() for part in (result, *gradients)]

    torch.use_deterministic_algorithms(True, warn_only=True)  # memory that nothing has written yet holds NaN
    try:
        first, second = (outcome(place.device, None, "triton") for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    errors = [float((a - b).norm() / b.norm()) for a, b in zip(first, outcome("cpu", torch.float64, "dense"))]
    return errors, all(torch.equal(a, b) for a, b in zip(first, second))


def layer(place: Place, size: tuple[str, int, int]) -> Iterator[Row]:
    """One layer against the best of cuDNN with dense filters, our dense and Fourier paths; peak memory."""
    torch.backends.cudnn.benchmark = True
    case = conv.BenchCase(*size, "zero")  # what costs cuDNN least: no copy for the edges
    precision = "float32" if place.rehearsed else "bfloat16"
    rows = list(conv._layer_rows(case, place.device, precision, 2 if place.rehearsed else 7, "wall"))
    group = octahedral_group(case.group)
    field_bytes = case.channels * group.order * case.cells**3 * (4 if place.rehearsed else 2)
    products = 36 * (group.order // 6) * 27 * case.channels**2 * case.cells**3
    for quantity, passes in (("forward", 1), ("forward+backward", 3)):
        timed = {row.method: row for row in rows if row.quantity == quantity}
        best = min(row.timing.seconds for name, row in timed.items() if name.startswith("conv3d"))
        floor = place.floor(2 * field_bytes * (1 if passes == 1 else 3), 2 * products * passes)
        for name, row in timed.items():
            ours = name == "triton"
            note = "cuDNN, dense filters" if name.startswith("conv3d") else row.note
            predicted = PREDICTED["layer", quantity] if ours and case.cells == 64 else None
            yield Row(
                f"{case}: {quantity}, {name}",
                "ms",
                1e3 * row.timing.seconds,
                floor if ours else None,
                predicted,
                note=note,
            )
        if "triton" not in timed:
            continue
        ratio = best / timed["triton"].timing.seconds
        yield Row(f"{case}: {quantity}, best cuDNN over triton", "times", ratio, goal=(">=", 4.0))
        peak = timed["triton"].timing.peak_bytes
        if passes == 3 and peak is not None:
            share = peak / (2 * field_bytes)
            yield Row(f"{case}: peak memory over activations in and out", "", share, goal=("<=", 1.25))


def wide_layer(place: Place, cells: int) -> Iterator[Row]:
    """16 channels of O_h, 768 features, forward and backward on a large box: time and memory."""
    channels, name = (1, "O") if place.rehearsed else (16, "Oh")
    group = octahedral_group(name)
    case = GroupConv(group, channels, channels, activation="relu", kernel="triton").to(place.device)
    dtype = torch.float32 if place.rehearsed else torch.bfloat16
    features = torch.randn(
        1, channels, group.order, *(cells,) * 3, device=place.device, dtype=dtype, requires_grad=True
    )

    def run() -> None:
        with torch.autocast(place.device, dtype=torch.bfloat16, enabled=not place.rehearsed):
            result = case(features)
        torch.autograd.grad(result, [features, *case.parameters()], result.detach())

    seconds = seconds_of(run, place, 1 if place.rehearsed else 3)
    products = 36 * (group.order // 6) * 27 * channels**2 * cells**3
    floor = place.floor(8 * features.nbytes, 6 * products)
    what = f"{name}, {channels} x {group.order} features, {cells}^3: forward+backward"
    predicted = PREDICTED["wide layer"] if cells == 128 else None
    yield Row(what, "s", seconds, floor and floor / 1e3, predicted)
    if place.device == "cuda":
        peak = torch.cuda.max_memory_allocated() / GIGA
        note = "arXiv 2603.05325's network runs out of 94 GB at 128^3"
        yield Row(
            f"{what}, memory held",
            "GB",
            peak,
            predicted=4 * 1.25 * features.nbytes / GIGA,
            goal=("<=", 80.0),
            note=note,
        )


def upscaling(place: Place, sides: tuple[int, ...]) -> Iterator[Row]:
    """Fine cells per second of a x4 relaxed network from host memory to host memory, and what bounds it."""
    factor = 4
    model = build_model("relaxed", Task(factor), channels=4).eval().to(place.device)
    for side in sides:
        tile = min(side // 2, 64)
        coarse = torch.randn(3, side, side, side, pin_memory=place.device == "cuda")
        grid = Grid((side,) * 3)
        parts, overlapped = _in_tiles(model, coarse, tile, place)
        fine = (factor * side) ** 3
        slowest = max(parts, key=parts.__getitem__)
        note = ", ".join(f"{name} {1e3 * spent:.3g} ms" for name, spent in parts.items())
        yield Row(
            f"x{factor}, {side}^3 coarse, copies overlapped",
            "G fine cells/s",
            fine / overlapped / GIGA,
            None,
            PREDICTED["upscaling"],
            note=note,
        )
        yield Row(
            f"x{factor}, {side}^3: time over its slowest part ({slowest})",
            "times",
            overlapped / parts[slowest],
            goal=("<=", 1.25),
        )
        if side <= 128:
            values = coarse.numpy()
            spent = seconds_of(lambda v=values, g=grid, t=tile: upscale_array(model, v, g, t, place.device), place, 1)
            yield Row(f"x{factor}, {side}^3, flowsr.upscale as it is", "G fine cells/s", fine / spent / GIGA)


@torch.no_grad()
def _in_tiles(model, coarse: Tensor, tile: int, place: Place) -> tuple[dict[str, float], float]:
    """Seconds of copy in, compute and copy out, each alone over all tiles; and of all three overlapped.

    Two buffers a side; the fine tile stays in pinned memory, where a writer would take it from. Tiles are cut from the
    periodic field without their halo: the arithmetic is that of a tile, its edge is not.
    """
    cuda, count = place.device == "cuda", (coarse.shape[1] // tile) ** 3
    grid, stream = Grid((tile,) * 3), torch.cuda.Stream if cuda else _NoStream
    within = torch.cuda.stream if cuda else lambda stream: stream
    cut = [part.contiguous() for part in _cut(coarse, tile)]
    cut = [part.pin_memory() for part in cut] if cuda else cut
    inputs = [torch.empty_like(cut[0], device=place.device) for _ in range(2)]
    fine = [model(part[None], grid)[0] for part in inputs]
    outputs = [torch.empty(part.shape, pin_memory=cuda) for part in fine]

    def copy_in(n: int) -> None:
        inputs[n % 2].copy_(cut[n], non_blocking=True)

    def compute(n: int) -> None:
        fine[n % 2].copy_(model(inputs[n % 2][None], grid)[0])

    def copy_out(n: int) -> None:
        outputs[n % 2].copy_(fine[n % 2], non_blocking=True)

    stages = {"copy in": copy_in, "compute": compute, "copy out": copy_out}

    def alone(stage: Callable[[int], None]) -> float:
        return seconds_of(lambda: [stage(n) for n in range(count)], place, 1 if count > 8 else 5)

    def overlapped() -> None:
        streams = [stream() for _ in stages]
        done: list[list] = []
        for n in range(count):
            events = []
            for number, (each, stage) in enumerate(zip(streams, stages.values())):
                if number:
                    each.wait_event(events[-1])  # the tile's earlier stage
                if n >= 2 and number < 2:
                    each.wait_event(done[n - 2][number + 1])  # until the buffer it writes is free
                with within(each):
                    stage(n)
                events.append(each.record_event())
            done.append(events)
        wait(place)

    parts = {name: alone(stage) for name, stage in stages.items()}
    return parts, seconds_of(overlapped, place, 1 if count > 8 else 5)


def _cut(coarse: Tensor, tile: int) -> Iterator[Tensor]:
    for x in coarse.split(tile, 1):
        for y in x.split(tile, 2):
            yield from y.split(tile, 3)


class _NoStream:
    """Stands in for a stream on a CPU."""

    def __enter__(self) -> None: ...
    def __exit__(self, *error: object) -> None: ...
    def wait_event(self, event: object) -> None: ...
    def record_event(self) -> None: ...


# Names and options; the cnn has about as many parameters as the relaxed network.
NETWORKS = {
    "cnn": ("cnn", {"width": 20}),
    "relaxed": ("relaxed", {}),
    "strict": ("strict", {}),
    "paper_cnn": ("paper_cnn", {}),
    "paper_relaxed": ("paper_relaxed", {}),
}


class _Pairs(Dataset):
    """Random coarse and fine boxes in memory; no file is read."""

    def __init__(self, cells: int, count: int):
        self.coarse, self.fine = torch.randn(count, 3, *(cells,) * 3), torch.randn(count, 3, *(4 * cells,) * 3)

    def set_epoch(self, epoch: int) -> None: ...

    def __len__(self) -> int:
        return len(self.coarse)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.coarse[index], self.fine[index]


def training(place: Place, size: tuple[int, int]) -> Iterator[Row]:
    """Steps per second of the demo's and of the paper's networks, batch 1, eager and compiled; Lightning and loader."""
    cells, steps = size
    began, plain = time.monotonic(), {}
    data = _Pairs(cells, min(steps, 25))
    for compiled in (False, True):
        for name, (model_name, options) in list(NETWORKS.items())[: 2 if place.rehearsed else None]:
            if time.monotonic() - began > 0.8 * place.seconds:
                yield Row(f"{name}{', compiled' * compiled}", note="not run: no time left in this step")
                continue
            step = _training_step(build_model(model_name, Task(4), **options).to(place.device), data, place, compiled)
            rate = 1 / seconds_of(step, place, steps)
            plain.setdefault(compiled, {})[name] = rate
            note = "" if name == "cnn" else f"{rate / plain[compiled]['cnn']:.2f} of cnn's"
            yield Row(f"{name}, {cells}^3 x4, batch 1{', compiled' * compiled}", "steps/s", rate, note=note)
    yield from _fitted(place, data, steps)


def _training_step(model, data: _Pairs, place: Place, compiled: bool) -> Callable[[], None]:
    coarse, fine = (values[:1].to(place.device) for values in (data.coarse, data.fine))
    grid, optimizer = Grid(tuple(coarse.shape[-3:])), torch.optim.Adam(model.parameters())
    called = torch.compile(model, backend="aot_eager" if place.rehearsed else "inductor") if compiled else model

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(place.device, dtype=torch.bfloat16, enabled=not place.rehearsed):
            loss = (called(coarse, grid) - fine).abs().mean()
        loss.backward()
        optimizer.step()

    return step


def _fitted(place: Place, data: _Pairs, steps: int) -> Iterator[Row]:
    """The same through `flowsr.train`'s fit, and the share of its time that the loader alone takes."""
    from flowsr.train.fit import PatchPair, fit
    from flowsr.train.settings import Schedule

    grid, epochs = Grid(tuple(data.coarse.shape[-3:])), max(2, steps // len(data))
    pair = PatchPair(data, torch.utils.data.Subset(data, range(1)), grid, (0, 0, 0))
    schedule = Schedule(samples_per_epoch=len(data), batch_size=1, max_epochs=epochs, patience=epochs)
    with TemporaryDirectory() as folder:
        fitted = fit(build_model("relaxed", Task(4)), pair, schedule, Path(folder), device=place.device)
    first, last = fitted.history[0]["seconds"], fitted.history[-1]["seconds"]
    per_epoch = (last - first) / (epochs - 1)

    def load() -> None:
        for coarse, fine in DataLoader(data, batch_size=1):
            coarse.to(place.device), fine.to(place.device)

    yield Row("relaxed through fit (Lightning, validation of one box)", "steps/s", len(data) / per_epoch)
    share = 100 * seconds_of(load, place, 2) / per_epoch
    yield Row("share of fit's time in the loader, pairs in memory", "%", share, goal=("<=", 10.0))


SOLVER_BYTES = 150  # of float32 per cell: 5 states, 9 fields, wavenumbers, the transforms' own


def _memory(place: Place) -> float:
    return torch.cuda.get_device_properties(0).total_memory if place.device == "cuda" else GIGA


def dns(place: Place, sides: tuple[int, ...]) -> Iterator[Row]:
    """A step of the box solver over its own transforms, largest last; CUDA against the CPU at 32^3."""
    yield _devices_agree(place, 8 if place.rehearsed else 32)
    for side in sides:
        needed, held = SOLVER_BYTES * side**3, _memory(place)
        if needed > 0.9 * held:
            yield Row(f"step, {side}^3", note=f"not run: needs about {needed / GIGA:.0f} GB of {held / GIGA:.0f}")
            continue
        solver = _taylor_green(place, side, 1.25)
        runs = {"ffts": bare_transforms(solver), "step": lambda solver=solver: solver.advance(1e6)}
        found = compare(runs, "ffts", 2 if place.rehearsed or side > 512 else 5, place.device)
        moved = STAGES * 9 * 3 * 2 * 4 * side**3  # each transform reads and writes its field once for each axis
        floor, predicted = place.floor(moved), 20.0 * (side / 256) ** 3
        yield Row(
            f"step, {side}^3, float32",
            "ms",
            1e3 * found["step"].seconds,
            floor,
            predicted,
            note="floor: its transforms alone",
        )
        yield Row(f"step over its own transforms, {side}^3", "times", found["step"].ratio, goal=("<=", 2.0))


def _taylor_green(place: Place, side: int, cfl: float) -> BoxSolver:
    """At Re 1600, float32; a start that is cheap to make."""
    box = PeriodicBox(Grid((side,) * 3, (2 * torch.pi / side,) * 3), device=place.device)
    return BoxSolver(box, taylor_green(box), 1 / 1600, cfl=cfl)


def _devices_agree(place: Place, side: int) -> Row:
    states = []
    for device in ("cpu", place.device):
        box = PeriodicBox(Grid((side,) * 3, (2 * torch.pi / side,) * 3), device=device, dtype=torch.float64)
        solver = BoxSolver(box, taylor_green(box), 0.01)
        for _ in range(10):
            solver.advance(1e6)
        states.append(solver.state.cpu())
    error = float((states[0] - states[1]).norm() / states[0].norm())
    return Row(f"CUDA against CPU, {side}^3, float64, 10 steps: difference", "", error, goal=("<=", 1e-12))


def taylor_green_1600(place: Place, size: tuple[int, float]) -> Iterator[Row]:
    """Taylor-Green at Re 1600 against the reference curve, as far as time allows."""
    side, until = size
    solver, began = _taylor_green(place, side, 0.9), time.perf_counter()
    for moment, (energy, dissipation) in RE_1600.items():
        end = min(moment, until)
        while solver.time < end:
            solver.advance(end)
            if time.perf_counter() - began > 0.9 * place.seconds:
                yield Row(f"{side}^3 to t = {moment}", note=f"time was over at t = {solver.time:.2f}")
                return
        row = diagnose(solver)
        for name, exact in (("energy", energy), ("dissipation", dissipation)):
            error = abs(100 * (row[name] / exact - 1))
            yield Row(f"{name} at t = {end:g}, {side}^3, from the reference", "%", error, goal=("<=", 1.0))
        if end < moment:
            break
    spent = time.perf_counter() - began
    predicted = PREDICTED["taylor-green"] if side == 256 else None
    yield Row(f"{side}^3 to t = {solver.time:g}, {solver.step} steps", "s", spent, predicted=predicted)
