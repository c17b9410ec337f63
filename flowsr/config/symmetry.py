"""Settings of a symmetry discovery: which data, which task, how it is tested."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from flowsr.config.base import Settings
from flowsr.config.load import apply_overrides, first_problem, read_yaml
from flowsr.config.simulate import SimulateSettings


class ProbeSettings(Settings):
    """The small network."""

    channels: PositiveInt = Field(4, description="Regular channels, each with 48 values a cell.")
    hidden: NonNegativeInt = Field(0, description="Group convolutions between lifting and projection.")
    kernel_size: PositiveInt = Field(3, description="Taps along a side of the filters; odd.")
    filter_banks: PositiveInt = Field(1, description="Banks per layer, each with 48 relaxed weights.")
    activation: Literal["silu", "gelu", "relu"] = "silu"


class ProbeTraining(Settings):
    """How its filters are fitted."""

    epochs: PositiveInt = Field(10, description="Passes over the snapshots.")
    batch: PositiveInt = Field(4, description="Snapshots per step.")
    learning_rate: PositiveFloat = 1e-2


class SymmetrySettings(Settings):
    """One discovery: one kind of data, one task, one output folder."""

    name: str = Field(description="Shown in the report.")
    output: Path = Field(description="Folder that everything is written to.")
    task: Literal["dynamics", "superres", "pair"] = Field(
        description="What is learned: later from earlier, fine from coarse, or target from input."
    )
    inputs: list[Path] | None = Field(
        None, min_length=1, description="Files, one a run; default: what `simulate` makes."
    )
    simulate: SimulateSettings | None = Field(None, description="Turbulence to make first, where there are no inputs.")
    variable: str = Field("velocity", description="Variable of the input.")
    target: str | None = Field(None, description="Variable of the target (task pair).")
    operator: str = Field(
        "block_mean",
        description="How fine fields are made coarse (task superres); of no account for stores that hold both.",
    )
    factor: PositiveInt = Field(2, description="Coarse cell size over fine cell size (task superres).")
    coarsen: PositiveInt = Field(1, description="Block mean before anything else: smaller fields, less to compute.")
    step: PositiveInt = Field(1, description="Snapshots from input to target (task dynamics).")
    memory: NonNegativeFloat | None = Field(
        None,
        description="Time after which snapshots of one run count as independent; default: two eddy turnover times, "
        "measured.",
    )
    seeds: list[int] = Field([0, 1, 2, 3], min_length=1, description="Of the networks.")
    exact: bool = Field(False, description="Data without noise: no null, anything above rounding counts.")
    false_alarm_rate: float = Field(0.05, gt=0, lt=1, description="Chance of calling isotropic data anisotropic.")
    draws: PositiveInt = Field(499, description="Random data sets per subgroup.")
    penalty: Literal["none", "symmetric", "sparse"] = Field("none", description="On the reported weights.")
    strength: NonNegativeFloat = Field(0.1, description="Of the penalty, in units of the mean curvature of the loss.")
    network: ProbeSettings = ProbeSettings()
    training: ProbeTraining = ProbeTraining()
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is a device.")
    threads: int | None = Field(None, ge=1, le=4096, description="CPU threads; default: all cores.")

    @model_validator(mode="after")
    def _complete(self):
        if (self.inputs is None) == (self.simulate is None):
            raise ValueError("give either inputs or simulate")
        if (self.task == "pair") != (self.target is not None):
            raise ValueError("target goes with the task pair, and the task pair with a target")
        if (self.draws + 1) * self.false_alarm_rate < 1:
            raise ValueError(f"{self.draws} draws cannot show a rate of {self.false_alarm_rate}")
        if self.network.kernel_size % 2 == 0:
            raise ValueError("the kernel size must be odd")
        return self


def load_symmetry(path: str | Path, overrides: Sequence[str] = ()) -> SymmetrySettings:
    """The discovery described by a YAML file; ``extends`` and overrides as for an experiment.

    Raises:
        FlowsrError: no such file, YAML that does not parse, an unknown key or a wrong value.
    """
    return parse_symmetry(apply_overrides(read_yaml(Path(path)), overrides), source=path)


def parse_symmetry(values: dict[str, Any], source: object = None) -> SymmetrySettings:
    """Validate a nested dictionary of settings; ``source`` is the file named in errors."""
    try:
        return SymmetrySettings.model_validate(values)
    except ValidationError as error:
        raise first_problem(error, SymmetrySettings, source) from None


def dump_symmetry(settings: SymmetrySettings) -> str:
    """The resolved settings as YAML, every default written out."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)
