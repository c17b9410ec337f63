"""Make turbulence: one direct numerical simulation per seed."""

from __future__ import annotations

import math

from flowsr.flows.faults import one_line_failures
from flowsr.flows.order import RUN, STORAGE, in_order
from flowsr.flows.progress import shown_progress
from prefect import flow, task

from flowsr.config.schema import Experiment


@task(name="simulate turbulence", **STORAGE)
@one_line_failures
def simulate_turbulence(experiment: Experiment, fresh: bool) -> None:
    """Direct numerical simulations, to ``<output>/simulate/``."""
    from flowsr.pipeline import stages

    with shown_progress(
        experiment.name, "simulate", math.ceil(len(experiment.simulate.seeds) / experiment.simulate.batch)
    ) as report:
        stages.simulate(experiment, fresh=fresh, report=report)


@flow(name="simulate", **RUN)
def simulate(experiment: Experiment, fresh: bool = False):
    """Make turbulence: direct numerical simulation in a periodic box, one run per seed.

    Args:
        experiment: the experiment; its first stage is run.
        fresh: forget earlier results of this stage and start over.
    """
    return in_order(experiment, fresh, simulate_turbulence)


if __name__ == "__main__":
    from flowsr.flows.launch import launch

    launch(simulate)
