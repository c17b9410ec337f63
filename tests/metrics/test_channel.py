"""Reynolds stress, Lumley's invariants, and profiles in wall units."""

import math

import numpy as np
import pytest
import torch

from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field, transform_grid
from flowsr.metrics import METRICS, anisotropy, lumley_invariants, reynolds_stress, wall_profiles
from tests.metrics.fields import CHANNEL, STRETCHED, UNEQUAL, mesh, noise, wave

GROUP = octahedral_group("Oh")
HALF, VISCOSITY = 1.5, 0.01


def two_component_distance(xi, eta):
    """27 det(R_ij / R_kk): 0 where one component vanishes, 1 for isotropy; Choi & Lumley, J. Fluid Mech. 436, 59."""
    return 1 - 27 * eta**2 + 54 * xi**3


def channel_grid(cells=24, axis=1, stretched=True):
    """A channel of height 3 whose cells are finer at the walls; the wall-normal axis may be any."""
    faces = HALF * np.tanh(1.8 * np.linspace(-1, 1, cells + 1)) / np.tanh(1.8)
    centers = tuple(2.0 + (faces[1:] + faces[:-1]) / 2)
    shape, spacing, boundary, origin, listed = [8, 8, 8], [0.3, 0.3, 0.2], ["periodic"] * 3, [0.0] * 3, [None] * 3
    shape[axis], spacing[axis], boundary[axis], origin[axis] = cells, 2 * HALF / cells, "wall", 2.0 - HALF
    listed[axis] = centers if stretched else None
    return Grid(tuple(shape), tuple(spacing), tuple(boundary), tuple(origin), tuple(listed))


def parabola(grid, flow, axis=1):
    """U = 2 (1 - (y/h)^2) along ``flow``, with u', v', w' of rms 0.3, 0.1 and 0.2 times 1 - (y/h)^2; <u'v'> the same
    function times -0.02 y/h."""
    across = 3 - flow - axis
    coordinates = mesh(grid)
    height = (coordinates[axis] - 2.0) / HALF
    shape = 1 - height**2
    one, other = (2 * math.pi * coordinates[a] / grid.lengths[a] for a in (flow, across))
    field = torch.zeros((1, 3, *grid.shape), dtype=torch.float64)
    root = math.sqrt(2)
    field[0, flow] = 2 * shape + 0.3 * root * shape * torch.cos(one)
    # the part of v' in phase with u' makes <u'v'> = -0.02 shape^2 height, the rest fills <v'v'> up to 0.01 shape^2
    along = -0.02 / 0.3 * height
    field[0, axis] = root * shape * (along * torch.cos(one) + torch.sqrt(0.01 - along**2) * torch.sin(one))
    field[0, across] = 0.2 * root * shape * torch.cos(other)
    return field


