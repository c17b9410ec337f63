"""A watched folder as a flow: which of its files are new, done, or still on their way in; the new ones are upscaled."""

from __future__ import annotations

import logging
import stat
import time
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

from flowsr.flows.artifacts import artifact_key
from flowsr.flows.runtime import STORAGE, failure_line, logs_of_run, one_line_failures, shown_progress
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, Failed, State

from flowsr.data import ReadOptions, open_field
from flowsr.errors import FlowsrError, MissingFile
from flowsr.files import file_checksum, read_json, tree_checksum, write_json_atomic
from flowsr.pipeline import work
from flowsr.pipeline.steps import Step, do

log = logging.getLogger("flowsr.flows")

PARTIAL_SUFFIXES = (".partial", ".part", ".tmp")
#: Seconds after which a file that does not open, and does not change either, is bad rather than on its way in.
ABANDONED = 3600.0


@dataclass
class Found:
    """What a look at the inbox found: file -> the store that is, or will be, made of it; ``waiting`` says why."""

    new: dict[Path, Path] = field(default_factory=dict)
    done: dict[Path, Path] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What to do with each file: see :func:`flowsr.upscale.upscale_store`."""

    model: Path
    variable: str = "velocity"
    tile: int = 32
    device: str = "auto"
    options: ReadOptions = field(default_factory=ReadOptions)
    workers: int | None = None
    scheduler: str | None = None


def look(
    inbox: Path, outbox: Path, pattern: str = "*", settle: float = 10.0, options: ReadOptions | None = None
) -> Found:
    """Sort the files and stores of ``inbox``.

    A file is done when its store is in ``outbox`` and was made from the same content. It waits when it changed less
    than ``settle`` seconds ago, or cannot be opened yet. Hidden names and names of partial files are not looked at.

    Raises:
        FlowsrError: there is no such folder.
    """
    if not inbox.is_dir():
        raise MissingFile("no such folder", file=inbox, variable="inbox")
    found = Found()
    for source in sorted(inbox.iterdir()):
        hidden = source.name.startswith((".", "~")) or source.name.endswith(PARTIAL_SUFFIXES)
        if hidden or not fnmatch(source.name, pattern):
            continue
        target = outbox / (source.name if source.suffix == ".zarr" else f"{source.name}.zarr")
        try:
            if _is_done(source, target):
                found.done[source] = target
            elif (reason := _why_waiting(source, settle, options)) is not None:
                found.waiting[source.name] = reason
            else:
                found.new[source] = target
        except FileNotFoundError:
            continue  # taken away while we looked
    return found


def step_of(source: Path, target: Path, request: Request) -> Step:
    """Making ``target`` of a file; the record beside it says from what."""
    from flowsr.models.checkpoint import WEIGHTS

    read = request.options.declared()
    how = (request.variable, request.tile, request.device, request.options, False, request.workers, request.scheduler)
    return Step(
        title=f"upscale {source.name}",
        record=target.with_suffix(".json"),
        outputs=(target,),
        settings={"variable": request.variable, "tile": request.tile, **({"read": read} if read else {})},
        inputs={source.name: tree_checksum(source), WEIGHTS: file_checksum(request.model / WEIGHTS)},
        about={"signature": _signature(source), "model": str(request.model), "device": request.device},
        call=work.upscale,
        arguments=(source, request.model, target, *how),
    )


def _is_done(source: Path, target: Path) -> bool:
    """Whether the store was made from this content, which is read again only where the file system says it changed."""
    file = target.with_suffix(".json")
    record = read_json(file)
    if record is None or record.get("status") != "finished" or not target.exists():
        return False
    signature = _signature(source)
    if record["about"].get("signature") == signature:
        return True
    if record["inputs"].get(source.name) != tree_checksum(source):
        return False
    write_json_atomic(file, {**record, "about": {**record["about"], "signature": signature}})
    return True


def _why_waiting(source: Path, settle: float, options: ReadOptions | None) -> str | None:
    signature = _signature(source)
    age = time.time() - signature["changed"] / 1e9
    if age < settle:
        return f"changed {max(age, 0):.0f} s ago"
    if age > ABANDONED:
        return None
    if signature["bytes"] == 0:
        return "nothing in it yet"
    try:
        open_field(source, options)
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


@task(name="upscale file", task_run_name="upscale {source.name}", **STORAGE)
@one_line_failures
def upscale_file(source: Path, target: Path, request: Request) -> None:
    """One file of the inbox to its store in the outbox."""
    with shown_progress(source.name, "upscale", 1) as report:
        do(step_of(source, target, request), False, progress=report.part(f"upscale {source.name}"))


@flow(name="upscale-new-files", persist_result=False)
def upscale_new_files(
    inbox: Path,
    outbox: Path,
    model: Path,
    variable: str = "velocity",
    pattern: str = "*",
    tile: int = 32,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    settle: float = 10.0,
    options: ReadOptions | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
):
    """Upscale every file of a watched folder that has not been done yet.

    A file is done when its store is in the outbox and was made from the same content. Files still on their way in wait
    for the next run. A bad file does not stop the others: the run fails when the rest is done, and says which it was.

    Args:
        inbox: the watched folder, with HDF5 files and Zarr stores.
        outbox: receives one Zarr store per file, and a record of what it was made from.
        model: folder of a trained model, such as runs/demo/train/relaxed.
        variable: the variable to upscale.
        pattern: names to look at, such as "*.h5".
        tile: coarse cells along a tile's side; larger is faster, smaller needs less memory.
        device: auto takes CUDA where there is a device.
        settle: seconds that a file must have stayed unchanged.
        options: how the files are to be read, where they do not say it: run, time, boundary, units, missing ...
        workers: processes that share each file, on the machine that the flow runs on.
        scheduler: address, or scheduler file, of a Dask cluster that shares each file instead.
    """
    with logs_of_run():
        request = Request(model, variable, tile, device, options or ReadOptions(), workers, scheduler)
        return _upscale_new_files(inbox, outbox, pattern, settle, request)


@one_line_failures
def _upscale_new_files(inbox: Path, outbox: Path, pattern: str, settle: float, request: Request) -> State:
    from flowsr.models import load_model

    load_model(request.model)  # a model that cannot be used is told before any file is touched
    found = look(inbox, outbox, pattern, settle, request.options)
    for name, reason in found.waiting.items():
        log.info("%s waits for the next run: %s", name, reason)
    states = {
        source.name: upscale_file(source, target, request, return_state=True) for source, target in found.new.items()
    }
    bad = {name: failure_line(state) for name, state in states.items() if not state.is_completed()}
    if states:
        rows = [
            {"file": source.name, "store": str(target), "failed": bad.get(source.name, "")}
            for source, target in found.new.items()
        ]
        key, about = artifact_key(outbox.name, "upscaled"), f"New files upscaled to {outbox}"
        create_table_artifact(rows, key, description=about)
    if bad:
        reasons = "; ".join(reason if name in reason else f"{name}: {reason}" for name, reason in bad.items())
        return Failed(message=f"{len(bad)} of {len(states)} new files failed: {reasons}")
    return Completed(message=f"{len(states)} upscaled, {len(found.waiting)} waiting, {len(found.done)} done before")
