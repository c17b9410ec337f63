import math

import numpy as np
import pytest
import torch

from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.metrics import METRICS, Curve, EquivarianceError, derivative, equivariance_error
from flowsr.metrics.equivariance import (
    IRREPS,
    equivariance_error_per_irrep,
    equivariance_error_per_shell,
    error_per_class,
    rotation_elements,
    symmetry_breaking,
)
from tests.metrics.fields import CHANNEL, UNEQUAL, noise, wave

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


SMALL = Grid((8, 6, 10), (0.5, 0.75, 0.5))


def about_the_centre(grid):
    middle = [origin + length / 2 for origin, length in zip(grid.origin, grid.lengths)]
    axes = (torch.as_tensor(c) - m for c, m in zip(grid.coordinates(), middle))
    return torch.meshgrid(*axes, indexing="ij")


# One polynomial of each irrep (Bradley & Cracknell's basis functions, up to factors).


POLYNOMIALS = {
    "A1g": lambda x, y, z: x**2 + y**2 + z**2,
    "A2g": lambda x, y, z: (x**2 - y**2) * (y**2 - z**2) * (z**2 - x**2),
    "Eg": lambda x, y, z: 2 * z**2 - x**2 - y**2,
    "T1g": lambda x, y, z: x * y * (x**2 - y**2),
    "T2g": lambda x, y, z: x * y,
    "A1u": lambda x, y, z: x * y * z * (x**2 - y**2) * (y**2 - z**2) * (z**2 - x**2),
    "A2u": lambda x, y, z: x * y * z,
    "Eu": lambda x, y, z: x * y * z * (x**2 - y**2),
    "T1u": lambda x, y, z: z,
    "T2u": lambda x, y, z: z * (x**2 - y**2),
}


@pytest.mark.parametrize("grid", [SMALL, CHANNEL], ids=["periodic", "channel"])
@pytest.mark.parametrize("name", IRREPS)
def test_a_factor_of_one_irrep_breaks_the_symmetry_in_that_irrep_alone(name, grid):
    polynomial = POLYNOMIALS[name]
    error = equivariance_error_per_irrep(
        lambda v, box: (1 + polynomial(*about_the_centre(box))) * v, noise(grid, batch=2), grid, "1o"
    )
    others = [i for i, irrep in enumerate(IRREPS) if irrep not in (name, "A1g")]
    assert error[:, others].max() < 1e-12
    if name == "A1g":
        assert error.max() < 1e-12
    else:
        assert error[:, IRREPS.index(name)].min() > 1e-4
        # no part of the factor is symmetric: the symmetrized output is v, and M(x) is away by the whole of it
        factor = polynomial(*about_the_centre(grid))
        v = noise(grid, batch=2)
        away = (factor * v).flatten(1).norm(dim=1) / ((1 + factor) * v).flatten(1).norm(dim=1)
        torch.testing.assert_close(error[:, 0], away)


def constant_tensor(v, matrix):
    return v + torch.einsum("ij,bjxyz->bixyz", torch.tensor(matrix, dtype=v.dtype), v)


@pytest.mark.parametrize(
    ("matrix", "irrep"),
    [
        ([[0.2, 0, 0], [0, -0.1, 0], [0, 0, -0.1]], "Eg"),  # a preferred axis of the cube
        ([[0, 0.1, 0], [0.1, 0, 0], [0, 0, 0]], "T2g"),  # strain in the plane of two of them
        ([[0, -0.1, 0], [0.1, 0, 0], [0, 0, 0]], "T1g"),  # a sense of rotation about an axis
    ],
)
def test_constant_tensors_carry_their_irrep_and_their_power(matrix, irrep):
    """A traceless D: m(g) = v + D^g v, its irrep holds the mean over g of ||D^g v||^2, A1g ||D v||^2."""
    field = noise(SMALL)
    error = equivariance_error_per_irrep(lambda v, grid: constant_tensor(v, matrix), field, SMALL, "1o")[0]
    power = constant_tensor(field, matrix).square().sum()
    turned = torch.as_tensor(
        np.einsum("gij,jk,glk->gil", GROUP.matrices.astype(float), np.array(matrix, dtype=float), GROUP.matrices)
    )
    images = torch.einsum("gij,bjxyz->gixyz", turned, field).square().sum((1, 2, 3, 4))
    expected = torch.zeros(10, dtype=torch.float64)
    expected[IRREPS.index(irrep)] = (images.mean() / power).sqrt()
    expected[0] = (images[0] / power).sqrt()
    torch.testing.assert_close(error, expected, atol=1e-12, rtol=1e-12)


