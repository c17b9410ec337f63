"""One row of a study: train, if there is anything to train, test on every data set, keep the result and a card."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from flowsr.compare.measure import Entry, HeldOut, SymmetryTest, applicable_metrics, measure_model, measure_truth
from flowsr.compare.result import Fit, Measured, MeasuredRow, plain
from flowsr.compare.result import Row as MeasuredOf
from flowsr.compare.runs import HeldOutRun, judged_by_all, open_runs
from flowsr.compare.tables import means_of, write_card
from flowsr.config.study import Study
from flowsr.data.pairs import read_statistics
from flowsr.devices import resolve_device
from flowsr.files import write_json_atomic
from flowsr.metrics import chosen_metrics
from flowsr.models import MODELS, Upscaler, load_model
from flowsr.models.budget import multiply_adds
from flowsr.models.checkpoint import WEIGHTS
from flowsr.pipeline import stages
from flowsr.pipeline.study import Row, built_for, coarse_grid, experiment_of, pairs_of, test_checksums, test_stores
from flowsr.progress import Progress
from flowsr.provenance import fingerprint, versions
from flowsr.train import HISTORY, read_history

#: Share of a row's progress that training takes.
TRAINING = 0.85
PRECISION = "float32"


def row_file(study: Study, row: Row) -> Path:
    """Where a row is kept."""
    return study.output / "rows" / f"{row.name}.json"


def finish_row(study: Study, row: Row, width: dict[str, Any], fresh: bool, *, progress: Progress) -> None:
    """Train and test, unless it has been done; leaves the row's file, and a card beside the weights.

    Args:
        study: its settings.
        row: which.
        width: option that the budget set, if any.
        fresh: do it again.
        progress: told the fraction done.
    """
    card = built_for(study, row.model, row.data, width)
    folder, weights = None, None
    if MODELS[card.model].trainable:
        experiment = experiment_of(study, row, width)
        (done,) = stages.train(
            experiment,
            fresh=fresh,
            part=True,
            report=Progress(lambda _, fraction, message: progress(TRAINING * fraction, message)),
        )
        folder, weights = done.step.record.parent, done.checksums[WEIGHTS]

    def measure() -> dict:
        model = card.build() if folder is None else load_model(folder)
        size = row.size or read_statistics(pairs_of(study, row.data))["snapshots"]["train"]
        of = MeasuredOf(row.model) if folder is None else MeasuredOf(row.model, row.data, size, row.seed)
        return MeasuredRow(
            of,
            _tests(study, row, model, lambda f, message: progress(TRAINING + (1 - TRAINING) * f, message)),
            card.model,
            card.options,
            model.parameter_count,
            multiply_adds(model, coarse_grid(study, row.data)),
            None if folder is None else _fit_of(folder, of),
            weights,
        ).to_json()

    key = fingerprint(
        {
            **card.as_dict(),
            "weights": weights,
            "tests": {data: test_checksums(study, data) for data in _tested_on(study, row)},
            **_measuring(study),
        }
    )
    path = row_file(study, row)
    if fresh:
        path.unlink(missing_ok=True)
    kept = kept_row(path, key, measure)
    if folder is not None:
        write_card(folder, _card(study, row, MeasuredRow.from_json(kept)))


def truth_of(study: Study, data: str) -> Measured:
    """The true field's own scores on a data set, kept like a row."""
    key = fingerprint({"truth": test_checksums(study, data), **_measuring(study)})

    def measure() -> dict:
        return measure_truth(_held_out(study, data, [], None)).to_json()

    return Measured.from_json(kept_row(study.output / "rows" / f"truth.{data}.json", key, measure))


def kept_row(path: Path, key: str, measure: Callable[[], dict]) -> dict:
    """The row under ``path`` if it was measured from the same inputs, otherwise a new one, kept there."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return kept["row"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    row = plain(measure())
    write_json_atomic(path, {"key": key, "row": row})
    return row


def metrics_for(study: Study, run: HeldOutRun) -> list[str]:
    """The study's metrics that the field allows."""
    return applicable_metrics(study.compare.metrics, run)


