"""From a study's rows to what it found: one dictionary, tidy tables, Markdown, and the page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from flowsr.compare.findings import (
    BEST_INTERPOLATION,
    Resampling,
    Score,
    best_interpolation,
    compared,
    learning_curve,
    score,
)
from flowsr.compare.job import descriptions_of, setting_of
from flowsr.compare.result import Board, Key, Result, spread_values
from flowsr.compare.runs import open_runs
from flowsr.compare.scores import round_or_none
from flowsr.compare.study_table import differences_csv, study_csv, study_markdown, study_screen, study_verdict
from flowsr.compare.tidy import write_tidy
from flowsr.config.study import Study
from flowsr.data.pairs import read_statistics
from flowsr.errors import FlowsrError
from flowsr.files import write_json_atomic, write_text_atomic
from flowsr.pipeline.study import Row, pairs_of, test_stores
from flowsr.pipeline.study_rows import metrics_for, row_file, truth_of
from flowsr.progress import SILENT, Progress
from flowsr.provenance import versions

RESULTS = "study.json"


@dataclass(frozen=True)
class StudyOutcome:
    """What `flowsr compare` ends with on a study.

    Args:
        results: the content of ``study.json``.
        report: path of ``report.html``.
    """

    results: dict[str, Any]
    report: Path

    @property
    def table(self):
        """The ranking as a rich table."""
        return study_screen(self.results)

    @property
    def verdict(self) -> str:
        """The findings in a few sentences, a line each."""
        return "\n".join(study_verdict(self.results))


def conclude(study: Study, plan: Sequence[Row], *, fresh: bool = False, progress: Progress = SILENT) -> StudyOutcome:
    """Statistics over all rows of the plan, to ``compare/`` and ``report.html``.

    Raises:
        FlowsrError: a row of the plan that is missing.
    """
    from flowsr.report.pages.study import write_study_report

    tell = progress or (lambda fraction, message: None)
    tell(0.0, "reading rows")
    rows = {row: _read_row(row_file(study, row)) for row in plan}
    truths = {data: truth_of(study, data) for data in study.data}
    board = _board(study, rows, truths)
    results = _results(study, rows, truths, board, tell)
    folder, page = study.output / "compare", study.output / "report.html"
    write_json_atomic(folder / RESULTS, results)
    write_tidy(folder, board, _labels(study), {data: _train_snapshots(study, data) for data in study.trained_data})
    write_text_atomic(folder / "table.csv", study_csv(results))
    write_text_atomic(folder / "differences.csv", differences_csv(results))
    write_text_atomic(folder / "table.md", study_markdown(results))
    tell(0.9, "drawing")
    write_study_report(page, results, study.model_dump(mode="json"), versions())
    tell(1.0, "done")
    return StudyOutcome(results, page)


def _read_row(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["row"]
    except (OSError, ValueError, KeyError):
        raise FlowsrError("a row of the study is missing", file=path, hint="run `flowsr compare` again") from None


def _labels(study: Study) -> dict[str, str]:
    return {name: entry.label or name for name, entry in study.models.items()}


def _train_snapshots(study: Study, data: str) -> int:
    return read_statistics(pairs_of(study, data))["snapshots"]["train"]


def _board(study: Study, rows: dict[Row, dict], truths: dict[str, dict]) -> Board:
    results = [
        _result(Key(row.model, row.data, row.size), row.seed, data, test)
        for row, kept in rows.items()
        for data, test in kept["tests"].items()
    ]
    aims = {data: _result(Key("truth", data), None, data, truth) for data, truth in truths.items()}
    return Board(results, aims, {data: _block_lengths(study, data) for data in study.data})


def _result(key: Key, seed: int | None, data: str, test: dict) -> Result:
    snapshots = tuple((run, time) for run, time in test["snapshots"])
    values = {name: spread_values(found["values"], len(snapshots)) for name, found in test["scalars"].items()}
    return Result(key, seed, data, snapshots, values, test["curves"])


def _block_lengths(study: Study, data: str) -> dict[str, float]:
    """Run -> length of a block, so many turnover times as the study says."""
    stated = study.data[data].ingest.split.turnover_time
    lengths = {}
    for run, entry in read_statistics(pairs_of(study, data))["runs"].items():
        turnover = stated if stated is not None else (entry["scales"] or {}).get("turnover_time")
        if turnover is None:
            raise FlowsrError(
                "no eddy turnover time to cut blocks by", variable=f"data.{data}.ingest.split.turnover_time"
            )
        lengths[run] = study.compare.block_turnovers * turnover
    return lengths


def _results(
    study: Study, rows: dict[Row, dict], truths: dict[str, dict], board: Board, tell: Progress
) -> dict[str, Any]:
    runs = {data: open_runs(test_stores(study, data), study.data[data].ingest.variable) for data in study.data}
    described = {data: descriptions_of(metrics_for(study, runs[data][0]), runs[data][0]) for data in study.data}
    home = study.trained_data[0]
    if study.compare.rank_by not in described[home]["metrics"]:
        raise FlowsrError(
            f"no scalar '{study.compare.rank_by}' is measured",
            variable="compare.rank_by",
            expected="one of " + ", ".join(described[home]["metrics"]),
        )
    resampling = Resampling(study.compare.confidence, study.compare.resamples)
    scores, differences = _findings(study, board, described, resampling, lambda f: tell(0.05 + 0.75 * f, "statistics"))
    return {
        "study": study.name,
        "seeds": study.seeds,
        "budget": None if study.budget is None else study.budget.model_dump(mode="json"),
        "confidence": study.compare.confidence,
        "resamples": study.compare.resamples,
        "block_turnovers": study.compare.block_turnovers,
        "rank_by": study.compare.rank_by,
        "home": home,
        "metrics": {key: value for data in reversed(described) for key, value in described[data]["metrics"].items()},
        "curves": {key: value for data in reversed(described) for key, value in described[data]["curves"].items()},
        "data": {data: _data_entry(study, data, runs[data], truths[data], board) for data in study.data},
        "models": {name: _model_entry(study, name, rows) for name in study.models},
        "scores": [_score_entry(one) for one in scores],
        "differences": differences,
        "learning": _learning(study, board, described, resampling),
        "spectra": {data: _curves(board, data) for data in study.data},
        "truth": {
            data: {"curves": truth["curves"], "means": {key: value["mean"] for key, value in truth["scalars"].items()}}
            for data, truth in truths.items()
        },
        "rows": len(rows),
        "fit_seconds": round_or_none(sum(kept["fit"]["seconds"] for kept in rows.values() if kept["fit"])),
        "versions": versions(),
    }


def _findings(
    study: Study, board: Board, described: dict, resampling: Resampling, tell
) -> tuple[list[Score], list[dict]]:
    """Every row's means, and its differences to the references, on every data set."""
    scores, differences = [], []
    work = [(data, key) for data in study.data for key in board.keys(data)]
    for number, (data, key) in enumerate(work):
        for metric in board.metrics(key, data):
            quantity = described[data]["metrics"].get(metric)
            if quantity is None:
                continue
            scores.append(score(board, key, data, metric, resampling))
            if quantity["better"] is None:
                continue
            for name in study.compare.references:
                against = _reference(board, key, name, data, metric, quantity["better"])
                if against is not None and against != key:
                    found = compared(board, key, name, against, data, metric, quantity["better"], resampling)
                    differences.append(_difference_entry(found))
        tell((number + 1) / len(work))
    return scores, differences


