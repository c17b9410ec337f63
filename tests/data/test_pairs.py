import json
from dataclasses import replace
from functools import partial
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

from flowsr.data import create_store, grid_of, open_field, store_checksum, write_hdf5
from flowsr.data.degrade import DEGRADE_OPERATORS
from flowsr.data.independence import SPLITS, Split
from flowsr.data.pairs import Ingest, Input, Source, ingest, pair_store, pair_stores, read_statistics, survey_run
from flowsr.data.readers.lazy import LazyArray
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.metrics.scales import flow_scales, spectral_moments
from flowsr.progress import Progress
from tests.data.fields import VISCOSITY, die, in_child, random_field, store_field

GRID = Grid((8, 4, 12), (2 * np.pi / 8, 2 * np.pi / 4, 2 * np.pi / 12))
TIMES = np.arange(10) * 2.0
SMALL = Ingest(factor=2, split=Split(decorrelation_turnovers=3.0))


def runs(folder, count=2, grid=GRID, times=TIMES, **options):
    return [
        store_field(random_field(grid, times, seed, **options), folder / f"seed_{seed}.zarr") for seed in range(count)
    ]


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ingest")
    inputs = runs(folder)
    ingest(inputs, folder / "pairs", SMALL)
    return inputs, folder / "pairs"


def test_pairs_hold_the_snapshots_of_their_split(ingested):
    inputs, output = ingested
    for path in inputs:
        source = open_field(path)
        seen = []
        for split in SPLITS:
            store = pair_store(output, split, path.stem)
            fine, coarse = open_field(store, group="fine"), open_field(store, group="coarse")
            whole = source["velocity"].sel(time=fine["time"]).values
            np.testing.assert_array_equal(fine["velocity"].values, whole)
            wanted = whole.astype("float64").reshape(-1, 3, 4, 2, 2, 2, 6, 2).mean(axis=(3, 5, 7))
            np.testing.assert_allclose(coarse["velocity"].values, wanted, rtol=1e-5, atol=1e-6)
            assert grid_of(coarse).shape == (4, 2, 6) and coarse.attrs["degrade_operator"] == "block_mean"
            np.testing.assert_allclose(grid_of(fine).lengths, grid_of(coarse).lengths)
            provenance = fine.attrs["provenance"]
            assert provenance["sha256"] == store_checksum(path) and provenance["split"] == split
            assert fine.attrs["viscosity"] == VISCOSITY
            seen += list(fine["time"].values)
        assert len(set(seen)) == len(seen) < len(TIMES)


def test_no_test_snapshot_within_the_gap_of_what_was_seen(ingested):
    _, output = ingested
    for run, entry in read_statistics(output).runs.items():
        assert entry.gap == pytest.approx(3 * entry.scales["turnover_time"])
        stored = {s: open_field(pair_store(output, s, run), group="fine")["time"].values for s in SPLITS}
        assert {s: list(t) for s, t in stored.items()} == entry.times
        assert stored["test"].min() - max(stored["train"].max(), stored["validation"].max()) >= entry.gap
        assert stored["validation"].min() - stored["train"].max() >= entry.gap


def test_statistics_are_those_of_the_data(ingested):
    inputs, output = ingested
    found = read_statistics(output)
    train = [
        open_field(store, group="fine")["velocity"].values.astype("float64") for store in pair_stores(output, "train")
    ]
    for group, fields in (("fine", train), ("coarse", [DEGRADE_OPERATORS["block_mean"]()(f, 2) for f in train])):
        square = np.concatenate([(f**2).sum(axis=1) for f in fields]).mean()
        np.testing.assert_allclose(found.scale[group], np.sqrt(square), rtol=1e-5)
    for path in inputs:
        velocity = open_field(path)["velocity"].values
        scales = flow_scales([spectral_moments(v, GRID) for v in velocity], VISCOSITY)
        assert found.runs[path.stem].scales == pytest.approx(scales.as_dict())
        assert found.runs[path.stem].sha256 == store_checksum(path)
    assert found.flow["energy"] == pytest.approx(np.mean([e.scales["energy"] for e in found.runs.values()]))
    assert found.snapshots == {s: sum(e.snapshots[s] for e in found.runs.values()) for s in SPLITS}
    assert found.factor == 2 and found.operator == "block_mean" and found.irreps == "1o"
    assert found.coarse["shape"] == [4, 2, 6] and found.fine["boundary"] == ["periodic"] * 3
    transfer = found.transfer_function
    k = np.array(transfer["wavenumber_times_fine_spacing"])
    np.testing.assert_allclose(transfer["real"], np.cos(k / 2), atol=1e-12)  # a mean of two cells
    assert found.viscosity == VISCOSITY and not any(transfer["imaginary"])


