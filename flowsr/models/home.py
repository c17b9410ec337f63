"""Where a model is at home: what the fields were like that it was trained on, and whether another one is like them.

A network gives a plausible field for whatever it is given. Its card therefore holds the ranges, over the training
snapshots, of a few numbers that are the same in any units, for any of the 48 orientations and with any constant added
that the equations allow; what is outside is said in one line each. They are made from differences between cells one,
two and four apart, so they need no periodic box: their squares are the second-order structure function, whose exponent
at the cut-off is the coarse spectrum's slope there (less one); the longitudinal ones have a skewness, which turbulence
keeps near -0.4 and noise at 0; and their sum over x, y, z says how much of a divergence the coarse cells see, which
sampling without averaging raises.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from flowsr.data.scales import free_components
from flowsr.grid import Grid

#: Cells of one snapshot that are looked at; of a larger one evenly spread boxes.
CELLS, BOX = 128**3, 48
#: Snapshots of a run that are looked at, evenly spread.
SNAPSHOTS = 16
#: A range is that of the training snapshots and this share of its width at either end, which other seeds need.
MARGIN = 0.15
#: And no less than this: a mean through walls is 0 but for round-off.
FLOOR = 0.005
#: More than this share of the snapshots has to be outside.
SHARE = 0.2
#: Cells of no more Kolmogorov lengths hold every scale of a flow (k_max eta of 1.25: a coarse simulation, still one).
RESOLVED = math.pi / 1.25
#: Separations, in cells.
STEPS = (1, 2, 4)
#: Fluctuation below which, over the largest value, there is none but round-off.
SILENT = 1e-6

#: What is measured, and how it is called.
TRAITS: dict[str, str] = {
    "aspect": "longest over shortest side of a cell",
    "cell_reynolds": "cell Reynolds number Delta^2 |grad u| / nu",
    "roughness": "change from cell to cell over RMS",
    "slope": "exponent of the structure function at the cut-off",
    "wide_slope": "exponent of the structure function from two cells to four",
    "skewness": "skewness of the coarse longitudinal gradient",
    "flatness": "flatness of the coarse longitudinal gradient",
    "divergence": "divergence over gradient, by coarse differences",
    "isotropy": "transverse over longitudinal change from cell to cell",
    "mean_over_rms": "mean through walls over RMS",
}


@dataclass(frozen=True)
class Home:
    """What a model was trained on.

    Args:
        operator: that made the coarse fields; several with commas.
        boundary: of x, y, z.
        stretched: whether an axis had cells of different sizes.
        snapshots: of the training, that were looked at.
        ranges: trait (:data:`TRAITS`) to its smallest and largest value over them; none that could not be measured.
    """

    operator: str
    boundary: tuple[str, str, str]
    stretched: bool
    snapshots: int
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Home:
        """The home of its ``dataclasses.asdict``, as JSON has it."""
        x, y, z = map(str, values["boundary"])
        ranges = {str(name): (float(low), float(high)) for name, (low, high) in values["ranges"].items()}
        return cls(str(values["operator"]), (x, y, z), bool(values["stretched"]), int(values["snapshots"]), ranges)


@dataclass(frozen=True)
class Finding:
    """One thing in which a field is not like those trained on.

    Args:
        what: a trait, or ``operator``, ``boundary``, ``stretched``, ``fluctuation``, ``resolved``.
        line: it in words.
        refused: whether the result cannot be right.
    """

    what: str
    line: str
    refused: bool = False


@dataclass(frozen=True)
class Verdict:
    """How a field compares with those that a model was trained on.

    Args:
        findings: what is outside; none: at home.
        unknown: what could not be compared, in words.
        snapshots: of the field, that were looked at.
    """

    findings: tuple[Finding, ...] = ()
    unknown: tuple[str, ...] = ()
    snapshots: int = 0

    @property
    def at_home(self) -> bool:
        """Whether nothing is outside."""
        return not self.findings

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The findings for which the result cannot be right."""
        return tuple(finding for finding in self.findings if finding.refused)