def _reference(board: Board, key: Key, name: str, data: str, metric: str, better: str) -> Key | None:
    """The row that a reference means for a row: of the same data and size where it is trained; None if there is none."""
    if name == BEST_INTERPOLATION:
        return best_interpolation(board, data, metric, better)
    found = [other for other in board.keys(data) if other.model == name and metric in board.metrics(other, data)]
    same = [other for other in found if (other.data, other.size) == (key.data, key.size)]
    whole = [other for other in found if other.size is None]
    return (same or whole or [None])[0]


def _learning(study: Study, board: Board, described: dict, resampling: Resampling) -> list[dict]:
    """Learning curves of every network that was trained on several sizes, by the study's own metric and all like it."""
    found = []
    for data in study.trained_data:
        for model in study.models:
            keys = {
                _train_snapshots(study, data) if key.size is None else key.size: key
                for key in board.keys(data)
                if key.model == model and key.data == data and board.results(key, data)[0].seed is not None
            }
            if len(keys) < 2:
                continue
            for metric in board.metrics(next(iter(keys.values())), data):
                if described[data]["metrics"].get(metric, {}).get("better") == "lower":
                    curve = learning_curve(board, keys, data, metric, resampling)
                    found.append(
                        {
                            "model": model,
                            "data": data,
                            "metric": metric,
                            "sizes": list(curve.sizes),
                            "scores": [_score_entry(one) for one in curve.scores],
                            "slope": None if curve.slope is None else _interval(curve.slope),
                        }
                    )
    return found


