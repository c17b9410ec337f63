"""A study as a flow: in a process of its own, with its table, verdict and report as artifacts."""

import json

import pytest
import yaml
from flowsr.flows.experiment import compare, compare_study, pipeline
from flowsr.flows.launch import launch

from flowsr.config.study import Study, parse_study
from tests.flows.test_experiment import run_of
from tests.studies import TINY_STUDY


@pytest.fixture
def study(tmp_path) -> Study:
    """One flow, one seed, one small network."""
    return parse_study(
        {
            **TINY_STUDY,
            "output": str(tmp_path / "study"),
            "seeds": [0],
            "data": {"isotropic": TINY_STUDY["data"]["isotropic"]},
            "models": {"nearest": None, "cnn": {"options": {"blocks": 0, "width": 2}}},
            "budget": None,
            "learning_curve": None,
        }
    )


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.xdist_group("prefect")
def test_a_study_leaves_its_table_verdict_and_report(server, study):
    state = compare_study(study, return_state=True)
    page = study.output / "report.html"
    assert state.is_completed() and state.message == f"report: {page}" and page.exists()
    run, logs, artifacts = run_of(server, state)
    assert run["name"] == study.name
    assert any(line.startswith("train and test") and "100 %" in line for line in logs)
    rows = json.loads(artifacts["tiny-study-comparison"]["data"])
    results = json.loads((study.output / "compare/study.json").read_text())
    assert {row["model"] for row in rows} == {"nearest", "cnn"}
    (score,) = (s for s in results["scores"] if s["model"] == "cnn" and s["metric"] == "nrmse")
    assert next(row["NRMSE"] for row in rows if row["model"] == "cnn") == pytest.approx(score["estimate"], rel=1e-3)
    assert "One seed says nothing" in artifacts["tiny-study-comparison"]["description"]
    assert f"file://{page}" in artifacts["tiny-study-report"]["data"]


@pytest.mark.parametrize("stage", [[], ["compare"]])
def test_the_command_line_tells_a_study_from_an_experiment(stage, tmp_path, capsys):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump({**TINY_STUDY, "seeds": [0, 0]}))
    with pytest.raises(SystemExit) as ending:
        launch(pipeline, compare, arguments=[*stage, str(path)], study=compare_study)
    assert ending.value.code == 2
    assert "'output' is required" in capsys.readouterr().err