def measure_traits(values: np.ndarray, grid: Grid, irreps: str, viscosity: float | None = None) -> dict[str, float]:
    """The traits of one coarse snapshot (:data:`TRAITS`).

    Args:
        values: (component, x, y, z) or (x, y, z), or anything that is sliced like it.
        grid: of the field.
        irreps: of the field; longitudinal ones are for one velocity, ``1o``.
        viscosity: kinematic, where it is known.

    Returns:
        What can be measured; ``roughness`` alone, 0, of a field that does not vary.
    """
    widths = grid.widths()
    sizes = [along.max() for along in widths] + [1 / along.min() for along in widths]
    traits = {"aspect": float(max(sizes[:3]) * max(sizes[3:]))}
    sums = _Differences()
    with np.errstate(invalid="ignore", over="ignore"):  # of a field that will be refused
        for part, boundary in _boxes(grid):
            box = np.asarray(values[(..., *part)], dtype=np.float64)
            sums.add(box if box.ndim == 4 else box[None], grid, part, boundary, irreps)
        traits.update(sums.traits(grid, irreps))
    if irreps in ("1o", "1x1o") and viscosity is not None and viscosity > 0 and sums.gradient > 0:
        size = math.prod(grid.spacing) ** (1 / 3)
        traits["cell_reynolds"] = size**2 * math.sqrt(sums.gradient) / viscosity
    return {name: value for name, value in traits.items() if math.isfinite(value)}  # none of a field with holes


def traits_of(
    snapshots: Any, grid: Grid, irreps: str, viscosity: float | None, times: Sequence[int] | None = None
) -> list[dict[str, float]]:
    """The traits of evenly spread snapshots of a field.

    Args:
        snapshots: (time, component, x, y, z), or without the component, lazy or not.
        times: those to choose from; default: all.
    """
    known = range(len(snapshots)) if times is None else times
    found = []
    for place in spread(len(known)):
        found.append(measure_traits(snapshots[known[place]], grid, irreps, viscosity))
    return found


