"""A watched folder: what is new, done, waiting; one store per content; a bad file leaves nothing half-written."""

import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from flowsr.flows import one_file, upscale_inbox
from flowsr.flows.one_file import Job
from flowsr.flows.upscale_inbox import Request, look, make, step_of

from flowsr.data import ReadOptions, grid_of, open_field, write_hdf5
from flowsr.errors import Busy, FlowsrError
from flowsr.files import partial_path, read_json, tree_checksum
from flowsr.models import load_model
from flowsr.pipeline.steps import do, perform
from flowsr.progress import Progress
from flowsr.upscale import upscale_array
from tests.data.fields import store_field
from tests.flows.fields import coarse_field, save_small_model


@pytest.fixture
def folders(tmp_path):
    inbox, outbox = tmp_path / "inbox", tmp_path / "outbox"
    inbox.mkdir()
    return inbox, outbox


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("model"))


def names(files):
    return [source.name for source in files]


def upscale(source, target, model, **how):
    return do(step_of(source, target, Request(model, device="cpu")), **how)


def test_new_files_have_a_store_each_and_are_then_done(folders, model):
    inbox, _ = folders
    write_hdf5(coarse_field(0), inbox / "a.h5")
    store_field(coarse_field(1), inbox / "a.zarr")
    found = look(*folders, settle=0)
    made = {source.name: target.name for source, target in found.new.items()}
    assert made == {"a.h5": "a.h5.zarr", "a.zarr": "a.zarr"}
    for source, target in found.new.items():
        upscale(source, target, model)
    network = load_model(model)
    for seed, target in enumerate(found.new.values()):
        coarse, fine = coarse_field(seed), open_field(target)
        whole = upscale_array(network, coarse.velocity.values[1], grid_of(coarse), 4)
        np.testing.assert_allclose(fine.velocity.values[1], whole, atol=1e-5)
    found = look(*folders, settle=0)
    assert names(found.done) == ["a.h5", "a.zarr"] and not found.new and not found.waiting


def test_a_store_and_a_folder_of_one_name_do_not_take_each_others_place(folders, model):
    inbox, outbox = folders
    store_field(coarse_field(1), store_field(coarse_field(0), inbox / "a.zarr").with_name("a"))
    found = look(*folders, settle=0)
    assert found.new == {inbox / "a": outbox / "a.zarr"}
    told = {"a.zarr": "a.zarr in the outbox belongs to a: rename this one, or remove that store"}
    assert found.waiting == told
    upscale(inbox / "a", outbox / "a.zarr", model)
    before = tree_checksum(outbox / "a.zarr")
    found = look(*folders, settle=0)
    assert names(found.done) == ["a"] and not found.new and found.waiting == told
    shutil.rmtree(inbox / "a")
    state = make(inbox / "a.zarr", outbox / "a.zarr", Request(model, device="cpu"))  # of a worker that looked before
    assert state.name == upscale_inbox.WAITING and state.message == told["a.zarr"]
    assert look(*folders, settle=0).waiting == told and tree_checksum(outbox / "a.zarr") == before
    shutil.rmtree(outbox / "a.zarr")
    assert names(look(*folders, settle=0).new) == ["a.zarr"]


def test_the_inbox_reads_files_as_it_is_told(folders, model):
    inbox, _ = folders
    coarse = coarse_field(0)
    parts = {n: (("run_number", "time", *"xyz"), p[None]) for n, p in zip("uvw", coarse.velocity.values.swapaxes(0, 1))}
    parts = {name: (dims, np.concatenate([0 * part, part])) for name, (dims, part) in parts.items()}
    coords = {axis: coarse[axis].values for axis in ("time", *"xyz")}
    xr.Dataset(parts, coords).to_netcdf(inbox / "a.nc", engine="h5netcdf")
    options = ReadOptions(select={"run_number": 1}, boundary=("periodic",) * 3)
    request = Request(model, device="cpu", options=options)
    ((source, target),) = look(*folders, settle=0, request=request).new.items()
    job = Job(source, model, target, "velocity", 4, "cpu", options)
    assert Job.from_json(job.as_json()) == job, "the file's own process is told the same"
    do(step_of(source, target, request))
    whole = upscale_array(load_model(model), coarse.velocity.values[1], grid_of(coarse), 4)
    np.testing.assert_allclose(open_field(target).velocity.values[1], whole, atol=1e-5)
    assert names(look(*folders, settle=0, request=request).done) == ["a.nc"]
    assert names(look(*folders, settle=0, request=replace(request, tile=2)).done) == ["a.nc"]
    other = replace(request, options=replace(options, select={"run_number": 0}))
    assert names(look(*folders, settle=0, request=other).new) == ["a.nc"], "read in another way it is another field"
    assert make(source, target, other).is_completed()
    assert not open_field(target).velocity.values.any(), "the first run of the file is zero"
    assert names(look(*folders, settle=0, request=other).done) == ["a.nc"]


