"""Fields by name, pattern and folder; outputs by suffix; a bad file among many; what a plan tells beforehand."""

import fcntl
import shutil

import numpy as np
import pytest
import torch
import xarray as xr

from flowsr.cli import main
from flowsr.data import open_field, write_hdf5
from flowsr.errors import Busy, FlowsrError
from flowsr.files import file_checksum, partial_path, tree_checksum
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, save_model
from flowsr.pipeline import upscaling
from flowsr.pipeline.upscaling import Job, describe, jobs_for, read_size, upscale_fields
from flowsr.pipeline.work import metrics_beside
from flowsr.upscale import UpscaleOptions, upscale_store
from tests.data.fields import in_child, random_field, store_field

BOX = Grid((6, 5, 4), boundary=("periodic", "wall", "periodic"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder, card = tmp_path_factory.mktemp("model"), ModelCard("cnn", Task(2), {"width": 2, "blocks": 1})
    torch.manual_seed(0)
    network = card.build()
    torch.nn.init.normal_(network.tail.convolution.weight, std=0.1)
    save_model(folder, network, card)
    return folder


def coarse(seed=0, times=(0.0,)):
    return random_field(BOX, list(times), seed=seed)


def command(model, output, *inputs):
    inputs = [f"--input={each}" for each in inputs]
    return ["upscale", "--model", str(model), "--output", str(output), *inputs, "--no-metrics"]


def test_a_pattern_a_folder_and_files_by_name_are_the_same_jobs(model, tmp_path):
    inbox, fine = tmp_path / "in", tmp_path / "fine"
    inbox.mkdir()
    for name in "ab":
        write_hdf5(coarse(), inbox / f"{name}.h5")
    store_field(coarse(), inbox / "c.zarr")
    (inbox / ".hidden.h5").write_text("")
    (inbox / "d.h5.part").write_text("")
    (inbox / "a.h5.metrics.zarr").mkdir()  # what `flowsr evaluate` leaves
    named = jobs_for([inbox / "a.h5", inbox / "b.h5", inbox / "c.zarr"], fine, model=model)
    assert [job.target.name for job in named] == ["a.h5.zarr", "b.h5.zarr", "c.zarr"]
    assert jobs_for([inbox], fine, model=model) == named
    assert jobs_for([inbox / "*.h5", inbox / "c.zarr"], fine, model=model) == named
    (only,) = jobs_for([inbox / "c.zarr"], tmp_path / "one.zarr", model=model)
    assert (only.source, only.target) == (inbox / "c.zarr", tmp_path / "one.zarr")
    for wrong, match in (([inbox / "e.h5"], "no such file"), ([inbox / "*.nc"], "no field here")):
        with pytest.raises(FlowsrError, match=match):
            jobs_for([inbox / "a.h5", *wrong], fine, model=model)
    for output in (tmp_path / "fine.nc", inbox / "c.zarr"):
        with pytest.raises(FlowsrError, match="several inputs are written into a folder"):
            jobs_for([inbox], output, model=model)
    (inbox / "fine").mkdir()
    assert [job.source for job in jobs_for([inbox], inbox / "fine", model=model)] == [job.source for job in named]
    (inbox / "fine").rmdir()
    (tmp_path / "other").mkdir()
    shutil.copy(inbox / "a.h5", tmp_path / "other" / "a.h5")
    with pytest.raises(FlowsrError, match="two inputs of one name"):
        jobs_for([inbox, tmp_path / "other" / "a.h5"], fine, model=model)


def test_a_bad_file_among_many_is_named_at_the_end(model, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in "ac":
        write_hdf5(coarse(), tmp_path / "in" / f"{name}.h5")
    (tmp_path / "in" / "b.h5").write_bytes(b"something else altogether")
    assert main(command(model, tmp_path / "out", tmp_path / "in")) == 2
    out, err = capsys.readouterr()
    assert [line.split("/")[-1] for line in out.splitlines()] == ["a.h5.zarr", "c.h5.zarr"]
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 2 and "b.h5" in lines[0] and lines[1] == "error: 1 of 3 fields failed, the others are done"
    assert main([*command(model, tmp_path / "out", tmp_path / "in"), "--plan"]) == 2
    out, err = capsys.readouterr()
    assert out.count("input: ") == 2 and "b.h5" in err and "1 of 3 fields failed, the others can be done" in err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.h5.zarr", "c.h5.zarr"]


def test_a_file_that_another_process_is_at_waits(model, tmp_path):
    source, target = write_hdf5(coarse(), tmp_path / "a.h5"), tmp_path / "a.zarr"
    job = Job(source, target, model)
    partial_path(target).mkdir(mode=0o700)
    with open(partial_path(target) / "lock", "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)

        def elsewhere():
            (found,) = upscale_fields([job])
            assert found.waiting and "another process" in found.failed
            with pytest.raises(Busy):
                job.run()

        assert in_child(elsewhere) == 0
    (found,) = upscale_fields([job])
    assert not found.failed and not found.waiting and target.exists()


@pytest.mark.parametrize("name", ["fine.nc", "fine.h5", "fine.vti"])
def test_the_outputs_name_says_its_format(model, tmp_path, name):
    source = write_hdf5(coarse(), tmp_path / "coarse.h5")
    target, store = tmp_path / name, upscale_store(source, model, tmp_path / "fine.zarr")
    assert main(command(model, target, source)) == 0
    assert target.is_file()
    np.testing.assert_array_equal(open_field(target).velocity.values, open_field(store).velocity.values)
    before = file_checksum(target)
    assert main(command(model, target, source)) == 0  # made of the same already
    write_hdf5(coarse(1), source)
    assert main(command(model, target, source)) == 2
    assert file_checksum(target) == before
    assert main([*command(model, target, source), "--fresh"]) == 0
    assert file_checksum(target) != before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["coarse.h5", name, "fine.zarr"])


def test_metrics_go_beside_a_file_of_another_format(model, tmp_path):
    source = write_hdf5(coarse(), tmp_path / "coarse.h5")
    assert main(command(model, tmp_path / "fine.h5", source)[:-1]) == 0
    assert {"report.html", "metrics.json"} <= {path.name for path in (tmp_path / "fine.h5.report").iterdir()}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coarse.h5", "fine.h5", "fine.h5.report"]


def test_what_a_command_killed_at_the_last_moment_left_is_tidied(model, tmp_path, monkeypatch):
    def killed(path):
        raise InterruptedError

    observers = (metrics_beside(["energy"]),)
    job = Job(
        write_hdf5(coarse(), tmp_path / "coarse.h5"), tmp_path / "fine.h5", model, UpscaleOptions(observers=observers)
    )
    with monkeypatch.context() as patched, pytest.raises(InterruptedError):
        patched.setattr(upscaling, "remove", killed)
        job.run()
    before = file_checksum(job.run())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coarse.h5", "fine.h5", "fine.h5.report"]
    assert file_checksum(job.run()) == before


def test_what_a_format_cannot_hold_is_refused_before_anything_is_computed(model, tmp_path, capsys):
    source = write_hdf5(coarse(times=(0.0, 1.0)), tmp_path / "coarse.h5")
    assert main(command(model, tmp_path / "fine.vti", source)) == 2
    assert "a VTK file holds one snapshot" in capsys.readouterr().err
    assert main(command(model, tmp_path / "fine.pvd", source)) == 2
    assert "a series is made of a store" in capsys.readouterr().err
    walls = Grid((4, 4, 4), boundary=("periodic", "wall", "periodic"), centers=(None, (0.3, 1.2, 2.8, 3.7), None))
    source = write_hdf5(random_field(walls, [0.0]), source)
    assert main(command(model, tmp_path / "fine.vti", source)) == 2
    assert "image data have no stretched axes" in capsys.readouterr().err
    half = random_field(BOX, [0.0])
    half["velocity"] = half.velocity.astype("float16").assign_attrs(half.velocity.attrs)
    assert main(command(model, tmp_path / "fine.vti", write_hdf5(half, source))) == 2
    assert "found float16" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["coarse.h5"]
    for option in ("--truth", "--metrics"):
        assert main([*command(model, tmp_path / "fine.zarr", source), option, "energy"]) == 2
        assert f"{option} cannot be given with --no-metrics" in capsys.readouterr().err


def test_a_plan_says_what_it_would_do_and_writes_nothing(model, tmp_path, capsys):
    source = write_hdf5(coarse(times=(0.0, 1.0)), tmp_path / "coarse.h5")
    assert main([*command(model, tmp_path / "fine.zarr", source), "--plan", "--memory", "4GB"]) == 0
    told = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert "6 x 5 x 4, 2 snapshots of velocity, float32" in told["input"]
    assert "12 x 10 x 8, 23 kB before compression" in told["result"]
    assert {"files", "tiles", "memory", "time", "disk"} <= told.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["coarse.h5"]


def test_a_plan_asks_whether_a_fine_grid_was_meant(model, tmp_path, capsys):
    grid = Grid((16, 4, 4), (0.1, 0.1, 0.1))
    fine = random_field(grid, [0.0]).assign_attrs(viscosity=1.0)
    source = write_hdf5(fine, tmp_path / "fine.h5")
    assert main([*command(model, tmp_path / "finer.zarr", source), "--plan"]) == 0
    told = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    assert "seems to be fine already" in told["unlike"] and "Kolmogorov lengths" in told["unlike"]
    assert [path.name for path in tmp_path.iterdir()] == ["fine.h5"]


def test_the_size_is_told_before_it_is_written_and_refused_where_there_is_no_room(model, tmp_path, monkeypatch, caplog):
    source = write_hdf5(coarse(), tmp_path / "coarse.h5")
    job = Job(source, tmp_path / "fine.zarr", model)
    with monkeypatch.context() as patched:
        patched.setattr(upscaling.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
        with pytest.raises(FlowsrError, match="the disk is too small") as error:
            job.run()
    assert error.value.found == "1 kB free" and [path.name for path in tmp_path.iterdir()] == ["coarse.h5"]
    with caplog.at_level("INFO", logger="flowsr"):
        job.run()
    assert "coarse.h5: 6 x 5 x 4 to 12 x 10 x 8 cells, 1 snapshot(s), 11.5 kB to write" in caplog.text


def test_sizes_are_read_as_people_write_them():
    assert [read_size(text) for text in ("4GB", "500 MB", "1.5g", "1024", "2GiB")] == [
        4 * 10**9,
        5 * 10**8,
        15 * 10**8,
        1024,
        2 * 10**9,
    ]
    assert read_size(None) is None
    for wrong in ("much", "-1GB", "0", "GB", "inf"):
        with pytest.raises(FlowsrError, match="not a size"):
            read_size(wrong)


@pytest.mark.filterwarnings(
    "error",  # but for what others left open, which is told whenever the collector comes upon it
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
def test_a_store_opens_in_xarray_without_a_warning(model, tmp_path):
    store = upscale_store(write_hdf5(coarse(), tmp_path / "coarse.h5"), model, tmp_path / "fine.zarr")
    with xr.open_zarr(store) as plain:
        assert plain.velocity.shape == (1, 3, 12, 10, 8)
    with xr.open_dataset(store, engine="zarr") as plain:
        assert plain.attrs["boundary"] == ["periodic", "wall", "periodic"]
    assert describe(Job(store, tmp_path / "finer.zarr", model).plan())[0].endswith(
        "12 x 10 x 8, 1 snapshot of velocity, float32"
    )
    assert tree_checksum(store)
