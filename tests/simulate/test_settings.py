"""Settings of a box and of a channel: what is refused, in one line, by the domain and where YAML is read."""

import math
from pathlib import Path

import pytest

from flowsr.config.study import dump_experiment, load_experiment
from flowsr.data.manifest import read_manifest
from flowsr.errors import BadValue, FlowsrError
from flowsr.pipeline import stages
from flowsr.simulate import Channel, Simulation
from tests.simulate.runs import BOX, CHANNEL, MEDIA

ROOT = Path(__file__).parents[2]
PRESET = ROOT / "configs" / "dns" / "channel.yaml"


def write(folder, text):
    file = folder / "experiment.yaml"
    file.write_text("name: walls\noutput: runs/walls\n" + text)
    return file


@pytest.mark.parametrize(
    ("base", "change", "variable", "expected", "found"),
    [
        (BOX, {"viscosity": -1.0}, "viscosity", "a positive number", -1.0),
        (BOX, {"precision": "float16"}, "precision", "float32 or float64", "float16"),
        (BOX, {"cells": 4}, "cells", "8 or more to spin up on half the grid", 4),
        (BOX, {"snapshot_interval": 2.0}, "snapshot_interval", "at most the duration", 2.0),
        (BOX, {"forcing_cutoff": 0.5}, "forcing_cutoff", "above 1, the box's lowest wavenumber", 0.5),
        (BOX, {"settle_time": math.nan}, "settle_time", "a number of zero or more", math.nan),
        (BOX, {"duration": math.inf}, "duration", "a positive number", math.inf),
        (BOX, {"seeds": []}, "seeds", "one seed or more", ()),
        (BOX, {"batch": 0}, "batch", "1 or more", 0),
        (MEDIA, {"cells": (16, 16)}, "cells", "one number, or three along x, y, z", (16, 16)),
        (MEDIA, {"cells": (16, 12, 4)}, "cells", "8 or more to spin up on half the grid", (16, 12, 4)),
        (MEDIA, {"lengths": (1.0, 1.0, 0.0)}, "lengths", "three positive sides", (1.0, 1.0, 0.0)),
        (MEDIA, {"rotation": (0, 0, math.nan)}, "rotation", "three numbers along x, y, z", (0.0, 0.0, math.nan)),
        (MEDIA, {"dealiasing": "none"}, "dealiasing", "sphere or cube", "none"),
        (MEDIA, {"passive_scalar": False}, "scalar_gradient", "passive_scalar: true beside it", (0.0, 0.5, 0.0)),
        (MEDIA, {"spectrum": [(1, 1.0)]}, "spectrum", "the flow 'decaying', not 'forced_isotropic'", ((1.0, 1.0),)),
        (MEDIA, {"prandtl": 0.0}, "prandtl", "a positive number", 0.0),
        (MEDIA, {"forcing_mode": 0}, "forcing_mode", "1 or more", 0),
        (CHANNEL, {"re_tau": 20.0}, "re_tau", "60 or more", 20.0),
        (CHANNEL, {"cells": (8, 15, 8)}, "cells", "three even numbers, 4 or more", (8, 15, 8)),
        (CHANNEL, {"lengths": (3, 1, 1.5)}, "lengths", "three positive numbers, 2 along y", (3.0, 1.0, 1.5)),
        (CHANNEL, {"drive": "wind"}, "drive", "pressure or flux", "wind"),
        (CHANNEL, {"time_step": -1.0}, "time_step", "a positive number", -1.0),
        (CHANNEL, {"snapshot_interval": 2.0}, "snapshot_interval", "at most the duration", 2.0),
        (CHANNEL, {"spin_up_time": -1.0}, "spin_up_time", "a number of zero or more", -1.0),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_one_line(base, change, variable, expected, found):
    with pytest.raises(BadValue) as error:
        (Channel if base is CHANNEL else Simulation)(**{**base, **change})
    refused = error.value
    assert (refused.variable, refused.expected, repr(refused.found)) == (variable, expected, repr(found))
    assert "\n" not in str(refused)


def test_a_misspelt_flow_or_start_gets_a_suggestion():
    with pytest.raises(FlowsrError, match="did you mean 'forced_isotropic'"):
        Simulation("forced_isotropc")
    with pytest.raises(FlowsrError, match="did you mean 'turbulent'"):
        Channel(start="turbulet")


def test_equal_settings_read_the_same():
    one = Simulation(cells=[16, 16, 16], rotation=[0, 0, 1], seeds=[0, 1], spectrum=[])
    assert one == Simulation(cells=16, rotation=(0.0, 0.0, 1.0), seeds=(0, 1))


def test_the_channel_preset_is_the_minimal_flow_unit_and_its_manifest_says_the_same():
    channel = load_experiment(PRESET).simulate.channel
    manifest = read_manifest(ROOT / "data_manifests" / "channel_minimal.yaml")
    assert channel.grid.shape == tuple(manifest.grid.cells) == (32, 64, 32)
    assert channel.grid.lengths == pytest.approx(manifest.grid.lengths)
    assert channel.grid.boundary == tuple(manifest.boundary)
    assert channel.viscosity == manifest.viscosity


def test_the_stage_hands_its_settings_to_the_job(tmp_path, monkeypatch):
    seen = {}

    def record(outputs, settings, *, seeds, device, progress):
        seen.update(settings=settings, seeds=seeds)
        for suffix in (".csv", ".profiles.csv"):
            outputs[0].with_suffix(suffix).touch()
        outputs[0].mkdir()

    monkeypatch.setattr("flowsr.simulate.simulate", record)
    file = write(tmp_path, "simulate: {flow: channel, seeds: [3], channel: {re_tau: 100, drive: flux}}\n")
    stages.simulate(load_experiment(file).model_copy(update={"output": tmp_path / "out"}))
    channel = Channel(re_tau=100, drive="flux")
    assert seen == {"settings": Simulation("channel", seeds=(3,), channel=channel), "seeds": [3]}


@pytest.mark.parametrize("path", sorted(PRESET.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_settings_survive_a_dump(tmp_path, path):
    experiment = load_experiment(path)
    file = tmp_path / "again.yaml"
    file.write_text(dump_experiment(experiment))
    assert load_experiment(file) == experiment


@pytest.mark.parametrize(
    ("simulate", "expected"),
    [
        ("{flow: channel, cells: 32}", "bad value for 'simulate.cells'; expected: nothing: what is set of a channel"),
        ("{flow: abc, channel: {re_tau: 100}}", "bad value for 'simulate.channel'; expected: the flow 'channel'"),
        ("{flow: channel, channel: {re_tua: 100}}", "unknown key 'simulate.channel.re_tua'; did you mean 're_tau'"),
        ("{flow: channel, channel: {re_tau: 10}}", "bad value for 'simulate.channel.re_tau'; expected: 60 or more"),
        ("{viscosity: -1}", "bad value for 'simulate.viscosity'; expected: a positive number; found: -1"),
        ("{target: {re_lambda: -1}}", "bad value for 'simulate.target.re_lambda'; expected: from 10"),
        ("{target: {relambda: 1}}", "unknown key 'simulate.target.relambda'; did you mean 're_lambda'"),
        ("{target: {re_lambda: 40}, power: much}", "bad value for 'simulate.power'"),
        ("{rotation: [0, 1]}", "'simulate.rotation"),
        ("{flow: kolmogorof}", "bad value for 'simulate.flow'"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_the_key(tmp_path, simulate, expected):
    file = write(tmp_path, f"simulate: {simulate}\n")
    with pytest.raises(FlowsrError) as error:
        load_experiment(file)
    assert expected in str(error.value) and str(file) in str(error.value) and "\n" not in str(error.value)
