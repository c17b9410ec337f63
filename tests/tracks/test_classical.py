"""Fields from particles: closed forms, and what must not change them."""

from dataclasses import replace

import numpy as np
import pytest

from flowsr.tracks import METHODS, Cloud, vorticity
from flowsr.tracks.classical import SplineGrid, _smoothing, noise_of

#: A fit by iteration is as exact as it is told to be, and takes longer.
EXACT = {"bspline": {"tolerance": 1e-6, "cells_per_particle": 0.5, "roughness": 0.003}}
COARSE = {"bspline": {"cells_per_particle": 1.0, "roughness": 0.003}}
#: The network needs a model, Navier-Stokes accelerations; they have tests of their own.
CLASSICAL = [name for name in METHODS if name not in ("network", "navier_stokes")]
GRADIENTS = {"linear", "local_fit", "solenoidal", "bspline"}
BOX = {"lower": (0.0, 0.0, 0.0), "upper": (1.0, 1.5, 0.8), "boundary": ("open", "wall", "open")}
STRAIN = np.array([[0.7, -1.2, 0.3], [0.4, -0.2, 2.0], [0.0, 0.9, -0.5]])  # no trace


def cloud_of(velocity, count=300, seed=0, **box):
    box = {**BOX, **box}
    x = np.random.default_rng(seed).uniform(box["lower"], box["upper"], (count, 3))
    return Cloud(x, velocity(x), **box)


def inside(count=20, seed=1):
    return np.random.default_rng(seed).uniform(0.3, 0.5, (count, 3))


@pytest.mark.parametrize("name", ["linear", "local_fit", "solenoidal", "bspline", "rbf"])
def test_a_linear_flow_is_met_exactly(name):
    """Shear, strain and rotation without divergence, and a mean stream."""
    mean = np.array([3.0, -1.0, 0.5])
    found = METHODS[name](cloud_of(lambda x: x @ STRAIN.T + mean), inside(), **EXACT.get(name, {}))
    close = 1e-3 if name == "bspline" else 1e-7
    np.testing.assert_allclose(found.velocity, inside() @ STRAIN.T + mean, atol=close)
    if name in GRADIENTS:
        np.testing.assert_allclose(found.gradient, np.broadcast_to(STRAIN, (20, 3, 3)), atol=100 * close)
        np.testing.assert_allclose(found.vorticity[0], [0.9 - 2.0, 0.3, 0.4 + 1.2], atol=100 * close)


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_uniform_stream_changes_nothing_but_itself(name):
    wind = np.array([50.0, -20.0, 10.0])
    at_rest = cloud_of(lambda x: np.sin(4 * x[:, [1, 2, 0]]))
    blown = Cloud(at_rest.positions, at_rest.velocities + wind, **BOX)
    one, other = (METHODS[name](cloud, inside(), **EXACT.get(name, {})) for cloud in (at_rest, blown))
    close = 1e-3 if name == "bspline" else 1e-10
    np.testing.assert_allclose(other.velocity, one.velocity + wind, atol=close)
    if one.gradient is not None:
        np.testing.assert_allclose(other.gradient, one.gradient, atol=100 * close)


@pytest.mark.parametrize("name", CLASSICAL)
def test_other_units_are_the_same_flow(name):
    length, speed = 1000.0, 0.01
    small = cloud_of(lambda x: np.sin(4 * x[:, [1, 2, 0]]))
    box = {"lower": (0.0,) * 3, "upper": tuple(length * np.array(BOX["upper"])), "boundary": BOX["boundary"]}
    large = Cloud(small.positions * length, small.velocities * speed, **box)
    options = EXACT.get(name, {})
    one, other = METHODS[name](small, inside(), **options), METHODS[name](large, inside() * length, **options)
    close = 1e-3 if name == "bspline" else 1e-6
    np.testing.assert_allclose(other.velocity, speed * one.velocity, rtol=close, atol=close * speed)
    if one.gradient is not None:
        np.testing.assert_allclose(
            other.gradient, speed / length * one.gradient, rtol=close, atol=100 * close * speed / length
        )


def any_rotation(seed, improper):
    matrix = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return matrix * (np.sign(np.linalg.det(matrix)) * (-1 if improper else 1))


