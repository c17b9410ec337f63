"""Train one network on the pairs of an experiment and leave weights, card and learning curve in a folder."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from flowsr.data.pairs import read_statistics
from flowsr.data.patches import OctahedralAugmentation, PatchPairs
from flowsr.devices import resolve_device
from flowsr.errors import FlowsrError
from flowsr.files import file_checksum
from flowsr.models import MODELS, ModelCard, Upscaler, build_model, save_model
from flowsr.models.budget import matching_width
from flowsr.models.checkpoint import WEIGHTS
from flowsr.progress import SILENT, Progress
from flowsr.provenance import versions
from flowsr.train.fit import Fitted, Schedule, discard_checkpoints, fit
from flowsr.train.patches import patch_pair
from flowsr.windows import Window

#: The option that sets a network's width, where widths are to be matched.
WIDTH_OPTIONS = ("width", "channels")


def resolve_options(
    models: dict[str, tuple[str, dict[str, Any], str | None]], pairs: Path, window: Window = Window()
) -> dict[str, dict[str, Any]]:
    """Every option of every network, those given by the data and by matching budgets included.

    Args:
        models: name to (registered model, options, name of the network whose parameter count to match or None).
        pairs: folder of the ingest stage; its statistics give factor, field type and scale.
        window: frames of every network whose own options do not say otherwise.

    Raises:
        FlowsrError: options that a model does not take, or a budget matched to an unknown or matched network.
    """
    data = data_options(pairs) | frame_options(window)
    resolved = {name: with_operator({**data, **options}, pairs) for name, (_, options, _) in models.items()}
    for name, (model, _, other) in models.items():
        if other is None:
            _parameters(model, resolved[name])
            continue
        if other == name or other not in models or models[other][2] is not None:
            free = ", ".join(n for n, (_, _, matched) in models.items() if matched is None)
            raise FlowsrError(
                "a budget is matched to a network with a width of its own",
                variable=f"train.models.{name}.match_parameters",
                expected=f"one of {free}",
                found=other,
            )
        target = _parameters(models[other][0], resolved[other])
        width = _width_option(model, resolved[name])
        resolved[name][width] = matching_width(lambda n: build_model(model, **{**resolved[name], width: n}), target)
    return resolved


def data_options(pairs: Path) -> dict[str, Any]:
    """What the data decide of a network: factor, field type, scale (the RMS of the coarse training field)."""
    statistics = read_statistics(pairs)
    return {"factor": statistics["factor"], "irreps": statistics["irreps"], "scale": statistics["scale"]["coarse"]}


def baseline_options(model: str, pairs: Path) -> dict[str, Any]:
    """What the data decide of a model that is not trained: factor, field type, and the operator where it undoes one."""
    statistics = read_statistics(pairs)
    given = {"factor": statistics["factor"], "irreps": statistics["irreps"]}
    if "operator" in inspect.signature(MODELS[model].__init__).parameters:
        given["operator"] = statistics["operator"]
    return given


def frame_options(window: Window) -> dict[str, Any]:
    """A model's options for several frames; none for one frame, which is what every model takes."""
    return {} if window == Window() else {"frames": window.frames, "target_frame": window.target}


def with_operator(options: dict[str, Any], pairs: Path) -> dict[str, Any]:
    """Names of constraints completed by what they need to know: the operator that the data were degraded with.

    Raises:
        FlowsrError: data consistency for weighted means, which do not follow from the fine field alone.
    """
    names = options.get("constraints")
    if not isinstance(names, list):
        return options
    completed = {name: {} for name in names}
    if "data_consistency" in completed:
        statistics = read_statistics(pairs)
        if statistics.get("weight") is not None:
            raise FlowsrError(
                "data_consistency is for means without a weight",
                file=pairs,
                variable="constraints",
                found=f"means weighted with {statistics['weight']}",
            )
        completed["data_consistency"] = {"operator": statistics["operator"]}
    return {**options, "constraints": completed}


