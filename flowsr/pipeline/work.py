"""What steps do, plain arguments in and files out: functions that worker processes can import."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from flowsr.compare.measure import Entry, HeldOut, SymmetryTest, applicable_metrics, measure_model, measure_truth
from flowsr.compare.result import Fit, MeasuredRow, Row
from flowsr.compare.runs import judged_by_all, open_runs
from flowsr.data.open import ReadOptions
from flowsr.data.pairs import Ingest
from flowsr.devices import use_threads
from flowsr.files import plain, typed, write_json_atomic
from flowsr.models import ModelCard, Upscaler, load_model
from flowsr.models.budget import multiply_adds
from flowsr.progress import Progress
from flowsr.simulate import Simulation
from flowsr.symmetry.discover import Discovering, discover_in_pairs
from flowsr.train import Training
from flowsr.windows import Window

#: What a discovery leaves.
DISCOVERY = "discovery.json"

#: Up to this many cells a side, a second thread costs a transform more than it brings.
ONE_THREAD_CELLS = 64


def simulate(
    stores: list[Path], settings: Simulation, seeds: list[int], device: str, threads: int | None, *, progress: Progress
) -> None:
    """Some seeds together, each to its store."""
    from flowsr.simulate import simulate as run

    use_threads(threads or (1 if max(settings.shape) <= ONE_THREAD_CELLS else None))
    run(stores, settings, seeds=seeds, device=device, progress=progress)


def ingest(stores: list[Path], pairs: Path, settings: Ingest, *, progress: Progress) -> None:
    """Coarse / fine pairs of every run."""
    from flowsr.data.pairs import ingest as run
    from flowsr.pipeline.cluster import crew_of

    with crew_of(settings.workers) as crew:
        run(stores, pairs, settings, spread=crew, progress=progress)


def train(
    card: dict[str, Any],
    pairs: Path,
    folder: Path,
    training: Training,
    seed: int,
    augment: str | None,
    device: str,
    notes: Mapping[str, Any],
    *,
    progress: Progress,
) -> None:
    """One network."""
    from flowsr.train import train_model  # Lightning, a second that upscaling does without

    card, how = ModelCard.from_dict({**card, "training": {}}), {"augment": augment, "device": device, "notes": notes}
    train_model(card, pairs, folder, training, seed=seed, **how, progress=progress)


def discover(
    stores: Sequence[Path],
    variable: str,
    settings: Discovering,
    turnover_time: float | None,
    folder: Path,
    name: str,
    *,
    progress: Progress,
) -> None:
    """The symmetry of the training pairs, as a file and a page."""
    from flowsr.report.html import HowMade
    from flowsr.report.symmetry_page import write_symmetry_report

    found = discover_in_pairs(stores, variable, settings, turnover_time, progress)
    write_json_atomic(folder / DISCOVERY, found.to_json())
    how = HowMade(config=plain(settings), versions=found.provenance["versions"])
    write_symmetry_report(folder / "report.html", found, how, name)
    progress(1.0, found.sentences[0])


def upscale(
    store: Path,
    network: Path,
    target: Path,
    variable: str,
    tile: int,
    device: str,
    options: ReadOptions | None = None,
    page: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    *,
    progress: Progress,
) -> None:
    """One run with one network, metrics beside it; with a page of them for a field that no report is about.

    Workers, if any, are those of :func:`flowsr.pipeline.cluster.crew_of`.
    """
    from flowsr.evaluate import MetricsBeside
    from flowsr.pipeline.cluster import crew_of
    from flowsr.upscale import UpscaleOptions, upscale_store

    options = ReadOptions(group="coarse") if options is None else options
    seen = metrics_beside() if page else MetricsBeside()
    how = UpscaleOptions(
        variable=variable, read=options, tile=tile, device=device, force=True, overwrite=overwrite, observers=(seen,)
    )
    with crew_of(workers, None, scheduler) as crew:
        upscale_store(store, network, target, how, spread=crew, progress=progress)


def metrics_beside(metrics: Sequence[str] | None = None, truth: Path | None = None, truth_group: str | None = None):
    """What leaves metrics and their page beside an upscaled field; see :class:`flowsr.evaluate.MetricsBeside`."""
    from flowsr.evaluate import MetricsBeside, chosen_measures
    from flowsr.report.metrics_page import write_metrics

    names = None if metrics is None else tuple(sorted(chosen_measures(metrics)))
    return MetricsBeside(names, truth, truth_group, write_metrics)


@dataclass(frozen=True)
class Measuring:
    """What rows are measured on, and how.

    Args:
        tests: data set -> test stores and the variable compared.
        metrics: registered names, or None for the standard ones.
        equivariance_snapshots: for the equivariance error.
        device: a torch device.
        windows: of other models that are judged on the same snapshots.
        reach: the largest halo of other models that are judged in the same cells, where values are missing.
        groups: data set -> point group that the flow keeps, where it is known.
    """

    tests: dict[str, tuple[Sequence[Path], str]]
    metrics: list[str] | None
    equivariance_snapshots: int
    device: str
    windows: Sequence[Window] = ()
    reach: int = 0
    groups: Mapping[str, str | None] = field(default_factory=dict)

    def held_out(self, data: str, models: Sequence[Upscaler], progress: Progress) -> HeldOut:
        """The snapshots of a data set that these models, and those of the other windows, can make."""
        windows = self.windows or [Window()]
        others = [SimpleNamespace(window=window, frame_spacing=None, halo=self.reach) for window in windows]
        runs = judged_by_all(open_runs(*self.tests[data]), [*models, *others])
        tick = progress.steps(sum(run.snapshots for run in runs), "snapshots")
        symmetry = SymmetryTest(self.equivariance_snapshots, group=self.groups.get(data))
        metrics = applicable_metrics(self.metrics, runs[0])
        return HeldOut(runs, metrics, symmetry, torch.device(self.device), lambda: tick(f"testing on {data}"))


def truth(measuring: Measuring, file: Path, *, progress: Progress) -> None:
    """The true field's own values on a data set."""
    (data,) = measuring.tests
    found = measure_truth(measuring.held_out(data, [], progress))
    write_json_atomic(file, plain(MeasuredRow(Row("truth"), {data: found})))


