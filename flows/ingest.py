"""Make coarse / fine pairs from fields, split in time."""

from __future__ import annotations

from flowsr.flows.faults import one_line_failures
from flowsr.flows.order import RUN, STORAGE, in_order
from flowsr.flows.progress import shown_progress
from prefect import flow, task

from flowsr.config.schema import Experiment


@task(name="ingest fields", **STORAGE)
@one_line_failures
def ingest_fields(experiment: Experiment, fresh: bool) -> None:
    """Coarse / fine pairs of every run, to ``<output>/ingest/``."""
    from flowsr.pipeline import stages

    with shown_progress(experiment.name, "ingest", 1) as report:
        stages.ingest(experiment, fresh=fresh, report=report)


@flow(name="ingest", **RUN)
def ingest(experiment: Experiment, fresh: bool = False):
    """Validate fields, degrade them by a named operator, split them in time, write coarse / fine pairs.

    Args:
        experiment: the experiment; its second stage is run, on what the first left or on ``ingest.inputs``.
        fresh: forget earlier results of this stage and start over.
    """
    return in_order(experiment, fresh, ingest_fields)


if __name__ == "__main__":
    from flowsr.flows.launch import launch

    launch(ingest)