def test_a_file_is_done_by_content_not_by_name_or_time(folders, model, monkeypatch):
    inbox, outbox = folders
    source = write_hdf5(coarse_field(0), inbox / "a.h5")
    upscale(*next(iter(look(*folders, settle=0).new.items())), model)
    os.utime(source)
    assert names(look(*folders, settle=0).done) == ["a.h5"]

    def unread(path):
        raise AssertionError("content is read again although nothing changed since it was last looked at")

    with monkeypatch.context() as patched:
        patched.setattr(upscale_inbox, "tree_checksum", unread)
        assert names(look(*folders, settle=0).done) == ["a.h5"]
    write_hdf5(coarse_field(1), source)
    again = look(*folders, settle=0).new
    assert names(again) == ["a.h5"]
    before = open_field(outbox / "a.h5.zarr").velocity.values
    upscale(*next(iter(again.items())), model)
    assert np.abs(open_field(outbox / "a.h5.zarr").velocity.values - before).max() > 0.1
    shutil.rmtree(outbox / "a.h5.zarr")
    assert names(look(*folders, settle=0).new) == ["a.h5"]


def test_files_on_their_way_in_wait(folders, model, monkeypatch):
    inbox, outbox = folders
    whole = write_hdf5(coarse_field(0), inbox / "whole.h5").read_bytes()
    (inbox / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (inbox / "empty.h5").touch()
    for name in (".hidden.h5", "copy.h5.part", "copy.h5.partial", "copy.h5.tmp", "~lock.h5"):
        (inbox / name).write_bytes(whole)
    found = look(*folders, settle=0)
    assert names(found.new) == ["cut.h5", "whole.h5"]
    assert found.waiting == {"empty.h5": "nothing in it yet"}
    assert look(*folders, settle=3600).waiting.keys() == {"cut.h5", "empty.h5", "whole.h5"}
    state = make(inbox / "cut.h5", outbox / "cut.h5.zarr", Request(model, device="cpu"))
    assert state.name == upscale_inbox.WAITING and "truncated" in state.message
    assert left_in(outbox) == [] and names(look(*folders, settle=0).new) == ["cut.h5", "whole.h5"]
    monkeypatch.setattr(upscale_inbox, "ABANDONED", 0)
    assert names(look(*folders, settle=0).new) == ["cut.h5", "empty.h5", "whole.h5"]
    state = make(inbox / "cut.h5", outbox / "cut.h5.zarr", Request(model, device="cpu"))
    assert state.is_failed() and look(*folders, settle=0).refused.keys() == {"cut.h5"}


def test_a_clock_that_was_set_back_makes_no_file_wait_for_it(folders, monkeypatch):
    write_hdf5(coarse_field(0), folders[0] / "a.h5")
    clock = SimpleNamespace(time=lambda: os.stat(folders[0] / "a.h5").st_ctime - 86400, sleep=lambda seconds: None)
    monkeypatch.setattr(upscale_inbox, "time", clock)
    assert names(look(*folders, settle=10).new) == ["a.h5"]


def test_a_bad_file_is_told_once_and_then_refused_until_it_changes(folders, model):
    inbox, outbox = folders
    request = Request(model, variable="vorticity", device="cpu")
    source = write_hdf5(coarse_field(0), inbox / "a.h5")
    state = make(source, outbox / "a.h5.zarr", request)
    assert state.is_failed() and "vorticity" in state.message
    assert left_in(outbox) == ["a.h5.json"]
    os.utime(source)
    assert look(*folders, settle=0, request=request).refused == {"a.h5": state.message}
    assert names(look(*folders, settle=0, request=Request(model)).new) == ["a.h5"], "asked for something else"
    write_hdf5(coarse_field(1), source)
    assert names(look(*folders, settle=0, request=request).new) == ["a.h5"]


def test_a_file_that_is_no_field_is_none_and_fails_nothing(folders, model):
    inbox, outbox = folders
    (inbox / "notes.txt").write_text("to do")
    state = make(inbox / "notes.txt", outbox / "notes.txt.zarr", Request(model, device="cpu"))
    assert state.is_completed() and state.name == "No field"
    assert look(*folders, settle=0).no_fields == ["notes.txt"]


def test_a_file_that_crashes_its_process_is_tried_once_more_and_then_refused(folders, model, monkeypatch):
    inbox, outbox = folders
    source, target = write_hdf5(coarse_field(0), inbox / "a.h5"), outbox / "a.h5.zarr"
    monkeypatch.setattr(upscale_inbox, "run_job", lambda *arguments: (-11, "reading"))
    first = make(source, target, Request(model, device="cpu"))
    assert first.is_failed() and "SIGSEGV" in first.message and "once more" in first.message
    assert names(look(*folders, settle=0).new) == ["a.h5"]
    assert make(source, target, Request(model, device="cpu")).is_failed()
    found = look(*folders, settle=0)
    assert not found.new and "SIGSEGV, twice" in found.refused["a.h5"].replace("; its last line: reading", "")
    assert left_in(outbox) == ["a.h5.json"]


def test_a_file_that_another_run_is_at_waits_and_the_store_of_a_changed_one_stays_until_the_new_one_is_whole(
    folders, model
):
    inbox, outbox = folders
    source, target = write_hdf5(coarse_field(0), inbox / "a.h5"), outbox / "a.h5.zarr"
    request = Request(model, device="cpu")
    states = []

    def inside(*arguments):
        states.append(make(source, target, request))
        return 0, ""

    step = step_of(source, target, request)
    with pytest.raises(FlowsrError, match="without its output"):
        perform(step, inside)
    assert [state.name for state in states] == [upscale_inbox.WAITING]
    assert make(source, target, request).is_completed()
    version = read_json(outbox / "a.h5.json")["about"]
    assert version["version"] == model.name
    before = tree_checksum(target)
    source.write_bytes(source.read_bytes()[:3000])
    assert make(source, target, request).name == upscale_inbox.WAITING
    assert tree_checksum(target) == before


def left_in(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_store_that_another_process_is_at_is_left_to_it(folders, model, monkeypatch):
    inbox, outbox = folders
    source, target = write_hdf5(coarse_field(0), inbox / "a.h5"), outbox / "a.h5.zarr"
    partial_path(target).mkdir(parents=True)
    monkeypatch.setattr(upscale_inbox, "ABANDONED", -1.0)
    monkeypatch.setattr(upscale_inbox, "run_job", lambda *given: (one_file.Ending.BUSY, "error: another process"))
    assert make(source, target, Request(model, device="cpu")).name == upscale_inbox.WAITING
    assert partial_path(target).is_dir() and names(look(*folders, settle=0).new) == ["a.h5"]


def test_a_process_says_that_another_one_is_at_its_store(folders, model, monkeypatch):
    def busy(*given, **options):
        raise Busy("another process is writing this")

    monkeypatch.setattr("flowsr.pipeline.work.upscale", busy)
    source = write_hdf5(coarse_field(0), folders[0] / "a.h5")
    job = Job(source, model, folders[1] / "a.zarr", "velocity", 32, "cpu")
    assert one_file.main(job) == one_file.Ending.BUSY


def test_only_names_that_match_are_looked_at(folders):
    inbox, _ = folders
    for name in ("a.h5", "a.hdf5", "notes.txt"):
        shutil.copy(write_hdf5(coarse_field(0), inbox / "source.h5"), inbox / name)
    assert names(look(*folders, "*.h5", settle=0).new) == ["a.h5", "source.h5"]
    (inbox / "fine").mkdir()
    assert "fine" not in names(look(inbox, inbox / "fine", settle=0).new)


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FlowsrError) as caught:
        look(tmp_path / "nowhere", tmp_path)
    assert (caught.value.file, caught.value.variable) == (tmp_path / "nowhere", "inbox")


def test_a_damaged_snapshot_leaves_no_store(folders, model):
    inbox, outbox = folders
    store_field(coarse_field(0), inbox / "a.zarr")
    chunk = max(p for p in (inbox / "a.zarr" / "velocity").rglob("*") if p.is_file() and p.name != "zarr.json")
    damaged = bytearray(chunk.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    chunk.write_bytes(damaged)
    told = []
    progress = Progress(lambda title, fraction, message: told.append(fraction))
    with pytest.raises(FlowsrError, match="damaged or not readable"):
        upscale(inbox / "a.zarr", outbox / "a.zarr", model, progress=progress)
    assert told == [], "the pass over the field finds it before anything is computed"
    assert [p.name for p in outbox.iterdir() if not p.name.startswith(".")] == ["a.json"]
    assert read_json(outbox / "a.json")["status"] == "running"
    assert names(look(*folders, settle=0).new) == ["a.zarr"]
