"""Fields from particles, compared: ``python -m flowsr.flows.tracks configs/tracks_demo.yaml``."""

from __future__ import annotations

from flowsr.flows.artifacts import publish
from flowsr.flows.child import run_flowsr
from flowsr.flows.runtime import UNCACHED, in_order, one_line_failures, shown_progress
from prefect import flow, task
from prefect.states import Completed, State

from flowsr.config.tracks import TracksStudy, dump_tracks, load_tracks
from flowsr.files import write_text_atomic

#: Simulate, see particles, train, measure, compare.
PIECES = 5


@task(name="compare on particles", **UNCACHED)
@one_line_failures
def compare_on_particles(study: TracksStudy, fresh: bool) -> State:
    """``flowsr compare`` on the resolved settings, in a process that may have workers of its own."""
    config = write_text_atomic(study.output / "config.yaml", dump_tracks(study))
    with shown_progress(study.name, "tracks", PIECES) as progress:
        run_flowsr(["compare", str(config), *(["--fresh"] if fresh else [])], progress)
    from flowsr.compare import ComparisonResult

    page = study.output / "report.html"
    publish(study.name, ComparisonResult.load(study.output / "compare"), page)
    return Completed(message=f"report: {page}")


@flow(name="tracks", flow_run_name="{study.name}", persist_result=False)
def tracks(study: TracksStudy, fresh: bool = False) -> State:
    """Turbulence, particles in it, and the fields that methods and networks make of them. A killed run resumes.

    Args:
        study: flows, particles, methods and networks.
        fresh: forget earlier results and start over.
    """
    return in_order(study, fresh, compare_on_particles)


if __name__ == "__main__":
    from flowsr.flows.launch import launch

    launch(tracks, load=load_tracks)
