"""What the package's own text shows must be what happens."""

import doctest

import flowsr.symmetry


def test_the_example_of_the_package():
    found = doctest.testmod(flowsr.symmetry)
    assert found.attempted >= 5 and not found.failed
