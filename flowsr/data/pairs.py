"""The ingest job: strangers' fields in, coarse / fine pairs out, split in time, with their statistics.

The output folder holds ``<split>/<run>.zarr`` for the splits train, validation and test, each with the groups
``coarse`` and ``fine``, and ``statistics.json``, which is written last: where it is, all of the rest is.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import xarray as xr

from flowsr import __version__
from flowsr.data.content import Content
from flowsr.data.degrade import DEGRADE_OPERATORS, degrade, degrade_operator, refuse_mixing
from flowsr.data.field import grid_of
from flowsr.data.independence import SPLITS, Split, run_scales, split_times, unmeasurable
from flowsr.data.manifest import data_set_of, is_manifest, read_manifest
from flowsr.data.open import Input, open_field
from flowsr.data.quality import CARRIED, BadValues, Missing, carries_missing, refuse_doubled
from flowsr.data.readers.units import in_length, in_units, stated
from flowsr.data.store import FieldStore, create_store
from flowsr.errors import FlowsrError, contradiction, missing_variable, require
from flowsr.files import read_json, write_json_atomic
from flowsr.grid import Grid
from flowsr.progress import SILENT, Progress
from flowsr.scratch import Box, check_room, pencils
from flowsr.spread import STOP, Spread, batches_of

if TYPE_CHECKING:
    from flowsr.metrics.scales import FlowScales

log = logging.getLogger(__name__)

STATISTICS = "statistics.json"
HOW_TO_CARRY = "to carry missing values as NaN: --set ingest.missing=nan"

# Bytes on the disk that a velocity's spectrum takes a cell while it is worked on; a filtered field takes less.
SPECTRUM = 24
# Share of the job's progress that the first look at the inputs takes.
SURVEY_SHARE = 0.3


@dataclass(frozen=True)
class Ingest:
    """From fields to coarse / fine pairs: what a pair is, and how runs are split.

    Raises:
        ValueError: a factor below one, or a width that is not positive.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid", "use_attribute_docstrings": True}

    inputs: list[Path | Input] | None = None
    """Fields to ingest, paths or ``{path: ..., run: ..., boundary: ...}``; default: what the simulate stage wrote."""
    variable: str = "velocity"
    """Variable to super-resolve."""
    operator: str = "block_mean"
    """Degrade operator, by registered name."""
    factor: int | tuple[int, int, int] = 4
    """Coarse cell size over fine cell size; three along x, y, z make pairs that can be read, not trained on."""
    weight: str | None = None
    """Scalar variable to weight with; the density gives Favre means."""
    width: float | None = None
    """Width of the top_hat in coarse cells; default 1."""
    missing: Missing = "refuse"
    """nan: cells without a value stay so, coarse ones that touch them too, and patches avoid them; default: refuse."""
    split: Split = field(default_factory=Split)
    """Split in time, with gaps: neighbouring snapshots are the same flow."""
    workers: int | None = None
    """Processes on this machine that share the work, of one core each (they need Dask); default: this process alone."""

    def __post_init__(self):
        if np.min(self.factor) < 1:
            raise ValueError(f"factor is at least 1, got {self.factor}")
        if self.width is not None and not self.width > 0:
            raise ValueError(f"width is positive, got {self.width}")

    @property
    def pairing(self) -> dict:
        """Operator, factor, weight and width, as they are kept with the data."""
        factors = np.ravel(self.factor).tolist()
        factor = factors[0] if len(set(factors)) == 1 else factors
        return {"operator": self.operator, "factor": factor, "weight": self.weight, "width": self.width}

    def degraded(self, fine: xr.Dataset, scratch: Path | None = None) -> xr.Dataset:
        """The coarse dataset of the variable; see :func:`flowsr.data.degrade.degrade`."""
        how = {"weight": self.weight, "width": self.width, "scratch": scratch}
        return degrade(fine, self.operator, self.factor, **how)[[self.variable]]

    @property
    def may_miss(self) -> bool:
        """Whether pairs may have missing values."""
        return "nan" in (self.missing, *(one.missing for one in self.inputs or () if isinstance(one, Input)))

    @property
    def needed(self) -> list[str]:
        """The variables that a coarse field is made of."""
        return list(dict.fromkeys([self.variable] if self.weight is None else [self.variable, self.weight]))


