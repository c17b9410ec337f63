"""Structure functions: moments of velocity increments, where they scale, and with which exponents."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import (
    Curve,
    CurveQuantity,
    FieldMetric,
    Quantity,
    Scale,
    check_on_grid,
    check_velocity,
    volume_of,
    volume_sum,
)
from flowsr.metrics.one_dimensional import homogeneous_axes
from flowsr.metrics.tiles import piece_of

PLATEAU = 0.8  # share of the largest <|du|^3> / r that the scaling range holds
FITTED = 3  # separations that a slope takes at least
AXES = ("separation", "share")  # of Separations, that a metric holds

_SOURCE = "Pope, Turbulent Flows (2000), eqs. 6.23-6.28"
_THIRD_SOURCE = "-S_3 / r = 4/5 eps in an inertial range; Kolmogorov 1941; Pope, Turbulent Flows (2000), eq. 6.88"
_ESS_SOURCE = "slope over <|du_L|^3>; Benzi et al., Phys. Rev. E 48, R29 (1993); 2/3 and 4/3 without intermittency"
_RANGE_SOURCE = f"where <|du_L|^3> / r is {PLATEAU} of its largest value or more"


@dataclass(frozen=True, eq=False)
class StructureFunctions:
    """Moments of increments du = u(x + r e) - u(x), float64; L is the component along e, T one across.

    The second, third and fourth moment carry velocity^2, ^3 and ^4; the absolute third ones are of |du|.

    Attributes:
        separation: (n,) r, length.
        second_longitudinal, third_longitudinal, absolute_third_longitudinal, fourth_longitudinal: (..., n) <du_L^2>,
            <du_L^3> with its sign, <|du_L|^3>, <du_L^4>.
        second_transverse, absolute_third_transverse, fourth_transverse: (..., n) <du_T^2>, <|du_T|^3>, <du_T^4>.
    """

    separation: Tensor
    second_longitudinal: Tensor
    third_longitudinal: Tensor
    absolute_third_longitudinal: Tensor
    fourth_longitudinal: Tensor
    second_transverse: Tensor
    absolute_third_transverse: Tensor
    fourth_transverse: Tensor

    @property
    def in_scaling_range(self) -> Tensor:
        """(..., n) True where <|du_L|^3> / r is within a fifth of its largest value, around that value."""
        flux = self.absolute_third_longitudinal / self.separation
        peak = flux.argmax(-1, keepdim=True)
        low = flux < PLATEAU * flux.amax(-1, keepdim=True)
        number = torch.arange(len(self.separation), device=flux.device)
        before = torch.where(low & (number < peak), number, -1).amax(-1, keepdim=True)
        after = torch.where(low & (number > peak), number, len(number)).amin(-1, keepdim=True)
        return (number > before) & (number < after)

    def exponent(self, moment: str) -> Tensor:
        """Slope of the logarithm of a moment over that of <|du_L|^3> in the scaling range, by least squares, (...).

        Extended self-similarity: Benzi et al., Phys. Rev. E 48, R29 (1993). nan where the range is less than three
        separations.
        """
        inside = self.in_scaling_range
        x, y = torch.log(self.absolute_third_longitudinal), torch.log(getattr(self, moment))
        count = inside.sum(-1, keepdim=True)
        x, y = (torch.where(inside, v - torch.where(inside, v, 0).sum(-1, keepdim=True) / count, 0) for v in (x, y))
        return torch.where(count[..., 0] >= FITTED, (x * y).sum(-1) / (x * x).sum(-1), torch.nan)


_MOMENTS = [moment.name for moment in fields(StructureFunctions)][1:]
_SIGNED, _ABSOLUTE = _MOMENTS.index("third_longitudinal"), _MOMENTS.index("absolute_third_longitudinal")


@dataclass(frozen=True, eq=False)
class Separations:
    """The separations r at which increments are taken along every homogeneous axis.

    They are 1, 2, 3, 4, 6, 8, 12, 16, ... of the largest spacing of these axes, up to half the shortest side. Along an
    axis of another spacing the moments are interpolated between the whole numbers of cells around r, logarithm over
    logarithm: exact where they scale.

    Attributes:
        axes: the homogeneous axes.
        separation: (n,) r.
        cells: (axis, n, 2) cells below and above r.
        share: (axis, n) of the upper one in the interpolation.
    """

    axes: tuple[int, ...]
    separation: Tensor
    cells: Tensor
    share: Tensor

    @classmethod
    def of(cls, grid: Grid, largest: int | None = None) -> Separations:
        """Those of a grid, none further than ``largest`` cells."""
        axes = homogeneous_axes(grid)
        spacing = torch.tensor([grid.spacing[axis] for axis in axes], dtype=torch.float64)
        reach = min(grid.lengths[axis] for axis in axes) / 2
        reach = reach if largest is None else min(reach, largest * spacing.min().item())
        steps = _steps(math.floor(reach / spacing.max().item() * (1 + 1e-9)))
        separation = spacing.max() * torch.tensor(steps, dtype=torch.float64)
        exact = separation / spacing[:, None]
        whole = torch.where((exact - exact.round()).abs() < 1e-6, exact.round(), exact)
        below, above = whole.floor(), whole.ceil()
        share = torch.log(whole / below) / torch.log(above / below)
        return cls(axes, separation, torch.stack([below, above], dim=-1).to(torch.int64), share.nan_to_num(0))


def structure_functions(velocity: Tensor, grid: Grid, largest: int | None = None) -> StructureFunctions:
    """Moments of the velocity increments along the homogeneous axes, means over them and over the volume.

    Source: Pope, Turbulent Flows (2000), equations 6.23 to 6.28.

    Args:
        velocity: (batch, 3, x, y, z).
        grid: its grid. Pairs wrap on periodic axes and end at open edges; none are taken along walls.
        largest: separation in cells; default: half the shortest homogeneous side.

    Returns:
        moments (batch, n).

    Raises:
        ValueError: no velocity, a field that is not on the grid, or a grid without a homogeneous axis.
    """
    separations = Separations.of(grid, largest)
    sums = _increment_sums(velocity, grid, grid, (slice(None),) * 3, separations)
    return _functions(**sums, **{name: getattr(separations, name).to(velocity.device) for name in AXES})


def _against_separation(label: str, y_label: str, source: str, unit: str, y_scale: Scale = "linear") -> CurveQuantity:
    return CurveQuantity(label, "separation r", y_label, source, "length", unit, "log", y_scale)


class VelocityIncrements(FieldMetric):
    """:func:`structure_functions` of the prediction, scaling range and exponents; moments are pooled.

    Args:
        largest: separation in cells, which is the halo of tiles; default: half the shortest homogeneous side.
    """

    needs_vector = True
    scalars: ClassVar = {
        "scaling_range_start": Quantity("Scaling range from r", "length", "truth", _RANGE_SOURCE),
        "scaling_range_end": Quantity("Scaling range to r", "length", "truth", _RANGE_SOURCE),
        **{
            f"structure_exponent_{order}_{kind}": Quantity(f"Exponent of S_{order}, {kind}", "1", "truth", _ESS_SOURCE)
            for order in (2, 4)
            for kind in ("longitudinal", "transverse")
        },
    }
    curves: ClassVar = {
        **{
            f"structure_function_{order}_{kind}": _against_separation(
                f"Structure function of order {order}, {kind}", f"S_{order}(r)", _SOURCE, f"velocity^{order}", "log"
            )
            for order in (2, 4)
            for kind in ("longitudinal", "transverse")
        },
        "structure_function_3_compensated": _against_separation(
            "Third-order structure function over separation", "-S_3(r) / r", _THIRD_SOURCE, "velocity^3 length^-1"
        ),
    }
    axes = AXES

    def __init__(self, largest: int | None = None, **options):
        super().__init__(**options)
        self.largest = self.halo = largest

    def measure(self, prediction, target, grid):
        return _increment_sums(prediction, grid, grid, (slice(None),) * 3, Separations.of(grid, self.largest))

    def measure_tile(self, tile):
        around, separations = tile.around, Separations.of(tile.whole, self.largest)
        inside = tuple(cut.inside for cut in around.cuts)
        return _increment_sums(around.prediction, around.grid, tile.grid, inside, separations)

    def axis_values(self, grid):
        return {name: getattr(Separations.of(grid, self.largest), name) for name in AXES}

    def finish(self, sums, volumes, separation, share):
        functions = _functions(sums, volumes, separation, share)
        scaling = separation[functions.in_scaling_range]
        names = {2: "second", 4: "fourth"}
        result = {
            "scaling_range_start": scaling.min(),
            "scaling_range_end": scaling.max(),
            "structure_function_3_compensated": Curve(separation, -functions.third_longitudinal / separation),
        }
        for order, name in names.items():
            for kind in ("longitudinal", "transverse"):
                moment = f"{name}_{kind}"
                result[f"structure_exponent_{order}_{kind}"] = functions.exponent(moment)
                result[f"structure_function_{order}_{kind}"] = Curve(separation, getattr(functions, moment))
        return result


def _steps(largest: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, ... up to ``largest``."""
    powers = range(max(largest, 1).bit_length())
    return sorted({n for p in powers for n in (2**p, 3 * 2**p) if n <= largest})


