"""The command line as a person meets it: help that teaches, one line for a mistake, exit code 2."""

import errno
import importlib.util
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from flowsr import cli
from flowsr.cli import main
from flowsr.data import open_field, write_hdf5
from flowsr.files import partial_path
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, save_model
from tests.data.fields import random_field
from tests.experiments import write_tiny

#: Every command there is, as the application itself lists them.
COMMANDS = [name for name in cli.app if not name.startswith("-")]


def test_help_names_every_command_and_where_to_start(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(command in text for command in COMMANDS) and "configs/demo.yaml" in text
    assert {"run", "simulate", "train", "upscale", "compare", "symmetry", "inspect", "models"} <= {*COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"flowsr {command}" in text and len(text.splitlines()) > 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["config", "missing.yaml"], "missing.yaml: cannot read"),
        (["train", "{tiny}"], "the simulate stage has not finished"),
        (["compare", "{tiny}"], "the simulate stage has not finished"),
        (["ingest", "{tiny}"], "the simulate stage has not finished"),
        (["run", "{tiny}", "--set", "train.max_epoch=3"], "did you mean 'max_epochs'?"),
        (["simulte"], 'Did you mean "simulate"?'),
        (["upscale"], "CONFIG or --input is missing"),
        (["upscale", "--input", "a.zarr", "--model", "m"], "--output is missing"),
        (["upscale", "{tiny}", "--input", "a.zarr"], "--input cannot be given with CONFIG"),
        (["upscale", "{tiny}", "--model", "m", "--output", "b"], "--model, --output cannot be given with CONFIG"),
        (["upscale", "{tiny}", "--group", "coarse"], "--group cannot be given with CONFIG"),
        (["upscale", "{tiny}", "--tile", "32"], "--tile cannot be given with CONFIG"),
        (["upscale", "{tiny}", "--variable", "velocity", "--device", "auto"], "--variable, --device cannot be given"),
        (
            ["upscale", "--input", "a", "--model", "m", "--output", "b", "--set", "threads=1"],
            "--set cannot be given with --input",
        ),
        (["ingest", "{tiny}", "--set", "ingest.inputs=[nowhere.zarr]"], "nowhere.zarr: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = str(write_tiny(tmp_path))
    assert main([argument.replace("{tiny}", tiny) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert told in error and error.startswith("error:") and error.count("\n") == 1


CONTROLS = "\x1b]0;owned\x07\x1b[2J\u202e"


def test_no_file_writes_to_the_terminal_but_what_is_shown(tmp_path, capfd):
    """Names and attributes of a stranger's file, in a listing and in an error: shown, not obeyed."""
    field = random_field(Grid((4, 4, 4)), range(1)).rename(velocity=f"wind{CONTROLS}")
    field.attrs["title"] = f"a run {CONTROLS}"
    path = write_hdf5(field, tmp_path / "[bold]wind.h5")
    assert main(["inspect", str(path)]) == 0
    said = capfd.readouterr().out
    assert main(["upscale", "--input", str(path), "--model", str(tmp_path), "--output", str(tmp_path / "x.zarr")]) == 2
    assert main(["convert", str(path), str(tmp_path / "x.zarr"), "--time", "9"]) == 2
    assert main(["inspect", str(tmp_path / f"no{CONTROLS}.h5")]) == 2
    error = capfd.readouterr().err
    assert r"a run \x1b]0;owned\x07\x1b[2J\u202e" in said and r"wind\x1b" in said and r"no\x1b" in error
    assert not {"\x1b", "\x07", "\u202e"} & {*said, *error}


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
        {
            "velocity": (
                ("time", "component", "x", "y", "z"),
                values,
                {"irreps": "1o", "units": "m/s", "long_name": "velocity"},
            )
        },
        coords=coordinates,
        attrs={"boundary": list(grid.boundary), "viscosity": 1e-3, "length_units": "m"},
    )
    write_hdf5(field, tmp_path / "coarse.h5")
    torch.manual_seed(0)
    card = ModelCard("relaxed", Task(2), {"channels": 1, "group": "O"})
    model = card.build()
    torch.nn.init.normal_(model.projection.filters, std=0.1)
    save_model(tmp_path / "model", model, card)
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


def test_upscaling_takes_a_field_and_what_to_write(own_file, capsys):
    folder = own_file[0]
    source, target = str(folder / "coarse.h5"), folder / "fine.zarr"
    assert main(["upscale", source]) == 2
    assert "flowsr upscale coarse.h5 fine.zarr" in capsys.readouterr().err
    assert main(["upscale", source, str(target), "--input", source]) == 2
    assert "--input cannot be given with" in capsys.readouterr().err
    assert main(["upscale", source, str(target), "--model", str(folder / "model"), "--no-metrics"]) == 0
    assert open_field(target).attrs["provenance"]["model"] == "relaxed"
    assert main(["upscale", source, str(folder / "other.zarr"), "--factor", "5"]) == 2
    assert "no model that comes with flowsr fits" in capsys.readouterr().err


def test_upscaling_refuses_a_variable_that_is_not_there(own_file, capsys):
    folder = own_file[0]
    arguments = [
        "upscale",
        "--input",
        str(folder / "coarse.h5"),
        "--model",
        str(folder / "model"),
        "--output",
        str(folder / "x.zarr"),
    ]
    assert main([*arguments, "--variable", "velocty"]) == 2
    assert "velocty" in capsys.readouterr().err and not (folder / "x.zarr").exists()
    assert main([*arguments, "--tile", "0"]) == 2
    assert main([*arguments[:-3], str(folder / "nomodel"), "--output", str(folder / "x.zarr")]) == 2


def test_upscaling_a_group_of_a_file(own_file, capsys):
    import h5py

    folder = own_file[0]
    with h5py.File(folder / "coarse.h5") as whole, h5py.File(folder / "grouped.h5", "w") as grouped:
        whole.copy(whole["/"], grouped, "coarse")
    arguments = ["upscale", "--model", str(folder / "model")]
    assert main([*arguments, "--input", str(folder / "coarse.h5"), "--output", str(folder / "whole.zarr")]) == 0
    arguments += ["--input", str(folder / "grouped.h5"), "--output", str(folder / "part.zarr")]
    assert main(arguments) == 2
    capsys.readouterr()
    assert main([*arguments, "--group", "fine"]) == 2
    assert "no such group; variable: fine" in capsys.readouterr().err
    assert main([*arguments, "--group", "coarse"]) == 0
    part, whole = open_field(folder / "part.zarr"), open_field(folder / "whole.zarr")
    np.testing.assert_array_equal(part.velocity.values, whole.velocity.values)
    assert part.attrs["provenance"]["source_group"] == "coarse"


@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
def test_upscaling_onto_the_input_is_one_line(own_file, fresh, capsys):
    folder = own_file[0]
    before = (folder / "coarse.h5").read_bytes()
    source = str(folder / "coarse.h5")
    assert main(["upscale", "--input", source, "--model", str(folder / "model"), "--output", source, *fresh]) == 2
    assert "would be written over the input" in capsys.readouterr().err
    assert (folder / "coarse.h5").read_bytes() == before


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/[run].zarr"),
            "error: /data/[run].zarr: Permission denied\n",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "error: No space left on device; make room, then start the same command again to resume\n",
        ),
        (OSError("the library's own\nwords"), "error: the library's own words\n"),
    ],
)
def test_what_the_system_refuses_is_one_line(error, told, monkeypatch, capsys):
    monkeypatch.setattr(cli, "app", lambda *_, **__: raising(error)())
    assert main(["models"]) == 2
    assert capsys.readouterr().err == told


