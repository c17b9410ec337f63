"""A symmetry discovery in steps: simulate where asked to, train network after network, then put them together."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from flowsr.config.schema import Experiment
from flowsr.config.symmetry import SymmetrySettings, dump_symmetry
from flowsr.data.degrade import DEGRADE_OPERATORS
from flowsr.devices import resolve_device, use_threads
from flowsr.errors import FlowsrError
from flowsr.files import tree_checksum, write_json_atomic, write_text_atomic
from flowsr.pipeline.steps import Done, Step, perform
from flowsr.progress import SILENT, Progress
from flowsr.symmetry.discover import Method, check_enough, conclude, train_one
from flowsr.symmetry.network import NetworkShape, Training
from flowsr.symmetry.randomization import Significance, least_units
from flowsr.symmetry.result import Discovery
from flowsr.symmetry.samples import Reading, read_samples
from flowsr.symmetry.saving import load_trained, save_trained
from flowsr.symmetry.tasks import Samples

FOLDER, FOUND, PAGE = "symmetry", "discovery.json", "report.html"


@dataclass(frozen=True)
class Found:
    """What a discovery ends with.

    Args:
        numbers: the content of ``discovery.json``.
        path: of ``discovery.json``.
        steps: every step done or reused.
    """

    numbers: dict[str, Any]
    path: Path
    steps: list[Done]

    @property
    def sentences(self) -> list[str]:
        """The findings in words."""
        return self.numbers["sentences"]


def discover_symmetry(settings: SymmetrySettings, *, fresh: bool = False, report: Progress = SILENT) -> Found:
    """All of a discovery, to ``<output>/symmetry/``; finished steps are reused unless ``fresh``."""
    DEGRADE_OPERATORS[settings.operator]
    folder = settings.output / FOLDER
    paths, steps = _inputs(settings, fresh, report)
    use_threads(settings.threads)
    write_text_atomic(folder / "config.yaml", dump_symmetry(settings))
    job = _Job(settings, paths, report)
    inputs = {str(path): tree_checksum(path) for path in paths}
    for seed in settings.seeds:
        steps.append(_network_step(job, folder, seed, inputs, fresh, report))
    networks = [done for done in steps if done.step.title.startswith("network")]
    trained = {name: checksum for done in networks for name, checksum in done.checksums.items()}
    step = Step(
        title="symmetry",
        record=folder / "run.json",
        outputs=(folder / FOUND, folder / PAGE),
        settings=settings.model_dump(mode="json", exclude={"output", "device", "threads", "simulate", "inputs"}),
        inputs={**inputs, **trained},
        about={"device": settings.device, "threads": settings.threads},
    )

    def work():
        networks = [load_trained(folder / name) for name in trained]
        found = conclude(job.samples, networks, job.method, report.part(step.title))
        numbers = _with_data(found, job, inputs).to_json()
        write_json_atomic(folder / FOUND, numbers)
        _write_page(folder / PAGE, numbers, settings, inputs)

    done = perform(step, work, fresh=fresh)
    _tell(report, done)
    return Found(json.loads((folder / FOUND).read_text(encoding="utf-8")), folder / FOUND, [*steps, done])


class _Job:
    """The samples, read when the first step needs them."""

    def __init__(self, settings: SymmetrySettings, paths: list[Path], report: Progress):
        self.settings, self.paths, self.report = settings, paths, report

    @cached_property
    def samples(self) -> Samples:
        s = self.settings
        reading = Reading(s.task, s.variable, s.target, s.operator, s.factor, s.coarsen, s.step, s.memory)
        samples = read_samples(self.paths, reading, self.report.part("read fields"))
        check_enough(samples, self.method)
        return samples

    @cached_property
    def method(self) -> Method:
        s = self.settings
        return Method(
            network=NetworkShape(**s.network.model_dump()),
            training=Training(**s.training.model_dump()),
            significance=Significance(s.false_alarm_rate, s.draws),
            exact=s.exact,
            penalty=s.penalty,
            strength=s.strength,
            device=str(resolve_device(s.device)),
        )


def _network_step(job: _Job, folder: Path, seed: int, inputs: dict[str, str], fresh: bool, report) -> Done:
    decides = {
        "task",
        "variable",
        "target",
        "operator",
        "factor",
        "coarsen",
        "step",
        "memory",
        "exact",
        "network",
        "training",
        "false_alarm_rate",
    }
    step = Step(
        title=f"network {seed}",
        record=folder / f"network_{seed:03d}.json",
        outputs=(folder / f"network_{seed:03d}.npz",),
        settings={**job.settings.model_dump(mode="json", include=decides), "seed": seed},
        inputs=inputs,
        about={"device": job.settings.device, "threads": job.settings.threads},
    )
    progress: Progress = report.part(step.title)
    done = perform(
        step, lambda: save_trained(train_one(job.samples, seed, job.method, progress), step.outputs[0]), fresh=fresh
    )
    _tell(report, done)
    return done


def _inputs(settings: SymmetrySettings, fresh: bool, report: Progress) -> tuple[list[Path], list[Done]]:
    """Files, and the steps that made them."""
    if settings.inputs is not None:
        for path in settings.inputs:
            if not path.exists():
                raise FlowsrError("no such file", file=path, variable="inputs")
        return list(settings.inputs), []
    from flowsr.pipeline import stages

    experiment = Experiment(
        name=settings.name,
        output=settings.output,
        device=settings.device,
        threads=settings.threads,
        simulate=settings.simulate,
    )
    done = stages.simulate(experiment, fresh=fresh, report=report)
    return [each.step.outputs[0] for each in done], done


def _with_data(found: Discovery, job: _Job, inputs: dict[str, str]) -> Discovery:
    """The discovery with what the data say without a network, where they are velocities on a cube with several units."""
    from flowsr.symmetry.invariance import data_symmetry
    from flowsr.symmetry.translation import homogeneity

    samples, significance = job.samples, job.method.significance
    provenance = {**found.provenance, "name": job.settings.name, "inputs": inputs}
    several, cube = len(samples.unit_numbers) > 1, len(set(samples.grid.shape)) == 1
    data = translation = None
    if several and cube and samples.irreps_in == "1o":
        units = (
            samples.runs
            if len(np.unique(samples.runs)) >= least_units(significance.false_alarm_rate)
            else samples.units
        )
        data = data_symmetry(samples.inputs, samples.grid, units=units, significance=significance).to_json()
    if several:
        axes = homogeneity(
            samples.inputs, samples.targets, samples.grid, units=samples.units, significance=significance
        )
        translation = {axis: each.to_json() for axis, each in axes.items()}
    return replace(found, data=_numbers(data), translation=_numbers(translation), provenance=provenance)


def _write_page(path: Path, numbers: dict[str, Any], settings: SymmetrySettings, inputs: dict[str, str]) -> None:
    """The report, without the paths and dates that would make equal findings different."""
    from flowsr.report.page import HowMade
    from flowsr.report.symmetry_page import write_symmetry_report

    how = HowMade(
        config=settings.model_dump(mode="json", exclude_none=True),
        versions=numbers["provenance"].get("versions", {}),
        seeds={"networks": ", ".join(str(seed) for seed in settings.seeds)},
        checksums={Path(name).name: checksum for name, checksum in inputs.items()},
    )
    write_symmetry_report(path, numbers, how, settings.name)


def _numbers(value):
    """The same without NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_numbers(each) for each in value]
    if isinstance(value, (np.floating, np.integer, np.bool_)):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _tell(report: Progress, done: Done) -> None:
    report.part(done.step.title)(1.0, "reused" if done.reused else "done")
