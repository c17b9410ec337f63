import json
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowsr.data import FieldStore, create_store, field_template, open_field, store_checksum
from flowsr.errors import Busy, FlowsrError
from flowsr.files import partial_path
from flowsr.grid import Grid
from tests.data.fields import die, in_child, random_field, store_field

GRID = Grid((8, 6, 10), (0.5, 0.25, 0.1))


def fill(store, dataset, stop_after=None, **where):
    """Write what is missing, shard by shard; die after ``stop_after`` shards of this process."""
    written = 0
    for time in range(dataset.sizes["time"]):
        for box in store.boxes("velocity", **where):
            if not store.is_written("velocity", time, box, **where):
                if written == stop_after:
                    die()
                values = dataset["velocity"].isel(dict(time=time, **dict(zip("xyz", box)))).values
                store.write("velocity", values, time=time, box=box, **where)
                written += 1
    return written


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    shape=st.tuples(*[st.integers(2, 7)] * 3),
    chunk=st.integers(1, 5),
    shard=st.tuples(*[st.integers(2, 7)] * 3),
    times=st.integers(1, 2),
)
def test_any_shape_comes_back_shard_by_shard(tmp_path_factory, shape, chunk, shard, times):
    path = tmp_path_factory.mktemp("store") / "a.zarr"
    dataset = random_field(Grid(shape), range(times))
    with create_store(path, dataset, chunk=chunk, shard=shard) as store:
        fill(store, dataset)
        store.publish()
    # read by xarray's own reader, not by ours
    found = xr.open_zarr(path, consolidated=False, chunks=None, decode_timedelta=False)
    np.testing.assert_array_equal(found["velocity"].values, dataset["velocity"].values)
    for name in ("time", "x", "y", "z"):
        np.testing.assert_array_equal(found[name].values, dataset[name].values)
    assert list(found["component"].values) == ["u", "v", "w"]
    assert not partial_path(path).exists()


def test_nothing_has_the_name_before_publishing(tmp_path):
    dataset = random_field(GRID, [0.0, 1.0])
    path = tmp_path / "a.zarr"
    with create_store(path, dataset) as store:
        store.write("velocity", dataset["velocity"].values[0], time=0)
        with pytest.raises(FlowsrError, match="1 not written"):
            store.publish()
        assert not path.exists()
        reading = zarr.open_array(str(partial_path(path) / "store" / "velocity"), mode="r")
        assert np.isnan(reading[1]).all(), "what is missing must not read as zero"


def test_codecs_are_checked_and_metadata_stand_with_the_group_too(tmp_path):
    path = store_field(random_field(GRID, [0.0]), tmp_path / "a.zarr", chunk=2, shard=4)
    array = zarr.open_array(str(path / "velocity"), mode="r")
    assert array.shards == (1, 3, 4, 4, 4) and array.chunks == (1, 3, 2, 2, 2)
    sharding = array.metadata.to_dict()["codecs"][0]["configuration"]
    inner = [codec["name"] if isinstance(codec, dict) else type(codec).__name__ for codec in sharding["codecs"]]
    assert "crc32c" in str(inner).lower() and "blosc" in str(inner).lower()
    assert np.isnan(array.fill_value) and array.metadata.dimension_names == ("time", "component", "x", "y", "z")
    beside = json.loads((path / "zarr.json").read_text())["consolidated_metadata"]["metadata"]
    assert beside.keys() == {"velocity", "component", "time", "x", "y", "z"}
    own = {name: json.loads((path / name / "zarr.json").read_text()) for name in beside}
    assert {name: each["codecs"] for name, each in own.items()} == {n: each["codecs"] for n, each in beside.items()}


@pytest.mark.parametrize(
    "box",
    [
        (slice(1, 4), slice(0, 6), slice(0, 10)),
        (slice(0, 3), slice(0, 6), slice(0, 10)),
        (slice(0, 4), slice(0, 6), slice(0, 11)),
        (slice(4, 4), slice(0, 6), slice(0, 10)),
    ],
)
def test_a_box_off_the_shards_is_refused(tmp_path, box):
    dataset = random_field(GRID, [0.0])
    with create_store(tmp_path / "a.zarr", dataset, chunk=2, shard=4) as store:
        shape = (3, *(s.stop - s.start for s in box))
        with pytest.raises(ValueError, match="not aligned to shards"):
            store.write("velocity", np.zeros(shape, "float32"), time=0, box=box)


def test_wrong_values_are_refused(tmp_path):
    with create_store(tmp_path / "a.zarr", random_field(GRID, [0.0])) as store:
        with pytest.raises(ValueError, match="takes"):
            store.write("velocity", np.zeros((3, 8, 6, 9), "float32"), time=0)
        with pytest.raises(ValueError, match="float32"):
            store.write("velocity", np.zeros((3, 8, 6, 10), "complex64"), time=0)
        with pytest.raises(ValueError, match="outside"):
            store.write("velocity", np.zeros((3, 8, 6, 10), "float32"), time=1)


