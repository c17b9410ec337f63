"""The symmetry group of the right-hand side, over all 48 elements, for every force and combination."""

import math

import numpy as np
import pytest

from flowsr.group import octahedral_group
from flowsr.simulate import (
    FLOWS,
    LinearForcing,
    ShellEnergy,
    Simulation,
    Stratification,
    abc_force,
    exact_group,
    kolmogorov,
    kolmogorov_fourfold,
    right_hand_side_group,
    symmetry_defects,
    taylor_green,
)
from flowsr.simulate.scalars import Scalar
from flowsr.simulate.symmetry_group import KEPT

Z = (0.0, 0.0, 1.0)
ROTATION, STRATIFICATION = {"rotation": Z}, {"stratification": Z}


@pytest.mark.parametrize(
    ("flow", "medium", "label", "order"),
    [
        ("forced_isotropic", {}, "Oh", 48),
        ("fixed_energy", {}, "Oh", 48),
        ("linear_forcing", {}, "Oh", 48),
        ("decaying", {}, "Oh", 48),
        ("helical", {}, "O", 24),
        ("abc_forced", {}, "O", 24),
        ("abc", {}, "O", 24),
        ("kolmogorov", {}, "D2h(100)", 8),
        ("kolmogorov_fourfold", {}, "D4h [001]", 16),
        ("taylor_green", {}, "D4h [001]", 16),
        ("forced_isotropic", ROTATION, "C4h [001]", 8),
        ("forced_isotropic", dict(rotation=(1, 1, 0)), "C2h [110]", 4),
        ("forced_isotropic", dict(rotation=(1, 1, 1)), "S6 [111]", 6),
        ("forced_isotropic", dict(rotation=(0.3, 1.0, 2.0)), "Ci", 2),
        ("forced_isotropic", STRATIFICATION, "D4h [001]", 16),
        ("forced_isotropic", dict(rotation=Z, stratification=Z), "C4h [001]", 8),
        ("forced_isotropic", dict(rotation=(1, 0, 0), stratification=Z), "C2h [100]", 4),
        ("forced_isotropic", dict(mean_flow=Z), "C4v [001]", 8),
        ("forced_isotropic", dict(mean_flow=(1, 1, 1)), "C3v", 6),
        ("forced_isotropic", dict(passive_scalar=True), "Oh", 48),
        ("forced_isotropic", dict(passive_scalar=True, scalar_gradient=Z), "D4h [001]", 16),
        ("kolmogorov", ROTATION, "C2h [001]", 4),
        ("kolmogorov", STRATIFICATION, "D2h(100)", 8),
        ("helical", ROTATION, "C4 [001]", 4),
        ("helical", STRATIFICATION, "D4 [001]", 8),
    ],
)
def test_the_group_of_each_flow_is_the_stated_one(flow, medium, label, order):
    group = exact_group(Simulation(flow, **medium))
    assert group.label.startswith(label) and group.order == order


def test_every_flow_has_its_group_above():
    parameters = test_the_group_of_each_flow_is_the_stated_one.pytestmark[0].args[1]
    assert {flow for flow, *_ in parameters} == set(FLOWS)


def test_kept_symmetries_are_kept_to_round_off_and_broken_ones_are_far_from_it():
    for forces in (lambda box: (kolmogorov(box, 1.0),), lambda box: (LinearForcing(box, 1.0),)):
        defects = symmetry_defects(forces)
        assert defects[defects <= KEPT].max() < 3e-15
        assert defects[defects > KEPT].min(initial=1.0) > 0.05


def test_without_shifts_fewer_are_left():
    assert right_hand_side_group(lambda box: (kolmogorov(box, 1.0),), shifts=False).label == "C2h [001]"
    assert right_hand_side_group(start=taylor_green, shifts=False).label == "D2h(100)"
    assert right_hand_side_group(lambda box: (kolmogorov_fourfold(box, 1.0),), shifts=False).order == 8


def test_buoyancy_held_as_a_true_scalar_loses_up_and_down():
    group = right_hand_side_group(lambda box: (Stratification(Z),), scalars=(Scalar("b", 0.1),), flip_scalars=False)
    assert group.label == "C4v [001]"


def test_an_unequal_box_loses_what_would_turn_it():
    lengths = (2 * math.pi, 2 * math.pi, math.pi)
    assert exact_group(Simulation(lengths=lengths)).label == "D4h [001]"
    assert exact_group(Simulation(lengths=(3.0, 4.0, 5.0))).label == "D2h(100)"
    defects = symmetry_defects(lambda box: (ShellEnergy(box, 1.0, 2.5, 0.1),), lengths=lengths)
    assert np.isinf(defects).sum() == 32


def test_elements_found_leave_the_axis_of_rotation_alone():
    group = octahedral_group("Oh")
    axis = np.array([1, 1, 0])
    found = exact_group(Simulation(rotation=tuple(axis)))
    expected = [g for g, m in enumerate(group.matrices) if np.array_equal(np.linalg.det(m).round() * (m @ axis), axis)]
    assert found.elements == tuple(expected)


def test_the_group_of_abc_forcing_is_the_rotation_group_itself():
    found = right_hand_side_group(lambda box: (abc_force(box, 1.0),))
    determinants = np.linalg.det(octahedral_group("Oh").matrices[list(found.elements)])
    np.testing.assert_allclose(determinants, 1.0)
