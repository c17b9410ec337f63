"""Reading a comparison: who is best at what, and in which order the rows stand."""

from __future__ import annotations

import math
from collections.abc import Mapping

COSTS = {"parameters": "Parameters", "seconds": "Seconds"}
ROUNDING = 1e-6  # differences below this are single precision's, not the models'


def mean_of(row: Mapping, key: str) -> float:
    """Mean of a scalar over the snapshots; nan where it is missing or not finite."""
    value = (row["scalars"].get(key) or {}).get("mean")
    return math.nan if value is None else float(value)


def ranked(comparison: Mapping) -> list[str]:
    """Names of the models, the lowest NRMSE first; without an NRMSE, by the first metric that says lower is better."""
    by = [key for key, metric in comparison["metrics"].items() if metric["better"] == "lower"]
    key = "nrmse" if "nrmse" in by else next(iter(by), None)

    def rank(name: str) -> float:
        mean = math.nan if key is None else mean_of(comparison["models"][name], key)
        return math.inf if math.isnan(mean) else mean

    return sorted(comparison["models"], key=rank)


def best_in_column(comparison: Mapping, key: str) -> set[str]:
    """Names of the models that are best by a metric, with those that tie with the best."""
    better = comparison["metrics"][key]["better"]
    means = {name: mean_of(model, key) for name, model in comparison["models"].items()}
    aim = mean_of(comparison["truth"], key)
    loss = {"lower": lambda v: v, "higher": lambda v: -v, "truth": lambda v: abs(v - aim)}.get(better)
    losses = {name: loss(mean) for name, mean in means.items() if loss is not None and math.isfinite(loss(mean))}
    if not losses:
        return set()
    winner = min(losses, key=losses.get)
    return {
        name
        for name in losses
        if losses[name] - losses[winner] <= ROUNDING or number(means[name]) == number(means[winner])
    }


def number(value: float | None) -> str:
    """Three significant digits, one of what is very small; a dash for what is missing."""
    if value is None or not math.isfinite(value):
        return "-"
    return f"{value:.0e}" if value and abs(value) < 1e-3 else f"{value:#.3g}".rstrip(".")
