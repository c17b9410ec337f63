"""Energy spectra in three dimensions on any periodic box: their shells and errors, inertial and dissipation range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import Curve, CurveQuantity, FieldMetric, Quantity, Scale, check_same_grid

# Energy below this share of the total is the rounding of single-precision storage, not flow: outside a simulation's
# de-aliasing sphere there is nothing to be relative to.
NOISE = torch.finfo(torch.float32).eps ** 2
TIE = 1e-9  # modes on the edge of two shells go to the outer one, whatever order |k| was summed in

_DISSIPATION_SOURCE = "D(k) / nu = 2 k^2 E(k); Pope, Turbulent Flows (2000), eq. 6.191"
_DISSIPATION_BEYOND = f"sum of k^2 E(k) beyond the coarse Nyquist wavenumber, predicted / true; {_DISSIPATION_SOURCE}"
_ERROR_SOURCE = "mean over shells beyond the coarse Nyquist wavenumber k_c of |E_p(k) - E_t(k)| / E_t(k)"
_PREDICTABILITY_SOURCE = "twice that of Metais & Lesieur, J. Atmos. Sci. 43, 857 (1986)"
_COMPENSATED_SOURCE = "Pope, Turbulent Flows (2000), eq. 6.239; Sreenivasan, Phys. Fluids 7, 2778 (1995): near 1.6"


@dataclass(frozen=True, eq=False)
class Shells:
    """Shells n = 0, 1, 2, ... of one width: shell n holds the modes with (n - 1/2) width <= |k| < (n + 1/2) width.

    Attributes:
        shape, spacing: of the grid.
        corner: (x // 2 + 1, y // 2 + 1, z // 2 + 1) shell of the modes of no negative wavenumber.
        width: the largest of the three fundamental wavenumbers 2 pi / L: the thinnest shell that no direction leaves
            empty.
        wavenumber: (n,) nominal wavenumber of each shell, n times the width.
        squared: (x, y, z // 2 + 1) |k|^2 of every mode of a real-input transform over z.
        index: (x, y, z // 2 + 1) shell of every mode of it.
        multiplicity: (z // 2 + 1,) modes that each of those stands for: 2 where the conjugate is not stored.
        modes: (n,) modes in each shell.
        expected: (n,) modes a shell of its volume would hold on average, volume times L_x L_y L_z / (2 pi)^3.
        complete: (n,) True where the whole shell lies inside the Nyquist wavenumber of every axis.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    corner: np.ndarray
    width: float
    wavenumber: np.ndarray
    multiplicity: np.ndarray
    modes: np.ndarray
    expected: np.ndarray
    complete: np.ndarray

    @cached_property
    def squared(self) -> np.ndarray:
        return half_spectrum(self.shape, self.spacing)[0]

    @cached_property
    def index(self) -> np.ndarray:
        x, y = (np.minimum(np.arange(n), n - np.arange(n)) for n in self.shape[:2])
        return self.corner[x][:, y]

    def smooth(self, sums: Tensor) -> Tensor:
        """Sums (..., n) times the modes expected over those there are: rid of the raggedness of their number.

        On a box of unequal sides the thin directions hold few modes of a shell and the count scatters more. Shell 0,
        which is one mode, the mean, stays as it is.
        """
        return sums * torch.as_tensor(np.append(1.0, self.expected[1:] / self.modes[1:]), device=sums.device)

    def curve(self, values: Tensor) -> Curve:
        """Values (..., n) against the wavenumber."""
        return Curve(torch.as_tensor(self.wavenumber, device=values.device), values)


def shells_of(grid: Grid) -> Shells:
    """The shells of a box with unequal sides and spacings alike.

    Raises:
        ValueError: a box that is not periodic along all three axes.
    """
    if not grid.periodic:
        raise ValueError(f"wavenumber shells need three periodic axes, got {grid.boundary}")
    return _shells(grid.shape, grid.spacing)


def half_spectrum(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], y: slice = slice(None)
) -> tuple[np.ndarray, np.ndarray]:
    """The modes of a real-input transform over z, of a box with any sides and spacings; of some along y.

    Returns:
        |k|^2 of each, (x, y, z // 2 + 1), 1/length^2; how many each stands for, (z // 2 + 1,): 2 where the conjugate is
        not stored.
    """
    kx, ky = (2 * math.pi * np.fft.fftfreq(n, d) for n, d in zip(shape[:2], spacing[:2]))
    kz = 2 * math.pi * np.fft.rfftfreq(shape[2], spacing[2])
    return kx[:, None, None] ** 2 + ky[None, y, None] ** 2 + kz**2, _signs(shape[2])


def cutoff_wavenumber(grid: Grid, factor: int) -> float:
    """Radius of the largest sphere of wavenumbers that a grid ``factor`` times as coarse as ``grid`` resolves.

    The smallest of the three coarse Nyquist wavenumbers pi / (factor spacing).
    """
    return math.pi / (factor * max(grid.spacing))


def shell_sums(field: Tensor, grid: Grid, other: Tensor | None = None, power: int = 0) -> Tensor:
    """Sum over the modes of each shell of |k|^power Re(u^ . v^*): every sum of energy over wavenumbers is this one.

    Every mode counts with its own |k|, not with that of its shell, and for its conjugate where that is not stored. The
    scalar product over components makes it independent of the axes; opposite modes are conjugate, so that the imaginary
    parts of a shell add up to 0. It has a derivative.

    Args:
        field: u, (batch, component, x, y, z), with Fourier coefficients u^ such that u = sum u^ exp(ikx).
        grid: a box with three periodic axes; sides and spacings may differ.
        other: v, of the same shape; default: u.
        power: of the wavenumber: 2 for the dissipation, 1 for the most that the helicity can be.

    Returns:
        (batch, n), float64. Over all shells it is <u.v> for power 0 (Parseval).

    Raises:
        ValueError: a field that is not on the grid, two of unlike shapes, or an axis that is not periodic.
    """
    check_same_grid(field if other is None else other, field, grid)
    shells = shells_of(grid)
    u = torch.fft.rfftn(field, dim=(2, 3, 4), norm="forward")
    v = u if other is None else torch.fft.rfftn(other, dim=(2, 3, 4), norm="forward")
    modes = (u.real * v.real + u.imag * v.imag).sum(dim=1, dtype=torch.float64)
    if power:
        modes = modes * torch.as_tensor(np.sqrt(shells.squared) ** power, device=modes.device)
    modes = modes * torch.as_tensor(shells.multiplicity, device=modes.device)
    count = len(shells.modes)
    index = torch.as_tensor(shells.index, device=modes.device).flatten()
    places = (index + count * torch.arange(len(modes), device=modes.device)[:, None]).flatten()
    return modes.new_zeros(len(modes) * count).index_add(0, places, modes.flatten()).unflatten(0, (-1, count))


def shell_energy(field: Tensor, grid: Grid, other: Tensor | None = None) -> Tensor:
    """Energy of each shell, (batch, n), float64: the kinetic energy <u.u> / 2 split by wavenumber.

    With another field the co-spectrum of both, Re u^.v^* / 2. Arguments and errors as in :func:`shell_sums`.
    """
    return shell_sums(field, grid, other) / 2


def energy_spectrum(field: Tensor, grid: Grid, estimator: Literal["sum", "volume"] = "sum") -> Curve:
    """Three-dimensional energy spectrum E(k) of a velocity, half the variance spectrum of any other field.

    With u^(k) the Fourier coefficients (u = sum u^ exp(ikx)), a shell of width dk = the largest fundamental wavenumber
    gets

    - ``sum``: E = sum over its modes of |u^|^2 / 2, over dk. Sum of E dk over all shells is the kinetic energy per unit
      mass <u.u> / 2 exactly (Parseval). Low shells are ragged, because few modes fall in them.
    - ``volume``: the mean of |u^|^2 / 2 over the modes times the number of modes that the shell's volume holds on
      average. Smooth for an isotropic field, on any box, also in the corners beyond the Nyquist sphere where only part
      of a shell is resolved; the estimate to hold against a theoretical E(k). Shell 0 (the mean) stays a sum.

    Source: Pope, Turbulent Flows (2000), eq. 3.166; shell volumes: Stepanov et al., Phys. Rev. E 90, 053309 (2014).

    Field, grid and errors as in :func:`shell_sums`.

    Returns:
        wavenumber (n,) and E (batch, n), float64, velocity^2 length.
    """
    shells = shells_of(grid)
    energy = shell_energy(field, grid) / shells.width
    return shells.curve(shells.smooth(energy) if estimator == "volume" else energy)


def dissipation_spectrum(velocity: Tensor, grid: Grid, viscosity: float = 1.0) -> Curve:
    """D(k) = 2 nu k^2 E(k), whose integral is the dissipation. Source: Pope, Turbulent Flows (2000), eq. 6.191.

    Args:
        velocity: (batch, 3, x, y, z), incompressible, on a periodic box.
        viscosity: nu.

    Returns:
        wavenumber (n,) and D (batch, n), float64, velocity^3 (the sum of D dk over all shells is the dissipation).
    """
    shells = shells_of(grid)
    return shells.curve(viscosity * shell_sums(velocity, grid, power=2) / shells.width)


def compensated_spectrum(velocity: Tensor, grid: Grid, dissipation: Tensor | float = 1.0) -> Curve:
    """eps^(-2/3) k^(5/3) E(k): the Kolmogorov constant, near 1.6, where there is an inertial range.

    E(k) is the estimate that is compensated for the number of modes in every shell, ``volume`` of
    :func:`~flowsr.metrics.energy_spectrum`. Source: Pope, Turbulent Flows (2000), eq. 6.239.

    Args:
        velocity: (batch, 3, x, y, z), on a periodic box.
        dissipation: eps, one or (batch,), velocity^3 / length; 1 leaves k^(5/3) E(k), velocity^2 length^(-2/3).

    Returns:
        wavenumber (n,) and values (batch, n), float64, no unit.
    """
    shells = shells_of(grid)
    wavenumber, energy = shells.curve(shell_energy(velocity, grid))
    eps = torch.as_tensor(dissipation, dtype=energy.dtype, device=energy.device).reshape(-1, 1)
    return Curve(wavenumber, eps ** (-2 / 3) * wavenumber ** (5 / 3) * shells.smooth(energy) / shells.width)


def spectral_error_per_wavenumber(prediction: Tensor, target: Tensor, grid: Grid) -> Curve:
    """Relative error of the energy spectrum, |E_p - E_t| / E_t, in shells 1 to the last complete one.

    Blind to phases: a field with the right energy in the wrong places scores 0. See :func:`field_error_per_wavenumber`.

    Args:
        prediction, target: (batch, component, x, y, z).
        grid: a periodic box.

    Returns:
        wavenumber (n,) and error (batch, n); nan where the truth holds no more than rounding (``NOISE`` of its energy).

    Raises:
        ValueError: shapes that differ, or an axis that is not periodic.
    """
    return Spectrum().each(prediction, target, grid)["spectral_error_per_wavenumber"]


def spectral_error(prediction: Tensor, target: Tensor, grid: Grid, beyond: float = 0.0) -> Tensor:
    """Mean of :func:`spectral_error_per_wavenumber` over the shells centred beyond a wavenumber, (batch,).

    nan where no shell is left.
    """
    wavenumber, error = spectral_error_per_wavenumber(prediction, target, grid)
    return error[:, beyond_cutoff(wavenumber, beyond)].nanmean(dim=-1)


def field_error_per_wavenumber(prediction: Tensor, target: Tensor, grid: Grid) -> Curve:
    """Energy of the error over the energy of the truth, E_{p-t} / E_t, in shells 1 to the last complete one.

    0 where the field is right, 1 where nothing is predicted, 2 where a field of the right energy has nothing to do with
    the truth: twice the relative error spectrum of Metais & Lesieur, J. Atmos. Sci. 43, 857 (1986), which is 1 there.

    Arguments, result and errors as in :func:`spectral_error_per_wavenumber`.
    """
    return Spectrum().each(prediction, target, grid)["field_error_per_wavenumber"]


def nrmse_beyond(prediction: Tensor, target: Tensor, grid: Grid, wavenumber: float) -> Tensor:
    """NRMSE of the fields' parts beyond a wavenumber, of the small scales alone, (batch,).

    1 for whatever predicts nothing there, above 1 where what it predicts does more harm than good. (The coarse grid
    holds modes beyond its smallest Nyquist wavenumber, in the corners of its cube of wavenumbers: interpolation is near
    1 and not 1.)
    """
    check_same_grid(prediction, target, grid)
    k, error = shells_of(grid).curve(shell_energy(prediction - target, grid))
    return _high_pass_error(error, shell_energy(target, grid), beyond_cutoff(k, wavenumber))


def over_truth(energy: Tensor, truth: Tensor) -> Tensor:
    """energy / truth (..., n), nan in shells where the truth is rounding only: no more than ``NOISE`` of its energy."""
    held = truth > NOISE * truth.sum(dim=-1, keepdim=True)
    return torch.where(held, energy / truth, torch.nan)


def spectrum_quantity(
    label: str, y_label: str, source: str, y_unit: str = "1", y_scale: Scale = "log", k: str = "k"
) -> CurveQuantity:
    """What a function of the wavenumber means."""
    return CurveQuantity(label, f"wavenumber {k}", y_label, source, "length^-1", y_unit, "log", y_scale)


class ShellMetric(FieldMetric):
    """What metrics of wavenumber shells share: the shells, and where the coarse grid's resolution ends.

    Args:
        factor: refinement from coarse to fine; it sets the cut-off, the smallest coarse Nyquist wavenumber.
            Without it there is nothing beyond the cut-off and what is asked of it is nan.
    """

    needs_periodic = True
    axes = ("wavenumber", "complete", "cutoff")

    def axis_values(self, grid: Grid):
        cutoff = math.inf if self.factor is None else cutoff_wavenumber(grid, self.factor)
        return {**shell_axes(grid), "cutoff": cutoff}


def shell_axes(grid: Grid) -> dict[str, np.ndarray]:
    """What a metric of shells holds of a periodic box: the ``wavenumber`` of each, and whether it is ``complete``."""
    shells = shells_of(grid)
    return {"wavenumber": shells.wavenumber, "complete": shells.complete}


def shown_shells(wavenumber: Tensor, complete: Tensor) -> Tensor:
    """(n,) True for the shells that a curve shows: from 1 to the last complete one."""
    return complete.bool() & (wavenumber > 0)


def beyond_cutoff(wavenumber: Tensor, cutoff: Tensor | float) -> Tensor:
    """(n,) True for the shells centred beyond a wavenumber."""
    return wavenumber > cutoff * (1 + TIE)


class Spectrum(ShellMetric):
    """The energy spectrum of the prediction and its errors; energies are pooled before ratios are taken."""

    standard = True
    scalars: ClassVar = {
        "spectral_error": Quantity("Spectral error", "1", "lower", "mean over shells of |E_p(k) - E_t(k)| / E_t(k)"),
        "spectral_error_beyond_cutoff": Quantity(
            "Spectral error, k > k_c", "1", "lower", _ERROR_SOURCE, "E(k)\nerror\nk>k_c"
        ),
        "nrmse_beyond_cutoff": Quantity(
            "NRMSE, k > k_c", "1", "lower", "||p - t|| / ||t|| of the parts beyond the coarse Nyquist wavenumber k_c"
        ),
    }
    curves: ClassVar = {
        "energy_spectrum": spectrum_quantity(
            "Energy spectrum", "E(k)", "Pope, Turbulent Flows (2000), eq. 3.166", "velocity^2 length"
        ),
        "spectral_error_per_wavenumber": spectrum_quantity(
            "Relative error of the spectrum", "|E_p - E_t| / E_t", "as the scalar"
        ),
        "field_error_per_wavenumber": spectrum_quantity(
            "Energy of the error over energy", "E_{p-t} / E_t", _PREDICTABILITY_SOURCE
        ),
    }

    def measure(self, prediction, target, grid):
        return {
            "prediction_energy": shell_energy(prediction, grid),
            "target_energy": shell_energy(target, grid),
            "error_energy": shell_energy(prediction - target, grid),
        }

    def finish(self, prediction_energy, target_energy, error_energy, snapshots, wavenumber, complete, cutoff):
        shown, beyond = shown_shells(wavenumber, complete), beyond_cutoff(wavenumber, cutoff)
        relative = over_truth((prediction_energy - target_energy).abs(), target_energy)
        spectrum = prediction_energy / snapshots / wavenumber[1]
        coherent = over_truth(error_energy, target_energy)
        return {
            "spectral_error": relative[shown].nanmean(),
            "spectral_error_beyond_cutoff": relative[shown & beyond].nanmean(),
            "nrmse_beyond_cutoff": _high_pass_error(error_energy, target_energy, beyond),
            "energy_spectrum": Curve(wavenumber[shown], spectrum[shown]),
            "spectral_error_per_wavenumber": Curve(wavenumber[shown], relative[shown]),
            "field_error_per_wavenumber": Curve(wavenumber[shown], coherent[shown]),
        }


class SpectralRanges(ShellMetric):
    """:func:`compensated_spectrum` and :func:`dissipation_spectrum` of the prediction; energies are pooled.

    The dissipation in units of which the spectrum is compensated is that of the truth, so that models can be held
    against each other and the truth; it needs the viscosity, and the curve is nan without.
    """

    needs_vector = True
    scalars: ClassVar = {
        "dissipation_captured_beyond_cutoff": Quantity(
            "Dissipation captured, k > k_c", "1", "truth", _DISSIPATION_BEYOND
        ),
        "dissipation_peak": Quantity(
            "Wavenumber of peak dissipation", "length^-1", "truth", f"argmax of 2 k^2 E(k); {_DISSIPATION_SOURCE}"
        ),
    }
    curves: ClassVar = {
        "compensated_spectrum": spectrum_quantity(
            "Compensated spectrum", "k^5/3 E(k)", _COMPENSATED_SOURCE, "velocity^2 length^-2/3"
        ),
        "kolmogorov_spectrum": spectrum_quantity(
            "Spectrum in Kolmogorov units", "eps^-2/3 k^5/3 E(k), eps of the truth", _COMPENSATED_SOURCE
        ),
        "dissipation_spectrum": spectrum_quantity(
            "Dissipation spectrum over viscosity", "D(k) / nu", _DISSIPATION_SOURCE, "velocity^2 length^-1", "linear"
        ),
    }

    def measure(self, prediction, target, grid):
        return {
            "energy": shells_of(grid).smooth(shell_energy(prediction, grid)),
            "prediction_dissipation": shell_sums(prediction, grid, power=2),
            "target_dissipation": shell_sums(target, grid, power=2),
        }

    def finish(self, energy, prediction_dissipation, target_dissipation, snapshots, wavenumber, complete, cutoff):
        shown, beyond = shown_shells(wavenumber, complete), beyond_cutoff(wavenumber, cutoff)
        k, width = wavenumber[shown], wavenumber[1]
        compensated = k ** (5 / 3) * energy[shown] / snapshots / width
        viscosity = float("nan") if self.viscosity is None else self.viscosity
        true_dissipation = viscosity * target_dissipation.sum() / snapshots
        density = prediction_dissipation[shown] / snapshots / width
        captured = prediction_dissipation[beyond].sum() / target_dissipation[beyond].sum()
        return {
            "dissipation_captured_beyond_cutoff": captured,
            "dissipation_peak": k[density.argmax()],
            "compensated_spectrum": Curve(k, compensated),
            "kolmogorov_spectrum": Curve(k, true_dissipation ** (-2 / 3) * compensated),
            "dissipation_spectrum": Curve(k, density),
        }


def _high_pass_error(error: Tensor, truth: Tensor, beyond: Tensor) -> Tensor:
    return torch.sqrt(error[..., beyond].sum(dim=-1) / truth[..., beyond].sum(dim=-1))


def _signs(cells: int) -> np.ndarray:
    """(n // 2 + 1,) how many signs each wavenumber has that is not negative: two but for 0 and the highest."""
    signs = np.ones(cells // 2 + 1)
    signs[1 : (cells + 1) // 2] = 2.0
    return signs


@lru_cache(maxsize=8)
def _shells(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> Shells:
    width = max(2 * math.pi / (n * d) for n, d in zip(shape, spacing))
    kx, ky, kz = (2 * math.pi * np.fft.rfftfreq(n, d) for n, d in zip(shape, spacing))
    squared = kx[:, None, None] ** 2 + ky[:, None] ** 2 + kz**2
    corner = np.floor(np.sqrt(squared) / width + 0.5 + TIE).astype(np.int64)
    x, y, multiplicity = map(_signs, shape)
    modes = np.bincount(corner.ravel(), (x[:, None, None] * y[:, None] * multiplicity).ravel())
    number = np.arange(len(modes))
    inner, outer = np.maximum(number - 0.5, 0) * width, (number + 0.5) * width
    density = math.prod(n * d for n, d in zip(shape, spacing)) / (2 * math.pi) ** 3
    expected = 4 / 3 * math.pi * (outer**3 - inner**3) * density
    complete = outer <= math.pi / max(spacing) * (1 + TIE)
    return Shells(shape, spacing, corner, width, number * width, multiplicity, modes, expected, complete)
