"""Jobs in workers: results in order, progress to one, errors in one line, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time

import pytest

from flowsr.errors import FlowsrError
from flowsr.workers import Job, worker_pool


def square(number, heard=None, *, progress):
    """The square, once a file says that somebody has heard of it."""
    progress(0.5, "half way")
    while heard is not None and not heard.exists():
        time.sleep(0.02)
    return number**2, os.getpid(), os.environ.get("OMP_NUM_THREADS")


def refuse(number, *, progress):
    raise FlowsrError("not this one", variable="number", found=number)


def die(*, progress):
    os.kill(os.getpid(), signal.SIGKILL)


def linger(path, *, progress):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)


@pytest.fixture(scope="module")
def pool():
    with worker_pool(2, threads=1) as pool:
        yield pool


def jobs(call, count=6, *more):
    return [Job(f"job {number}", call, (number, *more), weight=1 + number) for number in range(count)]


def test_results_come_in_order_from_other_processes(pool, tmp_path):
    told, heard = [], tmp_path / "heard"

    def tell(fraction, message):
        told.append((fraction, message))
        if message.endswith("half way"):
            heard.touch()

    found = pool.run(jobs(square, 6, heard), tell)
    assert [result[0] for result in found] == [0, 1, 4, 9, 16, 25]
    assert os.getpid() not in {result[1] for result in found} and {result[2] for result in found} == {"1"}
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1)
    assert any(message.endswith("half way") for _, message in told) and told[-1][1].startswith("6 of 6")


def test_an_error_in_a_worker_is_the_callers(pool):
    with pytest.raises(FlowsrError, match=r"^not this one; variable: number; found: 3$"):
        pool.run([*jobs(square, 2), Job("bad", refuse, (3,))])
    assert [result[0] for result in pool.run(jobs(square, 3))] == [0, 1, 4], "the others go on"


def test_a_word_that_comes_after_its_run_is_not_the_next_ones(pool):
    pool.run(jobs(square, 2))
    pool._reports.put(("job 9", 0.5, "late"))
    told = []
    pool.run(jobs(square, 2), lambda fraction, message: told.append(message))
    assert told[-1].startswith("2 of 2") and not any("late" in message for message in told)


def test_a_worker_that_dies_is_said_in_one_line():
    with worker_pool(2, threads=1) as pool, pytest.raises(FlowsrError, match=r"killed.*resume"):
        pool.run([Job("a", die), Job("b", die)])


def test_one_worker_is_this_process():
    with worker_pool(1, threads=1) as pool:
        assert {result[1] for result in pool.run(jobs(square))} == {os.getpid()}


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    code = (
        "from flowsr.workers import Job, worker_pool\nfrom tests.test_workers import linger\n"
        f"if __name__ == '__main__':\n    with worker_pool(2, 1) as pool:\n"
        f"        pool.run([Job(n, linger, ({str(tmp_path)!r} + '/' + n,)) for n in 'ab'])\n"
    )
    (tmp_path / "parent.py").write_text(code)
    files = [tmp_path / "a", tmp_path / "b"]
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py")], env={**os.environ, "PYTHONPATH": os.getcwd()}
    ) as parent:
        _wait_for(lambda: all(file.exists() and file.read_text() for file in files))
        parent.kill()
    workers = [int(file.read_text()) for file in files]
    _wait_for(lambda: not any(_runs(worker) for worker in workers))


def _wait_for(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def _runs(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
