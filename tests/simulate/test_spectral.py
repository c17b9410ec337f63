import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsr.grid import Grid
from flowsr.simulate import PeriodicBox, resample
from tests.simulate.boxes import UNEQUAL, cube, divergence, relative, unequal

SIZES = st.integers(5, 14)
SIDES = st.floats(0.5, 3.0)


def noise(box, components=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    field = torch.randn(components, *box.grid.shape, generator=generator, dtype=torch.float64)
    return box.forward(field.to(box.dtype))


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(SIZES, SIZES, SIZES),
    sides=st.tuples(SIDES, SIDES, SIDES),
    dealiasing=st.sampled_from(["sphere", "cube"]),
)
def test_transforms_are_inverse_and_the_inner_product_is_the_volume_average(shape, sides, dealiasing):
    grid = Grid(shape, tuple(side / n for side, n in zip(sides, shape)))
    box = PeriodicBox(grid, dealiasing=dealiasing, dtype=torch.float64)
    a, b = noise(box, seed=1), noise(box, seed=2)
    field_a, field_b = box.backward(a), box.backward(b)
    assert relative(box.forward(field_a), a) < 1e-13
    assert float(box.inner(a, b)) == pytest.approx(float((field_a * field_b).sum(0).mean()), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("make", [lambda: cube(8), unequal])
def test_a_large_field_is_transformed_by_components_to_the_same_values(make, monkeypatch):
    box = make()
    a = noise(box)
    product = torch.randn(3, *box.grid.shape, dtype=torch.float64)
    whole, forth = box.backward(a), box.empty()
    box.forward_product(product, out=forth)
    monkeypatch.setattr("flowsr.simulate.spectral.LARGEST_BATCH", 0)
    forth_each = box.empty()
    box.forward_product(product, out=forth_each)
    assert relative(box.backward(a), whole) < 1e-15
    assert relative(forth_each, forth) < 1e-15


def test_curl_and_divergence_of_a_wave_on_unequal_sides():
    box = unequal()
    x, y, z = box.coordinates()
    kx, ky, kz = (2 * math.pi * n / length for n, length in zip((2, 3, 1), box.grid.lengths))
    zero = torch.zeros(box.grid.shape, dtype=torch.float64)
    velocity = torch.stack([torch.sin(ky * y) + zero, torch.cos(kz * z) + zero, torch.sin(kx * x) + zero])
    expected = torch.stack(
        [kz * torch.sin(kz * z) + zero, -kx * torch.cos(kx * x) + zero, -ky * torch.cos(ky * y) + zero]
    )
    curl = box.empty()
    box.curl(box.forward(velocity), out=curl)
    torch.testing.assert_close(box.backward(curl), expected, rtol=0, atol=1e-12)
    stretching = torch.stack([torch.sin(kx * x) + zero, zero, torch.cos(kz * z) + zero])
    div = box.backward(box.divergence(box.forward(stretching)))
    torch.testing.assert_close(div, kx * torch.cos(kx * x) - kz * torch.sin(kz * z) + zero, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [lambda: cube(9), unequal])
def test_projection_leaves_the_solenoidal_part_alone_and_nothing_else(make):
    box = make()
    a = noise(box)
    projected = a.clone()
    box.project(projected, box.empty(1)[0])
    assert divergence(box, a) > 0.1
    assert divergence(box, projected) < 1e-15
    removed = a - projected
    curl = box.empty()
    box.curl(removed, out=curl)
    assert float(box.inner(curl, curl)) < 1e-25  # what went was a gradient
    again = projected.clone()
    box.project(again, box.empty(1)[0])
    assert relative(again, projected) < 1e-15


def test_products_lose_their_mean_and_what_is_beyond_the_truncation():
    box = cube(12)
    product = torch.randn(3, 12, 12, 12, dtype=torch.float64) + 5.0
    out = box.empty()
    box.forward_product(product, out=out)
    expected = torch.fft.rfftn(product, dim=(1, 2, 3), norm="forward") * box.mask
    expected[:, 0, 0, 0] = 0
    assert relative(out, expected) < 1e-14


@pytest.mark.parametrize("n", [12, 15, 24])  # multiples of 3 have modes on the very edge, which must be out
@pytest.mark.parametrize(("dealiasing", "radius"), [("sphere", math.sqrt(2) / 3), ("cube", 1 / 3)])
def test_the_truncation_has_the_stated_shape(dealiasing, radius, n):
    box = cube(n, dealiasing=dealiasing)
    counts = np.rint(np.fft.fftfreq(n, 1 / n)).astype(int)
    x, y, z = np.meshgrid(counts, counts, np.arange(n // 2 + 1), indexing="ij")
    if dealiasing == "sphere":
        expected = 9 * (x**2 + y**2 + z**2) < 2 * n**2
    else:
        expected = 3 * np.maximum(np.maximum(abs(x), abs(y)), abs(z)) < n
    np.testing.assert_array_equal(box.mask.numpy() > 0, expected)
    assert box.k_max == pytest.approx(radius * n)


def test_the_cube_truncation_makes_a_product_free_of_aliasing():
    box, fine = cube(12, dealiasing="cube"), cube(24, dealiasing="cube")
    a, b = noise(box, 1, seed=1), noise(box, 1, seed=2)
    product = box.forward(box.backward(a) * box.backward(b))
    exact = fine.forward(fine.backward(resample(a, box, fine)) * fine.backward(resample(b, box, fine)))
    assert relative(product, resample(exact, fine, box)) < 1e-13


@pytest.mark.parametrize("finer", [(24, 30, 32), (13, 16, 19), (12, 15, 17)])
def test_zero_padding_gives_the_same_function_at_the_new_cell_centres(finer):
    coarse = unequal()
    grid = Grid(finer, tuple(length / n for length, n in zip(UNEQUAL.lengths, finer)), origin=UNEQUAL.origin)
    fine = PeriodicBox(grid, dtype=torch.float64)

    def waves(box):
        x, y, z = (2 * math.pi * (c - o) / s for c, o, s in zip(box.coordinates(), box.grid.origin, box.grid.lengths))
        return (torch.sin(3 * x - 2 * y + z + 0.3) + torch.cos(2 * y + 4 * z - 1.0) + torch.sin(-x + 0.2))[None]

    padded = resample(coarse.forward(waves(coarse)), coarse, fine)
    torch.testing.assert_close(fine.backward(padded), waves(fine), rtol=0, atol=1e-12)
    assert relative(resample(padded, fine, coarse), coarse.forward(waves(coarse))) < 1e-13


def test_resampling_between_different_volumes_is_refused():
    with pytest.raises(ValueError, match="not the same volume"):
        resample(noise(cube(8)), cube(8), unequal())


def test_reality_is_enforced_without_touching_a_real_field():
    box = cube(10)
    a = noise(box)
    kept = a.clone()
    box.enforce_reality(kept)
    assert relative(kept, a) < 1e-15
    spoiled = a.clone()
    spoiled[..., 0] += 1j * box.mask[..., 0] * box.k_squared[..., 0]  # no real field has this
    box.enforce_reality(spoiled)
    assert relative(spoiled, a) < 1e-14


def test_what_is_no_fourier_space_is_refused():
    with pytest.raises(ValueError, match="periodic"):
        PeriodicBox(Grid((8, 8, 8), boundary=("periodic", "wall", "periodic")))
    with pytest.raises(ValueError, match="dealiasing"):
        cube(8, dealiasing="none")
