"""A trained model over a stored field: the fine store appears whole or not at all, and a killed run is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from flowsr.data.open import ReadOptions, read_options
from flowsr.data.store import create_store
from flowsr.models.home import Verdict
from flowsr.progress import SILENT, Progress
from flowsr.spread import Spread
from flowsr.upscale.blocks import Observer, States, upscale_blocks
from flowsr.upscale.plan import UpscalePlan, check_verdict, plan_upscale, survey_field


def upscale_store(
    source: Path,
    model_folder: Path | str | None,
    target: Path,
    *,
    factor: int | None = None,
    variable: str = "velocity",
    group: str | None = None,
    options: ReadOptions | None = None,
    tile: int | None = None,
    shard: int | None = None,
    memory: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
    force: bool = False,
    strict: bool = False,
    observers: Sequence[Observer] = (),
    spread: Spread | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Upscale every snapshot of a stored field; with a model of several frames, every one with a whole window about it.

    A store is resumed, or reused as it is, when it was made of the same content by the same weights and flowsr.

    Args:
        source: a coarse field that :func:`flowsr.data.open_field` can open.
        model_folder: folder of a saved model, or the name of one that comes with flowsr; None: the one that fits.
        target: Zarr store to write: same times (those of the windows' targets), components, units and boundaries, finer
            coordinates, and provenance.
        factor: wanted, where several models fit.
        variable: which field of the source.
        group: group inside the source store.
        options: how the source is to be read; ``group`` is one of them.
        tile: coarse cells along a tile's side; by default as many as ``memory`` allows.
        shard: fine cells along the sides of a file of the result; by default 128, of very large fields 256.
        memory: bytes that may be used, all processes of a machine together; by default half of what it has.
        device: ``auto``, ``cpu`` or ``cuda``.
        overwrite: replace a store of another source or model.
        force: upscale also what the model cannot be right for: walls, say, where it saw none.
        strict: refuse every field that is not like those that the model was trained on.
        observers: see each block as it is finished.
        spread: hands batches of blocks to workers; by default this process does them all.
        progress: told the fraction of blocks done.

    Returns:
        ``target``.

    Raises:
        FlowsrError: a source or model that cannot be used, frames at another distance in time than the model was
            trained on, a field that the model is not for, NaN or infinite values in the source or out of the model, a
            target made from something else, or one that is the source, lies in it or holds it.
    """
    sizes = {"tile": tile, "shard": shard, "memory": memory}
    how = {"factor": factor, "variable": variable, "options": read_options(options, {"group": group}), **sizes}
    plan = plan_upscale(source, model_folder, target, device=device, **how)
    doing = {"overwrite": overwrite, "force": force, "strict": strict, "observers": observers, "spread": spread}
    return do_upscale(plan, **doing, progress=progress)


def do_upscale(
    plan: UpscalePlan,
    *,
    overwrite: bool = False,
    force: bool = False,
    strict: bool = False,
    observers: Sequence[Observer] = (),
    spread: Spread | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Do what was planned; see :func:`upscale_store`. A field that was not looked at yet is, first."""
    if plan.scales is None:
        plan = survey_field(plan)
    check_verdict(plan.verdict or Verdict(), plan.source, plan.variable, force=force, strict=strict)
    batches = plan.batches(None if spread is None else len(spread))
    plan.check_one_writer(batches)
    for observer in observers:
        observer.check(plan)
    with create_store(plan.target, plan.template, shard=plan.shard, fresh=overwrite) as store:
        if store.published:
            return plan.target
        if spread is None:
            upscale_blocks(plan, batches[0], observers, progress=progress)
        else:
            threads = 1 if plan.device == "cpu" else None
            spread(partial(upscale_blocks, plan, observers=observers, threads=threads), batches, progress)
        for observer in observers:
            observer.finish(plan, States(plan, observer), store)
        plan.content.refuse_changed()
        return store.publish()
