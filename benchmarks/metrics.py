"""What metrics beside the field cost: an upscaling with and without them, in turns, in seconds of CPU and of wall.

python benchmarks/metrics.py [--side 64] [--factor 4] [--snapshots 1] [--rounds 3]

The network is the demo's relaxed one with fresh weights, the field random: neither number depends on the values. CPU
seconds are those of all threads, so that another job on the machine does not show in their ratio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from flowsr.data import create_store, field_template
from flowsr.evaluate import MetricsBeside
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, save_model
from flowsr.report.metrics_page import write_metrics
from flowsr.upscale import upscale_store


def coarse_store(path: Path, side: int, snapshots: int) -> Path:
    """Random numbers with a steep spectrum would cost the same: the values do not matter."""
    template = field_template(
        Grid((side,) * 3, (0.1,) * 3), np.arange(snapshots, dtype=float), attrs={"viscosity": 0.01}
    )
    rng = np.random.default_rng(0)
    with create_store(path, template) as store:
        for time_ in range(snapshots):
            store.write("velocity", rng.standard_normal((3, side, side, side)).astype("float32"), time=time_)
        return store.publish()


def seconds(work) -> tuple[float, float]:
    """CPU and wall."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    """Print one line a round, and the ratio of the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("side", 64), ("factor", 4), ("snapshots", 1), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        card = ModelCard("relaxed", Task(given.factor))
        model = card.build()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        save_model(root / "model", model, card)
        source = coarse_store(root / "coarse.zarr", given.side, given.snapshots)
        spent: dict[str, list[tuple[float, float]]] = {"without": [], "with": [], "without the page": []}
        observers = {"without": [], "with": [MetricsBeside(write=write_metrics)], "without the page": [MetricsBeside()]}
        for round_ in range(given.rounds + 1):  # the first one warms up
            for name, seen in observers.items():
                how = {"observers": seen, "overwrite": True, "force": True, "device": "cpu"}
                work = partial(upscale_store, source, root / "model", root / "fine.zarr", **how)
                found = seconds(work)
                if round_:
                    spent[name].append(found)
                    print(f"{name:<18} {found[0]:8.2f} s CPU {found[1]:8.2f} s wall", flush=True)
        medians = {name: np.median(np.array(found), axis=0) for name, found in spent.items()}
        for name in ("with", "without the page"):
            cpu, wall = medians[name] / medians["without"]
            print(f"{given.side}^3 x {given.factor}, metrics {name}: CPU x {cpu:.3f}, wall x {wall:.3f}", flush=True)


if __name__ == "__main__":
    main()
