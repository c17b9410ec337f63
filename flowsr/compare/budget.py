"""Equal budgets: the width at which each network costs what the others cost, in parameters or in multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from flowsr.errors import require
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
    found = {}
    for name, card in models.items():
        variable, option = f"models.{name}", width_option(card.model)
        require(option, f"model '{card.model}' has no width to set", variable=variable, hint="name it in budget.free")
        message, hint = f"{option} is both given and set by the budget", f"drop it, or name {name} in budget.free"
        require(option not in card.options, message, variable=f"{variable}.options", hint=hint)

        def build(width: int, card: ModelCard = card, option: str = option) -> Upscaler:
            return replace(card, options={**card.options, option: width}).build()

        width = matching_width(build, budget, cost=cost)
        reached = cost(build(width))
        require(
            abs(reached - budget) <= tolerance * budget,
            f"no {option} of '{name}' comes near the budget",
            variable=variable,
            expected=budget,
            found=f"{int(reached)} at {option} {width}",
            hint="change its other options, or name it in budget.free",
        )
        found[name] = {option: width}
    return found
