import itertools
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from flowsr.data.split import SPLITS, SplitRule, split_times
from flowsr.errors import FlowsrError

rules = st.builds(SplitRule, train=st.floats(0.1, 0.8), validation=st.floats(0.05, 0.15), gap_turnovers=st.floats(0, 4))
times = st.lists(st.floats(0.01, 2.0), min_size=2, max_size=40).map(lambda steps: np.cumsum([5.0, *steps]))


@settings(max_examples=200, deadline=None)
@given(times=times, turnover=st.floats(0.01, 3), rule=rules)
def test_splits_are_ordered_disjoint_and_far_apart_or_refused(times, turnover, rule):
    gap = rule.gap_turnovers * turnover
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
    found = split_times(np.arange(count), 1.0, SplitRule(train, validation, gap))
    used = sum(map(len, found.values()))
    for share, split in zip((train, validation, 1 - train - validation), SPLITS):
        assert abs(len(found[split]) - share * used) <= 1.01
    # nothing is thrown away but what the gaps ask for
    assert used == count - 2 * (max(int(np.ceil(gap - 1e-6)), 1) - 1)


def test_the_demo():
    found = split_times(14 + np.arange(20.0), 2.3, SplitRule())
    assert {name: (r.start, r.stop) for name, r in found.items()} == {
        "train": (0, 7),
        "validation": (11, 13),
        "test": (17, 20),
    }


def test_a_short_run_says_how_long_it_would_have_to_be():
    with pytest.raises(FlowsrError, match="too short") as caught:
        split_times(np.arange(9.0), 2.3, SplitRule(), file="run.zarr")
    line = str(caught.value)
    assert line.startswith("run.zarr") and "found: 9 snapshots over 8" in line and "\n" not in line
    needed = float(re.search(r"a run of ([\d.]+) at the least", line).group(1))
    assert needed == 10
    split_times(np.arange(needed + 1), 2.3, SplitRule())
    for few in ([], [0.0], [0.0, 1.0]):
        with pytest.raises(FlowsrError, match="too short"):
            split_times(few, 0.01, SplitRule(gap_turnovers=0))


@pytest.mark.parametrize("shares", [(0, 0.2), (0.8, 0.2), (0.5, 0), (0.9, 0.5), (float("nan"), 0.2)])
def test_shares_that_leave_nothing_are_refused(shares):
    with pytest.raises(FlowsrError, match="variable: split"):
        SplitRule(*shares)
    with pytest.raises(FlowsrError, match="gap_turnovers"):
        SplitRule(gap_turnovers=-1)
