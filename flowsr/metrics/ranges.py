"""The inertial and the dissipation range of a spectrum: k^(5/3) E(k) and 2 k^2 E(k)."""

from __future__ import annotations

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import METRICS, FieldMetric, check_on_grid
from flowsr.metrics.quantity import Curve, CurveQuantity, Quantity
from flowsr.metrics.shells import TIE, Shells, cutoff_wavenumber, shells_of
from flowsr.metrics.spectra import shell_energy, shell_sums

_DISSIPATION_SOURCE = "D(k) / nu = 2 k^2 E(k); Pope, Turbulent Flows (2000), eq. 6.191"
_COMPENSATED_SOURCE = "Pope, Turbulent Flows (2000), eq. 6.239; Sreenivasan, Phys. Fluids 7, 2778 (1995): near 1.6"


def shell_dissipation(velocity: Tensor, grid: Grid) -> Tensor:
    """|k|^2 |u^|^2 summed over the modes of each shell, (batch, n), float64, 1/time^2.

    Over all shells it is <(du_i/dx_j)^2>: with the viscosity, the dissipation of an incompressible flow. Every mode
    counts with its own |k|, not with that of its shell.

    Args:
        velocity: (batch, component, x, y, z).
        grid: a periodic box.

    Raises:
        ValueError: a field that is not on the grid, or an axis that is not periodic.
    """
    check_on_grid(velocity, grid)
    shells = shells_of(grid)
    coefficients = torch.fft.rfftn(velocity, dim=(2, 3, 4), norm="forward")
    power = (coefficients.real.square() + coefficients.imag.square()).sum(dim=1, dtype=torch.float64)
    return shell_sums(power * torch.as_tensor(shells.magnitude**2, device=power.device), shells)


def dissipation_spectrum(velocity: Tensor, grid: Grid, viscosity: float = 1.0) -> Curve:
    """D(k) = 2 nu k^2 E(k), whose integral is the dissipation. Source: Pope, Turbulent Flows (2000), eq. 6.191.

    Args:
        velocity: (batch, 3, x, y, z), incompressible.
        grid: a periodic box.
        viscosity: nu.

    Returns:
        wavenumber (n,) and D (batch, n), float64, velocity^3 (the sum of D dk over all shells is the dissipation).
    """
    shells = shells_of(grid)
    density = viscosity * shell_dissipation(velocity, grid) / shells.width
    return Curve(torch.as_tensor(shells.wavenumber, device=density.device), density)


def compensated_spectrum(velocity: Tensor, grid: Grid, dissipation: Tensor | float = 1.0) -> Curve:
    """eps^(-2/3) k^(5/3) E(k): the Kolmogorov constant, near 1.6, where there is an inertial range.

    E(k) is the estimate that is compensated for the number of modes in every shell, ``volume`` of
    :func:`~flowsr.metrics.energy_spectrum`. Source: Pope, Turbulent Flows (2000), eq. 6.239.

    Args:
        velocity: (batch, 3, x, y, z).
        grid: a periodic box.
        dissipation: eps, one or (batch,), velocity^3 / length; 1 leaves k^(5/3) E(k), velocity^2 length^(-2/3).

    Returns:
        wavenumber (n,) and values (batch, n), float64, no unit.
    """
    shells = shells_of(grid)
    energy = shell_energy(velocity, grid)
    eps = torch.as_tensor(dissipation, dtype=energy.dtype, device=energy.device).reshape(-1, 1)
    wavenumber = torch.as_tensor(shells.wavenumber, device=energy.device)
    return Curve(wavenumber, eps ** (-2 / 3) * wavenumber ** (5 / 3) * _smooth(energy, shells) / shells.width)


@METRICS.register("spectral_ranges")
class SpectralRanges(FieldMetric):
    """:func:`compensated_spectrum` and :func:`dissipation_spectrum` of the prediction; energies are pooled.

    The dissipation in units of which the spectrum is compensated is that of the truth, so that models can be held
    against each other and the truth; it needs the viscosity, and the curve is nan without.
    """

    needs_periodic = True
    needs_vector = True
    scalars = {
        "dissipation_captured_beyond_cutoff": Quantity(
            "Dissipation captured, k > k_c",
            "1",
            "truth",
            f"sum of k^2 E(k) beyond the coarse Nyquist wavenumber, predicted / true; {_DISSIPATION_SOURCE}",
        ),
        "dissipation_peak": Quantity(
            "Wavenumber of peak dissipation", "length^-1", "truth", f"argmax of 2 k^2 E(k); {_DISSIPATION_SOURCE}"
        ),
    }
    curves = {
        "compensated_spectrum": CurveQuantity(
            "Compensated spectrum",
            "wavenumber k",
            "k^5/3 E(k)",
            _COMPENSATED_SOURCE,
            "length^-1",
            "velocity^2 length^-2/3",
            "log",
            "log",
        ),
        "kolmogorov_spectrum": CurveQuantity(
            "Spectrum in Kolmogorov units",
            "wavenumber k",
            "eps^-2/3 k^5/3 E(k), eps of the truth",
            _COMPENSATED_SOURCE,
            "length^-1",
            "1",
            "log",
            "log",
        ),
        "dissipation_spectrum": CurveQuantity(
            "Dissipation spectrum over viscosity",
            "wavenumber k",
            "D(k) / nu",
            _DISSIPATION_SOURCE,
            "length^-1",
            "velocity^2 length^-1",
            "log",
            "linear",
        ),
    }
    totals = ("energy", "prediction_dissipation", "target_dissipation", "snapshots")
    axes = ("wavenumber", "complete", "cutoff")

    def _measure(self, prediction, target, grid):
        return {
            "energy": _smooth(shell_energy(prediction, grid), shells_of(grid)),
            "prediction_dissipation": shell_dissipation(prediction, grid),
            "target_dissipation": shell_dissipation(target, grid),
            "snapshots": torch.ones(len(target), device=target.device),
        }

    def _axes(self, grid, device):
        shells = shells_of(grid)
        cutoff = float("inf") if self.factor is None else cutoff_wavenumber(grid, self.factor)
        values = {"wavenumber": shells.wavenumber, "complete": shells.complete, "cutoff": cutoff}
        return {name: torch.as_tensor(value, dtype=torch.float64, device=device) for name, value in values.items()}

    def _finish(self, energy, prediction_dissipation, target_dissipation, snapshots, wavenumber, complete, cutoff):
        shown = complete.bool() & (wavenumber > 0)
        beyond = wavenumber > cutoff * (1 + TIE)
        k, width = wavenumber[shown], wavenumber[1]
        compensated = k ** (5 / 3) * energy[shown] / snapshots / width
        viscosity = float("nan") if self.viscosity is None else self.viscosity
        true_dissipation = viscosity * target_dissipation.sum() / snapshots
        density = prediction_dissipation[shown] / snapshots / width
        beyond_cutoff = prediction_dissipation[beyond].sum() / target_dissipation[beyond].sum()
        return {
            "dissipation_captured_beyond_cutoff": beyond_cutoff,
            "dissipation_peak": k[density.argmax()],
            "compensated_spectrum": Curve(k, compensated),
            "kolmogorov_spectrum": Curve(k, true_dissipation ** (-2 / 3) * compensated),
            "dissipation_spectrum": Curve(k, density),
        }


def _smooth(energy: Tensor, shells: Shells) -> Tensor:
    return energy * torch.as_tensor(shells.compensation, device=energy.device)
