"""A model as a file for other programs: the graph is the model, and C++, C and Fortran give what Python gives."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from flowsr.cli import main
from flowsr.data.scales import measure_scales
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.models import build_model
from flowsr.models import export as exporting
from flowsr.models.base import Task
from flowsr.models.export import export_model

PROGRAMS = Path(__file__).parents[2] / "examples" / "programs"
CUT_OFF = {"data_consistency": {"operator": "spectral_cutoff"}}
BLOCK_MEANS = {"data_consistency": {"operator": "block_mean"}}


def small(name="strict", **options):
    torch.manual_seed(3)
    model = build_model(name, Task(2), **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def network():
    return small(group="Oh", channels=1, blocks=0, constraints=BLOCK_MEANS)


def field(*shape):
    return 1e-3 * torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 5


def test_the_graph_of_whole_fields_is_the_model_at_any_size_in_any_unit(network, tmp_path):
    found = export_model(network, tmp_path / "model.pt2", precision="float64", compiled=False)
    assert found.error < 1e-12 and found.size is None and found.graph == "field"
    run, coarse = torch.export.load(found.path).module(), field(4, 11, 6)
    with torch.no_grad():
        expected = network.double()(coarse[None], Grid((4, 11, 6)))[0]
    torch.testing.assert_close(run(coarse), expected, rtol=0, atol=1e-14)


@pytest.mark.slow
def test_estimates_and_averages_take_any_size_too(tmp_path):
    assert export_model(small("linear", average="Ci"), tmp_path / "model.pt2", compiled=False).size is None


def test_tiles_with_their_halo_make_the_whole_field(network, tmp_path):
    found = export_model(network, tmp_path / "model.pt2", graph="tile", precision="float64", compiled=False)
    run, coarse, grid = torch.export.load(found.path).module(), field(10, 5, 4), Grid((10, 5, 4))
    scales, halo = measure_scales([coarse], grid, "1o"), network.halo
    with torch.no_grad():
        whole = network.double()(coarse[None], grid)[0]
    around = [torch.arange(-halo, n + halo) % n for n in grid.shape]
    padded = coarse[:, around[0]][:, :, around[1]][:, :, :, around[2]]
    told = torch.tensor(scales.mean, dtype=torch.float64), torch.tensor(scales.fluctuation, dtype=torch.float64)
    parts = [run(padded[:, first : first + 5 + 2 * halo], *told) for first in (0, 5)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-14)


def test_a_stretched_axis_between_walls_is_part_of_the_graph(network, tmp_path):
    centers = tuple(1 - np.cos(np.pi * (np.arange(6) + 0.5) / 6))
    grid = Grid((4, 6, 5), (0.5, 1 / 3, 0.5), ("periodic", "wall", "periodic"), centers=(None, centers, None))
    found = export_model(network, tmp_path / "model.pt2", grid=grid, precision="float64", compiled=False)
    assert found.size == (4, 6, 5) and found.error < 1e-12


@pytest.mark.parametrize(
    ("options", "how", "word"),
    [
        ({}, {"size": (4, 4)}, "pt2"),
        ({}, {"graph": "tiles"}, "graph"),
        ({"name": "rcan"}, {"graph": "tile"}, "whole fields"),
        ({"name": "rcan"}, {}, "--size"),
        ({}, {"boundary": ("periodic", "sea", "open")}, "sea"),
        ({"name": "linear", "planes": (1, 8, 1)}, {"size": (4, 4, 4), "boundary": ("wall",) * 3}, "8, 1"),
        ({"constraints": CUT_OFF}, {"size": (4, 4, 4), "boundary": ("wall",) * 3}, "periodic"),
    ],
)
def test_what_cannot_be_exported_is_one_line(options, how, word, tmp_path):
    target = tmp_path / ("model.pt2" if word != "pt2" else "model.so")
    with pytest.raises(FlowsrError, match=word):
        export_model(small(**options), target, compiled=False, **how)
    assert not any(tmp_path.iterdir())


def test_a_graph_with_other_numbers_is_refused_and_leaves_nothing(network, tmp_path, monkeypatch):
    saved = exporting._saved

    def broken(*what):
        run = saved(*what)
        return lambda *inputs: run(*inputs) * (1 + 1e-9)

    monkeypatch.setattr(exporting, "_saved", broken)
    with pytest.raises(FlowsrError, match="other numbers than the model"):
        export_model(network, tmp_path / "model.pt2", precision="float64", compiled=False, size=(4, 4, 4))
    assert not any(tmp_path.iterdir())


def test_without_a_compiler_it_says_what_else_there_is(network, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting.shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(FlowsrError, match="--program"):
        export_model(network, tmp_path / "model.pt2", size=(4, 4, 4))


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("c++")), reason="needs CMake and a C++ compiler")
def test_programs_in_cpp_c_and_fortran_give_what_python_gives(network, tmp_path):
    build = tmp_path / "build"
    torch_is = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    for command in (["-S", PROGRAMS, "-B", build, torch_is], ["--build", build, "-j2"]):
        subprocess.run(["cmake", *map(str, command)], check=True, capture_output=True)
    single, double = (
        export_model(network, tmp_path / f"{name}.pt2", precision=name).path for name in ("float32", "float64")
    )
    coarse = field(5, 6, 9).sub(5).numpy()
    with torch.no_grad():
        exact = network.double()(torch.from_numpy(coarse)[None], Grid((5, 6, 9)))[0].numpy()
    scale = np.abs(exact).max()

    def run(program, model, values):
        values.tofile(tmp_path / "coarse.raw")
        files = (tmp_path / "coarse.raw", *map(str, coarse.shape[1:]), tmp_path / "fine.raw")
        done = subprocess.run([build / program, model, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return np.fromfile(tmp_path / "fine.raw", values.dtype)

    for program in ("upscale_cpp", "upscale_c"):
        fine = run(program, single, coarse.astype(np.float32)).reshape(exact.shape)
        assert np.abs(fine - exact).max() < 2e-6 * scale
    if shutil.which("gfortran"):
        fine = run("upscale_fortran", double, coarse.transpose(0, 3, 2, 1).copy())
        fine = fine.reshape(3, *exact.shape[:0:-1]).transpose(0, 3, 2, 1)
        assert np.abs(fine - exact).max() < 1e-13 * scale
    missing = subprocess.run([build / "upscale_c", tmp_path / "no.pt2", "x", "1", "1", "1", "y"], capture_output=True)
    assert missing.returncode == 2 and len(missing.stderr.decode().strip().splitlines()) == 1


def test_the_graph_of_a_model_that_comes_with_flowsr_is_written_by_the_command(tmp_path, capsys):
    """Its tables for O_h lie in memory in another order than C's."""
    target = tmp_path / "hit-x2.pt2"
    assert main(["export", "hit-x2", str(target), "--program"]) == 0
    assert target.exists() and "differs from the model by" in capsys.readouterr().out
