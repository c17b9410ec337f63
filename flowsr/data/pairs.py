"""The ingest job: strangers' fields in, coarse / fine pairs out, split in time, with their statistics.

The output folder holds ``<split>/<run>.zarr`` for the splits train, validation and test, each with the groups
``coarse`` and ``fine``, and ``statistics.json``, which is written last: where it is, all of the rest is.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from flowsr import __version__
from flowsr.data.degrade import DEGRADE_OPERATORS, degrade, degrade_operator
from flowsr.data.field import grid_of
from flowsr.data.independence import (
    SPLITS,
    FlowScales,
    SpectralMoments,
    Split,
    run_scales,
    spectral_moments,
    split_times,
)
from flowsr.data.open import open_field
from flowsr.data.quality import BadValues
from flowsr.data.store import create_store, store_checksum
from flowsr.errors import FlowsrError
from flowsr.files import write_json_atomic
from flowsr.grid import Grid
from flowsr.progress import SILENT, Progress

STATISTICS = "statistics.json"

# Share of the job's progress that the first look at the inputs takes.
SURVEY_SHARE = 0.3


@dataclass(frozen=True)
class Ingest:
    """From fields to coarse / fine pairs: what a pair is, and how runs are split.

    Raises:
        ValueError: a factor below one, or a width that is not positive.
    """

    __pydantic_config__ = {"extra": "forbid", "use_attribute_docstrings": True}

    inputs: list[Path] | None = None
    """Fields to ingest; default: what the simulate stage wrote."""
    variable: str = "velocity"
    """Variable to super-resolve."""
    operator: str = "block_mean"
    """Degrade operator, by registered name."""
    factor: int | tuple[int, int, int] = 4
    """Coarse cell size over fine cell size; three along x, y, z make pairs that can be degraded and read, not trained on."""
    weight: str | None = None
    """Scalar variable to weight with; the density gives Favre means."""
    width: float | None = None
    """Width of the top_hat in coarse cells; default 1."""
    split: Split = Split()
    """Split in time, with gaps: neighbouring snapshots are the same flow."""

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

    def degraded(self, fine: xr.Dataset) -> xr.Dataset:
        """The coarse dataset of the variable."""
        return degrade(fine, self.operator, self.factor, weight=self.weight, width=self.width)[[self.variable]]

    @property
    def needed(self) -> list[str]:
        """The variables that a coarse field is made of."""
        return list(dict.fromkeys([self.variable] if self.weight is None else [self.variable, self.weight]))


@dataclass(frozen=True)
class Survey:
    """What the first look at a run found; see :func:`survey_run`."""

    run: str
    path: Path
    checksum: str
    fine: xr.Dataset
    grid: Grid
    mean_square: np.ndarray
    scales: FlowScales | None
    splits: dict[str, range]
    gap: float


def ingest(
    inputs: Sequence[Path],
    output: Path,
    settings: Ingest = Ingest(),
    *,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Validate runs, degrade them, split them in time, write pairs and statistics.

    All inputs are looked at from end to end before anything is written. Killed at any moment and started again with the
    same arguments, it resumes where it was and ends with the same bytes.

    Args:
        inputs: fields that :func:`flowsr.data.open_field` opens, one a run; a run is named after its file.
        output: folder for the pairs.
        settings: what a pair is and how runs are split.
        fresh: replace the stores of an earlier ingest instead of using them.
        progress: told the fraction done and a short message.

    Returns:
        Path of ``statistics.json``.

    Raises:
        FlowsrError: an input that cannot be read, is not in the layout, has NaN or infinite values, is too short to
            be split, or differs from the others in grid or field type; a folder with pairs of other inputs or settings.
    """
    output = Path(output)
    surveys = []
    for number, (run, path) in enumerate(_named(inputs).items()):
        part = progress.share(*(SURVEY_SHARE * (number + end) / len(inputs) for end in (0, 1)))
        surveys.append(survey_run(run, path, settings, part))
    _check_alike(surveys, settings.variable)
    _check_strays(output, {s.run for s in surveys}, fresh)
    total = sum(len(indices) for s in surveys for indices in s.splits.values())
    done = 0
    for survey in surveys:
        for split, indices in survey.splits.items():
            ends = (SURVEY_SHARE + (1 - SURVEY_SHARE) * (done + end) / total for end in (0, len(indices)))
            _write_pairs(survey, split, output, settings, fresh, progress.share(*ends))
            done += len(indices)
    path = write_json_atomic(output / STATISTICS, _statistics(surveys, output, settings))
    progress(1.0, f"{total} pairs")
    return path


