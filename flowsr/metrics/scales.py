"""The numbers that say which flow this is: energy, dissipation, scales, Reynolds number."""

from __future__ import annotations

import math

from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.gradients import dissipation
from flowsr.metrics.volumes import volume_of, volume_sum


def flow_statistics(velocity: Tensor, grid: Grid, viscosity: float | None = None) -> dict[str, Tensor]:
    """One-point statistics of a velocity without mean flow, with the isotropic relations for its scales.

    u'^2 = 2K/3, lambda = u' sqrt(15 nu / eps), Re_lambda = u' lambda / nu, eta = (nu^3 / eps)^(1/4); k_max is the
    smallest Nyquist wavenumber. Source: Pope, Turbulent Flows (2000), section 6.3.

    Args:
        velocity: (batch, 3, x, y, z).
        grid: the field's grid.
        viscosity: kinematic viscosity; without it only what does not need it is returned.

    Returns:
        ``kinetic_energy`` (<u.u>/2) and, with a viscosity, ``dissipation``, ``taylor_length``, ``reynolds_lambda``,
        ``kolmogorov_length``, ``kmax_eta``: each (batch,), float64.
    """
    energy = volume_sum(velocity**2, grid) / (2 * volume_of(velocity, grid))
    if viscosity is None:
        return {"kinetic_energy": energy}
    epsilon = dissipation(velocity, grid, viscosity)
    fluctuation = (2 * energy / 3).sqrt()
    taylor = fluctuation * (15 * viscosity / epsilon).sqrt()
    kolmogorov = (viscosity**3 / epsilon) ** 0.25
    return {
        "kinetic_energy": energy,
        "dissipation": epsilon,
        "taylor_length": taylor,
        "reynolds_lambda": fluctuation * taylor / viscosity,
        "kolmogorov_length": kolmogorov,
        "kmax_eta": kolmogorov * math.pi / max(grid.spacing),
    }
