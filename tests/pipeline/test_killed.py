"""The whole chain as a user runs it: SIGKILL in every stage, started again each time, ends in the same metrics."""

import json
import shutil
import signal

import numpy as np
import pytest

from flowsr.cli import main
from flowsr.data import open_field
from flowsr.files import read_json, tree_checksum
from tests.experiments import write_tiny
from tests.processes import FlowsrProcess

pytestmark = pytest.mark.xdist_group("killed")

RECORDS = {
    "simulate seed 0": "simulate/seed_000.json",
    "simulate seed 1": "simulate/seed_001.json",
    "ingest": "ingest/run.json",
    "train cnn": "train/cnn/run.json",
    "train relaxed": "train/relaxed/run.json",
    "upscale cnn seed_000": "upscale/cnn/seed_000.json",
    "compare": "compare/run.json",
}


def kill_at(config, stage):
    """A run that SIGKILL ends as soon as a stage says that it has got somewhere."""
    with FlowsrProcess("run", str(config), fatal=stage) as process:
        output = process.stdout.read()
    assert process.returncode == -signal.SIGKILL, output
    assert read_json(config.parent / "run" / RECORDS[stage])["status"] == "running"


def finished(config):
    with FlowsrProcess("run", str(config)) as process:
        output = process.stdout.read()
    assert process.returncode == 0, output
    return output


def metrics(folder):
    comparison = json.loads((folder / "compare" / "metrics.json").read_text())
    for model in comparison["models"].values():
        del model["seconds"]
    return comparison


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder / "run", finished(write_tiny(folder)), folder


def test_a_run_ends_with_a_table_a_verdict_and_a_report(whole):
    folder, output, _ = whole
    assert "Relaxed octahedral" in output and "best interpolation" in output
    assert f"report: {folder / 'report.html'}" in output.replace("\n", "")
    page = (folder / "report.html").read_text()
    assert "Relaxed octahedral" in page and "<svg" in page
    assert metrics(folder)["models"].keys() == {"nearest", "spectral", "relaxed", "cnn"}
    assert (folder / "train" / "relaxed" / "history.jsonl").read_text().count("\n") == 3


def test_upscaled_fields_carry_coordinates_units_and_provenance(whole):
    folder, _, _ = whole
    upscaled = open_field(folder / "upscale" / "relaxed" / "seed_000.zarr")
    truth = open_field(folder / "ingest" / "test" / "seed_000.zarr", group="fine")
    for name in ("time", "component", "x", "y", "z"):
        if name == "component":
            assert list(upscaled[name].values) == ["u", "v", "w"]
        else:
            np.testing.assert_allclose(upscaled[name].values, truth[name].values, rtol=1e-12)
    assert upscaled.velocity.attrs["units"] == truth.velocity.attrs["units"]
    assert upscaled.attrs["provenance"]["model"] == "relaxed" and upscaled.attrs["provenance"]["weights_sha256"]


def test_a_second_run_reuses_everything(whole):
    folder, _, parent = whole
    before = tree_checksum(folder / "compare"), tree_checksum(folder / "train" / "relaxed")
    output = finished(parent / "run.yaml")
    endings = [line.split()[-1] for line in output.splitlines() if " 100 %" in line]
    assert endings == ["reused"] * 10  # two runs, ingest, two networks, each over two runs, comparison
    assert (tree_checksum(folder / "compare"), tree_checksum(folder / "train" / "relaxed")) == before


@pytest.mark.usefixtures("blank_figures")
def test_a_changed_model_or_store_is_measured_again_and_only_that_one(whole, tmp_path):
    """Rows are kept by a key of what they were made from: the model's options, its weights or the fields it made."""
    folder, _, _ = whole
    shutil.copytree(folder, tmp_path / "run")
    config, rows = str(write_tiny(tmp_path)), tmp_path / "run" / "compare" / "rows"

    def measured_again(*arguments):
        before = {path.stem: path.stat().st_mtime_ns for path in rows.glob("*.json")}
        assert main(list(arguments)) == 0
        return {path.stem for path in rows.glob("*.json") if path.stat().st_mtime_ns != before.get(path.stem)}

    network = "train.models.cnn.options.blocks=1"
    assert measured_again("run", config) == set()
    assert measured_again("run", config, "--set", network) == {"cnn"}
    assert measured_again("run", config, "--set", network, "--set", "compare.baselines=[nearest, tricubic]") == {
        "tricubic"
    }
    (rows / "relaxed.json").write_text("{}")
    assert measured_again("compare", config, "--set", network, "--set", "name=other") == {"relaxed"}
    assert metrics(tmp_path / "run")["models"]["relaxed"] == metrics(folder)["models"]["relaxed"]


@pytest.mark.parametrize(
    ("stage", "setting", "told"),
    [
        ("ingest", "simulate.viscosity=0.1", "the simulate stage was done with other settings"),
        ("train", "ingest.factor=4", "the ingest stage was done with other settings"),
        ("upscale", "train.max_epochs=4", "the train stage was done with other settings"),
        ("compare", "upscale.tile=3", "the upscale stage was done with other settings"),
        ("compare", "simulate.viscosity=0.1", "the simulate stage was done with other settings"),
    ],
)
def test_a_stage_does_not_build_on_what_other_settings_made(whole, stage, setting, told, capsys):
    folder, _, parent = whole
    before = (folder / "config.yaml").read_text()
    assert main([stage, str(parent / "run.yaml"), "--set", setting]) == 2
    assert told in capsys.readouterr().err
    assert (folder / "config.yaml").read_text() == before


def test_killed_in_every_stage_it_ends_in_the_same_metrics(whole, tmp_path):
    folder, _, _ = whole
    config = write_tiny(tmp_path)
    for stage in RECORDS:
        kill_at(config, stage)
        assert not (tmp_path / "run" / "report.html").exists()
    finished(config)
    again = tmp_path / "run"
    assert metrics(again) == metrics(folder)
    for network in ("relaxed", "cnn"):
        weights = f"train/{network}/model.safetensors"
        assert tree_checksum(again / weights) == tree_checksum(folder / weights)
    for seed in ("seed_000", "seed_001"):
        mine, theirs = (open_field(path / "simulate" / f"{seed}.zarr") for path in (again, folder))
        assert (mine.velocity.values == theirs.velocity.values).all()
