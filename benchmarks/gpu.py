"""Every claim about GPUs, measured: `python benchmarks/gpu.py --minutes 9`, table in gpu.md, numbers in gpu.json.

Each step runs in a process of its own, in order of importance, with a budget of seconds and smaller sizes to fall back
on. What fails, runs out of memory or of time is a row; every row is written when it is made. `--rehearse` goes through
all steps on a CPU at tiny sizes, Triton under its interpreter. Floors are counted from bytes and operations against the
bandwidth and rate that the first step measures; predictions are those of NOTES.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "--rehearse" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported

import gpu_steps as steps
import torch
from gpu_steps import Place, Row

from flowsr.files import write_text_atomic

LEAST = 4.0  # seconds that a step needs to be tried at all
REHEARSED = 20  # times as long may a step take on a CPU, which may have much else to do
FIRST_SHARE = 0.8  # of what is left to a step goes to a size that has a smaller one to fall back on


@dataclass(frozen=True)
class Step:
    """One step of the run.

    Args:
        name: chosen by `--only`.
        run: called with the place and a size; yields rows.
        seconds: its budget.
        sizes: what to try, one after another, until one is gone through.
        tiny: the size of the rehearsal.
    """

    name: str
    run: Callable[[Place, object], Iterator[Row]]
    seconds: float
    sizes: tuple[object, ...]
    tiny: object


STEPS = (
    Step("ceilings", steps.ceilings, 25, (8192, 2048), 64),
    Step("kernel", steps.kernel, 130, (steps.CHECKS, steps.CHECKS[:2]), steps.TINY_CHECKS),
    Step("layer", steps.layer, 60, (("Oh", 16, 64), ("Oh", 16, 32)), ("O", 1, 2)),
    Step("wide layer", steps.wide_layer, 40, (128, 96, 64), 2),
    Step("upscaling", steps.upscaling, 45, ((64, 128, 256), (64,)), (4,)),
    Step("training", steps.training, 110, ((16, 100), (16, 20)), (4, 2)),
    Step("dns", steps.dns, 70, ((128, 256, 512, 1024), (128, 256)), (8,)),
    Step("taylor-green", steps.taylor_green_1600, 60, ((256, 8.97), (128, 8.97)), (16, 0.2)),
)


def go_through(chosen: list[Step], place: Place, minutes: float, keep: Callable[[list[Row]], None]) -> list[Row]:
    """Run the steps until the time is over; ``keep`` is called with all rows whenever one is added."""
    rows: list[Row] = []
    deadline = time.monotonic() + 60 * minutes

    def add(row: Row) -> None:
        rows.append(row)
        keep(rows)

    for step in chosen:
        patience = REHEARSED if place.rehearsed else 1
        ends = min(deadline, time.monotonic() + patience * step.seconds)
        sizes = (step.tiny,) if place.rehearsed else step.sizes
        for number, size in enumerate(sizes):
            left = ends - time.monotonic()
            if left < LEAST:
                add(Row(_attempt(number), note="not run: no time left", step=step.name))
                break
            left *= 1.0 if number + 1 == len(sizes) else FIRST_SHARE
            place = replace(place, seconds=left)
            found, trouble = _in_a_child(step, place, size, left, add)
            if step.name == "ceilings":
                place = replace(place, ceilings={row.what: row.measured for row in found if row.measured})
            if trouble is None:
                break
            add(Row(_attempt(number), note=trouble, step=step.name))
    return rows


def _in_a_child(
    step: Step, place: Place, size: object, seconds: float, add: Callable[[Row], None]
) -> tuple[list[Row], str | None]:
    """The rows of a step, and what went wrong. A fault on the device ends the child alone."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    context = multiprocessing.get_context("fork")  # nothing is imported twice; no CUDA before this
    child = context.Process(target=_child, args=(step, place, size, sender), daemon=True)
    began, found = time.monotonic(), []
    child.start()
    sender.close()
    trouble: str | None = f"cut off after {seconds:.0f} s"
    while receiver.poll(max(0.0, began + seconds - time.monotonic())):
        try:
            message = receiver.recv()
        except EOFError:
            trouble = "its process died"
            break
        if not isinstance(message, Row):
            trouble = message
            break
        found.append(message)
        add(message)
    if child.is_alive() and trouble is not None:
        child.kill()
    child.join()
    if trouble == "its process died":
        trouble += f" (exit code {child.exitcode})"
    print(f"{step.name}: {len(found)} rows in {time.monotonic() - began:.1f} s{_said(trouble)}", flush=True)
    return found, trouble


def _attempt(number: int) -> str:
    return f"fallback {number}" if number else "full size"


def _said(trouble: str | None) -> str:
    return "" if trouble is None else f"; {trouble}"


def _child(step: Step, place: Place, size: object, sender) -> None:
    trouble = None
    try:
        torch.manual_seed(0)
        for row in step.run(place, size):
            sender.send(replace(row, step=step.name))
    except torch.cuda.OutOfMemoryError as error:
        trouble = f"out of memory: {str(error).splitlines()[0]}"
    except Exception as error:
        trouble = f"{type(error).__name__}: {str(error).strip() or 'no message'}"[:500]
    sender.send(trouble)
    sender.close()


def page(rows: list[Row], about: dict[str, str]) -> str:
    """The rows as a Markdown table."""
    lines = ["# GPU figures", "", *(f"- {name}: {value}" for name, value in about.items()), ""]
    lines += [
        "A floor is counted from bytes and operations against the ceilings of the first step; predictions are those of",
        "[NOTES.md](NOTES.md), made beforehand.",
        "",
        "| step | what | unit | goal | floor | predicted | measured | measured / floor | goal met | note |",
        "|" + "---|" * 10,
    ]
    return "\n".join([*lines, *(row.line() for row in rows)]) + "\n"


def about(place: Place, arguments: list[str]) -> dict[str, str]:
    """Card, versions and command. Asked of the driver by name only: CUDA must not be touched before the children."""
    versions = {"torch": torch.__version__, "CUDA": torch.version.cuda, "Python": platform.python_version()}
    try:
        import triton

        versions["Triton"] = triton.__version__
    except ImportError:
        versions["Triton"] = "none"
    return {
        "command": f"`{shlex.join(['python', 'benchmarks/gpu.py', *arguments])}`",
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "device": "a rehearsal on a CPU: the numbers mean nothing" if place.rehearsed else "see the first row",
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; exit code 1 where a step could not be gone through at any size."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--only", nargs="+", choices=[step.name for step in STEPS], help="these steps alone")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the CPU")
    parser.add_argument("--output", type=Path, default=Path("."), help="folder for gpu.md and gpu.json")
    options = parser.parse_args(given)
    place = Place("cpu" if options.rehearse else "cuda", options.rehearse)
    chosen = [step for step in STEPS if not options.only or step.name in options.only]
    described = about(place, given)
    options.output.mkdir(parents=True, exist_ok=True)

    def keep(rows: list[Row]) -> None:
        values = {"about": described, "rows": [asdict(row) for row in rows]}
        write_text_atomic(options.output / "gpu.json", json.dumps(values, indent=1) + "\n")
        write_text_atomic(options.output / "gpu.md", page(rows, described))

    rows = go_through(chosen, place, options.minutes, keep)
    print(page(rows, described))
    measured = {row.step for row in rows if row.measured is not None}
    return 0 if all(step.name in measured for step in chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
