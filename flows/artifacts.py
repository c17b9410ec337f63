"""What a comparison leaves in Prefect: a table, the picture, a link to the report."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

if TYPE_CHECKING:
    from flowsr.compare import ComparisonResult


def artifact_key(*parts: str) -> str:
    """Lower-case letters, numbers and dashes, all that Prefect allows in a key; other alphabets keep names apart."""
    text = " ".join(parts)
    key = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if text.isascii():
        return key
    return f"{key}-{hashlib.sha256(text.encode()).hexdigest()[:8]}".strip("-")


def metrics_rows(store: Path) -> dict[str, float]:
    """A few of the metrics beside a field, for one line of a table: of the output and of its input."""
    from flowsr.evaluate import metrics_table, read_metrics

    dataset = read_metrics(store)
    if dataset is None:
        return {}
    table, found = metrics_table(dataset).set_index("key"), {}
    for key in ("energy", "dissipation", "divergence", "consistency_error"):
        if key in table.index:
            row = table.loc[key]
            label = f"{row['metric']} [{row['unit']}]" if row["unit"] != "1" else row["metric"]
            found[label] = _number(row["output"])
            if "input" in table.columns and row["input"] is not None and row["input"] == row["input"]:
                found[f"{label}, input"] = _number(row["input"])
    return found


def publish(name: str, result: ComparisonResult, page: Path, picture: Path | None = None) -> None:
    """Attach a comparison to the current run: its table and verdict, every metric, and a link to its report.

    Args:
        name: of the experiment or study; later runs of it become versions of the same artifacts.
        result: what was found.
        page: ``report.html``.
        picture: PNG shown above the full table, or None.
    """
    from flowsr.compare import markdown_table, verdict

    rows = comparison_rows(result) if result.single else study_rows(result)
    create_table_artifact(rows, artifact_key(name, "comparison"), description="\n\n".join(verdict(result)))
    link = page.resolve().as_uri()
    create_link_artifact(link, "report.html", artifact_key(name, "report"), description="The full report")
    image = f"![coarse, interpolated, network, truth]({_data_uri(picture)})\n\n" if picture is not None else ""
    key = artifact_key(name, "picture" if result.single else "tables")
    create_markdown_artifact(image + markdown_table(result), key, description="Every data set, every metric")


def study_rows(result: ComparisonResult) -> list[dict[str, Any]]:
    """The ranking on the study's first data set: mean, deviation over seeds, and each reference's verdict."""
    from flowsr.compare.findings import compared, ranked, score, shown_references

    home, metric, rows = result.home, result.rules.rank_by, []
    for name in ranked(result):
        model, row = result.models[name], result.row(name, home)
        found = score(result, row, home, metric)
        if found is None:
            continue  # it does not have what the ranking is by
        line = {"model": model.label, "parameters": model.parameters, "multiply-adds": model.multiply_adds}
        line |= {result.metrics[metric].label: found.interval.estimate, "deviation": found.deviation}
        for reference in shown_references(result):
            difference = compared(result, row, reference, home, metric)
            line[f"against {reference}"] = None if difference is None else difference.verdict
        rows.append(line)
    return rows


def comparison_rows(result: ComparisonResult) -> list[dict[str, Any]]:
    """Every metric, one row for the truth and one per model, in the order of the comparison's table."""
    from flowsr.compare.tables import experiment_lines

    shown = {key: metric.label for key, metric in result.metrics.items()}
    shown |= {cost: cost for cost in ("parameters", "seconds")}
    return [
        {"model": line["label"], **{label: _number(line[key]) for key, label in shown.items()}}
        for line in experiment_lines(result)
    ]


def _number(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _data_uri(picture: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
