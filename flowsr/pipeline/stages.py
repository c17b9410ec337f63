"""The stages of an experiment and of a study: one engine that plans a stage, does its steps or sees that they are done.

Steps are done once and reused while their settings and inputs stay (:mod:`flowsr.pipeline.steps`); a study's are done
several at a time. Rows are files: a study that was killed resumes with those that are missing, and new models, seeds or
sizes add rows without touching the others.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from flowsr.compare import ComparisonResult, screen_table, verdict, write_tables
from flowsr.compare.measure import applicable_metrics, describe_data, describe_metrics, rank_by
from flowsr.compare.result import RECORDS, TRUTH, MeasuredRow, Row, rounded
from flowsr.compare.runs import open_runs
from flowsr.compare.tables import SYMMETRY, means_of, write_card
from flowsr.config.study import Experiment, Study, dump_experiment, dump_study
from flowsr.data import grid_of, open_field
from flowsr.devices import use_threads
from flowsr.errors import FlowsrError
from flowsr.files import read_json, write_text_atomic
from flowsr.metrics import chosen_metrics
from flowsr.models import load_model, relaxed_weights
from flowsr.models.checkpoint import WEIGHTS, group_words, publish_model, read_card
from flowsr.pipeline.plan import Plan, Source
from flowsr.pipeline.steps import Done, Step, damage_in, do, perform, recorded
from flowsr.pipeline.verify import within
from flowsr.pipeline.work import read_row
from flowsr.progress import SILENT, Progress
from flowsr.provenance import versions
from flowsr.report import HowMade, RelaxedWeights, SliceSet, collect_slices, hero_figure, write_report
from flowsr.report.comparison_page import study_how_made
from flowsr.train import HISTORY, read_history
from flowsr.upscale import upscale_array
from flowsr.workers import Job, Pool, worker_pool

log = logging.getLogger(__name__)

HERO = "hero.png"
#: Stages in order, and what a study calls them.
TITLES = {
    "simulate": "simulate",
    "ingest": "ingest",
    "subsets": "smaller training sets",
    "discover": "discover symmetry",
    "train": "train",
    "upscale": "upscale",
    "compare": "compare",
}

#: Stages that nobody asks for by name: they are done where a later one needs them.
WITHIN_TRAIN = ("subsets", "discover")


@dataclass(frozen=True)
class Outcome:
    """What `flowsr run` and `flowsr compare` end with.

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
        return screen_table(self.comparison)

    @property
    def verdict(self) -> str:
        """The comparison in a few sentences, a line each."""
        return "\n".join(verdict(self.comparison))


def run(
    settings: Experiment | Study, *, fresh: bool = False, verify: bool = False, progress: Progress = SILENT
) -> Outcome:
    """All stages in order; what is finished is reused unless ``fresh``.

    Args:
        settings: of an experiment or a study.
        fresh: forget earlier results.
        verify: compare the checksums of what is reused, not only the names and sizes of its files.
        progress: told how far along each step of an experiment, or each stage of a study, is.

    Raises:
        FlowsrError: settings that do not fit together or with the data; found before the first hour of work where that
            can be.
    """
    Plan(settings).check_factor()
    return _outcome(settings, _run(settings, tuple(TITLES), fresh, verify, progress))


def stage(
    name: str, experiment: Experiment, *, fresh: bool = False, verify: bool = False, progress: Progress = SILENT
) -> Any:
    """One stage of an experiment, on what those before it left; arguments as :func:`run` takes them.

    Args:
        name: ``simulate``, ``ingest``, ``train``, ``upscale`` or ``compare``.

    Returns:
        The steps done or reused; of ``compare`` the :class:`Outcome`.
    """
    done = _run(experiment, (name,), fresh, verify, progress)
    return _outcome(experiment, done) if name == "compare" else done


STAGES = {name: partial(stage, name) for name in TITLES if name not in WITHIN_TRAIN}
simulate, compare = STAGES["simulate"], STAGES["compare"]


def _outcome(settings: Experiment | Study, done: list[Done]) -> Outcome:
    return Outcome(ComparisonResult.load(settings.output / "compare"), settings.output / "report.html", done)