def ranges_of(traits: Sequence[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Trait to its range over snapshots; those that all of them have."""
    common = [name for name in TRAITS if traits and all(name in each for each in traits)]
    return {name: (min(t[name] for t in traits), max(t[name] for t in traits)) for name in common}


def compare_with_home(
    home: Home,
    traits: Sequence[Mapping[str, float]],
    grid: Grid,
    operator: str | None = None,
    *,
    oriented: bool = False,
) -> Verdict:
    """Say in what a field is not like those that a model was trained on.

    Args:
        home: the model's.
        traits: of snapshots of the field (:func:`measure_traits`).
        grid: its grid.
        operator: that made it, where it says so.
        oriented: whether the model tells the axes apart: then walls across another axis are another flow.
    """
    findings, unknown = [], []
    walls = "wall" in grid.boundary
    if walls and "wall" not in home.boundary:
        findings.append(Finding("boundary", "the field has walls, and the model never saw any", refused=True))
    elif "wall" in home.boundary and not walls:
        findings.append(Finding("boundary", "the model was trained between walls, and the field has none"))
    elif (grid.boundary if oriented else sorted(grid.boundary)) != (
        home.boundary if oriented else sorted(home.boundary)
    ):
        findings.append(Finding("boundary", f"sides {grid.boundary}, trained on {home.boundary}"))
    if any(grid.stretched) and not home.stretched:
        line = "cells of different sizes along an axis, and the model never saw any"
        findings.append(Finding("stretched", line, refused=True))
    if operator is None:
        unknown.append(f"how the field was made coarse (the model is for {home.operator})")
    elif operator not in home.operator.split(", "):
        findings.append(
            Finding("operator", f"the field was made coarse by {operator}, the model is for {home.operator}")
        )
    for name, (low, high) in home.ranges.items():
        found = [each[name] for each in traits if name in each]
        if not found:
            if name == "cell_reynolds":
                unknown.append("cell Reynolds number (the field does not state its viscosity)")
            continue
        low, high = widened(name, low, high)
        outside = [value for value in found if not low <= value <= high]
        if len(outside) > SHARE * len(found):
            middle = sorted(outside)[len(outside) // 2]
            often = "" if len(found) == 1 else f" ({len(outside)} of {len(found)} snapshots)"
            line = f"{TRAITS[name]} {middle:.3g}, at home {low:.3g} to {high:.3g}{often}"
            findings.append(Finding(name, line, refused=name == "aspect"))
    findings += already_fine(traits, home)
    silent = sum(each.get("roughness") == 0 for each in traits)
    if silent > SHARE * len(traits):
        findings = [finding for finding in findings if finding.what != "roughness"]
        findings.append(Finding("fluctuation", f"nothing varies in {silent} of {len(traits)} snapshots"))
    return Verdict(tuple(findings), tuple(unknown), len(traits))


def already_fine(traits: Sequence[Mapping[str, float]], home: Home | None = None) -> list[Finding]:
    """The finding that a field is no coarse one: a fine grid given by mistake, whose result nobody wants.

    Where the viscosity is known, cells of at most :data:`RESOLVED` Kolmogorov lengths, Delta / eta being the root of
    the cell Reynolds number (eta^4 = nu^2 / <|grad u|^2>); else a field smoother than all that the model was trained
    on: less change from cell to cell, a steeper structure function. Source: Pope, Turbulent Flows (2000), section 9.1.
    """
    ranges = {} if home is None else {name: widened(name, *ends) for name, ends in home.ranges.items()}

    def middle(name: str) -> float:
        found = sorted(each[name] for each in traits if name in each)
        return found[len(found) // 2] if found else math.nan

    sizes, change = math.sqrt(middle("cell_reynolds")), middle("roughness")
    smallest, steepest = (ranges.get(name, (math.nan, math.nan)) for name in ("roughness", "slope"))
    if math.isfinite(sizes):
        fine = 0 < sizes <= RESOLVED and not sizes**2 >= ranges.get("cell_reynolds", (math.inf, math.inf))[0]
        why = f"its cells are {sizes:.2g} Kolmogorov lengths and hold every scale"
    else:
        fine = 0 < change < smallest[0] and middle("slope") > steepest[1]
        why = f"from cell to cell it changes by {change:.2g} of its RMS, those trained on by {smallest[0]:.2g} or more"
    return [Finding("resolved", f"the field seems to be fine already: {why}; is this the coarse one?")] if fine else []


def widened(name: str, low: float, high: float) -> tuple[float, float]:
    """The range that counts as home, from that of the training snapshots."""
    if name == "aspect":
        return low / 1.05, high * 1.05
    spare = MARGIN * (high - low) + FLOOR
    return low - spare, high + spare


def spread(count: int, wanted: int = SNAPSHOTS) -> list[int]:
    """At most so many of ``count`` places, evenly spread, both ends among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, wanted))})


