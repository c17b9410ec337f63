"""What a comparison found: one long frame of values, one of curves, and a record of everything that they name.

An experiment is a comparison on one data set with one seed; a study has several of both. Every table, page and file is
a rendering of a :class:`ComparisonResult`, and what it says (means, intervals, differences, ranks) is a function of it:
:mod:`flowsr.compare.findings`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flowsr.compare.bootstrap import Sample
from flowsr.data.independence import block_sums, independent_blocks
from flowsr.files import plain, typed, write_bytes_atomic, write_json_atomic, write_text_atomic

TRUTH = "truth"
#: What is said instead of a degrade operator where the field is to be made of particles.
PARTICLES = "particles"
TIDY, CURVES, RECORDS = "tidy.csv", "curves.csv", "records.json"

#: Which row a line of a frame is of. Where nothing was trained, ``data``, ``size`` and ``seed`` are missing.
ROW_COLUMNS = {"model": "str", "data": "str", "size": "Int64", "seed": "Int64", "tested_on": "str"}
#: Columns of :attr:`ComparisonResult.values`, one line per snapshot and metric.
VALUE_COLUMNS = ROW_COLUMNS | {"run": "str", "time": "float64", "block": "int64", "metric": "str", "value": "float64"}
#: Columns of :attr:`ComparisonResult.curves`, one line per point.
CURVE_COLUMNS = ROW_COLUMNS | {"curve": "str", "x": "float64", "y": "float64"}

DIGITS = 9  # of results in JSON: more than any metric is worth, fewer than rounding noise reaches


@dataclass(frozen=True)
class Row:
    """A model, trained on what, on how much of it, with which seed.

    Args:
        model: its name in the comparison; ``truth`` is the fine reference field.
        data, size, seed: of its training: data set, snapshots, seed; None where there is nothing to train. The seed is
            None for all seeds together, too.
    """

    model: str
    data: str | None = None
    size: int | None = None
    seed: int | None = None

    @property
    def trained(self) -> bool:
        return self.data is not None

    @property
    def all_seeds(self) -> Row:
        """The row without its seed: what means over seeds are of."""
        return replace(self, seed=None)


@dataclass(frozen=True)
class Fit:
    """One training: of which row, how long, and its losses.

    Args:
        data, size, seed: as in :class:`Row`.
        best_epoch, validation_loss: of the epoch whose weights were kept, counted from 1.
        seconds: wall time.
        history: epoch, training loss and validation loss, one a line.
    """

    data: str
    size: int
    seed: int
    epochs: int
    best_epoch: int
    validation_loss: float
    seconds: float
    history: Sequence[tuple[int, float, float]]


@dataclass(frozen=True)
class Measured:
    """One row on the held-out snapshots of one data set.

    Args:
        snapshots: run and time of each, as judged.
        values: columns ``snapshot`` (index into ``snapshots``), ``metric``, ``value``; NaN where it is not finite. A
            metric may have been taken on some of the snapshots only.
        curves: columns ``curve``, ``x``, ``y``: means over the snapshots; NaN where there is none.
        seconds: wall time of one snapshot; None for the truth.
        flow: what flow it is, means over the snapshots; of the truth only.
    """

    snapshots: Sequence[tuple[str, float]]
    values: pd.DataFrame
    curves: pd.DataFrame
    seconds: float | None = None
    flow: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self):
        values, curves = {"snapshot": "int64", "metric": "str", "value": "float64"}, ("curve", "x", "y")
        object.__setattr__(self, "values", pd.DataFrame(self.values).astype(values))
        types = {name: CURVE_COLUMNS[name] for name in curves}
        object.__setattr__(self, "curves", pd.DataFrame(self.curves).astype(types))


@dataclass(frozen=True)
class MeasuredRow:
    """A row on every data set that it was tested on, what it costs, and how it was trained.

    Args:
        registered, options: registered name of its model, empty for the truth, and the model's options.
        parameters: numbers fitted.
        multiply_adds: work for one coarse snapshot; None where it was not counted.
        tests: data set -> what was measured there.
        fit: the training; None where there was none, or nothing is known of it.
        weights_sha256: checksum of the weights.
    """

    row: Row
    tests: Mapping[str, Measured]
    registered: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    multiply_adds: int | None = None
    fit: Fit | None = None
    weights_sha256: str | None = None


@dataclass(frozen=True)
class Model:
    """A model of the comparison: what it is and costs, on the first data set that it is on.

    Args:
        label: what people read.
        registered, options: registered name, and the options of that model.
        trained: whether there is something to train.
        parameters: numbers fitted; None where no row of it was measured.
        multiply_adds: work for one coarse snapshot; None where it was not counted.
        seconds: wall time of one snapshot, the least of all rows.
        rows: how many were measured.
        fits: its trainings.
    """

    label: str
    registered: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    trained: bool = False
    parameters: int | None = None
    multiply_adds: int | None = None
    seconds: float | None = None
    rows: int = 0
    fits: Sequence[Fit] = ()


@dataclass(frozen=True)
class Metric:
    """A scalar, as :class:`flowsr.metrics.Quantity` describes it, with its unit in those of the data."""

    label: str
    unit: str = "1"
    better: str | None = None
    source: str = ""
    short: str | None = None

    @property
    def head(self) -> str:
        """Label with its unit."""
        return self.label if self.unit == "1" else f"{self.label} [{self.unit}]"

    def loss(self, mean: float, aim: float) -> float:
        """How bad a mean is, the true field's being ``aim``; NaN where nothing says what is better."""
        losses = {"lower": mean, "higher": -mean, "truth": abs(mean - aim)}
        return losses.get(self.better, math.nan)


