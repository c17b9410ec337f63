"""From pairs on disk to a saved network: options, budgets, patches, seeds."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from flowsr.data import create_store, field_template, open_field
from flowsr.data.pairs import read_statistics, write_statistics
from flowsr.data.scales import scales_of
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.models import Task, build_model, load_model, read_card
from flowsr.models.linear import RIDGES
from flowsr.models.pretrained import info_lines
from flowsr.train import Network, Schedule, resolve_networks, train_model
from flowsr.train.job import patch_pair
from flowsr.train.solve import solve_estimate
from tests.train.pairs import state

SCHEDULE = Schedule(batch_size=2, max_epochs=2, patience=5, learning_rate=1e-2, samples_per_epoch=3)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """An ingest folder as the ingest job leaves it: one run, 3 + 2 + 1 snapshots of 8^3 to 16^3."""
    folder, random = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    coarse = Grid((8, 8, 8))
    for split, times in {"train": [0.0, 1, 2], "validation": [5.0, 6], "test": [9.0]}.items():
        groups = {"coarse": field_template(coarse, times), "fine": field_template(coarse.refined(2), times)}
        with create_store(folder / split / "run.zarr", groups) as store:
            for time in range(len(times)):
                store.write("velocity", random.standard_normal((3, 8, 8, 8), "float32"), time=time, group="coarse")
                store.write("velocity", random.standard_normal((3, 16, 16, 16), "float32"), time=time, group="fine")
            store.publish()
    data_set = {"name": "flow", "source": "here", "licence": "MIT", "citation": None, "checked": None}
    return state(folder, {"train": 3, "validation": 2, "test": 1}, 1.5, [data_set])


def test_the_data_decide_factor_and_type_and_leave_units_to_the_field(pairs):
    card = resolve_networks({"a": Network("relaxed", {"channels": 2})}, pairs)["a"]
    assert (card.model, card.task, card.options) == ("relaxed", Task(2, "1o"), {"channels": 2})
    for model, group in (("strict", "O"), ("cnn", "C1")):  # an estimate under a network has the network's group
        card = resolve_networks({"a": Network(model, base={"reach": 1})}, pairs)["a"]
        assert card.options["base"]["group"] == group


@pytest.mark.parametrize("group", ["O", "Oh"])
def test_budgets_are_matched_by_the_width(pairs, group):
    networks = {"a": Network("relaxed", {"group": group}), "b": Network("cnn", {"blocks": 1}, match_parameters="a")}
    cards = resolve_networks(networks, pairs)
    wanted, options = cards["a"].build().parameter_count, cards["b"].options
    found = {w: replace(cards["b"], options={**options, "width": w}).build().parameter_count for w in range(1, 120)}
    assert abs(found[options["width"]] - wanted) == min(abs(n - wanted) for n in found.values())


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ({"a": Network("cnn", {"widht": 3})}, "does not take these options"),
        ({"a": Network("cnn", {"frames": 0})}, "does not take these options"),
        ({"a": Network("relaxed", {"channels": 0})}, "does not take these options"),
        ({"a": Network("nearest")}, "nothing to train"),
        ({"a": Network("cnn", {}, "a")}, "width of its own"),
        ({"a": Network("cnn", {}, "b")}, "width of its own"),
        ({"a": Network("cnn", {}, "b"), "b": Network("cnn", {}, "a")}, "width of its own"),
        ({"a": Network("cnn", {"width": 3}, "b"), "b": Network("relaxed")}, "both given and to be matched"),
    ],
)
def test_options_that_cannot_be_are_refused(pairs, models, told):
    with pytest.raises(FlowsrError, match=told):
        resolve_networks(models, pairs)


def test_validation_sees_every_snapshot_once_or_its_volume_once(pairs):
    whole = patch_pair(pairs, Schedule(samples_per_epoch=6), seed=0)
    assert (len(whole.train), len(whole.validation)) == (6, 2)
    assert whole.grid.shape == (8, 8, 8) and whole.grid.periodic
    cut = patch_pair(pairs, Schedule(patch=3, patch_halo=2, samples_per_epoch=6), seed=0)
    assert len(cut.validation) == 2 * 3**3
    assert cut.grid.shape == (7, 7, 7) and cut.halo == (2, 2, 2) and cut.grid.boundary == ("open",) * 3


def test_patches_depend_on_the_seed(pairs):
    draws = [
        torch.stack([patch_pair(pairs, Schedule(patch=4, samples_per_epoch=6), seed=s).train[i][0] for i in range(6)])
        for s in (0, 0, 1)
    ]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_training_leaves_weights_card_and_history_and_nothing_else(pairs, tmp_path):
    wanted = resolve_networks({"a": Network("cnn", {"width": 3})}, pairs)["a"]
    fitted = train_model(wanted, pairs, tmp_path, SCHEDULE, seed=4, augment="C4v[001]", device="cpu")
    assert "training patches: turned by C4v [001]" in info_lines(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"model.safetensors", "model.json", "history.jsonl", "history.csv"}
    card = read_card(tmp_path)
    assert replace(card, training={}, home=None) == wanted
    assert card.home.snapshots == 3 and card.home.ranges.keys() >= {"slope", "skewness", "divergence"}
    assert (
        card.training["seed"] == 4
        and card.training["best_epoch"] == fitted.best_epoch
        and card.training["versions"]["torch"]
    )
    assert [data_set["licence"] for data_set in card.training["data_sets"]] == ["MIT"]
    assert card.training["parameters"] == load_model(tmp_path).parameter_count


def test_several_reynolds_numbers_and_operators_are_learned_together(pairs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(pairs, other)
    write_statistics(other, replace(read_statistics(other), operator="spectral_cutoff", viscosity=0.5))
    card = resolve_networks({"a": Network("cnn", {"width": 3})}, pairs)["a"]
    train_model(card, [pairs, other], tmp_path / "both", SCHEDULE, seed=0, device="cpu")
    home = read_card(tmp_path / "both").home
    assert home.operator == "block_mean, spectral_cutoff" and home.snapshots == 6
    drawn = patch_pair([pairs, other], SCHEDULE, seed=0).train
    assert {store.parent.parent for store in drawn.stores} == {Path(pairs), other}
    consistent = resolve_networks({"a": Network("cnn", constraints=["data_consistency"])}, pairs)["a"]
    with pytest.raises(FlowsrError, match="pairs of one operator"):
        train_model(consistent, [pairs, other], tmp_path / "none", SCHEDULE, seed=0, device="cpu")


def test_the_seed_decides_the_weights(pairs, tmp_path):
    card = resolve_networks({"a": Network("cnn", {"width": 3})}, pairs)["a"]
    schedule = replace(SCHEDULE, patch=4, patch_halo=2)
    weights = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_model(card, pairs, tmp_path / folder, schedule, seed=seed, device="cpu")
        weights.append(torch.cat([p.flatten() for p in load_model(tmp_path / folder).parameters()]))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_an_estimate_is_solved_for_and_saved_like_a_network(pairs, tmp_path):
    """Fine fields that are the coarse ones, cell by cell, times two: found to the ridge, from three snapshots."""
    folder = tmp_path / "pairs"
    shutil.copytree(pairs, folder)
    for split in ("train", "validation"):
        groups = {group: open_field(pairs / split / "run.zarr", group=group).load() for group in ("coarse", "fine")}
        values = groups["coarse"]["velocity"].values
        shutil.rmtree(folder / split / "run.zarr")
        with create_store(folder / split / "run.zarr", groups) as store:
            for time, coarse in enumerate(values):
                fine = 2 * coarse.repeat(2, axis=1).repeat(2, axis=2).repeat(2, axis=3)
                store.write("velocity", coarse, time=time, group="coarse")
                store.write("velocity", fine, time=time, group="fine")
            store.publish()
    card = resolve_networks({"a": Network("linear", {"group": "Oh"})}, folder)["a"]
    assert card.options["planes"] == (1, 1, 1)
    losses = []
    for schedule in (SCHEDULE, replace(SCHEDULE, patch=3)):
        fitted = train_model(card, folder, tmp_path / "model", schedule, seed=0)
        losses.append(fitted.best_validation_loss)
        assert len(fitted.history) == 1 and read_card(tmp_path / "model").training["best_epoch"] == 0
    assert max(losses) < 0.03  # each snapshot is taken in its own frame, of which the fine field knows twice
    model, coarse = load_model(tmp_path / "model"), torch.randn(1, 3, 8, 8, 8)
    wanted = 2 * coarse.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    assert (model(coarse, Grid((8, 8, 8))) - wanted).norm() / wanted.norm() < 0.05


def test_pairs_that_lost_a_shard_are_refused_in_one_line(pairs, tmp_path):
    damaged = shutil.copytree(pairs, tmp_path / "pairs")
    (damaged / "train" / "run.zarr" / "fine" / "velocity" / "c" / "0" / "0" / "0" / "0" / "0").unlink()
    card = resolve_networks({"a": Network("cnn", {"width": 2, "blocks": 1})}, damaged)["a"]
    with pytest.raises(FlowsrError, match=r"run.zarr: this store is damaged; .*no such file; make the pairs again"):
        train_model(card, damaged, tmp_path / "model", SCHEDULE, seed=0)
    assert not (tmp_path / "model").exists()


def test_cells_that_a_network_cannot_see_are_refused_before_it_is_trained(pairs, tmp_path):
    card = resolve_networks({"a": Network("e3nn", {"radius": 1.2, "width": 2})}, pairs)["a"]
    with pytest.raises(FlowsrError, match=r"not for this box.*too long for filters of radius 0.7"):
        train_model(card, pairs, tmp_path / "model", SCHEDULE, seed=0)


def test_shifted_pairs_of_few_snapshots_do_not_tell_an_estimate_what_is_left_out(pairs):
    """White noise cannot be told from its means: the largest ridge is best, if no shifted copy of a part is kept."""
    estimate = build_model("linear", Task(2))
    assert solve_estimate(estimate, [pairs], Schedule(shifts=True)).ridge == RIDGES[-1]


def test_shifted_pairs_are_pairs_of_the_same_flow(pairs):
    """Coarse is the mean of fine for every draw, in its own units; draws between the cells are among them."""
    schedule = Schedule(samples_per_epoch=12, shifts=True)
    grid, drawn = Grid((8, 8, 8)), patch_pair(pairs, schedule, seed=0).train
    shifts = set()
    for index in range(12):
        coarse, fine = drawn[index]
        torch.testing.assert_close(torch.nn.functional.avg_pool3d(fine, 2), coarse, rtol=0, atol=1e-5)
        mean, size = scales_of(coarse[None], grid, "1o")
        torch.testing.assert_close(size, torch.ones_like(size))
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-6)
        source = drawn._field(*drawn.snapshots[drawn.snapshot_of(index)], 1)
        place = (
            np.argwhere(np.isclose(source[0], source[0].max()))[0],
            np.argwhere(fine[0] == fine[0].max()).numpy()[:, 0],
        )
        shifts.add(tuple((place[1] - place[0]) % 2))
    assert len(shifts) > 1  # by one fine cell too, half a coarse one
    with pytest.raises(FlowsrError, match="whole boxes"):
        patch_pair(pairs, replace(schedule, patch=4), seed=0)
