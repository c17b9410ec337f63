"""What programs call axes and the parts of a velocity: ``lon``, ``nx`` and ``west_east`` are x, ``Ux, Uy, Uz`` are one.

Names are compared without case and without ``_ - . :`` and spaces. CF's own words, the attributes ``axis`` and
``standard_name``, count before names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: Letters that follow an axis' name where a grid is staggered, or a coordinate is told from a dim.
_ENDS = (
    "(c|f|h|t|u|v|w|m|r|q|g|s|l|ct|fc|p1|stag|dim|axis|coord|coords|coordinate|coordinates|center|centre|centers|centres"
    "|face|faces|node|nodes|max|pts|points|u3d|w3d|3d)?"
)
_BEGINS = "(n|dim|grid|num|coord)?"
#: Axis to its names.
_AXES = {
    axis: re.compile(f"{_BEGINS}({one})({_ENDS})|n?{letter}|{letter}(dim|max|axis)|n{letter}(dim|max)")
    for axis, one, letter in (
        ("x", "x|x1|lon|longitude|rlon|westeast|easting", "i"),
        ("y", "y|x2|lat|latitude|rlat|southnorth|northing", "j"),
        ("z", "z|x3|lev|level|levels|height|altitude|alt|depth|bottomtop|vertical", "k"),
    )
} | {
    "time": re.compile(
        "n?(t|time|times|timestep|timesteps|steps?|snapshots?|frames?|records?|simtime|xtime)|timecounter|timedim"
        "|t(dim|coord|coordinate|axis)"
    ),
    "component": re.compile(
        "n?(c|d|comps?|components?|vec|vector|vectors|vectordim|vdim|direction|directions|cartesian|xyz|uvw|vcomp|dims?)"
        "|vectorcomponents?|componentdim"
    ),
}
_CF_AXIS = {"X": "x", "Y": "y", "Z": "z", "T": "time"}
_CF_NAMES = {
    "x": ("longitude", "gridlongitude", "projectionxcoordinate"),
    "y": ("latitude", "gridlatitude", "projectionycoordinate"),
    "z": ("height", "altitude", "depth", "airpressure", "modellevelnumber", "heightaboveground"),
    "time": ("time",),
}
#: Ways to call the three components of a velocity; the group named ``axis`` says which.
_VELOCITY = tuple(
    re.compile(pattern)
    for pattern in (
        "(?P<axis>[uvw])",
        "(?P<axis>[uvw])(a|c|vel|velocity|wind|comp|component)",
        "u(?P<axis>[xyz])",
        "v(?P<axis>[xyz])",
        "(vel|velocity|velocities)(?P<axis>[xyz])",
        "(vel|velocity|velocities)(?P<axis>[uvw])",
        "(?P<axis>[xyz])(vel|velocity|wind)",
        "u(?P<axis>[012])",
        "u(?P<axis>[123])",
        "v(?P<axis>[123])",
        "(vel|velocity)(?P<axis>[012])",
        "(vel|velocity)(?P<axis>[123])",
    )
)
#: Ways to call a velocity that is one array, with its components along an axis.
_WHOLE = re.compile("[uv](vec|vector|field)?|uvw|(vel|velocity|velocities|wind)(vec|vector|field)?|windvelocity")
#: Names of dims that say nothing: those that libraries make up, and numbers of entries.
_NOTHING = re.compile(r"(phony|fake)?dim\d+|axis\d+|[dn]?\d+|three")
_STANDARD = tuple(
    re.compile(pattern)
    for pattern in (
        "(?P<axis>eastward|northward|upward)(wind|airvelocity)",
        "(?P<axis>x|y|upward)(wind|airvelocity)",
        "(?P<axis>eastward|northward|upward)seawatervelocity",
        "(seawater)?(?P<axis>x|y|upward)(seawater)?velocity",
    )
)
_PLACE = {
    name: place for place, names in enumerate(("eastward x u", "northward y v", "upward z w")) for name in names.split()
}


def bare(name: object) -> str:
    """A name without case and separators."""
    return re.sub(r"[_\-.:\s/]", "", str(name).lower())


def axis_of(dim: str, attrs: Mapping[str, Any] | None = None) -> str | None:
    """Which of time, component, x, y, z a dim or coordinate is, by CF's words in its attributes or by its name."""
    attrs = attrs or {}
    known = _CF_AXIS.get(str(attrs.get("axis", "")).strip().upper())
    if known is None:
        standard = bare(attrs.get("standard_name", ""))
        known = next((axis for axis, names in _CF_NAMES.items() if standard in names), None)
    return known or next((axis for axis, pattern in _AXES.items() if pattern.fullmatch(bare(dim))), None)


def is_velocity(name: str) -> bool:
    """Whether an array of three components has a velocity's name."""
    return _WHOLE.fullmatch(bare(name)) is not None


def says_nothing(dim: str) -> bool:
    """Whether the name of a dim is none of anybody's, such as ``phony_dim_4``."""
    return _NOTHING.fullmatch(bare(dim)) is not None


def velocity_among(names: Mapping[str, Mapping[str, Any]]) -> tuple[str, str, str] | None:
    """The names of three scalars that are a velocity's components along x, y, z; None where none or several fit.

    Args:
        names: of scalars, to their attributes.
    """
    standard = {name: bare(attrs.get("standard_name", "")) for name, attrs in names.items()}
    for patterns, words in ((_STANDARD, standard), (_VELOCITY, {name: bare(name) for name in names})):
        fitting = [found for pattern in patterns if (found := _three(pattern, words))]
        if {"0", "1", "2", "3"} <= {
            word[-1:] for word in words.values() if re.fullmatch("(u|vel|velocity)[0-3]", word)
        }:
            continue  # four of them
        if fitting:
            return fitting[0]
    return None


def _three(pattern: re.Pattern, words: Mapping[str, str]) -> tuple[str, str, str] | None:
    places: dict[int, list[str]] = {0: [], 1: [], 2: []}
    digits = min(
        (int(m["axis"]) for w in words.values() if (m := pattern.fullmatch(w)) and m["axis"].isdigit()), default=0
    )
    for name, word in words.items():
        match = pattern.fullmatch(word)
        if match:
            axis = match["axis"]
            places[int(axis) - digits if axis.isdigit() else _PLACE[axis]].append(name)
    if any(len(found) > 1 for found in places.values()):  # u and U: those written alike
        for chosen in (str.islower, str.isupper):
            alike = {
                place: [n for n in found if chosen(re.sub("[^A-Za-z]", "", n)[:1])] for place, found in places.items()
            }
            if all(len(found) == 1 for found in alike.values()):
                return tuple(alike[place][0] for place in range(3))
    return tuple(places[place][0] for place in range(3)) if all(len(f) == 1 for f in places.values()) else None
