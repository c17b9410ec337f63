"""Workers of Dask, in other processes: the same bits from any number of them, kills that cost what was under way."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from distributed import Client

from flowsr.cli import main
from flowsr.data import convert, write_hdf5
from flowsr.data.independence import Split
from flowsr.data.pairs import Ingest, ingest
from flowsr.errors import FlowsrError
from flowsr.evaluate import evaluate_field
from flowsr.files import partial_path, tree_checksum
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, save_model
from flowsr.pipeline import cluster
from flowsr.pipeline.cluster import crew_of
from flowsr.pipeline.upscaling import Job, upscale_fields
from flowsr.progress import Progress
from flowsr.upscale import UpscaleOptions, upscale_store
from tests.data.fields import random_field, store_field

pytestmark = pytest.mark.xdist_group("dask")

BOX = Grid((12, 9, 10), boundary=("periodic", "wall", "open"))
HOW = {"tile": 3, "shard": 12}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A network, its input, and the store that this process makes of it."""
    folder, card = tmp_path_factory.mktemp("made"), ModelCard("cnn", Task(2), {"width": 4, "blocks": 1})
    torch.manual_seed(0)
    model = card.build()
    torch.nn.init.normal_(model.tail.convolution.weight, std=0.1)
    save_model(folder / "model", model, card)
    write_hdf5(random_field(BOX, [0.0, 0.5]), folder / "coarse.h5")
    upscale_store(folder / "coarse.h5", folder / "model", folder / "alone.zarr", **HOW)
    return folder, tree_checksum(folder / "alone.zarr")


@pytest.fixture(scope="module")
def crew():
    with crew_of(workers=2) as crew:
        yield crew


def test_workers_write_what_one_process_writes(made, crew, tmp_path):
    folder, alone = made
    seen = []
    progress = Progress(lambda title, fraction, message: seen.append((fraction, message)))
    run = (folder / "coarse.h5", folder / "model")
    store = upscale_store(*run, tmp_path / "fine.zarr", **HOW, spread=crew, progress=progress)
    assert tree_checksum(store) == alone
    assert len(crew) == 2 and seen[-1] == (1.0, "16 of 16 on 2 workers")
    assert [fraction for fraction, _ in seen] == sorted(fraction for fraction, _ in seen)


def test_nobody_else_on_the_machine_can_hand_the_workers_anything(crew):
    address = crew.client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    assert all(worker.startswith("tls://127.0.0.1:") for worker in crew.client.nthreads())
    with pytest.raises((OSError, TypeError)), Client(address, timeout=2, set_as_default=False):
        pass


def test_what_a_worker_refuses_is_told_in_one_line(made, crew, tmp_path):
    folder, _ = made
    coarse = random_field(BOX, [0.0, 0.5])
    coarse.velocity.values[1, 0, 2, 3, 4] = np.nan
    source = write_hdf5(coarse, tmp_path / "bad.h5")
    with pytest.raises(FlowsrError, match=r"NaN, infinite or missing.*time 1, x 2, y 3, z 4") as error:
        upscale_store(source, folder / "model", tmp_path / "fine.zarr", **HOW, spread=crew)
    assert error.value.file == source and error.value.variable == "velocity"
    assert list(tmp_path.iterdir()) == [source]  # no partial store either, whatever the other worker was at


def test_many_files_are_shared_and_a_bad_one_stops_no_other(made, crew, tmp_path):
    folder, alone = made
    (tmp_path / "bad.h5").write_bytes(b"not HDF5 at all")
    sources = [folder / "coarse.h5", tmp_path / "bad.h5", folder / "coarse.h5", tmp_path / "gone.h5"]
    jobs = [
        Job(source, tmp_path / f"{n}.zarr", folder / "model", UpscaleOptions(**HOW)) for n, source in enumerate(sources)
    ]
    found = upscale_fields(jobs, crew)
    assert [outcome.job for outcome in found] == jobs
    assert [bool(outcome.failed) for outcome in found] == [False, True, False, True]
    assert "bad.h5" in found[1].failed and "no such file" in found[3].failed
    assert tree_checksum(tmp_path / "0.zarr") == tree_checksum(tmp_path / "2.zarr") == alone


def test_workers_convert_as_one_process_does(made, crew, tmp_path):
    folder, _ = made
    how = {"chunk": 4, "shard": 4}
    alone = convert(folder / "coarse.h5", tmp_path / "alone.zarr", **how)
    seen = []
    shared = convert(
        folder / "coarse.h5",
        tmp_path / "shared.zarr",
        **how,
        spread=crew,
        progress=Progress(lambda *told: seen.append(told[2])),
    )
    assert tree_checksum(shared) == tree_checksum(alone)
    assert seen[-1] == "54 of 54 on 2 workers"


def test_workers_measure_what_one_process_measures(made, crew, tmp_path):
    folder, _ = made
    for name, spread in (("alone", None), ("shared", crew)):
        evaluate_field(folder / "alone.zarr", tmp_path / name, coarse=folder / "coarse.h5", spread=spread)
    assert tree_checksum(tmp_path / "shared") == tree_checksum(tmp_path / "alone")


def test_workers_ingest_as_one_process_does(crew, tmp_path):
    grid, times = Grid((8, 8, 8)), [float(n) for n in range(9)]
    sources = [store_field(random_field(grid, times, seed=0), tmp_path / "a.zarr")]
    sources.append(write_hdf5(random_field(grid, times, seed=1), tmp_path / "b.h5"))
    settings = Ingest(factor=2, split=Split(decorrelation_turnovers=0.0))
    for name, spread in (("alone", None), ("shared", crew)):
        ingest(sources, tmp_path / name, settings, spread=spread)
    assert tree_checksum(tmp_path / "shared") == tree_checksum(tmp_path / "alone")


