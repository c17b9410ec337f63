import gc
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from flowsr.data import create_store, patches
from flowsr.data.degrade import degrade
from flowsr.data.patches import OctahedralAugmentation, PatchPairs
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from tests.data.fields import random_field

SIDES = (8, 6, 12)  # coarse
FACTOR = 2


def pair(path, boundary=("periodic",) * 3, seed=0, times=3, sides=SIDES, spacing=(0.5, 0.25, 0.1)):
    fine = random_field(Grid(sides, spacing, boundary).refined(FACTOR), range(times), seed)
    coarse = degrade(fine, "block_mean", FACTOR)
    with create_store(path, {"coarse": coarse, "fine": fine}, chunk=4) as store:
        for time in range(times):
            store.write("velocity", coarse["velocity"][time].values, time=time, group="coarse")
            store.write("velocity", fine["velocity"][time].values, time=time, group="fine")
        store.publish()
    return path, coarse["velocity"].values, fine["velocity"].values


@pytest.fixture(scope="module")
def periodic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    return [pair(folder / f"{seed}.zarr", seed=seed) for seed in range(2)]


def find(patch, fields):
    """Where a patch comes from: (store, time, start), by looking everywhere, sides wrapped around."""
    hits = []
    for number, field in enumerate(fields):
        for time, snapshot in enumerate(field):
            for start in zip(*np.nonzero(snapshot[0] == patch[0, 0, 0, 0])):
                index = np.ix_(
                    range(3),
                    *[(o + np.arange(n)) % side for o, n, side in zip(start, patch.shape[1:], snapshot.shape[1:])],
                )
                if np.array_equal(snapshot[index], patch):
                    hits.append((number, time, tuple(int(o) for o in start)))
    assert len(hits) == 1, "the patch is not one piece of one snapshot"
    return hits[0]


@pytest.mark.parametrize("cache", [0, 30_000, 1 << 30])
@pytest.mark.parametrize(
    ("patch", "halo", "boundary"),
    [
        (None, 3, ("periodic",) * 3),
        ((4, 6, 5), 2, ("open", "periodic", "open")),
        (5, 0, ("open", "open", "open")),
        ((7, 5, 11), 4, ("open", "open", "open")),
    ],
)
def test_patches_are_pieces_of_a_snapshot_and_match(periodic, cache, patch, halo, boundary):
    stores, coarse, fine = zip(*periodic)
    drawn = PatchPairs(stores, patch=patch, halo=halo, samples=12, seed=1, cache_bytes=cache)
    core = SIDES if patch is None else (patch,) * 3 if isinstance(patch, int) else patch
    halos = tuple(0 if p == n else halo for p, n in zip(core, SIDES))
    assert drawn.grid.boundary == boundary and drawn.halo == halos and drawn.factor == FACTOR
    assert drawn.grid.shape == tuple(p + 2 * h for p, h in zip(core, halos))
    np.testing.assert_allclose(drawn.grid.spacing, (0.5, 0.25, 0.1))
    starts = set()
    for index in range(12):
        low, high = drawn[index]
        assert low.shape == (3, *drawn.grid.shape) and high.shape == (3, *(p * FACTOR for p in core))
        run, time, start = find(low.numpy(), coarse)
        origin = tuple((o + h) % n for o, h, n in zip(start, halos, SIDES))
        assert find(high.numpy(), fine) == (run, time, tuple(o * FACTOR for o in origin))
        starts.add((run, time, origin))
    assert len(starts) == 12
    assert len({start for _, _, start in starts}) > 6, "patches do not move"


def test_every_snapshot_is_drawn_equally_often(periodic):
    stores, coarse, _ = zip(*periodic)
    drawn = PatchPairs(stores, patch=4, samples=8, seed=5)
    counts = {}
    for epoch in range(3):
        drawn.set_epoch(epoch)
        for index in range(8):
            run, time, _ = find(drawn[index][0].numpy(), coarse)
            counts[run, time] = counts.get((run, time), 0) + 1
    assert len(counts) == 6 and set(counts.values()) == {4}


def test_draws_depend_on_seed_epoch_and_index_alone(periodic):
    stores = [store for store, _, _ in periodic]

    def draw(seed, epoch, index, **options):
        drawn = PatchPairs(stores, patch=4, halo=1, samples=10, seed=seed, **options)
        drawn.set_epoch(epoch)
        return drawn[index]

    for first, second in ((draw(3, 2, 7), draw(3, 2, 7, cache_bytes=0)), (draw(-1, 0, 0), draw(-1, 0, 0))):
        assert all(torch.equal(a, b) for a, b in zip(first, second))
    for other in (draw(4, 2, 7), draw(3, 1, 7), draw(3, 2, 6)):
        assert not torch.equal(draw(3, 2, 7)[0], other[0])


