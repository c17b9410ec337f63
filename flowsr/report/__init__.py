"""The comparison as a page to look at, and as one picture."""

from flowsr.report.comparison_page import render_report, write_report
from flowsr.report.figures.slices import SliceSet, collect_slices, hero_figure
from flowsr.report.figures.weights import RelaxedWeights
from flowsr.report.html import HowMade

__all__ = ["HowMade", "RelaxedWeights", "SliceSet", "collect_slices", "hero_figure", "render_report", "write_report"]
