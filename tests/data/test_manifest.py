from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from flowsr.data import convert, grid_of, inspect, open_field
from flowsr.data.independence import SPLITS, Split
from flowsr.data.manifest import DataSet, read_manifest
from flowsr.data.pairs import Ingest, ingest, pair_stores, read_statistics
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from tests.data.fields import random_field, store_field

SHIPPED = sorted((Path(__file__).parents[2] / "data_manifests").glob("*.yaml"))
GRID = Grid((4, 6, 8), (0.5, 0.25, 0.1), ("periodic", "wall", "periodic"))


def write(folder, **changes):
    content = {
        "name": "test",
        "description": "a test",
        "source": "here",
        "licence": "none",
        "files": {"a": "a.zarr"},
        "variables": {"velocity": {"irreps": "1o"}},
        "grid": {"cells": [4, 6, 8], "lengths": [2.0, 1.5, 0.8]},
        "boundary": ["periodic", "wall", "periodic"],
        "viscosity": 0.01,
    }
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in {**content, **changes}.items() if v is not None}))
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_manifests_are_valid_and_say_what_to_do(path):
    manifest = read_manifest(path)
    assert manifest.name == path.stem
    if manifest.grid is not None:
        Grid(manifest.grid.cells, (1, 1, 1), manifest.boundary)
    run = next(iter(manifest.files))
    try:
        open_field(path, run=run)
    except FlowsrError as error:
        assert manifest.obtain in str(error)


def test_a_manifest_opens_its_run(tmp_path):
    dataset = random_field(GRID, [0.0, 1.0])
    store_field(dataset, tmp_path / "a.zarr")
    found = open_field(write(tmp_path))
    np.testing.assert_array_equal(found["velocity"].values, dataset["velocity"].values)
    two = write(tmp_path, files={"a": "a.zarr", "b": "b.zarr"})
    assert grid_of(open_field(two, run="a")).shape == GRID.shape
    with pytest.raises(FlowsrError, match=r"which run.*a, b"):
        open_field(two)
    with pytest.raises(FlowsrError, match=r"no such run.*found: c"):
        open_field(two, run="c")
    with pytest.raises(FlowsrError, match="this file is one run"):
        open_field(tmp_path / "a.zarr", run="a")


