"""A model's folder from anywhere: built only as large as its weights are, and nothing waited for."""

import json
import os
import time

import pytest

from flowsr.errors import FlowsrError
from flowsr.models.base import Task
from flowsr.models.build import build_model
from flowsr.models.checkpoint import CARD, WEIGHTS, ModelCard, load_model, save_model

OPTIONS = {"edsr": {"width": 2, "blocks": 1}, "relaxed": {"channels": 2}, "spectral": {}, "fno": {"width": 2}}


@pytest.fixture(params=["edsr"])
def folder(request, tmp_path):
    options = OPTIONS[request.param]
    task = Task(2, "1o", 1.0)
    save_model(tmp_path, build_model(request.param, task, **options), ModelCard(request.param, task, options))
    load_model(tmp_path)
    return tmp_path


def change(folder, **values):
    card = json.loads((folder / CARD).read_text())
    card["options"] = {**card["options"], **values.pop("options", {})}
    card["task"] = {**card["task"], **values.pop("task", {})}
    (folder / CARD).write_text(json.dumps({**card, **values}))


def refused(folder):
    start = time.process_time()
    with pytest.raises(FlowsrError) as caught:
        load_model(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 3000
    assert time.process_time() - start < 60
    return str(caught.value)


@pytest.mark.parametrize("folder", sorted(OPTIONS), indirect=True)
@pytest.mark.parametrize(
    "options", [{"blocks": 10**9}, {"width": 10**9}, {"width": 60_000}, {"channels": 60_000}, {"blocks": 60_000}]
)
def test_a_model_larger_than_its_weights_is_not_built(folder, options):
    change(folder, options=options)
    refused(folder)


@pytest.mark.parametrize("task", [{"factor": 10**9}, {"factor": "x"}, {"irreps": "9" * 400 + "x1o"}, {"window": 5}])
def test_a_task_that_cannot_be(folder, task):
    change(folder, task=task)
    refused(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "[]", "null", '{"model": 1e999}', "\0", '{"a": ' * 3000])
def test_a_card_that_is_none(folder, text):
    (folder / CARD).write_text(text)
    refused(folder)


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
def test_a_pipe_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "a pipe" in refused(folder)


@pytest.mark.parametrize("size", [0, 7, 8, 100])
def test_weights_that_were_cut(folder, size):
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:size])
    refused(folder)
