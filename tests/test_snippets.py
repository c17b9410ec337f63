"""What README and the pages under docs tell a reader to type is parsed, and as far as it is quick, run as it stands."""

import ast
import importlib.util
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import yaml

from flowsr.cli import app, main
from flowsr.config.study import load_experiment, load_study
from flowsr.data import convert, create_store, degrade, read_manifest, write_hdf5
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, save_model
from tests.data.fields import random_field

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "benchmarks").glob("*.md"))]
#: Names of a page that say another's whole commands, spelt out.
SPELT_OUT = {"...": "--input coarse.zarr --model hit-x4 --output fine.zarr"}
BOX = Grid((8, 8, 8), (2 * np.pi / 8,) * 3)


@dataclass(frozen=True)
class Snippet:
    page: str
    language: str
    text: str

    def __str__(self):
        return f"{self.page}: {self.text.strip().splitlines()[0][:50]}"


def snippets() -> list[Snippet]:
    """The fenced blocks, and the indented ones between them as ``""``."""
    found = []
    for path in PAGES:
        text, page = path.read_text(), str(path.relative_to(ROOT))
        fenced = re.compile(r"^```(\w*)\n(.*?)^```", re.S | re.M)
        found += [Snippet(page, match[1], match[2]) for match in fenced.finditer(text)]
        for match in re.finditer(r"(?:^(?: {4}.*)\n|^\n)+", fenced.sub("", text), re.M):
            if match[0].strip():
                found.append(Snippet(page, "", re.sub("^ {4}", "", match[0], flags=re.M)))
    return found


ALL = snippets()


def commands() -> list[tuple[str, list[str]]]:
    """Page and words of every command line, as a shell would have them."""
    found = []
    for snippet in ALL:
        if snippet.language in ("", "bash", "console"):
            for line in snippet.text.replace("\\\n", " ").splitlines():
                try:
                    words = shlex.split(line.removeprefix("$ "), comments=True)
                except ValueError:  # prose and output
                    continue
                if words:
                    found.append((snippet.page, [words[0].removeprefix(".venv/bin/"), *words[1:]]))
    return found


def words_of(program: str) -> list[tuple[str, list[str]]]:
    return [(page, words[1:]) for page, words in commands() if words[0] == program]


def spelt(words: list[str]) -> list[str]:
    words = words[: words.index(">")] if ">" in words else words
    return [part for word in words for part in (SPELT_OUT[word].split() if word in SPELT_OUT else [word])]


def test_there_is_something_to_look_at():
    assert len(words_of("flowsr")) > 40 and sum(one.language == "python" for one in ALL) > 15


@pytest.mark.parametrize(("page", "words"), words_of("flowsr"), ids=lambda value: " ".join(value)[:60])
def test_every_command_is_one_that_the_program_takes(page, words):
    words = spelt(words)
    app.parse_args(words, exit_on_error=False, print_error=False)
    for word in words:
        if word.startswith("configs/"):
            assert (ROOT / word).is_file(), page


@pytest.mark.parametrize(("page", "words"), words_of("python"), ids=lambda value: " ".join(value)[:60])
def test_every_script_and_module_is_there(page, words):
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]) is not None, page
        words = words[1:]
    for word in words:
        if re.fullmatch(r"(benchmarks|tests|configs|docs)/[\w/]+\.(py|yaml)", word):
            assert (ROOT / word).is_file(), page


@pytest.mark.parametrize("snippet", [one for one in ALL if one.language == "python"], ids=str)
def test_every_snippet_is_python(snippet):
    ast.parse(snippet.text)


@pytest.mark.parametrize("snippet", [one for one in ALL if one.language == "yaml"], ids=str)
def test_every_setting_is_one_that_is_known(snippet, tmp_path):
    values, path = yaml.safe_load(snippet.text), tmp_path / "mine.yaml"
    path.write_text(snippet.text)
    if "data" in values:
        load_study(path)
    elif "variables" in values:
        for name in values["files"]["a"]:
            np.save(tmp_path / name, np.zeros((1, 32, 4, 64, 3)))
        read_manifest(path)
    elif "simulate" in values:
        path.write_text(yaml.safe_dump({"extends": str(ROOT / "configs" / "demo.yaml"), **values}))
        load_experiment(path)
    elif "deployments" not in values:  # a network under its name
        path.write_text(yaml.safe_dump({"extends": str(ROOT / "configs" / "compare_small.yaml"), "models": values}))
        load_study(path)