def measure(
    measuring: Measuring,
    file: Path,
    row: Row,
    card: ModelCard,
    folder: Path | None,
    weights: str | None,
    stores: Sequence[Path] | None,
    *,
    progress: Progress,
) -> None:
    """A row on every data set that it is tested on."""
    model = card.build() if folder is None else load_model(folder)
    tests, total = {}, len(measuring.tests)
    for number, data in enumerate(measuring.tests):
        held_out = measuring.held_out(data, [model], progress.share(number / total, (number + 1) / total))
        tests[data] = measure_model(Entry(row.model, row.model, model, stores), held_out)
        if number == 0:
            cost = multiply_adds(model, held_out.runs[0].coarse_grid)
    fit = None if folder is None else fit_of(folder, row)
    options, parameters = dict(card.options), int(model.parameter_count)
    measured = MeasuredRow(row, tests, card.model, options, parameters, cost, fit, weights)
    write_json_atomic(file, plain(measured))


def read_row(file: Path) -> MeasuredRow:
    """What :func:`measure` or :func:`truth` left."""
    return typed(MeasuredRow, json.loads(file.read_text(encoding="utf-8")))


def fit_of(folder: Path, row: Row) -> Fit:
    """The training of a row, from its folder's history."""
    from flowsr.train import HISTORY, read_history

    history = read_history(folder / HISTORY)
    finite = [line for line in history if line["validation_loss"] is not None]
    best = min(finite, key=lambda line: line["validation_loss"])
    return Fit(
        row.data,
        row.size,
        row.seed,
        epochs=len(history),
        best_epoch=best["epoch"] + 1,
        validation_loss=best["validation_loss"],
        seconds=history[-1]["seconds"],
        history=[(line["epoch"], line["train_loss"], line["validation_loss"]) for line in history],
    )
