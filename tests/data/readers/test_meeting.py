"""A stranger's file is met in a disposable process, once; nothing of it leads out of it, and no pipe is waited for."""

import os
import re
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from flowsr.cli import main
from flowsr.data import inspect, open_field
from flowsr.data.readers import meeting
from tests.data.readers.test_bounded import LAYOUTS, hdf5, refused, store
from tests.data.test_strangers import box, save

KINDS = ("netcdf4", "netcdf3", "zarr2", "zarr3")


@pytest.fixture
def looks(monkeypatch):
    """The first looks that were taken, by the name of the function."""
    taken, real = [], meeting.first_look

    def counted(path, function, *arguments, **limits):
        taken.append(function)
        return real(path, function, *arguments, **limits)

    monkeypatch.setattr(meeting, "first_look", counted)
    return taken


@pytest.mark.parametrize("kind", KINDS)
def test_a_content_is_met_once_and_a_change_again(tmp_path, looks, kind):
    path = save(box(), tmp_path, kind)
    for _ in range(2):
        open_field(path)
        inspect(path)
    assert len(looks) == 1
    meeting._met.clear()  # as in another process of this user
    open_field(path)
    assert len(looks) == 1
    changed = path if path.is_file() else next(path.rglob("zarr.json" if kind == "zarr3" else ".zarray"))
    os.utime(changed, (1, 1))
    open_field(path)
    assert len(looks) == 2


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_that_others_may_write_to_is_not_believed(tmp_path, looks, monkeypatch, mode):
    (tmp_path / "cache" / "met").mkdir(parents=True)
    os.chmod(tmp_path / "cache" / "met", mode)
    monkeypatch.setenv("FLOWSR_CACHE", str(tmp_path / "cache"))
    meeting._folder.cache_clear()
    path = save(box(), tmp_path, "netcdf4")
    for _ in range(2):
        meeting._met.clear()
        open_field(path)
    assert len(looks) == 2 and not list((tmp_path / "cache" / "met").iterdir())
    meeting._folder.cache_clear()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("ctypes.string_at(0)", "Segmentation fault"),
        ("while True: pass", "no end after"),
        ("bytearray(1 << 34)", "2 GiB of memory"),
        ("open(path + '.x', 'wb').truncate(1 << 40)", "File too large"),
    ],
)
def test_what_crashes_hangs_or_grows_is_one_line(tmp_path, monkeypatch, body, words):
    name = f"on_sight_{words.split()[0]}"
    (tmp_path / f"{name}.py").write_text(f"import ctypes\n\ndef meet(path):\n    {body}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path, real = save(box(), tmp_path, "netcdf4"), meeting.first_look
    monkeypatch.setattr(meeting, "first_look", lambda p, f, **limits: real(p, f"{name}:meet", **limits))
    for _ in range(1 if "end" in words else 2):  # and it is not taken for met
        assert words in refused(path)


def linked(path, make):
    """A field whose velocity is what ``make`` puts into the file."""
    hdf5(path)
    with h5py.File(path, "a") as file:
        file.move("velocity", "kept")
        make(file)
    return path


def other(folder):
    hdf5(folder / "other.h5")
    return str(folder / "other.h5")


WAYS = {
    "external": lambda file, folder: file.__setitem__("velocity", h5py.ExternalLink(other(folder), "/velocity")),
    "soft through external": lambda file, folder: file.update(
        {"g/e": h5py.ExternalLink(other(folder), "/"), "velocity": h5py.SoftLink("/g/e/velocity")}
    ),
    "relative through external": lambda file, folder: file.update(
        {"e": h5py.ExternalLink(other(folder), "/"), "a": h5py.SoftLink("e"), "velocity": h5py.SoftLink("a/velocity")}
    ),
    "external pipe": lambda file, folder: file.update(
        {"e": h5py.ExternalLink(str(folder / "pipe"), "/"), "velocity": h5py.SoftLink("/e/velocity")}
    ),
    "each other": lambda file, folder: file.update({"velocity": h5py.SoftLink("/b"), "b": h5py.SoftLink("/velocity")}),
}


@pytest.mark.parametrize("way", WAYS)
def test_no_link_is_followed_out_of_a_file(tmp_path, way):
    os.mkfifo(tmp_path / "pipe")
    path = linked(tmp_path / "a.h5", lambda file: WAYS[way](file, tmp_path))
    start = time.monotonic()
    assert "link" in refused(path)
    assert time.monotonic() - start < 250


def test_links_within_a_file_are_followed(tmp_path):
    def make(file):
        file.update({"g/h": h5py.SoftLink("../kept"), "velocity": h5py.SoftLink("g/h")})
        del file["g/h"]
        file["g/h"] = h5py.SoftLink("/kept")
        file["gone"] = h5py.SoftLink("/nothing")

    path = linked(tmp_path / "a.h5", make)
    np.testing.assert_array_equal(open_field(path).velocity, open_field(hdf5(tmp_path / "b.h5")).velocity)


@pytest.mark.parametrize("kind", ["raw", "virtual"])
def test_numbers_kept_in_another_file_are_not_read(tmp_path, kind):
    def make(file):
        shape = file["kept"].shape
        if kind == "raw":
            (tmp_path / "raw").write_bytes(bytes(4 * int(np.prod(shape))))
            file.create_dataset("velocity", shape, "f4", external=[(str(tmp_path / "raw"), 0, 4 * int(np.prod(shape)))])
        else:
            layout = h5py.VirtualLayout(shape, "f4")
            layout[...] = h5py.VirtualSource(other(tmp_path), "velocity", shape)
            file.create_virtual_dataset("velocity", layout)

    assert "in another file" in refused(linked(tmp_path / "a.h5", make))


@pytest.mark.parametrize("name", ["zarr.json", "velocity/zarr.json", "velocity/c/0/0/0/0/0"])
def test_a_pipe_in_a_store_is_not_waited_for(tmp_path, name):
    path, _ = store(tmp_path / "a.zarr", **LAYOUTS["zarr3"])
    (path / name).unlink()
    os.mkfifo(path / name)
    start = time.monotonic()
    refused(path)
    assert time.monotonic() - start < 250


@pytest.mark.parametrize("name", ["a.h5", "a.nc", "a.npz", "a.vti", "a.xdmf", "a.yaml", "a"])
def test_a_pipe_or_a_device_is_no_file(tmp_path, name):
    os.mkfifo(tmp_path / name)
    refused(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    refused(tmp_path / name)


def test_nothing_of_a_file_moves_the_terminal(tmp_path, capsys):
    path = hdf5(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file.attrs["\x1b]0;title\x07"] = "a\x1b[2Jb\nlayout      none\u202e"
        file["velocity"].attrs["units"] = "m/s"
        file["\x1b[31mname"] = np.zeros((1, 3, 8, 8, 8), "f4")
        for axis, dim in enumerate(("time", "component", "x", "y", "z")):
            file["\x1b[31mname"].dims[axis].label = dim
        file["\x1b[31mname"].attrs.update({"irreps": "1o", "units": "1"})
    assert main(["inspect", str(path)]) == 0
    shown = capsys.readouterr()
    with h5py.File(path, "a") as file:
        file["velocity"].attrs["irreps"] = "\x1b[2J"
    assert main(["inspect", str(path)]) == 2
    failed = capsys.readouterr()
    for text in (shown.out, shown.err, failed.out, failed.err):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert r"\x1b]0;title\x07" in shown.out and sum(line.startswith("layout") for line in shown.out.splitlines()) == 1
    assert len(failed.err.strip().splitlines()) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_said_before_the_one_line(tmp_path, kind):
    path = save(box().assign_coords(component=["u", "v", "w"]) if kind == "zarr3" else box(), tmp_path, kind)
    if path.is_dir():
        (path / "stray").mkdir()
        (path / "stray" / "file").write_text("x")
        next(p for p in (path / "velocity").rglob("*") if p.is_file() and p.name[:1] in "0").write_bytes(b"\xff" * 99)
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    run = subprocess.run([sys.executable, "-m", "flowsr", "inspect", str(path)], capture_output=True, text=True)
    assert run.returncode == 2 and run.stdout == "" and len(run.stderr.strip().splitlines()) == 1, run.stderr
