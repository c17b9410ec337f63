"""A comparison on particles from its file: simulated, seen, trained, measured, shown, and not done twice."""

from dataclasses import replace

import pytest
import yaml

from flowsr.cli import main
from flowsr.compare import ComparisonResult
from flowsr.compare.result import Row
from flowsr.config.tracks import is_tracks, load_tracks
from flowsr.data import open_field
from flowsr.errors import FlowsrError
from flowsr.pipeline import tracking
from flowsr.pipeline.tracking import run
from flowsr.tracks import load_network

TINY = {
    "name": "tiny tracks",
    "device": "cpu",
    "workers": 1,
    "seeds": [0],
    "simulate": {
        "cells": 16,
        "viscosity": 0.05,
        "seeds": [0, 1],
        "spin_up_time": 0.5,
        "settle_time": 0.1,
        "duration": 1.0,
        "snapshot_interval": 0.5,
    },
    "particles": {
        "cells": 5,
        "per_cell": [1.0],
        "noise": [0.0, 0.2],
        "clouds": 1,
        "points": 40,
        "lattice": 4,
        "tested": 2,
    },
    "methods": ["nearest", "solenoidal"],
    "networks": {"net": {"width": 2, "neighbours": 8, "radial": 2, "accelerations": True}},
    "train": {"max_epochs": 1, "samples_per_epoch": 2},
}
TINY["particles"]["accelerations"] = True


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tracks.yaml"
    path.write_text(yaml.safe_dump({**TINY, "output": str(tmp_path / "run")}))
    return path


def test_a_file_becomes_a_comparison_with_fields_and_pictures_once(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tracking, "PLANE", 12)
    assert is_tracks(config) and main(["config", str(config)]) == 0
    outcome = run(load_tracks(config))
    assert not any(one.reused for one in outcome.steps)
    result = ComparisonResult.load(tmp_path / "run" / "compare")
    assert set(result.data) == {"density_1", "density_1_noise_0.2"} and set(result.models) == {
        "nearest",
        "solenoidal",
        "net",
    }
    for data in result.data:
        for row in result.rows(data):
            assert 0 < result.mean(row, data, "velocity_error") < 2
    assert not result.single and not replace(result, data={"density_1": result.data["density_1"]}).single
    # a method without a gradient has no vorticity; kriging has no divergence
    assert result.metrics_of(Row("nearest"), "density_1") == [
        "velocity_error",
        "pressure_correlation",
        "resolved_wavenumber",
    ]
    assert -1 <= result.mean(Row("solenoidal"), "density_1", "pressure_correlation") <= 1
    assert result.mean(Row("solenoidal"), "density_1", "divergence") < 1e-10
    assert result.data["density_1"].flow["particle_spacing_over_eta"] > 1
    network = load_network(tmp_path / "run" / "train" / "net" / "seed_0")
    assert network.options.accelerations
    for name in ("solenoidal", "net"):
        assert open_field(tmp_path / "run" / "fields" / f"{name}.zarr").velocity.shape == (1, 3, 5, 5, 5)
    page = outcome.report.read_text()
    assert "From particles to fields" in page and "data:image/png" in page and "particles near a plane" in page
    assert "cells" in capsys.readouterr().out
    assert main(["compare", str(config)]) == 0
    assert "1 per cell" in capsys.readouterr().out
    assert all(one.reused for one in run(load_tracks(config)).steps)


@pytest.mark.slow
def test_between_walls_methods_are_compared_alone(tmp_path, monkeypatch):
    """A channel, one run, no networks: no clouds to train on, and nothing that asks for a periodic box."""
    monkeypatch.setattr(tracking, "PLANE", 8)
    channel = {"cells": [4, 16, 4], "spin_up_time": 0.0, "duration": 0.02, "snapshot_interval": 0.02}
    simulated = {"flow": "channel", "seeds": [0], "channel": channel}
    study = {**TINY, "output": str(tmp_path / "run"), "simulate": simulated, "networks": {}, "train": {}}
    (tmp_path / "walls.yaml").write_text(yaml.safe_dump(study))
    run(load_tracks(tmp_path / "walls.yaml"))
    result = ComparisonResult.load(tmp_path / "run" / "compare")
    assert not list((tmp_path / "run" / "clouds").rglob("train.npz"))
    assert result.metrics_of(Row("solenoidal"), "density_1") == ["velocity_error", "vorticity_error", "divergence"]
    field = open_field(tmp_path / "run" / "fields" / "solenoidal.zarr")
    assert field.attrs["boundary"] == ["periodic", "wall", "periodic"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"methods": ["nearst"]}, "nearst"),
        ({"methods": ["network"]}, "without training"),
        ({"networks": {"nearest": {}}}, "share the name"),
        ({"networks": {"net": {"width": 0}}}, "width"),
        ({"particles": {"cells": 5, "accelerations": False}}, "accelerations must be true"),
        ({"simulate": {"seeds": [0]}}, "2 runs or more"),
        ({"train": {"batch_size": 4}}, "batch_size"),
        ({"learning_curve": {"sizes": [5]}}, "sizes below"),
        ({"particles": {"per_cell": [0.0]}}, "per_cell"),
        ({"compare": {"references": ["l_max_0"]}}, "references names 'l_max_0'"),
    ],
)
def test_settings_that_do_not_go_together_are_one_line(change, told, tmp_path):
    path = tmp_path / "tracks.yaml"
    path.write_text(yaml.safe_dump({**TINY, "output": str(tmp_path / "run"), **change}))
    with pytest.raises(FlowsrError, match=told):
        load_tracks(path)
    assert not (tmp_path / "run").exists()


def test_the_shipped_files_are_read():
    for name in ("tracks_demo", "tracks_small", "tracks_walls"):
        assert load_tracks(f"configs/{name}.yaml").name == name