@dataclass(frozen=True)
class CurveKind:
    """What a curve is: see :class:`flowsr.metrics.CurveQuantity`. Labels of axes carry the data's units."""

    label: str
    x_label: str
    y_label: str
    x_scale: str = "linear"
    y_scale: str = "linear"
    source: str = ""


@dataclass(frozen=True)
class DataSet:
    """A data set of the comparison, and what was held out of it.

    Args:
        label: what people read.
        role: ``train_and_test`` or ``test_only``.
        variable: the field compared.
        factor, operator: how its coarse fields were made of the fine ones.
        coarse_shape, fine_shape: (x, y, z) cells.
        runs, snapshots, blocks: held out: names of runs, how many snapshots every row was judged on, and the blocks of
            time, independent of one another, that these make.
        training_snapshots: of the whole training set; 0 where nothing is trained on it.
        cutoff_wavenumber: the largest wavenumber on the coarse grid.
        turnover_time: mean eddy turnover time of its runs; None where it is not known.
        flow: statistics of the true field, means over the snapshots.
        sources: run -> checksum of the file it was made of.
        licence: of the data.
        group: point group that the flow keeps; None where nobody said it and none was discovered.
        discovered: what networks on a group found in it rest on, "group of own" -> words.
    """

    label: str
    role: str
    variable: str
    factor: int
    operator: str
    coarse_shape: Sequence[int]
    fine_shape: Sequence[int]
    runs: Sequence[str]
    snapshots: int = 0
    blocks: int = 0
    training_snapshots: int = 0
    cutoff_wavenumber: float | None = None
    turnover_time: float | None = None
    flow: Mapping[str, float | None] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    group: str | None = None
    discovered: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rules:
    """What a comparison was asked to say.

    Args:
        rank_by: the scalar that orders tables; None where no measured one says what is better.
        references: models whose rows the others are compared with; ``best_interpolation`` is the best without training.
        confidence: share of intervals that should cover the true value.
        resamples: draws of the bootstrap.
        decorrelation_turnovers: least length of a block of snapshots, in eddy turnover times.
        budget: ``by``, ``like``, ``amount``, ``tolerance`` and ``free`` of the networks' equal cost; None for none.
        study: whether a study asked, of however few data sets, seeds and sizes.
    """

    rank_by: str | None = "nrmse"
    references: Sequence[str] = ("best_interpolation",)
    confidence: float = 0.95
    resamples: int = 4000
    decorrelation_turnovers: float = 1.0
    budget: Mapping[str, Any] | None = None
    study: bool = False


