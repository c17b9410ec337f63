"""What a fine store is made of decides whether it is used again; bad values, and the input as output, are refused."""

import importlib.metadata
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
import xarray as xr

from flowsr.data import create_store, open_field, write_hdf5
from flowsr.errors import FlowsrError
from flowsr.files import file_checksum, tree_checksum
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, build_model, save_model
from flowsr.public import upscale
from flowsr.upscale import plan_upscale, upscale_store
from tests.data.fields import random_field, store_field

BOX = Grid((6, 5, 4), boundary=("periodic", "wall", "periodic"))
CARD = ModelCard("cnn", Task(2), {"width": 2, "blocks": 1})


def coarse(seed=0, dtype="float32", poison=()):
    dataset = random_field(BOX, [0.0, 0.5], seed=seed, dtype=dtype)
    values = dataset.velocity.values.copy()
    for place, value in poison:
        values[place] = value
    return dataset.assign(velocity=(dataset.velocity.dims, values, dataset.velocity.attrs))


def save(folder, seed=0):
    torch.manual_seed(seed)
    model = CARD.build()
    torch.nn.init.normal_(model.tail.convolution.weight, std=0.1)
    save_model(folder, model, CARD)
    return model.eval()


@pytest.fixture
def model(tmp_path):
    save(tmp_path / "model")
    return tmp_path / "model"


@contextmanager
def killed(error=KeyboardInterrupt):
    """A progress report that ends the run after the first tile."""

    def stop(fraction, message):
        raise error

    with pytest.raises(error):
        yield stop


def provenance(store):
    return open_field(store).attrs["provenance"]


def test_the_store_says_what_it_was_made_of(tmp_path, model):
    source = write_hdf5(coarse(), tmp_path / "coarse.h5")
    told = provenance(upscale_store(source, model, tmp_path / "fine.zarr", tile=3))
    assert told["source_sha256"] == [file_checksum(source)] and told["source_group"] is None
    assert told["weights_sha256"] == file_checksum(model / "model.safetensors")
    assert told["flowsr"] == importlib.metadata.version("flowsr") and not {"versions", "tile"} & told.keys()


def test_a_source_is_read_as_the_options_say(tmp_path, model):
    whole = coarse()
    parts = {
        name: (("sample", "time", "z", "y", "x"), np.stack([part, 2 * part]).transpose(0, 1, 4, 3, 2))
        for name, part in zip("uvw", whole.velocity.values.swapaxes(0, 1))
    }
    axes = {axis: whole[axis].values for axis in ("time", *"xyz")}
    xr.Dataset(parts, axes).to_netcdf(tmp_path / "coarse.nc", engine="h5netcdf")
    words = {"select": {"sample": 1}, "boundary": BOX.boundary, "time": 1}
    found = open_field(upscale(tmp_path / "coarse.nc", model, tmp_path / "fine.zarr", tile=3, **words))
    doubled = whole.assign(velocity=(whole.velocity * 2).assign_attrs(whole.velocity.attrs)).isel(time=[1])
    store_field(doubled, tmp_path / "same.zarr")
    expected = open_field(upscale_store(tmp_path / "same.zarr", model, tmp_path / "expected.zarr", tile=3))
    np.testing.assert_array_equal(found.velocity.values, expected.velocity.values)
    assert found.attrs["provenance"]["read"]["select"] == {"sample": 1}
    with pytest.raises(FlowsrError):  # another part of the same file is another source
        upscale(tmp_path / "coarse.nc", model, tmp_path / "fine.zarr", tile=3, **{**words, "time": 0})


def test_a_source_with_other_content_is_not_taken_for_the_old_one(tmp_path, model):
    source, target = write_hdf5(coarse(0), tmp_path / "coarse.h5"), tmp_path / "fine.zarr"
    upscale_store(source, model, target)
    before = tree_checksum(target)
    upscale_store(source, model, target)
    assert tree_checksum(target) == before
    write_hdf5(coarse(1), source)
    with pytest.raises(FlowsrError, match="made from other data or settings"):
        upscale_store(source, model, target)
    assert tree_checksum(target) == before
    upscale_store(source, model, target, overwrite=True)
    assert tree_checksum(target) != before


