"""What one network found, on disk: arrays in a NumPy archive, nothing pickled."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from flowsr.errors import FlowsrError
from flowsr.files import write_bytes_atomic
from flowsr.symmetry.discover import Trained
from flowsr.symmetry.weights import Scores


def save_trained(trained: Trained, path: Path) -> Path:
    """Write what a network found; the file appears whole or not at all."""
    arrays = {"units": trained.scores.units, "errors": trained.errors}
    arrays |= {f"gram_{name}": block for name, block in trained.scores.gram.items()}
    if trained.null_errors is not None:
        arrays["null_errors"] = trained.null_errors
    if trained.shells is not None:
        arrays["wavenumbers"], arrays["shell_errors"] = trained.shells
    about = {"seed": trained.seed, "layers": trained.scores.layers, "fit": dict(trained.fit)}
    buffer = io.BytesIO()
    np.savez(buffer, about=np.array(json.dumps(about)), **arrays)
    return write_bytes_atomic(path, buffer.getvalue())


def load_trained(path: Path) -> Trained:
    """Read it back.

    Raises:
        FlowsrError: a file that is not what :func:`save_trained` writes.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
        about = json.loads(str(arrays["about"]))
        gram = {name.removeprefix("gram_"): block for name, block in arrays.items() if name.startswith("gram_")}
        shells = (arrays["wavenumbers"], arrays["shell_errors"]) if "wavenumbers" in arrays else None
        scores = Scores(arrays["units"], gram, tuple(about["layers"]))
        return Trained(about["seed"], scores, arrays["errors"], arrays.get("null_errors"), shells, about["fit"])
    except (OSError, ValueError, KeyError) as error:
        raise FlowsrError("not the findings of a network", file=path, found=" ".join(str(error).split())) from None
