"""The five stages of an experiment: where settings meet jobs.

Each takes the experiment, reads what the stage before left in the experiment's folder, calls a job with plain arguments
and records what was done (:mod:`flowsr.pipeline.steps`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flowsr.config.loading import dump_experiment
from flowsr.config.schema import Experiment
from flowsr.devices import use_threads
from flowsr.errors import FlowsrError
from flowsr.files import tree_checksum, write_text_atomic
from flowsr.pipeline.steps import Done, Step, perform, read_record
from flowsr.progress import Report, StageReport, about

#: Up to this many cells a side, a second thread costs a transform more than it brings.
ONE_THREAD_CELLS = 64


def simulate(experiment: Experiment, *, fresh: bool = False, report: StageReport | None = None) -> list[Done]:
    """One direct numerical simulation per seed, to ``simulate/seed_NNN.zarr``."""
    _start(experiment)
    settings = experiment.simulate.recorded()
    use_threads(experiment.threads or (1 if np.max(settings["cells"]) <= ONE_THREAD_CELLS else None))
    folder = experiment.output / "simulate"
    job, tables = _simulation(settings["flow"])
    finished = []
    for seed in experiment.simulate.seeds:
        store = folder / f"seed_{seed:03d}.zarr"
        step = Step(
            title=f"simulate seed {seed}",
            record=store.with_suffix(".json"),
            outputs=(store, *(store.with_suffix(suffix) for suffix in tables)),
            settings={**settings, "seed": seed},
            about=_about(experiment),
        )

        def work(store=store, seed=seed, title=step.title):
            job(store, seed=seed, device=experiment.device, progress=_begin(report, title), **settings)

        finished.append(_done(perform(step, work, fresh=fresh), report))
    return finished


def _simulation(flow: str) -> tuple[Callable[..., Path], tuple[str, ...]]:
    """The job that simulates a flow, and the tables it writes beside the store."""
    if flow == "channel":
        from flowsr.simulate.channel import simulate_channel

        return simulate_channel, (".csv", ".profiles.csv")
    from flowsr.simulate import simulate_run

    return simulate_run, (".csv",)


def ingest(experiment: Experiment, *, fresh: bool = False, report: StageReport | None = None) -> list[Done]:
    """Coarse / fine pairs of every run, split in time, to ``ingest/<split>/<run>.zarr``."""
    from flowsr.data.pairs import SPLITS
    from flowsr.data.pairs import ingest as ingest_pairs

    _start(experiment)
    folder = experiment.output / "ingest"
    inputs, checksums = _sources(experiment)
    settings = experiment.ingest.model_dump(mode="json", exclude={"inputs"})
    split = settings.pop("split")
    step = Step(
        title="ingest",
        record=folder / "run.json",
        outputs=(*(folder / name for name in SPLITS), folder / "statistics.json"),
        settings={**settings, **split},
        inputs=checksums,
        about=_about(experiment),
    )

    def work():
        ingest_pairs(inputs, folder, progress=_begin(report, step.title), **settings, **split)

    return [_done(perform(step, work, fresh=fresh), report)]


def train(experiment: Experiment, *, fresh: bool = False, report: StageReport | None = None) -> list[Done]:
    """Every network of the experiment, to ``train/<name>/``: weights, card and learning curve."""
    from flowsr.models.saving import CARD, WEIGHTS
    from flowsr.train import HISTORY, resolve_options, train_model

    _start(experiment)
    pairs = experiment.output / "ingest"
    inputs = _outputs_of(pairs / "run.json", "ingest")
    settings = experiment.train
    options = resolve_options(
        {name: (entry.model, entry.options, entry.match_parameters) for name, entry in settings.models.items()}, pairs
    )
    finished = []
    for name, entry in settings.models.items():
        folder = experiment.output / "train" / name
        fit_settings = settings.model_dump(mode="json", exclude={"models"})
        step = Step(
            title=f"train {name}",
            record=folder / "run.json",
            outputs=(folder / WEIGHTS, folder / CARD, folder / HISTORY),
            scratch=(folder / "checkpoints",),
            settings={"model": entry.model, "options": options[name], "seed": experiment.seed, **fit_settings},
            inputs=inputs,
            about=_about(experiment),
        )

        def work(name=name, entry=entry, folder=folder, title=step.title):
            train_model(
                entry.model, options[name], pairs, folder, seed=experiment.seed, device=experiment.device,
                progress=_begin(report, title), **fit_settings,
            )  # fmt: skip

        finished.append(_done(perform(step, work, fresh=fresh), report))
    return finished


def upscale(experiment: Experiment, *, fresh: bool = False, report: StageReport | None = None) -> list[Done]:
    """Every network over every held-out run, to ``upscale/<name>/<run>.zarr``."""
    from flowsr.upscale import upscale_store

    _start(experiment)
    finished = []
    for name in experiment.train.models:
        model = experiment.output / "train" / name
        weights = _outputs_of(model / "run.json", "train")
        for source in _test_stores(experiment):
            target = experiment.output / "upscale" / name / source.name
            step = Step(
                title=f"upscale {name} {source.stem}",
                record=target.with_suffix(".json"),
                outputs=(target,),
                settings=experiment.upscale.model_dump(mode="json"),
                inputs={**weights, source.name: tree_checksum(source)},
                about=_about(experiment),
            )

            def work(source=source, model=model, target=target, title=step.title):
                upscale_store(
                    source, model, target, variable=experiment.ingest.variable, group="coarse",
                    tile=experiment.upscale.tile, device=experiment.device, progress=_begin(report, title),
                )  # fmt: skip

            finished.append(_done(perform(step, work, fresh=fresh), report))
    return finished


@dataclass(frozen=True)
class Outcome:
    """What `flowsr run` ends with.

    Args:
        comparison: the content of ``metrics.json``.
        report: path of ``report.html``.
        steps: every step done or reused.
    """

    comparison: dict[str, Any]
    report: Path
    steps: list[Done]

    @property
    def table(self):
        """The comparison as a rich table."""
        from flowsr.compare import screen_table

        return screen_table(self.comparison)

    @property
    def verdict(self) -> str:
        """The comparison in a few sentences, a line each."""
        from flowsr.compare import verdict

        return "\n".join(verdict(self.comparison))


def compare(experiment: Experiment, *, fresh: bool = False, report: StageReport | None = None) -> Outcome:
    """Interpolations and networks on the held-out snapshots, to ``compare/`` and ``report.html``."""
    from flowsr.pipeline.comparing import compare_and_report

    _start(experiment)
    tests = _test_stores(experiment)
    inputs = {source.name: tree_checksum(source) for source in tests}
    for name in experiment.train.models:
        for file, checksum in _outputs_of(experiment.output / "train" / name / "run.json", "train").items():
            inputs[f"{name}/{file}"] = checksum
        for source in tests:
            record = experiment.output / "upscale" / name / f"{source.stem}.json"
            inputs[f"{name}/{source.name}"] = _outputs_of(record, "upscale")[source.name]
    folder, page = experiment.output / "compare", experiment.output / "report.html"
    step = Step(
        title="compare",
        record=folder / "run.json",
        outputs=(folder / "metrics.json", folder / "table.csv", folder / "table.md", page),
        scratch=(folder / "rows",),
        settings={**experiment.compare.model_dump(mode="json"), "variable": experiment.ingest.variable},
        inputs=inputs,
        about=_about(experiment),
    )

    def work():
        compare_and_report(experiment, tests, folder, page, _begin(report, step.title))

    done = perform(step, work, fresh=fresh)
    comparison = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return Outcome(comparison, page, [_done(done, report)])


def run(experiment: Experiment, *, fresh: bool = False, report: StageReport | None = None) -> Outcome:
    """All five stages in order; finished ones are reused unless ``fresh``."""
    steps = [done for stage in (simulate, ingest, train, upscale) for done in stage(experiment, fresh=fresh, report=report)]
    outcome = compare(experiment, fresh=fresh, report=report)
    return Outcome(outcome.comparison, outcome.report, steps + outcome.steps)


STAGES = {"simulate": simulate, "ingest": ingest, "train": train, "upscale": upscale, "compare": compare}


def _start(experiment: Experiment) -> None:
    use_threads(experiment.threads)
    write_text_atomic(experiment.output / "config.yaml", dump_experiment(experiment))


def _about(experiment: Experiment) -> dict[str, Any]:
    return {"experiment": experiment.name, "device": experiment.device, "threads": experiment.threads}


def _begin(report: StageReport | None, title: str) -> Report | None:
    if report is not None:
        report(title, 0.0, "started")
    return about(report, title)


def _done(done: Done, report: StageReport | None) -> Done:
    if report is not None:
        report(done.step.title, 1.0, "reused" if done.reused else "done")
    return done


def _sources(experiment: Experiment) -> tuple[list[Path], dict[str, str]]:
    if experiment.ingest.inputs is not None:
        return list(experiment.ingest.inputs), {str(path): _checksum(path) for path in experiment.ingest.inputs}
    folder = experiment.output / "simulate"
    stores = [folder / f"seed_{seed:03d}.zarr" for seed in experiment.simulate.seeds]
    return stores, {store.name: _outputs_of(store.with_suffix(".json"), "simulate")[store.name] for store in stores}


def _checksum(path: Path) -> str:
    if not path.exists():
        raise FlowsrError("no such file", file=path, variable="ingest.inputs")
    return tree_checksum(path)


def _outputs_of(record: Path, stage: str) -> dict[str, str]:
    found = read_record(record)
    if found is None or found.get("status") != "finished":
        raise FlowsrError(f"the {stage} stage has not finished", file=record, hint=f"run `flowsr {stage}` first, or `flowsr run`")
    return found["outputs"]


def _test_stores(experiment: Experiment) -> list[Path]:
    from flowsr.data.pairs import pair_stores

    return pair_stores(experiment.output / "ingest", "test")
