"""One field or many, upscaled here or by workers, to whatever format the output's name asks for."""

from __future__ import annotations

import glob
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flowsr.data import convert, open_field
from flowsr.data.convert import SERIES, SUFFIXES, TARGETS, held
from flowsr.data.manifest import is_manifest
from flowsr.data.readers.base import recognized
from flowsr.data.store import is_store
from flowsr.devices import cores
from flowsr.errors import Busy, FlowsrError, missing_file
from flowsr.files import plain, remove
from flowsr.pipeline.cluster import Crew
from flowsr.progress import SILENT, Progress
from flowsr.upscale import UpscaleOptions, UpscalePlan, do_upscale, plan_upscale
from flowsr.upscale.plan import device_here, survey_field

log = logging.getLogger(__name__)

#: Ends of names that are never a field: those of files that are being written, and of what `flowsr evaluate` and an
#: output of another format leave beside a field.
NO_FIELDS = (".partial", ".part", ".tmp", ".metrics.zarr", ".report")
#: What a core compresses and writes a second, in bytes; for predictions.
WRITING = 2.5e8


@dataclass(frozen=True)
class Job:
    """A field to upscale.

    Args:
        source: it.
        target: what is made of it; a name that ends in ``.h5``, ``.nc``, ``.vti`` or ``.vtr`` is of that format.
        model: folder of a trained model, or the name of one that comes with flowsr; None: the one that fits.
        how: it is upscaled.
    """

    source: Path
    target: Path
    model: Path | str | None
    how: UpscaleOptions = UpscaleOptions()  # noqa: RUF009

    def plan(self, trial: bool = False) -> UpscalePlan:
        """What it will do.

        Raises:
            FlowsrError: a source or model that cannot be used, or a format that cannot hold the result.
        """
        plan = plan_upscale(self.source, self.model, self.target, self.how, trial=trial)
        if self.target.suffix == SERIES:
            hint = "write a .zarr, then `flowsr convert` it"
            raise FlowsrError("a series is made of a store", file=self.target, expected="another name", hint=hint)
        layout = SUFFIXES.get(self.target.suffix, "zarr")
        if layout != "zarr":
            chosen = TARGETS[layout]
            chosen(self.target, held(plan.template, chosen, self.target, lossy=False), self.target)
        return plan

    def run(self, crew: Crew | None = None, progress: Progress = SILENT) -> Path:
        """Do it, here or on a crew.

        Returns:
            The target.

        Raises:
            Busy: another process is at it.
            FlowsrError: what stands in the way.
        """
        plan = survey_field(self.plan())
        if SUFFIXES.get(self.target.suffix, "zarr") == "zarr":
            _tell_size(plan)
            return do_upscale(plan, self.how, spread=crew, progress=progress)
        staged = replace(plan, target=self.target.with_name(f".{self.target.name}.zarr"))
        if not self.target.exists() or self.how.overwrite:
            _tell_size(plan)
            do_upscale(staged, self.how, spread=crew, progress=progress.share(0.0, 0.9))
            convert(staged.target, self.target, fresh=self.how.overwrite, progress=progress.share(0.9, 1.0))
        elif not _made_by(self.target, plan):
            raise FlowsrError("there is something already", file=self.target, hint="use --fresh to replace it")
        if (staged.target / "report").exists():
            beside = self.target.with_name(f"{self.target.name}.report")
            remove(beside)
            (staged.target / "report").rename(beside)
        remove(staged.target)
        return self.target


@dataclass(frozen=True)
class Outcome:
    """What became of a field among many.

    Args:
        job: its.
        failed: why it was not upscaled, in one line; empty where it was.
        waiting: whether that is because another process is at it, which is no failure.
    """

    job: Job
    failed: str = ""
    waiting: bool = False


