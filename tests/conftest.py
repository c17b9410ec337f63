"""All tests, and the processes they start, compute on one thread: sums come out the same whoever else is busy."""

import atexit
import os
import random
import shutil
import tempfile
import zlib

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
# What the tests meet is noted in a place of their own.
if "FLOWSR_CACHE" not in os.environ:
    os.environ["FLOWSR_CACHE"] = tempfile.mkdtemp(prefix="flowsr-tests-")
    atexit.register(shutil.rmtree, os.environ["FLOWSR_CACHE"], ignore_errors=True)

# Every run tries the same examples, however long they take.
settings.register_profile(
    "tests", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("tests")
# Nor do the examples depend on what is imported by then: hypothesis would take constants from it.
providers._get_local_constants = lambda: providers._local_constants


@pytest.fixture
def blank_figures(monkeypatch):
    """Figures are not drawn: it takes seconds a page, and what they show is another test's."""
    image = b"\x89PNG\r\n\x1a\n", b'<svg viewBox="0 0 1 1"></svg>'
    monkeypatch.setattr("flowsr.report.html._saved", lambda figure, **options: image[options.get("format") == "svg"])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """What a test draws without a seed of its own does not depend on the tests before it."""
    import numpy as np
    import torch

    seed = zlib.crc32(f"{item.location[0]}::{item.name}".encode())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests that share what their module makes once are run by one process: each other one would make it again."""
    for item in items:
        made = [definitions[-1] for definitions in item._fixtureinfo.name2fixturedefs.values()]
        shared = any(one.scope == "module" and one.func.__module__ == item.module.__name__ for one in made)
        if shared and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.module.__name__))