def test_a_file_in_the_way_of_a_folder_is_one_line(tmp_path, capsys):
    (tmp_path / "run").write_text("in the way")
    assert main(["simulate", str(write_tiny(tmp_path))]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / 'run'}") and error.count("\n") == 1


def process(*arguments, **options):
    """`python -m flowsr` in a process of its own, SIGINT as it is in a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "flowsr", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


def test_output_that_nobody_takes_is_no_traceback(tmp_path):
    arguments = ["init", str(tmp_path)]
    for command in (arguments, ["config", str(write_tiny(tmp_path))]):
        with open("/dev/full", "w") as full, process(*command, stdout=full) as child:
            assert child.stderr.read().startswith("error: No space left on device; make room")
        assert child.returncode == 2
    reader, writer = os.pipe()
    os.close(reader)
    with process(*arguments, stdout=writer) as child:
        os.close(writer)
        assert child.stderr.read() == ""
    assert child.returncode == 1


def test_an_interrupt_is_one_line_and_130(tmp_path):
    long = ["--set", "simulate.duration=1e6", "--set", "simulate.snapshot_interval=1e5"]
    first = partial_path(tmp_path / "run" / "simulate" / "seed_000.zarr") / "done" / "velocity"
    with process("simulate", str(write_tiny(tmp_path)), *long, cwd=tmp_path) as child:
        assert "started" in child.stderr.readline()
        while child.poll() is None and not (first.exists() and any(first.iterdir())):  # past all imports
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        told = child.stderr.read()
    assert child.returncode == 130
    assert told.endswith("interrupted; start the same command again to resume\n") and "Traceback" not in told


def fit_that_is_interrupted():
    from lightning import Trainer
    from lightning.pytorch.demos.boring_classes import BoringModel

    class Interrupted(BoringModel):
        def on_train_start(self):
            raise KeyboardInterrupt

    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    Trainer(accelerator="cpu", max_epochs=1, **quiet).fit(Interrupted())


def test_an_interrupted_fit_is_one_line_and_130_too(monkeypatch, capsys):
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(cli, "app", lambda *_, **__: fit_that_is_interrupted())
    try:
        assert main(["train"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err.endswith("interrupted; start the same command again to resume\n")


def test_another_exit_stays_what_it_is(monkeypatch):
    monkeypatch.setattr(cli, "app", lambda *_, **__: sys.exit(3))
    with pytest.raises(SystemExit) as ending:
        main(["models"])
    assert ending.value.code == 3


@pytest.mark.parametrize("missing", ["cyclopts", "pydantic", "zarr"])
def test_a_package_of_the_extra_that_is_missing_is_one_line(missing, tmp_path):
    arguments = ["config", str(write_tiny(tmp_path))]
    program = f"import sys; sys.modules[{missing!r}] = None; from flowsr.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        f"error: {missing} not installed; pip install flowsr, with what it depends on\n",
    )


def test_the_installed_command_is_the_one_that_says_so():
    project = Path(importlib.util.find_spec("flowsr").origin).parent.parent / "pyproject.toml"
    assert tomllib.loads(project.read_text())["project"]["scripts"] == {"flowsr": "flowsr.__main__:main"}
