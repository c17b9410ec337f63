"""``flowsr`` in processes of their own that need not import torch again: forks of one that has.

They are as good as new ones: they can be killed, and what they leave is on the disk. A start costs milliseconds
instead of seconds.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from multiprocessing import get_context
from multiprocessing.connection import Connection

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    ["flowsr.cli", "flowsr.pipeline.stages", "flowsr.report", "flowsr.train.job", "pint", "zarr"]
)


class _Output(io.TextIOWrapper):
    """Text to a file descriptor, a line at once; what says that ``fatal`` has got somewhere kills the process."""

    def __init__(self, descriptor: int, fatal: str | None):
        super().__init__(io.FileIO(descriptor, "wb", closefd=False), "utf-8", write_through=True)
        self.fatal = fatal

    def write(self, text: str) -> int:
        written = super().write(text)
        lines = text.splitlines() if self.fatal else []
        if any(line.startswith(str(self.fatal)) and "started" not in line for line in lines):
            os.kill(os.getpid(), signal.SIGKILL)
        return written


def _main(pipe: Connection, environment: dict[str, str], arguments: tuple[str, ...], fatal: str | None) -> None:
    """Be the command: its environment and arguments, its output into the pipe, its exit status."""
    for standard in (1, 2):
        os.dup2(pipe.fileno(), standard)
    pipe.close()
    sys.stdout, sys.stderr = (_Output(standard, fatal) for standard in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    from flowsr.__main__ import main

    sys.argv = ["flowsr", *arguments]
    sys.exit(main())


class FlowsrProcess:
    """A running command.

    Args:
        arguments: after ``flowsr``.
        fatal: SIGKILL ends it as soon as it writes a line that begins with this, and is not of its start.

    Attributes:
        stdout: lines of its output and of its errors, as they come.
        returncode: None until :meth:`wait` was there; minus the signal of one that was killed.
    """

    def __init__(self, *arguments: str, fatal: str | None = None):
        self.returncode: int | None = None
        output, pipe = FORKS.Pipe(duplex=False)
        self._process = FORKS.Process(target=_main, args=(pipe, dict(os.environ), arguments, fatal))
        self._process.start()
        pipe.close()
        self.stdout = os.fdopen(os.dup(output.fileno()), encoding="utf-8")
        output.close()

    def wait(self) -> int:
        self._process.join()
        self.returncode = self._process.exitcode
        return self.returncode

    def __enter__(self) -> FlowsrProcess:
        return self

    def __exit__(self, *_) -> None:
        self.stdout.close()
        self.wait()
