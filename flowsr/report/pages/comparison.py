"""The report: one HTML file with everything in it, that needs no network, now or in ten years."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from flowsr.compare.verdict import verdict
from flowsr.report.figures.slices import SliceSet
from flowsr.report.figures.weights import RelaxedWeights
from flowsr.report.html import HowMade, rendered, size_text, write_page
from flowsr.report.pages import pictures
from flowsr.report.pages.table import comparison_table
from flowsr.report.style import model_looks

log = logging.getLogger(__name__)
_FLOW = {
    "reynolds_lambda": Markup("Taylor-scale Reynolds number <i>Re</i><sub>λ</sub>"),
    "viscosity": Markup("Viscosity <i>ν</i>"),
    "dissipation": Markup("Dissipation rate <i>ε</i>"),
    "kinetic_energy": Markup("Kinetic energy <i>K</i>"),
    "rms_velocity": Markup("r.m.s. velocity <i>u</i>′"),
    "taylor_length": Markup("Taylor length <i>λ</i>"),
    "kolmogorov_length": Markup("Kolmogorov length <i>η</i>"),
    "kmax_eta": Markup("Resolution <i>k</i><sub>max</sub> <i>η</i>"),
    "integral_length": Markup("Integral length <i>L</i>"),
    "turnover_time": Markup("Eddy turnover time <i>T</i><sub>e</sub>"),
    "eddy_turnover_time": Markup("Eddy turnover time <i>T</i><sub>e</sub>"),
}


def write_report(
    path: str | Path,
    comparison: Mapping[str, Any],
    slices: Sequence[SliceSet] = (),
    histories: Mapping[str, Sequence[Mapping[str, float]]] | None = None,
    relaxed_weights: Sequence[RelaxedWeights] = (),
    how_made: HowMade = HowMade(),
) -> Path:
    """Write the report, whole or not at all.

    The page asks for nothing outside itself, and equal arguments give equal bytes.

    Args:
        path: HTML file to write.
        comparison: what ``flowsr compare`` leaves in ``metrics.json``: experiment, grid and flow; ``metrics``, key ->
            label, unit, better, source; ``models``, name -> label, trained, parameters, seconds, scalars, curves;
            ``truth``, scalars and curves; ``curves``, key -> label, axis labels and scales.
        slices: planes from :func:`flowsr.report.collect_slices`, the most telling first; panels carry the names of
            ``models``, others are ignored.
        histories: network -> lines of its ``history.jsonl``.
        relaxed_weights: one entry per relaxed network.
        how_made: configuration, versions, seeds, checksums and command.

    Returns:
        ``path``.
    """
    page = render_report(comparison, slices, histories or {}, relaxed_weights, how_made)
    return write_page(path, page)


def render_report(
    comparison: Mapping[str, Any],
    slices: Sequence[SliceSet],
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    relaxed_weights: Sequence[RelaxedWeights],
    how_made: HowMade,
) -> str:
    """The page as text; arguments as in :func:`write_report`."""
    looks = model_looks(comparison["models"])
    columns, rows = comparison_table(comparison, looks)
    planes = [pictures.slices(plane, comparison, looks) for plane in slices]
    return rendered(
        "report.html",
        comparison=comparison,
        title=_title(comparison),
        facts=_facts(comparison),
        verdict=[_with_emphasis(sentence) for sentence in verdict(comparison)],
        columns=columns,
        rows=rows,
        several=len(comparison.get("runs") or []) > 1 or (comparison.get("snapshots") or 0) > 1,
        first_plane=planes[:1],
        more_planes=list(zip(slices, planes))[1:],
        scores=pictures.scores(comparison, looks),
        spectra=pictures.spectra(comparison, looks),
        pdfs=pictures.pdfs(comparison, looks),
        more_curves=pictures.more_curves(comparison, looks),
        learning=pictures.learning(histories, looks),
        weights=[pictures.weights(index, relaxed, looks) for index, relaxed in enumerate(relaxed_weights)],
        how=how_made,
    )


def _title(comparison: Mapping) -> str:
    return f"{size_text(comparison['coarse_shape'])} to {size_text(comparison['fine_shape'])}"


def _with_emphasis(sentence: str) -> Markup:
    """The sentence, escaped, its leads and lags in bold."""
    return Markup(re.sub(r"(\d+ % (?:ahead|behind))", r"<b>\1</b>", str(escape(sentence))))


def _facts(comparison: Mapping) -> list[tuple[Markup | str, str]]:
    """Label and value of everything known about the data, for the header."""
    runs = [str(run) for run in comparison.get("runs") or []]
    cutoff = comparison.get("cutoff_wavenumber")
    facts: list[tuple[Markup | str, str]] = [
        ("Grid", f"{size_text(comparison['coarse_shape'])} coarse, {size_text(comparison['fine_shape'])} fine"),
        ("Refinement", f"× {comparison['factor']} along each axis"),
        ("Coarse-graining", str(comparison["operator"]).replace("_", " ")),
        ("Held-out snapshots", str(comparison["snapshots"])),
        ("Runs", f"{len(runs)}: {', '.join(runs)}" if len(runs) <= 4 else f"{len(runs)}: {runs[0]} … {runs[-1]}"),
    ]
    if cutoff:
        facts.append((Markup("Coarse cut-off <i>k</i><sub>c</sub>"), f"{cutoff:.3g}"))
    flow = comparison.get("flow") or {}
    ordered = [key for key in _FLOW if key in flow] + [key for key in flow if key not in _FLOW]
    for key in ordered:
        value = flow[key]
        if value is None or isinstance(value, dict | list):
            continue
        text = f"{value:.3g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        facts.append((_FLOW.get(key, key.replace("_", " ").capitalize()), text))
    return facts