def _run(
    settings: Experiment | Study, wanted: Sequence[str], fresh: bool, verify: bool, progress: Progress
) -> list[Done]:
    """Do the wanted stages; see that those before them are finished."""
    plan, done, begun = Plan(settings), [], False
    plan.check()
    with worker_pool(plan.workers, plan.threads) as pool:
        for stage in list(TITLES)[: list(TITLES).index(wanted[-1]) + 1]:
            if stage in ("train", "upscale", "compare"):
                plan.check_factor()
            if stage == "compare":
                rows = dict(plan.measure())
                steps = {stage: _compare_step(plan, rows)}
            elif stage == "ingest":
                steps = dict(plan.ingest(trust=stage not in wanted))
            else:
                steps = dict(getattr(plan, stage)())
            if stage in wanted and not begun:
                use_threads(plan.threads)
                dumped = dump_experiment(settings) if plan.single else dump_study(settings)
                write_text_atomic(plan.output / "config.yaml", dumped)
                begun = True
            if stage == "simulate" and stage not in wanted and settings.ingest.inputs is not None:
                continue  # a user's own files need no simulation
            if stage not in wanted and stage not in WITHIN_TRAIN:
                plan.finished[stage] = {of: _finished(step, stage, verify) for of, step in steps.items()}
            elif stage == "compare":
                here = replace(steps[stage], call=_compare, arguments=(plan, rows, pool, fresh, verify))
                done.append(_shown(here, partial(do, here, fresh, verify), progress))
            else:
                found = _do_all(plan, TITLES[stage], steps.values(), pool, fresh, verify, progress)
                plan.finished[stage] = {of: one.checksums for of, one in zip(steps, found, strict=True)}
                done += found
                if stage == "train" and plan.single:
                    _publish(plan)
    return done


def _publish(plan: Plan) -> None:
    """An experiment's trained networks as served models, ``models/<name>/current``: whole, whatever is trained next."""
    for row in (row for row, _ in plan.rows if row.trained):
        try:
            publish_model(plan.network_folder(row), plan.output / "models" / row.model)
        except FlowsrError as error:
            log.warning("%s keeps the version that it has: %s", row.model, error)


def _do_all(
    plan: Plan, title: str, steps: Iterable[Step], pool: Pool, fresh: bool, verify: bool, progress: Progress
) -> list[Done]:
    """Steps, as many at a time as there are workers: an experiment's each shown for itself, a study's together."""
    if not plan.single:
        jobs = _jobs(steps, fresh, verify)
        return pool.run(jobs, progress.part(title)) if jobs else []
    steps = list(steps)
    side_by_side = [] if pool.workers == 1 else [step for step in steps if fresh or not recorded(step)]
    side_by_side = side_by_side if len(side_by_side) > 1 else []
    found = dict(zip(map(id, side_by_side), pool.run(_jobs(side_by_side, fresh, verify), progress, ending=_ending)))
    return [found.get(id(step)) or _shown(step, partial(do, step, fresh, verify), progress) for step in steps]


def _jobs(steps: Iterable[Step], fresh: bool, verify: bool) -> list[Job]:
    return [Job(step.title, do, (step, fresh, verify), step.weight) for step in steps]


def _shown(step: Step, do: Callable[..., Done], progress: Progress) -> Done:
    part, begun = progress.part(step.title), []

    def show(_: str, fraction: float, message: str) -> None:
        if not begun:
            part(0.0, "started")
            begun.append(True)
        part(fraction, message)

    done = do(progress=Progress(show))
    part(1.0, _ending(done))
    return done


def _ending(done: Done) -> str:
    return "reused" if done.reused else "done"


def _finished(step: Step, stage: str, verify: bool) -> dict[str, str]:
    """Checksums of a step's outputs.

    Raises:
        FlowsrError: it has not been done, was done with other settings or inputs than these, or is damaged.
    """
    record = read_json(step.record)
    hint = f"run `flowsr {stage}` first, or `flowsr run`"
    if record is None or record.get("status") != "finished":
        raise FlowsrError(f"the {stage} stage has not finished", file=step.record, hint=hint)
    if record.get("key") != step.key:
        raise FlowsrError(f"the {stage} stage was done with other settings or inputs", file=step.record, hint=hint)
    if damaged := damage_in(record, step.outputs, deep=verify):
        first = next(iter(within(damaged[0].file, deep=verify)), damaged[0])
        message = f"what the {stage} stage made is damaged"
        raise FlowsrError(message, file=first.file, expected=first.expected, found=first.found, hint=hint)
    return record["outputs"]


# -- the last stage ----------------------------------------------------------------------------------------------------


