"""A comparison on particles, step by step: simulate, see clouds, train, measure, put together.

The same steps as every study's (:mod:`flowsr.pipeline.steps`): done once, reused while their settings stay, resumed
after a kill; the result is the same :class:`flowsr.compare.ComparisonResult`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch

from flowsr.compare import ComparisonResult, write_tables
from flowsr.compare.result import PARTICLES, DataSet, Measured, MeasuredRow, Metric, Row, Rules, rounded
from flowsr.config.tracks import TracksStudy, dump_tracks
from flowsr.data import grid_of, open_field
from flowsr.data.independence import turnover_time
from flowsr.devices import processes_of, resolve_device
from flowsr.files import plain, write_bytes_atomic, write_json_atomic, write_text_atomic
from flowsr.grid import Grid
from flowsr.metrics.coherence import LEAST_COHERENCE, Coherence
from flowsr.metrics.scales import flow_statistics
from flowsr.pipeline import work
from flowsr.pipeline.stages import Outcome
from flowsr.pipeline.steps import Done, Step, do
from flowsr.progress import SILENT, Progress
from flowsr.provenance import versions
from flowsr.report import write_report
from flowsr.report.comparison_page import study_how_made
from flowsr.report.figures.particles import ParticlePlane, particles_picture
from flowsr.report.html import Picture
from flowsr.simulate.settings import Simulation
from flowsr.simulate.tracers import acceleration_of
from flowsr.tracks import METHODS, Truth, grid_points, open_tracks, tracks_to_field, vorticity
from flowsr.tracks.classical import Estimate
from flowsr.tracks.learned import CARD, WEIGHTS, correct, hear, load_network
from flowsr.tracks.network import NetworkOptions
from flowsr.tracks.particles import Condition, Seeding, known_everywhere, lattice_of, pressure_of_velocity
from flowsr.tracks.training import Example, example_of, load_examples, save_examples, train_network
from flowsr.train.settings import Schedule
from flowsr.workers import Job, worker_pool

METRICS = {
    "velocity_error": Metric("Velocity error", better="lower", source="RMS of the error over the RMS of the flow"),
    "vorticity_error": Metric("Vorticity error", better="lower", source="RMS of the error over the RMS of the flow"),
    "pressure_correlation": Metric(
        "Pressure correlation", better="higher", source="with the true one; of Poisson's equation on the test's lattice"
    ),
    "resolved_wavenumber": Metric(
        "Coherent up to k", better="higher", source=f"coherence with the truth >= {LEAST_COHERENCE} up to there"
    ),
    "divergence": Metric("Divergence", better="lower", source="RMS of the divergence over that of the true gradient"),
}
OF_TRUTH = {"velocity_error": 0.0, "vorticity_error": 0.0, "divergence": 0.0}
#: The order decides the draws of a cloud.
SPLITS = ("train", "validation", "test")
#: Of a channel's eddies, in half heights over friction velocity; as the study between walls has it.
WALL_TURNOVER = 0.5
NO_CURVES = {"curve": [], "x": [], "y": []}
#: Points along a side of the plane that is drawn.
PLANE = 48
HEADING = (
    "From particles to fields",
    "Particles in simulated turbulence, and the field between them as methods and networks make it of them, measured "
    "against the truth in a run that none of them has seen.",
)


@dataclass(frozen=True)
class Tracking:
    """The steps of a comparison on particles."""

    study: TracksStudy

    @property
    def about(self) -> dict[str, Any]:
        return {"threads": self.study.threads}

    @cached_property
    def conditions(self) -> dict[str, Condition]:
        return self.study.particles.conditions

    @property
    def viscosity(self) -> float:
        """Of the flow."""
        channel = self.study.simulate.channel
        return self.study.simulate.viscosity if channel is None else channel.viscosity

    def known_to(self, method: str) -> dict[str, float]:
        """What an experimenter knows of the flow besides the particles, as options of a method."""
        return {"viscosity": self.viscosity} if method == "navier_stokes" else {}

    def store(self, seed: int) -> Path:
        return self.study.output / "simulate" / f"seed_{seed:03d}.zarr"

    def examples(self, condition: str, split: str) -> Path:
        return self.study.output / "clouds" / condition / f"{split}.npz"

    def folder(self, name: str, size: int, seed: int) -> Path:
        whole = size == self.study.particles.clouds
        return self.study.output / "train" / (name if whole else f"{name}_{size}") / f"seed_{seed}"

    @property
    def plane(self) -> Path:
        return self.study.output / "fields" / "plane.npz"

    @property
    def trainings(self) -> list[tuple[str, int, int]]:
        """Network, clouds per condition, seed."""
        study, curve = self.study, self.study.learning_curve
        of = {name: [study.particles.clouds] for name in study.networks}
        for name in () if curve is None else curve.models or study.networks:
            of[name] = [*curve.sizes, *of[name]]
        return [(name, size, seed) for name, sizes in of.items() for size in sizes for seed in study.seeds]

    def simulate(self) -> list[Step]:
        settings = self.study.simulate
        return [
            Step(
                f"simulate seed {seed}",
                self.store(seed).with_suffix(".json"),
                (self.store(seed), self.store(seed).with_suffix(".csv")),
                {**settings.declared(), "seeds": [seed]},
                about=self.about,
                call=work.simulate,
                arguments=([self.store(seed)], settings, [seed], self.study.device, self.study.threads),
            )
            for seed in settings.seeds
        ]

    def see(self, stores: dict[str, str]) -> list[Step]:
        """Clouds of every condition, with what is classically known of them."""
        study, found = self.study, []
        snapshots = len(study.simulate.snapshot_times)
        *trained, tested = map(self.store, study.simulate.seeds)
        splits = {"test": [(tested, at) for at in _evenly(snapshots, study.particles.tested)]}
        if study.networks:
            every = [(run, at) for run in trained for at in range(snapshots - 1)]
            splits = {
                "train": _spread(every, study.particles.clouds),
                "validation": [(trained[-1], snapshots - 1)],
            } | splits
        for name, condition in self.conditions.items():
            for split, wanted in splits.items():
                file, seed = self.examples(name, split), (crc32(name.encode()), SPLITS.index(split))
                drawn = _drawn(study.particles, test=split == "test")
                settings = {"condition": asdict(condition), "particles": drawn, "seed": seed}
                settings["snapshots"] = [(run.name, at) for run, at in wanted]
                found.append(
                    Step(
                        f"see {condition.label}: {split}",
                        file.with_suffix(".json"),
                        (file,),
                        settings,
                        {run.name: stores[run.name] for run in dict.fromkeys(run for run, _ in wanted)},
                        self.about,
                        call=see,
                        arguments=(file, wanted, condition, study.particles, study.simulate, seed),
                        weight=len(wanted) * (condition.per_cell * study.particles.cells**3 + study.particles.points),
                    )
                )
        return found

    def train(self, clouds: dict[str, str]) -> list[Step]:
        study, found = self.study, []
        files = {split: [self.examples(name, split) for name in self.conditions] for split in ("train", "validation")}
        for name, size, seed in self.trainings:
            folder, options = self.folder(name, size, seed), study.networks[name]
            found.append(
                Step(
                    f"train {name}, {size} clouds, seed {seed}",
                    folder / "run.json",
                    (folder / WEIGHTS, folder / CARD),
                    {"options": asdict(options), "train": plain(asdict(study.train)), "size": size, "seed": seed},
                    {key: value for key, value in clouds.items() if not key.endswith("test.npz")},
                    self.about,
                    scratch=(folder / "checkpoints", folder / "history.jsonl"),
                    call=train,
                    arguments=(options, files, size, folder, study.train, seed, study.device),
                )
            )
        return found

    def measure(self, clouds: dict[str, str], networks: dict[str, str]) -> list[tuple[Row, Step]]:
        home = next(iter(self.conditions))
        rows = {Row(name): None for name in self.study.methods}
        rows |= {Row(name, home, size, seed): self.folder(name, size, seed) for name, size, seed in self.trainings}
        found, tests = [], {name: self.examples(name, "test") for name in self.conditions}
        lattice = lattice_of(
            grid_of(open_field(self.store(self.study.simulate.seeds[-1]))), self.study.particles.lattice
        )
        for row, folder in rows.items():
            name = "_".join(str(part) for part in (row.model, row.size, row.seed) if part is not None)
            file = self.study.output / "compare" / "rows" / f"{name}.json"
            inputs = {key: value for key, value in clouds.items() if key.endswith("test.npz")}
            if folder is not None:
                inputs["network"] = networks[str(folder)]
            title = f"measure {name}"
            arguments = (file, row, folder, tests, lattice, self.known_to(row.model))
            settings = {"row": asdict(row)}
            record = file.with_suffix(".run.json")
            found.append((row, Step(title, record, (file,), settings, inputs, self.about, (), measure, arguments)))
        return found

    def fields(self, clouds: dict[str, str], networks: dict[str, str]) -> Step:
        made = [self.plane, self.plane.with_name("particles.csv"), self.plane.with_name("solenoidal.zarr")]
        made += [self.plane.with_name(f"{name}.zarr") for name in list(self.study.networks)[-1:]]
        inputs = {**clouds, **{str(Path(of).relative_to(self.study.output)): sha for of, sha in networks.items()}}
        settings = {"methods": self.study.methods, "networks": list(self.study.networks), "plane": PLANE}
        record = self.plane.with_name("run.json")
        return Step("fields", record, tuple(made), settings, inputs, self.about, (), fields, (self,))


def run(study: TracksStudy, *, fresh: bool = False, verify: bool = False, progress: Progress = SILENT) -> Outcome:
    """All steps in order; what is finished is reused unless ``fresh``; arguments as of :func:`stages.run`."""
    plan, done = Tracking(study), []
    write_text_atomic(study.output / "config.yaml", dump_tracks(study))
    one = resolve_device(study.device) == "cuda"
    workers = study.workers or (1 if one else processes_of(study.threads))
    with worker_pool(workers, study.threads) as pool:

        def all_of(title: str, steps: Sequence[Step]) -> list[Done]:
            jobs = [Job(step.title, do, (step, fresh, verify), step.weight) for step in steps]
            found = pool.run(jobs, progress.part(title)) if jobs else []
            done.extend(found)
            return found

        simulated = {name: sha for one in all_of("simulate", plan.simulate()) for name, sha in one.checksums.items()}
        seen = all_of("see particles", plan.see(simulated))
        clouds = {f"{one.step.record.parent.name}/{name}": sha for one in seen for name, sha in one.checksums.items()}
        trained = all_of("train", plan.train(clouds))
        networks = {str(one.step.record.parent): one.checksums[WEIGHTS] for one in trained}
        rows = plan.measure(clouds, networks)
        all_of("measure", [step for _, step in rows])
        all_of("fields", [plan.fields(clouds, networks)])
    measured = [work.read_row(step.outputs[0]) for _, step in rows]
    return _finish(plan, measured, done, progress.part("compare"))


# -- what steps do: plain arguments in and files out -------------------------------------------------------------------


def see(
    file: Path,
    wanted: Sequence[tuple[Path, int]],
    condition: Condition,
    seeding: Seeding,
    settings: Simulation,
    seed: tuple[int, int],
    *,
    progress: Progress,
) -> None:
    """Clouds of some snapshots, as one file."""
    found = []
    for number, (store, at) in enumerate(wanted):
        truth, acceleration = truth_of(store, at, settings if seeding.accelerations else None)
        rng = np.random.default_rng((*seed, number))
        cloud = condition.cloud(truth, seeding, rng, acceleration)
        if test := file.stem == "test":  # a lattice, moved along periodic sides
            points = grid_points(lattice_of(truth.grid, seeding.lattice))
            points = cloud.wrapped(points + np.where(cloud.periodic, cloud.lengths * rng.uniform(size=3), 0.0))
        else:  # close to one another where there are many particles, so that few others need to be known
            share = min(1.0, seeding.points / len(cloud)) ** (1 / 3)
            corner = rng.uniform(
                cloud.lower, np.where(cloud.periodic, cloud.upper, cloud.upper - share * cloud.lengths)
            )
            points = cloud.wrapped(corner + share * cloud.lengths * rng.uniform(size=(seeding.points, 3)))
        found.append(example_of(truth, cloud, points, pressure=test))
        progress((number + 1) / len(wanted), f"{len(cloud)} particles")
    save_examples(file, found)


def truth_of(store: Path, at: int, settings: Simulation | None = None) -> tuple[Truth, Truth | None]:
    """A snapshot known everywhere and, where a run's settings are given, its particles' accelerations."""
    dataset = open_field(store)
    velocity, grid = dataset["velocity"].isel(time=at).values, grid_of(dataset)
    felt = None if settings is None else known_everywhere(acceleration_of(settings, velocity), grid)
    return known_everywhere(velocity, grid), felt


def train(
    options: NetworkOptions,
    files: dict[str, list[Path]],
    size: int,
    folder: Path,
    schedule: Schedule,
    seed: int,
    device: str,
    *,
    progress: Progress,
) -> None:
    """One network, on the first clouds of every condition."""
    found = [load_examples(file)[:size] for file in files["train"]]
    # in turns, so that any few draws see all conditions
    examples = [one for together in zip(*found) for one in together]
    fixed = [one for file in files["validation"] for one in load_examples(file)]
    notes = {"clouds": size, "conditions": [file.parent.name for file in files["train"]]}
    train_network(options, examples, fixed, folder, schedule, seed=seed, device=device, notes=notes, progress=progress)


def measure(
    file: Path,
    row: Row,
    folder: Path | None,
    tests: dict[str, Path],
    lattice: Grid,
    known: dict[str, float],
    *,
    progress: Progress,
) -> None:
    """A method with its options, or a network, on the test clouds of all conditions, whose points are a lattice."""
    network = None if folder is None else load_network(folder)
    found = {}
    for number, (condition, path) in enumerate(tests.items()):
        lines, examples = [], load_examples(path)
        for place, example in enumerate(examples):
            estimate = estimate_of(row.model, example, network, known)
            values = errors_of(estimate, example.truth)
            values |= on_the_lattice(estimate, example, lattice)
            for metric, value in values.items():
                lines.append({"snapshot": place, "metric": metric, "value": value})
        places = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["settings"]["snapshots"]
        seconds = None if number else _seconds(row.model, examples[0], network, known)
        found[condition] = Measured([(run, float(at)) for run, at in places], lines, NO_CURVES, seconds)
        progress((number + 1) / len(tests), condition)
    parameters = None if network is None else network.parameter_count
    options = {} if network is None else asdict(network.options)
    fit = None if folder is None else work.fit_of(folder, row)
    name = row.model if network is None else "network"
    measured = MeasuredRow(row, found, name, options, parameters or 0, None, fit)
    write_json_atomic(file, plain(measured))


def estimate_of(name: str, example: Example, network: Any, known: dict[str, float]) -> Estimate:
    """What a method, or a network, makes of an example's cloud at its points."""
    if network is not None:
        heard = hear(example.cloud, network, example.left)
        return correct(example.cloud, example.points, example.classical, network, heard)
    return METHODS[name](example.cloud, example.points, **known)


