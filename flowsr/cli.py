"""`flowsr ...`: the jobs from a terminal. No Prefect server is started here; flows/ is for that."""

from __future__ import annotations

import functools
import logging
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts
from cyclopts import App, Parameter
from rich.console import Console
from rich.text import Text

from flowsr import __version__
from flowsr.errors import FlowsrError, circumstance, printable
from flowsr.progress import PrintableLines, shown

if TYPE_CHECKING:
    from flowsr.data.open import ReadOptions

# Threads that spin while they wait cost up to 20 times on a busy machine; this must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

Overrides = Annotated[
    list[str] | None,
    Parameter(name="--set", negative=(), help="Override a setting: --set train.max_epochs=20. May be repeated."),
]
Fresh = Annotated[bool, Parameter(negative=(), help="Forget earlier results of this stage and start over.")]
Verify = Annotated[
    bool, Parameter(negative=(), help="Compare the checksums of what is reused, not only names and sizes of files.")
]
Config = Annotated[Path, Parameter(help="Experiment, a YAML file (see configs/).")]
Workers = Annotated[
    int | None, Parameter(help="Processes on this machine that share the work, of one core each (needs Dask).")
]
SideBySide = Annotated[
    int | None,
    Parameter(name="--workers", help="Networks, simulations and measurements done side by side: --set workers=N."),
]
Scheduler = Annotated[str | None, Parameter(help="Address, or scheduler file, of a Dask cluster that shares the work.")]
Named = list[str] | None
#: From so many particles and cells on another process is worth the seconds that it takes to start.
MANY_PARTICLES = 50_000


@Parameter(name="*", group="How the file is read, where it does not say it itself")
@dataclass(frozen=True)
class Read:
    """The options of :class:`flowsr.data.ReadOptions` as a terminal has them."""

    group: Annotated[str | None, Parameter(help="Group inside the file.")] = None
    run: Annotated[str | None, Parameter(help="Which run or trajectory, where there are several.")] = None
    reader: Annotated[str | None, Parameter(help="Reader; default: the one that recognizes the file.")] = None
    time: Annotated[str | None, Parameter(help="Number of the one snapshot, or a range such as 10:20.")] = None
    select: Annotated[
        Named, Parameter(negative=(), help="Number along an axis that flowsr does not know: sample=3. May be repeated.")
    ] = None
    boundary: Annotated[str | None, Parameter(help="Along x,y,z: periodic,wall,open or one word for all of them.")] = (
        None
    )
    units: Annotated[
        Named,
        Parameter(negative=(), help="Unit, to convert to or where none is stated: velocity=m/s. May be repeated."),
    ] = None
    irreps: Annotated[Named, Parameter(negative=(), help="Field type: velocity=1o. May be repeated.")] = None
    lengths: Annotated[str | None, Parameter(help="Sides of the box along x,y,z: 6.28,2,3.14.")] = None
    axes: Annotated[str | None, Parameter(help="Axes of the arrays, in order: time,z,y,x,component.")] = None
    missing: Annotated[
        Literal["refuse", "nan"] | None, Parameter(help="refuse a field with missing values, or carry them as nan.")
    ] = None

    def options(self) -> ReadOptions:
        """What was given.

        Raises:
            FlowsrError: an option that cannot be, or is not written as it should be.
        """
        from flowsr.data.open import ReadOptions, read_options

        given = {name: value for name, value in asdict(self).items() if value}
        for name in ("boundary", "lengths", "axes"):
            if name in given:
                given[name] = tuple(part.strip() for part in given[name].split(","))
        for name in ("select", "units", "irreps"):
            if name in given:
                given[name] = dict(_named(f"--{name}", text) for text in given[name])
        if len(given.get("boundary", ())) == 1:
            given["boundary"] *= 3
        given |= {"select": {axis: _number("--select", n, int) for axis, n in given.get("select", {}).items()}}
        if "lengths" in given:
            given["lengths"] = tuple(_number("--lengths", side, float) for side in given["lengths"])
        return read_options(ReadOptions(), given)


