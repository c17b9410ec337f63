"""Which flow this is: energy, dissipation, length scales, how long the large eddies live, Reynolds number.

From a field (:func:`flow_statistics`), or from moments of the spectrum averaged over the snapshots of a run
(:func:`spectral_moments`, :func:`flow_scales`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import fft
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import volume_of, volume_sum
from flowsr.metrics.gradients import dissipation
from flowsr.metrics.spectra import half_spectrum
from flowsr.scratch import Box, axis_by_axis


@dataclass(frozen=True)
class SpectralMoments:
    """Integrals over the energy spectrum E(k) of one snapshot, about the box's mean velocity.

    Attributes:
        energy: int E dk, kinetic energy per unit mass.
        energy_over_wavenumber: int E / k dk.
        wavenumber_squared_energy: int k^2 E dk.
    """

    energy: float
    energy_over_wavenumber: float
    wavenumber_squared_energy: float


@dataclass(frozen=True)
class FlowScales:
    """Scales of a statistically steady run, from moments averaged over its snapshots.

    Attributes:
        energy: kinetic energy of the fluctuations per unit mass.
        rms_velocity: u' = (2 energy / 3)^(1/2), one component's.
        integral_length: L = pi / (2 u'^2) int E / k dk (Pope, Turbulent Flows, 2000, section 6.5).
        turnover_time: L / u', the large eddies' lifetime.
        dissipation: 2 nu int k^2 E dk (the same section), or None where the viscosity is not known.
    """

    energy: float
    rms_velocity: float
    integral_length: float
    turnover_time: float
    dissipation: float | None

    def as_dict(self) -> dict[str, float | None]:
        return asdict(self)


def spectral_moments(velocity: np.ndarray, grid: Grid) -> SpectralMoments:
    """Moments of the spectrum of a velocity (3, x, y, z), summed mode by mode: no shells, so any sides and spacings.

    ValueError where an axis is not periodic.
    """
    if not grid.periodic:
        raise ValueError(f"the spectrum needs a periodic box, not {grid.boundary}")
    density = sum(np.abs(fft.rfftn(component.astype(np.float64))) ** 2 for component in velocity)
    return SpectralMoments(*map(float, _integrals(density, grid)))


def streamed_moments(
    read: Callable[[Box], np.ndarray],
    grid: Grid,
    folder: Path | None = None,
    done: Callable[[float], None] = lambda fraction: None,
) -> SpectralMoments:
    """:func:`spectral_moments` of a velocity that memory does not hold, transformed axis by axis through the disk.

    Args:
        read: gives the (3, x, y, z) velocity in a box.
        grid: of three periodic axes.
        folder, done: see :func:`flowsr.scratch.axis_by_axis`; 24 bytes a cell are taken there.
    """

    def along(values: np.ndarray, axis: int) -> np.ndarray:
        return fft.rfft(values.astype(np.float64), axis=axis) if axis == -1 else fft.fft(values, axis=axis)

    total = np.zeros(3)
    for _, y, modes in axis_by_axis(read, grid.shape, along, folder, done):
        total += _integrals(np.abs(modes) ** 2, grid, y)
    return SpectralMoments(*map(float, total))


def _integrals(density: np.ndarray, grid: Grid, y: slice = slice(None)) -> np.ndarray:
    """The three moments of squared coefficients of the transform, of some along y; these are overwritten."""
    squared, multiplicity = half_spectrum(grid.shape, grid.spacing, y)
    density *= 0.5 / float(np.prod(grid.shape)) ** 2
    density *= multiplicity
    if squared[0, 0, 0] == 0:
        density[0, 0, 0], squared[0, 0, 0] = 0.0, 1.0
    return np.array([density.sum(), (density / np.sqrt(squared)).sum(), (density * squared).sum()])


def flow_scales(moments: Sequence[SpectralMoments], viscosity: float | None) -> FlowScales:
    """Scales from the moments of several snapshots; ValueError for a fluid at rest, which has none."""
    energy = float(np.mean([m.energy for m in moments]))
    if not energy > 0:
        raise ValueError("a fluid at rest has no turnover time")
    u_squared = 2 * energy / 3
    rms, length = (
        np.sqrt(u_squared),
        np.pi / (2 * u_squared) * float(np.mean([m.energy_over_wavenumber for m in moments])),
    )
    gradient = float(np.mean([m.wavenumber_squared_energy for m in moments]))
    epsilon = None if viscosity is None else 2 * float(viscosity) * gradient
    return FlowScales(energy, float(rms), float(length), float(length / rms), epsilon)


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
