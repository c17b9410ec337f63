"""The command line as a person meets it: help that teaches, one line for a mistake, exit code 2."""

import numpy as np
import pytest
import torch
import xarray as xr

from flowsr.cli import main
from flowsr.data import open_field, write_hdf5
from flowsr.grid import Grid
from flowsr.models import ModelCard, build_model, save_model
from tests.experiments import write_tiny

COMMANDS = ["run", "simulate", "ingest", "train", "upscale", "compare", "inspect", "convert", "config", "models"]


def test_help_names_every_command_and_where_to_start(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS) and "configs/demo.yaml" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"flowsr {command}" in text and len(text.splitlines()) > 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["config", "missing.yaml"], "missing.yaml: cannot read"),
        (["train", "{tiny}"], "the ingest stage has not finished"),
        (["compare", "{tiny}"], "no finished ingest here"),
        (["ingest", "{tiny}"], "the simulate stage has not finished"),
        (["run", "{tiny}", "--set", "train.max_epoch=3"], "did you mean 'max_epochs'?"),
        (["simulte"], 'Did you mean "simulate"?'),
        (["upscale"], "CONFIG or --input is missing"),
        (["upscale", "--input", "a.zarr", "--output", "b.zarr"], "--model is missing"),
        (["ingest", "{tiny}", "--set", "ingest.inputs=[nowhere.zarr]"], "nowhere.zarr: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = str(write_tiny(tmp_path))
    assert main([argument.replace("{tiny}", tiny) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and error.startswith("error:") and error.count("\n") == 1


def test_config_prints_what_can_be_read_back(tmp_path, capsys):
    assert main(["config", str(write_tiny(tmp_path)), "--set", "train.batch_size=3"]) == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    assert main(["config", str(printed)]) == 0
    assert capsys.readouterr().out == printed.read_text()
    assert "batch_size: 3" in printed.read_text()


def test_models_are_listed_with_what_they_are(capsys):
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert "tricubic" in text and "Cubic spline" in text


@pytest.fixture
def own_file(tmp_path):
    """A stranger's coarse field in HDF5, with walls along y, and a small trained model."""
    grid = Grid((6, 5, 4), spacing=(0.5, 0.2, 1.0), boundary=("periodic", "wall", "periodic"))
    values = np.random.default_rng(0).standard_normal((2, 3, *grid.shape)).astype("float32")
    coordinates = dict(zip("xyz", grid.coordinates()), time=[0.0, 0.5], component=["u", "v", "w"])
    field = xr.Dataset(
        {"velocity": (("time", "component", "x", "y", "z"), values, {"irreps": "1o", "units": "m/s", "long_name": "velocity"})},
        coords=coordinates,
        attrs={"boundary": list(grid.boundary), "viscosity": 1e-3, "length_units": "m"},
    )
    write_hdf5(field, tmp_path / "coarse.h5")
    torch.manual_seed(0)
    options = {"factor": 2, "channels": 1, "group": "O"}
    model = build_model("relaxed", **options)
    torch.nn.init.normal_(model.projection.filters, std=0.1)
    save_model(tmp_path / "model", model, ModelCard("relaxed", options, {"weights_sha256": "abc"}))
    return tmp_path, model.eval(), values, grid


def test_upscaling_a_file_of_ones_own(own_file, capsys):
    folder, model, values, grid = own_file
    arguments = ["upscale", "--input", str(folder / "coarse.h5"), "--model", str(folder / "model")]
    assert main([*arguments, "--output", str(folder / "fine.zarr"), "--tile", "3"]) == 0
    fine = open_field(folder / "fine.zarr")
    with torch.no_grad():
        expected = model(torch.from_numpy(values), grid).numpy()
    assert np.linalg.norm(fine.velocity.values - expected) <= 1e-6 * np.linalg.norm(expected)
    assert fine.velocity.attrs["units"] == "m/s" and fine.attrs["viscosity"] == 1e-3
    assert fine.attrs["boundary"] == list(grid.boundary)
    np.testing.assert_allclose(fine.y.values, grid.refined(2).coordinates()[1])


def test_upscaling_refuses_a_variable_that_is_not_there(own_file, capsys):
    folder = own_file[0]
    arguments = ["upscale", "--input", str(folder / "coarse.h5"), "--model", str(folder / "model"), "--output", str(folder / "x.zarr")]
    assert main([*arguments, "--variable", "velocty"]) == 2
    assert "velocty" in capsys.readouterr().err and not (folder / "x.zarr").exists()
    assert main([*arguments, "--tile", "0"]) == 2
    assert main([*arguments[:-3], str(folder / "nomodel"), "--output", str(folder / "x.zarr")]) == 2
