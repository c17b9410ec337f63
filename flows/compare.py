"""Compare everybody on the held-out snapshots, with the result in Prefect too."""

from __future__ import annotations

from prefect import flow, task
from prefect.states import Completed, State

from flows.artifacts import publish_comparison
from flows.faults import one_line_failures
from flows.order import RUN, STORAGE, in_order
from flows.progress import shown_progress
from flowsr.config.schema import Experiment


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


if __name__ == "__main__":
    from flows.launch import launch

    launch(compare)
