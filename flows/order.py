"""Stages as tasks of one flow run, one after another."""

from __future__ import annotations

from flowsr.flows.faults import failure_line, is_storage_fault
from flowsr.flows.logs import logs_of_run
from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from flowsr.config.schema import Experiment

#: Options of every task. Prefect keeps no results: the records of :mod:`flowsr.pipeline.steps` decide what is reused.
UNCACHED = {"cache_policy": NO_CACHE, "persist_result": False}
#: Options of tasks that read and write fields.
STORAGE = {**UNCACHED, "retries": 2, "retry_delay_seconds": [10, 60], "retry_condition_fn": is_storage_fault}
#: Options of every flow of an experiment.
RUN = {"flow_run_name": "{experiment.name}", "persist_result": False}


def in_order(experiment: Experiment, fresh: bool, *stages: Task) -> State:
    """Run stages until one fails: the final state of the flow run, its message the reason or where the results are."""
    with logs_of_run():
        for stage in stages:
            state = stage(experiment, fresh, return_state=True)
            if not state.is_completed():
                return Failed(message=failure_line(state))
    return Completed(message=state.message or f"results in {experiment.output}")
