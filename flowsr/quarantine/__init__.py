"""A stranger's file is first looked at in a process of its own: one that crashes its library, or lies, ends only that.

:func:`first_look` runs a named function there and hands back what it found: plain values, and arrays that are mapped
from the disk. The modules beside this one are such functions; they import nothing of flowsr but its error, so that the
process starts in a quarter of a second, once, in which this one may import what it needs too; it forks for each look.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from flowsr.errors import FlowsrError, require, unreadable

# Seconds of the processor that a look may take, and bytes of the file a second beyond that: VTK reads text some twenty
# times as fast. On the clock it may take so many times as long: the machine may have much else to do.
PATIENCE = 20
SLOWEST = 500_000
BUSY = 20
# Bytes of memory that a look may take: these, and so many times the file.
MEMORY = 4 << 30
TIMES_THE_FILE = 8
# Arrays below this many bytes are read at once, larger ones are mapped.
SMALL = 1 << 20
#: Where the values of a structured grid are.
CELLS, NODES = "cells", "nodes"
#: Name of the text in which :class:`flowsr.data.convert.VtkTarget` keeps what VTK has no place for.
OWN_WORDS = "flowsr"
#: Arrays in which VTK's programs say where there is no value: flags of ghosts, and masks of what was found in a mesh.
GHOSTS, MASKS = "vtkGhostType", ("vtkGhostType", "vtkValidPointMask", "vtkValidCellMask")
#: Flags of cells that are another's, refined or hidden, and of points that are another's or hidden.
GHOST_FLAGS = {CELLS: 1 | 8 | 32, NODES: 1 | 2}


def first_look(
    path: str | os.PathLike,
    function: str,
    *arguments,
    seconds: float | None = None,
    memory: int | None = None,
    processor: float | None = None,
    needed_here: bool = False,
) -> Any:
    """Run a function on a file in a disposable process with limits, and return what it returns.

    Args:
        path: the file or folder; the function's first argument.
        function: ``module:name`` of it. Its module is imported in the process, with everything that it imports.
        arguments: what it is called with besides, as JSON can say it.
        seconds: that it may take, on the clock; default: 20 times what it may take of the processor.
        processor: seconds that it may take of the processor; default: ``seconds``, or else 20, and more for a large
            file.
        memory: bytes of address space it may take; default: 4 GiB and eight times the file.
        needed_here: whether this process will need the function's module too: it imports it while it waits.

    Returns:
        Numbers, texts, None, lists, dicts with text as keys, and numpy arrays, read-only where they are large: their
        numbers lie in a file without a name, which is gone with the last array of it.

    Raises:
        FlowsrError: the function's own, or one line for whatever else it raised, for a process that was ended (by a
            crash, or for want of memory), and for one that came to no end.
    """
    path = Path(path)
    if memory is None or (seconds is None and processor is None):
        size = sum(f.stat().st_size for f in ([path] if path.is_file() else path.rglob("*")) if f.is_file())
        memory = MEMORY + TIMES_THE_FILE * size if memory is None else memory
        if seconds is None and processor is None:
            processor = PATIENCE + size / SLOWEST
    processor = seconds if processor is None else processor
    seconds = BUSY * processor if seconds is None else seconds
    folder = Path(tempfile.mkdtemp(prefix="flowsr-look-"))
    try:
        request = {"function": function, "arguments": [str(path), *arguments], "folder": str(folder)}
        code = _process().ask(
            {
                **request,
                "paths": sys.path,
                "cwd": os.getcwd(),
                "seconds": seconds,
                "memory": memory,
                "processor": processor,
            },
            function.partition(":")[0] if needed_here else None,
        )
        if code is None:
            raise unreadable("no process to look at it in", path)
        limits = {"SIGALRM": seconds, "SIGXCPU": processor}
        for name, limit in limits.items():
            if hasattr(signal, name) and code == -getattr(signal, name):
                raise unreadable(f"no end after {limit:.0f} s", path)
        if code != 0:
            what = signal.strsignal(-code) or f"signal {-code}" if code < 0 else f"exit status {code}"
            raise unreadable(f"its library ended the process: {what}", path)
        answer = json.loads((folder / "answer.json").read_text())
        if "raised" in answer:
            raise unreadable(answer["raised"], path)
        if "refused" in answer:
            error = FlowsrError(answer["refused"].pop("line"))
            error.__dict__.update(answer["refused"])
            raise error
        return _with_arrays(answer["value"], folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_installed(package: str, file, extra: str) -> None:
    """Refuse a file whose library is not there.

    Raises:
        FlowsrError: saying what to install.
    """
    there, message = False, f"read with {package}, which is not installed"
    with suppress(ValueError):
        there = find_spec(package) is not None
    require(there, message, file=file, hint=f"pip install 'flowsr[{extra}]'")


def place_of(places: set[str], group: str | None, path: Path) -> str:
    """Whether the values at cells or at nodes are meant: at the group that is named, or at cells where there are some.

    Raises:
        FlowsrError: none there.
    """
    require(places, "no field in this file", file=path, expected="values at cells or nodes", found="neither")
    place = group or (CELLS if CELLS in places else NODES)
    require(place in places, "no such group", file=path, variable=group, expected=" or ".join(sorted(places)))
    return place


def _with_arrays(value, folder: Path):
    """What the process wrote, with its arrays in their places."""
    if isinstance(value, list):
        return [_with_arrays(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"npy"}:
        file = folder / f"{value['npy']}.npy"
        return np.load(file, mmap_mode="r" if file.stat().st_size > SMALL else None, allow_pickle=False)
    return {name: _with_arrays(item, folder) for name, item in value.items()}


class _Process:
    """The process that forks for each look; it reads nothing of a stranger itself."""

    def __init__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-IB", str(Path(__file__).with_name("child.py"))]
        self.popen = subprocess.Popen(command, env=environment, **pipes)
        self.lock = threading.Lock()
        atexit.register(self.close)

    def ask(self, request: dict, meanwhile: str | None = None) -> int | None:
        """How the look ended: 0, an exit status, minus a signal; None where the process itself is gone.

        Args:
            meanwhile: a module to import here while the process imports it too.
        """
        with self.lock:
            try:
                self.popen.stdin.write(json.dumps(request).encode() + b"\n")
                self.popen.stdin.flush()
                if meanwhile is not None:
                    with suppress(Exception):  # told where it is needed
                        import_module(meanwhile)
                return json.loads(self.popen.stdout.readline())
            except (OSError, ValueError):  # it was ended from outside; the next look has a new one
                _forget()
                return None
            except BaseException:  # an answer that nobody waited for must not be taken for the next one's
                _forget()
                raise

    def close(self) -> None:
        """Let the process come to its end."""
        with suppress(OSError, subprocess.TimeoutExpired):
            self.popen.stdin.close()
            self.popen.wait(1)


_started: _Process | None = None


def _process() -> _Process:
    global _started
    if _started is None:
        try:
            _started = _Process()
        except OSError as error:
            raise FlowsrError("no process to look at files in", found=error.strerror) from None
    return _started


def _forget() -> None:
    global _started
    _started = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)  # a worker of this process does not share its looks


def without_value(values: np.ndarray, masks: Mapping[str, np.ndarray], place: str) -> np.ndarray:
    """The values, NaN where one of the ``MASKS`` says that there is none.

    Args:
        values: real numbers.
        masks: name to an array that goes with the values.
        place: ``cells`` or ``nodes``.
    """
    for name, flags in masks.items():
        empty = (flags.astype(np.int64) & GHOST_FLAGS[place]) != 0 if name == GHOSTS else flags == 0
        if empty.any():
            values = np.where(empty, np.array(np.nan, values.dtype), values)
    return values
