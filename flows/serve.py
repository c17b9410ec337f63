"""Schedules from an installed flowsr, without its clone: a folder to begin with, and one command that runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from flowsr.flows import ENVIRONMENT

from flowsr.errors import FlowsrError, missing_file
from flowsr.files import write_text_atomic

POOL = "flowsr"
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
#: Seconds that the server may take to answer; its first start lays down a database.
STARTING = 180
PROJECT = """# Scheduled work: `flowsr serve` in this folder. Edit parameters and hours, and start it again.
name: flowsr
build:
  - prefect.deployments.steps.run_shell_script: {id: here, script: pwd, stream_output: false}
  - flowsr.flows.launch.read_experiment: {id: demo, config: configs/demo.yaml}
pull:
  - prefect.deployments.steps.set_working_directory: {directory: "{{ here.stdout }}"}

deployments:
  # Every night: an experiment's stages, as far as their settings or inputs have changed since the last run.
  - name: nightly
    entrypoint: flowsr.flows.experiment.pipeline
    tags: [flowsr]
    parameters: {experiment: "{{ demo.experiment }}"}
    schedules: [{cron: "0 2 * * *", timezone: UTC}]
    work_pool: {name: flowsr}

  # Every five minutes: whatever has arrived in the watched folder, with the model that the experiment published last.
  - name: watched-folder
    entrypoint: flowsr.flows.upscale_inbox.upscale_new_files
    tags: [flowsr]
    parameters: {inbox: runs/inbox, outbox: runs/outbox, model: runs/demo/models/relaxed}
    schedules: [{cron: "*/5 * * * *", timezone: UTC}]
    work_pool: {name: flowsr}
"""


def init(folder: Path) -> list[Path]:
    """Lay down configurations and deployments to begin with; what is there already stays.

    Returns:
        The files written.

    Raises:
        FlowsrError: this installation has no configurations.
    """
    source, written = shipped_configs(), []
    for path in sorted(source.rglob("*.yaml")):
        target = folder / "configs" / path.relative_to(source)
        if not target.exists():
            write_text_atomic(target, path.read_text(encoding="utf-8"))
            written.append(target)
    if not (folder / "prefect.yaml").exists():
        written.append(write_text_atomic(folder / "prefect.yaml", PROJECT))
    return written


def shipped_configs() -> Path:
    """The folder of configurations that came with flowsr: in the wheel, or in the clone."""
    package = Path(str(files("flowsr")))
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "demo.yaml").exists():
            return folder
    raise FlowsrError("this installation has no configurations", file=package, expected="configs/demo.yaml")


def serve(folder: Path, *, port: int = 4200, notify: str | None = None, say: Callable[[str], None] = print) -> None:
    """Server, deployments and worker for a folder with a ``prefect.yaml``, until it is interrupted or terminated.

    A server that ``PREFECT_API_URL`` names is used; else one is started on this machine.

    Args:
        folder: that :func:`init` made.
        port: of the server.
        notify: address that failures are posted to.
        say: told each step.

    Raises:
        FlowsrError: no ``prefect.yaml``, a server that does not answer, a deployment that fails, a worker that ended.
    """
    if not (folder / "prefect.yaml").exists():
        raise missing_file(folder / "prefect.yaml", hint="flowsr init makes one")
    started: list[subprocess.Popen] = []
    settings = {**os.environ, **{k: v for k, v in ENVIRONMENT.items() if k not in os.environ}}

    def begin(*arguments: str) -> subprocess.Popen:
        started.append(subprocess.Popen([*PREFECT, *arguments], cwd=folder, env=settings, start_new_session=True))
        return started[-1]

    def do(command: list[str], what: str) -> None:
        done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
            raise FlowsrError(what, file=folder / "prefect.yaml", found=lines[-1])

    def leave(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)  # which would end this process alone
    try:
        if "PREFECT_API_URL" not in settings:
            settings |= {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_SERVER_API_PORT": str(port)}
            say(f"server: http://127.0.0.1:{port}")
            begin("server", "start", "--host", "127.0.0.1", "--port", str(port))
        _wait_for(settings["PREFECT_API_URL"], started)
        do([*PREFECT, "work-pool", "create", POOL, "--type", "process", "--overwrite"], "no work pool")
        do([*PREFECT, "deploy", "--all"], "the deployments are refused")
        say("deployments: pipeline/nightly, upscale-new-files/watched-folder, as prefect.yaml has them")
        if notify is not None:
            do([sys.executable, "-m", "flowsr.flows.notify", notify], "no notification")
            say(f"failures are posted to {notify}")
        (folder / "runs" / "inbox").mkdir(parents=True, exist_ok=True)
        say("worker: started; Ctrl-C ends it")
        status = begin("worker", "start", "--pool", POOL).wait()
        raise FlowsrError("the worker ended by itself", found=f"exit status {status}", hint="its last lines say why")
    finally:
        for process in reversed(started):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
        for process in reversed(started):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        signal.signal(signal.SIGTERM, before)


def _wait_for(address: str, started: list[subprocess.Popen]) -> None:
    deadline = time.monotonic() + STARTING
    while time.monotonic() < deadline and all(process.poll() is None for process in started):
        try:
            if urllib.request.urlopen(f"{address}/health", timeout=5).status == 200:
                return
        except OSError:
            time.sleep(0.5)
    raise FlowsrError("the Prefect server does not answer", file=address, expected=f"an answer within {STARTING} s")
