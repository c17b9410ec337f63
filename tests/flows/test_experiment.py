"""Flows on a real server: the whole pipeline, what it leaves there, and how runs fail."""

import errno
import json
import os
import sqlite3
import subprocess
import sys
import urllib.request
from contextlib import closing
from dataclasses import replace

import pytest
import yaml
from flowsr.flows.child import run_module
from flowsr.flows.experiment import TASKS, ingest, pipeline, train
from flowsr.flows.launch import launch
from flowsr.flows.runtime import in_order
from flowsr.flows.upscale_inbox import upscale_new_files
from prefect import flow
from prefect.logging.handlers import APILogWorker

from flowsr.data import open_field, write_hdf5
from flowsr.errors import FlowsrError
from flowsr.pipeline import stages
from tests.flows.conftest import HOME, environment
from tests.flows.fields import coarse_field, save_small_model

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("prefect")]


def ask(api, path, **body):
    request = urllib.request.Request(api + path, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


def run_of(api, state):
    """The flow run that ended in a state: (run, its log lines, its artifacts by key)."""
    APILogWorker.drain_all(timeout=600)
    run = state.state_details.flow_run_id
    of_run = {"flow_run_id": {"any_": [str(run)]}}
    logs = [entry["message"] for entry in ask(api, "/logs/filter", logs=of_run, sort="TIMESTAMP_ASC")]
    artifacts = {entry["key"]: entry for entry in ask(api, "/artifacts/filter", artifacts=of_run)}
    (found,) = ask(api, "/flow_runs/filter", flow_runs={"id": {"any_": [str(run)]}})
    return found, logs, artifacts


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.exists() else []


def test_the_pipeline_shows_its_logs_progress_table_picture_and_report(server, tiny):
    state = pipeline(tiny, return_state=True)
    assert state.is_completed() and state.message == f"report: {tiny.output / 'report.html'}"
    run, logs, artifacts = run_of(server, state)
    assert (run["name"], run["state_name"], run["state"]["message"]) == ("tiny", "Completed", state.message)
    for line in ("simulate seed 0", "ingest", "train cnn", "upscale cnn seed_000", "compare"):
        assert any(entry.startswith(line) and "100 %" in entry for entry in logs), line
    for stage in stages.STAGES:
        progress = artifacts[f"tiny-{stage}-progress"]
        assert (progress["type"], progress["data"], progress["description"]) == ("progress", 100, f"{stage}: done")
    metrics = json.loads((tiny.output / "compare" / "metrics.json").read_text())
    rows = json.loads(artifacts["tiny-comparison"]["data"])
    assert artifacts["tiny-comparison"]["type"] == "table"
    assert rows[0]["model"] == "Truth" and len(rows) == 4
    nrmse = {row["model"]: row["NRMSE"] for row in rows}
    for model in metrics["models"].values():
        assert nrmse[model["label"]] == pytest.approx(model["scalars"]["nrmse"]["mean"], rel=1e-3)
    assert artifacts["tiny-report"]["data"] == f"[report.html](file://{tiny.output / 'report.html'})"
    assert "](data:image/png;base64,iVBOR" in artifacts["tiny-picture"]["data"]

    again = ingest(tiny, return_state=True)
    assert any(line.startswith("ingest ") and line.endswith("reused") for line in run_of(server, again)[1])


def test_a_bad_input_fails_the_run_with_its_line_and_leaves_nothing(server, tiny):
    missing = tiny.output / "nowhere.h5"
    experiment = tiny.model_copy(update={"ingest": replace(tiny.ingest, inputs=[missing])})
    state = pipeline(experiment, return_state=True)
    run, logs, _ = run_of(server, state)
    assert run["state_name"] == "Failed"
    assert run["state"]["message"] == f"{missing}: no such file; variable: ingest.inputs"
    assert not any("Traceback" in line for line in logs)
    assert not any("train" in line for line in logs), "later stages do not start"
    assert not visible(tiny.output / "ingest") and visible(tiny.output / "simulate") == [
        "seed_000.csv",
        "seed_000.json",
        "seed_000.zarr",
    ]


def test_training_that_fails_says_why_in_its_own_words(server, tiny):
    state = train(tiny, return_state=True)
    record = tiny.output / "simulate" / "seed_000.json"  # the first stage that is missing
    assert state.is_failed()
    assert (
        state.message == f"{record}: the simulate stage has not finished; run `flowsr simulate` first, or `flowsr run`"
    )


def attempts(monkeypatch, tiny, errors):
    """Run the ingest task without delay between attempts, the stage raising these errors in turn."""
    calls = []

    def stage(experiment, *, fresh, progress):
        calls.append(fresh)
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]

    monkeypatch.setitem(stages.STAGES, "ingest", stage)
    at_once = TASKS["ingest"].with_options(retry_delay_seconds=0)

    @flow(name="attempts")
    def attempt():
        return in_order(tiny, False, at_once)

    return attempt(return_state=True), len(calls)


