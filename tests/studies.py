"""The smallest study that is a real one: 16^3 turbulence, two networks, two seeds, a second flow, a learning curve."""

from __future__ import annotations

from pathlib import Path

import yaml

TINY_STUDY = {
    "name": "tiny study",
    "device": "cpu",
    "workers": 1,
    "seeds": [0, 1],
    "data": {
        "isotropic": {
            "simulate": {
                "cells": 16,
                "viscosity": 0.05,
                "seeds": [0, 1],
                "spin_up_time": 2.0,
                "settle_time": 1.0,
                "duration": 20.0,
                "snapshot_interval": 1.0,
            },
            "ingest": {"factor": 2, "split": {"decorrelation_turnovers": 0.5}},
        },
        "thicker": {
            "role": "test_only",
            "simulate": {
                "cells": 16,
                "viscosity": 0.08,
                "seeds": [7],
                "spin_up_time": 2.0,
                "settle_time": 1.0,
                "duration": 8.0,
                "snapshot_interval": 2.0,
            },
            "ingest": {"factor": 2},
        },
    },
    "models": {
        "nearest": None,
        "spectral": {"label": "Fourier"},
        "strict": {"options": {"group": "Oh", "channels": 1, "blocks": 0}},
        "cnn": {"options": {"blocks": 0}},
    },
    "budget": {"like": "strict"},
    "train": {"samples_per_epoch": 4, "batch_size": 2, "max_epochs": 3},
    "learning_curve": {"sizes": [4], "models": ["cnn"]},
    "compare": {"metrics": ["nrmse", "spectrum", "equivariance"], "resamples": 500},
}


def write_tiny_study(folder: Path, output: str = "study", **changes) -> Path:
    """Write the tiny study to ``folder/<output>.yaml``, its output going to ``folder/<output>``."""
    path = folder / f"{output}.yaml"
    path.write_text(yaml.safe_dump({**TINY_STUDY, **changes, "output": str(folder / output)}))
    return path
