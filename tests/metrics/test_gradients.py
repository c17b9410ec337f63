import math

import numpy as np
import pytest
import torch

from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field, transform_grid
from flowsr.metrics import (
    derivative_flatness,
    derivative_skewness,
    dissipation,
    dissipation_captured,
    enstrophy,
    enstrophy_captured,
    gradient_pdf,
    normalized_divergence,
    vorticity,
)
from flowsr.metrics.gradients import PDF_BINS, PDF_RANGE
from tests.metrics.fields import (
    CHANNEL,
    CUBE,
    STRETCHED,
    UNEQUAL,
    abc,
    field_of_spectrum,
    mesh,
    noise,
    taylor_green,
    wave,
)

BIN_WIDTH = 2 * PDF_RANGE / PDF_BINS


GROUP = octahedral_group("Oh")


def test_divergence_of_solenoidal_and_compressive_waves():
    _, k = wave(UNEQUAL, (2, 1, -3), [0.0, 0.0, 0.0])
    across = torch.linalg.cross(k, torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
    solenoidal, _ = wave(UNEQUAL, (2, 1, -3), across)
    compressive, _ = wave(UNEQUAL, (2, 1, -3), k)
    oblique, _ = wave(UNEQUAL, (2, 1, -3), across / across.norm() + k / k.norm())
    assert normalized_divergence(solenoidal, UNEQUAL).item() < 1e-13
    assert normalized_divergence(compressive, UNEQUAL).item() == pytest.approx(1, rel=1e-12)
    assert normalized_divergence(oblique, UNEQUAL).item() == pytest.approx(0.5**0.5, rel=1e-12)


@pytest.mark.parametrize("flow", [taylor_green, abc])
def test_known_flows_are_incompressible(flow):
    assert normalized_divergence(flow(CUBE), CUBE).item() < 1e-13


def test_divergence_at_walls():
    x, y, z = mesh(CHANNEL)
    field = torch.stack([torch.zeros_like(x), y**2 * z, -y * z**2])[None]
    assert normalized_divergence(field, CHANNEL).item() < 1e-10
    field[:, 1] *= -1
    divergence, power = (4 * y * z) ** 2, 8 * (y * z) ** 2 + y**4 + z**4
    expected = (divergence.mean() / power.mean()).sqrt().item()
    assert normalized_divergence(field, CHANNEL).item() == pytest.approx(expected)


def test_dissipation_closed_forms():
    # single scale: eps = 2 nu k^2 K
    assert dissipation(taylor_green(CUBE), CUBE, 0.01).item() == pytest.approx(2 * 0.01 * 3 / 8, rel=1e-12)
    assert dissipation(abc(CUBE), CUBE, 0.5).item() == pytest.approx((1 + 0.49 + 0.16) / 2, rel=1e-12)
    _, k = wave(UNEQUAL, (1, 1, 1), [0.0, 0.0, 0.0])
    field, _ = wave(UNEQUAL, (1, 1, 1), torch.linalg.cross(k, torch.ones_like(k)))
    energy = 0.5 * (field**2).sum(1).mean().item()
    assert dissipation(field, UNEQUAL, 1.0).item() == pytest.approx(2 * k.square().sum().item() * energy, rel=1e-12)


def test_rigid_rotation_and_pure_strain():
    x, y, _z = mesh(grid := Grid((8, 8, 8), (0.1,) * 3, ("open",) * 3))
    rotation = torch.stack([-y, x, torch.zeros_like(x)])[None]
    strain = torch.stack([x, -y, torch.zeros_like(x)])[None]
    assert abs(dissipation(rotation, grid).item()) < 1e-12
    assert dissipation(strain, grid).item() == pytest.approx(4)  # 2 (1 + 1)


def test_dissipation_captured_is_a_ratio_of_squares():
    field = abc(CUBE)
    assert dissipation_captured(0.5 * field, field, CUBE).item() == pytest.approx(0.25, rel=1e-12)


def two_harmonics(grid, strengths=(0.3, -0.5, 0.2), scales=(1.0, 2.0, 0.7)):
    """u_i whose own derivative along axis i is s (cos t + c cos 2 t), t = 2 pi x_i / L_i."""
    components = []
    for x, length, c, s in zip(mesh(grid), grid.lengths, strengths, scales):
        k = 2 * math.pi / length
        components.append(s / k * (torch.sin(k * x) + c / 2 * torch.sin(2 * k * x)))
    return torch.stack(components)[None]


def test_skewness_and_flatness_closed_form_on_unequal_sides():
    strengths = (0.3, -0.5, 0.2)
    field = two_harmonics(UNEQUAL, strengths)
    variance = [(1 + c**2) / 2 for c in strengths]
    skewness = [0.75 * c / v**1.5 for c, v in zip(strengths, variance)]
    flatness = [(3 / 8 * (1 + c**4) + 1.5 * c**2) / v**2 for c, v in zip(strengths, variance)]
    assert derivative_skewness(field, UNEQUAL).item() == pytest.approx(sum(skewness) / 3, rel=1e-10)
    assert derivative_flatness(field, UNEQUAL).item() == pytest.approx(sum(flatness) / 3, rel=1e-10)


def test_moments_are_about_the_mean_derivative():
    open_box = Grid((40, 40, 40), (0.1,) * 3, ("open",) * 3)
    sheared = torch.stack([x + x**2 / 2 for x in mesh(open_box)])[None]  # derivative 1 + x: uniform, mean not 0
    assert derivative_skewness(sheared, open_box).item() == pytest.approx(0, abs=1e-9)
    assert derivative_flatness(sheared, open_box).item() == pytest.approx(9 / 5, rel=2e-3)


def test_a_direction_without_derivative_is_left_out():
    assert derivative_flatness(taylor_green(CUBE), CUBE).item() == pytest.approx(1.5**3, rel=1e-12)
    assert torch.isnan(derivative_skewness(0 * abc(CUBE), CUBE)).all()


def test_gaussian_field_has_gaussian_moments_and_pdf():
    grid = Grid((48, 48, 48), (2 * math.pi / 48,) * 3)
    u, v, w = (field_of_spectrum(grid, lambda k: k**4 * np.exp(-(k**2) / 16), seed)[:, 0] for seed in range(3))
    field = torch.stack([u, v, w], dim=1)
    assert derivative_skewness(field, grid).item() == pytest.approx(0, abs=0.05)
    assert derivative_flatness(field, grid).item() == pytest.approx(3, abs=0.15)
    for kind in ("longitudinal", "transverse"):
        centre, density = gradient_pdf(field, field, grid, kind)
        core = centre.abs() < 2
        normal = torch.exp(-(centre**2) / 2) / math.sqrt(2 * math.pi)
        torch.testing.assert_close(density[0, core], normal[core], rtol=0.08, atol=0)


def ramps(cells=200):
    """Longitudinal derivatives x, 0, 0 with x uniform on (-1, 1), and their root mean square."""
    grid = Grid((cells, 1, 1), (2 / cells, 1, 1), ("open", "periodic", "periodic"), (-1, 0, 0))
    x, _, _ = mesh(grid)
    return torch.stack([x**2 / 2] * 3)[None], grid, math.sqrt((x**2).mean().item() / 3)


def test_pdf_is_in_units_of_the_true_rms():
    field, grid, rms = ramps()
    centre, density = gradient_pdf(field, field, grid, "longitudinal")
    flat = (centre.abs() > BIN_WIDTH) & (centre.abs() < 1 / rms - BIN_WIDTH)
    assert density[0, flat].mean().item() == pytest.approx(rms / 6, rel=0.05)  # a third is uniform over 2/rms
    assert density[0].sum().item() * BIN_WIDTH == pytest.approx(1)
    _, double = gradient_pdf(2 * field, field, grid, "longitudinal")
    assert double[0, flat].mean().item() == pytest.approx(rms / 12, rel=0.05)


def test_samples_outside_the_bins_are_missing_from_the_integral():
    field, grid, rms = ramps()
    _, density = gradient_pdf(50 * field, field, grid, "longitudinal")
    inside = 2 / 3 + 1 / 3 * PDF_RANGE * rms / 50
    assert density[0].sum().item() * BIN_WIDTH == pytest.approx(inside, abs=0.01)


def test_transverse_pdf_has_both_signs():
    field, grid, _rms = ramps()
    sheared = torch.stack([0 * field[0, 0], field[0, 0] + mesh(grid)[0], 0 * field[0, 0]])[None]  # dv/dx = 1 + x >= 0
    centre, density = gradient_pdf(sheared, sheared, grid, "transverse")
    torch.testing.assert_close(density, density.flip(-1))
    assert density[0, centre > BIN_WIDTH].sum() * BIN_WIDTH > 0.05
    with pytest.raises(ValueError, match="kind"):
        gradient_pdf(field, field, grid, "diagonal")


def test_vorticity_of_known_flows():
    torch.testing.assert_close(vorticity(abc(CUBE), CUBE), abc(CUBE), atol=1e-12, rtol=0)  # Beltrami: curl u = u
    _, y, _ = mesh(STRETCHED)
    torch.testing.assert_close(
        vorticity(torch.stack([y, 0 * y, y**2])[None], STRETCHED)[0],
        torch.stack([2 * y, 0 * y, -torch.ones_like(y)]),
        atol=1e-11,
        rtol=0,
    )
    _, k = wave(UNEQUAL, (1, -2, 3), [0.0, 0.0, 0.0])
    amplitude = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    field, _ = wave(UNEQUAL, (1, -2, 3), amplitude)
    phase = sum(n * x for n, x in zip(k, mesh(UNEQUAL)))
    expected = -torch.linalg.cross(k, amplitude)[:, None, None, None] * torch.sin(phase)
    torch.testing.assert_close(vorticity(field, UNEQUAL)[0], expected, atol=1e-11, rtol=0)


def test_enstrophy_closed_forms():
    assert enstrophy(taylor_green(CUBE), CUBE).item() == pytest.approx(3 / 8, rel=1e-12)  # eps / 2 nu
    box = Grid((6, 6, 6), (0.1,) * 3, ("open",) * 3)
    x, y, z = mesh(box)
    rotation = torch.stack([-1.5 * y, 1.5 * x, torch.zeros_like(x)])[None]
    assert enstrophy(rotation, box).item() == pytest.approx(2 * 1.5**2)
    assert enstrophy(torch.stack([x, y, -2 * z])[None], box).item() < 1e-20
    field = noise(UNEQUAL, batch=2)
    torch.testing.assert_close(enstrophy_captured(0.5 * field, field, UNEQUAL), torch.full((2,), 0.25).double())


def test_enstrophy_of_a_stretched_shear_counts_cells_by_their_size():
    _, y, _ = mesh(STRETCHED)
    shear = torch.stack([y**2, 0 * y, 0 * y])[None]
    widths = STRETCHED.widths()[1]
    expected = (widths * (2 * STRETCHED.coordinates()[1]) ** 2).sum() / (2 * widths.sum())
    assert enstrophy(shear, STRETCHED).item() == pytest.approx(expected, rel=1e-10)


def test_vorticity_is_an_axial_vector_under_all_48():
    field = noise(STRETCHED)
    expected = vorticity(field, STRETCHED)
    for element in range(48):
        turned = vorticity(transform_field(field, element, "1o", GROUP), transform_grid(STRETCHED, element, GROUP))
        torch.testing.assert_close(turned, transform_field(expected, element, "1e", GROUP), atol=1e-9, rtol=1e-9)
