"""Pairs that no model takes are refused before anything is computed."""

import pytest

from flowsr.config.study import parse_experiment
from flowsr.errors import FlowsrError
from flowsr.pipeline.plan import Plan
from flowsr.pipeline.stages import run


def experiment(folder, **ingest):
    return parse_experiment({"name": "a", "output": str(folder), "ingest": {"inputs": [], **ingest}})


def test_three_factors_are_pairs_but_no_model_takes_them(tmp_path):
    stated = experiment(tmp_path / "out", factor=[4, 2, 4], weight="density", operator="top_hat", width=1.5)
    ((_, step),) = Plan(stated).ingest()
    settings = step.settings
    assert settings["factor"] == (4, 2, 4) and settings["weight"] == "density" and settings["width"] == 1.5
    with pytest.raises(FlowsrError, match=r"models have one factor; variable: ingest.factor; .*found: \[4, 2, 4\]"):
        run(stated)
    assert not (tmp_path / "out").exists()


def test_a_factor_is_one_number_or_three(tmp_path):
    for wrong in ([2, 2], 0, [2, 0, 2], 1.5):
        with pytest.raises(FlowsrError, match=r"'ingest.*factor"):
            experiment(tmp_path, factor=wrong)
