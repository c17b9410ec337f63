"""What a task does about an error: bad input fails in one line, a fault of the storage is tried again."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from prefect.states import Failed, State

from flowsr.errors import FlowsrError

log = logging.getLogger("flowsr.flows")

#: Operating-system errors that waiting does not cure.
LASTING = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError)


def one_line_failures(work: Callable[..., State | None]) -> Callable[..., State | None]:
    """Decorator: a :class:`FlowsrError` becomes a failed state whose message is its line, without a traceback.

    Anything but that and the operating system's errors is a defect: it is logged with its traceback, which Prefect
    leaves out for a task that has retries left, and raised again.
    """

    @functools.wraps(work)
    def guarded(*args, **kwargs):
        try:
            return work(*args, **kwargs)
        except FlowsrError as error:
            return Failed(message=" ".join(str(error).split()))
        except OSError:
            raise
        except Exception:
            log.exception("%s failed", work.__name__)
            raise

    return guarded


def is_storage_fault(task, task_run, state: State) -> bool:
    """Whether a failed attempt is worth another: an OSError that may pass (a stale handle, a lost mount), no more."""
    return isinstance(state.data, OSError) and not isinstance(state.data, LASTING)


def failure_line(state: State) -> str:
    """Why a task failed, in one line."""
    return " ".join((state.message or state.name or "failed").removeprefix("Task run encountered an exception").split())
