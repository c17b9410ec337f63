"""Fit a model whose weights are solved for: one pass over the training pairs, no steps."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from flowsr.data.degrade import DegradeOperator, degrade_operator
from flowsr.data.pairs import pair_stores, read_statistics
from flowsr.data.patches import PatchPairs
from flowsr.errors import require
from flowsr.files import write_text_atomic
from flowsr.models.base import Upscaler
from flowsr.models.linear import FOLDS, LinearEstimate, Moments, Solved
from flowsr.train.fit import HISTORY, Fitted, PatchPair, mean_loss
from flowsr.train.settings import Schedule

#: With shifts: pairs that an estimate is solved on, where one snapshot gives no more than ``MOST_SHIFTS``.
SHIFTED, MOST_SHIFTS = 256, 16


def solve(model: Upscaler, pairs: Sequence[Path], patches: PatchPair, schedule: Schedule, folder: Path) -> Fitted:
    """Solve for a model's weights in place, and leave a history of one line with its losses.

    Args:
        model: a linear estimate, under constraints or averaged or not.
        pairs: folders of the ingest stage.
        patches: that its losses are taken on.
        schedule: the loss, and the size of the patches that are seen.
        folder: receives ``history.jsonl``.
    """
    start = time.perf_counter()
    solve_estimate(model, pairs, schedule)
    losses = {f"{name}_loss": mean_loss(model, patches, schedule, name) for name in ("train", "validation")}
    line = {"epoch": 0, **losses, "learning_rate": 0.0, "seconds": round(time.perf_counter() - start, 3)}
    folder.mkdir(parents=True, exist_ok=True)
    write_text_atomic(folder / HISTORY, json.dumps(line, allow_nan=False) + "\n")
    return Fitted(0, line["validation_loss"], [line])


def solve_estimate(model: Upscaler, pairs: Sequence[Path], schedule: Schedule) -> Solved:
    """Solve for the weights of a linear estimate on pairs: every snapshot once, or as many patches of it as cover it.

    Args:
        pairs: folders of the ingest stage.
        schedule: says the size of the patches that are seen, and whether places between the cells are seen as well; the
            default, and all that has planes of its own, is the whole box.
    """
    estimate: Upscaler = model
    while not isinstance(estimate, LinearEstimate):
        estimate = estimate.model
    window, shift = estimate.window, shifting(pairs, schedule)
    stores = [store for one in pairs for store in pair_stores(one, "train")]
    shape = dict(frames=window.frames, target_frame=window.target, seed=0, normalize=True)
    probe = PatchPairs(stores, samples=1, **shape)
    patch = None if estimate.halo is None else schedule.patch
    length = probe.box.shape if patch is None else (patch,) * 3
    each = math.prod(-(-side // edge) for side, edge in zip(probe.box.shape, length, strict=True))
    if shift is not None:
        each = min(max(1, SHIFTED // len(probe.snapshots)), MOST_SHIFTS)
    samples = each * len(probe.snapshots)
    # shifted pairs of one snapshot are not rolled besides: a slab that is left out is the same places in all of them
    how = dict(patch=patch, halo=estimate.reach, shift=shift, roll=shift is None)
    drawn = PatchPairs(stores, samples=samples, **how, **shape)
    parts: list[Moments | None] = [None] * FOLDS
    for index in range(len(drawn)):
        coarse, fine = drawn[index]
        found = estimate.moments(coarse[None], fine[None], drawn.grid, drawn.halo)
        number = drawn.snapshot_of(index) * FOLDS // len(drawn.snapshots)
        for slab, one in enumerate(found):
            fold = number if len(drawn.snapshots) >= FOLDS else slab
            earlier = parts[fold]
            parts[fold] = one if earlier is None else earlier + one
    return estimate.solve([part for part in parts if part is not None], _volumes(estimate, drawn))


def shifting(pairs: Sequence[Path], schedule: Schedule) -> DegradeOperator | None:
    """The operator that pairs between the cells are made with; None where the schedule wants none.

    Raises:
        FlowsrError: pairs of several operators, or of one that the fine field alone does not determine.
    """
    if not schedule.shifts:
        return None
    found = {(one.operator, one.width, one.weight) for one in map(read_statistics, pairs)}
    message, expected = "shifts need pairs of one operator without a weight", "one, without a weight"
    known = len(found) == 1 and next(iter(found))[2] is None
    require(known, message, file=pairs[0], variable="shifts", expected=expected, found=sorted(map(str, found)))
    name, width, _ = next(iter(found))
    return degrade_operator(name, width)


def _volumes(estimate: LinearEstimate, drawn: PatchPairs) -> torch.Tensor:
    """(planes, made): mean volume of the fine cells that each weight makes."""
    grid, s = drawn.fine_grid, estimate.factor
    parts = []
    for planes, widths in zip(estimate.planes, grid.widths(), strict=True):
        along = torch.as_tensor(widths, dtype=torch.float64).unflatten(0, (-1, s))
        parts.append(along if planes > 1 else along.mean(0, keepdim=True))
    volume = torch.einsum("ap,bq,cr->abcpqr", *parts).flatten(3)
    return volume.repeat(1, 1, 1, estimate.components)
