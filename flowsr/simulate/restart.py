"""Restart files: the whole state of a run, in the precision of the run, as one npz file that is never unpickled."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowsr.files import write_bytes_atomic

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restart:
    """Where a run stands.

    Args:
        settings: what the run was asked for.
        target: index of the output time it is on its way to.
        time, step, courant: clock, step count and Courant number of the last step.
        shape: of the grid it is on, which the end of the spin-up changes.
        state: (3 + scalars, Nx, Ny, Nz // 2 + 1) coefficients, on the CPU.
        rows: (n, columns) float64, the diagnostics so far.
    """

    settings: dict
    target: int
    time: float
    step: int
    courant: float
    shape: tuple[int, int, int]
    state: Tensor
    rows: np.ndarray


def save_restart(path: Path, restart: Restart) -> None:
    """Replace the restart file at ``path`` in one step; a kill leaves the old one or the new one."""
    header = {name: getattr(restart, name) for name in ("settings", "target", "time", "step", "courant", "shape")}
    buffer = io.BytesIO()
    np.savez(buffer, header=np.array(json.dumps(header)), state=restart.state.numpy(), rows=restart.rows)
    write_bytes_atomic(path, buffer.getvalue())


def load_restart(path: Path, settings: dict) -> Restart | None:
    """The restart file at ``path``, or None where there is none that is whole and of these settings."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            state, rows = torch.from_numpy(file["state"]), file["rows"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("the restart file %s is damaged (%s): the run starts again", path.name, error)
        return None
    if header.get("settings") != settings:
        log.warning("the restart file %s is of other settings: the run starts again", path.name)
        return None
    header["shape"] = tuple(header["shape"])
    return Restart(state=state, rows=rows, **header)
