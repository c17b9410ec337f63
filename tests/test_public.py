"""What `import flowsr` offers: all of it, in any order, free until it is used, and the same as the command line."""

import subprocess
import sys

import pandas as pd
import pytest
import xarray as xr

import flowsr
from flowsr.cli import main
from flowsr.errors import UnknownName
from flowsr.files import file_checksum, tree_checksum
from tests.experiments import TINY, write_tiny

JOBS = ("simulate", "train", "upscale", "compare")
HEAVY = (
    "torch",
    "numpy",
    "xarray",
    "prefect",
    "dask",
    "zarr",
    "pydantic",
    "cyclopts",
    "lightning",
    "matplotlib",
    "vtk",
)
#: What only the command line, the settings' reader and the pipeline may need.
PIPELINE = ("prefect", "dask", "zarr", "pydantic", "cyclopts", "pooch", "requests", "pyarrow")


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_imports_nothing_heavy():
    assert run(f"import flowsr, sys; print([name for name in {HEAVY} if name in sys.modules])") == "[]\n"


def test_no_domain_package_needs_the_pipelines_packages_or_a_test_runner():
    packages = "group kernels nn models metrics data simulate train upscale compare symmetry report testing public"
    lines = [f"import sys; sys.modules.update(dict.fromkeys({(*PIPELINE, 'pytest')}))"]
    lines += [f"import flowsr.{package}" for package in packages.split()]
    run("\n".join(lines))


def test_every_public_name_is_there_listed_and_documented():
    assert set(flowsr.__all__) <= set(dir(flowsr))
    for name in flowsr.__all__:
        assert f"``{name}``" in flowsr.__doc__
        assert getattr(flowsr, name) is getattr(flowsr, name)
    with pytest.raises(AttributeError, match="no attribute 'upscal'"):
        _ = flowsr.upscal


ORDERS = ("", "import flowsr.{job}", "flowsr.{job}", "from flowsr.{job} import *", "from flowsr import {job}")
ANY_ORDER = """
import flowsr, inspect, types
{before}
from flowsr import {job} as one
import flowsr.{job} as other
assert one is other is flowsr.{job} and isinstance(one, types.ModuleType) and callable(one)
from flowsr import public
assert inspect.signature(one) == inspect.signature(public.{job})
try:
    flowsr.{job}()
except TypeError as error:
    assert "required positional argument" in str(error)
"""


def test_a_job_is_a_function_and_a_package_in_any_order():
    """Each order in a process that has imported nothing of flowsr, forked from one that has what flowsr imports."""
    pairs = [(job, before) for job in JOBS for before in ORDERS if job == "train" or before in ORDERS[:2]]
    programs = [ANY_ORDER.format(job=job, before=before.format(job=job).strip()) for job, before in pairs]
    program = """
import os, sys, warnings
import e3nn.o3, h5py, lightning, pandas, torch, torchmetrics, xarray
warnings.simplefilter("ignore")
assert not any(name.partition(".")[0] == "flowsr" for name in sys.modules)
for program in PROGRAMS:
    child = os.fork()
    if child == 0:
        try:
            exec(program, {})
        except BaseException:
            import traceback
            print(program, traceback.format_exc(), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit("failed")
    print("held")
"""
    assert run(program.replace("PROGRAMS", repr(programs))) == "held\n" * len(programs)


@pytest.mark.usefixtures("blank_figures")
def test_the_jobs_do_what_the_commands_of_their_names_do(tmp_path, monkeypatch):
    config = str(write_tiny(tmp_path))
    chosen = ["--set", "threads=1", "--set", "device=cpu"]
    for command in ("simulate", "ingest", "train", "upscale"):
        assert main([command, config, *chosen]) == 0
    theirs = tmp_path / "run"

    (store,) = flowsr.simulate(
        tmp_path / "mine.zarr",
        seed=0,
        device="cpu",
        **{key: value for key, value in TINY["simulate"].items() if key not in ("seeds", "batch")},
    )
    same = xr.testing.assert_identical
    same(flowsr.open_field(store).velocity, flowsr.open_field(theirs / "simulate" / "seed_000.zarr").velocity)

    pairs = theirs / "ingest"
    name, network = next(iter(TINY["train"]["models"].items()))
    schedule = {key: value for key, value in TINY["train"].items() if key != "models"}
    flowsr.train(
        network.get("model", name), pairs, tmp_path / "mine", options=network.get("options"), device="cpu", **schedule
    )
    weights = "model.safetensors"
    assert file_checksum(tmp_path / "mine" / weights) == file_checksum(theirs / "train" / name / weights)

    test = next((pairs / "test").iterdir())
    fine = flowsr.upscale(test, tmp_path / "mine", tmp_path / "fine.zarr", group="coarse", device="cpu")
    same(flowsr.open_field(fine).velocity, flowsr.open_field(theirs / "upscale" / name / test.name).velocity)

    found = flowsr.compare(pairs, {"nearest": "nearest", name: tmp_path / "mine"}, metrics=["nrmse"], device="cpu")
    assert list(found.models) == ["nearest", name] and set(found.values.model) == {"truth", "nearest", name}
    assert main(["compare", config, *chosen]) == 0
    whole = pd.read_csv(theirs / "compare" / "tidy.csv")
    values = [
        frame[(frame.metric == "nrmse") & frame.model.isin(found.models)].set_index(["model", "run", "time"]).value
        for frame in (found.values, whole)
    ]
    pd.testing.assert_series_equal(*map(pd.Series.sort_index, values), check_index_type=False, rtol=1e-5)
    with pytest.raises(UnknownName, match="did you mean 'nearest'"):
        flowsr.compare(pairs, ["nearst"])
    assert tree_checksum(store)


def test_symmetry_is_discovered_in_files(tmp_path):
    import numpy as np

    from flowsr.symmetry import Method, Training
    from tests.symmetry.stores import velocity_store

    fields = np.random.default_rng(0).standard_normal((8, 3, 8, 8, 8))
    store = velocity_store(tmp_path / "u.zarr", fields)
    method = Method(training=Training(epochs=1))
    found = flowsr.discover_symmetry(store, "superres", seeds=[0], method=method, turnover_time=0.5)
    assert found.surviving.name and found.sentences
