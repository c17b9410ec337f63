"""What has to be done: an experiment or a study, resolved into steps that carry plain values.

An experiment is a study of one data set and one seed. Steps of a stage are planned when those before are done, because
data decide options and widths; settings end here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from flowsr.compare.budget import matched_widths
from flowsr.compare.measure import rank_by
from flowsr.compare.result import Row, Rules
from flowsr.compare.subset import write_subset
from flowsr.config.study import Experiment, Study
from flowsr.data import grid_of, open_field
from flowsr.data.content import Content
from flowsr.data.pairs import SPLITS, STATISTICS, Ingest, Input, Statistics, pair_stores, read_statistics
from flowsr.devices import cores, processes_of, resolve_device
from flowsr.errors import FlowsrError, missing_file, require
from flowsr.files import read_json
from flowsr.grid import Grid
from flowsr.metrics import METRICS, chosen_metrics
from flowsr.models import MODELS, ModelCard, Upscaler
from flowsr.models.budget import multiply_adds
from flowsr.models.checkpoint import CARD, WEIGHTS
from flowsr.pipeline import work
from flowsr.pipeline.check import DISCOVERED, built, check_names, check_simulated, check_training
from flowsr.pipeline.steps import Step
from flowsr.provenance import versions
from flowsr.simulate import Simulation
from flowsr.symmetry.result import NOTHING, Discovery
from flowsr.train import HISTORY, Network, Training, card_for, resolve_networks
from flowsr.train.ranks import launched
from flowsr.train.settings import CIRCUMSTANCES
from flowsr.windows import Window

#: Time of a row without training, relative to one with.
UNTRAINED_WEIGHT = 0.05
_LABELS = {
    "nearest": "Nearest cell",
    "trilinear": "Trilinear",
    "tricubic": "Tricubic",
    "spectral": "Spectral (Fourier)",
    "cnn": "Plain CNN",
    "strict": "Strict octahedral",
    "relaxed": "Relaxed octahedral",
}

#: Checksums of what finished steps made: stage -> what of -> output -> checksum.
Finished = dict[str, dict[Any, Mapping[str, str]]]


@dataclass(frozen=True)
class Source:
    """One data set of a plan.

    Args:
        name, label, role, licence, group: as in :class:`flowsr.config.study.DataSettings`.
        folder: holds ``simulate/``, ``ingest/``, ``symmetry/`` and ``train/``.
        simulate: the turbulence, where it is made here.
        ingest: how it becomes pairs.
        title: stands before the titles of its steps.
    """

    name: str
    label: str
    role: str
    licence: str
    folder: Path
    simulate: Simulation
    ingest: Ingest
    title: str = ""
    group: str | None = None

    @property
    def pairs(self) -> Path:
        """Folder of the pairs."""
        return self.folder / "ingest"

    @property
    def symmetry(self) -> Path:
        """Folder of what was discovered in the training pairs."""
        return self.folder / "symmetry"

    @property
    def splits(self) -> tuple[str, ...]:
        """What models are tested on: ``test``, or all three where nothing is trained on the data."""
        return tuple(SPLITS) if self.role == "test_only" else tuple(SPLITS[-1:])

    @property
    def tests(self) -> list[Path]:
        return [store for split in self.splits for store in pair_stores(self.pairs, split)]

    @property
    def batches(self) -> list[list[int]]:
        """The seeds that are simulated together."""
        seeds, size = list(self.simulate.seeds), self.simulate.batch
        return [seeds[i : i + size] for i in range(0, len(seeds), size)]

    def run(self, seed: int) -> Path:
        return self.folder / "simulate" / f"seed_{seed:03d}.zarr"

    @property
    def statistics(self) -> Statistics:
        return read_statistics(self.pairs)

    @property
    def coarse_grid(self) -> Grid:
        """Grid of a whole coarse snapshot."""
        return grid_of(open_field(self.tests[0], group="coarse"))

    @property
    def whole(self) -> int:
        """Training snapshots."""
        return self.statistics.snapshots["train"]


@dataclass(frozen=True)
class Plan:
    """An experiment or a study, its stages planned one after another."""

    settings: Experiment | Study
    finished: Finished = field(default_factory=dict)

    @property
    def single(self) -> bool:
        """Whether it is an experiment: one data set, one seed, networks tested on what ``upscale`` made."""
        return isinstance(self.settings, Experiment)

    @property
    def output(self) -> Path:
        return self.settings.output

    @property
    def workers(self) -> int:
        """Processes: as set, else one where there is CUDA, else one per core that this process may use.

        One where torchrun or Slurm started several, which train together.
        """
        if launched() is not None:
            return 1
        if self.settings.workers is not None:
            return self.settings.workers
        one = resolve_device(self.settings.device) == "cuda"
        return 1 if one else processes_of(self.settings.threads)

    @property
    def threads(self) -> int | None:
        """CPU threads of each process; None: as many as there are, in the one process."""
        if self.settings.threads is not None or self.workers == 1:
            return self.settings.threads
        return max(1, cores() // self.workers)

    def check(self) -> None:
        """Refuse what the settings decide alone; see :mod:`flowsr.pipeline.check`.

        Raises:
            FlowsrError: the first name or number that cannot be.
        """
        check_names(self.settings)
        networks = {name: (network, self.training(name)) for name, network in self.networks.items()}
        for _, training in networks.values():
            check_training(training, self.settings.device)
        for source in self.sources.values():
            one_factor = isinstance(source.ingest.factor, int)
            if one_factor and self.discovering and source in self.trained:
                self.settings.discover.spare(source.ingest.factor, source.ingest.operator)
            if source.ingest.inputs is None and one_factor:  # of three factors there is something else to say
                trained = networks if source in self.trained else {}
                check_simulated(source.simulate, source.ingest, trained, f"data.{source.name}." if source.title else "")

    def check_factor(self) -> None:
        """Refuse, before anything is computed, pairs that no model takes."""
        factor = self.settings.ingest.factor if self.single else 1
        if not isinstance(factor, int):
            message, hint = "models have one factor", "flowsr ingest alone makes pairs with three"
            expected = "one number, such as 4"
            raise FlowsrError(message, variable="ingest.factor", expected=expected, found=list(factor), hint=hint)

    @cached_property
    def sources(self) -> dict[str, Source]:
        s = self.settings
        if self.single:
            return {"data": Source("data", s.name, "train_and_test", "", s.output, s.simulate, s.ingest)}
        found = {}
        for name, data in s.data.items():
            ingest, folder = data.ingest, s.output / "data" / name
            if data.role == "test_only":  # no gaps between splits that are all for the test
                ingest = replace(ingest, split=replace(ingest.split, decorrelation_turnovers=0.0))
            label = data.label or name
            how = data.simulate, ingest, f"{name}: ", data.group
            found[name] = Source(name, label, data.role, data.licence, folder, *how)
        return found

    @property
    def trained(self) -> list[Source]:
        """Data sets that networks are trained on."""
        return [source for source in self.sources.values() if source.role == "train_and_test"]

    @property
    def seeds(self) -> list[int]:
        return [self.settings.seed] if self.single else list(self.settings.seeds)

    @cached_property
    def models(self) -> dict[str, Network]:
        """Every model by the name it carries, untrained ones among them."""
        if self.single:
            untrained = {name: Network(name) for name in self.settings.compare.baselines}
            return untrained | dict(self.settings.train.models)
        return {
            name: Network(one.model, dict(one.options), None, one.augment, one.constraints, one.base, one.average)
            for name, one in self.settings.models.items()
        }

    @property
    def networks(self) -> dict[str, Network]:
        return {name: one for name, one in self.models.items() if MODELS[one.model].trainable}

    @property
    def labels(self) -> dict[str, str]:
        if not self.single:
            return {name: one.label or name for name, one in self.settings.models.items()}
        labels = {name: _LABELS.get(name, name) for name in self.models}
        for name in self.discovering:
            labels[name] = f"{name}, on {self.discovery(self.sources['data']).surviving.name}"
        return labels

    def training(self, model: str) -> Training:
        return self.settings.train if self.single else self.settings.training_of(model)

    @property
    def rules(self) -> Rules:
        asked = self.settings.compare
        if self.single:
            return Rules(rank_by=rank_by(chosen_metrics(asked.metrics)))
        budget = self.settings.budget
        budget = None if budget is None else budget.model_dump(mode="json")
        asked_for = asked.rank_by, tuple(asked.references), asked.confidence, asked.resamples
        return Rules(*asked_for, asked.decorrelation_turnovers, budget, study=True)

    @property
    def about(self) -> dict[str, Any]:
        """Provenance that decides no result."""
        s = self.settings
        return {"experiment" if self.single else "study": s.name, "device": s.device, "threads": self.threads}

    def card(self, model: str, data: str) -> ModelCard:
        """A model on a data set, with every option that the data, matched widths and the budget give."""
        return self._cards[data][model]

    def suits(self, model: str, source: Source) -> bool:
        """Whether a model can be put on a data set: some need a periodic box; an experiment's networks say so later."""
        needs = MODELS[self.models[model].model].needs_periodic and not (self.single and model in self.networks)
        return not needs or source.coarse_grid.periodic

    @cached_property
    def rows(self) -> list[tuple[Row, Source]]:
        """Every row and its own data set: models without training first, whole training sets before parts of them."""
        networks = list(self.networks)
        untrained = [name for name in self.models if name not in networks]
        found = [(Row(m), source) for source in self.sources.values() for m in untrained if self.suits(m, source)]
        curve = None if self.single else self.settings.learning_curve
        sizes = [(source, source.whole, networks) for source in self.trained]
        sizes += [(source, size, curve.models or networks) for source, size in self._reduced]
        found += [
            (Row(model, source.name, size, seed), source)
            for source, size, models in sizes
            for model in models
            if self.suits(model, source)
            for seed in self.seeds
        ]
        return found

    def tested_on(self, row: Row, source: Source) -> list[Source]:
        """The row's own data set, and for a network that saw all its snapshots every other that it can be put on."""
        if not row.trained or row.size != source.whole:
            return [source]
        own = source.statistics

        def fits(other: Source) -> bool:
            same = all(getattr(other.statistics, key) == getattr(own, key) for key in ("factor", "irreps", "operator"))
            return same and other.name in self._takes[row.model, source.name]

        return [source, *(other for other in self.sources.values() if other != source and fits(other))]

    @cached_property
    def _takes(self) -> dict[tuple[str, str], list[str]]:
        """A network and the data set that it is trained on, to all data sets with boxes that it is for."""
        found = {}
        for own in self.trained:
            for name in self.networks if len(self.sources) > 1 else ():
                model = self.card(name, own.name).build()
                found[name, own.name] = [one.name for one in self.sources.values() if _is_for(model, one.coarse_grid)]
        return found

    def network_folder(self, row: Row) -> Path:
        """Where a network's weights lie."""
        if self.single:
            return self.output / "train" / row.model
        return self._part(self.sources[row.data], row.size).folder / "train" / f"{row.model}.seed_{row.seed}"

    @property
    def discovering(self) -> list[str]:
        """Networks whose group is the one found in their training data."""
        return [name for name, network in self.networks.items() if network.options.get("group") == DISCOVERED]

    def discovery(self, source: Source) -> Discovery:
        """What was found in the training pairs of a data set.

        Raises:
            FlowsrError: networks that explain nothing, which are no ground to build on.
        """
        found = Discovery.from_json(read_json(source.symmetry / work.DISCOVERY))
        message, hint = (
            "the discovery explains nothing of its target, so its group means nothing",
            ("name a group in options.group, or give discover more: training.epochs, network.channels, more snapshots"),
        )
        share = {"expected": f"{NOTHING:.0%} of its power or more", "found": f"{found.fit['relaxed']:.2%}"}
        page = source.symmetry / "report.html"
        require(not found.blind, message, file=page, variable="group: discovered", **share, hint=hint)
        return found

    def group(self, source: Source) -> str | None:
        """The group that a flow keeps, as the settings say or as it was discovered; None where neither did."""
        if source.group is None and self.discovering and source in self.trained:
            return self.discovery(source).surviving.name
        return source.group

    # -- steps, stage by stage; each needs what those before it have finished ------------------------------------------

    def simulate(self) -> Iterator[tuple[Any, Step]]:
        """One per seed, or per batch of seeds: direct numerical simulation to ``simulate/seed_NNN.zarr``."""
        for source in self.sources.values():
            settings = source.simulate
            if not self.single and source.ingest.inputs is not None:
                continue
            suffixes = (".csv",) if settings.channel is None else (".csv", ".profiles.csv")
            for seeds in source.batches:
                stores = [source.run(seed) for seed in seeds]
                one = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
                yield (
                    (source.name, *seeds),
                    Step(
                        title=f"{source.title}simulate {one}",
                        record=stores[0].with_suffix(".json"),
                        outputs=tuple(made for store in stores for made in (store, *map(store.with_suffix, suffixes))),
                        settings={**settings.declared(), "seeds": seeds},
                        about=self.about,
                        call=work.simulate,
                        arguments=(stores, settings, seeds, self.settings.device, self.threads),
                    ),
                )

    def ingest(self, trust: bool = False) -> Iterator[tuple[Any, Step]]:
        """One per data set: coarse / fine pairs of every run, split in time, to ``ingest/<split>/<run>.zarr``.

        Args:
            trust: a user's own files are taken to be those it was done with, without reading them.
        """
        for source in self.sources.values():
            own = source.ingest.inputs
            stores = [source.run(seed) for seed in source.simulate.seeds] if own is None else list(own)
            recorded = (read_json(source.pairs / "run.json") or {}).get("inputs", {})
            if own is None:
                simulated = self.finished["simulate"].items()
                made = {name: sha for key, one in simulated if key[0] == source.name for name, sha in one.items()}
                inputs = {store.name: made[store.name] for store in stores}
            elif trust and recorded.keys() == {str(Input.of(one).path) for one in own}:
                inputs = recorded
            else:
                paths = [Input.of(one).path for one in own]
                for path in paths:
                    if not path.exists():
                        raise missing_file(path, variable="ingest.inputs")
                inputs = {str(path): Content(path).checksum for path in paths}
            yield source.name, self._ingest_step(source, inputs, work.ingest, (stores, source.pairs, source.ingest))

    def subsets(self) -> Iterator[tuple[Any, Step]]:
        """One per smaller training set: the first snapshots of each run."""
        for source, size in self._reduced:
            part = self._part(source, size)
            inputs = {f"{name} of the whole": sha for name, sha in self.finished["ingest"][source.name].items()}
            step = self._ingest_step(part, inputs, write_subset, (source.pairs, part.pairs, size))
            yield (source.name, size), replace(step, title=f"{source.name}, {size} snapshots")

    def discover(self) -> Iterator[tuple[Any, Step]]:
        """Where a network asks for it, one per data set: the symmetry of its training pairs, to ``symmetry/``."""
        settings = self.settings.discover
        for source in self.trained if self.discovering else ():
            stores = pair_stores(source.pairs, "train")
            for name in self.discovering:  # of fields simulated here that was known before
                built(name, self.networks[name], source.pairs, self.training(name).window, source.coarse_grid)
            asked = replace(settings, device=resolve_device(self.settings.device))
            turnover = source.ingest.split.turnover_time
            yield (
                source.name,
                Step(
                    title=f"{source.title}discover symmetry",
                    record=source.symmetry / "run.json",
                    outputs=(source.symmetry / work.DISCOVERY, source.symmetry / "report.html"),
                    settings={name: value for name, value in asdict(settings).items() if name != "device"}
                    | {"turnover_time": turnover},
                    inputs={"train": self.finished["ingest"][source.name]["train"]},
                    about=self.about,
                    call=work.discover,
                    arguments=(stores, source.ingest.variable, asked, turnover, source.symmetry, self.settings.name),
                ),
            )

    def train(self) -> Iterator[tuple[Any, Step]]:
        """One per network, data set, size and seed: weights, card and learning curve, to ``train/<name>/``."""
        for row, source in self.rows:
            if not row.trained:
                continue
            folder, training, network = self.network_folder(row), self.training(row.model), self.models[row.model]
            whole = row.size == source.whole
            card, shared = asdict(self.card(row.model, row.data)), asdict(training)
            card = {name: card[name] for name in ("model", "task", "options")}
            beside = {"models", "frames", "target_frame", *CIRCUMSTANCES}
            kept = {name: value for name, value in shared.items() if name not in beside}
            pairs, notes, decides = self._part(source, row.size).pairs, {}, {}
            if row.model in self.discovering:
                notes["discovered"] = found = self.discovery(source).card
                decides["discovered"] = {name: found[name] for name in ("group", "p", "rate")}
            yield (
                row,
                Step(
                    title=f"train {row.model}" if self.single else _title(row, source),
                    record=folder / "run.json",
                    outputs=(folder / WEIGHTS, folder / CARD, folder / HISTORY),
                    scratch=(folder / "checkpoints", (folder / HISTORY).with_suffix(".csv")),
                    settings={**card, "augment": network.augment, "seed": row.seed, **kept, **decides},
                    inputs=self.finished["ingest"][row.data] if whole else self.finished["subsets"][row.data, row.size],
                    about=self.about,
                    call=work.train,
                    arguments=(card, pairs, folder, training, row.seed, network.augment, self.settings.device, notes),
                ),
            )

    def upscale(self) -> Iterator[tuple[Any, Step]]:
        """Of an experiment, one per network and held-out run: whole fields, to ``upscale/<name>/<run>.zarr``."""
        if not self.single:
            return
        (source,) = self.sources.values()
        for row, weights in self.finished["train"].items():
            for store in source.tests:
                target, variable = self.output / "upscale" / row.model / store.name, source.ingest.variable
                how = (variable, self.settings.upscale.tile, self.settings.device)
                yield (
                    (row, store.name),
                    Step(
                        title=f"upscale {row.model} {store.stem}",
                        record=target.with_suffix(".json"),
                        outputs=(target,),
                        settings=self.settings.upscale.model_dump(mode="json"),
                        inputs={**weights, "test": self.finished["ingest"][source.name]["test"]},
                        about=self.about,
                        call=work.upscale,
                        arguments=(store, self.network_folder(row), target, *how),
                    ),
                )

    def measure(self) -> Iterator[tuple[Any, Step]]:
        """One per row, and one per data set for the truth: values on every snapshot, to ``rows/<name>.json``."""
        for source in self.sources.values():
            name = "truth" if self.single else f"truth.{source.name}"
            yield source.name, self._measure_step(name, name.replace(".", " on "), work.truth, [source], (), {}, {})
        for row, source in self.rows:
            folder = self.network_folder(row) if row.trained else None
            weights = self.finished["train"][row][WEIGHTS] if row.trained else None
            card, stores, inputs = self.card(row.model, source.name), None, {}
            if self.single and row.trained:
                stores = [self.output / "upscale" / row.model / store.name for store in source.tests]
                inputs = {store.name: self.finished["upscale"][row, store.name][store.name] for store in stores}
            settings = {name: value for name, value in asdict(card).items() if name != "training"}
            inputs = inputs if weights is None else {**inputs, WEIGHTS: weights}
            names = (row.model, row.model) if self.single else (_file(row, source), _title(row, source))
            tests, arguments = self.tested_on(row, source), (row, card, folder, weights, stores)
            step = self._measure_step(*names, work.measure, tests, arguments, settings, inputs)
            yield (row, source.name), replace(step, weight=1.0 if row.trained else UNTRAINED_WEIGHT)

    def _measure_step(self, name, title, call, tests, arguments, settings, inputs) -> Step:
        asked, folder = self.settings.compare, self.output / ("compare/rows" if self.single else "rows")
        snapshots = 1 if self.single else asked.equivariance_snapshots
        windows = sorted({card.task.window for card in self._cards["data"].values()}, key=str) if self.single else []
        # a row is measured anew for its flow's group only where something is made of that
        by_group = any(getattr(METRICS[name], "needs_truth", False) for name in chosen_metrics(asked.metrics))
        groups = {one.name: self.group(one) for one in tests} if by_group else {}
        measuring = work.Measuring(
            {one.name: (one.tests, one.ingest.variable) for one in tests},
            asked.metrics,
            snapshots,
            resolve_device(self.settings.device),
            [window for window in windows if window != Window()],
            self._reach if any(one.ingest.may_miss for one in tests) else 0,
            groups,
        )
        shas = {
            f"{one.name} {split}": self.finished["ingest"][one.name][split] for one in tests for split in one.splits
        }
        decides = {
            "metrics": chosen_metrics(asked.metrics),
            "equivariance_snapshots": snapshots,
            "windows": [asdict(window) for window in measuring.windows],
            "reach": measuring.reach,
            "versions": versions(),
            **({"groups": groups} if groups else {}),
        }
        return Step(
            title=title,
            record=folder / "records" / f"{name}.json",
            outputs=(folder / f"{name}.json",),
            settings={**settings, **decides},
            inputs={**shas, **inputs},
            about=self.about,
            call=call,
            arguments=(measuring, folder / f"{name}.json", *arguments),
        )

    def _ingest_step(self, source: Source, inputs: Mapping[str, str], call, arguments) -> Step:
        return Step(
            title=f"{source.title}ingest",
            record=source.pairs / "run.json",
            outputs=(*(source.pairs / name for name in SPLITS), source.pairs / STATISTICS),
            settings={name: value for name, value in asdict(source.ingest).items() if name not in ("inputs", "workers")}
            | _reading(source),
            inputs=dict(inputs),
            about=self.about,
            call=call,
            arguments=arguments,
        )

    def _part(self, source: Source, size: int | None) -> Source:
        """A data set with fewer training snapshots; itself where they are all."""
        if size is None or size == source.whole:
            return source
        return replace(source, folder=source.folder / "subsets" / f"{size}")

    @cached_property
    def _reduced(self) -> list[tuple[Source, int]]:
        """Data set and size of every reduced training set; a size that is the whole is not reduced."""
        curve = None if self.single else self.settings.learning_curve
        if curve is None:
            return []
        data = [self.sources[name] for name in curve.data or [source.name for source in self.trained]]
        return [(source, size) for source in data for size in sorted(set(curve.sizes)) if size != source.whole]

    @cached_property
    def _reach(self) -> int:
        """The largest halo of all models, in coarse cells."""
        cards = (card for known in self._cards.values() for card in known.values())
        return max((card.build().halo or 0 for card in cards), default=0)

    @cached_property
    def _cards(self) -> dict[str, dict[str, ModelCard]]:
        return {name: self._cards_on(source) for name, source in self.sources.items()}

    def _cards_on(self, source: Source) -> dict[str, ModelCard]:
        networks = dict(self.networks) if source in self.trained else {}
        for name in self.discovering if networks else ():
            group = self.discovery(source).surviving.name
            networks[name] = replace(networks[name], options={**networks[name].options, "group": group})
        cards = {name: card_for(one, source.pairs) for name, one in self.models.items() if name not in self.networks}
        by_window: dict[Window, dict[str, Network]] = {}
        for name, network in networks.items():
            by_window.setdefault(self.training(name).window, {})[name] = network
        for window, same in by_window.items():
            cards |= resolve_networks(same, source.pairs, window)
        budget = None if self.single else self.settings.budget
        if budget is None or not networks:
            return cards
        grid = source.coarse_grid

        def cost(model) -> int:
            return model.parameter_count if budget.by == "parameters" else multiply_adds(model, grid)

        amount = budget.amount if budget.like is None else cost(cards[budget.like].build())
        bound = [n for n in networks if n != budget.like and n not in budget.free and self.suits(n, source)]
        widths = matched_widths({name: cards[name] for name in bound}, cost, amount, budget.tolerance)
        matched = {
            name: replace(cards[name], options={**cards[name].options, **width}) for name, width in widths.items()
        }
        return cards | matched


def _is_for(model: Upscaler, grid: Grid) -> bool:
    try:
        model.check_grid(grid)
    except ValueError:
        return False
    return True


def _file(row: Row, source: Source) -> str:
    """Name of a row's file, unique in the study."""
    if not row.trained:
        return f"{row.model}.{source.name}"
    return f"{row.model}.{source.name}.{'all' if row.size == source.whole else row.size}.seed_{row.seed}"


def _title(row: Row, source: Source) -> str:
    if not row.trained:
        return f"{row.model} on {source.name}"
    size = "" if row.size == source.whole else f", {row.size} snapshots"
    return f"{row.model} on {source.name}{size}, seed {row.seed}"


def _reading(source: Source) -> dict[str, Any]:
    """How inputs are read, of those that are not read as they come."""
    read: dict[str, list] = {}
    for one in map(Input.of, source.ingest.inputs or ()):
        if declared := one.declared():
            read.setdefault(str(one.path), []).append(declared)
    return {"read": {path: each[0] if len(each) == 1 else each for path, each in read.items()}} if read else {}
