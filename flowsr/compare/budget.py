"""Equal budgets: the width at which each network costs what the others cost, in parameters or in multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from flowsr.errors import FlowsrError
from flowsr.models import ModelCard, Upscaler
from flowsr.models.budget import matching_width, width_option


def matched_widths(
    models: Mapping[str, ModelCard], cost: Callable[[Upscaler], int], budget: int, tolerance: float
) -> dict[str, dict[str, Any]]:
    """The width option of each network that brings it nearest to a budget.

    Args:
        models: name in the study -> the model, without its width.
        cost: what is to be equal.
        budget: its amount.
        tolerance: share of the budget that a network may be off.

    Returns:
        name -> {option: width}.

    Raises:
        FlowsrError: a network without a width, one whose width is given, or none of whose widths comes near.
    """
    return {name: _matched(name, card, cost, budget, tolerance) for name, card in models.items()}


def _matched(
    name: str, card: ModelCard, cost: Callable[[Upscaler], int], budget: int, tolerance: float
) -> dict[str, Any]:
    option = _width_option(name, card)

    def build(width: int) -> Upscaler:
        return replace(card, options={**card.options, option: width}).build()

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


def _width_option(name: str, card: ModelCard) -> str:
    found = width_option(card.model)
    if found is None:
        raise FlowsrError(
            f"model '{card.model}' has no width to set", variable=f"models.{name}", hint="name it in budget.free"
        )
    if found in card.options:
        raise FlowsrError(
            f"{found} is both given and set by the budget",
            variable=f"models.{name}.options",
            hint=f"drop it, or name {name} in budget.free",
        )
    return found