@pytest.mark.parametrize("improper", [False, True])
@pytest.mark.parametrize("name", [name for name in CLASSICAL if name != "bspline"])
def test_rotations_and_reflections_turn_the_field(name, improper):
    """Random elements of O(3) about the origin, shifted; every method but the one with a grid."""
    matrix, shift = any_rotation(3, improper), (5.0, -2.0, 1.0)
    upright = cloud_of(lambda x: np.sin(4 * x[:, [1, 2, 0]]), boundary=("open",) * 3)
    turned = METHODS[name](upright.transformed(matrix, shift), inside() @ matrix.T + shift)
    straight = METHODS[name](upright, inside())
    np.testing.assert_allclose(turned.velocity, straight.velocity @ matrix.T, atol=1e-10)
    if straight.gradient is not None:
        np.testing.assert_allclose(turned.gradient, matrix @ straight.gradient @ matrix.T, atol=1e-8)


@pytest.mark.parametrize("name", CLASSICAL)
def test_the_order_of_the_particles_and_whole_periods_do_not_matter(name):
    def flow(x):
        return np.sin(2 * np.pi * x[:, [1, 2, 0]])

    box = {"lower": (0.0,) * 3, "upper": (1.0,) * 3, "boundary": ("periodic",) * 3}
    cloud = cloud_of(flow, 200, **box)
    order = np.random.default_rng(2).permutation(200)
    shuffled = Cloud(cloud.positions[order], cloud.velocities[order], **box)
    moved = Cloud((cloud.positions + 0.37) % 1.0, cloud.velocities, **box)
    places = np.random.default_rng(3).uniform(size=(15, 3))
    options = EXACT.get(name, {})
    found = METHODS[name](cloud, places, **options).velocity
    periods = np.array([1.0, -2.0, 0.0])
    np.testing.assert_allclose(METHODS[name](shuffled, places + periods, **options).velocity, found, atol=1e-6)
    if name != "bspline":  # its grid stays where it is
        np.testing.assert_allclose(METHODS[name](moved, places + 0.37).velocity, found, atol=1e-6)


def test_solenoidal_has_no_divergence_and_its_gradient_is_that_of_its_field():
    cloud = cloud_of(lambda x: np.random.default_rng(5).normal(size=x.shape), 60)
    places, step = inside(6), 1e-5
    everything = {"neighbours": 60}  # the same particles for all places
    for exponent in (2 / 3, 3.0):
        found = METHODS["solenoidal"](cloud, places, exponent=exponent, **everything)
        assert np.abs(np.trace(found.gradient, axis1=1, axis2=2)).max() < 1e-9 * np.abs(found.gradient).max()
        for axis, unit in enumerate(np.eye(3)):
            # neighbours are scaled by the farthest: the field does not know
            ahead, behind = (
                METHODS["solenoidal"](cloud, places + s * step * unit, exponent=exponent, **everything).velocity
                for s in (1, -1)
            )
            slope = (ahead - behind) / (2 * step)
            np.testing.assert_allclose(found.gradient[:, :, axis], slope, rtol=1e-4, atol=1e-4)


def test_solenoidal_passes_through_the_particles_and_noise_lets_go():
    cloud = cloud_of(lambda x: np.sin(9 * x[:, [1, 2, 0]]), 200)
    near = cloud.positions[:10] + 1e-9
    exact = METHODS["solenoidal"](cloud, near, noise=0.0).velocity
    np.testing.assert_allclose(exact, cloud.velocities[:10], atol=1e-5)
    smooth = METHODS["solenoidal"](cloud, near, noise=0.3).velocity
    assert np.abs(smooth - cloud.velocities[:10]).max() > 0.01


def test_noise_that_is_known_is_taken_out():
    rng = np.random.default_rng(0)
    flow = lambda x: np.sin(5 * x[:, [1, 2, 0]])  # noqa: E731
    cloud = cloud_of(lambda x: flow(x) + 0.2 * rng.normal(size=x.shape), 600)
    errors = [
        np.sqrt(np.mean((METHODS["solenoidal"](cloud, inside(60), noise=noise).velocity - flow(inside(60))) ** 2))
        for noise in (0.0, 0.2, None)
    ]
    assert errors[1] < 0.6 * errors[0] and errors[1] < 0.1
    assert errors[2] < 0.8 * errors[0]  # found without being told
    turned = cloud.transformed(any_rotation(6, improper=True), (3.0, 1.0, -2.0))
    assert noise_of(turned) == pytest.approx(noise_of(cloud), rel=1e-9) and noise_of(cloud) > 0.03


