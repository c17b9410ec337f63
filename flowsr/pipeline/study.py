"""A study from its settings to its results: simulate and ingest once per data set, then row by row, several at a time.

A row is a model, trained on one data set, on so many of its snapshots, with one seed, and tested wherever it can be.
Rows are files: a study that was killed goes on with those that are missing, and new models, seeds or sizes add rows
without touching the others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flowsr.compare.budget import matched_widths
from flowsr.compare.findings import BEST_INTERPOLATION
from flowsr.compare.subset import write_subset
from flowsr.config.schema import CompareSettings, Experiment
from flowsr.config.study import DEFAULT_REFERENCES, DataSettings, Study, StudyModel, dump_study
from flowsr.data import grid_of, open_field
from flowsr.data.pairs import SPLITS, pair_stores, read_statistics
from flowsr.devices import resolve_device
from flowsr.errors import FlowsrError
from flowsr.files import write_text_atomic
from flowsr.grid import Grid
from flowsr.metrics import METRICS, chosen_metrics
from flowsr.models import MODELS, ModelCard
from flowsr.models.budget import multiply_adds, parameter_count
from flowsr.pipeline import stages
from flowsr.pipeline.check import check_names, check_options
from flowsr.pipeline.steps import perform, read_record
from flowsr.pipeline.workers import Job, Pool, worker_pool
from flowsr.progress import SILENT, Progress
from flowsr.registry import suggestion
from flowsr.train import Network, card_for, resolve_networks

#: Time of a row without training, relative to one with.
UNTRAINED_WEIGHT = 0.05


@dataclass(frozen=True)
class Row:
    """One line of the study's plan.

    Args:
        model: name in the study.
        data: data set that it is trained on, or, where there is nothing to train, tested on.
        size: training snapshots; None for all.
        seed: of the training; None where there is nothing to train.
    """

    model: str
    data: str
    size: int | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """Name of its file, unique in the study."""
        size = "all" if self.size is None else f"{self.size}"
        return f"{self.model}.{self.data}" + ("" if self.seed is None else f".{size}.seed_{self.seed}")

    @property
    def title(self) -> str:
        """For people."""
        if self.seed is None:
            return f"{self.model} on {self.data}"
        size = "" if self.size is None else f", {self.size} snapshots"
        return f"{self.model} on {self.data}{size}, seed {self.seed}"


def run_study(study: Study, *, fresh: bool = False, report: Progress = SILENT):
    """Everything that the study asks for and that has not been done before.

    Args:
        study: its settings.
        fresh: forget earlier results.
        report: told how far along the flows, the pairs, the rows and the statistics are.

    Returns:
        A :class:`flowsr.pipeline.study_results.StudyOutcome`.

    Raises:
        FlowsrError: settings that do not fit together or with the data; found before the first hour of work where that
            can be.
    """
    from flowsr.pipeline.study_results import conclude

    check_study(study)
    write_text_atomic(study.output / "config.yaml", dump_study(study))
    with worker_pool(workers_of(study), study.threads) as pool:
        _simulate(study, pool, fresh, report)
        _ingest(study, pool, fresh, report)
        plan = planned_rows(study)
        widths = _widths(study)
        _write_subsets(study, pool, fresh, report)
        _rows(study, plan, widths, pool, fresh, report)
    return conclude(study, plan, fresh=fresh, progress=report.part("statistics and report"))


def workers_of(study: Study) -> int:
    """Processes: as set, else one where there is CUDA, else one per core that this process may use."""
    if study.workers is not None:
        return study.workers
    return 1 if resolve_device(study.device) == "cuda" else max(1, len(os.sched_getaffinity(0)) // study.threads)


def check_study(study: Study) -> None:
    """Look up every name in the study that is registered somewhere or refers to another.

    Raises:
        FlowsrError: the first that is unknown or in the wrong place.
    """
    trained = {name for name, entry in study.models.items() if MODELS[entry.model].trainable}
    for name, entry in study.models.items():
        check_options(entry.model, entry.options, f"models.{name}.options")
    for name in study.data:
        check_names(experiment_of(study, Row("", name)))
    for name in trained:
        check_names(experiment_of(study, Row(name, study.trained_data[0], None, 0)))
    curve, budget = study.learning_curve, study.budget
    for where, names in (
        ("learning_curve.models", (curve and curve.models) or ()),
        ("budget.like", [budget.like] if budget and budget.like else ()),
        ("budget.free", budget.free if budget else ()),
    ):
        for name in names:
            if name not in trained:
                raise FlowsrError(
                    f"model '{name}' has nothing to train", variable=where, expected=", ".join(sorted(trained))
                )
    for name, entry in study.models.items():
        if name not in trained and entry.train:
            raise FlowsrError(f"model '{entry.model}' has nothing to train", variable=f"models.{name}.train")
    for reference in study.compare.references:
        if reference not in (BEST_INTERPOLATION, *study.models, *DEFAULT_REFERENCES):
            raise FlowsrError(
                f"no model '{reference}' to compare with",
                variable="compare.references",
                expected="best_interpolation or one of " + ", ".join(study.models),
            )
    _check_rank(study)
    _check_inputs(study)


def _check_rank(study: Study) -> None:
    measured = [key for name in chosen_metrics(study.compare.metrics) for key in METRICS[name].scalars]
    if study.compare.rank_by not in measured:
        raise FlowsrError(
            f"no scalar '{study.compare.rank_by}' is measured",
            variable="compare.rank_by",
            expected="one of " + ", ".join(measured),
            hint=suggestion(study.compare.rank_by, measured),
        )


def _check_inputs(study: Study) -> None:
    for name, data in study.data.items():
        for path in data.ingest.inputs or ():
            if not path.exists():
                raise FlowsrError("no such file", file=path, variable=f"data.{name}.ingest.inputs")


def planned_rows(study: Study) -> list[Row]:
    """Every row, models without training first, the whole training sets before parts of them."""
    untrained = [name for name, entry in study.models.items() if not MODELS[entry.model].trainable]
    networks = [name for name in study.models if name not in untrained]
    plan = [Row(name, data) for data in study.data for name in untrained if _suits(study, name, data)]
    trained_data = {data: [n for n in networks if _suits(study, n, data)] for data in study.trained_data}
    plan += [Row(n, data, None, seed) for data, names in trained_data.items() for n in names for seed in study.seeds]
    for data, size in _reduced(study):
        names = study.learning_curve.models or networks
        plan += [Row(n, data, size, seed) for n in names if n in trained_data[data] for seed in study.seeds]
    return plan


def experiment_of(study: Study, row: Row, width: dict[str, Any] | None = None) -> Experiment:
    """A row as an experiment of one network; without a model in ``row``, the flow and its pairs alone."""
    data = study.data[row.data]
    output = study.output / "data" / row.data
    ingest = _all_for_the_test(data) if data.role == "test_only" else data.ingest
    if row.size is not None:
        whole = experiment_of(study, replace(row, size=None))
        output, ingest = output / "subsets" / f"{row.size}", replace(ingest, inputs=stages.sources(whole))
    train = study.train
    if row.model:
        entry = study.models[row.model]
        named = {network_name(row): _network(entry, width)}
        train = replace(study.training_of(row.model), models=named)
    return Experiment(
        name=f"{study.name} {row.data}",
        output=output,
        seed=row.seed or 0,
        device=study.device,
        threads=study.threads,
        simulate=data.simulate,
        ingest=ingest,
        train=train,
        compare=CompareSettings(baselines=[], metrics=None),
    )


def network_name(row: Row) -> str:
    """Name of a trained network's folder."""
    return f"{row.model}.seed_{row.seed}"


