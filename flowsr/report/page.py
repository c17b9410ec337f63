"""The report: one HTML file with everything in it, that needs no network, now or in ten years."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from flowsr.files import write_text_atomic
from flowsr.report import pdfs, spectra
from flowsr.report.curves import curve_figure, has_curve
from flowsr.report.embedding import data_address, png_bytes, svg_markup
from flowsr.report.learning import learning_figure
from flowsr.report.pdfs import pdfs_figure
from flowsr.report.planes import SliceSet
from flowsr.report.scores import scores_figure
from flowsr.report.slices import slices_figure
from flowsr.report.spectra import spectra_figure
from flowsr.report.style import ModelLook, model_looks, with_subscripts, without_mathematics
from flowsr.report.table import comparison_table, number
from flowsr.report.verdict import BEYOND_CUTOFF, NRMSE, best_of, mean_of, verdict
from flowsr.report.weights import RelaxedWeights, weights_figure, weights_sentence

log = logging.getLogger(__name__)
SLICE_BYTES = 700_000
MOST_NETWORKS_IN_SLICES = 4
_FIGURED_CURVES = {spectra.SPECTRUM, spectra.SPECTRAL_ERROR, pdfs.LONGITUDINAL, pdfs.TRANSVERSE}
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


@dataclass(frozen=True)
class HowMade:
    """What it takes to make the report again. Whatever is empty is left out of the page.

    Args:
        command: the command line.
        config: the resolved configuration, JSON-able.
        versions: package -> version.
        seeds: what -> seed.
        checksums: input -> checksum.
        notes: further lines, label -> text (device, date, seconds).
    """

    command: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, Any] = field(default_factory=dict)
    checksums: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def config_text(self) -> str:
        """The configuration as YAML."""
        return yaml.safe_dump(dict(self.config), sort_keys=False, allow_unicode=True) if self.config else ""


@dataclass(frozen=True)
class Picture:
    """A figure ready for the page: drawing (SVG element) or photo (``data:`` address), alternative text, caption."""

    alt: str
    caption: Markup | str
    drawing: Markup | None = None
    photo: str | None = None
    wide: bool = True


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
    path = write_text_atomic(path, page)
    log.info("wrote %s (%d kB)", path, len(page.encode()) // 1000)
    return path


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
    planes = [_slices_picture(plane, comparison, looks, index) for index, plane in enumerate(slices)]
    environment = Environment(
        loader=PackageLoader("flowsr.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["subscripts"] = with_subscripts
    return environment.get_template("report.html").render(
        comparison=comparison,
        title=_title(comparison),
        facts=_facts(comparison),
        verdict=[_with_emphasis(sentence) for sentence in verdict(comparison)],
        columns=columns,
        rows=rows,
        several=len(comparison.get("runs") or []) > 1 or (comparison.get("snapshots") or 0) > 1,
        first_plane=planes[:1],
        more_planes=list(zip(slices, planes))[1:],
        scores=_scores(comparison, looks),
        spectra=_spectra(comparison, looks),
        pdfs=_pdfs(comparison, looks),
        more_curves=_more_curves(comparison, looks),
        learning=_learning(histories, looks),
        weights=[_weights(index, relaxed, looks) for index, relaxed in enumerate(relaxed_weights)],
        how=how_made,
    )


def _title(comparison: Mapping) -> str:
    return f"{size_text(comparison['coarse_shape'])} to {size_text(comparison['fine_shape'])}"


def size_text(shape: Sequence[int]) -> str:
    """``64³`` for a cube, ``32 × 65 × 32`` otherwise."""
    return f"{shape[0]}³" if len(set(shape)) == 1 and len(shape) == 3 else " × ".join(str(n) for n in shape)


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


def _drawn(figure: Figure, name: str, alt: str, caption: str | Markup, wide: bool = True) -> Picture:
    return Picture(alt=alt, caption=caption, drawing=svg_markup(figure, name), wide=wide)


def shown_models(plane: SliceSet, comparison: Mapping) -> list[str]:
    """Models worth a panel: the best interpolation there is, then the networks in their order (at most four, the best)."""
    models = {name: model for name, model in comparison["models"].items() if name in plane.panels}
    networks = [name for name, model in models.items() if model.get("trained")]
    if len(networks) > MOST_NETWORKS_IN_SLICES:
        kept = sorted(networks, key=lambda name: mean_of(models[name], NRMSE))[:MOST_NETWORKS_IN_SLICES]
        networks = [name for name in networks if name in kept]
    rival = best_of(models, NRMSE, trained=False) or next((n for n, m in models.items() if not m.get("trained")), None)
    return ([rival] if rival else []) + networks


def _slices_picture(plane: SliceSet, comparison: Mapping, looks: Mapping[str, ModelLook], index: int) -> Picture:
    names = shown_models(plane, comparison)
    listed = ", ".join(looks[name].label for name in names)
    errors = "; ".join(f"{looks[name].label} {100 * plane.relative_error(name):.0f} %" for name in names)
    caption = (
        f"{plane.label} on the plane {plane.plane} of a held-out snapshot. Above: what the models were given, what they made of "
        "it, and the truth, all on one colour scale. Below: model minus truth, on a scale of their own."
    )
    return Picture(
        alt=f"Slices of {plane.label.lower()}: coarse input, {listed}, truth; r.m.s. errors on the plane: {errors}.",
        caption=caption,
        photo=data_address(png_bytes(slices_figure(plane, dict(looks), names), 170, SLICE_BYTES)),
    )


def _scores(comparison: Mapping, looks: Mapping[str, ModelLook]) -> Picture | None:
    keys = [key for key in (NRMSE, BEYOND_CUTOFF) if key in comparison["metrics"]]
    if not keys or not comparison["models"]:
        return None
    labels = " and ".join(str(comparison["metrics"][key].get("label") or key) for key in keys)
    named = Markup(" and ").join(with_subscripts(comparison["metrics"][key].get("label") or key) for key in keys)
    values = "; ".join(
        f"{look.label} " + ", ".join(number(mean_of(comparison["models"][name], key)) for key in keys)
        for name, look in looks.items()
    )
    caption = named + Markup(": a dot for each held-out snapshot, a tick and its value at the mean. Shorter is better.")
    return _drawn(scores_figure(comparison, looks, keys), "scores", f"{labels} of every model: {values}.", caption)


def _spectra(comparison: Mapping, looks: Mapping[str, ModelLook]) -> Picture | None:
    if not any(has_curve(comparison, key) for key in (spectra.SPECTRUM, spectra.SPECTRAL_ERROR)):
        return None
    caption = Markup(
        "(a) Energy spectrum <i>E</i>(<i>k</i>), with the slope of an inertial range for reference; (b) the same times "
        "<i>k</i><sup>5/3</sup>; (c) relative error of <i>E</i>(<i>k</i>): at 1 (dotted) a model has no energy there at all, or twice "
        "too much. The shaded wavenumbers, beyond <i>k</i><sub>c</sub>, are not on the coarse grid: what a model has there it has made."
    )
    alt = "Energy spectra of the truth and of every model on logarithmic axes, compensated spectra, and relative spectral error."
    return _drawn(spectra_figure(comparison, looks), "spectra", alt, caption)


def _pdfs(comparison: Mapping, looks: Mapping[str, ModelLook]) -> Picture | None:
    if not any(has_curve(comparison, key) for key in (pdfs.LONGITUDINAL, pdfs.TRANSVERSE)):
        return None
    caption = Markup(
        "Probability density of (a) longitudinal velocity gradients, such as ∂<i>u</i>/∂<i>x</i>, and (b) transverse ones, such as "
        "∂<i>u</i>/∂<i>y</i>. Turbulence has wide tails and, in (a), a longer one on the left (negative skewness); the grey Gaussian has "
        "the truth’s mean and variance."
    )
    alt = "Densities of longitudinal and transverse velocity gradients on a logarithmic axis, truth, models and a Gaussian."
    return _drawn(pdfs_figure(comparison, looks), "pdfs", alt, caption)


def _more_curves(comparison: Mapping, looks: Mapping[str, ModelLook]) -> list[Picture]:
    """Curves of metrics that have no figure of their own."""
    pictures = []
    for key, description in comparison["curves"].items():
        if key in _FIGURED_CURVES or not has_curve(comparison, key):
            continue
        label = without_mathematics(str(description.get("label") or key))
        name = "curve-" + re.sub(r"[^a-z0-9]+", "-", f"{len(pictures)}-{key}".lower())
        pictures.append(_drawn(curve_figure(comparison, key, looks), name, f"{label}, truth and models.", f"{label}.", wide=False))
    return pictures


def _learning(histories: Mapping[str, Sequence[Mapping]], looks: Mapping[str, ModelLook]) -> Picture | None:
    drawn = {name: lines for name, lines in histories.items() if lines and name in looks}
    if not drawn:
        return None
    ends = []
    for name, lines in drawn.items():
        finite = [line for line in lines if line.get("validation_loss") is not None]
        if finite:
            best = min(finite, key=lambda line: line["validation_loss"])
            ends.append(f"{looks[name].label}: best epoch {best['epoch'] + 1} of {len(lines)}, loss {number(best['validation_loss'])}")
    caption = (
        "Loss on the validation snapshots (solid) and on the training patches (dotted), (a) by epoch and (b) by wall time. "
        "The weights of the epoch with the lowest validation loss (dot) were kept and tested. " + "; ".join(ends) + "."
    )
    alt = "Learning curves. " + "; ".join(ends) + "."
    return _drawn(learning_figure(drawn, looks), "learning", alt, caption)


def _weights(index: int, relaxed: RelaxedWeights, looks: Mapping[str, ModelLook]) -> tuple[str, Picture | None]:
    """The sentence and, where there is a layer, the figure."""
    label = looks[relaxed.model].label if relaxed.model in looks else relaxed.model
    sentence = weights_sentence(relaxed, label)
    if not relaxed.layers:
        return sentence, None
    group = Markup("<i>O</i><sub>h</sub>") if relaxed.group == "Oh" else Markup("<i>O</i>")
    caption = Markup(
        "Relaxed weights of {label}. (a) One row per layer, one column per element of {group}, in conjugacy classes and named by axis and "
        "sense: deviation from the row’s mean, over its r.m.s. White everywhere would be exact equivariance. (b) The same "
        "taken apart by the group Fourier transform: the part of each row in every irrep other than the trivial one."
    ).format(label=label, group=group)
    return sentence, _drawn(weights_figure(relaxed), f"weights-{index}", f"Relaxed weights by layer and group element. {sentence}", caption)
