"""What the package's documentation shows is what happens."""

import doctest

import flowsr.group


def test_examples_in_the_documentation():
    failures, examples = doctest.testmod(flowsr.group)
    assert failures == 0 and examples > 15