def _named(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise FlowsrError("an option that names what it is of", variable=option, expected="NAME=VALUE", found=text)
    return name.strip(), value.strip()


def _number(option: str, text: str, kind: type):
    try:
        return kind(text)
    except ValueError:
        raise FlowsrError("not a number", variable=option, expected=kind.__name__, found=text) from None


Metrics = Annotated[
    list[str] | None,
    Parameter(
        negative=(),
        converter=lambda _, tokens: [name for token in tokens for name in token.value.split(",") if name],
        help="Which, such as energy,spectra; default: all. They are energy, dissipation, enstrophy, divergence, "
        "skewness, flatness, pdfs, spectra, consistency, errors.",
    ),
]
BOTH_WAYS = "flowsr upscale --help shows both ways to call it"

app = App(
    name="flowsr",
    version=__version__,
    help="Super-resolution of 3-D turbulence with a symmetry that is measured, not assumed.\n\n"
    "Start with: flowsr run configs/demo.yaml",
    help_format="markdown",
    suppress_keyboard_interrupt=False,
)


def _by_the_first(command: Callable[..., None]) -> Callable[..., None]:
    """Of several processes that torchrun or Slurm started, the first does a command; the others train with it."""

    @functools.wraps(command)
    def once(*args, **kwargs) -> None:
        from flowsr.train.ranks import company

        with company() as leads:
            if leads:
                command(*args, **kwargs)

    return once


@app.command
@_by_the_first
def run(
    config: Config, *, set: Overrides = None, workers: SideBySide = None, fresh: Fresh = False, verify: Verify = False
):
    """All five stages: simulate, ingest, train, upscale, compare. Finished ones are reused, damaged ones redone.

    A file with the key `particles` (configs/tracks_demo.yaml) is a comparison on particles, and run as one.
    """
    from flowsr.config.tracks import is_tracks
    from flowsr.pipeline import stages

    if is_tracks(config):
        _run_tracks(config, _beside(set, workers), fresh, verify)
        return
    experiment = _prepare(config, _beside(set, workers))
    with shown() as progress:
        outcome = stages.run(experiment, fresh=fresh, verify=verify, progress=progress)
    _show_comparison(outcome)


@app.command
def simulate(config: Config, *, set: Overrides = None, fresh: Fresh = False, verify: Verify = False):
    """Make turbulence: direct numerical simulation in a periodic box, one run per seed."""
    _stage("simulate", config, set, fresh, verify)


@app.command
def ingest(config: Config, *, set: Overrides = None, fresh: Fresh = False, verify: Verify = False):
    """Validate fields, degrade them by a named operator, split them in time, write coarse / fine pairs."""
    _stage("ingest", config, set, fresh, verify)


@app.command
@_by_the_first
def train(
    config: Config, *, set: Overrides = None, workers: SideBySide = None, fresh: Fresh = False, verify: Verify = False
):
    """Fit the experiment's networks; started again after a kill, it resumes.

    `--workers 2` fits two of them at a time, each with its share of the cores; `--set train.devices=2` fits each on two
    devices. On several machines: see docs/models.md.
    """
    _stage("train", config, _beside(set, workers), fresh, verify)


@app.command
def upscale(
    config: Annotated[
        Path | None,
        Parameter(help="A coarse field of your own; or an experiment, for its networks over its test snapshots."),
    ] = None,
    target: Annotated[Path | None, Parameter(help="What to write, of a field of your own.")] = None,
    *,
    set: Overrides = None,
    fresh: Fresh = False,
    verify: Verify = False,
    input: Annotated[
        list[Path] | None,
        Parameter(
            negative=(),
            help="Coarse fields of your own, instead of an experiment's: a file or store, several (repeat it), a "
            "pattern in quotes ('runs/*.h5') or a folder of them.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        Parameter(help="Folder of a trained model, or the name of one that comes with flowsr; default: what fits."),
    ] = None,
    output: Annotated[
        Path | None,
        Parameter(help="What to write: a Zarr store, or .h5, .nc, .vti by its name; a folder for several inputs."),
    ] = None,
    read: Read = Read(),
    variable: Annotated[str | None, Parameter(help="Variable to upscale; default: velocity.")] = None,
    plan: Annotated[
        bool, Parameter(negative=(), help="Say what it would do, with size, memory and time; write nothing.")
    ] = False,
    memory: Annotated[
        str | None,
        Parameter(help="What all processes here may use together, such as 4GB; default: half of the machine's."),
    ] = None,
    tile: Annotated[
        int | None, Parameter(help="Coarse cells along a tile's side; default: what --memory allows.")
    ] = None,
    device: Annotated[str | None, Parameter(help="auto, cpu or cuda; default: auto.")] = None,
    factor: Annotated[int | None, Parameter(help="Wanted, where no --model is given.")] = None,
    force: Annotated[bool, Parameter(negative=(), help="Upscale also what the model cannot be right for.")] = False,
    strict: Annotated[
        bool, Parameter(negative=(), help="Refuse a field that is not like those that the model was trained on.")
    ] = False,
    metrics: Metrics = None,
    no_metrics: Annotated[bool, Parameter(negative=(), help="Leave no metrics beside the field.")] = False,
    truth: Annotated[Path | None, Parameter(help="The true fine field, for the errors.")] = None,
    truth_group: Annotated[str | None, Parameter(help="Group inside the truth.")] = None,
    workers: Workers = None,
    devices: Annotated[int | None, Parameter(help="The same with a CUDA device for each process.")] = None,
    scheduler: Scheduler = None,
):
    """Write the fine field from a coarse one, tile by tile, whatever its size.

    **An experiment's stage:** `flowsr upscale configs/demo.yaml`.

    **A field of your own,** with the model that fits it among those that come with flowsr: it says which, and why.

        flowsr upscale coarse.h5 fine.zarr --factor 4

    **With a model of your own:** look first, then do it; all cores of this machine are used.

        flowsr upscale --input coarse.zarr --model runs/demo/train/relaxed --output fine.zarr --plan

        flowsr upscale --input coarse.zarr --model runs/demo/train/relaxed --output fine.zarr

    **Many, or larger ones:** `--input 'runs/*.h5' --output fine` upscales each file into the folder; a bad one does not
    stop the others, is named at the end, and makes the exit code 2. `--workers 8` uses eight processes, `--devices 4`
    four GPUs, `--scheduler scheduler.json` any Dask cluster that sees the same files. The result is the same to the
    last bit, whatever the number of workers. What was killed resumes when the same command is given again.

    Beside the field it leaves its physics: spectra, energy, dissipation and more, of input and output, as the group
    `metrics` and as `report/report.html` in the same store; beside a file of another format as a folder `.report`.
    """
    if target is not None:
        _refuse_given({"--input": input or None, "--output": output}, "a field and what to write")
        config, input, output = None, [config], target
    elif config is not None and config.suffix not in (".yaml", ".yml"):
        raise FlowsrError("what to write is missing", file=config, hint=f"flowsr upscale {config.name} fine.zarr")
    paths = {"--input": input or None, "--model": model, "--output": output}
    choices = {"variable": variable, "tile": tile, "device": device, "factor": factor}
    places = {"memory": memory, "workers": workers, "devices": devices, "scheduler": scheduler}
    flags = {"plan": plan, "force": force, "strict": strict, "no-metrics": no_metrics}
    if config is not None:
        named = {**choices, **asdict(read), **places, "metrics": metrics, "truth": truth, "truth-group": truth_group}
        options = {f"--{name}": value for name, value in {**named, **{k: v or None for k, v in flags.items()}}.items()}
        _refuse_given({**paths, **options}, "CONFIG")
        _stage("upscale", config, set, fresh, verify)
        return
    for option, value in paths.items():
        if value is None and option != "--model":
            missing = "CONFIG or --input" if option == "--input" else option
            raise FlowsrError(f"{missing} is missing", hint=BOTH_WAYS)
    _refuse_given({"--set": set}, "--input")
    from flowsr.models import served_model
    from flowsr.pipeline.cluster import crew_of
    from flowsr.pipeline.upscaling import describe, jobs_for, read_size, upscale_fields
    from flowsr.pipeline.work import metrics_beside
    from flowsr.upscale import UpscaleOptions
    from flowsr.upscale.plan import survey_field

    _logs()
    if no_metrics:
        _refuse_given({"--metrics": metrics, "--truth": truth}, "--no-metrics")
    _refuse_group("--truth", truth, truth_group)
    given = {name: value for name, value in choices.items() if value is not None}
    given |= {"overwrite": fresh, "force": force, "strict": strict}
    observers = () if no_metrics else (metrics_beside(metrics, truth, truth_group),)
    how = UpscaleOptions(read=read.options(), memory=read_size(memory), observers=observers, verify=verify, **given)
    jobs = jobs_for(input, output, served_model(model), how)
    if plan:
        bad = []
        for job in jobs:
            try:
                _say(*describe(survey_field(job.plan(trial=True)), workers or devices))
            except FlowsrError as error:
                bad.append(str(error))
        _refuse_bad(bad, len(jobs), "the others can be done")
        return
    with crew_of(workers, devices, scheduler) as crew, shown() as progress:
        if len(jobs) == 1:
            jobs[0].run(crew, progress.part("upscale"))
            _say(f"upscaled field: {jobs[0].target}")
            _say_metrics(jobs[0].target)
            return
        outcomes = upscale_fields(jobs, crew, progress.part("upscale"))
    for outcome in outcomes:
        if not outcome.failed:
            _say(f"upscaled field: {outcome.job.target}")
        elif outcome.waiting:
            _say(f"waiting: {outcome.failed}")
    bad = [outcome.failed for outcome in outcomes if outcome.failed and not outcome.waiting]
    _refuse_bad(bad, len(outcomes), "the others are done")


def _refuse_bad(lines: list[str], count: int, others: str) -> None:
    """Say what is wrong with some of the inputs, or with the only one."""
    if lines and count == 1:
        raise FlowsrError(lines[0])
    for line in lines:
        _failed(line)
    if lines:
        raise FlowsrError(f"{len(lines)} of {count} fields failed, {others}")


def _say_metrics(store: Path) -> None:
    from flowsr.evaluate.result import metrics_lines, read_metrics

    dataset = read_metrics(store)
    if dataset is not None:
        _say(*metrics_lines(dataset), f"report: {store / 'report' / 'report.html'}")


@app.command
def init(folder: Annotated[Path, Parameter(help="Folder to lay it down in; default: this one.")] = Path(".")):
    """Lay down configurations and deployments to begin with; files that are there already stay.

    Then `flowsr run configs/demo.yaml`, or `flowsr serve` for schedules and the watched folder.
    """
    from flowsr.flows.serve import init as lay_down

    written = lay_down(folder)
    _say(*(str(path) for path in written)) if written else _say("nothing to write: all is there")


@app.command
def serve(
    folder: Annotated[Path, Parameter(help="Folder that `flowsr init` made; default: this one.")] = Path("."),
    *,
    port: Annotated[int, Parameter(help="Of the server, where none is named by PREFECT_API_URL.")] = 4200,
    notify: Annotated[str | None, Parameter(help="Address that failures are posted to, as JSON.")] = None,
):
    """Schedules in one command: server, deployments and a worker, until Ctrl-C.

    The nightly experiment and the watched folder are those of prefect.yaml in the folder. The dashboard is at
    http://127.0.0.1:4200.
    """
    from flowsr.flows.serve import serve as run_all

    run_all(folder.resolve(), port=port, notify=notify, say=_say)


@app.command
def publish(
    model: Annotated[Path, Parameter(help="Folder of a trained model, such as runs/demo/train/relaxed.")],
    served: Annotated[Path, Parameter(help="Folder that keeps the versions, and `current`, which leads to one.")],
):
    """Serve a trained model: one more version of it, and `current` leads to that from now on.

    Whoever upscales with `SERVED` (the watched folder, or `flowsr upscale --model SERVED`) takes the current version,
    whole, whatever is trained meanwhile. An earlier version is current again when `current` is made a link to it.
    """
    from flowsr.models import publish_model

    _say(f"published: {publish_model(model, served)}")


@app.command
def evaluate(
    field: Annotated[Path, Parameter(help="A field of any format that flowsr inspect understands, of any size.")],
    *,
    truth: Annotated[Path | None, Parameter(help="The true field on the same grid, for the errors.")] = None,
    input: Annotated[Path | None, Parameter(help="The coarse field that it was made of, for the consistency.")] = None,
    output: Annotated[Path | None, Parameter(help="Folder to write; default: FIELD.metrics.zarr beside it.")] = None,
    metrics: Metrics = None,
    truth_group: Annotated[str | None, Parameter(help="Group inside the truth.")] = None,
    input_group: Annotated[str | None, Parameter(help="Group inside the input.")] = None,
    variable: Annotated[str | None, Parameter(help="Variable; default: the velocity, or the first.")] = None,
    read: Read = Read(),
    workers: Workers = None,
    scheduler: Scheduler = None,
):
    """Physics metrics of a field: spectra, energy, dissipation, gradients and more, read once, whatever its size.

    `flowsr evaluate fine.zarr --truth dns.h5` adds the errors, `--input coarse.zarr` the consistency with the input.
    What it leaves is a Zarr store with the group `metrics`, and in it `report/report.html` and `report/metrics.json`.
    """
    from flowsr.evaluate import evaluate_field, metrics_lines
    from flowsr.pipeline.cluster import crew_of
    from flowsr.report.metrics_page import write_metrics

    _logs()
    _refuse_group("--truth", truth, truth_group)
    _refuse_group("--input", input, input_group)
    output = output or Path(f"{os.path.abspath(field)}.metrics.zarr")
    with crew_of(workers, None, scheduler) as crew, shown() as progress:
        dataset = evaluate_field(
            field,
            output,
            options=read.options(),
            variable=variable,
            truth=truth,
            truth_group=truth_group,
            coarse=input,
            coarse_group=input_group,
            metrics=metrics,
            write=write_metrics,
            spread=crew,
            progress=progress.part("evaluate"),
        )
    _say(*metrics_lines(dataset), f"report: {output / 'report' / 'report.html'}")


@app.command
@_by_the_first
def compare(
    config: Annotated[Path, Parameter(help="A study or an experiment, a YAML file: configs/compare_small.yaml.")],
    *,
    set: Overrides = None,
    workers: SideBySide = None,
    fresh: Fresh = False,
    verify: Verify = False,
):
    """Say which differences between models are real: table with intervals, plots, report.html.

    **A study** (a file with the key `data`) is run from nothing: flows are simulated or read, every network is trained
    once per seed, all models are tested on the same held-out snapshots, and each one's difference to the references
    gets an interval over independent blocks of snapshots and over seeds. Rows are kept one by one: a study that was
    killed resumes, and a model or seed that is added later adds its rows only.

        flowsr compare configs/compare_small.yaml --workers 2

    `data` names the flows: role `train_and_test` or `test_only`. `models` names the models, trained or not.
    `seeds`, `budget` (by parameters or multiply_adds, like a model or an amount), `train`, `learning_curve` (sizes),
    `compare` (metrics, rank_by, references) say the rest. What it leaves in its output folder: `report.html`,
    `compare/table.md`, `table.csv`, `differences.csv`, `tidy.parquet` and `tidy.csv` (one line per model, data, size,
    seed, snapshot and metric), `study.json`; beside each network's weights `card.md`. See docs/comparison.md.

    **An experiment** (as `flowsr run` takes it) has this, its last stage, run on what the others left.

        flowsr compare configs/demo.yaml

    **Particles** (a file with the key `particles`, configs/tracks_small.yaml): clouds of particles in simulated flows
    become fields again, by methods and by networks, per density and noise. See docs/tracks.md.
    """
    from flowsr.config.study import is_study
    from flowsr.config.tracks import is_tracks

    set = _beside(set, workers)
    if is_tracks(config):
        _run_tracks(config, set, fresh, verify)
        return
    if is_study(config):
        _run_study(config, set, fresh, verify)
        return
    from flowsr.pipeline import stages

    experiment = _prepare(config, set)
    with shown() as progress:
        outcome = stages.compare(experiment, fresh=fresh, verify=verify, progress=progress)
    _show_comparison(outcome)


def _run_study(config: Path, overrides: list[str] | None, fresh: bool, verify: bool) -> None:
    from flowsr.config.study import load_study
    from flowsr.pipeline.stages import run as run_stages

    _logs()
    study = load_study(config, overrides or ())
    with shown() as progress:
        outcome = run_stages(study, fresh=fresh, verify=verify, progress=progress)
    _show_comparison(outcome)


def _run_tracks(config: Path, overrides: list[str] | None, fresh: bool, verify: bool) -> None:
    from flowsr.config.tracks import load_tracks
    from flowsr.pipeline.tracking import run as run_tracks

    _logs()
    study = load_tracks(config, overrides or ())
    with shown() as progress:
        outcome = run_tracks(study, fresh=fresh, verify=verify, progress=progress)
    _show_comparison(outcome)


@app.command
def symmetry(
    config: Annotated[Path | None, Parameter(help="Discovery, a YAML file (see configs/symmetry/).")] = None,
    *,
    set: Overrides = None,
    fresh: Fresh = False,
    verify: Verify = False,
    input: Annotated[
        list[Path] | None,
        Parameter(negative=(), help="A field of your own, instead of CONFIG. May be repeated; each run by itself."),
    ] = None,
    task: Annotated[str | None, Parameter(help="dynamics, superres or pair.")] = None,
    output: Annotated[Path | None, Parameter(help="Folder to write to.")] = None,
    read: Read = Read(),
):
    """Which symmetries of the cube does a flow break? The group that is left and the irreps broken, in words and JSON.

    Either a discovery that a file describes: `flowsr symmetry configs/symmetry/rotating.yaml`, or fields of your own:
    `flowsr symmetry --input run1.h5 --input run2.h5 --task dynamics --output found`. Either takes `--set`. In a file
    `inputs` are paths, or `{path: les.nc, boundary: [periodic, periodic, wall], time: 10:20}`.
    """
    from flowsr.config.symmetry import load_symmetry, parse_symmetry
    from flowsr.pipeline.discovering import discover_symmetry
    from flowsr.settings import apply_overrides

    given = {"--input": input or None, "--task": task, "--output": output}
    both = "flowsr symmetry --help shows both ways to call it"
    if config is not None:
        _refuse_given({**given, **{f"--{name}": value for name, value in asdict(read).items()}}, "CONFIG", hint=both)
        settings = load_symmetry(config, set or ())
    else:
        for option, value in given.items():
            if value is None:
                raise FlowsrError(f"{'CONFIG or --input' if option == '--input' else option} is missing", hint=both)
        said = read.options().declared()
        inputs = [{"path": str(path), **said} if said else str(path) for path in input]
        stated = {"name": output.name, "inputs": inputs, "task": task, "output": str(output)}
        settings = parse_symmetry(apply_overrides(stated, set or ()))
    _logs()
    with shown() as progress:
        found = discover_symmetry(settings, fresh=fresh, verify=verify, progress=progress)
    _say(*found.sentences)
    for what, path in (("numbers", found.path), ("report", found.path.with_name("report.html"))):
        if path.exists():
            _say(f"{what}: {path}")
    use = "No network should be built on it." if found.discovery.blind else "To build a network on it, as train.models:"
    _say(use, *(() if found.discovery.blind else [found.discovery.config_line]))


@app.command
def inspect(
    file: Annotated[Path, Parameter(help="A file, a Zarr store, a folder of BLASTNet cubes, or a manifest.")],
    *,
    manifest: Annotated[
        bool, Parameter(negative=(), help="Print a manifest that reads the file, ready to save, in place of a report.")
    ] = False,
    read: Read = Read(),
):
    """Say what a file is: layout, variables, grid, boundaries, ranges, divergence, spectrum. Seconds at any size.

    Of a file that cannot be read, or with `--manifest`, it prints the manifest that would read it, as far as the file
    tells: `flowsr inspect FILE --manifest > mine.yaml`, fill the blanks, and `flowsr inspect mine.yaml`.
    """
    from flowsr.data import inspect as look
    from flowsr.data.suggest import suggested_manifest

    options = read.options()
    if manifest:
        print(printable(suggested_manifest(file, options)), end="")
        return
    try:
        lines = look(file, options).lines()
    except FlowsrError as error:
        with suppress(FlowsrError):
            if file.exists() and file.suffix not in (".yaml", ".yml") and error.__cause__ is None:
                print(printable(suggested_manifest(file, options)), end="")
        raise
    _say(*lines)


@app.command
def view(
    file: Annotated[Path, Parameter(help="A field of any layout that flowsr inspect understands.")],
    *,
    compare: Annotated[Path | None, Parameter(help="Another field beside it, such as what it was made of.")] = None,
    output: Annotated[Path | None, Parameter(help="Picture to write, .png or .svg; default: FILE.view.png.")] = None,
    variable: Annotated[str, Parameter(help="Variable to look at.")] = "velocity",
    snapshot: Annotated[int, Parameter(help="Number of the snapshot; -1 is the last.")] = -1,
    compare_group: Annotated[str | None, Parameter(help="Group of the other field, coarse say.")] = None,
    read: Read = Read(),
):
    """Draw a field: speed and vorticity on the middle plane, and the energy spectrum, or the profiles between walls.

    flowsr view fine.zarr --compare coarse.h5
    """
    from flowsr.data import grid_of, open_field
    from flowsr.errors import missing_variable
    from flowsr.report.figures.view import ViewedField, view_figure
    from flowsr.report.html import write_figure

    _logs()
    opened = [(file, open_field(file, read.options()))]
    if compare is not None:
        opened.append((compare, open_field(compare, group=compare_group)))
    viewed = []
    for path, dataset in reversed(opened):
        if variable not in dataset:
            raise missing_variable(variable, dataset.data_vars, file=path)
        count = dataset.sizes["time"]
        if not -count <= snapshot < count:
            where = {"file": path, "variable": "snapshot", "expected": f"0 to {count - 1}", "found": snapshot}
            raise FlowsrError("no such snapshot", **where)
        array = dataset[variable].isel(time=snapshot)
        viewed.append(ViewedField.of(array, grid_of(dataset, path), path.name, dataset.attrs))
    target = output or Path(f"{file.name}.view.png")
    if target.suffix not in (".png", ".svg"):
        raise FlowsrError(
            "a picture of another kind", variable="--output", expected=".png or .svg", found=target.suffix
        )
    write_figure(target, view_figure(viewed))
    _say(f"picture: {target}")


@app.command
def convert(
    source: Annotated[Path, Parameter(help="What to read: any layout that flowsr inspect understands.")],
    target: Annotated[Path, Parameter(help="What to write: .zarr, .h5, .nc, .vti, .pvd or, with --layout, any name.")],
    *,
    layout: Annotated[str | None, Parameter(help="zarr, hdf5, jhtdb, well, netcdf or vtk; default: by suffix.")] = None,
    read: Read = Read(),
    chunk: Annotated[int, Parameter(help="Cells along the sides of a Zarr chunk.")] = 64,
    shard: Annotated[int, Parameter(help="Cells along the sides of a Zarr shard, which is one file.")] = 256,
    lossy: Annotated[bool, Parameter(negative=(), help="Leave out what the layout cannot hold.")] = False,
    fresh: Fresh = False,
    verify: Verify = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
):
    """Copy a field into another layout, piece by piece, checked by checksum; started again after a kill, it resumes.

    `.pvd` is a series for ParaView: a VTK file a snapshot, with vorticity and Q beside the velocity.

        flowsr convert fine.zarr fine.pvd

    A Zarr store may be written by several: `--workers 8`, or `--scheduler scheduler.json`.
    """
    from flowsr.data import convert as copy
    from flowsr.pipeline.cluster import crew_of

    _logs()
    _verify_store(target, verify and not fresh)
    with crew_of(workers, None, scheduler) as crew, shown() as progress:
        copy(
            source,
            target,
            read.options(),
            layout=layout,
            chunk=chunk,
            shard=shard,
            lossy=lossy,
            fresh=fresh,
            spread=crew,
            progress=progress.part("convert"),
        )
    _say(f"converted: {target}")


@app.command
def tracks(
    file: Annotated[
        Path,
        Parameter(help="Particles with velocities: columns of text, CSV, Parquet, flowtracks, ptv_is, a manifest."),
    ],
    output: Annotated[
        Path,
        Parameter(help="Zarr store to write; .dat, .txt or .csv: columns, with the store of that name beside them."),
    ],
    *,
    method: Annotated[
        str | None,
        Parameter(
            help="solenoidal, bspline, navier_stokes (which takes accelerations), linear, rbf, gaussian, local_fit, "
            "nearest or network; default: as --model."
        ),
    ] = None,
    model: Annotated[
        Path | None, Parameter(help="Folder of a network trained on particles, which corrects solenoidal.")
    ] = None,
    noise: Annotated[
        float | None,
        Parameter(
            help="Standard deviation of a measured velocity, in its unit; of solenoidal; default: the file's, or found."
        ),
    ] = None,
    cells: Annotated[
        tuple[int, int, int] | None, Parameter(help="Cells along x, y, z; default: cubes, eight a particle.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        Parameter(negative=(), help="What a column is, in order, where a table does not say; - for one to ignore."),
    ] = None,
    lower: Annotated[tuple[float, float, float] | None, Parameter(help="Low corner of the measured box.")] = None,
    upper: Annotated[tuple[float, float, float] | None, Parameter(help="High corner; default: the particles'.")] = None,
    boundary: Annotated[
        tuple[str, str, str] | None, Parameter(help="periodic, wall or open along x, y, z; default: open.")
    ] = None,
    pressure: Annotated[
        bool, Parameter(negative=(), help="Pressure over density as well; in periodic boxes, or of navier_stokes.")
    ] = False,
    viscosity: Annotated[
        float | None,
        Parameter(
            help="Kinematic viscosity, velocity times length in the file's units; of navier_stokes; default: none."
        ),
    ] = None,
    uncertainty: Annotated[
        bool, Parameter(negative=(), help="The velocity's standard deviation as well; of solenoidal.")
    ] = False,
    interval: Annotated[float, Parameter(help="Time between two frames, where a folder numbers them.")] = 1.0,
    workers: Annotated[
        int | None, Parameter(help="Processes that share the points; default: one per core where there are many.")
    ] = None,
    fresh: Fresh = False,
    verify: Verify = False,
):
    """From particle tracks to a field: velocity, its gradient and vorticity on a grid, one snapshot per instant.

    flowsr tracks tracks.dat field.zarr
    flowsr tracks frames/snapshot_0025.dat field.dat --interval 0.001
    flowsr tracks tracks.csv field.zarr --cells 64 64 64 --lower 0 0 0 --upper 1 1 1 --method bspline
    flowsr tracks tracks.dat field.zarr --model runs/tracks_demo/train/l_max_1
    """
    from flowsr.devices import processors
    from flowsr.tracks import open_tracks, tracks_to_field, write_columns

    _logs()
    store = output.with_suffix(".zarr") if output.suffix in (".dat", ".txt", ".csv") else output
    _verify_store(store, verify and not fresh)
    named = [name for each in columns or () for name in each.split(",")]
    box = {"lower": lower, "upper": upper, "boundary": boundary}
    points = open_tracks(file, columns=named or None, interval=interval, **box)
    given = {"noise": noise, "model": model, "viscosity": viscosity}
    options = {name: value for name, value in given.items() if value is not None}
    method = method or ("solenoidal" if model is None else "network")
    if workers is None:
        asked = points.sizes["point"] + math.prod(cells or (0,))
        workers = processors() if asked > MANY_PARTICLES else 1
    with shown() as progress:
        part = progress.part(f"tracks {file.name}")
        how = {"cells": cells, "pressure": pressure, "uncertainty": uncertainty, "workers": workers, "fresh": fresh}
        tracks_to_field(points, store, method=method, options=options, **how, progress=part)
    if store != output:
        write_columns(store, output)
    _say(f"field of {points.sizes['point']} particles: {output}")


@app.command
def tracers(
    run: Annotated[
        Path, Parameter(help="A run of `flowsr simulate` in a periodic box: runs/demo/simulate/seed_000.zarr.")
    ],
    output: Annotated[Path, Parameter(help="Table to write, .csv or .parquet; its box stands in a .yaml beside it.")],
    *,
    snapshot: Annotated[int, Parameter(help="Which snapshot of the run they start at; -1 the last.")] = -1,
    count: Annotated[int, Parameter(help="Particles at random places.")] = 1000,
    steps: Annotated[int, Parameter(help="Instants of each track.")] = 1,
    interval: Annotated[float, Parameter(help="Time between them.")] = 0.05,
    noise: Annotated[float, Parameter(help="Standard deviation of a measured position, in cells of the run.")] = 0.0,
    dropped: Annotated[float, Parameter(help="Share of the particles that is not seen, at each instant anew.")] = 0.0,
    seed: Annotated[int, Parameter(help="Of places, noise and what is dropped.")] = 0,
):
    """Tracks of particles that a simulated flow carries: a tracking experiment whose truth is known.

    flowsr tracers runs/demo/simulate/seed_000.zarr tracks.csv --count 10000 --steps 5
    flowsr tracks tracks.yaml field.zarr
    """
    from flowsr.simulate.tracers import Tracers, write_tracks

    _logs()
    asked = Tracers(count, steps, interval, noise, dropped, seed)
    with shown() as progress:
        manifest = write_tracks(run, output, asked, snapshot=snapshot, progress=progress.part(f"tracers {run.name}"))
    _say(f"{count} particles at {steps} instants: {output}", f"as a field: flowsr tracks {manifest} field.zarr")


@app.command
def verify(
    path: Annotated[
        list[Path], Parameter(help="Zarr stores, folders of models or of whole runs, manifests: one or more.")
    ],
):
    """Read everything again and say whether it still is what was written; damage is named file by file, exit code 2.

    Covered: every file of a Zarr store that flowsr wrote, the weights of a model, the outputs of every finished step
    in a run's folder or an outbox, and the files of a manifest that have a `sha256`. HDF5, NetCDF and VTK files hold
    no checksums of their own.

        flowsr verify runs/demo
    """
    from flowsr.pipeline.verify import verify as look

    damaged = 0
    for one in path:
        with shown() as progress:
            found = look(one, progress=progress.part(f"verify {one.name}"))
        _say(*(str(damage) for damage in found.damaged), *(f"{file}: no checksum is known" for file in found.unchecked))
        if not found.damaged:
            _say(f"{one}: {found.checked} as they were written, {found.bytes / 1e6:,.1f} MB read")
        damaged += len(found.damaged)
    if damaged:
        what = "file is" if damaged == 1 else "files are"
        raise FlowsrError(f"{damaged} {what} not as written", hint="copy them back, or start what made them again")


@app.command(name="config")
def show_config(
    config: Annotated[Path, Parameter(help="Experiment or study, a YAML file (see configs/).")],
    *,
    set: Overrides = None,
):
    """Print the resolved experiment or study, every default written out."""
    from flowsr.config.study import dump_experiment, dump_study, is_study, load_experiment, load_study
    from flowsr.config.tracks import dump_tracks, is_tracks, load_tracks

    if is_tracks(config):
        text = dump_tracks(load_tracks(config, set or ()))
    elif is_study(config):
        text = dump_study(load_study(config, set or ()))
    else:
        text = dump_experiment(load_experiment(config, set or ()))
    print(text, end="")


@app.command(name="models")
def show_models(
    *,
    pretrained: Annotated[
        bool, Parameter(negative=(), help="Those that come with flowsr, trained: a name is all that upscaling needs.")
    ] = False,
):
    """List the registered models, and what each is; or, with --pretrained, the trained ones that come with flowsr."""
    from flowsr.models import MODELS

    if pretrained:
        from flowsr.models.pretrained import pretrained_lines

        _say(*pretrained_lines())
        return
    for name, model in MODELS.items():
        _say(f"{name:<14} {(model.__doc__ or '').strip().partition(chr(10))[0]}")


model_app = App(name="model", help="Look at a trained model: what it is, whether it is whole, how two differ.")
app.command(model_app)
TrainedModel = Annotated[
    Path, Parameter(help="Folder of a trained model, or the name of one that comes with flowsr, such as hit-x4.")
]


@model_app.command(name="info")
def model_info(model: TrainedModel):
    """Say what a trained model is: factor, data, where it is at home, its errors, licence and how to make it again."""
    from flowsr.models.pretrained import info_lines

    _say(*info_lines(model))


@model_app.command(name="verify")
def model_verify(model: TrainedModel):
    """Check what a trained model owes: its own weights, its own symmetry, any unit, any frame, its reference output.

    Exit code 2 where it does not keep one of its promises.
    """
    from flowsr.models.verify import verify_model

    broken = 0
    for check in verify_model(model):
        broken += check.passed is False
        _say(f"{ {True: 'ok', False: 'BROKEN', None: 'is'}[check.passed]:<7} {check.what}: {check.found}")
    if broken:
        raise FlowsrError("not what its card says", file=model, found=f"{broken} broken promises")


@model_app.command(name="diff")
def model_diff(one: TrainedModel, other: TrainedModel):
    """Say in what two trained models differ: kind, options, training, home, weights."""
    from flowsr.models.verify import compare_models

    differences = list(compare_models(one, other))
    for what, first, second in differences:
        _say(f"{what}: {first} | {second}")
    if not differences:
        _say("no difference")


@app.command
def export(
    model: TrainedModel,
    target: Annotated[Path, Parameter(help="File to write, .pt2.")],
    *,
    tile: Annotated[
        bool, Parameter(negative=(), help="For parts of a field with a halo about them, instead of whole fields.")
    ] = False,
    boundary: Annotated[
        str | None, Parameter(help="Along x,y,z: periodic,wall,open or one word; default: what the model is used to.")
    ] = None,
    like: Annotated[
        Path | None, Parameter(help="A coarse field whose sides, shape of cells and stretched axes it will be for.")
    ] = None,
    size: Annotated[
        tuple[int, int, int] | None, Parameter(help="Cells along x, y, z, for a model that cannot be for any size.")
    ] = None,
    precision: Annotated[Literal["float32", "float64"], Parameter(help="Of what goes in and comes out.")] = "float32",
    program: Annotated[
        bool, Parameter(negative=(), help="The graph alone, which needs Python to run, and no compiler now.")
    ] = False,
    device: Annotated[Literal["cpu", "cuda"], Parameter(help="What it will run on.")] = "cpu",
):
    """Write a model as one compiled file for programs in C++, C and Fortran; they need libtorch, and no Python.

    Whole coarse field in, whole fine field out, in any units and of any size: the sides, the mean flow and the scale
    are dealt with inside. It takes about a minute, and is compared with the model before it appears. See
    docs/doors.md and examples/programs, whose CMake builds an example in each language.

        flowsr export hit-x4 hit-x4.pt2
    """
    from flowsr.data import grid_of, open_field
    from flowsr.models import load_model
    from flowsr.models.export import export_model

    sides = None if boundary is None else tuple(part.strip() for part in boundary.split(","))
    with shown() as progress:
        found = export_model(
            load_model(model),
            target,
            graph="tile" if tile else "field",
            grid=None if like is None else grid_of(open_field(like), like),
            boundary=sides if sides is None or len(sides) == 3 else sides * 3,
            size=size,
            precision=precision,
            compiled=not program,
            device=device,
            progress=progress.part(f"export {model.name}"),
        )
    fits = "any size" if found.size is None else " x ".join(map(str, found.size)) + " cells"
    _say(f"exported: {found.path}, {found.graph} graph, {fits}; differs from the model by {found.error:.1g}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; bad input, and memory or a disk that fails, is one line on stderr and exit code 2."""
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except (FlowsrError, cyclopts.CycloptsError) as error:
        return _failed(str(error))
    except BrokenPipeError:
        _give_up_output()
        return 1
    except Exception as error:
        line = circumstance(error)
        if line is None:
            raise
        _give_up_output()
        return _failed(line)
    except (KeyboardInterrupt, SystemExit) as ending:
        if not _was_interrupted(ending):
            raise
        print("interrupted; start the same command again to resume", file=sys.stderr)
        return 130
    return 0


def _was_interrupted(ending: BaseException) -> bool:
    """Also where a library answers Ctrl-C with an exit of its own, as Lightning does to end a fit."""
    return isinstance(ending, KeyboardInterrupt) or isinstance(ending.__context__, KeyboardInterrupt)


def _failed(message: str) -> int:
    line = Text.assemble(("error:", "bold red"), f" {printable(' '.join(message.split()))}")
    Console(stderr=True).print(line, soft_wrap=True, highlight=False)
    return 2


def _say(*lines: str) -> None:
    """Lines on stdout as they are: no markup, no line breaks, and nothing from a file that a terminal would obey."""
    for line in lines:
        Console().print(printable(line), soft_wrap=True, highlight=False, markup=False)


def _give_up_output() -> None:
    """Where stdout takes nothing more, what is left for it is dropped: Python would try, and fail, again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _refuse_given(options: dict[str, object], beside: str, hint: str = BOTH_WAYS) -> None:
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise FlowsrError(f"{', '.join(given)} cannot be given with {beside}", hint=hint)


def _refuse_group(option: str, field: Path | None, group: str | None) -> None:
    if group is not None and field is None:
        raise FlowsrError(f"{option}-group is of {option}, which is missing")


def _verify_store(target: Path, wanted: bool) -> None:
    """Compare the checksums of a store that is there already, before it is used again."""
    from flowsr.data.store import is_store, refuse_damaged

    if wanted and is_store(target):
        refuse_damaged(target, deep=True)


def _stage(name: str, config: Path, overrides: list[str] | None, fresh: bool, verify: bool) -> None:
    from flowsr.pipeline import stages

    experiment = _prepare(config, overrides)
    with shown() as progress:
        stages.STAGES[name](experiment, fresh=fresh, verify=verify, progress=progress)
    _say(f"{name}: {experiment.output / name}")


def _beside(overrides: list[str] | None, workers: int | None) -> list[str]:
    return [*(overrides or ()), *([] if workers is None else [f"workers={workers}"])]


def _prepare(config: Path, overrides: list[str] | None):
    from flowsr.config.study import load_experiment

    _logs()
    return load_experiment(config, overrides or ())


def _logs() -> None:
    lines = logging.StreamHandler()
    lines.setFormatter(PrintableLines())
    logging.basicConfig(handlers=[lines], level=logging.WARNING)
    logging.getLogger("flowsr").setLevel(logging.INFO)


def _show_comparison(outcome) -> None:
    Console().print(outcome.table)
    _say(outcome.verdict, f"report: {outcome.report}")
