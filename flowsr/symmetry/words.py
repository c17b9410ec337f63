"""Findings in words, for someone who knows point groups but not neural networks.

:func:`sentences` says what a discovery found, :func:`describe` what a vector in an irrep of O(3) points at.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from flowsr.data.degrade import DEGRADE_OPERATORS
from flowsr.group import Subgroup, octahedral_group, transform_scalar
from flowsr.group.operations import axis_label
from flowsr.symmetry.result import GROUP, Discovery, IrrepFinding

_CLOSE = 0.05  # radians, or share of the length, within which a direction or a shape is called by its plain name
_FOLD = {2: "two-fold", 3: "three-fold", 4: "four-fold", 6: "six-fold"}
_COORDINATE = {"[100]": "x", "[010]": "y", "[001]": "z"}
_STRIDED = "C3v"  # what picking every s-th point leaves


def sentences(found: Discovery, notes: Mapping[str, Any]) -> tuple[str, ...]:
    """What was found, in the order in which it should be read.

    Args:
        found: the discovery.
        notes: what is known about the data: ``degrade_operator`` and ``degrade_factor``.
    """
    group = octahedral_group(GROUP)
    surviving = found.surviving.subgroup
    said = [_headline(found)]
    if surviving.order == group.order:
        preferred = "" if found.blind else ": no direction is preferred"
        said.append(f"No irrep but A1g rises above {'rounding' if found.exact else 'the null'}{preferred}.")
    else:
        said += [f"What survives: {survivors(surviving)}.", f"What is broken: {losses(surviving)}.", *_irreps(found)]
    said += [_evidence(found), *_persistent(found), *_degraded(found, notes)]
    said.append(
        "A symmetry that is broken too weakly for this much data, or in a way this network cannot see, looks kept: "
        "the true group may be smaller than the one named."
    )
    return tuple(said)


def _headline(found: Discovery) -> str:
    name, order = found.surviving.name, found.surviving.order
    subject = {"dynamics": "The evolution of", "superres": "The small scales of", "pair": "The relation in"}[found.task]
    if found.blind:
        share = f"{100 * found.fit['relaxed']:.2g} % of its power"
        held = "" if order == octahedral_group(GROUP).order else f", but that groups larger than {name} are rejected"
        nothing = f"the network explains nothing of the target ({share}): nothing can be said of its symmetry"
        return f"{subject} {found.variable}: {nothing}{held}."
    if order == octahedral_group(GROUP).order:
        return f"{subject} {found.variable}: all 48 symmetries of the cube (O_h) are allowed by the data."
    if order == 1:
        return f"{subject} {found.variable}: no symmetry of the cube survives (C1)."
    return (
        f"{subject} {found.variable}: the point group {name} survives, {order} of the 48 symmetries of the cube (O_h)."
    )


def _irreps(found: Discovery) -> list[str]:
    broken = {name: irrep for name, irrep in found.irreps.items() if irrep.broken}
    said = [
        f"{name}{_how_sure(irrep)} breaks it like {octahedral_group(GROUP).irrep(name).transforms_like}"
        + (f" and leaves {irrep.stabilizer.name}" if irrep.stabilizer else "")
        for name, irrep in broken.items()
    ]
    if not said:
        return ["No single irrep stands out; only all of them together do."]
    return [f"Irreps above {'rounding' if found.exact else 'the null'}: {'; '.join(said)}."]


def _how_sure(irrep: IrrepFinding) -> str:
    if irrep.p is None:
        return ""
    return f" ({irrep.power / irrep.null_mean:.2g} times the mean of the null, p = {irrep.p:.2g})"


def _evidence(found: Discovery) -> str:
    networks = f"{len(found.seeds)} network{'s' if len(found.seeds) > 1 else ''}"
    if found.exact:
        return f"The data were taken to be free of noise: anything above rounding counts ({networks})."
    kept = next(c for c in found.candidates if c.name == found.surviving.name)
    share = f"{100 * found.false_alarm_rate:.2g} %"
    rejected = sum(not c.kept for c in found.candidates)
    more = f" All {rejected} larger or equal subgroups tried before it are rejected at that rate;" if rejected else ""
    runs = f" of {found.runs} run{'s' if found.runs > 1 else ''}" if found.runs < found.snapshots else ""
    return (
        f"From {found.snapshots} independent snapshots{runs} and {networks}; data with no preferred direction would "
        f"be called anisotropic in {share} of all cases.{more} {found.surviving.name} itself is not (p = {kept.p:.2g})."
    )


def _persistent(found: Discovery) -> list[str]:
    names = [name for name, irrep in found.irreps.items() if irrep.persistent]
    if not names:
        return []
    return [
        f"What a run prefers in {_listed(names)} lasts as long as the run, so there only the {found.runs} runs count "
        "as independent; more runs, rather than longer ones, would tell a property of the flow from one of these runs."
    ]


def _degraded(found: Discovery, notes: Mapping[str, Any]) -> list[str]:
    """Whether the operator that made the coarse data explains what was found."""
    surviving = found.surviving.subgroup
    operator = notes.get("degrade_operator")
    if operator is None:
        if surviving.schoenflies == _STRIDED and found.task == "superres":
            return [
                f"{surviving.label} is also what picking every s-th point of the fine field (x[::s]) leaves; the data "
                "do not say how they were made coarse, so look there before the flow."
            ]
        return []
    allowed = operator_group(str(operator), int(np.max(notes.get("degrade_factor", 2))))
    if allowed.order == octahedral_group(GROUP).order:
        return []
    blame = (
        "what is broken beyond it may be the flow's own"
        if not allowed <= surviving
        else "so the degrade operator did it, and nothing here says that the flow prefers a direction"
    )
    return [
        f"Caution: the coarse field was made by the operator '{operator}', which itself keeps only {allowed.label} "
        f"(order {allowed.order}) about the centre of the box; {blame}."
    ]


@lru_cache
def operator_group(operator: str, factor: int) -> Subgroup:
    """The subgroup of O_h, about the box's centre, that commutes with a registered degrade operator.

    It is tried on a random field; ``factor`` is coarse cell size over fine cell size.
    """
    group = octahedral_group(GROUP)
    coarsen = DEGRADE_OPERATORS[operator]()
    field = torch.randn((4 * factor,) * 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    coarse = torch.from_numpy(coarsen(field.numpy(), factor))

    def defect(g: int) -> float:
        transformed = torch.from_numpy(coarsen(transform_scalar(field, g, group).contiguous().numpy(), factor))
        return float((transformed - transform_scalar(coarse, g, group)).norm() / coarse.norm())

    return group.subgroup(g for g in range(group.order) if defect(g) < 1e-9)


def survivors(subgroup: Subgroup) -> str:
    """The symmetry elements of a point group: axes, mirror planes, inversion."""
    parts = _axes(subgroup) + _mirrors(subgroup)
    operations = octahedral_group(GROUP).operations
    if any(operations[g].symbol == "i" for g in subgroup.elements):
        parts.append("the inversion through the centre")
    return _listed(parts) if parts else "nothing but the identity"


def losses(subgroup: Subgroup) -> str:
    """What O_h has and a subgroup of it lacks, kind by kind; planes by how they lie to the principal axis."""
    group = octahedral_group(GROUP)
    parts = []
    for symbol, family, name in (
        ("C4", "100", "four-fold rotations"),
        ("C3", "111", "three-fold rotations"),
        ("C2", "100", "two-fold rotations about the grid's axes"),
        ("C2", "110", "two-fold rotations about face diagonals"),
        ("i", "", "the inversion"),
        ("sigma_h", "100", "mirror planes normal to the grid's axes"),
        ("sigma_d", "110", "diagonal mirror planes"),
        ("S4", "100", "four-fold rotoreflections"),
        ("S6", "111", "six-fold rotoreflections"),
    ):
        members = [g for g, o in enumerate(group.operations) if (o.symbol, o.family) == (symbol, family)]
        lost = [g for g in members if g not in subgroup]
        if not lost:
            continue
        which = "" if symbol == "i" else "all " if len(lost) == len(members) else _which(lost, symbol)
        parts.append(which + name if not which or which == "all " else f"{name} {which}")
    return _listed(parts) if parts else "nothing"


def _which(lost: list[int], symbol: str) -> str:
    operations = octahedral_group(GROUP).operations
    relation = "normal to" if symbol.startswith("sigma") else "about"
    axes = list(dict.fromkeys(_axis(axis_label(operations[g].axis)) for g in lost))
    return f"({relation} {_listed(axes)})"


def _axes(subgroup: Subgroup) -> list[str]:
    """The highest rotation or rotoreflection about every axis."""
    operations = [octahedral_group(GROUP).operations[g] for g in subgroup.elements]
    highest: dict[str, dict[str, int]] = {"C": {}, "S": {}}
    for o in operations:
        if o.axis is not None and o.symbol[0] in highest:
            kind, label = highest[o.symbol[0]], axis_label(o.axis)
            kind[label] = max(kind.get(label, 0), o.order)
    parts = []
    for order in (4, 3, 2):
        axes = [_axis(label) for label, n in highest["C"].items() if n == order]
        if axes:
            plural = "axes" if len(axes) > 1 else "axis"
            parts.append(f"the {_FOLD[order]} {plural} along {_listed(axes)}")
    for order in (4, 6):
        axes = [_axis(label) for label, n in highest["S"].items() if n == order and highest["C"].get(label, 1) < order]
        axes = [] if order == 6 else axes  # six-fold rotoreflections are three-fold axes with the inversion
        if axes:
            parts.append(f"the {_FOLD[order]} rotoreflection{'s' if len(axes) > 1 else ''} about {_listed(axes)}")
    return parts


def _mirrors(subgroup: Subgroup) -> list[str]:
    operations = [octahedral_group(GROUP).operations[g] for g in subgroup.elements]
    normals = [o.axis for o in operations if o.symbol.startswith("sigma")]
    principal = subgroup.axis
    if not normals:
        return []
    if principal is None or len(normals) == 1:
        plural = "planes" if len(normals) > 1 else "plane"
        return [f"the mirror {plural} normal to {_listed([_axis(axis_label(n)) for n in normals])}"]
    along = [n for n in normals if sum(a * b for a, b in zip(n, principal)) == 0]
    parts = []
    if principal in normals:
        parts.append(f"the mirror plane normal to {_axis(axis_label(principal))}")
    if along:
        count = ("one mirror plane", "two mirror planes", "three mirror planes", "four mirror planes")[len(along) - 1]
        parts.append(f"{count} containing {_axis(axis_label(principal))}")
    others = [n for n in normals if n not in along and n != principal]
    if others:
        parts.append(f"mirror planes normal to {_listed([_axis(axis_label(n)) for n in others])}")
    return parts


def _axis(label: str) -> str:
    return _COORDINATE.get(label, label)


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def describe(irrep: str, vector: np.ndarray, close: float = _CLOSE) -> str:
    """What a vector in an irrep points at: ``1e along z``, ``2e like x^2 - y^2``, ``2e about (0.6, 0.8, 0)``.

    Args:
        irrep: ``0e`` to ``2o``.
        vector: (2 l + 1,) in e3nn's component order; its sign is not told, l = 1 and 2 name axes.
        close: how far a direction or shape may be from the plain one it is called by.
    """
    vector = np.asarray(vector, dtype=np.float64)
    if irrep[0] == "0" or not vector.any():
        return irrep
    if irrep[0] == "1":
        return f"{irrep} along {direction(vector, close)}"
    return f"{irrep} {_quadric(vector, close)}"


def direction(vector: np.ndarray, close: float = _CLOSE) -> str:
    """An axis: ``z``, ``[110]`` or three numbers; the first that is not zero positive."""
    unit = np.asarray(vector, dtype=np.float64) / np.linalg.norm(vector)
    unit = unit * np.sign(unit[np.flatnonzero(np.abs(unit) > close)[0]])
    for axis in _lattice_axes():
        if np.linalg.norm(unit - axis / np.linalg.norm(axis)) < close:
            name = "".join(str(n) for n in axis)
            return {"100": "x", "010": "y", "001": "z"}.get(name, f"[{name}]")
    return "(" + ", ".join(f"{x:.2f}" for x in unit) + ")"


def tensor_of(vector: np.ndarray) -> np.ndarray:
    """(5,) in e3nn's order for l = 2 -> (3, 3) the traceless symmetric Q with x.Q.x = sum_m vector_m Y_m(x).

    Y are e3nn's solid harmonics in component normalization, whose polar axis is y.
    """
    return np.einsum("m,mij->ij", np.asarray(vector, dtype=np.float64), _harmonic_tensors())


@lru_cache(maxsize=1)
def _harmonic_tensors() -> np.ndarray:
    """(5, 3, 3): the quadratic forms of e3nn's five harmonics, by polarization."""
    from flowsr.group.o3 import spherical_harmonics

    def values(points: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(points.reshape(-1, 3))
        found = spherical_harmonics(2, given, normalize=False, normalization="component").numpy()
        return found.reshape(*points.shape[:-1], 5)

    e = np.eye(3)
    pairs = e[:, None, :] + e[None, :, :]
    alone = values(e)
    return np.moveaxis((values(pairs) - alone[:, None] - alone[None, :]) / 2, -1, 0)


def _quadric(vector: np.ndarray, close: float) -> str:
    """The shape of a traceless quadratic form: about an axis, or a difference of two squares."""
    values, axes = np.linalg.eigh(tensor_of(vector))
    order = np.argsort(-np.abs(values))
    largest, second = np.abs(values[order[:2]])
    odd_one = direction(axes[:, order[0]], close)
    if abs(second / largest - 0.5) < close:
        return f"about {odd_one}"
    if abs(second / largest - 1) < close:
        return _difference(axes[:, order[0]], axes[:, order[1]], close)
    return f"with the axes {', '.join(direction(axes[:, i], close) for i in order)}"


def _difference(first: np.ndarray, second: np.ndarray, close: float) -> str:
    """a^2 - b^2 of two orthogonal axes; (x + y)^2 - (x - y)^2 is 4 x y."""
    names = sorted((direction(first, close), direction(second, close)))
    if all(name in "xyz" for name in names):
        return f"like {names[0]}² - {names[1]}²"
    sums = [direction(first + second, close), direction(first - second, close)]
    if all(name in "xyz" for name in sums):
        return f"like {''.join(sorted(sums))}"
    return f"like the difference of squares along {names[0]} and {names[1]}"


@lru_cache(maxsize=1)
def _lattice_axes() -> tuple[np.ndarray, ...]:
    every = np.indices((3, 3, 3)).reshape(3, -1).T - 1
    positive = [v for v in every if v.any() and v[np.flatnonzero(v)[0]] > 0]
    return tuple(sorted(positive, key=lambda v: np.abs(v).sum()))
