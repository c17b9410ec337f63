"""How far along a stage is, as log lines and as a progress artifact of its task run."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flowsr.flows.artifacts import artifact_key
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flowsr.progress import Progress, plain_lines

log = logging.getLogger("flowsr.flows")

#: Seconds between two updates of an artifact, at the least: each is a request to the server.
UPDATE_INTERVAL = 20.0


@contextmanager
def shown_progress(name: str, stage: str, pieces: int) -> Iterator[Progress]:
    """Show a stage's reports: one log line per tenth of a piece, one artifact for all pieces together.

    Args:
        name: of the experiment.
        stage: of the experiment, "train".
        pieces: how many pieces of work the stage will report on.
    """
    artifact = create_progress_artifact(0.0, key=artifact_key(name, stage, "progress"), description=f"{stage}: started")
    in_lines = plain_lines(log.info)
    fractions: dict[str, float] = {}
    next_update = time.monotonic() + UPDATE_INTERVAL

    def show(piece: str, fraction: float, message: str) -> None:
        nonlocal next_update
        in_lines.part(piece)(fraction, message)
        fractions[piece] = min(fraction, 1.0)
        if time.monotonic() >= next_update:
            done = sum(fractions.values()) / max(pieces, len(fractions))
            _update(artifact, 100 * done, f"{piece}: {100 * fractions[piece]:.0f} % {message}")
            next_update = time.monotonic() + UPDATE_INTERVAL

    yield Progress(show)
    _update(artifact, 100.0, f"{stage}: done")


def _update(artifact, percent: float, description: str) -> None:
    try:
        update_progress_artifact(artifact, percent, description)
    except Exception as error:  # a server that is away for a moment must not end hours of work
        log.warning("the progress artifact was not updated: %s", error)
