"""What isotropic turbulence is known for, found by the metrics in our own simulations."""

import math

import pytest
import torch

from flowsr.grid import Grid
from flowsr.metrics import (
    METRICS,
    derivative_flatness,
    derivative_skewness,
    dissipation,
    dissipation_spectrum,
    energy_spectrum,
    line_spectra,
    structure_functions,
    velocity_gradient,
)
from flowsr.simulate import BandPower, BoxSolver, PeriodicBox, random_solenoidal

pytestmark = pytest.mark.slow

GRID = Grid((32, 32, 32), (2 * math.pi / 32,) * 3)
VISCOSITY, POWER = 0.02, 0.1
SEEDS, TIMES = range(6), (10.0, 11.5, 13.0)


@pytest.fixture(scope="module")
def turbulence():
    """Forced isotropic turbulence at Re_lambda 25: six seeds at three times, (18, 3, x, y, z) float64."""
    box = PeriodicBox(GRID, dtype=torch.float32)
    state = torch.stack([random_solenoidal(box, seed, 0.5, 2.0) for seed in SEEDS], dim=1)
    solver = BoxSolver(box, state, VISCOSITY, forces=(BandPower(box, POWER, 2.5),))
    snapshots = []
    for until in TIMES:
        while solver.time < until:
            solver.advance(until)
        snapshots.append(solver.field().movedim(0, 1))
    return torch.cat(snapshots).double()


def isotropic_longitudinal(k_1, wavenumber, energy):
    """E_11(k_1), the integral of E(k) / k (1 - k_1^2 / k^2) from k_1 on, E(k) a power law between the shells."""
    fine = torch.linspace(k_1, wavenumber[-1].item(), 3000, dtype=torch.float64)
    after = torch.searchsorted(wavenumber, fine).clamp(1, len(wavenumber) - 1)
    k, e = torch.log(wavenumber), torch.log(energy)
    share = (torch.log(fine) - k[after - 1]) / (k[after] - k[after - 1])
    between = torch.exp(torch.lerp(e[after - 1], e[after], share))
    return torch.trapezoid(between / fine * (1 - k_1**2 / fine**2), fine).item()


def test_one_and_three_dimensional_spectra_are_related_as_isotropy_wants(turbulence):
    (k, longitudinal), (_, transverse) = (
        (spectrum.x, spectrum.y.mean(0)) for spectrum in line_spectra(turbulence, GRID)
    )
    wavenumber, energy = energy_spectrum(turbulence, GRID, "volume")
    energy = energy.mean(0)
    for n in range(2, 8):  # k = 3 to 8: below the forcing decides, above the truncation
        expected = isotropic_longitudinal(k[n].item(), wavenumber[1:16], energy[1:16])
        assert longitudinal[n].item() == pytest.approx(expected, rel=0.1)
        slope = torch.log(longitudinal[n + 1] / longitudinal[n - 1]) / torch.log(k[n + 1] / k[n - 1])
        assert transverse[n].item() == pytest.approx((longitudinal[n] * (1 - slope) / 2).item(), rel=0.12)


def test_derivatives_are_skewed_and_intermittent(turbulence):
    assert -0.55 < derivative_skewness(turbulence, GRID).mean().item() < -0.38
    assert 3.3 < derivative_flatness(turbulence, GRID).mean().item() < 4.5
    a = velocity_gradient(turbulence, GRID)
    assert (a[:, 0, 1].square().mean() / a[:, 0, 0].square().mean()).item() == pytest.approx(2, rel=0.12)


def test_energy_goes_down_the_scales(turbulence):
    """-S_3 / r is positive and below 4/5 eps, and near r = 0 it is -S <(du/dx)^2>^(3/2) r^2."""
    found = structure_functions(turbulence, GRID)
    eps = dissipation(turbulence, GRID, VISCOSITY).mean()
    flux = -found.third_longitudinal.mean(0) / found.separation / eps
    assert flux[:-1].min() > 0 and 0.2 < flux.max().item() < 0.8
    assert flux[1] / flux[0] > 2.5
    ratio = found.second_transverse.mean(0) / found.second_longitudinal.mean(0)
    assert ratio[0].item() == pytest.approx(2, rel=0.1) and ratio[-1] < 1.6


def test_exponents_are_anomalous_but_near_those_of_kolmogorov(turbulence):
    metric = METRICS["structure_functions"]()
    metric.update(turbulence, turbulence, GRID)
    found = metric.compute()
    assert found["structure_exponent_2_longitudinal"].item() == pytest.approx(0.69, abs=0.03)
    assert found["structure_exponent_4_longitudinal"].item() == pytest.approx(1.29, abs=0.05)


def test_dissipation_is_the_power_put_in_and_that_of_its_spectrum(turbulence):
    eps = dissipation(turbulence, GRID, VISCOSITY)
    assert eps.mean().item() == pytest.approx(POWER, rel=0.1)
    torch.testing.assert_close(dissipation_spectrum(turbulence, GRID, VISCOSITY).y.sum(1), eps, rtol=1e-5, atol=0)


def test_a_sharp_filter_is_good_up_to_its_cutoff(turbulence):
    cut = 5.5
    coefficients = torch.fft.rfftn(turbulence, dim=(2, 3, 4))
    k = [torch.fft.fftfreq(32, 1 / 32), torch.fft.fftfreq(32, 1 / 32), torch.fft.rfftfreq(32, 1 / 32)]
    magnitude = torch.sqrt(k[0][:, None, None] ** 2 + k[1][:, None] ** 2 + k[2] ** 2)
    smooth = torch.fft.irfftn(coefficients * (magnitude < cut), s=GRID.shape, dim=(2, 3, 4))
    metric = METRICS["coherence"](factor=4)
    metric.update(smooth, turbulence, GRID)
    found = metric.compute()
    assert found["good_up_to_error"].item() == found["good_up_to_coherence"].item() == pytest.approx(5)
