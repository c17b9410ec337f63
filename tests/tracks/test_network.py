"""Networks on particles: exact symmetry in double precision, their gradients, their training and their files."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from flowsr.cli import main
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.tracks import METHODS, Cloud, Estimate, Truth, grid_points, load_network, seed_particles
from flowsr.tracks.classical import left_out, solenoidal
from flowsr.tracks.learned import CARD, WEIGHTS, correct, hear, save_network
from flowsr.tracks.network import NetworkOptions, Nodes, TracksNetwork, neighbourhood, nodes_of
from flowsr.tracks.training import Draws, example_of, load_examples, loss_of, save_examples, train_network
from flowsr.train.settings import Schedule

SMALL = {"width": 3, "neighbours": 12, "radial": 3}
BOX = {"lower": (0.0, 0.0, 0.0), "upper": (1.0, 1.5, 0.8), "boundary": ("open",) * 3}


def flow(x):
    return np.sin(4 * x[:, [1, 2, 0]]) + 0.3 * np.cos(7 * x[:, [2, 0, 1]])


def cloud_of(velocity=flow, count=150, **box):
    box = {**BOX, **box}
    x = np.random.default_rng(0).uniform(box["lower"], box["upper"], (count, 3))
    return Cloud(x, velocity(x), **box, accelerations=np.cos(5 * x[:, [2, 0, 1]]))


def places(count=8):
    return np.random.default_rng(1).uniform(0.25, 0.6, (count, 3))


def network_of(seed=0, **options):
    """In double precision, with a head that is not nearly zero."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = TracksNetwork(NetworkOptions(**{**SMALL, **options}))
    finally:
        torch.set_default_dtype(before)
    with torch.no_grad():
        network.head.weight.mul_(10)
    return network


def any_rotation(seed, improper):
    matrix = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return matrix * (np.sign(np.linalg.det(matrix)) * (-1 if improper else 1))


@pytest.mark.parametrize(("l_max", "head"), [(0, "velocity"), (1, "potential"), (2, "velocity")])
def test_any_element_of_o3_and_a_translation_turn_the_field(l_max, head):
    network, cloud = network_of(l_max=l_max, head=head, width=2, accelerations=True), cloud_of()
    straight = METHODS["network"](cloud, places(), model=network)
    assert np.abs(straight.velocity - solenoidal(cloud, places()).velocity).max() > 1e-3  # it does something
    for improper, shift in ((False, (5.0, -2.0, 1.0)), (True, (0.0, 3.0, -1.0))):
        matrix = any_rotation(l_max, improper)
        turned = METHODS["network"](cloud.transformed(matrix, shift), places() @ matrix.T + shift, model=network)
        np.testing.assert_allclose(turned.velocity, straight.velocity @ matrix.T, atol=1e-10)
        np.testing.assert_allclose(turned.gradient, matrix @ straight.gradient @ matrix.T, atol=1e-9)


def test_order_wind_units_and_whole_periods_change_nothing_but_themselves():
    periodic = {"lower": (0.0,) * 3, "upper": (1.0,) * 3, "boundary": ("periodic",) * 3}
    network, cloud = network_of(), cloud_of(lambda x: np.sin(2 * np.pi * x[:, [1, 2, 0]]), **periodic)
    found = METHODS["network"](cloud, places(), model=network).velocity
    order, wind = np.random.default_rng(2).permutation(len(cloud)), np.array([30.0, -20.0, 10.0])
    shuffled = Cloud(cloud.positions[order], cloud.velocities[order], **periodic)
    moved = Cloud((cloud.positions + 0.37) % 1.0, cloud.velocities, **periodic)
    blown = replace(cloud, velocities=cloud.velocities + wind)
    large = {**periodic, "upper": (1000.0,) * 3}
    for other, at, expected in (
        (shuffled, places() + np.array([1.0, -2.0, 0.0]), found),
        (moved, places() + 0.37, found),
        (blown, places(), found + wind),
        (Cloud(cloud.positions * 1000, cloud.velocities / 100, **large), places() * 1000, found / 100),
    ):
        np.testing.assert_allclose(METHODS["network"](other, at, model=network).velocity, expected, atol=1e-10)


