"""An experiment's steps side by side: the same bits as one after another, also after a kill in the middle."""

import shutil
import signal
import subprocess
import sys

import pytest

from flowsr.config.study import load_experiment
from flowsr.pipeline import stages
from flowsr.pipeline.plan import Plan
from flowsr.progress import Progress
from tests.experiments import write_tiny


def start(config):
    command = [sys.executable, "-m", "flowsr", "train", str(config), "--workers", "2"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture
def serial(tmp_path):
    """Configs of an experiment that is trained one network after another, and of another with its pairs."""
    serial, beside = write_tiny(tmp_path, "serial"), write_tiny(tmp_path, "beside")
    for stage in ("simulate", "ingest"):
        stages.STAGES[stage](load_experiment(serial))
    shutil.copytree(tmp_path / "serial", tmp_path / "beside")
    stages.STAGES["train"](load_experiment(serial))
    return beside


def assert_same_networks(folder):
    for name in ("relaxed", "cnn"):
        made, expected = (folder / run / "train" / name / "model.safetensors" for run in ("beside", "serial"))
        assert made.read_bytes() == expected.read_bytes()


def test_networks_trained_side_by_side_are_those_trained_in_turn(serial, tmp_path):
    told = []
    progress = Progress(lambda title, fraction, message: told.append((title, message)))
    stages.STAGES["train"](load_experiment(serial, ["workers=2"]), progress=progress)
    assert_same_networks(tmp_path)
    for title in ("train relaxed", "train cnn"):
        messages = [message for of, message in told if of == title]
        assert messages[0] == "started" and messages[-1] == "done" and any("epoch 2" in each for each in messages)


@pytest.mark.slow
def test_killed_side_by_side_they_resume(serial, tmp_path):
    with start(serial) as process:
        begun = set()
        for line in process.stdout:
            begun |= {name for name in ("relaxed", "cnn") if line.startswith(f"train {name}") and "epoch 1" in line}
            if begun == {"relaxed", "cnn"}:
                process.send_signal(signal.SIGKILL)
    with start(serial) as process:
        output = process.stdout.read()
    assert process.returncode == 0 and begun == {"relaxed", "cnn"}, output
    assert_same_networks(tmp_path)


def test_the_cores_are_shared_by_the_workers(tmp_path, monkeypatch):
    monkeypatch.setattr("flowsr.pipeline.plan.cores", lambda: 8)
    experiment = load_experiment(write_tiny(tmp_path), ["threads=null"])
    threads = {n: Plan(experiment.model_copy(update={"workers": n})).threads for n in (1, 3, 16)}
    assert threads == {1: None, 3: 2, 16: 1}
    three = Plan(load_experiment(write_tiny(tmp_path), ["workers=3", "threads=5"]))
    assert (three.workers, three.threads) == (3, 5)
    for name, value in (("PROCID", "0"), ("STEP_NUM_TASKS", "4"), ("LOCALID", "0")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert three.workers == 1, "all that srun started train one network together"