def upscale_fields(jobs: Sequence[Job], crew: Crew | None = None, progress: Progress = SILENT) -> list[Outcome]:
    """Upscale fields, each whole or not at all; a bad one does not stop the others.

    Where there are as many as workers, each worker takes one after another; fewer are taken in turn, each by all.

    Args:
        jobs: with targets that differ.
        crew: workers; None for this process alone.
        progress: told the fraction done.

    Returns:
        What became of each, in the order of the jobs.
    """
    if crew is not None and len(jobs) >= len(crew) > 1:
        return [found for batch in crew(_attempt_all, [(job,) for job in jobs], progress) for found in batch]
    total = len(jobs)
    shares = [progress.share(number / total, (number + 1) / total) for number in range(total)]
    return [_attempt(job, crew, share) for job, share in zip(jobs, shares)]


def jobs_for(
    inputs: Sequence[Path], output: Path, model: Path | str | None, how: UpscaleOptions | None = None
) -> list[Job]:
    """The jobs of a command: one field to one output, or several into a folder, each under its own name.

    Args:
        inputs: fields, patterns with ``*``, and folders of fields.
        output: a folder where there are several, or the one input is a folder or a pattern.
        model, how: of every :class:`Job`.

    Raises:
        FlowsrError: no such file, a folder without a field, or two fields of one name.
    """
    inputs, how = [Path(given) for given in inputs], how or UpscaleOptions()
    if len(inputs) == 1 and _is_field(inputs[0]):
        return [Job(inputs[0], output, model, how)]
    sources = [source for given in inputs for source in _fields_of(given, output)]
    jobs = [Job(source, output / target_name(source), model, how) for source in sources]
    names = [job.target.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        found = ", ".join(str(job.source) for job in jobs if job.target.name == twice[0])
        raise FlowsrError("two inputs of one name would be one output", file=output / twice[0], found=found)
    if (output.suffix in SUFFIXES and not output.is_dir()) or is_store(output):
        message, expected = "several inputs are written into a folder", "a folder"
        raise FlowsrError(message, variable="--output", expected=expected, found=output)
    return jobs


def target_name(source: Path) -> str:
    """The name of the store that is made of a file among many."""
    return source.name if source.suffix == ".zarr" else f"{source.name}.zarr"


def describe(plan: UpscalePlan, workers: int | None = None) -> list[str]:
    """What a plan will do, in lines for people; with a trial its memory and time, after a survey how the field fits."""
    fine, tile = plan.fine_grid, " x ".join(map(str, plan.tile))
    count = len(plan.times)
    snapshots = f"{count} snapshot{'s' if count > 1 else ''}"
    work = plan.cells_read / (len(plan.times) * _cells(plan.grid.shape))
    halo = "the whole field at once" if plan.halo is None else f"halo {plan.halo}"
    side = " x ".join(map(str, plan.shard))
    lines = [
        f"input:   {plan.source}: {_shape(plan.grid.shape)}, {snapshots} of {plan.variable}, {plan.dtype}",
        f"result:  {plan.target}: {_shape(fine.shape)}, {size(plan.bytes)} before compression",
        f"files:   {plan.shards} shards of {side} fine cells",
        f"tiles:   {plan.tiles} of {tile} coarse cells, {halo}: {work:.2f} cells computed for each one wanted",
    ]
    if plan.trial is not None:
        at_once = workers or (cores() if device_here(plan.device) == "cpu" else 1)
        if workers:
            memory = f"{size(plan.worker_bytes())} a worker, {workers} of them"
        else:
            memory = f"{size(plan.worker_bytes(at_once))} on {at_once} core{'s' if at_once > 1 else ''}"
        lines += [f"memory:  about {memory}", f"time:    about {duration(predicted_seconds(plan, at_once))}"]
    free = shutil.disk_usage(_existing(plan.target)).free
    lines.append(f"disk:    {size(free)} free")
    if plan.verdict is None:
        return lines
    unlike = [f"refused: {one.line}" if one.refused else f"unlike:  {one.line}" for one in plan.verdict.findings]
    like = ["like:    the fields that the model was trained on"] if plan.verdict.snapshots else []
    return [*lines, *(unlike or like), *(f"unknown: {line}" for line in plan.verdict.unknown)]


def predicted_seconds(plan: UpscalePlan, at_once: int) -> float:
    """How long a plan takes, from its trial: computing and writing, spread evenly."""
    return (plan.trial.seconds_per_cell * plan.cells_read + plan.bytes / WRITING) / at_once


def size(count: float) -> str:
    """Bytes for people.

    >>> size(463_000_000), size(1023)
    ('463 MB', '1.02 kB')
    """
    units = ["B", "kB", "MB", "GB", "TB", "PB"]
    while count >= 999.5 and len(units) > 1:
        count, units = count / 1000, units[1:]
    return f"{count:.3g} {units[0]}"


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(42.3), duration(4000), duration(200000)
    ('42 s', '1 h 7 min', '2 d 8 h')
    """
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def read_size(text: str | None) -> int | None:
    """``4GB``, ``500 MB`` or a number of bytes.

    Raises:
        FlowsrError: something else.
    """
    if text is None:
        return None
    units = {"": 1, "b": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
    number = text.strip().lower().removesuffix("ib").removesuffix("b").rstrip()
    unit = number[-1:] if number[-1:] in units else ""
    try:
        found = int(float(number.removesuffix(unit)) * units[unit])
    except (ValueError, OverflowError):
        found = 0
    if found < 1:
        raise FlowsrError("not a size", variable="--memory", expected="such as 4GB or 500MB", found=text)
    return found


def _attempt(job: Job, crew: Crew | None, progress: Progress) -> Outcome:
    try:
        job.run(crew, progress)
    except Busy as error:
        return Outcome(job, str(error), waiting=True)
    except (FlowsrError, OSError, MemoryError) as error:
        return Outcome(job, " ".join(str(error).split()) or type(error).__name__)
    return Outcome(job)


def _attempt_all(jobs: Sequence[Job]) -> list[Outcome]:
    return [_attempt(job, None, SILENT) for job in jobs]


def _tell_size(plan: UpscalePlan) -> None:
    """One line before anything is written; refuse what the disk cannot hold."""
    line = "%s: %s to %s cells, %d snapshot(s), %s to write"
    log.info(
        line, plan.source.name, _shape(plan.grid.shape), _shape(plan.fine_grid.shape), len(plan.times), size(plan.bytes)
    )
    free = shutil.disk_usage(_existing(plan.target)).free
    if plan.bytes // 2 > free and not plan.target.exists():
        hint = "is this the coarse field? `--plan` shows what would be made of it"
        expected = f"{size(plan.bytes)} before compression"
        raise FlowsrError(
            "the disk is too small for the result",
            file=plan.target,
            expected=expected,
            found=f"{size(free)} free",
            hint=hint,
        )


def _made_by(target: Path, plan: UpscalePlan) -> bool:
    """Whether a converted file was made from the same content by the same weights."""
    try:
        return plain(open_field(target).attrs.get("provenance")) == plain(plan.attrs["provenance"])
    except FlowsrError:
        return False


def _is_field(path: Path) -> bool:
    if not path.exists():
        return False
    if path.is_file() or is_manifest(path):
        return True
    try:
        return bool(recognized(path))
    except FlowsrError:
        return False


def _fields_of(given: Path, output: Path) -> list[Path]:
    if _is_field(given):
        return [given]
    if given.is_dir():
        found = sorted(given.iterdir())
    elif glob.has_magic(str(given)):
        found = sorted(map(Path, glob.glob(str(given), recursive=True)))
    else:
        raise missing_file(given, variable="--input")
    found = [path for path in found if path.absolute() != output.absolute()]
    fields = [path for path in found if not path.name.startswith((".", "~")) and not path.name.endswith(NO_FIELDS)]
    if not fields:
        raise FlowsrError("no field here", file=given, variable="--input")
    return fields


def _existing(path: Path) -> Path:
    """The nearest folder above a path that is there."""
    return next(parent for parent in path.absolute().parents if parent.is_dir())


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _cells(shape: Sequence[int]) -> int:
    return shape[0] * shape[1] * shape[2]
