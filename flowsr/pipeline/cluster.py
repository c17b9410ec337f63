"""Work handed to processes, devices and machines by Dask: a cluster of this command's own, or one that is there.

What is handed out are batches that each know what is done already, so that a batch may be begun twice: a worker that is
killed costs what it was at, and the batch goes to another one. Only here is Dask imported.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from flowsr.errors import FlowsrError, require
from flowsr.progress import SILENT, Progress
from flowsr.spread import RELEASE, STOP

log = logging.getLogger(__name__)

#: Batches that are sent ahead for every worker: the next one is there when it asks.
AHEAD = 2
#: How often a batch may be begun anew because its worker died, before it is taken for the cause.
DEATHS = 3
#: Seconds that batches have to end when another one has raised an error.
ENDING = 60
#: Seconds that a cluster has for its first worker to come.
PATIENCE = 600
#: Seconds between two looks whether there are workers.
LOOK = 10


class Crew:
    """Workers that batches are handed to: ``crew(call, batches, progress)``; used inside :func:`crew_of`."""

    def __init__(self, client: Any):
        self.client = client

    def __len__(self) -> int:
        """Tasks that can be done at once, now."""
        return sum(self.client.nthreads().values())

    def __call__(
        self, call: Callable[..., Any], batches: Sequence[Sequence[Any]], progress: Progress = SILENT
    ) -> list[Any]:
        """``call(batch)`` for each of the batches, in any order, on whichever worker is free.

        Returns:
            The results in the order of the batches; they should be small.

        Raises:
            FlowsrError: the first that a call raised; a batch whose workers died, or a scheduler that is gone.
        """
        from distributed import CancelledError, KilledWorker, wait
        from distributed.comm import CommClosedError

        results: list[Any] = [None] * len(batches)
        total, done = max(1, sum(map(len, batches))), 0
        waiting, running, key, over = deque(enumerate(batches)), {}, uuid4().hex, threading.Event()
        threading.Thread(target=self._watch, args=(over,), daemon=True).start()
        try:
            while waiting or running:
                while waiting and len(running) < AHEAD * max(1, len(self)):
                    number, batch = waiting.popleft()
                    running[self.client.submit(_work, key, call, batch, pure=False)] = number
                with self.client.as_current():
                    ended = wait(list(running), return_when="FIRST_COMPLETED").done
                for future in ended:
                    number = running.pop(future)
                    results[number] = future.result()
                    future.release()
                    done += len(batches[number])
                    progress(done / total, f"{done} of {total} on {len(self)} workers")
        except KilledWorker as error:
            found = f"{DEATHS + 1} workers died at one and the same batch, the last {error.last_worker.address}"
            hint = "out of memory, perhaps: give less --memory; the same command resumes"
            raise FlowsrError("workers die", variable="workers", found=found, hint=hint) from None
        except (CancelledError, CommClosedError, OSError, TimeoutError) as error:
            if isinstance(error, FlowsrError):
                raise
            lost = isinstance(error, (CancelledError, CommClosedError))
            if not lost and self.client.status == "running":
                raise  # the work's own: a full disk, say
            hint = "see why it ended; the same command resumes"
            raise FlowsrError("the scheduler is gone", found=type(error).__name__, hint=hint) from None
        finally:
            over.set()
            if running and self.client.status == "running":
                self.client.cancel(list(running))
                self._end(key)
        return results

    def _watch(self, over: threading.Event) -> None:
        """Say that there are no workers, at the first look and at every sixth; in a queue others come late."""
        since, looks = "", 0
        while not over.wait(LOOK):
            try:
                looks = 0 if len(self) else looks + 1
            except Exception:  # no scheduler either, which the call itself tells
                continue
            since = time.strftime("%H:%M:%S") if looks == 1 else since
            if looks % 6 == 1:
                log.warning("no workers since %s: waiting for others; once ended, the same command resumes", since)

    def _end(self, key: str) -> None:
        """Wait until the batches of a call that look for it have ended, each at its next piece: they write no more."""
        last = time.monotonic() + ENDING
        with suppress(OSError, TimeoutError):  # of workers that are gone
            while sum(self.client.run(_stop, key, on_error="ignore").values()) and time.monotonic() < last:
                time.sleep(0.1)


_under_way: list[str] = []  # on a worker: of which crew's call each batch is that looks whether it is to end
_stopped: set[str] = set()  # and the calls that are to end


def _work(key: str, call: Callable[..., Any], batch: Sequence[Any]) -> Any:
    """On a worker; a batch of which only the writing is left gives its place to the next one."""
    from distributed import secede

    looks: list[str] = []

    def stop() -> bool:
        if not looks:
            looks.append(key)
            _under_way.append(key)
        return key in _stopped

    release, stopping = RELEASE.set(secede), STOP.set(stop)
    try:
        return call(batch)
    finally:
        if looks:
            _under_way.remove(key)
        RELEASE.reset(release)
        STOP.reset(stopping)


def _stop(key: str) -> int:
    """On a worker: how many batches of a call that is to end are under way and look for it."""
    _stopped.add(key)
    return _under_way.count(key)


@contextmanager
def crew_of(
    workers: int | None = None, devices: int | None = None, scheduler: str | None = None
) -> Iterator[Crew | None]:
    """The workers that a command's options ask for; None where they ask for none, and this process does the work.

    Args:
        workers: processes on this machine, of one core each, started here and ended with the block.
        devices: the same, with a CUDA device each.
        scheduler: address of a Dask scheduler, or the file that it wrote its address to; its workers see the same
            files under the same paths.

    Raises:
        FlowsrError: several of these at once, no Dask, fewer devices than asked for, or no such scheduler.
    """
    asked = {"--workers": workers, "--devices": devices, "--scheduler": scheduler}
    given = [name for name, value in asked.items() if value is not None]
    require(len(given) < 2, f"{' and '.join(given)} exclude each other", expected="one of them")
    if not given:
        yield None
        return
    try:
        import cryptography  # noqa: F401, for the key of a cluster of this command's own
        import dask
        import distributed
    except ImportError:
        hint = "pip install 'flowsr[cluster]'"
        raise FlowsrError("several workers need Dask", variable=given[0], found="no distributed", hint=hint) from None
    count = workers if devices is None else devices
    require(count is None or count >= 1, "not a number of workers", variable=given[0], expected=">= 1", found=count)
    quiet = {
        "distributed.scheduler.allowed-failures": DEATHS,
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        "distributed.worker.profile.enabled": False,
        # Dask has workers hand back every 64 KiB at once, and fetch them again for the next tile: a fifth of the time.
        "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
        "distributed.worker.multiprocessing-method": "spawn",
    }
    with dask.config.set(quiet), _quiet():
        if scheduler is None:
            with (
                _local_cluster(_environments(count, devices is not None)) as cluster,
                distributed.Client(cluster, set_as_default=False) as client,
            ):
                yield Crew(client)
            return
        try:
            where = {"scheduler_file": scheduler} if os.path.exists(scheduler) else {"address": scheduler}
            client = distributed.Client(**where, set_as_default=False, timeout=30)
        except (OSError, ValueError, TypeError) as error:
            found = " ".join(str(error).split())
            expected = "an address such as tcp://host:8786, or a scheduler file"
            raise FlowsrError(
                "no such scheduler", variable="--scheduler", expected=expected, found=f"{scheduler}: {found}"
            ) from None
        with client:
            try:
                client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError:
                raise FlowsrError("the scheduler has no workers", variable="--scheduler", found=scheduler) from None
            yield Crew(client)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Dask's own account of its processes; what matters of it is raised."""
    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _environments(count: int, devices: bool) -> list[dict[str, str]]:
    """What each worker's environment has beside this one's: one core, and its device."""
    alone = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    if not devices:
        return [alone] * count
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(n) for n in range(torch.cuda.device_count())]
    require(count <= len(names), "not so many devices", variable="--devices", expected=count, found=len(names))
    return [{**alone, "CUDA_VISIBLE_DEVICES": name} for name in names[:count]]


@contextmanager
def _local_cluster(environments: list[dict[str, str]]) -> Iterator[Any]:
    """A scheduler in this process and workers in others, started afresh and gone with the block; no dashboard.

    They talk over TLS, with a key that is made here and now: a scheduler runs whatever it is sent, and every user of a
    machine can reach the ports of its loopback.
    """
    from distributed import Nanny, Scheduler, Security, SpecCluster

    security = Security.temporary()
    shared = {"protocol": "tls://", "security": security, "host": "127.0.0.1", "dashboard": False}
    with tempfile.TemporaryDirectory(prefix="flowsr-") as folder:
        common = {**shared, "nthreads": 1, "memory_limit": 0, "local_directory": folder, "silence_logs": 50}
        specs = {
            number: {"cls": Nanny, "options": {**common, "env": environment}}
            for number, environment in enumerate(environments)
        }
        scheduler = {"cls": Scheduler, "options": {**shared, "port": 0, "dashboard_address": "127.0.0.1:0"}}
        with SpecCluster(workers=specs, scheduler=scheduler, security=security, silence_logs=50) as cluster:
            yield cluster
