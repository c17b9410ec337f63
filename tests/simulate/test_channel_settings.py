from pathlib import Path

import pytest

from flowsr.config import channel as config
from flowsr.config.load import dump_experiment, load_experiment
from flowsr.data.manifest import read_manifest
from flowsr.errors import FlowsrError
from flowsr.pipeline import stages
from flowsr.simulate import channel as package
from flowsr.simulate.channel.run import ChannelSettings

ROOT = Path(__file__).parents[2]
PRESET = ROOT / "configs" / "dns" / "channel.yaml"


def write(folder, text):
    file = folder / "experiment.yaml"
    file.write_text("name: walls\noutput: runs/walls\n" + text)
    return file


def test_the_preset_is_the_minimal_flow_unit_and_its_manifest_says_the_same():
    settings = load_experiment(PRESET).simulate.recorded()
    made = ChannelSettings(**{**settings, "cells": tuple(settings["cells"]), "seed": 0})
    manifest = read_manifest(ROOT / "data_manifests" / "channel_minimal.yaml")
    assert made.grid.shape == tuple(manifest.grid.cells) == (32, 64, 32)
    assert made.grid.lengths == pytest.approx(manifest.grid.lengths)
    assert made.grid.boundary == tuple(manifest.boundary)
    assert made.viscosity == manifest.viscosity


def test_the_stage_hands_its_settings_to_the_channel(tmp_path, monkeypatch):
    seen = {}

    def record(output, *, device, progress, **settings):
        seen.update(settings)
        for suffix in (".csv", ".profiles.csv"):
            output.with_suffix(suffix).touch()
        output.mkdir()

    monkeypatch.setattr(package, "simulate_channel", record)
    file = write(tmp_path, "simulate: {flow: channel, seeds: [3], channel: {re_tau: 100, drive: flux}}\n")
    experiment = load_experiment(file).model_copy(update={"output": tmp_path / "out"})
    stages.simulate(experiment)
    expected = config.ChannelSettings(re_tau=100, drive="flux").model_dump(mode="json")
    assert seen == {"flow": "channel", "seed": 3, **expected}


def test_settings_survive_a_dump(tmp_path):
    experiment = load_experiment(PRESET)
    file = tmp_path / "again.yaml"
    file.write_text(dump_experiment(experiment))
    assert load_experiment(file).simulate.recorded() == experiment.simulate.recorded()


@pytest.mark.parametrize(
    ("simulate", "expected"),
    [
        ("{flow: channel, cells: 32, viscosity: 0.1}", "cells, viscosity: not of a channel"),
        ("{flow: abc, channel: {re_tau: 100}}", "the flow is not `channel`"),
        ("{flow: channel, channel: {re_tua: 100}}", "re_tau"),
    ],
)
def test_what_would_be_left_unused_is_refused(tmp_path, simulate, expected):
    with pytest.raises(FlowsrError, match=expected):
        load_experiment(write(tmp_path, f"simulate: {simulate}\n"))
