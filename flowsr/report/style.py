"""One look for every figure: fonts, line styles and a colour per model that is the same wherever the model appears.

Colours are those of Okabe and Ito (2008, "Color universal design"), which people with any common colour-vision
deficiency can tell apart. Interpolations are greys told apart by their dashes, networks are colours, truth is black.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text

from flowsr.compare.result import Model

RC = {
    "font.family": ["STIXGeneral", "DejaVu Sans"],
    "mathtext.fontset": "stix",
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.labelsize": 13,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "#333333",
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 11.5,
    "legend.handlelength": 2.4,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "flowsr",
    "path.simplify": True,
}

#: Colours of figures that a dark page shows in another: what they are there. All others stay, such as those of maps.
DARK = {
    "#000000": "#f1efe9",
    "#1d1d1f": "#e9e7e2",
    "#222222": "#e4e2dc",
    "#333333": "#cfcdc7",
    "#555555": "#b5b3ad",
    "#5e5e5e": "#b0aeaa",
    "#7d7d7d": "#9c9a96",
    "#bbbbbb": "#55565b",
    "#cccccc": "#55565b",
    "#d4d4d4": "#494a50",
    "#d9d9d9": "#494a50",
    "#dddddd": "#404147",
    "#e6e6e6": "#36373c",
    "#ececec": "#303136",
    "#f4f1ea": "#2b2c31",
    "#ffffff": "#202226",
    "#0072b2": "#4aa5df",
    "#882255": "#e08ab2",
    "#332288": "#a89df2",
}
#: Text on the cells of a map, which are the same on any page.
ON_DARK, ON_LIGHT = "#fefefe", "#212121"

TRUTH_COLOUR = "#000000"
INK = "#222222"
FAINT = "#8a8a8a"
SIGNED_MAP = "RdBu_r"
POSITIVE_MAP = "inferno"
ERROR_MAP = "PuOr_r"

_NETWORK_LOOKS = {"relaxed": ("#D55E00", "-"), "strict": ("#0072B2", "-"), "cnn": ("#009E73", "-")}
_MORE_NETWORK_COLOURS = ("#CC79A7", "#E69F00", "#56B4E9", "#882255", "#44AA99", "#AA4499", "#332288")
_NETWORK_LINES = ("-", (0, (6, 1.5)), (0, (2, 1)))
_BASELINE_LOOKS = {
    "nearest": ("#b5b5b5", (0, (1, 1.2))),
    "trilinear": ("#999999", (0, (5, 1.5, 1, 1.5))),
    "tricubic": ("#7d7d7d", (0, (4, 2))),
    "spectral": ("#5e5e5e", (0, (8, 2))),
}
_MORE_BASELINE_LOOKS = (("#8c7b6b", (0, (3, 1, 1, 1, 1, 1))), ("#6b7b8c", (0, (2, 2))))

_SYMBOL = re.compile(
    r"\bd([a-z]_\w)/d([a-z]_\w)\b|(?<![A-Za-z0-9])[A-Za-z]_(?:\w\b|\{[^{}]*\})"
    r"|\b[A-Z]\(k\)|(?<=wavenumber )k\b|\bk(?= [<>])"
)


@dataclass(frozen=True)
class ModelLook:
    """How one model is drawn and called, in every figure.

    Args:
        label: the name people read (plain text; may hold any character).
        line: matplotlib line style.
        width: line width in points.
    """

    label: str
    colour: str
    line: str | tuple
    width: float
    trained: bool


def model_looks(models: Mapping[str, Model]) -> dict[str, ModelLook]:
    """A look for each model of a comparison, in the comparison's order.

    The well-known names keep their colour in every report; others take the next free one.
    """
    spare = {
        True: itertools.cycle([(colour, line) for line in _NETWORK_LINES for colour in _MORE_NETWORK_COLOURS]),
        False: itertools.cycle(_MORE_BASELINE_LOOKS),
    }
    looks = {}
    for name, model in models.items():
        known = (_NETWORK_LOOKS if model.trained else _BASELINE_LOOKS).get(name)
        colour, line = known or next(spare[model.trained])
        looks[name] = ModelLook(model.label or name, colour, line, 1.9 if model.trained else 1.5, model.trained)
    return looks


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Decorator: run a figure function under the common settings, leaving matplotlib's own as they were."""

    @functools.wraps(draw)
    def drawn(*args, **kwargs):
        with matplotlib.rc_context(RC):
            return draw(*args, **kwargs)

    return drawn


def plain(text: object) -> str:
    """Text that matplotlib shows as it stands: dollar signs do not start mathematics."""
    return str(text).replace("$", r"\$")


@functools.lru_cache(maxsize=256)
def label_text(text: str) -> str:
    """An axis label: mathematics between dollar signs where that parses, plain text where it does not."""
    if text.count("$") < 2:
        return plain(text)
    try:
        MathTextParser("path").parse(text)
    except ValueError:
        return plain(text)
    return text


def typeset(label: str) -> str:
    """A plain label, its symbols set as mathematics: ``du_i/dx_j``, ``E(k)``, ``k_c``, ``wavenumber k``."""
    if "$" in label:
        return label_text(label)
    return label_text(_SYMBOL.sub(lambda m: rf"$\partial {m[1]}/\partial {m[2]}$" if m[1] else f"${m[0]}$", label))


def with_subscripts(label: str) -> Markup:
    """A plain label for HTML, escaped, its symbols in italics and their indices lowered."""
    lowered = re.sub(r"\b([A-Za-z])_(\w)\b", r"<i>\1</i><sub>\2</sub>", str(escape(label)))
    return Markup(re.sub(r"\bk(?= &[lg]t;)", "<i>k</i>", lowered))


def with_unit(label: str, unit: str | None) -> str:
    """``label`` followed by its unit in brackets; dimensionless quantities (unit ``1`` or empty) get none."""
    return f"{label} [{plain(unit)}]" if unit and unit != "1" else label


def on_any_page(colour: str) -> str:
    """A colour as a page names it: the one that :data:`DARK` has for it where the reader wants a dark page."""
    known = colour.lower()
    return f"var(--f{known[1:]}, {known})" if known in DARK else colour


def darken(figure: Figure) -> None:
    """Change the colours of a figure to those of a dark page."""

    def dark(colour: Any) -> str | None:
        try:
            return DARK.get(to_hex(colour)) if to_rgba(colour)[3] > 0 else None
        except ValueError:  # "none", or a colour an element
            return None

    boxes = [text.get_bbox_patch() for text in figure.findobj(Text)]  # of which figures do not know
    for artist in [*figure.findobj(), *filter(None, boxes)]:
        for part in ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor"):
            read, write = getattr(artist, f"get_{part}", None), getattr(artist, f"set_{part}", None)
            if read and write and (colour := dark(read())):
                write(colour)
    figure.set_facecolor(DARK["#ffffff"])


def without_mathematics(text: str) -> str:
    """A label as running text: dollar signs, backslashes, braces and underscores of mathematics removed."""
    return re.sub(r"\s+", " ", re.sub(r"[${}\\]", "", text)).strip()


def panel_letter(axes, letter: str, **place) -> None:
    """Letter a panel, as journals do, in its upper left corner outside the frame."""
    axes.set_title(f"({letter})", loc="left", fontsize=12.5, fontstyle="italic", color=INK, **{"pad": 6, **place})
