"""A study as a user runs it: from nothing to a table, killed and started again, a model added, other inputs."""

import csv
import json
import shutil
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet
import pytest
import torch

from flowsr.cli import main
from flowsr.compare.subset import write_subset
from flowsr.config.study import load_study
from flowsr.data import open_field
from flowsr.data.pairs import pair_stores, read_statistics
from flowsr.files import file_checksum, tree_checksum
from flowsr.metrics import nrmse
from flowsr.models import load_model
from tests.studies import TINY_STUDY, write_tiny_study

pytestmark = pytest.mark.xdist_group("study")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    assert main(["compare", str(write_tiny_study(folder))]) == 0
    return folder / "study", json.loads((folder / "study/compare/study.json").read_text())


def tidy(folder):
    return pyarrow.parquet.read_table(folder / "compare/tidy.parquet").to_pylist()


def timeless(results):
    """Results without wall times, which are measured anew wherever a row is."""
    kept = json.loads(json.dumps(results))
    for model in kept["models"].values():
        for timed in (model, *model["fits"]):
            del timed["seconds"]
    return kept


def test_every_row_is_there_once(done):
    folder, results = done
    assert (
        sum(model["rows"] for model in results["models"].values()) == 10
    )  # 2 models untrained on 2 flows, 2 networks x 2 seeds, cnn on 4 snapshots x 2 seeds
    assert len(list((folder / "rows").glob("*.json"))) == 12  # and the truth of both flows
    values = tidy(folder)
    keys = [
        tuple(row[key] for key in ("model", "data", "size", "seed", "tested_on", "run", "time", "metric"))
        for row in values
    ]
    assert len(set(keys)) == len(keys)
    assert {(row["model"], row["tested_on"]) for row in values} == {
        (model, data)
        for model in ("truth", "nearest", "spectral", "strict", "cnn")
        for data in ("isotropic", "thicker")
    }
    whole = results["data"]["isotropic"]["training_snapshots"]
    assert {row["size"] for row in values if row["model"] == "cnn"} == {4, whole}


def test_the_table_is_what_the_tidy_values_say(done):
    folder, results = done
    values = tidy(folder)
    for found in results["scores"]:
        size = found["size"] or (results["data"][found["data"]]["training_snapshots"] if found["n_seeds"] else None)
        own = [
            row
            for row in values
            if (row["model"], row["tested_on"], row["metric"], row["size"])
            == (found["model"], found["tested_on"], found["metric"], size)
        ]
        by_seed = [
            np.mean([row["value"] for row in own if row["seed"] == seed]) for seed in {row["seed"] for row in own}
        ]
        assert found["estimate"] == pytest.approx(np.mean(by_seed), rel=1e-6)
        if found["metric"].startswith("equivariance"):  # on one snapshot
            assert found["blocks"] == 1 and found["low"] is None
        else:
            assert found["low"] <= found["estimate"] <= found["high"]
    rows = list(csv.DictReader((folder / "compare/table.csv").open()))
    assert len(rows) == len(results["scores"])


def test_a_value_can_be_made_again_from_weights_and_pairs(done):
    folder, _ = done
    model = load_model(folder / "data/isotropic/train/strict.seed_1")
    store = folder / "data/isotropic/ingest/test/seed_000.zarr"
    coarse, fine = (open_field(store, group=group) for group in ("coarse", "fine"))
    from flowsr.data import grid_of

    with torch.no_grad():
        made = model(torch.tensor(coarse.velocity.values[:1]), grid_of(coarse))
    expected = nrmse(made, torch.tensor(fine.velocity.values[:1]), grid_of(fine)).item()
    (row,) = (
        row
        for row in tidy(folder)
        if (row["model"], row["seed"], row["tested_on"]) == ("strict", 1, "isotropic")
        and (row["run"], row["metric"]) == ("seed_000", "nrmse")
        and row["time"] == float(fine.time.values[0])
    )
    assert row["value"] == pytest.approx(expected, rel=1e-6)


def test_budgets_seeds_and_test_sets_are_what_was_asked_for(done):
    _, results = done
    strict, cnn = results["models"]["strict"], results["models"]["cnn"]
    assert abs(cnn["parameters"] / strict["parameters"] - 1) < 0.5 and cnn["multiply_adds"] != strict["multiply_adds"]
    assert results["data"]["thicker"]["training_snapshots"] == 0 and results["data"]["thicker"]["snapshots"] == 5
    scores = {(s["model"], s["tested_on"], s["size"], s["metric"]): s for s in results["scores"]}
    assert len(scores["cnn", "isotropic", None, "nrmse"]["by_seed"]) == 2
    assert len(set(scores["cnn", "isotropic", 4, "nrmse"]["by_seed"])) == 2
    assert scores["nearest", "isotropic", None, "nrmse"]["n_seeds"] is None
    assert scores["strict", "isotropic", None, "equivariance_error_max"]["estimate"] < 1e-5
    assert scores["cnn", "isotropic", None, "equivariance_error_max"]["estimate"] > 1e-4
    against = {(d["model"], d["reference"], d["against"]) for d in results["differences"] if d["metric"] == "nrmse"}
    assert {("cnn", "strict", "strict"), ("strict", "best_interpolation", "spectral")} <= against
    (curve,) = (one for one in results["learning"] if one["metric"] == "nrmse")
    assert curve["model"] == "cnn" and curve["sizes"][0] == 4 and curve["slope"]["low"] < curve["slope"]["high"]