def pairs_of(study: Study, data: str) -> Path:
    """Folder of a data set's pairs."""
    return study.output / "data" / data / "ingest"


def test_stores(study: Study, data: str) -> list[Path]:
    """The stores that models are tested on: the split ``test``, or all three where nothing is trained on the data."""
    splits = SPLITS if study.data[data].role == "test_only" else SPLITS[-1:]
    return [store for split in splits for store in pair_stores(pairs_of(study, data), split)]


def test_checksums(study: Study, data: str) -> dict[str, str]:
    """Checksums of what :func:`test_stores` lists, by split."""
    outputs = read_record(pairs_of(study, data) / "run.json")["outputs"]
    return {split: outputs[split] for split in (SPLITS if study.data[data].role == "test_only" else SPLITS[-1:])}


def coarse_grid(study: Study, data: str) -> Grid:
    """Grid of a whole coarse snapshot."""
    return grid_of(open_field(test_stores(study, data)[0], group="coarse"))


def built_for(study: Study, model: str, data: str, width: dict[str, Any] | None = None) -> ModelCard:
    """A model on a data set, with every option that the data give."""
    entry, pairs = study.models[model], pairs_of(study, data)
    if not MODELS[entry.model].trainable:
        return card_for(entry, pairs)
    return resolve_networks({model: _network(entry, width)}, pairs, study.training_of(model).window)[model]


