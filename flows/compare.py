"""Compare everybody on the held-out snapshots, with the result in Prefect too: an experiment's, or a whole study."""

from __future__ import annotations

import json

from flowsr.flows.artifacts import publish_comparison, publish_study
from flowsr.flows.child import run_flowsr
from flowsr.flows.faults import failure_line, one_line_failures
from flowsr.flows.logs import logs_of_run
from flowsr.flows.order import RUN, STORAGE, UNCACHED, in_order
from flowsr.flows.progress import shown_progress
from prefect import flow, task
from prefect.states import Completed, Failed, State

from flowsr.config.schema import Experiment
from flowsr.config.study import Study, dump_study
from flowsr.files import write_text_atomic

#: Pieces of work that a study reports on.
STUDY_PIECES = 5


@task(name="compare models", **STORAGE)
@one_line_failures
def compare_models(experiment: Experiment, fresh: bool) -> State:
    """Interpolations and networks side by side, to ``<output>/compare/`` and ``<output>/report.html``."""
    from flowsr.pipeline import stages
    from flowsr.pipeline.comparing import HERO

    with shown_progress(experiment.name, "compare", 1) as report:
        outcome = stages.compare(experiment, fresh=fresh, report=report)
    picture = experiment.output / "compare" / HERO
    publish_comparison(experiment.name, outcome, picture if picture.exists() else None)
    return Completed(message=f"report: {outcome.report}")


@flow(name="compare", **RUN)
def compare(experiment: Experiment, fresh: bool = False):
    """Interpolations and networks on the same held-out snapshots: a table, the picture and a link to the report.

    Args:
        experiment: the experiment; its last stage is run, on what the others left.
        fresh: forget earlier results of this stage and start over.
    """
    return in_order(experiment, fresh, compare_models)


@task(name="run the study", **UNCACHED)
@one_line_failures
def run_rows(study: Study, fresh: bool) -> State:
    """``flowsr compare`` on the study's resolved settings, in a process that may have workers of its own."""
    config = write_text_atomic(study.output / "config.yaml", dump_study(study))
    with shown_progress(study.name, "study", STUDY_PIECES) as report:
        run_flowsr(["compare", str(config), *(["--fresh"] if fresh else [])], report)
    results = json.loads((study.output / "compare" / "study.json").read_text(encoding="utf-8"))
    page = study.output / "report.html"
    publish_study(study.name, results, page)
    return Completed(message=f"report: {page}")


@flow(name="compare-study", flow_run_name="{study.name}", persist_result=False)
def compare_study(study: Study, fresh: bool = False):
    """Models x data x seeds from nothing: the table with its intervals as artifacts, and a link to the report.

    Killed and started again, it goes on with the rows that are missing.

    Args:
        study: flows, models, seeds and budget.
        fresh: forget earlier results and start over.
    """
    with logs_of_run():
        state = run_rows(study, fresh, return_state=True)
    return Completed(message=state.message) if state.is_completed() else Failed(message=failure_line(state))


if __name__ == "__main__":
    from flowsr.flows.launch import launch

    launch(compare, study=compare_study)
