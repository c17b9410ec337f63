"""The figures of a symmetry report: one per question, drawn from a discovery.

What the surviving group keeps is blue, what it loses is orange, what chance would do is grey.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from flowsr.group import octahedral_group
from flowsr.report.figures.weights import element_order, name_elements, separate_classes, symbol_text
from flowsr.report.style import FAINT, INK, POSITIVE_MAP, plain, styled
from flowsr.symmetry.result import AxisHomogeneity, DataSymmetry, Discovery

KEPT, LOST, CHANCE = "#0072B2", "#D55E00", "#d4d4d4"
_WIDTH = 13.0
_OH = octahedral_group("Oh")
_OKABE_ITO = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_CLASS_COLOURS = (*_OKABE_ITO, "#882255", "#8a8a8a", "#44AA99")
_AXIS_COLOURS = ("#0072B2", "#D55E00", "#009E73")
_FLOOR = 1e-3  # of the largest power, below which irreps are drawn as nothing


@styled
def weights_figure(found: Discovery) -> Figure:
    """w(g) of every layer on the 48 elements: mean over seeds and filter banks, and its standard deviation."""
    figure = Figure(figsize=(_WIDTH, 1.3 + 2.0 * len(found.layers)), constrained_layout=True)
    rows = figure.subplots(len(found.layers), 1, sharex=True, squeeze=False)[:, 0]
    for number, (axes, (name, layer)) in enumerate(zip(rows, found.layers.items())):
        mean = 100 * np.array(layer.weights_mean)
        _element_bars(axes, found, mean - mean[element_order(_OH)].mean(), 100 * np.array(layer.weights_std))
        axes.axhline(0, color=INK, linewidth=0.8, zorder=4)
        axes.set_ylabel(plain(name) + "\n$w(g)$ less its mean [%]", fontsize=11)
        separate_classes(axes, _OH, labelled=number == 0)
    name_elements(rows[-1], _OH)
    _element_legend(rows[0])
    return figure


@styled
def elements_figure(found: Discovery) -> Figure:
    """Equivariance error of the relaxed network for each element, with what chance would make of it."""
    entries, order = found.equivariance.per_element, element_order(_OH)
    figure = Figure(figsize=(_WIDTH, 3.5), constrained_layout=True)
    axes = figure.subplots()
    _element_bars(axes, found, *(100 * np.array([getattr(each, key) for each in entries]) for key in ("mean", "std")))
    null, places = [entries[g].null_high or entries[g].null for g in order], np.arange(len(order))
    chance = all(each is not None for each in null)
    if chance:
        axes.bar(places, 100 * np.array(null), width=1.0, color=CHANCE, linewidth=0, zorder=1)
    separate_classes(axes, _OH, labelled=True)
    name_elements(axes, _OH)
    axes.set_ylabel("equivariance\nerror [%]", fontsize=12)
    _element_legend(axes, *([Patch(color=CHANCE, label="chance: data turned at random")] if chance else []))
    return figure


def _element_bars(axes: Axes, found: Discovery, mean: np.ndarray, spread: np.ndarray) -> None:
    """A bar for each element, (48,), class by class, in the colour of what became of it."""
    order = element_order(_OH)
    places, colours = np.arange(len(order)), [KEPT if g in found.surviving.elements else LOST for g in order]
    axes.bar(places, mean[order], width=0.72, color=colours, zorder=2)
    axes.errorbar(places, mean[order], spread[order], fmt="none", ecolor=INK, elinewidth=0.9, zorder=3)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(order) - 0.4)


def _element_legend(axes: Axes, *more: Patch) -> None:
    handles = [Patch(color=KEPT, label="in the surviving group"), Patch(color=LOST, label="lost"), *more]
    place = {"loc": "lower right", "bbox_to_anchor": (1, 1.13), "borderaxespad": 0}
    axes.legend(handles=handles, ncols=len(handles), fontsize=10.5, **place)


@styled
def irreps_figure(found: Discovery) -> Figure:
    """Power of the weights in each irrep but A1g, with its range over resamples and the band that chance fills."""
    irreps = {name: each for name, each in found.irreps.items() if name != "A1g"}
    figure = Figure(figsize=(7.6, 4.3), constrained_layout=True)
    axes = figure.subplots()
    powers = [each.power for each in irreps.values()]
    highs = [each.null_high or 0 for each in irreps.values()]
    top = max(*powers, *highs, 1e-30)
    floor = _FLOOR * top
    for x, each in enumerate(irreps.values()):
        if each.null_high:
            sides = [x - 0.42, x + 0.42]
            axes.fill_between(sides, floor, max(each.null_high, floor), color=CHANCE, linewidth=0, zorder=1)
        if each.power > floor:
            axes.bar(x, each.power - floor, 0.46, bottom=floor, color=LOST if each.broken else KEPT, zorder=3)
        if each.low is not None:
            axes.vlines(x, max(each.low, floor), max(each.high, floor), color=INK, linewidth=1.2, zorder=4)
        if each.p is not None:
            words = f"p = {each.p:.2g}" if each.broken else ""
            axes.text(x, max(each.power, each.high or 0, floor) * 1.25, words, ha="center", fontsize=9.5, color=INK)
    axes.set_yscale("log")
    axes.set_ylim(floor, 4 * max(top, max([each.high or 0 for each in irreps.values()])))
    axes.set_xlim(-0.6, len(irreps) - 0.4)
    axes.set_xticks(range(len(irreps)), [symbol_text(name) for name in irreps], fontsize=13)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("power in the irrep\nover that of the mean", fontsize=12)
    axes.yaxis.grid(True)
    handles = [Patch(color=LOST, label="broken"), Patch(color=KEPT, label="not above chance")]
    if any(highs):
        handles.append(Patch(color=CHANCE, label="chance: 95 % of random data sets"))
    place = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.01)}
    axes.legend(handles=handles, ncols=3, fontsize=10.5, handlelength=1.2, **place)
    return figure


@styled
def scales_figure(found: Discovery) -> Figure | None:
    """Equivariance error over wavenumber, one line per class; None without wavenumbers."""
    shells = found.equivariance.per_shell
    if not shells:
        return None
    kept = set(found.surviving.elements)
    figure = Figure(figsize=(7.6, 4.3), constrained_layout=True)
    axes = figure.subplots()
    for colour, members, name in zip(_CLASS_COLOURS, _OH.classes, _OH.class_names):
        if name == "E":
            continue
        errors = np.array([np.nan if e is None else e for e in shells.error_by_class[name]], dtype=float)
        whole = kept.issuperset(members)
        look = {"color": colour, "linestyle": (0, (4, 1.6)) if whole else "-", "marker": "o", "markersize": 3.2}
        label = symbol_text(name) + ("  (kept)" if whole else "")
        axes.plot(shells.k, np.where(errors > 0, errors, np.nan), label=label, **look)
    axes.set_yscale("log")
    axes.set(xlabel="wavenumber $k$", ylabel="equivariance error of the network")
    axes.grid(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=11)
    return figure


@styled
def data_figure(data: DataSymmetry) -> Figure:
    """Defects of the data's own statistics: families x elements; what the data keep is marked below."""
    order, families, tall = element_order(_OH), data.families, 0.42 * len(data.families)
    table = np.array([np.array(each.defect)[order] for each in families.values()])
    height, left = 1.55 + tall, 2.75
    figure = Figure(figsize=(_WIDTH, height))
    bottom, share = 0.92 / height, tall / height
    axes = figure.add_axes((left / _WIDTH, bottom, (_WIDTH - left - 1.25) / _WIDTH, share))
    bar = figure.add_axes(((_WIDTH - 1.1) / _WIDTH, bottom, 0.14 / _WIDTH, share))
    look = {"aspect": "auto", "interpolation": "nearest", "cmap": POSITIVE_MAP}
    image = axes.imshow(table, vmin=0, vmax=max(float(table.max()), 1e-6), **look)
    axes.set_yticks(range(len(families)), [plain(name) for name in families], fontsize=11)
    name_elements(axes, _OH)
    for label, g in zip(axes.get_xticklabels(), order):
        label.set_color(KEPT if g in data.surviving else LOST)
    axes.tick_params(length=0, top=False, right=False)
    axes.spines[:].set_visible(False)
    separate_classes(axes, _OH, labelled=True, colour="white", linewidth=3.5)
    figure.colorbar(image, cax=bar)
    bar.set_ylabel(r"$\|gT - T\| \, / \, \|T\|$", fontsize=11)
    return figure


