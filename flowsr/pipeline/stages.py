"""The five stages of an experiment: where settings meet jobs.

Each takes the experiment, reads what the stage before left in the experiment's folder, calls a job with plain arguments
and records what was done (:mod:`flowsr.pipeline.steps`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flowsr.compare.result import RECORDS, ComparisonResult
from flowsr.config.load import dump_experiment
from flowsr.config.schema import Experiment
from flowsr.data.pairs import SPLITS, STATISTICS, pair_stores
from flowsr.devices import use_threads
from flowsr.errors import FlowsrError
from flowsr.files import tree_checksum, write_text_atomic
from flowsr.pipeline.check import check_names
from flowsr.pipeline.steps import Done, Step, perform, read_record
from flowsr.progress import SILENT, Progress

#: Up to this many cells a side, a second thread costs a transform more than it brings.
ONE_THREAD_CELLS = 64


def simulate(
    experiment: Experiment, *, fresh: bool = False, report: Progress = SILENT, part: bool = False
) -> list[Done]:
    """One direct numerical simulation per seed, or per batch of seeds, to ``simulate/seed_NNN.zarr``.

    Args:
        part: other processes work at other seeds of the same experiment; its ``config.yaml`` is theirs to write.
    """
    _start(experiment, part)
    settings = experiment.simulate
    use_threads(experiment.threads or (1 if max(settings.shape) <= ONE_THREAD_CELLS else None))
    finished = []
    for seeds in simulation_batches(experiment):
        step = _simulate_step(experiment, seeds[0])

        def work(step=step, seeds=seeds):
            from flowsr.simulate import simulate as run

            stores = [_run_store(experiment, seed) for seed in seeds]
            run(stores, settings, seeds=seeds, device=experiment.device, progress=_begin(report, step.title))

        finished.append(_done(perform(step, work, fresh=fresh), report))
    return finished


def ingest(experiment: Experiment, *, fresh: bool = False, report: Progress = SILENT) -> list[Done]:
    """Coarse / fine pairs of every run, split in time, to ``ingest/<split>/<run>.zarr``."""
    from flowsr.data.pairs import ingest as ingest_pairs

    step = ingest_step(experiment, source_checksums(experiment))
    _start(experiment)

    def work():
        progress = _begin(report, step.title)
        pairs = experiment.output / "ingest"
        ingest_pairs(sources(experiment), pairs, experiment.ingest, progress=progress)

    return [_done(perform(step, work, fresh=fresh), report)]


def train(experiment: Experiment, *, fresh: bool = False, report: Progress = SILENT, part: bool = False) -> list[Done]:
    """Every network of the experiment, to ``train/<name>/``: weights, card and learning curve.

    Args:
        part: other processes work at other networks of the same experiment; its ``config.yaml`` is theirs to write.
    """
    from flowsr.models import ModelCard
    from flowsr.train import train_model

    steps = _train_steps(experiment)
    _start(experiment, part)
    finished = []
    for step in steps.values():

        def work(step=step):
            train_model(
                ModelCard.from_dict({**step.settings, "training": {}}),
                experiment.output / "ingest",
                step.record.parent,
                experiment.train,
                seed=experiment.seed,
                augment=step.settings["augment"],
                device=experiment.device,
                progress=_begin(report, step.title),
            )

        finished.append(_done(perform(step, work, fresh=fresh), report))
    return finished


def upscale(experiment: Experiment, *, fresh: bool = False, report: Progress = SILENT) -> list[Done]:
    """Every network over every held-out run, to ``upscale/<name>/<run>.zarr``."""
    from flowsr.upscale import upscale_store

    steps = _upscale_steps(experiment)
    _start(experiment)
    finished = []
    for (name, source), step in steps.items():

        def work(name=name, source=source, step=step):
            upscale_store(
                source,
                experiment.output / "train" / name,
                step.outputs[0],
                variable=experiment.ingest.variable,
                group="coarse",
                tile=experiment.upscale.tile,
                device=experiment.device,
                progress=_begin(report, step.title),
            )

        finished.append(_done(perform(step, work, fresh=fresh), report))
    return finished


@dataclass(frozen=True)
class Outcome:
    """What `flowsr run` ends with.

    Args:
        comparison: what was found.
        report: path of ``report.html``.
        steps: every step done or reused.
    """

    comparison: ComparisonResult
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
        from flowsr.compare.findings import verdict

        return "\n".join(verdict(self.comparison))


def compare(experiment: Experiment, *, fresh: bool = False, report: Progress = SILENT) -> Outcome:
    """Interpolations and networks on the held-out snapshots, to ``compare/`` and ``report.html``."""
    from flowsr.pipeline.comparing import HERO, compare_and_report

    folder, page = experiment.output / "compare", experiment.output / "report.html"
    inputs = {"test": _finished(ingest_step(experiment), "ingest")["test"]}
    for step in _train_steps(experiment).values():
        inputs |= {f"{step.title}: {file}": checksum for file, checksum in _finished(step, "train").items()}
    for step in _upscale_steps(experiment).values():
        inputs |= {f"{step.title}: {store}": checksum for store, checksum in _finished(step, "upscale").items()}
    step = Step(
        title="compare",
        record=folder / "run.json",
        outputs=(*(folder / name for name in (RECORDS, "metrics.json", "table.csv", "table.md")), page),
        scratch=(folder / "rows", folder / HERO),
        settings={**experiment.compare.model_dump(mode="json"), "variable": experiment.ingest.variable},
        inputs=inputs,
        about=_about(experiment),
    )
    _start(experiment)

    def work():
        compare_and_report(
            experiment, pair_stores(experiment.output / "ingest", "test"), folder, page, _begin(report, step.title)
        )

    done = perform(step, work, fresh=fresh)
    return Outcome(ComparisonResult.load(folder), page, [_done(done, report)])


def run(experiment: Experiment, *, fresh: bool = False, report: Progress = SILENT) -> Outcome:
    """All five stages in order; finished ones are reused unless ``fresh``."""
    _check_factor(experiment)
    steps = [
        done for stage in (simulate, ingest, train, upscale) for done in stage(experiment, fresh=fresh, report=report)
    ]
    outcome = compare(experiment, fresh=fresh, report=report)
    return Outcome(outcome.comparison, outcome.report, steps + outcome.steps)


STAGES = {"simulate": simulate, "ingest": ingest, "train": train, "upscale": upscale, "compare": compare}


def simulation_batches(experiment: Experiment) -> list[list[int]]:
    """The seeds that are simulated together."""
    seeds, size = list(experiment.simulate.seeds), experiment.simulate.batch
    return [seeds[i : i + size] for i in range(0, len(seeds), size)]


def _run_store(experiment: Experiment, seed: int) -> Path:
    return experiment.output / "simulate" / f"seed_{seed:03d}.zarr"


def _simulate_step(experiment: Experiment, seed: int) -> Step:
    """The step that simulates a seed, and with it the others of its batch."""
    settings = experiment.simulate
    seeds = next(batch for batch in simulation_batches(experiment) if seed in batch)
    stores = [_run_store(experiment, member) for member in seeds]
    suffixes = (".csv",) if settings.channel is None else (".csv", ".profiles.csv")
    return Step(
        title=f"simulate seed {seed}" if len(seeds) == 1 else f"simulate seeds {', '.join(map(str, seeds))}",
        record=stores[0].with_suffix(".json"),
        outputs=tuple(output for store in stores for output in (store, *map(store.with_suffix, suffixes))),
        settings={**settings.declared(), "seeds": seeds},
        about=_about(experiment),
    )


def ingest_step(experiment: Experiment, checksums: dict[str, str] | None = None) -> Step:
    """The ingest step; without ``checksums``, a user's own files are taken to be those it was done with."""
    folder = experiment.output / "ingest"
    if checksums is None:
        recorded = (read_record(folder / "run.json") or {}).get("inputs", {})
        own = experiment.ingest.inputs
        known = own is not None and recorded.keys() == {str(path) for path in own}
        checksums = recorded if known else source_checksums(experiment)
    settings = {name: value for name, value in asdict(experiment.ingest).items() if name != "inputs"}
    return Step(
        title="ingest",
        record=folder / "run.json",
        outputs=(*(folder / name for name in SPLITS), folder / STATISTICS),
        settings=settings,
        inputs=checksums,
        about=_about(experiment),
    )


