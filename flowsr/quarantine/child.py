"""The process that looks at strangers' files: ``python child.py``, a request a line, an exit status a line.

It imports what a request needs and forks; the fork is limited in time and memory, reads the file, and writes what it
found into the request's folder. Where a system cannot fork, the process itself reads the file.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path


def serve() -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    for line in sys.stdin:
        request = json.loads(line)
        sys.path[:] = request["paths"]
        with suppress(Exception):  # raised again, and caught, in the fork
            importlib.import_module(request["function"].partition(":")[0])
        answers.write(f"{look(request)}\n")
        answers.flush()


def look(request: dict) -> int:
    """Perform a request in a fork; its exit status, or minus the signal that ended it."""
    if not hasattr(os, "fork"):
        perform(request)
        return 0
    number = os.fork()
    if number:
        return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    try:
        limit(request["seconds"], request["processor"], request["memory"])
        perform(request)
        os._exit(0)
    finally:
        os._exit(70)


def limit(seconds: float, processor: float, memory: int) -> None:
    """End by a signal after so many seconds; take no more memory or disk; leave no core; be the first to end."""
    import resource

    signal.setitimer(signal.ITIMER_REAL, seconds)
    for name, value in (("CPU", int(processor) + 1), ("AS", memory), ("FSIZE", memory), ("CORE", 0)):
        with suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value + (name == "CPU")))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


def perform(request: dict) -> None:
    """Call the function and write what it returned, or the one line that it raised."""
    from flowsr.errors import FlowsrError

    folder = Path(request["folder"])
    os.chdir(request["cwd"])
    module, _, name = request["function"].partition(":")
    try:
        value = getattr(importlib.import_module(module), name)(*request["arguments"])
        answer = {"value": plain(value, folder, [])}
    except FlowsrError as error:
        fields = ("file", "variable", "expected", "found", "hint")
        parts = {key: getattr(error, key) for key in fields}
        answer = {"refused": {"line": str(error), **{k: v if v is None else str(v) for k, v in parts.items()}}}
    except MemoryError:
        answer = {"raised": f"it asks for more than {request['memory'] / 2**30:.0f} GiB of memory"}
    except Exception as error:  # a damaged file raises whatever its library happens to trip over
        answer = {"raised": str(error) or type(error).__name__}
    (folder / "answer.json").write_text(json.dumps(answer))


def plain(value, folder: Path, written: list):
    """A value as JSON can say it; arrays are written beside it, under the number that stands for them."""
    import numpy as np

    if isinstance(value, np.ndarray):
        np.save(folder / f"{len(written)}.npy", value, allow_pickle=False)
        written.append(value.shape)
        return {"npy": len(written) - 1}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(name): plain(item, folder, written) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, folder, written) for item in value]
    return value


if __name__ == "__main__":
    serve()
