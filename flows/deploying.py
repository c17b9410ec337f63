"""Steps of ``prefect.yaml``: what ``prefect deploy`` works out before it registers a deployment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowsr.config.load import load_experiment


def read_experiment(config: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Build step: an experiment's file as a flow's parameter, every default written out.

    Args:
        config: YAML file, relative to the folder deployed from.
        overrides: ``a.b=value`` strings, as after ``--set``.

    Returns:
        ``{"experiment": ...}``, for ``{{ ID.experiment }}`` where the step has ``id: ID``.
    """
    return {"experiment": load_experiment(config, overrides).model_dump(mode="json")}