def _check_factor(experiment: Experiment) -> None:
    """Refuse, before anything is computed, pairs that no model takes."""
    if not isinstance(experiment.ingest.factor, int):
        raise FlowsrError(
            "models have one factor",
            variable="ingest.factor",
            expected="one number, such as 4",
            found=list(experiment.ingest.factor),
            hint="flowsr ingest alone makes pairs with three",
        )


def _train_steps(experiment: Experiment) -> dict[str, Step]:
    """A step per network. Needs the ingest stage, whose data decide some of the options."""
    _check_factor(experiment)
    from flowsr.models.checkpoint import CARD, WEIGHTS
    from flowsr.train import HISTORY, resolve_networks

    pairs = _finished(ingest_step(experiment), "ingest")
    settings = experiment.train
    cards = resolve_networks(settings.models, experiment.output / "ingest", settings.window)
    shared = {
        name: value for name, value in asdict(settings).items() if name not in ("models", "frames", "target_frame")
    }
    steps = {}
    for name, entry in settings.models.items():
        folder, card = experiment.output / "train" / name, cards[name].as_dict()
        steps[name] = Step(
            title=f"train {name}",
            record=folder / "run.json",
            outputs=(folder / WEIGHTS, folder / CARD, folder / HISTORY),
            scratch=(folder / "checkpoints",),
            settings={
                **{part: card[part] for part in ("model", "task", "options")},
                "augment": entry.augment,
                "seed": experiment.seed,
                **shared,
            },
            inputs=pairs,
            about=_about(experiment),
        )
    return steps


