"""Losses, augmentation, constraints and frames: from the settings to the fit, and from the card back to the model."""

import pickle
import shutil
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowsr.compare import Entry
from flowsr.config.study import Experiment, Study, parse_experiment
from flowsr.data import DEGRADE_OPERATORS, create_store, field_template, open_field
from flowsr.data.pairs import read_statistics, write_statistics
from flowsr.data.patches import OctahedralAugmentation
from flowsr.data.scales import FieldScales
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.models import Task, build_model, load_model, read_card
from flowsr.pipeline.plan import Plan
from flowsr.train import Network, Schedule, card_for, read_history, resolve_networks, train_model
from flowsr.train.job import patch_pair
from flowsr.train.losses import Objective
from flowsr.upscale import upscale_store
from tests.compare.stores import compared as compare
from tests.train.pairs import state

SCHEDULE = Schedule(batch_size=2, max_epochs=2, patience=5, learning_rate=1e-2, samples_per_epoch=2)
CNN = {"width": 2, "blocks": 0}


def write_pairs(folder, boundary=("periodic",) * 3):
    """What the ingest stage leaves: block means of random fields."""
    random, coarse = np.random.default_rng(0), Grid((4, 4, 4), boundary=boundary)
    for split, times in {"train": [0.0, 1, 2], "validation": [5.0, 6], "test": [9.0, 10, 11]}.items():
        groups = {"coarse": field_template(coarse, times), "fine": field_template(coarse.refined(2), times)}
        with create_store(folder / split / "run.zarr", groups) as store:
            for time in range(len(times)):
                fine = random.standard_normal((3, 8, 8, 8), "float32")
                store.write("velocity", DEGRADE_OPERATORS["block_mean"]()(fine, 2), time=time, group="coarse")
                store.write("velocity", fine, time=time, group="fine")
            store.publish()
    return state(folder, {"train": 3, "validation": 2, "test": 3}, 0.4)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def fitted(pairs, folder, constraints=(), augment=None, **schedule):
    card = card_for(Network("cnn", CNN, constraints=list(constraints)), pairs)
    train_model(card, pairs, folder, replace(SCHEDULE, **schedule), seed=0, augment=augment, device="cpu")
    return load_model(folder)


def weights(model):
    return torch.cat([parameter.flatten() for parameter in model.parameters()])


def test_an_experiments_settings_reach_the_training_step(pairs, tmp_path):
    shutil.copytree(pairs, tmp_path / "ingest")
    experiment = Experiment.model_validate(
        {
            "name": "x",
            "output": str(tmp_path),
            "seed": 7,
            "train": {
                "frames": 3,
                "target_frame": 1,
                "loss": {"l2": 2, "divergence": 0.5},
                "models": {
                    "a": {"model": "cnn", "augment": "Oh", "constraints": ["data_consistency", "solenoidal"]},
                    "b": {"model": "cnn", "options": {"frames": 1, "target_frame": 0}},
                },
            },
        }
    )
    plan = Plan(experiment, {"ingest": {"data": {}}})
    a, b = (step.settings for _, step in plan.train())
    assert a["loss"] == b["loss"] == {"l2": 2.0, "divergence": 0.5} and a["seed"] == 7
    assert (a["augment"], b["augment"]) == ("Oh", None)
    assert a["task"]["window"] == {"frames": 3, "target": 1} and b["task"]["window"] == {"frames": 1, "target": 0}
    assert a["options"]["constraints"] == {"data_consistency": {"operator": "block_mean"}, "solenoidal": {}}
    assert "constraints" not in b["options"] and not {"frames", "target_frame", "models"} & a.keys()


def test_a_network_of_a_study_is_tested_on_the_boxes_that_it_is_for(pairs, tmp_path):
    """Weights by plane, under a network too: not where there are no such walls; any other network everywhere."""
    write_pairs(tmp_path / "data/walls/ingest", ("periodic", "wall", "periodic"))
    (tmp_path / "data/box").mkdir()
    (tmp_path / "data/box/ingest").symlink_to(pairs)
    models = {"linear": {}, "cnn": {"options": CNN}, "based": {"model": "cnn", "options": CNN, "base": {}}}
    data = {"walls": {}, "box": {}}
    plan = Plan(Study.model_validate({"name": "x", "output": str(tmp_path), "data": data, "models": models}))
    tested = {(row.model, row.data): [one.name for one in plan.tested_on(row, source)] for row, source in plan.rows}
    assert all(tested[name, "box"] == ["box", "walls"] for name in models)
    assert [tested[name, "walls"] for name in models] == [["walls"], ["walls", "box"], ["walls"]]


