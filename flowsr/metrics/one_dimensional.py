"""One-dimensional spectra along the homogeneous axes of a flow, longitudinal and transverse, also between walls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import Curve, FieldMetric, Quantity, check_on_grid, check_velocity, of_both
from flowsr.metrics.channel import wall_axis
from flowsr.metrics.spectra import TIE, over_truth, spectrum_quantity

NEAR_WALL, MIDDLE = 0.1, 1.0  # distances from the wall, in half heights

_SOURCE = "Pope, Turbulent Flows (2000), eq. 6.206"
_WALL_SOURCE = "Kim, Moin & Moser, J. Fluid Mech. 177, 133 (1987), fig. 2-3"


@dataclass(frozen=True, eq=False)
class Bins:
    """Bins of wavenumber that the homogeneous axes share, n = 1, 2, ...: from (n - 1/2) width to (n + 1/2) width.

    The width is the largest fundamental wavenumber of these axes; the last bin ends at or below the smallest Nyquist
    wavenumber. On axes of one length every bin is one mode.

    Attributes:
        width: of a bin, 1/length.
        wavenumber: (n,) centres.
    """

    width: float
    wavenumber: Tensor

    @classmethod
    def of(cls, grid: Grid, axes: tuple[int, ...]) -> Bins:
        width = max(2 * math.pi / grid.lengths[axis] for axis in axes)
        nyquist = min(math.pi / grid.spacing[axis] for axis in axes)
        count = math.floor(nyquist / width - 0.5 + TIE)
        return cls(width, width * torch.arange(1, count + 1, dtype=torch.float64))

    def mean(self, spectrum: Curve) -> Tensor:
        """The mean of a density (..., m) over the modes in every bin, (..., n): their number does not matter."""
        bin_of_mode = torch.floor(spectrum.x / self.width + 0.5 + TIE).to(torch.int64) - 1
        member = torch.arange(len(self.wavenumber), device=spectrum.y.device)[:, None] == bin_of_mode
        return spectrum.y @ (member / member.sum(1, keepdim=True)).T.to(spectrum.y)


def homogeneous_axes(grid: Grid) -> tuple[int, ...]:
    """The axes along which a flow may be taken for homogeneous: all but walls, stretched and ones of under four cells.

    ValueError where there is none.
    """
    axes = tuple(a for a in range(3) if grid.boundary[a] != "wall" and not grid.stretched[a] and grid.shape[a] > 3)
    if not axes:
        raise ValueError(f"line spectra need a homogeneous axis, got {grid.boundary}, stretched {grid.stretched}")
    return axes


def line_spectrum(field: Tensor, grid: Grid, axis: int, across: int | None = None) -> Curve:
    """One-dimensional spectrum E_cc(k) of every component along one axis; its integral from 0 is the mean square.

    On a periodic axis the sum of E dk over all wavenumbers is the mean square exactly. On an open one each line's mean
    is taken off and a Hann window put on, and the density is divided by the window's mean square: exact on average, at
    the price of a resolution of two modes. Source: Pope, Turbulent Flows (2000), eq. 6.206; the window: Press et al.,
    Numerical Recipes (2007), section 13.4.

    Args:
        field: (batch, component, x, y, z).
        grid: its grid.
        axis: 0, 1, 2 for x, y, z; equal steps.
        across: an axis over which no mean is taken, such as the wall-normal one.

    Returns:
        wavenumber (m,) from 0 on and E (batch, component, m), or (batch, component, layer, m) with ``across``; float64,
        units of the field squared times length.

    Raises:
        ValueError: a field that is not on the grid, or a stretched axis.
    """
    check_on_grid(field, grid)
    if grid.stretched[axis]:
        raise ValueError(f"a spectrum needs equal steps, {'xyz'[axis]} is stretched")
    lines = field.movedim(2 + axis, -1)
    wavenumber, density = line_densities(lines, grid.spacing[axis], grid.boundary[axis] == "periodic")
    return Curve(wavenumber, _mean_over_others(density, grid, axis, across))


def line_densities(lines: Tensor, spacing: float, periodic: bool = True) -> Curve:
    """The spectrum of every line (..., n) of cells, as :func:`line_spectrum` means it: wavenumber (m,), E (..., m)."""
    cells, lines = lines.shape[-1], lines.to(torch.float64)
    window = torch.ones(cells, dtype=torch.float64, device=lines.device)
    if not periodic:
        centres = (torch.arange(cells, dtype=torch.float64, device=lines.device) + 0.5) / cells
        window = torch.sin(math.pi * centres) ** 2
        lines = (lines - lines.mean(-1, keepdim=True)) * window
    coefficients = torch.fft.rfft(lines, norm="forward")
    power = coefficients.real.square() + coefficients.imag.square()
    power[..., 1 : (cells + 1) // 2] *= 2
    wavenumber = 2 * math.pi * torch.fft.rfftfreq(cells, spacing, dtype=torch.float64, device=lines.device)
    return Curve(wavenumber, power * cells * spacing / (2 * math.pi * window.square().mean()))


def line_spectra(velocity: Tensor, grid: Grid) -> tuple[Curve, Curve]:
    """Longitudinal and transverse spectra, means over the homogeneous axes.

    Longitudinal: component i along axis i, E_11(k_1). Transverse: the other two, E_22(k_1). In isotropic turbulence
    E_11(k_1) is the integral from k_1 on of E(k) / k (1 - k_1^2 / k^2), and E_22 = (E_11 - k_1 dE_11/dk_1) / 2. Source:
    Pope, Turbulent Flows (2000), eqs. 6.206, 6.216 and 6.218.

    Args:
        velocity: (batch, 3, x, y, z).
        grid: its grid, with at least one axis that is periodic, or open with equal steps.

    Returns:
        two curves, wavenumber (n,) and E (batch, n), float64, velocity^2 length; see :class:`Bins`.

    Raises:
        ValueError: no velocity, a field that is not on the grid, or a grid without a homogeneous axis.
    """
    axes = homogeneous_axes(grid)
    wavenumber = Bins.of(grid, axes).wavenumber.to(velocity.device)
    densities = _binned(velocity, grid, axes)
    longitudinal = torch.stack([densities[a][:, a] for a in axes]).mean(0)
    everything = torch.stack([densities[a].sum(1) for a in axes]).mean(0)
    return Curve(wavenumber, longitudinal), Curve(wavenumber, (everything - longitudinal) / 2)


class LineSpectra(FieldMetric):
    """:func:`line_spectra` of the prediction and their errors; densities are pooled before ratios are taken."""

    needs_vector = True
    scalars: ClassVar = {
        "longitudinal_spectrum_error": Quantity(
            "Longitudinal spectrum error", "1", "lower", f"mean over k of |E_p - E_t| / E_t of E_11(k_1); {_SOURCE}"
        ),
        "transverse_spectrum_error": Quantity(
            "Transverse spectrum error", "1", "lower", f"mean over k of |E_p - E_t| / E_t of E_22(k_1); {_SOURCE}"
        ),
    }
    curves: ClassVar = {
        f"{kind}_spectrum": spectrum_quantity(
            f"{kind.capitalize()} spectrum", entry, _SOURCE, "velocity^2 length", k="k_1"
        )
        for kind, entry in (("longitudinal", "E_11(k_1)"), ("transverse", "E_22(k_1)"))
    }
    axes = ("wavenumber",)

    def measure(self, prediction, target, grid):
        def density(field):
            return {"density": torch.stack([spectrum.y for spectrum in line_spectra(field, grid)], dim=1)}

        return of_both(prediction, target, density)

    def axis_values(self, grid):
        return {"wavenumber": Bins.of(grid, homogeneous_axes(grid)).wavenumber}

    def finish(self, prediction_density, target_density, snapshots, wavenumber):
        errors = _relative_error(prediction_density, target_density)
        longitudinal, transverse = prediction_density / snapshots
        return {
            "longitudinal_spectrum_error": errors[0],
            "transverse_spectrum_error": errors[1],
            "longitudinal_spectrum": Curve(wavenumber, longitudinal),
            "transverse_spectrum": Curve(wavenumber, transverse),
        }


class WallSpectra(FieldMetric):
    """Spectra of the streamwise velocity at two distances from the walls of a channel; densities are pooled.

    Along the stream E_uu(k_x) and across it E_uu(k_z), at a tenth of the half height and in the middle, means over both
    walls. Streamwise is the periodic axis along which more of the true mean flow goes. Densities at a distance are
    interpolated linearly between the layers of cells.
    """

    needs_vector = True
    needs_channel = True
    ensemble = True
    scalars: ClassVar = {
        f"wall_spectrum_error_{place}": Quantity(
            f"Spectrum error, {words}",
            "1",
            "lower",
            f"mean over k, along and across the stream, of |E_p - E_t| / E_t at y / h = {distance}; {_WALL_SOURCE}",
        )
        for place, words, distance in (("near", "near the wall", NEAR_WALL), ("middle", "in the middle", MIDDLE))
    }
    curves: ClassVar = {
        f"wall_spectrum_{axis}_{place}": spectrum_quantity(
            f"Streamwise velocity, spectrum {words}, y / h = {y}", f"E_uu({k})", _WALL_SOURCE, "velocity^2 length", k=k
        )
        for axis, words, k in (("along", "along the stream", "k_x"), ("across", "across the stream", "k_z"))
        for place, y in (("near", NEAR_WALL), ("middle", MIDDLE))
    }
    axes = ("wavenumber",)

    def measure(self, prediction, target, grid):
        axes = _along_walls(grid)
        flow = target.mean((2, 3, 4), dtype=torch.float64)
        densities = of_both(prediction, target, lambda field: {"density": _at_distances(field, grid, axes)})
        return {**densities, "flow": flow[:, list(axes)]}

    def axis_values(self, grid):
        return {"wavenumber": Bins.of(grid, _along_walls(grid)).wavenumber}

    def finish(self, prediction_density, target_density, flow, snapshots, wavenumber):
        stream = int(flow.abs().argmax())
        order = torch.tensor([stream, 1 - stream], device=flow.device)
        prediction, target = (d[stream].index_select(0, order) for d in (prediction_density, target_density))
        errors = [_relative_error(prediction[:, place], target[:, place]).mean() for place in range(2)]
        curves = prediction / snapshots
        return {
            "wall_spectrum_error_near": errors[0],
            "wall_spectrum_error_middle": errors[1],
            **{
                f"wall_spectrum_{axis}_{place}": Curve(wavenumber, curves[i, j])
                for i, axis in enumerate(("along", "across"))
                for j, place in enumerate(("near", "middle"))
            },
        }


def _along_walls(grid: Grid) -> tuple[int, ...]:
    wall = wall_axis(grid)
    return tuple(axis for axis in range(3) if axis != wall)


def _mean_over_others(density: Tensor, grid: Grid, axis: int, across: int | None) -> Tensor:
    """Mean by volume of (batch, component, other, other, m) over the other axes, all but ``across``."""
    others = [other for other in range(3) if other != axis]
    for dim, other in reversed(list(enumerate(others))):
        if other != across:
            widths = torch.as_tensor(grid.widths()[other], device=density.device)
            density = torch.tensordot(density, widths / widths.sum(), dims=([2 + dim], [0]))
    return density


def _binned(velocity: Tensor, grid: Grid, axes: tuple[int, ...], across: int | None = None) -> dict[int, Tensor]:
    """Along each axis the densities of all components in bins, (batch, 3, n) or (batch, 3, layer, n)."""
    check_velocity(velocity)
    bins = Bins.of(grid, axes)
    bins = Bins(bins.width, bins.wavenumber.to(velocity.device))
    return {axis: bins.mean(line_spectrum(velocity, grid, axis, across)) for axis in axes}


def _at_distances(velocity: Tensor, grid: Grid, axes: tuple[int, ...]) -> Tensor:
    """Densities (batch, component, axis, place, n): of the velocities along both axes, along both, at both places."""
    densities = _binned(velocity, grid, axes, across=wall_axis(grid))
    both = torch.stack([densities[axis][:, list(axes)] for axis in axes], dim=2)
    return torch.einsum("pl,bcaln->bcapn", _places(grid).to(both.device), both)


def _places(grid: Grid) -> Tensor:
    """(place, layer): weights of the layers of cells in the means over both walls at both distances."""
    wall = wall_axis(grid)
    height = grid.lengths[wall]
    position = torch.as_tensor(grid.coordinates()[wall]) - grid.origin[wall]
    weights = torch.zeros((2, len(position)), dtype=torch.float64)
    for place, distance in enumerate((NEAR_WALL, MIDDLE)):
        for at in (distance * height / 2, height - distance * height / 2):
            after = int(torch.searchsorted(position, at).clamp(1, len(position) - 1))
            share = ((at - position[after - 1]) / (position[after] - position[after - 1])).clamp(0, 1)
            weights[place, after - 1] += (1 - share) / 2
            weights[place, after] += share / 2
    return weights


def _relative_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over wavenumbers of |E_p - E_t| / E_t, where the truth holds more than rounding."""
    return over_truth((prediction - target).abs(), target).nanmean(-1)