def _compare_step(plan: Plan, rows: dict[Any, Step]) -> Step:
    folder, asked = plan.output / "compare", plan.settings
    names = ["metrics.json"] if plan.single else ["study.json", "differences.csv"]
    names += [SYMMETRY] if any(map(plan.group, plan.sources.values())) else []
    settings = {"name": asked.name, "compare": asked.compare.model_dump(mode="json"), "labels": plan.labels}
    if not plan.single:
        settings |= asked.model_dump(mode="json", exclude={"output", "device", "workers", "threads"})
    return Step(
        title="compare",
        record=folder / "run.json",
        outputs=(*(folder / name for name in (RECORDS, *names, "table.csv", "table.md")), plan.output / "report.html"),
        scratch=(folder / HERO,),
        settings=settings,
        inputs={step.title: step.key for step in rows.values()},
        about=plan.about,
    )


def _compare(plan: Plan, rows: dict[Any, Step], pool: Pool, fresh: bool, verify: bool, *, progress: Progress) -> None:
    """Measure every row, put them together, write tables, page and cards."""
    pool.run(_jobs(rows.values(), fresh, verify), progress.share(0.0, 0.85))
    measured = {of: _read(step) for of, step in rows.items()}
    result = _assembled(plan, measured)
    write_tables(result, plan.output / "compare", progress.share(0.85, 0.95))
    if plan.single:
        _write_experiment_page(plan, result)
    else:
        how_made = study_how_made(result, plan.settings.model_dump(mode="json"))
        write_report(plan.output / "report.html", result, how_made=how_made)
        for of, one in measured.items():
            if one.fit is not None:
                _card(plan, one, plan.sources[of[1]], fresh)
    progress(1.0, "done")


def _read(step: Step) -> MeasuredRow:
    """A row; one whose file is damaged is measured again."""
    try:
        return read_row(step.outputs[0])
    except (OSError, ValueError, KeyError, TypeError):
        do(step, True, progress=SILENT)
        return read_row(step.outputs[0])


def _assembled(plan: Plan, measured: dict[Any, MeasuredRow]) -> ComparisonResult:
    runs = {name: open_runs(source.tests, source.ingest.variable) for name, source in plan.sources.items()}
    names = {name: applicable_metrics(plan.settings.compare.metrics, found[0]) for name, found in runs.items()}
    described = {name: describe_metrics(names[name], found[0]) for name, found in runs.items()}
    labels = {name: label for name, label in plan.labels.items() if any(m.row.model == name for m in measured.values())}
    for name, defined in names.items():
        if left_out := [metric for metric in chosen_metrics(plan.settings.compare.metrics) if metric not in defined]:
            log.info("%s: not defined for this field, left out: %s", plan.sources[name].label, ", ".join(left_out))
    if left_out := [name for name in plan.labels if name not in labels]:
        log.info("not for a field with walls, left out: %s", ", ".join(left_out))
    kinds = {
        key: {k: v for name in reversed(described) for k, v in described[name][key].items()}
        for key in ("metrics", "curve_kinds")
    }
    home, rules = plan.trained[0].name, plan.rules
    if plan.single:
        rules = replace(rules, rank_by=rank_by(names[home]))
    elif rules.rank_by not in described[home]["metrics"]:
        expected = "one of " + ", ".join(described[home]["metrics"])
        raise FlowsrError(f"no scalar '{rules.rank_by}' is measured", variable="compare.rank_by", expected=expected)
    lengths, data = {}, {}
    for name, source in plan.sources.items():
        declared, all_runs = source.ingest.split.turnover_time, source.statistics.runs
        measured_times = {run: (one.scales or {}).get("turnover_time") for run, one in all_runs.items()}
        # infinite where it is not known, so that a run is one block
        turnovers = {run: declared or time or math.inf for run, time in measured_times.items()}
        lengths[name] = {run: rules.decorrelation_turnovers * time for run, time in turnovers.items()}
        data[name] = replace(
            describe_data(runs[name]),
            label=source.label,
            role=source.role,
            training_snapshots=source.whole if source in plan.trained else 0,
            turnover_time=rounded(fmean(turnovers.values())),
            sources={run: one.sha256 for run, one in all_runs.items()},
            licence=source.licence,
            group=plan.group(source),
            discovered=_discovered(plan, source),
        )
    return ComparisonResult.assemble(
        plan.settings.name,
        [one for one in measured.values() if one.row.model != TRUTH],
        {name: measured[name].tests[name] for name in plan.sources},
        lengths,
        data,
        labels,
        rules=rules,
        seeds=tuple(plan.seeds),
        versions=versions(),
        **kinds,
    )


def _discovered(plan: Plan, source: Source) -> dict[str, str]:
    """What networks on a discovered group rest on."""
    if not plan.discovering or source not in plan.trained:
        return {}
    return {f"group of {', '.join(plan.discovering)}": group_words(plan.discovery(source).card)}


