"""Which symmetries a flow breaks: ``python -m flowsr.flows.symmetry configs/symmetry/rotating.yaml``."""

from __future__ import annotations

from flowsr.flows.artifacts import artifact_key
from flowsr.flows.runtime import STORAGE, in_order, one_line_failures, shown_progress
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.states import Completed, State

from flowsr.config.symmetry import SymmetrySettings, load_symmetry


@task(name="discover symmetries", **STORAGE)
@one_line_failures
def discover_symmetries(settings: SymmetrySettings, fresh: bool) -> State:
    """Networks, tests, words, to ``<output>/symmetry/``; the state's message is the headline."""
    from flowsr.pipeline.discovering import discover_symmetry

    with shown_progress(settings.name, "symmetry", len(settings.seeds) + 2) as progress:
        found = discover_symmetry(settings, fresh=fresh, progress=progress)
    create_markdown_artifact("\n\n".join(found.sentences), key=artifact_key(settings.name, "symmetry", "words"))
    rows = [
        {"irrep": name, "power": irrep.power, "null": irrep.null_mean, "p": irrep.p, "broken": irrep.broken}
        for name, irrep in found.discovery.irreps.items()
    ]
    create_table_artifact(rows, key=artifact_key(settings.name, "symmetry", "irreps"))
    return Completed(message=f"{found.sentences[0]} Numbers in {settings.output / 'symmetry'}")


@flow(name="symmetry", flow_run_name="{settings.name}", persist_result=False)
def symmetry(settings: SymmetrySettings, fresh: bool = False) -> State:
    """Which symmetries of the cube does a flow break? A run that was killed resumes.

    Args:
        settings: data, task, and how it is tested.
        fresh: forget earlier results and start over.
    """
    return in_order(settings, fresh, discover_symmetries)


if __name__ == "__main__":
    from flowsr.flows.launch import launch

    launch(symmetry, load=load_symmetry)