def test_handedness_is_a1u_and_a_preferred_direction_t1u():
    handed = equivariance_error_per_irrep(lambda v, g: v + 0.1 * curl(v, g), noise(SMALL), SMALL, "1o")[0]
    pushed = equivariance_error_per_irrep(
        lambda v, g: v + torch.tensor([0.0, 0.3, 0.0], dtype=v.dtype)[:, None, None, None], noise(SMALL), SMALL, "1o"
    )[0]
    for error, irrep in ((handed, "A1u"), (pushed, "T1u")):
        breaking = error[1:]
        assert IRREPS[1 + int(breaking.argmax())] == irrep and breaking.max() > 0.05
        assert breaking.sum() - breaking.max() < 1e-12


def nonlinear(v, grid):
    return v + torch.einsum("i,bixyz->bxyz", torch.tensor([0.3, 0.1, 0.0], dtype=v.dtype), v)[:, None] * v.sin()


def test_powers_of_irreps_add_up_to_the_mean_square_error_and_classes_too():
    field = noise(SMALL, batch=2)
    found = symmetry_breaking(nonlinear, field, SMALL, "1o")
    torch.testing.assert_close(found.per_element, equivariance_error(nonlinear, field, SMALL, "1o"))
    mean_square = found.per_element.square().mean(-1)
    torch.testing.assert_close(found.per_irrep.square().sum(-1), mean_square)
    sizes = torch.tensor([len(members) for members in GROUP.classes], dtype=torch.float64)
    torch.testing.assert_close((sizes * found.per_class.square()).sum(-1) / 48, mean_square)
    assert found.per_class[:, 0].max() == 0 and (found.per_class[:, 1:] > 0).all()


def test_irrep_powers_do_not_depend_on_how_the_input_is_turned_but_for_the_reference():
    """m of a turned input is m translated over the group: the nine breaking powers stay, over the power of M at it."""
    field, element = noise(SMALL), 17
    from flowsr.group.fields import transform_field, transform_grid

    turned, box = transform_field(field, element, "1o", GROUP), transform_grid(SMALL, element, GROUP)
    before = equivariance_error_per_irrep(nonlinear, field, SMALL, "1o") * nonlinear(field, SMALL).norm()
    after = equivariance_error_per_irrep(nonlinear, turned, box, "1o") * nonlinear(turned, box).norm()
    torch.testing.assert_close(after[:, 1:], before[:, 1:])


def test_classes_are_means_of_squares():
    per_element = torch.arange(48, dtype=torch.float64)
    for found, members in zip(error_per_class(per_element), GROUP.classes):
        assert found.item() == pytest.approx(math.sqrt(sum(m**2 for m in members) / len(members)))


def doubled(v):
    return v.repeat_interleave(2, -1).repeat_interleave(2, -2).repeat_interleave(2, -3)


