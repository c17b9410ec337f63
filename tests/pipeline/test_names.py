"""A wrong name in an experiment is found before any work is done."""

import pytest

from flowsr.config.study import parse_experiment
from flowsr.errors import FlowsrError
from flowsr.pipeline import stages
from flowsr.pipeline.plan import Plan
from tests.experiments import TINY


def experiment(tmp_path, **changes):
    return parse_experiment({**TINY, "output": str(tmp_path / "run"), **changes})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train": {"models": {"a": {"model": "relaxd"}}}}, "did you mean 'relaxed'"),
        ({"train": {"models": {"a": {"model": "nearest"}}}}, "nothing to train"),
        ({"train": {"models": {"a": {"model": "cnn", "options": {"factor": 2}}}}}, "follow from the data"),
        ({"train": {"models": {"a": {"model": "cnn", "options": {"widht": 2}}}}}, "did you mean 'width'"),
        ({"train": {"models": {"nearest": {"model": "cnn"}}}}, "called like a baseline"),
        ({"compare": {"baselines": ["spektral"]}}, "did you mean 'spectral'"),
        ({"compare": {"baselines": ["strict"]}}, "needs training"),
        ({"compare": {"metrics": ["nrms"]}}, "did you mean 'nrmse'"),
        ({"ingest": {"operator": "blockmean"}}, "did you mean 'block_mean'"),
    ],
)
def test_refused_at_the_start(tmp_path, changes, told):
    wrong = experiment(tmp_path, **changes)
    with pytest.raises(FlowsrError, match=told):
        Plan(wrong).check()
    with pytest.raises(FlowsrError, match=told):
        stages.run(wrong)
    assert not (tmp_path / "run").exists()


def test_the_tiny_experiment_names_only_what_there_is(tmp_path):
    Plan(experiment(tmp_path)).check()


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden"])
def test_network_names_are_no_paths(tmp_path, name):
    with pytest.raises(FlowsrError):
        experiment(tmp_path, train={"models": {name: {"model": "cnn"}}})
