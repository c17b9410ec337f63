"""Small comparison results, with values that were put in."""

import numpy as np
import pandas as pd

from flowsr.compare import ComparisonResult
from flowsr.compare.findings import BEST_INTERPOLATION
from flowsr.compare.result import DataSet, Fit, Measured, MeasuredRow, Metric, Row, Rules

RUNS = {"a": np.arange(6) * 2.0, "b": np.arange(4) * 2.0}
SNAPSHOTS = tuple((run, float(time)) for run, times in RUNS.items() for time in times)
HARD = np.random.default_rng(0).uniform(0.5, 1.5, len(SNAPSHOTS))
WHOLE = 64


def measured(snapshots, **metrics):
    values = pd.DataFrame(
        [(i, name, value) for name, values in metrics.items() for i, value in enumerate(values)],
        columns=["snapshot", "metric", "value"],
    )
    return Measured(tuple(snapshots), values, pd.DataFrame(columns=["curve", "x", "y"]), seconds=0.01)


def row(model, values, seed=None, size=WHOLE, snapshots=SNAPSHOTS, parameters=0):
    """A row with one value a snapshot: of the NRMSE, or of several metrics by name; trained where it has a seed."""
    values = values if isinstance(values, dict) else {"nrmse": values}
    of = Row(model) if seed is None else Row(model, "flow", size, seed)
    fit = None if seed is None else Fit("flow", size, seed, 3, 2, 0.1, 60.0, [(0, 1.0, 1.0)])
    return MeasuredRow(of, {"flow": measured(snapshots, **values)}, model, {}, parameters, 10 * parameters, fit)


def result(
    *rows,
    truth=1.0,
    better="lower",
    blocks=2.0,
    truth_snapshots=SNAPSHOTS,
    references=(BEST_INTERPOLATION,),
    metrics=None,
    name="trial",
):
    """A result on one data set, from rows; ``truth`` is its value of the NRMSE, or its values by metric."""
    truth = truth if isinstance(truth, dict) else {"nrmse": np.full(len(truth_snapshots), truth)}
    labels = {one.row.model: one.row.model.capitalize() for one in rows}
    data = DataSet(
        "A flow", "train_and_test", "velocity", 4, "block_mean", (8, 8, 8), (32, 32, 32), (), cutoff_wavenumber=8.0
    )
    return ComparisonResult.assemble(
        name,
        rows,
        {"flow": measured(truth_snapshots, **truth)},
        {"flow": dict.fromkeys(RUNS, blocks)},
        {"flow": DataSet(**{**vars(data), "training_snapshots": WHOLE})},
        labels,
        metrics=metrics or {"nrmse": Metric("NRMSE", better=better)},
        curve_kinds={},
        rules=Rules(references=references, resamples=400),
        seeds=tuple(sorted({one.row.seed for one in rows if one.row.trained})),
    )
