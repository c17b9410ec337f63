"""Restart files: the whole state of a run, bit by bit, as one npz file that is never unpickled."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from pathlib import Path

import numpy as np

from flowsr.files import write_bytes_atomic

log = logging.getLogger(__name__)


def save_restart(path: Path, header: dict, arrays: dict[str, np.ndarray]) -> None:
    """Replace the restart file at ``path`` in one step; a kill leaves the old one or the new one.

    Args:
        header: JSON-able; ``settings`` says what the run was asked for.
        arrays: by name, kept bit by bit.
    """
    buffer = io.BytesIO()
    np.savez(buffer, header=np.array(json.dumps(header)), **arrays)
    write_bytes_atomic(path, buffer.getvalue())


def load_restart(path: Path, settings: dict, names: tuple[str, ...]) -> tuple[dict, dict[str, np.ndarray]] | None:
    """Header and arrays of the restart file, or None where there is none that is whole and of these settings."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            arrays = {name: file[name] for name in names}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log.warning("the restart file %s is damaged (%s): the run starts again", path.name, error)
        return None
    if header.get("settings") != settings:
        log.warning("the restart file %s is of other settings: the run starts again", path.name)
        return None
    return header, arrays