@pytest.mark.parametrize("stop_after", [0, 1, 5, 15])
def test_killed_and_resumed_is_the_same_to_the_byte(tmp_path, stop_after):
    dataset = random_field(GRID, [0.0, 1.0])
    path = tmp_path / "a.zarr"

    def begin():
        fill(create_store(path, dataset, chunk=2, shard=4), dataset, stop_after)

    assert in_child(begin) == -9
    assert not path.exists()
    with create_store(path, dataset, chunk=2, shard=4) as store:
        total = 2 * len(list(store.boxes("velocity")))
        assert fill(store, dataset) == total - stop_after, "what was whole is written again, or what is missing is not"
        store.publish()
    whole = store_field(dataset, tmp_path / "b.zarr", chunk=2, shard=4)
    assert store_checksum(path) == store_checksum(whole)


def test_a_kill_while_the_metadata_is_laid_down(tmp_path, monkeypatch):
    dataset, path = random_field(GRID, [0.0]), tmp_path / "a.zarr"
    monkeypatch.setattr("flowsr.files.write_json_atomic", die)
    assert in_child(lambda: create_store(path, dataset)) == -9
    monkeypatch.undo()
    assert store_checksum(store_field(dataset, path)) == store_checksum(store_field(dataset, tmp_path / "b.zarr"))


def test_a_kill_while_publishing(tmp_path, monkeypatch):
    dataset, path = random_field(GRID, [0.0]), tmp_path / "a.zarr"
    monkeypatch.setattr("flowsr.files.shutil.rmtree", lambda p, **_: None if str(p).endswith(".old") else die())
    assert in_child(lambda: store_field(dataset, path)) == -9
    monkeypatch.undo()
    assert path.exists() and partial_path(path).exists()
    with create_store(path, dataset) as store:
        assert store.published and store.publish() == path
    assert not partial_path(path).exists()
    assert store_checksum(path) == store_checksum(store_field(dataset, tmp_path / "b.zarr"))


def test_left_overs_of_a_cut_short_write_are_swept(tmp_path):
    dataset = random_field(GRID, [0.0])
    with create_store(tmp_path / "a.zarr", dataset) as store:
        store.write("velocity", dataset["velocity"].values[0], time=0)
        (partial_path(store.target) / "store" / "velocity" / "c" / "0.123.partial").write_bytes(b"half")
        store.publish()
    assert store_checksum(tmp_path / "a.zarr") == store_checksum(store_field(dataset, tmp_path / "b.zarr"))


