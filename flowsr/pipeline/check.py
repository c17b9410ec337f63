"""Names in an experiment that must be registered somewhere: checked before the first hour of work, not after it."""

from __future__ import annotations

from collections.abc import Iterable

from flowsr.config.schema import Experiment
from flowsr.data.degrade import DEGRADE_OPERATORS
from flowsr.errors import FlowsrError
from flowsr.metrics import chosen_metrics
from flowsr.models import MODELS, options_of
from flowsr.registry import suggestion


def check_names(experiment: Experiment) -> None:
    """Look up every model, loss, metric and operator that the experiment names.

    Raises:
        FlowsrError: the first that is unknown (with a suggestion), that is in the wrong place, or that is used twice.
    """
    from flowsr.train.losses import LOSSES

    DEGRADE_OPERATORS[experiment.ingest.operator]
    for loss in experiment.train.loss:
        LOSSES[loss]
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
        decided = {"factor", "irreps", "scale"} & entry.options.keys()
        if decided:
            raise FlowsrError(
                "these options follow from the data",
                variable=f"train.models.{name}.options",
                found=", ".join(sorted(decided)),
            )
        check_options(entry.model, entry.options, f"train.models.{name}.options")
    for baseline in experiment.compare.baselines:
        if MODELS[baseline].trainable:
            raise FlowsrError(
                f"model '{baseline}' needs training", variable="compare.baselines", hint="list it in train.models"
            )
    chosen_metrics(experiment.compare.metrics)


def check_options(model: str, options: Iterable[str], variable: str) -> None:
    """Look up names of a registered model's options.

    Raises:
        FlowsrError: an unknown model, or the first option that it does not take (with a suggestion).
    """
    known = [*options_of(model), "frames", "target_frame"]
    for option in options:
        if option not in known:
            raise FlowsrError(
                f"model '{model}' has no option '{option}'",
                variable=variable,
                expected="one of " + ", ".join(known),
                hint=suggestion(option, known),
            )
