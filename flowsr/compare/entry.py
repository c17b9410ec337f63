"""Who takes part in a comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from flowsr.errors import FlowsrError
from flowsr.files import tree_checksum
from flowsr.models.base import Upscaler

TRUTH = "truth"


@dataclass(frozen=True)
class Entry:
    """One model of a comparison.

    Args:
        name: key in the results and name of its row's file.
        label: what people read.
        model: the model itself: timed, counted, and tested for equivariance; and called on every snapshot where there
            are no ``stores``.
        stores: its upscaled fields, one store per test run, in their order.
    """

    name: str
    label: str
    model: Upscaler
    stores: Sequence[Path] | None = None


def check_entries(entries: Sequence[Entry], runs: int) -> None:
    """Raise FlowsrError on names used twice or reserved, or a number of stores that is not that of the runs."""
    names = [entry.name for entry in entries]
    for name in names:
        if name == TRUTH or "/" in name or names.count(name) > 1:
            expected = "unique names, without /, other than truth"
            raise FlowsrError("a model's name stands for one row", variable=name, expected=expected)
    for entry in entries:
        if entry.stores is not None and len(entry.stores) != runs:
            raise FlowsrError(
                f"model '{entry.name}' needs one upscaled store per test run", expected=runs, found=len(entry.stores)
            )


def entry_identity(entry: Entry) -> dict:
    """What decides an entry's row: its fields' checksums, its architecture and its weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(entry.model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}\0".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().tobytes())
    model = entry.model
    return {
        "stores": None if entry.stores is None else [tree_checksum(store) for store in entry.stores],
        "model": f"{type(model).__module__}.{type(model).__qualname__} x{model.factor} {model.irreps} {model!r}",
        "weights": digest.hexdigest(),
    }
