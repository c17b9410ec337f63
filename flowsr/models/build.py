"""From a registered name to a model, its output under constraints if it is to be."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from flowsr.models import (  # noqa: F401  (files the models under their names)
    deconvolution,
    fourier_operator,
    image_networks,
    interpolation,
    linear,
    octahedral,
    steerable,
    wang2023,
)
from flowsr.models.base import MODELS, Task, Upscaler
from flowsr.models.constraints import constrained


def build_model(
    name: str, task: Task, constraints: Mapping[str, Mapping[str, Any]] | None = None, **options: Any
) -> Upscaler:
    """The model registered under ``name``, built for a task with ``options``, its output under ``constraints``.

    Args:
        name: registered name.
        task: factor, field type, scale and frames.
        constraints: see :func:`flowsr.models.constraints.constrained`, such as
            ``{"solenoidal": {}, "data_consistency": {"operator": "block_mean"}}``.
        options: the model's own.

    Raises:
        FlowsrError: an unknown name.
        ValueError: options or constraints that cannot be.
    """
    model = MODELS[name](task, **options)
    return constrained(model, constraints) if constraints else model


def options_of(name: str) -> list[str]:
    """Names of the options that are a registered model's own.

    Raises:
        FlowsrError: an unknown name.
    """
    return list(inspect.signature(MODELS[name]).parameters)[1:]
