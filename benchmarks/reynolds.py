"""One network for several Reynolds numbers and filters, against specialists and interpolations, with intervals.

    python benchmarks/reynolds.py               # 48^3, three seeds: about an hour on two cores, reckoned
    python benchmarks/reynolds.py --small       # 32^3, two seeds: about 25 core minutes

Forced isotropic turbulence at three viscosities, made coarse by two operators: six sets of pairs for the one network.
It is trained twice, without and with the cell Reynolds number among its inputs. A specialist is the same network,
trained on the first part of the very runs that it is tested on. Each has as many steps for every set that it sees.
Tests are on snapshots after the training's, and on runs that the one network did not see: a viscosity between, one
beyond, an operator between, decaying turbulence from Taylor-Green vortices. Intervals: over independent snapshots and
seeds, 95 %.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import flowsr
from flowsr.compare.bootstrap import Sample, bootstrap
from flowsr.compare.runs import HeldOutRun, every_snapshot, open_runs
from flowsr.data.independence import Split, block_sums
from flowsr.data.pairs import Ingest, ingest, pair_stores
from flowsr.models import Task, build_model, load_model
from flowsr.models.base import state_viscosity
from flowsr.progress import SILENT

BETWEEN, BEYOND = "viscosity between", "viscosity beyond"
INTERPOLATIONS = ("trilinear", "tricubic", "spectral", "deconvolved")


@dataclass(frozen=True)
class Size:
    """How large a study.

    Args:
        cells: along the sides of the boxes.
        viscosities: trained on, the largest first.
        between, beyond: tested on.
        runs: of each viscosity.
        duration: of a run, snapshots two time units apart.
        seeds: of each network.
        steps: for each set of pairs in a fit, one box a step.
    """

    cells: int
    viscosities: tuple[float, ...]
    between: float
    beyond: float
    runs: int
    duration: float
    seeds: int
    steps: int


SIZES = {
    "full": Size(48, (0.025, 0.0175, 0.0115), 0.0145, 0.0085, 3, 60.0, 3, 600),
    "small": Size(32, (0.05, 0.033, 0.022), 0.027, 0.016, 2, 40.0, 2, 500),
}
OPERATORS, OPERATOR_BETWEEN = {"block_mean": {}, "gaussian_block_mean": {}}, ("top_hat", 1.5)
SPLIT = Split(train=0.6, validation=0.1, decorrelation_turnovers=1.0)


class Study:
    """Simulations, pairs and networks in one folder; what is there is used again."""

    def __init__(self, folder: Path, size: Size):
        self.folder, self.size = folder, size

    def pairs(
        self, viscosity: float, operator: str, width: float | None = None, flow: str = "forced_isotropic"
    ) -> Path:
        """Runs of one viscosity, made coarse by one operator."""
        name = f"{flow}_{viscosity:g}"
        count = self.size.runs if flow == "forced_isotropic" else 1
        stores = [self.folder / "simulate" / f"{name}_{n}.zarr" for n in range(count)]
        if flow == "forced_isotropic":
            times = {"duration": self.size.duration, "snapshot_interval": 2.0}
        else:  # past the peak of dissipation, where it is turbulence
            times = {"duration": 36.0, "snapshot_interval": 1.0}
        for number, store in enumerate(stores):
            if not store.exists():
                flowsr.simulate(store, seed=number, flow=flow, cells=self.size.cells, viscosity=viscosity, **times)
        output = self.folder / "pairs" / f"{name}_{operator}"
        settings = Ingest(operator=operator, width=width, split=SPLIT)
        ingest(stores, output, settings, progress=SILENT)
        return output

    def networks(self, name: str, pairs: list[Path], **more) -> list:
        """The network, once a seed, with more options."""
        found = []
        for seed in range(self.size.seeds):
            folder = self.folder / "networks" / f"{name}_{seed}"
            if not (folder / "model.json").exists():
                samples = self.size.steps * len(pairs) // 4
                schedule = dict(batch_size=1, samples_per_epoch=samples, max_epochs=4, patience=99)
                options = {"group": "Oh", "channels": 1, **more}
                rates = dict(learning_rate=0.004, rates="by_fan_in")
                flowsr.train("strict", pairs, folder, options=options, seed=seed, device="cpu", **schedule, **rates)
            found.append(load_model(folder))
            print(f"{name}, seed {seed}", file=sys.stderr, flush=True)
        return found


def errors(models: list, runs: list[HeldOutRun]) -> np.ndarray:
    """NRMSE (models, snapshots)."""
    found = []
    for run, number in every_snapshot(runs):
        fine, coarse = run.read_fine(number), run.read_coarse(number)
        for model in models:
            state_viscosity(model, run.viscosity)
        rest = fine - fine.mean((2, 3, 4), keepdim=True)
        with torch.no_grad():
            made = [model(coarse, run.coarse_grid) for model in models]
        found.append([float((each - fine).norm() / rest.norm()) for each in made])
    return np.array(found).T


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="32^3, two seeds, few steps.")
    parser.add_argument("--folder", type=Path, help="Where to work; default: runs/reynolds, or runs/reynolds_small.")
    asked = parser.parse_args()
    size = SIZES["small" if asked.small else "full"]
    study = Study(asked.folder or Path("runs/reynolds_small" if asked.small else "runs/reynolds"), size)
    torch.set_num_threads(1)
    known = {(nu, operator): study.pairs(nu, operator) for nu in size.viscosities for operator in OPERATORS}
    middle = size.viscosities[1]
    tests = {
        "inside: middle viscosity, block mean": known[middle, "block_mean"],
        "inside: least viscosity, Gaussian": known[size.viscosities[-1], "gaussian_block_mean"],
        "between: another viscosity": study.pairs(size.between, "block_mean"),
        "between: another filter, a top hat of 1.5 cells": study.pairs(middle, *OPERATOR_BETWEEN),
        "beyond: less viscosity": study.pairs(size.beyond, "block_mean"),
        "beyond: decaying Taylor-Green, less viscosity": study.pairs(size.beyond, "block_mean", flow="taylor_green"),
    }
    every = list(known.values())
    alike, told = study.networks("one", every), study.networks("told", every, reynolds=True)
    heads = ["Tested on", "blocks", "one network", "it over the specialist", "with the cell Reynolds number"]
    heads += ["it over the specialist", "specialist", "best interpolation", "the better network over it"]
    print(f"| {' | '.join(heads)} |\n|---{'|---:' * (len(heads) - 1)}|")
    for number, (label, pairs) in enumerate(tests.items()):
        runs = open_runs(pair_stores(pairs, "test"), "velocity")
        special = study.networks(f"specialist_{number}", [pairs])
        plain = [build_model(name, Task(4)) for name in INTERPOLATIONS]
        found = {"one": errors(alike, runs), "told": errors(told, runs), "special": errors(special, runs)}
        simple = errors(plain, runs)
        best = int(simple.mean(1).argmin())
        blocks = np.arange(simple.shape[1])  # snapshots two time units apart: about a turnover time
        samples = {name: _sample(name, values, blocks, True) for name, values in found.items()}
        samples["plain"] = _sample("plain", simple[best : best + 1], blocks, False)
        means = {name: values.mean() for name, values in found.items()}
        better = min(("one", "told"), key=means.get)
        behind = [_ratio(samples[name], samples["special"]) for name in ("one", "told")]
        print(
            f"| {label} | {len(blocks)} | {means['one']:.4f} | {behind[0]} | {means['told']:.4f} | {behind[1]} "
            f"| {means['special']:.4f} | {INTERPOLATIONS[best]} {simple[best].mean():.4f} "
            f"| {_ratio(samples[better], samples['plain'])} |",
            flush=True,
        )
    return 0


def _sample(name: str, values: np.ndarray, blocks: np.ndarray, trained: bool) -> Sample:
    sums, counts = block_sums(values, blocks)
    return Sample(name, sums, counts, trained)


def _ratio(one: Sample, other: Sample) -> str:
    found = bootstrap([one, other], lambda means: 100 * (means[0] / means[1] - 1))
    ends = "not known" if found.low is None else f"{found.low:+.0f}, {found.high:+.0f}"
    return f"{found.estimate:+.1f} % [{ends}]"


if __name__ == "__main__":
    sys.exit(main())
