"""Numbers of one row, kept per snapshot until they are averaged."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from flowsr.metrics import Curve

DIGITS = 9  # kept in results: more than any metric is worth, fewer than rounding noise reaches


class Scores:
    """Collects each snapshot's scalars and curves."""

    def __init__(self):
        self._scalars: dict[str, list[float]] = {}
        self._curves: dict[str, tuple[np.ndarray, list[np.ndarray]]] = {}

    def add(self, result: Mapping[str, Tensor | Curve]) -> None:
        """Take in one snapshot's results."""
        for key, value in result.items():
            if isinstance(value, Curve):
                x, y = (axis.detach().cpu().double().numpy() for axis in value)
                self._curves.setdefault(key, (x, []))[1].append(y)
            else:
                self._scalars.setdefault(key, []).append(float(value))

    def scalars(self) -> dict[str, dict]:
        """key -> mean, std (of the sample; 0 for one snapshot) and values; None where a value is not finite."""
        return {key: summary(values) for key, values in self._scalars.items()}

    def curves(self) -> dict[str, dict]:
        """key -> x and y, the mean over the snapshots in which a point is finite; None where it is in none."""
        return {key: {"x": rounded(x), "y": rounded(_mean(y))} for key, (x, y) in self._curves.items()}


def summary(values: list[float]) -> dict:
    """Mean, standard deviation and the values themselves, as JSON has them."""
    finite = [value for value in values if math.isfinite(value)]
    mean = statistics.fmean(finite) if finite else math.nan
    spread = statistics.stdev(finite) if len(finite) > 1 else 0.0 if finite else math.nan
    return {"mean": round_or_none(mean), "std": round_or_none(spread), "values": rounded(values)}


def rounded(values) -> list[float | None]:
    """Each value to ``DIGITS`` significant digits, None where it is not finite."""
    return [round_or_none(float(value)) for value in values]


def round_or_none(value: float) -> float | None:
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _mean(rows: list[np.ndarray]) -> np.ndarray:
    values = np.stack(rows)
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    return np.where(count > 0, np.where(finite, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)