def test_faults_of_the_storage_are_tried_again(server, monkeypatch, tiny):
    fault = OSError(errno.ESTALE, "Stale file handle")
    state, count = attempts(monkeypatch, tiny, [fault, fault])
    assert state.is_completed() and count == 3
    state, count = attempts(monkeypatch, tiny, [fault] * 5)
    assert state.is_failed() and count == 3
    assert state.message == f"OSError: [Errno {errno.ESTALE}] Stale file handle"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FlowsrError("two\nlines", file="a.h5"), "a.h5: two lines"),
        (FileNotFoundError(errno.ENOENT, "No such file"), f"FileNotFoundError: [Errno {errno.ENOENT}] No such file"),
        (ValueError("a defect"), "ValueError: a defect"),
    ],
)
def test_nothing_else_is_tried_again(server, monkeypatch, tiny, error, message):
    state, count = attempts(monkeypatch, tiny, [error] * 3)
    assert state.is_failed() and state.message == message and count == 1


def test_one_bad_file_does_not_stop_the_others_and_is_told_once(server, tmp_path):
    inbox, outbox, model = tmp_path / "inbox", tmp_path / "outbox", save_small_model(tmp_path / "model")
    inbox.mkdir()
    write_hdf5(coarse_field(0), inbox / "поле.h5")
    write_hdf5(coarse_field(1).rename(velocity="wind"), inbox / "bad.h5")
    (inbox / "cut.h5").write_bytes((inbox / "поле.h5").read_bytes()[:3000])
    (inbox / "notes.txt").write_text("to do")
    state = upscale_new_files(inbox, outbox, model, device="cpu", settle=0, return_state=True)
    run, logs, artifacts = run_of(server, state)
    assert run["state_name"] == "Failed"
    assert run["state"]["message"] == (
        f"1 of 2 new files failed: {inbox / 'bad.h5'}: "
        "no such variable; variable: velocity; expected: velocity; found: wind"
    )
    assert open_field(outbox / "поле.h5.zarr").velocity.shape == (2, 3, 8, 8, 8)
    assert sorted(path.name for path in outbox.iterdir()) == [
        "bad.h5.json",
        "notes.txt.json",
        "поле.h5.json",
        "поле.h5.zarr",
    ]
    assert any(line.startswith("cut.h5 waits for the next run") for line in logs)
    assert not any("Traceback" in line for line in logs)
    assert artifacts.keys() == {"outbox-upscaled", "outbox-upscale-progress"}
    rows = {row["file"]: row for row in json.loads(artifacts["outbox-upscaled"]["data"])}
    assert {name: row["state"] for name, row in rows.items()} == {
        "поле.h5": "upscaled", "bad.h5": "failed", "cut.h5": "waiting"
    }  # fmt: skip
    assert rows["поле.h5"]["model"] == "model" and rows["поле.h5"]["Kinetic energy"] > 0
    state = upscale_new_files(inbox, outbox, model, device="cpu", settle=0, return_state=True)
    assert state.is_completed()
    assert state.message == "0 upscaled, 1 waiting, 1 done before, 1 refused before, 1 no fields"


def test_a_flow_out_of_time_takes_its_child_with_it(server, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    (tmp_path / "sleeps.py").write_text("import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    pids = []

    @flow(name="sleeps")
    def sleeps():
        run_module("sleeps", [], pids.append)

    for seconds in (6, 60, 300):  # until there is a child by then
        state = sleeps.with_options(timeout_seconds=seconds)(return_state=True)
        assert state.name == "TimedOut"
        if pids:
            break
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids[0]), 0)


def test_without_a_server_a_flow_brings_its_own(server, tmp_path, tiny, capsys):
    (HOME / "embedded").mkdir()
    laid_down, own = (sqlite3.connect(home / "prefect.db") for home in (HOME, HOME / "embedded"))
    with closing(laid_down), closing(own):  # its tables need not be laid down a second time
        laid_down.backup(own)
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(tiny.model_dump(mode="json")))
    command = [sys.executable, "-m", "flowsr.flows.experiment", "simulate", str(config), "--set", "simulate.duration=4"]
    blocked = {f"{scheme}_proxy": "http://127.0.0.1:9" for scheme in ("http", "https", "all")}
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment(PREFECT_HOME=str(HOME / "embedded"), no_proxy="127.0.0.1", **blocked),
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"results in {tiny.output}"
    assert "Starting temporary server on http://127.0.0.1" in done.stderr and "telemetry" not in done.stderr
    assert (tiny.output / "simulate" / "seed_000.zarr").exists()
    with pytest.raises(SystemExit) as ending:
        launch(pipeline, ingest, arguments=["ingest", str(config), "--set", "sed=1"])
    assert ending.value.code == 2
    assert capsys.readouterr().err.strip() == f"error: {config}: unknown key 'sed'; did you mean 'seed'?"
