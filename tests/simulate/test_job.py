"""What holds for every run, in a box or between walls: killed, interrupted, damaged, it ends with the same bits."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from flowsr.errors import FlowsrError
from flowsr.files import partial_path, tree_checksum
from flowsr.simulate import job
from tests.simulate.runs import BOX, CHANNEL, MEDIA, files_of, run

ROOT = Path(__file__).parents[2]
RUNS = {"box": BOX, "media": MEDIA, "channel": CHANNEL}
PLAIN = ["box", "channel"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The stores of the runs, each made when it is first asked for."""
    made = {}

    def store(kind):
        if kind not in made:
            torch.set_num_threads(1)
            made[kind] = run(tmp_path_factory.mktemp(kind) / "seed_000.zarr", RUNS[kind])
        return made[kind]

    return store


def assert_same(output, expected):
    assert tree_checksum(output) == tree_checksum(expected)
    assert [file.name for file in files_of(output)] == [file.name for file in files_of(expected)]
    for one, other in zip(files_of(output), files_of(expected)):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize(("kind", "change"), [("box", {"viscosity": 0.05}), ("channel", {"re_tau": 120.0})])
def test_a_finished_store_is_returned_at_once_and_another_is_not_overwritten(finished, monkeypatch, kind, change):
    store = finished(kind)
    for name in ("_BoxRun", "_ChannelRun"):
        monkeypatch.setattr(job, name, None)  # nothing may be simulated
    assert run(store, RUNS[kind]) == store
    with pytest.raises(FlowsrError, match="other data or settings"):
        run(store, {**RUNS[kind], **change})


CHILD = """
import os, signal, sys
import torch
from flowsr.simulate import job
from tests.simulate import runs

torch.set_num_threads(1)
job.RESTART_SECONDS = 0.0
first = None

def watch(fraction, message):
    global first
    time = float(message.split("t=")[1].split()[0])
    if first is None:
        first = time
        print(first, flush=True)
    if time >= float(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

runs.run(sys.argv[2], getattr(runs, sys.argv[1].upper()), progress=watch)
"""


def child(kind, output, fatal_time):
    """Run until ``fatal_time``, where SIGKILL ends it; the time of the first row of diagnostics it made itself."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, kind, str(output), str(fatal_time)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500, cwd=ROOT)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not output.exists()
    return float(ended.stdout)


@pytest.mark.parametrize(
    ("kind", "in_spin_up", "began_by", "among_snapshots"), [("box", 2.0, 1.5, 5.0), ("channel", 0.2, 0.15, 0.5)]
)
def test_killed_in_the_spin_up_and_again_among_snapshots_it_ends_with_the_same_bits(
    finished, tmp_path, kind, in_spin_up, began_by, among_snapshots
):
    output, begun = tmp_path / "seed_000.zarr", []
    assert child(kind, output, in_spin_up) < began_by
    assert child(kind, output, among_snapshots) > began_by  # it resumed from the spin-up's restart file
    run(output, RUNS[kind], progress=lambda fraction, message: begun.append(fraction))
    assert begun[0] > 0.3
    assert_same(output, finished(kind))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(p.name for p in (output, *files_of(output)))


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("where", ["_record", "_save", "_write_snapshot"])
def test_interrupted_at_every_turn_it_ends_with_the_same_bits(finished, tmp_path, monkeypatch, kind, where):
    """Every few calls of one of its parts the run breaks off, just before or just after that part has done its work."""
    part, calls, expected = getattr(job._Run, where), [0], finished(kind)

    def breaks_off(self, *arguments):
        calls[0] += 1
        if calls[0] % 5 == 3:
            raise Interrupted
        part(self, *arguments)
        if calls[0] % 5 == 0:
            raise Interrupted

    monkeypatch.setattr(job._Run, where, breaks_off)
    monkeypatch.setattr(job, "RESTART_SECONDS", 0.0)
    output, interruptions = tmp_path / "seed_000.zarr", 0
    while not output.exists():
        try:
            run(output, RUNS[kind])
        except Interrupted:
            interruptions += 1
    assert interruptions >= 2
    assert_same(output, expected)


def interrupt(kind, output, monkeypatch, at):
    """Leave a partial store behind that was broken off at the snapshot ``at``."""
    write = job._Run._write_snapshot

    def breaks_off(self, snapshot):
        if snapshot == at:
            raise Interrupted
        write(self, snapshot)

    with monkeypatch.context() as patch:
        patch.setattr(job._Run, "_write_snapshot", breaks_off)
        with pytest.raises(Interrupted):
            run(output, RUNS[kind])


def test_a_begun_run_is_not_resumed_under_other_settings(tmp_path, monkeypatch):
    output = tmp_path / "seed_000.zarr"
    interrupt("box", output, monkeypatch, at=2)
    with pytest.raises(FlowsrError, match="begun with other data or settings"):
        run(output, {**BOX, "cfl": 0.4})
    assert not output.exists()


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("damage", ["truncated", "bit", "foreign", "ahead"])
def test_a_restart_file_that_cannot_be_trusted_is_not_used(finished, tmp_path, monkeypatch, caplog, kind, damage):
    output, expected = tmp_path / "seed_000.zarr", finished(kind)
    interrupt(kind, output, monkeypatch, at=3)
    file = partial_path(output) / "restart.npz"
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "bit":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "foreign":
        with np.load(file) as whole:
            blank = {name: np.zeros(1) for name in whole.files if name != "header"}
        np.savez(file, header=np.array(json.dumps({"settings": {"cells": 8}})), **blank)
    else:  # it stands beyond a snapshot that is no longer there
        marker = next((partial_path(output) / "done" / "velocity").glob("1.*"))
        marker.unlink()
    run(output, RUNS[kind])
    assert ("starts again" in caplog.text) or damage == "ahead"
    assert_same(output, expected)


BLOW_UPS = {
    "box": ({"viscosity": 1e-4, "cfl": 30.0, "duration": 50.0, "snapshot_interval": 10.0}, r"cfl 30"),
    "media": ({"viscosity": 1e-4, "cfl": 30.0, "duration": 50.0, "stratification": (0, 0, 0)}, "likely cause"),
    "channel": (
        {"re_tau": 5e4, "cfl": 8.0, "spin_up_time": 0.0, "duration": 50.0, "snapshot_interval": 50.0},
        "lower cfl",
    ),
}


@pytest.mark.parametrize("kind", RUNS)
def test_a_run_that_blows_up_says_when_and_why_and_publishes_nothing(tmp_path, kind):
    violent, cause = BLOW_UPS[kind]
    output = tmp_path / "run.zarr"
    with pytest.raises(FlowsrError, match=rf"blew up at step \d+, time .*{cause}"):
        run(output, {**RUNS[kind], **violent})
    assert not output.exists() and (partial_path(output) / "plan.json").exists()


def test_importing_the_solvers_needs_no_zarr():
    blocked = "sys.modules.update(dict.fromkeys(['zarr', 'pydantic', 'prefect', 'dask']))"
    script = f"import sys; {blocked}; import flowsr.simulate, flowsr.simulate.channel"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=1500)
