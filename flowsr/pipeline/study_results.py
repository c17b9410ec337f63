"""From a study's rows to what it found: one dictionary, tidy tables, Markdown, and the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from flowsr.compare import ComparisonResult, screen_table, verdict, write_tables
from flowsr.compare.measure import describe_data, describe_metrics
from flowsr.compare.result import MeasuredRow, Rules, rounded
from flowsr.compare.runs import open_runs
from flowsr.config.study import Study
from flowsr.data.pairs import read_statistics
from flowsr.errors import FlowsrError
from flowsr.pipeline.study import Row, pairs_of, test_stores
from flowsr.pipeline.study_rows import metrics_for, row_file, truth_of
from flowsr.progress import SILENT, Progress
from flowsr.provenance import versions
from flowsr.report.pages.comparison import study_how_made, write_report


@dataclass(frozen=True)
class StudyOutcome:
    """What `flowsr compare` ends with on a study.

    Args:
        comparison: what was found.
        report: path of ``report.html``.
    """

    comparison: ComparisonResult
    report: Path

    @property
    def table(self):
        """The ranking as a rich table."""
        return screen_table(self.comparison)

    @property
    def verdict(self) -> str:
        """The findings in a few sentences, a line each."""
        return "\n".join(verdict(self.comparison))


def conclude(study: Study, plan: Sequence[Row], *, fresh: bool = False, progress: Progress = SILENT) -> StudyOutcome:
    """Statistics over all rows of the plan, to ``compare/`` and ``report.html``.

    Raises:
        FlowsrError: a row of the plan that is missing.
    """
    progress(0.0, "reading rows")
    rows = [_read_row(row_file(study, row)) for row in plan]
    truths = {data: truth_of(study, data) for data in study.data}
    runs = {data: open_runs(test_stores(study, data), study.data[data].ingest.variable) for data in study.data}
    described = [describe_metrics(metrics_for(study, found[0]), found[0]) for found in runs.values()]
    metrics, curves = ({k: v for one in reversed(described) for k, v in one[key].items()} for key in described[0])
    if study.compare.rank_by not in described[list(runs).index(study.trained_data[0])]["metrics"]:
        raise FlowsrError(
            f"no scalar '{study.compare.rank_by}' is measured",
            variable="compare.rank_by",
            expected="one of " + ", ".join(metrics),
        )
    result = ComparisonResult.assemble(
        study.name,
        rows,
        truths,
        {data: _block_lengths(study, data) for data in study.data},
        {data: _described(study, data, runs[data]) for data in study.data},
        {name: entry.label or name for name, entry in study.models.items()},
        metrics=metrics,
        curve_kinds=curves,
        rules=_rules(study),
        seeds=tuple(study.seeds),
        versions=versions(),
    )
    folder, page = study.output / "compare", study.output / "report.html"
    write_tables(result, folder, progress.share(0.05, 0.9))
    progress(0.9, "drawing")
    write_report(page, result, how_made=study_how_made(result, study.model_dump(mode="json")))
    progress(1.0, "done")
    return StudyOutcome(result, page)


def _rules(study: Study) -> Rules:
    asked = study.compare
    budget = None if study.budget is None else study.budget.model_dump(mode="json")
    return Rules(
        asked.rank_by, tuple(asked.references), asked.confidence, asked.resamples, asked.block_turnovers, budget
    )


def _described(study: Study, data: str, runs):
    settings, statistics = study.data[data], read_statistics(pairs_of(study, data))
    return replace(
        describe_data(runs),
        label=settings.label or data,
        role=settings.role,
        training_snapshots=statistics["snapshots"]["train"] if settings.role != "test_only" else 0,
        turnover_time=rounded(fmean(_block_lengths(study, data).values()) / study.compare.block_turnovers),
        sources={run: entry["sha256"] for run, entry in statistics["runs"].items()},
        licence=settings.licence,
    )


def _read_row(path: Path) -> MeasuredRow:
    try:
        return MeasuredRow.from_json(json.loads(path.read_text(encoding="utf-8"))["row"])
    except (OSError, ValueError, KeyError):
        raise FlowsrError("a row of the study is missing", file=path, hint="run `flowsr compare` again") from None


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
