"""Disks that fill up and memory that runs out: one line, exit code 2, nothing half-written, and the next resumes."""

import os
import resource
import sys

import numpy as np
import pytest
import torch

from flowsr.cli import main
from flowsr.data import open_field
from flowsr.errors import circumstance
from flowsr.files import reserve
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, build_model, save_model
from tests.data.fields import in_child, random_field, store_field


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    path = tmp_path_factory.mktemp("field") / "in.zarr"
    return store_field(random_field(Grid((16, 16, 16)), [0.0, 1.0]), path, chunk=8, shard=8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    card = ModelCard("cnn", Task(2), {"width": 8, "blocks": 1})
    torch.manual_seed(0)
    save_model(folder, build_model(card.model, card.task, **card.options), card)
    return folder


def last_line(arguments, limit, file):
    """What a command says at its end in a process with a limit, which must end with exit code 2 and no traceback."""

    def work():
        sys.dont_write_bytecode, os.environ["PYTHONDONTWRITEBYTECODE"] = True, "1"  # it would be cut short
        limit()
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        os._exit(main([str(argument) for argument in arguments]))

    file.touch()
    assert in_child(work) == 2, file.read_text()
    assert "Traceback" not in file.read_text()
    return file.read_text().splitlines()[-1]


def no_file_larger_than(size):
    """As on a full disk, every writer is refused."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.parametrize("size", [4000, 9000])
@pytest.mark.parametrize("name", ["out.zarr", "out.h5", "out.nc", "out.vti"])
def test_a_full_disk_while_converting(field, tmp_path, name, size):
    command = ["convert", field, tmp_path / name, "--time", "1"]
    said = last_line(command, no_file_larger_than(size), tmp_path / "said")
    assert said == f"error: {tmp_path / name}: File too large; make room, then start the same command again to resume"
    assert not (tmp_path / name).exists()
    assert main([str(word) for word in command]) == 0
    np.testing.assert_array_equal(open_field(tmp_path / name).velocity.values[0], open_field(field).velocity.values[1])


def test_a_full_disk_while_upscaling(field, model, tmp_path):
    command = ["upscale", "--input", field, "--model", model, "--output", tmp_path / "fine.zarr"]
    said = last_line(command, no_file_larger_than(20000), tmp_path / "said")
    assert "fine.zarr" in said and "File too large; make room" in said and not (tmp_path / "fine.zarr").exists()
    assert main([str(word) for word in command]) == 0


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_no_memory_while_upscaling(field, model, tmp_path, monkeypatch, capsys, error):
    def fail(*_):
        raise error

    command = ["upscale", "--input", str(field), "--model", str(model), "--output", str(tmp_path / "fine.zarr")]
    with monkeypatch.context() as patched:
        patched.setattr("flowsr.upscale.blocks.upscale_tile", fail)
        assert main(command) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: out of memory: ") and "to resume" in said
    assert not (tmp_path / "fine.zarr").exists()
    assert main(command) == 0


def test_what_is_a_circumstance_and_what_a_defect():
    hdf5 = (
        "Can't write data (file write failed: time = ..., errno = 28, error message = 'No space left on device', buf)"
    )
    assert circumstance(OSError(hdf5)).startswith("No space left on device; make room")
    assert circumstance(PermissionError(13, "Permission denied", "/a")) == "/a: Permission denied"
    torch_says = (
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to"
    )
    for error in (MemoryError(), RuntimeError(torch_says), torch.OutOfMemoryError("CUDA out of memory. Tried to")):
        line = circumstance(error)
        assert line.startswith("out of memory: ") and "to resume" in line and "\n" not in line
    assert circumstance(RuntimeError("expected scalar type Float")) is None and circumstance(KeyError("a")) is None


def test_room_is_taken_before_it_is_needed(tmp_path, monkeypatch):
    file = tmp_path / "a"
    file.write_bytes(b"1")
    reserve(file, 1 << 16)
    assert file.stat().st_size == 1 << 16 and file.read_bytes()[:1] == b"1"
    with pytest.raises(OSError, match=r"[Ff]ile too large|[Nn]o space"):
        reserve(file, 1 << 60)
    monkeypatch.setattr("flowsr.files.ctypes.CDLL", lambda *_, **__: None)  # a system that cannot
    reserve(file, 1 << 16)
    with pytest.raises(OSError, match="No space"):
        reserve(file, 1 << 60)
