"""Metrics that need more than a prediction and the truth: the input, the model, the walls, all snapshots together."""

import numpy as np
import pytest
import torch

from flowsr.compare import Entry
from flowsr.grid import Grid
from flowsr.metrics import wall_profiles
from tests.compare.stores import FACTOR, FINE, Learned, Repeated, block_mean, velocity, write
from tests.compare.stores import compared as compare
from tests.compare.stores import test_store as make_store

CHANNEL = Grid((8, 16, 8), (0.5, 0.125, 0.25), ("periodic", "wall", "periodic"), (0.0, -1.0, 0.0))


def measured(stores, folder, names, model=None):
    return compare(stores, [Entry("a", "a", model or Repeated())], folder, metrics=names)


@pytest.mark.parametrize(("operator", "error"), [("block_mean", 0.25), ("gaussian_block_mean", None)])
def test_consistency_uses_the_operator_of_the_store(tmp_path, operator, error):
    fine = velocity(0)
    groups = {"coarse": (block_mean(fine), FINE.coarsened(FACTOR)), "fine": (fine, FINE)}
    store = write(tmp_path / "one.zarr", groups, attrs={"degrade_operator": operator, "degrade_factor": FACTOR})
    result = measured([store], tmp_path / "out", ["consistency"], Repeated(1.25))
    found, truth = (row["scalars"]["consistency_error"] for row in (result["models"]["a"], result["truth"]))
    assert len(found["values"]) == len(fine)
    if error is not None:  # nearest cells give back their own mean, here times 1.25; the truth gives back the input
        assert found["mean"] == pytest.approx(error, rel=1e-5) and truth["mean"] < 1e-6
    else:
        assert truth["mean"] > 0.01  # the coarse field was not made by what the store says
    assert result["metrics"]["consistency_error"]["better"] == "lower"


@pytest.mark.parametrize(
    "attrs", [{}, {"degrade_operator": "home-made"}, {"degrade_operator": "block_mean", "degrade_weight": "density"}]
)
def test_consistency_is_left_out_where_the_operator_is_not_known(tmp_path, attrs):
    fine = velocity(0)
    groups = {"coarse": (block_mean(fine), FINE.coarsened(FACTOR)), "fine": (fine, FINE)}
    result = measured([write(tmp_path / "one.zarr", groups, attrs=attrs)], tmp_path / "out", ["nrmse", "consistency"])
    assert list(result["metrics"]) == ["nrmse"]


def test_symmetry_breaking_takes_the_place_of_the_plain_error(tmp_path):
    store = make_store(tmp_path, 0)
    model = Learned((1.0, 1.2, 1.0))
    both = measured([store], tmp_path / "both", ["equivariance", "symmetry_breaking"], model)["models"]["a"]
    plain = measured([store], tmp_path / "plain", ["equivariance"], Learned((1.0, 1.2, 1.0)))["models"]["a"]
    for key, score in plain["scalars"].items():
        assert both["scalars"][key]["values"] == pytest.approx(score["values"], rel=1e-6)
        assert len(score["values"]) == 1
    assert both["scalars"]["breaking_Eg"]["mean"] > 0.03  # one axis of three is stretched
    assert both["scalars"]["breaking_T1u"]["mean"] < 1e-6
    assert len(both["curves"]["equivariance_error_per_class"]["y"]) == 10


def channel_store(folder):
    fine = velocity(3, CHANNEL, times=4)
    y = CHANNEL.coordinates()[1][:, None]
    fine = (0.2 * fine * (1 - y**2) + np.array([1, 0, 0])[:, None, None, None] * (1 - y**2)).astype("float32")
    groups = {"coarse": (block_mean(fine), CHANNEL.coarsened(FACTOR)), "fine": (fine, CHANNEL)}
    attrs = {"degrade_operator": "block_mean", "degrade_factor": FACTOR}
    return fine, write(folder / "channel.zarr", groups, attrs=attrs)


def test_wall_profiles_are_those_of_all_snapshots_together(tmp_path):
    fine, store = channel_store(tmp_path)
    result = measured([store], tmp_path / "out", ["walls", "spectrum"])
    assert "spectral_error" not in result["metrics"] and result["metrics"]["reynolds_tau"]["better"] == "truth"
    truth = result["truth"]
    pooled = wall_profiles(torch.tensor(fine), CHANNEL, 0.01)
    curve = truth["curves"]["streamwise_rms_plus"]
    expected = pooled.stress[:, 0, 0].sqrt() / pooled.friction_velocity
    np.testing.assert_allclose(curve["y"], expected, rtol=1e-5)
    np.testing.assert_allclose(curve["x"], pooled.wall_distance(pooled.friction_velocity), rtol=1e-5)
    assert len(truth["scalars"]["reynolds_tau"]["values"]) == 4
    assert result["models"]["a"]["scalars"]["mean_profile_error"]["mean"] > 0.001


def test_wall_units_are_left_out_of_a_periodic_box(tmp_path):
    result = measured([make_store(tmp_path, 0)], tmp_path / "out", ["nrmse", "walls"])
    assert list(result["metrics"]) == ["nrmse"]


def test_every_metric_fits_into_one_comparison(tmp_path):
    result = measured([make_store(tmp_path, 0)], tmp_path / "out", ["all"], Learned((1.0, 1.1, 1.0)))
    row, truth = result["models"]["a"], result["truth"]
    assert set(row["scalars"]) == set(result["metrics"]) and set(row["curves"]) == set(result["curves"])
    assert truth["scalars"]["qr_distance"]["mean"] == 0 and truth["scalars"]["subgrid_stress_error"]["mean"] == 0
    assert (tmp_path / "out/table.md").read_text().count("Backscatter") == 2
