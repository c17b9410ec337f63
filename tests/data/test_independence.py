import itertools
import re

import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flowsr.data.independence import SPLITS, Split, block_sums, independent_blocks, split_times, turnover_time
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from tests.metrics.test_scales import beltrami

rules = st.builds(
    Split, train=st.floats(0.1, 0.8), validation=st.floats(0.05, 0.15), decorrelation_turnovers=st.floats(0, 4)
)
times = st.lists(st.floats(0.01, 2.0), min_size=2, max_size=40).map(lambda steps: np.cumsum([5.0, *steps]))


@settings(max_examples=200, deadline=None)
@given(times=times, turnover=st.floats(0.01, 3), rule=rules)
def test_splits_are_ordered_disjoint_and_far_apart_or_refused(times, turnover, rule):
    gap = rule.decorrelation_turnovers * turnover
    try:
        found = split_times(times, turnover, rule)
    except FlowsrError:
        # only where no three snapshots are far enough apart
        second = np.searchsorted(times, times[0] + gap + 1e-9)
        second = max(second, 1)
        assert second >= len(times) - 1 or times[-1] < times[second] + gap + 1e-9
        return
    assert list(found) == list(SPLITS) and all(len(r) > 0 and r.step == 1 for r in found.values())
    for earlier, later in itertools.combinations(SPLITS, 2):
        distance = times[list(found[later])].min() - times[list(found[earlier])].max()
        assert distance > 0 and distance >= gap * (1 - 1e-8)
    assert found["train"].start == 0 and found["test"].stop == len(times)


@settings(max_examples=50, deadline=None)
@given(count=st.integers(12, 80), train=st.floats(0.3, 0.7), validation=st.floats(0.1, 0.2), gap=st.floats(0, 3))
def test_counts_come_near_the_shares(count, train, validation, gap):
    assume(count > 2 * gap + 10)
    found = split_times(np.arange(count), 1.0, Split(train, validation, gap))
    used = sum(map(len, found.values()))
    for share, split in zip((train, validation, 1 - train - validation), SPLITS):
        assert abs(len(found[split]) - share * used) <= 1.01
    # nothing is thrown away but what the gaps ask for
    assert used == count - 2 * (max(int(np.ceil(gap - 1e-6)), 1) - 1)


def test_the_demo():
    found = split_times(14 + np.arange(20.0), 2.3, Split())
    assert {name: (r.start, r.stop) for name, r in found.items()} == {
        "train": (0, 7),
        "validation": (11, 13),
        "test": (17, 20),
    }


def test_a_short_run_says_how_long_it_would_have_to_be():
    with pytest.raises(FlowsrError, match="too short") as caught:
        split_times(np.arange(9.0), 2.3, Split(), file="run.zarr")
    line = str(caught.value)
    assert line.startswith("run.zarr") and "found: 9 snapshots over 8" in line and "\n" not in line
    needed = float(re.search(r"a run of ([\d.]+) at the least", line).group(1))
    assert needed == 10
    split_times(np.arange(needed + 1), 2.3, Split())
    for few in ([], [0.0], [0.0, 1.0]):
        with pytest.raises(FlowsrError, match="too short"):
            split_times(few, 0.01, Split(decorrelation_turnovers=0))


@pytest.mark.parametrize("shares", [(0, 0.2), (0.8, 0.2), (0.5, 0), (0.9, 0.5), (float("nan"), 0.2)])
def test_shares_that_leave_nothing_are_refused(shares):
    with pytest.raises(ValueError, match="train > 0"):
        Split(*shares)
    with pytest.raises(ValueError, match="decorrelation_turnovers"):
        Split(decorrelation_turnovers=-1)
    with pytest.raises(ValueError, match="turnover_time"):
        Split(turnover_time=0.0)


def test_snapshots_within_a_turnover_are_one_block_and_runs_never_share_one():
    times = [np.array([0.0, 0.5, 1.0, 1.5, 2.0, 7.0]), np.array([0.0, 0.4])]
    assert independent_blocks(times, [1.0, 1.0]).tolist() == [0, 0, 1, 1, 2, 3, 4, 4]
    assert independent_blocks(times, [0.1, 0.1]).tolist() == list(range(8))
    assert independent_blocks(times, [100.0, 1.0]).tolist() == [0, 0, 0, 0, 0, 0, 1, 1]


def test_blocks_do_not_drift_where_steps_are_an_exact_turnover():
    times = np.arange(50) * 0.1 * 3  # rounding leaves some steps a hair short of 0.3
    assert independent_blocks([times], [0.3]).tolist() == list(range(50))


def test_block_sums_leave_out_what_was_not_measured():
    sums, counts = block_sums(np.array([[1.0, 2.0, np.nan, 4.0]]), np.array([0, 0, 1, 1]))
    assert sums.tolist() == [[3.0, 4.0]] and counts.tolist() == [[2.0, 1.0]]


def test_a_run_tells_its_turnover_time_where_it_can_be_measured():
    grid = Grid((8, 8, 8), (2 * np.pi / 8,) * 3)
    values, energy = beltrami(grid, 1)
    velocity = xr.DataArray(values[None], dims=("time", "component", "x", "y", "z"), attrs={"irreps": "1o"})
    assert turnover_time(velocity, grid) == pytest.approx(3 * np.pi / 4 / np.sqrt(2 * energy / 3))
    walls = Grid((8, 8, 8), boundary=("wall", "periodic", "periodic"))
    for field, box in ((velocity, walls), (velocity.assign_attrs(irreps="1e"), grid), (0 * velocity, grid)):
        with pytest.raises(FlowsrError) as caught:
            turnover_time(field.assign_attrs(irreps=field.attrs.get("irreps", "1o")), box, file="run.zarr")
        assert caught.value.file == "run.zarr"
