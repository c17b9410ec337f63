"""A point group as crystallographers draw it: a stereographic projection of its axes, mirrors and general positions.

Directions of the upper half of a sphere, seen from above along the principal axis, are projected from the south pole
onto the equatorial plane; the circle is the equator. Everything is read off the matrices of the group's elements.
Symbols are those of the International Tables for Crystallography, volume A, sections 1.4 and 3.2: lens, triangle and
square for axes of order 2, 3 and 4, an open square with a lens for the four-fold rotoreflection, a small hole where the
inversion is in the group; thick lines for mirrors; dots for general positions above the plane, rings for those below.
Thin grey lines are the mirrors of the whole cubic group, so that it shows what has been lost. Positions are coloured by
handedness.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, PathPatch
from matplotlib.path import Path

from flowsr.group import Subgroup, octahedral_group
from flowsr.group.operations import Operation
from flowsr.report.style import FAINT, INK, styled

MIRROR = "#0072B2"
RIGHT, LEFT = "#1d1d1f", "#D55E00"  # the given hand, and its mirror image
_LOST = "#d9d9d9"
_CUBIC_GENERAL = np.array([1.284, 0.577, 2.284])  # in the middle between [001], [101] and [111]
_POLAR = np.deg2rad(52)  # how far from the principal axis a point in general position lies elsewhere
_RIM = np.linspace(0, np.pi, 181)
_ACROSS = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, -1, 0), (1, 0, -1), (0, 1, -1))  # simplest first

_SYMBOLS = r"""
C1 1, Ci \bar{1}, C2 2, Cs m, C2h 2/m, D2 222, C2v mm2, D2h mmm, C4 4, S4 \bar{4}, C4h 4/m, D4 422, C4v 4mm,
D2d \bar{4}2m, D4h 4/mmm, C3 3, S6 \bar{3}, D3 32, C3v 3m, D3d \bar{3}m, T 23, Th m\bar{3}, O 432, Td \bar{4}3m,
Oh m\bar{3}m"""
#: Schoenflies symbol -> Hermann-Mauguin symbol, as mathematics.
HERMANN_MAUGUIN = dict(pair.split() for pair in _SYMBOLS.split(","))


@styled
def point_group_figure(subgroup: Subgroup) -> Figure:
    """The diagram with its title and, below, what the signs mean."""
    figure = Figure(figsize=(5.6, 6.9))
    height = figure.get_figheight()
    axes = figure.add_axes((0.02, (height - 5.9) / height, 0.96, 5.376 / height))
    draw_point_group(axes, subgroup)
    figure.text(0.5, 1 - 0.30 / height, title_of(subgroup), ha="center", va="center", fontsize=17, color=INK)
    layout = {"columnspacing": 1.6, "handletextpad": 0.6, "labelspacing": 0.55, "bbox_to_anchor": (0.5, 0.01)}
    figure.legend(handles=legend_handles(subgroup), loc="lower center", ncols=2, fontsize=10.5, **layout)
    return figure


def title_of(subgroup: Subgroup) -> str:
    """Schoenflies and Hermann-Mauguin symbols and the order, as mathematics: C4h [001], 4/m, order 8."""
    symbol = subgroup.schoenflies
    schoenflies = rf"${symbol[0]}_{{\mathrm{{{symbol[1:]}}}}}$" if len(symbol) > 1 else f"${symbol}$"
    axis = "" if subgroup.axis is None else f" $[{axis_digits(subgroup.axis)}]$"
    return rf"{schoenflies}{axis}  =  $\mathrm{{{HERMANN_MAUGUIN[symbol]}}}$,  order {subgroup.order}"


def axis_digits(axis) -> str:
    """An axis as mathematics, minus signs as bars."""
    return "".join(rf"\bar{{{-n}}}" if n < 0 else str(n) for n in axis)


def draw_point_group(axes: Axes, subgroup: Subgroup) -> None:
    """Draw the projection of a subgroup of O_h into axes."""
    whole = octahedral_group("Oh").operations
    view, own = View(subgroup), [whole[g] for g in subgroup.elements]
    axes.set(xlim=(-1.24, 1.24), ylim=(-1.24, 1.24), aspect="equal")
    axes.axis("off")
    for normal in _mirror_normals(whole):
        _draw_plane(axes, view, normal, color=_LOST, linewidth=0.9, zorder=1)
    if not any(view.faces(normal) for normal in _mirror_normals(own)):
        axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor=FAINT, linewidth=1.1, zorder=1))
    for normal in _mirror_normals(own):
        _draw_plane(axes, view, normal, color=MIRROR, linewidth=3.0, zorder=2)
    _draw_positions(axes, view, own)
    _draw_axes(axes, view, own)
    _draw_compass(axes, view)


class View:
    """An orthonormal frame to look from at a group: ``right``, ``up`` and ``towards`` the eye.

    It looks along the principal axis, or along z; right is the simplest direction of the grid across it, x if it is.
    """

    def __init__(self, subgroup: Subgroup):
        towards = np.array(subgroup.axis or (0, 0, 1))
        right = np.array(next(c for c in _ACROSS if not np.dot(c, towards)))
        self.towards, self.right = towards / np.linalg.norm(towards), right / np.linalg.norm(right)
        self.up = np.cross(self.towards, self.right)

    def height(self, direction) -> float:
        """Cosine of the angle to the line of sight."""
        return float(np.dot(direction, self.towards) / np.linalg.norm(direction))

    def faces(self, direction) -> bool:
        """Whether a direction points to the eye or away from it."""
        return abs(self.height(direction)) > 1 - 1e-9

    def project(self, directions) -> np.ndarray:
        """(..., 3) -> (..., 2): from the south pole, of directions above the plane; those below are turned over."""
        unit = np.asarray(directions, float)
        unit = unit / np.linalg.norm(unit, axis=-1, keepdims=True)
        flat = np.stack([unit @ self.right, unit @ self.up], axis=-1)
        height = unit @ self.towards
        return flat / (1 + np.abs(height))[..., None]


def _mirror_normals(operations) -> list[tuple[int, int, int]]:
    return [o.axis for o in operations if o.symbol.startswith("sigma")]


def _draw_plane(axes: Axes, view: View, normal, **style) -> None:
    """The upper half of the great circle of a plane; the whole equator where the plane is seen face on."""
    if view.faces(normal):
        axes.add_patch(Circle((0, 0), 1, fill=False, **style))
        return
    normal = np.asarray(normal, float) / np.linalg.norm(normal)
    along = np.cross(normal, view.towards)
    along = along / np.linalg.norm(along)
    top = np.cross(along, normal)
    top = top * np.sign(top @ view.towards)
    arc = view.project(np.cos(_RIM)[:, None] * along + np.sin(_RIM)[:, None] * top)
    axes.plot(*arc.T, solid_capstyle="round", **style)


def _draw_axes(axes: Axes, view: View, operations: list[Operation]) -> None:
    """Symbols of the rotation axes, at both ends where they lie in the plane, and of the inversion."""
    centred = any(o.symbol == "i" for o in operations)
    found = axis_symbols(operations)
    for axis, symbol in found.items():
        flat = abs(view.height(axis)) < 1e-9
        upper = np.asarray(axis, float) * (1 if flat or view.height(axis) > 0 else -1)
        for end in (upper, -upper) if flat else (upper,):
            _draw_symbol(axes, view.project(end), symbol, centred)
    if centred and not any(view.faces(axis) for axis in found):
        axes.add_patch(Circle((0, 0), 0.027, facecolor="white", edgecolor=INK, linewidth=1.3, zorder=9))


def axis_symbols(operations) -> dict[tuple[int, int, int], str]:
    """Axis -> ``2``, ``3``, ``4`` or ``-4`` (rotoreflection without the four-fold rotation)."""
    rotations = sorted((o for o in operations if o.symbol in ("C2", "C3", "C4")), key=lambda o: o.order)
    found = {o.axis: o.symbol[1] for o in rotations}
    return found | {o.axis: "-4" for o in operations if o.symbol == "S4" and found.get(o.axis) == "2"}


def _draw_symbol(axes: Axes, place: np.ndarray, symbol: str, centred: bool) -> None:
    outwards = np.arctan2(place[1], place[0]) if np.hypot(*place) > 1e-9 else 0.0
    shapes = {
        "2": [(_lens(place, outwards, 0.075 * 1.15), INK)],
        "3": [(_regular(place, 3, outwards, 0.075 * 1.1), INK)],
        "4": [(_regular(place, 4, outwards + np.pi / 4, 0.075 * 1.12), INK)],
        "-4": [
            (_regular(place, 4, outwards + np.pi / 4, 0.075 * 1.2), "white"),
            (_lens(place, outwards + np.pi / 2, 0.075 * 0.92), INK),
        ],
    }[symbol]
    halo = {"zorder": 6, "edgecolor": "white", "linewidth": 2.6, "facecolor": "white"}
    axes.add_patch(PathPatch(shapes[0][0], joinstyle="round", **halo))
    for order, (shape, colour) in enumerate(shapes, start=7):
        ink = {"zorder": order, "edgecolor": INK, "linewidth": 1.2, "facecolor": colour}
        axes.add_patch(PathPatch(shape, joinstyle="round", **ink))
    if centred and symbol != "-4":
        axes.add_patch(Circle(place, 0.021, facecolor="white", edgecolor="none", zorder=9))


def _lens(place, outwards: float, length: float) -> Path:
    """Two arcs through two tips; the tips lie across the direction ``outwards``."""
    along = np.linspace(-1, 1, 21)
    side = np.stack([0.5 * length * (1 - along**2), length * along], axis=1)
    outline = np.concatenate([side, side[::-1] * (-1, 1)])
    c, s = np.cos(outwards), np.sin(outwards)
    return Path(outline @ np.array([[c, s], [-s, c]]) + place, closed=False)


def _regular(place, corners: int, outwards: float, radius: float) -> Path:
    angles = outwards + 2 * np.pi * np.arange(corners + 1) / corners
    return Path(np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + place, closed=True)


def _draw_positions(axes: Axes, view: View, operations: list[Operation]) -> None:
    """Where the group takes a point in general position: dots above the plane, rings below."""
    start = _general_position(view, axis_symbols(operations))
    for operation in operations:
        point = operation.matrix @ start
        colour = RIGHT if operation.determinant == 1 else LEFT
        place = view.project(point)
        if view.height(point) > 0:
            axes.add_patch(Circle(place, 0.021, facecolor=colour, edgecolor="none", zorder=5))
        else:
            axes.add_patch(Circle(place, 0.040, fill=False, edgecolor=colour, linewidth=1.5, zorder=4))


def _general_position(view: View, symbols: dict[tuple[int, int, int], str]) -> np.ndarray:
    """A direction on no axis and no mirror, as far from all of them as the group lets it be."""
    threefold = list(symbols.values()).count("3")
    if threefold > 1:
        return view.right * _CUBIC_GENERAL[0] + view.up * _CUBIC_GENERAL[1] + view.towards * _CUBIC_GENERAL[2]
    azimuth = np.deg2rad(14 if threefold else 23)
    across = np.cos(azimuth) * view.right + np.sin(azimuth) * view.up
    return np.sin(_POLAR) * across + np.cos(_POLAR) * view.towards


def _draw_compass(axes: Axes, view: View) -> None:
    """Names of the directions of the grid: on the rim, to the right and up, and of x, y, z where they rise above it."""
    names = {(1, 0, 0): "$x$", (0, 1, 0): "$y$", (0, 0, 1): "$z$"}
    for direction in map(tuple, np.indices((3, 3, 3)).reshape(3, -1).T - 1):
        across, upwards = np.dot(direction, view.right), np.dot(direction, view.up)
        shown = across > 1e-9 or (abs(across) < 1e-9 and upwards > 0)
        if shown and abs(view.height(direction)) < 1e-9:
            name = names.get(direction)
            style = {"fontsize": 13, "color": INK} if name else {"fontsize": 10.5, "color": FAINT}
            place = view.project(direction) * 1.165
            axes.text(*place, name or f"$[{axis_digits(direction)}]$", ha="center", va="center", **style)
    for direction, name in names.items():
        if 1e-9 < abs(view.height(direction)) < 1 - 1e-9:
            place = view.project(direction) * 1.18
            axes.text(*place, name, ha="center", va="center", fontsize=13, color=INK, zorder=3)


def legend_handles(subgroup: Subgroup) -> list[Line2D]:
    """What each sign in this group's diagram means."""
    operations = [octahedral_group("Oh").operations[g] for g in subgroup.elements]
    symbols = set(axis_symbols(operations).values())
    mirrored = any(o.determinant == -1 for o in operations)

    def sign(label: str, marker: str, size: float, colour: str, edge: str = "none") -> Line2D:
        look = {"color": colour, "markeredgecolor": edge, "markersize": size, "linestyle": "none"}
        return Line2D([], [], marker=marker, label=label, **look)

    every = [
        ("4" in symbols, sign("four-fold axis", "s", 9, INK)),
        ("3" in symbols, sign("three-fold axis", "^", 9, INK)),
        ("2" in symbols, sign("two-fold axis", "d", 9, INK)),
        ("-4" in symbols, sign("four-fold rotoinversion", "s", 9, "white", INK)),
        (_mirror_normals(operations), Line2D([], [], color=MIRROR, linewidth=3, label="mirror plane")),
        (any(o.symbol == "i" for o in operations), sign("inversion centre (hole)", "o", 6, "white", INK)),
        (True, Line2D([], [], color=_LOST, linewidth=1.2, label="mirror of the cube, for reference")),
        (True, sign("a point above the plane", "o", 5, RIGHT)),
        (True, sign("a point below", "o", 8, "white", RIGHT)),
        (mirrored, sign("its mirror image (orange)", "o", 5, LEFT)),
    ]
    return [handle for there, handle in every if there]
