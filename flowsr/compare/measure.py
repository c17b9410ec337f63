"""One row of the comparison: a model, or the truth itself, on every held-out snapshot."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowsr.compare.degrading import degrade_of
from flowsr.compare.entry import Entry
from flowsr.compare.runs import HeldOutRun, every_snapshot, open_upscaled, read_snapshot
from flowsr.compare.scores import Scores, round_or_none, summary
from flowsr.errors import FlowsrError
from flowsr.metrics import (
    METRICS,
    InputMetric,
    ModelMetric,
    PooledMetric,
    chosen_metrics,
    flow_statistics,
    is_channel,
    shared_work,
)
from flowsr.models.base import Upscaler

TIMINGS = 3
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
VECTORS = ("1o", "1e", "1x1o", "1x1e")


@dataclass(frozen=True)
class SymmetryTest:
    """How the equivariance error is taken.

    Args:
        snapshots: number of coarse snapshots, spread over all of them; each costs 49 calls of the model.
        precision: ``float32`` or ``float64``, of fields and weights.
    """

    snapshots: int
    precision: str

    def __post_init__(self):
        if self.precision not in PRECISIONS:
            expected = " or ".join(PRECISIONS)
            raise FlowsrError(
                "unknown precision", variable="equivariance_precision", expected=expected, found=self.precision
            )


@dataclass(frozen=True)
class Bench:
    """What every row is measured with.

    Args:
        runs: the held-out runs.
        metrics: registered names, those that the field allows.
        symmetry: how the equivariance error is taken.
        device: where models and metrics work.
        tick: called after each snapshot.
    """

    runs: Sequence[HeldOutRun]
    metrics: Sequence[str]
    symmetry: SymmetryTest
    device: torch.device
    tick: Callable[[], None]


def applicable_metrics(names: Sequence[str] | None, run: HeldOutRun) -> tuple[list[str], list[str]]:
    """The chosen metrics that make sense for this field, and those that do not.

    Args:
        names: as :func:`flowsr.metrics.chosen_metrics` takes them.

    Raises:
        FlowsrError: an unknown name.
    """
    wanted = chosen_metrics(names)
    fits = {name: _fits(METRICS[name], run) for name in wanted}
    return [name for name in wanted if fits[name]], [name for name in wanted if not fits[name]]


def _fits(metric: type[PooledMetric], run: HeldOutRun) -> bool:
    channel = is_channel(run.fine_grid) and run.viscosity is not None
    return (
        (run.fine_grid.periodic or not metric.needs_periodic)
        and (run.irreps in VECTORS or not metric.needs_vector)
        and (channel or not metric.needs_channel)
        and (degrade_of(run) is not None or not issubclass(metric, InputMetric))
    )


def model_row(entry: Entry, bench: Bench) -> dict:
    """Scores, cost and curves of one model, as the comparison's ``models`` holds them, without the label."""
    model = entry.model.to(bench.device).eval()
    scores = _field_scores(_predictions(entry, bench), bench)
    for cls in _model_metrics(bench.metrics):
        _add_model_scores(scores, cls, model, bench)
    return {
        "trained": bool(model.trainable),
        "parameters": int(model.parameter_count),
        "seconds": seconds_per_snapshot(model, bench.runs[0], bench.device),
        "scalars": scores.scalars(),
        "curves": scores.curves(),
    }


def truth_row(bench: Bench) -> dict:
    """The true field's own scores and curves, and the ``flow`` it is: means over all snapshots."""
    truths = ((run.read_fine(time), run, time) for run, time in every_snapshot(bench.runs))
    scores = _field_scores(truths, bench)
    return {"scalars": scores.scalars(), "curves": scores.curves(), "flow": _flow(bench)}


def seconds_per_snapshot(model: Upscaler, run: HeldOutRun, device: torch.device) -> float:
    """Wall time of one whole snapshot through the model: the median of several calls after one that is not counted."""
    coarse = run.read_coarse(0, model.window).to(device)
    _timed(model, coarse, run.coarse_grid)
    return float(f"{statistics.median(_timed(model, coarse, run.coarse_grid) for _ in range(TIMINGS)):.4g}")


