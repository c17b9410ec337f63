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
from flowsr.models.averaged import GroupAverage
from flowsr.models.base import MODELS, LearnedUpscaler, Task, Upscaler
from flowsr.models.constraints import constrained


def build_model(
    name: str,
    task: Task,
    constraints: Mapping[str, Mapping[str, Any]] | None = None,
    base: Mapping[str, Any] | None = None,
    average: str | None = None,
    **options: Any,
) -> Upscaler:
    """The model registered under ``name``, built for a task with ``options``, its output under ``constraints``.

    Args:
        name: registered name.
        task: factor, field type, scale and frames.
        constraints: see :func:`flowsr.models.constraints.constrained`, such as
            ``{"solenoidal": {}, "data_consistency": {"operator": "block_mean"}}``.
        base: options of a :class:`~flowsr.models.linear.LinearEstimate` that a network corrects, in the place of
            trilinear interpolation.
        average: a group that the result is averaged over when the model is used, not while it is trained
            (:class:`~flowsr.models.averaged.GroupAverage`).
        options: the model's own.

    Raises:
        FlowsrError: an unknown name or group.
        ValueError: options or constraints that cannot be, or a base of something that is no network.
    """
    model = MODELS[name](task, **options)
    if base is not None:
        if not isinstance(model, LearnedUpscaler) or model.solved:
            raise ValueError(f"base is for networks, '{name}' is none")
        model.put_on(linear.LinearEstimate(task, **base))
    if average is not None:
        model = GroupAverage(model, average)
    return constrained(model, constraints) if constraints else model


def options_of(name: str) -> list[str]:
    """Names of the options that are a registered model's own.

    Raises:
        FlowsrError: an unknown name.
    """
    return list(inspect.signature(MODELS[name]).parameters)[1:]
