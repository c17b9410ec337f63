"""Order parameters: point clouds and fields whose missing cause is known."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from flowsr.group import octahedral_group, representation, transform_field
from flowsr.symmetry.equivariant import PARAMETER, FieldNetwork, PointNetwork, parameter_slices
from flowsr.symmetry.order_parameter import Fitting, order_parameter, sample_gradients
from flowsr.symmetry.words import describe, tensor_of

OH = octahedral_group("Oh")
SHARE = Fitting(iterations=40, rounds=0)


def rectangle(a, b):
    """Corners of a rectangle a x b in the plane z = 0, (1, 4, 3)."""
    return torch.tensor([[s * a / 2, t * b / 2, 0.0] for s in (1, -1) for t in (1, -1)], dtype=torch.float64)[None]


def smooth_fields(samples, cells, seed=0):
    noise = np.random.default_rng(seed).standard_normal((samples, 3, cells, cells, cells))
    return torch.from_numpy(gaussian_filter(noise, (0, 0, 0.8, 0.8, 0.8), mode="wrap"))


def coriolis(u, axis, angle=0.1):
    """u + angle (axis x u), what a frame that turns about ``axis`` does in a short time."""
    along = torch.tensor(axis, dtype=u.dtype)[:, None, None, None].expand_as(u)
    return u + angle * torch.linalg.cross(along, u, dim=1)


def random_parameter(batch, seed=1):
    return torch.randn(batch, 18, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def turned_parameter(parameter, g):
    matrix = torch.tensor(representation(" + ".join(PARAMETER), OH)[g])
    return parameter @ matrix.T


@pytest.fixture(scope="module")
def to_square():
    return order_parameter(PointNetwork(4.0), rectangle(0.5, 1.5), rectangle(1, 1), fitting=Fitting(150))


@pytest.fixture(scope="module")
def to_rectangle():
    return order_parameter(PointNetwork(4.0), rectangle(1, 1), rectangle(0.5, 1.5), fitting=Fitting(100, rounds=4))


class TestSquareAndRectangle:
    def test_less_symmetric_to_more_symmetric_is_learned_and_lacks_nothing(self, to_square):
        assert to_square.floor < 1e-9
        assert to_square.missing == ()
        assert to_square.kept.name == "Oh"
        assert to_square.loss == to_square.floor

    def test_more_symmetric_to_less_stops_at_the_analytic_floor(self, to_rectangle):
        # Every corner can only move along its diagonal, to (s, s, 0): (s - 1/4)^2 + (s - 3/4)^2 is least, 1/8, at 1/2,
        # and three components share it.
        assert to_rectangle.floor == pytest.approx(1 / 24, rel=1e-10)

    def test_gradient_is_x2_minus_y2_and_nothing_else(self, to_rectangle):
        wanted = np.zeros((3, 3))
        wanted[0, 0], wanted[1, 1] = 1, -1
        about_z = np.diag([-1.0, -1.0, 2.0])  # what the square itself has: it converges to zero with training
        basis = np.stack([tensor_of(row).ravel() for row in np.eye(5)], axis=1)
        found = {name: to_rectangle.gradients[name].copy() for name in PARAMETER}
        directions = [np.linalg.lstsq(basis, t.ravel(), rcond=None)[0] for t in (wanted, about_z)]
        first, second = (d / np.linalg.norm(d) for d in directions)
        size = abs(found["2e"] @ first)
        assert size > 1e-4
        assert abs(found["2e"] @ second) < 1e-5 * size and abs(found["0e"][0]) < 1e-5 * size
        rest = found.pop("2e")
        rest = rest - (rest @ first) * first - (rest @ second) * second
        del found["0e"]
        assert np.linalg.norm(rest) < 1e-12 * size
        assert all(np.linalg.norm(other) < 1e-12 * size for other in found.values())

    def test_it_is_named_and_learned(self, to_rectangle):
        assert to_rectangle.missing == ("2e",)
        assert to_rectangle.names == ("2e like x² - y²",)
        assert to_rectangle.kept.label == "D2h(100)"
        assert to_rectangle.loss < 1e-6
        assert np.any(to_rectangle.values["2e"]) and not np.any(to_rectangle.values["1o"])

    def test_turning_the_points_turns_the_name(self):
        swap = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)  # x -> y -> z -> x
        inputs, targets = rectangle(1, 1) @ swap.T, rectangle(0.5, 1.5) @ swap.T
        found = order_parameter(PointNetwork(4.0), inputs, targets, fitting=SHARE)
        assert found.names == ("2e like y² - z²",)


class TestFields:
    def test_rotation_is_an_axial_vector_along_its_axis(self):
        u = smooth_fields(12, 5)
        fitting = Fitting(iterations=40, rounds=1, parameter_iterations=8, network_iterations=10)
        found = order_parameter(FieldNetwork(copies=1), u, coriolis(u, (0.0, 0.0, 1.0)), fitting=fitting)
        assert found.names == ("1e along z",)
        assert found.kept.label == "C4h [001]"
        assert found.loss < 0.2 * found.floor

    def test_stratification_seen_by_velocity_alone_is_a_tensor_about_the_vertical(self):
        u = smooth_fields(12, 5)
        damped = u - 0.1 * u * torch.tensor([0.0, 0.0, 1.0], dtype=u.dtype)[:, None, None, None]
        found = order_parameter(FieldNetwork(copies=1), u, damped, fitting=SHARE)
        assert found.names == ("2e about z",)
        assert found.kept.label == "D4h [001]"

    def test_mean_wind_is_a_polar_vector_along_it(self):
        u = smooth_fields(12, 5)
        swept = u - 0.1 * (u.roll(-1, 2) - u.roll(1, 2)) / 2
        found = order_parameter(FieldNetwork(copies=1), u, swept, fitting=SHARE)
        assert found.names == ("1o along x",)
        assert found.kept.label == "C4v [100]"

    def test_diffusion_lacks_nothing(self):
        u = smooth_fields(12, 5)
        diffused = u + 0.1 * (sum(u.roll(s, d) for s in (1, -1) for d in (2, 3, 4)) - 6 * u)
        found = order_parameter(FieldNetwork(copies=1), u, diffused, fitting=Fitting(iterations=15, rounds=0))
        assert found.missing == () and found.kept.name == "Oh"
        assert set(found.p_values) == set(PARAMETER)

    def test_equal_calls_give_equal_numbers(self):
        u = smooth_fields(3, 4)
        short = Fitting(iterations=5, rounds=0)
        one, two = (
            order_parameter(FieldNetwork(copies=1), u, coriolis(u, (1.0, 0.0, 0.0)), fitting=short) for _ in "ab"
        )
        assert all(np.array_equal(one.gradients[name], two.gradients[name]) for name in PARAMETER)
        assert one.p_values == two.p_values


class TestNetworks:
    def test_points_turn_with_the_parameter_under_all_48(self):
        network, parameter = PointNetwork(4.0), random_parameter(2)
        points = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        moved = network(points, parameter)
        for g in range(48):
            r = torch.tensor(OH.matrices[g], dtype=torch.float64)
            assert torch.allclose(network(points @ r.T, turned_parameter(parameter, g)), moved @ r.T, atol=1e-11)

    def test_points_can_be_shifted_and_renumbered(self):
        network, parameter = PointNetwork(4.0), random_parameter(1)
        points = torch.randn(1, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        order = [3, 0, 4, 1, 2]
        shift = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
        expected = network(points, parameter)[:, order] + shift
        assert torch.allclose(network(points[:, order] + shift, parameter), expected, atol=1e-11)

    @pytest.mark.parametrize("irreps_in, irreps_out", [("1o", "1o"), ("0e + 1o", "1e")])
    def test_fields_turn_with_the_parameter_under_all_48(self, irreps_in, irreps_out):
        network, parameter = FieldNetwork(irreps_in, irreps_out, copies=1), random_parameter(1)
        size = representation(irreps_in, OH).shape[1]
        field = torch.randn(1, size, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        expected = network(field, parameter)
        for g in range(48):
            found = network(transform_field(field, g, irreps_in, OH), turned_parameter(parameter, g))
            wanted = transform_field(expected, g, irreps_out, OH)
            assert float(((found - wanted).norm() / wanted.norm()).detach()) < 1e-10

    def test_turning_a_sample_turns_its_gradient(self):
        network, u = FieldNetwork(copies=1), smooth_fields(2, 4)
        targets = coriolis(u, (0.0, 0.0, 1.0))
        before = sample_gradients(network, u, targets)
        for g in (1, 17, 30, 47):
            turned = (transform_field(f, g, "1o", OH) for f in (u, targets))
            after = sample_gradients(network, *turned)
            expected = turned_parameter(torch.tensor(before), g).numpy()
            assert np.abs(after - expected).max() < 1e-10 * np.abs(before).max()


class TestWords:
    @pytest.mark.parametrize(
        "irrep, vector, words",
        [
            ("1e", (0, 0, -2), "1e along z"),
            ("1o", (1, 1, 0), "1o along [110]"),
            ("1o", (3, 0, 4), "1o along (0.60, 0.00, 0.80)"),
            ("0o", (1,), "0o"),
            ("2e", (0, 0, 1, 0, 0), "2e about y"),
            ("2e", (1, 0, 0, 0, 0), "2e like xz"),
            ("2e", (0, 1, 0, 0, 0), "2e like xy"),
            ("2e", (0, 0, 0, 0, 1), "2e like x² - z²"),
        ],
    )
    def test_plain_cases(self, irrep, vector, words):
        assert describe(irrep, np.array(vector, dtype=float)) == words

    def test_tensors_are_traceless_and_turn_as_tensors(self):
        vector = np.random.default_rng(0).standard_normal(5)
        tensor = tensor_of(vector)
        assert abs(np.trace(tensor)) < 1e-12 and np.allclose(tensor, tensor.T)
        for g in range(48):
            r = OH.matrices[g]
            assert np.allclose(tensor_of(representation("2e", OH)[g] @ vector), r @ tensor @ r.T, atol=1e-12)

    def test_components_of_every_irrep(self):
        assert [s.stop - s.start for s in parameter_slices().values()] == [1, 1, 3, 3, 5, 5]


def test_targets_for_every_input():
    with pytest.raises(ValueError, match="as many targets"):
        order_parameter(PointNetwork(4.0), rectangle(1, 1), rectangle(1, 1)[:0])
