"""The models that come with flowsr: whole, small, at home in their own turbulence, better than interpolation."""

import numpy as np
import pytest
import torch

import flowsr
from flowsr.cli import main
from flowsr.files import file_checksum
from flowsr.grid import Grid
from flowsr.models import load_model, read_card
from flowsr.models.checkpoint import WEIGHTS, pretrained
from flowsr.models.home import compare_with_home, measure_traits
from flowsr.models.pretrained import choose
from flowsr.models.verify import reference_output

NAMES = sorted(pretrained())


def test_they_are_all_there_and_a_line_each(capsys):
    assert NAMES == ["channel-x4", "hit-x2", "hit-x4", "hit-x8"]
    assert main(["models", "--pretrained"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES and all("nrmse" in line for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_whole_small_and_says_how_to_make_it_again(name, capsys):
    folder, card = pretrained()[name], read_card(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 2_000_000
    assert file_checksum(folder / WEIGHTS) == card.training["weights_sha256"]
    assert {"command", "config", "licence", "seed", "versions", "errors"} <= card.training.keys()
    assert card.home.operator == "block_mean" and ("wall" in card.home.boundary) == name.startswith("channel")
    errors = {model: values["nrmse"] for model, values in card.training["errors"].items()}
    assert errors.pop("main") < min(errors.values())
    assert reference_output(load_model(name)) == pytest.approx(card.training["reference"], rel=1e-6, abs=1e-9)
    assert main(["model", "info", name]) == 0
    text = capsys.readouterr().out
    assert f"x{card.task.factor}" in text and "home: block_mean" in text and "licence: MIT" in text


def test_a_shipped_model_keeps_its_promises_on_the_command_line(capsys):
    assert main(["model", "verify", "hit-x8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and all(line.startswith("ok") for line in lines)
    assert main(["model", "diff", "hit-x8", "hit-x8"]) == 0
    assert capsys.readouterr().out == "no difference\n"
    assert main(["model", "diff", "hit-x8", "hit-x2"]) == 0
    assert "task: Task(factor=8" in capsys.readouterr().out
    assert main(["model", "info", "hit-x3"]) == 2
    assert "hit-x2, hit-x4, hit-x8" in capsys.readouterr().err


def test_a_name_is_all_that_python_needs():
    model = flowsr.load_model("hit-x2")
    assert model(torch.ones(1, 3, 4, 4, 4), Grid((4, 4, 4))).shape == (1, 3, 8, 8, 8)


def test_walls_go_to_the_channel_and_boxes_to_the_others():
    box, walls = Grid((8, 8, 8)), Grid((8, 8, 8), boundary=("periodic", "periodic", "wall"))
    noise = torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(0)).numpy()
    for grid, factor, expected in [(box, 2, "hit-x2"), (box, 8, "hit-x8")]:
        assert choose(grid, "1o", [measure_traits(noise, grid, "1o")], factor=factor).name == expected
    chosen = choose(walls, "1o", [measure_traits(noise, walls, "1o")])
    assert {name for name in chosen.missing if name.startswith("hit")} == {"hit-x2", "hit-x4", "hit-x8"}


@pytest.mark.parametrize("name", NAMES)
def test_none_is_at_home_in_noise_a_laminar_shear_or_nothing(name):
    card = read_card(name)
    x, y, z = np.meshgrid(*(2 * np.pi * (np.arange(16) + 0.5) / 16 for _ in range(3)), indexing="ij")
    noise = np.random.default_rng(0).normal(size=(3, 16, 16, 16))
    low, _ = card.home.ranges["aspect"]
    grid = Grid((16, 16, 16), (low, 1.0, 1.0), card.home.boundary)
    for what, values in [
        ("noise", noise),
        ("shear", np.stack([np.sin(y + 0 * x * z), 0 * x, 0 * x])),
        ("nothing", 0 * noise),
    ]:
        verdict = compare_with_home(card.home, [measure_traits(values, grid, "1o")], grid, "block_mean")
        assert verdict.findings and not verdict.refused, what
