"""Q and R, and the state of strain and vorticity, on flows whose gradient is known."""

import math

import numpy as np
import pytest
import torch

from flowsr.grid import Grid
from flowsr.metrics import (
    METRICS,
    enstrophy,
    gradient_invariants,
    qr_joint_pdf,
    strain_eigenframe,
    strain_scale,
    strain_state,
    vorticity_alignment,
)
from flowsr.metrics.invariants import QR_BINS, QR_RANGE
from tests.metrics.fields import CUBE, UNEQUAL, abc, mesh, noise

OPEN = Grid((6, 5, 7), (0.1, 0.2, 0.15), ("open",) * 3, (-0.3, 0.1, 0.0))


def linear(matrix, grid=OPEN):
    """u_i = A_ij x_j."""
    return torch.einsum("ij,jxyz->ixyz", torch.tensor(matrix, dtype=torch.float64), torch.stack(mesh(grid)))[None]


def diagonal(*values):
    return linear(np.diag(values).tolist())


def gaussian_field(seed=0, side=32, peak=4.0):
    """Incompressible, isotropic, Gaussian: the solenoidal part of white noise under a spectrum that ends at k = 10."""
    grid = Grid((side,) * 3, (2 * math.pi / side,) * 3)
    white = torch.randn((1, 3, *grid.shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    k = torch.stack(torch.meshgrid(*[torch.fft.fftfreq(side, 1 / side, dtype=torch.float64)] * 3, indexing="ij"))
    square = (k**2).sum(0)
    modes = torch.fft.fftn(white, dim=(2, 3, 4)) * torch.where(square <= 100, torch.exp(-square / peak**2 / 2), 0.0)
    modes = modes - k * (k * modes).sum(1, keepdim=True) / square.clamp(min=1)
    return torch.fft.ifftn(modes, dim=(2, 3, 4)).real, grid


def burgers_vortex(strain=1.0, circulation=40.0, viscosity=0.1):
    """Burgers' vortex along z on a box stretched towards its core, and Q, R, shear rate of the plane in closed form.

    u_r = -a r / 2, u_z = a z, u_theta = G / (2 pi r) (1 - exp(-a r^2 / 4 nu)).
    """
    beta = np.linspace(-1, 1, 40)
    stretched = tuple(np.sinh(2 * beta) / np.sinh(2) * 2)
    grid = Grid((40, 36, 5), (4.1 / 40, 4 / 36, 0.2), ("open",) * 3, (-2.05, -2.0, -0.5), (stretched, None, None))
    x, y, z = mesh(grid)
    square = x**2 + y**2
    decay = torch.exp(-strain * square / (4 * viscosity))
    turning = circulation / (2 * math.pi) * (1 - decay) / square  # u_theta / r
    slope = circulation * strain / (4 * math.pi * viscosity) * decay - turning  # d u_theta / d r
    field = torch.stack([-strain * x / 2 - turning * y, -strain * y / 2 + turning * x, strain * z])[None]
    q = -0.75 * strain**2 + turning * slope
    r = -strain * (strain**2 / 4 + turning * slope)
    return field, grid, q, r, (slope - turning).abs(), turning + slope


def core(field, grid):
    """The inner cells, where central differences are at work and the vortex is resolved."""
    return field[..., 4:-4, 4:-4, :]


@pytest.mark.parametrize("rates", [(1.0, 1.0, -2.0), (2.0, -1.0, -1.0), (1.0, 0.0, -1.0), (0.7, 0.2, -0.9)])
def test_pure_strain(rates):
    q, r = gradient_invariants(diagonal(*rates), OPEN)
    a, b, c = rates
    torch.testing.assert_close(q, torch.full_like(q, -(a**2 + b**2 + c**2) / 2))
    torch.testing.assert_close(r, torch.full_like(r, -a * b * c), atol=1e-12, rtol=1e-12)
    state = strain_state(diagonal(*rates), OPEN)
    expected = -3 * math.sqrt(6) * a * b * c / (a**2 + b**2 + c**2) ** 1.5
    torch.testing.assert_close(state, torch.full_like(state, expected), atol=1e-11, rtol=0)
    values, _vectors = strain_eigenframe(diagonal(*rates), OPEN)
    for n, rate in enumerate(rates):
        torch.testing.assert_close(values[:, n], torch.full_like(q, rate), atol=1e-12, rtol=0)
    assert strain_scale(diagonal(*rates), OPEN).item() == pytest.approx(math.sqrt(a * a + b * b + c * c))
    assert vorticity_alignment(diagonal(*rates), OPEN).isnan().all()  # there is none


def test_rigid_rotation_has_q_and_nothing_else():
    rotation = linear([[0, -1.5, 0], [1.5, 0, 0], [0, 0, 0]])
    q, r = gradient_invariants(rotation, OPEN)
    torch.testing.assert_close(q, torch.full_like(q, 1.5**2))
    assert r.abs().max() < 1e-12
    assert strain_state(rotation, OPEN).isnan().all() and vorticity_alignment(rotation, OPEN).isnan().all()


def test_a_uniform_expansion_is_left_out_of_the_invariants():
    strain, expanding = diagonal(1.0, 0.5, -1.5), diagonal(1.3, 0.8, -1.2)
    for one, other in zip(gradient_invariants(strain, OPEN), gradient_invariants(expanding, OPEN)):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(strain_state(strain, OPEN), strain_state(expanding, OPEN))


def test_burgers_vortex_on_a_stretched_box():
    field, grid, q, r, _, _ = burgers_vortex()
    found_q, found_r = gradient_invariants(field, grid)
    for found, expected in ((found_q, q), (found_r, r)):
        difference = core(found[0] - expected, grid).abs().max() / expected.abs().max()
        assert difference < 5e-3
    middle = tuple(n // 2 for n in grid.shape)
    assert q[middle] > 0 and r[middle] < 0  # a stretched vortex: stable focus
    shares = METRICS["gradient_invariants"]()(field, field, grid)
    discriminant = 27 / 4 * r**2 + q**3
    volumes = torch.as_tensor(grid.widths()[0])[:, None, None].expand(grid.shape)
    expected = volumes[(discriminant > 0) & (r < 0)].sum() / volumes.sum()
    assert shares["qr_stable_focus"].item() == pytest.approx(expected.item(), abs=0.01)


def test_vorticity_of_a_burgers_vortex_lies_along_its_axis_and_which_eigenvector_that_is():
    field, grid, _, _, shear, vorticity = burgers_vortex()
    cosines = vorticity_alignment(field, grid)[0]
    clear = ((shear - 3).abs() > 0.3) & (vorticity.abs() > 0.5)  # away from where two eigenvalues are equal
    extensive, intermediate = (core((shear < 3) & clear, grid), core((shear > 3) & clear, grid))  # -a/2 + shear/2 < a
    assert extensive.sum() > 100 and intermediate.sum() > 100
    assert core(cosines[0], grid)[extensive].min() > 0.999
    assert core(cosines[1], grid)[intermediate].min() > 0.999
    assert core(cosines[2], grid)[extensive | intermediate].max() < 0.05


def test_plane_shear_has_vorticity_along_the_intermediate_axis():
    shear = linear([[0, 1, 0], [0, 0, 0], [0, 0, 0]])
    cosines = vorticity_alignment(shear, OPEN)
    expected = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(cosines.mean((0, 2, 3, 4)), expected, atol=1e-12, rtol=0)
    result = METRICS["alignment"]()(shear, shear, OPEN)
    assert result["alignment_intermediate"].item() == pytest.approx(1)
    assert result["pdf_alignment_intermediate"].y[-1].item() == pytest.approx(20)  # all of it in one of 20 bins
    assert result["strain_eigenvalue_ratio"].item() == pytest.approx(0, abs=1e-12)
    assert result["strain_state"].item() == pytest.approx(0, abs=1e-12)


def test_eigenvalues_are_counted_in_units_of_the_true_strain():
    target, scale = diagonal(2.0, 1.0, -3.0), math.sqrt(14)
    result = METRICS["strain_eigenvalues"]()(2 * target, target, OPEN)
    for axis, rate in zip(("extensive", "intermediate", "compressive"), (4.0, 2.0, -6.0)):
        centre, density = result[f"pdf_strain_{axis}"]
        assert density.sum().item() * 0.1 == pytest.approx(1)
        assert abs(centre[density.argmax()].item() - rate / scale) <= 0.05
    given = METRICS["strain_eigenvalues"](scale=scale)(2 * target, 7 * target, OPEN)
    for key, curve in result.items():
        torch.testing.assert_close(given[key].y, curve.y)


def test_homogeneous_incompressible_fields_have_no_mean_q_and_r():
    """Betchov, J. Fluid Mech. 1, 497 (1956): both are divergences. So <S:S> is half the mean square vorticity."""
    for field, grid in ((abc(CUBE), CUBE), gaussian_field()):
        q, r = gradient_invariants(field, grid)
        assert strain_scale(field, grid).item() ** 2 == pytest.approx(enstrophy(field, grid).item(), rel=1e-9)
        assert abs(q.mean()) < 1e-12 * q.abs().mean() and abs(r.mean()) < 1e-10 * r.abs().mean()


def test_gaussian_field_prefers_no_state_of_strain_no_direction_and_no_sign_of_r():
    """Uniform densities of s* (Lund & Rogers 1994) and of |cos|; Q and R uncorrelated, foci and nodes symmetric."""
    alignment, invariants = METRICS["alignment"](), METRICS["gradient_invariants"]()
    for seed in range(3):
        field, grid = gaussian_field(seed)
        alignment.update(field, field, grid)
        invariants.update(field, field, grid)
    result = alignment.compute()
    for key in ("extensive", "intermediate", "compressive"):
        torch.testing.assert_close(result[f"pdf_alignment_{key}"].y, torch.ones(20).double(), atol=0.12, rtol=0)
        assert result[f"alignment_{key}"].item() == pytest.approx(0.5, abs=0.01)
    torch.testing.assert_close(result["pdf_strain_state"].y, torch.full((20,), 0.5).double(), atol=0.06, rtol=0)
    assert result["strain_state"].item() == pytest.approx(0, abs=0.015)
    assert result["strain_eigenvalue_ratio"].item() == pytest.approx(0, abs=0.01)
    shares = invariants.compute()
    assert shares["qr_correlation"].item() == pytest.approx(0, abs=0.03)
    assert shares["qr_stable_focus"].item() == pytest.approx(shares["qr_unstable_focus"].item(), abs=0.015)
    assert shares["qr_distance"].item() == 0
    four = sum(shares[f"qr_{name}"] for name in ("stable_focus", "unstable_focus", "stable_node", "unstable_node"))
    assert four.item() == pytest.approx(1)


def test_joint_pdf_is_in_units_of_the_true_strain_and_integrates_to_what_is_inside():
    strain = diagonal(1.0, 1.0, -2.0)  # <S:S> = 6: Q = -3 -> -1/2, R = 2 -> 2 / 6^1.5
    r, q, density = qr_joint_pdf(strain, strain, OPEN)
    width = 2 * QR_RANGE / QR_BINS
    assert density.sum().item() * width**2 == pytest.approx(1)
    peak = np.unravel_index(int(density[0].argmax()), density[0].shape)
    assert abs(r[peak[0]] - 2 / 6**1.5) <= width / 2 and abs(q[peak[1]] + 0.5) <= width / 2
    alone = METRICS["gradient_invariants"]()(strain, strain, OPEN)
    for key, value in (("pdf_r", 2 / 6**1.5), ("pdf_q", -0.5)):
        centre, marginal = alone[key]
        assert marginal.sum().item() * width == pytest.approx(1)
        assert abs(centre[marginal.argmax()] - value) <= width / 2
    result = METRICS["gradient_invariants"]()(2 * strain, strain, OPEN)
    assert result["qr_distance"].item() == pytest.approx(1) and result["qr_vieillefosse"].item() == 1
    assert qr_joint_pdf(20 * strain, strain, OPEN).density.sum() == 0
    assert METRICS["gradient_invariants"]()(20 * strain, 20 * strain, OPEN)["qr_distance"].item() == 0
    far = METRICS["gradient_invariants"](scale=strain_scale(strain, OPEN).item())
    torch.testing.assert_close(far(strain, 20 * strain, OPEN)["qr_distance"].item(), 1.0)


def test_pooled_joint_pdf_is_the_mean_of_the_snapshots():
    field, target = noise(UNEQUAL, seed=1, batch=3), noise(UNEQUAL, seed=2, batch=3)
    metric = METRICS["gradient_invariants"]()
    metric.update(field, target, UNEQUAL)
    alone = qr_joint_pdf(field, target, UNEQUAL).density
    torch.testing.assert_close(metric.joint_pdf().density, alone.mean(0))
    assert alone.shape == (3, QR_BINS, QR_BINS)


def test_known_scale_stands_in_for_the_snapshot_s_own():
    field = noise(UNEQUAL)
    own = METRICS["gradient_invariants"]()(field, field, UNEQUAL)
    given = METRICS["gradient_invariants"](scale=strain_scale(field, UNEQUAL).item())(field, field, UNEQUAL)
    for key, value in own.items():
        torch.testing.assert_close(given[key], value)