def survey_run(run: str, path: Path, settings: Ingest, progress: Progress = SILENT) -> Survey:
    """Open one run as a stranger's, look at every value, measure its scales and split it.

    Raises:
        FlowsrError: as :func:`ingest`.
    """
    dataset = open_field(path)
    source = Path(dataset.encoding["source"])
    for name in settings.needed:
        if name not in dataset.data_vars:
            raise FlowsrError("no such variable", file=path, expected=name, found=", ".join(dataset.data_vars))
    settings.degraded(dataset[settings.needed])  # refuses what cannot be degraded before anything is read
    grid = grid_of(dataset, path)
    # the velocity's scales split the run, whichever of its variables is learned
    watched = list(dict.fromkeys(v for v in (*settings.needed, "velocity") if v in dataset.data_vars))
    bad = {name: BadValues(dataset[name]) for name in watched}
    moments: list[SpectralMoments] = []
    mean_square = np.zeros(dataset.sizes["time"])
    for time in range(dataset.sizes["time"]):
        for name in watched:
            values = dataset[name].isel(time=time).values
            bad[name].update(time, values)
            if bad[name].count:
                continue
            if name == settings.variable:
                mean_square[time] = _mean_square(values, grid)
            if name == "velocity" and grid.periodic:
                moments.append(spectral_moments(values, grid))
        progress((time + 1) / dataset.sizes["time"], f"reading {run}")
    for found in bad.values():
        found.refuse(path)
    scales = run_scales(moments, dataset.attrs.get("viscosity"), path) if moments else None
    rule = settings.split
    turnover = rule.turnover_time if rule.turnover_time is not None else scales and scales.turnover_time
    if turnover is None:
        raise FlowsrError(
            "the eddy turnover time cannot be measured here",
            file=path,
            variable="split.turnover_time",
            expected="a number, where the box is not periodic or there is no velocity",
            found="nothing",
        )
    return Survey(
        run=run,
        path=Path(path),
        checksum=store_checksum(source),
        fine=dataset[settings.needed],
        grid=grid,
        mean_square=mean_square,
        scales=scales,
        splits=split_times(dataset["time"].values, turnover, rule, file=path),
        gap=rule.decorrelation_turnovers * turnover,
    )


def pair_store(output: Path, split: str, run: str) -> Path:
    """Where the pairs of a run and split are."""
    return Path(output) / split / f"{run}.zarr"


def read_statistics(output: Path) -> dict:
    """What :func:`ingest` wrote about its pairs.

    Raises:
        FlowsrError: there is no finished ingest in this folder.
    """
    path = Path(output) / STATISTICS
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise FlowsrError("no finished ingest here", file=path, hint="run `flowsr ingest` first") from None


def pair_stores(output: Path, split: str) -> list[Path]:
    """The stores of a split, in the order of the inputs."""
    return [pair_store(output, split, run) for run in read_statistics(output)["runs"]]


def _named(inputs: Sequence[Path]) -> dict[str, Path]:
    runs: dict[str, Path] = {}
    for path in map(Path, inputs):
        if path.stem in runs:
            raise FlowsrError("two inputs of the same name", file=path, variable="inputs", found=str(runs[path.stem]))
        runs[path.stem] = path
    if not runs:
        raise FlowsrError("nothing to ingest", variable="inputs", expected="one field or more", found="none")
    return runs


def _mean_square(values: np.ndarray, grid: Grid) -> float:
    """Mean over the box of the squared length of the vector (or of the square of the scalar)."""
    if not any(grid.stretched):
        return float(np.sum(np.square(values, dtype=np.float64)) / np.prod(grid.shape))
    square = np.square(values, dtype=np.float64)
    for widths in reversed(grid.widths()):
        square = square @ (widths / widths.sum())
    return float(square.sum())


def _check_alike(surveys: list[Survey], variable: str) -> None:
    first = surveys[0]
    field_type = first.fine[variable].attrs["irreps"]
    if len(_irreps_of(field_type)) != 1:
        raise FlowsrError(
            "more than one field type in one variable",
            file=first.path,
            variable=variable,
            expected="one irrep, which has one scale",
            found=field_type,
        )
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
        if first.grid.shape == other.grid.shape and not _same_widths(first.grid, other.grid):
            pairs["cell sizes"] = (first.grid.stretched, f"others, {other.grid.stretched}")
        for what, (wanted, found) in pairs.items():
            if wanted != found:
                raise FlowsrError(
                    f"runs differ in {what}",
                    file=other.path,
                    variable=variable,
                    expected=f"{wanted} as in {first.path}",
                    found=found,
                )


def _same_widths(one: Grid, other: Grid) -> bool:
    return all(np.allclose(a, b, rtol=1e-3) for a, b in zip(one.widths(), other.widths()))


def _irreps_of(field_type: str) -> list:
    from e3nn.o3 import Irreps

    return list(Irreps(field_type).simplify())


