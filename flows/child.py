"""A flowsr command in a process of its own, from inside a flow run.

Children forked inside a flow run of Prefect 3.8 die, so what needs worker processes (data loaders, several GPUs) starts
a fresh interpreter. Its process group ends with the flow: when it is cancelled, runs out of time, or is killed.
``python -m flowsr.flows.child MODULE ARGUMENTS`` is that interpreter's side of it: standard input is its line to the
parent, and when that ends, because the parent has let go or was killed, so does its whole process group.
"""

from __future__ import annotations

import logging
import os
import re
import runpy
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from flowsr.errors import Busy, FlowsrError
from flowsr.progress import Progress

log = logging.getLogger("flowsr.flows")

#: A line of :func:`flowsr.progress.plain_lines`.
PROGRESS = re.compile(r"(?P<title>\S.*?) +(?P<percent>\d+) % +[\d.]+ s *(?P<message>.*)")
ERROR = "error: "
#: In the line of a :class:`flowsr.errors.Busy`, which a child cannot raise here.
AT_WORK = "another process is "
#: Operating-system errors that waiting does not cure.
LASTING = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)


def run_flowsr(arguments: Sequence[str], progress: Progress) -> None:
    """Run ``flowsr ARGUMENTS``: its progress lines go to ``report``, its other lines to the log.

    Raises:
        Busy: another process is at the same work.
        FlowsrError: it failed; the message is its own error line, or else its last words.
    """
    status, reason = run_job("flowsr", arguments, progress)
    if status:
        line = ending_of(arguments[0], status, reason)
        raise (Busy if AT_WORK in line else FlowsrError)(line)


def run_job(module: str, arguments: Sequence[str], progress: Progress) -> tuple[int, str]:
    """Run a module as a command of flowsr's: its progress lines go to ``report``, its other lines to the log.

    Returns:
        its exit status, and its own error line, or else its last words.
    """
    reason = ""

    def take(line: str) -> None:
        nonlocal reason
        if match := PROGRESS.fullmatch(line):
            progress.part(match["title"])(int(match["percent"]) / 100, match["message"])
            return
        log.log(logging.ERROR if line.startswith(ERROR) else logging.INFO, "%s", line)
        reason = line if line.startswith(ERROR) or not reason.startswith(ERROR) else reason

    return run_module(module, arguments, take), reason


def run_module(module: str, arguments: Sequence[str], take: Callable[[str], None]) -> int:
    """Run ``python -m MODULE ARGUMENTS``, hand over each line it prints that is not empty, return its exit status."""
    with _running([sys.executable, "-u", "-m", "flowsr.flows.child", module, *arguments]) as process:
        for line in _lines(process.stdout.fileno()):
            if line.strip():
                take(line.rstrip())
        return process.wait()


def _lines(pipe: int) -> Iterator[str]:
    """Lines as they come. No wait is long: Prefect's time limits cannot interrupt one outside the main thread."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if selector.select(timeout=1.0):
                block = os.read(pipe, 1 << 16)
                *lines, rest = (rest + block).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
                if not block:
                    yield rest.decode(errors="replace")
                    return


@contextmanager
def _running(command: list[str]) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=_plain_environment(),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdin.close()
        process.stdout.close()


def _plain_environment() -> dict[str, str]:
    """This process's environment, without what makes rich draw bars and colours into a pipe."""
    drawing = ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
    return {**{name: value for name, value in os.environ.items() if name not in drawing}, "NO_COLOR": "1"}


def ending_of(job: str, status: int, reason: str) -> str:
    """Why a job failed, in one line."""
    if reason.startswith(ERROR):
        return reason.removeprefix(ERROR)
    ending = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    return f"{job} {ending}; its last line: {reason or 'none'}"


def _run_with_lifeline() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    _run_with_lifeline()
