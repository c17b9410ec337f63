"""A stored field, the one that it was made of and the truth, read once block by block and measured."""

from __future__ import annotations

import io
import logging
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy.linalg import block_diag

from flowsr import __version__
from flowsr.data import DEGRADE_OPERATORS, degrade, grid_of, open_field
from flowsr.data.field import field_template, field_variables
from flowsr.data.open import ReadOptions, read_options
from flowsr.data.quality import BadValues
from flowsr.data.readers.units import alike
from flowsr.data.store import BESIDE
from flowsr.devices import cores
from flowsr.errors import FlowsrError, missing_file, missing_variable
from flowsr.evaluate.measure import Box, FieldMeasure, FieldValues, State, cuts_of_box, single, totals_in
from flowsr.evaluate.result import INPUT, OUTPUT, TRUTH, Plane, Snapshot, chosen_measures, dataset_of, write_dataset
from flowsr.files import Partial
from flowsr.grid import Grid, triple
from flowsr.metrics.base import Curve
from flowsr.metrics.fields import ConsistencyError
from flowsr.metrics.one_dimensional import Bins
from flowsr.metrics.spectra import Spectrum, over_truth, shell_axes, shell_energy
from flowsr.metrics.statistics import Totals, cell_volumes, error_totals, errors_of
from flowsr.metrics.tiles import piece_of
from flowsr.progress import SILENT, Progress
from flowsr.spread import STOP, Spread, batches_of

log = logging.getLogger(__name__)

#: Cells along the sides of what is read at once.
SIDE = 128
#: Cells along a side of a slice on the page, at most.
PLANE_SIDE = 384
BLOCK_MEAN = "block_mean"
Write = Callable[[Path, xr.Dataset, Sequence[Plane]], None]


@dataclass(frozen=True)
class Field:
    """A variable of a stored field; opened where it is used, so that it can be sent to another process.

    Args:
        path: anything that :func:`flowsr.data.open_field` opens.
        options: how it is read.
        variable: which one; None for the velocity, or the first.
        snapshots: which of its snapshots stand for those of the output.
    """

    path: Path
    options: ReadOptions = ReadOptions()  # noqa: RUF009
    variable: str | None = None
    snapshots: tuple[int, ...] | None = None

    @property
    def dataset(self) -> xr.Dataset:
        """All of the file."""
        if not self.path.exists():
            raise missing_file(self.path)
        state = self.path.stat()
        return _opened(self.path, repr(self.options), (state.st_ino, state.st_mtime_ns), _Unhashed(self.options))

    @property
    def array(self) -> xr.DataArray:
        """The variable.

        Raises:
            FlowsrError: no such variable, or several to choose from.
        """
        dataset, name = self.dataset, self.variable
        if name is None:
            names = field_variables(dataset)
            name = "velocity" if "velocity" in names else names[0]
        if name not in dataset:
            raise missing_variable(name, dataset.data_vars, file=self.path)
        return dataset[name]

    @property
    def grid(self) -> Grid:
        """Its grid."""
        return grid_of(self.dataset, self.path)

    def index(self, time: int) -> int:
        """Its snapshot that stands for the output's."""
        return time if self.snapshots is None else self.snapshots[time]

    def read(self, time: int, box: Box | None = None) -> np.ndarray:
        """(component, x, y, z) of a snapshot of the output's; what is missing is NaN."""
        array = self.array.isel(time=self.index(time))
        if box is not None:
            array = array.isel(dict(zip("xyz", box)))
        values = array.values
        bad = BadValues(self.array).mask(values)
        if bad.any():
            values = np.where(bad, np.nan, values)
        values = single(values)
        return values if values.ndim == 4 else values[None]

    def at(self, times: Sequence[float], of: str) -> Field:
        """The same with the snapshots at these times.

        Raises:
            FlowsrError: no snapshot at one of them.
        """
        own = self.dataset.time.values.astype(float)
        if len(own) == len(times) == 1:
            return replace(self, snapshots=(0,))
        step = np.diff(own).min() if len(own) > 1 else 1.0
        nearest = [int(np.abs(own - time).argmin()) for time in times]
        for time, index in zip(times, nearest):
            if abs(own[index] - time) > 0.01 * step:
                message = f"no snapshot of the {of} at this time"
                raise FlowsrError(
                    message, file=self.path, variable="time", expected=f"{time:.6g}", found=f"{own[index]:.6g}"
                )
        return replace(self, snapshots=tuple(nearest))


