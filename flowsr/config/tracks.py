"""Settings of a comparison on particles: flows, clouds in them, classical methods and networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, PositiveInt, ValidationError, model_validator

from flowsr.config.study import LearningCurveSettings, Name, Settings, StudyCompareSettings
from flowsr.errors import FlowsrError
from flowsr.settings import apply_overrides, first_problem, read_yaml
from flowsr.simulate.settings import Simulation
from flowsr.tracks.classical import METHODS
from flowsr.tracks.network import NetworkOptions
from flowsr.tracks.particles import Seeding
from flowsr.train.settings import Schedule

#: A file with this key is a comparison on particles.
TRACKS_KEY = "particles"
_SCHEDULE = Schedule(samples_per_epoch=25, batch_size=1, learning_rate=0.02, patience=1000)


class TracksStudy(Settings):
    """Turbulence is simulated, particles are seen in it, and methods and networks say what the field is between them.

    Every network is trained once per seed, on clouds of all densities and noises together; all are tested on the same
    clouds of a run that none has seen.
    """

    name: str = Field(description="Shown in reports.")
    output: Path = Field(description="Folder that everything is written to.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is a device.")
    workers: PositiveInt | None = Field(None, description="Processes; default: one per core, one where there is CUDA.")
    threads: PositiveInt = Field(1, description="CPU threads of each process.")
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)] = Field(
        [0, 1, 2], description="Each network is trained once per seed of its weights and draws."
    )
    simulate: Simulation = Simulation()
    particles: Seeding = Seeding()
    methods: list[str] = Field(["linear", "bspline", "solenoidal"], description="Methods without training.")
    networks: dict[Name, NetworkOptions] = Field({}, description="Networks, by the name they carry.")
    train: Schedule = Field(
        _SCHEDULE, description="How every network is fitted; losses and patches are not asked of it."
    )
    learning_curve: LearningCurveSettings | None = Field(None, description="Sizes are clouds per condition.")
    compare: StudyCompareSettings = StudyCompareSettings(
        rank_by="vorticity_error", references=["bspline", "solenoidal"], decorrelation_turnovers=1.0
    )

    @model_validator(mode="after")
    def _fits(self) -> TracksStudy:
        for name in self.methods:
            if name not in METHODS or name == "network":
                raise ValueError(f"methods names '{name}', which is none of {', '.join(METHODS)} without training")
        if shared := set(self.methods) & set(self.networks):
            raise ValueError(f"networks and methods share the name {', '.join(sorted(shared))}")
        if self.networks and len(self.simulate.seeds) < 2:
            raise ValueError("simulate.seeds names 2 runs or more: the last is for the test")
        takes = [name for name, network in self.networks.items() if network.accelerations]
        takes += [name for name in self.methods if name == "navier_stokes"]
        if takes and not self.particles.accelerations:
            raise ValueError(f"'{takes[0]}' takes accelerations: particles.accelerations must be true")
        curve = self.learning_curve
        if curve is not None and (curve.data is not None or max(curve.sizes) >= self.particles.clouds):
            raise ValueError(f"learning_curve has sizes below particles.clouds, {self.particles.clouds}, and no data")
        for name in (curve and curve.models) or ():
            if name not in self.networks:
                raise ValueError(f"learning_curve.models names '{name}', which is none of {', '.join(self.networks)}")
        known = {"best_interpolation", *METHODS, *self.networks}  # a method that is not asked for is no reference
        for name in self.compare.references:
            if name not in known:
                raise ValueError(f"compare.references names '{name}', which is none of {', '.join(sorted(known))}")
        if self.train.batch_size != 1:
            raise ValueError("train.batch_size is 1, a cloud; particles.points says how many places of it")
        return self


def is_tracks(path: str | Path) -> bool:
    """Whether a YAML file is a comparison on particles, by its key ``particles``."""
    return TRACKS_KEY in read_yaml(Path(path))


def load_tracks(path: str | Path, overrides: Sequence[str] = ()) -> TracksStudy:
    """The comparison described by a YAML file; as :func:`flowsr.config.study.load_study`."""
    return parse_tracks(apply_overrides(read_yaml(Path(path)), overrides), source=path)


def parse_tracks(values: dict[str, Any], source: object = None) -> TracksStudy:
    """Validate a nested dictionary of settings; ``source`` is the file named in errors."""
    if isinstance(values.get("train"), dict):
        values = {**values, "train": {**{"samples_per_epoch": 25, "batch_size": 1}, **values["train"]}}
    try:
        return TracksStudy.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        if problem["type"] == "value_error" and not problem["loc"]:
            raise FlowsrError(problem["msg"].removeprefix("Value error, "), file=source) from None
        raise first_problem(error, TracksStudy, source) from None


def dump_tracks(study: TracksStudy) -> str:
    """The resolved comparison as YAML, every default written out."""
    return yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)
