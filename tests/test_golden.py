"""A store and models that flowsr 0.1.0 wrote in November 2026: whatever comes later opens them, with these values.

They are never written again. What they hold follows from a line each, below, which shares nothing with the code.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from flowsr.data import open_field
from flowsr.data.store import damage_in
from flowsr.grid import Grid
from flowsr.models import load_model
from flowsr.pipeline.verify import verify

GOLDEN = Path(__file__).parent / "golden"
#: Cells along x, y, z, and their sizes.
SHAPE, SPACING = (4, 6, 5), (0.5, 0.25, 0.125)


def velocity(time, component, x, y, z):
    """Whole eighths, which every precision holds."""
    return 1000 * time + 100 * component + 10 * x + y + z / 8


def test_the_golden_store_opens_with_its_values():
    found = open_field(GOLDEN / "store.zarr")
    assert found.velocity.dims == ("time", "component", "x", "y", "z") and found.velocity.dtype == np.float32
    assert found.velocity.attrs["irreps"] == "1o" and found.velocity.attrs["units"] == "m/s"
    assert found.attrs["viscosity"] == 0.015625 and found.attrs["provenance"] == {
        "made": "by hand",
        "numbers": [1, 2.5],
    }
    assert found.time.values.tolist() == [0.0, 0.5]
    for name, side, step in zip("xyz", SHAPE, SPACING):
        assert found[name].values.tolist() == [(cell + 0.5) * step for cell in range(side)]
    index = np.indices((2, 3, *SHAPE))
    np.testing.assert_array_equal(found.velocity.values, velocity(*index))
    np.testing.assert_array_equal(found.pressure.values, index[0, :, 0] - index[2, :, 0] / 4)
    assert not damage_in(GOLDEN / "store.zarr")


@pytest.mark.parametrize("name", ["cnn", "relaxed"])
def test_a_golden_model_upscales_as_it_did(name):
    """Its last layer adds a constant to the linear interpolation, and a linear field interpolated is that field."""
    model = load_model(GOLDEN / name)
    cells = np.indices((3, 8, 8, 8))
    coarse = (cells[1] + 2 * cells[2] - cells[3] + 10 * cells[0]).astype("float32")
    with torch.no_grad():
        fine = model(torch.from_numpy(coarse)[None], Grid((8, 8, 8), boundary=("open",) * 3))[0].numpy()
    assert fine.shape == (3, 16, 16, 16)
    component, x, y, z = np.indices(fine.shape)
    expected = (x - 0.5) / 2 + (y - 0.5) - (z - 0.5) / 2 + 10 * component
    expected += {"cnn": np.array([1.0, -0.5, 0.25]), "relaxed": np.zeros(3)}[name][component]
    inner = (slice(None), *[slice(2, -2)] * 3)
    np.testing.assert_allclose(fine[inner], expected[inner], rtol=0, atol=2e-5)


def test_everything_golden_is_as_it_was_written():
    found = verify(GOLDEN)
    assert found.checked == 3 and not found.damaged and not found.unchecked
