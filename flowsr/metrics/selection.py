"""Which metrics a comparison takes."""

from __future__ import annotations

from collections.abc import Sequence

from flowsr.metrics.base import METRICS

ALL = "all"


def chosen_metrics(names: Sequence[str] | None) -> list[str]:
    """Registered names of the metrics asked for, each once.

    Args:
        names: registered names, or ``all`` for every one; None: the standard ones, a table's worth that costs little.

    Raises:
        FlowsrError: an unknown name.
    """
    if names is None:
        return [name for name, metric in METRICS.items() if metric.standard]
    wanted = [one for name in names for one in (METRICS if name == ALL else [name])]
    for name in wanted:
        METRICS[name]
    return list(dict.fromkeys(wanted))
