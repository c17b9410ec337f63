"""The table of diagnostics beside a run: numbers that read back exactly, and how well the energy budget closes."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.integrate import cumulative_trapezoid

BUDGET = "budget_residual"
GAINS = ("injected_power", "buoyancy_flux")  # what feeds the kinetic energy; buoyancy_flux where there is buoyancy


def table_text(columns: Sequence[str], rows: Sequence[Sequence[float]]) -> str:
    """The diagnostics as CSV, with the :func:`budget_residual` as their last column.

    Args:
        columns: names, ``time``, ``step``, ``energy``, ``dissipation`` and ``injected_power`` among them.
        rows: their values, in order of time.
    """
    table = dict(zip(columns, np.array(rows, dtype=np.float64).reshape(-1, len(columns)).T))
    lines = [",".join((*columns, BUDGET))]
    for row, residual in zip(rows, budget_residual(table)):
        values = (str(int(v)) if name == "step" else repr(float(v)) for name, v in zip(columns, row))
        lines.append(",".join((*values, repr(float(residual)))))
    return "\n".join(lines) + "\n"


def read_table(path: Path) -> dict[str, np.ndarray]:
    """A table beside a store, column by column; lines with '#' are left out."""
    with open(path, newline="") as file:
        names, *rows = csv.reader(line for line in file if not line.startswith("#"))
    return dict(zip(names, np.array(rows, dtype=float).reshape(-1, len(names)).T))


def budget_residual(table: Mapping[str, np.ndarray]) -> np.ndarray:
    """What is missing from dK/dt = injected power + buoyancy flux - dissipation, from the first row on.

    Returns:
        (n,) [K(t) - K(0) - integral of the right side] / integral of the dissipation, by the trapezoidal rule over the
        rows; not a number where nothing has been dissipated.
    """
    time, dissipation = table["time"], table["dissipation"]
    gain = sum(table[name] for name in GAINS if name in table) - dissipation
    gained, spent = (cumulative_trapezoid(values, time, initial=0) for values in (gain, dissipation))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spent > 0, (table["energy"] - table["energy"][:1] - gained) / spent, np.nan)


def closing(table: Mapping[str, np.ndarray], start: float = -math.inf) -> float:
    """How well the energy budget closes from ``start`` to the end of a table: the size of its last residual."""
    late = table["time"] >= start
    return float(abs(budget_residual({name: values[late] for name, values in table.items()})[-1]))