def errors_of(found: Estimate, truth: Estimate) -> dict[str, float]:
    """Values of :data:`METRICS`; without a gradient of the velocity alone."""
    values = {"velocity_error": _rms(found.velocity - truth.velocity) / _rms(truth.velocity)}
    if found.gradient is not None:
        values["vorticity_error"] = _rms(found.vorticity - truth.vorticity) / _rms(truth.vorticity)
        divergence = np.trace(found.gradient, axis1=1, axis2=2)
        values["divergence"] = _rms(divergence) / (3 * _rms(truth.gradient))
    return values


def on_the_lattice(found: Estimate, example: Example, lattice: Grid) -> dict[str, float]:
    """What asks for a whole field, where the box is periodic and the method has it."""
    if not lattice.periodic:
        return {}
    fields = (torch.from_numpy(of.velocity.T.reshape(1, 3, *lattice.shape)) for of in (found, example.truth))
    values = {"resolved_wavenumber": float(Coherence().each(*fields, lattice)["good_up_to_coherence"][0])}
    if example.pressure is not None:
        pressure = found.pressure
        if pressure is None:
            pressure = pressure_of_velocity(found.velocity, lattice).ravel()
        values["pressure_correlation"] = float(np.corrcoef(pressure, example.pressure)[0, 1])
    return values


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _seconds(name: str, example: Example, network: Any, known: dict[str, float]) -> float:
    begun = time.perf_counter()
    how = known if network is None else {"model": network}
    METHODS[name if network is None else "network"](example.cloud, example.points, **how)
    return time.perf_counter() - begun


