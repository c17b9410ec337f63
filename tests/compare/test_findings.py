"""The board lines rows up by run and time; findings are those that were put in."""

import numpy as np
import pytest

from flowsr.compare.findings import (
    AHEAD,
    BEHIND,
    LEVEL,
    Resampling,
    best_interpolation,
    compared,
    learning_curve,
    score,
)
from flowsr.compare.result import Board, Key, Result, spread_values
from flowsr.compare.tidy import COLUMNS, tidy_rows, write_tidy

RUNS = {"a": np.arange(6) * 2.0, "b": np.arange(4) * 2.0}
SNAPSHOTS = tuple((run, float(time)) for run, times in RUNS.items() for time in times)
LENGTHS = {"flow": {"a": 2.0, "b": 2.0}}
HARD = np.random.default_rng(0).uniform(0.5, 1.5, len(SNAPSHOTS))
QUICK = Resampling(resamples=400)


def result(model, values, seed=None, size=None, data="flow", snapshots=SNAPSHOTS, metric="nrmse"):
    return Result(Key(model, data, size), seed, "flow", tuple(snapshots), {metric: np.asarray(values, dtype=float)})


def board(*results, truth=1.0):
    return Board(results, {"flow": result("truth", np.full(len(SNAPSHOTS), truth))}, LENGTHS)


def network(name, level, size=None, spread=0.01):
    generator = np.random.default_rng(len(name))
    return [
        result(name, level * HARD * (1 + spread * generator.normal(size=len(HARD))), seed, size) for seed in range(3)
    ]


def test_rows_are_lined_up_by_run_and_time_whatever_their_order():
    turned = list(reversed(SNAPSHOTS))
    made = board(
        result("x", HARD), result("y", HARD[::-1], snapshots=turned), result("z", HARD[1:-1], snapshots=SNAPSHOTS[1:-1])
    )
    assert made.snapshots["flow"] == list(SNAPSHOTS[1:-1])
    for name in "xyz":
        assert made.values(Key(name, "flow"), "flow", "nrmse")[0] == pytest.approx(HARD[1:-1])
    assert made.block_count("flow") == 8


def test_splits_of_one_run_are_one_run_in_time():
    late, early = SNAPSHOTS[3:6], SNAPSHOTS[:3]
    snapshots = [*late, *early]
    truth = Result(Key("truth", "flow"), None, "flow", tuple(snapshots), {"nrmse": np.ones(6)})
    made = Board([result("x", range(6), snapshots=snapshots)], {"flow": truth}, {"flow": {"a": 4.0}})
    assert made.snapshots["flow"] == [*early, *late] and made.blocks["flow"].tolist() == [0, 0, 1, 1, 2, 2]
    assert made.values(Key("x", "flow"), "flow", "nrmse")[0].tolist() == [3, 4, 5, 0, 1, 2]


def test_values_of_a_few_snapshots_stand_where_they_were_measured():
    assert spread_values([1.0, 2.0], 5).tolist() == pytest.approx([1, np.nan, 2, np.nan, np.nan], nan_ok=True)
    assert spread_values([1.0, None], 2).tolist() == pytest.approx([1, np.nan], nan_ok=True)


def test_scores_are_means_over_seeds_and_snapshots():
    made = board(*network("net", 0.3))
    found = score(made, Key("net", "flow"), "flow", "nrmse", QUICK)
    means = [r.values["nrmse"].mean() for r in network("net", 0.3)]
    assert found.by_seed == pytest.approx(means)
    assert found.interval.estimate == pytest.approx(np.mean(means))
    assert found.deviation == pytest.approx(np.std(means, ddof=1))
    assert found.interval.low < 0.3 * HARD.mean() < found.interval.high


def test_real_differences_are_told_from_none():
    made = board(
        *network("good", 0.2), *network("same", 0.3), *network("ours", 0.3, spread=0.02), result("plain", 0.5 * HARD)
    )

    def against(name, other):
        return compared(made, Key(name, "flow"), "ref", Key(other, "flow"), "flow", "nrmse", "lower", QUICK)

    assert against("good", "same").verdict == AHEAD
    assert against("good", "same").share == pytest.approx(-1 / 3, abs=0.02)
    assert against("plain", "good").verdict == BEHIND
    assert against("ours", "same").verdict == LEVEL
    assert best_interpolation(made, "flow", "nrmse", "lower") == Key("plain", "flow")


def test_near_the_truth_is_better_than_beyond_it():
    near, beyond = result("near", np.full(len(SNAPSHOTS), 0.9)), result("beyond", np.full(len(SNAPSHOTS), 1.3))
    made = board(near, beyond)
    found = compared(made, Key("near", "flow"), "beyond", Key("beyond", "flow"), "flow", "nrmse", "truth", QUICK)
    assert found.interval.estimate == pytest.approx(0.1 - 0.3) and found.verdict == AHEAD
    assert best_interpolation(made, "flow", "nrmse", "truth") == Key("near", "flow")


def test_a_power_law_has_its_exponent():
    sizes = {4: 4, 16: 16, 64: None}
    rows = [r for size, key in sizes.items() for r in network("net", 2.0 * size**-0.25, key)]
    keys = {size: Key("net", "flow", key) for size, key in sizes.items()}
    curve = learning_curve(board(*rows), keys, "flow", "nrmse", QUICK)
    assert curve.sizes == (4, 16, 64)
    assert curve.slope.estimate == pytest.approx(-0.25, abs=0.005)
    assert curve.slope.low < -0.25 < curve.slope.high < 0
    assert learning_curve(board(*rows), {4: keys[4]}, "flow", "nrmse", QUICK).slope is None


def test_tidy_has_a_line_for_every_value_and_parquet_is_the_csv(tmp_path):
    import pyarrow.parquet

    made = board(*network("net", 0.3), result("plain", np.where(HARD > 1, HARD, np.nan)))
    labels = {"net": "Net, of three", "plain": "Plain"}
    rows = [dict(zip(COLUMNS, row)) for row in tidy_rows(made, labels, {"flow": 60})]
    assert len(rows) == 10 + 30 + int((HARD > 1).sum())
    of_net = [row for row in rows if row["model"] == "net" and row["seed"] == 2]
    assert [(row["run"], row["time"]) for row in of_net] == list(SNAPSHOTS)
    assert {row["train_snapshots"] for row in of_net} == {60} and {row["trained_on"] for row in of_net} == {"flow"}
    write_tidy(tmp_path, made, labels, {"flow": 60})
    table = pyarrow.parquet.read_table(tmp_path / "tidy.parquet")
    assert table.column_names == list(COLUMNS) and table.num_rows == len(rows)
    assert table.to_pylist() == rows
    assert (tmp_path / "tidy.csv").read_text().count("\n") == len(rows) + 1
