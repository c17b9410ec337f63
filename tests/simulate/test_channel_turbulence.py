"""The minimal flow unit at Re_tau 180, from its start to its statistics; minutes, so marked slow."""

import numpy as np
import pytest

from flowsr.simulate.diagnostics import closing, read_table
from flowsr.simulate.summary import folded, peak
from tests.simulate.runs import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def profiles(tmp_path_factory):
    """Profiles of both halves averaged, from the wall to the middle, and the table of diagnostics."""
    output = tmp_path_factory.mktemp("channel") / "seed_000.zarr"
    run(output, {"re_tau": 180.0, "spin_up_time": 3.0, "duration": 12.0, "snapshot_interval": 3.0})
    return folded(read_table(output.with_suffix(".profiles.csv"))), read_table(output.with_suffix(".csv"))


def test_wall_law(profiles):
    mean, _ = profiles
    sublayer = mean["y_plus"] < 5
    np.testing.assert_allclose(mean["u_plus"][sublayer], mean["y_plus"][sublayer], rtol=0.06)
    log_layer = (mean["y_plus"] > 30) & (mean["y_plus"] < 100)
    np.testing.assert_allclose(mean["u_plus"][log_layer], (2.5 * np.log(mean["y_plus"]) + 5.5)[log_layer], rtol=0.06)
    assert mean["u_plus"][-1] == pytest.approx(18.6, rel=0.05)


def test_stresses_peak_where_they_should(profiles):
    mean, _ = profiles
    for name, size, place in (("uu_plus", 2.70, 13.7), ("vv_plus", 0.87, 53), ("ww_plus", 1.09, 59)):
        found, where = peak(mean, name)
        assert np.sqrt(found) == pytest.approx(size, rel=0.12), name
        assert where == pytest.approx(place, rel=0.4), name  # the maxima are flat
    found, where = peak(mean, "uv_plus")
    assert found == pytest.approx(0.74, rel=0.08)
    assert where == pytest.approx(30, rel=0.3)


def test_the_total_stress_is_linear(profiles):
    mean, _ = profiles
    total = mean["viscous_plus"] + mean["uv_plus"]
    assert np.abs(total - np.abs(mean["y"])).max() < 0.03


def test_it_is_steady_and_its_budget_closes(profiles):
    _, rows = profiles
    late = rows["time"] >= 3.0
    time, bulk = rows["time"][late], rows["bulk_velocity"][late]
    assert bulk.mean() == pytest.approx(15.7, rel=0.05)
    assert rows["reynolds_tau"][late].mean() == pytest.approx(180, rel=0.04)
    middle = (time[0] + time[-1]) / 2
    assert bulk[time < middle].mean() == pytest.approx(bulk[time >= middle].mean(), rel=0.03)
    assert closing(rows, 3.0) < 0.01