@pytest.mark.parametrize("head", ["velocity", "potential"])
def test_the_gradient_is_that_of_the_field_and_a_potentials_curl_has_no_divergence(head):
    cloud, network, nothing = cloud_of(), network_of(head=head), np.zeros((8, 3))
    none = Estimate(nothing, np.zeros((8, 3, 3)))
    heard, step = hear(cloud, network), 1e-6
    found = correct(cloud, places(), none, network, heard)
    for axis, unit in enumerate(np.eye(3)):
        ahead, behind = (correct(cloud, places() + s * step * unit, none, network, heard).velocity for s in (1, -1))
        np.testing.assert_allclose(found.gradient[:, :, axis], (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-5)
    divergence = np.abs(np.trace(found.gradient, axis1=1, axis2=2)).max()
    assert divergence < 1e-10 if head == "potential" else divergence > 1e-6


def test_a_linear_flow_is_met_exactly_whatever_the_weights():
    strain, mean = np.array([[0.7, -1.2, 0.3], [0.4, -0.2, 2.0], [0.0, 0.9, -0.5]]), np.array([3.0, -1.0, 0.5])
    found = METHODS["network"](cloud_of(lambda x: x @ strain.T + mean), places(), model=network_of())
    np.testing.assert_allclose(found.velocity, places() @ strain.T + mean, atol=1e-7)
    np.testing.assert_allclose(found.gradient, np.broadcast_to(strain, (8, 3, 3)), atol=1e-5)


def test_layers_do_not_grow_without_bound_where_a_cloud_is_unlike_any_before():
    network, cloud = network_of(layers=3), cloud_of()
    nodes = nodes_of(cloud, network.options, torch.float64)

    def size(factor):
        features = network.particles(replace(nodes, features=factor * nodes.features))
        return float(network.at(features[nodes.indices], nodes.ways).detach().abs().max())

    assert size(100.0) < 1000 * (1 + size(1.0))


def test_what_is_left_out_is_what_the_others_miss():
    cloud = cloud_of(count=80)
    misses, gradients = left_out(cloud)
    for particle in (0, 17):
        others = np.arange(80) != particle
        without = Cloud(cloud.positions[others], cloud.velocities[others], **BOX)
        told = solenoidal(without, cloud.positions[[particle]], neighbours=39, noise=0.0).velocity[0]
        np.testing.assert_allclose(misses[particle], cloud.velocities[particle] - told, rtol=1e-6)
    near = solenoidal(cloud, cloud.positions[:5] + 1e-7, noise=0.0)
    np.testing.assert_allclose(gradients[:5], near.gradient, atol=1e-4)


def test_a_relaxed_network_starts_strict_and_its_constant_breaks_the_symmetry_and_is_reported():
    relaxed, cloud, matrix = network_of(relaxed=True), cloud_of(), any_rotation(4, improper=False)

    def difference():
        turned = METHODS["network"](cloud.transformed(matrix), places() @ matrix.T, model=relaxed).velocity
        return np.abs(turned - METHODS["network"](cloud, places(), model=relaxed).velocity @ matrix.T).max()

    assert difference() < 1e-10 and relaxed.breaking() == {"1e": 0.0, "1o": 0.0, "2e": 0.0}
    with torch.no_grad():
        relaxed.constant[:3] = torch.tensor([0.0, 0.0, 2.0])
    from flowsr.tracks.learned import _heard

    _heard.cache_clear()  # it was changed behind its back
    assert difference() > 1e-4 and relaxed.breaking() == {"1e": 2.0, "1o": 0.0, "2e": 0.0}
    assert network_of().breaking() == {}


def test_accelerations_are_taken_where_asked_and_refused_where_not_measured():
    network, cloud = network_of(accelerations=True), cloud_of()
    other = replace(cloud, accelerations=cloud.accelerations[::-1])
    one, two = (METHODS["network"](each, places(), model=network).velocity for each in (cloud, other))
    assert np.abs(one - two).max() > 1e-4
    with pytest.raises(FlowsrError, match="accelerations"):
        METHODS["network"](replace(cloud, accelerations=None), places(), model=network)
    plain = network_of()
    one, two = (METHODS["network"](each, places(), model=plain).velocity for each in (cloud, other))
    np.testing.assert_array_equal(one, two)


GRID = Grid((16, 16, 16), (2 * np.pi / 16,) * 3)


@pytest.fixture(scope="module")
def examples():
    """Of the ABC flow, whose parts have other strengths in each, measured with noise."""
    found = []
    for number in range(3):
        a, b, c = np.random.default_rng(number).uniform(0.5, 1.5, 3)
        x, y, z = grid_points(GRID).T
        velocity = np.stack(
            [a * np.sin(z) + c * np.cos(y), b * np.sin(x) + a * np.cos(z), c * np.sin(y) + b * np.cos(x)]
        )
        truth, rng = Truth(velocity.reshape(3, 16, 16, 16), GRID), np.random.default_rng(number)
        cloud = seed_particles(truth, 120, rng)
        noisy = replace(cloud, velocities=cloud.velocities + 0.1 * rng.normal(size=(120, 3)))
        found.append(example_of(truth, noisy, rng.uniform(0, 2 * np.pi, (200, 3))))
    return found


def test_training_gets_ahead_of_the_classical_estimate_and_the_file_is_a_method(examples, tmp_path, capsys):
    schedule = Schedule(max_epochs=4, samples_per_epoch=12, batch_size=1, learning_rate=0.02, patience=50)
    options, told = NetworkOptions(**{**SMALL, "width": 6}), {"points": 120, "notes": {"data": "ABC"}}
    found = train_network(options, examples[:2], examples[2:], tmp_path / "a", schedule, **told)
    assert found.best_validation_loss < 0.9  # 1 is the classical estimate
    one = examples[2]
    better = METHODS["network"](one.cloud, one.points, model=tmp_path / "a")

    def error(estimate):
        return np.sqrt(np.mean((estimate.gradient - one.truth.gradient) ** 2))

    assert error(better) < error(one.classical)
    np.savetxt(tmp_path / "t.dat", np.column_stack([one.cloud.positions, one.cloud.velocities]))
    asked = ["tracks", str(tmp_path / "t.dat"), str(tmp_path / "f.zarr"), "--cells", "4", "4", "4"]
    assert main([*asked, "--model", str(tmp_path / "a")]) == 0
    assert main([*asked[:2], str(tmp_path / "g.zarr"), "--method", "network"]) == 2
    assert main([*asked[:2], str(tmp_path / "g.zarr"), "--model", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("error:") == 2


def test_draws_are_a_function_of_epoch_and_index_and_show_all_examples(examples):
    options = NetworkOptions(**SMALL)
    draws, again = Draws(examples, options, 6, 20, seed=3), Draws(examples, options, 6, 20, seed=3)
    again.set_epoch(1)
    _ = again[2]
    again.set_epoch(0)
    assert all(torch.equal(a, b) for a, b in zip(draws[4], again[4]))
    seen = [float(draws[index][0][0, 3]) for index in range(3)]
    assert len(set(seen)) == 3
    assert not torch.equal(draws[0][3], draws[1][3])


def test_points_are_told_the_same_of_the_particles_that_they_hear_of_as_of_all(examples):
    one, options = examples[0], NetworkOptions(layers=2, width=3, neighbours=5, radial=3)
    near = replace(one, points=one.points[:1], **{name: part(getattr(one, name), 1) for name in ("truth", "classical")})
    network, nodes = TracksNetwork(options), nodes_of(one.cloud, options, left=one.left)
    features, around, ways, indices, to, *_ = Draws([near], options, 1, 1, seed=0)[0]
    assert len(features) < len(nodes.features)
    told = network.at(network.particles(Nodes(features, around, ways, 1.0, 1.0))[indices], to)
    whole, directly = neighbourhood(one.cloud, near.points, options.neighbours, nodes.spacing)
    expected = network.at(network.particles(nodes)[whole], directly.float())
    np.testing.assert_allclose(told.detach(), expected.detach(), rtol=1e-4, atol=1e-6)


def part(field, count):
    return Estimate(field.velocity[:count], field.gradient[:count])


def test_the_loss_is_one_without_a_correction(examples):
    network = TracksNetwork(NetworkOptions(**SMALL))
    with torch.no_grad():
        network.head.weight.zero_()
    batch = [each[None] for each in Draws(examples[:1], network.options, 1, 200, seed=0)[0]]
    assert loss_of(network, batch).item() == pytest.approx(1.0, abs=0.15)  # one direction a point


def test_examples_and_networks_are_read_back_as_they_were_written(examples, tmp_path):
    save_examples(tmp_path / "e.npz", examples)
    for one, other in zip(examples, load_examples(tmp_path / "e.npz"), strict=True):
        np.testing.assert_array_equal(one.cloud.positions, other.cloud.positions)
        np.testing.assert_array_equal(one.classical.gradient, other.classical.gradient)
        assert other.cloud.boundary == one.cloud.boundary and other.cloud.accelerations is None
    network = TracksNetwork(NetworkOptions(l_max=0, head="potential", **SMALL))
    save_network(tmp_path / "n", network, {"seed": 1})
    again = load_network(tmp_path / "n")
    assert again.options == network.options and torch.equal(again.head.weight, network.head.weight)
    (tmp_path / "n" / WEIGHTS).write_bytes(b"no weights")
    with pytest.raises(FlowsrError, match="not a network"):
        load_network(tmp_path / "n")
    for card, line in (('{"corrects": 1}', "corrects another estimate"), ('["l_max"]', "not a network")):
        (tmp_path / "n" / CARD).write_text(card)
        with pytest.raises(FlowsrError, match=line):
            load_network(tmp_path / "n")
    with pytest.raises(FlowsrError, match="cannot read"):
        load_network(tmp_path / "other")


@pytest.mark.parametrize("wrong", [{"width": 0}, {"l_max": -1}, {"neighbours": 0}])
def test_options_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NetworkOptions(**wrong)


def test_a_folder_that_is_trained_into_again_is_the_new_network(tmp_path):
    rng, found = np.random.default_rng(0), []
    cloud = Cloud(rng.random((30, 3)), rng.normal(size=(30, 3)), (0, 0, 0), (1, 1, 1))
    for seed in range(2):
        torch.manual_seed(seed)
        save_network(tmp_path, TracksNetwork(NetworkOptions(l_max=0, layers=0, width=2, neighbours=8)), {})
        found.append(METHODS["network"](cloud, np.full((1, 3), 0.5), tmp_path).velocity)
    assert not np.allclose(*found)
