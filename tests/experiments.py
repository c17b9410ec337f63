"""The smallest experiment that is a real one: 16^3 turbulence, three networks, all five stages in seconds."""

from __future__ import annotations

from pathlib import Path

import yaml

TINY = {
    "name": "tiny",
    "threads": 1,
    "device": "cpu",
    "simulate": {
        "cells": 16,
        "viscosity": 0.05,
        "seeds": [0, 1],
        "spin_up_time": 2.0,
        "settle_time": 1.0,
        "duration": 16.0,
        "snapshot_interval": 1.0,
    },
    "ingest": {"factor": 2, "split": {"decorrelation_turnovers": 1.0}},
    "train": {
        "models": {
            "relaxed": {"model": "relaxed", "options": {"channels": 1}},
            "cnn": {"model": "cnn", "match_parameters": "relaxed"},
        },
        "samples_per_epoch": 4,
        "batch_size": 2,
        "max_epochs": 3,
    },
    "compare": {"baselines": ["nearest", "spectral"]},
}


def write_tiny(folder: Path, output: str = "run") -> Path:
    """Write the tiny experiment to ``folder/tiny.yaml``, its output going to ``folder/<output>``."""
    path = folder / f"{output}.yaml"
    path.write_text(yaml.safe_dump({**TINY, "output": str(folder / output)}))
    return path
