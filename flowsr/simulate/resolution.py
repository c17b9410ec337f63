"""A run chosen by its result: the viscosity and the grid that a Taylor-scale Reynolds number and a resolution need.

Plain arithmetic: nothing is simulated here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from flowsr.errors import BadValue

if TYPE_CHECKING:
    from flowsr.simulate.settings import Simulation

CELLS, VISCOSITY = 64, 0.0075  # where nothing is stated
SPHERE_RADIUS = math.sqrt(2) / 3  # k_max over cells, on a side of 2 pi
SMALL_FACTORS = (2, 3, 5)

# Re_lambda of forced isotropic turbulence against x = 1 / (k_f eta), k_f the forcing cutoff: four measured runs (32^3,
# 48^3, 64^3, 128^3 with Re_lambda 27, 40, 47, 86) are 8.34 x^0.82 within their scatter of 4; beyond the last the
# Kolmogorov scaling x^(2/3), which gives 409 where the isotropic set of the Johns Hopkins data (x = 178) has 433.
MEASURED_FACTOR, MEASURED_EXPONENT, MEASURED_TO = 8.34, 0.82, 17.2
KOLMOGOROV_EXPONENT = 2 / 3
LOWEST_REYNOLDS, HIGHEST_REYNOLDS = 10, 2000


@dataclass(frozen=True)
class Target:
    """The turbulence that is wanted; what is not stated otherwise is worked out from it.

    Raises:
        BadValue: numbers that are not positive, or a Reynolds number that forced turbulence in a box does not have.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    re_lambda: float | None = None
    """Reynolds number on the Taylor scale; decides the grid."""
    kmax_eta: float = 1.4
    """Largest wavenumber times Kolmogorov length; for the viscosity."""

    def __post_init__(self):
        if self.re_lambda is not None and not LOWEST_REYNOLDS <= self.re_lambda <= HIGHEST_REYNOLDS:
            expected = f"from {LOWEST_REYNOLDS} (hardly turbulent) to {HIGHEST_REYNOLDS}"
            raise BadValue("no such turbulence", variable="re_lambda", expected=expected, found=self.re_lambda)
        if not 0 < self.kmax_eta < math.inf:
            raise BadValue("no resolution", variable="kmax_eta", expected="a positive number", found=self.kmax_eta)


def resolve(settings: Simulation) -> tuple[int | tuple[int, ...], float]:
    """Cells and viscosity of settings: as stated, or else what their target needs, or else 64 and 0.0075."""
    target, cells, viscosity = settings.target, settings.cells, settings.viscosity
    if cells is None:
        cells = CELLS
        if target is not None and target.re_lambda is not None:
            cutoff = settings.forcing_cutoff
            cells = [cells_for(target.re_lambda, target.kmax_eta, cutoff, length) for length in settings.lengths]
    along = [int(n) for n in np.broadcast_to(cells, 3)]
    if viscosity is None:
        viscosity = VISCOSITY
        if target is not None:
            coarsest = min(n * 2 * math.pi / length for n, length in zip(along, settings.lengths))
            viscosity = viscosity_for(coarsest, target.kmax_eta, settings.power)
    return along[0] if len(set(along)) == 1 else tuple(along), viscosity


def length_ratio(re_lambda: float) -> float:
    """x = 1 / (k_f eta) at which forced turbulence has this Reynolds number."""
    edge = MEASURED_FACTOR * MEASURED_TO**MEASURED_EXPONENT
    if re_lambda <= edge:
        return (re_lambda / MEASURED_FACTOR) ** (1 / MEASURED_EXPONENT)
    return MEASURED_TO * (re_lambda / edge) ** (1 / KOLMOGOROV_EXPONENT)


def viscosity_for(cells: float, kmax_eta: float, power: float) -> float:
    """nu = (eta^4 P)^(1/3), the viscosity at which a grid resolves k_max eta in steady turbulence of dissipation P.

    Args:
        cells: along a side of 2 pi.
        kmax_eta: k_max eta to reach, 1.3 to 1.5 for good resolution.
        power: P per unit mass.
    """
    eta = kmax_eta / (SPHERE_RADIUS * cells)
    return (eta**4 * power) ** (1 / 3)


def cells_for(re_lambda: float, kmax_eta: float, cutoff: float, length: float = 2 * math.pi) -> int:
    """The smallest even number of cells with small factors that reaches both, forcing 0 < k < cutoff.

    Args:
        re_lambda: on the Taylor scale.
        kmax_eta: k_max eta to reach.
        cutoff: of the forcing, radians per length.
        length: of the side.
    """
    wanted = kmax_eta * cutoff * length_ratio(re_lambda) / SPHERE_RADIUS * length / (2 * math.pi)
    return next(n for n in range(2 * math.ceil(wanted / 2 - 0.05), 1 << 20, 2) if _smooth(n))


def _smooth(n: int) -> bool:
    for factor in SMALL_FACTORS:
        while n % factor == 0:
            n //= factor
    return n == 1