def _data_entry(study: Study, data: str, runs, truth: dict, board: Board) -> dict[str, Any]:
    settings, statistics = study.data[data], read_statistics(pairs_of(study, data))
    return {
        "label": settings.label or data,
        "role": settings.role,
        **setting_of(study.name, runs),
        "runs": list(dict.fromkeys(run.name for run in runs)),
        "snapshots": len(board.snapshots[data]),
        "blocks": board.block_count(data),
        "train_snapshots": statistics["snapshots"]["train"] if settings.role != "test_only" else 0,
        "turnover_time": round_or_none(fmean(_block_lengths(study, data).values()) / study.compare.block_turnovers),
        "flow": truth["flow"],
        "sources": {run: entry["sha256"] for run, entry in statistics["runs"].items()},
        "licence": settings.licence,
    }


def _model_entry(study: Study, name: str, rows: dict[Row, dict]) -> dict[str, Any]:
    """What a model is and costs; costs as on the first data set that it is on."""
    own = {row: kept for row, kept in rows.items() if row.model == name}
    if not own:
        return {"label": _labels(study)[name], "trained": False, "rows": 0, "parameters": None, "multiply_adds": None}
    first_row, first = next(iter(own.items()))
    fits = [kept["fit"]["seconds"] for row, kept in own.items() if kept["fit"] and row.size is None]
    return {
        "label": _labels(study)[name],
        "trained": first["trained"],
        "rows": len(own),
        "model": first["registered"],
        "options": first["options"],
        "parameters": first["parameters"],
        "multiply_adds": first["multiply_adds"],
        "seconds": min(
            kept["tests"][first_row.data]["seconds"] for kept in own.values() if first_row.data in kept["tests"]
        ),
        "fit_seconds": round_or_none(sum(fits) / len(fits)) if fits else None,
        "history": {
            f"{row.data} {row.seed}": kept["fit"]["history"]
            for row, kept in own.items()
            if kept["fit"] and row.size is None
        },
    }


def _score_entry(found: Score) -> dict[str, Any]:
    return {
        **_key_entry(found.key),
        "tested_on": found.tested_on,
        "metric": found.metric,
        **_interval(found.interval),
        "deviation": None if found.deviation is None else round_or_none(found.deviation),
        "by_seed": [round_or_none(value) for value in found.by_seed],
    }


def _difference_entry(found) -> dict[str, Any]:
    return {
        **_key_entry(found.key),
        "tested_on": found.tested_on,
        "metric": found.metric,
        "reference": found.reference,
        "against": found.against.model,
        **_interval(found.interval),
        "share": round_or_none(found.share),
        "verdict": found.verdict,
    }


def _key_entry(key: Key) -> dict[str, Any]:
    return {"model": key.model, "data": key.data, "size": key.size}


def _interval(interval) -> dict[str, Any]:
    ends = {"low": interval.low, "high": interval.high}
    return {
        "estimate": round_or_none(interval.estimate),
        **{name: None if end is None or not math.isfinite(end) else round_or_none(end) for name, end in ends.items()},
        "blocks": interval.blocks,
        "n_seeds": interval.seeds,
    }


def _curves(board: Board, data: str) -> dict[str, dict]:
    """Model -> curve -> x and y, averaged over seeds, of the rows trained on everything of their own data set."""
    found: dict[str, dict] = {}
    for key in board.keys(data):
        results = board.results(key, data)
        at_home = key.data == data or results[0].seed is None
        if key.size is not None or not at_home:
            continue
        found[key.model] = {
            name: {"x": curve["x"], "y": _mean_curve([result.curves[name]["y"] for result in results])}
            for name, curve in results[0].curves.items()
        }
    return found


def _mean_curve(curves: Sequence[Sequence[float | None]]) -> list[float | None]:
    columns = [[value for value in column if value is not None] for column in zip(*curves)]
    return [round_or_none(sum(column) / len(column)) if column else None for column in columns]