def _upscale_steps(experiment: Experiment) -> dict[tuple[str, Path], Step]:
    """A step per network and held-out run."""
    test = _finished(ingest_step(experiment), "ingest")["test"]
    steps = {}
    for name, trained in _train_steps(experiment).items():
        weights = _finished(trained, "train")
        for source in pair_stores(experiment.output / "ingest", "test"):
            target = experiment.output / "upscale" / name / source.name
            steps[name, source] = Step(
                title=f"upscale {name} {source.stem}",
                record=target.with_suffix(".json"),
                outputs=(target,),
                settings=experiment.upscale.model_dump(mode="json"),
                inputs={**weights, "test": test},
                about=_about(experiment),
            )
    return steps


def _finished(step: Step, stage: str) -> dict[str, str]:
    """Checksums of a step's outputs.

    Raises:
        FlowsrError: it has not been done, or was done with other settings or inputs than this experiment's.
    """
    record = read_record(step.record)
    hint = f"run `flowsr {stage}` first, or `flowsr run`"
    if record is None or record.get("status") != "finished":
        raise FlowsrError(f"the {stage} stage has not finished", file=step.record, hint=hint)
    if record.get("key") != step.key:
        raise FlowsrError(f"the {stage} stage was done with other settings or inputs", file=step.record, hint=hint)
    return record["outputs"]


def sources(experiment: Experiment) -> list[Path]:
    """What is ingested: a user's own files, or the stores of the simulate stage."""
    if experiment.ingest.inputs is not None:
        return list(experiment.ingest.inputs)
    return [_run_store(experiment, seed) for seed in experiment.simulate.seeds]


def source_checksums(experiment: Experiment) -> dict[str, str]:
    """Checksums of :func:`sources`, in their order: a user's own files by path, simulated stores by name."""
    if experiment.ingest.inputs is not None:
        return {str(path): _checksum(path) for path in experiment.ingest.inputs}
    stores = {}
    for seed in experiment.simulate.seeds:
        name = _run_store(experiment, seed).name
        stores[name] = _finished(_simulate_step(experiment, seed), "simulate")[name]
    return stores


def _checksum(path: Path) -> str:
    if not path.exists():
        raise FlowsrError("no such file", file=path, variable="ingest.inputs")
    return tree_checksum(path)


def _start(experiment: Experiment, part: bool = False) -> None:
    check_names(experiment)
    use_threads(experiment.threads)
    if not part:
        write_text_atomic(experiment.output / "config.yaml", dump_experiment(experiment))


def _about(experiment: Experiment) -> dict[str, Any]:
    return {"experiment": experiment.name, "device": experiment.device, "threads": experiment.threads}


def _begin(report: Progress, title: str) -> Progress:
    part = report.part(title)
    part(0.0, "started")
    return part


def _done(done: Done, report: Progress) -> Done:
    report.part(done.step.title)(1.0, "reused" if done.reused else "done")
    return done
