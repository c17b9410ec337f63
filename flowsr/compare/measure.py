"""Models, and the truth itself, measured on held-out snapshots."""

from __future__ import annotations

import copy
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from flowsr.compare.findings import NRMSE
from flowsr.compare.result import (
    TRUTH,
    ComparisonResult,
    CurveKind,
    DataSet,
    Measured,
    MeasuredRow,
    Metric,
    Row,
    Rules,
    rounded,
)
from flowsr.compare.runs import (
    HeldOutRun,
    degrade_of,
    every_snapshot,
    judged_by_all,
    open_runs,
    open_upscaled,
    read_snapshot,
)
from flowsr.errors import FlowsrError, require
from flowsr.group.fields import VECTORS
from flowsr.metrics import (
    METRICS,
    Curve,
    InputMetric,
    ModelMetric,
    PooledMetric,
    chosen_metrics,
    cutoff_wavenumber,
    flow_statistics,
    is_channel,
    physical_unit,
    shared_work,
)
from flowsr.models.averaged import GroupAverage, as_trained
from flowsr.models.base import Upscaler, state_viscosity
from flowsr.models.missing import around_missing
from flowsr.progress import SILENT, Progress
from flowsr.provenance import versions

TIMINGS = 3
log = logging.getLogger(__name__)
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Entry:
    """One model of a comparison.

    Args:
        name: key in the results.
        label: what people read.
        model: the model itself: timed, counted, and tested for equivariance; and called on every snapshot where there
            are no ``stores``.
        stores: its upscaled fields, one store per test run, in their order.
    """

    name: str
    label: str
    model: Upscaler
    stores: Sequence[Path] | None = None


@dataclass(frozen=True)
class SymmetryTest:
    """How the equivariance error is taken.

    Args:
        snapshots: number of coarse snapshots, spread over all of them; each costs 49 calls of the model.
        precision: ``float32`` or ``float64``, of fields and weights.
        group: point group that the flow keeps; None where it is not known.

    Raises:
        FlowsrError: another precision.
    """

    snapshots: int = 1
    precision: str = "float32"
    group: str | None = None

    def __post_init__(self):
        known = " or ".join(PRECISIONS)
        named = {"variable": "equivariance_precision", "expected": known, "found": self.precision}
        require(self.precision in PRECISIONS, "unknown precision", **named)


@dataclass(frozen=True)
class HeldOut:
    """The snapshots that rows are measured on, and what is measured there.

    Args:
        runs: the held-out runs.
        metrics: registered names, those that the field allows.
        symmetry: how the equivariance error is taken.
        device: where models and metrics work.
        tick: called after each snapshot.
    """

    runs: Sequence[HeldOutRun]
    metrics: Sequence[str]
    symmetry: SymmetryTest = SymmetryTest()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    tick: Callable[[], None] = lambda: None