def _check_strays(output: Path, runs: set[str], fresh: bool) -> None:
    """Pairs of runs that are not among the inputs would be trained on unnoticed."""
    strays = sorted(s for split in SPLITS for s in (output / split).glob("*.zarr") if s.stem not in runs)
    if strays and not fresh:
        raise FlowsrError(
            "pairs of another ingest are here",
            file=strays[0],
            expected=", ".join(sorted(runs)),
            found=strays[0].stem,
            hint="use --fresh to replace them",
        )
    if fresh:
        (output / STATISTICS).unlink(missing_ok=True)
    for stray in strays:
        shutil.rmtree(stray)


def _write_pairs(survey: Survey, split: str, output: Path, settings: Ingest, fresh: bool, progress: Progress) -> None:
    fine = survey.fine.isel(time=slice(survey.splits[split].start, survey.splits[split].stop))
    fine = fine.assign_attrs(provenance=_provenance(survey, split, settings))
    coarse, fine = settings.degraded(fine), fine[[settings.variable]]
    target = pair_store(output, split, survey.run)
    with create_store(target, {"coarse": coarse, "fine": fine}, fresh=fresh) as store:
        for time in range(fine.sizes["time"]):
            for group, dataset in (("coarse", coarse), ("fine", fine)):
                if not store.is_written(settings.variable, time, group=group):
                    store.write(
                        settings.variable, dataset[settings.variable].isel(time=time).values, time=time, group=group
                    )
            progress((time + 1) / fine.sizes["time"], f"writing {split}/{survey.run}")
        store.publish()


def _provenance(survey: Survey, split: str, settings: Ingest) -> dict:
    return {
        "source": str(survey.path),
        "sha256": survey.checksum,
        "source_provenance": survey.fine.attrs.get("provenance"),
        "flowsr": __version__,
        "split": split,
        **settings.pairing,
    }


def _statistics(surveys: list[Survey], output: Path, settings: Ingest) -> dict:
    first = surveys[0]
    variable = first.fine[settings.variable]
    coarse_grid = first.grid.coarsened(settings.factor)
    measured = [s.scales.as_dict() for s in surveys if s.scales is not None]
    return {
        "variable": settings.variable,
        "irreps": str(variable.attrs["irreps"]),
        "units": variable.attrs.get("units", "1"),
        "components": variable.sizes.get("component", 1),
        "viscosity": first.fine.attrs.get("viscosity"),
        **settings.pairing,
        "commutes": DEGRADE_OPERATORS[settings.operator].commutes,
        "transfer_function": _transfer_samples(settings),
        "coarse": _grid_entry(coarse_grid),
        "fine": _grid_entry(first.grid),
        "scale": {"coarse": _coarse_rms(surveys, output, settings, coarse_grid), "fine": _fine_rms(surveys)},
        "flow": {k: _mean([m[k] for m in measured]) for k in measured[0]} if measured else None,
        "snapshots": {split: sum(len(s.splits[split]) for s in surveys) for split in SPLITS},
        "split": asdict(settings.split),
        "runs": {s.run: _run_entry(s) for s in surveys},
        "flowsr": __version__,
    }


def _run_entry(survey: Survey) -> dict:
    times = survey.fine["time"].values
    return {
        "source": str(survey.path),
        "sha256": survey.checksum,
        "gap": survey.gap,
        "snapshots": {split: len(indices) for split, indices in survey.splits.items()},
        "times": {split: [float(t) for t in times[list(indices)]] for split, indices in survey.splits.items()},
        "scales": None if survey.scales is None else survey.scales.as_dict(),
    }


def _grid_entry(grid: Grid) -> dict:
    return {
        "shape": list(grid.shape),
        "spacing": list(grid.spacing),
        "boundary": list(grid.boundary),
        "origin": list(grid.origin),
        **({"centers": [c and list(c) for c in grid.centers]} if any(grid.stretched) else {}),
    }


def _mean(values: list) -> float | None:
    return None if any(v is None for v in values) else float(np.mean(values))


def _fine_rms(surveys: list[Survey]) -> float:
    return float(np.sqrt(np.mean([s.mean_square[t] for s in surveys for t in s.splits["train"]])))


def _coarse_rms(surveys: list[Survey], output: Path, settings: Ingest, grid: Grid) -> float:
    squares = []
    for survey in surveys:
        coarse = open_field(pair_store(output, "train", survey.run), group="coarse")[settings.variable]
        squares += [_mean_square(coarse.isel(time=time).values, grid) for time in range(coarse.sizes["time"])]
    return float(np.sqrt(np.mean(squares)))


def _transfer_samples(settings: Ingest, count: int = 65) -> dict:
    """T along an axis, against k d from 0 to pi, the fine grid's Nyquist wavenumber; lists of x, y, z where they differ.

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
