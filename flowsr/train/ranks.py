"""Several processes that train one network together: started here, or on several machines by torchrun or Slurm.

Each goes through the same fit from the same seeds and computes its share of every batch; gradients are averaged by
Lightning's DDP, over gloo on CPUs and NCCL on CUDA. The first of them, rank 0, writes files and tells how far it is;
under torchrun or Slurm it also does the rest of the command, while the others wait for the next training.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed

from flowsr.devices import cores
from flowsr.errors import FlowsrError, require
from flowsr.progress import SILENT, Progress
from flowsr.workers import Job, Killed, worker_pool

T = TypeVar("T")

#: How long processes wait for one another: as long as the first one simulates, say.
PATIENCE = timedelta(days=30)
RESUME = "start the same command again to resume"


@dataclass(frozen=True)
class Rank:
    """Which one a process is: ``number`` of ``size``, ``local`` of those on its machine."""

    number: int = 0
    size: int = 1
    local: int = 0

    @property
    def leads(self) -> bool:
        return self.number == 0


def this_rank() -> Rank:
    """Of this process among those that it has joined; alone where there are none."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Rank()
    return Rank(distributed.get_rank(), distributed.get_world_size(), int(os.environ["LOCAL_RANK"]))


def launched() -> Rank | None:
    """The rank that torchrun or ``srun`` started this process with; None where neither did."""
    if distributed.is_available() and distributed.is_torchelastic_launched():
        return Rank(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return Rank(*(int(os.environ[name]) for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")))
    return None


def of_first(value: Callable[[], T]) -> T:
    """What the first process finds, told to all of them."""
    rank = this_rank()
    if rank.size == 1:
        return value()
    told = [value() if rank.leads else None]
    distributed.broadcast_object_list(told, src=0)
    return told[0]  # type: ignore[return-value]


def shares(samples: int, batch_size: int, rank: Rank) -> list[list[int]]:
    """A process's part of every batch of samples; all parts of a batch are as long."""
    batches = [range(samples)[first : first + batch_size] for first in range(0, samples, batch_size)]
    return [list(batch[rank.number :: rank.size]) for batch in batches]


def in_company(devices: int, nodes: int, call: Callable[..., T], arguments: Sequence[Any], progress: Progress) -> T:
    """``call(*arguments, progress=...)`` in as many processes as there are devices on all nodes; what one returns.

    Args:
        devices: processes on a machine, started here unless torchrun or Slurm started them.
        nodes: machines.
        call: a function at the top of a module.
        arguments: for it; they are pickled.
        progress: told by the first process.

    Returns:
        What the first of them does.

    Raises:
        FlowsrError: what ``call`` raised; a process that died, whereupon all are ended; or as many processes from
            outside as were not asked for.
    """
    rank, size = this_rank(), devices * nodes
    if rank.size > 1:
        message = "torchrun or Slurm started another number of processes"
        require(rank.size == size, message, variable="train.devices x train.nodes", expected=rank.size, found=size)
        if rank.leads:
            distributed.broadcast_object_list([(call, tuple(arguments))], src=0)
        return call(*arguments, progress=progress if rank.leads else SILENT)
    if size == 1:
        return call(*arguments, progress=progress)
    hint = "start the command with torchrun or srun on every one, see docs/models.md"
    require(nodes == 1, "several machines need a launcher", variable="train.nodes", found=nodes, hint=hint)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # it warns that no parameter is unused, as it should be
    threads = max(1, min(cores(), torch.get_num_threads()) // devices)
    try:
        with tempfile.TemporaryDirectory(prefix="flowsr-") as folder, worker_pool(devices, threads) as pool:
            meet = str(Path(folder) / "ranks")
            ranks = [Rank(number, devices, number) for number in range(devices)]
            jobs = [
                Job(f"process {one.number + 1} of {devices}", _joined, (one, meet, call, arguments), float(one.leads))
                for one in ranks
            ]
            found: T = pool.run(jobs, progress)[0]
            return found
    except Killed:
        raise _lost(devices) from None


def _joined(rank: Rank, meet: str, call: Callable[..., T], arguments: Sequence[Any], *, progress: Progress) -> T:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all are on this machine, whatever its name resolves to
    _join(rank, distributed.FileStore(meet, rank.size))
    try:
        return call(*arguments, progress=progress if rank.leads else SILENT)
    except RuntimeError as error:
        if isinstance(error, FlowsrError) or not _from_the_group(error):
            raise
        raise _lost(rank.size) from None
    finally:
        distributed.destroy_process_group()


def _join(rank: Rank, store: Any = None) -> None:
    os.environ |= {"RANK": str(rank.number), "WORLD_SIZE": str(rank.size), "LOCAL_RANK": str(rank.local)}
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank.number, world_size=rank.size, timeout=PATIENCE)


def _from_the_group(error: RuntimeError) -> bool:
    """Whether an error is that of a process that has gone."""
    return isinstance(error, distributed.DistError) or any(word in str(error) for word in ("gloo", "NCCL"))


def _lost(size: int) -> FlowsrError:
    message = "a process of the training was killed, by the system if memory ran out"
    return FlowsrError(message, variable="train.devices", found=f"{size} processes", hint=RESUME)


@contextmanager
def company() -> Iterator[bool]:
    """Around a command that torchrun or Slurm may have started several times: whether this one is to do it.

    The others train when the first one does, and are done when it is.
    """
    rank = launched()
    if rank is None or rank.size == 1:
        yield True
        return
    if not distributed.is_torchelastic_launched():
        from lightning.fabric.plugins.environments import SLURMEnvironment

        slurm = SLURMEnvironment(auto_requeue=False)
        os.environ |= {"MASTER_ADDR": slurm.main_address, "MASTER_PORT": str(slurm.main_port)}
    _join(rank)
    try:
        if rank.leads:
            yield True
            distributed.broadcast_object_list([None], src=0)
        else:
            _follow()
            yield False
    finally:
        distributed.destroy_process_group()


def _follow() -> None:
    while True:
        told: list[Any] = [None]
        try:
            distributed.broadcast_object_list(told, src=0)
        except RuntimeError:
            raise FlowsrError("the first process has ended", hint=RESUME) from None
        if told[0] is None:
            return
        call, arguments = told[0]
        call(*arguments, progress=SILENT)
