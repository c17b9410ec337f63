"""A watched folder as a flow: which of its files are new, done, or still on their way in; the new ones are upscaled."""

from __future__ import annotations

import logging
import stat
import time
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from flowsr.flows.artifacts import artifact_key, metrics_rows
from flowsr.flows.child import ERROR, ending_of, run_job
from flowsr.flows.one_file import Ending, Job
from flowsr.flows.runtime import STORAGE, failure_line, logs_of_run, one_line_failures, shown_progress
from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, Failed, State

from flowsr.data import ReadOptions
from flowsr.errors import Busy, MissingFile
from flowsr.files import file_checksum, partial_path, read_json, remove, tree_checksum, write_json_atomic
from flowsr.models import served_model
from flowsr.pipeline import work
from flowsr.pipeline.steps import Step, damage_in, perform
from flowsr.progress import SILENT, Progress
from flowsr.provenance import versions

log = logging.getLogger("flowsr.flows")

PARTIAL_SUFFIXES = (".partial", ".part", ".tmp")
#: Seconds after which a file that does not open, and does not change either, is bad rather than on its way in.
ABANDONED = 3600.0
#: What a record says of a file that is not tried again, of one that is tried once more, and of one that is no field.
REFUSED, CRASHED, NO_FIELD = "refused", "crashed", "no field"
#: Name of the state of a file that is left for a later run.
WAITING = "Waiting"


@dataclass
class Found:
    """What a look at the inbox found.

    Args:
        new: file -> the store that will be made of it.
        done: file -> the store that was made of it.
        waiting: name -> why it waits for a later run.
        refused: name -> what an earlier run said of this content.
        no_fields: names of files that are none.
    """

    new: dict[Path, Path] = field(default_factory=dict)
    done: dict[Path, Path] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    no_fields: list[str] = field(default_factory=list)


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


def look(inbox: Path, outbox: Path, pattern: str = "*", settle: float = 10.0, request: Request | None = None) -> Found:
    """Sort the files and stores of ``inbox``; none is opened here.

    A file is done when its store is in ``outbox`` and was made from the same content, of the same variable and read in
    the same way. It waits when it changed less
    than ``settle`` seconds ago, or is empty. It is refused, or no field, when an earlier run found that of the same
    content, with the same request. Hidden names and names of partial files are not looked at. Of ``a`` and ``a.zarr``,
    whose stores have one name, the second waits.

    Raises:
        FlowsrError: there is no such folder.
    """
    if not inbox.is_dir():
        raise MissingFile("no such folder", file=inbox, variable="inbox")
    found = Found()
    for source in sorted(inbox.iterdir()):
        hidden = source.name.startswith((".", "~")) or source.name.endswith(PARTIAL_SUFFIXES)
        if hidden or not fnmatch(source.name, pattern) or source.absolute() == outbox.absolute():
            continue
        target = outbox / (source.name if source.suffix == ".zarr" else f"{source.name}.zarr")
        try:
            if target in found.new.values() or _is_anothers(source, target):
                found.waiting[source.name] = _whose(source, target)
            elif _is_done(source, target, request):
                found.done[source] = target
            elif (record := _refusal(source, target, request)) is not None:
                if record["status"] == NO_FIELD:
                    found.no_fields.append(source.name)
                else:
                    found.refused[source.name] = record["reason"]
            elif (reason := _why_waiting(source, settle)) is not None:
                found.waiting[source.name] = reason
            else:
                found.new[source] = target
        except FileNotFoundError:
            continue  # taken away while we looked
    return found


def step_of(source: Path, target: Path, request: Request) -> Step:
    """Making ``target`` of a file; the record beside it says from what, and with which version of which model."""
    from flowsr.models.checkpoint import WEIGHTS

    how = (request.variable, request.tile, request.device, request.options, False, request.workers, request.scheduler)
    return Step(
        title=f"upscale {source.name}",
        record=target.with_suffix(".json"),
        outputs=(target,),
        settings=_settings(request),
        inputs={source.name: tree_checksum(source), WEIGHTS: file_checksum(request.model / WEIGHTS)},
        about={
            "signature": _signature(source),
            "model": str(request.model),
            "version": request.model.name,
            "device": request.device,
        },
        call=work.upscale,
        arguments=(source, request.model, target, *how),
    )


def _settings(request: Request) -> dict[str, Any]:
    """What a result depends on beside the file and the model, as its record has it."""
    read = request.options.declared()
    return {"variable": request.variable, "tile": request.tile, **({"read": read} if read else {})}