@styled
def translation_figure(translation: Mapping[str, AxisHomogeneity]) -> Figure:
    """Weights over position: a row per bank, a column per axis, a line per component, with standard errors."""
    first = next(iter(translation.values())).weights
    figure = Figure(figsize=(_WIDTH, 0.9 + 1.75 * len(first)), constrained_layout=True)
    panels = figure.subplots(len(first), len(translation), sharex="col", sharey="row", squeeze=False)
    for column, (axis, each) in zip(panels.T, translation.items()):
        for axes, bank in zip(column, first):
            for colour, mean, error in zip(
                _AXIS_COLOURS * len(each.weights[bank]), each.weights[bank], each.errors[bank]
            ):
                axes.fill_between(each.positions, mean - error, mean + error, color=colour, alpha=0.18, linewidth=0)
                axes.plot(each.positions, mean, color=colour, linewidth=1.5)
            axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
        verdict, colour = ("homogeneous", INK) if each.homogeneous else ("not homogeneous", LOST)
        p = ", ".join(f"{name} {value:.2g}" for name, value in each.p_values.items())
        column[0].set_title(f"along ${axis}$: {verdict}\n", fontsize=13, color=colour)
        column[0].text(0.5, 1.03, f"p: {p}", transform=column[0].transAxes, ha="center", fontsize=10, color=FAINT)
        column[-1].set_xlabel(f"${axis}$")
    for axes, bank in zip(panels[:, 0], first):
        axes.set_ylabel("bank " + plain(bank), fontsize=12)
    components = len(next(iter(first.values())))
    names = "uvw" if components == 3 else [str(c + 1) for c in range(components)]
    handles = [Line2D([], [], color=c, label=f"${n}$") for c, n in zip(_AXIS_COLOURS * components, names)]
    figure.legend(handles=handles, loc="outside right upper", fontsize=11, title="component", title_fontsize=10.5)
    return figure
