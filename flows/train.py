"""Fit the networks of an experiment, in a process of their own."""

from __future__ import annotations

from flowsr.flows.child import run_flowsr
from flowsr.flows.faults import one_line_failures
from flowsr.flows.order import RUN, UNCACHED, in_order
from flowsr.flows.progress import shown_progress
from prefect import flow, task

from flowsr.config.load import dump_experiment
from flowsr.config.schema import Experiment
from flowsr.files import write_text_atomic


@task(name="train networks", **UNCACHED)
@one_line_failures
def train_networks(experiment: Experiment, fresh: bool) -> None:
    """``flowsr train`` on the experiment's resolved settings, to ``<output>/train/``."""
    config = write_text_atomic(experiment.output / "config.yaml", dump_experiment(experiment))
    with shown_progress(experiment.name, "train", len(experiment.train.models)) as report:
        run_flowsr(["train", str(config), *(["--fresh"] if fresh else [])], report)


@flow(name="train", **RUN)
def train(experiment: Experiment, fresh: bool = False):
    """Fit the experiment's networks; killed and started again, it goes on where it was.

    Args:
        experiment: the experiment; its third stage is run, on the pairs that the second left.
        fresh: forget earlier results of this stage and start over.
    """
    return in_order(experiment, fresh, train_networks)


if __name__ == "__main__":
    from flowsr.flows.launch import launch

    launch(train)