def test_particles_that_are_known_badly_count_less():
    """Half of the particles are noise, and it is known which."""
    rng, flow = np.random.default_rng(0), lambda x: np.sin(5 * x[:, [1, 2, 0]])
    bad = np.where(np.arange(400) % 2, 0.01, 1.0)
    cloud = replace(cloud_of(lambda x: flow(x) + bad[:, None] * rng.normal(size=x.shape), 400), uncertainty=bad)
    for name in ("solenoidal", "bspline"):
        told, not_told = (
            np.sqrt(np.mean((METHODS[name](one, inside(60), **COARSE.get(name, {})).velocity - flow(inside(60))) ** 2))
            for one in (cloud, replace(cloud, uncertainty=None))
        )
        assert told < 0.1 and told < 0.4 * not_told


def test_kriging_knows_how_far_it_is_off():
    """Nothing at a particle, what is noise where there is noise, its errors elsewhere, and no unit of its own."""
    rng = np.random.default_rng(4)
    waves, phases = rng.normal(size=(30, 3)) * 6, rng.uniform(0, 2 * np.pi, 30)
    sizes = np.cross(waves, rng.normal(size=(30, 3))) / (waves**2).sum(1)[:, None] ** 1.5
    flow = lambda x: np.cos(x @ waves.T + phases) @ sizes  # noqa: E731
    cloud, places = cloud_of(flow, 400), rng.uniform(0.2, 0.6, (150, 3))
    found = METHODS["solenoidal"](cloud, places, uncertainty=True)
    off = np.sqrt(np.mean((found.velocity - flow(places)) ** 2))
    assert off / 2 < np.sqrt(np.mean(found.uncertainty**2)) < 4 * off  # smoother than it takes a flow to be
    near = METHODS["solenoidal"](cloud, cloud.positions[:9] + 1e-9, noise=0.0, uncertainty=True)
    assert near.uncertainty.max() < 1e-3 * off
    noisy = METHODS["solenoidal"](cloud, cloud.positions[:9], noise=0.2 * off, uncertainty=True).uncertainty
    assert (noisy > 0.05 * off).all() and (noisy < 0.21 * off).all()
    matrix = any_rotation(5, improper=True)
    turned = Cloud(cloud.positions * 10, cloud.velocities * 3, (0,) * 3, (10, 15, 8), cloud.boundary)
    turned = METHODS["solenoidal"](turned.transformed(matrix), 10 * places @ matrix.T, uncertainty=True)
    np.testing.assert_allclose(turned.uncertainty, 3 * found.uncertainty, rtol=1e-6)
    for exponent in (2 / 3, 1.0):
        assert METHODS["solenoidal"](cloud, places[:5], exponent=exponent, uncertainty=True).uncertainty.min() > 0


def test_splines_smooth_as_much_as_the_particles_that_are_left_out_ask_for():
    rng, flow = np.random.default_rng(0), lambda x: np.sin(5 * x[:, [1, 2, 0]])
    for noise, least, most in ((0.0, 0.0, 0.01), (0.5, 0.03, 1.0)):
        cloud = cloud_of(lambda x: flow(x) + noise * rng.normal(size=x.shape), 150)  # noqa: B023
        assert least <= _smoothing(cloud, 0.5, 3.0, 1e-2) <= most


@pytest.mark.parametrize("exponent", [0.0, 2.0, 4.0, -1.0])
def test_an_exponent_that_is_none_is_refused(exponent):
    with pytest.raises(ValueError, match="exponent"):
        METHODS["solenoidal"](cloud_of(lambda x: x), inside(), exponent=exponent)


def test_splines_are_a_partition_of_one_and_their_derivatives_theirs():
    grid = SplineGrid(np.zeros(3), np.full(3, 0.25), (4, 4, 4), np.array([True, False, False]))
    assert grid.shape == (4, 7, 7)
    places = np.random.default_rng(0).uniform(0.01, 0.99, (30, 3))
    np.testing.assert_allclose(grid.matrix(places).sum(1), 1)
    weights = np.random.default_rng(1).normal(size=4 * 49)
    step = np.array([0, 1e-6, 0])
    slope = (grid.matrix(places + step) - grid.matrix(places - step)) @ weights / 2e-6
    np.testing.assert_allclose(grid.matrix(places, (0, 1, 0)) @ weights, slope, rtol=1e-4, atol=1e-5)


def test_vorticity_of_a_rotation_is_twice_its_rate():
    rate = np.array([0.3, -0.2, 0.9])
    rotation = np.array([[0, -rate[2], rate[1]], [rate[2], 0, -rate[0]], [-rate[1], rate[0], 0]])
    np.testing.assert_allclose(vorticity(rotation), 2 * rate)