class _Differences:
    """Sums of powers of differences between cells, over boxes and over the axes along which steps are equal."""

    def __init__(self) -> None:
        self.along = dict.fromkeys(STEPS, 0.0)  # mean square, longitudinal
        self.across = dict.fromkeys(STEPS, 0.0)  # and transverse
        self.cube = self.fourth = self.divergence = self.entries = self.gradient = 0.0
        self.square = self.largest = self.held = 0.0
        self.count = dict.fromkeys(STEPS, 0)
        self.boxes = 0

    def add(self, values: np.ndarray, grid: Grid, part, boundary: Sequence[str], irreps: str) -> None:
        self.boxes += 1
        mean = values.mean((1, 2, 3))
        self.largest = max(self.largest, float(np.abs(values).max()))
        self.square += float(np.square(values - mean[:, None, None, None]).sum(0).mean())
        held = np.where(free_components(irreps, grid.boundary), 0.0, mean)
        self.held += float(np.linalg.norm(held))
        velocity, slopes = irreps in ("1o", "1x1o"), []
        for axis, (wraps, stretched) in enumerate(zip(boundary, grid.stretched)):
            if values.shape[axis + 1] < 3:
                continue
            one = _difference(values, axis, 1, wraps == "periodic")
            if stretched:
                gaps = np.diff(grid.coordinates()[axis][part[axis]])
                one = one / gaps.reshape([-1 if a == axis else 1 for a in range(3)])
                self.gradient += float(np.square(one).sum(0).mean())
                continue
            self.gradient += float(np.square(one).sum(0).mean()) / grid.spacing[axis] ** 2
            for step in STEPS:
                if values.shape[axis + 1] < 2 * step:
                    continue
                change = one if step == 1 else _difference(values, axis, step, wraps == "periodic")
                square = np.square(change).reshape(len(values), -1).mean(1)
                self.count[step] += 1
                self.along[step] += float(square[axis]) if velocity else 0.0
                self.across[step] += float(square.sum() - (square[axis] if velocity else 0.0))
            if velocity:
                self.cube += float((one[axis] ** 3).mean())
                self.fourth += float((one[axis] ** 4).mean())
                slopes.append(_central(values, axis, wraps == "periodic", boundary) / grid.spacing[axis])
        if len(slopes) == 3:
            self.divergence += float(np.square(slopes[0][0] + slopes[1][1] + slopes[2][2]).mean())
            self.entries += float(sum(np.square(along).sum(0).mean() for along in slopes))

    def traits(self, grid: Grid, irreps: str) -> dict[str, float]:
        self.gradient /= max(1, self.boxes)
        rms, axes = math.sqrt(self.square / max(1, self.boxes)), self.count
        if not axes[1] or rms <= SILENT * self.largest:
            return {"roughness": 0.0}
        along = {step: self.along[step] / axes[step] for step in STEPS if axes[step]}
        total = {step: along[step] + self.across[step] / axes[step] for step in along}
        if math.isnan(total[1]):
            return {}  # of a field with holes
        if not total[1] > 0:
            return {"roughness": 0.0}
        found = {"roughness": math.sqrt(total[1]) / rms}
        if 2 in total:
            found["slope"] = math.log2(total[2] / total[1])
        if 4 in total and 2 in total:
            found["wide_slope"] = math.log2(total[4] / total[2])
        if irreps in ("1o", "1x1o") and along[1] > 0:
            found["skewness"] = self.cube / axes[1] / along[1] ** 1.5
            found["flatness"] = self.fourth / axes[1] / along[1] ** 2
            found["isotropy"] = self.across[1] / axes[1] / along[1] / 2
        if self.entries > 0:
            found["divergence"] = math.sqrt(self.divergence / self.entries)
        if not all(free_components(irreps, grid.boundary)):
            found["mean_over_rms"] = self.held / self.boxes / rms
        return found


def _boxes(grid: Grid) -> Iterable[tuple[tuple[slice, slice, slice], tuple[str, str, str]]]:
    """The parts of a field that are looked at, and how each goes on beyond its sides."""
    if math.prod(grid.shape) <= CELLS:
        yield (slice(None),) * 3, grid.boundary
        return
    per_axis = []
    for n, kind in zip(grid.shape, grid.boundary):
        starts = sorted({(n - BOX) * place // 2 for place in range(3)}) if n > BOX else [0]
        per_axis.append([(slice(a, min(a + BOX, n)), kind if n <= BOX else "open") for a in starts])
    for box in product(*per_axis):
        parts, kinds = zip(*box)
        yield parts, kinds


def _difference(values: np.ndarray, axis: int, step: int, wraps: bool) -> np.ndarray:
    """Value ``step`` cells on, less the value, along x, y or z."""
    if wraps:
        return np.roll(values, -step, axis + 1) - values
    n = values.shape[axis + 1]
    return values.take(range(step, n), axis + 1) - values.take(range(n - step), axis + 1)


def _central(values: np.ndarray, axis: int, wraps: bool, boundary: Sequence[str]) -> np.ndarray:
    """Half the difference of both neighbours, at the cells that have them along all axes."""
    change = (np.roll(values, -1, axis + 1) - np.roll(values, 1, axis + 1)) / 2
    inside = [slice(None) if kind == "periodic" else slice(1, -1) for kind in boundary]
    return change[(slice(None), *inside)]
