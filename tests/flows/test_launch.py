"""Flows from a terminal: the right reader for each file, and one line on a wrong one."""

import pytest
from flowsr.flows.experiment import ingest, pipeline
from flowsr.flows.launch import launch
from flowsr.flows.symmetry import symmetry

from flowsr.config.symmetry import load_symmetry
from tests.studies import write_tiny_study


def refused(capsys, *arguments, **options) -> str:
    with pytest.raises(SystemExit) as ending:
        launch(*arguments, **options)
    line = capsys.readouterr().err.strip()
    assert ending.value.code == 2 and line.startswith("error: ") and "\n" not in line
    return line


def test_a_study_is_not_an_experiment(tmp_path, capsys):
    path = write_tiny_study(tmp_path)
    assert f"flowsr compare {path}" in refused(capsys, pipeline, ingest, arguments=["ingest", str(path)])
    assert not (tmp_path / "study").exists()


def test_a_discovery_is_read_as_one(tmp_path, capsys):
    path = tmp_path / "discovery.yaml"
    path.write_text("name: two\noutput: found\ntask: dynamics\nsimulate: {cells: 8}\nsedes: [0]\n")
    assert "did you mean 'seeds'?" in refused(capsys, symmetry, arguments=[str(path)], load=load_symmetry)
    assert "'task' is required" in refused(capsys, symmetry, arguments=["configs/demo.yaml"], load=load_symmetry)


def test_every_flow_has_a_help_of_its_own(capsys):
    with pytest.raises(SystemExit) as ending:
        launch(symmetry, arguments=["--help"], load=load_symmetry)
    told = capsys.readouterr().out
    assert (
        ending.value.code == 0 and "python -m flowsr.flows.symmetry" in told and "Which symmetries of the cube" in told
    )
