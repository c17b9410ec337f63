"""The job: every model on the same held-out snapshots, row by row, to one dictionary and two tables."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from flowsr.compare.entry import TRUTH, Entry, check_entries, entry_identity
from flowsr.compare.measure import Bench, SymmetryTest, applicable_metrics, model_row, truth_row
from flowsr.compare.runs import HeldOutRun, judged_by_all, open_runs
from flowsr.compare.scores import round_or_none
from flowsr.compare.table import csv_table, markdown_table
from flowsr.files import write_json_atomic, write_text_atomic
from flowsr.metrics import METRICS, cutoff_wavenumber, physical_unit
from flowsr.progress import SILENT, Progress
from flowsr.provenance import fingerprint, versions

log = logging.getLogger(__name__)


def compare(
    test_stores: Sequence[Path],
    entries: Sequence[Entry],
    output: Path,
    *,
    experiment: str = "",
    variable: str = "velocity",
    metrics: Sequence[str] | None = None,
    equivariance_snapshots: int = 1,
    equivariance_precision: str = "float32",
    device: str = "cpu",
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Compare models on held-out snapshots.

    Writes ``metrics.json`` (the returned dictionary), ``table.csv`` and ``table.md`` into ``output``, each whole or not
    at all. Every model's row is also kept under ``output/rows`` with a key made of the checksums of its inputs, so that
    a comparison that was killed goes on at the model where it stopped; equal inputs give equal files, but for
    ``seconds``, which are measured again whenever a row is.

    All models are judged on the same snapshots: where some need several coarse frames, on those with a whole window about
    them. Scalars are averages over snapshots of the snapshots' own values, which are kept too; curves are averaged likewise.
    ``std`` is the sample's standard deviation over snapshots: how much snapshots differ, not how sure the mean is.

    Args:
        test_stores: ingested test stores, each with groups ``coarse`` and ``fine``.
        entries: who takes part, in the order of the result.
        output: folder for the results.
        experiment: its name, for the record.
        variable: the field to compare.
        metrics: registered names, or ``all``; default: the standard ones, see :func:`flowsr.metrics.chosen_metrics`.
            Those that the field does not allow (spectra at walls) are left out.
        equivariance_snapshots: snapshots on which the equivariance error is taken; 49 calls of the model each.
        equivariance_precision: ``float32``, in which an exact symmetry shows as some 1e-7, or ``float64``: 1e-15, but a
            convolution is ten times slower on a CPU.
        device: a torch device.
        progress: told the fraction of snapshots done.

    Returns:
        ``experiment``, ``factor``, ``operator``, ``coarse_shape``, ``fine_shape``, ``snapshots``, ``runs``,
        ``cutoff_wavenumber``, ``flow``; ``metrics`` and ``curves``, which describe the keys of each model's
        ``scalars`` and ``curves``; ``models`` by name, and ``truth``. All plain JSON; what is not finite is None.

    Raises:
        FlowsrError: stores, models, metrics or a precision that do not fit.
    """
    runs = judged_by_all(open_runs(test_stores, variable), [entry.model for entry in entries])
    check_entries(entries, len(runs))
    names, left_out = applicable_metrics(metrics, runs[0])
    if left_out:
        log.info("not defined for this field, left out: %s", ", ".join(left_out))
    tick = _ticks(progress, (len(entries) + 1) * sum(run.snapshots for run in runs))
    symmetry = SymmetryTest(equivariance_snapshots, equivariance_precision)
    bench = Bench(runs, names, symmetry, torch.device(device), tick)
    common = _common_identity(bench)

    def row(name: str, identity: dict, measure: Callable[[], dict]) -> dict:
        key = fingerprint({**common, **identity})
        return kept_row(Path(output) / "rows" / f"{name}.json", key, measure, lambda: _skip(bench))

    truth = row(TRUTH, {}, lambda: truth_row(bench))
    models = {
        entry.name: {"label": entry.label, **row(entry.name, entry_identity(entry), lambda: model_row(entry, bench))}
        for entry in entries
    }
    comparison = {**setting_of(experiment, runs), "flow": truth.pop("flow"), **descriptions_of(names, runs[0])}
    comparison |= {"models": models, "truth": {"label": "Truth", **truth}}
    _write(comparison, Path(output))
    return comparison


def _ticks(progress: Progress, total: int) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done / total, f"{done} of {total} snapshots")

    return tick


def _skip(bench: Bench) -> None:
    for _ in range(sum(run.snapshots for run in bench.runs)):
        bench.tick()


def _common_identity(bench: Bench) -> dict:
    """What decides every row: data, metrics, and the versions that measure."""
    return {
        "data": [(run.name, run.variable, run.checksum, run.judged) for run in bench.runs],
        "metrics": list(bench.metrics),
        "symmetry": asdict(bench.symmetry),
        "versions": versions(),
    }


def kept_row(path: Path, key: str, measure: Callable[[], dict], skip: Callable[[], None]) -> dict:
    """The row under ``path`` if it was measured from the same inputs, otherwise a new one, kept there."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] == key:
            skip()
            return kept["row"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    row = measure()
    write_json_atomic(path, {"key": key, "row": row})
    return row


def setting_of(experiment: str, runs: Sequence[HeldOutRun]) -> dict:
    first = runs[0]
    return {
        "experiment": experiment,
        "variable": first.variable,
        "factor": first.factor,
        "operator": str(first.coarse.attrs.get("degrade_operator", "unknown")),
        "coarse_shape": list(first.coarse_grid.shape),
        "fine_shape": list(first.fine_grid.shape),
        "snapshots": sum(run.snapshots for run in runs),
        "runs": [run.name for run in runs],
        "cutoff_wavenumber": round_or_none(cutoff_wavenumber(first.fine_grid, first.factor)),
    }


def descriptions_of(names: Sequence[str], run: HeldOutRun) -> dict:
    """What the keys of scalars and curves mean, with units in those of the data."""
    velocity = str(run.fine[run.variable].attrs.get("units", "1"))
    length = str(run.fine.attrs.get("length_units", "1"))

    def unit(of: str) -> str:
        return physical_unit(of, velocity, length)

    def axis(label: str, of: str) -> str:
        return label if unit(of) == "1" else f"{label} [{unit(of)}]"

    scalars = {key: quantity for name in names for key, quantity in METRICS[name].scalars.items()}
    curves = {key: curve for name in names for key, curve in METRICS[name].curves.items()}
    return {
        "metrics": {
            key: {
                "label": quantity.label,
                "unit": unit(quantity.unit),
                "better": quantity.better,
                "source": quantity.source,
                "short": quantity.short,
            }
            for key, quantity in scalars.items()
        },
        "curves": {
            key: {
                "label": curve.label,
                "x_label": axis(curve.x_label, curve.x_unit),
                "y_label": axis(curve.y_label, curve.y_unit),
                "x_scale": curve.x_scale,
                "y_scale": curve.y_scale,
                "source": curve.source,
            }
            for key, curve in curves.items()
        },
    }


def _write(comparison: dict, output: Path) -> None:
    write_text_atomic(output / "table.csv", csv_table(comparison))
    write_text_atomic(output / "table.md", markdown_table(comparison))
    write_json_atomic(output / "metrics.json", comparison)