@pytest.mark.parametrize(
    ("train", "says"),
    [
        ({"frames": 2, "target_frame": 2}, "target_frame must be one of 2 frames"),
        ({"frames": 0}, "frames must be at least 1"),
        ({"loss": {}}, "at least 1 loss"),
        ({"loss": {"l1": 0}}, "at least 1 loss"),
        ({"loss": {"l1": float("nan")}}, "loss.l1 must be 0 or more"),
        ({"loss": {"l1": -1}}, "loss.l1 must be 0 or more"),
        ({"models": {"a": {"model": "cnn", "augment": "C5"}}}, r"models\.a\.augment'; expected: .*subgroup of Oh"),
        ({"models": {"a": {"model": "cnn", "average": "C4"}}}, r"models\.a\.average'; expected: C4 \[100\] or"),
        ({"models": {"a": {"model": "cnn", "constraints": ["positive"]}}}, "'solenoidal'"),
    ],
)
def test_settings_that_cannot_be_are_refused(train, says):
    with pytest.raises(FlowsrError, match=says):
        parse_experiment({"name": "x", "output": "x", "train": train})


def test_the_loss_of_the_settings_is_the_one_made_small(pairs, tmp_path):
    loss = {"l1": 1.0, "gradient_l2": 0.5, "spectrum": 0.1}
    model = fitted(pairs, tmp_path / "a", loss=loss)
    patches = patch_pair(pairs, SCHEDULE, seed=0).validation
    coarse, fine = torch.utils.data.default_collate([patches[index] for index in range(2)])
    with torch.no_grad():
        fields = model(coarse, patches.grid, FieldScales.unit(3)), fine
        expected = Objective(loss, patches.fine_grid)(*fields, torch.ones(())).item()
    assert min(line["validation_loss"] for line in read_history(tmp_path / "a" / "history.jsonl")) == pytest.approx(
        expected
    )
    plain, same = fitted(pairs, tmp_path / "b"), fitted(pairs, tmp_path / "c", loss={"l1": 1.0})
    assert torch.equal(weights(plain), weights(same)) and not torch.equal(weights(plain), weights(model))


def test_patches_shorter_than_the_box_have_no_spectrum_but_derivatives(pairs, tmp_path):
    with pytest.raises(FlowsrError, match="whole periodic boxes"):
        fitted(pairs, tmp_path / "a", patch=2, loss={"spectrum": 1.0})
    fitted(pairs, tmp_path / "b", patch=2, patch_halo=1, loss={"gradient_l1": 1.0, "divergence": 0.1})


def test_augmentation_turns_training_patches_and_no_others(pairs, tmp_path):
    plain, transformed, again = (
        fitted(pairs, tmp_path / name, augment=a) for name, a in (("a", None), ("b", "Oh"), ("c", "Oh"))
    )
    assert not torch.equal(weights(plain), weights(transformed)) and torch.equal(weights(transformed), weights(again))
    assert (
        read_card(tmp_path / "b").training["augment"] == "Oh" and read_card(tmp_path / "a").training["augment"] is None
    )
    kept = patch_pair(pairs, Schedule(samples_per_epoch=4), seed=0)
    moved = patch_pair(pairs, Schedule(samples_per_epoch=4), seed=0, augment=OctahedralAugmentation("Oh"))
    assert all(torch.equal(kept.validation[i][0], moved.validation[i][0]) for i in range(2))
    assert any(not torch.equal(kept.train[i][0], moved.train[i][0]) for i in range(4))


