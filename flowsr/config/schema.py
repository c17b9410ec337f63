"""Every setting of an experiment, typed: one pydantic model per stage.

The same models are read from YAML, overridden with ``--set`` and shown as typed forms by Prefect. They stop at the
jobs' doors: inside, functions take plain arguments.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_serializer, model_validator

from flowsr.config.base import Settings
from flowsr.config.simulate import SimulateSettings
from flowsr.data.pairs import Ingest


class ModelSettings(Settings):
    """One model to train: a registered name and its options."""

    model: str = Field(description="Registered model name (`flowsr models` lists them).")
    options: dict[str, Any] = Field({}, description="Options of that model.")
    match_parameters: str | None = Field(
        None, description="Name of another trained model: choose the width that comes nearest to its parameter count."
    )
    augment: Literal["O", "Oh"] | None = Field(
        None, description="Turn every training patch by a random element of this group; default: as they are."
    )
    constraints: list[Literal["data_consistency", "solenoidal"]] = Field(
        [], description="Physics the output obeys exactly: its degraded field is the input, it has no divergence."
    )

    def own_options(self) -> dict[str, Any]:
        """The model's options, constraints among them."""
        return {**self.options, **({"constraints": self.constraints} if self.constraints else {})}


class TrainSettings(Settings):
    """How the networks are fitted."""

    models: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_][\w.-]*$")], ModelSettings] = Field(
        {
            "relaxed": ModelSettings(model="relaxed"),
            "strict": ModelSettings(model="strict"),
            "cnn": ModelSettings(model="cnn", match_parameters="relaxed"),
        },
        description="Networks to train, by the name they carry in the comparison.",
    )
    frames: PositiveInt = Field(
        1, description="Consecutive coarse snapshots that one fine one is made from; a model's own options go before."
    )
    target_frame: int = Field(-1, description="Which of the frames is wanted fine: 0 the oldest, -1 the latest.")
    patch: PositiveInt | None = Field(None, description="Coarse cells along a patch's side; default: the whole box.")
    patch_halo: int = Field(0, ge=0, description="Coarse cells around a patch that are seen but not scored.")
    loss: dict[str, NonNegativeFloat] = Field(
        {"l1": 1.0},
        min_length=1,
        description="Losses and their weights, 0 for none: l1, l2, gradient_l1, gradient_l2, spectrum, divergence.",
    )
    samples_per_epoch: PositiveInt = Field(64, description="Patches drawn per epoch.")
    batch_size: PositiveInt = 4
    max_epochs: PositiveInt = 30
    patience: PositiveInt = Field(10, description="Epochs without a better validation loss before stopping early.")
    learning_rate: PositiveFloat = 2e-3
    rates: Literal["equal", "by_fan_in"] = Field(
        "equal", description="by_fan_in: step sizes over what a layer sums; group networks with blocks learn by it."
    )
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "64-true"] = Field(
        "auto", description="auto: bf16 mixed precision on a device that has it, float32 elsewhere."
    )

    @model_serializer(mode="wrap")
    def _without_equal_rates(self, handler):
        """Records of fits made before there was a choice stay those of the same fit."""
        return {key: value for key, value in handler(self).items() if (key, value) != ("rates", "equal")}

    @model_validator(mode="after")
    def _target_is_a_frame(self):
        if not -self.frames <= self.target_frame < self.frames:
            raise ValueError(f"target_frame must be one of {self.frames} frames, got {self.target_frame}")
        return self


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
    simulate: SimulateSettings = SimulateSettings()
    ingest: Ingest = Ingest()
    train: TrainSettings = TrainSettings()
    upscale: UpscaleSettings = UpscaleSettings()
    compare: CompareSettings = CompareSettings()
