"""What the settings of an experiment or a study decide alone, looked at before the first hour and not after it.

Names that are registered somewhere or refer to another; and, of what is simulated here, whose grid and times are known
beforehand: factor, operator, patches, losses, networks and splits, by the rules that the stages themselves go by.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from flowsr.compare.findings import BEST_INTERPOLATION
from flowsr.config.study import DEFAULT_REFERENCES, Experiment, Study
from flowsr.data import grid_of
from flowsr.data.degrade import DEGRADE_OPERATORS, SymmetryWarning
from flowsr.data.independence import split_times
from flowsr.data.pairs import Ingest, Input
from flowsr.data.patches import fit_patch, patch_grid
from flowsr.devices import resolve_device
from flowsr.errors import FlowsrError, missing_file, require
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import axis_action
from flowsr.metrics import METRICS, chosen_metrics
from flowsr.models import MODELS, Upscaler, options_of
from flowsr.registry import suggestion
from flowsr.simulate import Simulation
from flowsr.simulate.job import template_of
from flowsr.train import Network, Training, card_for
from flowsr.train.fit import check_loggers, check_penalty
from flowsr.train.losses import LOSSES, Objective
from flowsr.train.ranks import launched
from flowsr.windows import Window

#: The option ``group`` of a network that is built on what is found in its training data.
DISCOVERED = "discovered"
#: A run of more is taken to be long enough to be split: all divisions of it are many.
MANY_SNAPSHOTS = 2000


def check_names(settings: Experiment | Study) -> None:
    """Look up every name that is registered somewhere or refers to another.

    Raises:
        FlowsrError: the first that is unknown (with a suggestion), in the wrong place, or used twice.
    """
    (_check_experiment if isinstance(settings, Experiment) else _check_study)(settings)


def check_training(training: Training, device: str) -> None:
    """Refuse what cannot be trained on this machine.

    Raises:
        FlowsrError: a logger that is not installed, more CUDA devices than there are, or several machines without a
            launcher.
    """
    check_loggers(training)
    there = torch.cuda.device_count()
    enough = training.devices == 1 or resolve_device(device) == "cpu" or training.devices <= there
    require(enough, "not so many CUDA devices", variable="train.devices", expected=there, found=training.devices)
    hint = "start the command with torchrun or srun on every one, see docs/models.md"
    alone = training.nodes > 1 and launched() is None
    require(not alone, "several machines need a launcher", variable="train.nodes", found=training.nodes, hint=hint)


def check_simulated(
    simulate: Simulation, ingest: Ingest, networks: Mapping[str, tuple[Network, Training]], where: str = ""
) -> None:
    """Refuse pairs, patches and networks that do not go with a field that is still to be simulated.

    Args:
        simulate: the flow.
        ingest: how it becomes pairs.
        networks: what is trained on them, and how, by name.
        where: what stands before the names of settings, ``data.isotropic.``.

    Raises:
        FlowsrError: the first setting that cannot be.
    """
    fine = template_of(simulate, 0)
    for name in ingest.needed:
        message, expected = "this flow has no such variable", ", ".join(map(str, fine.data_vars))
        variable = f"{where}ingest.{'weight' if name == ingest.weight else 'variable'}"
        require(name in fine.data_vars, message, variable=variable, expected=expected, found=name)
    with _named(f"{where}ingest.factor", factor=True), warnings.catch_warnings():
        warnings.simplefilter("ignore", SymmetryWarning)  # said when it is done
        coarse = grid_of(ingest.degraded(fine))
    rule, times = ingest.split, simulate.snapshot_times
    known = rule.turnover_time or 0.0  # otherwise the gaps are known when it is measured
    fewest = len(times)
    if fewest <= MANY_SNAPSHOTS:
        with _named(f"{where}ingest.split"):
            fewest = min(len(snapshots) for snapshots in split_times(times, known, rule).values())
    irreps = fine[ingest.variable].attrs["irreps"]
    pairing = _Pairing(ingest.factor, irreps, ingest.operator, ingest.weight, coarse)
    for name, (network, training) in networks.items():
        _check_fit(name, network, training, pairing)
        message, expected = "a split has fewer snapshots than a network has frames", f"at most {fewest}"
        require(training.frames <= fewest, message, variable="train.frames", expected=expected, found=training.frames)


@dataclass(frozen=True)
class _Pairing:
    """What a network has to know of pairs that are not there yet."""

    factor: int
    irreps: str
    operator: str
    weight: str | None
    box: Grid


def _check_fit(name: str, network: Network, training: Training, pairing: _Pairing) -> None:
    box = pairing.box
    with _named("train.patch", patch=True):
        patch, halo = fit_patch(box, training.patch, training.patch_halo)
    model = built(name, network, pairing, training.window, box)
    whole, where = patch == box.shape, f"train.models.{name}"
    message = f"network '{name}' needs whole boxes"
    require(model.halo is not None or whole, message, variable="train.patch", expected="null", found=training.patch)
    try:
        model.check_grid(patch_grid(box, patch, halo))
    except ValueError as error:
        raise FlowsrError(f"network '{name}' is not for this box", variable=where, found=str(error)) from None
    for length, side, edge in zip(patch, box.shape, halo, strict=True):
        seen = length if length == side else length - 2 * ((model.halo or 0) - edge)
        message = f"network '{name}' sees beyond its patch from every cell of it"
        needed = f"more than {2 * ((model.halo or 0) - edge)}, or a larger patch_halo"
        require(seen > 0, message, variable="train.patch", expected=needed, found=f"{length} and a halo of {edge}")
    Objective(training.loss, patch_grid(box.refined(pairing.factor), [n * pairing.factor for n in patch]), model.irreps)
    if network.options.get("group") != DISCOVERED:  # whose irreps are not known yet
        check_penalty(model, training)


def built(name: str, network: Network, pairs: Path | _Pairing, window: Window, box: Grid) -> Upscaler:
    """A network with fresh weights; in place of a group still to be discovered it has all of O_h that keeps the walls.

    Args:
        pairs: their folder, or what is known before.
        box: coarse.

    Raises:
        FlowsrError: options that it does not take, under its name.
    """
    if network.options.get("group") == DISCOVERED:
        group, sides = octahedral_group("Oh"), box.boundary
        kept = [g for g in range(group.order) if tuple(sides[a] for a in axis_action(g, group)[0]) == sides]
        network = replace(network, options={**network.options, "group": group.subgroup(kept).label})
    with _named(f"train.models.{name}"):
        card = card_for(network, pairs, window)
        try:
            return card.build()
        except (TypeError, ValueError) as error:
            raise FlowsrError(f"model '{card.model}' does not take these options", found=error) from None


@contextmanager
def _named(variable: str, **only: bool) -> Iterator[None]:
    """Errors inside are about this setting; with ``only``, those that name one of these variables are."""
    try:
        yield
    except FlowsrError as error:
        prefix = variable.rpartition(".")[0]
        own = variable if not only or error.variable in only else f"{prefix}.{error.variable}"
        told = {"expected": error.expected, "found": error.found, "hint": error.hint}
        raise type(error)(error.message, variable=own, **told) from None


def _check_experiment(experiment: Experiment) -> None:
    DEGRADE_OPERATORS[experiment.ingest.operator]
    for loss in experiment.train.loss:
        LOSSES[loss]
    baselines = experiment.compare.baselines
    for name, entry in experiment.train.models.items():
        variable, message = f"train.models.{name}", f"model '{entry.model}' has nothing to train"
        require(MODELS[entry.model].trainable, message, variable=variable, hint="list it in compare.baselines")
        message = "a network is called like a baseline"
        require(name not in baselines, message, variable=variable, hint="call it otherwise")
        _check_network(entry, f"{variable}.options")
    for baseline in baselines:
        message, hint = f"model '{baseline}' needs training", "list it in train.models"
        require(not MODELS[baseline].trainable, message, variable="compare.baselines", hint=hint)
    chosen_metrics(experiment.compare.metrics)


def _check_study(study: Study) -> None:
    trained = {name for name, entry in study.models.items() if MODELS[entry.model].trainable}
    for name, entry in study.models.items():
        _check_network(entry, f"models.{name}.options")
        if name in trained:
            for loss in study.training_of(name).loss:
                LOSSES[loss]
        elif entry.train:
            raise FlowsrError(f"model '{entry.model}' has nothing to train", variable=f"models.{name}.train")
    for name, data in study.data.items():
        DEGRADE_OPERATORS[data.ingest.operator]
        for path in [Input.of(one).path for one in data.ingest.inputs or ()]:
            if not path.exists():
                raise missing_file(path, variable=f"data.{name}.ingest.inputs")
    curve, budget = study.learning_curve, study.budget
    for where, names in (
        ("learning_curve.models", (curve and curve.models) or ()),
        ("budget.like", [budget.like] if budget and budget.like else ()),
        ("budget.free", budget.free if budget else ()),
    ):
        for name in names:
            message, expected = f"model '{name}' has nothing to train", ", ".join(sorted(trained))
            require(name in trained, message, variable=where, expected=expected)
    asked, expected = study.compare, "best_interpolation or one of " + ", ".join(study.models)
    for reference in asked.references:
        known = reference in (BEST_INTERPOLATION, *study.models, *DEFAULT_REFERENCES)
        message = f"no model '{reference}' to compare with"
        require(known, message, variable="compare.references", expected=expected)
    measured = [key for name in chosen_metrics(asked.metrics) for key in METRICS[name].scalars]
    message, hint = f"no scalar '{asked.rank_by}' is measured", suggestion(asked.rank_by, measured)
    expected = "one of " + ", ".join(measured)
    require(asked.rank_by in measured, message, variable="compare.rank_by", expected=expected, hint=hint)


def _check_network(entry: Network, variable: str) -> None:
    """Look up names of a registered model's options, and refuse those that the data decide."""
    decided = sorted({"factor", "irreps", "scale"} & entry.options.keys())
    require(not decided, "these options follow from the data", variable=variable, found=", ".join(decided))
    said = {f"options.{name}": value for name, value in entry.options.items() if name != "group"}
    said |= {f"base.{name}": value for name, value in (entry.base or {}).items()}
    for name, value in said.items():
        message, hint = "a group is discovered for options.group alone", "a base without a group takes over that one"
        where = f"{variable.removesuffix('options')}{name}"
        require(value != DISCOVERED, message, variable=where, expected="the name of a group", found=value, hint=hint)
    known = [*options_of(entry.model), "frames", "target_frame"]
    for option in entry.options:
        message, expected = f"model '{entry.model}' has no option '{option}'", "one of " + ", ".join(known)
        require(option in known, message, variable=variable, expected=expected, hint=suggestion(option, known))