def _timed(model, coarse, grid) -> float:
    _wait_for(coarse.device)
    start = time.perf_counter()
    with torch.no_grad():
        model(coarse, grid)
    _wait_for(coarse.device)
    return time.perf_counter() - start


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _predictions(entry: Entry, bench: Bench) -> Iterator[tuple[Tensor, HeldOutRun, int]]:
    stores = [None] * len(bench.runs) if entry.stores is None else entry.stores
    for run, store in zip(bench.runs, stores):
        upscaled = None if store is None else open_upscaled(store, run)
        for number in range(run.snapshots):
            if upscaled is None:
                yield _upscale(entry, run, number, bench.device), run, number
            else:
                yield read_snapshot(upscaled, run.variable, number, store), run, number


def _upscale(entry: Entry, run: HeldOutRun, number: int, device: torch.device) -> Tensor:
    try:
        with torch.no_grad():
            return entry.model(run.read_coarse(number, entry.model.window).to(device), run.coarse_grid)
    except ValueError as error:
        raise FlowsrError(f"model '{entry.name}' cannot upscale this field", file=run.path, found=str(error)) from error


def _field_scores(predictions: Iterator[tuple[Tensor, HeldOutRun, int]], bench: Bench) -> Scores:
    metrics, scores = _field_metrics(bench), Scores()
    for prediction, run, number in predictions:
        prediction, target = prediction.to(bench.device), run.read_fine(number).to(bench.device)
        with torch.no_grad(), shared_work():
            for metric in metrics:
                scores.add(_of_one_snapshot(metric, prediction, target, run, number))
        bench.tick()
    for metric in metrics:
        if metric.ensemble:
            scores.add({key: value for key, value in metric.compute().items() if key in metric.curves})
    return scores


def _field_metrics(bench: Bench) -> list[PooledMetric]:
    known = {"factor": bench.runs[0].factor, "viscosity": bench.runs[0].viscosity}
    classes = [METRICS[name] for name in bench.metrics]
    return [cls(**known).to(bench.device) for cls in classes if not issubclass(cls, ModelMetric)]


def _of_one_snapshot(metric: PooledMetric, prediction: Tensor, target: Tensor, run: HeldOutRun, number: int) -> dict:
    if isinstance(metric, InputMetric):
        return metric(prediction, run.read_coarse(number).to(prediction.device), run.fine_grid, degrade_of(run))
    result = metric(prediction, target, run.fine_grid)
    return {key: value for key, value in result.items() if not (metric.ensemble and key in metric.curves)}


def _model_metrics(names: Sequence[str]) -> list[type[ModelMetric]]:
    """The wanted metrics of models, less those that another one of them contains."""
    classes = [METRICS[name] for name in names if issubclass(METRICS[name], ModelMetric)]
    return [cls for cls in classes if not any(issubclass(other, cls) and other is not cls for other in classes)]


def _add_model_scores(scores: Scores, cls: type[ModelMetric], model: Upscaler, bench: Bench) -> None:
    precision = PRECISIONS[bench.symmetry.precision]
    model = in_precision(copy.deepcopy(model), precision)
    snapshots = list(every_snapshot(bench.runs))
    count = min(bench.symmetry.snapshots, len(snapshots))
    for run, number in (snapshots[i * len(snapshots) // count] for i in range(count)):
        metric = cls(irreps=model.irreps_in, irreps_out=model.irreps).to(bench.device)
        coarse = run.read_coarse(number, model.window).to(bench.device, precision)
        scores.add(metric(model, coarse, run.coarse_grid))


def in_precision(model: Upscaler, precision: torch.dtype) -> Upscaler:
    """Convert a model in place, complex weights (of Fourier operators) to the complex type of the same precision."""

    def converted(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(precision.to_complex())
        return tensor.to(precision) if tensor.is_floating_point() else tensor

    return model._apply(converted)


def _flow(bench: Bench) -> dict[str, float | None]:
    first = bench.runs[0]
    values: dict[str, list[float]] = {}
    if first.irreps in VECTORS:
        for run, number in every_snapshot(bench.runs):
            statistics_of = flow_statistics(run.read_fine(number).to(bench.device), run.fine_grid, run.viscosity)
            for key, value in statistics_of.items():
                values.setdefault(key, []).append(float(value))
    means = {key: summary(found)["mean"] for key, found in values.items()}
    return means if first.viscosity is None else {"viscosity": round_or_none(first.viscosity), **means}
