"""What every flow has around its work: one-line failures, retries, the run's log, progress, tasks one after another."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any, Protocol

from flowsr.flows.artifacts import artifact_key
from flowsr.flows.child import LASTING
from prefect import Task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import FailedRun
from prefect.logging.handlers import APILogHandler
from prefect.states import Completed, Failed, State

from flowsr.errors import Busy, FlowsrError, circumstance
from flowsr.progress import PrintableLines, Progress, plain_lines

log = logging.getLogger("flowsr.flows")

#: Seconds between two updates of a progress artifact, at the least: each is a request to the server.
UPDATE_INTERVAL = 20.0


def is_storage_fault(task, task_run, state: State) -> bool:
    """Whether a failed attempt is worth another: an OSError that may pass (a stale handle, a lost mount), no more."""
    return isinstance(state.data, OSError) and not isinstance(state.data, LASTING)


#: Options of every task. Prefect keeps no results: the records of :mod:`flowsr.pipeline.steps` decide what is reused.
UNCACHED: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
#: Options of tasks that read and write fields.
STORAGE = {**UNCACHED, "retries": 2, "retry_delay_seconds": [10, 60], "retry_condition_fn": is_storage_fault}


#: Name of the state of a run that found another one at the same work.
SKIPPED = "Skipped"


class _OneLine(logging.Filter):
    """What Prefect logs of a failure whose state says why already: no traceback, and not twice."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        if isinstance(error, OSError):
            record.exc_info = record.exc_text = None
        return not isinstance(error, FailedRun)


for _name in ("prefect.engine", "prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_OneLine())


class Settings(Protocol):
    """What a flow is given: an experiment, a study or a discovery."""

    name: str
    output: Path


def in_order(settings: Settings, fresh: bool, *tasks: Task) -> State:
    """Run tasks until one fails: the final state of the flow run, its message the reason or where the results are."""
    with logs_of_run():
        for work in tasks:
            state = work(settings, fresh, return_state=True)
            if not state.is_completed():
                return Failed(message=failure_line(state))
            if state.name == SKIPPED:
                return Completed(name=SKIPPED, message=state.message)
    return Completed(message=state.message or f"results in {settings.output}")


def one_line_failures(work: Callable[..., State | None]) -> Callable[..., State | None]:
    """Decorator: a :class:`FlowsrError` becomes a failed state whose message is its line, without a traceback.

    Anything but that and the operating system's errors is a defect: it is logged with its traceback, which Prefect
    leaves out for a task that has retries left, and raised again.
    """

    @functools.wraps(work)
    def guarded(*args, **kwargs):
        try:
            return work(*args, **kwargs)
        except Busy as error:  # another run does it: nothing has failed
            return Completed(name=SKIPPED, message=" ".join(str(error).split()))
        except FlowsrError as error:
            return Failed(message=" ".join(str(error).split()))
        except OSError:
            raise
        except Exception as error:
            if (line := circumstance(error)) is not None:
                return Failed(message=line)
            log.exception("%s failed", work.__name__)
            raise

    return guarded


def failure_line(state: State) -> str:
    """Why a task failed, in one line."""
    return " ".join((state.message or state.name or "failed").removeprefix("Task run encountered an exception").split())


@contextmanager
def logs_of_run() -> Iterator[None]:
    """While it is open, what flowsr logs from INFO on goes to the run's log as well, wherever the run was started."""
    logger = logging.getLogger("flowsr")
    level = logger.level
    added = [] if any(isinstance(handler, APILogHandler) for handler in logger.handlers) else [APILogHandler()]
    for handler in added:
        handler.setFormatter(PrintableLines())
    logger.handlers += added
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        for handler in added:
            logger.removeHandler(handler)


@contextmanager
def shown_progress(name: str, stage: str, pieces: int) -> Iterator[Progress]:
    """Show a stage's reports: one log line per tenth of a piece, one artifact for all pieces together.

    Args:
        name: of the experiment.
        stage: of the experiment, "train".
        pieces: how many pieces of work the stage will report on.
    """
    artifact = create_progress_artifact(0.0, key=artifact_key(name, stage, "progress"), description=f"{stage}: started")
    in_lines = plain_lines(log.info)
    fractions: dict[str, float] = {}
    next_update = time.monotonic() + UPDATE_INTERVAL
    telling: Future | None = None

    def show(piece: str, fraction: float, message: str) -> None:
        nonlocal next_update, telling
        in_lines.part(piece)(fraction, message)
        fractions[piece] = min(fraction, 1.0)
        if time.monotonic() >= next_update and (telling is None or telling.done()):
            done = sum(fractions.values()) / max(pieces, len(fractions))
            said = f"{piece}: {100 * fractions[piece]:.0f} % {message}"
            telling = teller.submit(copy_context().run, _update, artifact, 100 * done, said)
            next_update = time.monotonic() + UPDATE_INTERVAL

    try:
        # a server that is away is asked for minutes: not by the thread that works
        with ThreadPoolExecutor(1, "progress") as teller:
            yield Progress(show)
    except BaseException:
        reached = sum(fractions.values()) / max(pieces, len(fractions), 1)
        _update(artifact, min(100 * reached, 99.0), f"{stage}: ended before it was done")
        raise
    _update(artifact, 100.0, f"{stage}: done")


def _update(artifact, percent: float, description: str) -> None:
    try:
        update_progress_artifact(artifact, percent, description)
    except Exception as error:  # a server that is away for a moment must not end hours of work
        log.warning("the progress artifact was not updated: %s", error)
