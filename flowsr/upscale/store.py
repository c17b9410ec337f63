"""A trained model over a stored field: the fine store appears whole or not at all, and a killed run is resumed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from flowsr.data.store import create_store, is_store, refuse_damaged
from flowsr.devices import resolve_device
from flowsr.errors import BadValue
from flowsr.models.home import Verdict
from flowsr.progress import SILENT, Progress
from flowsr.spread import Spread
from flowsr.upscale.blocks import States, upscale_blocks
from flowsr.upscale.plan import UpscaleOptions, UpscalePlan, check_verdict, plan_upscale, survey_field


def upscale_store(
    source: Path,
    model_folder: Path | str | None,
    target: Path,
    how: UpscaleOptions | None = None,
    *,
    spread: Spread | None = None,
    progress: Progress = SILENT,
    **given: Any,
) -> Path:
    """Upscale every snapshot of a stored field; with a model of several frames, every one with a whole window about it.

    A store is resumed, or reused as it is, when it was made of the same content by the same weights and flowsr.

    Args:
        source: a coarse field that :func:`flowsr.data.open_field` can open.
        model_folder: folder of a saved model, or the name of one that comes with flowsr; None: the one that fits.
        target: Zarr store to write: same times (those of the windows' targets), components, units and boundaries, finer
            coordinates, and provenance.
        how: tile, memory, device, observers ...
        spread: hands batches of blocks to workers; by default this process does them all.
        progress: told the fraction of blocks done.
        given: options of ``how``, or of how the source is read such as ``group``, one by one.

    Returns:
        ``target``.

    Raises:
        FlowsrError: a source or model that cannot be used, frames at another distance in time than the model was
            trained on, a field that the model is not for, NaN or infinite values in the source or out of the model, a
            target made from something else, or one that is the source, lies in it or holds it.
        TypeError: no such option.
    """
    how = (how or UpscaleOptions()).having(**given)
    return do_upscale(plan_upscale(source, model_folder, target, how), how, spread=spread, progress=progress)


def do_upscale(
    plan: UpscalePlan,
    how: UpscaleOptions | None = None,
    *,
    spread: Spread | None = None,
    progress: Progress = SILENT,
    **given: Any,
) -> Path:
    """Do what was planned; see :func:`upscale_store`. A field that was not looked at yet is, first.

    Where values are refused on the way, nothing is left: with another source or model none of it would be of use.
    """
    how = (how or UpscaleOptions()).having(**given)
    if spread is None:
        resolve_device(plan.device)  # workers may have one that is not here
    if plan.scales is None:
        plan = survey_field(plan)
    check_verdict(plan.verdict or Verdict(), plan.source, plan.variable, force=how.force, strict=how.strict)
    batches = plan.batches(None if spread is None else len(spread))
    plan.check_one_writer(batches)
    for observer in how.observers:
        observer.check(plan)
    if how.verify and not how.overwrite and is_store(plan.target):
        refuse_damaged(plan.target, deep=True)
    with create_store(plan.target, plan.template, shard=plan.shard, fresh=how.overwrite) as store:
        if store.published:
            return plan.target
        try:
            if spread is None:
                upscale_blocks(plan, batches[0], how.observers, progress=progress)
            else:
                spread(
                    partial(upscale_blocks, replace(plan, content=None), observers=how.observers, threads=1),
                    batches,
                    progress,
                )
            for observer in how.observers:
                observer.finish(plan, States(plan, observer), store)
            plan.content.refuse_changed()
        except BadValue:
            store.discard()
            raise
        return store.publish()