@dataclass(frozen=True, eq=False)
class ComparisonResult:
    """Everything that a comparison found.

    Args:
        name: of the experiment or study.
        values: frame of :data:`VALUE_COLUMNS`, on the snapshots that all rows of a data set have; the truth is a model.
        curves: frame of :data:`CURVE_COLUMNS`.
        models: name -> what it is, in the comparison's order, without the truth.
        metrics: scalar -> what it is.
        curve_kinds: curve -> what it is.
        data: name -> what it is.
        rules: what to say of all that.
        seeds: of the trainings.
        versions: package -> version.
    """

    name: str
    values: pd.DataFrame
    curves: pd.DataFrame
    models: Mapping[str, Model]
    metrics: Mapping[str, Metric]
    curve_kinds: Mapping[str, CurveKind]
    data: Mapping[str, DataSet]
    rules: Rules = Rules()
    seeds: Sequence[int] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def assemble(
        cls,
        name: str,
        rows: Sequence[MeasuredRow],
        truths: Mapping[str, Measured],
        block_lengths: Mapping[str, Mapping[str, float]],
        data: Mapping[str, DataSet],
        labels: Mapping[str, str],
        **more: Any,
    ) -> ComparisonResult:
        """Put rows together: lined up on the snapshots that all rows of a data set have, which are cut into blocks.

        Args:
            name: of the experiment or study.
            rows: measured.
            truths: data set -> the true field there.
            block_lengths: data set -> run -> least length of a block in time.
            data: name -> what it is; ``snapshots``, ``blocks`` and ``flow`` are filled in here.
            labels: model -> what people read, for all models, in the comparison's order.
            more: other fields of the result.
        """
        measured = [(Row(TRUTH), of, one) for of, one in truths.items()]
        measured += [(row.row, of, one) for row in rows for of, one in row.tests.items()]
        places = {of: _shared([one for _, on, one in measured if on == of], block_lengths[of]) for of in truths}
        values = [_labelled(row, of, _placed(one, places[of])) for row, of, one in measured]
        curves = [_labelled(row, of, one.curves) for row, of, one in measured]
        described = {}
        for of, one in data.items():
            runs = tuple(dict.fromkeys(run for run, _ in truths[of].snapshots))
            found = {"snapshots": len(places[of]), "blocks": places[of].block.nunique(), "flow": truths[of].flow}
            described[of] = replace(one, runs=runs, **found)
        return cls(
            name,
            pd.concat(values, ignore_index=True)[[*VALUE_COLUMNS]].astype(VALUE_COLUMNS),
            pd.concat(curves, ignore_index=True)[[*CURVE_COLUMNS]].astype(CURVE_COLUMNS),
            {model: _model(label, [row for row in rows if row.row.model == model]) for model, label in labels.items()},
            data=described,
            **more,
        )

    @property
    def home(self) -> str:
        """The data set that rankings are of: the first that is trained on, or the first of all."""
        return next((name for name, one in self.data.items() if one.role == "train_and_test"), next(iter(self.data)))

    @property
    def single(self) -> bool:
        """Whether this is an experiment's: one data set of fields on grids, one training of each network."""
        if self.rules.study or any(data.operator == PARTICLES for data in self.data.values()):
            return False
        return len(self.data) == 1 and all(len(model.fits) < 2 and model.rows < 2 for model in self.models.values())

    def rows(self, tested_on: str) -> list[Row]:
        """The rows that were tested on a data set, seeds together, without the truth."""
        return self._rows[tested_on]

    def row(self, model: str, tested_on: str, trained_on: str | None = None, size: int | None = None) -> Row | None:
        """A model's row on a data set: trained at home and on all its snapshots, unless said otherwise."""
        trained_on = trained_on or tested_on
        size = size or self.data[trained_on].training_snapshots
        row = Row(model, trained_on, size) if self.models[model].trained else Row(model)
        return row if row in self.rows(tested_on) else None

    def metrics_of(self, row: Row, tested_on: str) -> list[str]:
        """What was measured of a row, in the order of :attr:`metrics`."""
        return [metric for metric in self.metrics if (row.all_seeds, tested_on, metric) in self._arrays]

    def by_snapshot(self, row: Row, tested_on: str, metric: str) -> np.ndarray:
        """(seeds, snapshots) of all the data set's snapshots, run by run in order of time; NaN where not measured."""
        seeds = self._arrays.get((row.all_seeds, tested_on, metric), {})
        wanted = [values for seed, values in seeds.items() if row.seed is None or seed == row.seed]
        return np.stack(wanted) if wanted else np.empty((0, len(self._blocks[tested_on])))

    def mean(self, row: Row, tested_on: str, metric: str) -> float:
        """Mean over all finite values, of all seeds; NaN where there is none."""
        values = self.by_snapshot(row, tested_on, metric)
        values = values[np.isfinite(values)]
        return math.fsum(values) / len(values) if len(values) else math.nan

    def truth(self, tested_on: str, metric: str) -> float:
        """Mean of the true field's own values."""
        return self.mean(Row(TRUTH), tested_on, metric)

    def curve(self, row: Row, tested_on: str, curve: str) -> tuple[np.ndarray, np.ndarray] | None:
        """x and y, means over the seeds; NaN where a point is finite for none. None where there is no such curve."""
        found = list(self._curves.get((row.all_seeds, tested_on, curve), {}).values())
        if not found:
            return None
        y = np.stack([y for _, y in found])
        finite = np.isfinite(y)
        return found[0][0], np.where(finite, y, 0).sum(0) / np.where(finite.any(0), finite.sum(0), np.nan)

    def sample(self, row: Row, tested_on: str, metric: str, aim: bool = False) -> Sample:
        """A row's values as the bootstrap takes them.

        Args:
            aim: take the distance from the true field's own value instead, for metrics that are best near the truth.
        """
        values = self.by_snapshot(row, tested_on, metric)
        if aim:
            values = np.abs(values - self.by_snapshot(Row(TRUTH), tested_on, metric))
        sums, counts = block_sums(values, self._blocks[tested_on])
        return Sample(f"{row.model} {row.data} {row.size}", sums, counts, row.trained)

    def remember(self, key: tuple, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, made once for each key: intervals take time, and are shown in several places."""
        if key not in self._memory:
            self._memory[key] = make()
        return self._memory[key]

    @property
    def records(self) -> dict[str, Any]:
        """Everything but the frames, for JSON."""
        return plain({one.name: getattr(self, one.name) for one in fields(self) if one.name not in _FRAMES})

    def save(self, folder: str | Path) -> None:
        """Write ``tidy.csv`` (and ``tidy.parquet``, where there is pyarrow), ``curves.csv`` and ``records.json``."""
        folder = Path(folder)
        for name, (file, _) in _FRAMES.items():
            write_text_atomic(folder / file, getattr(self, name).to_csv(index=False, lineterminator="\n"))
        if find_spec("pyarrow") is not None:
            write_bytes_atomic((folder / TIDY).with_suffix(".parquet"), self.values.to_parquet(index=False))
        write_json_atomic(folder / RECORDS, self.records)

    @classmethod
    def load(cls, folder: str | Path) -> ComparisonResult:
        """What :meth:`save` wrote.

        Raises:
            OSError: a file that is missing.
        """
        kept = json.loads((Path(folder) / RECORDS).read_text(encoding="utf-8"))
        exact = {"keep_default_na": False, "na_values": [""], "float_precision": "round_trip"}
        for name, (file, columns) in _FRAMES.items():
            kept[name] = pd.read_csv(Path(folder) / file, dtype=columns, **exact)
        return typed(cls, kept)

    @cached_property
    def _memory(self) -> dict[tuple, Any]:
        return {}

    @cached_property
    def _places(self) -> pd.DataFrame:
        """Data set, run, time and block of each snapshot, and its place in order: blocks are numbered run by run."""
        places = self.values[["tested_on", "run", "time", "block"]].drop_duplicates()
        places = places.sort_values(["tested_on", "block", "time"], ignore_index=True)
        return places.assign(place=places.groupby("tested_on").cumcount())

    @cached_property
    def _blocks(self) -> dict[str, np.ndarray]:
        """Data set -> (snapshots,) blocks."""
        return {of: part.block.to_numpy() for of, part in self._places.groupby("tested_on")}

    @cached_property
    def _arrays(self) -> dict[tuple[Row, str, str], dict[int | None, np.ndarray]]:
        """Row, data set, metric -> seed -> (snapshots,)."""

        def of_all_snapshots(of: str, lines: pd.DataFrame) -> np.ndarray:
            values = np.full(len(self._blocks[of]), np.nan)
            values[lines.place] = lines.value
            return values

        return _by_row(self.values.merge(self._places), "metric", of_all_snapshots)

    @cached_property
    def _curves(self) -> dict[tuple[Row, str, str], dict[int | None, tuple[np.ndarray, np.ndarray]]]:
        return _by_row(self.curves, "curve", lambda _, lines: (lines.x.to_numpy(), lines.y.to_numpy()))

    @cached_property
    def _rows(self) -> dict[str, list[Row]]:
        found: dict[str, dict[Row, None]] = {of: {} for of in self.data}
        for row, of, _ in self._arrays:
            if row.model != TRUTH:
                found[of][row] = None
        return {of: list(rows) for of, rows in found.items()}


_FRAMES = {"values": (TIDY, VALUE_COLUMNS), "curves": (CURVES, CURVE_COLUMNS)}


def rounded(value: float | None) -> float | None:
    """To ``DIGITS`` significant digits; None where it is missing, NaN or infinite."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.{DIGITS}g}")


