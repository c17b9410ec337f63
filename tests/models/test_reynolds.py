"""A network that takes the cell Reynolds number keeps every invariance, in tiles too, and does without it."""

import numpy as np
import pytest
import torch

from flowsr.data import create_store, degrade, open_field
from flowsr.data.patches import PatchPairs
from flowsr.data.scales import measure_scales
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.metrics.equivariance import equivariance_error
from flowsr.models import ModelCard, Task, build_model, save_model
from flowsr.models.base import cell_reynolds, state_viscosity
from flowsr.models.export import export_model
from flowsr.upscale import upscale_dataset, upscale_store
from flowsr.upscale.tiles import scales_for, tiles_of, upscale_tile
from tests.data.fields import random_field, store_field

BOX = Grid((12, 7, 6), (0.5, 0.4, 0.3))
CUBE = Grid((6, 6, 6), (0.5, 0.5, 0.5))
OPTIONS = {"group": "Oh", "channels": 1, "blocks": 0, "reynolds": True}


def network(seed=0, **options):
    torch.manual_seed(seed)
    model = build_model("strict", Task(2), **{**OPTIONS, **options}).double().eval()
    with torch.no_grad():
        for parameter in filter(lambda parameter: parameter.requires_grad, model.parameters()):
            parameter.normal_(std=0.3)
    return model


def field(grid, seed=1):
    return torch.randn(1, 3, *grid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def made(model, velocity, grid, viscosity):
    state_viscosity(model, viscosity)
    with torch.no_grad():
        return model(velocity, grid)


def close(found, expected, tolerance=1e-12):
    assert float((found - expected).norm() / expected.norm()) < tolerance


def test_the_number_is_that_of_a_shear_in_its_own_units():
    """u = (a y, 0, 0): |S| = a, so Delta^2 a / nu."""
    grid = Grid((4, 6, 4), (0.2, 0.1, 0.3), ("open",) * 3)
    y = torch.from_numpy(grid.coordinates()[1])
    velocity = torch.zeros(1, 3, *grid.shape, dtype=torch.float64)
    velocity[:, 0] = 7 * y[:, None]
    found = cell_reynolds(velocity, grid, torch.tensor([0.1 / 0.02]))[0, 0, 1:-1, 1:-1, 1:-1]
    torch.testing.assert_close(found, torch.full_like(found, 0.1**2 * 7 / 0.02))


@pytest.mark.parametrize("constraints", [{}, {"data_consistency": {"operator": "block_mean"}, "solenoidal": {}}])
def test_units_frame_orientation_and_silence_are_exact(constraints):
    model, velocity = network(constraints=constraints), field(CUBE)
    fine = made(model, velocity, CUBE, 0.05)
    assert float((made(model, velocity, CUBE, 0.01) - fine).norm() / fine.norm()) > 1e-3  # the number counts
    for a, b in ((1e3, 1.0), (1e-3, 7.0), (2.0, 1e-4)):  # velocities a, lengths b: viscosities a b
        units = Grid(CUBE.shape, tuple(b * d for d in CUBE.spacing))
        close(made(model, a * velocity, units, 0.05 * a * b), a * fine)
    wind = torch.tensor([3.0, -20.0, 0.5], dtype=torch.float64)[:, None, None, None]
    close(made(model, velocity + wind, CUBE, 0.05), fine + wind)
    state_viscosity(model, 0.05)
    assert float(equivariance_error(model, velocity, CUBE, "1o", "1o").max()) < 1e-12
    assert float(made(model, 0 * velocity, CUBE, 0.05).abs().max()) == 0


def test_tiles_are_the_whole():
    model, coarse = network(), field(BOX)[0]
    whole = made(model, coarse[None], BOX, 0.02)[0]
    state_viscosity(model, None)
    scales = scales_for(model, [coarse.numpy()], BOX, 0.02)
    fine = torch.empty_like(whole)
    for tile in tiles_of(BOX, 4, model.halo):
        values = upscale_tile(
            model, lambda cells: coarse.numpy()[(slice(None), *np.ix_(*cells))], BOX, tile, "cpu", scales
        )
        fine[(slice(None), *(slice(2 * part.start, 2 * part.stop) for part in tile))] = values
    close(fine, whole)


def test_without_a_viscosity_it_is_the_network_without_the_number_and_says_so(tmp_path):
    model, velocity = network(), field(CUBE)
    without = made(model, velocity, CUBE, None)
    with torch.no_grad():
        model.reynolds_lifting.filters.zero_()
    torch.testing.assert_close(made(model, velocity, CUBE, 0.05), without, rtol=0, atol=1e-14)
    for known in (True, False):
        dataset = random_field(CUBE, [0.0])
        dataset.attrs = (
            {**dataset.attrs, "viscosity": 0.05}
            if known
            else {k: v for k, v in dataset.attrs.items() if k != "viscosity"}
        )
        home = upscale_dataset(dataset, network()).attrs["provenance"]["home"]
        assert any("viscosity" in what for what in home["unknown"]) is not known


def test_a_store_and_a_dataset_are_upscaled_with_their_viscosity(tmp_path):
    card = ModelCard("strict", Task(2), OPTIONS)
    save_model(tmp_path / "model", network().float(), card)
    fields = {}
    for viscosity in (0.05, 0.01):
        source = store_field(random_field(CUBE, [0.0], viscosity=viscosity), tmp_path / f"{viscosity}.zarr")
        fields[viscosity] = open_field(upscale_store(source, tmp_path / "model", tmp_path / f"fine_{viscosity}.zarr"))
        there = upscale_dataset(open_field(source), str(tmp_path / "model"))
        np.testing.assert_array_equal(there.velocity.values, fields[viscosity].velocity.values)
    assert not np.allclose(fields[0.05].velocity, fields[0.01].velocity, atol=1e-3)


def test_patches_bring_the_viscosity_in_their_field_s_scales(tmp_path):
    fine, stores = random_field(CUBE.refined(2), [0.0]), []
    coarse = degrade(fine, "block_mean", 2).load()
    for viscosity in (0.05, None):
        stores.append(tmp_path / f"{viscosity}.zarr")
        groups = {"coarse": coarse.assign_attrs(viscosity=viscosity), "fine": fine}
        with create_store(stores[-1], groups) as store:
            for group, dataset in groups.items():
                store.write("velocity", dataset["velocity"][0].values, time=0, group=group)
            store.publish()
    patches = PatchPairs(stores, samples=2, seed=0, normalize=True, viscosity=True)
    found = {patches.snapshots[patches.snapshot_of(i)][0]: float(patches[i][2]) for i in range(2)}
    size = measure_scales([coarse.velocity.values[0]], CUBE, "1o").fluctuation
    assert found[0] == pytest.approx(0.05 / size, rel=1e-6) and found[1] == 0


def test_it_is_for_a_velocity_and_not_exported(tmp_path):
    with pytest.raises(ValueError, match="velocity"):
        build_model("strict", Task(2, irreps="0e"), **OPTIONS)
    with pytest.raises(FlowsrError, match="Reynolds"):
        export_model(network(), tmp_path / "model.pt2")
