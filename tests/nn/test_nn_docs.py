"""The lesson in the package's docstring runs as printed."""

import doctest

import flowsr.nn


def test_the_example_prints_what_it_says():
    result = doctest.testmod(flowsr.nn)
    assert result.attempted >= 14 and result.failed == 0