def _increment_sums(
    velocity: Tensor, grid: Grid, own: Grid, inside: tuple[slice, slice, slice], separations: Separations
) -> dict[str, Tensor]:
    """``sums`` of the powers of increments that start inside, (batch, axis, n, 2, moment), and ``volumes``, (..., 2).

    Args:
        velocity: (batch, 3, x, y, z) on ``grid``.
        own: the grid of the cells ``inside``.
    """
    check_on_grid(velocity, grid)
    check_velocity(velocity)
    sums, volumes = [], []
    for axis, cells in zip(separations.axes, separations.cells):
        taken = {shift: _pairs(velocity, grid, own, inside, axis, shift) for shift in set(cells.flatten().tolist())}
        sums.append(torch.stack([torch.stack([taken[c][0] for c in pair], 1) for pair in cells.tolist()], 1))
        volumes.append(torch.stack([torch.stack([taken[c][1] for c in pair], 1) for pair in cells.tolist()], 1))
    return {"sums": torch.stack(sums, 1), "volumes": torch.stack(volumes, 1)}


def _pairs(
    velocity: Tensor, grid: Grid, own: Grid, inside: tuple[slice, slice, slice], axis: int, shift: int
) -> tuple[Tensor, Tensor]:
    """Integrals over the pairs ``shift`` cells apart that start inside: (batch, moment) and the volume, (batch,)."""
    cells = list(inside)
    if grid.boundary[axis] != "periodic":
        first, stop, _ = inside[axis].indices(grid.shape[axis])
        stop = min(stop, grid.shape[axis] - shift)
        if stop <= first:
            zeros = velocity.new_zeros((len(velocity), len(_MOMENTS)), dtype=torch.float64)
            return zeros, zeros[:, 0]
        cells[axis] = slice(first, stop)
        shape = tuple(stop - first if a == axis else n for a, n in enumerate(own.shape))
        own = piece_of(own, (0, 0, 0), shape)
    increment = (torch.roll(velocity, -shift, dims=2 + axis) - velocity)[(..., *cells)]
    longitudinal = increment[:, axis]
    transverse = torch.stack([increment[:, other] for other in range(3) if other != axis], dim=1)
    square, square_across = longitudinal**2, transverse**2
    along = square, square * longitudinal, square * longitudinal.abs(), square**2
    across = square_across, square_across * transverse.abs(), square_across**2  # of two components: half of their sum
    integrals = *(volume_sum(v, own) for v in along), *(volume_sum(v, own) / 2 for v in across)
    return torch.stack(integrals, dim=1), volume_of(increment, own)


def _functions(sums: Tensor, volumes: Tensor, separation: Tensor, share: Tensor) -> StructureFunctions:
    """Moments from integrals (..., axis, n, 2, moment): interpolated to r, then the mean over the axes."""
    moments = sums / volumes[..., None]
    below, above = moments.unbind(-2)
    share = share[..., None]
    sizes = torch.where(share > 0, below ** (1 - share) * above**share, below)
    skews = torch.lerp(*(side[..., _SIGNED] / side[..., _ABSOLUTE] for side in (below, above)), share[..., 0])
    sizes[..., _SIGNED] = torch.where(sizes[..., _ABSOLUTE] > 0, skews * sizes[..., _ABSOLUTE], 0)
    return StructureFunctions(separation, *sizes.mean(-3).unbind(-1))
