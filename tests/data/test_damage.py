"""A disk that loses or changes bytes: noticed, repaired or refused in one line, and never published."""

import json
import logging
import os
import random
import shutil

import numpy as np
import pytest
import xarray as xr
import zarr

from flowsr.data import create_store, open_field
from flowsr.data.content import Content
from flowsr.data.store import damage_in
from flowsr.errors import FlowsrError
from flowsr.files import CHECKSUMS, partial_path, tree_checksum
from flowsr.grid import Grid
from tests.data.fields import random_field, store_field

GRID = Grid((4, 6, 5), (0.5, 0.25, 0.1))
SHARDS = {"chunk": 2, "shard": 4}


def small_field(seed=0):
    return random_field(GRID, [0.0, 1.0], seed=seed, provenance={"made": "here"})


def write(dataset, path, shards=None, **options):
    """One run: resume, write what is missing (at most so many shards), publish."""
    with create_store(path, dataset, **SHARDS, **options) as store:
        for time in range(2):
            for box in [] if store.published else store.boxes("velocity"):
                if not store.is_written("velocity", time, box):
                    if shards == 0:
                        return None
                    shards = shards and shards - 1
                    store.write("velocity", dataset["velocity"].values[(time, ..., *box)], time=time, box=box)
        return store.publish()


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def damage(file, draw):
    whole = file.read_bytes()
    how = draw.choice(["gone", "empty", "cut", "bit", "braces", "longer"])
    if how == "gone":
        file.unlink()
    elif how == "bit" and whole:
        place = draw.randrange(len(whole))
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << draw.randrange(8)]) + whole[place + 1 :])
    else:
        half = whole[: len(whole) // 2]
        file.write_bytes({"cut": half, "braces": b"{}", "longer": whole + b"0"}.get(how, b""))
    return how


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store nothing ever happened to, and a partial one."""
    folder = tmp_path_factory.mktemp("whole")
    write(small_field(), folder / "a.zarr")
    assert write(small_field(), folder / "b.zarr", shards=5) is None
    return folder


def check_a_damaged_partial_store_ends_whole_or_in_a_line(whole, folder, seed):
    draw = random.Random(seed)
    path = folder / f"{seed}.zarr"
    shutil.copytree(partial_path(whole / "b.zarr"), partial_path(path))
    file = draw.choice(files_of(partial_path(path)))
    how = damage(file, draw)
    for _ in range(2):
        try:
            write(small_field(), path)
            break
        except FlowsrError as error:
            assert "\n" not in str(error) and not path.exists()
    assert path.exists() and not damage_in(path), (how, file)
    assert tree_checksum(path) == tree_checksum(whole / "a.zarr"), (how, file)
    assert not partial_path(path).exists()
    shutil.rmtree(path)


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_partial_store_ends_whole_or_in_a_line(whole, tmp_path, seed):
    for number in range(8):
        check_a_damaged_partial_store_ends_whole_or_in_a_line(whole, tmp_path, 100 * seed + number)


@pytest.mark.slow
def test_two_hundred_damaged_partial_stores_end_whole_or_in_a_line(whole, tmp_path):
    for seed in range(1000, 1200):
        check_a_damaged_partial_store_ends_whole_or_in_a_line(whole, tmp_path, seed)


@pytest.mark.parametrize("name", ["x/c/0", "x/zarr.json", "velocity/zarr.json", "zarr.json", "velocity/c/0/0/0/1/0"])
def test_what_changes_while_a_store_is_written_is_not_published(whole, tmp_path, name):
    path = tmp_path / "a.zarr"
    with create_store(path, small_field(), **SHARDS) as store:
        for time in range(2):
            for box in store.boxes("velocity"):
                store.write("velocity", small_field()["velocity"].values[(time, ..., *box)], time=time, box=box)
        (partial_path(path) / "store" / name).write_bytes(b"")
        with pytest.raises(FlowsrError) as caught:
            store.publish()
        assert "\n" not in str(caught.value) and not path.exists()
    write(small_field(), path)
    assert tree_checksum(path) == tree_checksum(whole / "a.zarr")


def test_every_file_of_a_published_store_is_covered(whole, tmp_path):
    path = whole / "a.zarr"
    assert damage_in(path) == []
    for file in files_of(path):
        kept = file.read_bytes()
        for content in (b"", kept[:-1], bytes([kept[0] ^ 1]) + kept[1:]):
            file.write_bytes(content)
            (found,) = damage_in(path)
            assert found.file == file and found.expected != found.found
        file.unlink()
        (found,) = damage_in(path)
        assert found.file.name == file.name and found.found == "no such file"
        file.write_bytes(kept)
    assert damage_in(path) == []


def test_checksums_are_seen_neither_by_zarr_nor_by_xarray(whole, recwarn):
    found = xr.open_zarr(whole / "a.zarr", consolidated=False, chunks=None)
    assert set(found.variables) == {"velocity", "time", "component", "x", "y", "z"}
    group = zarr.open_group(str(whole / "a.zarr"), mode="r")
    assert len(list(group.members(max_depth=None))) == 6 and not list(group.group_keys())
    assert not [str(one.message) for one in recwarn if "recognized" in str(one.message)]
    (sums,) = (whole / "a.zarr").rglob(CHECKSUMS)
    assert json.loads(sums.read_text())["files"].keys() == {
        file.relative_to(whole / "a.zarr").as_posix() for file in files_of(whole / "a.zarr") if file != sums
    }


def test_a_store_that_lost_shards_is_not_used_again(whole, tmp_path):
    path = tmp_path / "a.zarr"
    shutil.copytree(whole / "a.zarr", path)
    for shard in files_of(path / "velocity" / "c")[:3]:
        shard.unlink()
    with pytest.raises(FlowsrError, match=r"this store is damaged.*3 that are not.*no such file.*--fresh"):
        write(small_field(), path)
    write(small_field(), path, fresh=True)
    assert tree_checksum(path) == tree_checksum(whole / "a.zarr")


def test_a_partial_store_of_somebody_else_is_started_over(whole, tmp_path, monkeypatch, caplog):
    """Such as one from an archive: it has the right names, markers and checksums, and other values."""
    path = tmp_path / "a.zarr"
    shutil.copytree(partial_path(whole / "b.zarr"), partial_path(path))
    monkeypatch.setattr("flowsr.files._user_key", lambda: b"another user's")
    with caplog.at_level(logging.WARNING):
        write(small_field(), path)
    assert "not known to be yours and is started over" in caplog.text
    assert tree_checksum(path) == tree_checksum(whole / "a.zarr")


@pytest.mark.parametrize("trick", ["marker", "mode"])
def test_what_others_could_put_into_a_partial_store_does_not_count(whole, tmp_path, trick):
    path, folder = tmp_path / "a.zarr", partial_path(tmp_path / "a.zarr")
    shutil.copytree(partial_path(whole / "b.zarr"), folder)
    last = folder / "done" / "velocity" / "1.0.0.0.0"
    shard = folder / "store" / "velocity" / "c" / "1" / "0" / "0" / "0" / "0"
    other = write(small_field(seed=1), tmp_path / "other.zarr")
    shard.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(other / shard.relative_to(folder / "store"), shard)
    marker = json.loads((folder / "done" / "velocity" / "0.0.0.0.0").read_text())
    sums = json.loads((other / "velocity" / CHECKSUMS).read_text())["files"]["velocity/c/1/0/0/0/0"]
    token = marker["token"] if trick == "mode" else "0" * 32
    last.write_text(json.dumps({"bytes": sums[0], "sha256": sums[1], "token": token}))
    if trick == "mode":
        folder.chmod(0o777)
    write(small_field(), path)
    assert tree_checksum(path) == tree_checksum(whole / "a.zarr")


def test_the_number_that_seals_a_plan_is_the_users_alone(tmp_path, monkeypatch):
    from flowsr.files import _user_key

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    key = _user_key.__wrapped__()
    assert len(key) == 32 and _user_key.__wrapped__() == key
    assert [path.name for path in (tmp_path / "flowsr").iterdir()] == ["key"]
    assert (tmp_path / "flowsr" / "key").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null/no")
    assert _user_key.__wrapped__() == b""


def test_a_source_that_changes_is_noticed_by_its_content(tmp_path):
    path = store_field(random_field(GRID, [0.0]), tmp_path / "a.zarr")
    content = Content(path)
    shard = next(file for file in files_of(path) if "velocity/c" in str(file))
    kept, state = shard.read_bytes(), shard.stat()
    os.utime(shard)
    content.refuse_changed()  # touched, and the same
    changed = bytearray(kept)
    changed[0] ^= 1
    shard.write_bytes(changed)
    os.utime(shard, ns=(state.st_atime_ns, state.st_mtime_ns))  # as rsync and cp -p leave it
    with pytest.raises(FlowsrError, match="the source changed while it was read") as caught:
        content.refuse_changed()
    assert caught.value.expected != caught.value.found and "\n" not in str(caught.value)
    shutil.rmtree(path)
    with pytest.raises(FlowsrError, match="no such file"):
        content.refuse_changed()


def test_values_come_from_the_store_that_was_checked(whole):
    np.testing.assert_array_equal(open_field(whole / "a.zarr")["velocity"].values, small_field()["velocity"].values)


@pytest.mark.parametrize("version", [2, 3])
def test_a_chunk_that_a_strangers_store_lost_is_told(tmp_path, caplog, version):
    dataset, path = random_field(GRID, [0.0]), tmp_path / "a.zarr"
    root = zarr.create_group(str(path), zarr_format=version, attributes={"boundary": ["periodic"] * 3})
    for name in ("time", "x", "y", "z", "velocity"):
        own = {**dataset[name].attrs, **({"_ARRAY_DIMENSIONS": list(dataset[name].dims)} if version == 2 else {})}
        named = {} if version == 2 else {"dimension_names": dataset[name].dims}
        chunks = (1, 3, 2, 3, 5) if name == "velocity" else dataset[name].shape
        array = root.create_array(
            name, shape=dataset[name].shape, dtype=dataset[name].dtype, chunks=chunks, fill_value=0, **named
        )
        array[...] = dataset[name].values
        array.attrs.update({key: value for key, value in own.items() if key != "_FillValue"})
    open_field(path).load()
    assert "is not on the disk" not in caplog.text
    (path / "velocity" / ("0.0.1.1.0" if version == 2 else "c/0/0/1/1/0")).unlink()
    found = open_field(path).velocity
    assert found[0, :, :2].values.all() and "is not on the disk" not in caplog.text
    assert not found[0, :, 2:, 3:].values.any() and caplog.text.count("is not on the disk and reads as 0") == 1