def _evenly(count: int, wanted: int) -> list[int]:
    wanted = min(count, wanted)
    return [(2 * i + 1) * count // (2 * wanted) for i in range(wanted)]


def _spread(every: Sequence[Any], wanted: int) -> list[Any]:
    """As many as are wanted, evenly, some twice where there are too few; any first few of them are spread as well."""
    chosen = [every[int((i + 0.5) * len(every) / wanted)] for i in range(wanted)]
    return [chosen[i] for i in np.random.default_rng(0).permutation(wanted)]


def _drawn(seeding: Seeding, test: bool) -> dict[str, Any]:
    """What of the seeding decides a cloud, not how many conditions and clouds there are."""
    return {
        name: getattr(seeding, name) for name in ("cells", "dropped", "accelerations", "lattice" if test else "points")
    }


# -- the end -----------------------------------------------------------------------------------------------------------


def _finish(plan: Tracking, measured: Sequence[MeasuredRow], done: list[Done], progress: Progress) -> Outcome:
    study, home = plan.study, next(iter(plan.conditions))
    tested = plan.store(study.simulate.seeds[-1])
    dataset = open_field(tested)
    grid, snapshots = grid_of(dataset), _evenly(dataset.sizes["time"], study.particles.tested)
    interval = float(np.diff(dataset.time.values).mean()) if dataset.sizes["time"] > 1 else 1.0
    turnover = turnover_time(dataset["velocity"], grid) if grid.periodic else WALL_TURNOVER
    velocity = torch.from_numpy(dataset["velocity"].isel(time=snapshots).values)
    flow = {key: rounded(float(of.mean())) for key, of in flow_statistics(velocity, grid, plan.viscosity).items()}
    truths, data = {}, {}
    for name, condition in plan.conditions.items():
        zeros = [
            {"snapshot": i, "metric": key, "value": aim} for i in range(len(snapshots)) for key, aim in OF_TRUTH.items()
        ]
        apart = (min(grid.lengths) / study.particles.cells) / condition.per_cell ** (1 / 3) / flow["kolmogorov_length"]
        seen = {**flow, "particle_spacing_over_eta": rounded(apart)}
        truths[name] = Measured([(tested.name, float(at)) for at in snapshots], zeros, NO_CURVES, flow=seen)
        role = "train_and_test" if name == home else "test_only"
        shape = tuple(round(length * study.particles.cells / min(grid.lengths)) for length in grid.lengths)
        clouds = study.particles.clouds if study.networks else 0
        more = {"training_snapshots": clouds, "turnover_time": rounded(turnover)}
        data[name] = DataSet(
            f"{condition.label} ({apart:.1f} η apart)", role, "velocity", 1, PARTICLES, shape, grid.shape, (), **more
        )
    compared = study.compare
    rules = Rules(
        compared.rank_by,
        tuple(name for name in compared.references if name in {"best_interpolation", *study.methods, *study.networks}),
        compared.confidence,
        compared.resamples,
        compared.decorrelation_turnovers,
    )
    length = compared.decorrelation_turnovers * turnover / interval  # times of the rows are numbers of snapshots
    result = ComparisonResult.assemble(
        study.name,
        measured,
        truths,
        {name: {tested.name: length} for name in plan.conditions},
        data,
        {name: name for name in [*study.methods, *study.networks]},
        metrics=METRICS,
        curve_kinds={},
        rules=rules,
        seeds=tuple(study.seeds),
        versions=versions(),
    )
    write_tables(result, study.output / "compare", progress.share(0.0, 0.9))
    picture = _pictured(plan)
    how_made = study_how_made(result, study.model_dump(mode="json"))
    page = write_report(study.output / "report.html", result, how_made=how_made, pictures=[picture], heading=HEADING)
    progress(1.0, "done")
    return Outcome(result, page, done)


def fields(plan: Tracking, *, progress: Progress) -> None:
    """The last test cloud of the first condition: the field of it on a plane, for the picture, and on a grid."""
    study, name = plan.study, next(iter(plan.conditions))
    example = load_examples(plan.examples(name, "test"))[-1]
    cloud = example.cloud
    store = plan.store(study.simulate.seeds[-1])
    truth = truth_of(store, _evenly(len(study.simulate.snapshot_times), study.particles.tested)[-1])[0]
    x, y = (np.linspace(cloud.lower[a], cloud.upper[a], PLANE, endpoint=False) for a in (0, 1))
    height = (cloud.lower[2] + cloud.upper[2]) / 2
    plane = np.stack(np.broadcast_arrays(x[:, None], y[None, :], height), -1).reshape(-1, 3)
    classical = METHODS["solenoidal"](cloud, plane)
    panels = {"truth": vorticity(truth.gradient_at(plane))}
    at_plane = Example(cloud, example.left, plane, example.truth, classical)
    networks = {network: plan.folder(network, study.particles.clouds, study.seeds[0]) for network in study.networks}
    for number, method in enumerate([*study.methods, *networks]):
        network = load_network(networks[method]) if method in networks else None
        found = estimate_of(method, at_plane, network, plan.known_to(method))
        if found.gradient is not None:
            panels[method] = found.vorticity
        progress(0.5 * (number + 1) / (len(study.methods) + len(networks)), method)
    _write_fields(plan, cloud, networks, progress.share(0.5, 1.0))
    near = np.abs(cloud.positions[:, 2] - height) < cloud.spacing / 2
    seen = {"positions": cloud.positions[near, :2], "velocities": cloud.velocities[near, :2]}
    seen["extent"] = np.array([cloud.lower[0], cloud.upper[0], cloud.lower[1], cloud.upper[1]])
    sizes = {f"of_{key}": np.linalg.norm(of, axis=1).reshape(PLANE, PLANE) for key, of in panels.items()}
    buffer = BytesIO()
    np.savez(buffer, **seen, **sizes)
    write_bytes_atomic(plan.plane, buffer.getvalue())


def _pictured(plan: Tracking) -> Picture:
    with np.load(plan.plane, allow_pickle=False) as file:
        panels = {key.removeprefix("of_"): file[key] for key in file if key.startswith("of_")}
        seen = (tuple(file["extent"]), file["positions"], file["velocities"])
    label = next(iter(plan.conditions.values())).label
    return particles_picture(ParticlePlane(label, *seen, panels))


def _write_fields(plan: Tracking, cloud, networks: dict[str, Path], progress: Progress) -> None:
    """The cloud as a table, as a stranger would have it, and the fields of it on a grid."""
    folder = plan.plane.parent
    names = ["x", "y", "z", "u", "v", "w"] + ["ax", "ay", "az"] * (cloud.accelerations is not None)
    parts = [cloud.positions, cloud.velocities, *([] if cloud.accelerations is None else [cloud.accelerations])]
    lines = [",".join(names), *(",".join(map(repr, line)) for line in np.concatenate(parts, 1).tolist())]
    table = write_text_atomic(folder / "particles.csv", "\n".join(lines) + "\n")
    points = open_tracks(table, lower=cloud.lower, upper=cloud.upper, boundary=cloud.boundary)
    cells = [round(length / min(cloud.lengths) * plan.study.particles.cells) for length in cloud.lengths]
    wanted: dict[str, dict[str, Any]] = {"solenoidal": {}}
    wanted |= {name: {"model": where} for name, where in list(networks.items())[-1:]}
    for number, (name, options) in enumerate(wanted.items()):
        part = progress.share(number / len(wanted), (number + 1) / len(wanted))
        method = "network" if options else name
        target = folder / f"{name}.zarr"
        tracks_to_field(points, target, method=method, options=options, cells=cells, fresh=True, progress=part)
