"""One step of a pipeline: done once, reused while its settings and inputs stay, resumed after a kill."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowsr import __version__
from flowsr.devices import use_threads
from flowsr.errors import Busy, FlowsrError
from flowsr.files import (
    Damage,
    is_at,
    open_lock,
    partial_path,
    read_json,
    remove,
    tree_checksum,
    tree_sizes,
    write_json_atomic,
)
from flowsr.progress import SILENT, Progress
from flowsr.provenance import fingerprint, versions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Step:
    """What a step makes, from what, and how.

    Args:
        title: for people, "train relaxed".
        record: JSON file that says what was done; its folder is the step's.
        outputs: files or stores the step makes. They are removed when the settings or inputs have changed.
        settings: everything that decides the result.
        inputs: name to checksum of what is read.
        about: further provenance for the record that does not decide the result.
        scratch: what it may leave behind when killed, removed likewise.
        call: makes the outputs, ``call(*arguments, progress=...)``; a function that worker processes can import.
        arguments: for it.
        weight: how long it takes, relative to others; for the progress.
    """

    title: str
    record: Path
    outputs: tuple[Path, ...]
    settings: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    scratch: tuple[Path, ...] = ()
    call: Callable[..., None] | None = None
    arguments: tuple = ()
    weight: float = 1.0

    @property
    def key(self) -> str:
        """Changes whenever the result would."""
        return fingerprint({"settings": self.settings, "inputs": self.inputs, "flowsr": __version__})


@dataclass(frozen=True)
class Done:
    """A finished step: its record, and whether the work had been done before."""

    step: Step
    record: dict[str, Any]
    reused: bool

    @property
    def checksums(self) -> dict[str, str]:
        """Output name to checksum."""
        return self.record["outputs"]


def damage_in(record: dict[str, Any], outputs: Iterable[Path], *, deep: bool) -> list[Damage]:
    """Outputs of a finished step that are not as it left them.

    Args:
        record: what the step wrote of itself.
        outputs: where they are.
        deep: compare checksums, which reads all of them; otherwise the names and sizes of their files.
    """
    written, found = record.get("outputs" if deep else "sizes", {}), []
    for path in outputs:
        now = (tree_checksum if deep else tree_sizes)(path) if path.exists() else "nothing"
        if now != written.get(path.name):
            found.append(Damage(path, f"{'sha256' if deep else 'sizes'} {written.get(path.name)}", now))
    return found


def perform(
    step: Step, work: Callable[[], None], *, fresh: bool = False, verify: bool = False, clear: bool = True
) -> Done:
    """Do a step unless it has been done; start over if settings changed or outputs are damaged, resume if cut short.

    Args:
        step: what to make.
        work: makes ``step.outputs``; called again after a kill, it may find its own partial results.
        fresh: forget earlier results.
        verify: compare the checksums of outputs that are reused, not only the names and sizes of their files.
        clear: remove outputs of other settings first; else ``work`` replaces them when the new ones are whole.

    Raises:
        Busy: another process is at the same step.
        FlowsrError: ``work`` failed, or ``work`` left an output missing.
    """
    step.record.parent.mkdir(parents=True, exist_ok=True)
    with _alone_with(step):
        record = read_json(step.record)
        same, whole = isinstance(record, dict) and record.get("key") == step.key, True
        if same and not fresh and record.get("status") == "finished":
            damaged = damage_in(record, step.outputs, deep=verify)
            if not damaged:
                return Done(step, record, reused=True)
            whole = False
            log.warning("%s: %s is not as it was written, starting over", step.title, damaged[0].file)
        if clear and (fresh or not same or not whole):
            _clear(step, told=record is not None and not same and not fresh)
        write_json_atomic(step.record, _record_of(step, "running"))
        start = time.perf_counter()
        work()
        record = _record_of(step, "finished", seconds=round(time.perf_counter() - start, 2))
        write_json_atomic(step.record, record)
        return Done(step, record, reused=False)


def do(step: Step, fresh: bool = False, verify: bool = False, *, progress: Progress = SILENT) -> Done:
    """:func:`perform` a step by its own ``call``, with as many threads as it says."""
    use_threads(step.about.get("threads"))
    return perform(step, lambda: step.call(*step.arguments, progress=progress), fresh=fresh, verify=verify)


def recorded(step: Step) -> bool:
    """Whether the record says that the step is finished, as it is asked for now."""
    record = read_json(step.record)
    return isinstance(record, dict) and record.get("key") == step.key and record.get("status") == "finished"


def _record_of(step: Step, status: str, **more: Any) -> dict[str, Any]:
    record = {"step": step.title, "status": status, "key": step.key, "settings": step.settings, "inputs": step.inputs}
    if status == "finished":
        missing = [str(path) for path in step.outputs if not path.exists()]
        if missing:
            raise FlowsrError(f"{step.title} ended without its output", expected=", ".join(missing), found="nothing")
        record["outputs"] = {path.name: tree_checksum(path) for path in step.outputs}
        record["sizes"] = {path.name: tree_sizes(path) for path in step.outputs}
    return {**record, **more, "about": step.about, "versions": versions()}


def _clear(step: Step, told: bool) -> None:
    if told:
        log.info("%s: settings or inputs have changed, starting over", step.title)
    step.record.unlink(missing_ok=True)
    for path in (*step.outputs, *step.scratch):
        for stale in (path, partial_path(path)):
            remove(stale)


@contextmanager
def _alone_with(step: Step) -> Iterator[None]:
    """Hold the step's lock, a file that is gone when nobody is at the step."""
    lock = step.record.with_name(f".{step.record.stem}.lock")
    while True:
        with os.fdopen(open_lock(lock), "w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(
                    f"another process is at '{step.title}'", file=step.record.parent, hint="wait for it to end"
                ) from None
            if not is_at(handle.fileno(), lock):
                continue  # the one who held it removed it in between
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return