@dataclass(frozen=True, eq=False)
class _Unhashed:
    """Options beside the key of a cache: equal to all others."""

    options: ReadOptions

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unhashed)

    def __hash__(self) -> int:
        return 0


@lru_cache(maxsize=16)
def _opened(path: Path, key: str, state: tuple[int, int], options: _Unhashed) -> xr.Dataset:
    return open_field(path, options.options)


@dataclass(frozen=True)
class Evaluation:
    """What is measured of an output, and what it is held against.

    Args:
        output: how the output is measured.
        times: of its snapshots.
        coarse: the field that it was made of.
        operator: that makes the coarse field of a fine one; and its width, where it has one.
        stated: whether the coarse field says so; else it is taken to be the block mean.
        truth: the true field, on the output's grid.
        attrs: of the result.
    """

    output: FieldMeasure
    times: tuple[float, ...]
    coarse: Field | None = None
    operator: str = BLOCK_MEAN
    width: float | None = None
    stated: bool = False
    truth: Field | None = None
    attrs: Mapping[str, Any] | None = None

    @property
    def factors(self) -> tuple[int, int, int]:
        """Fine cells to a coarse one."""
        return triple(n // m for n, m in zip(self.output.grid.shape, self.coarse.grid.shape, strict=True))

    @property
    def blockwise(self) -> bool:
        """Whether the consistency with the input comes from blocks: they hold whole coarse cells' means."""
        whole = self.coarse is not None and all(side % f == 0 for side, f in zip(self.output.sides, self.factors))
        return whole and self.operator == BLOCK_MEAN and "consistency" in self.output.names

    def observe(
        self, time: int, values: np.ndarray, box: Box, coarse: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        """The state of a block of a snapshot: (component, x, y, z), and of the coarse cells that it was made of."""
        state = self.output.observe(values, box)
        if self.blockwise:
            place = triple(slice(part.start // f, part.stop // f) for part, f in zip(box, self.factors))
            coarse = self.coarse.read(time, place) if coarse is None else coarse
            sums = consistency_totals(values, coarse, self.output.grid, box, self.factors)
            state |= {f"consistency.{name}": value for name, value in sums.values.items()}
        if self.truth is not None:
            true = self.truth.read(time, box)
            state |= {f"truth.{name}": value for name, value in self.output.observe(true, box).items()}
            if "errors" in self.output.names:
                sums = error_totals(values, true, self.output.grid, cuts_of_box(box))
                state |= {f"error.{name}": value for name, value in sums.values.items()}
        return state

    def finish(
        self, time: int, states: Sequence[State], read: Callable[[], np.ndarray], folder: Path | None = None
    ) -> Snapshot:
        """What a snapshot has, from the states of its blocks.

        Args:
            read: gives it whole where it is small enough.
            folder: for what the input leaves meanwhile; None: the system's own, which may be memory.
        """
        read, fields, scalars = lru_cache(lambda read=read: single(read())), {}, {}
        fields[OUTPUT] = self.output.finish(states, read)
        if self.coarse is not None:
            fields[INPUT] = measured(self.input_measure(), self.coarse, time, folder)
        if "consistency" in self.output.names and self.coarse is not None:
            scalars |= self._consistency(time, states, read)
        if self.truth is not None:
            true = lru_cache(lambda: self.truth.read(time))
            fields[TRUTH] = self.output.finish(states, true, "truth.")
            if "errors" in self.output.names:
                scalars |= errors_of(Totals.of(totals_in(state, "error.") for state in states))
                scalars |= self._spectral_errors(fields, read, true)
        return Snapshot(self.times[time], fields, scalars)

    def input_measure(self) -> FieldMeasure:
        """How the input is measured."""
        grid = self.coarse.grid
        return replace(self.output, grid=grid, sides=_sides(grid), dtype=self.coarse.array.dtype.name)

    def measures(self) -> dict[str, FieldMeasure]:
        """How each field is measured."""
        found = {OUTPUT: self.output}
        if self.coarse is not None:
            found[INPUT] = self.input_measure()
        return found | ({TRUTH: self.output} if self.truth is not None else {})

    def dataset(self, snapshots: Sequence[Snapshot], units: str, length_units: str) -> xr.Dataset:
        """All results."""
        notes = list(_notes(self))
        attrs = {**(self.attrs or {}), "gradients": "finite differences of eighth order", "flowsr": __version__}
        attrs |= {"notes": notes} if notes else {}
        attrs["cells"] = {name: list(one.grid.shape) for name, one in self.measures().items()}
        return dataset_of(snapshots, self.measures(), units=units, length_units=length_units, attrs=attrs)

    def _consistency(self, time: int, states: Sequence[State], read) -> dict[str, float]:
        if self.blockwise:
            sums = Totals.of(totals_in(state, "consistency.") for state in states)
        elif self.output.fits and self.operator in DEGRADE_OPERATORS:
            try:
                degraded = _degraded(read(), self.output.grid, self.operator, self.factors, self.width)
            except FlowsrError as error:  # it is not for gaps, say
                log.warning("no consistency error: %s", error)
                return {}
            sums = _difference(degraded, self.coarse.read(time), cell_volumes(self.coarse.grid, _all(self.coarse.grid)))
        else:
            return {}
        found = ConsistencyError().finish(torch.as_tensor(sums["difference"]), torch.as_tensor(sums["power"]))
        return {key: float(value) for key, value in found.items()}

    def _spectral_errors(self, fields: Mapping[str, FieldValues], read, true) -> dict[str, float]:
        found, grid = {}, self.output.grid
        one, other = fields[OUTPUT].spectra, fields[TRUTH].spectra
        if "energy_spectrum" in one and "energy_spectrum" in other:
            cutoff = math.inf if self.coarse is None else math.pi / max(self.coarse.grid.spacing)
            width = float(one["energy_spectrum"].x[1])
            error = sum(
                shell_energy(torch.as_tensor((p - t)[None, None]), grid) for p, t in zip(read(), true(), strict=True)
            )
            axes = {name: torch.as_tensor(value) for name, value in shell_axes(grid).items()}
            energies = (one["energy_spectrum"].y[0] * width, other["energy_spectrum"].y[0] * width, error[0])
            result = Spectrum().finish(*energies, torch.tensor(1.0), **axes, cutoff=torch.tensor(cutoff))
            found |= {key: float(result[key]) for key in Spectrum.scalars}
        lines = [axis for axis in range(3) if f"line_spectrum_{'xyz'[axis]}" in other]
        if self.output.components == 3 and lines:
            bins = Bins.of(grid, tuple(lines))
            for kind in ("longitudinal", "transverse"):
                density, truth = (_along(values, lines, bins, kind) for values in (one, other))
                error = over_truth((density - truth).abs(), truth).nanmean()
                found[f"{kind}_spectrum_error"] = float(error)
        return {key: value for key, value in found.items() if math.isfinite(value)}


class StateFolder(Sequence[State]):
    """The states of a snapshot's blocks on the disk, each read when it is used."""

    def __init__(self, folder: Path, count: int):
        self.folder, self.count = folder, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number):
        if not 0 <= number < self.count:
            raise IndexError(number)
        return np.load(self.folder / f"{number}.npz", allow_pickle=False)

    def put(self, number: int, state: State) -> None:
        """Keep one."""
        content = io.BytesIO()
        np.savez(content, **state)
        (self.folder / f"{number}.npz").write_bytes(content.getvalue())


def evaluate_field(
    path: Path,
    output: Path | None = None,
    *,
    options: ReadOptions | None = None,
    variable: str | None = None,
    truth: Path | None = None,
    truth_group: str | None = None,
    coarse: Path | None = None,
    coarse_group: str | None = None,
    metrics: Sequence[str] | None = None,
    write: Write | None = None,
    spread: Spread | None = None,
    progress: Progress = SILENT,
    **stated: Any,
) -> xr.Dataset:
    """Physics metrics of a stored field of any size, read once.

    Args:
        path: anything that :func:`flowsr.data.open_field` opens.
        output: folder to write, a Zarr store with the group ``metrics``; None to write nothing.
        options: how ``path`` is read.
        variable: which field of it; default: the velocity, or the first.
        truth: the true field, on the same grid, with snapshots at the same times; and ``truth_group`` inside it.
        coarse: the field that it was made of, for the consistency; and ``coarse_group`` inside it.
        metrics: names out of :data:`flowsr.evaluate.MEASURES`; None for all.
        write: writes the result into a folder.
        spread: workers that share the blocks; they see the folder of ``output``.
        progress: told the fraction of blocks done.
        stated: options one by one, such as ``group``.

    Returns:
        The dataset that the group holds.

    Raises:
        FlowsrError: fields that cannot be read or do not go together, or an unknown name.
    """
    names = chosen_measures(metrics)
    field = Field(Path(path), read_options(options, stated), variable)
    array, grid, times = field.array, field.grid, tuple(field.dataset.time.values.astype(float).tolist())
    viscosity = field.dataset.attrs.get("viscosity")
    components = array.shape[1] if array.ndim == 5 else 1
    how = FieldMeasure(
        grid, _sides(grid), components, array.dtype.name, names, None if viscosity is None else float(viscosity)
    )
    attrs = {"file": Path(path).name, "variable": str(array.name)}
    evaluation = held_against(
        Evaluation(how, times, attrs=attrs),
        None if truth is None else Field(Path(truth), ReadOptions(group=truth_group), variable or str(array.name)),
        None if coarse is None else Field(Path(coarse), ReadOptions(group=coarse_group), variable or str(array.name)),
        str(array.attrs.get("units", "1")),
    )

    def work(folder: Path | None) -> tuple[xr.Dataset, list[Plane]]:
        snapshots = []
        for time in range(len(times)):
            tick = progress.share(time / len(times), (time + 1) / len(times))
            with TemporaryDirectory(dir=folder) as states:
                found = _states(evaluation, field, time, Path(states), tick, spread)
                snapshots.append(evaluation.finish(time, found, lambda time=time: field.read(time), folder))
        length_units = field.dataset.attrs.get("length_units", "1")
        planes = planes_of(evaluation, lambda box: field.read(len(times) - 1, box), len(times) - 1)
        return evaluation.dataset(snapshots, array.attrs.get("units", "1"), length_units), planes

    if output is None:
        return work(None)[0]
    _refuse_other(Path(output))
    growing = Partial(Path(output))
    growing.begin("metrics", lambda: None, fresh=True)
    try:
        content = growing.folder / "store"
        content.mkdir()
        dataset, planes = work(growing.folder)
        (write or write_dataset)(content, dataset, planes)
        growing.publish(content)
    except BaseException:
        growing.discard()
        raise
    return dataset


def _refuse_other(target: Path) -> None:
    """Refuse to replace anything but what was left here before."""
    if not target.exists() and not target.is_symlink():
        return
    ours = (target / "metrics" / "zarr.json").exists() and not target.is_symlink()
    if not ours or not {path.name for path in target.iterdir()} <= {"zarr.json", *BESIDE}:
        raise FlowsrError("will not be replaced", file=target, expected="no such name, or metrics alone")


def held_against(evaluation: Evaluation, truth: Field | None, coarse: Field | None, units: str = "1") -> Evaluation:
    """The evaluation with a truth and an input, checked to be of the same box.

    Args:
        units: of the output; 1 where they are not known.

    Raises:
        FlowsrError: another grid, other times, another unit, or another number of components.
    """
    grid, components = evaluation.output.grid, evaluation.output.components
    for one, what in ((truth, TRUTH), (coarse, INPUT)):
        if one is None:
            continue
        found = one.array.shape[1] if one.array.ndim == 5 else 1
        if found != components:
            where = {"file": one.path, "expected": components, "found": found}
            raise FlowsrError(f"the {what} has another number of components", variable=str(one.array.name), **where)
        theirs = str(one.array.attrs.get("units", "1"))
        if "1" not in (units, theirs) and not alike(units, theirs):
            where, hint = (
                {"file": one.path, "expected": units, "found": theirs},
                "flowsr convert --units brings it to one",
            )
            raise FlowsrError(f"the {what} is in another unit", variable=str(one.array.name), **where, hint=hint)
        shape = one.grid.shape
        fits = shape == grid.shape if what == TRUTH else all(n % m == 0 for n, m in zip(grid.shape, shape))
        if not fits or not np.allclose(one.grid.lengths, grid.lengths, rtol=1e-3):
            expected = f"{grid.shape} cells" if what == TRUTH else f"a divisor of {grid.shape}"
            raise FlowsrError(
                f"the {what} is of another grid", file=one.path, expected=f"{expected} in a box of {grid.lengths}",
                found=f"{shape} in {one.grid.lengths}",
            )  # fmt: skip
    if truth is not None:
        evaluation = replace(evaluation, truth=truth.at(evaluation.times, TRUTH))
    if coarse is not None:
        coarse = coarse if coarse.snapshots is not None else coarse.at(evaluation.times, INPUT)
        stated = coarse.dataset.attrs.get("degrade_operator")
        weight, width = (coarse.dataset.attrs.get(f"degrade_{name}") for name in ("weight", "width"))
        operator = BLOCK_MEAN if stated is None else str(stated) if weight is None else f"{stated} weighted by {weight}"
        evaluation = replace(evaluation, coarse=coarse, operator=operator, width=width, stated=stated is not None)
        if any(side % f and side < n for side, f, n in zip(evaluation.output.sides, evaluation.factors, grid.shape)):
            output = replace(evaluation.output, sides=_sides(grid, evaluation.factors))
            evaluation = replace(evaluation, output=output)
    return evaluation


def measured(how: FieldMeasure, field: Field, time: int, place: Path | None = None) -> FieldValues:
    """What a snapshot of a field has, read block by block."""
    evaluation = Evaluation(how, (0.0,))
    with TemporaryDirectory(dir=place) as folder:
        states = _states(evaluation, field, time, Path(folder), SILENT)
        return how.finish(states, lambda: field.read(time))


def observe_blocks(
    evaluation: Evaluation,
    field: Field,
    time: int,
    folder: Path,
    numbers: Sequence[int],
    *,
    progress: Progress = SILENT,
) -> None:
    """Leave the states of some of a snapshot's blocks in a folder, several blocks at a time."""
    boxes, done = evaluation.output.boxes, 0
    states, stop = StateFolder(folder, len(boxes)), STOP.get()

    def observe(number: int) -> None:
        if stop():
            return
        values = field.read(time, boxes[number])
        states.put(number, evaluation.observe(time, values, boxes[number]))

    with ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(observe, numbers):
            done += 1
            progress(done / len(numbers), f"{done} of {len(numbers)} blocks")


def _states(
    evaluation: Evaluation, field: Field, time: int, folder: Path, progress: Progress, spread: Spread | None = None
) -> StateFolder:
    """The states of all blocks of a snapshot."""
    count = len(evaluation.output.boxes)
    observe = partial(observe_blocks, evaluation, field, time, folder)
    if spread is None:
        observe(range(count), progress=progress)
    else:
        spread(observe, batches_of(range(count), len(spread)), progress)
    return StateFolder(folder, count)


def consistency_totals(values: np.ndarray, coarse: np.ndarray, grid: Grid, box: Box, factors) -> Totals:
    """Sums of a block for ||D(p) - c|| / ||c||, D the block mean."""
    start, shape = triple(part.start for part in box), triple(part.stop - part.start for part in box)
    piece = piece_of(grid, start, shape)
    coarser = piece.coarsened(factors)
    return _difference(_block_means(values, piece, factors), coarse, cell_volumes(coarser, _all(coarser)))


def planes_of(evaluation: Evaluation, read: Callable[[Box], np.ndarray], time: int) -> list[Plane]:
    """The middle slice across z of every field at one time: its first component, and the vorticity along z of three."""
    readers: dict[str, tuple[Grid, Callable[[Box], np.ndarray]]] = {OUTPUT: (evaluation.output.grid, read)}
    for name, field in ((INPUT, evaluation.coarse), (TRUTH, evaluation.truth)):
        if field is not None:
            readers[name] = (field.grid, lambda box, field=field: field.read(time, box))
    planes, fine = [], evaluation.output.grid.shape
    for name in (INPUT, OUTPUT, TRUTH):
        if name not in readers:
            continue
        grid, get = readers[name]
        nx, ny, nz = grid.shape
        where = f"z = {grid.coordinates()[2][nz // 2]:.3g}, t = {evaluation.times[time]:.4g}"
        # a corner of a large field, the same of all, and not a thinned one: its small scales are what is looked at
        shown = [max(1, n * min(m, PLANE_SIDE) // m) for n, m in zip((nx, ny), fine)]
        x, y, _ = grid.faces()
        extent = (float(x[0]), float(x[shown[0]]), float(y[0]), float(y[shown[1]]))
        values = get((slice(0, shown[0]), slice(0, shown[1]), slice(nz // 2, nz // 2 + 1)))[..., 0].astype(np.float64)
        planes.append(Plane("u" if len(values) == 3 else "first component", name, values[0], extent, where))
        if len(values) == 3 and min(shown) > 2:
            x, y = (along[:n] for along, n in zip(grid.coordinates(), shown))
            vorticity = np.gradient(values[1], x, axis=0) - np.gradient(values[0], y, axis=1)
            planes.append(Plane("vorticity along z", name, vorticity, extent, where))
    return planes


def _notes(evaluation: Evaluation) -> Iterator[str]:
    if evaluation.coarse is not None and "consistency" in evaluation.output.names:
        if not evaluation.stated:
            yield "the input does not say how it was made coarse: its consistency is that with block means"
        elif not evaluation.blockwise and evaluation.operator not in DEGRADE_OPERATORS:
            yield f"no consistency error: an operator that is not known here, {evaluation.operator}"
        elif not evaluation.blockwise and not evaluation.output.fits:
            yield f"no consistency error: {evaluation.operator} needs the whole field, which is too large"
    if "spectra" in evaluation.output.names and not evaluation.output.fits:
        kept = ", ".join(f"{'xyz'[axis]} {one.lines}" for axis, one in evaluation.output.lattices.items())
        yield f"the field is too large for shells; its line spectra are of evenly spaced lines: {kept or 'none'}"
    if evaluation.output.gradient and evaluation.output.viscosity is None and "dissipation" in evaluation.output.names:
        yield "no dissipation: the viscosity is not known"


def _sides(grid: Grid, factors: Sequence[int] = (1, 1, 1)) -> tuple[int, int, int]:
    """Cells along the sides of a block, whole coarse ones."""
    return triple(min(n, max(SIDE // f, 1) * f) for n, f in zip(grid.shape, factors, strict=True))


def _all(grid: Grid):
    return cuts_of_box(triple(slice(0, n) for n in grid.shape))


def _block_means(values: np.ndarray, grid: Grid, factors: Sequence[int]) -> np.ndarray:
    """What the operator ``block_mean`` makes of a block, float64, to round-off; it takes whole planes across x."""
    weights = []
    for widths, factor in zip(grid.widths(), factors, strict=True):
        own = widths.reshape(-1, factor)
        weights.append(own / own.sum(axis=1, keepdims=True))
    along_z = block_diag(*weights[2][:, None]).T
    means = np.empty((len(values), *(len(each) for each in weights)))
    layers = np.empty((factors[0], *values.shape[2:]))
    for component, number in np.ndindex(*means.shape[:2]):
        layers[...] = values[component, number * factors[0] : (number + 1) * factors[0]]
        plane = (weights[0][number] @ layers.reshape(factors[0], -1)).reshape(*weights[1].shape, -1)
        means[component, number] = np.einsum("yf,yfz->yz", weights[1], plane) @ along_z
    return means


def _difference(degraded: np.ndarray, coarse: np.ndarray, volumes: np.ndarray) -> Totals:
    """Sums of ||D(p) - c||^2 and ||c||^2; cells missing in either are left out."""
    coarse = coarse.astype(np.float64)
    good = np.isfinite(degraded).all(axis=0) & np.isfinite(coarse).all(axis=0)
    degraded, coarse = np.where(good, degraded, 0), np.where(good, coarse, 0)
    sums = {"difference": (degraded - coarse) ** 2, "power": coarse**2}
    return Totals({name: np.asarray((value * volumes).sum()) for name, value in sums.items()})


def _degraded(values: np.ndarray, grid: Grid, operator: str, factors, width: float | None) -> np.ndarray:
    """What an operator makes of a whole field, (component, x, y, z)."""
    names = tuple(map(str, range(len(values))))
    template = field_template(grid, [0.0], variable="field", irreps=f"{len(values)}x0e", components=names)
    fine = template.assign(field=(template["field"].dims, values[None], template["field"].attrs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of operators that no network should be trained with
        return degrade(fine, operator, factors, width=width)["field"].isel(time=0).values


def _along(spectra: Mapping[str, Curve], axes: Iterable[int], bins: Bins, kind: str) -> torch.Tensor:
    """The mean longitudinal or transverse spectrum, in bins, of spectra by component."""
    means = []
    for axis in axes:
        binned = bins.mean(spectra[f"line_spectrum_{'xyz'[axis]}"])
        own = binned[axis]
        means.append(own if kind == "longitudinal" else (binned.sum(0) - own) / 2)
    return torch.stack(means).mean(0)
