"""Mutated files of every reader: read, or refused in one line; no crash, no hang, no traceback, under a gigabyte."""

import pytest

from tests.mutated import run


def check(found, count):
    assert found["bad"] == []
    assert found["read"] + found["refused"] == count and min(found["read"], found["refused"]) > count // 20
    assert found["slowest"] < 20 and found["memory"] < 1024


def test_five_hundred_mutated_files():
    check(run(0, 500), 500)


@pytest.mark.slow
def test_ten_thousand_mutated_files():
    check(run(1_000_000, 10_000), 10_000)