def compare(
    test_stores: Sequence[Path],
    entries: Sequence[Entry],
    *,
    name: str = "",
    variable: str = "velocity",
    metrics: Sequence[str] | None = None,
    equivariance_snapshots: int = 1,
    equivariance_precision: str = "float32",
    turnover_time: float | None = None,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> ComparisonResult:
    """Compare models on held-out snapshots.

    All models are judged on the same snapshots: where some need several coarse frames, on those with a whole window
    about them. :func:`flowsr.public.compare` does the same with models by name, ``flowsr compare`` row by row.

    Args:
        test_stores: ingested test stores, each with groups ``coarse`` and ``fine``.
        entries: who takes part, in the order of the result.
        name: of the comparison, for the record.
        metrics: registered names, see :func:`flowsr.metrics.chosen_metrics`; what the field does not allow (spectra at
            walls) is left out.
        equivariance_snapshots: snapshots on which the equivariance error is taken; 49 calls of the model each.
        equivariance_precision: ``float32``, in which an exact symmetry shows as some 1e-7, or ``float64``: 1e-15, but a
            convolution is ten times slower on a CPU.
        turnover_time: eddy turnover time, least length of an independent block; default: each run is one block.

    Raises:
        FlowsrError: stores, models, metrics or a precision that do not fit.
    """
    runs = judged_by_all(open_runs(test_stores, variable), [entry.model for entry in entries])
    _check_entries(entries, len(runs))
    tick = progress.steps((len(entries) + 1) * sum(run.snapshots for run in runs), "snapshots")
    symmetry = SymmetryTest(equivariance_snapshots, equivariance_precision)
    held_out = HeldOut(runs, applicable_metrics(metrics, runs[0]), symmetry, torch.device(device), tick)
    data = replace(describe_data(runs), label=name, turnover_time=turnover_time)
    truth = measure_truth(held_out)
    return ComparisonResult.assemble(
        name,
        [
            MeasuredRow(
                Row(entry.name, "data", 0, 0) if entry.model.trainable else Row(entry.name),
                {"data": measure_model(entry, held_out)},
                parameters=int(entry.model.parameter_count),
            )
            for entry in entries
        ],
        {"data": truth},
        {"data": dict.fromkeys(data.runs, turnover_time or math.inf)},
        {"data": data},
        {entry.name: entry.label for entry in entries},
        rules=Rules(rank_by=rank_by(held_out.metrics)),
        **describe_metrics(held_out.metrics, runs[0]),
        seeds=(0,),
        versions=versions(),
    )


def _check_entries(entries: Sequence[Entry], runs: int) -> None:
    names = [entry.name for entry in entries]
    for name in names:
        fits = name != TRUTH and "/" not in name and names.count(name) == 1
        expected = "unique names, without /, other than truth"
        require(fits, "a model's name stands for one row", variable=name, expected=expected)
    for entry in entries:
        stores = runs if entry.stores is None else len(entry.stores)
        message = f"model '{entry.name}' needs one upscaled store per test run"
        require(stores == runs, message, expected=runs, found=stores)


def rank_by(metrics: Sequence[str]) -> str | None:
    """NRMSE or, where it is not measured, the first scalar of which less is better; None where there is none."""
    lower = [key for name in metrics for key, one in METRICS[name].scalars.items() if one.better == "lower"]
    return NRMSE if NRMSE in lower else next(iter(lower), None)


def describe_data(runs: Sequence[HeldOutRun]) -> DataSet:
    """What is known of a data set from its held-out runs."""
    first = runs[0]
    return DataSet(
        label="",
        role="train_and_test",
        variable=first.variable,
        factor=first.factor,
        operator=str(first.coarse.attrs.get("degrade_operator", "unknown")),
        coarse_shape=tuple(first.coarse_grid.shape),
        fine_shape=tuple(first.fine_grid.shape),
        runs=tuple(dict.fromkeys(run.name for run in runs)),
        cutoff_wavenumber=rounded(cutoff_wavenumber(first.fine_grid, first.factor)),
    )


def describe_metrics(names: Sequence[str], run: HeldOutRun) -> dict[str, dict]:
    """``metrics`` and ``curve_kinds`` of a result: what scalars and curves mean, with units in those of the data."""
    velocity = str(run.fine[run.variable].attrs.get("units", "1"))
    length = str(run.fine.attrs.get("length_units", "1"))

    def axis(label: str, of: str) -> str:
        unit = physical_unit(of, velocity, length)
        return label if unit == "1" else f"{label} [{unit}]"

    scalars = {key: one for name in names for key, one in METRICS[name].scalars.items()}
    curves = {key: one for name in names for key, one in METRICS[name].curves.items()}
    return {
        "metrics": {
            key: Metric(one.label, physical_unit(one.unit, velocity, length), one.better, one.source, one.short)
            for key, one in scalars.items()
        },
        "curve_kinds": {
            key: CurveKind(
                one.label,
                axis(one.x_label, one.x_unit),
                axis(one.y_label, one.y_unit),
                one.x_scale,
                one.y_scale,
                one.source,
            )
            for key, one in curves.items()
        },
    }


def applicable_metrics(names: Sequence[str] | None, run: HeldOutRun) -> list[str]:
    """The chosen metrics (:func:`flowsr.metrics.chosen_metrics`) that make sense for this field."""
    channel = is_channel(run.fine_grid) and run.viscosity is not None

    def fits(metric: type[PooledMetric]) -> bool:
        return (
            (run.fine_grid.periodic or not metric.needs_periodic)
            and (run.irreps in VECTORS or not metric.needs_vector)
            and (channel or not metric.needs_channel)
            and (degrade_of(run) is not None or not issubclass(metric, InputMetric))
        )

    chosen = [name for name in chosen_metrics(names) if fits(METRICS[name])]
    if not run.carries_missing:
        return chosen
    pointwise = [name for name in chosen if getattr(METRICS[name], "halo", None) == 0]
    if left_out := [name for name in chosen if name not in pointwise]:
        share = 100 * float(run.read_valid(0).double().mean())
        line = "%s: values are missing; models are judged in %.3g %% of the cells, without %s, which need all of them"
        log.info(line, run.name, share, ", ".join(left_out))
    return pointwise


class _Scores:
    """Collects each snapshot's scalars and curves."""

    def __init__(self) -> None:
        self.scalars: list[tuple[int, str, float]] = []
        self.curves: dict[str, tuple[np.ndarray, list[np.ndarray]]] = {}

    def add(self, number: int, found: Mapping[str, Tensor | Curve]) -> None:
        """Take in what was found on one snapshot."""
        for key, value in found.items():
            if isinstance(value, Curve):
                x, y = (axis.detach().cpu().double().numpy() for axis in value)
                self.curves.setdefault(key, (x, []))[1].append(y)
            else:
                value = float(value)
                self.scalars.append((number, key, value if math.isfinite(value) else math.nan))

    def measured(self, held_out: HeldOut, **more) -> Measured:
        curves = [pd.DataFrame({"curve": key, "x": x, "y": _mean(y)}) for key, (x, y) in self.curves.items()]
        return Measured(
            tuple((run.name, float(time)) for run in held_out.runs for time in run.times),
            pd.DataFrame(self.scalars, columns=["snapshot", "metric", "value"]),
            pd.concat(curves) if curves else pd.DataFrame(columns=["curve", "x", "y"]),
            **more,
        )


def _mean(rows: list[np.ndarray]) -> np.ndarray:
    """Mean over the snapshots in which a point is finite; NaN where it is in none."""
    values = np.stack(rows)
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    return np.where(count > 0, np.where(finite, values, 0).sum(axis=0) / np.maximum(count, 1), np.nan)


def measure_model(entry: Entry, held_out: HeldOut) -> Measured:
    """One model on every held-out snapshot."""
    model = entry.model.to(held_out.device).eval()
    scores = _field_scores(_predictions(entry, held_out), held_out)
    wanted = [METRICS[name] for name in held_out.metrics if issubclass(METRICS[name], ModelMetric)]
    for cls in wanted:
        if not any(issubclass(other, cls) and other is not cls for other in wanted):  # else the other contains it
            _add_model_scores(scores, cls, model, held_out)
    return scores.measured(held_out, seconds=_seconds_per_snapshot(model, held_out.runs[0], held_out.device))


def measure_truth(held_out: HeldOut) -> Measured:
    """The true field's own scores and curves, and the ``flow`` it is: means over all snapshots."""
    truths = ((run.read_fine(time), run, time) for run, time in every_snapshot(held_out.runs))
    return _field_scores(truths, held_out).measured(held_out, flow=_flow(held_out))


def _seconds_per_snapshot(model: Upscaler, run: HeldOutRun, device: torch.device) -> float:
    """Wall time of one whole snapshot through the model: the median of several calls after one that is not counted."""
    coarse = run.read_coarse(0, model.window).to(device)
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda _: None
    seconds = []
    for _ in range(1 + TIMINGS):
        wait(device)
        start = time.perf_counter()
        with torch.no_grad():
            model(coarse, run.coarse_grid)
        wait(device)
        seconds.append(time.perf_counter() - start)
    return float(f"{statistics.median(seconds[1:]):.4g}")


def _predictions(entry: Entry, held_out: HeldOut) -> Iterator[tuple[Tensor, HeldOutRun, int]]:
    for place, run in enumerate(held_out.runs):
        store = None if entry.stores is None else entry.stores[place]
        upscaled = None if store is None else open_upscaled(store, run)
        state_viscosity(entry.model, run.viscosity)
        for number in range(run.snapshots):
            if upscaled is not None:
                yield read_snapshot(upscaled, run.variable, number, store), run, number
                continue
            try:
                coarse = run.read_coarse(number, entry.model.window).to(held_out.device)
                made = around_missing(entry.model, coarse, run.coarse_grid)
            except ValueError as error:
                message = f"model '{entry.name}' cannot upscale this field"
                raise FlowsrError(message, file=run.path, found=str(error)) from error
            yield made, run, number


def _field_scores(predictions: Iterator[tuple[Tensor, HeldOutRun, int]], held_out: HeldOut) -> _Scores:
    """Metrics of a prediction and the truth, snapshot by snapshot; curves of ensembles over all of them."""
    known = {"factor": held_out.runs[0].factor, "viscosity": held_out.runs[0].viscosity}
    classes = [METRICS[name] for name in held_out.metrics]
    metrics = [cls(**known).to(held_out.device) for cls in classes if not issubclass(cls, ModelMetric)]
    scores = _Scores()
    for place, (prediction, run, number) in enumerate(predictions):
        prediction, target = prediction.to(held_out.device), run.read_fine(number).to(held_out.device)
        valid = run.read_valid(number)
        how = {} if valid is None else {"valid": valid.to(held_out.device)}
        with torch.no_grad(), shared_work():
            for metric in metrics:
                if isinstance(metric, InputMetric):
                    coarse = run.read_coarse(number).to(prediction.device)
                    found = metric(prediction, coarse, run.fine_grid, degrade_of(run))
                else:
                    found = metric(prediction, target, run.fine_grid, **how)
                    found = {k: v for k, v in found.items() if not (metric.ensemble and k in metric.curves)}
                scores.add(place, found)
        held_out.tick()
    for metric in metrics:
        if metric.ensemble:
            scores.add(0, {key: value for key, value in metric.compute().items() if key in metric.curves})
    return scores


def _add_model_scores(scores: _Scores, cls: type[ModelMetric], model: Upscaler, held_out: HeldOut) -> None:
    precision = PRECISIONS[held_out.symmetry.precision]

    def converted(tensor: Tensor) -> Tensor:
        """Complex weights (of Fourier operators) get the complex type of the same precision."""
        if tensor.is_complex():
            return tensor.to(precision.to_complex())
        return tensor.to(precision) if tensor.is_floating_point() else tensor

    model = copy.deepcopy(model)._apply(converted)
    averages = [module.over.name for module in model.modules() if isinstance(module, GroupAverage)]
    group = averages[0] if averages else held_out.symmetry.group
    snapshots = list(every_snapshot(held_out.runs))
    count = min(held_out.symmetry.snapshots, len(snapshots))
    for place in (i * len(snapshots) // count for i in range(count)):
        run, number = snapshots[place]
        metric = cls(irreps=model.irreps_in, irreps_out=model.irreps).to(held_out.device)
        coarse = run.read_coarse(number, model.window).to(held_out.device, precision)
        if not cls.needs_truth:
            scores.add(place, metric(model, coarse, run.coarse_grid))
            continue
        if group is None:
            scores.add(place, dict.fromkeys(cls.scalars, math.nan))
            continue
        with as_trained(model):
            target = run.read_fine(number).to(coarse)
            scores.add(place, metric(model, coarse, run.coarse_grid, target, group))


def _flow(held_out: HeldOut) -> dict[str, float | None]:
    first = held_out.runs[0]
    values: dict[str, list[float]] = {} if first.viscosity is None else {"viscosity": [first.viscosity]}
    if first.irreps in VECTORS:
        for run, number in every_snapshot([run for run in held_out.runs if not run.carries_missing]):
            found = flow_statistics(run.read_fine(number).to(held_out.device), run.fine_grid, run.viscosity)
            for key, value in found.items():
                values.setdefault(key, []).append(float(value))
    finite = {key: [value for value in found if math.isfinite(value)] for key, found in values.items()}
    return {key: rounded(statistics.fmean(found)) if found else None for key, found in finite.items()}
