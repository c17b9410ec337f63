"""What the settings alone decide is refused before anything is simulated, in one line that names the setting."""

import pytest

from flowsr.config.study import load_experiment, parse_experiment, parse_study
from flowsr.errors import FlowsrError
from flowsr.pipeline import stages
from flowsr.pipeline.plan import Plan
from tests.experiments import TINY, write_tiny
from tests.studies import TINY_STUDY

FOUND = "train.models={a: {model: strict, options: {group: discovered}}}"
CHANNEL = {"flow": "channel", "channel": {"cells": [16, 16, 16]}}


@pytest.mark.parametrize(
    ("overrides", "variable"),
    [
        (["ingest.factor=3"], "ingest.factor"),
        (["ingest.factor=16"], "ingest.factor"),
        (["ingest.variable=density"], "ingest.variable"),
        (["ingest.weight=density"], "ingest.weight"),
        (["simulate.duration=1"], "ingest.split"),
        (["ingest.split.turnover_time=9"], "ingest.split"),
        (["train.patch=9"], "train.patch"),
        (["train.patch=6", "train.patch_halo=10"], "train.patch_halo"),
        (["train.patch=6"], "train.patch"),  # relaxed sees four cells to either side
        (["simulate.cells=32", "train.patch=14", "train.loss={spectrum: 1}"], "train.loss.spectrum"),
        (["train.models={a: {model: fno}}", "train.patch=7"], "train.patch"),
        (["train.models={a: {model: relaxed, options: {group: D5}}}"], "train.models.a"),
        (["train.models={a: {model: cnn, options: {width: 0}}}"], "train.models.a"),
        (["train.models={a: {model: strict, options: {group: discovered, channels: 0}}}"], "train.models.a"),
        ([FOUND, "train.models.a.base={group: discovered}"], "train.models.a.base.group"),
        ([FOUND, "train.models.a.options.relaxed_to=discovered"], "train.models.a.options.relaxed_to"),
        ([FOUND, "train.patch=3"], "train.patch"),
        ([FOUND, "ingest.factor=4", "discover.factor=3"], "discover.factor"),
        ([FOUND, "discover.factor=1"], "discover.factor"),
        (["train.penalty={T9: 1}"], "train.penalty"),
        (["train.frames=17"], "train.frames"),
        (["train.nodes=2"], "train.nodes"),
        (["train.loggers=[mlflow]"], "train.loggers"),
    ],
)
def test_refused_before_anything_is_made(tmp_path, monkeypatch, overrides, variable):
    monkeypatch.setattr("flowsr.train.fit.find_spec", lambda name: None)
    wrong = load_experiment(write_tiny(tmp_path), overrides)
    with pytest.raises(FlowsrError) as refused:
        stages.run(wrong)
    assert refused.value.variable == variable and "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("overrides", [["train.patch=8"], ["train.patch=6", "train.patch_halo=4"], ["train.devices=2"]])
def test_what_can_be_is_let_through(tmp_path, overrides):
    Plan(load_experiment(write_tiny(tmp_path), overrides)).check()


@pytest.mark.parametrize(
    ("network", "told"),
    [
        ({"model": "fno"}, "wall"),
        ({"model": "linear", "options": {"group": "Oh"}}, "Oh does not keep the (1, 8, 1) planes"),
        ({"model": "strict", "base": {"reach": 1}}, "O does not keep the (1, 8, 1) planes"),
        ({"model": "linear", "average": "O"}, "O does not keep the (1, 8, 1) planes"),
        ({"model": "linear", "options": {"planes": [8, 1, 1]}}, "between walls, got 8 periodic, 8 wall"),
    ],
)
def test_networks_for_other_boxes_and_groups_are_not_trained_between_walls(tmp_path, network, told):
    values = {**TINY, "output": str(tmp_path / "run"), "simulate": CHANNEL, "compare": {"baselines": ["nearest"]}}
    Plan(parse_experiment(values)).check()
    planes = {"model": "planewise", "options": {"group": "discovered"}}  # all of O_h would not keep them
    Plan(parse_experiment({**values, "train": {"models": {"a": planes}}})).check()
    with pytest.raises(FlowsrError) as refused:
        Plan(parse_experiment({**values, "train": {"models": {"a": network}}})).check()
    assert refused.value.variable == "train.models.a" and told in str(refused.value)


def test_a_study_is_refused_by_the_name_of_its_data_set(tmp_path):
    data = {**TINY_STUDY["data"], "thicker": {**TINY_STUDY["data"]["thicker"], "ingest": {"factor": 5}}}
    wrong = parse_study({**TINY_STUDY, "data": data, "output": str(tmp_path / "run")})
    with pytest.raises(FlowsrError) as refused:
        stages.run(wrong)
    assert refused.value.variable == "data.thicker.ingest.factor" and not (tmp_path / "run").exists()