def _network(entry: StudyModel, width: dict[str, Any] | None) -> Network:
    """A model of a study with the width that the budget gives it, if any."""
    options = {**entry.options, **(width or {})}
    return Network(entry.model, options, augment=entry.augment, constraints=entry.constraints)


def _suits(study: Study, model: str, data: str) -> bool:
    return coarse_grid(study, data).periodic or not MODELS[study.models[model].model].needs_periodic


def _reduced(study: Study) -> list[tuple[str, int]]:
    """Data set and size of every reduced training set; a size that is the whole is not reduced."""
    curve = study.learning_curve
    if curve is None:
        return []
    return [
        (data, size)
        for data in curve.data or study.trained_data
        for size in sorted(set(curve.sizes))
        if size != read_statistics(pairs_of(study, data))["snapshots"]["train"]
    ]


def _all_for_the_test(data: DataSettings):
    """No gaps between splits that are all for the test."""
    return replace(data.ingest, split=replace(data.ingest.split, decorrelation_turnovers=0.0))


def _simulate(study: Study, pool: Pool, fresh: bool, report: Progress) -> None:
    jobs = []
    for name, data in study.data.items():
        if data.ingest.inputs is None:
            experiment = experiment_of(study, Row("", name))
            for seeds in stages.simulation_batches(experiment):
                part = experiment.model_copy(update={"simulate": replace(data.simulate, seeds=seeds)})
                jobs.append(Job(f"{name}, seed {', '.join(map(str, seeds))}", _simulate_part, (part, fresh)))
    if jobs:
        pool.run(jobs, report.part("simulate"))


def _simulate_part(experiment: Experiment, fresh: bool, *, progress: Progress) -> None:
    stages.simulate(experiment, fresh=fresh, report=_forwarded(progress), part=True)


def _ingest(study: Study, pool: Pool, fresh: bool, report: Progress) -> None:
    jobs = [Job(name, _ingest_one, (experiment_of(study, Row("", name)), fresh)) for name in study.data]
    pool.run(jobs, report.part("ingest"))


def _ingest_one(experiment: Experiment, fresh: bool, *, progress: Progress) -> None:
    stages.ingest(experiment, fresh=fresh, report=_forwarded(progress))


def _write_subsets(study: Study, pool: Pool, fresh: bool, report: Progress) -> None:
    jobs = [
        Job(f"{data}, {size} snapshots", _write_subset, (study, data, size, fresh)) for data, size in _reduced(study)
    ]
    if jobs:
        pool.run(jobs, report.part("smaller training sets"))


def _write_subset(study: Study, data: str, size: int, fresh: bool, *, progress: Progress) -> None:
    whole = experiment_of(study, Row("", data))
    part = experiment_of(study, Row("", data, size))
    checksums = stages.source_checksums(whole)
    own = {str(path): checksum for path, checksum in zip(part.ingest.inputs, checksums.values(), strict=True)}
    step = stages.ingest_step(part, own)
    perform(step, lambda: write_subset(whole.output / "ingest", part.output / "ingest", size, progress), fresh=fresh)


def _widths(study: Study) -> dict[tuple[str, str], dict[str, Any]]:
    """(model, data) -> the width that the budget gives it."""
    budget = study.budget
    if budget is None:
        return {}
    networks = [name for name, entry in study.models.items() if MODELS[entry.model].trainable]
    widths = {}
    for data in study.trained_data:
        grid = coarse_grid(study, data)

        def cost(model, grid=grid) -> int:
            return parameter_count(model) if budget.by == "parameters" else multiply_adds(model, grid)

        amount = budget.amount
        if amount is None:
            amount = cost(built_for(study, budget.like, data).build())
        matched = {
            model: built_for(study, model, data)
            for model in networks
            if model != budget.like and model not in budget.free and _suits(study, model, data)
        }
        for model, width in matched_widths(matched, cost, amount, budget.tolerance).items():
            widths[model, data] = width
    return widths


def _rows(study: Study, plan: Sequence[Row], widths: dict, pool: Pool, fresh: bool, report: Progress) -> None:
    from flowsr.pipeline.study_rows import finish_row

    jobs = [
        Job(
            row.title,
            finish_row,
            (study, row, widths.get((row.model, row.data), {}), fresh),
            UNTRAINED_WEIGHT if row.seed is None else 1.0,
        )
        for row in plan
    ]
    pool.run(jobs, report.part("train and test"))


def _forwarded(progress: Progress) -> Progress:
    return Progress(lambda _, fraction, message: progress(fraction, message))
