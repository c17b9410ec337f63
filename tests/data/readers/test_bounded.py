"""What comes out of a chunk is bounded by what it holds, and nothing is read beyond it, whatever its header says."""

import json
import os
import random
import struct
import subprocess
import sys
import zlib

import h5py
import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from flowsr.data import open_field
from flowsr.data.readers.hdf5 import hdf5_array
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.quarantine.unpack import UNPACK, unpack
from tests.data.fields import random_field

GRID = Grid((8, 8, 8))
CODECS = {"bz2": numcodecs.BZ2, "gzip": numcodecs.GZip, "zlib": numcodecs.Zlib, "lzma": numcodecs.LZMA}
CODECS |= {"lz4": numcodecs.LZ4, "zstd": numcodecs.Zstd, "blosc": numcodecs.Blosc}


def store(path, version=3, compressor=None, **options):
    """A field in a store of another program."""
    dataset = random_field(GRID, [0.0])
    group = zarr.create_group(path, zarr_format=version, attributes={"boundary": ["periodic"] * 3})
    for name in ("time", "x", "y", "z", "velocity"):
        values, dims = dataset[name].values, list(dataset[name].dims)
        packed = {"compressors": compressor, **options} if name == "velocity" else {"compressors": None}
        named = {"dimension_names": dims} if version == 3 else {}
        array = group.create_array(name, shape=values.shape, dtype=values.dtype, **packed, **named)
        array.attrs.update({"irreps": "1o", "units": "1"} | ({"_ARRAY_DIMENSIONS": dims} if version == 2 else {}))
        array[...] = values
    return path, dataset


def chunks(path):
    return sorted(
        p for p in (path / "velocity").rglob("*") if p.is_file() and p.name not in ("zarr.json", ".zarray", ".zattrs")
    )


