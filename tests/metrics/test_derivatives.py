import math

import numpy as np
import pytest
import torch

from flowsr.grid import Grid
from flowsr.metrics import derivative, gradient, shared_work, velocity_gradient
from flowsr.metrics.derivatives import finite_difference_weights
from tests.metrics.fields import CHANNEL, UNEQUAL, mesh, noise, wave


@pytest.mark.parametrize("numbers", [(1, 0, 0), (2, -1, 3), (7, 5, -9), (0, 0, 0)])
def test_fourier_derivative_is_exact_for_every_resolved_mode(numbers):
    field, k = wave(UNEQUAL, numbers, [1.0, 0.0, 0.0])
    x, y, z = mesh(UNEQUAL)
    for axis in range(3):
        expected = -k[axis] * torch.sin(k[0] * x + k[1] * y + k[2] * z)
        torch.testing.assert_close(derivative(field, UNEQUAL, axis)[0, 0], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("cells", [7, 8])
def test_nyquist_mode_has_no_derivative_and_odd_sides_have_none(cells):
    grid = Grid((cells, 1, 1), (2 * math.pi / cells, 1, 1))
    field = torch.cos(torch.arange(cells, dtype=torch.float64) * math.pi).reshape(1, 1, cells, 1, 1)
    slope = derivative(field, grid, 0)
    assert (slope.abs().max() < 1e-12) == (cells % 2 == 0)
    assert not derivative(field, grid, 1).any()


def test_finite_differences_are_exact_to_fourth_degree_up_to_the_edge():
    _x, y, z = mesh(CHANNEL)
    field = (1 + 2 * y - y**2 + 3 * y**3 - y**4 + 0.5 * z**4)[None, None]
    torch.testing.assert_close(derivative(field, CHANNEL, 1)[0, 0], 2 - 2 * y + 9 * y**2 - 4 * y**3, atol=1e-11, rtol=0)
    torch.testing.assert_close(derivative(field, CHANNEL, 2)[0, 0], 2 * z**3, atol=1e-10, rtol=0)


def test_finite_differences_converge_with_the_fourth_order():
    def largest_error(cells):
        grid = Grid((1, cells, 1), (1, 2.0 / cells, 1), ("periodic", "wall", "periodic"))
        _, y, _ = mesh(grid)
        return (derivative(torch.sin(3 * y), grid, 1) - 3 * torch.cos(3 * y)).abs().max().item()

    order = math.log2(largest_error(40) / largest_error(80))
    assert 3.7 < order < 4.3


@pytest.mark.parametrize("boundary", ["wall", "open"])
@pytest.mark.parametrize("stretching", ["towards both ends", "towards one end", "towards the middle"])
def test_finite_differences_converge_with_the_fourth_order_on_stretched_axes(stretching, boundary):
    """Everywhere, the one-sided cells at the ends too: the error falls by 16 when a smooth stretching is refined."""

    def faces(cells):
        unit = np.linspace(-1, 1, cells + 1)
        if stretching == "towards both ends":
            return np.tanh(1.5 * unit) / np.tanh(1.5)
        return np.sinh(1.5 * unit) / np.sinh(1.5) if stretching == "towards the middle" else np.expm1(unit)

    def errors(cells):
        ends = faces(cells)
        low, side = float(ends[0]), float(ends[-1] - ends[0])
        centers = tuple((ends[1:] + ends[:-1]) / 2)
        boundaries, origin = ("periodic", "periodic", boundary), (0, 0, low)
        grid = Grid((1, 1, cells), (1, 1, side / cells), boundaries, origin, (None, None, centers))
        z = mesh(grid)[2]
        error = (derivative(torch.exp(z), grid, 2) - torch.exp(z)).abs()[0, 0]
        return error.max().item(), error[:2].max().item(), error[-2:].max().item()

    for coarse, fine in zip(errors(60), errors(120)):
        assert 3.6 < math.log2(coarse / fine) < 4.6


@pytest.mark.parametrize("cells", [2, 3, 4])
def test_few_cells_use_what_they_have(cells):
    grid = Grid((cells, 1, 1), (0.5, 1, 1), ("open", "periodic", "periodic"))
    x, _, _ = mesh(grid)
    torch.testing.assert_close(derivative(3 * x, grid, 0), torch.full_like(x, 3))


def test_weights_of_the_central_stencil_are_the_textbook_ones():
    expected = torch.tensor([1, -8, 0, 8, -1], dtype=torch.float64) / (12 * 0.1)
    actual = torch.as_tensor(finite_difference_weights(0.1 * torch.arange(-2, 3, dtype=torch.float64).numpy()))
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-12)


def test_gradient_orders_components_before_axes():
    field, k = wave(UNEQUAL, (1, 2, 3), [1.0, 2.0, 3.0])
    a = velocity_gradient(field, UNEQUAL)
    assert a.shape == (1, 3, 3, *UNEQUAL.shape)
    torch.testing.assert_close(a[:, 1, 2], derivative(field[:, 1], UNEQUAL, 2))
    torch.testing.assert_close(a[:, 2, 0] * 2, a[:, 1, 0] * 3)
    torch.testing.assert_close(a[:, 0, 1] * k[2], a[:, 0, 2] * k[1])


def test_shared_work_is_done_once_and_forgotten():
    field = noise(UNEQUAL)
    with shared_work():
        first = gradient(field, UNEQUAL)
        assert gradient(field, UNEQUAL) is first
        assert gradient(field.clone(), UNEQUAL) is not first
    assert gradient(field, UNEQUAL) is not first


def test_gradient_refuses_a_field_off_its_grid():
    with pytest.raises(ValueError, match="expected"):
        gradient(noise(UNEQUAL), CHANNEL)
    with pytest.raises(ValueError, match="velocity"):
        velocity_gradient(noise(UNEQUAL, components=2), UNEQUAL)
