import numpy as np
import pytest
import torch

from flowsr.group import octahedral_group
from flowsr.metrics import EquivarianceError, derivative, equivariance_error
from flowsr.metrics.equivariance import rotation_elements
from tests.metrics.fields import CHANNEL, UNEQUAL, noise

GROUP = octahedral_group("Oh")


def gradient_of_divergence(field, grid):
    divergence = sum(derivative(field[:, i], grid, i) for i in range(3))
    return torch.stack([derivative(divergence, grid, axis) for axis in range(3)], dim=1)


def curl(field, grid):
    slope = [[derivative(field[:, i], grid, j) for j in range(3)] for i in range(3)]
    return torch.stack([slope[2][1] - slope[1][2], slope[0][2] - slope[2][0], slope[1][0] - slope[0][1]], dim=1)


@pytest.mark.parametrize("grid", [UNEQUAL, CHANNEL], ids=["periodic", "channel"])
def test_an_isotropic_operator_commutes_with_every_element_on_any_box(grid):
    error = equivariance_error(gradient_of_divergence, noise(grid, batch=2), grid, "1o")
    assert error.shape == (2, 48)
    assert error.max() < 1e-12


def test_output_type_counts():
    velocity = noise(UNEQUAL)
    assert equivariance_error(curl, velocity, UNEQUAL, "1o", "1e").max() < 1e-12
    wrong = equivariance_error(curl, velocity, UNEQUAL, "1o")[0]
    rotations = torch.as_tensor(rotation_elements())
    assert wrong[rotations].max() < 1e-12
    improper = torch.tensor([element not in rotations for element in range(48)])
    torch.testing.assert_close(wrong[improper], torch.full((24,), 2.0, dtype=torch.float64))  # the sign is wrong


def test_a_preferred_axis_is_measured_in_closed_form():
    strength = 0.1
    stretch = torch.tensor([1 + strength, 1, 1], dtype=torch.float64)[:, None, None, None]
    field = noise(UNEQUAL)
    power = (field**2).sum((0, 2, 3, 4))
    error = equivariance_error(lambda v, grid: stretch * v, field, UNEQUAL, "1o")[0]
    output = ((stretch * field) ** 2).sum()
    for element, matrix in enumerate(GROUP.matrices):
        came_from, goes_to = abs(matrix[0]).argmax(), abs(matrix[:, 0]).argmax()
        # (D g - g D) v: component 0 of g v gains what came from elsewhere, the image of component 0 loses it
        expected = 0 if goes_to == 0 else strength * ((power[came_from] + power[0]) / output).sqrt().item()
        assert error[element].item() == pytest.approx(expected, abs=1e-12)


def test_class_pools_and_separates_rotations():
    mirror_blind = torch.linspace(0, 1, UNEQUAL.shape[0], dtype=torch.float64)[:, None, None]

    def model(field, grid):
        return field * (1 + mirror_blind) if field.shape[2:] == UNEQUAL.shape else field

    field = noise(UNEQUAL, batch=3)
    metric, halves = EquivarianceError(irreps="1o"), EquivarianceError(irreps="1o")
    metric.update(model, field, UNEQUAL)
    halves.update(model, field[:1], UNEQUAL)
    halves.update(model, field[1:], UNEQUAL)
    result = metric.compute()
    torch.testing.assert_close(result["equivariance_error"], halves.compute()["equivariance_error"])
    per_element = result["equivariance_error_per_element"].y
    assert per_element[0] == 0 and result["equivariance_error_max"] == per_element.max() > 0.1
    torch.testing.assert_close(result["equivariance_error"], per_element.mean())
    torch.testing.assert_close(result["equivariance_error_rotations"], per_element[rotation_elements()].mean())


def test_rotations_are_half_of_the_group():
    rotations = rotation_elements()
    assert len(rotations) == 24 and rotations[0] == 0
    assert {round(np.linalg.det(GROUP.matrices[element])) for element in rotations} == {1}


def test_field_must_be_on_its_grid():
    with pytest.raises(ValueError, match="expected"):
        equivariance_error(lambda v, g: v, noise(CHANNEL), UNEQUAL, "1o")
