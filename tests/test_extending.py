"""docs/extending.md makes a package that installs, is found, and does what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"

USE = """
import sys
import numpy as np, torch
import flowsr.cli
from flowsr.data import degrade, open_field
from flowsr.data.degrade import DEGRADE_OPERATORS
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.kernels import KERNELS, use_kernel
from flowsr.nn import GroupConv
from flowsr.train.losses import Objective
import test_myflow

assert not any(name.startswith("myflow") for name in sys.modules)
test_myflow.test_the_model(), test_myflow.test_the_metric()

values = np.random.default_rng(0).standard_normal((8, 8, 8, 3)).astype("<f4")
with open("run.box", "wb") as file:
    file.write(b"BOX1" + np.uint32(8).tobytes() + np.float64(2.0).tobytes() + values.tobytes())
field = open_field("run.box")
assert np.array_equal(field.velocity.values[0, 1], values[..., 1]) and field.x.values[0] == 0.125

coarse = degrade(field, "centre", 2).velocity.values
assert np.allclose(coarse[0, 0, 0, 0, 0], values[:2, :2, :2, 0].mean())
mode = np.cos(2 * np.pi * 2 * (np.arange(12) + 0.5) / 12)[:, None, None] * np.ones((12, 12, 12))
for factor in (2, 3):
    operator = DEGRADE_OPERATORS["centre"]()
    found = operator(mode, factor)[:, 0, 0]
    there = np.cos(2 * np.pi * 2 * (np.arange(12 // factor) + 0.5) * factor / 12)
    assert np.allclose(found, operator.transfer_function(2 * np.pi * 2 / 12, 1.0, factor) * there)

loss = Objective({"charbonnier": 1.0}, Grid((4, 4, 4)))
one = torch.ones(1, 3, 4, 4, 4)
assert abs(float(loss(3 * one, one, torch.tensor(2.0))) - 1) < 1e-5

layer, features = GroupConv(octahedral_group("O"), 1, 1), torch.randn(1, 1, 24, 4, 4, 4)
plain = layer(features)
with use_kernel("double"):
    assert torch.allclose(layer(features), plain, atol=1e-5) and "double" in KERNELS
print("all six")
sys.exit(flowsr.cli.main(["models"]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The page's package, built and installed as pip does it, without a network."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
    (source / "myflow").mkdir()
    (source / "myflow" / "__init__.py").touch()
    for name, block in re.findall(r"```\w+\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        (source / name).write_text(block)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(source)], check=True, timeout=1500)
    (target / "test_myflow.py").write_text((source / "test_myflow.py").read_text())
    return target


@pytest.fixture(scope="module")
def used(installed):
    """What the six say, asked by a program that leaves a file in the package's format beside it."""
    return run(installed, "-c", USE)


def run(installed, *arguments):
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=installed, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=1500
    )


def test_all_six_are_found_and_do_what_the_page_says(used):
    assert used.returncode == 0 and used.stdout.startswith("all six\n"), used.stderr
    assert "shallow        Lifting, an activation, a projection" in used.stdout, "listed with what it is"


def test_the_reader_serves_the_command_line(installed, used):
    done = run(installed, "-m", "flowsr", "inspect", "run.box")
    assert done.returncode == 0 and "box: a file that begins with BOX1" in done.stdout, done.stderr


def test_each_takes_about_twenty_lines():
    for name, block in re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL):
        assert len(block.splitlines()) <= 30, name
