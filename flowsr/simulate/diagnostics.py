"""One-point and spectral statistics of a turbulent state, as one row of a table."""

from __future__ import annotations

import math

import torch

from flowsr.simulate.solver import BoxSolver

COLUMNS = (
    "time",
    "step",
    "cfl",
    "energy",
    "dissipation",
    "injected_power",
    "u_rms",
    "taylor_length",
    "reynolds_lambda",
    "kolmogorov_length",
    "kmax_eta",
    "integral_length",
    "turnover_time",
    "skewness",
)


def diagnose(solver: BoxSolver) -> dict[str, float]:
    """Statistics of the solver's present state, keyed by :data:`COLUMNS`; volume averages, in the units of the run.

    - energy K = <u.u>/2, dissipation eps = nu <omega.omega>, injected_power <f.u>: dK/dt = injected_power - eps;
    - u_rms u' = sqrt(2 K / 3), taylor_length lambda = sqrt(15 nu u'^2 / eps), reynolds_lambda u' lambda / nu,
      kolmogorov_length eta = (nu^3 / eps)^(1/4), integral_length L = pi / (2 u'^2) int E(k)/k dk, turnover_time L / u'
      (Pope, Turbulent Flows, 2000, sections 5.2, 6.1 and 6.5);
    - skewness of the longitudinal derivatives, the three directions pooled;
    - cfl of the step last taken (not a number before the first).

    Forces add columns of their own after these (:meth:`flowsr.simulate.forces.Force.diagnostics`); with buoyancy,
    dK/dt = injected_power + buoyancy_flux - eps. A quantity that has no value (nu = 0, a fluid at rest) is not a
    number.
    """
    box, velocity = solver.box, solver.velocity
    inverse_k = torch.where(box.k_squared > 0, box.k_squared.clamp_min(torch.finfo(box.dtype).tiny).rsqrt(), 0.0)
    sums = torch.stack(
        [
            box.inner(velocity, velocity),
            box.inner(velocity, velocity, box.k_squared),
            box.inner(velocity, velocity, inverse_k),
            solver.injected_power(),
            *_derivative_moments(solver),
        ]
    )
    square, gradient_square, inverse_square, power, second, third = sums.tolist()
    nu = solver.viscosity
    energy, dissipation, u_rms = square / 2, nu * gradient_square, math.sqrt(square / 3)
    taylor = _sqrt_ratio(15 * nu * u_rms**2, dissipation)
    eta = _sqrt_ratio(nu**1.5, math.sqrt(dissipation))
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


def _sqrt_ratio(a: float, b: float) -> float:
    return math.sqrt(a / b) if b else math.nan
