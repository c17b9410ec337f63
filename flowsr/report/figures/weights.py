"""The relaxed weights drawn: one row per layer and filter bank, one column per group element, and what they amount to.

A weight vector w(g) is a function on the group. Its group Fourier transform splits it into irreps: the trivial part is
the mean, which keeps every symmetry; the rest says in which way, and by how much, the layer is not isotropic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from flowsr.group import PointGroup, point_group, split_by_irrep
from flowsr.report.figures.point_group import axis_digits
from flowsr.report.style import FAINT, INK, ON_DARK, ON_LIGHT, SIGNED_MAP, panel_letter, plain, styled

_ROW = 0.4  # inches


@dataclass(frozen=True)
class RelaxedWeights:
    """The relaxed weights of one network.

    Args:
        model: the network's name in the comparison.
        group: its group's name, ``Oh``, ``C4v [001]``.
        layers: layer name -> (filter_banks, |G|) array, in the order of the layers.

    Raises:
        ValueError: an array whose last side is not the order of the group.
    """

    model: str
    group: str
    layers: Mapping[str, np.ndarray]

    def __post_init__(self):
        order = point_group(self.group).order
        arrays = {name: np.atleast_2d(np.asarray(array, dtype=np.float64)) for name, array in self.layers.items()}
        for name, array in arrays.items():
            if array.ndim != 2 or array.shape[1] != order:
                raise ValueError(f"weights of layer '{name}' have shape {array.shape}, expected (banks, {order})")
        object.__setattr__(self, "layers", arrays)

    def rows(self) -> tuple[list[str], np.ndarray]:
        """Names of all layers and banks, and their weights, (rows, |G|)."""
        names = [
            name if len(array) == 1 else f"{name}, bank {bank + 1}"
            for name, array in self.layers.items()
            for bank in range(len(array))
        ]
        order = point_group(self.group).order
        return names, np.concatenate(list(self.layers.values())) if self.layers else np.empty((0, order))


@dataclass(frozen=True)
class WeightsSummary:
    """What the relaxed weights of a network amount to. All fractions are of the r.m.s. weight.

    Args:
        spread: r.m.s. over rows of each row's spread.
        row_spreads: row -> r.m.s. deviation of its weights from their mean.
        irrep_shares: irrep name, trivial one left out -> r.m.s. over rows of the part of the weights in it. The squares
            sum to the square of ``spread``.
    """

    spread: float
    row_spreads: dict[str, float]
    irrep_shares: dict[str, float]


def irrep_shares(weights: np.ndarray, group: str) -> tuple[list[str], np.ndarray]:
    """Part of every weight vector in each irrep, over its length: names (i,), shares (rows, i); squares sum to 1.

    Args:
        weights: (rows, |G|).
        group: its group's name, ``Oh``, ``C4v [001]``.
    """
    table = point_group(group)
    parts = split_by_irrep(weights @ table.fourier.T, table)
    power = np.stack([np.sum(part**2, axis=(1, 2)) for part in parts.values()], axis=1)
    total = power.sum(axis=1, keepdims=True)
    return list(parts), np.sqrt(power / np.where(total > 0, total, 1.0))


def summarize_weights(relaxed: RelaxedWeights) -> WeightsSummary:
    """Spread of the weights and its irreps."""
    names, weights = relaxed.rows()
    if not names:
        return WeightsSummary(0.0, {}, {})
    irreps, shares = irrep_shares(weights, relaxed.group)
    spreads = np.sqrt(np.sum(shares[:, 1:] ** 2, axis=1))
    mean_shares = np.sqrt(np.mean(shares[:, 1:] ** 2, axis=0))
    return WeightsSummary(
        spread=float(np.sqrt(np.mean(spreads**2))),
        row_spreads={name: float(spread) for name, spread in zip(names, spreads)},
        irrep_shares={name: float(share) for name, share in zip(irreps[1:], mean_shares)},
    )


def weights_sentence(relaxed: RelaxedWeights, label: str) -> str:
    """What the weights of a network called ``label`` say, in plain words."""
    summary = summarize_weights(relaxed)
    if not summary.row_spreads:
        return f"{label} has no relaxed weights."
    if summary.spread < 1e-6:
        return f"The weights of {label} are the same for every group element: the network is exactly equivariant."
    octahedral = relaxed.group in ("O", "Oh")
    said = [
        f"In {label} the relaxed weights depart from their mean over the group by {_percent(summary.spread)} (r.m.s.): "
        f"the network {'is isotropic' if octahedral else f'keeps {relaxed.group}'} to within that."
    ]
    if len(summary.row_spreads) > 1:
        layer = max(summary.row_spreads, key=summary.row_spreads.get)
        said.append(f"Most in {layer}, {_percent(summary.row_spreads[layer])}.")
    irrep = max(summary.irrep_shares, key=summary.irrep_shares.get)
    said.append(
        f"Of all the ways to break the symmetry, the irrep {irrep} holds the largest part, "
        f"{_percent(summary.irrep_shares[irrep])}; it transforms like "
        f"{point_group(relaxed.group).irrep(irrep).transforms_like}."
    )
    ideal = "isotropic" if octahedral else "symmetric"
    doubt = f"A finite set of snapshots is never quite {ideal}: a small departure need not be a property of the flow."
    return " ".join([*said, doubt])


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2g} %"


@styled
def weights_figure(relaxed: RelaxedWeights) -> Figure:
    """Left, each weight's deviation from its row's mean; right, the part of each row in every non-trivial irrep.

    Raises:
        ValueError: no layers.
    """
    names, weights = relaxed.rows()
    if not names:
        raise ValueError("no relaxed weights to draw")
    height = 1.5 + _ROW * len(names)
    figure = Figure(figsize=(13.0, height))
    bottom, tall = 0.8 / height, _ROW * len(names) / height
    left_edge = 0.3 + 0.092 * min(max(len(name) for name in names), 24)
    irreps_wide = 0.62 * (len(point_group(relaxed.group).irreps) - 1)
    elements_wide = 13.0 - left_edge - irreps_wide - 1.45
    elements = figure.add_axes((left_edge / 13, bottom, elements_wide / 13, tall))
    bar = figure.add_axes(((left_edge + elements_wide + 0.1) / 13, bottom, 0.13 / 13, tall))
    irreps = figure.add_axes(((left_edge + elements_wide + 1.2) / 13, bottom, irreps_wide / 13, tall))
    _draw_elements(figure, elements, bar, relaxed.group, names, weights)
    _draw_irreps(irreps, relaxed.group, weights)
    panel_letter(elements, "a", pad=26, x=-left_edge * 0.6 / elements_wide)
    panel_letter(irreps, "b", pad=26)
    return figure


def _draw_elements(figure: Figure, axes: Axes, bar: Axes, group: str, names: list[str], weights: np.ndarray) -> None:
    """Heat map rows x elements, the elements in their conjugacy classes."""
    table = point_group(group)
    order = element_order(table)
    scale = np.sqrt(np.mean(weights**2, axis=1, keepdims=True))
    deviation = 100 * (weights - weights.mean(axis=1, keepdims=True)) / np.where(scale > 0, scale, 1.0)
    limit = max(float(np.abs(deviation).max()), 1e-4)
    look = {"aspect": "auto", "interpolation": "nearest", "cmap": SIGNED_MAP}
    image = axes.imshow(deviation[:, order], vmin=-limit, vmax=limit, **look)
    axes.set_yticks(range(len(names)), [plain(name if len(name) <= 24 else name[:23] + "…") for name in names])
    name_elements(axes, table)
    axes.tick_params(length=0, top=False, right=False)
    separate_classes(axes, table, colour="white", linewidth=4)
    for row in range(1, len(names)):
        axes.axhline(row - 0.5, color="white", linewidth=1)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, cax=bar)
    bar.set_ylabel("deviation [%]", fontsize=11)
    bar.locator_params(nbins=5)


def _draw_irreps(axes: Axes, group: str, weights: np.ndarray) -> None:
    """Table of shares, rows x non-trivial irreps, shaded."""
    irreps, shares = irrep_shares(weights, group)
    shares = 100 * shares[:, 1:]
    highest = max(float(shares.max()), 1e-4)
    axes.imshow(shares, aspect="auto", cmap="Greys", vmin=0, vmax=1.25 * highest, interpolation="nearest")
    for (row, column), share in np.ndenumerate(shares):
        dark = share > 0.6 * highest
        text = "0" if share < 5e-4 else f"{share:.2g}" if share < 10 else f"{share:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=10, color=ON_DARK if dark else ON_LIGHT)
    axes.set_xticks(range(len(irreps) - 1), [symbol_text(name) for name in irreps[1:]], fontsize=12.5)
    axes.set_yticks([])
    axes.tick_params(length=0, labeltop=True, labelbottom=False, pad=2)
    axes.set_xlabel("part of the weights\nin each irrep [%]", fontsize=11, color=FAINT)
    axes.spines[:].set_visible(False)


def element_order(group: PointGroup) -> list[int]:
    """The elements class by class, in the order of printed character tables: by axis, x before y before z, then by
    sense."""

    def key(element: int) -> tuple:
        operation = group.operations[element]
        axis = operation.axis or (0, 0, 0)
        return tuple(-abs(n) for n in axis), tuple(-n for n in axis), operation.sense

    return [g for members in group.classes for g in sorted(members, key=key)]


def name_elements(axes: Axes, group: PointGroup) -> None:
    """The elements in :func:`element_order` below the axes."""
    order = element_order(group)
    axes.set_xticks(range(len(order)), [element_text(group, g) for g in order], rotation=90, fontsize=10)


def element_text(group: PointGroup, element: int) -> str:
    """Axis and sense of an element as crystallographers write them: minus signs become bars."""
    operation = group.operations[element]
    if operation.axis is None:
        return ""
    sense = f"^{{{operation.sense}}}" if operation.sense else ""
    return f"$[{axis_digits(operation.axis)}]{sense}$"


def separate_classes(
    axes: Axes, group: PointGroup, *, labelled: bool = True, colour: str = "#bbbbbb", linewidth: float = 0.8
) -> None:
    """Lines between the conjugacy classes of elements drawn in :func:`element_order`, and their names above."""
    above = blended_transform_factory(axes.transData, axes.transAxes)
    start = 0
    for members, name in zip(group.classes, group.class_names):
        if labelled:
            place = start + len(members) / 2 - 0.5
            style = {"ha": "center", "va": "bottom", "fontsize": 12, "color": INK}
            axes.text(place, 1.015, symbol_text(name), transform=above, **style)
        start += len(members)
        if start < group.order:
            axes.axvline(start - 0.5, color=colour, linewidth=linewidth, zorder=1.5)


def symbol_text(name: str) -> str:
    """``8C3``, ``3sigma_h``, ``A1g`` as mathematics; an axis, which the elements below have as well, is left out."""
    pattern = r"(\d*)(sigma|[A-Za-z])_?(\w*)('*)(?:[+-]?\[.*\])?"
    count, letters, rest, primes = re.fullmatch(pattern, name).groups()
    letters = r"\sigma" if letters == "sigma" else rf"\mathrm{{{letters}}}" if letters in "EABT" else letters
    return f"${count}{letters}{primes}" + (rf"_{{\mathrm{{{rest}}}}}$" if rest else "$")
