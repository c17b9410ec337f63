import math

import pytest
import torch

from flowsr.grid import Grid
from flowsr.metrics import METRICS, structure_functions
from flowsr.metrics.structure_functions import Separations
from tests.metrics.fields import STRETCHED, mesh, noise, wave

SIDES = Grid((16, 24, 32), (0.25,) * 3)
OPEN = Grid((20, 16, 16), (0.1, 0.13, 0.2), ("open",) * 3)


def test_separations_are_whole_cells_where_spacings_are_equal():
    separations = Separations.of(SIDES)
    assert separations.separation.tolist() == pytest.approx([0.25 * n for n in (1, 2, 3, 4, 6, 8)])
    assert not separations.share.any()
    assert Separations.of(SIDES, largest=4).separation.max() == 1
    assert Separations.of(STRETCHED).axes == (0, 2)
    assert (Separations.of(OPEN, largest=7).cells <= 7).all() and Separations.of(OPEN, largest=7).share.any()


@pytest.mark.parametrize("numbers", [(1, 2, 1), (2, 0, -3)])
def test_moments_of_a_wave(numbers):
    """du = -2 a sin(k r / 2) sin(phase): <du^2> = 2 s^2, <du^4> = 6 s^4, s = a sin(k r / 2), <du^3> = 0."""
    amplitude = torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64)
    field, k = wave(SIDES, numbers, amplitude)
    found = structure_functions(field, SIDES)
    sine = torch.sin(k[:, None] * found.separation / 2)
    along = amplitude[:, None] * sine
    across = (amplitude.square().sum() - amplitude**2)[:, None] * sine**2
    across_4 = ((amplitude**4).sum() - amplitude**4)[:, None] * sine**4
    torch.testing.assert_close(found.second_longitudinal[0], 2 * (along**2).mean(0))
    torch.testing.assert_close(found.second_transverse[0], across.mean(0))
    torch.testing.assert_close(found.fourth_longitudinal[0], 6 * (along**4).mean(0))
    torch.testing.assert_close(found.fourth_transverse[0], 3 * across_4.mean(0))
    assert found.third_longitudinal.abs().max() < 1e-13


@pytest.mark.parametrize("sign", [1, -1])
def test_uniform_expansion_and_compression_scale_exactly_on_unequal_spacings(sign):
    field = sign * torch.stack(mesh(OPEN))[None]
    found = structure_functions(field, OPEN)
    r = found.separation
    assert len(r) >= 3 and Separations.of(OPEN).share.any()
    for name, order in (("second", 2), ("absolute_third", 3), ("fourth", 4)):
        torch.testing.assert_close(getattr(found, f"{name}_longitudinal")[0], r**order)
        assert getattr(found, f"{name}_transverse").abs().max() < 1e-20
    torch.testing.assert_close(found.third_longitudinal[0], sign * r**3)


def test_shear_is_transverse():
    _, y, _ = mesh(OPEN)
    found = structure_functions(torch.stack([y, 0 * y, 0 * y])[None], OPEN)
    assert found.second_longitudinal.abs().max() < 1e-20
    torch.testing.assert_close(found.second_transverse[0], found.separation**2 / 6)  # one of three axes, one of two
    torch.testing.assert_close(found.absolute_third_transverse[0], found.separation**3 / 6)


def test_exponents_are_slopes_over_the_absolute_third_order():
    field = torch.stack(mesh(OPEN))[None]
    found = structure_functions(field, OPEN)
    flux = found.absolute_third_longitudinal / found.separation
    assert found.in_scaling_range[0].tolist() == (flux[0] >= 0.8 * flux.max()).tolist()
    assert found.exponent("second_longitudinal").isnan().all()  # r^2 has no plateau of three separations
    wide = type(found)(*(torch.linspace(1, 5, 9, dtype=torch.float64) ** p for p in (1, 0.7, 1, 1, 1.28, 0.68, 1, 1.2)))
    assert wide.in_scaling_range.all()
    for moment, slope in (
        ("second_longitudinal", 0.7),
        ("fourth_longitudinal", 1.28),
        ("second_transverse", 0.68),
        ("fourth_transverse", 1.2),
    ):
        assert wide.exponent(moment).item() == pytest.approx(slope)


def test_scaling_range_is_the_stretch_around_the_peak():
    r = torch.tensor([1.0, 2, 3, 4, 6, 8, 12], dtype=torch.float64)
    flux = torch.tensor([0.1, 0.85, 0.7, 0.9, 1.0, 0.82, 0.5], dtype=torch.float64)
    ones = torch.ones_like(r)
    found = type(structure_functions(noise(SIDES), SIDES))(r, ones, ones, flux * r, ones, ones, ones, ones)
    assert found.in_scaling_range.tolist() == [False, False, False, True, True, True, False]


def test_metric_holds_its_functions_and_pools_moments():
    prediction, target = noise(SIDES, 1, batch=2) ** 3, noise(SIDES, 2, batch=2)
    result = METRICS["structure_functions"]()(prediction, target, SIDES)
    found = structure_functions(prediction, SIDES)
    for order, name in ((2, "second"), (4, "fourth")):
        for kind in ("longitudinal", "transverse"):
            curve = result[f"structure_function_{order}_{kind}"]
            torch.testing.assert_close(curve.y, getattr(found, f"{name}_{kind}").mean(0))
            assert torch.equal(curve.x, found.separation)
    compensated = result["structure_function_3_compensated"].y
    torch.testing.assert_close(compensated, -found.third_longitudinal.mean(0) / found.separation)
    assert result["scaling_range_start"] <= result["scaling_range_end"]


def test_white_noise_increments_are_twice_the_variance_everywhere():
    grid = Grid((32, 32, 32), (0.1, 0.1, 0.1))
    found = structure_functions(noise(grid), grid)
    second = found.second_longitudinal
    torch.testing.assert_close(second, torch.full_like(second, 2), rtol=0.03, atol=0)
    flatness = found.fourth_transverse / found.second_transverse**2
    torch.testing.assert_close(flatness, torch.full_like(flatness, 3), rtol=0.03, atol=0)
    gaussian = found.absolute_third_longitudinal / second**1.5
    torch.testing.assert_close(gaussian, torch.full_like(gaussian, math.sqrt(8 / math.pi)), rtol=0.03, atol=0)


def test_between_walls_pairs_lie_along_them():
    _, y, _ = mesh(STRETCHED)
    field = torch.stack([y**2, y, torch.sin(y)])[None]
    found = structure_functions(field, STRETCHED)
    assert found.second_transverse.abs().max() == 0 and found.second_longitudinal.abs().max() == 0


def test_a_velocity_has_three_components():
    with pytest.raises(ValueError, match="velocity"):
        structure_functions(noise(SIDES, components=1), SIDES)