def _is_anothers(source: Path, target: Path) -> bool:
    """Whether there is a store that was made of an entry of another name."""
    record = read_json(target.with_suffix(".json"))
    return isinstance(record, dict) and target.exists() and source.name not in record.get("inputs", source.name)


def _whose(source: Path, target: Path) -> str:
    other = source.stem if source.name == target.name else target.name
    return f"{target.name} in the outbox belongs to {other}: rename this one, or remove that store"


def _is_done(source: Path, target: Path, request: Request | None) -> bool:
    """Whether the store was made from this content, which is read again only where the file system says it changed."""
    record = read_json(target.with_suffix(".json"))
    if record is None or record.get("status") != "finished" or damage_in(record, [target], deep=False):
        return False
    asked = record["settings"] if request is None else _settings(request)
    if any(record["settings"].get(name) != asked.get(name) for name in ("variable", "read")):
        return False  # the tile alone changes nothing
    return _is_of(record, source, target)


def _refusal(source: Path, target: Path, request: Request | None) -> dict[str, Any] | None:
    """The record of an earlier run that refused this content, asked for the same."""
    from flowsr.models.checkpoint import WEIGHTS

    record = read_json(target.with_suffix(".json"))
    if not isinstance(record, dict) or record.get("status") not in (REFUSED, NO_FIELD):
        return None
    if not _is_of(record, source, target):
        return None
    if request is not None and record["settings"].get("read") != _settings(request).get("read"):
        return None
    if request is not None and record["status"] == REFUSED:
        same_weights = record["inputs"].get(WEIGHTS) == file_checksum(request.model / WEIGHTS)
        if record["settings"] != _settings(request) or not same_weights:
            return None
    return record


def _is_of(record: dict[str, Any], source: Path, target: Path) -> bool:
    """Whether a record is of a file's content; what changed without changing it is noted."""
    signature = _signature(source)
    if record["about"].get("signature") == signature:
        return True
    if record["inputs"].get(source.name) != tree_checksum(source):
        return False
    write_json_atomic(target.with_suffix(".json"), {**record, "about": {**record["about"], "signature": signature}})
    return True


def _why_waiting(source: Path, settle: float) -> str | None:
    signature = _signature(source)
    age = time.time() - signature["changed"] / 1e9
    if age < 0 and settle > 0:  # the clock was set back: whether it changes is seen by looking twice
        time.sleep(min(settle, 1.0))
        return "changing" if _signature(source) != signature else None
    if age < settle:
        return f"changed {age:.0f} s ago"
    if signature["bytes"] == 0 and age <= ABANDONED:
        return "nothing in it yet"
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
def upscale_file(source: Path, target: Path, request: Request, progress: Progress = SILENT) -> State:
    """One file of the inbox to its store in the outbox."""
    return make(source, target, request, progress)


def make(source: Path, target: Path, request: Request, progress: Progress = SILENT) -> State:
    """A file's store, made in a process of its own; what is wrong with the file is kept in the record beside it.

    Raises:
        OSError: storage that fails, and may not the next time.
    """
    if _is_anothers(source, target):  # since it was looked at
        return Completed(name=WAITING, message=_whose(source, target))
    step = step_of(source, target, request)
    before = read_json(step.record)
    ended: list[State] = []

    def work_on_it() -> None:
        how = (request.variable, request.tile, request.device, request.options, request.workers, request.scheduler)
        job = Job(source, request.model, target, *how, replace=target.exists())
        status, line = run_job("flowsr.flows.one_file", [job.as_json()], progress)
        if status == Ending.BUSY:  # what there is of the store is another's
            raise Busy(line.removeprefix(ERROR))
        if status != Ending.DONE:
            ended.append(_ended(step, before, status, line.removeprefix(ERROR)))
            raise _Ended

    try:
        perform(step, work_on_it, clear=False)
    except _Ended:
        return ended[0]
    except Busy:
        return Completed(name=WAITING, message="another process is at it")
    return Completed(message=f"{target}")


class _Ended(Exception):
    """A file's process ended without its store."""


