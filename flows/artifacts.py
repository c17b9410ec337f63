"""What a comparison leaves in Prefect: a table, the picture, a link to the report."""

from __future__ import annotations

import base64
import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

if TYPE_CHECKING:
    from flowsr.compare import ComparisonResult
    from flowsr.pipeline.stages import Outcome


def artifact_key(*parts: str) -> str:
    """Lower-case letters, numbers and dashes, all that Prefect allows in a key."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts).lower()).strip("-")


def publish_comparison(name: str, outcome: Outcome, picture: Path | None) -> None:
    """Attach a comparison to the current run.

    Args:
        name: of the experiment; later runs of it become versions of the same artifacts.
        outcome: what the comparison ended with.
        picture: PNG shown above the full table, or None.
    """
    from flowsr.compare import markdown_table

    table, link, page = (artifact_key(name, what) for what in ("comparison", "report", "picture"))
    create_table_artifact(comparison_rows(outcome.comparison), table, description=outcome.verdict)
    create_link_artifact(outcome.report.resolve().as_uri(), "report.html", link, description="The full report")
    image = f"![coarse, interpolated, network, truth]({_data_uri(picture)})\n\n" if picture is not None else ""
    create_markdown_artifact(image + markdown_table(outcome.comparison), page, description="Every metric")


def publish_study(name: str, result: ComparisonResult, page: Path) -> None:
    """Attach a study's findings to the current run: the ranking, every table, and a link to its report.

    Args:
        name: of the study; later runs of it become versions of the same artifacts.
        result: what was found.
        page: ``report.html``.
    """
    from flowsr.compare import markdown_table, verdict

    table, link, tables = (artifact_key(name, what) for what in ("comparison", "report", "tables"))
    create_table_artifact(study_rows(result), table, description="\n\n".join(verdict(result)))
    create_link_artifact(page.resolve().as_uri(), "report.html", link, description="The full report")
    create_markdown_artifact(markdown_table(result), tables, description="Every data set, every metric")


def study_rows(result: ComparisonResult) -> list[dict[str, Any]]:
    """The ranking on the study's first data set: mean, deviation over seeds, and each reference's verdict."""
    from flowsr.compare.findings import compared, ranked, score, shown_references

    home, metric, rows = result.home, result.rules.rank_by, []
    for name in ranked(result):
        model, row = result.models[name], result.row(name, home)
        found = score(result, row, home, metric)
        line = {"model": model.label, "parameters": model.parameters, "multiply-adds": model.multiply_adds}
        line |= {result.metrics[metric].label: found.interval.estimate, "deviation": found.deviation}
        for reference in shown_references(result):
            difference = compared(result, row, reference, home, metric)
            line[f"against {reference}"] = None if difference is None else difference.verdict
        rows.append(line)
    return rows


def comparison_rows(result: ComparisonResult) -> list[dict[str, Any]]:
    """Every metric, one row for the truth and one per model, in the order of the comparison's table."""
    from flowsr.compare import csv_table

    labels = {key: metric.label for key, metric in result.metrics.items()}
    rows = []
    for row in csv.DictReader(io.StringIO(csv_table(result))):
        scores = {label: _number(row[key]) for key, label in labels.items()}
        costs = {cost: _number(row[cost]) for cost in ("parameters", "seconds")}
        rows.append({"model": row["label"], **scores, **costs})
    return rows


def _number(text: str) -> float | None:
    return float(f"{float(text):.4g}") if text else None


def _data_uri(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