def refused(path):
    with pytest.raises(FlowsrError) as caught:
        _ = open_field(path).velocity.values
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(UNPACK))
def test_what_was_packed_is_unpacked_and_no_more(name):
    content = np.arange(5000, dtype="f4").tobytes()
    packed = bytes(CODECS[name]().encode(content))
    assert bytes(unpack(name, packed, len(content))) == content
    for wrong in (packed[:-1], packed[: len(packed) // 2], packed[:3], b""):
        with pytest.raises(ValueError):
            unpack(name, wrong, len(content))
    with pytest.raises(ValueError):
        unpack(name, packed, len(content) - 1)
    assert len(unpack(name, bytes(CODECS[name]().encode(b"")), 10)) == 0


@pytest.mark.parametrize("name", sorted(UNPACK))
def test_damaged_bytes_are_an_error_or_as_many_as_may_come_out(name):
    content = np.random.default_rng(0).normal(size=4000).astype("f2").tobytes()
    packed, chance = bytes(CODECS[name]().encode(content)), random.Random(name)
    for _ in range(400):
        wrong = bytearray(packed)
        for _ in range(chance.randint(1, 4)):
            wrong[chance.randrange(min(len(wrong), chance.choice([8, 40, len(wrong)])))] = chance.randrange(256)
        try:
            assert len(unpack(name, bytes(wrong), len(content))) <= len(content)
        except ValueError as error:
            assert str(error)


def test_members_of_gzip_follow_one_another():
    content = b"".join(bytes(numcodecs.GZip().encode(part)) for part in (b"one ", b"two")) + b"\0" * 7
    assert unpack("gzip", content, 7) == b"one two"


def unsized(content: bytes) -> bytes:
    """A Zstandard frame, of raw blocks, that does not say how long it is."""
    parts = [content[start : start + 65536] for start in range(0, len(content), 65536)]
    heads = [struct.pack("<I", len(part) << 3 | (number + 1 == len(parts)))[:3] for number, part in enumerate(parts)]
    return b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(head + part for head, part in zip(heads, parts))


def test_a_stream_that_does_not_say_its_length():
    content = os.urandom(200_000)
    assert bytes(unpack("zstd", unsized(content), len(content))) == content
    with pytest.raises(ValueError):
        unpack("zstd", unsized(content), len(content) - 1)


LAYOUTS = {
    "zarr2": {"version": 2, "compressor": numcodecs.Blosc("lz4", 5, 0)},
    "zarr3": {"compressor": BloscCodec(cname="lz4", shuffle="noshuffle")},
    "sharded": {"compressor": BloscCodec(cname="zstd"), "chunks": (1, 3, 4, 4, 4), "shards": (1, 3, 8, 8, 8)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_blosc_chunk_that_was_cut_is_refused(tmp_path, layout):
    path, dataset = store(tmp_path / "a.zarr", **LAYOUTS[layout])
    np.testing.assert_array_equal(open_field(path).velocity.values, dataset.velocity.values)
    file = chunks(path)[0]
    whole = file.read_bytes()
    for cut in [0, 1, 11, 15, 16, 17, *random.Random(0).sample(range(18, len(whole)), 10)]:
        file.write_bytes(whole[:cut])
        refused(path)


@pytest.mark.parametrize("place", [4, 8, 12])
def test_a_length_in_a_header_of_blosc_is_checked(tmp_path, place):
    path, _ = store(tmp_path / "a.zarr", **LAYOUTS["zarr2"])
    file = chunks(path)[0]
    whole = bytearray(file.read_bytes())
    whole[place : place + 4] = struct.pack("<I", 1 << 30)
    file.write_bytes(whole)
    assert "Blosc says" in refused(path)


BOMBS = """
import resource, sys
from flowsr.data import open_field
from flowsr.errors import FlowsrError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        open_field(path).velocity.values
        print("read", path)
    except FlowsrError as error:
        assert "\\n" not in str(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def hdf5(path, stored=None, **options):
    dataset = random_field(GRID, [0.0])
    with h5py.File(path, "w") as file:
        file.attrs["boundary"] = ["periodic"] * 3
        for name in ("time", "x", "y", "z"):
            file[name] = dataset[name].values
        velocity = file.create_dataset("velocity", data=dataset.velocity.values, chunks=(1, 3, 8, 8, 8), **options)
        for axis, dim in enumerate(dataset.velocity.dims):
            velocity.dims[axis].label = dim
        velocity.attrs.update({"irreps": "1o", "units": "1"})
        if stored is not None:
            velocity.id.write_direct_chunk((0,) * 5, stored)
    return path


def test_a_few_bytes_do_not_unpack_to_hundreds_of_megabytes(tmp_path):
    size = 150_000_000
    zeros, paths = np.zeros(size, "u1"), []
    for name, codec in (("gzip", GzipCodec()), ("zstd", ZstdCodec()), ("blosc", BloscCodec())):
        path, _ = store(tmp_path / f"{name}.zarr", compressor=codec)
        chunks(path)[0].write_bytes(bytes(CODECS[name]().encode(zeros)))
        paths.append(path)
    path, _ = store(tmp_path / "zlib.zarr", version=2, compressor=numcodecs.Zlib(1))
    chunks(path)[0].write_bytes(zlib.compress(zeros, 1))
    shuffled = hdf5(tmp_path / "a.h5", zlib.compress(zeros, 1), compression="gzip", shuffle=True)
    twice = hdf5(tmp_path / "b.h5", compression="gzip", fletcher32=True)  # is read in the disposable process
    with h5py.File(twice, "a") as file:
        file["velocity"].id.write_direct_chunk((0,) * 5, zlib.compress(zeros, 1) + b"\0" * 4)
    run = [sys.executable, "-c", BOMBS, *paths, path, shuffled, twice]
    found = subprocess.run(list(map(str, run)), capture_output=True, text=True, check=True)
    assert found.stderr == "" and int(found.stdout) < 70_000  # kB


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "gzip", "shuffle": True},
        {"compression": "gzip"},
        {"shuffle": True},
        {"compression": "lzf"},
        {"compression": "gzip", "shuffle": True, "fletcher32": True},
        {"compression": "gzip", "dtype": ">f8"},
        {"compression": "gzip", "dtype": "i2", "scaleoffset": 0},
        {"compression": "gzip", "shuffle": True, "fillvalue": 7.0},
    ],
    ids=str,
)
def test_chunks_of_hdf5_are_read_as_the_library_reads_them(tmp_path, options):
    values = np.random.default_rng(0).integers(-99, 99, size=(2, 3, 9, 8, 7)).astype(options.get("dtype", "f4"))
    path, generator = tmp_path / "a.h5", np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("v", values.shape, chunks=(1, 2, 4, 4, 7), **{"dtype": "f4", **options})
        stored[:, :, :8] = values[:, :, :8]  # some chunks are never written
        truth = stored[...]
    array = hdf5_array(path, "v")
    for _ in range(4 if {"fletcher32", "scaleoffset"} & set(options) else 40):
        index = []
        for side in values.shape:
            first, last = sorted(generator.integers(0, side, 2).tolist())
            index.append(first if generator.random() < 0.3 else slice(first, last + 1, int(generator.integers(1, 4))))
        np.testing.assert_array_equal(array.read(tuple(index)), truth[tuple(index)])


def test_a_chunk_of_hdf5_may_have_gone_without_a_filter(tmp_path):
    path, values = tmp_path / "a.h5", np.arange(24, dtype="f4").reshape(4, 6)
    with h5py.File(path, "w") as file:
        stored = file.create_dataset("v", values.shape, "f4", chunks=(4, 6), compression="gzip", shuffle=True)
        stored.id.write_direct_chunk((0, 0), values.tobytes(), filter_mask=3)
    np.testing.assert_array_equal(hdf5_array(path, "v").read(), values)


def test_a_store_of_pipes_devices_and_links_is_refused_at_once(tmp_path):
    path, _ = store(tmp_path / "a.zarr", version=2, compressor=None)
    file = chunks(path)[0]
    other = tmp_path / "other"
    other.write_bytes(file.read_bytes())
    for make in (lambda: os.mkfifo(file), lambda: file.symlink_to("/dev/zero"), lambda: file.symlink_to(other)):
        file.unlink()
        make()
        refused(path)
    file.unlink()
    file.write_bytes(other.read_bytes())
    for name in (".zattrs", ".zarray"):
        metadata = path / "velocity" / name
        kept = metadata.read_bytes()
        metadata.unlink()
        os.mkfifo(metadata)
        refused(path)
        metadata.unlink()
        metadata.write_bytes(kept)
    assert open_field(path).velocity.shape[1] == 3


def test_a_chunk_file_larger_than_its_chunk_is_not_read(tmp_path):
    path, _ = store(tmp_path / "a.zarr", version=2, compressor=numcodecs.Zlib(1))
    with open(chunks(path)[0], "ab") as file:
        file.truncate(1 << 40)
    assert "more than it may hold" in refused(path)


def test_labels_are_as_many_as_their_chunk_has(tmp_path):
    path, _ = store(tmp_path / "a.zarr")
    group = zarr.open_group(path)
    labels = group.create_array(
        "component", shape=(3,), dtype="string", compressors=None, dimension_names=("component",)
    )
    labels[:] = ["u", "v", "w"]
    assert list(open_field(path).component.values) == ["u", "v", "w"]
    file = path / "component" / "c" / "0"
    file.write_bytes(struct.pack("<I", 1 << 31) + file.read_bytes()[4:])
    assert "2147483648 texts in a chunk of 3" in refused(path)


def test_shards_of_too_many_chunks_are_refused(tmp_path):
    path, _ = store(tmp_path / "a.zarr", **LAYOUTS["sharded"])
    file = path / "velocity" / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["chunk_grid"]["configuration"]["chunk_shape"] = [1 << 40, 3, 8, 8, 8]
    file.write_text(json.dumps(metadata))
    assert "shards of too many chunks" in refused(path)


def test_texts_of_hdf5_that_ask_for_gigabytes_are_refused_at_the_first_look(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["velocity"] = np.zeros((3, 4, 4, 4), "f4")
        file["component"] = np.array(["u", "v", "w"], object)
    content = bytearray(path.read_bytes())
    first = content.index(
        struct.pack("<IQI", 1, content.index(b"GCOL"), 1)
    )  # length of the first text, and where it is
    content[first : first + 4] = struct.pack("<I", 1 << 30)
    path.write_bytes(content)
    with pytest.raises(FlowsrError, match="memory"):
        open_field(path)