def test_other_weights_of_the_same_shape_are_not_taken_for_the_old_ones(tmp_path, model):
    source, target = write_hdf5(coarse(), tmp_path / "coarse.h5"), tmp_path / "fine.zarr"
    upscale_store(source, model, target)
    save(model, seed=1)
    with pytest.raises(FlowsrError, match="made from other data or settings"):
        upscale_store(source, model, target)


def test_a_killed_run_does_not_go_on_with_another_input(tmp_path, model):
    source, target = write_hdf5(coarse(0), tmp_path / "coarse.h5"), tmp_path / "fine.zarr"
    with killed() as stop:
        upscale_store(source, model, target, tile=3, shard=6, progress=stop)
    write_hdf5(coarse(1), source)
    with pytest.raises(FlowsrError, match="begun with other data or settings"):
        upscale_store(source, model, target, tile=3, shard=6)
    assert not target.exists()


def test_a_killed_run_goes_on_after_an_upgrade_of_another_package(tmp_path, model, monkeypatch):
    source, target = write_hdf5(coarse(), tmp_path / "coarse.h5"), tmp_path / "fine.zarr"
    with killed() as stop:
        upscale_store(source, model, target, tile=3, shard=6, progress=stop)
    monkeypatch.setattr("flowsr.provenance.version", lambda package: "99")
    upscale_store(source, model, target, tile=3, shard=6)
    upscale_store(source, model, tmp_path / "at_once.zarr", tile=3, shard=6)
    assert tree_checksum(target) == tree_checksum(tmp_path / "at_once.zarr")


def pair_store(path, fine_seed):
    groups = {"coarse": coarse(0), "fine": random_field(BOX.refined(2), [0.0, 0.5], seed=fine_seed)}
    with create_store(path, groups) as store:
        for group, dataset in groups.items():
            for time in range(2):
                store.write("velocity", dataset.velocity.values[time], time=time, group=group)
        return store.publish()


def test_of_a_group_its_own_content_counts(tmp_path, model):
    source, target = pair_store(tmp_path / "run.zarr", 1), tmp_path / "fine.zarr"
    upscale_store(source, model, target, group="coarse")
    told = provenance(target)
    assert told["source_group"] == "coarse" and told["source_sha256"] == [tree_checksum(source / "coarse")]
    shutil.rmtree(source)
    pair_store(source, 2)
    upscale_store(source, model, target, group="coarse")
    with pytest.raises(FlowsrError, match="made from other data or settings"):
        upscale_store(source, model, target, group="fine")


def test_what_a_manifest_points_to_counts(tmp_path, model):
    (tmp_path / "data").mkdir()
    write_hdf5(coarse(0), tmp_path / "data" / "coarse.h5")
    manifest = tmp_path / "data.yaml"
    manifest.write_text(
        "name: own\ndescription: own\nsource: us\nlicence: MIT\nroot: data\nfiles: {one: coarse.h5}\n"
        "variables: {velocity: {irreps: 1o}}\n"
    )
    upscale_store(manifest, model, tmp_path / "fine.zarr")
    write_hdf5(coarse(1), tmp_path / "data" / "coarse.h5")
    with pytest.raises(FlowsrError, match="made from other data or settings"):
        upscale_store(manifest, model, tmp_path / "fine.zarr")
    two = manifest.read_text().replace("{one: coarse.h5}", "{one: coarse.h5, other: elsewhere.zarr}")
    manifest.write_text(two)  # the other run is not here
    assert len(plan_upscale(manifest, model, tmp_path / "own.zarr", run="one").content.paths) == 2
    with pytest.raises(FlowsrError, match="would be written over the input"):
        plan_upscale(manifest, model, tmp_path / "data" / "elsewhere.zarr", run="one")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused_with_their_place(tmp_path, model, value):
    source = write_hdf5(coarse(poison=[((1, 2, 5, 3, 1), value), ((1, 0, 5, 4, 1), value)]), tmp_path / "coarse.h5")
    with pytest.raises(FlowsrError) as error:
        upscale_store(source, model, tmp_path / "fine.zarr")
    line = str(error.value)
    assert line.startswith(str(source)) and "variable: velocity" in line and "\n" not in line
    assert "2 NaN, infinite or missing in this tile, the first at time 1, x 5, y 4, z 1" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["coarse.h5", "model"], "nothing unfinished is left"
    write_hdf5(coarse(), source)
    upscale_store(source, model, tmp_path / "fine.zarr")