@dataclass(frozen=True)
class Source:
    """One run to ingest.

    Args:
        name: of its stores.
        input: a file, a store or a manifest, and which of its runs.
        split: what the whole run is for; None: it is split in time.
    """

    name: str
    input: Input
    split: str | None = None

    @property
    def path(self) -> Path:
        """The file, store or manifest."""
        return self.input.path


@dataclass(frozen=True)
class Survey:
    """What the first look at a run found; see :func:`survey_run`.

    Args:
        source: the run.
        content: of its file or store.
        fine: its fields, unread.
        grid: theirs.
        mean_square: (time,) of the variable, over the box.
        missing: (time,) share of cells without a value.
        scales: of the velocity, where they can be measured.
        splits: split to the snapshots that are for it, maybe none.
        gap: least distance in time between two splits; None where the whole run is for one.
    """

    source: Source
    content: Content
    fine: xr.Dataset
    grid: Grid
    mean_square: np.ndarray
    missing: np.ndarray
    scales: FlowScales | None
    splits: dict[str, range]
    gap: float | None

    @property
    def run(self) -> str:
        """Name of the run's stores."""
        return self.source.name

    @property
    def written(self) -> dict[str, range]:
        """The splits that get a store."""
        return {split: indices for split, indices in self.splits.items() if indices}


@dataclass(frozen=True)
class RunPairs:
    """The pairs of one run.

    Args:
        source, sha256: its file or store, and the checksum of that.
        gap: least distance in time between two splits; None where the whole run is for one.
        snapshots, times: how many and when, by split.
        scales: the fields of :class:`flowsr.metrics.scales.FlowScales`; None where they could not be measured.
    """

    source: str
    sha256: str
    gap: float | None
    snapshots: dict[str, int]
    times: dict[str, list[float]]
    scales: dict[str, float | None] | None


@dataclass(frozen=True)
class Statistics:
    """What is known of the pairs of an ingest: the content of ``statistics.json``.

    Args:
        variable, irreps, units, components: what is super-resolved.
        viscosity: kinematic, in the units of the data, where they state it.
        operator, factor, weight, width, commutes: how the coarse fields were made.
        transfer_function: the operator's, sampled along an axis.
        coarse, fine: the grids: shape, spacing, boundary, origin and, on stretched axes, centers.
        scale: root mean square of the ``coarse`` and the ``fine`` training snapshots.
        missing: share of the cells without a value in those of ``coarse`` and ``fine``.
        flow: mean of the runs' scales, where they could be measured.
        snapshots: how many, by split.
        split: the rule that they were divided by.
        runs: by name.
        data_sets: the fields of each :class:`flowsr.data.manifest.DataSet` that the runs come from.
        flowsr: the version that wrote the pairs.
    """

    variable: str
    irreps: str
    units: str
    components: int
    viscosity: float | None
    operator: str
    factor: int | list[int]
    weight: str | None
    width: float | None
    commutes: bool
    transfer_function: dict
    coarse: dict
    fine: dict
    scale: dict[str, float]
    missing: dict[str, float]
    flow: dict[str, float | None] | None
    snapshots: dict[str, int]
    split: dict
    runs: dict[str, RunPairs]
    data_sets: list[dict]
    flowsr: str


