"""What `pip install` of the wheel brings: one top-level package, whole, with its flows, templates and types."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
SETUP = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]


CONFIGS = sorted((REPOSITORY / "configs").rglob("*.yaml"))


def packages_of(folder: Path, name: str) -> set[str]:
    return {
        ".".join([name, *init.parent.relative_to(folder).parts])
        for init in folder.rglob("__init__.py")
        if "__pycache__" not in init.parts
    }


def test_the_list_of_packages_is_that_of_the_folders():
    found = packages_of(REPOSITORY / "flowsr", "flowsr") | packages_of(REPOSITORY / "flows", "flowsr.flows")
    found |= {".".join(["flowsr", *file.parent.relative_to(REPOSITORY).parts]) for file in CONFIGS}
    assert SETUP["packages"] == sorted(found)


def test_every_module_lies_in_a_package():
    for folder in ("flowsr", "flows"):
        for module in (REPOSITORY / folder).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), module


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel's members; built of a copy, so that nothing is left in the clone, and without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        [
            "git",
            "ls-files",
            "-co",
            "--exclude-standard",
            "flowsr",
            "flows",
            "configs",
            "pyproject.toml",
            "README.md",
            "LICENSE",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if tracked.returncode:
        pytest.skip("not a clone")
    for name in tracked.stdout.split():
        if (REPOSITORY / name).exists():
            copy = folder / "source" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((REPOSITORY / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(folder / "source")], check=True, timeout=1500)
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_wheel_has_one_top_level_package(wheel):
    assert {name.split("/")[0] for name in wheel if ".dist-info/" not in name} == {"flowsr"}


def test_the_wheel_has_every_file_of_the_package(wheel):
    expected = {f"flowsr/{path.relative_to(REPOSITORY / 'flowsr')}" for path in (REPOSITORY / "flowsr").rglob("*.py")}
    expected |= {f"flowsr/flows/{path.name}" for path in (REPOSITORY / "flows").glob("*.py")}
    expected |= {f"flowsr/{path.relative_to(REPOSITORY)}" for path in CONFIGS}
    templates = REPOSITORY / "flowsr" / "report" / "templates"
    expected |= {f"flowsr/report/templates/{path.name}" for path in templates.iterdir()} | {"flowsr/py.typed"}
    weights = REPOSITORY / "flowsr" / "models" / "weights"
    expected |= {f"flowsr/models/weights/{path.relative_to(weights)}" for path in weights.glob("*/model.*")}
    assert {name for name in wheel if ".dist-info/" not in name} == expected


def test_the_wheel_names_its_command_and_its_engine(wheel):
    (points,) = (text.decode() for name, text in wheel.items() if name.endswith("entry_points.txt"))
    assert points.split("\n") == [
        "[console_scripts]",
        "flowsr = flowsr.__main__:main",
        "",
        "[xarray.backends]",
        "flowsr = flowsr.accessor:FlowsrBackend",
        "",
    ]