def test_the_place_is_the_files_own_when_tiles_wrap(tmp_path):
    save_model(tmp_path / "model", build_model("trilinear", Task(2)), ModelCard("trilinear", Task(2)))
    source = write_hdf5(coarse(poison=[((0, 1, 5, 0, 3), np.nan)]), tmp_path / "coarse.h5")
    with pytest.raises(
        FlowsrError, match="1 NaN, infinite or missing in this tile, the first at time 0, x 5, y 0, z 3"
    ):
        upscale_store(source, tmp_path / "model", tmp_path / "fine.zarr", tile=2)
    assert not (tmp_path / "fine.zarr").exists()


@pytest.mark.parametrize("case", ["weights", "float32", "float16"])
def test_finite_values_that_come_out_nan_or_infinite_are_refused_with_their_place(tmp_path, model, case):
    huge = {"weights": 1.0, "float32": 3e38, "float16": 65000}[case]
    poison = [((1, 2, 5, 3, 1), huge), ((1, 2, 4, 3, 1), -huge)]
    source = store_field(
        coarse(dtype="float16" if case == "float16" else "float32", poison=poison), tmp_path / "a.zarr"
    )
    network = CARD.build()
    if case == "weights":
        torch.nn.init.constant_(network.tail.convolution.bias, float("nan"))
    else:
        torch.nn.init.constant_(network.tail.convolution.bias, huge)
    save_model(model, network, CARD)
    with pytest.raises(FlowsrError) as error:
        upscale_store(source, model, tmp_path / "fine.zarr")
    line = str(error.value)
    assert line.startswith(str(source)) and "NaN or infinite values from finite ones" in line and "\n" not in line
    assert "the first at time" in error.value.found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "model"], "nothing unfinished is left"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "target", ["in/run.zarr", "in/run.zarr/coarse", "in/run.zarr/new.zarr", "in", "in/../in/run.zarr", "link/run.zarr"]
)
def test_an_output_over_the_input_is_refused(tmp_path, model, target, overwrite):
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    source = pair_store(tmp_path / "in" / "run.zarr", 1)
    before = tree_checksum(tmp_path / "in")
    with pytest.raises(FlowsrError, match="would be written over the input"):
        upscale_store(source, model, tmp_path / target, group="coarse", overwrite=overwrite)
    assert tree_checksum(tmp_path / "in") == before


def test_an_output_over_a_manifests_file_is_refused(tmp_path, model):
    store_field(coarse(), tmp_path / "coarse.zarr")
    (tmp_path / "data.yaml").write_text(
        "name: own\ndescription: own\nsource: us\nlicence: MIT\nfiles: {one: coarse.zarr}\n"
        "variables: {velocity: {irreps: 1o}}\n"
    )
    with pytest.raises(FlowsrError, match="would be written over the input"):
        upscale_store(tmp_path / "data.yaml", model, tmp_path / "coarse.zarr", overwrite=True)
    assert open_field(tmp_path / "coarse.zarr").sizes["x"] == 6


@pytest.mark.parametrize("name", ["cnn", "relaxed"])
def test_a_double_precision_file_is_upscaled_to_double_precision(tmp_path, name):
    card = CARD if name == "cnn" else ModelCard("relaxed", Task(2), {"channels": 1})
    torch.manual_seed(0)
    network = card.build().eval()
    torch.nn.init.normal_((network.tail.convolution.weight if name == "cnn" else network.projection.filters), std=0.1)
    save_model(tmp_path / "model", network, card)
    field = coarse(dtype="float64")
    source = write_hdf5(field, tmp_path / "coarse.h5")
    fine = open_field(upscale_store(source, tmp_path / "model", tmp_path / "fine.zarr", tile=3))
    assert isinstance(fine, xr.Dataset) and fine.velocity.dtype == np.float64
    with torch.no_grad():
        expected = network.double()(torch.from_numpy(field.velocity.values), BOX).numpy()
    assert np.linalg.norm(fine.velocity.values - expected) <= 1e-13 * np.linalg.norm(expected)
