"""Train one network on the pairs of an experiment and leave weights, card and learning curve in a folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import signature
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import torch

from flowsr.data.field import grid_of
from flowsr.data.open import open_field
from flowsr.data.pairs import pair_stores, read_statistics
from flowsr.data.patches import Augmentation, OctahedralAugmentation, PatchPairs
from flowsr.data.store import refuse_damaged
from flowsr.devices import resolve_device
from flowsr.errors import FlowsrError
from flowsr.files import file_checksum
from flowsr.grid import Grid
from flowsr.models import MODELS, ModelCard, Task, Upscaler, options_of, save_model
from flowsr.models.averaged import as_trained
from flowsr.models.budget import matching_width, width_option
from flowsr.models.checkpoint import WEIGHTS
from flowsr.models.home import Home, measure_traits, ranges_of, spread
from flowsr.models.linear import planes_of
from flowsr.progress import SILENT, Progress
from flowsr.provenance import versions
from flowsr.train.checkpoints import discard_checkpoints
from flowsr.train.fit import Fitted, PatchPair, fit
from flowsr.train.ranks import in_company, of_first, this_rank
from flowsr.train.settings import Network, Schedule
from flowsr.train.solve import shifting, solve, solve_estimate
from flowsr.windows import Window

ONE_FRAME = Window()
#: Snapshots of a run that say what its fields are like, evenly spread.
HOME_SNAPSHOTS = 64


class Pairing(Protocol):
    """What a network has to know of pairs that are not there yet."""

    @property
    def factor(self) -> int: ...
    @property
    def irreps(self) -> str: ...
    @property
    def operator(self) -> str: ...
    @property
    def weight(self) -> str | None: ...
    @property
    def box(self) -> Grid: ...


def card_for(network: Network, pairs: Path | Pairing, window: Window = ONE_FRAME) -> ModelCard:
    """A model for the data of some pairs: they set its task, and the degrade operator where an option is to know it.

    Args:
        network: registered name and options; ``frames`` and ``target_frame`` among them go before ``window``.
        pairs: the folder of the ingest stage, or factor, field type, operator and coarse grid of one to come.
        window: frames of the model.

    Raises:
        FlowsrError: an unknown model, frames that cannot be, or data consistency for weighted means, which do not
            follow from the fine field alone.
    """
    if isinstance(pairs, (str, PathLike)):
        folder, statistics = Path(pairs), read_statistics(Path(pairs))
    else:
        folder, statistics = None, pairs
    options = dict(network.options)
    try:
        window = Window(options.pop("frames", window.frames), options.pop("target_frame", window.target))
    except (TypeError, ValueError) as error:
        raise _refused(network.model, error) from None
    task = Task(statistics.factor, statistics.irreps, window=window)
    if "operator" in options_of(network.model):
        options.setdefault("operator", statistics.operator)
    if "planes" in options_of(network.model):
        options.setdefault("planes", _planes(pairs))
    if network.base is not None:
        known = signature(MODELS[network.model]).parameters
        own = options.get("relaxed_to") or options.get("group", known["group"].default if "group" in known else "C1")
        options["base"] = {"planes": _planes(pairs), "group": own, **network.base}
    if network.average is not None:
        options["average"] = network.average
    if network.constraints:
        options["constraints"] = {name: {} for name in network.constraints}
    if "data_consistency" in network.constraints:
        if statistics.weight is not None:
            message, found = (
                "data_consistency is for means without a weight",
                f"means weighted with {statistics.weight}",
            )
            raise FlowsrError(message, file=folder, variable="constraints", found=found)
        options["constraints"]["data_consistency"] = {"operator": statistics.operator, **_stretched_centers(pairs)}
    return ModelCard(network.model, task, options)


def _stretched_centers(pairs: Path | Pairing) -> dict[str, list[list[float] | None]]:
    """The fine cells of some pairs along stretched axes, for a constraint that is to know them; empty without one."""
    if not isinstance(pairs, (str, PathLike)):
        return {}
    fine = grid_of(open_field(pair_stores(Path(pairs), "train")[0], group="fine"))
    if not any(fine.stretched):
        return {}
    axes = zip(fine.centers, fine.origin, fine.lengths, strict=True)
    shares = [None if one is None else [(c - start) / length for c in one] for one, start, length in axes]
    return {"centers": shares}


def _planes(pairs: Path | Pairing) -> tuple[int, int, int]:
    """The planes that have weights of their own in an estimate for some pairs."""
    if not isinstance(pairs, (str, PathLike)):
        return planes_of(pairs.box)
    return planes_of(grid_of(open_field(pair_stores(Path(pairs), "train")[0], group="coarse")))


def resolve_networks(networks: Mapping[str, Network], pairs: Path, window: Window = ONE_FRAME) -> dict[str, ModelCard]:
    """Every network with all that the data and matched budgets set.

    Args:
        networks: by name.
        pairs, window: see :func:`card_for`.

    Raises:
        FlowsrError: options that a model does not take, or a budget matched to an unknown or matched network.
    """
    cards = {name: card_for(network, pairs, window) for name, network in networks.items()}
    free = {name: _parameters(cards[name]) for name, network in networks.items() if network.match_parameters is None}
    for name, network in networks.items():
        if name in free:
            continue
        if network.match_parameters not in free:
            raise FlowsrError(
                "a budget is matched to a network with a width of its own",
                variable=f"train.models.{name}.match_parameters",
                expected=f"one of {', '.join(free)}",
                found=network.match_parameters,
            )
        cards[name] = _matched(cards[name], free[network.match_parameters])
    return cards


def train_model(
    card: ModelCard,
    pairs: Path | Sequence[Path],
    folder: Path,
    schedule: Schedule,
    *,
    seed: int,
    augment: str | None = None,
    device: str = "auto",
    notes: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> Fitted:
    """Fit a model and save it.

    Args:
        card: the model (:func:`resolve_networks`).
        pairs: folder of the ingest stage, or several, on equal grids: other Reynolds numbers, other operators. Each
            pair is in its own field's scales, so that they can be learned together.
        folder: receives ``model.safetensors``, ``model.json`` and ``history.jsonl``; a killed fit is resumed from here.
        schedule: patches, loss, length and step size.
        seed: of the initial weights and of the patches drawn.
        augment: transform every training patch by a random element of this group (those that keep its grid); None: not.
        device: ``auto``, ``cpu`` or ``cuda``.
        notes: what else the card is to say of the training.
        progress: told the fraction done and the losses after each epoch.

    Several ``devices`` of the schedule are as many processes, started afresh: a script that calls this has its main
    part under ``if __name__ == "__main__"``.

    Raises:
        FlowsrError: options, patches or losses that do not go with the model or the data, a fit that diverged, or one
            of several processes that was killed.
    """
    arguments = (card, pairs, folder, schedule, seed, augment, device, notes)
    return in_company(schedule.devices, schedule.nodes, _train, arguments, progress)


def _train(
    card: ModelCard,
    pairs: Path | Sequence[Path],
    folder: Path,
    schedule: Schedule,
    seed: int,
    augment: str | None,
    device: str,
    notes: Mapping[str, Any] | None,
    *,
    progress: Progress,
) -> Fitted:
    device = resolve_device(device)
    _check_operators(card, pairs)
    torch.manual_seed(seed)
    model = card.build()
    augmentation = None if augment is None else OctahedralAugmentation(augment, model.irreps)
    how = dict(window=model.window, augment=augmentation, normalize=model.needs_scales)
    how["viscosity"] = model.takes_viscosity
    patches = patch_pair(pairs, schedule, seed=seed, **how)
    _check_suits(model, patches.train)
    model.frame_spacing = patches.train.frame_spacing
    if model.solved:
        fitted = of_first(lambda: solve(model, _folders(pairs), patches, schedule, folder))
    else:
        if (base := getattr(model, "base", None)) is not None:
            solve_estimate(base, _folders(pairs), schedule)
        with as_trained(model):
            fitted = fit(model, patches, schedule, folder, device=device, progress=progress)
    if not this_rank().leads:
        return fitted
    training: dict[str, Any] = {
        "parameters": model.parameter_count,
        "best_epoch": fitted.best_epoch,
        "best_validation_loss": fitted.best_validation_loss,
        "epochs": len(fitted.history),
        "seed": seed,
        "augment": augment,
        "frame_spacing": model.frame_spacing,
        "data_sets": [each for one in _folders(pairs) for each in read_statistics(one).data_sets],
        "versions": versions(),
        **(notes or {}),
    }
    if augmentation is not None and not model.solved:
        training["turned_by"] = augmentation.words(patches.train.grid)
    if fitted.diverged_epoch is not None:
        training["diverged_epoch"] = fitted.diverged_epoch
    card = replace(card, home=measure_home(pairs))
    save_model(folder, model, replace(card, training=training))
    training["weights_sha256"] = file_checksum(folder / WEIGHTS)
    save_model(folder, model, replace(card, training=training))
    discard_checkpoints(folder)
    return fitted


def measure_home(pairs: Path | Sequence[Path]) -> Home:
    """What the coarse training snapshots of some pairs are like."""
    operators, traits = {}, []
    for folder in _folders(pairs):
        statistics = read_statistics(folder)
        operators[statistics.operator] = None
        for store in pair_stores(folder, "train"):
            dataset = open_field(store, group="coarse")
            grid, array = grid_of(dataset, store), dataset[statistics.variable]
            times = spread(len(array), HOME_SNAPSHOTS)
            traits += [measure_traits(array[time], grid, statistics.irreps, statistics.viscosity) for time in times]
    return Home(", ".join(operators), grid.boundary, any(grid.stretched), len(traits), ranges_of(traits))


def patch_pair(
    pairs: Path | Sequence[Path],
    schedule: Schedule,
    *,
    seed: int,
    window: Window = ONE_FRAME,
    augment: Augmentation | None = None,
    normalize: bool = True,
    viscosity: bool = False,
) -> PatchPair:
    """Patches of the splits ``train`` and ``validation`` under ``pairs``.

    Validation draws the same patches at every epoch: each snapshot once where a patch is the whole box, otherwise as
    many patches as cover the split's volume once.

    Args:
        pairs: folder of the ingest stage, or several.
        schedule: size, halo and number of the patches.
        seed: of the draws.
        window: frames of a coarse patch.
        augment: what transforms the training patches; those of the validation stay as they are.
        normalize: give every pair in the scales of the snapshot it is from.
        viscosity: and the viscosity, for a model that takes it.
    """

    shape = dict(patch=schedule.patch, halo=schedule.patch_halo, frames=window.frames, target_frame=window.target)
    shape |= {"normalize": normalize, "neighbours": schedule.neighbours, "viscosity": viscosity}
    shift = shifting(_folders(pairs), schedule)

    def drawn(split: str, samples: int, **changed: Any) -> PatchPairs:
        stores = [store for folder in _folders(pairs) for store in pair_stores(folder, split)]
        for store in stores:
            refuse_damaged(store, hint="make the pairs again: `flowsr ingest`")
        return PatchPairs(stores, samples=samples, seed=seed, **changed, **shape)

    train = drawn("train", schedule.samples_per_epoch, augment=augment, shift=shift)
    probe = drawn("validation", 1)
    per_snapshot = math.prod(-(-side // length) for side, length in zip(probe.box.shape, probe.patch, strict=True))
    validation = drawn("validation", len(probe.snapshots) * per_snapshot)
    return PatchPair(train, validation, train.grid, train.halo, train.fine_grid, normalize)


def _folders(pairs: Path | Sequence[Path]) -> list[Path]:
    return [Path(pairs)] if isinstance(pairs, (str, PathLike)) else [Path(folder) for folder in pairs]


def _check_operators(card: ModelCard, pairs: Path | Sequence[Path]) -> None:
    """Refuse data consistency with one operator of pairs that another one made."""
    wanted = card.options.get("constraints", {}).get("data_consistency", {}).get("operator")
    for folder in _folders(pairs):
        found = read_statistics(folder).operator
        if wanted not in (None, found):
            message = "data_consistency is for pairs of one operator"
            raise FlowsrError(message, file=folder, variable="constraints", expected=wanted, found=found)


def _check_suits(model: Upscaler, patches: PatchPairs) -> None:
    box = patches.box
    if model.halo is None and patches.patch != box.shape:
        expected = f"null, for {box.shape}"
        raise FlowsrError(
            "this model needs whole boxes", variable="train.patch", expected=expected, found=patches.patch
        )
    try:
        model.check_grid(patches.grid)
    except ValueError as error:
        raise FlowsrError("this model is not for this box", variable="train.models", found=str(error)) from None


def _parameters(card: ModelCard) -> int:
    if not MODELS[card.model].trainable:
        raise FlowsrError(
            f"model '{card.model}' has nothing to train", variable="train.models", hint="list it in compare.baselines"
        )
    try:
        return card.build().parameter_count
    except (TypeError, ValueError) as error:
        raise _refused(card.model, error) from None


def _refused(model: str, error: Exception) -> FlowsrError:
    return FlowsrError(f"model '{model}' does not take these options", variable="train.models", found=str(error))


def _matched(card: ModelCard, parameters: int) -> ModelCard:
    """The card with the width that comes nearest to a number of parameters."""
    option = width_option(card.model)
    if option is None:
        raise FlowsrError(f"model '{card.model}' has no width to match parameters with", variable="train.models")
    if option in card.options:
        raise FlowsrError(f"{option} is both given and to be matched", variable=f"train.models ... options.{option}")

    def of(width: int) -> ModelCard:
        return replace(card, options={**card.options, option: width})

    try:
        return of(matching_width(lambda width: of(width).build(), parameters))
    except (TypeError, ValueError) as error:
        raise _refused(card.model, error) from None