@pytest.mark.parametrize("fraction", [0.2, 0.4, 0.7, 0.97])
def test_killed_and_resumed_is_the_same_to_the_byte(ingested, tmp_path, fraction):
    inputs, whole = ingested

    def begin():
        ingest(
            inputs,
            tmp_path / "pairs",
            SMALL,
            progress=Progress(lambda title, done, message: die() if done > fraction else None),
        )

    assert in_child(begin) == -9
    assert not (tmp_path / "pairs" / "statistics.json").exists()
    ingest(inputs, tmp_path / "pairs", SMALL)
    assert store_checksum(tmp_path / "pairs") == store_checksum(whole)


def test_again_changes_nothing_and_progress_rises(ingested):
    inputs, output = ingested
    before, stamps = store_checksum(output), {p: p.stat().st_mtime_ns for p in output.rglob("c/*") if p.is_file()}
    told = []
    ingest(inputs, output, SMALL, progress=Progress(lambda title, done, message: told.append(done)))
    assert store_checksum(output) == before and told == sorted(told) and told[-1] == 1.0
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps


def test_other_settings_need_fresh(tmp_path):
    inputs = runs(tmp_path)
    ingest(inputs, tmp_path / "pairs", SMALL)
    with pytest.raises(FlowsrError, match=r"other data or settings.*--fresh"):
        ingest(inputs, tmp_path / "pairs", replace(SMALL, operator="spectral_cutoff"))
    with pytest.raises(FlowsrError, match=r"pairs of another ingest.*seed_1"):
        ingest(inputs[:1], tmp_path / "pairs", SMALL)
    ingest(inputs[:1], tmp_path / "pairs", replace(SMALL, operator="spectral_cutoff"), fresh=True)
    assert pair_stores(tmp_path / "pairs", "test") == [tmp_path / "pairs" / "test" / "seed_0.zarr"]
    assert len(list((tmp_path / "pairs").rglob("seed_1.zarr"))) == 0


def test_hdf5_and_zarr_give_the_same_pairs(tmp_path):
    [store] = runs(tmp_path, 1)
    copy = write_hdf5(open_field(store), tmp_path / "seed_0.h5")
    for path in (store, copy):
        ingest([path], tmp_path / path.suffix, SMALL)
    one, other = (read_statistics(tmp_path / path.suffix) for path in (store, copy))
    assert one.scale == other.scale and one.flow == other.flow


@pytest.mark.parametrize(
    ("spoil", "line"),
    [
        (
            lambda d: d["velocity"].values.__setitem__((7, 1, 2, 3, 4), np.nan),
            "velocity.*1 of 11520.*time 7, component 1",
        ),
        (lambda d: d["velocity"].values.fill(0), "at rest"),
        (lambda d: d["velocity"].attrs.update(irreps="0e+0o+0e"), "more than one field type"),
    ],
)
def test_bad_inputs_leave_nothing_behind(tmp_path, spoil, line):
    dataset = random_field(GRID, TIMES)
    spoil(dataset)
    path = store_field(dataset, tmp_path / "seed_0.zarr")
    with pytest.raises(FlowsrError, match=line) as caught:
        ingest([path], tmp_path / "pairs", SMALL)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "pairs").exists()


def test_requests_that_cannot_be_met(tmp_path):
    inputs = runs(tmp_path)
    output = tmp_path / "pairs"
    with pytest.raises(FlowsrError, match=r"no such variable.*expected: pressure; found: velocity"):
        ingest(inputs, output, replace(SMALL, variable="pressure"))
    with pytest.raises(FlowsrError, match="cannot be coarsened"):
        ingest(inputs, output, Ingest(factor=3))
    with pytest.raises(FlowsrError, match=r"seed_0.zarr.*too short"):
        ingest(inputs, output, Ingest(factor=2, split=Split(decorrelation_turnovers=50.0)))
    with pytest.raises(FlowsrError, match="two inputs of the same name"):
        ingest([inputs[0], inputs[0]], output, SMALL)
    with pytest.raises(FlowsrError, match="nothing to ingest"):
        ingest([], output, SMALL)
    other = store_field(random_field(Grid((8, 8, 8)), TIMES), tmp_path / "other.zarr")
    with pytest.raises(FlowsrError, match=r"other.zarr.*runs differ in shape"):
        ingest([inputs[0], other], output, SMALL)
    with pytest.raises(FlowsrError, match="no finished ingest here"):
        read_statistics(output)
    assert not output.exists()


