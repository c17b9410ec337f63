"""``flowsr`` in processes of their own that need not import torch again: forks of one that has.

They are as good as new ones: they can be killed, and what they leave is on the disk. A start costs milliseconds
instead of seconds.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import get_context
from multiprocessing.connection import Connection

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    ["flowsr.cli", "flowsr.pipeline.stages", "flowsr.report", "flowsr.train.job", "pint", "zarr"]
)


def _main(pipe: Connection, environment: dict[str, str], arguments: tuple[str, ...]) -> None:
    """Be the command: its environment and arguments, its output into the pipe, its exit status."""
    for standard in (1, 2):
        os.dup2(pipe.fileno(), standard)
    pipe.close()
    sys.stdout, sys.stderr = (os.fdopen(standard, "w", buffering=1, closefd=False) for standard in (1, 2))
    os.environ.clear()
    os.environ.update(environment)
    from flowsr.__main__ import main

    sys.argv = ["flowsr", *arguments]
    sys.exit(main())


class FlowsrProcess:
    """A running command.

    Args:
        arguments: after ``flowsr``.

    Attributes:
        stdout: lines of its output and of its errors, as they come.
        returncode: None until :meth:`wait` was there; minus the signal of one that was killed.
    """

    def __init__(self, *arguments: str):
        self.returncode: int | None = None
        output, pipe = FORKS.Pipe(duplex=False)
        self._process = FORKS.Process(target=_main, args=(pipe, dict(os.environ), arguments))
        self._process.start()
        pipe.close()
        self.stdout = os.fdopen(os.dup(output.fileno()), encoding="utf-8")
        output.close()

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> int:
        self._process.join()
        self.returncode = self._process.exitcode
        return self.returncode

    def __enter__(self) -> FlowsrProcess:
        return self

    def __exit__(self, *_) -> None:
        self.stdout.close()
        self.wait()
