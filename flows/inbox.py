"""A watched folder: which of its files are new, which are done, which are still on their way in."""

from __future__ import annotations

import stat
import time
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from flowsr.data import open_field
from flowsr.errors import FlowsrError
from flowsr.files import file_checksum, tree_checksum, write_json_atomic
from flowsr.pipeline.steps import Step, perform, read_record
from flowsr.progress import SILENT, Progress

PARTIAL_SUFFIXES = (".partial", ".part", ".tmp")
#: Seconds after which a file that does not open, and does not change either, is bad rather than on its way in.
ABANDONED = 3600.0


@dataclass(frozen=True)
class Job:
    """One file of the inbox and the store that is made of it."""

    source: Path
    target: Path

    @property
    def record(self) -> Path:
        """What was done, beside the store."""
        return self.target.with_suffix(".json")


@dataclass
class Found:
    """What a look at the inbox found; ``waiting`` says why."""

    new: list[Job] = field(default_factory=list)
    done: list[Job] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What to do with each file: see :func:`flowsr.upscale.upscale_store`."""

    model: Path
    variable: str = "velocity"
    tile: int = 32
    device: str = "auto"


def look(inbox: Path, outbox: Path, pattern: str = "*", settle: float = 10.0) -> Found:
    """Sort the files and stores of ``inbox``.

    A file is done when its store is in ``outbox`` and was made from the same content. It waits when it changed less
    than ``settle`` seconds ago, or cannot be opened yet. Hidden names and names of partial files are not looked at.

    Raises:
        FlowsrError: there is no such folder.
    """
    if not inbox.is_dir():
        raise FlowsrError("no such folder", file=inbox, variable="inbox")
    found = Found()
    for source in sorted(inbox.iterdir()):
        if _is_looked_at(source.name, pattern):
            job = Job(source, outbox / (source.name if source.suffix == ".zarr" else f"{source.name}.zarr"))
            try:
                _sort_in(job, found, settle)
            except FileNotFoundError:
                continue  # taken away while we looked
    return found


def upscale_job(job: Job, request: Request, progress: Progress = SILENT) -> None:
    """Make ``job.target``; the record beside it says from what.

    Raises:
        FlowsrError: a file or model that cannot be used.
    """
    from flowsr.models.checkpoint import WEIGHTS
    from flowsr.upscale import upscale_store

    step = Step(
        title=f"upscale {job.source.name}",
        record=job.record,
        outputs=(job.target,),
        settings={"variable": request.variable, "tile": request.tile},
        inputs={job.source.name: tree_checksum(job.source), WEIGHTS: file_checksum(request.model / WEIGHTS)},
        about={"signature": _signature(job.source), "model": str(request.model), "device": request.device},
    )
    perform(
        step,
        lambda: upscale_store(
            job.source,
            request.model,
            job.target,
            variable=request.variable,
            tile=request.tile,
            device=request.device,
            progress=progress,
        ),
    )


def _is_looked_at(name: str, pattern: str) -> bool:
    return not name.startswith((".", "~")) and not name.endswith(PARTIAL_SUFFIXES) and fnmatch(name, pattern)


def _sort_in(job: Job, found: Found, settle: float) -> None:
    if _is_done(job):
        found.done.append(job)
    elif (reason := _why_waiting(job.source, settle)) is not None:
        found.waiting[job.source.name] = reason
    else:
        found.new.append(job)


def _is_done(job: Job) -> bool:
    """Whether the store was made from this content, which is read again only where the file system says it changed."""
    record = read_record(job.record)
    if record is None or record.get("status") != "finished" or not job.target.exists():
        return False
    signature = _signature(job.source)
    if record["about"].get("signature") == signature:
        return True
    if record["inputs"].get(job.source.name) != tree_checksum(job.source):
        return False
    write_json_atomic(job.record, {**record, "about": {**record["about"], "signature": signature}})
    return True


def _why_waiting(source: Path, settle: float) -> str | None:
    signature = _signature(source)
    age = time.time() - signature["changed"] / 1e9
    if age < settle:
        return f"changed {max(age, 0):.0f} s ago"
    if age > ABANDONED:
        return None
    if signature["bytes"] == 0:
        return "nothing in it yet"
    try:
        open_field(source)
    except FlowsrError as error:
        return str(error) if isinstance(error.__cause__, OSError) else None
    return None


def _signature(path: Path) -> dict[str, int]:
    """Number, size and last change of the files; the change time of the inode, which copying does not carry over."""
    states = [file.stat() for file in (path, *path.rglob("*"))]
    files = [state for state in states if stat.S_ISREG(state.st_mode)]
    return {
        "files": len(files),
        "bytes": sum(state.st_size for state in files),
        "changed": max(state.st_ctime_ns for state in states),
    }
