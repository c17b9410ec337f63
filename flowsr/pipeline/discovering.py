"""A symmetry discovery in steps: simulate where asked to, train network after network, then put them together."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import yaml

from flowsr.config.study import Experiment
from flowsr.config.symmetry import SymmetrySettings
from flowsr.data.content import Content
from flowsr.data.degrade import DEGRADE_OPERATORS
from flowsr.data.open import Input
from flowsr.devices import resolve_device, use_threads
from flowsr.errors import missing_file
from flowsr.files import write_json_atomic, write_text_atomic
from flowsr.group import octahedral_group
from flowsr.pipeline import stages
from flowsr.pipeline.steps import Done, Step, perform
from flowsr.progress import SILENT, Progress
from flowsr.report.html import HowMade
from flowsr.report.symmetry_page import write_symmetry_report
from flowsr.symmetry.discover import check_enough, conclude, train_one
from flowsr.symmetry.equivariant import FieldNetwork
from flowsr.symmetry.invariance import data_symmetry
from flowsr.symmetry.isotropy import return_to_isotropy
from flowsr.symmetry.order_parameter import Fitting, order_parameter
from flowsr.symmetry.randomization import least_blocks
from flowsr.symmetry.result import Discovery, GroupName, OrderFinding, Trained
from flowsr.symmetry.reversal import time_reversal
from flowsr.symmetry.tasks import Samples, SampleSettings, read_samples
from flowsr.symmetry.translation import homogeneity

#: Of the order parameters: the least and the most snapshots, and how long the network is trained.
FEW, MOST_SAMPLES, GRADIENT_ONLY = 6, 16, Fitting(iterations=20, rounds=0)

FOLDER, FOUND, PAGE = "symmetry", "discovery.json", "report.html"

#: Beside the samples, what the weights of a network depend on: the tests and penalties come after.
DECIDES_NETWORK = (*(each.name for each in fields(SampleSettings)), "exact", "network", "training", "significance")


@dataclass(frozen=True)
class Discovered:
    """What a discovery ends with.

    Args:
        discovery: the findings, as they are in the file.
        path: of ``discovery.json``.
        steps: every step done or reused.
    """

    discovery: Discovery
    path: Path
    steps: list[Done]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The findings in words."""
        return self.discovery.sentences


def discover_symmetry(
    settings: SymmetrySettings, *, fresh: bool = False, verify: bool = False, progress: Progress = SILENT
) -> Discovered:
    """All of a discovery, to ``<output>/symmetry/``; finished steps are reused unless ``fresh``.

    With ``verify`` the checksums of what is reused are compared, not only names and sizes.
    """
    DEGRADE_OPERATORS[settings.operator]
    folder = settings.output / FOLDER
    given, steps = _inputs(settings, fresh, verify, progress)
    use_threads(settings.threads)
    whole = settings.as_json()
    write_text_atomic(folder / "config.yaml", yaml.safe_dump(whole, sort_keys=False))
    job = _Job(replace(settings, device=resolve_device(settings.device)), given, progress)
    contents = {str(path): Content(path) for path in {one.path: None for one in given}}
    inputs = {path: one.checksum for path, one in contents.items()}
    if any(read := [one.declared() for one in given]):
        whole["read"] = read
    networks = [_network_step(job, folder, seed, whole, inputs, fresh, verify, progress) for seed in settings.seeds]
    trained = {name: checksum for done in networks for name, checksum in done.checksums.items()}
    beside = ("output", "device", "threads", "simulate", "inputs")
    step = Step(
        title="symmetry",
        record=folder / "run.json",
        outputs=(folder / FOUND, folder / PAGE),
        settings={key: value for key, value in whole.items() if key not in beside},
        inputs={**inputs, **trained},
        about={"device": settings.device, "threads": settings.threads},
    )

    def work():
        networks = [Trained.load(folder / name) for name in trained]
        found = conclude(job.samples, networks, job.settings, progress.part(step.title))
        for content in contents.values():
            content.refuse_changed()
        found = _with_data(found, job.samples, job.settings, inputs)
        write_json_atomic(folder / FOUND, found.to_json())
        write_symmetry_report(folder / PAGE, found, _how_made(found, settings, inputs), settings.name)

    done = perform(step, work, fresh=fresh, verify=verify)
    _tell(progress, done)
    found = Discovery.from_json(json.loads((folder / FOUND).read_text(encoding="utf-8")))
    return Discovered(found, folder / FOUND, [*steps, *networks, done])


@dataclass(frozen=True)
class _Job:
    """The samples, read when the first step needs them."""

    settings: SymmetrySettings
    inputs: list[Input]
    progress: Progress

    @cached_property
    def samples(self) -> Samples:
        samples = read_samples(self.inputs, self.settings, self.progress.part("read fields"))
        check_enough(samples, self.settings)
        return samples


