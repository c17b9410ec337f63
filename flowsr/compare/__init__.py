"""Compare models on held-out snapshots: one :class:`ComparisonResult`, and its tables and sentences."""

from flowsr import make_callable
from flowsr.compare.findings import verdict
from flowsr.compare.measure import Entry, compare
from flowsr.compare.result import ComparisonResult
from flowsr.compare.tables import csv_table, markdown_table, screen_table, write_tables

__all__ = [
    "ComparisonResult",
    "Entry",
    "compare",
    "csv_table",
    "markdown_table",
    "screen_table",
    "verdict",
    "write_tables",
]

make_callable(__name__)  # flowsr.compare(...) is flowsr.public.compare
