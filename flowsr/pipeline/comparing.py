"""Comparison and report of one experiment: who takes part, what is drawn, how it was made."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from flowsr.compare import ComparisonResult, Entry, write_tables
from flowsr.compare import compare as compare_models
from flowsr.config.schema import Experiment
from flowsr.data import grid_of, open_field
from flowsr.devices import resolve_device
from flowsr.models import MODELS, load_model, relaxed_weights
from flowsr.pipeline.steps import read_record
from flowsr.progress import Progress
from flowsr.provenance import versions
from flowsr.report import HowMade, RelaxedWeights, SliceSet, collect_slices, hero_figure, write_report
from flowsr.train import HISTORY, Network, card_for, read_history
from flowsr.upscale import upscale_array

log = logging.getLogger(__name__)

HERO = "hero.png"
_LABELS = {
    "nearest": "Nearest cell",
    "trilinear": "Trilinear",
    "tricubic": "Tricubic",
    "spectral": "Spectral (Fourier)",
    "cnn": "Plain CNN",
    "strict": "Strict octahedral",
    "relaxed": "Relaxed octahedral",
}


def compare_and_report(
    experiment: Experiment, tests: list[Path], folder: Path, page: Path, progress: Progress
) -> ComparisonResult:
    """Compare every baseline and network of ``experiment`` on its test stores, then write the page and the picture."""
    entries = _entries(experiment, tests)
    result = compare_models(
        tests,
        entries,
        name=experiment.name,
        variable=experiment.ingest.variable,
        metrics=experiment.compare.metrics,
        device=resolve_device(experiment.device),
        progress=progress,
    )
    write_tables(result, folder)
    slices = _slices(experiment, tests[0], entries)
    networks = list(experiment.train.models)
    shown = {entry.name for entry in entries if entry.stores is None}
    write_report(
        page,
        result,
        slices,
        {name: read_history(experiment.output / "train" / name / HISTORY) for name in networks},
        [weights for entry in entries if (weights := _weights(entry)) is not None],
        _how_made(experiment),
    )
    if networks and shown and "nrmse" in result.metrics and "energy_spectrum" in result.curve_kinds:
        hero_figure(folder / HERO, result, slices[0], "relaxed" if "relaxed" in networks else None)


def _entries(experiment: Experiment, tests: list[Path]) -> list[Entry]:
    pairs = experiment.output / "ingest"
    periodic = grid_of(open_field(tests[0], group="coarse")).periodic
    fitting = [name for name in experiment.compare.baselines if periodic or not MODELS[name].needs_periodic]
    if left_out := [name for name in experiment.compare.baselines if name not in fitting]:
        log.info("not for a field with walls, left out: %s", ", ".join(left_out))
    baselines = [Entry(name, _LABELS.get(name, name), card_for(Network(name), pairs).build()) for name in fitting]
    networks = [
        Entry(
            name,
            _LABELS.get(name, name),
            load_model(experiment.output / "train" / name),
            [experiment.output / "upscale" / name / test.name for test in tests],
        )
        for name in experiment.train.models
    ]
    return baselines + networks


def _slices(experiment: Experiment, test: Path, entries: list[Entry]) -> tuple[SliceSet, ...]:
    """The last snapshot of the first held-out run that all have made, farthest in time from anything trained on."""
    variable, truth = experiment.ingest.variable, open_field(test, group="fine")
    made = [truth, *(open_field(entry.stores[0]) for entry in entries if entry.stores is not None)]
    last = min(dataset.time.values[-1] for dataset in made)

    def snapshot(path, group=None) -> np.ndarray:
        return open_field(path, group=group)[variable].sel(time=last, method="nearest").values

    coarse = snapshot(test, "coarse")
    coarse_grid = grid_of(open_field(test, group="coarse"))
    fields = {
        entry.name: upscale_array(entry.model, coarse, coarse_grid, max(coarse_grid.shape))
        if entry.stores is None
        else snapshot(entry.stores[0])
        for entry in entries
    }
    return collect_slices(
        snapshot(test, "fine"),
        coarse,
        fields,
        grid_of(truth),
        velocity_unit=truth[variable].attrs.get("units", "1"),
        length_unit=truth.attrs.get("length_units", "1"),
    )


def _weights(entry: Entry) -> RelaxedWeights | None:
    trained = {
        name: weights.numpy()
        for name, weights in relaxed_weights(entry.model).items()
        if entry.model.get_parameter(f"{name}.relaxed_weights").requires_grad
    }
    return RelaxedWeights(entry.name, entry.model.group.name, trained) if trained else None


def _how_made(experiment: Experiment) -> HowMade:
    record = read_record(experiment.output / "ingest" / "run.json") or {}
    return HowMade(
        command=f"flowsr run {experiment.output / 'config.yaml'}",
        config=experiment.model_dump(mode="json"),
        versions=versions(),
        seeds={"networks and patches": experiment.seed, "simulations": ", ".join(map(str, experiment.simulate.seeds))},
        checksums=record.get("inputs", {}),
    )
