"""Up to which wavenumber a prediction is right: coherence with the truth, shell by shell."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import Curve, Quantity
from flowsr.metrics.spectra import NOISE, ShellMetric, beyond_cutoff, shell_energy, shown_shells, spectrum_quantity

LEAST_COHERENCE = 0.9
LARGEST_ERROR = 0.2

_SOURCE = "Re <p^.t^*> / sqrt(<|p^|^2> <|t^|^2>) over a shell; Bendat & Piersol, Random Data (2010), eq. 5.91"


def coherence_per_wavenumber(prediction: Tensor, target: Tensor, grid: Grid) -> Curve:
    """Correlation coefficient of the parts of both fields in a shell, in shells 1 to the last complete one.

    1 where phases and directions are right, and amplitudes up to one factor a shell; 0 where they have nothing to do
    with the truth. Source: the real part of the coherency, Bendat & Piersol, Random Data (2010), eq. 5.91.

    Arguments and errors as in :func:`~flowsr.metrics.spectral_error_per_wavenumber`.

    Returns:
        wavenumber (n,) and coherence (batch, n), no unit; nan in shells where either field holds no more than rounding.
    """
    return Coherence().each(prediction, target, grid)["coherence"]


def good_up_to(wavenumber: Tensor, good: Tensor) -> Tensor:
    """The largest of increasing wavenumbers (n,) up to which all is ``good`` (..., n): (...), 0 where nothing is."""
    steps = torch.cumprod(good.to(torch.int64), dim=-1).sum(-1)
    return torch.cat([torch.zeros_like(wavenumber[:1]), wavenumber])[steps]


class Coherence(ShellMetric):
    """:func:`coherence_per_wavenumber`, and the wavenumbers up to which a model is good; energies are pooled.

    A model is good up to the last complete shell before the first in which it is out of bounds; a shell in which the
    truth holds rounding only ends the range.

    Args:
        least_coherence: bound of one wavenumber.
        largest_error: bound of the other, on the energy of the error over the energy of the truth.
    """

    scalars: ClassVar = {
        "good_up_to_coherence": Quantity(
            "Coherent up to k", "length^-1", "higher", f"coherence >= {LEAST_COHERENCE} up to there; {_SOURCE}"
        ),
        "good_up_to_error": Quantity(
            "Right up to k", "length^-1", "higher", f"E_{{p-t}} / E_t <= {LARGEST_ERROR} up to there"
        ),
        "good_up_to_coherence_over_cutoff": Quantity(
            "Coherent up to k / k_c", "1", "higher", "the same over the coarse Nyquist wavenumber k_c"
        ),
        "coherence_beyond_cutoff": Quantity(
            "Coherence, k > k_c", "1", "higher", f"of all shells beyond the coarse Nyquist wavenumber k_c; {_SOURCE}"
        ),
    }
    curves: ClassVar = {
        "coherence": spectrum_quantity("Coherence with the truth", "coherence", _SOURCE, y_scale="linear")
    }

    def __init__(self, least_coherence: float = LEAST_COHERENCE, largest_error: float = LARGEST_ERROR, **options):
        super().__init__(**options)
        self.least_coherence, self.largest_error = least_coherence, largest_error

    def measure(self, prediction, target, grid):
        return {
            "cross_energy": shell_energy(prediction, grid, target),
            "prediction_energy": shell_energy(prediction, grid),
            "target_energy": shell_energy(target, grid),
        }

    def finish(self, cross_energy, prediction_energy, target_energy, wavenumber, complete, cutoff):
        shown, beyond = shown_shells(wavenumber, complete), beyond_cutoff(wavenumber, cutoff)
        energies = cross_energy, prediction_energy, target_energy
        predicted, held = (e > NOISE * e.sum() for e in (prediction_energy, target_energy))
        coherence = torch.where(held & predicted, _coherence(*energies), torch.nan)
        error = (prediction_energy - 2 * cross_energy + target_energy) / target_energy
        coherent = good_up_to(wavenumber[shown], (held & (coherence >= self.least_coherence))[shown])
        return {
            "good_up_to_coherence": coherent,
            "good_up_to_error": good_up_to(wavenumber[shown], (held & (error <= self.largest_error))[shown]),
            "good_up_to_coherence_over_cutoff": coherent / cutoff if torch.isfinite(cutoff) else torch.nan * coherent,
            "coherence_beyond_cutoff": _coherence(*(energy[beyond].sum() for energy in energies)),
            "coherence": Curve(wavenumber[shown], coherence[shown]),
        }


def _coherence(cross: Tensor, prediction: Tensor, target: Tensor) -> Tensor:
    return cross / torch.sqrt(prediction * target)
