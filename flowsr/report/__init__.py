"""The comparison as a page to look at, and as one picture."""

from flowsr.report.hero import hero_figure
from flowsr.report.page import HowMade, render_report, write_report
from flowsr.report.planes import SliceSet, collect_slices
from flowsr.report.weights import RelaxedWeights

__all__ = ["HowMade", "RelaxedWeights", "SliceSet", "collect_slices", "hero_figure", "render_report", "write_report"]
