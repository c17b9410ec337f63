"""Independent jobs in processes of their own: interpreters started afresh, never forks, that end with their parent."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from typing import Any

from flowsr.errors import FlowsrError
from flowsr.progress import SILENT, Progress

#: Seconds between two looks at what the jobs report.
_LOOK = 0.2
#: Seconds that a worker has to end when it is told to.
_LAST_SECONDS = 5.0


class Killed(FlowsrError):
    """A worker process that something else ended."""


@dataclass(frozen=True)
class Job:
    """A piece of work.

    Args:
        name: unique among the jobs that are given together; for people.
        call: a function at the top of a module, called as ``call(*arguments, progress=...)``.
        arguments: for it; they are pickled.
        weight: how long it takes, relative to others; for the progress.
    """

    name: str
    call: Callable[..., Any]
    arguments: tuple = ()
    weight: float = 1.0


class Pool:
    """Workers for :class:`Job`; with one worker, the jobs are done here, one after another."""

    def __init__(self, workers: int, threads: int):
        self.workers, self.threads = workers, threads
        self._executor: ProcessPoolExecutor | None = None
        self._reports: Any = None
        self._others: list[Any] = []  # children of this process that are not the pool's
        self._idle = True

    def run(
        self, jobs: Sequence[Job], progress: Progress = SILENT, ending: Callable[[Any], str] | None = None
    ) -> list[Any]:
        """Do all jobs, and return their results in the order of the jobs.

        Args:
            jobs: independent of one another.
            progress: told the weighted fraction done, and which jobs are at work.
            ending: says of a result how its job ended; with it, every job is shown as a piece of work of its own.

        Raises:
            FlowsrError: the first that a job raised, as soon as it did (jobs at work are ended).
            Killed: a worker that died.
        """
        if not jobs:
            return []
        tally = _Tally(jobs, progress) if ending is None else _Apart(progress, ending)
        if self.workers == 1 or (len(jobs) < 2 and self._executor is None):
            from flowsr.devices import use_threads  # not before a worker has set its environment: it imports torch

            use_threads(self.threads)
            return [tally.ended(job, job.call(*job.arguments, progress=tally.reporter(job.name))) for job in jobs]
        self._start()
        self._idle = False
        futures = {self._executor.submit(_work, job): job for job in jobs}
        try:
            self._watch(futures, tally)
        except BrokenProcessPool:
            raise Killed(
                "a worker process was killed, by the system if memory ran out",
                variable="workers",
                found=self.workers,
                hint="start the same command again to resume, with fewer workers if need be",
            ) from None
        self._idle = True
        return [future.result() for future in futures]

    def close(self) -> None:
        """End the workers, whatever they are at."""
        if self._executor is not None:
            workers = [process for process in active_children() if process not in self._others]
            self._executor.shutdown(wait=False, cancel_futures=True)
            for process in workers:
                if self._idle:
                    process.join(_LAST_SECONDS)  # it ends by itself, and clears up
                process.terminate()
            for process in workers:
                process.join(_LAST_SECONDS)  # one that is waiting inside a library does not hear SIGTERM
                process.kill()
                process.join()
            self._executor = None

    def _start(self) -> None:
        if self._executor is None:
            context = get_context("spawn")
            self._others = active_children()
            self._reports = context.Queue()
            self._executor = ProcessPoolExecutor(
                self.workers, context, initializer=_begin, initargs=(self.threads, self._reports)
            )

    def _watch(self, futures: dict[Future, Job], tally: _Tally | _Apart) -> None:
        waiting, names = set(futures), {job.name for job in futures.values()}
        while waiting:
            done, waiting = wait(waiting, timeout=_LOOK, return_when=FIRST_COMPLETED)
            with suppress(queue.Empty):
                while True:
                    name, fraction, message = self._reports.get_nowait()
                    if name in names:  # not of a run before this one, whose word comes late
                        tally.reporter(name)(fraction, message)
            for future in done:
                tally.ended(futures[future], future.result())


@contextmanager
def worker_pool(workers: int, threads: int) -> Iterator[Pool]:
    """A pool whose workers are gone when the block is left, by whichever way.

    Args:
        workers: processes; 1: the jobs are done in this one.
        threads: of each process.
    """
    pool = Pool(workers, threads)
    try:
        yield pool
    finally:
        pool.close()


class _Tally:
    """The weighted fraction of the jobs that is done."""

    def __init__(self, jobs: Sequence[Job], progress: Progress):
        self.progress = progress
        self.weights = {job.name: job.weight for job in jobs}
        self.fractions: dict[str, float] = {}
        self.done = 0

    def reporter(self, name: str) -> Progress:
        def show(_: str, fraction: float, message: str) -> None:
            if name in self.fractions and self.fractions[name] >= 1:
                return  # said before the job's end, read after it
            self.fractions[name] = min(fraction, 0.999)
            self._tell(f"{name}: {message}" if message else name)

        return Progress(show)

    def ended(self, job: Job, result: Any) -> Any:
        self.fractions[job.name] = 1.0
        self.done += 1
        self._tell(f"{self.done} of {len(self.weights)}: {job.name}")
        return result

    def _tell(self, message: str) -> None:
        done = sum(self.weights[name] * fraction for name, fraction in self.fractions.items())
        self.progress(done / sum(self.weights.values()), message)


class _Apart:
    """Every job under its own name."""

    def __init__(self, progress: Progress, ending: Callable[[Any], str]):
        self.progress, self.ending = progress, ending
        self.begun: set[str] = set()
        self.done: set[str] = set()

    def reporter(self, name: str) -> Progress:
        part = self.progress.part(name)

        def show(_: str, fraction: float, message: str) -> None:
            if name in self.done:
                return  # said before the job's end, read after it
            if name not in self.begun:
                self.begun.add(name)
                part(0.0, "started")
            part(fraction, message)

        return Progress(show)

    def ended(self, job: Job, result: Any) -> Any:
        self.done.add(job.name)
        self.progress.part(job.name)(1.0, self.ending(result))
        return result


_reports_of_worker: Any = None


def _begin(threads: int, reports: Any) -> None:
    """First thing in a worker: its share of the machine, said before torch is imported, and an eye on its parent."""
    global _reports_of_worker
    _reports_of_worker = reports
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)


def _work(job: Job) -> Any:
    return job.call(*job.arguments, progress=Progress(lambda *told: _reports_of_worker.put(told), job.name))
