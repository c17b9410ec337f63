"""Helicity: its sign, its spectrum, its bounds."""

import math

import numpy as np
import pytest
import torch

from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field, transform_grid
from flowsr.metrics import METRICS, energy_spectrum, helicity, helicity_spectrum, relative_helicity
from tests.metrics.fields import CUBE, UNEQUAL, abc, mesh, noise, taylor_green

GROUP = octahedral_group("Oh")


def helical_wave(grid, axis, number, hand):
    """Circularly polarized: curl u = hand k u, of unit amplitude."""
    k = 2 * math.pi * number / grid.lengths[axis]
    phase = k * mesh(grid)[axis]
    field = torch.zeros((1, 3, *grid.shape), dtype=torch.float64)
    field[0, (axis + 1) % 3], field[0, (axis + 2) % 3] = torch.cos(phase), -hand * torch.sin(phase)
    return field, k


def test_helicity_of_beltrami_flows_is_their_energy_and_they_are_fully_helical():
    field = 2 * abc(CUBE)
    assert helicity(field, CUBE).item() == pytest.approx((field**2).sum(1).mean().item(), rel=1e-12)
    assert relative_helicity(field, CUBE).item() == pytest.approx(1, rel=1e-12)
    assert abs(helicity(taylor_green(CUBE), CUBE).item()) < 1e-14  # its own mirror image
    left, k = helical_wave(UNEQUAL, 2, 3, -1)
    assert helicity(left, UNEQUAL).item() == pytest.approx(-k, rel=1e-12)
    assert relative_helicity(left, UNEQUAL).item() == pytest.approx(-1, rel=1e-12)


def test_helicity_spectrum_puts_each_wave_in_its_shell():
    right, k_right = helical_wave(UNEQUAL, 0, 2, +1)
    left, k_left = helical_wave(UNEQUAL, 2, 7, -1)
    k, spectrum = helicity_spectrum(right + left, UNEQUAL)
    width = float(k[1])
    expected = torch.zeros_like(k)
    expected[round(k_right / width)] += k_right / width
    expected[round(k_left / width)] -= k_left / width
    torch.testing.assert_close(spectrum[0], expected, atol=1e-12, rtol=1e-12)


def test_helicity_spectrum_adds_up_and_is_realizable():
    field = noise(UNEQUAL, batch=2)
    k, spectrum = helicity_spectrum(field, UNEQUAL)
    torch.testing.assert_close(spectrum.sum(-1) * k[1], helicity(field, UNEQUAL))
    largest = 2 * (k + k[1] / 2) * energy_spectrum(field, UNEQUAL).y
    assert (spectrum.abs() <= largest + 1e-12).all()


@pytest.mark.parametrize("hand", [1, -1])
def test_a_beltrami_flow_has_all_the_helicity_there_can_be_in_every_shell(hand):
    """Also where wavenumbers are not at the middle of their shells, by which k E(k) alone would be off by a fifth."""
    field = noise(UNEQUAL)
    modes = torch.fft.fftn(field, dim=(2, 3, 4))
    axes = [2 * math.pi * torch.fft.fftfreq(n, d, dtype=torch.float64) for n, d in zip(UNEQUAL.shape, UNEQUAL.spacing)]
    direction = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    highest = [a.abs() > math.pi / d - 1e-9 for a, d in zip(axes, UNEQUAL.spacing)]  # Nyquist: no derivative
    nyquist = torch.stack(torch.meshgrid(*highest, indexing="ij"))
    length = direction.norm(dim=0)
    modes = torch.where(nyquist.any(0) | (length == 0), 0, modes)
    unit = (direction / length.clamp_min(1e-12)).to(modes.dtype)[None]
    across = modes - unit * (unit * modes).sum(1, keepdim=True)
    helical = (across + hand * 1j * torch.linalg.cross(unit.expand_as(across), across, dim=1)) / 2
    screw = torch.fft.ifftn(helical, dim=(2, 3, 4)).real
    assert relative_helicity(screw, UNEQUAL).abs() > 0.9
    share = METRICS["helicity_spectrum"]()(screw, screw, UNEQUAL)["relative_helicity_per_wavenumber"].y
    torch.testing.assert_close(share, torch.full_like(share, hand), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["helicity", "helicity_spectrum"])
def test_helicity_is_a_pseudoscalar_under_all_48(name):
    field = noise(UNEQUAL) + 0.5 * helical_wave(UNEQUAL, 1, 2, 1)[0]

    def measure(field, grid):
        found = METRICS[name]()(field, field, grid)
        return torch.cat([value.y if hasattr(value, "y") else value[None] for value in found.values()])

    expected = measure(field, UNEQUAL)
    assert expected.abs().max() > 0.01
    for element, operation in enumerate(GROUP.operations):
        turned = transform_field(field, element, "1o", GROUP)
        found = measure(turned, transform_grid(UNEQUAL, element, GROUP))
        torch.testing.assert_close(found, operation.determinant * expected, atol=1e-11, rtol=1e-10)


def test_pooled_helicity_is_of_all_snapshots_together():
    right, left = helical_wave(UNEQUAL, 0, 1, +1)[0], helical_wave(UNEQUAL, 0, 1, -1)[0]
    metric = METRICS["helicity"]()
    metric.update(torch.cat([right, 2 * left]), torch.cat([right, left]), UNEQUAL)
    result = metric.compute()
    assert result["helicity"].item() == pytest.approx((1 - 4) / 2)
    assert result["relative_helicity"].item() == pytest.approx(-3 / 5)
    spectrum = METRICS["helicity_spectrum"]()
    spectrum.update(torch.cat([right, left]), torch.cat([right, left]), UNEQUAL)
    assert np.nanmax(spectrum.compute()["relative_helicity_per_wavenumber"].y.abs()) < 1e-12
