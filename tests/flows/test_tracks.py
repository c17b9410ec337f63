"""A comparison on particles as a flow on a real server."""

import pytest
from flowsr.flows.tracks import tracks

from flowsr.config.tracks import parse_tracks
from tests.flows.test_experiment import run_of
from tests.pipeline.test_tracking import TINY

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.xdist_group("prefect")]


def test_the_flow_leaves_table_and_report(server, tmp_path):
    study = parse_tracks({**TINY, "output": str(tmp_path / "run")})
    state = tracks(study, return_state=True)
    page = tmp_path / "run" / "report.html"
    assert state.is_completed() and state.message == f"report: {page}" and page.exists()
    run, logs, artifacts = run_of(server, state)
    assert run["name"] == "tiny tracks"
    assert any(line.startswith("train") and "100 %" in line for line in logs)
    assert "solenoidal" in artifacts["tiny-tracks-comparison"]["data"]
