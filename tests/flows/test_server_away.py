"""A server that is away for a while does not end a run that is well."""

import subprocess
import sys
import time
import urllib.request

import pytest

from tests.flows.conftest import PREFECT, Background, environment, free_port
from tests.flows.test_experiment import ask

FLOW = """
import time
from flowsr.flows.runtime import logs_of_run, shown_progress
from flowsr.flows import runtime
from prefect import flow, task
runtime.UPDATE_INTERVAL = 2.0

@task(**runtime.UNCACHED)
def work(seconds):
    with shown_progress("away", "train", 1) as report:
        for number in range(seconds):
            report.part("train")(number / seconds, "")
            time.sleep(1)
            print(number, flush=True)

@flow(name="away", persist_result=False)
def away():
    with logs_of_run():
        return work(SECONDS, return_state=True)

state = away(return_state=True)
print("ended", state.name, flush=True)
"""


#: Seconds that the server is away; the run is at work for a little longer.
AWAY = 600


@pytest.mark.slow
@pytest.mark.timeout(2 * AWAY + 600)
@pytest.mark.server
@pytest.mark.xdist_group("prefect")
def test_a_run_goes_on_while_the_server_is_away_and_tells_it_afterwards(tmp_path):
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    settings = environment(PREFECT_HOME=str(tmp_path / "home"), PREFECT_API_URL=url)
    command = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    (tmp_path / "away.py").write_text(FLOW.replace("SECONDS", str(AWAY + 60)))

    def healthy():
        try:
            return urllib.request.urlopen(f"{url}/health", timeout=5).status == 200
        except OSError:
            return False

    def server(name):
        return Background(command, tmp_path / name, env=settings, cwd=tmp_path)

    run = [sys.executable, str(tmp_path / "away.py")]
    with open(tmp_path / "run.log", "w") as log:
        with server("first.log") as first:
            first.wait_for(healthy, 300, "the server answers")
            process = subprocess.Popen(run, env=settings, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
            first.wait_for(lambda: "\n5\n" in (tmp_path / "run.log").read_text(), 120, "the run is at work")
        time.sleep(AWAY)
        with server("second.log") as second:
            second.wait_for(healthy, 300, "the server is back")
            assert process.wait(300) == 0
            (found,) = ask(url, "/flow_runs/filter", flows={"name": {"any_": ["away"]}})
            assert found["state_name"] == "Completed", (tmp_path / "run.log").read_text()[-3000:]
