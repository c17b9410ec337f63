"""What a plan says is what is done: tiles, shards, one writer each, memory; and what the tiles are does not show."""

import math
import pickle
from collections import Counter
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsr.data import open_field, write_hdf5
from flowsr.data.open import ReadOptions
from flowsr.devices import machine_memory, processors
from flowsr.errors import FlowsrError
from flowsr.files import tree_checksum
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, build_model, save_model
from flowsr.upscale import UpscaleOptions, blocks, do_upscale, plan_upscale, upscale_store
from flowsr.upscale import plan as planning
from flowsr.upscale.plan import BASE, Block, Trial, UpscalePlan, tile_bytes, try_tile
from flowsr.windows import Window
from tests.data.fields import random_field

BOX = Grid((12, 9, 10), boundary=("periodic", "wall", "open"))


def plan_of(grid, tile, shard, factor=2, halo=1, times=2) -> UpscalePlan:
    return UpscalePlan(
        source="coarse.h5",
        options=ReadOptions(),
        model_folder="model",
        model_key=("weights", "card"),
        target="fine.zarr",
        variable="velocity",
        device="cpu",
        grid=grid,
        factor=factor,
        halo=halo,
        window=Window(),
        targets=tuple(range(times)),
        times=tuple(map(float, range(times))),
        components=("u", "v", "w"),
        dtype="float32",
        irreps="1o",
        units="m/s",
        long_name=None,
        attrs={},
        tile=tuple(min(tile, n) for n in grid.shape),
        shard=tuple(min(shard * factor, n * factor) for n in grid.shape),
    )


SIDES = st.tuples(*[st.integers(2, 20)] * 3)


@settings(max_examples=40, deadline=None)
@given(
    sides=SIDES, tile=st.integers(1, 25), shard=st.integers(1, 12), halo=st.integers(0, 3), workers=st.integers(1, 5)
)
def test_every_cell_has_one_tile_and_every_shard_one_writer(sides, tile, shard, halo, workers):
    plan = plan_of(Grid(sides), tile, shard, halo=halo)
    blocks = list(plan.blocks())
    counts, read, calls = np.zeros((2, *plan.fine_grid.shape), dtype=int), 0, 0
    for block in blocks:
        inside = np.zeros(plan.fine_grid.shape, dtype=int)
        for spans in plan.tiles_of(block):
            inside[tuple(slice(plan.factor * s.start, plan.factor * s.stop) for s in spans)] += 1
            read, calls = read + math.prod(len(s.cells) for s in spans), calls + 1
        assert (inside[block.box] == 1).all() and inside.sum() == inside[block.box].size
        counts[block.time][block.box] += 1
    assert (counts == 1).all() and len(blocks) == 2 * plan.blocks_a_snapshot
    assert (plan.tiles, plan.cells_read) == (calls, read)
    shards = Counter(chain.from_iterable(plan.shards_of(block) for block in blocks))
    assert len(shards) == plan.shards and set(shards.values()) == {1}
    batches = plan.batches(workers)
    plan.check_one_writer(batches)
    assert list(chain.from_iterable(batches)) == blocks and plan.batches() == [blocks]


def test_workers_may_have_a_device_that_is_not_here(made, tmp_path, monkeypatch):
    """A client without a GPU, workers with one: it is decided where the computing is."""
    (folder, _), asked = made, []
    run = (folder / "coarse.h5", folder / "model")

    def there(device):
        asked.append(device)
        return "cpu"  # as far as these workers are concerned it is one

    class Workers:
        def __len__(self):
            return 2

        def __call__(self, work, batches, progress):
            with monkeypatch.context() as elsewhere:
                elsewhere.setattr(blocks, "resolve_device", there)
                for batch in batches:
                    work(batch)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    plan = plan_upscale(*run, tmp_path / "fine.zarr", device="cuda", trial=True)
    assert plan.device == "cuda" and plan.worker_bytes() > 0
    with pytest.raises(FlowsrError, match="no CUDA device here"):
        do_upscale(plan)
    assert not list(tmp_path.iterdir())
    target = do_upscale(plan, spread=Workers())
    assert set(asked) == {"cuda"}
    alone = upscale_store(*run, tmp_path / "alone.zarr", device="cpu")
    assert tree_checksum(target) == tree_checksum(alone)


def test_options_are_declared_once_and_stated_one_by_one():
    known = UpscaleOptions(tile=3)
    stated = known.having(group="coarse", memory=10**9, time="3")
    assert (stated.tile, stated.memory, stated.read) == (3, 10**9, ReadOptions(group="coarse", time="3"))
    assert known.having() == known
    with pytest.raises(FlowsrError, match="a tile is at least 1"):
        known.having(tile=0)
    with pytest.raises(TypeError, match="tiel"):
        known.having(tiel=3)


def test_two_writers_of_a_shard_or_none_are_refused():
    plan = plan_of(Grid((8, 8, 8)), tile=4, shard=4)
    blocks = list(plan.blocks())
    for wrong in ([blocks, blocks[:1]], [blocks[1:]], [blocks[:5], blocks[4:]]):
        with pytest.raises(FlowsrError) as error:
            plan.check_one_writer(wrong)
        assert error.value.file == "fine.zarr" and error.value.expected == "one writer a shard"
    askew = Block(0, (slice(0, 8), slice(0, 8), slice(4, 12)))
    with pytest.raises(ValueError, match="4 to 12 is not of whole shards of 8"):
        plan.check_one_writer([[*blocks[:-1], askew]])


