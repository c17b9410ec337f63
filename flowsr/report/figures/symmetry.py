"""The figures of a symmetry report: one per question, drawn from a discovery.

What the surviving group keeps is blue, what it loses is orange, what chance would do is grey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from flowsr.group import octahedral_group
from flowsr.report.figures.weights import element_order, element_text, separate_classes, symbol_text
from flowsr.report.style import FAINT, INK, POSITIVE_MAP, plain, styled
from flowsr.symmetry.result import AxisHomogeneity, DataSymmetry, Discovery

KEPT, LOST, CHANCE = "#0072B2", "#D55E00", "#d4d4d4"
_WIDTH = 13.0
_OH = octahedral_group("Oh")
_CLASS_COLOURS = (
    "#000000",
    "#D55E00",
    "#0072B2",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#8a8a8a",
    "#44AA99",
)
_AXIS_COLOURS = ("#0072B2", "#D55E00", "#009E73")
_COMPONENTS = "uvw"
_FLOOR = 1e-3  # of the largest power, below which irreps are drawn as nothing


@styled
def weights_figure(found: Discovery) -> Figure:
    """w(g) of every layer on the 48 elements: mean over seeds and filter banks, and its standard deviation."""
    layers = found.layers
    kept = set(found.surviving.elements)
    figure = Figure(figsize=(_WIDTH, 1.3 + 2.0 * len(layers)), constrained_layout=True)
    rows = np.atleast_1d(figure.subplots(len(layers), 1, sharex=True))
    order = element_order(_OH)
    for number, (axes, (name, layer)) in enumerate(zip(rows, layers.items())):
        mean, spread = (100 * np.array(getattr(layer, key))[order] for key in ("weights_mean", "weights_std"))
        mean = mean - mean.mean()
        colours = [KEPT if g in kept else LOST for g in order]
        axes.bar(range(len(order)), mean, width=0.72, color=colours, zorder=2)
        axes.errorbar(range(len(order)), mean, spread, fmt="none", ecolor=INK, elinewidth=0.9, zorder=3)
        axes.axhline(0, color=INK, linewidth=0.8, zorder=4)
        axes.set_ylabel(plain(name) + "\n$w(g)$ less its mean [%]", fontsize=11)
        axes.tick_params(axis="x", length=0)
        separate_classes(axes, _OH, labelled=number == 0)
    rows[-1].set_xticks(range(len(order)), [element_text(_OH, g) for g in order], rotation=90, fontsize=10)
    rows[-1].set_xlim(-0.6, len(order) - 0.4)
    handles = [Patch(color=KEPT, label="in the surviving group"), Patch(color=LOST, label="lost")]
    rows[0].legend(
        handles=handles, loc="lower right", bbox_to_anchor=(1, 1.13), ncols=2, fontsize=10.5, borderaxespad=0
    )
    return figure


@styled
def irreps_figure(found: Discovery) -> Figure:
    """Power of the relaxed weights in each irrep but A1g, with its range over resamples and the band that chance
    fills."""
    irreps = {name: each for name, each in found.irreps.items() if name != "A1g"}
    figure = Figure(figsize=(7.6, 4.3), constrained_layout=True)
    axes = figure.subplots()
    powers = [each.power for each in irreps.values()]
    highs = [each.null_high or 0 for each in irreps.values()]
    top = max([*powers, *highs, 1e-30])
    floor = _FLOOR * top
    for x, each in enumerate(irreps.values()):
        if each.null_high:
            axes.fill_between(
                [x - 0.42, x + 0.42], floor, max(each.null_high, floor), color=CHANCE, linewidth=0, zorder=1
            )
            axes.hlines(max(each.null_mean, floor), x - 0.42, x + 0.42, color=FAINT, linewidth=1.2, zorder=2)
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
    axes.legend(
        handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.01), ncols=3, fontsize=10.5, handlelength=1.2
    )
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
        line = (0, (4, 1.6)) if whole else "-"
        axes.plot(
            shells.k,
            np.where(errors > 0, errors, np.nan),
            color=colour,
            linestyle=line,
            marker="o",
            markersize=3.2,
            label=symbol_text(name) + ("  (kept)" if whole else ""),
        )
    axes.set_yscale("log")
    axes.set(xlabel="wavenumber $k$", ylabel="equivariance error of the network")
    axes.grid(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=11)
    return figure


@styled
def elements_figure(found: Discovery) -> Figure:
    """Equivariance error of the relaxed network for each element, with what chance would make of it."""
    entries = found.equivariance.per_element
    kept = set(found.surviving.elements)
    order = element_order(_OH)
    figure = Figure(figsize=(_WIDTH, 3.5), constrained_layout=True)
    axes = figure.subplots()
    mean, spread = (100 * np.array([getattr(entries[g], key) for g in order]) for key in ("mean", "std"))
    null = [entries[g].null for g in order]
    places = np.arange(len(order))
    axes.bar(places, mean, 0.72, color=[KEPT if g in kept else LOST for g in order], zorder=2)
    axes.errorbar(places, mean, spread, fmt="none", ecolor=INK, elinewidth=0.9, zorder=3)
    if all(each is not None for each in null):
        axes.hlines(100 * np.array(null), places - 0.45, places + 0.45, color=FAINT, linewidth=1.6, zorder=4)
    separate_classes(axes, _OH, labelled=True)
    axes.set_xticks(places, [element_text(_OH, g) for g in order], rotation=90, fontsize=10)
    axes.tick_params(axis="x", length=0)
    axes.set_xlim(-0.6, len(order) - 0.4)
    axes.set_ylabel("equivariance\nerror [%]", fontsize=12)
    handles = [
        Patch(color=KEPT, label="in the surviving group"),
        Patch(color=LOST, label="lost"),
        Line2D([], [], color=FAINT, label="data turned at random"),
    ]
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1.13), ncols=3, fontsize=10.5, borderaxespad=0)
    return figure


@styled
def data_figure(data: DataSymmetry) -> Figure:
    """Defects of the data's own statistics: families x elements; what the data keep is marked below."""
    families = data.families
    order = element_order(_OH)
    table = np.array([np.array(each.defect)[order] for each in families.values()])
    figure = Figure(figsize=(_WIDTH, 1.55 + 0.42 * len(families)))
    height = figure.get_figheight()
    left, bottom, tall = 2.75, 0.92, 0.42 * len(families)
    axes = figure.add_axes((left / _WIDTH, bottom / height, (_WIDTH - left - 1.25) / _WIDTH, tall / height))
    bar = figure.add_axes(((_WIDTH - 1.1) / _WIDTH, bottom / height, 0.14 / _WIDTH, tall / height))
    image = axes.imshow(
        table, aspect="auto", cmap=POSITIVE_MAP, vmin=0, vmax=max(float(table.max()), 1e-6), interpolation="nearest"
    )
    axes.set_yticks(range(len(families)), [plain(name) for name in families], fontsize=11)
    axes.set_xticks(range(len(order)), [element_text(_OH, g) for g in order], rotation=90, fontsize=10)
    kept = set(data.surviving.elements)
    for label, g in zip(axes.get_xticklabels(), order):
        label.set_color(KEPT if g in kept else LOST)
    axes.tick_params(length=0, top=False, right=False)
    axes.spines[:].set_visible(False)
    separate_classes(axes, _OH, labelled=True, colour="white", linewidth=3.5)
    figure.colorbar(image, cax=bar)
    bar.set_ylabel(r"$\|gT - T\| \, / \, \|T\|$", fontsize=11)
    return figure


