"""Names that must be registered somewhere, or refer to another: checked before the first hour of work, not after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flowsr.compare.findings import BEST_INTERPOLATION
from flowsr.config.study import DEFAULT_REFERENCES, Experiment, Study
from flowsr.data.degrade import DEGRADE_OPERATORS
from flowsr.errors import FlowsrError
from flowsr.metrics import METRICS, chosen_metrics
from flowsr.models import MODELS, options_of
from flowsr.registry import suggestion
from flowsr.train import Network


def check_experiment(experiment: Experiment) -> None:
    """Look up every model, loss, metric and operator that the experiment names.

    Raises:
        FlowsrError: the first that is unknown (with a suggestion), that is in the wrong place, or that is used twice.
    """
    DEGRADE_OPERATORS[experiment.ingest.operator]
    _check_losses(experiment.train.loss)
    for name, entry in experiment.train.models.items():
        if not MODELS[entry.model].trainable:
            raise FlowsrError(
                f"model '{entry.model}' has nothing to train",
                variable=f"train.models.{name}",
                hint="list it in compare.baselines",
            )
        if name in experiment.compare.baselines:
            raise FlowsrError(
                "a network is called like a baseline", variable=f"train.models.{name}", hint="call it otherwise"
            )
        _check_network(entry, f"train.models.{name}.options")
    for baseline in experiment.compare.baselines:
        if MODELS[baseline].trainable:
            raise FlowsrError(
                f"model '{baseline}' needs training", variable="compare.baselines", hint="list it in train.models"
            )
    chosen_metrics(experiment.compare.metrics)


def check_factor(experiment: Experiment) -> None:
    """Refuse, before anything is computed, pairs that no model takes."""
    if not isinstance(experiment.ingest.factor, int):
        raise FlowsrError(
            "models have one factor",
            variable="ingest.factor",
            expected="one number, such as 4",
            found=list(experiment.ingest.factor),
            hint="flowsr ingest alone makes pairs with three",
        )


def check_study(study: Study) -> None:
    """Look up every name in the study that is registered somewhere or refers to another.

    Raises:
        FlowsrError: the first that is unknown or in the wrong place.
    """
    trained = {name for name, entry in study.models.items() if MODELS[entry.model].trainable}
    for name, entry in study.models.items():
        _check_network(entry, f"models.{name}.options")
        if name in trained:
            _check_losses(study.training_of(name).loss)
        elif entry.train:
            raise FlowsrError(f"model '{entry.model}' has nothing to train", variable=f"models.{name}.train")
    for name, data in study.data.items():
        DEGRADE_OPERATORS[data.ingest.operator]
        for path in data.ingest.inputs or ():
            if not path.exists():
                raise FlowsrError("no such file", file=path, variable=f"data.{name}.ingest.inputs")
    curve, budget = study.learning_curve, study.budget
    for where, names in (
        ("learning_curve.models", (curve and curve.models) or ()),
        ("budget.like", [budget.like] if budget and budget.like else ()),
        ("budget.free", budget.free if budget else ()),
    ):
        for name in names:
            if name not in trained:
                raise FlowsrError(
                    f"model '{name}' has nothing to train", variable=where, expected=", ".join(sorted(trained))
                )
    for reference in study.compare.references:
        if reference not in (BEST_INTERPOLATION, *study.models, *DEFAULT_REFERENCES):
            raise FlowsrError(
                f"no model '{reference}' to compare with",
                variable="compare.references",
                expected="best_interpolation or one of " + ", ".join(study.models),
            )
    measured = [key for name in chosen_metrics(study.compare.metrics) for key in METRICS[name].scalars]
    if study.compare.rank_by not in measured:
        raise FlowsrError(
            f"no scalar '{study.compare.rank_by}' is measured",
            variable="compare.rank_by",
            expected="one of " + ", ".join(measured),
            hint=suggestion(study.compare.rank_by, measured),
        )


def _check_losses(losses: Iterable[str]) -> None:
    from flowsr.train.losses import LOSSES

    for loss in losses:
        LOSSES[loss]


def _check_network(entry: Network, variable: str) -> None:
    """Look up names of a registered model's options, and refuse those that the data decide."""
    options: Mapping[str, object] = entry.options
    if decided := {"factor", "irreps", "scale"} & options.keys():
        raise FlowsrError("these options follow from the data", variable=variable, found=", ".join(sorted(decided)))
    known = [*options_of(entry.model), "frames", "target_frame"]
    for option in options:
        if option not in known:
            raise FlowsrError(
                f"model '{entry.model}' has no option '{option}'",
                variable=variable,
                expected="one of " + ", ".join(known),
                hint=suggestion(option, known),
            )
