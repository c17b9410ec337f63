"""A saved model keeps its promises, or is caught; two that differ say in what."""

from dataclasses import replace

import pytest
import torch

from flowsr.errors import FlowsrError
from flowsr.files import file_checksum
from flowsr.models import ModelCard, Task, load_model, save_model
from flowsr.models.verify import compare_models, reference_input, reference_output, verify_model
from flowsr.windows import Window

CARD = ModelCard("strict", Task(2), {"channels": 1, "blocks": 0, "group": "Oh"})

C2V = "C2v(100;100) [100]"


def saved(folder, card=CARD, seed=0):
    torch.manual_seed(seed)
    model = card.build()
    with torch.no_grad():
        for parameter in filter(lambda parameter: parameter.requires_grad, model.parameters()):
            parameter.normal_(std=0.3)
    save_model(folder, model, card)
    training = {"weights_sha256": file_checksum(folder / "model.safetensors"), "reference": reference_output(model)}
    save_model(folder, model, replace(card, training=training))
    return folder


@pytest.mark.parametrize(
    "card",
    [
        CARD,
        ModelCard("cnn", Task(2, window=Window(2)), {"width": 2, "blocks": 0}),
        ModelCard("cnn", Task(2), {"width": 2, "blocks": 0, "base": {"planes": [1, 7, 1]}}),
        ModelCard("e3nn", Task(2), {"width": 2, "blocks": 0}),
    ],
)
def test_a_whole_model_keeps_its_promises(tmp_path, card):
    checks = {check.what: check for check in verify_model(saved(tmp_path, card))}
    assert len(checks) == 6 and all(check.passed is not False for check in checks.values())
    promised = checks["equivariance, largest of 48 elements"].passed
    assert promised is (True if card.equivariant else None)


def test_an_older_model_and_another_reference_are_found_out(tmp_path):
    older = replace(CARD, task=replace(CARD.task, scale=1.0))
    broken = [check.what for check in verify_model(saved(tmp_path / "older", older)) if check.passed is False]
    assert broken == ["another unit: M(a u) = a M(u)", "no field: M(0) = 0", "another frame: M(u + c) = M(u) + c"]
    folder = saved(tmp_path / "moved")
    model = load_model(folder)
    card = replace(CARD, training={"reference": [2 * value for value in reference_output(model)]})
    save_model(folder, model, card)
    assert [check.what for check in verify_model(folder) if check.passed is False] == ["reference output"]


def test_other_weights_are_not_loaded(tmp_path):
    folder, other = saved(tmp_path / "a"), saved(tmp_path / "b", seed=1)
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(FlowsrError, match="not the weights"):
        list(verify_model(folder))


def test_what_differs_between_two_models(tmp_path):
    one, same, other = saved(tmp_path / "a"), saved(tmp_path / "b"), saved(tmp_path / "c", seed=1)
    assert not list(compare_models(one, same))
    found = {what for what, *_ in compare_models(one, other)}
    assert {"training.weights_sha256", "weights lifting.filters"} <= found
    wider = saved(tmp_path / "d", replace(CARD, options={**CARD.options, "channels": 2}))
    found = {what: (first, second) for what, first, second in compare_models(one, wider)}
    assert found["options.channels"] == ("1", "2") and found["weights lifting.filters"][0].startswith("(")


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("strict", {"group": C2V, "wall_functions": 1}),
        ("relaxed", {"group": "Oh", "relaxed_to": C2V, "wall_functions": 1}),
        ("strict", {"group": "Oh", "base": {"group": C2V}}),
        ("strict", {"group": "C1", "average": C2V}),
    ],
)
def test_a_network_on_a_subgroup_is_exact_under_its_own_elements(tmp_path, model, options):
    card = ModelCard(model, Task(2), {"channels": 1, "blocks": 0, **options})
    folder = saved(tmp_path, card)
    walls = reference_input(load_model(folder))[1].boundary.count("wall")
    assert card.symmetry.label == C2V and walls == ("wall_functions" in options)
    checks = {check.what: check for check in verify_model(folder)}
    assert all(check.passed is not False for check in checks.values())
    assert checks[f"equivariance, largest of the 4 of {C2V}"].passed
    assert checks["equivariance, largest of 48 elements"].passed is None
