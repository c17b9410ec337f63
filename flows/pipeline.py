"""An experiment from nothing to the report."""

from __future__ import annotations

from flowsr.flows.compare import compare_models
from flowsr.flows.ingest import ingest_fields
from flowsr.flows.order import RUN, in_order
from flowsr.flows.simulate import simulate_turbulence
from flowsr.flows.train import train_networks
from flowsr.flows.upscale import upscale_snapshots
from prefect import flow

from flowsr.config.schema import Experiment


@flow(name="pipeline", **RUN)
def pipeline(experiment: Experiment, fresh: bool = False):
    """All five stages: simulate, ingest, train, upscale, compare. Finished stages are reused.

    Args:
        experiment: the experiment, as in the files under configs/.
        fresh: forget earlier results and start over.
    """
    return in_order(
        experiment, fresh, simulate_turbulence, ingest_fields, train_networks, upscale_snapshots, compare_models
    )


if __name__ == "__main__":
    from flowsr.flows.launch import launch

    launch(pipeline)
