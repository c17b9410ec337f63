import math

import pytest
import torch

from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.simulate import PeriodicBox, abc, from_spectrum, random_solenoidal, taylor_green
from tests.simulate.boxes import cube, divergence, relative, unequal


def centres(n):
    return (torch.arange(n, dtype=torch.float64) + 0.5) * 2 * math.pi / n


def test_taylor_green_is_evaluated_at_the_cell_centres():
    n = 10
    x, y, z = torch.meshgrid(centres(n), centres(n), centres(n), indexing="ij")
    box = cube(n)
    expected = torch.stack([x.sin() * y.cos() * z.cos(), -x.cos() * y.sin() * z.cos(), torch.zeros_like(x)])
    velocity = taylor_green(box)
    torch.testing.assert_close(box.backward(velocity), expected, rtol=0, atol=1e-14)
    assert float(box.inner(velocity, velocity)) / 2 == pytest.approx(1 / 8)


def test_taylor_green_is_solenoidal_on_unequal_sides():
    assert divergence(unequal(), taylor_green(unequal())) < 1e-15


def test_abc_is_its_own_curl_at_the_cell_centres():
    n = 9
    box = cube(n)
    velocity = abc(box, 1.0, 0.7, 0.4)
    curl = box.empty()
    box.curl(velocity, out=curl)
    assert relative(curl, velocity) < 1e-14
    _x, y, z = torch.meshgrid(centres(n), centres(n), centres(n), indexing="ij")
    torch.testing.assert_close(box.backward(velocity)[0], z.sin() + 0.4 * y.cos(), rtol=0, atol=1e-14)
    assert float(box.inner(velocity, velocity)) / 2 == pytest.approx((1 + 0.49 + 0.16) / 2)


def test_abc_needs_a_cube():
    with pytest.raises(FlowsrError, match="cube"):
        abc(unequal())


@pytest.mark.parametrize("make", [lambda: cube(16), unequal])
def test_a_random_start_is_solenoidal_with_exactly_the_energy_asked_for(make):
    box = make()
    velocity = random_solenoidal(box, seed=3, energy=0.7, k_peak=4.0)
    assert float(box.inner(velocity, velocity)) / 2 == pytest.approx(0.7, rel=1e-12)
    assert divergence(box, velocity) < 1e-14
    assert relative(box.forward(box.backward(velocity)), velocity) < 1e-13  # a real field


def test_random_starts_follow_their_seed_and_not_the_precision():
    box, single = cube(12), cube(12, torch.float32)
    first = random_solenoidal(box, 0, 0.5, 2.5)
    assert torch.equal(first, random_solenoidal(box, 0, 0.5, 2.5))
    assert relative(random_solenoidal(single, 0, 0.5, 2.5).to(first.dtype), first) < 1e-7
    assert relative(random_solenoidal(box, 1, 0.5, 2.5), first) > 1.0


def test_the_random_spectrum_peaks_where_it_should():
    n, k_peak = 48, 6.0
    box = PeriodicBox(Grid((n,) * 3, (2 * math.pi / n,) * 3), dtype=torch.float64)
    velocity = random_solenoidal(box, 0, 1.0, k_peak)
    energy = (velocity.abs().square().sum(0) * box.weight / 2).flatten()
    shells = box.k_squared.sqrt().round().long().flatten()
    spectrum = torch.zeros(int(shells.max()) + 1, dtype=torch.float64).index_add_(0, shells, energy)
    k = torch.arange(len(spectrum), dtype=torch.float64)
    model = k**4 * torch.exp(-2 * (k / k_peak) ** 2)
    model /= model.sum()
    torch.testing.assert_close(spectrum[3:12], model[3:12], rtol=0.15, atol=0)


@pytest.mark.parametrize("make", [lambda: cube(16), unequal])
def test_a_start_from_a_table_has_its_spectrum_in_every_shell(make):
    box = make()
    lowest = 2 * math.pi / max(box.grid.lengths)
    table = [(k * lowest, 3.0 * k ** (-5 / 3)) for k in (2, 3, 5)]
    velocity = from_spectrum(box, 4, *zip(*table))
    assert divergence(box, velocity) < 1e-14
    assert relative(box.forward(box.backward(velocity)), velocity) < 1e-13
    energy = (velocity.abs().square().sum(0) * box.weight / 2).flatten()
    shell = (box.k_squared.sqrt() / lowest).round().long().flatten()
    spectrum = torch.zeros(int(shell.max()) + 1, dtype=torch.float64).index_add_(0, shell, energy) / lowest
    expected = torch.zeros_like(spectrum)
    expected[2:6] = 3.0 * torch.arange(2, 6, dtype=torch.float64) ** (-5 / 3)
    torch.testing.assert_close(spectrum, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ([(1.0, 1.0)], "two rows or more"),
        ([(2.0, 1.0), (1.0, 1.0)], "increasing"),
        ([(1.0, 1.0), (2.0, -1.0)], "positive"),
        ([(50.0, 1.0), (60.0, 1.0)], "no shell of the box"),
    ],
)
def test_what_is_no_spectrum_is_refused(table, told):
    with pytest.raises(FlowsrError, match=told):
        from_spectrum(cube(8), 0, *zip(*table))
