import math

import numpy as np
import pytest
import torch

from flowsr.grid import Grid
from flowsr.metrics import METRICS, dissipation
from flowsr.metrics.spectra import compensated_spectrum, dissipation_spectrum, shell_dissipation, shells_of
from tests.metrics.fields import CUBE, UNEQUAL, abc, field_of_spectrum, noise, taylor_green, wave

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
    assert shell_dissipation(field, UNEQUAL).sum().item() == pytest.approx(square * 5.25 / 2, rel=1e-12)
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
    eps = 0.02 * shell_dissipation(target, WIDE).sum()
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
