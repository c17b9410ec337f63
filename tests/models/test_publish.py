"""Served models: versions stay, `current` is the old one or the new one, and what is not whole is not served."""

import pytest
import torch

from flowsr.cli import main
from flowsr.errors import FlowsrError
from flowsr.files import file_checksum
from flowsr.models import ModelCard, Task, load_model, publish_model, save_model, served_model

CARD = ModelCard("cnn", Task(2), {"width": 2, "blocks": 1})


def trained(folder, seed, **training):
    torch.manual_seed(seed)
    save_model(folder, CARD.build(), ModelCard(CARD.model, CARD.task, CARD.options, training))
    return folder


def test_versions_stay_and_current_leads_to_the_last(tmp_path):
    served = tmp_path / "served"
    first = publish_model(trained(tmp_path / "model", 0), served)
    weights = file_checksum(first / "model.safetensors")
    assert served_model(served) == first.resolve()
    second = publish_model(trained(tmp_path / "model", 1), served)
    assert second != first and served_model(served) == second.resolve()
    assert file_checksum(first / "model.safetensors") == weights
    assert publish_model(trained(tmp_path / "model", 1), served) == second
    assert sorted(path.name for path in served.iterdir()) == ["current", "versions"]
    assert {path.name for path in (served / "versions").iterdir()} == {first.name, second.name}
    load_model(served / "current")


def test_a_training_that_begins_again_or_diverges_leaves_what_is_served(tmp_path, capsys):
    model, served = trained(tmp_path / "model", 0), tmp_path / "served"
    assert main(["publish", str(model), str(served)]) == 0
    version = served_model(served)
    assert version.name in capsys.readouterr().out
    (model / "model.safetensors").write_bytes(b"half")
    assert main(["publish", str(model), str(served)]) == 2
    with pytest.raises(FlowsrError, match="diverged"):
        publish_model(trained(model, 2, diverged_epoch=3), served)
    assert served_model(served) == version and load_model(version).factor == 2


def test_a_folder_without_versions_is_the_model_itself(tmp_path):
    model = trained(tmp_path / "model", 0)
    assert served_model(model) == model
