"""The comparison in words."""

from __future__ import annotations

from collections.abc import Mapping


def verdict(comparison: Mapping) -> str:
    """How far each network is ahead of, or behind, the best interpolation: the sentences that the report opens with.

    On NRMSE and on the spectral error beyond the cut-off, with the number of snapshots on which it holds.
    """
    from flowsr.report.verdict import verdict as sentences  # the report's drawing library is not needed to compare

    return "\n".join(sentences(comparison))
