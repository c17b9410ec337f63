"""Compare models on held-out snapshots: one dictionary, two tables, a verdict."""

from flowsr.compare.entry import Entry
from flowsr.compare.job import compare
from flowsr.compare.table import csv_table, markdown_table, screen_table
from flowsr.compare.verdict import verdict

__all__ = ["Entry", "compare", "csv_table", "markdown_table", "screen_table", "verdict"]