@pytest.mark.parametrize(("persistent", "workers"), [(False, 1), (True, 2)])
def test_workers_draw_what_one_process_draws(periodic, persistent, workers):
    """Workers from a fork server: a process in which Prefect has run a flow can have no children of its own."""
    stores = [store for store, _, _ in periodic]
    drawn = PatchPairs(stores, patch=4, halo=1, samples=6, seed=0)
    loader = DataLoader(
        drawn, batch_size=2, num_workers=workers, persistent_workers=persistent, multiprocessing_context="forkserver"
    )
    for epoch in (0, 1):
        drawn.set_epoch(epoch)
        low, high = (torch.cat(parts) for parts in zip(*loader))
        wanted = [drawn[index] for index in range(6)]
        assert torch.equal(low, torch.stack([w[0] for w in wanted]))
        assert torch.equal(high, torch.stack([w[1] for w in wanted]))


def test_a_pickled_dataset_draws_the_same(periodic):
    drawn = PatchPairs([store for store, _, _ in periodic], patch=4, samples=4, seed=0)
    drawn[0]
    again = pickle.loads(pickle.dumps(drawn))
    assert torch.equal(again[3][1], drawn[3][1]) and len(again) == 4
    with pytest.raises(IndexError):
        drawn[4]


def test_memory_and_handles_stay_put(periodic):
    drawn = PatchPairs([store for store, _, _ in periodic], patch=4, halo=1, samples=120, seed=0, cache_bytes=0)

    def measure():
        gc.collect()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return resident, len(os.listdir("/proc/self/fd"))

    grown = []
    for epoch in range(6):  # what is kept is kept every time; what else happens in this process happens now and then
        drawn.set_epoch(epoch)
        for index in range(30):
            drawn[index]
        before = measure()
        for index in range(30, 120):
            drawn[index]
        grown.append([after - start for start, after in zip(before, measure())])
        if grown[-1][0] < 4e6 and grown[-1][1] <= 0:
            return
    pytest.fail(f"bytes and handles more after 90 draws: {grown}")


def test_patches_stay_between_walls(tmp_path):
    store, coarse, fine = pair(tmp_path / "a.zarr", ("periodic", "wall", "open"))
    drawn = PatchPairs([store], patch=(4, 3, 12), halo=1, samples=30, seed=0)
    assert drawn.grid.boundary == ("open", "open", "open") and drawn.halo == (1, 1, 0)
    whole = PatchPairs([store], samples=5, seed=0)
    assert whole.grid.boundary == ("periodic", "wall", "open") and whole.grid.shape == SIDES
    tops = set()
    for index in range(30):
        low, high = drawn[index]
        _, time, start = find(low.numpy(), [coarse])
        assert start[1] + 5 <= SIDES[1] and start[2] == 0
        tops.add(start[1])
        assert find(high.numpy(), [fine])[1:] == (time, ((start[0] + 1) % 8 * 2, (start[1] + 1) * 2, 0))
    assert tops == {0, 1}
    for index in range(5):
        assert find(whole[index][0].numpy(), [coarse])[2][1:] == (0, 0)


def test_patches_that_do_not_fit_are_refused(periodic, tmp_path):
    stores = [store for store, _, _ in periodic]
    for patch in (7, 0, (8, 6, 13)):
        with pytest.raises(FlowsrError, match="does not fit along"):
            PatchPairs(stores, patch=patch, samples=1, seed=0)
    walled, _, _ = pair(tmp_path / "a.zarr", ("periodic", "wall", "periodic"))
    with pytest.raises(FlowsrError, match=r"does not fit along y.*1 to 2"):
        PatchPairs([walled], patch=4, halo=2, samples=1, seed=0)
    with pytest.raises(FlowsrError, match="stores differ in their grid"):
        PatchPairs([stores[0], walled], samples=1, seed=0)
    with pytest.raises(FlowsrError, match="no stores"):
        PatchPairs([], samples=1, seed=0)
    with pytest.raises(FlowsrError, match="no such file"):
        PatchPairs([tmp_path / "nothing.zarr"], samples=1, seed=0)