def test_a_worker_killed_in_the_middle_costs_what_it_was_at(made, crew, tmp_path):
    folder, alone = made
    victims = list(crew.client.run(os.getpid).values())

    def kill_one(title, fraction, message):
        if fraction > 0.2 and victims:
            os.kill(victims.pop(), signal.SIGKILL)
            victims.clear()

    run = (folder / "coarse.h5", folder / "model")
    store = upscale_store(*run, tmp_path / "fine.zarr", **HOW, spread=crew, progress=Progress(kill_one))
    assert tree_checksum(store) == alone and not victims


def test_a_scheduler_that_is_not_there_is_one_line(made, tmp_path, capfd):
    folder, _ = made
    how = ["--input", str(folder / "coarse.h5"), "--model", str(folder / "model"), "--output", str(tmp_path / "f.zarr")]
    assert main(["upscale", *how, "--scheduler", "nonsense://nowhere"]) == 2
    assert capfd.readouterr().err.strip().splitlines()[-1].startswith("error: no such scheduler; variable: --scheduler")
    assert main(["upscale", *how, "--workers", "2", "--devices", "1"]) == 2
    assert "--workers and --devices exclude each other" in capfd.readouterr().err
    assert main(["upscale", *how, "--workers", "0"]) == 2
    assert not list(tmp_path.iterdir())


@pytest.fixture
def outside(tmp_path):
    """A scheduler and a worker, each a process of its own; the scheduler's file, and the processes."""
    file = tmp_path / "scheduler.json"
    quiet = {**os.environ, "OMP_NUM_THREADS": "1"}
    begin = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1", "--no-dashboard"]
    commands = [[*begin, "--no-dashboard", "--scheduler-file", str(file)]]
    commands += [[*worker, "--scheduler-file", str(file), "--local-directory", str(tmp_path), "--no-nanny"]]
    log = (tmp_path / "log").open("w")
    processes = [subprocess.Popen(command, env=quiet, stdout=log, stderr=log, cwd=tmp_path) for command in commands]
    yield file, processes
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def test_a_scheduler_elsewhere_is_used_and_may_die(made, outside, tmp_path):
    folder, alone = made
    file, processes = outside
    deadline = time.monotonic() + 600
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    run = (folder / "coarse.h5", folder / "model")
    with crew_of(scheduler=str(file)) as crew:
        assert tree_checksum(upscale_store(*run, tmp_path / "a.zarr", **HOW, spread=crew)) == alone

        def kill_scheduler(title, fraction, message):
            if fraction > 0.2:
                processes[0].kill()

        with pytest.raises(FlowsrError, match=r"the scheduler is gone.*the same command resumes"):
            upscale_store(*run, tmp_path / "b.zarr", **HOW, spread=crew, progress=Progress(kill_scheduler))
    assert partial_path(tmp_path / "b.zarr").exists() and not (tmp_path / "b.zarr").exists()
    assert tree_checksum(upscale_store(*run, tmp_path / "b.zarr", **HOW)) == alone


def test_a_cluster_that_has_lost_its_workers_is_waited_for_and_that_is_said(monkeypatch):
    looks, said, enough = [], [], threading.Event()

    class Looks(threading.Event):
        """No time passes between two looks; after the 14th the batch ends."""

        def wait(self, seconds):
            looks.append(seconds)
            if len(looks) <= 14:
                return self.is_set()
            enough.set()
            return super().wait()

    client = MagicMock(status="running", nthreads=lambda: {"late": 1} if len(looks) == 8 else {})
    client.submit.return_value.result.return_value = "done"
    monkeypatch.setattr(
        "distributed.wait", lambda futures, **_: SimpleNamespace(done=futures if enough.wait(60) else ())
    )
    monkeypatch.setattr(cluster, "threading", SimpleNamespace(Event=Looks, Thread=threading.Thread))
    monkeypatch.setattr(cluster.log, "warning", lambda line, since: said.append((len(looks), line % since)))
    assert cluster.Crew(client)(len, [[1]]) == ["done"]
    assert [look for look, _ in said] == [1, 7, 9], "at once, every minute, and at once again"
    assert all(line.startswith("no workers since ") for _, line in said) and set(looks) == {cluster.LOOK}


@pytest.mark.slow
def test_a_command_killed_with_its_cluster_leaves_no_process_and_resumes(tmp_path):
    card = ModelCard("cnn", Task(2), {"width": 32, "blocks": 2})
    save_model(tmp_path / "slow", card.build(), card)
    write_hdf5(random_field(Grid((32, 32, 32)), [float(n) for n in range(8)]), tmp_path / "coarse.h5")
    command = [sys.executable, "-m", "flowsr", "upscale", "--tile", "16", "--model", str(tmp_path / "slow")]
    command += ["--input", str(tmp_path / "coarse.h5"), "--output"]
    target, again = tmp_path / "fine.zarr", tmp_path / "again" / "fine.zarr"
    child = subprocess.Popen([*command, str(target), "--workers", "2"], cwd=tmp_path, start_new_session=True)
    done = partial_path(target) / "done"
    while child.poll() is None and sum(path.is_file() for path in done.rglob("*")) < 1:
        time.sleep(0.05)
    assert child.poll() is None, "it ended before it could be killed"
    child.kill()
    child.wait()
    deadline = time.monotonic() + 30
    while (left := _of_session(child.pid)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left and not target.exists()
    for output in (target, again):
        subprocess.run([*command, str(output)], check=True, cwd=tmp_path)
    assert tree_checksum(target) == tree_checksum(again)


def _of_session(session: int) -> list[int]:
    """Processes of a session that are not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