def test_a_manifest_says_what_the_file_leaves_out(tmp_path):
    x, y, z = GRID.coordinates()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["velocity"] = np.random.default_rng(0).normal(size=(2, 3, 4, 6, 8))
        for name, values in (("time", [0.0, 1.0]), ("x", x), ("y", y), ("z", z)):
            file[name] = values
    assert "boundary open/open/open, velocity.irreps 1o" in open_field(tmp_path / "a.h5").attrs["assumed"]
    found = open_field(write(tmp_path, files={"a": "a.h5"}))
    assert grid_of(found).boundary == GRID.boundary and found.attrs["viscosity"] == 0.01
    assert found["velocity"].attrs["irreps"] == "1o"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"viscosity": 0.02}, "disagree; variable: viscosity; expected: 0.02 .manifest.; found: 0.01"),
        ({"boundary": ["periodic"] * 3}, "disagree; variable: boundary"),
        ({"variables": {"velocity": {"irreps": "1e"}}}, "disagree; variable: velocity.irreps"),
        ({"variables": {"pressure": {"irreps": "0e"}}}, "no such variable; variable: pressure"),
        ({"grid": {"cells": [4, 6, 7], "lengths": [2.0, 1.5, 0.8]}}, "disagree; variable: grid"),
        ({"grid": {"cells": [4, 6, 8], "lengths": [2.0, 1.5, 0.9]}}, "disagree; variable: grid"),
        ({"files": {"a": "../a.zarr"}}, "outside the root"),
        ({"files": {"a": "/etc/passwd"}}, "outside the root"),
        ({"files": {"a": "b.zarr"}, "obtain": "ask Ann"}, "no such file; ask Ann"),
        ({"licence": None}, "'licence' is required"),
        ({"lisence": "MIT"}, "unknown key 'lisence'; did you mean 'licence'"),
        (
            {"variables": {"velocity": {"irreps": "1o", "unit": "m"}}},
            "unknown key 'variables.velocity.unit'; did you mean 'units'",
        ),
        ({"boundary": ["periodic", "wall", "sticky"]}, "bad value for 'boundary.2'; .*found: 'sticky'"),
        ({"reader": "hdf4"}, "unknown reader 'hdf4'"),
        ({"files": {}}, "bad value for 'files'; expected: files and variables each name one or more"),
        ({"splits": {"train": ["a"], "test": ["a"]}}, "run a is in the splits test and train"),
        ({"splits": {"exam": ["a"]}}, "bad value for 'splits.exam"),
        ({"dtype": "i4"}, "dtype is one of"),
        ({"viscosity": -1.0}, "viscosity is not negative"),
        ({"variables": {"velocity": {"irreps": "1o", "axes": ["x", "y"]}}}, "bad value for 'variables.velocity.axes'"),
        ({"grid": {"cells": [4, 6, 0], "lengths": [1, 1, 1]}}, "bad value for 'grid.cells'; .*positive"),
    ],
)
def test_manifests_that_are_wrong(tmp_path, changes, line):
    store_field(random_field(GRID, [0.0]), tmp_path / "a.zarr")
    with pytest.raises(FlowsrError, match=line) as caught:
        open_field(write(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_a_manifest_can_be_ingested(tmp_path):
    store_field(random_field(GRID, np.arange(8.0)), tmp_path / "a.zarr")
    statistics = ingest([write(tmp_path)], tmp_path / "pairs", Ingest(factor=2, split=Split(turnover_time=0.5)))
    assert statistics.exists() and (tmp_path / "pairs" / "test" / "manifest.zarr").exists()


def several(folder, **changes):
    names = ["a", "b", "c", "d"]
    for seed, name in enumerate(names):
        store_field(random_field(GRID, np.arange(8.0), seed), folder / f"{name}.zarr")
    return write(folder, **{"files": {name: f"{name}.zarr" for name in names}, **changes})


def test_all_runs_of_a_manifest_are_ingested_each_split_in_time(tmp_path):
    ingest([several(tmp_path)], tmp_path / "pairs", Ingest(factor=2, split=Split(turnover_time=0.5)))
    for split in SPLITS:
        assert [store.stem for store in pair_stores(tmp_path / "pairs", split)] == [f"manifest_{n}" for n in "abcd"]


def test_splits_of_a_manifest_are_honoured_run_by_run(tmp_path):
    splits = {"train": ["a", "d"], "validation": ["b"], "test": ["c"]}
    path = several(tmp_path, splits=splits, citation="Ann (2020)", checked="by Bob")
    output, files = tmp_path / "pairs", {name: f"{name}.zarr" for name in "abcd"}
    ingest([path], output, Ingest(factor=2))  # no turnover time is needed: no run is split in time
    for split, runs in splits.items():
        assert [store.stem for store in pair_stores(output, split)] == [f"manifest_{run}" for run in runs]
        assert sorted(p.stem for p in (output / split).iterdir()) == sorted(f"manifest_{run}" for run in runs)
        for store, run in zip(pair_stores(output, split), runs):
            fine = open_field(store, group="fine")
            assert len(fine["time"]) == 8
            np.testing.assert_array_equal(fine["velocity"].values, open_field(tmp_path / f"{run}.zarr")["velocity"])
    found = read_statistics(output)
    assert found.snapshots == {"train": 16, "validation": 8, "test": 8}
    assert found.runs["manifest_a"].gap is None
    squares = [open_field(s, group="fine")["velocity"].values.astype(float) ** 2 for s in pair_stores(output, "train")]
    assert found.scale["fine"] == pytest.approx(np.sqrt(3 * np.mean(squares)))
    known = {"name": "test", "source": "here", "licence": "none", "citation": "Ann (2020)", "checked": "by Bob"}
    assert found.data_sets == [known]
    assert inspect(pair_stores(output, "test")[0], group="coarse").data_set == DataSet(**known)
    ingest([path], output, Ingest(factor=2))
    with pytest.raises(FlowsrError, match="pairs of another ingest"):
        ingest(
            [write(tmp_path, files=files, splits={**splits, "train": ["a"], "test": ["c", "d"]})],
            output,
            Ingest(factor=2),
        )


@pytest.mark.parametrize(
    ("splits", "line"),
    [
        ({"train": ["a"], "validation": ["b"], "test": ["c"]}, "a run in no split; .*found: d"),
        ({"train": ["a", "b", "d"], "test": ["c"]}, "no run for one of the splits; .*found: train, test"),
        ({"train": ["a", "b"], "validation": ["b"], "test": ["c", "d"]}, "run b is in the splits"),
    ],
)
def test_splits_that_contradict_themselves_are_refused(tmp_path, splits, line):
    with pytest.raises(FlowsrError, match=line):
        ingest([several(tmp_path, splits=splits)], tmp_path / "pairs", Ingest(factor=2))
    assert not (tmp_path / "pairs").exists()


def test_where_data_come_from_is_kept_and_shown(tmp_path):
    store_field(random_field(GRID, [0.0], provenance={"made": 1}), tmp_path / "a.zarr")
    path = write(tmp_path, citation="Ann (2020)", checked="by Bob")
    provenance = open_field(path).attrs["provenance"]
    assert provenance["made"] == 1 and provenance["data_set"]["licence"] == "none"
    lines = [" ".join(line.split()) for line in inspect(path).lines()]
    for line in ("data set test", "source here", "licence none", "citation Ann (2020)", "checked by Bob"):
        assert line in lines
    assert inspect(convert(path, tmp_path / "b.h5")).data_set == read_manifest(path).data_set