def _shared(measured: Iterable[Measured], block_lengths: Mapping[str, float]) -> pd.DataFrame:
    """Run, time and block of each snapshot that all have, in order of the first one's runs and of time."""
    first, *others = measured
    shared = set(first.snapshots).intersection(*(one.snapshots for one in others))
    runs = list(dict.fromkeys(run for run, _ in first.snapshots if run in {of for of, _ in shared}))
    ordered = sorted(shared, key=lambda one: (runs.index(one[0]), one[1]))
    times = [np.array([time for of, time in ordered if of == run]) for run in runs]
    blocks = independent_blocks(times, [block_lengths.get(run, math.inf) for run in runs])
    return pd.DataFrame({"run": [run for run, _ in ordered], "time": [t for _, t in ordered], "block": blocks})


def _placed(measured: Measured, places: pd.DataFrame) -> pd.DataFrame:
    """The values on the shared snapshots, with run, time and block, in the order of ``places``."""
    own = pd.DataFrame(measured.snapshots, columns=["run", "time"]).reset_index(names="snapshot")
    order = places.reset_index(names="place").merge(own, on=["run", "time"])
    found = measured.values.merge(order, on="snapshot").sort_values("place", kind="stable")
    return found.drop(columns=["snapshot", "place"])


def _labelled(row: Row, tested_on: str, frame: pd.DataFrame) -> pd.DataFrame:
    fixed = {**asdict(row), "tested_on": tested_on}
    return frame.assign(**{name: pd.Series(fixed[name], frame.index, dtype=ROW_COLUMNS[name]) for name in ROW_COLUMNS})


def _by_row(frame: pd.DataFrame, column: str, take: Callable[[str, pd.DataFrame], Any]) -> dict[tuple, dict]:
    """Row without its seed, data set, metric (or curve) -> seed -> what ``take`` makes of the lines."""
    found: dict[tuple, dict] = {}
    for (*of, tested_on, name), lines in frame.groupby([*ROW_COLUMNS, column], sort=False, dropna=False):
        model, data, size, seed = of
        row = Row(model) if pd.isna(data) else Row(model, data, int(size), int(seed))
        found.setdefault((row.all_seeds, tested_on, name), {})[row.seed] = take(tested_on, lines)
    return found


def _model(label: str, rows: Sequence[MeasuredRow]) -> Model:
    if not rows:
        return Model(label)
    first = rows[0]
    home = next(iter(first.tests))
    return Model(
        label,
        first.registered,
        first.options,
        first.row.trained,
        first.parameters,
        first.multiply_adds,
        min(row.tests[home].seconds for row in rows if home in row.tests),
        len(rows),
        tuple(row.fit for row in rows if row.fit is not None),
    )
