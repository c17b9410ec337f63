"""`group: discovered`: an experiment finds the symmetry of its training pairs and builds networks on it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from flowsr.cli import main
from flowsr.config.study import parse_experiment
from flowsr.errors import FlowsrError
from flowsr.files import write_json_atomic
from flowsr.models import load_model
from flowsr.pipeline import stages
from flowsr.pipeline.plan import Plan
from flowsr.report.symmetry_page import render_symmetry_report
from flowsr.symmetry import Method, NetworkShape, Training, discover_samples, pair_samples, superres_samples
from flowsr.symmetry.result import Discovery
from flowsr.testing import assert_equivariant
from tests.symmetry.maps import white
from tests.symmetry.stores import velocity_store

TRUTH = "D4h [001]"


@pytest.fixture(scope="module")
def layered(tmp_path_factory):
    """Three runs of noise, smoother along z than across: of the cube's symmetries, those of a square prism are left."""
    folder, fields = tmp_path_factory.mktemp("layered"), white(48, 8, seed=1).numpy()
    k = np.fft.fftfreq(8) * 8
    squared = k[:, None, None] ** 2 + k[None, :, None] ** 2 + 12 * k**2
    fields = np.fft.ifftn(np.fft.fftn(fields, axes=(-3, -2, -1)) * np.exp(-squared / 16), axes=(-3, -2, -1)).real
    return [velocity_store(folder / f"run_{i}.zarr", part) for i, part in enumerate(np.split(fields, 3))]


def stated(inputs, output):
    return {
        "name": "layered",
        "output": str(output),
        "threads": 1,
        "device": "cpu",
        "ingest": {
            "inputs": [str(path) for path in inputs],
            "factor": 2,
            "split": {"turnover_time": 0.1, "decorrelation_turnovers": 1.0},
        },
        "discover": {
            "seeds": [0],
            "training": {"epochs": 3},
            "network": {"channels": 2},
            "significance": {"draws": 199},
            "decorrelation_turnovers": 2.0,
        },
        "train": {
            "models": {"own": {"model": "strict", "options": {"group": "discovered", "channels": 1}}},
            "samples_per_epoch": 2,
            "batch_size": 2,
            "max_epochs": 1,
        },
        "compare": {"baselines": ["nearest"], "metrics": ["nrmse"]},
    }


@pytest.mark.usefixtures("blank_figures")
def test_the_group_is_found_used_and_told(tmp_path, layered, capsys):
    config = tmp_path / "layered.yaml"
    config.write_text(yaml.safe_dump(stated(layered, tmp_path / "run")))
    assert [main([stage, str(config)]) for stage in ("ingest", "train", "upscale", "compare")] == [0] * 4
    capsys.readouterr()
    found = json.loads((tmp_path / "run/symmetry/discovery.json").read_text())
    assert found["surviving"]["name"] == TRUTH and found["false_alarm_rate"] == 0.05
    assert found["provenance"]["block_length"] == 0.2  # twice the turnover time that ingest states
    p = next(c["p"] for c in found["candidates"] if c["name"] == TRUTH)
    own = load_model(tmp_path / "run/train/own")
    with torch.no_grad():
        own.projection.filters.normal_()
    assert own.group.name == TRUTH and own.group.order == 16
    assert_equivariant(own, TRUTH)
    card = json.loads((tmp_path / "run/train/own/model.json").read_text())
    assert card["training"]["discovered"] == {"group": TRUTH, "p": p, "rate": 0.05, "snapshots": 30, "runs": 3}
    page = (tmp_path / "run/report.html").read_text()
    assert f"{TRUTH}, discovered in the training pairs (p = {p:.2g}" in page and f"own, on {TRUTH}" in page
    again = stages.stage("train", parse_experiment(yaml.safe_load(config.read_text())))
    assert all(done.reused for done in again) and "discover symmetry" in [done.step.title for done in again]


@pytest.mark.usefixtures("blank_figures")
def test_a_study_and_its_cards_say_what_was_found(tmp_path, layered, capsys):
    study = stated(layered[:1], tmp_path / "study")
    study["discover"]["training"]["epochs"] = 10
    models = {"nearest": None, **study["train"].pop("models")}
    shared = {name: study.pop(name) for name in ("name", "output", "device", "threads", "discover", "train")}
    data = {"layered": {"ingest": study["ingest"]}}
    compared = {"metrics": ["nrmse"], "resamples": 100, "references": ["nearest"]}
    more = {"workers": 1, "seeds": [0], "data": data, "models": models, "compare": compared}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**shared, **more}))
    assert main(["compare", str(tmp_path / "study.yaml")]) == 0
    found = Discovery.from_json(json.loads((tmp_path / "study/data/layered/symmetry/discovery.json").read_text()))
    words = (
        f"{found.surviving.name}, discovered in the training pairs (p = {found.p:.2g}, from 10 independent snapshots"
    )
    folder = tmp_path / "study/data/layered/train/own.seed_0"
    for file in (tmp_path / "study/report.html", tmp_path / "study/compare/table.md", folder / "card.md"):
        assert words in file.read_text(), file
    own = json.loads((folder / "card.json").read_text())["discovered"]
    assert own == json.loads((folder / "model.json").read_text())["training"]["discovered"]
    capsys.readouterr()
    assert main(["model", "info", str(folder)]) == 0 and f"group: {words}" in capsys.readouterr().out


@pytest.mark.usefixtures("blank_figures")
def test_nothing_is_built_on_networks_that_explain_nothing(tmp_path):
    """Of noise with noise for a target O_h is not rejected: which says nothing, and is said so."""
    fields, quick = white(12, 4, seed=0), Method(NetworkShape(channels=1), Training(epochs=1))
    found = discover_samples(pair_samples(fields[:6], fields[6:], "1o"), seeds=1, method=quick)
    assert found.fit["relaxed"] < 0.01 and found.surviving.name == "Oh" and found.blind
    assert "explains nothing of the target" in found.sentences[0] and "nothing can be said" in found.sentences[0]
    page = render_symmetry_report(replace(found, exact=True)), render_symmetry_report(found)
    assert ["power is all that the networks explain" in each for each in page] == [False, True]
    plan = Plan(parse_experiment(stated([tmp_path / "a.zarr"], tmp_path)))
    write_json_atomic(tmp_path / "symmetry/discovery.json", found.to_json())
    with pytest.raises(FlowsrError, match="explains nothing") as refused:
        plan.discovery(plan.sources["data"])
    assert refused.value.variable == "group: discovered" and refused.value.hint
    fine = fields.repeat_interleave(2, -1).repeat_interleave(2, -2).repeat_interleave(2, -3) * (1 + 1e-8)
    with pytest.raises(FlowsrError, match="nothing but rounding"):
        discover_samples(superres_samples(fields.float(), fine.float()), method=quick)


def test_a_factor_that_is_no_part_of_the_pairs_is_refused(tmp_path, layered):
    experiment = stated(layered, tmp_path / "run")
    experiment["ingest"]["factor"], experiment["discover"]["factor"] = 4, 3
    with pytest.raises(FlowsrError) as refused:
        for stage in ("ingest", "train"):
            stages.stage(stage, parse_experiment(experiment))
    assert refused.value.variable == "discover.factor" and refused.value.expected == 4