def _write_experiment_page(plan: Plan, result: ComparisonResult) -> None:
    experiment, source = plan.settings, plan.sources["data"]
    networks = [name for name in plan.networks if name in result.models]
    loaded = {name: load_model(plan.output / "train" / name) for name in networks}
    weights = []
    for name, model in loaded.items():
        trained = {
            key: values.numpy()
            for key, values in relaxed_weights(model).items()
            if model.get_parameter(f"{key}.relaxed_weights").requires_grad
        }
        if trained and model.group.order > 1:
            weights.append(RelaxedWeights(name, model.group.name, trained))
    how_made = HowMade(
        command=f"flowsr run {plan.output / 'config.yaml'}",
        config=experiment.model_dump(mode="json"),
        versions=versions(),
        seeds={"networks and patches": experiment.seed, "simulations": ", ".join(map(str, experiment.simulate.seeds))},
        checksums=(read_json(source.pairs / "run.json") or {}).get("inputs", {}),
        notes=result.data[source.name].discovered,
    )
    slices = _slices(plan, source, networks, result)
    histories = {name: read_history(plan.output / "train" / name / HISTORY) for name in networks}
    write_report(plan.output / "report.html", result, slices, histories, weights, how_made)
    interpolated = len(networks) < len(result.models)
    if networks and interpolated and "nrmse" in result.metrics and "energy_spectrum" in result.curve_kinds:
        shown = "relaxed" if "relaxed" in networks else None
        hero_figure(plan.output / "compare" / HERO, result, slices[0], shown)


def _slices(plan: Plan, source: Source, networks: list[str], result: ComparisonResult) -> tuple[SliceSet, ...]:
    """The last snapshot of the first held-out run that all have made, farthest in time from anything trained on."""
    test, variable = source.tests[0], source.ingest.variable
    truth, stores = open_field(test, group="fine"), {n: plan.output / "upscale" / n / test.name for n in networks}
    last = min(dataset.time.values[-1] for dataset in (truth, *map(open_field, stores.values())))

    def snapshot(path: Path, group: str | None = None) -> np.ndarray:
        return open_field(path, group=group)[variable].sel(time=last, method="nearest").values

    coarse, grid = snapshot(test, "coarse"), source.coarse_grid
    fields = {
        name: snapshot(stores[name])
        if name in stores
        else upscale_array(plan.card(name, source.name).build(), coarse, grid, max(grid.shape))
        for name in result.models
    }
    units = truth[variable].attrs.get("units", "1"), truth.attrs.get("length_units", "1")
    return collect_slices(
        snapshot(test, "fine"), coarse, fields, grid_of(truth), velocity_unit=units[0], length_unit=units[1]
    )


def _card(plan: Plan, found: MeasuredRow, source: Source, fresh: bool) -> None:
    """Beside a study's weights, what a stranger needs to know before using them."""
    row: Row = found.row
    study, statistics, folder = plan.settings, source.statistics, plan.network_folder(row)
    training = plan.training(row.model)
    card = {
        "name": row.model,
        "model": found.registered,
        "options": dict(found.options),
        "weights": {"file": WEIGHTS, "sha256": found.weights_sha256, "licence": study.licence},
        "data": {
            "name": source.name,
            "licence": source.licence,
            "flow": source.simulate.flow if source.ingest.inputs is None else None,
            "sources": {run: one.sha256 for run, one in statistics.runs.items()},
            **{name: getattr(statistics, name) for name in ("variable", "operator", "factor")},
            **{name: getattr(statistics, name)["shape"] for name in ("coarse", "fine")},
            "training_snapshots": row.size,
        },
        "training": {
            **{
                name: getattr(found.fit, name)
                for name in ("epochs", "best_epoch", "validation_loss", "seconds", "seed")
            },
            "settings": {name: value for name, value in vars(training).items() if name != "models"},
        },
        "budget": {"matched": plan.rules.budget, "parameters": found.parameters, "multiply_adds": found.multiply_adds},
        "metrics": means_of(found),
        "study": study.name,
        "versions": versions(),
    }
    trained = read_card(folder).training
    if "turned_by" in trained:
        card["training"]["turned_by"] = trained["turned_by"]
    if row.model in plan.discovering:
        card["discovered"] = plan.discovery(source).card
    outputs = (folder / "card.json", folder / "card.md")
    step = Step("card", folder / "card.run.json", outputs, settings=card, about=plan.about)
    perform(step, lambda: write_card(folder, card), fresh=fresh)
