"""Trained models over whole fields: an experiment's held-out snapshots, and whatever arrives in a watched folder."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from flowsr.flows.artifacts import artifact_key
from flowsr.flows.faults import failure_line, one_line_failures
from flowsr.flows.inbox import Found, Job, Request, look, upscale_job
from flowsr.flows.logs import logs_of_run
from flowsr.flows.order import RUN, STORAGE, in_order
from flowsr.flows.progress import shown_progress
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, Failed, State

from flowsr.config.schema import Experiment

log = logging.getLogger("flowsr.flows")


@task(name="upscale snapshots", **STORAGE)
@one_line_failures
def upscale_snapshots(experiment: Experiment, fresh: bool) -> None:
    """Every network over every held-out run, to ``<output>/upscale/``."""
    from flowsr.pipeline import stages

    runs = len(experiment.ingest.inputs or experiment.simulate.seeds)
    with shown_progress(experiment.name, "upscale", runs * len(experiment.train.models)) as report:
        stages.upscale(experiment, fresh=fresh, report=report)


@flow(name="upscale", **RUN)
def upscale(experiment: Experiment, fresh: bool = False):
    """Write the fine fields of the held-out snapshots with every trained network.

    Args:
        experiment: the experiment; its fourth stage is run, on what the others left.
        fresh: forget earlier results of this stage and start over.
    """
    return in_order(experiment, fresh, upscale_snapshots)


@task(name="upscale file", task_run_name="upscale {job.source.name}", **STORAGE)
@one_line_failures
def upscale_file(job: Job, request: Request) -> None:
    """One file of the inbox to its store in the outbox."""
    title = f"upscale {job.source.name}"
    with shown_progress(job.source.name, "upscale", 1) as report:
        upscale_job(job, request, report.part(title))


@flow(name="upscale-new-files", persist_result=False)
def upscale_new_files(
    inbox: Path,
    outbox: Path,
    model: Path,
    variable: str = "velocity",
    pattern: str = "*",
    tile: int = 32,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    settle: float = 10.0,
):
    """Upscale every file of a watched folder that has not been done yet.

    A file is done when its store is in the outbox and was made from the same content. Files still on their way in wait
    for the next run. A bad file does not stop the others: the run fails when the rest is done, and says which it was.

    Args:
        inbox: the watched folder, with HDF5 files and Zarr stores.
        outbox: receives one Zarr store per file, and a record of what it was made from.
        model: folder of a trained model, such as runs/demo/train/relaxed.
        variable: the variable to upscale.
        pattern: names to look at, such as "*.h5".
        tile: coarse cells along a tile's side; larger is faster, smaller needs less memory.
        device: auto takes CUDA where there is a device.
        settle: seconds that a file must have stayed unchanged.
    """
    with logs_of_run():
        return _upscale_new_files(inbox, outbox, pattern, settle, Request(model, variable, tile, device))


@one_line_failures
def _upscale_new_files(inbox: Path, outbox: Path, pattern: str, settle: float, request: Request) -> State:
    from flowsr.models import load_model

    load_model(request.model)  # a model that cannot be used is told before any file is touched
    found = look(inbox, outbox, pattern, settle)
    for name, reason in found.waiting.items():
        log.info("%s waits for the next run: %s", name, reason)
    states = {job.source.name: upscale_file(job, request, return_state=True) for job in found.new}
    bad = {name: failure_line(state) for name, state in states.items() if not state.is_completed()}
    if states:
        _publish(found, bad, outbox)
    if bad:
        reasons = "; ".join(reason if name in reason else f"{name}: {reason}" for name, reason in bad.items())
        return Failed(message=f"{len(bad)} of {len(states)} new files failed: {reasons}")
    return Completed(message=f"{len(states)} upscaled, {len(found.waiting)} waiting, {len(found.done)} done before")


def _publish(found: Found, bad: dict[str, str], outbox: Path) -> None:
    rows = [
        {"file": job.source.name, "store": str(job.target), "failed": bad.get(job.source.name, "")} for job in found.new
    ]
    create_table_artifact(rows, artifact_key(outbox.name, "upscaled"), description=f"New files upscaled to {outbox}")


if __name__ == "__main__":
    from flowsr.flows.launch import launch

    launch(upscale)
