"""One Prefect server for all tests of the flows, on the loopback, in a folder of its own."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

# Prefect reads these when it is imported; a developer's own server and folder are left alone.
HOME = Path(tempfile.mkdtemp(prefix="flowsr-prefect-"))
os.environ["PREFECT_HOME"] = str(HOME)
PATIENT = {"PREFECT_API_REQUEST_TIMEOUT": "600", "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "900"}
os.environ.update(PATIENT)
for name in ("PREFECT_API_URL", "PREFECT_PROFILE"):
    os.environ.pop(name, None)

from flowsr.flows import ENVIRONMENT  # noqa: E402

from flowsr.config.study import parse_experiment  # noqa: E402
from tests.experiments import TINY  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]


def pytest_sessionfinish():
    shutil.rmtree(HOME, ignore_errors=True)


def free_port() -> int:
    """A port that nobody listens at, below those that are given to whoever asks for any."""
    for port in random.Random(os.getpid()).sample(range(20_000, 32_000), 100):
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no free port")


def environment(**more: str) -> dict[str, str]:
    """For Prefect's own commands: quick to notice work, patient with a busy machine, sparing with threads."""
    quick = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_LOGGING_LEVEL": "INFO", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **ENVIRONMENT, **PATIENT, **quick, **more}


class Background:
    """A command in the background, its output in a file, its whole process group gone in the end."""

    def __init__(self, command: list[str], log: Path, **options):
        self.log = log
        with open(log, "w") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, **options
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(120)  # a command that ends others waits for them
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def wait_for(self, condition, seconds: float, what: str):
        """The first true value of ``condition()``; fails when the process ends or time runs out."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := condition():
                return value
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        pytest.fail(f"{what}: not after {seconds} s\n{self.log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def server():
    """A Prefect server; flows called in this process run on it. The value is its API's address."""
    from prefect.logging.handlers import APILogHandler
    from prefect.settings import PREFECT_API_URL, temporary_settings

    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]

    def healthy() -> bool:
        try:
            return urllib.request.urlopen(f"{url}/health", timeout=5).status == 200
        except (urllib.error.URLError, OSError):
            return False

    with Background(command, HOME / "server.log", env=environment(), cwd=REPOSITORY) as started:
        started.wait_for(healthy, 900, "the server answers")
        with temporary_settings({PREFECT_API_URL: url}):
            yield url
            APILogHandler().flush()


@pytest.fixture
def tiny(tmp_path):
    """An experiment of seconds: one run, one small network."""
    return parse_experiment(
        {
            **TINY,
            "output": str(tmp_path / "run"),
            "simulate": {**TINY["simulate"], "seeds": [0]},
            "train": {**TINY["train"], "models": {"cnn": {"model": "cnn", "options": {"width": 2, "blocks": 1}}}},
        }
    )
