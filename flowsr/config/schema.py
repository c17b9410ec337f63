"""Every setting of an experiment, typed: one pydantic model per stage.

The same models are read from YAML, overridden with ``--set`` and shown as typed forms by Prefect. They stop at the
jobs' doors: inside, functions take plain arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from flowsr.config.base import Settings
from flowsr.data.pairs import Ingest
from flowsr.simulate.settings import Simulation
from flowsr.train.settings import Training


class UpscaleSettings(Settings):
    """Trained models over whole fields, tile by tile."""

    tile: PositiveInt = Field(32, description="Coarse cells along a tile's side.")


class CompareSettings(Settings):
    """Everybody on the same held-out snapshots."""

    baselines: list[str] = Field(["nearest", "trilinear", "tricubic", "spectral"], description="Untrained models.")
    metrics: list[str] | None = Field(
        None, min_length=1, description="Registered metrics, or all; default: the standard ones."
    )


class Experiment(Settings):
    """One experiment: five stages, one output folder."""

    name: str = Field(description="Shown in reports and in Prefect.")
    output: Path = Field(description="Folder that everything is written to.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of initialisation and patch sampling.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is a device.")
    threads: int | None = Field(None, ge=1, le=4096, description="CPU threads; default: all cores.")
    simulate: Simulation = Simulation()
    ingest: Ingest = Ingest()
    train: Training = Training()
    upscale: UpscaleSettings = UpscaleSettings()
    compare: CompareSettings = CompareSettings()
