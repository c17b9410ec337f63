import math

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid

from flowsr.grid import Grid
from flowsr.metrics import flow_statistics
from flowsr.metrics.scales import flow_scales, spectral_moments
from tests.metrics.fields import CUBE, STRETCHED, abc, mesh


def test_flow_statistics_of_a_beltrami_flow():
    field, viscosity = 2 * abc(CUBE, 1, 1, 1), 0.05
    statistics = flow_statistics(field, CUBE, viscosity)
    energy, epsilon = 6.0, 2 * viscosity * 6.0
    assert statistics["kinetic_energy"].item() == pytest.approx(energy)
    assert statistics["dissipation"].item() == pytest.approx(epsilon)
    taylor = math.sqrt(15 * viscosity * 4.0 / epsilon)
    assert statistics["reynolds_lambda"].item() == pytest.approx(2 * taylor / viscosity)
    assert statistics["kmax_eta"].item() == pytest.approx(12 * (viscosity**3 / epsilon) ** 0.25)
    assert set(flow_statistics(field, CUBE)) == {"kinetic_energy"}


def test_flow_statistics_count_stretched_cells_by_their_size():
    _, y, _ = mesh(STRETCHED)
    widths, centers = (values[1] for values in (STRETCHED.widths(), STRETCHED.coordinates()))
    energy = flow_statistics(torch.stack([y, 0 * y, 0 * y])[None], STRETCHED)["kinetic_energy"].item()
    assert energy == pytest.approx((widths * centers**2).sum() / (2 * widths.sum()))


def beltrami(grid, k):
    """An ABC flow of wavenumber k in a box of side 2 pi: all of its energy sits in one shell."""
    x, y, z = np.meshgrid(*grid.coordinates(), indexing="ij")
    a, b, c = 1.0, 0.7, 0.4
    u = a * np.sin(k * z) + c * np.cos(k * y)
    v = b * np.sin(k * x) + a * np.cos(k * z)
    w = c * np.sin(k * y) + b * np.cos(k * x)
    return np.stack([u, v, w]), (a**2 + b**2 + c**2) / 2


@pytest.mark.parametrize("cells", [(16, 16, 16), (16, 12, 15), (15, 16, 18)])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_one_shell_in_closed_form(cells, k):
    grid = Grid(cells, tuple(2 * np.pi / n for n in cells))
    velocity, energy = beltrami(grid, k)
    drifting = velocity + np.array([3.0, -1.0, 2.0])[:, None, None, None]
    moments = spectral_moments(drifting, grid)
    np.testing.assert_allclose(moments.energy, energy, rtol=1e-12)
    scales = flow_scales([moments, moments], viscosity=0.02)
    rms = np.sqrt(2 * energy / 3)
    np.testing.assert_allclose(scales.rms_velocity, rms, rtol=1e-12)
    np.testing.assert_allclose(scales.integral_length, 3 * np.pi / (4 * k), rtol=1e-12)
    np.testing.assert_allclose(scales.turnover_time, 3 * np.pi / (4 * k) / rms, rtol=1e-12)
    # a Beltrami flow's vorticity is k u: dissipation nu <w^2> = 2 nu k^2 energy
    np.testing.assert_allclose(scales.dissipation, 2 * 0.02 * k**2 * energy, rtol=1e-12)


def test_unequal_sides_against_sums_over_points():
    grid = Grid((8, 10, 7), (0.3, 0.2, 0.5))
    x, y, z = np.meshgrid(*grid.coordinates(), indexing="ij")
    k = np.array([2 * np.pi / grid.lengths[0], 2 * 2 * np.pi / grid.lengths[1], 2 * np.pi / grid.lengths[2]])
    wave = np.sin(k[0] * x + k[1] * y + k[2] * z)
    velocity = np.stack([wave, 0.5 * wave, 0 * wave])
    moments = spectral_moments(velocity, grid)
    energy = 0.5 * (velocity**2).sum(axis=0).mean()
    np.testing.assert_allclose(moments.energy, energy, rtol=1e-12)
    np.testing.assert_allclose(moments.energy_over_wavenumber, energy / np.linalg.norm(k), rtol=1e-12)
    np.testing.assert_allclose(moments.wavenumber_squared_energy, energy * (k @ k), rtol=1e-12)


def test_length_is_that_of_the_longitudinal_correlation():
    """For an isotropic field the length is int f(r) dr, f the longitudinal autocorrelation of one shell's modes."""
    generator = np.random.default_rng(0)
    k = 3.0
    directions = generator.normal(size=(200_000, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    amplitude = 1 - directions[:, 0] ** 2  # energy in u_1 of a solenoidal mode, averaged over its polarisation
    r = np.linspace(0, 400, 40001)
    # f(r) of one shell is 3 (sin kr - kr cos kr) / (kr)^3; check it by Monte Carlo, then integrate it
    kr = k * r[1:]
    f = np.concatenate([[1.0], 3 * (np.sin(kr) - kr * np.cos(kr)) / kr**3])
    for i in (20, 100, 300):
        monte_carlo = (amplitude * np.cos(k * r[i] * directions[:, 0])).mean() / amplitude.mean()
        assert abs(monte_carlo - f[i]) < 5e-3
    length = trapezoid(f, r)
    grid = Grid((16, 16, 16), (2 * np.pi / 16,) * 3)
    scales = flow_scales([spectral_moments(beltrami(grid, 3)[0], grid)], None)
    np.testing.assert_allclose(scales.integral_length, length, rtol=1e-3)
    assert scales.dissipation is None


def test_what_has_no_scales_is_refused():
    grid = Grid((4, 4, 4))
    with pytest.raises(ValueError, match="at rest"):
        flow_scales([spectral_moments(np.ones((3, 4, 4, 4)), grid)], None)
    with pytest.raises(ValueError, match="periodic"):
        spectral_moments(np.ones((3, 4, 4, 4)), Grid((4, 4, 4), boundary=("wall", "periodic", "periodic")))