def saved_model(folder, name, **options):
    card = ModelCard(name, Task(2), options)
    save_model(folder, card.build(), card)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with stand-ins, small, under the names that the pages use."""
    folder = tmp_path_factory.mktemp("reader")
    fine = random_field(Grid((16, 16, 16), (2 * np.pi / 16,) * 3), [0.0, 0.5], viscosity=0.01)
    coarse = degrade(fine, "block_mean", 2).load()
    write_hdf5(coarse, folder / "coarse.h5")
    write_hdf5(fine, folder / "dns.h5")
    convert(folder / "coarse.h5", folder / "coarse.zarr")
    convert(folder / "coarse.h5", folder / "velocity_cutout.h5", layout="jhtdb", lossy=True)
    values = {name: (("time", "lon", "lat", "lev"), coarse.velocity.values[:, n]) for n, name in enumerate("uvw")}
    axes = dict(zip(("lon", "lat", "lev"), (coarse[axis].values for axis in "xyz")))
    xr.Dataset(values, {**axes, "time": coarse.time.values}).to_netcdf(folder / "les.nc", engine="h5netcdf")
    demo = folder / "runs" / "demo"
    for name, options in {"relaxed": {}, "strict": {}, "cnn": {"width": 2}}.items():
        saved_model(demo / "train" / name, name, **options)
    shutil.copytree(demo / "train" / "cnn", folder / "model")
    with create_store(demo / "ingest" / "test" / "seed_000.zarr", {"coarse": coarse}) as store:
        for time in range(2):
            store.write("velocity", coarse["velocity"][time].values, time=time, group="coarse")
        store.publish()
    noise = np.random.default_rng(0)
    places, speeds = noise.uniform(0, 1, (200, 3)), noise.normal(size=(200, 3))
    np.savetxt(folder / "tracks.dat", np.column_stack([places, speeds, np.arange(200)]))
    return folder


@pytest.fixture
def here(files, tmp_path, monkeypatch):
    """The stand-ins in a folder of this test's own, which is the working one."""
    shutil.copytree(files, tmp_path / "reader")
    monkeypatch.chdir(tmp_path / "reader")
    return tmp_path / "reader"


#: What a page takes for granted in words, such as two fields ``now`` and ``later``.
GRANTED = {
    "docs/simulation.md": lambda: {"grid": BOX},
    "docs/symmetry.md": lambda: dict(zip(("now", "later"), torch.randn(2, 4, 3, 6, 6, 6, dtype=torch.float64))),
}
QUICK = ("README.md", "docs/data.md")
SLOW = (
    "docs/doors.md",
    "docs/metrics.md",
    "docs/models.md",
    "docs/simulation.md",
    "docs/symmetry.md",
    "docs/tracks.md",
    "docs/upscaling.md",
)


@pytest.mark.parametrize("page", [*QUICK, *(pytest.param(page, marks=pytest.mark.slow) for page in SLOW)])
def test_the_python_of_a_page_runs_as_it_stands(page, here, monkeypatch):
    """In order, in one session, as a reader does; only what would take minutes is made small behind its back."""
    import flowsr.simulate
    from flowsr.simulate import Simulation

    small = dict(cells=16, duration=0.1, spin_up_time=0.1, snapshot_interval=0.1)
    monkeypatch.setattr(flowsr.simulate, "Simulation", lambda flow, **given: Simulation(flow, **{**given, **small}))
    session = GRANTED.get(page, dict)()
    ran = 0
    for snippet in ALL:
        if (snippet.page, snippet.language) == (page, "python") and "dask_jobqueue" not in snippet.text:
            exec(compile(snippet.text, page, "exec"), session)
            ran += 1
    assert ran


def test_pages_whose_python_runs_are_all_that_have_some():
    elsewhere = {"docs/extending.md"}  # tests/test_extending.py
    assert {one.page for one in ALL if one.language == "python"} - elsewhere == {*QUICK, *SLOW}


RUN = {
    "README.md": ("upscale coarse.h5", "view"),
    "docs/models.md": ("models", "model info", "model verify", "model diff"),
    "docs/upscaling.md": ("upscale --input coarse.zarr --model runs/demo",),
    "docs/doors.md": ("convert",),
    "docs/metrics.md": ("evaluate",),
    "docs/tracks.md": ("tracks tracks.dat",),
}


@pytest.mark.parametrize("page", [pytest.param(page, marks=pytest.mark.slow) for page in RUN])
def test_the_commands_of_a_page_run_as_they_stand(page, here, capsys):
    main(["upscale", "coarse.h5", "fine.zarr", "--model", "model", "--no-metrics"])
    if page in ("README.md", "docs/upscaling.md"):
        shutil.rmtree("fine.zarr")
    ran = 0
    for of, words in words_of("flowsr"):
        line = " ".join(words)
        if of == page and line.startswith(RUN[page]) and "tracks_demo" not in line:  # whose training takes minutes
            assert main(spelt(words)) == 0, f"{line}: {capsys.readouterr().err}"
            ran += 1
    assert ran >= len(RUN[page])
