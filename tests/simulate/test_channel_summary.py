import numpy as np
import pytest

from flowsr.simulate.channel import ProfileSums, profile_table
from flowsr.simulate.channel.chebyshev import gauss_points
from flowsr.simulate.diagnostics import closing, read_table
from flowsr.simulate.summary import folded, peak, read_heads


def test_profiles_in_wall_units_of_a_made_up_turbulence(tmp_path):
    """U = a (1 - y^2), total stress u_tau^2 |y| towards the walls, stresses about the mean of two samples."""
    nu, u_tau, y = 0.01, 1.5, gauss_points(32)
    sums = ProfileSums(32)
    for a in (3.0, 5.0):
        mean, slope = a * (1 - y**2), -2 * a * y
        shear = nu * -8 * y + u_tau**2 * y  # of the mean, a = 4: nu dU/dy - <u'v'> = -u_tau^2 y
        sums.add(np.stack([mean, mean**2 + 1.0, 0 * y + 4.0, 0 * y + 9.0, shear, slope]), 2.0)
    file = tmp_path / "profiles.csv"
    file.write_text(profile_table(sums, nu))
    table = read_table(file)
    np.testing.assert_allclose(table["u_plus"] * u_tau, 4 * (1 - y**2), atol=1e-12)
    np.testing.assert_allclose(table["uu_plus"] * u_tau**2, 1 + (1 - y**2) ** 2, rtol=1e-12)  # a varies by 1 about 4
    np.testing.assert_allclose(table["vv_plus"] * u_tau**2, 4.0)
    np.testing.assert_allclose(table["ww_plus"] * u_tau**2, 9.0)
    np.testing.assert_allclose(table["y_plus"], (1 - np.abs(y)) * u_tau / nu, rtol=1e-12)
    np.testing.assert_allclose(table["viscous_plus"] - table["uv_plus"], -y, atol=1e-12)
    heads = read_heads(file)
    assert heads["u_tau"] == pytest.approx(u_tau, rel=1e-12)
    assert heads["bulk_velocity"] == pytest.approx(8 / 3, rel=1e-12)
    assert heads["averaged_over"] == 4.0
    half = folded(table)
    np.testing.assert_allclose(half["viscous_plus"] + half["uv_plus"], np.abs(y[:16]), atol=1e-12)
    assert peak(half, "u_plus") == (half["u_plus"][-1], half["y_plus"][-1])


def test_the_balance_of_energy_is_counted_from_the_start_asked_for():
    time = np.linspace(0, 2, 41)
    loss = np.where(time < 1, 9.0, 2.0)
    table = {"time": time, "energy": 1 + time, "injected_power": 3.0 + 0 * time, "dissipation": loss}
    assert closing(table, 1.0) == pytest.approx(0, abs=1e-12)
    assert closing(table, 0.0) > 0.5
