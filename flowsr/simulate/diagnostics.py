"""One-point and spectral statistics of a turbulent state, and the table of them beside a run: numbers that read back
exactly, and how well the energy budget closes."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.integrate import cumulative_trapezoid

from flowsr.simulate.solver import BoxSolver

BUDGET = "budget_residual"
GAINS = ("injected_power", "buoyancy_flux")  # what feeds the kinetic energy; buoyancy_flux where there is buoyancy


def diagnose(solver: BoxSolver) -> dict[str, float]:
    """Statistics of the solver's present state by name; volume averages, in the units of the run.

    - time, step, and cfl of the step last taken (NaN before the first);
    - energy K = <u.u>/2, dissipation eps = nu <omega.omega>, injected_power <f.u>: dK/dt = injected_power - eps;
    - u_rms u' = sqrt(2 K / 3), taylor_length lambda = sqrt(15 nu u'^2 / eps), reynolds_lambda u' lambda / nu,
      kolmogorov_length eta = (nu^3 / eps)^(1/4), integral_length L = pi / (2 u'^2) int E(k)/k dk, turnover_time L / u'
      (Pope, Turbulent Flows, 2000, sections 5.2, 6.1 and 6.5);
    - skewness of the longitudinal derivatives, the three directions pooled.

    Forces add columns of their own after these (:meth:`flowsr.simulate.forces.Force.diagnostics`); with buoyancy,
    dK/dt = injected_power + buoyancy_flux - eps. A quantity that has no value (nu = 0, a fluid at rest) is NaN.
    """
    box, velocity = solver.box, solver.velocity
    inverse_k = torch.where(box.k_squared > 0, box.k_squared.clamp_min(torch.finfo(box.dtype).tiny).rsqrt(), 0.0)
    squares = [box.inner(velocity, velocity, factor) for factor in (None, box.k_squared, inverse_k)]
    sums = torch.stack([*squares, solver.injected_power(), *_derivative_moments(solver)])
    square, gradient_square, inverse_square, power, second, third = sums.tolist()
    nu = solver.viscosity
    energy, dissipation, u_rms = square / 2, nu * gradient_square, math.sqrt(square / 3)
    taylor = math.sqrt(_ratio(15 * nu * u_rms**2, dissipation))
    eta = math.sqrt(_ratio(nu**1.5, math.sqrt(dissipation)))
    integral = _ratio(math.pi * inverse_square / 2, 2 * u_rms**2)
    row = {
        "time": solver.time,
        "step": solver.step,
        "cfl": solver.courant,
        "energy": energy,
        "dissipation": dissipation,
        "injected_power": power,
        "u_rms": u_rms,
        "taylor_length": taylor,
        "reynolds_lambda": _ratio(u_rms * taylor, nu),
        "kolmogorov_length": eta,
        "kmax_eta": box.k_max * eta,
        "integral_length": integral,
        "turnover_time": _ratio(integral, u_rms),
        "skewness": _ratio(third, second**1.5),
    }
    for force in solver.forces:
        row.update(force.diagnostics(solver))
    return row


def _derivative_moments(solver: BoxSolver) -> tuple[torch.Tensor, torch.Tensor]:
    """Second and third moment of du_i/dx_i, averaged over the volume and the three directions."""
    box = solver.box
    second, third = 0.0, 0.0
    for k, component in zip(box.wavenumber, solver.velocity):
        gradient = box.backward(component * k * 1j)
        square = gradient.square()
        second = second + square.mean(dtype=torch.float64) / 3
        third = third + square.mul_(gradient).mean(dtype=torch.float64) / 3
    return second, third


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


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
    """A table beside a store, column by column; lines with '#' are ignored."""
    with open(path, newline="") as file:
        names, *rows = csv.reader(line for line in file if not line.startswith("#"))
    return dict(zip(names, np.array(rows, dtype=float).reshape(-1, len(names)).T))


def budget_residual(table: Mapping[str, np.ndarray]) -> np.ndarray:
    """What is missing from dK/dt = injected power + buoyancy flux - dissipation, from the first row on.

    Returns:
        (n,) [K(t) - K(0) - integral of the right side] / integral of the dissipation, by the trapezoidal rule over the
        rows; NaN where nothing has been dissipated.
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
