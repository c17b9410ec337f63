import math

import numpy as np
import pytest
import torch

from flowsr.grid import Grid
from flowsr.metrics import METRICS, line_spectra, line_spectrum
from flowsr.metrics.one_dimensional import MIDDLE, NEAR_WALL, Bins, homogeneous_axes
from tests.metrics.fields import CUBE, STRETCHED, UNEQUAL, abc, mesh, noise, wave

OPEN = Grid((64, 8, 6), (0.3, 0.2, 0.25), ("open", "periodic", "wall"))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sum_over_wavenumbers_is_the_mean_square_of_each_component(axis):
    field = noise(UNEQUAL, batch=2) + 0.7
    wavenumber, density = line_spectrum(field, UNEQUAL, axis)
    assert density.shape == (2, 3, UNEQUAL.shape[axis] // 2 + 1)
    assert wavenumber[1].item() == pytest.approx(2 * math.pi / UNEQUAL.lengths[axis])
    torch.testing.assert_close(density.sum(-1) * wavenumber[1], field.square().mean((2, 3, 4)))


def test_a_wave_lies_at_its_own_wavenumber_along_each_axis():
    field, k = wave(UNEQUAL, (2, -1, 3), [1.0, 2.0, 0.5])
    for axis, number in enumerate((2, 1, 3)):
        wavenumber, density = line_spectrum(field, UNEQUAL, axis)
        power = density[0] * wavenumber[1]
        expected = torch.zeros_like(power)
        expected[:, number] = torch.tensor([0.5, 2.0, 0.125], dtype=torch.float64)
        torch.testing.assert_close(power, expected, atol=1e-14, rtol=1e-12)
        assert wavenumber[number].item() == pytest.approx(k[axis].abs().item())


def test_it_is_the_three_dimensional_spectrum_summed_over_planes():
    field = noise(CUBE, components=1)
    coefficients = torch.fft.fftn(field, dim=(2, 3, 4), norm="forward").abs().square()[0, 0]
    planes = coefficients.sum((1, 2))
    folded = torch.cat([planes[:1], planes[1:12] + planes[13:].flip(0), planes[12:13]])
    torch.testing.assert_close(line_spectrum(field, CUBE, 0).y[0, 0], folded)


def test_beltrami_flow_has_transverse_spectra_only():
    """u = a sin z + c cos y and so on: each component varies along the two other axes, one wave each."""
    (k, longitudinal), (_, transverse) = line_spectra(abc(CUBE), CUBE)
    assert longitudinal.abs().max() < 1e-25
    # along z, u has a^2/2 and v too; three axes, two components of half of a^2, b^2 or c^2 each, over six
    expected = 2 * (1 + 0.7**2 + 0.4**2) / 2 / 6
    assert k[0].item() == pytest.approx(1) and transverse[0, 0].item() == pytest.approx(expected)
    assert transverse[0, 1:].abs().max() < 1e-25


def test_longitudinal_is_of_the_component_along_the_axis():
    x, y, z = mesh(UNEQUAL)
    along = torch.stack([torch.cos(4 * x), torch.cos(4 * y), torch.cos(4 * z)])[None]
    (k, longitudinal), (_, transverse) = line_spectra(along, UNEQUAL)
    assert transverse.abs().max() < 1e-25 and k[1].item() == pytest.approx(4)  # the shortest side is pi
    # 0.5 in one mode along each axis; bins of width 2 hold 2, 1 and 3 modes of axes with sides 2 pi, pi, 3 pi
    assert longitudinal[0, 1].item() == pytest.approx((0.5 / 1 / 2 + 0.5 / 2 + 0.5 / (2 / 3) / 3) / 3)


def test_bins_do_not_see_how_many_modes_they_hold():
    bins = Bins.of(UNEQUAL, (0, 1, 2))
    for axis in range(3):
        wavenumber, density = line_spectrum(noise(UNEQUAL), UNEQUAL, axis)
        flat = bins.mean(type(line_spectra(noise(UNEQUAL), UNEQUAL)[0])(wavenumber, torch.ones_like(density)))
        torch.testing.assert_close(flat, torch.ones_like(flat))
    assert bins.wavenumber.tolist() == pytest.approx([2, 4])  # 5 <= pi / (3 pi / 20) = 6.7 < 7
    assert Bins.of(CUBE, (0, 1, 2)).wavenumber.tolist() == pytest.approx(range(1, 12))


def test_the_window_keeps_the_mean_square_and_a_wave_in_its_place():
    x, _, _ = mesh(OPEN)
    number = 9.37  # does not fit into the box
    k = 2 * math.pi * number / OPEN.lengths[0]
    field = torch.cos(k * x)[None, None] * 2 + 5
    wavenumber, density = line_spectrum(field, OPEN, 0)
    step = wavenumber[1]
    assert (density.sum() * step).item() == pytest.approx(2, rel=0.02)
    near = (wavenumber - k).abs() < 2.5 * step
    assert (density[0, 0, ~near].sum() / density.sum()).item() < 1e-3
    periodic = Grid(OPEN.shape, OPEN.spacing)
    leaky = line_spectrum(field - 5, periodic, 0).y
    assert (leaky[0, 0, ~near].sum() / leaky.sum()).item() > 0.02


def test_the_window_is_exact_on_average():
    field = noise(OPEN, batch=20)
    _, density = line_spectrum(field, OPEN, 0)
    white = OPEN.spacing[0] / math.pi  # E dk = 1 / (n / 2) of the unit mean square
    torch.testing.assert_close(density[..., 3:-3].mean(), torch.tensor(white, dtype=torch.float64), rtol=0.01, atol=0)


def test_layers_between_walls_keep_their_own_spectra():
    x, y, _ = mesh(STRETCHED)
    k = 2 * math.pi * 2 / STRETCHED.lengths[0]
    profile = 1 - y[0, :, 0] ** 2
    field = ((1 - y**2) * torch.cos(k * x))[None, None]
    wavenumber, density = line_spectrum(field, STRETCHED, 0, across=1)
    assert density.shape == (1, 1, 12, 5)
    torch.testing.assert_close(density[0, 0, :, 2] * wavenumber[1], profile**2 / 2)
    widths = torch.as_tensor(STRETCHED.widths()[1])
    mean = (profile**2 * widths).sum() / widths.sum() / 2
    torch.testing.assert_close(line_spectrum(field, STRETCHED, 0).y[0, 0, 2] * wavenumber[1], mean)


def wall_flow(amplitude=1.0):
    """A stream along z between walls, with waves along and across it that grow with the distance from the walls."""
    grid = Grid((16, 21, 32), (0.3, 2 / 21, 0.15), ("periodic", "wall", "periodic"), (0.0, -1.0, 0.0))
    x, y, z = mesh(grid)
    along, across = 2 * math.pi * 2 / grid.lengths[2], 2 * math.pi * 3 / grid.lengths[0]
    profile = 2 - y.abs()  # one more than the distance from the wall
    w = 20 * (1 - y**2) + amplitude * profile * (torch.cos(along * z) + 0.5 * torch.cos(across * x))
    return torch.stack([torch.zeros_like(w), torch.zeros_like(w), w])[None], grid, along, across


def test_wall_spectra_find_the_stream_and_both_distances():
    target, grid, along, across = wall_flow()
    prediction, *_ = wall_flow(0.5)
    result = METRICS["wall_spectra"](viscosity=0.01)(prediction, target, grid)
    for axis, k, strength in (("along", along, 1.0), ("across", across, 0.25)):
        for place, distance in (("near", NEAR_WALL), ("middle", MIDDLE)):
            wavenumber, density = result[f"wall_spectrum_{axis}_{place}"]
            step = wavenumber[1] - wavenumber[0]
            assert wavenumber[density.argmax()].item() == pytest.approx(k, abs=step.item() / 2 + 1e-9)
            expected = 0.25 * strength * (1 + distance) ** 2 / 2
            assert (density.max() * step).item() == pytest.approx(expected, rel=0.02)
    for place in ("near", "middle"):
        assert result[f"wall_spectrum_error_{place}"].item() == pytest.approx(0.75)


def test_metric_gives_the_functions_and_their_errors():
    prediction, target = noise(UNEQUAL, 1, batch=2), noise(UNEQUAL, 2, batch=2)
    result = METRICS["line_spectra"]()(prediction, target, UNEQUAL)
    for kind, spectrum, truth in zip(
        ("longitudinal", "transverse"), line_spectra(prediction, UNEQUAL), line_spectra(target, UNEQUAL)
    ):
        torch.testing.assert_close(result[f"{kind}_spectrum"].y, spectrum.y.mean(0))
        error = ((spectrum.y.mean(0) - truth.y.mean(0)).abs() / truth.y.mean(0)).mean()
        torch.testing.assert_close(result[f"{kind}_spectrum_error"], error)


def test_only_axes_of_equal_steps_without_walls_are_homogeneous():
    assert homogeneous_axes(STRETCHED) == (0, 2) and homogeneous_axes(OPEN) == (0, 1)
    shut = Grid((8, 8, 8), boundary=("wall", "wall", "wall"))
    with pytest.raises(ValueError, match="homogeneous"):
        line_spectra(noise(shut), shut)
    with pytest.raises(ValueError, match="stretched"):
        line_spectrum(noise(STRETCHED), STRETCHED, 1)
    with pytest.raises(ValueError, match="walls"):
        METRICS["wall_spectra"]()(noise(CUBE), noise(CUBE), CUBE)
    with pytest.raises(ValueError, match="velocity"):
        line_spectra(noise(CUBE, components=1), CUBE)
    assert not np.isnan(line_spectrum(noise(OPEN), OPEN, 1).y).any()
