"""An experiment as flows, all five stages (``pipeline``) or one of them, and a study (``compare_study``).

python -m flowsr.flows.experiment configs/demo.yaml             # all five stages
python -m flowsr.flows.experiment train configs/demo.yaml       # one stage
python -m flowsr.flows.experiment configs/compare_small.yaml    # a study
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowsr.flows.artifacts import artifact_key, metrics_rows, publish
from flowsr.flows.child import run_flowsr
from flowsr.flows.runtime import STORAGE, UNCACHED, in_order, one_line_failures, shown_progress
from prefect import Flow, Task, flow, task
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, State

from flowsr.config.study import Experiment, Study, dump_experiment, dump_study
from flowsr.files import write_text_atomic
from flowsr.progress import Progress

#: Pieces of work that a study reports on.
STUDY_PIECES = 5
#: Options of every flow of an experiment.
RUN = {"flow_run_name": "{experiment.name}", "persist_result": False}


def _in_this_process(name: str, experiment: Experiment, fresh: bool, progress: Progress) -> Any:
    from flowsr.pipeline.stages import STAGES as WORK

    return WORK[name](experiment, fresh=fresh, progress=progress)


def _in_a_child(name: str, settings: Experiment | Study, fresh: bool, progress: Progress) -> None:
    """The command of the same name on the resolved settings: it may have worker processes of its own."""
    dumped = dump_experiment(settings) if isinstance(settings, Experiment) else dump_study(settings)
    config = write_text_atomic(settings.output / "config.yaml", dumped)
    run_flowsr([name, str(config), *(["--fresh"] if fresh else [])], progress)


def _published(experiment: Experiment, outcome: Any) -> State:
    from flowsr.pipeline.stages import HERO

    picture = experiment.output / "compare" / HERO
    publish(experiment.name, outcome.comparison, outcome.report, picture if picture.exists() else None)
    return Completed(message=f"report: {outcome.report}")


def _upscaled(experiment: Experiment, outcome: Any) -> None:
    """The metrics beside every store, as one table."""
    rows = [{"field": str(path.relative_to(experiment.output)), **metrics_rows(path)} for path in _stores(outcome)]
    if rows:
        about = "Metrics beside the upscaled fields, means over their snapshots"
        create_table_artifact(rows, artifact_key(experiment.name, "upscaled"), description=about)


def _stores(outcome: Any) -> list[Path]:
    return [path for done in outcome for path in done.step.outputs]


@dataclass(frozen=True)
class Stage:
    """One stage of an experiment.

    Args:
        title: of its task.
        does: what it does, in one sentence.
        place: which stage it is and what it takes, for the form on the dashboard.
        pieces: how many pieces of work it reports on.
        work: does it.
        publish: shows what it ends with in Prefect.
        options: of its task.
    """

    title: str
    does: str
    place: str
    pieces: Callable[[Experiment], int] = lambda experiment: 1
    work: Callable[[str, Experiment, bool, Progress], Any] = _in_this_process
    publish: Callable[[Experiment, Any], State | None] = lambda experiment, outcome: None
    options: dict[str, Any] | None = None


STAGES = {
    "simulate": Stage(
        "simulate turbulence",
        "Make turbulence: direct numerical simulation in a periodic box, one run per seed.",
        "its first stage is run.",
        lambda experiment: math.ceil(len(experiment.simulate.seeds) / experiment.simulate.batch),
    ),
    "ingest": Stage(
        "ingest fields",
        "Validate fields, degrade them by a named operator, split them in time, write coarse / fine pairs.",
        "its second stage is run, on what the first left or on ``ingest.inputs``.",
    ),
    "train": Stage(
        "train networks",
        "Fit the experiment's networks; a run that was killed and is started again resumes.",
        "its third stage is run, on the pairs that the second left.",
        lambda experiment: len(experiment.train.models),
        work=_in_a_child,
        options=UNCACHED,
    ),
    "upscale": Stage(
        "upscale snapshots",
        "Write the fine fields of the held-out snapshots with every trained network.",
        "its fourth stage is run, on what the others left.",
        lambda experiment: len(experiment.ingest.inputs or experiment.simulate.seeds) * len(experiment.train.models),
        publish=_upscaled,
    ),
    "compare": Stage(
        "compare models",
        "Interpolations and networks on the same held-out snapshots: a table, the picture and a link to the report.",
        "its last stage is run, on what the others left.",
        publish=_published,
    ),
}


def _task_of(name: str, stage: Stage) -> Task:
    def work(experiment: Experiment, fresh: bool) -> State | None:
        with shown_progress(experiment.name, name, stage.pieces(experiment)) as progress:
            outcome = stage.work(name, experiment, fresh, progress)
        return stage.publish(experiment, outcome)

    work.__name__ = work.__qualname__ = f"{name}_task"
    return task(one_line_failures(work), name=stage.title, **(stage.options or STORAGE))


def _flow_of(name: str) -> Flow:
    def run(experiment: Experiment, fresh: bool = False):
        return in_order(experiment, fresh, TASKS[name])

    run.__name__ = run.__qualname__ = name
    run.__doc__ = f"""{STAGES[name].does}

    Args:
        experiment: the experiment; {STAGES[name].place}
        fresh: forget earlier results of this stage and start over.
    """
    return flow(run, name=name, **RUN)


TASKS = {name: _task_of(name, stage) for name, stage in STAGES.items()}
simulate, ingest, train, upscale, compare = map(_flow_of, STAGES)


@flow(name="pipeline", **RUN)
def pipeline(experiment: Experiment, fresh: bool = False):
    """All five stages: simulate, ingest, train, upscale, compare. Finished stages are reused.

    Args:
        experiment: the experiment, as in the files under configs/.
        fresh: forget earlier results and start over.
    """
    return in_order(experiment, fresh, *TASKS.values())


@task(name="run the study", **UNCACHED)
@one_line_failures
def run_rows(study: Study, fresh: bool) -> State:
    """``flowsr compare`` on the study's resolved settings, in a process that may have workers of its own."""
    with shown_progress(study.name, "study", STUDY_PIECES) as progress:
        _in_a_child("compare", study, fresh, progress)
    from flowsr.compare import ComparisonResult

    page = study.output / "report.html"
    publish(study.name, ComparisonResult.load(study.output / "compare"), page)
    return Completed(message=f"report: {page}")


@flow(name="compare-study", flow_run_name="{study.name}", persist_result=False)
def compare_study(study: Study, fresh: bool = False):
    """Models x data x seeds from nothing: the table with its intervals as artifacts, and a link to the report.

    A run that was killed and is started again makes only the rows that are missing.

    Args:
        study: flows, models, seeds and budget.
        fresh: forget earlier results and start over.
    """
    return in_order(study, fresh, run_rows)


if __name__ == "__main__":
    from flowsr.flows.launch import launch

    launch(pipeline, simulate, ingest, train, upscale, compare, study=compare_study)
