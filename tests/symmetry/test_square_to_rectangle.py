"""A square that becomes a rectangle, drawn on a grid."""

import numpy as np
import pytest
import torch

from flowsr.group import octahedral_group
from flowsr.symmetry import Method, NetworkShape, Training, discover_samples, pair_samples
from flowsr.symmetry.network import trained_strict
from flowsr.symmetry.weights import departures, measure_scores

GROUP = octahedral_group("Oh")
NETWORK, TRAINING = NetworkShape(channels=2), Training(epochs=20, batch=1)


def box(half_sides, shape) -> torch.Tensor:
    """(1, x, y, z) one inside a box about the centre, zero outside."""
    cells = np.indices(shape).astype(float)
    centre = (np.array(shape) - 1) / 2
    inside = [np.abs(c - m) <= half for c, m, half in zip(cells, centre, half_sides)]
    return torch.from_numpy(np.logical_and.reduce(inside).astype(float))[None]


def pair(before, after, shape):
    return pair_samples(box(before, shape)[None], box(after, shape)[None], "0e")


def test_cube_to_square_prism_leaves_a1g_and_eg():
    samples = pair((2, 2, 2), (3, 1, 1), (9, 9, 9))
    found = discover_samples(samples, seeds=1, method=Method(network=NETWORK, training=TRAINING, exact=True))
    assert found.surviving.name == "D4h [100]"
    assert {name for name, irrep in found.irreps.items() if irrep.broken} == {"Eg"}
    assert found.irreps["Eg"].stabilizer.name == "D4h [100]"


def test_cube_to_brick_leaves_the_same_irreps_and_a_smaller_group():
    samples = pair((2, 2, 2), (3, 2, 1), (9, 9, 9))
    found = discover_samples(samples, seeds=1, method=Method(network=NETWORK, training=TRAINING, exact=True))
    assert found.surviving.name == "D2h(100)"
    assert {name for name, irrep in found.irreps.items() if irrep.broken} <= {"A2g", "Eg"}


def test_cube_to_cube_breaks_nothing():
    samples = pair((2, 2, 2), (3, 3, 3), (9, 9, 9))
    found = discover_samples(samples, seeds=1, method=Method(network=NETWORK, training=TRAINING, exact=True))
    assert found.surviving.name == "Oh"
    assert max(irrep.power for name, irrep in found.irreps.items() if name != "A1g") < 1e-20


@pytest.mark.parametrize("depth", [1, 9])
def test_only_a_and_b_of_the_four_fold_axis_survive(depth):
    """C4 has the irreps A (1, 1, 1, 1), B (1, -1, 1, -1) and E; a rectangle is left alone by the half turn."""
    shape = (9, 9, depth)
    samples = pair((2, 2, 2), (3, 1, 2), shape).normalized(torch.float64)
    network = trained_strict(samples, NETWORK, TRAINING, seed=0)
    departure = departures(measure_scores(network, samples, per_block=False))[0]
    quarter = GROUP.index([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    powers = [0]
    for _ in range(3):
        powers.append(int(GROUP.multiplication[quarter, powers[-1]]))
    turned = departure[:, GROUP.multiplication[GROUP.inverse[powers]]]  # [row, n, g] = w(r^-n g)
    characters = np.fft.fft(turned, axis=1) / 4
    a, e, b = (float(np.linalg.norm(characters[:, k])) for k in (0, 1, 2))
    assert e < 1e-10 * b
    assert a > 0 and b > 0.01