def _network_step(
    job: _Job,
    folder: Path,
    seed: int,
    settings: dict,
    inputs: dict[str, str],
    fresh: bool,
    verify: bool,
    progress: Progress,
) -> Done:
    step = Step(
        title=f"network {seed}",
        record=folder / f"network_{seed:03d}.json",
        outputs=(folder / f"network_{seed:03d}.npz",),
        settings={**{key: settings[key] for key in (*DECIDES_NETWORK, "read") if key in settings}, "seed": seed},
        inputs=inputs,
        about={"device": settings["device"], "threads": settings["threads"]},
    )
    part = progress.part(step.title)
    save = step.outputs[0]
    done = perform(
        step, lambda: train_one(job.samples, seed, job.settings, part).save(save), fresh=fresh, verify=verify
    )
    _tell(progress, done)
    return done


def _inputs(
    settings: SymmetrySettings, fresh: bool, verify: bool, progress: Progress
) -> tuple[list[Input], list[Done]]:
    """Files, and the steps that made them."""
    if settings.inputs is not None:
        given = [Input.of(each) for each in settings.inputs]
        for one in given:
            if not one.path.exists():
                raise missing_file(one.path, variable="inputs")
        return given, []
    experiment = Experiment(
        name=settings.name,
        output=settings.output,
        device=settings.device,
        threads=settings.threads,
        simulate=settings.simulate,
    )
    done = stages.simulate(experiment, fresh=fresh, verify=verify, progress=progress)
    return [Input.of(each.step.outputs[0]) for each in done], done


def _with_data(found: Discovery, samples: Samples, settings: SymmetrySettings, inputs: dict[str, str]) -> Discovery:
    """The discovery with what the data say without a network, where they are velocities on a cube with several
    blocks."""
    significance, blocks, translation = settings.significance, samples.blocks, None
    data = reversal = isotropy = None
    if len(samples.block_numbers) > 1:
        translation = homogeneity(
            samples.inputs, samples.targets, samples.grid, blocks=blocks, significance=significance
        )
        if len(set(samples.grid.shape)) == 1 and samples.irreps_in == "1o":
            if len(np.unique(samples.runs)) >= least_blocks(significance.false_alarm_rate):
                blocks = samples.runs
            how = {"blocks": blocks, "significance": significance}
            data = data_symmetry(samples.inputs, samples.grid, **how)
            if samples.grid.periodic and np.ptp(samples.grid.spacing) < 1e-9 * max(samples.grid.spacing):
                isotropy = return_to_isotropy(samples.inputs, samples.grid, **how)
            if samples.task == "dynamics":
                later = samples.inputs + samples.targets
                both = sorted({*data.kept} & {*found.surviving.elements})
                kept = octahedral_group("Oh").subgroup(both)
                reversal = time_reversal(samples.inputs, later, samples.grid, kept, **how)
    provenance = {**found.provenance, "name": settings.name, "inputs": inputs}
    curie = _order_parameter(samples, settings) if settings.order_parameters else None
    order = curie if isinstance(curie, OrderFinding) else None
    skipped = (f"Curie's principle is not asked: {curie}.",) if isinstance(curie, str) else ()
    more = tuple(each.sentence for each in (order, isotropy, reversal) if each is not None) + skipped
    said = (*found.sentences[:-1], *more, found.sentences[-1])
    beside = {"data": data, "reversal": reversal, "isotropy": isotropy}
    beside |= {"translation": translation, "order": order}
    return replace(found, **beside, provenance=provenance, sentences=said)


def _order_parameter(samples: Samples, settings: SymmetrySettings) -> OrderFinding | str:
    """What an equivariant network lacks on a snapshot of each run or, of few runs, of each block; or why not asked."""
    units = samples.runs if len(np.unique(samples.runs)) >= FEW else samples.blocks
    _, first = np.unique(units, return_index=True)
    for reason, holds in (
        ("the data are taken as exact", settings.exact),
        ("the target is finer than the input", samples.factor > 1),
        ("input and target are fields of different types", samples.irreps_in != samples.irreps_out),
        ("the grid is not periodic", not samples.grid.periodic),
        (f"it takes {FEW} independent snapshots, and there are {len(first)}", len(first) < FEW),
    ):
        if holds:
            return reason
    chosen = first[:MOST_SAMPLES]
    scaled = samples.normalized(torch.float64)
    network = FieldNetwork(samples.irreps_in, samples.irreps_out, spacing=samples.grid.spacing)
    network.predicts_change = False
    found = order_parameter(network, scaled.inputs[chosen], scaled.targets[chosen], fitting=GRADIENT_ONLY)
    missing = dict(zip(found.missing, found.names, strict=True))
    return OrderFinding(missing, found.p_values, GroupName.of(found.kept), len(chosen))


def _how_made(found: Discovery, settings: SymmetrySettings, inputs: dict[str, str]) -> HowMade:
    """Without the paths and dates that would make equal findings different."""
    return HowMade(
        config={key: value for key, value in settings.as_json().items() if value is not None},
        versions=found.provenance.get("versions", {}),
        seeds={"networks": ", ".join(str(seed) for seed in settings.seeds)},
        checksums={Path(name).name: checksum for name, checksum in inputs.items()},
    )


def _tell(progress: Progress, done: Done) -> None:
    progress.part(done.step.title)(1.0, "reused" if done.reused else "done")
