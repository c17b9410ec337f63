"""A function looks at a file in a process of its own; however it ends, there is a value or one line."""

import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from flowsr.errors import FlowsrError
from flowsr.quarantine import first_look

FUNCTIONS = """
import ctypes, os, time
import numpy as np
from flowsr.errors import FlowsrError

def value(path, n):
    return {"text": open(path).read(), "list": [1, 2.5, None, True], "small": np.arange(n), "half": (np.float32(0.5),),
            "large": np.arange(6e5).reshape(2, 3, -1).transpose(2, 1, 0)}
def here(path): return os.getpid()
def refuse(path): raise FlowsrError("not so", file=path, variable="v", expected=1, found="two", hint="look")
def raises(path): raise KeyError("a\\nb")
def crash(path): ctypes.string_at(0)
def abort(path): os.abort()
def leave(path): os._exit(3)
def sleep(path):
    open(path + ".begun", "w").close()
    time.sleep(120)
def spin(path):
    while True: pass
def memory(path): return float(np.ones(1 << 34, "u1").sum())
def chatter(path): print("x" * 100_000); os.system("echo y"); return 1
"""


@pytest.fixture
def look(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "strangers_functions.py").write_text(FUNCTIONS)
    sys.modules.pop("strangers_functions", None)
    (tmp_path / "a.txt").write_text("words")
    return lambda name, *arguments, **limits: first_look(
        tmp_path / "a.txt", f"strangers_functions:{name}", *arguments, **limits
    )


def test_values_and_arrays_come_back(look):
    found = look("value", 0)
    assert found["text"] == "words" and found["list"] == [1, 2.5, None, True] and found["half"] == [0.5]
    assert found["small"].shape == (0,) and isinstance(found["large"], np.memmap)
    np.testing.assert_array_equal(found["large"], np.arange(6e5).reshape(2, 3, -1).transpose(2, 1, 0))
    assert not Path(found["large"].filename).exists()  # gone when the last array of it is


def test_each_look_has_a_process_of_its_own(look):
    assert len({look("here") for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("raises", "a.txt: damaged or not readable; found: 'a.*b'"),
        ("crash", "ended the process: Segmentation fault"),
        ("abort", "ended the process: Aborted"),
        ("leave", "ended the process: exit status 3"),
        ("sleep", "no end after 1 s"),
        ("spin", "no end after 1 s"),
        ("memory", "more than 2 GiB of memory"),
        ("missing", "has no attribute 'missing'"),
    ],
)
def test_whatever_happens_is_one_line_and_the_next_look_is_none_the_worse(look, name, line):
    with pytest.raises(FlowsrError, match=line) as raised:
        look(name, seconds=1 if "no end" in line else 600, memory=2 << 30)
    assert "\n" not in str(raised.value)
    assert look("chatter") == 1


def test_a_relative_path_is_one_of_where_the_caller_is(look, tmp_path, monkeypatch):
    look("here")
    monkeypatch.chdir(tmp_path)
    assert first_look("a.txt", "strangers_functions:value", 1)["text"] == "words"
    with pytest.raises(FlowsrError, match=r"^a\.txt: not so"):
        first_look("a.txt", "strangers_functions:refuse")


def test_an_answer_that_nobody_waited_for_is_not_the_next_ones(look, tmp_path):
    def interrupt(number, frame):
        raise KeyboardInterrupt

    def when_it_is_waited_for():
        while not (tmp_path / "a.txt.begun").exists():
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        interrupting = threading.Thread(target=when_it_is_waited_for, daemon=True)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            look("sleep", seconds=120)
        interrupting.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert look("chatter") == 1


def test_the_functions_own_error_is_raised(look, tmp_path):
    with pytest.raises(FlowsrError) as raised:
        look("refuse")
    error = raised.value
    assert str(error) == f"{tmp_path / 'a.txt'}: not so; variable: v; expected: 1; found: two; look"
    assert (error.variable, error.expected, error.found, error.hint) == ("v", "1", "two", "look")


def _in_a_worker(folder, queue):
    sys.path.insert(0, str(folder))
    queue.put(first_look(folder / "a.txt", "strangers_functions:here"))


def test_a_forked_worker_looks_with_a_process_of_its_own(look, tmp_path):
    look("here")
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    worker = context.Process(target=_in_a_worker, args=(tmp_path, queue))
    worker.start()
    assert queue.get(timeout=600) > 0
    worker.join(600)
    assert look("chatter") == 1


def test_the_process_imports_no_more_than_it_must():
    script = (
        "import sys, flowsr.quarantine.vtk, flowsr.quarantine.openfoam\n"
        "print([n for n in ('torch', 'xarray', 'scipy', 'pandas', 'zarr') if n in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
