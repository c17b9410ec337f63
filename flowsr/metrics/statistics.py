"""Statistics of one field, block by block: sums that add up, so that a field of any size is measured in one pass.

A block is what :class:`flowsr.metrics.tiles.Cut` describes along each axis: cells, with a halo of :data:`HALO` where
the gradient is wanted, or without one, when its edges are left for later. :func:`block_totals` takes its sums; those of
all blocks, added in any order, are the whole field's to round-off, and :func:`moments_of` and :func:`gradient_density`
make results of them. The gradient is that inside :func:`flowsr.metrics.finite_differences` along every axis, so that
nothing depends on how the field is cut. NaN and infinite cells are left out and counted; a gradient whose neighbours
are missing is left out too.

Line spectra need whole lines, which blocks cut. :class:`Lattice` keeps evenly spaced lines along an axis, as many as
are to be had for a number of values: all of a small field, which is then exact, a sample of a large one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch

from flowsr.grid import Grid
from flowsr.metrics.base import Curve, Quantity
from flowsr.metrics.derivatives import DERIVATIVE_HALO as HALO
from flowsr.metrics.derivatives import difference_rows
from flowsr.metrics.fields import AbsoluteError, Correlation, NormalizedError, VarianceScaledError
from flowsr.metrics.gradients import DerivativeMoments, Divergence
from flowsr.metrics.one_dimensional import line_densities
from flowsr.metrics.tiles import Cut

Cuts = tuple[Cut, Cut, Cut]
Part = Literal["all", "inside", "gradient"]
Divisions = tuple[Sequence[int], ...]
Place = tuple[int, int, int]
FacesOf = Callable[[Place], Mapping[str, np.ndarray]]

_SIDE = 32  # cells along a side of what is differentiated at once: it stays in the processor's cache
_BIN_BITS = 13  # of a single-precision number: its sign, its exponent, four bits of its mantissa
_BINS = 1 << _BIN_BITS
_PEAKS = ("largest_error",)
# Entries of the gradient, the longitudinal ones first.
_ENTRIES = tuple(sorted(product(range(3), range(3)), key=lambda entry: entry[0] != entry[1]))
_MIRRORED = [_ENTRIES.index((j, i)) for i, j in _ENTRIES]
_ROWS = [3 * j + i for i, j in _ENTRIES]  # where they stand while sums are taken: by axis, then by component
_PIECE = 1024  # cells whose products are added in the field's own precision

_POPE = "Pope, Turbulent Flows (2000)"
MOMENTS: dict[str, Quantity] = {
    "energy": Quantity("Kinetic energy", "velocity^2", None, f"<u.u> / 2; {_POPE}, eq. 3.166"),
    "dissipation": Quantity("Dissipation", "velocity^3 length^-1", None, f"2 nu <S_ij S_ij>; {_POPE}, section 5.3"),
    "enstrophy": Quantity(
        "Enstrophy", "velocity^2 length^-2", None, "<w.w> / 2; Taylor, Proc. R. Soc. A 164, 15 (1938)"
    ),
    **Divergence.scalars,
    **DerivativeMoments.scalars,
}
ERRORS: dict[str, Quantity] = {
    key: quantity
    for metric in (NormalizedError, VarianceScaledError, AbsoluteError, Correlation)
    for key, quantity in metric.scalars.items()
}


@dataclass(frozen=True, eq=False)
class Totals:
    """Sums over some of a field's cells.

    Args:
        values: float64 or int64 arrays by name; volumes, integrals, numbers of cells.
    """

    values: Mapping[str, np.ndarray]

    def __add__(self, other: Totals) -> Totals:
        """Those of the cells of both."""
        merged = dict(self.values)
        for name, value in other.values.items():
            held = merged.get(name)
            merged[name] = value if held is None else np.maximum(held, value) if name in _PEAKS else held + value
        return Totals(merged)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[name]

    def __contains__(self, name: object) -> bool:
        return name in self.values

    @classmethod
    def of(cls, parts: Iterable[Totals]) -> Totals:
        """The sum of all, in their order."""
        return sum(parts, cls({}))


def block_totals(values: np.ndarray, grid: Grid, cuts: Cuts, *, gradient: bool = False, part: Part = "all") -> Totals:
    """Sums over a block of a field: volume, first and second moments, and those of the velocity's gradient.

    A block without a halo gives its sums in two parts: ``inside``, all but the gradient of the cells that look beyond
    it, and later that of its edges, by :func:`edge_totals`; ``gradient`` is that alone, of cells with their halo.

    Args:
        values: (component, x, y, z) of the block, halo included.
        grid: the whole field's grid.
        cuts: the block's place along each axis; for the gradient with a halo of at least :data:`HALO` cells along cut
            axes, fewer at walls, except for ``inside``.
        gradient: of three components, too.
        part: which of the sums to take.
    """
    values = values.astype(np.float32) if values.dtype.itemsize < 4 else values
    with np.errstate(invalid="ignore"):
        highest = float(max(values.max(), -values.min()))  # NaN where any is
    bad = None
    if not math.isfinite(highest):
        bad = ~np.isfinite(values).all(axis=0)
        values = np.where(bad, 0, values)
        highest = float(np.abs(values).max())
    widths = None if not any(grid.stretched) else grid.widths()
    found = {}
    if part != "gradient":
        found = _moments(values, bad, cuts, widths)
    box = _inside(grid, cuts) if part == "inside" else [(cut.start, cut.stop) for cut in cuts]
    if gradient and all(low < high for low, high in box):
        values, bad, cuts = _wrapped(values, bad, grid, cuts)
        finest = min(map(float, grid.spacing if widths is None else map(np.min, widths)))
        found |= _gradients(values, bad, grid, cuts, box, widths, _power_of_two(finest / highest if highest else 1.0))
    volume = math.prod(grid.spacing) if widths is None else 1.0
    scaled = {name: value * volume for name, value in found.items() if value.dtype == np.float64}
    return Totals({**found, **scaled})


def faces_of(values: np.ndarray, grid: Grid, cuts: Cuts) -> dict[str, np.ndarray]:
    """The outermost cells of a block without halo, those that its own edges and its neighbours' look at.

    Returns:
        by ``axis.side`` along each axis that is cut: (component, x, y, z), ``2 HALO`` cells thick.
    """
    found = {}
    for axis, (cut, length) in enumerate(zip(cuts, grid.shape, strict=True)):
        if cut.stop - cut.start < length:
            along = np.moveaxis(values, 1 + axis, 0)
            for side, some in (("low", along[: 2 * HALO]), ("high", along[-2 * HALO :])):
                found[f"{axis}.{side}"] = np.ascontiguousarray(np.moveaxis(some, 0, 1 + axis))
    return found


def edge_totals(
    grid: Grid, divisions: Divisions, read: Callable[[Cuts], np.ndarray], place: Place | None = None
) -> Totals:
    """Sums of the gradient over the cells that look beyond their block: what ``inside`` leaves out.

    Args:
        grid: the whole field's grid.
        divisions: along each axis where the blocks begin, and the number of cells.
        read: gives slabs with a halo, (component, x, y, z): :func:`of_whole` or, of one block, :func:`of_faces`.
        place: of which block along each axis; None: of all.
    """
    found, axes = Totals({}), []
    for axis, (edges, length, kind) in enumerate(zip(divisions, grid.shape, grid.boundary, strict=True)):
        looks = np.zeros(length, dtype=bool)
        for edge in () if len(edges) == 2 else edges if kind == "periodic" else edges[1:-1]:
            looks[max(edge - HALO, 0) : edge + HALO] = True
        axes.append(((0, length) if place is None else (edges[place[axis]], edges[place[axis] + 1]), looks))
    for across in range(3):  # slabs across x, those across y between them, and those across z between both
        intervals = [
            [span] if axis > across else _runs(looks, span, axis == across) for axis, (span, looks) in enumerate(axes)
        ]
        for box in product(*intervals):
            cuts = [
                Cut(0, length, np.arange(length), 0) if len(edges) == 2 else _with_halo(*interval, length, kind)
                for interval, edges, length, kind in zip(box, divisions, grid.shape, grid.boundary, strict=True)
            ]
            around = cuts[0], cuts[1], cuts[2]
            found += block_totals(read(around), grid, around, gradient=True, part="gradient")
    return found


def of_whole(values: np.ndarray, grid: Grid, cuts: Cuts) -> np.ndarray:
    """A part of a whole field (component, x, y, z), halo included; a copy."""
    runs = []
    for cut, length in zip(cuts, grid.shape, strict=True):
        ends = np.flatnonzero(np.diff(cut.cells % length) != 1) + 1  # where it comes round
        pieces = [(int(piece[0]), len(piece)) for piece in np.split(cut.cells, ends)]
        places = ((slice(first - cut.cells[0], first - cut.cells[0] + n), first % length, n) for first, n in pieces)
        runs.append([(place, slice(first, first + n)) for place, first, n in places])
    part = np.empty((len(values), *(len(cut.cells) for cut in cuts)), dtype=values.dtype)
    for pairs in product(*runs):
        (x, x_of), (y, y_of), (z, z_of) = pairs
        part[:, x, y, z] = values[:, x_of, y_of, z_of]
    return part


def of_faces(grid: Grid, divisions: Divisions, place: Place, faces: FacesOf, cuts: Cuts) -> np.ndarray:
    """A slab of a block with its halo, from the faces of the block and of its neighbours; its corners are 0.

    Args:
        grid: the whole field's grid.
        divisions: along each axis where the blocks begin, and the number of cells.
        place: which block along each axis.
        faces: those of the block at a place.
        cuts: of the slab.
    """
    values, inside = None, [cut.inside for cut in cuts]
    own = [slice(cut.start - edges[at], cut.stop - edges[at]) for cut, edges, at in zip(cuts, divisions, place)]
    for axis, cut in enumerate(cuts):
        edges, length = divisions[axis], grid.shape[axis]
        if len(edges) == 2:
            continue
        for first, stop, at, layer in _layers(cut, edges, length):
            face, size = faces((*place[:axis], at, *place[axis + 1 :])), edges[at + 1] - edges[at]
            thick = min(2 * HALO, size)
            # deeper layers are of the high face; where the block is thin both faces have some, and the low one is taken
            parts = (("low", 0, thick, 0), ("high", max(thick, size - thick), size, size - thick))
            for side, begin, end, before in parts:
                low, high = max(layer, begin), min(layer + stop - first, end)
                if low < high:
                    some = face[f"{axis}.{side}"]
                    if values is None:
                        values = np.zeros((len(some), *(len(cut.cells) for cut in cuts)), dtype=some.dtype)
                    target, source = [slice(None), *inside], [slice(None), *own]
                    target[1 + axis] = slice(first + low - layer, first + high - layer)
                    source[1 + axis] = slice(low - before, high - before)
                    values[tuple(target)] = some[tuple(source)]
    return values


def moments_of(totals: Totals, viscosity: float | None = None) -> dict[str, float]:
    """What :data:`MOMENTS` describes, by key, of the sums of a whole field; what they do not hold is left out."""
    found = {"energy": float(np.trace(totals["second"]) / totals["volume"] / 2)}
    if "gradient" not in totals:
        return found
    volume, second = totals["gradient_volume"], totals["gradient"]
    # <A_ij A_ij> and <A_ij A_ji>: their sum is 2 <S_ij S_ij>, their difference <w.w>
    power, mirrored = np.trace(second) / volume, second[range(9), _MIRRORED].sum() / volume
    if viscosity is not None:
        found["dissipation"] = float(viscosity * (power + mirrored))
    found["enstrophy"] = float((power - mirrored) / 2)
    divergence = torch.as_tensor(totals["divergence"]), torch.as_tensor(np.trace(second))
    sums = np.stack([totals["gradient_mean"], np.diag(second)[:3], totals["third"], totals["fourth"]], axis=-1)
    moments = DerivativeMoments().finish(torch.as_tensor(sums), torch.as_tensor(volume))
    return found | {key: float(value) for key, value in {**Divergence().finish(*divergence), **moments}.items()}


def gradient_density(totals: Totals, kind: str) -> Curve:
    """Probability density of the longitudinal or transverse derivatives in units of their own r.m.s.

    The bins are those of single-precision numbers by their leading bits, sixteen to an octave, so that no scale need be
    known before; near zero they are joined. Exact as a histogram; its integral is 1. Source as
    :func:`flowsr.metrics.gradient_pdf`.
    """
    rows = slice(0, 3) if kind == "longitudinal" else slice(3, 9)
    scale = math.sqrt(np.diag(totals["gradient"])[rows].mean() / totals["gradient_volume"])
    if not 0 < scale < math.inf:
        return Curve(torch.zeros(0), torch.zeros(0))
    half = _BINS // 2
    finite = np.arange(255 << (_BIN_BITS - 9), dtype=np.uint32)  # bins of finite numbers, where each begins
    edges = (finite << (32 - _BIN_BITS)).view(np.float32).astype(np.float64)
    unit = 2.0 ** math.floor(math.log2(scale))
    kept = np.flatnonzero((edges >= 2 * unit) & (edges < 64 * unit))
    bounds = np.concatenate([np.arange(16) * unit / 8, edges[kept]])
    starts = np.searchsorted(edges, bounds)
    counted = totals[kind]
    if kind == "longitudinal":
        sides = [np.add.reduceat(side, starts)[:-1] for side in (counted[half:], counted[:half])]
    else:
        sides = [np.add.reduceat(counted, starts)[:-1] / 2] * 2
    density = [side / counted.sum() / np.diff(bounds) * scale for side in sides]
    centres = (bounds[1:] + bounds[:-1]) / 2 / scale
    x, y = np.concatenate([-centres[::-1], centres]), np.concatenate([density[0][::-1], density[1]])
    return Curve(torch.as_tensor(x), torch.as_tensor(y))


def error_totals(prediction: np.ndarray, truth: np.ndarray, grid: Grid, cuts: Cuts) -> Totals:
    """Sums for the errors of a block, both (component, x, y, z) without halo; cells missing in either are left out."""
    prediction, truth = prediction.astype(np.float64), truth.astype(np.float64)
    good = np.isfinite(prediction).all(axis=0) & np.isfinite(truth).all(axis=0)
    volumes = np.where(good, cell_volumes(grid, cuts), 0)
    prediction, truth = np.where(good, prediction, 0), np.where(good, truth, 0)
    error = prediction - truth
    sums = {
        "error": (error**2).sum(0),
        "error_absolute": np.abs(error).sum(0),
        "truth_power": (truth**2).sum(0),
        "prediction_power": (prediction**2).sum(0),
        "product": (prediction * truth).sum(0),
    }
    means = {"prediction_mean": prediction, "truth_mean": truth}
    found = {name: (values * volumes).sum() for name, values in sums.items()}
    found |= {name: (values * volumes).sum((1, 2, 3)) for name, values in means.items()}
    found |= {"error_volume": volumes.sum(), "largest_error": np.sqrt((error**2).sum(0).max())}
    return Totals({name: np.asarray(value, dtype=np.float64) for name, value in found.items()})


def errors_of(totals: Totals) -> dict[str, float]:
    """What :data:`ERRORS` describes, by key, of the sums of a whole field."""
    held = {name: torch.as_tensor(value) for name, value in totals.values.items()}
    volume, components = held["error_volume"], len(held["truth_mean"])
    error, power, mean = held["error"], held["truth_power"], held["truth_mean"]
    found = {
        **NormalizedError().finish(error, power),
        **VarianceScaledError().finish(error, mean, power, volume),
        **AbsoluteError().finish(held["error_absolute"], power, volume, volume * components, held["largest_error"]),
        **Correlation().finish(held["prediction_mean"], mean, held["prediction_power"], held["product"], power, volume),
    }
    return {key: float(value) for key, value in found.items()}


@dataclass(frozen=True, eq=False)
class Lattice:
    """Evenly spaced lines along one axis.

    Args:
        grid: the whole field's grid.
        axis: along which the lines run; periodic.
        picks: numbers of the cells along each of the other two axes that the lines go through.
        weights: share of the volume that each line stands for, (lines, lines).
    """

    grid: Grid
    axis: int
    picks: tuple[np.ndarray, np.ndarray]
    weights: np.ndarray

    @classmethod
    def of(cls, grid: Grid, axis: int, values: int) -> Lattice:
        """As many lines as make up about this many values; all where they do."""
        others = [other for other in range(3) if other != axis]
        lines = grid.shape[others[0]] * grid.shape[others[1]]
        step = max(1, math.ceil(math.sqrt(lines * grid.shape[axis] / max(values, 1))))
        starts = [np.arange(0, grid.shape[other], step) for other in others]
        picks = tuple(
            np.minimum(start + step // 2, grid.shape[other] - 1) for start, other in zip(starts, others, strict=True)
        )
        first, second = (
            np.add.reduceat(grid.widths()[other], start) / grid.lengths[other]
            for start, other in zip(starts, others, strict=True)
        )
        return cls(grid, axis, (picks[0], picks[1]), np.outer(first, second))

    @property
    def lines(self) -> int:
        """How many there are."""
        return len(self.picks[0]) * len(self.picks[1])

    @property
    def complete(self) -> bool:
        """Whether these are all lines of the field."""
        return self.lines * self.grid.shape[self.axis] == math.prod(self.grid.shape)

    def empty(self, components: int, dtype: np.dtype) -> np.ndarray:
        """Where :meth:`place` puts the values: (component, line, line, cell), NaN."""
        shape = (components, len(self.picks[0]), len(self.picks[1]), self.grid.shape[self.axis])
        return np.full(shape, np.nan, dtype=dtype)

    def piece(self, values: np.ndarray, cuts: Cuts) -> np.ndarray:
        """The values of a block (component, x, y, z), without halo, on the lines."""
        along = np.moveaxis(values, 1 + self.axis, -1)
        (one, _), (other, _) = self._inside(cuts)
        return np.ascontiguousarray(along[:, one][:, :, other])

    def place(self, lines: np.ndarray, piece: np.ndarray, cuts: Cuts) -> None:
        """Put a block's values where they belong."""
        (_, one), (_, other) = self._inside(cuts)
        lines[:, one, other, cuts[self.axis].start : cuts[self.axis].stop] = piece

    def spectrum(self, lines: np.ndarray) -> Curve:
        """Mean over the lines of :func:`flowsr.metrics.line_spectrum`, (component, m); lines with gaps are left out."""
        found = np.zeros((len(lines), self.grid.shape[self.axis] // 2 + 1))
        wavenumber, covered = torch.zeros(0), 0.0
        for row, weights in zip(np.moveaxis(lines, 1, 0), self.weights, strict=True):
            whole = np.isfinite(row).all(axis=(0, 2))
            if whole.any():
                wavenumber, density = line_densities(torch.as_tensor(row[:, whole]), self.grid.spacing[self.axis])
                found += np.einsum("clk,l->ck", density.numpy(), weights[whole])
                covered += float(weights[whole].sum())
        if not covered:
            return Curve(torch.zeros(0), torch.zeros((len(lines), 0)))
        return Curve(wavenumber, torch.as_tensor(found / covered))

    def _inside(self, cuts: Cuts) -> list[tuple[np.ndarray, slice]]:
        """Along both other axes the block's own cells that lines go through, and which lines these are."""
        found = []
        for picks, other in zip(self.picks, (other for other in range(3) if other != self.axis), strict=True):
            first, last = np.searchsorted(picks, [cuts[other].start, cuts[other].stop])
            found.append((picks[first:last] - cuts[other].start, slice(int(first), int(last))))
        return found


def line_axes(grid: Grid) -> tuple[int, ...]:
    """The axes along which line spectra are exact: periodic ones of four cells and more."""
    return tuple(axis for axis in range(3) if grid.boundary[axis] == "periodic" and grid.shape[axis] > 3)


def own_cells(values: np.ndarray, cuts: Cuts) -> np.ndarray:
    """A block (..., x, y, z) without its halo."""
    return values[(..., *(cut.inside for cut in cuts))]


def cell_volumes(grid: Grid, cuts: Cuts) -> np.ndarray:
    """(x, y, z): the volumes of a block's own cells, one for all where they are equal."""
    if not any(grid.stretched):
        return np.full((1, 1, 1), math.prod(grid.spacing))
    return _volumes_of(grid.widths(), [(cut.start, cut.stop) for cut in cuts])


def _spans(start: int, stop: int, side: int = _SIDE) -> list[tuple[int, int]]:
    return [(first, min(first + side, stop)) for first in range(start, stop, side)]


def _with_halo(start: int, stop: int, length: int, kind: str) -> Cut:
    """A stretch of an axis with a halo, that of a periodic one beyond its ends, too."""
    cells = np.arange(start - HALO, stop + HALO)
    cells = cells if kind == "periodic" else cells[(cells >= 0) & (cells < length)]
    return Cut(start, stop, cells, int(start - cells[0]))


def _wrapped(values: np.ndarray, bad: np.ndarray | None, grid: Grid, cuts: Cuts):
    """The block with a halo along periodic axes that are not cut, too."""
    around, padding = [], []
    for cut, length, kind in zip(cuts, grid.shape, grid.boundary, strict=True):
        halo = HALO if kind == "periodic" and len(cut.cells) == length and cut.before == 0 else 0
        padding.append((halo, halo))
        around.append(Cut(cut.start, cut.stop, cut.cells, cut.before + halo))
    if any(before for before, _ in padding):
        values = np.pad(values, [(0, 0), *padding], mode="wrap")
        bad = None if bad is None else np.pad(bad, padding, mode="wrap")
    return values, bad, tuple(around)


def _layers(cut: Cut, edges: Sequence[int], length: int) -> list[tuple[int, int, int, int]]:
    """The cells of a block with its halo, in runs that are neighbours in one and the same block of the axis.

    Returns:
        for each run the first of the halo's cells and one past its last, which block, and its first layer there.
    """
    runs: list[tuple[int, int, int, int]] = []
    for number, cell in enumerate(cut.cells):
        wrapped = int(cell) % length
        at = int(np.searchsorted(edges, wrapped, side="right")) - 1
        layer = wrapped - edges[at]
        if runs and runs[-1][2] == at and layer == runs[-1][3] + number - runs[-1][0]:
            runs[-1] = (runs[-1][0], number + 1, at, runs[-1][3])
        else:
            runs.append((number, number + 1, at, layer))
    return runs


def _inside(grid: Grid, cuts: Cuts) -> list[tuple[int, int]]:
    """The cells of a block whose derivatives do not look beyond it, as intervals."""
    found = []
    for cut, length, kind in zip(cuts, grid.shape, grid.boundary, strict=True):
        cut_low = cut.stop - cut.start < length and (kind == "periodic" or cut.start > 0)
        cut_high = cut.stop - cut.start < length and (kind == "periodic" or cut.stop < length)
        low = min(cut.start + HALO * cut_low, cut.stop)
        found.append((low, max(cut.stop - HALO * cut_high, low)))
    return found


def _runs(cells: np.ndarray, span: tuple[int, int], value: bool) -> list[tuple[int, int]]:
    """The stretches of a span in which all cells have a value."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], cells[slice(*span)] == value, [False]])))
    return [(span[0] + int(low), span[0] + int(high)) for low, high in edges.reshape(-1, 2)]


def _own(cuts: Cuts, spans) -> tuple[slice, ...]:
    """Where cells ``spans`` of the whole field lie in a block's values."""
    return tuple(
        slice(start - cut.start + cut.before, stop - cut.start + cut.before)
        for cut, (start, stop) in zip(cuts, spans, strict=True)
    )


def _volumes_of(widths, spans) -> np.ndarray | None:
    if widths is None:
        return None
    x, y, z = (along[start:stop] for along, (start, stop) in zip(widths, spans, strict=True))
    return x[:, None, None] * y[:, None] * z


def _moments(values, bad, cuts: Cuts, widths) -> dict[str, np.ndarray]:
    """Sums over a block's own cells: in cells where these are equal, else by volume."""
    rows, gram, cells, missing = _rows(len(values) + 1, values.dtype), 0.0, 0, 0
    for spans in product(*(_spans(cut.start, cut.stop) for cut in cuts)):
        own, shape = _own(cuts, spans), tuple(stop - start for start, stop in spans)
        lost = None if bad is None else bad[own]
        some = rows[:, : math.prod(shape)]
        some[:-1].numpy().reshape(-1, *shape)[...] = values[(slice(None), *own)]
        gram = gram + _products(some, _weights(shape, _volumes_of(widths, spans), lost))
        cells += math.prod(shape)
        missing += 0 if lost is None else int(lost.sum())
    found = {"volume": gram[-1, -1], "mean": gram[-1, :-1], "second": gram[:-1, :-1]}
    counts = {"cells": np.asarray(cells, dtype=np.int64), "missing": np.asarray(missing, dtype=np.int64)}
    return {name: np.asarray(value) for name, value in found.items()} | counts


def _gradients(values, bad, grid: Grid, cuts: Cuts, box, widths, scale: float) -> dict[str, np.ndarray]:
    """The same of the gradient, in a box of the block.

    All sums of products are those of the rows of one matrix: the nine entries, the divergence, the squares of the
    longitudinal ones, and 1. The squares are of entries times ``scale``: fourth powers leave single precision soon.
    """
    rows, room = _rows(14, values.dtype), np.empty(9 * _SIDE**3, dtype=np.uint32)
    differences = [difference_rows(grid, axis) for axis in range(3)]
    gram, counts = 0.0, {"longitudinal": 0.0, "transverse": 0.0}
    thin = min(stop - start for start, stop in box) <= 2 * HALO  # of such a slab more is taken at once
    intervals = [_spans(*interval, side=2 * _SIDE if thin else _SIDE) for interval in box]
    matrices = [
        {span: _matrix(*differences[axis], *span) for span in intervals[axis]} for axis in range(3)
    ]  # of every span: the first cell that it looks at, and the weights
    for spans in product(*intervals):
        shape = tuple(stop - start for start, stop in spans)
        some = rows[:, : math.prod(shape)]
        a, own = some.numpy(), _own(cuts, spans)
        lost = None if bad is None else bad[own].copy()
        for axis, span in enumerate(spans):
            first, matrix = matrices[axis][span]
            place = list(own)
            begin = first - cuts[axis].start + cuts[axis].before
            place[axis] = slice(begin, begin + matrix.shape[1])
            entries = a[3 * axis : 3 * axis + 3].reshape(3, *shape)
            _along(matrix.astype(values.dtype), values[(slice(None), *place)], axis, entries)
            if lost is not None:
                near = np.empty((1, *shape), dtype=np.float32)
                _along((matrix != 0).astype(np.float32), bad[tuple(place)][None].astype(np.float32), axis, near)
                lost |= near[0] > 0
        np.add(a[0], a[4], out=a[9])
        np.add(a[9], a[8], out=a[9])
        np.multiply(a[0:9:4], a.dtype.type(scale), out=a[10:13])
        np.square(a[10:13], out=a[10:13])
        weights = _weights(shape, _volumes_of(widths, spans), lost)
        gram = gram + _products(some, weights)
        for kind, counted in _counted(a[:9], weights, room).items():
            counts[kind] = counts[kind] + counted
    own, squares = np.arange(0, 9, 4), np.arange(10, 13)
    found = {
        "gradient_volume": gram[13, 13],
        "gradient_mean": gram[own, 13],
        "gradient": gram[np.ix_(_ROWS, _ROWS)],
        "divergence": gram[9, 9],
        "third": gram[own, squares] / scale**2,
        "fourth": gram[squares, squares] / scale**4,
        **counts,
    }
    return {name: np.asarray(value, dtype=np.float64) for name, value in found.items()}


def _counted(a: np.ndarray, weights: np.ndarray | None, room: np.ndarray) -> dict[str, np.ndarray]:
    """How much of the longitudinal and of the transverse entries (9, cells) is in every bin; in ``room`` it works."""
    with np.errstate(over="ignore"):
        bits, numbers = a.astype(np.float32, copy=False).view(np.uint32), room[: a.size].reshape(a.shape)
    for target, rows in ((slice(0, 3), slice(0, 9, 4)), (slice(3, 6), slice(1, 4)), (slice(6, 9), slice(5, 8))):
        np.right_shift(bits[rows], np.uint32(32 - _BIN_BITS), out=numbers[target])
    numbers = torch.from_numpy(numbers.view(np.int32))
    repeated = None if weights is None else torch.from_numpy(weights)

    def count(some: torch.Tensor) -> np.ndarray:
        each = None if repeated is None else repeated.expand(some.shape).reshape(-1)
        return torch.bincount(some.reshape(-1), each, minlength=_BINS).numpy().astype(np.float64)

    across = count(numbers[3:])
    return {"longitudinal": count(numbers[:3]), "transverse": across[: _BINS // 2] + across[_BINS // 2 :]}


def _weights(shape: tuple[int, ...], volumes: np.ndarray | None, missing: np.ndarray | None) -> np.ndarray | None:
    """What every cell counts, (cells,) float64; None where all count the same."""
    if missing is None or not missing.any():
        return None if volumes is None else volumes.ravel()
    return np.where(missing, 0.0, np.ones(shape) if volumes is None else volumes).ravel()


def _rows(count: int, dtype: np.dtype) -> torch.Tensor:
    """Room for rows of the cells of what is taken at once, the last of ones; torch's memory is aligned."""
    return torch.ones((count, _SIDE**3), dtype=torch.float64 if dtype == np.float64 else torch.float32)


def _products(rows: torch.Tensor, weights: np.ndarray | None) -> np.ndarray:
    """Sums over cells of the products of all pairs of rows (row, cell), float64.

    In pieces, each of one matrix product on one thread, whose sums are added in double precision: the number of threads
    does not show.
    """
    rows = rows if weights is None else rows.double()
    other = rows if weights is None else rows * torch.from_numpy(weights)
    whole = rows.shape[1] // _PIECE * _PIECE
    total = (rows[:, whole:] @ other[:, whole:].T).double()
    if whole:
        one, two = (each[:, :whole].unflatten(1, (-1, _PIECE)) for each in (rows, other))
        total += torch.bmm(one.permute(1, 0, 2), two.permute(1, 2, 0)).sum(0, dtype=torch.float64)
    return total.numpy()


def _matrix(neighbours: np.ndarray, taps: np.ndarray, start: int, stop: int) -> tuple[int, np.ndarray]:
    """The differences of some cells of an axis: the first cell that they look at, and the weights (row, cell)."""
    neighbours = neighbours[start:stop]
    first = int(neighbours.min())
    matrix = np.zeros((stop - start, int(neighbours.max()) + 1 - first))
    np.put_along_axis(matrix, neighbours - first, taps[start:stop], axis=1)
    return first, matrix


def _along(matrix: np.ndarray, values: np.ndarray, axis: int, out: np.ndarray) -> None:
    """A matrix (row, cell) along one of the axes of values (component, x, y, z)."""
    if axis == 0:
        np.matmul(matrix, values.transpose(0, 2, 1, 3), out=out.transpose(0, 2, 1, 3))
    elif axis == 1:
        np.matmul(matrix, values, out=out)
    else:
        np.matmul(values, np.ascontiguousarray(matrix.T), out=out)


def _power_of_two(value: float) -> float:
    """The nearest below, within single precision."""
    return 2.0 ** min(max(math.frexp(value)[1] - 1, -60), 60)
