"""What turbulence is known for, seen by the metrics in our own simulations; minutes, so marked slow."""

import numpy as np
import pytest
import torch

from flowsr.data import grid_of, open_field
from flowsr.metrics import METRICS
from flowsr.simulate import Channel, Simulation, simulate
from flowsr.simulate.diagnostics import read_table

pytestmark = pytest.mark.slow


def pooled(names, store, **options):
    """Results of the metrics on all snapshots of a simulation."""
    dataset = open_field(store)
    grid = grid_of(dataset)
    metrics = [METRICS[name](**options) for name in names]
    for time in range(dataset.sizes["time"]):
        field = torch.from_numpy(dataset["velocity"].isel(time=time).values)[None]
        for metric in metrics:
            metric.update(field, field, grid)
    return {key: value for metric in metrics for key, value in metric.compute().items()}


@pytest.fixture(scope="module")
def isotropic(tmp_path_factory):
    """48^3, Re_lambda near 40, k_max eta 1.4."""
    settings = Simulation(cells=48, viscosity=0.0108, spin_up_time=8.0, settle_time=2.0, duration=6.0, cfl=0.5)
    [store] = simulate(tmp_path_factory.mktemp("isotropic") / "seed_000.zarr", settings, device="cpu")
    names = ["alignment", "gradient_invariants", "subgrid_stress", "anisotropy", "helicity"]
    return pooled(names, store, factor=4)


def test_vorticity_aligns_with_the_intermediate_strain_and_shuns_the_compressive_one(isotropic):
    """Ashurst, Kerstein, Kerr & Gibson, Phys. Fluids 30, 2343 (1987)."""
    intermediate, compressive = (isotropic[f"pdf_alignment_{axis}"].y for axis in ("intermediate", "compressive"))
    assert intermediate.argmax() == len(intermediate) - 1 and intermediate[-1] > 2.5
    assert compressive.argmax() == 0 and compressive[-1] < 0.5
    assert isotropic["alignment_extensive"].item() == pytest.approx(0.49, abs=0.04)
    assert isotropic["strain_eigenvalue_ratio"].item() == pytest.approx(0.25, abs=0.05)


def test_strain_is_most_often_an_axisymmetric_expansion(isotropic):
    """Lund & Rogers, Phys. Fluids 6, 1838 (1994)."""
    density = isotropic["pdf_strain_state"].y
    assert density.argmax() == len(density) - 1 and density[-1] > 1
    assert (density.diff() > -0.03).all()
    assert isotropic["strain_state"].item() == pytest.approx(0.38, abs=0.06)


def test_q_and_r_make_a_tear_drop(isotropic):
    """Shares of the four topologies, and the tail of biaxial strain: Cantwell, Phys. Fluids A 4, 782 (1992)."""
    shares = {name: isotropic[f"qr_{name}"].item() for name in ("stable_focus", "unstable_focus", "unstable_node")}
    assert shares["stable_focus"] == pytest.approx(0.38, abs=0.04)
    assert shares["stable_focus"] > shares["unstable_focus"] + 0.05
    assert shares["unstable_node"] > 3 * isotropic["qr_stable_node"].item()
    assert isotropic["qr_vieillefosse"].item() > 0.35 and isotropic["qr_correlation"].item() < -0.5


def test_energy_goes_down_the_scales_on_the_whole_and_back_in_places(isotropic):
    """Piomelli, Cabot, Moin & Lee, Phys. Fluids A 3, 1766 (1991)."""
    assert 0.15 < isotropic["backscatter_volume"] < 0.4
    assert 0.03 < isotropic["backscatter_share"] < 0.25


def test_isotropic_forcing_gives_nearly_isotropic_stress_and_little_helicity(isotropic):
    """One run of six turnovers: the helicity that it started with has not been forgotten."""
    assert isotropic["lumley_eta"] < 0.1
    assert isotropic["relative_helicity"].abs() < 0.35


@pytest.fixture(scope="module")
def channel(tmp_path_factory):
    """The minimal flow unit at Re_tau 180 for three eddy turnovers, and the solver's own profiles of every step."""
    output = tmp_path_factory.mktemp("channel") / "seed_000.zarr"
    walls = Channel(spin_up_time=2.0, duration=3.0, snapshot_interval=0.1)
    simulate(output, Simulation("channel", channel=walls), device="cpu")
    viscosity = float(open_field(output).attrs["viscosity"])
    return pooled(["walls"], output, viscosity=viscosity), read_table(output.with_suffix(".profiles.csv"))


def test_law_of_the_wall(channel):
    result, _ = channel
    assert result["reynolds_tau"].item() == pytest.approx(180, rel=0.08)
    y, u = result["mean_velocity_plus"]
    np.testing.assert_allclose(u[y < 4], y[y < 4], rtol=0.06)
    log_layer = (y > 30) & (y < 100)
    np.testing.assert_allclose(u[log_layer], 2.5 * np.log(y[log_layer]) + 5.5, rtol=0.1)


def test_fluctuations_peak_where_they_should(channel):
    """2.70 at y+ 13.7, 0.87 at 53, 1.09 at 59, -uv 0.74 at 30 in the long run."""
    result, _ = channel
    for name, size, low, high in (
        ("streamwise_rms_plus", 2.70, 9, 21),
        ("normal_rms_plus", 0.87, 30, 100),
        ("spanwise_rms_plus", 1.09, 25, 90),
        ("shear_stress_plus", 0.74, 20, 55),
    ):
        y, values = result[name]
        assert values.max().item() == pytest.approx(size, rel=0.2), name
        assert low < y[values.argmax()] < high, name


def test_profiles_are_those_that_the_solver_averaged(channel):
    result, profiles = channel
    y, u = result["mean_velocity_plus"]
    half = len(y)
    folded = (profiles["u_plus"][:half] + profiles["u_plus"][::-1][:half]) / 2
    np.testing.assert_allclose(u, folded, rtol=0.04)
    stress = (profiles["uu_plus"][:half] + profiles["uu_plus"][::-1][:half]) / 2
    np.testing.assert_allclose(result["streamwise_rms_plus"].y.max() ** 2, stress.max(), rtol=0.1)


def test_turbulence_near_a_wall_has_two_components_and_is_most_isotropic_in_the_middle(channel):
    result, _ = channel
    xi, eta = result["lumley_xi_profile"].y, result["lumley_eta_profile"].y
    assert (xi.abs() <= eta + 1e-9).all()
    assert (1 - 27 * eta[0] ** 2 + 54 * xi[0] ** 3).abs() < 0.02
    assert eta.argmin() > 0.7 * len(eta) and 0.25 < eta.max() < 1 / 3
