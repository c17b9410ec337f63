"""The report of a symmetry discovery: one HTML file with everything in it, for people who know point groups."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from flowsr.files import write_text_atomic
from flowsr.group import octahedral_group
from flowsr.report.embedding import svg_markup
from flowsr.report.page import HowMade
from flowsr.report.pictures import Picture
from flowsr.report.point_group import HERMANN_MAUGUIN, point_group_figure
from flowsr.report.symmetry_figures import (
    data_figure,
    elements_figure,
    irreps_figure,
    scales_figure,
    translation_figure,
    weights_figure,
)

log = logging.getLogger(__name__)

_TASKS = {
    "dynamics": "from a snapshot to a later one",
    "superres": "from coarse to fine",
    "pair": "from input to target",
}
_MOST_CANDIDATES = 14


def write_symmetry_report(
    path: str | Path, discovery: Mapping[str, Any], how_made: HowMade = HowMade(), name: str = ""
) -> Path:
    """Write the report, whole or not at all; equal arguments give equal bytes.

    Args:
        path: HTML file to write.
        discovery: :meth:`flowsr.symmetry.result.Discovery.to_json`.
        how_made: command, configuration, versions, checksums.
        name: of the experiment.

    Returns:
        ``path``.
    """
    page = render_symmetry_report(discovery, how_made, name)
    path = write_text_atomic(path, page)
    log.info("wrote %s (%d kB)", path, len(page.encode()) // 1000)
    return path


def render_symmetry_report(discovery: Mapping[str, Any], how_made: HowMade = HowMade(), name: str = "") -> str:
    """The page as text; arguments as in :func:`write_symmetry_report`."""
    environment = Environment(
        loader=PackageLoader("flowsr.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    data, translation = discovery.get("data"), discovery.get("translation")
    return environment.get_template("symmetry.html").render(
        name=name or discovery["variable"],
        title=_title(discovery["surviving"]),
        task=_TASKS[discovery["task"]],
        sentences=discovery["sentences"],
        facts=_facts(discovery),
        diagram=_diagram(discovery["surviving"], "found"),
        data_diagram=_diagram(data["surviving"], "data") if data and _differ(data, discovery) else None,
        agreement=agreement(discovery) if data else None,
        irreps=_irreps(discovery),
        weights=_weights(discovery),
        elements=_elements(discovery),
        scales=_scales(discovery),
        data=_data(data) if data else None,
        translation=_translation(translation) if translation else None,
        candidates=_candidates(discovery),
        more_candidates=max(0, len(discovery["candidates"]) - _MOST_CANDIDATES),
        how=how_made,
    )


def _title(surviving: Mapping) -> Markup:
    symbol = surviving["schoenflies"]
    lowered = f"<sub>{escape(symbol[1:])}</sub>" if len(symbol) > 1 else ""
    return Markup(f"<i>{escape(symbol[0])}</i>{lowered}")


def _facts(discovery: Mapping) -> list[tuple[str, str]]:
    surviving, fit = discovery["surviving"], discovery["fit"]
    international = HERMANN_MAUGUIN[surviving["schoenflies"]].replace(r"\bar{", "-").replace("}", "")
    runs = discovery.get("runs")
    facts = [
        ("Surviving group", f"{surviving['name']}, {international}, order {surviving['order']} of 48"),
        ("Task", f"{discovery['variable']}, {_TASKS[discovery['task']]}"),
        ("Independent snapshots", f"{discovery['snapshots']}" + (f" of {runs} runs" if runs else "")),
        ("Networks", str(len(discovery["seeds"]))),
        (
            "False alarms",
            "data taken as exact" if discovery["exact"] else f"{100 * discovery['false_alarm_rate']:.2g} %",
        ),
        ("Explained by a symmetric network", f"{100 * fit['strict']:.1f} % of the target's power"),
        ("Explained by the relaxed one", f"{100 * fit['relaxed']:.1f} %"),
    ]
    if discovery.get("data"):
        facts.append(("Found in the data alone", discovery["data"]["surviving"]["name"]))
    return facts


def _picture(figure: Figure, name: str, alt: str, caption: str | Markup, wide: bool = True) -> Picture:
    return Picture(alt=alt, caption=caption, drawing=svg_markup(figure, name), wide=wide)


def _diagram(surviving: Mapping, name: str) -> Picture:
    subgroup = octahedral_group("Oh").subgroup(surviving["elements"])
    axis = "z" if subgroup.axis is None else "[" + "".join(str(n) for n in subgroup.axis) + "]"
    caption = (
        f"The point group {subgroup.label} in stereographic projection, seen along {axis}. A point in general position and all "
        "that the group makes of it: dots lie above the plane of the paper, rings below it, orange ones have the other hand. "
        "What is drawn in blue and black is a symmetry of the data; what is grey the cube has and the data have lost."
    )
    alt = f"Stereographic diagram of {subgroup.label}, order {subgroup.order}"
    return _picture(point_group_figure(subgroup), f"group-{name}", alt, caption, wide=False)


def _differ(data: Mapping, discovery: Mapping) -> bool:
    return list(data["surviving"]["elements"]) != list(discovery["surviving"]["elements"])


def agreement(discovery: Mapping) -> str:
    """The network's group against that of the data's own statistics, in a sentence or two."""
    network, data = discovery["surviving"], discovery["data"]["surviving"]
    ours, theirs = set(network["elements"]), set(data["elements"])
    if ours == theirs:
        return f"The statistics of the data themselves, without any network, allow the same group, {data['name']}."
    if theirs < ours:
        return (
            f"The statistics of the data themselves keep less, {data['name']}: the fields prefer directions that do not show in "
            f"the task, which keeps {network['name']}. Statistics see everything that ever acted on the flow, the task only what acts "
            "between input and target."
        )
    if ours < theirs:
        return (
            f"The statistics of the data themselves keep more, {data['name']}: what breaks it shows in how target follows from "
            "input, not yet in averages over the fields."
        )
    return (
        f"The statistics of the data themselves allow {data['name']}, which neither contains {network['name']} nor lies in it. One of "
        "the two is misled by chance, or by what it cannot see; more independent snapshots decide."
    )


def _irreps(discovery: Mapping) -> Picture:
    caption = (
        "How the relaxed weights, as a function on the 48 elements, divide among the irreps of the cubic group. Each weight began "
        "at the same value, which is A1g alone. Grey: what chance would do, from data turned at random, with its mean as a line; "
        "black line: the central 90 % over resamples of the snapshots. An irrep is called broken only above chance."
    )
    broken = [name for name, each in discovery["irreps"].items() if each["broken"]]
    alt = f"Bar chart of power per irrep; broken: {', '.join(broken) or 'none'}"
    return _picture(irreps_figure(discovery), "irreps", alt, caption, wide=False)


def _weights(discovery: Mapping) -> Picture:
    caption = (
        "The relaxed weights themselves, by layer, on the 48 elements in their classes: the factor by which the layer uses its "
        "filter turned by that element. Elements of the surviving group would all be level with the identity, E, but for "
        "noise; coset by coset, so are the others. Thin lines: standard deviation over networks and filter banks."
    )
    return _picture(
        weights_figure(discovery), "weights", "Bar charts of the relaxed weights on the 48 elements", caption
    )


def _elements(discovery: Mapping) -> Picture:
    caption = (
        "By how much the trained network's answer to a turned input differs from the turned answer, for each element. Grey: the "
        "same where chance alone has relaxed the weights. Blue bars should not rise above it."
    )
    return _picture(elements_figure(discovery), "elements", "Bar chart of equivariance error per element", caption)


def _scales(discovery: Mapping) -> Picture | None:
    figure = scales_figure(discovery)
    if figure is None:
        return None
    caption = (
        "The same error wavenumber by wavenumber, root mean square over each class. Where a line falls towards large wavenumbers "
        "the small scales return to that symmetry, as Kolmogorov's local isotropy would have it; dashed classes are kept."
    )
    return _picture(figure, "scales", "Equivariance error over wavenumber, by class", caption, wide=False)


def _data(data: Mapping) -> Picture:
    caption = (
        f"Without any network: by how much averages over the fields change when they are turned, noise taken off. The "
        f"{data['units']} independent units allow {data['surviving']['name']} (p = {data['p']:.2g}); its elements are written in blue. "
        "Second-order averages cannot tell a rotation from its reverse; third-order ones can, but need more data."
    )
    return _picture(data_figure(data), "data", "Heat map: families of statistics by group elements", caption)


def _translation(translation: Mapping[str, Mapping]) -> Picture:
    caption = (
        "Whether the same law holds at every place: each term of an equation of motion (1 is a force, u a damping) with a weight that "
        "may depend on the position along one axis, less its mean, with standard errors. p-values from shifting "
        "every unit by a random distance: of these weights, and of the profiles of the input itself."
    )
    return _picture(translation_figure(translation), "translation", "Weights over position along x, y and z", caption)


def _candidates(discovery: Mapping) -> list[dict[str, Any]]:
    """The subgroups tried, the one that survives last if the table is cut."""
    rows = list(discovery["candidates"])
    rows = sorted(rows, key=lambda each: (-each["order"], -(each["p"] or 0), each["deviation"]))
    surviving = discovery["surviving"]["name"]
    shown = rows[:_MOST_CANDIDATES]
    if surviving not in [each["name"] for each in shown]:
        shown = shown[:-1] + [each for each in rows if each["name"] == surviving]
    return [{**each, "surviving": each["name"] == surviving} for each in shown]
