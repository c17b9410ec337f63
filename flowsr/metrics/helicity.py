"""Helicity: how far the flow is a left-handed or a right-handed screw.

A pseudo-scalar, ``0o``: mirrors change its sign.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import Curve, FieldMetric, Quantity, volume_sum
from flowsr.metrics.derivatives import DERIVATIVE_HALO
from flowsr.metrics.gradients import vorticity
from flowsr.metrics.spectra import NOISE, ShellMetric, shell_sums, shells_of, shown_shells, spectrum_quantity

_SOURCE = "Moffatt & Tsinober, Annu. Rev. Fluid Mech. 24, 281 (1992)"
_SPECTRUM_SOURCE = "Chen, Chen & Eyink, Phys. Fluids 15, 361 (2003)"


def helicity(velocity: Tensor, grid: Grid) -> Tensor:
    """Mean helicity density <u.w>, w the vorticity. Source: Moffatt & Tsinober, Annu. Rev. Fluid Mech. 24, 281 (1992).

    Args:
        velocity: (batch, 3, x, y, z).
        grid: the field's grid.

    Returns:
        (batch,), float64, velocity^2 / length; changes sign under reflections and the inversion.
    """
    return Helicity().each(velocity, velocity, grid)["helicity"]


def relative_helicity(velocity: Tensor, grid: Grid) -> Tensor:
    """<u.w> / sqrt(<u.u> <w.w>): 1 for a right-handed Beltrami flow, -1 for a left-handed one.

    0 for a flow that is its own mirror image. Arguments and source as in :func:`helicity`; (batch,), no unit.
    """
    return Helicity().each(velocity, velocity, grid)["relative_helicity"]


def helicity_spectrum(velocity: Tensor, grid: Grid) -> Curve:
    """H(k): the sum over a shell's modes of Re(u^* . w^), over the shell's width. |Re(u^* . w^)| <= |k| |u^|^2.

    The sum of H dk over all shells is <u.w>. Source: Chen, Chen & Eyink, Phys. Fluids 15, 361 (2003).

    Arguments and errors as in :func:`~flowsr.metrics.energy_spectrum`; wavenumber (n,) and H (batch, n), float64,
    velocity^2, which changes sign under reflections and the inversion.
    """
    shells = shells_of(grid)
    return shells.curve(shell_sums(velocity, grid, vorticity(velocity, grid)) / shells.width)


class Helicity(FieldMetric):
    """:func:`helicity` and :func:`relative_helicity` of the prediction, pooled over snapshots.

    Pseudo-scalars: turned by an improper element, the same flow has the opposite sign.
    """

    halo = DERIVATIVE_HALO
    needs_vector = True
    invariant = False
    scalars: ClassVar = {
        "helicity": Quantity("Helicity", "velocity^2 length^-1", "truth", f"<u.w>; {_SOURCE}"),
        "relative_helicity": Quantity("Relative helicity", "1", "truth", f"<u.w> / sqrt(<u.u> <w.w>); {_SOURCE}"),
    }

    def measure(self, prediction, target, grid):
        curl = vorticity(prediction, grid)
        products = {"helicity_integral": prediction * curl, "velocity_power": prediction**2, "vorticity_power": curl**2}
        return {name: volume_sum(values, grid) for name, values in products.items()}

    def finish(self, helicity_integral, velocity_power, vorticity_power, volume):
        relative = helicity_integral / torch.sqrt(velocity_power * vorticity_power)
        return {"helicity": helicity_integral / volume, "relative_helicity": relative}


class HelicitySpectrum(ShellMetric):
    """:func:`helicity_spectrum` of the prediction and its share of the most that the energy allows, H / (2 k E).

    2 k E is the sum of |k| |u^|^2 over a shell's modes, each with its own |k|: the share is -1 to 1, and 1 for a
    right-handed Beltrami flow, in every shell. Pooled over snapshots; shells 1 to the last complete one.
    Pseudo-scalars, as the helicity is.
    """

    needs_vector = True
    invariant = False
    curves: ClassVar = {
        "helicity_spectrum": spectrum_quantity("Helicity spectrum", "H(k)", _SPECTRUM_SOURCE, "velocity^2", "linear"),
        "relative_helicity_per_wavenumber": spectrum_quantity(
            "Relative helicity per wavenumber", "H / (2 k E)", _SPECTRUM_SOURCE, y_scale="linear"
        ),
    }

    def measure(self, prediction, target, grid):
        return {
            "shell_helicity": shell_sums(prediction, grid, vorticity(prediction, grid)),
            "shell_bound": shell_sums(prediction, grid, power=1),
        }

    def finish(self, shell_helicity, shell_bound, snapshots, wavenumber, complete):
        shown = shown_shells(wavenumber, complete)
        k, helicity, bound = wavenumber[shown], shell_helicity[shown], shell_bound[shown]
        relative = torch.where(bound > NOISE * shell_bound.sum(), helicity / bound, torch.nan)
        return {
            "helicity_spectrum": Curve(k, helicity / snapshots / wavenumber[1]),
            "relative_helicity_per_wavenumber": Curve(k, relative),
        }