def test_a_box_with_walls_needs_to_be_told_its_turnover_time(tmp_path):
    grid = Grid((8, 4, 12), boundary=("periodic", "wall", "periodic"))
    [path] = runs(tmp_path, 1, grid=grid)
    with pytest.raises(FlowsrError, match="turnover_time"):
        ingest([path], tmp_path / "pairs", SMALL)
    ingest([path], tmp_path / "pairs", Ingest(factor=2, split=Split(decorrelation_turnovers=3.0, turnover_time=1.0)))
    found = json.loads((tmp_path / "pairs" / "statistics.json").read_text())
    assert found["flow"] is None and found["runs"]["seed_0"]["gap"] == 3.0
    assert found["coarse"]["boundary"] == ["periodic", "wall", "periodic"]


def test_a_scalar_is_ingested_by_the_velocity_beside_it(tmp_path):
    dataset = random_field(GRID, TIMES)
    dataset["pressure"] = (
        ("time", "x", "y", "z"),
        dataset["velocity"].values[:, 0] ** 2,
        {"irreps": "0e", "units": "1"},
    )
    path = store_field(dataset, tmp_path / "a.zarr")
    ingest([path], tmp_path / "pairs", replace(SMALL, variable="pressure"))
    found = read_statistics(tmp_path / "pairs")
    train = open_field(pair_store(tmp_path / "pairs", "train", "a"), group="fine")
    assert list(train.data_vars) == ["pressure"]
    np.testing.assert_allclose(
        found.scale["fine"], np.sqrt((train["pressure"].values.astype("f8") ** 2).mean()), rtol=1e-6
    )
    assert found.flow["turnover_time"] > 0 and found.components == 1


