"""What precision goes in is computed with, or at least as many digits; and a source is looked at again at the end."""

import logging

import numpy as np
import pytest
import torch

from flowsr.cli import main
from flowsr.data import open_field
from flowsr.errors import FlowsrError
from flowsr.files import partial_path
from flowsr.grid import Grid
from flowsr.models import ModelCard, Task, build_model, load_model, save_model
from flowsr.progress import Progress
from flowsr.upscale import upscale_store
from tests.data.fields import random_field, store_field

BOX = Grid((8, 8, 8))
OPTIONS = {
    "cnn": {"width": 2, "blocks": 1},
    "deconvolved": {},
    "e3nn": {"width": 1, "blocks": 1, "l_max": 1},
    "fno": {"width": 2, "layers": 1, "modes": 2},
    "relaxed": {"channels": 1, "blocks": 1},
    "spectral": {},
    "tricubic": {},
}


def saved(name, folder):
    """A model whose every weight matters."""
    card = ModelCard(name, Task(2), OPTIONS[name])
    torch.manual_seed(0)
    model = build_model(name, card.task, **card.options)
    for tensor in model.parameters():
        if tensor.requires_grad and not tensor.any():
            torch.nn.init.normal_(tensor, std=0.1)
    save_model(folder, model, card)
    return folder


@pytest.mark.parametrize("name", OPTIONS)
def test_every_model_computes_in_double_precision_what_is_in_it(tmp_path, name, caplog):
    caplog.set_level(logging.INFO)
    folder = saved(name, tmp_path / "model")
    fields = {dtype: random_field(BOX, [0.0], dtype=dtype) for dtype in ("float64", "float32", "float16")}
    found = {}
    for dtype, field in fields.items():
        source = store_field(field, tmp_path / f"{dtype}.zarr")
        fine = open_field(upscale_store(source, folder, tmp_path / f"fine_{dtype}.zarr"))
        assert fine.velocity.dtype == dtype
        found[dtype] = fine.velocity.values[0]
    model = load_model(folder)
    if name == "fno":
        assert "computed in float32" in caplog.text
    else:
        assert "float64, and computed so" in caplog.text
        model = model.double()
    with torch.no_grad():
        expected = model(torch.from_numpy(fields["float64"].velocity.values), BOX)[0].numpy()
    size = np.abs(expected).max()
    np.testing.assert_allclose(found["float64"], expected, rtol=0, atol=(1e-6 if name == "fno" else 1e-13) * size)
    np.testing.assert_allclose(found["float32"], expected, rtol=0, atol=2e-5 * size)
    np.testing.assert_allclose(found["float16"], expected, rtol=0, atol=2e-2 * size)
    if name != "fno":
        single = np.abs(found["float32"].astype("f8") - expected).max()
        assert np.abs(found["float64"] - expected).max() < 1e-4 * single


def test_a_source_that_changes_meanwhile_is_not_published(tmp_path, capsys):
    folder = saved("tricubic", tmp_path / "model")
    source, target = store_field(random_field(BOX, [0.0, 1.0]), tmp_path / "a.zarr"), tmp_path / "fine.zarr"

    def change(_, fraction, message):
        (source / "velocity" / "c" / "1" / "0" / "0" / "0" / "0").write_bytes(b"another")

    with pytest.raises(FlowsrError, match=r"the source changed while it was read|damaged or not readable"):
        upscale_store(source, folder, target, progress=Progress(change))
    assert not target.exists() and not partial_path(target).exists()
    options = ["--input", str(source), "--model", str(folder), "--output", str(target)]
    assert main(["upscale", *options]) == 2
    assert len(capsys.readouterr().err.splitlines()[-1]) > 10 and not target.exists()


def test_a_damaged_result_is_not_used_again_until_fresh(tmp_path, capsys):
    folder, target = saved("tricubic", tmp_path / "model"), tmp_path / "fine.zarr"
    source = store_field(random_field(BOX, [0.0]), tmp_path / "a.zarr")
    whole = open_field(upscale_store(source, folder, target, shard=8)).velocity.values
    for path in [path for path in (target / "velocity" / "c").rglob("*") if path.is_file()][:3]:
        path.unlink()
    with pytest.raises(FlowsrError, match=r"this store is damaged.*3 that are not"):
        upscale_store(source, folder, target, shard=8)
    assert main(["verify", str(target)]) == 2 and capsys.readouterr().out.count("no such file") == 3
    upscale_store(source, folder, target, shard=8, overwrite=True)
    assert main(["verify", str(target)]) == 0
    np.testing.assert_array_equal(open_field(target).velocity.values, whole)
