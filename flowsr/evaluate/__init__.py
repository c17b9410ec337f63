"""Physics metrics beside a field of any size: of an upscaled one in the same pass, of any other when it is read.

:mod:`~flowsr.evaluate.measure` takes the statistics of blocks, :mod:`~flowsr.evaluate.result` says what they mean,
:mod:`~flowsr.evaluate.beside` watches an upscaling, and :func:`evaluate_field` reads a field that is there.
"""

from flowsr import make_callable
from flowsr.evaluate.beside import MetricsBeside
from flowsr.evaluate.evaluate import evaluate_field
from flowsr.evaluate.result import MEASURES, chosen_measures, metrics_lines, metrics_table, read_metrics

__all__ = [
    "MEASURES",
    "MetricsBeside",
    "chosen_measures",
    "evaluate_field",
    "metrics_lines",
    "metrics_table",
    "read_metrics",
]

make_callable(__name__)  # flowsr.evaluate(...) is flowsr.public.evaluate
