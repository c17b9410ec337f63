"""A model's card: what was trained on what, what it costs, how well it does, and who may use it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowsr.compare.ranking import number
from flowsr.files import write_json_atomic, write_text_atomic

CARD_JSON, CARD_MARKDOWN = "card.json", "card.md"


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """Write ``card.json`` and ``card.md`` beside a model's weights.

    Args:
        folder: of ``model.safetensors``.
        card: ``name``, ``model``, ``options``; ``weights`` (file, sha256, licence); ``data``, ``training``, ``budget``,
            ``metrics`` (data set -> metric -> mean), ``study`` and ``versions``.
    """
    write_json_atomic(folder / CARD_JSON, card)
    write_text_atomic(folder / CARD_MARKDOWN, card_markdown(card))


def card_markdown(card: Mapping[str, Any]) -> str:
    """The card for people."""
    data, training, budget, weights = (card[key] for key in ("data", "training", "budget", "weights"))
    coarse, fine = (" x ".join(map(str, data[which])) for which in ("coarse", "fine"))
    matched = budget["matched"]
    rule = "none" if matched is None else f"equal {matched['by'].replace('_', '-')}"
    lines = [
        f"# {card['name']}",
        "",
        f"`{card['model']}`, {budget['parameters']:,} parameters, {budget['multiply_adds']:,} multiply-adds a snapshot"
        f" (budget: {rule}). From the study {card['study']}.",
        "",
        f"- Weights: `{weights['file']}`, sha256 `{weights['sha256']}`, licence {weights['licence']}.",
        f"- Data: {data['name']}" + (f" ({data['flow']})" if data["flow"] else "") + f", licence: {data['licence']}.",
        f"- Task: {data['variable']}, {coarse} to {fine} cells, x{data['factor']} by {data['operator']}.",
        f"- Training: {data['training_snapshots']} snapshots, {training['epochs']} epochs, "
        f"best {training['best_epoch']}, seed {training['seed']}, {number(training['seconds'])} s.",
        f"- Options: {', '.join(f'{key} {value}' for key, value in card['options'].items())}.",
        "",
        "Means over the held-out snapshots:",
        "",
    ]
    names = list(card["metrics"])
    lines += ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for metric in dict.fromkeys(key for means in card["metrics"].values() for key in means):
        cells = [number(card["metrics"][name].get(metric)) for name in names]
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    sources = "\n".join(f"- {run}: sha256 `{checksum}`" for run, checksum in data["sources"].items())
    versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items())
    return "\n".join(lines) + f"\n\nTrained on:\n\n{sources}\n\nMade with {versions}.\n"