@pytest.mark.parametrize("names", [["data_consistency"], ["solenoidal"], ["solenoidal", "data_consistency"]])
def test_constraints_are_trained_through_saved_and_obeyed_by_the_upscaled_store(pairs, tmp_path, names):
    model = fitted(pairs, tmp_path / "model", names)
    assert set(read_card(tmp_path / "model").options["constraints"]) == set(names)
    assert weights(model).norm() > 0 and model.trainable
    store = upscale_store(
        pairs / "test" / "run.zarr", tmp_path / "model", tmp_path / "fine.zarr", group="coarse", tile=2
    )
    fine, coarse = (
        open_field(store).velocity.values,
        open_field(pairs / "test" / "run.zarr", group="coarse").velocity.values,
    )
    missed = DEGRADE_OPERATORS["block_mean"]()(fine, 2) - coarse
    rates = [2j * np.pi * np.fft.fftfreq(8, 0.5) * (np.abs(np.fft.fftfreq(8)) < 0.5)] * 3
    modes = np.fft.fftn(fine, axes=(2, 3, 4))
    along = [rate.reshape(np.roll([-1, 1, 1], axis)) * modes[:, axis] for axis, rate in enumerate(rates)]
    if names == ["data_consistency"]:
        assert np.abs(missed).max() < 1e-5
    else:
        assert np.linalg.norm(sum(along)) < 1e-5 * np.linalg.norm(along)
    # random block means push more through one plane than through the next: that alone no solenoidal field can
    if len(names) == 2:
        for axis in range(3):
            across = tuple(d - 1 for d in (2, 3, 4) if d != axis + 2)
            missed[:, axis] -= missed[:, axis].mean(axis=across, keepdims=True)
        assert np.abs(missed).max() < 1e-5


def test_constrained_models_are_compared_copied_and_pickled(pairs, tmp_path):
    model = build_model("trilinear", Task(2), constraints={"data_consistency": {"operator": "block_mean"}})
    coarse, grid = torch.randn(1, 3, 4, 4, 4), Grid((4, 4, 4))
    for other in (deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(coarse, grid), model(coarse, grid))
    entries = [Entry("c", "C", model), Entry("t", "T", build_model("trilinear", Task(2)))]
    compared = compare([pairs / "test" / "run.zarr"], entries, tmp_path, metrics=["nrmse", "equivariance"])["models"]
    assert compared["c"]["scalars"]["nrmse"]["mean"] < compared["t"]["scalars"]["nrmse"]["mean"]
    assert compared["c"]["scalars"]["equivariance_error"]["mean"] < 1e-6


def test_models_that_need_the_whole_box_are_refused_for_patches_and_walls(pairs, tmp_path):
    with pytest.raises(FlowsrError, match=r"needs whole boxes.*found: \(2, 2, 2\)"):
        fitted(pairs, tmp_path / "a", ["solenoidal"], patch=2)
    walled = write_pairs(tmp_path / "walled", ("periodic", "wall", "periodic"))
    fitted(walled, tmp_path / "b", ["solenoidal"])
    with pytest.raises(FlowsrError, match="for periodic boxes"):
        fitted(walled, tmp_path / "c", ["solenoidal", "data_consistency"])
    estimate = Network("strict", base={})
    for networks in ({"a": estimate}, {"a": replace(estimate, match_parameters="b"), "b": Network("cnn", CNN)}):
        with pytest.raises(FlowsrError, match="O does not keep"):
            resolve_networks(networks, walled)
    with pytest.raises(FlowsrError, match=r"does not take these options.*one vector field"):
        scalar = shutil.copytree(pairs, tmp_path / "scalar")
        write_statistics(scalar, replace(read_statistics(pairs), irreps="0e"))
        resolve_networks({"a": Network("cnn", constraints=["solenoidal"])}, scalar)


def test_weighted_means_cannot_be_kept(pairs, tmp_path):
    weighted = shutil.copytree(pairs, tmp_path / "weighted")
    write_statistics(weighted, replace(read_statistics(pairs), weight="density"))
    with pytest.raises(FlowsrError, match=r"without a weight.*found: means weighted with density"):
        card_for(Network("cnn", CNN, constraints=["data_consistency"]), weighted)
    card_for(Network("cnn", CNN, constraints=["solenoidal"]), weighted)