def _measuring(study: Study) -> dict[str, Any]:
    """What decides a measurement besides model and data."""
    return {
        "metrics": chosen_metrics(study.compare.metrics),
        "equivariance_snapshots": study.compare.equivariance_snapshots,
        "versions": versions(),
    }


def _tested_on(study: Study, row: Row) -> list[str]:
    """The row's own data set, and for a network that saw all its snapshots every other that it can be put on."""
    if row.seed is None or row.size is not None:
        return [row.data]
    own = read_statistics(pairs_of(study, row.data))

    def fits(other: str) -> bool:
        found = read_statistics(pairs_of(study, other))
        same = all(found[key] == own[key] for key in ("factor", "irreps", "operator"))
        model = MODELS[study.models[row.model].model]
        return same and (coarse_grid(study, other).periodic or not model.needs_periodic)

    return [row.data, *(other for other in study.data if other != row.data and fits(other))]


def _tests(study: Study, row: Row, model: Upscaler, progress: Progress) -> dict[str, Measured]:
    """Data set -> what was measured there."""
    tests = {}
    names = _tested_on(study, row)
    for number, data in enumerate(names):

        def told(fraction: float, number=number, data=data) -> None:
            progress((number + fraction) / len(names), f"testing on {data}")

        tests[data] = measure_model(Entry(row.model, row.model, model), _held_out(study, data, [model], told))
    return tests


def _held_out(study: Study, data: str, models: list[Upscaler], told: Callable[[float], None] | None) -> HeldOut:
    runs = judged_by_all(open_runs(test_stores(study, data), study.data[data].ingest.variable), models)
    total, done = sum(run.snapshots for run in runs), 0

    def tick() -> None:
        nonlocal done
        done += 1
        if told is not None:
            told(done / total)

    symmetry = SymmetryTest(study.compare.equivariance_snapshots, PRECISION)
    device = torch.device(resolve_device(study.device))
    return HeldOut(runs, metrics_for(study, runs[0]), symmetry, device, tick)


def _fit_of(folder: Path, row: MeasuredOf) -> Fit:
    history = read_history(folder / HISTORY)
    best = min(history, key=lambda line: line["validation_loss"])
    return Fit(
        row.data,
        row.size,
        row.seed,
        epochs=len(history),
        best_epoch=best["epoch"] + 1,
        validation_loss=best["validation_loss"],
        seconds=history[-1]["seconds"],
        history=[(line["epoch"], line["train_loss"], line["validation_loss"]) for line in history],
    )


def _card(study: Study, row: Row, kept: MeasuredRow) -> dict[str, Any]:
    """What a stranger needs to know before using the weights."""
    data, statistics = study.data[row.data], read_statistics(pairs_of(study, row.data))
    return {
        "name": row.model,
        "model": kept.registered,
        "options": kept.options,
        "weights": {"file": WEIGHTS, "sha256": kept.weights_sha256, "licence": study.licence},
        "data": {
            "name": row.data,
            "licence": data.licence,
            "flow": data.simulate.flow if data.ingest.inputs is None else None,
            "sources": {run: entry["sha256"] for run, entry in statistics["runs"].items()},
            "variable": statistics["variable"],
            "operator": statistics["operator"],
            "factor": statistics["factor"],
            "coarse": statistics["coarse"]["shape"],
            "fine": statistics["fine"]["shape"],
            "training_snapshots": statistics["snapshots"]["train"] if row.size is None else row.size,
        },
        "training": {
            **{
                name: getattr(kept.fit, name) for name in ("epochs", "best_epoch", "validation_loss", "seconds", "seed")
            },
            "settings": {k: v for k, v in asdict(study.training_of(row.model)).items() if k != "models"},
        },
        "budget": {
            "matched": None if study.budget is None else study.budget.model_dump(mode="json"),
            "parameters": kept.parameters,
            "multiply_adds": kept.multiply_adds,
        },
        "metrics": means_of(kept),
        "study": study.name,
        "versions": versions(),
    }
