"""How a stranger's Zarr store may be packed is a list of names, looked at before the library sees the metadata."""

import json

import numpy as np
import pytest
import zarr
from numcodecs import Blosc, GZip, Shuffle

from flowsr.data import open_field
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from tests.data.fields import random_field, store_field

GRID = Grid((4, 3, 5))


def old_store(path, **options):
    """A store of version 2."""
    dataset = random_field(GRID, [0.0])
    group = zarr.create_group(path, zarr_format=2, attributes={"boundary": ["periodic"] * 3})
    for name in ("time", "x", "y", "z", "velocity"):
        values = dataset[name].values
        array = group.create_array(name, shape=values.shape, dtype=values.dtype, **options)
        array.attrs.update({"_ARRAY_DIMENSIONS": list(dataset[name].dims), "irreps": "1o", "units": "1"})
        array[...] = values
    return path, dataset


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize("options", [{"compressors": Blosc()}, {"filters": [Shuffle(4)], "compressors": GZip()}, {}])
def test_what_is_on_the_list_is_read(tmp_path, options):
    if "filters" in options:
        path, dataset = old_store(tmp_path / "a.zarr")
        array = zarr.open_group(path)["velocity"]
        del zarr.open_group(path)["velocity"]
        made = zarr.create_array(path / "velocity", shape=dataset.velocity.shape, dtype="f4", zarr_format=2, **options)
        made.attrs.update(dict(array.attrs))
        made[...] = dataset.velocity.values
    else:
        path, dataset = old_store(tmp_path / "a.zarr", **options)
    np.testing.assert_array_equal(open_field(path).velocity.values, dataset.velocity.values)


@pytest.mark.parametrize(
    "values",
    [
        {"compressor": {"id": "pickle", "protocol": 5}},
        {"compressor": {"id": "json2"}, "dtype": "|O"},
        {"filters": [{"id": "vlen-array", "dtype": "<f4"}]},
        {"filters": [{"id": "gzip", "level": 1}], "compressor": {"id": "gzip", "level": 1}},
    ],
    ids=str,
)
@pytest.mark.parametrize("consolidated", [False, True])
def test_a_codec_that_is_not_on_the_list_is_refused_unseen(tmp_path, monkeypatch, values, consolidated):
    path, _ = old_store(tmp_path / "a.zarr")
    if consolidated:
        array = {**json.loads((path / "velocity" / ".zarray").read_text()), **values}
        (path / ".zmetadata").write_text(json.dumps({"metadata": {"velocity/.zarray": array}}))
    else:
        change(path / "velocity" / ".zarray", **values)
    monkeypatch.setattr(zarr, "open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(FlowsrError) as caught:
        open_field(path)
    assert caught.value.variable == "codecs" and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["numcodecs.pickle", "cast", "gzip"])
def test_codecs_of_version_3_within_shards_too(tmp_path, name):
    path = store_field(random_field(Grid((8, 8, 8)), [0.0]), tmp_path / "a.zarr", chunk=2, shard=4)
    open_field(path)
    file = path / "velocity" / "zarr.json"
    metadata = json.loads(file.read_text())
    metadata["codecs"][0]["configuration"]["codecs"].append({"name": name, "configuration": {"level": 1}})
    change(file, codecs=metadata["codecs"])
    with pytest.raises(FlowsrError) as caught:
        open_field(path)
    assert caught.value.variable == "codecs" and name.removeprefix("numcodecs.") in caught.value.found