def test_small_training_sets_share_validation_and_test(done):
    folder, _ = done
    whole, part = folder / "data/isotropic/ingest", folder / "data/isotropic/subsets/4/ingest"
    for run in ("seed_000", "seed_001"):
        small, large = (open_field(path / f"train/{run}.zarr", group="fine") for path in (part, whole))
        assert small.sizes["time"] == 2
        np.testing.assert_array_equal(small.velocity.values, large.velocity.values[:2])
        assert (part / f"test/{run}.zarr").resolve() == (whole / f"test/{run}.zarr").resolve()


def test_a_training_set_smaller_than_the_number_of_runs_is_of_the_first_ones(done, tmp_path):
    write_subset(done[0] / "data/isotropic/ingest", tmp_path, 1)
    statistics = read_statistics(tmp_path)
    assert [run.snapshots["train"] for run in statistics.runs.values()] == [1, 0]
    (store,) = pair_stores(tmp_path, "train")
    assert open_field(store, group="coarse").sizes["time"] == 1 and len(pair_stores(tmp_path, "test")) == 2


def test_a_card_lies_beside_the_weights_and_names_them(done):
    folder, results = done
    network = folder / "data/isotropic/train/cnn.seed_0"
    card = json.loads((network / "card.json").read_text())
    assert card["weights"]["sha256"] == file_checksum(network / "model.safetensors")
    assert card["weights"]["licence"] == "MIT" and card["data"]["licence"]
    assert card["budget"]["parameters"] == load_model(network).parameter_count
    assert card["metrics"].keys() == {"isotropic", "thicker"}
    scores = [s for s in results["scores"] if s["model"] == "cnn" and s["metric"] == "nrmse" and s["size"] is None]
    assert card["metrics"]["isotropic"]["nrmse"] == pytest.approx(scores[0]["by_seed"][0], rel=1e-6)
    text = (network / "card.md").read_text()
    assert card["weights"]["sha256"] in text and "| nrmse |" in text


def test_the_page_holds_everything_and_asks_for_nothing(done):
    page = (done[0] / "report.html").read_text()
    for words in (
        "Which differences are real",
        "What more data buys",
        "On flows that training never saw",
        "Scale by scale",
        "<svg",
    ):
        assert words in page
    assert "http://" not in page and "https://" not in page and "<script" not in page
    markdown = (done[0] / "compare/table.md").read_text()
    assert "independent blocks" in markdown and "## Learning curves" in markdown


@pytest.mark.usefixtures("blank_figures")
def test_done_again_it_reads_every_row_and_a_new_seed_adds_its_own(done, tmp_path):
    folder = shutil.copytree(done[0], tmp_path / "study", symlinks=True)
    before = {path: tree_checksum(path) for path in sorted((folder / "rows").glob("*.json"))}
    config = write_tiny_study(tmp_path)
    assert main(["compare", str(config)]) == 0
    assert {path: tree_checksum(path) for path in before} == before
    assert json.loads((folder / "compare/study.json").read_text()) == done[1]
    more = ["--set", "seeds=[0, 1, 2]", "--set", "compare.resamples=100"]
    assert main(["compare", str(config), *more]) == 0
    assert {path: tree_checksum(path) for path in before} == before
    assert len(list((folder / "rows").glob("*.json"))) == 15


@pytest.mark.usefixtures("blank_figures")
def test_rows_and_weights_that_are_missing_are_made_again_with_the_same_results(done, tmp_path):
    """What a study that was killed left: here without some rows, a network, and the page."""
    shutil.copytree(done[0], tmp_path / "study", symlinks=True)
    for row in ("truth.thicker", "nearest.thicker", "cnn.isotropic.all.seed_1", "strict.isotropic.all.seed_0"):
        (tmp_path / f"study/rows/{row}.json").unlink()
    shutil.rmtree(tmp_path / "study/data/isotropic/train/cnn.seed_1")
    shutil.rmtree(tmp_path / "study/compare")
    damaged = tmp_path / "study/rows/spectral.isotropic.json"
    damaged.write_text('{"row": "')
    kept = {path: tree_checksum(path) for path in (tmp_path / "study/rows").glob("*.json") if path != damaged}
    assert main(["compare", str(write_tiny_study(tmp_path))]) == 0
    assert len(kept) == 7 and {path: tree_checksum(path) for path in kept} == kept
    assert timeless(json.loads((tmp_path / "study/compare/study.json").read_text())) == timeless(done[1])
    weights = "data/isotropic/train/cnn.seed_1/model.safetensors"
    assert file_checksum(tmp_path / "study" / weights) == file_checksum(done[0] / weights)


