"""Stereographic diagrams, held to what the group's matrices say."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from flowsr.group import octahedral_group
from flowsr.report.figures.point_group import (
    HERMANN_MAUGUIN,
    LEFT,
    RIGHT,
    View,
    axis_symbols,
    draw_point_group,
    legend_handles,
    point_group_figure,
    title_of,
)

OH = octahedral_group("Oh")
LABELS = ("Oh", "D4h [001]", "C4h [001]", "C2h [001]", "C3v [111]", "Th", "D2h(100)", "Td", "S4 [001]", "Ci", "C1")


def subgroup(label):
    return next(s for s in OH.subgroups if s.label == label)


def drawn(label):
    axes = Figure(figsize=(4, 4)).add_subplot()
    draw_point_group(axes, subgroup(label))
    return axes


def circles(axes, radius):
    return [p for p in axes.patches if isinstance(p, Circle) and p.radius == pytest.approx(radius)]


@pytest.mark.parametrize("label", LABELS)
def test_as_many_general_positions_as_elements_and_as_many_of_the_other_hand_as_reflections(label):
    axes, own = drawn(label), subgroup(label)
    above = [p for p in circles(axes, 0.021) if p.get_zorder() == 5]
    below = circles(axes, 0.040)
    assert len(above) + len(below) == own.order
    assert len({(round(p.center[0], 6), round(p.center[1], 6)) for p in above}) == len(above)
    from matplotlib.colors import to_rgba

    orange = sum(p.get_facecolor() == to_rgba(LEFT) for p in above) + sum(
        p.get_edgecolor() == to_rgba(LEFT) for p in below
    )
    assert orange == sum(OH.operations[g].determinant == -1 for g in own.elements)


def test_axes_of_every_subgroup_are_those_of_its_rotations():
    for own in OH.subgroups:
        operations = [OH.operations[g] for g in own.elements]
        symbols = axis_symbols(operations)
        highest = {}
        for o in operations:
            if o.determinant == 1 and o.order > 1:
                highest[o.axis] = max(highest.get(o.axis, 1), o.order)
        assert set(symbols) == set(highest)
        assert all(
            int(s.removeprefix("-")) == n or (s, n) == ("-4", 2)
            for s, n in ((symbols[a], n) for a, n in highest.items())
        )


@pytest.mark.parametrize(
    "label, counts",
    [
        ("Oh", {"4": 3, "3": 4, "2": 6}),
        ("Td", {"-4": 3, "3": 4}),
        ("Th", {"2": 3, "3": 4}),
        ("D4h [001]", {"4": 1, "2": 4}),
        ("S4 [001]", {"-4": 1}),
        ("C2h [001]", {"2": 1}),
        ("Cs [001]", {}),
    ],
)
def test_symbols_of_known_groups(label, counts):
    found = list(axis_symbols([OH.operations[g] for g in subgroup(label).elements]).values())
    assert {s: found.count(s) for s in found} == counts


def test_every_subgroup_has_an_international_symbol_and_a_title():
    for own in OH.subgroups:
        assert own.schoenflies in HERMANN_MAUGUIN
        assert f"order {own.order}" in title_of(own)
        assert legend_handles(own)


def test_views_are_right_handed_and_along_the_axis():
    for own in OH.subgroups:
        view = View(own)
        frame = np.stack([view.right, view.up, view.towards])
        assert np.allclose(frame @ frame.T, np.eye(3)) and np.linalg.det(frame) == pytest.approx(1)
        if own.axis is not None:
            assert view.height(own.axis) == pytest.approx(1)


def test_projection_keeps_the_rim_and_the_pole():
    view = View(subgroup("D4h [001]"))
    assert np.allclose(view.project([1.0, 0, 0]), [1, 0]) and np.allclose(view.project([0, 0, 2.0]), 0)
    assert np.hypot(*view.project([1.0, 0, 1.0])) == pytest.approx(np.tan(np.pi / 8))  # half the angle from the pole


def test_equal_groups_give_equal_pictures_and_the_whole_figure_can_be_drawn():
    from flowsr.report.html import svg_markup

    one, two = (svg_markup(point_group_figure(subgroup("C4h [001]")), "g") for _ in "ab")
    assert one == two and RIGHT in one