@pytest.mark.parametrize("group", ["O", "Oh"])
def test_augmentation_turns_both_fields_alike(tmp_path, group):
    store, _, _ = pair(tmp_path / "a.zarr", sides=(4, 4, 6), spacing=(0.5, 0.5, 0.5))
    plain = PatchPairs([store], patch=4, samples=40, seed=0)
    transformed = PatchPairs([store], patch=4, samples=40, seed=0, augment=OctahedralAugmentation(group))
    changed = 0
    for index in range(40):
        (low, high), (before, _) = transformed[index], plain[index]
        # block means of the fine field are the coarse field: both were transformed by one element
        means = high.reshape(3, 4, 2, 4, 2, 4, 2).mean(dim=(2, 4, 6))
        torch.testing.assert_close(means, low, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(low.norm(), before.norm())
        changed += not torch.equal(low, before)
    assert changed > 25
    # an axis that stays periodic may not be transformed into one that does not
    assert transformed.grid.boundary == ("periodic", "periodic", "open")


def test_augmentation_keeps_the_grid_of_the_patch(tmp_path):
    store, coarse, _ = pair(tmp_path / "a.zarr", sides=(4, 4, 4), spacing=(0.5, 0.5, 0.25), times=1)
    transformed = PatchPairs([store], samples=60, seed=0, augment=OctahedralAugmentation("Oh"))
    assert transformed.augment.words(transformed.grid) == "D4h [001], what the grid keeps of Oh"
    squares = sorted((coarse[0, 2] ** 2).ravel())
    for index in range(60):
        np.testing.assert_array_equal(sorted((transformed[index][0][2] ** 2).ravel().tolist()), squares)


@pytest.mark.slow
def test_memory_does_not_grow_over_10_000_draws(periodic):
    """Resident memory after 2,000 draws and after 10,000, every one read from the disk."""
    stores = [path for path, _, _ in periodic]
    dataset = PatchPairs(stores, patch=2, halo=1, samples=2000, seed=0, cache_bytes=0)

    def resident() -> int:
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    sizes = []
    for epoch in range(5):
        dataset.set_epoch(epoch)
        for index in range(len(dataset)):
            dataset[index]
        sizes.append(resident())
    assert sizes[-1] - sizes[0] < 8e6, [f"{size / 1e6:.1f} MB" for size in sizes]


def test_a_halo_longer_than_the_box_is_refused(periodic):
    stores = [store for store, _, _ in periodic]
    for patch in (None, 2):
        with pytest.raises(FlowsrError, match=r"a halo longer than the box along .; variable: patch_halo; .*found: 99"):
            PatchPairs(stores, patch=patch, halo=99, samples=1, seed=0)


@pytest.fixture
def small_regions(monkeypatch):
    monkeypatch.setattr(patches, "REGION_CELLS", 3 * FACTOR)


@pytest.mark.parametrize("boundary", [("periodic",) * 3, ("open", "periodic", "open")])
def test_neighbours_are_drawn_from_regions_read_once(tmp_path, monkeypatch, small_regions, boundary):
    path, coarse, fine = pair(tmp_path / "pairs.zarr", boundary)
    reads, cut = [], patches._cut
    monkeypatch.setattr(patches, "_cut", lambda field, spans: reads.append(type(field)) or cut(field, spans))
    group = patches.REGIONS * 5
    drawn = PatchPairs([path], patch=3, halo=1, samples=2 * group, seed=1, neighbours=5, cache_bytes=400_000)
    monkeypatch.setattr(PatchPairs, "_kept_bytes", 0)  # no whole snapshot
    places = [find(drawn[index][1].numpy(), [fine]) for index in range(2 * group)]
    read = sum(kind is not np.ndarray for kind in reads)
    for index in (0, 7, group):
        whole = np.roll(coarse[places[index][1]], [1 - o // FACTOR for o in places[index][2]], (1, 2, 3))
        np.testing.assert_array_equal(drawn[index][0].numpy(), whole[:, :5, :5, :5])
    lows = [low for low, _ in drawn._ends()]
    regions = [(time, *((o // FACTOR - low) // 3 for o, low in zip(at, lows))) for _, time, at in places]
    assert read == 2 * len(set(regions)) <= 2 * 2 * patches.REGIONS, "each once in either field"
    counts = [regions[:group].count(region) for region in set(regions[:group])]
    assert all(count % 5 == 0 for count in counts) and len(counts) > 4
    assert len(set(regions[:8])) > 3, "a batch has several regions"


def test_neighbours_do_not_depend_on_memory_or_workers(periodic, small_regions):
    def draws(**how):
        return PatchPairs([p for p, *_ in periodic], patch=3, halo=1, samples=48, seed=1, neighbours=3, **how)

    expected = {index: draws()[index] for index in (47, 3, 11)}
    for found in (draws(cache_bytes=0), draws(cache_bytes=30_000), pickle.loads(pickle.dumps(draws(cache_bytes=0)))):
        for index, drawn in expected.items():
            assert all(torch.equal(a, b) for a, b in zip(found[index], drawn))


def test_every_place_is_drawn_as_often_with_neighbours(periodic, small_regions):
    drawn, counts = PatchPairs([periodic[0][0]], patch=3, samples=48_000, seed=1, neighbours=2), np.zeros(SIDES)
    drawn._patch = lambda store, time, which, start, region: (
        counts.__setitem__(tuple(start), counts[tuple(start)] + (which == patches.FINE))
        or np.zeros((3, 1, 1, 1), "float32")
    )
    for index in range(0, 48_000, 4):
        drawn[index]
    assert counts.sum() == 12_000 and counts.min() > 0
    for axis in range(3):
        along = counts.sum(axis=tuple({0, 1, 2} - {axis}))
        assert np.abs(along / along.mean() - 1).max() < 0.1
