"""Schedules without the clone: a folder to begin with, one command that serves it, and failures that are told."""

import json
import os
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from flowsr.flows.notify import notify_failures
from flowsr.flows.serve import init, serve
from prefect import flow
from prefect.states import Failed

from flowsr.cli import main
from flowsr.errors import FlowsrError
from tests.flows.conftest import HOME, Background, environment
from tests.flows.test_experiment import ask


def test_a_folder_to_begin_with_has_configurations_and_deployments_and_keeps_what_is_there(tmp_path, capsys):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yaml").write_text("mine: true\n")
    assert main(["init", str(tmp_path)]) == 0
    told = capsys.readouterr().out.split()
    assert str(tmp_path / "prefect.yaml") in told and str(tmp_path / "configs" / "demo.yaml") not in told
    assert (tmp_path / "configs" / "demo.yaml").read_text() == "mine: true\n"
    assert init(tmp_path) == []


def test_a_folder_without_deployments_is_told(tmp_path):
    with pytest.raises(FlowsrError, match="flowsr init"):
        serve(tmp_path)


def test_a_worker_that_ends_by_itself_is_told(tmp_path, monkeypatch):
    (tmp_path / "prefect.yaml").write_text("name: mine\n")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    monkeypatch.setattr("flowsr.flows.serve.PREFECT", ["true"])
    monkeypatch.setattr("flowsr.flows.serve._wait_for", lambda *given: None)
    with pytest.raises(FlowsrError, match="the worker ended by itself; found: exit status 0"):
        serve(tmp_path)


def living_in(folder):
    """Processes whose working directory is a folder."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(process / "cwd") == str(folder):
                yield (process / "cmdline").read_bytes().replace(b"\0", b" ")


@pytest.mark.server
@pytest.mark.xdist_group("prefect")
def test_one_command_deploys_and_works(server, tmp_path):
    init(tmp_path)
    command = [sys.executable, "-m", "flowsr", "serve", str(tmp_path)]
    with Background(command, HOME / "serve.log", env=environment(PREFECT_API_URL=server), cwd=tmp_path) as started:

        def working():
            workers = ask(server, "/work_pools/flowsr/workers/filter") if "worker:" in started.log.read_text() else []
            return [worker for worker in workers if worker["status"] == "ONLINE"]

        started.wait_for(working, 900, "a worker is there")
    deadline = time.monotonic() + 600
    while (left := list(living_in(tmp_path))) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, "what it started ends with it"
    deployments = {one["name"]: one for one in ask(server, "/deployments/filter")}
    watched = deployments["watched-folder"]
    told = yaml.safe_load((tmp_path / "prefect.yaml").read_text())["deployments"][1]
    assert watched["entrypoint"] == told["entrypoint"] and watched["parameters"] == told["parameters"]


@pytest.mark.server
@pytest.mark.xdist_group("prefect")
def test_a_failure_is_posted_to_the_address_that_was_given(server):
    received = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    @flow(name="breaks")
    def breaks():
        return Failed(message='no such variable: "wind"')

    receiver = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    try:
        for _ in range(2):  # laid down again, it is still one
            notify_failures(f"http://127.0.0.1:{receiver.server_port}/")
        for _ in range(40):  # until the server has taken note; a failure before that is told to nobody
            breaks(return_state=True)
            deadline = time.monotonic() + 15
            while not received and time.monotonic() < deadline:
                time.sleep(0.2)
            if received:
                break
    finally:
        receiver.shutdown()
    assert len({told["text"] for told in received}) == len(received), "each is told once"
    told = received[0]
    assert (told["flow"], told["state"], told["message"]) == ("breaks", "Failed", 'no such variable: "wind"')
    assert told["text"].startswith("breaks / ") and told["text"].endswith('Failed: no such variable: "wind"')
