"""Every setting of an experiment and of a study: what the jobs declare, put together, and read from YAML.

A study is models x data x training sizes x seeds, compared as one; an experiment is a study of one data set and seed,
with its five stages. The same classes are read from YAML, overridden with ``--set`` and shown as forms by Prefect. They
stop at the plan (:mod:`flowsr.pipeline.plan`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from flowsr.data.pairs import Ingest
from flowsr.errors import FlowsrError
from flowsr.group import point_group
from flowsr.settings import adapter, apply_overrides, first_problem, read_yaml
from flowsr.simulate.settings import Simulation
from flowsr.symmetry.discover import Discovering
from flowsr.train.settings import Network, Training

#: What every model is compared with unless the study says otherwise; a name that it does not have is passed over.
DEFAULT_REFERENCES = ["best_interpolation", "strict"]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][\w-]*$")]


#: A file with this key is a study; an experiment has no such key.
STUDY_KEY = "data"


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


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
    workers: PositiveInt | None = Field(
        1, description="Processes that steps of a stage are done in, side by side; null: one per core."
    )
    threads: int | None = Field(
        None, ge=1, le=4096, description="CPU threads of each process; default: all cores, shared by the workers."
    )
    simulate: Simulation = Simulation()
    ingest: Ingest = Ingest()
    discover: Discovering = Discovering()
    train: Training = Training()
    upscale: UpscaleSettings = UpscaleSettings()
    compare: CompareSettings = CompareSettings()


class DataSettings(Settings):
    """One flow: where it comes from, how it is degraded, what it is for."""

    role: Literal["train_and_test", "test_only"] = Field(
        "train_and_test", description="test_only: no network sees it in training; all its snapshots are for the test."
    )
    label: str | None = Field(None, description="What people read; default: its name.")
    licence: str = Field("simulated here, no licence needed", description="Licence of the data, for the model cards.")
    group: str | None = Field(
        None, description="Point group that the flow keeps, which decides what equivariance errors are put together."
    )
    simulate: Simulation = Simulation()
    ingest: Ingest = Ingest()

    @model_validator(mode="after")
    def _known_group(self) -> DataSettings:
        if self.group is not None:
            point_group(self.group)
        return self


@dataclass(frozen=True)
class StudyModel(Network):
    """One model of a study, trained or not."""

    model: str = ""
    """Registered model name; default: the name it carries here."""
    label: str | None = None
    """What people read; default: its name."""
    train: dict[str, Any] = field(default_factory=dict)
    """Settings of `train` that are this model's own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.match_parameters is not None:
            raise ValueError("no match_parameters: in a study `budget` sets the widths")


class BudgetSettings(Settings):
    """What the networks have in common: each gets the width that comes nearest to one cost."""

    by: Literal["parameters", "multiply_adds"] = Field(
        "parameters", description="parameters: fitted numbers; multiply_adds: work to upscale one snapshot."
    )
    like: Name | None = Field(None, description="The model whose cost is the budget.")
    amount: PositiveInt | None = Field(None, description="The budget as a number, instead of `like`.")
    tolerance: PositiveFloat = Field(0.5, description="Farther off than this share of the budget is an error.")
    free: list[Name] = Field([], description="Networks that keep the size their options give them.")

    @model_validator(mode="after")
    def _one_of_two(self):
        if (self.like is None) == (self.amount is None):
            raise ValueError("either `like` or `amount`")
        return self


class LearningCurveSettings(Settings):
    """The same networks trained on fewer snapshots."""

    sizes: Annotated[list[PositiveInt], Field(min_length=1)] = Field(description="Numbers of training snapshots.")
    models: list[Name] | None = Field(None, description="Networks; default: all.")
    data: list[Name] | None = Field(None, description="Data sets; default: all that are trained on.")


