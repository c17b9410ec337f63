"""The one picture that says what flowsr does: coarse, interpolated, network, truth, and their spectra."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from flowsr.compare.ranking import mean_of
from flowsr.compare.verdict import NRMSE, best_of
from flowsr.report.embedding import png_bytes
from flowsr.report.planes import SliceSet
from flowsr.report.slices import colour_limits, draw_plane, field_colours
from flowsr.report.spectra import draw_spectrum, mark_cutoff
from flowsr.report.style import INK, model_looks, plain, styled, with_unit

log = logging.getLogger(__name__)
_DOTS, _WIDE, _TALL = 100, 16.0, 3.66
HERO_LIMIT = 600_000


def hero_figure(path: str | Path, comparison: Mapping, slices: SliceSet, network: str | None = None) -> Path:
    """Write the picture, 1600 dots wide and below 600 kB, as PNG.

    Args:
        path: file to write; its folder must exist.
        comparison: see :func:`flowsr.report.write_report`.
        slices: a plane with panels of the best interpolation and of ``network``.
        network: the network shown; default: the one with the lowest NRMSE.

    Returns:
        ``path``.

    Raises:
        ValueError: ``slices`` lacks the network or every interpolation.
    """
    models = comparison["models"]
    shown = {name: models[name] for name in slices.panels if name in models}
    rival, network = best_of(shown, NRMSE, trained=False), network or best_of(shown, NRMSE, trained=True)
    if rival is None or network not in shown:
        raise ValueError(f"the slices hold {sorted(slices.panels)}: an interpolation and a network are needed")
    figure = draw_hero(comparison, slices, [rival, network])
    picture = png_bytes(figure, _DOTS, HERO_LIMIT)
    path = Path(path)
    path.write_bytes(picture)
    log.info("wrote %s (%d kB)", path, len(picture) // 1000)
    return path


@styled
def draw_hero(comparison: Mapping, slices: SliceSet, names: list[str]) -> Figure:
    """Four planes on one colour scale and the spectra of the models among them.

    Args:
        comparison: see :func:`flowsr.report.write_report`.
        slices: one plane.
        names: the models between the coarse field and the truth.
    """
    looks = model_looks(comparison["models"])
    figure = Figure(figsize=(_WIDE, _TALL))
    side, gap, left, bottom = 2.78, 0.09, 0.10, 0.26
    shape = "³ cells" if len(set(comparison["fine_shape"])) == 1 else " cells"
    coarse, fine = (_size(comparison[key]) + shape for key in ("coarse_shape", "fine_shape"))
    panels = [("Coarse input", coarse, INK, slices.coarse)]
    panels += [(looks[n].label, _score(comparison, n), looks[n].colour, slices.panels[n]) for n in names]
    panels += [("Truth", fine, "#000000", slices.truth)]
    limits = colour_limits(slices)
    for index, (title, note, colour, values) in enumerate(panels):
        place = (left + index * (side + gap), bottom, side, side)
        axes = figure.add_axes(tuple(v / (_WIDE, _TALL)[i % 2] for i, v in enumerate(place)))
        image = draw_plane(axes, slices, values, limits, field_colours(slices))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.text(
            0,
            1.105,
            plain(title),
            transform=axes.transAxes,
            fontsize=16,
            fontweight="bold",
            color=colour,
            va="baseline",
        )
        axes.text(0, 1.03, plain(note), transform=axes.transAxes, fontsize=13, color="#555555", va="baseline")
    start = left + 4 * (side + gap)
    bar = figure.add_axes((start / _WIDE, bottom / _TALL, 0.12 / _WIDE, side / _TALL))
    figure.colorbar(image, cax=bar, extend="both" if slices.signed else "max")
    bar.set_title(with_unit(slices.symbol, slices.unit), fontsize=13, loc="left", pad=8)
    spectrum = figure.add_axes(((start + 1.25) / _WIDE, 0.62 / _TALL, (_WIDE - start - 1.37) / _WIDE, 2.42 / _TALL))
    draw_spectrum(spectrum, comparison, {name: looks[name] for name in names})
    mark_cutoff(spectrum, comparison.get("cutoff_wavenumber"))
    spectrum.text(
        0, 1.105 * side / 2.42 - 0.148, "Energy spectrum", transform=spectrum.transAxes, fontsize=16, fontweight="bold"
    )
    spectrum.set_xlabel("wavenumber $k$", labelpad=1)
    spectrum.set_ylabel("$E(k)$", labelpad=1)
    spectrum.legend(loc="lower left", fontsize=11, handlelength=1.7, borderaxespad=0.2)
    return figure


def _size(shape) -> str:
    return str(shape[0]) if len(set(shape)) == 1 else "×".join(str(n) for n in shape)


def _score(comparison: Mapping, name: str) -> str:
    return f"NRMSE {mean_of(comparison['models'][name], NRMSE):.3f}"