def test_reynolds_stress_of_waves_on_unequal_sides():
    field = wave(UNEQUAL, (1, 2, 0), [1.0, 2.0, 0.0])[0] + wave(UNEQUAL, (0, 1, 3), [0.0, 0.0, 3.0])[0] + 5.0
    expected = torch.tensor([[0.5, 1.0, 0], [1.0, 2.0, 0], [0, 0, 4.5]], dtype=torch.float64)
    torch.testing.assert_close(reynolds_stress(field, UNEQUAL)[0], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("stress", "xi", "eta", "distance"),
    [
        ([1, 1, 1], 0, 0, 1),
        ([1, 0, 0], 1 / 3, 1 / 3, 0),  # one component
        ([1, 1, 0], -1 / 6, 1 / 6, 0),  # two, equal
        ([2, 1, 1], 1 / 12, 1 / 12, 27 * 2 / 64),  # a cigar
        ([2, 2, 1], -1 / 15, 1 / 15, 27 * 4 / 125),  # a pancake
    ],
)
def test_corners_and_edges_of_the_lumley_triangle(stress, xi, eta, distance):
    turn = torch.linalg.qr(torch.randn((3, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    turned = turn @ torch.diag(torch.tensor(stress, dtype=torch.float64)) @ turn.T
    found = lumley_invariants(torch.stack([turned, 7 * turned]))
    for value, expected in zip(found, (xi, eta)):
        torch.testing.assert_close(
            value, torch.full((2,), expected, dtype=torch.float64), atol=1e-6 if xi == 0 else 1e-12, rtol=0
        )
    torch.testing.assert_close(two_component_distance(*found)[0].item(), float(distance), atol=1e-6, rtol=0)
    assert anisotropy(turned).trace().abs() < 1e-14


def test_every_realizable_stress_lies_in_the_triangle():
    root = torch.randn((500, 3, 3), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    xi, eta = lumley_invariants(root @ root.mT)
    assert (xi.abs() <= eta + 1e-12).all() and (two_component_distance(xi, eta) >= -1e-12).all()


def test_class_takes_the_mean_of_everything_off():
    """Two uniform snapshots of opposite velocity are all fluctuation."""
    up = torch.zeros((1, 3, *UNEQUAL.shape), dtype=torch.float64)
    up[:, 0] = 1
    metric = METRICS["anisotropy"]()
    metric.update(torch.cat([up, -up]), torch.cat([2 * up, -2 * up]), UNEQUAL)
    result = metric.compute()
    assert result["lumley_xi"].item() == pytest.approx(1 / 3) and result["lumley_eta"].item() == pytest.approx(1 / 3)
    assert result["reynolds_stress_error"].item() == pytest.approx(3 / 4)


def test_stretched_boxes_count_cells_by_their_size():
    _, y, _ = mesh(STRETCHED)
    widths = torch.as_tensor(STRETCHED.widths()[1])
    values = torch.as_tensor(STRETCHED.coordinates()[1])
    mean = (widths * values).sum() / widths.sum()
    variance = (widths * values**2).sum() / widths.sum() - mean**2
    stress = reynolds_stress(torch.stack([y, 0 * y, 2 * y])[None], STRETCHED)[0]
    expected = variance * torch.tensor([[1, 0, 2], [0, 0, 0], [2, 0, 4]], dtype=torch.float64)
    torch.testing.assert_close(stress, expected, atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("cells", [23, 24])
@pytest.mark.parametrize(("axis", "flow"), [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)])
def test_profiles_of_a_parabolic_channel_whichever_axis_is_which(axis, flow, cells):
    grid = channel_grid(cells, axis)
    profiles = wall_profiles(parabola(grid, flow, axis), grid, VISCOSITY)
    y = profiles.distance
    assert len(y) == (cells + 1) // 2 and (y.diff() > 0).all() and y[0] > 0
    assert profiles.half_height.item() == pytest.approx(HALF)
    # dU/dy = 4 / h at the wall, and a parabola is a polynomial
    friction = math.sqrt(VISCOSITY * 4 / HALF)
    assert profiles.friction_velocity.item() == pytest.approx(friction, rel=1e-9)
    assert profiles.reynolds_tau.item() == pytest.approx(friction * HALF / VISCOSITY, rel=1e-9)
    height = y / HALF - 1  # as seen from the lower wall
    shape = 1 - height**2
    torch.testing.assert_close(profiles.mean, 2 * shape)
    expected = torch.zeros((len(y), 3, 3), dtype=torch.float64)
    for n, square in enumerate((0.09, 0.01, 0.04)):
        expected[:, n, n] = square * shape**2
    expected[:, 0, 1] = expected[:, 1, 0] = -0.02 * shape**2 * height
    torch.testing.assert_close(profiles.stress.abs(), expected.abs(), atol=1e-13, rtol=1e-9)
    # away from the wall is up in the lower half: there <u'v'> has the sign that was put in
    torch.testing.assert_close(profiles.stress[:, 0, 1], expected[:, 0, 1], atol=1e-13, rtol=1e-9)


def test_both_ways_to_write_a_channel_give_the_same_friction():
    for grid in (channel_grid(40, stretched=False), channel_grid(40)):
        assert wall_profiles(parabola(grid, 0), grid, VISCOSITY).friction_velocity.item() == pytest.approx(
            math.sqrt(VISCOSITY * 4 / HALF), rel=1e-9
        )


def test_friction_converges_with_the_fourth_order():
    def error(cells):
        grid = channel_grid(cells, stretched=False)
        distance = (mesh(grid)[1] - (2.0 - HALF)) * math.pi / (2 * HALF)
        field = torch.stack([torch.sin(distance), 0 * distance, 0 * distance])[None]
        shear = wall_profiles(field, grid, 1.0).friction_velocity.item() ** 2
        return abs(shear - math.pi / (2 * HALF))

    assert 3.7 < math.log2(error(40) / error(80)) < 4.6


def test_class_scales_by_the_true_friction_and_reports_the_predicted_one():
    grid = channel_grid(24)
    target = parabola(grid, 0)
    result = METRICS["walls"](viscosity=VISCOSITY)(1.21 * target, target, grid)
    friction = math.sqrt(VISCOSITY * 4 / HALF)
    assert result["friction_velocity"].item() == pytest.approx(1.1 * friction)
    assert result["reynolds_tau"].item() == pytest.approx(1.1 * friction * HALF / VISCOSITY)
    assert result["mean_profile_error"].item() == pytest.approx(0.21)
    assert result["stress_profile_error"].item() == pytest.approx(1.21**2 - 1)
    mean, shear = result["mean_velocity_plus"], result["shear_stress_plus"]
    y = wall_profiles(target, grid, VISCOSITY).distance
    torch.testing.assert_close(mean.x, y * friction / VISCOSITY)
    torch.testing.assert_close(mean.y, 1.21 * 2 * (1 - (y / HALF - 1) ** 2) / friction)
    torch.testing.assert_close(mean.y[0] / 1.21, mean.x[0], atol=0, rtol=0.05)  # u+ = y+ in the viscous layer
    height = y / HALF - 1
    torch.testing.assert_close(shear.y, 1.21**2 * 0.02 * (1 - height**2) ** 2 * height / friction**2)
    rms = result["spanwise_rms_plus"].y
    torch.testing.assert_close(rms, 1.21 * 0.2 * (1 - height**2) / friction)
    xi, eta = result["lumley_xi_profile"].y, result["lumley_eta_profile"].y
    assert (xi.abs() <= eta + 1e-12).all() and (eta > 0.1).all()


def test_snapshots_are_averaged_before_the_mean_is_taken_off():
    grid, flow = channel_grid(12), parabola(channel_grid(12), 0)
    faster = flow.clone()
    faster[:, 0] += 0.5
    metric = METRICS["walls"](viscosity=VISCOSITY)
    metric.update(flow, flow, grid)
    metric.update(faster, faster, grid)
    both = torch.cat([flow, faster])
    pooled = wall_profiles(both, grid, VISCOSITY)
    alone = wall_profiles(flow, grid, VISCOSITY)
    torch.testing.assert_close(pooled.stress[:, 0, 0], alone.stress[:, 0, 0] + 0.25**2)
    found = metric.compute()["streamwise_rms_plus"].y * pooled.friction_velocity
    torch.testing.assert_close(found**2, pooled.stress[:, 0, 0])


@pytest.mark.parametrize("cells", [11, 12])
def test_wall_units_are_the_same_under_all_48(cells):
    """Odd numbers of cells have one in the middle, which is as far from both walls."""
    grid = channel_grid(cells)
    target = parabola(grid, 2) + 0.1 * noise(grid, seed=1)
    prediction = target + 0.1 * noise(grid, seed=2)
    expected = METRICS["walls"](viscosity=VISCOSITY)(prediction, target, grid)
    for element in range(48):
        turned = [transform_field(field, element, "1o", GROUP) for field in (prediction, target)]
        box = transform_grid(grid, element, GROUP)
        found = METRICS["walls"](viscosity=VISCOSITY)(*turned, box)
        for key, value in expected.items():
            one, other = (torch.cat(list(v)) if isinstance(v, tuple) else v for v in (found[key], value))
            torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def test_walls_that_are_not_mirror_images_keep_a_point_per_cell():
    profiles = wall_profiles(noise(STRETCHED), STRETCHED, VISCOSITY)
    assert len(profiles.distance) == STRETCHED.shape[1] and (profiles.distance.diff() >= 0).all()


def test_a_centre_on_the_wall_is_not_counted_twice():
    centers = tuple(np.linspace(-1, 1, 21))
    grid = Grid((4, 21, 4), (1, 2 / 21, 1), ("periodic", "wall", "periodic"), (0, -1, 0), (None, centers, None))
    _, y, _ = mesh(grid)
    field = torch.stack([1 - y**2, 0 * y, 0 * y])[None]
    assert wall_profiles(field, grid, 1.0).friction_velocity.item() == pytest.approx(math.sqrt(2), rel=1e-9)


def test_what_is_no_channel_is_refused():
    for grid in (UNEQUAL, CHANNEL):
        with pytest.raises(ValueError, match="walls along one axis"):
            wall_profiles(noise(grid), grid, 1.0)
    with pytest.raises(ValueError, match="viscosity"):
        METRICS["walls"]()(noise(STRETCHED), noise(STRETCHED), STRETCHED)
