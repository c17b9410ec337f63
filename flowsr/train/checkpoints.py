"""Checkpoints of a fit, each with its checksum: there whole or not at all, and no fit goes on from a damaged one."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from flowsr.errors import FlowsrError
from flowsr.files import replace_bytes

log = logging.getLogger(__name__)
HISTORY = "history.jsonl"
#: The last epoch, the one before it, and the weights of the best one; in the folder ``checkpoints`` of a fit.
LAST, BEFORE, BEST = "last.ckpt", "before.ckpt", "best.ckpt"
CHECKSUM = hashlib.sha256().digest_size


def write_checkpoint(path: Path, values: dict[str, Any]) -> None:
    """Write a checkpoint: its sha256, then what torch makes of it."""
    buffer = BytesIO()
    torch.save(values, buffer)
    content = buffer.getvalue()
    replace_bytes(path, hashlib.sha256(content).digest() + content)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What :func:`write_checkpoint` wrote; nothing is unpickled but tensors and plain values.

    Raises:
        FlowsrError: no such file, or one that is not as it was written.
    """
    hint = "run again: the fit goes on from what is whole"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FlowsrError("no checkpoint", file=path, found=error.strerror, hint=hint) from None
    if hashlib.sha256(content[CHECKSUM:]).digest() != content[:CHECKSUM]:
        found = f"{len(content)} bytes with another checksum"
        raise FlowsrError("a damaged checkpoint", file=path, found=found, hint=hint)
    return torch.load(BytesIO(content[CHECKSUM:]), map_location="cpu", weights_only=True)


class Checkpoints(TorchCheckpointIO):
    """How Lightning writes and reads the last checkpoint; the one before is kept."""

    def save_checkpoint(self, checkpoint, path, storage_options=None):
        """Replace the last one."""
        if Path(path).exists():
            os.replace(path, Path(path).with_name(BEFORE))
        write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(self, path, map_location=None, weights_only=None):
        """The last one."""
        return read_checkpoint(Path(path))


def resume_from(folder: Path) -> Path | None:
    """The checkpoint that a fit goes on from, and None where it begins; what is damaged goes, with one line.

    Where the last checkpoint is damaged, the one before takes its place: the fit does that epoch again, and ends with
    the same weights. Where the best weights or the history are, nothing is left to go on from.

    Args:
        folder: of the fit: its history, and ``checkpoints``.
    """
    last, before, best = (folder / "checkpoints" / name for name in (LAST, BEFORE, BEST))
    if not last.exists() and not before.exists():
        return None
    found, reason = _whole(last), None
    if found is None and (found := _whole(before)) is not None:
        if last.exists():
            log.warning("%s: damaged; training goes on from the epoch before", last)
        os.replace(before, last)
    if found is None:
        reason = last
    else:
        try:
            known = [line["validation_loss"] for line in read_history(folder / HISTORY)][: int(found["epoch"]) + 1]
            reason = folder / HISTORY if len(known) <= int(found["epoch"]) else None
        except FlowsrError:
            reason = folder / HISTORY
        if reason is None and any(loss is not None for loss in known) and _whole(best) is None:
            reason = best
    if reason is None:
        return last
    log.warning("%s: damaged or gone; training starts over", reason)
    discard_checkpoints(folder)
    (folder / HISTORY).unlink(missing_ok=True)
    return None


def discard_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a finished fit."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def read_history(path: Path) -> list[dict]:
    """Lines of a ``history.jsonl``, in order of epochs; empty where there is none.

    Raises:
        FlowsrError: something else in it.
    """
    if not path.exists():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if all(line["epoch"] == number for number, line in enumerate(lines)):
            return lines
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    expected = "a line of JSON for every epoch"
    raise FlowsrError("a damaged learning curve", file=path, expected=expected, hint="train again with --fresh")


def _whole(path: Path) -> dict[str, Any] | None:
    try:
        return read_checkpoint(path)
    except FlowsrError:
        return None