def test_favre_means_unequal_factors_and_widths_are_made_and_recorded(tmp_path):
    dataset = random_field(GRID, TIMES)
    generator = np.random.default_rng(3)
    density = generator.uniform(1, 2, (len(TIMES), *GRID.shape)).astype("float32")
    dataset = dataset.assign(density=(("time", "x", "y", "z"), density, {"irreps": "0e", "units": "1"}))
    path = store_field(dataset, tmp_path / "a.zarr")
    factors = (2, 1, 3)
    ingest([path], tmp_path / "pairs", replace(SMALL, factor=factors, weight="density"))
    statistics = read_statistics(tmp_path / "pairs")
    assert statistics.factor == [2, 1, 3] and statistics.weight == "density" and statistics.width is None
    assert np.shape(statistics.transfer_function["real"]) == (3, 65)
    store = pair_store(tmp_path / "pairs", "train", "a")
    fine, coarse = open_field(store, group="fine"), open_field(store, group="coarse")
    assert list(fine.data_vars) == list(coarse.data_vars) == ["velocity"] and grid_of(coarse).shape == (4, 4, 4)
    assert fine.attrs["provenance"]["weight"] == "density" and coarse.attrs["degrade_weight"] == "density"
    assert coarse.attrs["degrade_factor"] == [2, 1, 3] == fine.attrs["provenance"]["factor"]
    u, rho = fine["velocity"].values.astype(float), density[: fine.sizes["time"], None].astype(float)
    mean = lambda f: f.reshape(*f.shape[:2], 4, 2, 4, 1, 4, 3).mean(axis=(3, 5, 7))  # noqa: E731
    np.testing.assert_allclose(coarse["velocity"].values, mean(u * rho) / mean(rho), rtol=1e-5, atol=1e-6)

    ingest([path], tmp_path / "wide", replace(SMALL, operator="top_hat", width=2))
    assert read_statistics(tmp_path / "wide").width == 2
    assert open_field(pair_store(tmp_path / "wide", "test", "a"), group="coarse").attrs["degrade_width"] == 2
    for wrong, line in (
        ({"weight": "temperature"}, "no such variable; variable: temperature"),
        ({"weight": "velocity"}, "no such weight"),
        ({"width": 2}, "only a top_hat has a width"),
        ({"factor": (2, 2)}, "cannot be coarsened by this factor"),
        ({"factor": (2, 3, 2)}, "cannot be coarsened by this factor"),
    ):
        with pytest.raises(FlowsrError, match=line):
            ingest([path], tmp_path / "wrong", replace(SMALL, **wrong))
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize("operator, missing", [("block_mean", False), ("block_mean", True), ("spectral_cutoff", False)])
def test_fields_that_memory_does_not_hold_give_the_same_pairs(tmp_path, monkeypatch, operator, missing):
    """Box by box, with spectra through the disk; nothing larger than a box is read."""
    grid = Grid((16, 12, 20), (2 * np.pi / 16, 2 * np.pi / 12, 2 * np.pi / 20))
    field = random_field(grid, TIMES[:3], dtype="float64")
    if missing:
        field["velocity"][:, :, 3, 5:9, 2] = np.nan
    source = store_field(field, tmp_path / "run.zarr", chunk=4, shard=8)
    split = Split(decorrelation_turnovers=0.0, turnover_time=1.0 if missing else None)
    settings = Ingest(factor=2, operator=operator, missing="nan" if missing else "refuse", split=split)
    whole = read_statistics(ingest([source], tmp_path / "whole", settings).parent)
    for name, value in {"WHOLE": 4 * 4 * 20, "PENCIL": 4, "SLAB": 1 << 10}.items():
        monkeypatch.setattr(f"flowsr.scratch.{name}", value)
    monkeypatch.setattr(import_module("flowsr.data.degrade"), "BLOCK", 8)
    monkeypatch.setattr("flowsr.data.pairs.create_store", partial(create_store, chunk=4, shard=8))
    largest, read = [], LazyArray.read

    def seen(self, index=None):
        values = read(self, index)
        largest.append(values.size)
        return values

    monkeypatch.setattr(LazyArray, "read", seen)
    parts = read_statistics(ingest([source], tmp_path / "parts", settings).parent)
    monkeypatch.undo()
    assert max(largest) <= 3 * 8**3
    for split in SPLITS:
        for group in ("coarse", "fine"):
            one, other = (
                open_field(pair_store(tmp_path / name, split, "run"), group=group)["velocity"].values
                for name in ("whole", "parts")
            )
            exact = operator == "block_mean" or group == "fine"
            np.testing.assert_allclose(one, other, rtol=0, atol=0 if exact else 1e-14)
    for name in ("scale", "missing"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-14)
    if not missing:
        assert parts.flow == pytest.approx(whole.flow, rel=1e-13)


def test_missing_values_of_a_large_field_are_counted_over_all_of_it(tmp_path, monkeypatch):
    field = random_field(GRID, TIMES)
    field["velocity"][3, 1, 6, 2, 4] = np.nan
    field["velocity"][3, 1, 2, 3, 11] = np.inf
    field["velocity"][5, 0, 0, 0, 0] = np.nan
    source = store_field(field, tmp_path / "run.zarr")
    lines = []
    for cells in (10**6, 0):
        monkeypatch.setattr("flowsr.scratch.WHOLE", cells)
        with pytest.raises(FlowsrError) as refused:
            ingest([source], tmp_path / "pairs", SMALL)
        lines.append(str(refused.value))
    assert lines[0] == lines[1] and "3 of 11520, the first at time 3, component 1, x 2, y 3, z 11" in lines[1]


def test_a_disk_without_room_for_spectra_is_told_before_anything_is_read(tmp_path, monkeypatch):
    (source,) = runs(tmp_path, count=1)
    monkeypatch.setattr("flowsr.scratch.WHOLE", 0)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=9000))
    read, seen = LazyArray.read, []
    monkeypatch.setattr(LazyArray, "read", lambda self, index=None: (seen.append(self.variable), read(self, index))[1])
    with pytest.raises(FlowsrError, match=r"no room .* expected: 9.22e-06 GB free; found: 9e-06 GB"):
        survey_run(Source("run", Input(path=source)), SMALL)
    assert not any("velocity" in variable for variable in seen)
