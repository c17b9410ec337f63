"""The models that come with the package, by name, and which of them a field needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.models.checkpoint import ModelCard, group_words, pretrained, read_card
from flowsr.models.home import TRAITS, Verdict, compare_with_home, widened


def pretrained_lines() -> list[str]:
    """A line for each model that comes with the package."""
    found = []
    for name, folder in pretrained().items():
        card = read_card(folder)
        kind = "between walls" if card.home and "wall" in card.home.boundary else "periodic box"
        operator = card.home.operator if card.home else "an unknown operator"
        errors = _errors(card, "nrmse")
        found.append(f"{name:<12} x{card.task.factor}, {kind}, {operator}; {errors}")
    return found or ["none is installed"]


def info_lines(folder: Path) -> list[str]:
    """What a saved model is, a line each.

    Raises:
        FlowsrError: a folder that is no model.
    """
    card = read_card(folder)
    training, home = card.training, card.home
    lines = [
        f"model: {card.model}, {', '.join(f'{name} {value}' for name, value in card.options.items())}",
        f"task: x{card.task.factor}, field type {card.task.irreps}, {card.task.window.frames} frame(s)",
        f"parameters: {training.get('parameters', 'unknown')}, seed {training.get('seed', 'unknown')}",
        f"weights: sha256 {training.get('weights_sha256', 'unknown')}",
    ]
    if "discovered" in training:
        lines.append(f"group: {group_words(training['discovered'])}")
    if "turned_by" in training:
        lines.append(f"training patches: turned by {training['turned_by']}")
    if card.task.scale is not None:
        lines.append(
            f"units: an older model, for fields of RMS near {card.task.scale:.4g} in one frame; train it again"
        )
    if home is None:
        lines.append("home: not known")
    else:
        lines.append(f"home: {home.operator}, sides {', '.join(home.boundary)}, {home.snapshots} snapshots")
        for name, ends in home.ranges.items():
            low, high = widened(name, *ends)
            lines.append(f"  {TRAITS[name]}: {low:.3g} to {high:.3g}")
    lines += [f"{key}: {training[key]}" for key in ("licence", "command") if key in training]
    if "errors" in training:
        lines.append(f"errors on held-out snapshots: {_errors(card, 'nrmse')}")
    return lines


def _errors(card: ModelCard, metric: str) -> str:
    """``nrmse 0.106, best interpolation 0.189``, as far as the card says."""
    errors = {name: values[metric] for name, values in card.training.get("errors", {}).items() if metric in values}
    ours, others = errors.pop("main", None), [value for value in errors.values() if value is not None]
    if ours is None:
        return "errors not recorded"
    return f"{metric} {ours:.3g}" + (f", best interpolation {min(others):.3g}" if others else "")


@dataclass(frozen=True)
class Choice:
    """Which shipped model a field needs.

    Args:
        name: of the model; None where none fits.
        reason: why it, in words.
        verdict: how the field compares with what it was trained on.
        missing: why each of the others does not fit, by name.
    """

    name: str | None
    reason: str
    verdict: Verdict | None
    missing: dict[str, str]


def choose(
    grid: Grid,
    irreps: str,
    traits: Sequence[Mapping[str, float]],
    *,
    factor: int | None = None,
    operator: str | None = None,
) -> Choice:
    """The shipped model that fits a field: its type, factor, boundaries and operator, then the nearest home.

    Args:
        grid, irreps: of the coarse field.
        traits: of some of its snapshots (:func:`flowsr.models.home.measure_traits`).
        factor: wanted; None: any.
        operator: that made the field, where it says so.
    """
    fitting: dict[str, Verdict] = {}
    missing: dict[str, str] = {}
    for name, folder in pretrained().items():
        card = read_card(folder)
        verdict = _verdict(card, grid, traits, operator)
        if card.task.irreps != irreps:
            missing[name] = f"it is for the field type {card.task.irreps}, not {irreps}"
        elif factor not in (None, card.task.factor):
            missing[name] = f"its factor is {card.task.factor}"
        elif verdict.refused:
            missing[name] = verdict.refused[0].line
        else:
            fitting[name] = verdict
    if not fitting:
        return Choice(None, "no model that comes with flowsr fits", None, missing)
    name = min(fitting, key=lambda each: (len(fitting[each].findings), abs(_factor(each) - 4), each))
    verdict, others = fitting[name], len(fitting) > 1
    for other, its in fitting.items():
        if other != name:
            missing[other] = f"{len(its.findings)} numbers of the field are outside its home"
    home = read_card(pretrained()[name]).home
    why = f"factor {_factor(name)}, sides {', '.join(grid.boundary)}, {home.operator if home else 'unknown operator'}"
    near = "the field is like those it was trained on" if verdict.at_home else f"{len(verdict.findings)} findings"
    return Choice(name, f"{why}; {near}{', the nearest of those that fit' if others else ''}", verdict, missing)


def no_model(choice: Choice, file: Path, factor: int | None) -> FlowsrError:
    """The error that says what is missing."""
    wanted = "any factor" if factor is None else f"factor {factor}"
    found = "; ".join(f"{name}: {why}" for name, why in choice.missing.items()) or "none is installed"
    return FlowsrError(choice.reason, file=file, expected=wanted, found=found, hint="give one of your own with --model")


def _factor(name: str) -> int:
    return read_card(pretrained()[name]).task.factor


def _verdict(card: ModelCard, grid: Grid, traits: Sequence[Mapping[str, float]], operator: str | None) -> Verdict:
    if card.home is None:
        return Verdict()
    return compare_with_home(card.home, traits, grid, operator, oriented=not card.equivariant)