def _ended(step: Step, before: Any, status: int, line: str) -> State:
    """What follows of it: nothing half-made is left, and a record says what is not to be tried again."""
    if status == Ending.STORAGE:
        raise OSError(line)
    remove(partial_path(step.outputs[0]))
    step.record.unlink(missing_ok=True)
    about = {"settings": step.settings, "inputs": step.inputs, "about": step.about, "versions": versions()}
    if status == Ending.NOT_YET and time.time() - step.about["signature"]["changed"] / 1e9 <= ABANDONED:
        return Completed(name=WAITING, message=line)
    if status == Ending.NO_FIELD:
        write_json_atomic(step.record, {"step": step.title, "status": NO_FIELD, "reason": line, **about})
        return Completed(name="No field", message=line)
    if status in (Ending.REFUSED, Ending.NOT_YET):
        write_json_atomic(step.record, {"step": step.title, "status": REFUSED, "reason": line, **about})
        return Failed(message=line)
    reason = f"{step.title}: {ending_of('its process', status, line)}"
    same = isinstance(before, dict) and before.get("status") == CRASHED and before.get("inputs") == step.inputs
    kept = {"status": REFUSED, "reason": f"{reason}, twice"} if same else {"status": CRASHED, "reason": reason}
    write_json_atomic(step.record, {"step": step.title, **kept, **about})
    return Failed(message=f"{kept['reason']}; it is {'not tried again' if same else 'tried once more'}")


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

    A file is done when its store is in the outbox and was made from the same content, read with the same options. Files
    still on their way in wait for the next run. Each file is read in a process of its own, and a bad one does not stop
    the others: the run fails when the rest is done, and says which it was; later runs list it as refused until its
    content or the options change.

    Args:
        inbox: the watched folder, with HDF5 files and Zarr stores.
        outbox: receives one Zarr store per file, and a record of what it was made from.
        model: folder of a trained model, or of a published one, such as runs/demo/models/relaxed: the current version.
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
        request = Request(served_model(model), variable, tile, device, options or ReadOptions(), workers, scheduler)
        return _upscale_new_files(inbox, outbox, pattern, settle, request)


@one_line_failures
def _upscale_new_files(inbox: Path, outbox: Path, pattern: str, settle: float, request: Request) -> State:
    from flowsr.models import load_model

    load_model(request.model)  # a model that cannot be used is told before any file is touched
    found = look(inbox, outbox, pattern, settle, request)
    states: dict[Path, State] = {}
    if found.new:
        with shown_progress(outbox.name, "upscale", len(found.new)) as progress:
            for source, target in found.new.items():
                states[source] = upscale_file(source, target, request, progress, return_state=True)
    outcome = Outcome.of(found, states)
    for name, reason in outcome.waiting.items():
        log.info("%s waits for the next run: %s", name, reason)
    for name, reason in found.refused.items():
        log.info("%s was refused before: %s", name, reason)
    if states or outcome.waiting:
        key, about = artifact_key(outbox.name, "upscaled"), f"Files of {inbox}, upscaled to {outbox}"
        create_table_artifact(table_of(outcome, found, request), key, description=about)
    if outcome.bad:
        reasons = "; ".join(reason if name in reason else f"{name}: {reason}" for name, reason in outcome.bad.items())
        tried = len(outcome.bad) + len(outcome.made)
        return Failed(message=f"{len(outcome.bad)} of {tried} new files failed: {reasons}")
    told = [f"{len(outcome.made)} upscaled", f"{len(outcome.waiting)} waiting", f"{len(found.done)} done before"]
    told += [f"{len(found.refused)} refused before"] if found.refused else []
    told += [f"{len(outcome.no_fields)} no fields"] if outcome.no_fields else []
    return Completed(message=", ".join(told))


@dataclass(frozen=True)
class Outcome:
    """What became of the files of a run: the stores made, and by name why others were not."""

    made: dict[str, Path]
    bad: dict[str, str]
    waiting: dict[str, str]
    no_fields: list[str]

    @classmethod
    def of(cls, found: Found, states: dict[Path, State]) -> Outcome:
        """From the final states of the new files."""
        named = {source.name: state for source, state in states.items()}
        made = {
            s.name: found.new[s] for s, state in states.items() if state.is_completed() and state.name == "Completed"
        }
        bad = {name: failure_line(state) for name, state in named.items() if not state.is_completed()}
        waiting = {name: state.message or "" for name, state in named.items() if state.name == WAITING}
        no_fields = [name for name, state in named.items() if state.name == "No field"]
        return cls(made, bad, {**found.waiting, **waiting}, [*found.no_fields, *no_fields])


def table_of(outcome: Outcome, found: Found, request: Request) -> list[dict[str, Any]]:
    """One row a file: what was upscaled, with its metrics, what failed, what waits and what is refused."""
    rows = []
    for name, target in outcome.made.items():
        version = {"store": str(target), "model": request.model.name}
        rows.append({"file": name, "state": "upscaled", **version, **metrics_rows(target), "reason": ""})
    others = {"failed": outcome.bad, "waiting": outcome.waiting, "refused before": found.refused}
    rows += [
        {"file": name, "state": state, "reason": reason}
        for state, some in others.items()
        for name, reason in some.items()
    ]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return [{key: row.get(key, "") for key in columns} for row in rows]
