"""Commands in a process of their own: what they say, how they end, and that nothing of them outlives the flow."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from flowsr.flows.child import PROGRESS, run_flowsr, run_module

from flowsr.errors import FlowsrError
from flowsr.progress import SILENT, plain_lines

SLEEPER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("grandchild", child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Writes a module that a child can run, returns its name."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))

    def write(source):
        (tmp_path / "a_module_of_this_test.py").write_text(source)
        return "a_module_of_this_test"

    return write


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid, seconds=600):
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not alive(pid)


@pytest.mark.parametrize("message", ["epoch 3: validation loss 0.1234", "", "12 % of 3 s"])
@pytest.mark.parametrize("title", ["train relaxed", "a title that is longer than its column is"])
def test_every_plain_progress_line_is_understood(title, message):
    lines = []
    progress = plain_lines(lines.append)
    progress.part(title)(0.41, message)
    match = PROGRESS.fullmatch(lines[0].rstrip())
    assert (match["title"], match["percent"], match["message"]) == (title, "41", message)


def test_lines_arrive_as_they_are_printed(modules, tmp_path):
    """No line is written before the one ahead of it has arrived."""
    source = (
        "import pathlib, sys, time\n"
        "for i in range(3):\n"
        "    print('line', i, *sys.argv[1:], file=sys.stderr)\n"
        "    while not pathlib.Path(__file__).with_name(f'line {i} x').exists(): time.sleep(0.02)\n"
    )
    seen = []

    def take(line):
        seen.append(line)
        (tmp_path / line).touch()

    assert run_module(modules(source), ["x"], take) == 0
    assert seen == ["line 0 x", "line 1 x", "line 2 x"]


def test_bad_settings_are_the_commands_own_line(tmp_path, caplog):
    config = tmp_path / "bad.yaml"
    config.write_text(yaml.safe_dump({"name": "bad", "output": str(tmp_path / "run"), "sed": 1}))
    with pytest.raises(FlowsrError) as caught:
        run_flowsr(["config", str(config)], progress=SILENT)
    assert str(caught.value) == f"{config}: unknown key 'sed'; did you mean 'seed'?"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("1 / 0", "train ended with status 1; its last line: ZeroDivisionError: division by zero"),
        (
            "import os; print('epoch 1', flush=True); os.kill(os.getpid(), 9)",
            "train was killed by SIGKILL; its last line: epoch 1",
        ),
    ],
)
def test_a_crash_is_told_by_its_last_line(modules, monkeypatch, source, told):
    module = modules(source)
    monkeypatch.setattr("flowsr.flows.child.run_module", lambda _, arguments, take: run_module(module, arguments, take))
    with pytest.raises(FlowsrError) as caught:
        run_flowsr(["train"], progress=SILENT)
    assert str(caught.value) == told


def test_what_ends_the_flow_ends_the_whole_process_group(modules):
    pids = []

    def cancelled(line):
        pids.append(int(line.split()[1]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_module(modules(SLEEPER), [], cancelled)
    assert gone(pids[0])


def test_the_process_group_dies_with_a_parent_that_was_killed(modules):
    call = f"run_module({modules(SLEEPER)!r}, [], lambda line: print(line, flush=True))"
    parent = f"from flowsr.flows.child import run_module; {call}"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as process:
        grandchild = int(process.stdout.readline().split()[1])
        assert alive(grandchild)
        process.send_signal(signal.SIGKILL)
    assert gone(grandchild)
