"""The discovery as a flow on a real server."""

import numpy as np
import pytest
from flowsr.flows.symmetry import symmetry

from flowsr.config.symmetry import parse_symmetry
from tests.flows.test_experiment import run_of
from tests.symmetry.stores import velocity_store

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("prefect")]


def test_the_flow_leaves_its_words_and_its_numbers(server, tmp_path):
    fields = np.random.default_rng(0).standard_normal((8, 3, 8, 8, 8))
    settings = parse_symmetry(
        {
            "name": "strided noise",
            "output": str(tmp_path / "found"),
            "inputs": [str(velocity_store(tmp_path / "u.zarr", fields))],
            "task": "superres",
            "turnover_time": 0.5,
            "seeds": [0],
            "training": {"epochs": 1},
            "network": {"channels": 2},
        }
    )
    state = symmetry(settings, return_state=True)
    assert state.is_completed() and state.message.startswith("The small scales of velocity")
    run, logs, artifacts = run_of(server, state)
    assert run["name"] == "strided noise"
    assert any(line.startswith("network 0") and "100 %" in line for line in logs)
    assert state.message.split(" Numbers in ")[0] in artifacts["strided-noise-symmetry-words"]["data"]
    assert "T1u" in artifacts["strided-noise-symmetry-irreps"]["data"]


def test_bad_data_fail_the_run_with_their_line(server, tmp_path):
    fields = np.random.default_rng(0).standard_normal((2, 3, 8, 8, 8))
    settings = parse_symmetry(
        {
            "name": "two",
            "output": str(tmp_path / "found"),
            "task": "superres",
            "turnover_time": 0.5,
            "inputs": [str(velocity_store(tmp_path / "u.zarr", fields))],
        }
    )
    state = symmetry(settings, return_state=True)
    assert state.is_failed() and "too few independent snapshots" in state.message
