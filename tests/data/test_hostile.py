"""Kinds of files that once took memory, time or a traceback; more of them have their test beside their reader."""

import json
import time
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from flowsr.cli import main
from flowsr.data import open_field, write_hdf5
from flowsr.errors import FlowsrError
from flowsr.evaluate import evaluate_field
from flowsr.grid import Grid
from tests.data.fields import random_field, store_field

GRID = Grid((8, 8, 8))


def with_velocity(path, create):
    """A field in HDF5 whose velocity is what ``create`` makes of the file and the values."""
    write_hdf5(random_field(GRID, [0.0]), path)
    with h5py.File(path, "a") as file:
        values, attrs = file["velocity"][...], dict(file["velocity"].attrs)
        labels = [dim.label for dim in file["velocity"].dims]
        del file["velocity"]
        made = create(file, values)
        made.attrs.update({name: value for name, value in attrs.items() if "DIMENSION" not in name})
        for axis, label in enumerate(labels):
            made.dims[axis].label = label
    return path


def most_memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def last_line(arguments, capsys):
    assert main([str(word) for word in arguments]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and said[0].startswith("error: ")
    return said[0]


def test_numbers_wider_than_double_are_refused_in_a_line(tmp_path, capsys):
    path = with_velocity(
        tmp_path / "a.h5", lambda file, values: file.create_dataset("velocity", data=values.astype(np.longdouble))
    )
    assert "expected: a dtype float16, float32 or float64" in last_line(["inspect", path], capsys)


def test_half_precision_is_measured_as_what_it_holds(tmp_path):
    """PyTorch has no transforms of half precision on a CPU: its spectra once were a traceback."""
    half = random_field(GRID, [0.0], dtype="float16")
    found = [
        evaluate_field(
            write_hdf5(field, tmp_path / f"{name}.h5"), tmp_path / f"{name}.zarr", metrics=["energy", "spectra"]
        )
        for name, field in {"half": half, "single": half.astype("float32")}.items()
    ]
    for name, values in found[0].data_vars.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values.values, found[1][name].values, rtol=1e-6)


@pytest.mark.parametrize("words", ["text", {"dataset": {"a": [1]}}])
def test_a_word_of_a_format_that_is_of_another_type_is_shown_or_refused_in_a_line(tmp_path, capsys, words):
    path = store_field(random_field(GRID, [0.0]), tmp_path / "a.zarr")
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"]["jhtdb"] = words
    (path / "zarr.json").write_text(json.dumps(metadata))
    code = main(["inspect", str(path)])
    said = capsys.readouterr()
    assert (code == 0 and "velocity" in said.out) or (code == 2 and said.err.count("\n") == 1)


@pytest.mark.parametrize("packed", [1, 2])
def test_a_chunk_that_unpacks_to_more_than_it_holds_takes_no_memory_here(tmp_path, packed):
    """128 MB come out of a chunk of 6 kB: refused here, and left to the disposable process if packed twice."""
    pressed = zlib.compressobj(1)
    bomb = b"".join([*(pressed.compress(bytes(1 << 24)) for _ in range(8)), pressed.flush()])

    def create(file, values):
        kept = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        kept.set_chunk(values.shape)
        for _ in range(packed):
            kept.set_deflate(9)
        space = h5py.h5s.create_simple(values.shape)
        made = h5py.Dataset(h5py.h5d.create(file.id, b"velocity", h5py.h5t.NATIVE_FLOAT, space, kept))
        made.id.write_direct_chunk((0,) * 5, zlib.compress(bomb) if packed == 2 else bomb)
        return made

    sound = with_velocity(tmp_path / "b.h5", lambda file, values: file.create_dataset("velocity", data=values))
    open_field(sound)["velocity"].load()  # what is imported for it takes memory too
    path, before = with_velocity(tmp_path / "a.h5", create), most_memory()
    try:
        values = open_field(path)["velocity"].values
    except FlowsrError as error:
        assert "a.h5: " in str(error) and "\n" not in str(error)
    else:
        assert packed == 2 and not values.any()
    assert most_memory() < before + 64


def test_a_comment_of_many_pieces_is_no_work(tmp_path, capsys):
    path, start = tmp_path / "a.vti", time.process_time()
    path.write_text(f"<VTKFile type='ImageData'><!-- {'<Piece ' * 150_000} --></VTKFile>")
    assert "no ImageData" in (line := last_line(["inspect", path], capsys)) or "ImageData" in line
    assert time.process_time() - start < 60  # of work that grows with the square there would be an hour


@pytest.mark.parametrize("header", ["-" * 5000 + "1", "(" * 5000, "1+" * 4000 + "1"], ids=["signs", "depth", "sums"])
def test_a_header_of_numpy_is_refused_whatever_its_parser_trips_over(tmp_path, header):
    text = header.encode() + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64))
    (tmp_path / "a.yaml").write_text(
        "name: a\ndescription: a\nsource: us\nlicence: MIT\nfiles: {one: a.npy}\n"
        "variables: {velocity: {irreps: 1o, path: velocity, axes: [component, x, y, z]}}\n"
    )
    with pytest.raises(FlowsrError) as refused:
        open_field(tmp_path / "a.yaml")["velocity"].load()
    assert "\n" not in str(refused.value)


def test_groups_of_zarr_one_in_another_without_end_are_no_work(tmp_path, capsys):
    path = tmp_path / "a.zarr"
    zarr.create_group(path, zarr_format=3)
    (path / "loop").symlink_to(path)
    last_line(["inspect", path], capsys)
