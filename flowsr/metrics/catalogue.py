"""Every registered metric as a table: what it gives, in which unit, which way is better, and who defined it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from flowsr.metrics.base import METRICS, FieldMetric, InputMetric, PooledMetric

_BETTER = {"lower": "lower", "higher": "higher", "truth": "as the truth", None: ""}


def catalogue() -> str:
    """Markdown: one section a metric with its needs, one row a result.

    ``docs/metrics.md`` ends with it: ``python -m flowsr.metrics.catalogue docs/metrics.md`` writes it there.
    """
    return "\n".join(line for name, metric in METRICS.items() for line in _section(name, metric))


def _section(name: str, metric: type[PooledMetric]) -> Iterator[str]:
    yield f"### `{name}`\n"
    yield f"{_summary(metric)} *{'; '.join(_needs(metric))}.*\n"
    yield "| key | what | unit | better | source |"
    yield "|---|---|---|---|---|"
    for key, scalar in metric.scalars.items():
        yield _row(key, scalar.label, scalar.unit, _BETTER[scalar.better], scalar.source)
    for key, curve in metric.curves.items():
        yield _row(key, f"{curve.label}: {curve.y_label} against {curve.x_label}", curve.y_unit, "curve", curve.source)
    yield ""


def _summary(metric: type[PooledMetric]) -> str:
    """First paragraph of the class's text, on one line, its references as plain names."""
    paragraph = " ".join((metric.__doc__ or "").split("\n\n")[0].split())
    for role in (":func:", ":class:", ":meth:"):
        paragraph = paragraph.replace(role, "")
    return paragraph


def _needs(metric: type[PooledMetric]) -> Iterator[str]:
    yield "standard" if metric.standard else "by name"
    if metric.needs_vector:
        yield "vector fields"
    if metric.needs_periodic:
        yield "periodic boxes"
    if metric.needs_channel:
        yield "channels of known viscosity"
    if issubclass(metric, InputMetric):
        yield "known degrade operator"
    if issubclass(metric, FieldMetric) and metric.halo is not None:
        yield f"tile by tile, with {metric.halo} cells around each" if metric.halo else "tile by tile"


def _row(key: str, *cells: str) -> str:
    shown = (cell.replace("|", r"\|").replace("<", r"\<").replace("*", r"\*") for cell in cells)
    return " | ".join((f"| `{key}`", *shown)) + " |"


def with_catalogue(page: str) -> str:
    """A page whose text from its first third-level heading on is the catalogue."""
    return page[: page.index("\n### ") + 1] + catalogue()


if __name__ == "__main__":
    import flowsr.metrics  # noqa: F401  (registers every metric)

    for path in map(Path, sys.argv[1:]):
        path.write_text(with_catalogue(path.read_text(encoding="utf-8")), encoding="utf-8")
