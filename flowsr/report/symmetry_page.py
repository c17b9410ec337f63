"""The report of a symmetry discovery: one HTML file with everything in it, for people who know point groups."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup, escape

from flowsr.group import Subgroup
from flowsr.report.figures import symmetry as figures
from flowsr.report.figures.point_group import HERMANN_MAUGUIN, point_group_figure
from flowsr.report.html import HowMade, Picture, drawn, rendered, write_page
from flowsr.symmetry.result import Candidate, Discovery

_TASKS = {
    "dynamics": "from a snapshot to a later one",
    "superres": "from coarse to fine",
    "pair": "from input to target",
}
_MOST_CANDIDATES = 14


def write_symmetry_report(
    path: str | Path, discovery: Discovery, how_made: HowMade | None = None, name: str = ""
) -> Path:
    """Write the page, whole or not at all; arguments as in :func:`render_symmetry_report`, the path in return."""
    return write_page(path, render_symmetry_report(discovery, how_made, name))


def render_symmetry_report(discovery: Discovery, how_made: HowMade | None = None, name: str = "") -> str:
    """The page as text; equal arguments give equal bytes.

    Args:
        discovery: what was found.
        how_made: command, configuration, versions, checksums.
        name: of the experiment.
    """
    data, surviving = discovery.data, discovery.surviving
    own = data and data.surviving != surviving.subgroup
    return rendered(
        "symmetry.html",
        name=name or discovery.variable,
        headline=_headline(discovery),
        title=_title(surviving.schoenflies),
        task=_TASKS[discovery.task],
        sentences=discovery.sentences,
        facts=_facts(discovery),
        diagram=_diagram(surviving.subgroup, "found"),
        data_diagram=_diagram(data.surviving, "data") if own else None,
        agreement=agreement(discovery) if data else None,
        candidates=_candidates(discovery),
        more_candidates=max(0, len(discovery.candidates) - _MOST_CANDIDATES),
        how=how_made or HowMade(),
        **_pictures(discovery),
    )


def _headline(discovery: Discovery) -> tuple[str, str]:
    """The one number, and the sentence that says what it is."""
    surviving, p = discovery.surviving, discovery.p
    if discovery.blind:
        said = "of the target's power is all that the networks explain: nothing"
        held = f"{surviving.name} is what is not rejected, and nothing can be said of it."
        return f"{100 * discovery.fit['relaxed']:.1f} %", f"{said}. {held}"
    sure = "" if p is None else f"; of data with this symmetry, {100 * p:.0f} % depart from it as far"
    return f"{surviving.order} of 48", f"rotations and reflections of the cube survive: {surviving.name}{sure}."


def _title(symbol: str) -> Markup:
    lowered = f"<sub>{escape(symbol[1:])}</sub>" if len(symbol) > 1 else ""
    return Markup(f"<i>{escape(symbol[0])}</i>{lowered}")


def _facts(discovery: Discovery) -> list[tuple[str, str]]:
    surviving, fit = discovery.surviving, discovery.fit
    international = HERMANN_MAUGUIN[surviving.schoenflies].replace(r"\bar{", "-").replace("}", "")
    runs = discovery.runs
    facts = [
        ("Surviving group", f"{surviving.name}, {international}, order {surviving.order} of 48"),
        ("Task", f"{discovery.variable}, {_TASKS[discovery.task]}"),
        ("Independent snapshots", f"{discovery.snapshots}" + (f" of {runs} runs" if runs else "")),
        ("Networks", str(len(discovery.seeds))),
        ("False alarms", "data taken as exact" if discovery.exact else f"{100 * discovery.false_alarm_rate:.2g} %"),
        ("Explained by a symmetric network", f"{100 * fit['strict']:.1f} % of the target's power"),
        ("Explained by the relaxed one", f"{100 * fit['relaxed']:.1f} %"),
    ]
    if discovery.order:
        lacking = ", ".join(discovery.order.missing.values()) or "nothing"
        facts.append(("An equivariant network lacks", lacking))
    if discovery.data:
        facts.append(("Found in the data alone", discovery.data.surviving.label))
    return facts


def _diagram(subgroup: Subgroup, name: str) -> Picture:
    axis = "z" if subgroup.axis is None else "[" + "".join(str(n) for n in subgroup.axis) + "]"
    caption = (
        f"The point group {subgroup.label} in stereographic projection, seen along {axis}. A point in general position "
        "and all that the group makes of it: dots lie above the plane of the paper, rings below it, orange ones have "
        "the other hand. What is drawn in blue, or filled, is a symmetry of the data; what is grey the cube "
        "has and the data have lost."
    )
    alt = f"Stereographic diagram of {subgroup.label}, order {subgroup.order}"
    return drawn(point_group_figure(subgroup), f"group-{name}", alt, caption, wide=False)


def agreement(discovery: Discovery) -> str:
    """The network's group against that of the data's own statistics, in a sentence or two."""
    network, data = discovery.surviving.subgroup, discovery.data.surviving
    if network == data:
        return f"The statistics of the data themselves, without any network, allow the same group, {data.label}."
    if data <= network:
        return (
            f"The statistics of the data themselves keep less, {data.label}: the fields prefer directions that do not "
            f"show in the task, which keeps {network.label}. Statistics see everything that ever acted on the flow, "
            "the task only what acts between input and target."
        )
    if network <= data:
        return (
            f"The statistics of the data themselves keep more, {data.label}: what breaks it shows in how target "
            "follows from input, not yet in averages over the fields."
        )
    return (
        f"The statistics of the data themselves allow {data.label}, which neither contains {network.label} nor lies "
        "in it. One of the two is misled by chance, or by what it cannot see; more independent snapshots decide."
    )


def _pictures(discovery: Discovery) -> dict[str, Picture | None]:
    """The figures under the names that the template gives them; None where there is nothing to draw."""
    broken = ", ".join(name for name, each in discovery.irreps.items() if each.broken)
    scales, data, translation = figures.scales_figure(discovery), discovery.data, discovery.translation
    pictures: dict[str, Picture | None] = dict.fromkeys(("scales", "data", "translation"))
    pictures["irreps"] = drawn(
        figures.irreps_figure(discovery),
        "irreps",
        f"Bar chart of power per irrep; broken: {broken or 'none'}",
        "How the relaxed weights, as a function on the 48 elements, divide among the irreps of the cubic group. Each "
        "weight began at the same value, which is A1g alone. Grey band: what chance does, in 95 % of data turned at "
        "random; a bar that ends inside it is no finding. Thin line: the central 90 % over resamples of the snapshots.",
        wide=False,
    )
    pictures["weights"] = drawn(
        figures.weights_figure(discovery),
        "weights",
        "Bar charts of the relaxed weights on the 48 elements",
        "The relaxed weights themselves, by layer, on the 48 elements in their classes: the factor by which the layer "
        "uses its filter turned by that element. Elements of the surviving group would all be level with the identity, "
        "E, but for noise; coset by coset, so are the others. Thin lines: standard deviation over networks and filter "
        "banks.",
    )
    pictures["elements"] = drawn(
        figures.elements_figure(discovery),
        "elements",
        "Bar chart of equivariance error per element",
        "By how much the trained network's answer to a turned input differs from the turned answer, for each element. "
        "Grey band: the same where chance alone has relaxed the weights, up to 95 % of it; a bar that ends inside it "
        "is no finding.",
    )
    if scales:
        pictures["scales"] = drawn(
            scales,
            "scales",
            "Equivariance error over wavenumber, by class",
            "The same error wavenumber by wavenumber, root mean square over each class. Where a line falls towards "
            "large wavenumbers the small scales return to that symmetry, as Kolmogorov's local isotropy would have it; "
            "dashed classes are kept.",
            wide=False,
        )
    if data:
        pictures["data"] = drawn(
            figures.data_figure(data),
            "data",
            "Heat map: families of statistics by group elements",
            "Without any network: by how much averages over the fields change when they are turned, noise taken off. "
            f"The {data.blocks} independent blocks allow {data.surviving.label} (p = {data.p:.2g}); its elements are "
            "written in blue. Second-order averages cannot tell a rotation from its reverse; third-order ones can, but "
            "need more data.",
        )
    if translation:
        pictures["translation"] = drawn(
            figures.translation_figure(translation),
            "translation",
            "Weights over position along x, y and z",
            "Whether the same law holds at every place: each term of an equation of motion (1 is a force, u a damping) "
            "with a weight that may depend on the position along one axis, less its mean, with standard errors. "
            "p-values from shifting every block by a random distance: of these weights, and of the profiles of the "
            "input itself.",
        )
    return pictures


def _candidates(discovery: Discovery) -> list[tuple[Candidate, bool]]:
    """The subgroups tried, the one that survives last if the table is cut."""
    rows = sorted(discovery.candidates, key=lambda each: (-each.order, -(each.p or 0), each.deviation))
    surviving = discovery.surviving.name
    shown = rows[:_MOST_CANDIDATES]
    if surviving not in [each.name for each in shown]:
        shown = shown[:-1] + [each for each in rows if each.name == surviving]
    return [(each, each.name == surviving) for each in shown]
