"""Every figure of the report with what a page needs beside it: alternative text and caption."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from flowsr.compare.ranking import mean_of
from flowsr.compare.verdict import BEYOND_CUTOFF, NRMSE, best_of
from flowsr.report.figures.curves import curve_figure, has_curve
from flowsr.report.figures.learning import learning_figure
from flowsr.report.figures.ranking import scores_figure
from flowsr.report.figures.slices import SliceSet, slices_figure
from flowsr.report.figures.spectra import (
    LONGITUDINAL,
    SPECTRAL_ERROR,
    SPECTRUM,
    TRANSVERSE,
    pdfs_figure,
    spectra_figure,
)
from flowsr.report.figures.weights import RelaxedWeights, weights_figure, weights_sentence
from flowsr.report.html import Picture, data_address, drawn, number, png_bytes
from flowsr.report.style import ModelLook, with_subscripts, without_mathematics

SLICE_BYTES = 700_000
MOST_NETWORKS_IN_SLICES = 4
_FIGURED_CURVES = {SPECTRUM, SPECTRAL_ERROR, LONGITUDINAL, TRANSVERSE}


def shown_models(plane: SliceSet, comparison: Mapping) -> list[str]:
    """Models worth a panel: the best interpolation, then the networks in their order (of more than four, the best)."""
    models = {name: model for name, model in comparison["models"].items() if name in plane.panels}
    networks = [name for name, model in models.items() if model.get("trained")]
    if len(networks) > MOST_NETWORKS_IN_SLICES:
        kept = sorted(networks, key=lambda name: mean_of(models[name], NRMSE))[:MOST_NETWORKS_IN_SLICES]
        networks = [name for name in networks if name in kept]
    rival = best_of(models, NRMSE, trained=False) or next((n for n, m in models.items() if not m.get("trained")), None)
    return ([rival] if rival else []) + networks


def slices(plane: SliceSet, comparison: Mapping, looks: Mapping[str, ModelLook]) -> Picture:
    """One plane: coarse, best interpolation, networks, truth, errors."""
    names = shown_models(plane, comparison)
    listed = ", ".join(looks[name].label for name in names)
    errors = "; ".join(f"{looks[name].label} {100 * plane.relative_error(name):.0f} %" for name in names)
    caption = (
        f"{plane.label} on the plane {plane.plane} of a held-out snapshot. Above: what the models were given, what "
        "they made of it, and the truth, all on one colour scale. Below: model minus truth, on a scale of their own."
    )
    return Picture(
        alt=f"Slices of {plane.label.lower()}: coarse input, {listed}, truth; r.m.s. errors on the plane: {errors}.",
        caption=caption,
        photo=data_address(png_bytes(slices_figure(plane, dict(looks), names), 170, SLICE_BYTES)),
    )


def scores(comparison: Mapping, looks: Mapping[str, ModelLook]) -> Picture | None:
    """NRMSE and spectral error snapshot by snapshot; None where neither was measured."""
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
    return drawn(scores_figure(comparison, looks, keys), "scores", f"{labels} of every model: {values}.", caption)


def spectra(comparison: Mapping, looks: Mapping[str, ModelLook], name: str = "spectra") -> Picture | None:
    """Spectra and their errors; None where there are none."""
    if not any(has_curve(comparison, key) for key in (SPECTRUM, SPECTRAL_ERROR)):
        return None
    caption = Markup(
        "(a) Energy spectrum <i>E</i>(<i>k</i>), with the slope of an inertial range for reference; (b) the same "
        "times <i>k</i><sup>5/3</sup>; (c) relative error of <i>E</i>(<i>k</i>): 1 (dotted) is none of the energy at "
        "that scale, or twice of it. The shaded wavenumbers, beyond <i>k</i><sub>c</sub>, are not on the coarse grid: "
        "what a model has there it has made."
    )
    alt = "Energy spectra of truth and models on logarithmic axes; compensated spectra; relative error of the spectra."
    return drawn(spectra_figure(comparison, looks), name, alt, caption)


def pdfs(comparison: Mapping, looks: Mapping[str, ModelLook]) -> Picture | None:
    """Velocity-gradient densities; None where there are none."""
    if not any(has_curve(comparison, key) for key in (LONGITUDINAL, TRANSVERSE)):
        return None
    caption = Markup(
        "Probability density of (a) longitudinal velocity gradients, such as ∂<i>u</i>/∂<i>x</i>, and (b) transverse "
        "ones, such as ∂<i>u</i>/∂<i>y</i>. Turbulence has wide tails and, in (a), a longer one on the left (negative "
        "skewness); the grey Gaussian has the truth’s mean and variance."
    )
    alt = (
        "Densities of longitudinal and transverse velocity gradients on a logarithmic axis: truth, models, a Gaussian."
    )
    return drawn(pdfs_figure(comparison, looks), "pdfs", alt, caption)


def more_curves(comparison: Mapping, looks: Mapping[str, ModelLook]) -> list[Picture]:
    """Curves of metrics that have no figure of their own."""
    pictures = []
    for key, description in comparison["curves"].items():
        if key in _FIGURED_CURVES or not has_curve(comparison, key):
            continue
        label = without_mathematics(str(description.get("label") or key))
        name = "curve-" + re.sub(r"[^a-z0-9]+", "-", f"{len(pictures)}-{key}".lower())
        pictures.append(
            drawn(curve_figure(comparison, key, looks), name, f"{label}, truth and models.", f"{label}.", wide=False)
        )
    return pictures


def learning(histories: Mapping[str, Sequence[Mapping]], looks: Mapping[str, ModelLook]) -> Picture | None:
    """Learning curves of the networks in the comparison; None where there are none."""
    known = {name: lines for name, lines in histories.items() if lines and name in looks}
    if not known:
        return None
    ends = []
    for name, lines in known.items():
        finite = [line for line in lines if line.get("validation_loss") is not None]
        if finite:
            best = min(finite, key=lambda line: line["validation_loss"])
            when = f"best epoch {best['epoch'] + 1} of {len(lines)}"
            ends.append(f"{looks[name].label}: {when}, loss {number(best['validation_loss'])}")
    caption = (
        "Loss on the validation snapshots (solid) and on the training patches (dotted), (a) by epoch and (b) by wall "
        "time. The weights of the epoch with the lowest validation loss (dot) were kept and tested. "
        f"{'; '.join(ends)}."
    )
    alt = "Learning curves. " + "; ".join(ends) + "."
    return drawn(learning_figure(known, looks), "learning", alt, caption)


def weights(index: int, relaxed: RelaxedWeights, looks: Mapping[str, ModelLook]) -> tuple[str, Picture | None]:
    """The sentence and, where there is a layer, the figure."""
    label = looks[relaxed.model].label if relaxed.model in looks else relaxed.model
    sentence = weights_sentence(relaxed, label)
    if not relaxed.layers:
        return sentence, None
    group = Markup("<i>O</i><sub>h</sub>") if relaxed.group == "Oh" else Markup("<i>O</i>")
    caption = Markup(
        "{label}: relaxed weights. (a) One row per layer, one column per element of {group}, in conjugacy classes and "
        "named by axis and sense: deviation from the row’s mean, over its r.m.s. White everywhere would be exact "
        "equivariance. (b) The same taken apart by the group Fourier transform: the part of each row in every irrep "
        "other than the trivial one."
    ).format(label=label, group=group)
    return sentence, drawn(
        weights_figure(relaxed), f"weights-{index}", f"Relaxed weights by layer and group element. {sentence}", caption
    )