def train_model(
    name: str,
    options: dict[str, Any],
    pairs: Path,
    folder: Path,
    *,
    patch: int | None,
    patch_halo: int,
    samples_per_epoch: int,
    seed: int,
    augment: str | None = None,
    device: str = "auto",
    progress: Progress = SILENT,
    **schedule,
) -> Fitted:
    """Fit the registered model ``name`` and save it.

    Args:
        name: registered model.
        options: all its options (:func:`resolve_options`).
        pairs: folder of the ingest stage.
        folder: receives ``model.safetensors``, ``model.json`` and ``history.jsonl``; a killed fit goes on from here.
        patch: coarse cells along a patch's side; None for the whole box.
        patch_halo: coarse cells around a patch that are seen but not scored.
        samples_per_epoch: patches per epoch.
        seed: of the initial weights and of the patches drawn.
        augment: turn every training patch by a random element of ``O`` or ``Oh`` (those that keep its grid); None: not.
        device: ``auto``, ``cpu`` or ``cuda``.
        schedule: the fields of :class:`flowsr.train.fit.Schedule`.

    Raises:
        FlowsrError: options, patches or losses that do not go with the model or the data, or a fit that diverged.
    """
    device = resolve_device(device)
    torch.manual_seed(seed)
    model = build_model(name, **options)
    turned = None if augment is None else OctahedralAugmentation(augment, model.irreps)
    patches = patch_pair(
        pairs, patch=patch, halo=patch_halo, samples=samples_per_epoch, seed=seed, window=model.window, augment=turned
    )
    _check_suits(model, patches.train)
    model.frame_spacing = patches.train.frame_spacing
    fitted = fit(model, patches, Schedule(**schedule), folder, device=device, progress=progress)
    _save(model, name, options, pairs, folder, fitted, seed, augment)
    discard_checkpoints(folder)
    return fitted


def _check_suits(model: Upscaler, patches: PatchPairs) -> None:
    box = patches.box
    if model.halo is None and patches.patch != box.shape:
        raise FlowsrError(
            "this model needs whole boxes",
            variable="train.patch",
            expected=f"null, for {box.shape}",
            found=patches.patch,
        )
    if model.needs_periodic and not box.periodic:
        raise FlowsrError("this model is for periodic boxes", variable="train.models", found=box.boundary)


def _save(
    model: Upscaler,
    name: str,
    options: dict[str, Any],
    pairs: Path,
    folder: Path,
    fitted: Fitted,
    seed: int,
    augment: str | None,
) -> None:
    training = {
        "parameters": model.parameter_count,
        "best_epoch": fitted.best_epoch,
        "best_validation_loss": fitted.best_validation_loss,
        "epochs": len(fitted.history),
        "seed": seed,
        "data_sets": read_statistics(pairs)["data_sets"],
        "versions": versions(),
        **({} if augment is None else {"augment": augment}),
        **({} if model.frame_spacing is None else {"frame_spacing": model.frame_spacing}),
    }
    save_model(folder, model, ModelCard(name, options, training))
    training["weights_sha256"] = file_checksum(folder / WEIGHTS)
    save_model(folder, model, ModelCard(name, options, training))


def _parameters(model: str, options: dict[str, Any]) -> int:
    if not MODELS[model].trainable:
        raise FlowsrError(
            f"model '{model}' has nothing to train", variable="train.models", hint="list it in compare.baselines"
        )
    try:
        return build_model(model, **options).parameter_count
    except (TypeError, ValueError) as error:
        raise FlowsrError(
            f"model '{model}' does not take these options", variable="train.models", found=str(error)
        ) from None


def _width_option(model: str, options: dict[str, Any]) -> str:
    taken = inspect.signature(MODELS[model].__init__).parameters
    for option in WIDTH_OPTIONS:
        if option in taken:
            if option in options:
                raise FlowsrError(
                    f"{option} is both given and to be matched", variable=f"train.models ... options.{option}"
                )
            return option
    raise FlowsrError(f"model '{model}' has no width to match parameters with", variable="train.models")
