"""Several coarse frames in, one fine frame out: windows, patches, networks, cards, upscaled stores, comparison."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowsr.compare import Entry
from flowsr.data import create_store, field_template, open_field
from flowsr.data.patches import OctahedralAugmentation, PatchPairs
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field
from flowsr.models import Task, build_model, load_model, read_card
from flowsr.train import Network, Schedule, card_for, resolve_networks, train_model
from flowsr.upscale import upscale_array, upscale_store
from flowsr.windows import Window, check_spacing
from tests.compare.stores import compared as compare
from tests.train.pairs import state

COARSE = Grid((4, 6, 8), (0.5, 0.5, 0.25))
SCHEDULE = Schedule(batch_size=2, max_epochs=1, patience=5, learning_rate=1e-2, samples_per_epoch=2)
TIMES = {"train": np.arange(6) * 0.5, "validation": 10 + np.arange(3) * 0.5, "test": 20 + np.arange(5) * 0.5}


def write_pairs(path, times, seed=0):
    """A store of random pairs; the value of a fine cell is one that no other has."""
    random = np.random.default_rng(seed)
    groups = {"coarse": field_template(COARSE, times), "fine": field_template(COARSE.refined(2), times)}
    with create_store(path, groups) as store:
        for time in range(len(times)):
            fine = random.standard_normal((3, 8, 12, 16), "float32")
            coarse = fine.reshape(3, 4, 2, 6, 2, 8, 2).mean(axis=(2, 4, 6))
            store.write("velocity", coarse, time=time, group="coarse")
            store.write("velocity", fine, time=time, group="fine")
        return store.publish()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frames")
    for split, times in TIMES.items():
        write_pairs(folder / split / "run.zarr", times)
    return state(folder, {"train": 6, "validation": 3, "test": 5}, 0.4)


@pytest.fixture(scope="module")
def trained(pairs, tmp_path_factory):
    """A network of three frames, the middle one its target."""
    card = card_for(Network("cnn", {"width": 2, "blocks": 0}), pairs, Window(3, 1))
    folder = tmp_path_factory.mktemp("trained")
    train_model(card, pairs, folder, SCHEDULE, seed=0, device="cpu")
    return folder


@given(count=st.integers(1, 9), frames=st.integers(1, 4), target=st.integers(-4, 3))
def test_windows_are_all_the_unbroken_runs_of_consecutive_snapshots(count, frames, target):
    if not -frames <= target < frames:
        with pytest.raises(ValueError, match="target_frame must be one of"):
            Window(frames, target)
        return
    window = Window(frames, target)
    times = 0.1 * np.arange(count)
    assert list(window.around(5))[target] == 5 and len(window.around(5)) == frames
    if count < frames:
        with pytest.raises(FlowsrError, match=f"no {frames} consecutive snapshots") as error:
            window.targets(times, "run.zarr")
        assert "\n" not in str(error.value) and "run.zarr" in str(error.value)
        return
    expected = [t for t in range(count) if window.around(t).start >= 0 and window.around(t).stop <= count]
    assert window.targets(times) == expected and len(expected) == count - frames + 1
    assert window.spacing(times) == (None if frames == 1 or count == 1 else pytest.approx(0.1))


def test_a_window_does_not_reach_across_a_hole():
    times = [0.0, 1.0, 2.0, 3.0, 7.0, 8.0, 9.0]
    assert Window(3).targets(times) == [2, 3, 6] and Window(3, 0).targets(times) == [0, 1, 4]
    assert Window(2).targets([0.0, 1.004, 2.0]) == [1, 2], "output steps that jitter are equal steps"
    assert Window(1).targets(times) == list(range(7)) and Window(1).spacing(times) is None


def test_frames_at_another_distance_are_refused():
    for found, expected in ((0.1, 0.1), (0.104, 0.1), (None, 0.1), (0.3, None)):
        check_spacing(found, expected)
    for found in (0.09, 0.2):
        with pytest.raises(FlowsrError, match="another distance in time") as error:
            check_spacing(found, 0.1, "new.zarr")
        assert f"{found}" in str(error.value) and "new.zarr" in str(error.value)


@pytest.mark.parametrize(("target", "cache"), [(-1, 1 << 30), (0, 0), (1, 40_000)])
def test_patches_hold_consecutive_frames_of_one_place_and_the_targets_fine_field(tmp_path, target, cache):
    stores = [write_pairs(tmp_path / f"{seed}.zarr", 0.5 * np.arange(4), seed) for seed in range(2)]
    fields = [[open_field(store, group=group).velocity.values for group in ("coarse", "fine")] for store in stores]
    drawn = PatchPairs(stores, patch=3, halo=0, samples=16, seed=0, frames=3, target_frame=target, cache_bytes=cache)
    assert drawn.frame_spacing == 0.5 and drawn.snapshots == [(n, t + target % 3) for n in range(2) for t in range(2)]
    assert drawn.fine_grid == Grid((6, 6, 6), (0.25, 0.25, 0.125), ("open",) * 3)
    seen = set()
    for index in range(16):
        low, high = (part.numpy() for part in drawn[index])
        assert low.shape == (9, 3, 3, 3) and high.shape == (3, 6, 6, 6)
        run, time = next((n, t) for n in range(2) for t in range(4) if low[0, 0, 0, 0] in fields[n][0][t, 0])
        place = [int(o[0]) for o in np.nonzero(fields[run][0][time, 0] == low[0, 0, 0, 0])]
        for frame in range(3):
            around = np.ix_(range(3), *[(o + np.arange(3)) % n for o, n in zip(place, COARSE.shape)])
            np.testing.assert_array_equal(low[3 * frame : 3 * frame + 3], fields[run][0][time + frame][around])
        fine = np.ix_(range(3), *[(2 * o + np.arange(6)) % (2 * n) for o, n in zip(place, COARSE.shape)])
        np.testing.assert_array_equal(high, fields[run][1][time + target % 3][fine])
        seen.add((run, time))
    assert seen == {(run, time) for run in range(2) for time in range(2)}


def test_runs_too_short_or_of_another_step_are_refused(tmp_path):
    long, short = (write_pairs(tmp_path / f"{n}.zarr", np.arange(n)) for n in (4, 2))
    with pytest.raises(FlowsrError, match=r"2.zarr.*expected: 3 or more.*found: 2 snapshots"):
        PatchPairs([long, short], samples=1, seed=0, frames=3)
    other = write_pairs(tmp_path / "other.zarr", 2.0 * np.arange(4))
    with pytest.raises(FlowsrError, match=r"other.zarr: runs differ in the spacing of their snapshots"):
        PatchPairs([long, other], samples=1, seed=0, frames=2)


def test_augmentation_turns_all_frames_alike(tmp_path):
    store = write_pairs(tmp_path / "a.zarr", np.arange(3))
    plain = PatchPairs([store], samples=8, seed=0, frames=2)
    transformed = PatchPairs([store], samples=8, seed=0, frames=2, augment=OctahedralAugmentation("Oh"))
    changed = 0
    for index in range(8):
        (low, high), (before, _) = transformed[index], plain[index]
        means = high.reshape(3, 4, 2, 6, 2, 8, 2).mean(dim=(2, 4, 6))
        torch.testing.assert_close(means, low[3:], atol=1e-6, rtol=1e-5)
        group = octahedral_group("Oh")
        keep = [g for g in range(48) if transform_field(before[:3], g, "1o", group).shape == low[:3].shape]
        matches = [g for g in keep if torch.equal(transform_field(before[3:], g, "1o", group), low[3:])]
        assert len(matches) == 1 and torch.equal(transform_field(before[:3], matches[0], "1o", group), low[:3])
        changed += matches[0] != 0
    assert changed


@pytest.mark.parametrize("name", ["nearest", "trilinear", "tricubic", "spectral"])
def test_interpolations_take_the_target_frame_alone(name):
    coarse = torch.randn(2, 9, 4, 5, 6, dtype=torch.float64)
    for target in (-1, 0, 1):
        model = build_model(name, Task(2, window=Window(3, target)))
        frame = coarse[:, 3 * (target % 3) :][:, :3]
        assert torch.equal(model(coarse, Grid((4, 5, 6))), build_model(name, Task(2))(frame, Grid((4, 5, 6))))
    with pytest.raises(ValueError, match="are not those of 3 frames"):
        model(coarse[:, :8], Grid((4, 5, 6)))


@pytest.mark.parametrize("name", ["strict", "relaxed"])
@pytest.mark.parametrize("irreps", ["1o", "0e+1e"])
def test_networks_of_three_frames_commute_with_all_48(name, irreps):
    torch.manual_seed(0)
    task = Task(2, irreps, 0.7, Window(3, 1))
    model = build_model(name, task, channels=1, blocks=0, group="Oh").double()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if not key.endswith("relaxed_weights"):
                parameter.normal_()
        coarse = torch.randn(1, 3 * (3 if irreps == "1o" else 4), 4, 3, 5, dtype=torch.float64)
        fine, group = model(coarse, Grid((4, 3, 5))), octahedral_group("Oh")
        for element in range(48):
            transformed = transform_field(coarse, element, model.irreps_in, group)
            got = model(transformed, Grid(transformed.shape[-3:]))
            assert (got - transform_field(fine, element, irreps, group)).norm() <= 1e-10 * fine.norm()
        for frame in coarse.unflatten(1, (3, -1)).unbind(1):
            frame += 0.1  # in place: every frame counts
            assert not torch.allclose(model(coarse, Grid((4, 3, 5))), fine)
            fine = model(coarse, Grid((4, 3, 5)))


@pytest.mark.parametrize("name", ["cnn", "strict"])
def test_training_starts_from_the_target_frames_interpolation(name):
    coarse, grid = torch.randn(1, 6, 4, 4, 4), Grid((4, 4, 4))
    model = build_model(name, Task(2, scale=2.0, window=Window(2, 0)))
    expected = build_model("trilinear", Task(2))(coarse[:, :3], grid)
    torch.testing.assert_close(model(coarse, grid), expected, rtol=0, atol=1e-5)


def test_one_frame_is_what_it_was():
    """The same numbers drawn, the same shapes, the same field: one frame adds nothing to a network."""
    torch.manual_seed(3)
    plain = build_model("relaxed", Task(2), channels=1)
    torch.manual_seed(3)
    framed = build_model("relaxed", Task(2, window=Window(1, -1)), channels=1)
    assert plain.state_dict().keys() == framed.state_dict().keys() and plain.irreps_in == "1o"
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), framed.parameters()))


def test_tiles_of_several_frames_equal_the_whole():
    torch.manual_seed(0)
    model = build_model("cnn", Task(2, window=Window(2)), width=3, blocks=0).double().eval()
    torch.nn.init.normal_(model.tail.convolution.weight)
    grid, coarse = (
        Grid((9, 4, 5), boundary=("periodic", "wall", "open")),
        np.random.default_rng(0).standard_normal((6, 9, 4, 5)),
    )
    with torch.no_grad():
        whole = model(torch.from_numpy(coarse)[None], grid)[0].numpy()
    np.testing.assert_allclose(upscale_array(model, coarse, grid, 3), whole, atol=1e-12)


def test_a_models_own_frames_go_before_the_experiments(pairs):
    networks = {"a": Network("cnn", {"width": 2}), "b": Network("cnn", {"width": 2, "frames": 1, "target_frame": -1})}
    cards = resolve_networks(networks, pairs, Window(3))
    assert cards["a"].task.window == Window(3) and cards["b"].task.window == Window()
    assert cards["a"].options == cards["b"].options == {"width": 2}
    assert resolve_networks({"a": Network("cnn")}, pairs)["a"].task.window == Window()


def test_the_card_keeps_frames_and_their_spacing(trained):
    card, model = read_card(trained), load_model(trained)
    assert card.task.window == Window(3, 1)
    assert card.training["frame_spacing"] == model.frame_spacing == 0.5
    assert model.frames == 3 and model.head.convolution.weight.shape[1] == 9


def test_upscaled_stores_hold_the_times_with_a_whole_window(pairs, trained, tmp_path, caplog):
    caplog.set_level("INFO", logger="flowsr")
    source = pairs / "test" / "run.zarr"
    target = upscale_store(source, trained, tmp_path / "fine.zarr", group="coarse", tile=4, device="cpu")
    assert "3 of 5 snapshots have a whole window" in caplog.text
    fine, coarse = open_field(target), open_field(source, group="coarse").velocity.values
    np.testing.assert_array_equal(fine.time, TIMES["test"][1:4])
    with torch.no_grad():
        for number in range(3):
            frames = torch.from_numpy(coarse[number : number + 3].reshape(1, 9, *COARSE.shape))
            expected = load_model(trained)(frames, COARSE)[0].numpy()
            np.testing.assert_allclose(fine.velocity.values[number], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("times", "says"), [(np.arange(4.0), "another distance in time"), ([0.0, 0.5], "no 3 consecutive snapshots")]
)
def test_sources_that_do_not_suit_the_frames_are_refused(trained, tmp_path, times, says):
    source = write_pairs(tmp_path / "other.zarr", times)
    with pytest.raises(FlowsrError, match=says) as error:
        upscale_store(source, trained, tmp_path / "fine.zarr", group="coarse")
    assert "\n" not in str(error.value) and not (tmp_path / "fine.zarr").exists()
    with pytest.raises(FlowsrError, match=says):
        compare([source], [Entry("a", "A", load_model(trained))], tmp_path / "compared", metrics=["nrmse"])


def test_all_models_are_judged_on_the_same_snapshots(pairs, trained, tmp_path):
    source = pairs / "test" / "run.zarr"
    store = upscale_store(source, trained, tmp_path / "fine.zarr", group="coarse")
    entries = [
        Entry("nearest", "Nearest", build_model("nearest", Task(2))),
        Entry("called", "Called", load_model(trained)),
        Entry("stored", "Stored", load_model(trained), [store]),
    ]
    compared = compare([source], entries, tmp_path / "compared", metrics=["nrmse", "equivariance"])
    scores = {name: row["scalars"]["nrmse"]["values"] for name, row in compared["models"].items()}
    truth = open_field(source, group="fine").velocity.values[1:4]
    blocks = open_field(source, group="coarse").velocity.values[1:4]
    for axis in (2, 3, 4):
        blocks = blocks.repeat(2, axis=axis)
    errors = np.sqrt(((blocks - truth) ** 2).sum(axis=(1, 2, 3, 4)) / (truth**2).sum(axis=(1, 2, 3, 4)))
    assert compared["snapshots"] == 3
    np.testing.assert_allclose(scores["nearest"], errors, rtol=1e-5)
    np.testing.assert_allclose(scores["called"], scores["stored"], rtol=1e-5)
    assert compared["models"]["nearest"]["scalars"]["equivariance_error"]["mean"] < 1e-6