@styled
def translation_figure(translation: Mapping[str, AxisHomogeneity]) -> Figure:
    """Weights over position: a row per bank, a column per axis, a line per component, with standard errors."""
    banks = list(next(iter(translation.values())).weights)
    figure = Figure(figsize=(_WIDTH, 0.9 + 1.75 * len(banks)), constrained_layout=True)
    panels = np.atleast_2d(figure.subplots(len(banks), len(translation), sharex="col", sharey="row", squeeze=False))
    for column, (axis, each) in enumerate(translation.items()):
        for row, bank in enumerate(banks):
            _draw_profile(panels[row, column], np.array(each.positions), each.weights[bank], each.errors[bank])
            if column == 0:
                panels[row, 0].set_ylabel("bank " + plain(bank), fontsize=12)
        verdict = "homogeneous" if each.homogeneous else "not homogeneous"
        p = ", ".join(f"{name} {value:.2g}" for name, value in each.p_values.items())
        panels[0, column].set_title(
            f"along ${axis}$: {verdict}\n", fontsize=13, color=INK if each.homogeneous else LOST
        )
        panels[0, column].text(
            0.5, 1.03, f"p: {p}", transform=panels[0, column].transAxes, ha="center", fontsize=10, color=FAINT
        )
        panels[-1, column].set_xlabel(f"${axis}$")
    components = len(np.atleast_2d(next(iter(translation.values())).weights[banks[0]]))
    names = _COMPONENTS if components == 3 else [str(c + 1) for c in range(components)]
    handles = [Line2D([], [], color=c, label=f"${n}$") for c, n in zip(_AXIS_COLOURS * components, names)]
    figure.legend(handles=handles, loc="outside right upper", fontsize=11, title="component", title_fontsize=10.5)
    return figure


def _draw_profile(axes: Axes, positions: np.ndarray, weights: Sequence, errors: Sequence) -> None:
    for colour, mean, error in zip(_AXIS_COLOURS * len(weights), np.array(weights), np.array(errors)):
        axes.fill_between(positions, mean - error, mean + error, color=colour, alpha=0.18, linewidth=0)
        axes.plot(positions, mean, color=colour, linewidth=1.5)
    axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
