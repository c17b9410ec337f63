import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsr.grid import Grid
from flowsr.metrics import (
    METRICS,
    cutoff_wavenumber,
    dissipation,
    energy_spectrum,
    field_error_per_wavenumber,
    nrmse_beyond,
    spectral_error,
    spectral_error_per_wavenumber,
)
from flowsr.metrics.spectra import compensated_spectrum, dissipation_spectrum, shell_sums, shells_of
from tests.metrics.fields import CHANNEL, CUBE, UNEQUAL, abc, field_of_spectrum, noise, taylor_green, wave


def kinetic_energy(field):
    return 0.5 * (field**2).sum(1).mean((1, 2, 3))


sides = st.integers(1, 9)


spacings = st.floats(0.1, 3)


@given(st.tuples(sides, sides, sides), st.tuples(spacings, spacings, spacings), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_energy_of_all_shells_is_the_kinetic_energy_on_any_box(shape, spacing, seed):
    grid = Grid(shape, spacing)
    field = noise(grid, seed, batch=2) + 0.3
    wavenumber, density = energy_spectrum(field, grid)
    width = max(2 * math.pi / length for length in grid.lengths)
    torch.testing.assert_close(density.sum(1) * width, kinetic_energy(field))
    assert wavenumber[0] == 0 and np.allclose(np.diff(wavenumber), width)


@pytest.mark.parametrize("numbers", [(1, 0, 0), (0, 1, 0), (3, -2, 5), (-2, 4, 1)])
def test_a_single_mode_lies_in_its_shell(numbers):
    field, k = wave(UNEQUAL, numbers, [1.0, -2.0, 0.5])
    wavenumber, density = energy_spectrum(field, UNEQUAL)
    width = 2.0  # the shortest side is pi
    shell = math.floor(k.norm().item() / width + 0.5)
    assert wavenumber[shell] == pytest.approx(width * shell)
    energy = density[0] * width
    assert energy[shell].item() == pytest.approx(5.25 / 4, rel=1e-12)
    assert energy.sum().item() == pytest.approx(5.25 / 4, rel=1e-12)


def test_taylor_green_and_beltrami_flow_have_their_known_shells():
    _, density = energy_spectrum(torch.cat([taylor_green(CUBE), abc(CUBE)]), CUBE)
    expected = torch.zeros_like(density)
    expected[0, 2] = 1 / 8  # |k| = sqrt(3)
    expected[1, 1] = (1 + 0.7**2 + 0.4**2) / 2  # |k| = 1
    torch.testing.assert_close(density, expected, atol=1e-14, rtol=1e-12)


def test_shells_count_modes_and_volumes():
    shells = shells_of(CUBE)
    assert shells.modes[:3].tolist() == [1, 18, 62]
    assert shells.modes.sum() == 24**3
    assert shells.expected[1] == pytest.approx(4 / 3 * math.pi * (1.5**3 - 0.5**3))
    assert shells.wavenumber[shells.complete].max() == pytest.approx(11)  # 11.5 <= 12 < 12.5
    assert shells_of(UNEQUAL).modes.sum() == 16 * 12 * 20


def test_shells_do_not_depend_on_the_order_of_the_axes():
    for order in [(1, 2, 0), (2, 1, 0), (0, 2, 1)]:
        turned = Grid(tuple(UNEQUAL.shape[i] for i in order), tuple(UNEQUAL.spacing[i] for i in order))
        np.testing.assert_array_equal(shells_of(turned).modes, shells_of(UNEQUAL).modes)
        np.testing.assert_array_equal(shells_of(turned).complete, shells_of(UNEQUAL).complete)


@pytest.mark.parametrize("grid", [CUBE, UNEQUAL], ids=["cube", "unequal"])
def test_volume_estimate_is_exact_for_equal_modes_in_every_shell_also_the_corners(grid):
    impulse = torch.zeros((1, 1, *grid.shape), dtype=torch.float64)
    impulse[0, 0, 0, 0, 0] = math.prod(grid.shape)  # every Fourier coefficient has modulus 1
    shells = shells_of(grid)
    _wavenumber, density = energy_spectrum(impulse, grid, "volume")
    torch.testing.assert_close(density[0, 1:], torch.as_tensor(0.5 * shells.expected[1:] / shells.width))
    _, ragged = energy_spectrum(impulse, grid, "sum")
    assert (ragged / density - 1)[0, 1:].abs().max() > 0.3


def test_volume_estimate_gives_back_the_spectrum_of_a_random_field_on_an_unequal_box():
    grid = Grid((32, 24, 40), (2 * math.pi / 32, 1.5 * math.pi / 24, 3 * math.pi / 40))

    def model(k):
        return k**4 * np.exp(-0.5 * k)

    wavenumber, density = energy_spectrum(field_of_spectrum(grid, model), grid, "volume")
    inside = torch.as_tensor(shells_of(grid).complete) & (wavenumber > 3)
    assert inside.sum() >= 5
    expected = torch.as_tensor(model(wavenumber[inside].numpy()))
    torch.testing.assert_close(density[0, inside], expected, rtol=0.03, atol=0)


def test_spectral_error_sees_energy_and_field_error_sees_phase():
    target = field_of_spectrum(CUBE, lambda k: k**-2.0, seed=1)
    moved = field_of_spectrum(CUBE, lambda k: k**-2.0, seed=2)
    louder = 1.1 * target
    torch.testing.assert_close(spectral_error(louder, target, CUBE), torch.tensor([0.21], dtype=torch.float64))
    wavenumber, error = spectral_error_per_wavenumber(moved, target, CUBE)
    assert wavenumber.tolist() == pytest.approx(range(1, 12))
    assert error.max() < 1e-10
    field_error = field_error_per_wavenumber(moved, target, CUBE).y
    assert 1.5 < field_error[0, 5:].mean() < 2.5
    torch.testing.assert_close(field_error_per_wavenumber(louder, target, CUBE).y, torch.full_like(field_error, 0.01))


def test_errors_beyond_the_cutoff_ignore_what_is_below_it():
    target = field_of_spectrum(CUBE, lambda k: k**-2.0)
    low = torch.fft.rfftn(target, dim=(2, 3, 4))
    index = torch.as_tensor(shells_of(CUBE).index)
    low[..., index > 6] = 0
    smooth = torch.fft.irfftn(low, s=CUBE.shape, dim=(2, 3, 4))
    cutoff = cutoff_wavenumber(CUBE, 2)
    assert cutoff == pytest.approx(6)
    one = torch.ones(1, dtype=torch.float64)
    torch.testing.assert_close(spectral_error(smooth, target, CUBE, beyond=cutoff), one)
    torch.testing.assert_close(nrmse_beyond(smooth, target, CUBE, cutoff), one)
    torch.testing.assert_close(spectral_error(smooth, target, CUBE), one * 5 / 11)  # shells 7 to 11 of 1 to 11
    assert nrmse_beyond(target + abc(CUBE), target, CUBE, cutoff).item() < 1e-12


def test_shells_that_hold_only_rounding_are_left_out():
    target, prediction = taylor_green(CUBE), 1.1 * taylor_green(CUBE) + 1e-9 * noise(CUBE)
    _, error = spectral_error_per_wavenumber(prediction, target, CUBE)
    assert torch.isnan(error[0]).sum() == 10 and error[0, 1].item() == pytest.approx(0.21, abs=1e-6)
    assert spectral_error(prediction, target, CUBE).item() == pytest.approx(0.21, abs=1e-6)


def test_coarsest_axis_sets_the_cutoff():
    assert cutoff_wavenumber(UNEQUAL, 2) == pytest.approx(math.pi / (2 * 3 * math.pi / 20))


def test_walls_have_no_shells():
    with pytest.raises(ValueError, match="periodic"):
        energy_spectrum(noise(CHANNEL), CHANNEL)


WIDE = Grid((32, 24, 40), (2 * math.pi / 32, 1.5 * math.pi / 24, 3 * math.pi / 40))


@pytest.mark.parametrize("flow", [taylor_green, abc])
def test_dissipation_spectrum_adds_up_to_the_dissipation(flow):
    wavenumber, density = dissipation_spectrum(flow(CUBE), CUBE, 0.3)
    assert density.sum().item() == pytest.approx(dissipation(flow(CUBE), CUBE, 0.3).item(), rel=1e-12)
    shell = 2 if flow is taylor_green else 1
    assert (density[0] > 1e-12).nonzero().item() == shell and wavenumber[shell] == shell


def test_every_mode_counts_with_its_own_wavenumber():
    field, k = wave(UNEQUAL, (3, -1, 2), [1.0, 0.5, 2.0])
    square = k.square().sum().item()
    assert shell_sums(field, UNEQUAL, power=2).sum().item() == pytest.approx(square * 5.25 / 2, rel=1e-12)
    off_centre = (math.floor(math.sqrt(square) / 2 + 0.5) * 2) ** 2
    assert abs(off_centre / square - 1) > 0.02


def test_a_five_thirds_spectrum_is_flat_when_compensated_on_an_unequal_box():
    eps, constant = 0.7, 1.6
    field = field_of_spectrum(WIDE, lambda k: constant * eps ** (2 / 3) * np.maximum(k, 1e-9) ** (-5 / 3))
    wavenumber, values = compensated_spectrum(field, WIDE, eps)
    inside = torch.as_tensor(shells_of(WIDE).complete) & (wavenumber > 5)
    assert inside.sum() >= 5
    torch.testing.assert_close(values[0, inside], torch.full_like(values[0, inside], constant), rtol=0.06, atol=0)


def test_class_scales_with_the_dissipation_of_the_truth():
    target = field_of_spectrum(WIDE, lambda k: np.maximum(k, 1e-9) ** (-5 / 3), seed=3)
    result = METRICS["spectral_ranges"](factor=2, viscosity=0.02)(0.5 * target, target, WIDE)
    eps = 0.02 * shell_sums(target, WIDE, power=2).sum()
    k, expected = compensated_spectrum(0.5 * target, WIDE, eps)
    shown = torch.as_tensor(shells_of(WIDE).complete) & (k > 0)
    torch.testing.assert_close(result["kolmogorov_spectrum"].y, expected[0, shown])
    torch.testing.assert_close(result["compensated_spectrum"].y * eps ** (-2 / 3), expected[0, shown])
    assert result["dissipation_captured_beyond_cutoff"].item() == pytest.approx(0.25)
    k, density = dissipation_spectrum(0.5 * target, WIDE)
    torch.testing.assert_close(result["dissipation_spectrum"].y, density[0, shown])
    assert result["dissipation_peak"] == k[shown][density[0, shown].argmax()]
    unknown = METRICS["spectral_ranges"]()(target, target, WIDE)
    assert unknown["kolmogorov_spectrum"].y.isnan().all() and unknown["dissipation_captured_beyond_cutoff"].isnan()


def test_peak_of_dissipation_of_one_scale():
    field, k = wave(UNEQUAL, (2, 1, 0), [1.0, 0.0, 0.0])
    result = METRICS["spectral_ranges"]()(field, field + noise(UNEQUAL), UNEQUAL)
    assert abs(result["dissipation_peak"].item() - k.norm().item()) <= 1


def test_sums_over_shells_of_two_fields_and_their_derivative():
    one, other = noise(UNEQUAL, 1), noise(UNEQUAL, 2)
    assert shell_sums(one, UNEQUAL, other).sum().item() == pytest.approx((one * other).sum(1).mean().item(), rel=1e-12)
    torch.testing.assert_close(shell_sums(one, UNEQUAL, other), shell_sums(other, UNEQUAL, one), rtol=1e-12, atol=0)
    bound = shell_sums(one, UNEQUAL, power=1).square()
    assert (bound <= shell_sums(one, UNEQUAL) * shell_sums(one, UNEQUAL, power=2) * (1 + 1e-12)).all()
    shell_sums(one.requires_grad_(), UNEQUAL).sum().backward()  # of <u.u>: 2 u / cells
    torch.testing.assert_close(one.grad, 2 * one.detach() / math.prod(UNEQUAL.shape), rtol=1e-10, atol=1e-15)
