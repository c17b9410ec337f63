"""From fine to coarse by a named operator, which is stored with the data.

Every operator works along one axis at a time; the three-dimensional one is the product over the axes. Along an axis it
is a matrix from fine to coarse cells, whose rows sum to one. What an operator does to a Fourier mode exp(ikx) of a
uniform periodic grid is its transfer function T(k): at the coarse cell centres X the mode becomes T(k) exp(ikX).

On a stretched axis cells count by their size. Beyond a wall or an open edge the field is mirrored. A coarse cell that
touches a missing fine value, NaN, is missing.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import xarray as xr
from scipy import fft, sparse

from flowsr.data.field import SCALAR_DIMS, SPACE, axes_of, field_variables, grid_of
from flowsr.data.readers.lazy import LazyArray
from flowsr.data.readers.words import meant_dataset
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.registry import Registry
from flowsr.scratch import Box, Scratch, axis_by_axis, pencils

PERIODIC = ("periodic", "periodic", "periodic")

# Fine cells along a side of what is read and degraded at once.
BLOCK = 128


class SymmetryWarning(UserWarning):
    """Something asked for by name breaks the octahedral symmetry that flowsr's networks measure."""


@dataclass(frozen=True)
class Cells:
    """The fine cells of one axis.

    Args:
        faces: (n + 1,) coordinates of their faces.
        centers: (n,) coordinates of their centres.
        periodic: whether the axis is.
    """

    faces: np.ndarray
    centers: np.ndarray
    periodic: bool

    @classmethod
    def of(cls, grid: Grid, axis: int) -> Cells:
        """The cells of an axis of a grid."""
        return cls(grid.faces()[axis], grid.coordinates()[axis], grid.boundary[axis] == "periodic")

    def __len__(self) -> int:
        return len(self.centers)

    @property
    def widths(self) -> np.ndarray:
        """(n,) their sizes."""
        return np.diff(self.faces)

    def beyond(self, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The axis continued by at least ``reach`` on either side: periodically, or mirrored in its ends.

        Returns:
            number of the cell whose value each cell of the continued axis has (m,); faces (m + 1,); centres (m,).
        """
        side, low = self.faces[-1] - self.faces[0], self.faces[0]
        copies = math.ceil(reach / side)
        numbers, faces, centers = [], [self.faces[:1] - copies * side], []
        for copy in range(-copies, copies + 1):
            order, inner, middle = np.arange(len(self)), self.faces[1:] - low, self.centers - low
            if copy % 2 == 1 and not self.periodic:
                order, inner, middle = order[::-1], side - self.faces[-2::-1] + low, side - middle[::-1]
            numbers.append(order)
            faces.append(low + copy * side + inner)
            centers.append(low + copy * side + middle)
        return np.concatenate(numbers), np.concatenate(faces), np.concatenate(centers)


class DegradeOperator(ABC):
    """A linear map from a fine to a coarse cell-centred grid, the same along every axis.

    Attributes:
        name: the name it is registered under.
        commutes: whether it commutes with the octahedral group, acting about the box's centre (factors, boundaries and
            stretched axes turn with the field).
        needs_periodic: whether it is defined on periodic, hence uniform, axes only.
        local: whether a coarse cell depends on its neighbourhood only, so that a large field is degraded part by part.
    """

    name: str
    commutes: bool = True
    needs_periodic: bool = False
    local: bool = True

    def __call__(
        self,
        values: np.ndarray,
        factor: int | tuple[int, int, int],
        boundary: tuple[str, str, str] = PERIODIC,
        grid: Grid | None = None,
    ) -> np.ndarray:
        """Degrade.

        Args:
            values: (..., x, y, z) on the fine grid.
            factor: coarse cell size over fine cell size, along every axis or one number an axis.
            boundary: of the axes x, y, z; of no account where a grid is given.
            grid: the fine grid, where it has stretched axes.

        Returns:
            (..., x / factor, y / factor, z / factor), dtype of ``values``; sums are taken in float64.

        Raises:
            ValueError: a side that ``factor`` does not divide, an axis that is not periodic where it must be, or a
                missing value where every coarse cell depends on all.
        """
        grid = grid or Grid(values.shape[-3:], boundary=boundary)
        factors = _three(factor)
        if any(side % s for side, s in zip(values.shape[-3:], factors)):
            raise ValueError(f"factor {factor} does not divide the shape {values.shape[-3:]}")
        if self.needs_periodic and not grid.periodic:
            raise ValueError(f"{self.name} is defined on periodic boxes, not on {grid.boundary}")
        coarse = values
        for axis, s in enumerate(factors):
            coarse = self.along(coarse, axis - 3, Cells.of(grid, axis), s)
        return coarse.astype(values.dtype, copy=False)

    def along(self, values: np.ndarray, axis: int, cells: Cells, factor: int) -> np.ndarray:
        """Degrade along one axis, in float64."""
        return applied(self.matrix(cells, factor), values, axis)

    @abstractmethod
    def matrix(self, cells: Cells, factor: int) -> sparse.csr_array:
        """(coarse, fine) weights along an axis."""

    @abstractmethod
    def transfer_function(self, wavenumber, spacing: float, factor: int) -> np.ndarray:
        """T(k) along one uniform periodic axis.

        Args:
            wavenumber: k along the axis, radians per length.
            spacing: fine cell size, a length.
        """


DEGRADE_OPERATORS: Registry[type[DegradeOperator]] = Registry("degrade operator", group="flowsr.degrade")

# A cell whose weight in a mean is less than this is beside it, by rounding.
TOUCHED = 1e-9


def applied(matrix: sparse.csr_array, values: np.ndarray, axis: int) -> np.ndarray:
    """``values`` with a matrix (new, old) applied along an axis, in float64; what NaN has a weight in is NaN."""
    moved = np.moveaxis(values, axis, 0)
    flat = moved.reshape(moved.shape[0], -1).astype(np.float64, copy=False)
    missing = np.isnan(flat)
    if missing.any():
        touched = sparse.csr_array(abs(matrix) > TOUCHED, dtype=np.float64) @ missing.astype(np.float64)
        mixed = np.where(touched > 0, np.nan, matrix @ np.where(missing, 0.0, flat))
    else:
        mixed = matrix @ flat
    return np.moveaxis(mixed.reshape(matrix.shape[0], *moved.shape[1:]), 0, axis)


@DEGRADE_OPERATORS.register("block_mean")
class BlockMean(DegradeOperator):
    """The mean over the fine cells in a coarse one, by size: a finite-volume code's coarse field, exact on any box.

    T(k) = sin(s k d / 2) / (s sin(k d / 2)) for s fine cells of size d: the sum of s unit phasors.
    """

    name = "block_mean"

    def matrix(self, cells, factor):
        widths = cells.widths.reshape(-1, factor)
        share = (widths / widths.sum(axis=1, keepdims=True)).ravel()
        rows = np.arange(len(cells)) // factor
        return sparse.csr_array((share, (rows, np.arange(len(cells)))), shape=(len(widths), len(cells)))

    def transfer_function(self, wavenumber, spacing, factor):
        cell = (np.arange(factor) - (factor - 1) / 2) * spacing
        return np.cos(np.multiply.outer(np.asarray(wavenumber, dtype=float), cell)).mean(axis=-1)


@DEGRADE_OPERATORS.register("top_hat")
class TopHat(DegradeOperator):
    """The mean over an interval about the middle of a coarse cell; partly covered fine cells count in part.

    A width of one coarse cell is the block mean; two is the box filter whose cells overlap by half.

    Args:
        width: of the interval, in coarse cells (of that cell's own size on a stretched axis).

    Raises:
        ValueError: a width that is not positive.
    """

    name = "top_hat"

    def __init__(self, width: float = 1.0):
        if not (math.isfinite(width) and width > 0):
            raise ValueError(f"a width is positive, got {width}")
        self.width = float(width)

    def matrix(self, cells, factor):
        ends = cells.faces[::factor]
        middles, halves = (ends[1:] + ends[:-1]) / 2, np.diff(ends) * self.width / 2
        numbers, faces, _ = cells.beyond(float(halves.max()))
        rows = []
        for middle, half in zip(middles, halves):
            first = max(np.searchsorted(faces, middle - half, "right") - 1, 0)
            last = min(np.searchsorted(faces, middle + half, "left"), len(numbers))
            covered = np.diff(np.clip(faces[first : last + 1], middle - half, middle + half))
            rows.append((numbers[first:last], covered))
        return _averaging(rows, len(cells))

    def transfer_function(self, wavenumber, spacing, factor):
        return _transfer(self, wavenumber, spacing, factor, reach=self.width * factor * spacing / 2)


@DEGRADE_OPERATORS.register("gaussian_block_mean")
class GaussianBlockMean(BlockMean):
    """A Gaussian filter as wide as a coarse cell, then the mean over the coarse cell.

    The filter of width D has variance D^2 / 12 and, in the continuum, T(k) = exp(-k^2 D^2 / 24) (Pope, Turbulent Flows,
    2000, table 13.2). Here it is sampled at the fine cell centres out to six standard deviations, weighted with the
    cells' sizes and normalized, and T(k) is that of the samples. On a stretched axis D is the size of the coarse cell
    that is being filled.
    """

    name = "gaussian_block_mean"
    reach = 6.0

    def matrix(self, cells, factor):
        coarse = np.diff(cells.faces[::factor])
        # half a fine cell beyond the last sample, so that none is on the edge
        reaches = np.repeat((self._samples(factor) + 0.5) * coarse / factor, factor)
        deviations = np.repeat(coarse / math.sqrt(12.0), factor)
        numbers, faces, centers = cells.beyond(float(reaches.max()))
        sizes = np.diff(faces)
        rows = []
        for center, deviation, reach in zip(cells.centers, deviations, reaches):
            first, last = np.searchsorted(centers, center - reach), np.searchsorted(centers, center + reach, "right")
            near = np.exp(-0.5 * ((centers[first:last] - center) / deviation) ** 2) * sizes[first:last]
            rows.append((numbers[first:last], near))
        return sparse.csr_array(super().matrix(cells, factor) @ _averaging(rows, len(cells)))

    def _samples(self, factor: int) -> int:
        """Fine cells on either side that are sampled."""
        return int(self.reach * factor / math.sqrt(12.0) + 0.5)

    def transfer_function(self, wavenumber, spacing, factor):
        deviation, radius = factor / np.sqrt(12.0), self._samples(factor)
        cells = np.arange(-radius, radius + 1)
        weights = np.exp(-0.5 * (cells / deviation) ** 2)
        phases = np.cos(np.multiply.outer(np.asarray(wavenumber, dtype=float), cells * spacing))
        return phases @ (weights / weights.sum()) * super().transfer_function(wavenumber, spacing, factor)


@DEGRADE_OPERATORS.register("spectral_cutoff")
class SpectralCutoff(DegradeOperator):
    """All Fourier modes that the coarse grid resolves, and none of the others; periodic boxes only.

    A mode is kept where each |k_i| is *below* the coarse Nyquist wavenumber pi / D. The mode at it has no phase of its
    own on the coarse grid and is dropped. Coefficients are shifted by the half cells between the first fine and the
    first coarse cell centre, so that the coarse values are those of the band-limited field at the coarse cell centres.
    """

    name = "spectral_cutoff"
    needs_periodic = True
    local = False

    def matrix(self, cells, factor):
        return sparse.csr_array(self.along(np.eye(len(cells)), 0, cells, factor))

    def along(self, values, axis, cells, factor):
        side = values.shape[axis]
        kept = (side // factor + 1) // 2
        if np.isnan(values).any():
            raise ValueError(f"{self.name} mixes every cell with all, and {np.isnan(values).sum()} are missing (NaN)")
        modes = np.arange(kept)
        spectrum = np.moveaxis(fft.rfft(values.astype(np.float64), axis=axis), axis, -1)[..., :kept]
        spectrum = spectrum * np.exp(1j * np.pi * modes * (factor - 1) / side) / factor
        return np.moveaxis(fft.irfft(spectrum, n=side // factor, axis=-1), -1, axis)

    def transfer_function(self, wavenumber, spacing, factor):
        nyquist = np.pi / (factor * spacing)
        return (np.abs(wavenumber) < nyquist * (1 - 1e-12)).astype(float)


@DEGRADE_OPERATORS.register("strided")
class Strided(DegradeOperator):
    """Every s-th cell, ``x[::s]``, taken for the whole coarse cell. Aliases, and does *not* commute with the group.

    The sample sits (s - 1) / 2 fine cells below the coarse cell's centre: T(k) = exp(-i k (s - 1) d / 2). About the
    box's centre only the six permutations of the axes survive; a network trained on such pairs finds a symmetry
    breaking that is not the flow's.
    """

    name = "strided"
    commutes = False

    def matrix(self, cells, factor):
        rows = np.arange(len(cells) // factor)
        return sparse.csr_array((np.ones(len(rows)), (rows, rows * factor)), shape=(len(rows), len(cells)))

    def transfer_function(self, wavenumber, spacing, factor):
        return np.exp(-0.5j * np.asarray(wavenumber, dtype=float) * (factor - 1) * spacing)


def degrade(
    dataset: xr.Dataset,
    operator: str,
    factor: int | tuple[int, int, int],
    *,
    weight: str | None = None,
    width: float | None = None,
    scratch: Path | None = None,
) -> xr.Dataset:
    """The coarse dataset of a fine one, computed when it is used, part by part.

    An operator that is not local is applied axis by axis, of a large field through files on the disk: memory need not
    hold a snapshot.

    Args:
        dataset: fields in the flowsr layout; all of its field variables are degraded, series are left out. Values that
            its attributes call missing, and NaN, make the coarse cells missing that touch them.
        operator: a registered operator's name.
        factor: coarse cell size over fine cell size, along every axis or one number an axis.
        weight: a positive scalar variable, the density say: the other variables f become D(w f) / D(w), which is
            Favre's mean. It commutes with the group where the operator does.
        width: of the ``top_hat``, in coarse cells; one by default.
        scratch: folder for those files; see :class:`flowsr.scratch.Scratch`.

    Returns:
        Dataset on the coarse grid of the same box, with the attributes ``degrade_operator`` and ``degrade_factor`` and,
        where they were given, ``degrade_weight`` and ``degrade_width``.

    Raises:
        FlowsrError: an unknown operator, one that the box's boundaries rule out, a factor that does not divide the box
            into at least two coarse cells a side, a weight that is no scalar variable, or a width that is not one.
            Later, when it is read: a weight that is not positive, or missing values where the operator is not local.
    """
    chosen = degrade_operator(operator, width)
    dataset = meant_dataset(dataset)
    grid = grid_of(dataset)
    factors = _checked_factors(grid, factor)
    if chosen.needs_periodic and not grid.periodic:
        message = f"{operator} is defined on periodic boxes only"
        raise FlowsrError(message, variable="boundary", expected=PERIODIC, found=grid.boundary)
    scalars = [str(name) for name in field_variables(dataset) if dataset[name].dims == SCALAR_DIMS]
    if weight is not None and weight not in scalars:
        found = ", ".join(scalars) or "no scalars"
        raise FlowsrError("no such weight", variable=weight, expected="a scalar variable", found=found)
    if not chosen.commutes:
        consequence = "a network will learn its asymmetry as the flow's"
        message = f"{operator} does not commute with the octahedral group: {consequence}"
        warnings.warn(message, SymmetryWarning, stacklevel=2)
    kept = factors[0] if len(set(factors)) == 1 else list(factors)
    options = {"degrade_weight": weight, "degrade_width": width}
    attrs = {**dataset.attrs, "degrade_operator": operator, "degrade_factor": kept}
    attrs.update({name: value for name, value in options.items() if value is not None})
    coords = {name: coord for name, coord in dataset.coords.items() if name not in SPACE}
    coarse = xr.Dataset(coords={**coords, **axes_of(grid.coarsened(factors))}, attrs=attrs)
    weights = None if weight is None else dataset[weight]
    for name in field_variables(dataset):
        array = _DegradedArray(dataset[name], chosen, factors, grid, None if name == weight else weights, scratch)
        coarse[name] = array.as_variable(dataset[name].dims, dataset[name].attrs)
    return coarse


class _DegradedArray(LazyArray):
    """A field on the coarse grid, degraded where and when it is read."""

    def __init__(
        self,
        fine: xr.DataArray,
        operator: DegradeOperator,
        factors: tuple[int, int, int],
        grid: Grid,
        weight: xr.DataArray | None,
        scratch: Path | None,
    ):
        shape = (*fine.shape[:-3], *(n // s for n, s in zip(fine.shape[-3:], factors)))
        super().__init__(shape, fine.dtype, None, str(fine.name))
        self.fine, self.operator, self.factors, self.grid, self.weight = fine, operator, factors, grid, weight
        self.scratch, self._matrices, self._kept = scratch, None, None

    def __getstate__(self):
        return {**self.__dict__, "_kept": None}

    def load(self, index):
        time, inner, space = index[0], index[1:-3], index[-3:]
        times = range(self.shape[0])[time]
        if isinstance(times, int):
            return self._snapshot(times, inner, space)
        empty = np.empty((0, *self.shape[1:]), self.dtype)[(slice(None), *inner, *space)]
        snapshots = [self._snapshot(t, inner, space) for t in times]
        return np.stack(snapshots) if snapshots else empty

    def _snapshot(self, time: int, inner, space) -> np.ndarray:
        large = len(pencils(self.fine.shape[-3:])) > 1
        if not self.operator.local and large:
            boxes, places = zip(*map(_as_box, (*inner, *space), self.shape[1:]))
            return self._on_disk(time).read(boxes)[places]
        fine = self.fine[(time, *inner)]
        weight = None if self.weight is None else self.weight[time]
        if not self.operator.local:
            values = fine.values if weight is None else fine.values * weight.values
            refuse_mixing(self.operator, int(np.count_nonzero(np.isnan(values))), self.variable)
            coarse = self.operator(values, self.factors, grid=self.grid)
            if weight is not None:
                coarse = self._divided(coarse, self.operator(weight.values, self.factors, grid=self.grid))
            return coarse[(..., *space)]
        rows = [range(n)[s] for n, s in zip(self.shape[-3:], space)]
        lists = [[r] if isinstance(r, int) else list(r) for r in rows]
        out = np.empty((*fine.shape[:-3], *map(len, lists)), self.dtype)
        pieces = [_pieces(len(chosen), max(1, BLOCK // s)) for chosen, s in zip(lists, self.factors)]
        for place in product(*pieces):
            out[(..., *place)] = self._box(fine, weight, [chosen[part] for chosen, part in zip(lists, place)])
        return out[(..., *(0 if isinstance(r, int) else slice(None) for r in rows))]

    def _on_disk(self, time: int) -> Scratch:
        """A coarse snapshot of an operator that is not local, (component, x, y, z) or (x, y, z); the last is kept."""
        if self._kept is None or self._kept[0] != time:
            self._kept = None  # the one before need not be beside the new one
            coarse = Scratch((math.prod(self.shape[1:-3]), *self.shape[-3:]), self.dtype, self.scratch)
            whole, weights = slice(0, self.shape[-3]), None
            if self.weight is not None:
                weights = Scratch((1, *self.shape[-3:]), self.dtype, self.scratch)
                for _, y, values in self._streamed(time, self.weight, None):
                    weights.write((slice(0, 1), whole, y, slice(0, self.shape[-1])), values)
            for component, y, values in self._streamed(time, self.fine, self.weight):
                place = whole, y, slice(0, self.shape[-1])
                values = values.astype(self.dtype)
                if weights is not None:
                    values = self._divided(values, weights.read((slice(0, 1), *place))[0])
                coarse.write((slice(component, component + 1), *place), values)
            coarse.shape = self.shape[1:]
            self._kept = time, coarse
        return self._kept[1]

    def _streamed(
        self, time: int, fine: xr.DataArray, weight: xr.DataArray | None
    ) -> Iterator[tuple[int, slice, np.ndarray]]:
        """What the operator makes of a snapshot, times a weight where one is given, in slabs along y."""
        cells, missing = [Cells.of(self.grid, axis) for axis in range(3)], 0

        def read(box: Box) -> np.ndarray:
            nonlocal missing
            values = fine[(time, ..., *box)].values
            values = values if weight is None else values * weight[(time, *box)].values
            gaps = int(np.count_nonzero(np.isnan(values)))
            missing += gaps
            return (np.nan_to_num(values) if gaps else values).reshape(-1, *values.shape[-3:])

        def along(values: np.ndarray, axis: int) -> np.ndarray:
            refuse_mixing(self.operator, missing if axis != -1 else 0, self.variable)
            return self.operator.along(values, axis, cells[axis], self.factors[axis])

        return axis_by_axis(read, fine.shape[-3:], along, self.scratch)

    def _box(self, fine: xr.DataArray, weight: xr.DataArray | None, rows: list[list[int]]) -> np.ndarray:
        """Coarse cells given by their numbers along x, y, z."""
        if self._matrices is None:
            self._matrices = [self.operator.matrix(Cells.of(self.grid, a), self.factors[a]) for a in range(3)]
        parts = [matrix[chosen] for matrix, chosen in zip(self._matrices, rows)]
        columns = [_hull(np.unique(part.indices)) for part in parts]
        parts = [part[:, needed] for part, needed in zip(parts, columns)]
        values = _gathered(fine, columns)
        if weight is None:
            return _through(parts, values)
        weights = self._positive(_gathered(weight, columns), "a weight that is not positive")
        return self._divided(_through(parts, values * weights), _through(parts, weights))

    def _divided(self, weighted: np.ndarray, weights: np.ndarray) -> np.ndarray:
        hint = "use an operator without negative lobes"
        return weighted / self._positive(weights, "the degraded weight is not positive", hint)

    def _positive(self, weights: np.ndarray, otherwise: str, hint: str | None = None) -> np.ndarray:
        if (weights <= 0).any():
            name, found = self.weight.name, np.nanmin(weights)
            raise FlowsrError(otherwise, variable=name, expected="> 0", found=found, hint=hint)
        return weights


def refuse_mixing(operator: DegradeOperator, missing: int, variable: str, file=None) -> None:
    """Refuse missing values under an operator that mixes every cell with all.

    Raises:
        FlowsrError: how many there are, and what to do.
    """
    if missing and not operator.local:
        where = {"file": file, "variable": variable, "expected": "none", "found": missing}
        raise FlowsrError(f"missing values: {operator.name} mixes every cell with all", **where, hint="use block_mean")


def _through(matrices: list[sparse.csr_array], values: np.ndarray) -> np.ndarray:
    for axis, matrix in enumerate(matrices):
        values = applied(matrix, values, axis - 3)
    return values


def _gathered(field: xr.DataArray, columns: list[np.ndarray]) -> np.ndarray:
    """The cells of a lazy field at numbers along x, y, z, read box by contiguous box."""
    out = np.empty((*field.shape[:-3], *map(len, columns)), dtype=field.dtype)
    for boxes in product(*map(_runs, columns)):
        out[(..., *(to for _, to in boxes))] = field[(..., *(source for source, _ in boxes))].values
    return out


def _runs(numbers: np.ndarray) -> list[tuple[slice, slice]]:
    """Stretches of consecutive numbers: which they are, and where they stand."""
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    starts, stops = [0, *breaks], [*breaks, len(numbers)]
    return [(slice(int(numbers[a]), int(numbers[b - 1]) + 1), slice(a, b)) for a, b in zip(starts, stops)]


def _hull(numbers: np.ndarray) -> np.ndarray:
    """The numbers, and those between them where they are scattered: a box is read quicker whole than cell by cell."""
    scattered = np.count_nonzero(np.diff(numbers) != 1) > 2
    return np.arange(numbers[0], numbers[-1] + 1) if scattered else numbers


def _as_box(chosen: int | slice, side: int) -> tuple[slice, int | slice]:
    """Neighbouring cells that hold those chosen, and these among them."""
    if isinstance(chosen, int):
        return slice(chosen, chosen + 1), 0
    cells = range(side)[chosen]
    return slice(cells[0], cells[-1] + 1), slice(None, None, cells.step)


def _pieces(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _averaging(rows: list[tuple[np.ndarray, np.ndarray]], cells: int) -> sparse.csr_array:
    """(rows, cells) weighted means, from each row's cells and weights; a cell met twice, by mirroring, counts twice."""
    columns = np.concatenate([numbers for numbers, _ in rows])
    weights = np.concatenate([weights / weights.sum() for _, weights in rows])
    places = np.repeat(np.arange(len(rows)), [len(numbers) for numbers, _ in rows])
    return sparse.coo_array((weights, (places, columns)), shape=(len(rows), cells)).tocsr()


def _transfer(operator: DegradeOperator, wavenumber, spacing: float, factor: int, reach: float) -> np.ndarray:
    """T(k) of an even operator from its own weights about one coarse cell."""
    side = 2 * math.ceil(reach / (factor * spacing)) + 3
    faces = np.arange(side * factor + 1) * spacing
    centers = (faces[1:] + faces[:-1]) / 2
    row = operator.matrix(Cells(faces, centers, True), factor)[[side // 2]].toarray()[0]
    phases = np.multiply.outer(np.asarray(wavenumber, dtype=float), centers - centers.mean())
    return np.cos(phases) @ row


def degrade_operator(name: str, width: float | None = None) -> DegradeOperator:
    """An operator by its registered name.

    Raises:
        FlowsrError: an unknown name, a width for one that has none, or one that is not positive.
    """
    chosen = DEGRADE_OPERATORS[name]
    if width is None:
        return chosen()
    if not issubclass(chosen, TopHat):
        raise FlowsrError("only a top_hat has a width", variable="width", expected="none", found=width)
    try:
        return chosen(width)
    except (TypeError, ValueError):
        raise FlowsrError("not a width", variable="width", expected="> 0, in coarse cells", found=repr(width)) from None


def _three(factor: int | tuple[int, int, int]) -> tuple[int, int, int]:
    return (factor,) * 3 if np.ndim(factor) == 0 else tuple(factor)


def _checked_factors(grid: Grid, factor) -> tuple[int, int, int]:
    factors = _three(factor)
    whole = len(factors) == 3 and all(isinstance(s, (int, float, np.number)) and int(s) == s >= 1 for s in factors)
    if not whole or any(n % s or n // s < 2 for n, s in zip(grid.shape, factors)):
        expected = f"a divisor of {grid.shape} that leaves two cells or more"
        message = "the box cannot be coarsened by this factor"
        raise FlowsrError(message, variable="factor", expected=expected, found=factor)
    return tuple(int(s) for s in factors)