def test_a_plan_is_small_whatever_the_field():
    plan = plan_of(Grid((1024, 1024, 1024)), tile=32, shard=32, factor=4, times=1)
    assert len(pickle.dumps(plan)) < 5000 and plan.bytes == 3 * 4096**3 * 4
    assert len(plan.batches(64)) < 3000 and plan.blocks_a_snapshot == 32**3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A network, its input, and the fine field from the whole of it."""
    folder, card = tmp_path_factory.mktemp("made"), ModelCard("cnn", Task(2), {"width": 2, "blocks": 1})
    torch.manual_seed(0)
    model = card.build().eval()
    torch.nn.init.normal_(model.tail.convolution.weight, std=0.1)
    save_model(folder / "model", model, card)
    coarse = random_field(BOX, [0.0, 0.5])
    write_hdf5(coarse, folder / "coarse.h5")
    with torch.no_grad():
        fine = model(torch.from_numpy(coarse.velocity.values), BOX).numpy()
    return folder, fine


@pytest.mark.parametrize("tile, shard", [(None, None), (4, 8), (7, 6), (5, 24), (12, 12), (6, 9)])
def test_the_field_does_not_depend_on_tiles_or_shards(made, tmp_path, tile, shard):
    folder, fine = made
    store = upscale_store(folder / "coarse.h5", folder / "model", tmp_path / "fine.zarr", tile=tile, shard=shard)
    np.testing.assert_allclose(open_field(store).velocity.values, fine, atol=2e-6)


def test_less_memory_makes_smaller_tiles_which_need_less(tmp_path, monkeypatch):
    card = ModelCard("relaxed", Task(2), {"channels": 2})
    save_model(tmp_path / "model", card.build(), card)
    source = write_hdf5(random_field(Grid((40, 40, 40)), [0.0]), tmp_path / "coarse.h5")
    found = [
        plan_upscale(source, tmp_path / "model", tmp_path / "fine.zarr", memory=memory, shard=40, trial=True)
        for memory in (None, processors() * (BASE + (20 << 20)))
    ]
    assert found[0].tile > found[1].tile and found[0].worker_bytes() > found[1].worker_bytes()
    assert found[0].tile == (20, 20, 20) and found[0].worker_bytes() < machine_memory()
    monkeypatch.setattr("flowsr.devices._ALL_THREADS", 1)  # as in one of several workers of the machine
    how = {"memory": processors() * (BASE + (20 << 20)), "shard": 40}
    assert plan_upscale(source, tmp_path / "model", tmp_path / "fine.zarr", **how).tile == found[1].tile
    monkeypatch.setattr(planning, "processors", lambda: 64)
    assert min(plan_upscale(source, tmp_path / "model", tmp_path / "fine.zarr", **how).tile) >= 4  # not all halo


def test_what_a_trial_counts_is_what_tensors_take():
    model = build_model("nearest", Task(2))
    trial = try_tile(model, Grid((16, 16, 16)), "cpu", np.dtype("float32"))
    # the input, then the cells doubled along x, y and z: 2 + 4 + 8 times as many, the last two of them at once
    assert 3 * 4 * (1 + 8) <= trial.bytes_per_cell <= 3 * 4 * (1 + 2 + 4 + 8)
    whole, cut = Grid((16, 16, 16)), replace(trial, bytes_per_cell=1.0)
    assert tile_bytes(cut, whole, (16, 16, 16), 2) == int(1.5 * 16**3)
    assert tile_bytes(cut, whole, (16, 8, 8), 2) == int(1.5 * 16 * 12 * 12)
    assert isinstance(trial, Trial) and trial.seconds_per_cell > 0


@dataclass(frozen=True)
class Sums:
    """An observer that adds up what it sees, and leaves the sums in a file."""

    file: str
    name: str = "sums"

    def check(self, plan):
        assert plan.variable == "velocity"

    def observe(self, plan, piece):
        inside = tuple(slice(s.before, s.before + s.stop - s.start) for s in piece.cells)
        coarse = piece.coarse[(slice(None), *inside)]
        return {"fine": piece.fine.sum((1, 2, 3), dtype=np.float64), "coarse": coarse.sum((1, 2, 3), dtype=np.float64)}

    def finish(self, plan, states, store):
        states = list(states)
        assert len(states) == len(plan.times) * plan.blocks_a_snapshot
        np.savez(self.file, **{key: np.sum([state[key] for state in states], axis=0) for key in ("fine", "coarse")})


def test_observers_see_every_block_once_also_when_killed_in_between(made, tmp_path):
    folder, fine = made
    how = {"tile": 3, "shard": 12}

    def stop(fraction, message):
        if fraction > 0.5:
            raise KeyboardInterrupt

    killed, at_once = Sums(str(tmp_path / "killed.npz")), Sums(str(tmp_path / "at_once.npz"))
    run = (folder / "coarse.h5", folder / "model")
    with pytest.raises(KeyboardInterrupt):
        upscale_store(*run, tmp_path / "killed.zarr", observers=[killed], progress=stop, **how)
    upscale_store(*run, tmp_path / "killed.zarr", observers=[killed], **how)
    upscale_store(*run, tmp_path / "at_once.zarr", observers=[at_once], **how)
    one, other = (np.load(each.file) for each in (killed, at_once))
    for key in ("fine", "coarse"):
        np.testing.assert_array_equal(one[key], other[key])
    np.testing.assert_allclose(one["fine"], fine.sum((0, 2, 3, 4), dtype=np.float64), atol=1e-3)
    coarse = open_field(folder / "coarse.h5").velocity.values
    np.testing.assert_allclose(one["coarse"], coarse.sum((0, 2, 3, 4), dtype=np.float64), atol=1e-9)
    assert tree_checksum(tmp_path / "killed.zarr") == tree_checksum(tmp_path / "at_once.zarr")