class StudyCompareSettings(Settings):
    """What is measured, and against whom."""

    metrics: list[str] | None = Field(None, min_length=1, description="Registered metrics; default: the standard ones.")
    rank_by: str = Field("nrmse", description="The scalar that orders the table and that curves are drawn of.")
    references: list[str] = Field(
        DEFAULT_REFERENCES,
        description="Every model's difference to these is tested: best_interpolation, or the name of a model.",
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Of the intervals.")
    resamples: PositiveInt = Field(4000, ge=100, description="Of the bootstrap.")
    decorrelation_turnovers: float = Field(
        1.0, gt=0, description="Snapshots closer than this are one block, in turnover times."
    )
    equivariance_snapshots: PositiveInt = Field(1, description="Snapshots for the equivariance error, 49 calls each.")


class Study(Settings):
    """A comparison that runs everything it needs: flows, networks, seeds, table."""

    name: str = Field(description="Shown in reports and in Prefect.")
    output: Path = Field(description="Folder that everything is written to.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is a device.")
    workers: PositiveInt | None = Field(None, description="Processes; default: one per core, one where there is CUDA.")
    threads: PositiveInt = Field(1, description="CPU threads of each process.")
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1)] = Field(
        [0, 1, 2], description="Each network is trained once per seed of its weights and patches."
    )
    licence: str = Field("MIT", description="Licence of the weights, for the model cards.")
    data: dict[Name, DataSettings] = Field(min_length=1, description="Data sets, by name.")
    models: dict[Name, StudyModel] = Field(min_length=1, description="Models, by the name they carry.")
    budget: BudgetSettings | None = Field(None, description="Equal cost; default: every network as its options say.")
    discover: Discovering = Discovering()
    train: Training = Field(Training(models={}), description="How every network is fitted.")
    learning_curve: LearningCurveSettings | None = None
    compare: StudyCompareSettings = StudyCompareSettings()

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """No networks under `train`; a model may be just its name, and `false` is none; nor is a data set of null."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if isinstance(values.get("train"), dict):
            values["train"] = {"models": {}, **values["train"]}
        if isinstance(values.get("data"), dict):
            values["data"] = {name: entry for name, entry in values["data"].items() if entry is not None}
        if isinstance(values.get("models"), dict):
            left_out = [name for name, entry in values["models"].items() if entry is False]
            for section, key in (("budget", "free"), ("learning_curve", "models"), ("compare", "references")):
                listed = values.get(section)
                if isinstance(listed, dict) and isinstance(listed.get(key), list):
                    values[section] = {**listed, key: [name for name in listed[key] if name not in left_out]}
            values["models"] = {
                name: {"model": name, **(entry or {})} if entry is None or isinstance(entry, dict) else entry
                for name, entry in values["models"].items()
                if entry is not False
            }
        return values

    @model_validator(mode="after")
    def _names_exist(self) -> Study:
        if self.train.models:
            raise ValueError("networks stand under `models`, not under `train.models`")
        trained = [name for name, data in self.data.items() if data.role == "train_and_test"]
        if not trained:
            raise ValueError("at least one data set must have the role train_and_test")
        curve = self.learning_curve
        for where, wanted, known in (
            ("learning_curve.models", curve and curve.models, self.models),
            ("learning_curve.data", curve and curve.data, trained),
            ("budget.like", self.budget and self.budget.like and [self.budget.like], self.models),
            ("budget.free", self.budget and self.budget.free, self.models),
        ):
            for name in wanted or ():
                if name not in known:
                    raise ValueError(f"{where} names '{name}', which is none of {', '.join(known)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("each seed once")
        for name in self.models:
            self.training_of(name)
        return self

    @property
    def trained_data(self) -> list[str]:
        """Names of the data sets that networks are trained on."""
        return [name for name, data in self.data.items() if data.role == "train_and_test"]

    def training_of(self, model: str) -> Training:
        """How one model is fitted: the study's settings under its own."""
        own = self.models[model].train
        if "models" in own:
            raise ValueError(f"models.{model}.train sets `models`")
        try:
            return adapter(Training).validate_python({**asdict(self.train), **own})
        except ValidationError as error:
            raise ValueError(f"models.{model}.train: {first_problem(error, Training, None)}") from None


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment described by a YAML file.

    Args:
        path: the YAML file. Its ``extends: other.yaml`` (relative to itself) is read first, then overridden by key.
        overrides: ``a.b=value`` strings, values in YAML syntax, applied last.

    Raises:
        FlowsrError: no such file, YAML that does not parse, a study, an unknown key or a wrong value.
    """
    values = apply_overrides(read_yaml(Path(path)), overrides)
    if STUDY_KEY in values:
        raise FlowsrError(
            f"a study (it has the key '{STUDY_KEY}'), not an experiment", file=path, hint=f"flowsr compare {path}"
        )
    return parse_experiment(values, source=path)


def parse_experiment(values: dict[str, Any], source: object = None) -> Experiment:
    """Validate a nested dictionary of settings; ``source`` is the file named in errors."""
    try:
        return Experiment.model_validate(values)
    except ValidationError as error:
        raise first_problem(error, Experiment, source) from None


def dump_experiment(experiment: Experiment) -> str:
    """The resolved experiment as YAML, every default written out."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)


def is_study(path: str | Path) -> bool:
    """Whether a YAML file is a study, by its key ``data``.

    Raises:
        FlowsrError: a file that cannot be read or is not YAML.
    """
    return STUDY_KEY in read_yaml(Path(path))


def load_study(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """The study described by a YAML file; as :func:`load_experiment`.

    Raises:
        FlowsrError: no such file, YAML that does not parse, an unknown key (with a suggestion) or a wrong value.
    """
    return parse_study(apply_overrides(read_yaml(Path(path)), overrides), source=path)


def parse_study(values: dict[str, Any], source: object = None) -> Study:
    """Validate a nested dictionary of settings; ``source`` is the file named in errors."""
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        raise _problem(error, source) from None


def dump_study(study: Study) -> str:
    """The resolved study as YAML, every default written out."""
    values = study.model_dump(mode="json")
    del values["train"]["models"]
    return yaml.safe_dump(values, sort_keys=False)


def _problem(error: ValidationError, source: object) -> FlowsrError:
    """The first problem; where a rule of the study as a whole is broken, that rule and not the study's content."""
    problem = error.errors(include_url=False)[0]
    if problem["type"] == "value_error" and not problem["loc"]:
        return FlowsrError(problem["msg"].removeprefix("Value error, "), file=source)
    return first_problem(error, Study, source)
