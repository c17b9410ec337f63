"""The symmetry report: what is in it, that it is whole, and that it stands alone."""

import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from flowsr.group import octahedral_group
from flowsr.report.figures.symmetry import irreps_figure, scales_figure, translation_figure, weights_figure
from flowsr.report.figures.weights import element_order
from flowsr.report.html import HowMade
from flowsr.report.symmetry_page import agreement, render_symmetry_report, write_symmetry_report
from flowsr.symmetry.invariance import DataSymmetry, ElementDefects
from flowsr.symmetry.result import (
    Candidate,
    Discovery,
    ElementErrors,
    EquivarianceFinding,
    GroupName,
    IrrepFinding,
    LayerFinding,
    ShellErrors,
)
from flowsr.symmetry.translation import AxisHomogeneity

OH = octahedral_group("Oh")
C4H = next(s for s in OH.subgroups if s.label == "C4h [001]")
D4H = next(s for s in OH.subgroups if s.label == "D4h [001]")


def irrep(name):
    broken = name in ("Eg", "T1g")
    if name == "A1g":
        return IrrepFinding(1, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, None, False)
    return IrrepFinding(
        OH.irrep(name).dimension,
        0.02 if broken else 1e-4,
        1e-4,
        5e-5,
        0.03,
        1e-4,
        4e-4,
        0.002 if broken else 0.8,
        broken,
    )


def discovery(exact=False, data=D4H):
    """A rotation about z, found by a network, while second-order statistics keep more."""
    irreps = {each.name: irrep(each.name) for each in OH.irreps}
    weights = tuple(1 + 0.2 * (g in C4H) for g in range(48))
    layer = LayerFinding(irreps, GroupName.of(C4H), weights, (0.01,) * 48)
    error = ElementErrors(0.1, 0.01, None if exact else 0.05)
    shells = ShellErrors((1.0, 2.0, 3.0), {name: (0.2, 0.1, None) for name in OH.class_names})
    candidates = (
        Candidate("Oh", 48, 0.002, 0.9, False),
        *(Candidate(f"other {n}", 16, 0.004, 0.5, False) for n in range(20)),
        Candidate("C4h [001]", 8, 0.6, 0.01, True),
    )
    defects = ElementDefects(*[np.linspace(0, 1, 48)] * 4)
    found = DataSymmetry({"Reynolds stresses": defects}, np.full(48, 0.5), data, 0.4, 16, 0.05)
    profiles = {"1": np.zeros((3, 8)), "u": np.zeros((3, 8))}
    axes = {
        name: AxisHomogeneity(name, np.arange(8.0), profiles, profiles, 0.0, {"relaxed weights": 0.5}, True)
        for name in "xyz"
    }
    return Discovery(
        task="dynamics",
        variable="velocity <b>",
        snapshots=16,
        runs=8,
        seeds=(0, 1),
        surviving=GroupName.of(C4H),
        irreps=irreps,
        layers={"lifting": layer, "projection": layer},
        candidates=candidates,
        equivariance=EquivarianceFinding(
            (error,) * 48, {name: error for name in OH.class_names}, None if exact else shells
        ),
        fit={"strict": 0.4, "relaxed": 0.5},
        false_alarm_rate=0.0 if exact else 0.05,
        exact=exact,
        data=None if exact else found,
        translation=None if exact else axes,
        sentences=("The point group C4h [001] survives.", "T1g breaks it like a rotation & more."),
    )


@pytest.fixture(scope="module")
def page():
    how = HowMade(command="flowsr symmetry rotating.yaml", config={"task": "dynamics"})
    return render_symmetry_report(Discovery.from_json(json.loads(json.dumps(discovery().to_json()))), how, "rotating")


def test_it_says_what_survives_and_gives_every_figure(page):
    assert "What survives is <i>C</i><sub>4h</sub>" in page
    assert "T1g breaks it like a rotation &amp; more." in page and "velocity &lt;b&gt;" in page
    assert page.count("<figure") == 8  # two diagrams, irreps, weights, elements, scales, data, translation
    assert page.count('<tr class="surviving">') == 1 and "And 8 more" in page


def test_disagreement_with_the_data_is_put_in_words(page):
    assert "keep more, D4h [001]" in page
    assert "allow the same group, C4h [001]" in agreement(discovery(data=C4H))
    smaller, other = (next(s for s in OH.subgroups if s.label == label) for label in ("C2h [001]", "C3v [111]"))
    assert "keep less, C2h [001]" in agreement(discovery(data=smaller))
    assert "neither contains C4h [001] nor lies in it" in agreement(discovery(data=other))


def test_it_stands_alone(page):
    assert set(re.findall(r"(?:src|href)=\"(?!data:|#)([^\"]*)", page)) == {"discovery.json"}
    assert "<script" not in page and "http:" not in page and "https:" not in page


def test_data_without_noise_have_neither_null_nor_scales_and_equal_findings_give_equal_bytes(tmp_path):
    found = discovery(exact=True)
    assert scales_figure(found) is None
    page = render_symmetry_report(found)
    assert write_symmetry_report(tmp_path / "page.html", discovery(exact=True)).read_text() == page
    assert page.count("<figure") == 4 and "data taken as exact" in page


def test_elements_go_class_by_class():
    order = element_order(OH)
    assert sorted(order) == list(range(48)) and order[0] == 0
    start = 0
    for members in OH.classes:
        assert set(order[start : start + len(members)]) == set(members)
        start += len(members)


def test_bars_are_coloured_by_what_survives():
    from matplotlib.colors import to_hex

    from flowsr.report.figures.symmetry import KEPT, LOST

    axes = weights_figure(discovery()).axes[0]
    colours = [to_hex(bar.get_facecolor()) for bar in axes.patches]
    assert colours.count(KEPT.lower()) == 8 and colours.count(LOST.lower()) == 40
    broken = [to_hex(p.get_facecolor()) for p in irreps_figure(discovery()).axes[0].patches]
    assert broken.count(LOST.lower()) == 2


def test_translation_has_a_panel_for_every_bank_and_axis():
    figure = translation_figure(discovery().translation)
    assert isinstance(figure, Figure) and len(figure.axes) == 6