def test_shells_add_up_and_say_which_scales_are_broken():
    """Two waves of one direction; only the short one is stretched along x."""
    low, k_low = wave(UNEQUAL, (1, 0, 0), [0.0, 1.0, 0.0])
    high, k_high = wave(UNEQUAL, (0, 0, 6), [0.0, 1.0, 0.0])

    def model(v, grid):
        smooth = torch.fft.rfftn(v, dim=(2, 3, 4))
        k = [2 * math.pi * torch.fft.fftfreq(n, d, dtype=torch.float64) for n, d in zip(grid.shape, grid.spacing)]
        k[2] = k[2][: grid.shape[2] // 2 + 1].abs()
        size = (k[0][:, None, None] ** 2 + k[1][None, :, None] ** 2 + k[2] ** 2).sqrt()
        smooth[..., size > 2] = 0
        large = torch.fft.irfftn(smooth, s=grid.shape, dim=(2, 3, 4))
        stretch = torch.tensor([1.0, 1.5, 1.0], dtype=v.dtype)[:, None, None, None]
        return large + stretch * (v - large)

    k, error = equivariance_error_per_shell(model, low + high, UNEQUAL, "1o")
    assert error.shape == (1, 48, len(k))
    shell = {n: int((k - size).abs().argmin()) for n, size in (("low", k_low.norm()), ("high", k_high.norm()))}
    assert error[0, :, shell["low"]].max() < 1e-12
    goes_to_y = torch.as_tensor(abs(GROUP.matrices[:, 1, 1]) == 1)
    assert error[0, goes_to_y, shell["high"]].max() < 1e-12
    # elsewhere the wave along y is not stretched when it should be: 0.5 of 1.5
    torch.testing.assert_close(
        error[0, ~goes_to_y, shell["high"]], torch.full((int((~goes_to_y).sum()),), 1 / 3, dtype=torch.float64)
    )
    empty = [i for i in range(len(k)) if i not in shell.values()]
    assert torch.isnan(error[0][:, empty]).all()


def test_shells_of_a_refined_output_are_those_of_the_fine_grid():
    field = noise(SMALL)
    k, error = equivariance_error_per_shell(lambda v, g: nonlinear(doubled(v), g), field, SMALL, "1o")
    fine = SMALL.refined(2)
    assert error.shape[1:] == (48, len(k)) and k[-1] > math.pi / (2 * max(fine.spacing))
    assert error[0, 0].max() == 0 and torch.isfinite(error).all()
    k, error = equivariance_error_per_shell(lambda v, g: doubled(v), field, SMALL, "1o")
    assert error.max() < 1e-12
    with pytest.raises(ValueError, match="periodic"):
        equivariance_error_per_shell(nonlinear, noise(CHANNEL), CHANNEL, "1o")


@pytest.mark.parametrize("grid", [SMALL, CHANNEL], ids=["periodic", "channel"])
def test_class_pools_powers_and_gives_the_plain_error_too(grid):
    field = noise(grid, batch=3)
    whole, parts, plain = (METRICS[name]() for name in ("symmetry_breaking", "symmetry_breaking", "equivariance"))
    whole.update(nonlinear, field, grid)
    plain.update(nonlinear, field, grid)
    for one in field:
        parts.update(nonlinear, one[None], grid)
    result, again = whole.compute(), parts.compute()
    assert result.keys() == whole.scalars.keys() | whole.curves.keys() == again.keys()
    for key, value in result.items():
        for one, other in zip(value, again[key]) if isinstance(value, Curve) else [(value, again[key])]:
            torch.testing.assert_close(one, other, equal_nan=True)
    for key, value in plain.compute().items():
        torch.testing.assert_close(result[key], value)
    squares = torch.stack([result[f"breaking_{name}"] for name in IRREPS[1:]]).square().sum()
    assert 0 < squares < result["equivariance_error_per_element"].y.square().mean()
    shells = result["equivariance_error_per_shell"]
    assert (len(shells.x) > 0) == grid.periodic and shells.x.shape == shells.y.shape


def test_rotations_of_a_handed_model_are_exact_shell_by_shell():
    metric = METRICS["symmetry_breaking"]()
    result = metric(lambda v, g: v + 0.1 * curl(v, g), noise(SMALL), SMALL)
    assert result["equivariance_error_per_shell_rotations"].y.max() < 1e-12
    assert result["equivariance_error_per_shell"].y.min() > 1e-3
    assert result["equivariance_error_rotations"] < 1e-12 and len(rotation_elements()) == 24
