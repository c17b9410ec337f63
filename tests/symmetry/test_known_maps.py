"""Linear maps with every subgroup of O_h as their exact symmetry."""

import pytest

from flowsr.symmetry import Method, NetworkShape, Significance, Training, discover_samples
from tests.symmetry.maps import GROUP, broken_irreps, kernel_group, member, noisy_pairs, orbit_pairs, symmetric_kernel

SMALL = NetworkShape(channels=2)
EXACT = Method(network=SMALL, training=Training(epochs=1, batch=16), exact=True)
NOISY = Method(network=SMALL, training=Training(epochs=3, batch=8), significance=Significance(0.01, draws=199))
CLASSES = range(len(GROUP.subgroup_classes))
NAMES = [members[0].name for members in GROUP.subgroup_classes]


def found_exactly(subgroup, seed):
    kernel = symmetric_kernel(subgroup, seed)
    assert kernel_group(kernel) == subgroup
    return discover_samples(orbit_pairs(kernel, 3, seed), seeds=1, method=EXACT)


@pytest.mark.parametrize("number", CLASSES, ids=NAMES)
def test_the_right_subgroup_among_98_without_noise(number):
    subgroup = member(number)
    found = found_exactly(subgroup, seed=number)
    assert found.surviving.subgroup == subgroup
    assert {name for name, irrep in found.irreps.items() if irrep.broken} == broken_irreps(subgroup)
    assert all(layer.stabilizer.subgroup == subgroup for layer in found.layers.values())
    for irrep in found.irreps.values():
        assert irrep.stabilizer is None or subgroup <= irrep.stabilizer.subgroup


@pytest.mark.slow
@pytest.mark.parametrize("subgroup", GROUP.subgroups, ids=lambda s: s.label)
def test_every_single_subgroup_without_noise(subgroup):
    assert found_exactly(subgroup, seed=5).surviving.subgroup == subgroup


@pytest.mark.parametrize(
    "number", [n if n % 6 == 5 else pytest.param(n, marks=pytest.mark.slow) for n in CLASSES], ids=NAMES
)
def test_the_right_subgroup_from_noisy_snapshots(number):
    """By construction one true group in a hundred is rejected; with these seeds it is none."""
    subgroup = member(number)
    samples = noisy_pairs(symmetric_kernel(subgroup, 3), count=40, side=4, seed=11, noise=0.3)
    found = discover_samples(samples, seeds=2, method=NOISY)
    assert found.surviving.subgroup == subgroup
    assert found.candidates[-1].order == subgroup.order
    broken = {name for name, irrep in found.irreps.items() if irrep.broken}
    assert broken <= broken_irreps(subgroup) and bool(broken) == (subgroup.order < 48)
