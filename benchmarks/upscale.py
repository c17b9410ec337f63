"""Upscaling a stored field: what overlaps, what workers bring, what Dask and metrics cost, what memory it takes.

    python benchmarks/upscale.py overlap            # all together against reading, computing and writing alone
    python benchmarks/upscale.py workers            # one process, one worker of Dask, two workers
    python benchmarks/upscale.py metrics            # with the metrics beside the field against without
    python benchmarks/upscale.py memory --fine 128 256 512 1024

Ratios are of one round, their median over the rounds: on a machine that others use seconds wander by factors. Those of
`metrics` are of processor seconds, too, which wander less. `memory` runs each size in a process of its own and tells
its peak. `--model` is a name out of `flowsr models`, with random weights, or of a model that comes with flowsr.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from flowsr.data import create_store, field_template, open_field
from flowsr.evaluate import MetricsBeside
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, load_model, save_model
from flowsr.models.checkpoint import model_folder, pretrained
from flowsr.pipeline.cluster import crew_of
from flowsr.report.metrics_page import write_metrics
from flowsr.upscale import do_upscale, plan_upscale, upscale_store
from flowsr.upscale.blocks import Observer, States, upscale_blocks
from flowsr.upscale.plan import survey_field
from flowsr.upscale.tiles import around, upscale_tile, within

FACTOR = 4


def lay_out(folder: Path, side: int, model: str) -> tuple[Path, Path]:
    """A coarse field of random numbers and a model with random weights."""
    source, saved = folder / f"coarse_{side}.zarr", folder / model
    if model in pretrained():
        saved = model_folder(model)
    else:
        card = ModelCard(model, Task(FACTOR), {"relaxed": {"channels": 4}, "cnn": {"width": 16}}.get(model, {}))
        torch.manual_seed(0)
        save_model(saved, card.build(), card)
    generator = np.random.default_rng(0)
    with create_store(source, field_template(Grid((side,) * 3), [0.0]), shard=64) as store:
        for box in store.boxes("velocity"):
            shape = (3, *(part.stop - part.start for part in box))
            store.write("velocity", generator.normal(size=shape).astype(np.float32), time=0, box=box)
        store.publish()
    return source, saved


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def show(rounds: list[dict[str, float]], baseline: str) -> None:
    for name in rounds[0]:
        spent = statistics.median(each[name] for each in rounds)
        ratios = sorted(each[name] / each[baseline] for each in rounds)
        print(
            f"{name:<34} {spent:8.2f} s   ratio {statistics.median(ratios):.2f}  ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def overlap(args, folder: Path) -> None:
    """One thread computes; reader and writer have the other core."""
    source, saved = lay_out(folder, args.side, args.model)
    target = folder / "fine.zarr"
    plan = survey_field(plan_upscale(source, saved, target, device="cpu"))
    model, field = load_model(saved), open_field(source)["velocity"][0]
    blocks = list(plan.blocks())
    cells = [around(plan.grid, plan.coarse_box(block), plan.tile, plan.halo or 0) for block in blocks]
    fine = np.random.default_rng(0).normal(size=(3, *plan.block)).astype(np.float32)

    def read():
        return [field.isel(dict(zip("xyz", (part.cells for part in each)))).values for each in cells]

    kept = read()

    def compute():
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        for block, read_for, values in zip(blocks, cells, kept):
            for tile in plan.tiles_of(block):
                inside = within(tile, read_for)
                scales = plan.scales[0] if plan.scales else None
                upscale_tile(model, lambda _, v=values, i=inside: v[(slice(None), *i)], plan.grid, tile, "cpu", scales)
        torch.set_num_threads(before)

    def write():
        with create_store(target, plan.template, shard=plan.shard, fresh=True) as store:
            for block in blocks:
                shape = tuple(slice(0, part.stop - part.start) for part in block.box)
                store.write("velocity", fine[(slice(None), *shape)], time=0, box=block.box)

    def together():
        with create_store(target, plan.template, shard=plan.shard, fresh=True):
            upscale_blocks(plan, blocks, threads=1)

    parts, rounds = {"read": read, "compute": compute, "write": write, "together": together}, []
    for run in parts.values():
        run()
    for _ in range(args.rounds):
        found = {name: seconds(run) for name, run in parts.items()}
        found["slowest of the three"] = max(found[name] for name in ("read", "compute", "write"))
        rounds.append(found)
    show(rounds, "slowest of the three")


def workers(args, folder: Path) -> None:
    """The same store by this process with one thread, by one worker and by two; starting them is not counted."""
    source, saved = lay_out(folder, args.side, args.model)
    plan = survey_field(plan_upscale(source, saved, folder / "fine.zarr", device="cpu"))

    def alone():
        with create_store(plan.target, plan.template, shard=plan.shard, fresh=True) as store:
            upscale_blocks(plan, list(plan.blocks()), threads=1)
            store.publish()

    with crew_of(workers=1) as one, crew_of(workers=2) as two:
        parts = {
            "this process, one thread": alone,
            "one worker": lambda: do_upscale(plan, overwrite=True, spread=one),
            "two workers": lambda: do_upscale(plan, overwrite=True, spread=two),
        }
        for run in parts.values():
            run()
        rounds = [{name: seconds(run) for name, run in parts.items()} for _ in range(args.rounds)]
        show(rounds, "this process, one thread")
        print(f"one worker over two: {statistics.median(r['one worker'] / r['two workers'] for r in rounds):.2f}")
        print("processor seconds of each worker, all rounds:", *(f"{s:.0f}" for s in spent(one) + spent(two)))


def spent(crew) -> list[float]:
    return list(crew.client.run(time.process_time).values())


def metrics(args, folder: Path) -> None:
    """The same store without metrics, with them, and with their page, of two seconds for any field; one thread."""
    source, saved = lay_out(folder, args.side, args.model)
    plan = survey_field(plan_upscale(source, saved, folder / "fine.zarr", device="cpu"))

    def run(*observers: Observer) -> None:
        with create_store(plan.target, plan.template, shard=plan.shard, fresh=True) as store:
            upscale_blocks(plan, list(plan.blocks()), observers, threads=1)
            for observer in observers:
                observer.finish(plan, States(plan, observer), store)
            store.publish()

    parts = {
        "without metrics": run,
        "with metrics": lambda: run(MetricsBeside()),
        "with metrics and their page": lambda: run(MetricsBeside(write=write_metrics)),
    }
    elapsed, processor = [], []
    parts["with metrics and their page"]()
    for _ in range(args.rounds):
        found = {name: (seconds(call), time.process_time() - before) for name, call, before in timed(parts)}
        elapsed.append({name: both[0] for name, both in found.items()})
        processor.append({f"{name}, processor": both[1] for name, both in found.items()})
    show(elapsed, "without metrics")
    show(processor, "without metrics, processor")


def timed(parts: dict[str, Callable[[], object]]):
    """Each part, and the processor seconds before it."""
    for name, call in parts.items():
        yield name, call, time.process_time()


def memory(args, folder: Path) -> None:
    smallest = None
    for side in args.fine:
        source, saved = lay_out(folder, side // FACTOR, args.model)
        command = [sys.executable, __file__, "child", str(source), str(saved), str(folder / "fine.zarr")]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        smallest = smallest or found["peak"]
        told = f"{side:>5}^3: peak {found['peak'] / 2**20:6.0f} MiB, {found['peak'] / smallest:.2f} of the first"
        print(f"{told}, {found['seconds']:.0f} s", flush=True)
        for left in (folder / "fine.zarr", source):
            shutil.rmtree(left)


def child(source: str, saved: str, target: str) -> None:
    spent = seconds(lambda: upscale_store(Path(source), Path(saved), Path(target), device="cpu"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak": peak, "seconds": spent}))


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        return child(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overlap", "workers", "metrics", "memory"])
    parser.add_argument("--side", type=int, default=64, help="coarse cells along a side")
    parser.add_argument("--model", default="relaxed")
    parser.add_argument("--fine", type=int, nargs="+", default=[128, 256, 512], help="fine cells along a side")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        {"overlap": overlap, "workers": workers, "metrics": metrics, "memory": memory}[args.what](args, Path(folder))


if __name__ == "__main__":
    main()
