"""Energy spectra in three dimensions, and how far a predicted one is from the true one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import METRICS, FieldMetric, check_on_grid, check_same_grid
from flowsr.metrics.quantity import Curve, CurveQuantity, Quantity
from flowsr.metrics.shells import TIE, Shells, cutoff_wavenumber, shells_of

# Energy below this share of the total is the rounding of single-precision storage, not flow: outside a simulation's
# de-aliasing sphere there is nothing to be relative to.
NOISE = torch.finfo(torch.float32).eps ** 2


def energy_spectrum(field: Tensor, grid: Grid, estimator: Literal["sum", "volume"] = "sum") -> Curve:
    """Three-dimensional energy spectrum E(k) of a velocity, half the variance spectrum of any other field.

    With u^(k) the Fourier coefficients (u = sum u^ exp(ikx)), shell n of width dk = the largest fundamental
    wavenumber gets

    - ``sum``: E = sum over its modes of |u^|^2 / 2, over dk. Sum of E dk over all shells is the kinetic energy per unit
      mass <u.u> / 2 exactly (Parseval). Low shells are ragged, because few modes fall in them.
    - ``volume``: the mean of |u^|^2 / 2 over the modes times the number of modes that the shell's volume holds on
      average. Smooth for an isotropic field, on any box, also in the corners beyond the Nyquist sphere where only part
      of a shell is resolved; the estimate to hold against a theoretical E(k). Shell 0 (the mean) stays a sum.

    Source: Pope, Turbulent Flows (2000), eq. 3.166; shell volumes: Stepanov et al., Phys. Rev. E 90, 053309 (2014).

    Args:
        field: (batch, component, x, y, z).
        grid: a box with three periodic axes; sides and spacings may differ.
        estimator: see above.

    Returns:
        wavenumber (n,) and E (batch, n), float64, velocity^2 length.

    Raises:
        ValueError: a field that is not on the grid, or an axis that is not periodic.
    """
    shells = shells_of(grid)
    energy = shell_energy(field, grid) / shells.width
    if estimator == "volume":
        energy = energy * torch.as_tensor(shells.compensation, device=energy.device)
    return Curve(torch.as_tensor(shells.wavenumber, device=energy.device), energy)


def shell_energy(field: Tensor, grid: Grid) -> Tensor:
    """Energy of each shell, (batch, n), float64: the kinetic energy split by wavenumber. Arguments as above."""
    check_on_grid(field, grid)
    shells = shells_of(grid)
    coefficients = torch.fft.rfftn(field, dim=(2, 3, 4), norm="forward")
    power = (coefficients.real.square() + coefficients.imag.square()).sum(dim=1, dtype=torch.float64) / 2
    return shell_sums(power, shells)


def shell_sums(modes: Tensor, shells: Shells) -> Tensor:
    """Sum over the modes of each shell, (batch, n), of what a real-input transform gives, (batch, x, y, z // 2 + 1)."""
    modes = modes * torch.as_tensor(shells.multiplicity, device=modes.device)
    index = torch.as_tensor(shells.index, device=modes.device).flatten()
    count = len(shells.modes)
    return torch.stack([torch.bincount(index, one, minlength=count) for one in modes.flatten(1)])


def spectral_error_per_wavenumber(prediction: Tensor, target: Tensor, grid: Grid) -> Curve:
    """Relative error of the energy spectrum, |E_p - E_t| / E_t, in shells 1 to the last complete one.

    Blind to phases: a field with the right energy in the wrong places scores 0. See :func:`field_error_per_wavenumber`.

    Args:
        prediction, target: (batch, component, x, y, z).
        grid: a periodic box.

    Returns:
        wavenumber (n,) and error (batch, n); nan in shells where the truth holds no more than rounding (``NOISE`` of
        its energy).

    Raises:
        ValueError: shapes that differ, or an axis that is not periodic.
    """
    check_same_grid(prediction, target, grid)
    shells = shells_of(grid)
    return _in_complete_shells(shells, _relative_error(shell_energy(prediction, grid), shell_energy(target, grid)))


def spectral_error(prediction: Tensor, target: Tensor, grid: Grid, beyond: float = 0.0) -> Tensor:
    """Mean of :func:`spectral_error_per_wavenumber` over the shells centred beyond a wavenumber.

    Returns:
        (batch,), no unit; nan where no shell is left.
    """
    wavenumber, error = spectral_error_per_wavenumber(prediction, target, grid)
    return error[:, wavenumber > beyond * (1 + TIE)].nanmean(dim=-1)


def field_error_per_wavenumber(prediction: Tensor, target: Tensor, grid: Grid) -> Curve:
    """Energy of the error over the energy of the truth, E_{p-t} / E_t, in shells 1 to the last complete one.

    0 where the field is right, 1 where nothing is predicted, 2 where a field of the right energy has nothing to do with
    the truth: twice the relative error spectrum of Metais & Lesieur, J. Atmos. Sci. 43, 857 (1986), which is 1 there.

    Arguments, result and errors as in :func:`spectral_error_per_wavenumber`.
    """
    check_same_grid(prediction, target, grid)
    ratio = _over_truth(shell_energy(prediction - target, grid), shell_energy(target, grid))
    return _in_complete_shells(shells_of(grid), ratio)


def nrmse_beyond(prediction: Tensor, target: Tensor, grid: Grid, wavenumber: float) -> Tensor:
    """NRMSE of the fields' parts beyond a wavenumber: of the small scales alone.

    1 for whatever predicts nothing there, above 1 where what it predicts does more harm than good. (The coarse grid
    holds modes beyond its smallest Nyquist wavenumber, in the corners of its cube of wavenumbers: interpolation is near
    1 and not 1.)

    Returns:
        (batch,), no unit.
    """
    check_same_grid(prediction, target, grid)
    centres = torch.as_tensor(shells_of(grid).wavenumber, device=target.device)
    return _high_pass_error(shell_energy(prediction - target, grid), shell_energy(target, grid), centres, wavenumber)


@METRICS.register("spectrum")
class Spectrum(FieldMetric):
    """The energy spectrum of the prediction and its errors; energies are pooled over snapshots before ratios are taken.

    Args:
        factor: refinement from coarse to fine; it sets the cut-off, the smallest coarse Nyquist wavenumber.
            Without it there is nothing beyond the cut-off and those scalars are nan.
    """

    standard = True
    needs_periodic = True
    scalars = {
        "spectral_error": Quantity("Spectral error", "1", "lower", "mean over shells of |E_p(k) - E_t(k)| / E_t(k)"),
        "spectral_error_beyond_cutoff": Quantity(
            "Spectral error, k > k_c",
            "1",
            "lower",
            "mean over shells beyond the coarse Nyquist wavenumber k_c of |E_p(k) - E_t(k)| / E_t(k)",
            "E(k)\nerror\nk>k_c",
        ),
        "nrmse_beyond_cutoff": Quantity(
            "NRMSE, k > k_c", "1", "lower", "||p - t|| / ||t|| of the parts beyond the coarse Nyquist wavenumber k_c"
        ),
    }
    curves = {
        "energy_spectrum": CurveQuantity(
            "Energy spectrum",
            "wavenumber k",
            "E(k)",
            "Pope, Turbulent Flows (2000), eq. 3.166",
            "length^-1",
            "velocity^2 length",
            "log",
            "log",
        ),
        "spectral_error_per_wavenumber": CurveQuantity(
            "Relative error of the spectrum",
            "wavenumber k",
            "|E_p - E_t| / E_t",
            "as the scalar",
            "length^-1",
            x_scale="log",
            y_scale="log",
        ),
        "field_error_per_wavenumber": CurveQuantity(
            "Energy of the error over energy",
            "wavenumber k",
            "E_{p-t} / E_t",
            "twice that of Metais & Lesieur, J. Atmos. Sci. 43, 857 (1986)",
            "length^-1",
            x_scale="log",
            y_scale="log",
        ),
    }
    totals = ("prediction_energy", "target_energy", "error_energy", "snapshots")
    axes = ("wavenumber", "complete", "cutoff")

    def _measure(self, prediction, target, grid):
        return {
            "prediction_energy": shell_energy(prediction, grid),
            "target_energy": shell_energy(target, grid),
            "error_energy": shell_energy(prediction - target, grid),
            "snapshots": torch.ones(len(target), device=target.device),
        }

    def _axes(self, grid, device):
        shells = shells_of(grid)
        cutoff = float("inf") if self.factor is None else cutoff_wavenumber(grid, self.factor)
        values = {"wavenumber": shells.wavenumber, "complete": shells.complete, "cutoff": cutoff}
        return {name: torch.as_tensor(value, dtype=torch.float64, device=device) for name, value in values.items()}

    def _finish(self, prediction_energy, target_energy, error_energy, snapshots, wavenumber, complete, cutoff):
        shown = complete.bool() & (wavenumber > 0)
        beyond = shown & (wavenumber > cutoff * (1 + TIE))
        relative = _relative_error(prediction_energy, target_energy)
        spectrum = prediction_energy / snapshots / wavenumber[1]
        coherent = _over_truth(error_energy, target_energy)
        return {
            "spectral_error": relative[shown].nanmean(),
            "spectral_error_beyond_cutoff": relative[beyond].nanmean(),
            "nrmse_beyond_cutoff": _high_pass_error(error_energy, target_energy, wavenumber, cutoff),
            "energy_spectrum": Curve(wavenumber[shown], spectrum[shown]),
            "spectral_error_per_wavenumber": Curve(wavenumber[shown], relative[shown]),
            "field_error_per_wavenumber": Curve(wavenumber[shown], coherent[shown]),
        }


def _in_complete_shells(shells: Shells, values: Tensor) -> Curve:
    shown = torch.as_tensor(shells.complete & (shells.wavenumber > 0), device=values.device)
    return Curve(torch.as_tensor(shells.wavenumber, device=values.device)[shown], values[..., shown])


def _over_truth(energy: Tensor, truth: Tensor) -> Tensor:
    """energy / truth, nan in shells where the truth is rounding only."""
    held = truth > NOISE * truth.sum(dim=-1, keepdim=True)
    return torch.where(held, energy / truth, torch.nan)


def _relative_error(prediction: Tensor, truth: Tensor) -> Tensor:
    return _over_truth((prediction - truth).abs(), truth)


def _high_pass_error(error: Tensor, truth: Tensor, wavenumber: Tensor, cutoff: float | Tensor) -> Tensor:
    beyond = wavenumber > cutoff * (1 + TIE)
    return torch.sqrt(error[..., beyond].sum(dim=-1) / truth[..., beyond].sum(dim=-1))
