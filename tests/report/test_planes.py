import numpy as np
import pytest

from flowsr.grid import Grid
from flowsr.report.figures.slices import SliceSet, collect_slices, vorticity_magnitude


def box(shape, boundary=("periodic",) * 3):
    return Grid(shape, tuple(2 * np.pi / n for n in shape), boundary)


def abc(grid):
    """Arnold-Beltrami-Childress flow: its curl is itself."""
    x, y, z = np.meshgrid(*grid.coordinates(), indexing="ij")
    return np.stack([np.sin(z) + np.cos(y), np.sin(x) + np.cos(z), np.sin(y) + np.cos(x)])


def test_vorticity_of_a_beltrami_flow_is_its_velocity():
    grid = box((12, 16, 10))
    velocity = abc(grid)
    for layer in (0, 3, 9):
        expected = np.sqrt(np.sum(velocity[..., layer] ** 2, axis=0))
        np.testing.assert_allclose(vorticity_magnitude(velocity, grid, layer), expected, atol=1e-12)


def test_vorticity_of_a_shear_between_walls_is_its_slope():
    grid = Grid((6, 9, 5), (0.5, 0.25, 1.0), ("periodic", "wall", "open"))
    velocity = np.zeros((3, *grid.shape))
    velocity[0] = 3.0 * grid.coordinates()[1][None, :, None] - 4.0 * grid.coordinates()[2]
    np.testing.assert_allclose(vorticity_magnitude(velocity, grid, 0), 5.0, rtol=1e-12)


def test_planes_are_the_middle_ones_and_vorticity_is_over_its_rms():
    grid = box((16, 8, 12))
    truth = np.random.default_rng(0).standard_normal((3, *grid.shape))
    coarse = np.random.default_rng(1).standard_normal((3, 4, 2, 3))
    vorticity, component = collect_slices(
        truth, coarse, {"double": 2 * truth}, grid, velocity_unit="m/s", length_unit="m"
    )
    np.testing.assert_array_equal(component.truth, truth[0, :, :, 6])
    np.testing.assert_array_equal(component.coarse, coarse[0, :, :, 1])
    assert component.signed and component.unit == "m/s" and component.plane.endswith(" m")
    assert component.extent == pytest.approx((0, 2 * np.pi, 0, 2 * np.pi))
    assert np.sqrt(np.mean(vorticity.truth**2)) == pytest.approx(1.0)
    np.testing.assert_allclose(vorticity.panels["double"], 2 * vorticity.truth)
    assert not vorticity.signed and vorticity.truth.min() >= 0


def test_relative_error_is_over_the_variation_of_the_truth():
    grid = box((8, 8, 8))
    truth = np.random.default_rng(0).standard_normal((1, 8, 8, 8)) + 7.0
    (scalar,) = collect_slices(truth, truth[:, ::2, ::2, ::2], {"off": truth + 0.5}, grid)
    assert scalar.relative_error("off") == pytest.approx(0.5 / np.std(truth[0, :, :, 4]))


def test_fields_that_do_not_fit_are_refused():
    grid = box((8, 8, 8))
    truth = np.zeros((3, 8, 8, 8))
    with pytest.raises(ValueError, match="'wide'"):
        collect_slices(truth, truth[:, ::4, ::4, ::4], {"wide": np.zeros((3, 8, 8, 9))}, grid)
    with pytest.raises(ValueError, match="coarse"):
        collect_slices(truth, np.zeros((3, 2, 2, 4)), {}, grid)
    with pytest.raises(ValueError, match="'bad'"):
        SliceSet(
            "a",
            "a",
            "1",
            True,
            ("x", "y"),
            "1",
            (0, 1, 0, 1),
            "z = 0",
            truth[0, 0],
            {"bad": np.zeros((2, 2))},
            truth[0, 0],
        )