@pytest.mark.slow
def test_killed_and_started_again_with_other_workers_it_ends_in_the_same_results(done, tmp_path):
    config = write_tiny_study(tmp_path, workers=2)
    for data in ("isotropic", "thicker"):  # the flows are there: it is the rows that are to be cut short
        shutil.copytree(done[0] / "data" / data / "simulate", tmp_path / "study/data" / data / "simulate")
    command = [sys.executable, "-m", "flowsr", "compare", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:
            if line.startswith("train ") and "started" not in line and " 0 %" not in line:
                process.kill()
                break
        assert process.wait() == -signal.SIGKILL
    kept = len(list((tmp_path / "study/rows").glob("*.json")))
    assert kept < 10 and not (tmp_path / "study/report.html").exists()
    assert main(["compare", str(config), "--set", "workers=1"]) == 0
    assert timeless(json.loads((tmp_path / "study/compare/study.json").read_text())) == timeless(done[1])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"models": {"cnn": {"optoins": {}}}, "budget": None, "learning_curve": None}, "did you mean 'options'?"),
        ({"models": {"cnn": {"model": "cnm"}}, "budget": None, "learning_curve": None}, "did you mean 'cnn'?"),
        (
            {"models": {"cnn": {"train": {"max_epoch": 2}}}, "budget": None, "learning_curve": None},
            "did you mean 'max_epochs'?",
        ),
        (
            {"models": {"cnn": {"options": {"blokcs": 1}}}, "budget": {"amount": 9000}, "learning_curve": None},
            "did you mean 'blocks'?",
        ),
        (
            {"models": {"deconvolved": {"options": {"nois": 1}}}, "budget": None, "learning_curve": None},
            "no option 'nois'",
        ),
        ({"budget": {"like": "strick"}}, "budget.like names 'strick'"),
        ({"budget": {"like": "strict", "amount": 3}}, "either `like` or `amount`"),
        ({"budget": {"like": "nearest"}}, "nothing to train"),
        ({"learning_curve": {"sizes": [4], "models": ["nearest"]}}, "nothing to train"),
        ({"compare": {"metrics": ["nrmsee"]}}, "did you mean 'nrmse'?"),
        ({"compare": {"references": ["strictt"]}}, "no model 'strictt'"),
        ({"compare": {"rank_by": "nrmsd"}}, "did you mean 'nrmse'?"),
        ({"data": {"a": {"ingest": {"inputs": ["absent.h5"]}}}, "learning_curve": None}, "absent.h5: no such file"),
        ({"data": {"a": {"role": "test_only"}}, "learning_curve": None}, "role train_and_test"),
        ({"seeds": [1, 1]}, "each seed once"),
        ({"train": {"models": {"cnn": {"model": "cnn"}}}}, "networks stand under `models`"),
    ],
)
def test_mistakes_are_one_line_before_any_work(tmp_path, capsys, changes, told):
    config = write_tiny_study(tmp_path, **changes)
    assert main(["compare", str(config)]) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and told in line and "Traceback" not in line
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("override", "told"),
    [
        (
            "learning_curve.sizes=[1000]",
            "not a number of training snapshots of this data; variable: learning_curve.sizes",
        ),
        ("models.cnn.options.width=3", "both given and set by the budget"),
        ("budget={like: null, amount: 3}", "comes near the budget"),
    ],
)
def test_mistakes_that_the_data_show_are_one_line_too(done, capsys, override, told):
    config = write_tiny_study(done[0].parent)
    assert main(["compare", str(config), "--set", override]) == 2
    assert told in capsys.readouterr().err


def test_help_teaches(capsys):
    assert main(["compare", "--help"]) == 0
    told = capsys.readouterr().out
    for words in ("test_only", "learning_curve", "tidy.parquet", "configs/compare_small.yaml", "experiment"):
        assert words in told


def test_config_prints_a_study_with_its_defaults(tmp_path, capsys):
    path = write_tiny_study(tmp_path)
    assert main(["config", str(path), "--set", "seeds=[5]"]) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert load_study(tmp_path / "printed.yaml") == load_study(path, ["seeds=[5]"])


@pytest.mark.parametrize("command", ["run", "simulate", "ingest", "train", "upscale"])
def test_an_experiments_command_says_what_takes_a_study(tmp_path, capsys, command):
    path = write_tiny_study(tmp_path)
    assert main([command, str(path)]) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and "a study" in line and f"flowsr compare {path}" in line


def test_the_tiny_study_is_a_study_and_the_demo_is_not(tmp_path):
    from flowsr.config.study import dump_study, is_study

    path = write_tiny_study(tmp_path)
    assert is_study(path) and not is_study("configs/demo.yaml")
    study = load_study(path)
    (tmp_path / "again.yaml").write_text(dump_study(study))
    assert load_study(tmp_path / "again.yaml") == study
    assert list(study.models) == list(TINY_STUDY["models"]) or set(study.models) == set(TINY_STUDY["models"])