def ingest(
    inputs: Sequence[Path | Input],
    output: Path,
    settings: Ingest | None = None,
    *,
    fresh: bool = False,
    spread: Spread | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Validate runs, degrade them, split them in time, write pairs and statistics.

    All inputs are looked at from end to end before anything is written. Killed at any moment and started again with the
    same arguments, it resumes where it was and ends with the same bytes.

    Args:
        inputs: what :func:`flowsr.data.open_field` opens, alone or with options. A run is named after its file; of a
            file or manifest with several runs all are taken, ``<file>_<run>``. Runs that a manifest's ``splits`` names
            are not split in time.
        output: folder for the pairs.
        settings: what a pair is and how runs are split; default: those of :class:`Ingest`.
        fresh: replace the stores of an earlier ingest instead of using them.
        spread: workers that share the runs, then the snapshots; ``settings.workers`` is for who starts them.
        progress: told the fraction done and a short message.

    Returns:
        Path of ``statistics.json``.

    Raises:
        FlowsrError: an input that cannot be read, is not in the layout, has infinite values, or missing ones that the
            settings refuse, is too short to be split, or differs from the others in grid or field type; a manifest
            whose splits leave out a run, or leave nothing for one of the three; a folder with pairs of other
            inputs or settings.
    """
    output, settings = Path(output), settings or Ingest()
    sources, surveys = runs_to_ingest(inputs), []
    alone = sources if spread is None else sources[:1]
    for number, source in enumerate(alone):
        ends = (SURVEY_SHARE * (number + end) / len(sources) for end in (0, 1))
        first = surveys[0] if surveys else None
        surveys.append(survey_run(source, settings, progress.share(*ends), first, output))
    if len(alone) < len(sources):
        others = [(source,) for source in sources[1:]]
        rest = progress.share(SURVEY_SHARE / len(sources), SURVEY_SHARE)
        found = spread(partial(_survey_runs, settings, surveys[0], output), others, rest)
        surveys += [survey for each in found for survey in each]
    _check_alike(surveys, settings.variable)
    _check_strays(output, {pair_store(output, split, s.run) for s in surveys for split in s.written}, fresh)
    total = sum(len(indices) for s in surveys for indices in s.splits.values())
    done = 0
    for survey in surveys:
        for split, indices in survey.written.items():
            ends = (SURVEY_SHARE + (1 - SURVEY_SHARE) * (done + end) / total for end in (0, len(indices)))
            _write_pairs(survey, split, output, settings, fresh, spread, progress.share(*ends))
            done += len(indices)
    path = write_statistics(output, _statistics(surveys, output, settings))
    progress(1.0, f"{total} pairs")
    return path


def survey_run(
    source: Source,
    settings: Ingest,
    progress: Progress = SILENT,
    first: Survey | None = None,
    scratch: Path | None = None,
) -> Survey:
    """Open one run as a stranger's, look at every value, measure its scales and split it.

    Args:
        first: run whose units this one is brought to.
        scratch: folder on the disk where the spectra of fields that memory does not hold are worked on.

    Raises:
        FlowsrError: as :func:`ingest`.
    """
    from flowsr.metrics.scales import (
        spectral_moments,
        streamed_moments,
    )  # torch, which settings and statistics do without

    path = source.path
    dataset = open_field(path, source.input)
    content = Content(Path(dataset.encoding["source"]))
    for name in settings.needed:
        if name not in dataset.data_vars:
            raise missing_variable(name, dataset.data_vars, file=path)
    if first is not None:
        dataset = _in_units_of(first, dataset, path)
    grid, missing = grid_of(dataset, path), "nan" if carries_missing(dataset) else settings.missing
    # the velocity's scales split the run, whichever of its variables is learned
    watched = list(dict.fromkeys(v for v in (*settings.needed, "velocity") if v in dataset.data_vars))
    if "velocity" in watched and grid.periodic and len(pencils(grid.shape)) > 1:
        check_room(SPECTRUM * math.prod(grid.shape), scratch)  # before hours of reading
    refuse_doubled(dataset, watched, grid.boundary, path)
    settings.degraded(dataset[settings.needed])  # refuses what cannot be degraded before all is read
    bad = {name: BadValues(dataset[name]) for name in watched}
    moments, work = [], list(product(range(dataset.sizes["time"]), watched))
    mean_square, empty = np.zeros(dataset.sizes["time"]), np.zeros(dataset.sizes["time"])
    for number, (time, name) in enumerate(work):
        halves = np.linspace(number, number + 1, 3) / len(work)
        looking, turning = (
            partial(progress.share(*ends), message=f"reading {source.name}") for ends in pairwise(halves)
        )
        snapshot, power = dataset[name].isel(time=time), MeanSquare(grid)
        watchers = [partial(bad[name].update, time), *([power.add] if name == settings.variable else [])]
        values = _shown(snapshot, watchers, looking)
        if name == settings.variable:
            mean_square[time], empty[time] = power.mean
        if name == "velocity" and grid.periodic and not bad[name].count:
            whole, read = values.shape[-3:] == grid.shape, partial(_box_of, snapshot)
            streamed = partial(streamed_moments, read, grid, scratch, turning)
            moments.append(spectral_moments(values, grid) if whole else streamed())
        turning(1.0)
    for found in bad.values():
        found.refuse(path, missing, HOW_TO_CARRY)
        refuse_mixing(degrade_operator(settings.operator, settings.width), found.count, str(found.array.name), path)
    if (count := sum(found.count for found in bad.values())) and missing == "nan":
        share = f"{100 * empty.mean():.3g} % of the cells"
        log.info("%s: %d values are missing, %s of %s; they stay so", source.name, count, share, settings.variable)
        dataset.attrs[CARRIED] = "nan"
    measurable = moments and len(moments) == dataset.sizes["time"]
    scales = run_scales(moments, dataset.attrs.get("viscosity"), path) if measurable else None
    splits, gap = _split(source, settings.split, dataset["time"].values, scales)
    return Survey(
        source=source,
        content=content,
        fine=dataset[settings.needed],
        grid=grid,
        mean_square=mean_square,
        missing=empty,
        scales=scales,
        splits=splits,
        gap=gap,
    )


def _split(
    source: Source, rule: Split, times: np.ndarray, scales: FlowScales | None
) -> tuple[dict[str, range], float | None]:
    """The snapshots of each split, and the gap between them."""
    if source.split is not None:
        return {split: range(len(times) if split == source.split else 0) for split in SPLITS}, None
    turnover = rule.turnover_time if rule.turnover_time is not None else scales and scales.turnover_time
    if turnover is None:
        raise unmeasurable(source.path, "split.turnover_time")
    return split_times(times, turnover, rule, file=source.path), rule.decorrelation_turnovers * turnover


def pair_store(output: Path, split: str, run: str) -> Path:
    """Where the pairs of a run and split are."""
    return Path(output) / split / f"{run}.zarr"


def write_statistics(output: Path, statistics: Statistics) -> Path:
    """Finish a folder of pairs."""
    return write_json_atomic(Path(output) / STATISTICS, asdict(statistics))


def read_statistics(output: Path) -> Statistics:
    """What :func:`ingest` wrote about its pairs.

    Raises:
        FlowsrError: there is no finished ingest in this folder.
    """
    path = Path(output) / STATISTICS
    try:
        content = read_json(path)
        runs = {run: RunPairs(**entry) for run, entry in content["runs"].items()}
        return Statistics(**{**content, "runs": runs})
    except (TypeError, KeyError):
        raise FlowsrError("no finished ingest here", file=path, hint="run `flowsr ingest` first") from None


def pair_stores(output: Path, split: str) -> list[Path]:
    """The stores of a split, in the order of the inputs; runs that have nothing in it are left out."""
    runs = read_statistics(output).runs
    return [pair_store(output, split, name) for name, run in runs.items() if run.snapshots[split]]


def runs_to_ingest(inputs: Sequence[Path | Input]) -> list[Source]:
    """Every run of the inputs, with the split that its manifest gives it; one of several of a file is named after both.

    Raises:
        FlowsrError: no inputs, two runs of one name, a run that its manifest's splits leave out, or no run for one of
            the splits.
    """
    sources: dict[str, Source] = {}
    listed = [Input.of(given) for given in inputs]
    for given in listed:
        path = given.path
        manifest, runs = read_manifest(path) if is_manifest(path) else None, given.runs()
        for one in runs:
            run = one.run
            several = len(runs) > 1 or sum(other.path == path for other in listed) > 1
            parts = [run, *(f"{axis}_{number}" for axis, number in given.select.items())] if several else []
            name = "_".join(filter(None, [path.stem, *parts])).replace("/", "_")
            if name in sources:
                found = sources[name].path
                raise FlowsrError("two inputs of the same name", file=path, variable="inputs", found=found)
            split = manifest and manifest.split_of(run)
            if split is None and manifest is not None and manifest.splits is not None:
                expected = "each run in one of them"
                raise FlowsrError("a run in no split", file=path, variable="splits", expected=expected, found=run)
            sources[name] = Source(name, one, split)
    if not sources:
        raise FlowsrError("nothing to ingest", variable="inputs", expected="one field or more", found="none")
    given = {source.split for source in sources.values()}
    if None not in given and given != set(SPLITS):
        file, found = next(iter(sources.values())).path, ", ".join(split for split in SPLITS if split in given)
        where = {"file": file, "variable": "splits", "expected": ", ".join(SPLITS), "found": found}
        raise FlowsrError("no run for one of the splits", **where)
    return list(sources.values())


def _box_of(snapshot: xr.DataArray, box: Box) -> np.ndarray:
    return snapshot[(..., *box)].values


def _shown(
    snapshot: xr.DataArray,
    watchers: Sequence[Callable[[np.ndarray, Box], None]],
    done: Callable[[float], None] = lambda fraction: None,
) -> np.ndarray:
    """Show a snapshot box by box to watchers, and return the last box: the whole snapshot where it is small."""
    boxes = pencils(snapshot.shape[-3:])
    for number, box in enumerate(boxes):
        values = _box_of(snapshot, box)
        for watch in watchers:
            watch(values, box)
        done((number + 1) / len(boxes))
    return values


class MeanSquare:
    """Mean of the squared length of a vector, or of the square of a scalar, over the cells that have a value.

    Args:
        grid: of the field, whose boxes are added one after another.
    """

    def __init__(self, grid: Grid):
        self.grid, self.square, self.there, self.whole = grid, 0.0, 0.0, True

    def add(self, values: np.ndarray, box: Box) -> None:
        """The values (component, x, y, z) or (x, y, z) of a box."""
        shape = values.shape[-3:]
        there = np.isfinite(values).reshape(-1, *shape).all(axis=0)
        square = np.square(values, dtype=np.float64)
        if not there.all():
            square, self.whole = np.where(there, square, 0.0), False
        self.square += self._sum(square, box)
        self.there += self._sum(there.astype(np.float64), box)

    def _sum(self, square: np.ndarray, box: Box) -> float:
        """Sum over a box, weighted with the sizes of cells where these differ, and over what else there is."""
        if not any(self.grid.stretched):
            return float(np.sum(square))
        for widths, part in reversed(list(zip(self.grid.widths(), box))):
            square = square @ (widths / widths.sum())[part]
        return float(square.sum())

    @property
    def mean(self) -> tuple[float, float]:
        """It, and the share of the volume without a value."""
        cells = 1 if any(self.grid.stretched) else math.prod(self.grid.shape)
        if self.whole:
            return self.square / cells, 0.0
        share = self.there / cells
        return (self.square / cells / share if share else np.nan), 1.0 - share


def _in_units_of(first: Survey, dataset: xr.Dataset, path: Path) -> xr.Dataset:
    """The dataset in the units of the first run; silence agrees with everything."""
    said = (f"first run, {first.source.path.name}", "runs differ in their units")
    for name, array in first.fine.data_vars.items():
        if stated(array.attrs.get("units")) and stated(dataset[name].attrs.get("units")):
            dataset = in_units(dataset, str(name), array.attrs["units"], path, *said)
    return in_length(dataset, first.fine.attrs.get("length_units"), path, *said)


def _check_alike(surveys: list[Survey], variable: str) -> None:
    from flowsr.group.o3 import Irreps

    first = surveys[0]
    field_type = first.fine[variable].attrs["irreps"]
    if len(Irreps(field_type).simplify()) != 1:
        where = {"variable": variable, "expected": "one irrep, which has one scale", "found": field_type}
        raise FlowsrError("more than one field type in one variable", file=first.source.path, **where)
    alike = partial(np.allclose, rtol=1e-3)
    for other in surveys[1:]:
        pairs = {
            "shape": (first.grid.shape, other.grid.shape),
            "boundary": (first.grid.boundary, other.grid.boundary),
            "irreps": (field_type, other.fine[variable].attrs["irreps"]),
            "dtype": (first.fine[variable].dtype, other.fine[variable].dtype),
            "viscosity": (first.fine.attrs.get("viscosity"), other.fine.attrs.get("viscosity")),
        }
        if not np.allclose(first.grid.spacing, other.grid.spacing, rtol=1e-5):
            pairs["spacing"] = (first.grid.spacing, other.grid.spacing)
        elif first.grid.shape == other.grid.shape and not all(map(alike, first.grid.widths(), other.grid.widths())):
            pairs["cell sizes"] = (first.grid.stretched, f"others, {other.grid.stretched}")
        for what, (wanted, found) in pairs.items():
            if wanted != found:
                expected = f"{wanted} as in {first.source.path}"
                message = f"runs differ in {what}"
                raise contradiction(message, file=other.source.path, variable=variable, expected=expected, found=found)


def _check_strays(output: Path, stores: set[Path], fresh: bool) -> None:
    """Pairs of runs that are not among the inputs would be trained on unnoticed."""
    strays = sorted(s for split in SPLITS for s in (output / split).glob("*.zarr") if s not in stores)
    if strays and not fresh:
        where = {"expected": ", ".join(sorted({store.stem for store in stores})), "found": strays[0].stem}
        hint = "use --fresh to replace them"
        raise FlowsrError("pairs of another ingest are here", file=strays[0], **where, hint=hint)
    if fresh:
        (output / STATISTICS).unlink(missing_ok=True)
    for stray in strays:
        shutil.rmtree(stray)


def _survey_runs(settings: Ingest, first: Survey, scratch: Path, sources: Sequence[Source]) -> list[Survey]:
    return [survey_run(source, settings, SILENT, first, scratch) for source in sources]


def _write_pairs(
    survey: Survey, split: str, output: Path, settings: Ingest, fresh: bool, spread: Spread | None, progress: Progress
) -> None:
    target, times = pair_store(output, split, survey.run), range(len(survey.splits[split]))
    with create_store(target, _pair_groups(survey, split, settings), fresh=fresh) as store:
        if not store.published:
            write = partial(write_pairs_at, survey, split, target, settings)
            if spread is None:
                write(times, progress=progress)
            else:
                spread(write, batches_of(times, len(spread)), progress)
        survey.content.refuse_changed()
        store.publish()


def write_pairs_at(
    survey: Survey, split: str, target: Path, settings: Ingest, times: Sequence[int], *, progress: Progress = SILENT
) -> None:
    """Write the pairs of some snapshots into a store that was laid down, those that are not there yet.

    Args:
        times: numbers of snapshots among those of the split.
    """
    store, groups, variable = (
        FieldStore(target),
        _pair_groups(survey, split, settings, target.parent),
        settings.variable,
    )
    boxes = [(group, box) for group in groups for box in store.boxes(variable, group)]
    for number, (time, (group, box)) in enumerate(product(times, boxes)):
        if STOP.get()():
            return
        if not store.is_written(variable, time, box, group):
            values = _box_of(groups[group][variable].isel(time=time), box)
            store.write(variable, values, time=time, box=box, group=group)
        progress((number + 1) / len(times) / len(boxes), f"writing {split}/{survey.run}")


def _pair_groups(survey: Survey, split: str, settings: Ingest, scratch: Path | None = None) -> dict[str, xr.Dataset]:
    """The coarse and the fine fields of a split, unread."""
    indices = survey.splits[split]
    provenance = {
        "source": str(survey.source.path),
        "sha256": survey.content.checksum,
        "source_provenance": survey.fine.attrs.get("provenance"),
        "flowsr": __version__,
        "split": split,
        **settings.pairing,
    }
    fine = survey.fine.isel(time=slice(indices.start, indices.stop)).assign_attrs(provenance=provenance)
    return {"coarse": settings.degraded(fine, scratch), "fine": fine[[settings.variable]]}


def _statistics(surveys: list[Survey], output: Path, settings: Ingest) -> Statistics:
    first = surveys[0]
    variable = first.fine[settings.variable]
    coarse_grid = first.grid.coarsened(settings.factor)
    measured = [s.scales.as_dict() for s in surveys if s.scales is not None]
    coarse = []
    for survey in (s for s in surveys if s.splits["train"]):
        snapshots = open_field(pair_store(output, "train", survey.run), group="coarse")[settings.variable]
        for snapshot in snapshots:
            power = MeanSquare(coarse_grid)
            _shown(snapshot, [power.add])
            coarse.append(power.mean)
    fine = [(s.mean_square[time], s.missing[time]) for s in surveys for time in s.splits["train"]]
    moments = {name: np.transpose(each) for name, each in (("coarse", coarse), ("fine", fine))}
    for name, (_, shares) in moments.items():
        where = {"file": output, "variable": settings.variable, "expected": "cells with a value"}
        there = (shares < 1).any()
        require(there, f"nothing to train on: all {name} cells are missing", **where, found="none")
    return Statistics(
        variable=settings.variable,
        irreps=str(variable.attrs["irreps"]),
        units=variable.attrs.get("units", "1"),
        components=variable.sizes.get("component", 1),
        viscosity=first.fine.attrs.get("viscosity"),
        **settings.pairing,
        commutes=DEGRADE_OPERATORS[settings.operator].commutes,
        transfer_function=_transfer_samples(settings),
        coarse=_grid_entry(coarse_grid),
        fine=_grid_entry(first.grid),
        scale={name: _root_mean(*each) for name, each in moments.items()},
        missing={name: float(shares.mean()) for name, (_, shares) in moments.items()},
        flow={name: _mean_or_none([scales[name] for scales in measured]) for name in measured[0]} if measured else None,
        snapshots={split: sum(len(s.splits[split]) for s in surveys) for split in SPLITS},
        split=asdict(settings.split),
        runs={s.run: _run_pairs(s) for s in surveys},
        data_sets=[asdict(data_set) for data_set in dict.fromkeys(data_set_of(s.fine) for s in surveys) if data_set],
        flowsr=__version__,
    )


def _run_pairs(survey: Survey) -> RunPairs:
    times = survey.fine["time"].values
    return RunPairs(
        source=str(survey.source.path),
        sha256=survey.content.checksum,
        gap=survey.gap,
        snapshots={split: len(indices) for split, indices in survey.splits.items()},
        times={split: times[list(indices)].astype(float).tolist() for split, indices in survey.splits.items()},
        scales=None if survey.scales is None else survey.scales.as_dict(),
    )


def _grid_entry(grid: Grid) -> dict:
    return {
        "shape": list(grid.shape),
        "spacing": list(grid.spacing),
        "boundary": list(grid.boundary),
        "origin": list(grid.origin),
        **({"centers": [c and list(c) for c in grid.centers]} if any(grid.stretched) else {}),
    }


def _mean_or_none(values: list) -> float | None:
    return None if any(v is None for v in values) else float(np.mean(values))


def _root_mean(squares: np.ndarray, missing: np.ndarray) -> float:
    """Root of the mean of the squares of snapshots, each counted by the share of its cells that have a value."""
    if not missing.any():
        return float(np.sqrt(np.mean(squares)))
    there = missing < 1
    return float(np.sqrt(np.average(squares[there], weights=1 - missing[there])))


def _transfer_samples(settings: Ingest, count: int = 65) -> dict:
    """T along an axis, against k d from 0 to pi, the fine grid's Nyquist wavenumber; of x, y, z where they differ.

    A weighted mean has T for the weighted field, of which the weight is a part.
    """
    scaled = np.linspace(0, np.pi, count)
    factor = settings.pairing["factor"]
    chosen = degrade_operator(settings.operator, settings.width)
    values = [chosen.transfer_function(scaled, 1.0, s) for s in np.ravel(factor).tolist()]
    values = np.array(values[0] if len(values) == 1 else values)
    return {
        "wavenumber_times_fine_spacing": scaled.tolist(),
        "real": np.real(values).tolist(),
        "imaginary": np.imag(values).tolist(),
    }