def test_bytes_that_change_before_publishing_are_noticed(tmp_path):
    dataset = random_field(GRID, [0.0])
    with create_store(tmp_path / "a.zarr", dataset, chunk=2, shard=4) as store:
        fill(store, dataset)
        shard = partial_path(store.target) / "store" / "velocity" / "c" / "0" / "0" / "0" / "1" / "0"
        damaged = bytearray(shard.read_bytes())
        damaged[len(damaged) // 2] ^= 1
        shard.write_bytes(damaged)
        with pytest.raises(FlowsrError, match="1 changed on the disk"):
            store.publish()
        assert fill(store, dataset) == 1, "only the damaged shard is written again"
        store.publish()
    np.testing.assert_array_equal(open_field(tmp_path / "a.zarr")["velocity"].values, dataset["velocity"].values)


def test_a_flipped_bit_in_a_published_store_is_one_clean_line(tmp_path):
    path = store_field(random_field(GRID, [0.0]), tmp_path / "a.zarr")
    chunk = next(p for p in (path / "velocity" / "c").rglob("*") if p.is_file())
    whole = chunk.read_bytes()
    for position in range(0, len(whole), max(1, len(whole) // 40)):
        chunk.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(FlowsrError, match=r"velocity.*checksum") as caught:
            open_field(path)["velocity"].load()
        assert "\n" not in str(caught.value)


def test_another_template_is_refused_until_fresh(tmp_path):
    path = tmp_path / "a.zarr"
    first, second = random_field(GRID, [0.0]), random_field(GRID, [0.5])
    create_store(path, first).close()
    with pytest.raises(FlowsrError, match=r"unfinished one was begun.*--fresh"):
        create_store(path, second)
    store_field(second, path, fresh=True)
    with pytest.raises(FlowsrError, match=r"other data or settings.*--fresh"):
        create_store(path, first)
    np.testing.assert_array_equal(open_field(path)["time"].values, [0.5])
    store_field(first, path, fresh=True)
    np.testing.assert_array_equal(open_field(path)["time"].values, [0.0])
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("change", ["attrs", "variable attrs", "dtype", "chunk", "coordinate"])
def test_whatever_decides_the_bytes_decides_the_template(tmp_path, change):
    dataset = random_field(GRID, [0.0], provenance={"seed": 1})
    create_store(tmp_path / "a.zarr", dataset).close()
    other, options = dataset.copy(deep=True), {}
    if change == "attrs":
        other.attrs["provenance"]["seed"] = 2
    elif change == "variable attrs":
        other["velocity"].attrs["units"] = "m/s"
    elif change == "dtype":
        other = random_field(GRID, [0.0], dtype="float64", provenance={"seed": 1})
    elif change == "coordinate":
        other = other.assign_coords(x=other["x"] + 1)
    else:
        options["chunk"] = 5
    with pytest.raises(FlowsrError, match="unfinished one was begun"):
        create_store(tmp_path / "a.zarr", other, **options)


@pytest.mark.parametrize(
    "make", [lambda p: p.write_text("mine"), lambda p: (p.mkdir(), (p / "thesis.tex").write_text("mine"))]
)
@pytest.mark.parametrize("fresh", [False, True])
def test_somebody_elses_file_is_never_replaced(tmp_path, make, fresh):
    path = tmp_path / "a.zarr"
    make(path)
    with pytest.raises(FlowsrError, match="will not be replaced"):
        create_store(path, random_field(GRID, [0.0]), fresh=fresh)
    assert "mine" in (path if path.is_file() else path / "thesis.tex").read_text()


def test_two_processes_do_not_build_one_store(tmp_path):
    dataset = random_field(GRID, [0.0])

    def second():
        with pytest.raises(FlowsrError, match="another process is writing"):
            create_store(tmp_path / "a.zarr", dataset)

    store = create_store(tmp_path / "a.zarr", dataset)
    assert in_child(second) == 0
    store.close()
    assert in_child(lambda: create_store(tmp_path / "a.zarr", dataset)) == 0, "the lock outlived its holder"


def test_two_threads_do_not_build_one_store(tmp_path):
    dataset, elsewhere = random_field(GRID, [0.0]), tmp_path / ".." / tmp_path.name / "a.zarr"

    def second():
        with pytest.raises(Busy, match="another process is writing"):
            create_store(elsewhere, dataset)

    with create_store(tmp_path / "a.zarr", dataset), ThreadPoolExecutor(1) as thread:
        thread.submit(second).result()
        assert in_child(second) == 0, "the first one's lock went with the second's attempt"
    create_store(elsewhere, dataset).close()


def test_who_wants_what_is_there_is_given_it_while_another_makes_it_afresh(tmp_path):
    dataset = random_field(Grid((4, 4, 4)), [0.0])
    path = store_field(dataset, tmp_path / "a.zarr")
    with create_store(path, dataset, fresh=True) as afresh:
        assert not afresh.published

        def second():
            found = create_store(path, dataset)
            assert found.published and found.folder == path
            np.testing.assert_array_equal(found.read("velocity", 0), dataset["velocity"].values[0])

        assert in_child(second) == 0
        fill(afresh, dataset)
        afresh.publish()


def test_workers_attach_and_are_picklable(tmp_path):
    dataset = random_field(GRID, [0.0, 1.0])
    with create_store(tmp_path / "a.zarr", dataset, chunk=2, shard=4) as store:
        packed = pickle.dumps(store)
        assert in_child(lambda: fill(pickle.loads(packed), dataset.isel(time=[0]))) == 0
        attached = FieldStore(tmp_path / "a.zarr")
        assert fill(attached, dataset) == len(list(store.boxes("velocity"))), "the worker's shards are not seen"
        store.publish()
    assert store_checksum(tmp_path / "a.zarr") == store_checksum(
        store_field(dataset, tmp_path / "b.zarr", chunk=2, shard=4)
    )
    with pytest.raises(FlowsrError, match="no store here"):
        FieldStore(tmp_path / "nothing.zarr")


def test_groups_appear_together_with_series(tmp_path):
    fine = random_field(GRID, [0.0, 1.0])
    coarse = field_template(GRID.coarsened(2), [0.0, 1.0], components=None, variable="pressure", irreps="0e")
    coarse["energy"] = ("time", np.full(2, np.nan))
    path = tmp_path / "a.zarr"
    with create_store(path, {"coarse": coarse, "fine": fine}, shard=4) as store:
        fill(store, fine, group="fine")
        for time in range(2):
            store.write("energy", np.float64(time + 0.5), time=time, group="coarse")
        with pytest.raises(FlowsrError, match=re.escape("4 not written")):
            store.publish()
        assert not path.exists()
        for time in range(2):
            store.write("pressure", np.full((4, 3, 5), time, "float32"), time=time, group="coarse")
        store.publish()
    np.testing.assert_array_equal(open_field(path, group="fine")["velocity"].values, fine["velocity"].values)
    found = open_field(path, group="coarse")
    np.testing.assert_array_equal(found["energy"].values, [0.5, 1.5])
    np.testing.assert_array_equal(found["pressure"].isel(time=1).values, np.ones((4, 3, 5)))


def test_a_shard_of_nothing_but_nan_counts_as_written(tmp_path):
    dataset = random_field(GRID, [0.0])
    with create_store(tmp_path / "a.zarr", dataset) as store:
        store.write("velocity", np.full((3, 8, 6, 10), np.nan, "float32"), time=0)
        store.publish()
    assert np.isnan(open_field(tmp_path / "a.zarr")["velocity"].values).all()
