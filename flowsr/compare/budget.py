"""Equal budgets: the width at which each network costs what the others cost, in parameters or in multiply-adds."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from flowsr.errors import FlowsrError
from flowsr.models import MODELS, Upscaler, build_model
from flowsr.models.budget import matching_width
from flowsr.train.job import WIDTH_OPTIONS

#: Name and options of a registered model.
Built = tuple[str, Mapping[str, Any]]


def matched_widths(
    models: Mapping[str, Built], cost: Callable[[Upscaler], int], budget: int, tolerance: float
) -> dict[str, dict[str, Any]]:
    """The width option of each network that brings it nearest to a budget.

    Args:
        models: name in the study -> registered name and all options but the width.
        cost: what is to be equal.
        budget: its amount.
        tolerance: share of the budget that a network may be off.

    Returns:
        name -> {option: width}.

    Raises:
        FlowsrError: a network without a width, one whose width is given, or none of whose widths comes near.
    """
    return {name: _matched(name, *built, cost, budget, tolerance) for name, built in models.items()}


def _matched(
    name: str, model: str, options: Mapping[str, Any], cost: Callable[[Upscaler], int], budget: int, tolerance: float
) -> dict[str, Any]:
    option = _width_option(name, model, options)

    def build(width: int) -> Upscaler:
        return build_model(model, **{**options, option: width})

    width = matching_width(build, budget, cost=cost)
    reached = cost(build(width))
    if abs(reached - budget) > tolerance * budget:
        raise FlowsrError(
            f"no {option} of '{name}' comes near the budget",
            variable=f"models.{name}",
            expected=budget,
            found=f"{int(reached)} at {option} {width}",
            hint="change its other options, or name it in budget.free",
        )
    return {option: width}


def _width_option(name: str, model: str, options: Mapping[str, Any]) -> str:
    taken = inspect.signature(MODELS[model].__init__).parameters
    found = next((option for option in WIDTH_OPTIONS if option in taken), None)
    if found is None:
        raise FlowsrError(
            f"model '{model}' has no width to set", variable=f"models.{name}", hint="name it in budget.free"
        )
    if found in options:
        raise FlowsrError(
            f"{found} is both given and set by the budget",
            variable=f"models.{name}.options",
            hint=f"drop it, or name {name} in budget.free",
        )
    return found
