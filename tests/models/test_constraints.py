"""Constraints: obeyed to round-off on any box, the least change that does it, blind to the orientation of the axes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from flowsr.data import DEGRADE_OPERATORS
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field, transform_grid
from flowsr.metrics.derivatives import gradient
from flowsr.models import ModelCard, Task, build_model, load_model, relaxed_weights, save_model
from flowsr.models.constraints import (
    OPERATORS,
    Constrained,
    consistent_field,
    constrained,
    solenoidal_consistent_field,
    solenoidal_part,
)
from flowsr.upscale import upscale_array
from flowsr.windows import Window
from tests.models.build import model_of


def chebyshev(cells):
    return tuple(float(c) for c in -np.cos(np.pi * (np.arange(cells) + 0.5) / cells))


PERIODIC = Grid((8, 12, 6), (0.5, 0.25, 0.3))
ODD = Grid((9, 6, 15), (0.5, 0.25, 0.3))
WALLS = Grid((8, 12, 6), (0.5, 0.25, 0.3), ("periodic", "wall", "open"))
CLOSED = Grid((8, 6, 10), (0.2, 0.3, 0.4), ("wall", "wall", "open"))
CHANNEL = Grid(
    (8, 12, 6), (0.5, 2 / 12, 0.3), ("periodic", "wall", "periodic"), (0, -1.0, 0), (None, chebyshev(12), None)
)
FLAT = Grid((8, 1, 6), (0.5, 0.5, 0.3), ("periodic", "wall", "periodic"))
BOXES = {"periodic": PERIODIC, "odd": ODD, "walls": WALLS, "closed": CLOSED, "channel": CHANNEL, "flat": FLAT}


def noise(grid, seed=0, components=3, batch=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, components, *grid.shape, dtype=torch.float64, generator=generator)


def divergence(velocity, grid):
    """Divergence over the size of the velocity gradient."""
    rates = gradient(velocity, grid)
    return ((rates[:, 0, 0] + rates[:, 1, 1] + rates[:, 2, 2]).norm() / rates.norm()).item()


def degraded(field, grid, operator, factor=2):
    return torch.from_numpy(DEGRADE_OPERATORS[operator]()(field.numpy(), factor, grid=grid))


def inner(one, other, grid):
    """Integral of the product over the box."""
    x, y, z = (torch.from_numpy(np.array(w)) for w in grid.widths())
    return (one * other * x[:, None, None] * y[:, None] * z).sum().item()


def distance(one, other):
    return ((one - other).norm() / other.norm()).item()


@pytest.mark.parametrize("box", BOXES)
def test_solenoidal_fields_have_no_divergence_and_are_the_nearest(box):
    grid = BOXES[box]
    field, other = noise(grid), solenoidal_part(noise(grid, 1), grid)
    found = solenoidal_part(field, grid)
    assert divergence(found, grid) < 1e-13
    assert distance(solenoidal_part(found, grid), found) < 1e-13, "a field that obeys stays as it is"
    assert abs(inner(field - found, other, grid)) < 1e-11 * inner(field, field, grid), "the change is orthogonal"
    assert divergence(field, grid) > 0.1 and distance(found, field) > 0.1
    constant = torch.ones_like(field)
    torch.testing.assert_close(solenoidal_part(constant, grid), constant, rtol=0, atol=1e-11)


def test_solenoidal_part_is_lerays_on_a_wave():
    grid = Grid((8, 8, 8), (np.pi / 4,) * 3)
    x, y, z = (torch.from_numpy(c) for c in np.meshgrid(*grid.coordinates(), indexing="ij"))
    wave = torch.cos(x + 2 * y - z)
    k, a = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64), torch.tensor([0.5, 1.0, 3.0], dtype=torch.float64)
    expected = (a - k * (a @ k) / (k @ k))[:, None, None, None] * wave
    torch.testing.assert_close(
        solenoidal_part((a[:, None, None, None] * wave)[None], grid)[0], expected, rtol=0, atol=1e-13
    )


def test_many_stretched_cells_keep_the_digits_in_either_precision():
    grid = Grid(
        (4, 96, 4), (0.5, 2 / 96, 0.5), ("periodic", "wall", "periodic"), (0, -1.0, 0), (None, chebyshev(96), None)
    )
    assert divergence(solenoidal_part(noise(grid), grid), grid) < 1e-13
    assert divergence(solenoidal_part(noise(grid).float(), grid).double(), grid) < 1e-6


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("box", ["periodic", "odd", "walls", "closed", "channel"])
def test_consistent_fields_degrade_to_the_input_and_are_the_nearest(operator, box):
    grid, factor = BOXES[box], 3 if box == "odd" else 2
    coarse_field = noise(Grid(tuple(n // factor for n in grid.shape)), 2, components=4)
    if operator == "spectral_cutoff":
        if not grid.periodic:
            with pytest.raises(ValueError, match="defined on periodic boxes"):
                consistent_field(noise(grid, components=4), coarse_field, grid, operator)
            return
        coarse_field = degraded(noise(grid, 3, components=4), grid, operator, factor)
    field = noise(grid, components=4)
    found = consistent_field(field, coarse_field, grid, operator)
    assert distance(degraded(found, grid, operator, factor), coarse_field) < 1e-12
    assert distance(consistent_field(found, coarse_field, grid, operator), found) < 1e-13
    change = consistent_field(noise(grid, 4, components=4), coarse_field, grid, operator) - found
    assert abs(inner(field - found, change, grid)) < 1e-11 * inner(field, field, grid)


def test_block_means_are_kept_by_adding_the_same_to_all_parts_of_a_cell():
    field, coarse = noise(PERIODIC), noise(PERIODIC.coarsened(2), 1)
    change = consistent_field(field, coarse, PERIODIC, "block_mean") - field
    cells = change.reshape(2, 3, 4, 2, 6, 2, 3, 2)
    torch.testing.assert_close(cells, cells[:, :, :, :1, :, :1, :, :1].expand_as(cells), rtol=0, atol=1e-13)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(("grid", "factor"), [(PERIODIC, 2), (ODD, 3), (Grid((16, 8, 8), (0.1, 0.2, 0.3)), 4)])
def test_both_at_once_hold_exactly(operator, grid, factor):
    truth = solenoidal_part(noise(grid, 1), grid)
    coarse, field = degraded(truth, grid, operator, factor), noise(grid)
    found = solenoidal_consistent_field(field, coarse, grid, operator)
    assert divergence(found, grid) < 1e-12
    assert distance(degraded(found, grid, operator, factor), coarse) < 1e-12
    assert distance(solenoidal_consistent_field(found, coarse, grid, operator), found) < 1e-12
    assert distance(solenoidal_consistent_field(truth, coarse, grid, operator), truth) < 1e-12
    assert abs(inner(field - found, truth - found, grid)) < 1e-10 * inner(field, field, grid), "the nearest"
    one_after_other = solenoidal_part(consistent_field(field, coarse, grid, operator), grid)
    if operator != "spectral_cutoff":
        assert distance(degraded(one_after_other, grid, operator, factor), coarse) > 1e-3, "alternating is not exact"


def test_of_a_compressible_input_block_means_keep_all_but_the_flux_through_planes():
    """Any block means are those of a solenoidal field, unless more flows through one plane than through the next."""
    grid, factor = PERIODIC, 2
    coarse = noise(grid.coarsened(factor))
    found = degraded(
        solenoidal_consistent_field(noise(grid, 1), coarse, grid, "block_mean"), grid, "block_mean", factor
    )
    missing = coarse - found
    for axis in range(3):
        across = tuple(d for d in (2, 3, 4) if d != axis + 2)
        missing[:, axis] -= missing[:, axis].mean(dim=[d - 1 for d in across], keepdim=True)
    assert missing.norm() < 1e-12 * coarse.norm()
    assert distance(found, coarse) > 1e-3


CONSTRAINTS = {
    "solenoidal": {"solenoidal": {}},
    **{operator: {"data_consistency": {"operator": operator}} for operator in OPERATORS},
    "both": {"solenoidal": {}, "data_consistency": {"operator": "block_mean"}},
}


def strict(constraints, **options):
    torch.manual_seed(0)
    options = {"channels": 1, "blocks": 0, "group": "Oh", "scale": 0.7, **options}
    model = model_of("strict", constraints=constraints, **options).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith("relaxed_weights"):
                parameter.normal_(std=0.2)
    return model


@pytest.mark.parametrize("name", CONSTRAINTS)
@pytest.mark.parametrize("box", ["periodic", "channel"])
def test_constrained_networks_commute_with_all_48(name, box):
    model, group = strict(CONSTRAINTS[name], frames=2), octahedral_group("Oh")
    grid = {
        "periodic": Grid((4, 6, 5), (0.5, 0.25, 0.3)),
        "channel": Grid(
            (4, 6, 5), (0.5, 2 / 6, 0.3), ("periodic", "wall", "open"), (0, -1.0, 0), (None, chebyshev(6), None)
        ),
    }[box]
    coarse = noise(grid, components=6, batch=1)
    if model.needs_periodic and not grid.periodic:
        with pytest.raises(ValueError, match="periodic box"):
            model(coarse, grid)
        return
    with torch.no_grad():
        fine = model(coarse, grid)
        for element in range(48):
            transformed = model(
                transform_field(coarse, element, model.irreps_in, group), transform_grid(grid, element, group)
            )
            assert (transformed - transform_field(fine, element, "1o", group)).norm() <= 1e-10 * fine.norm()


@pytest.mark.parametrize("inside", ["tricubic", "cnn"])
def test_any_model_obeys_and_its_target_frame_is_the_input(inside):
    options = {"width": 2, "blocks": 0} if inside == "cnn" else {}
    model = build_model(inside, Task(2, window=Window(3, 1)), constraints=CONSTRAINTS["both"], **options).double()
    grid = PERIODIC.coarsened(2)
    frames = [degraded(solenoidal_part(noise(PERIODIC, seed), PERIODIC), PERIODIC, "block_mean") for seed in range(3)]
    fine = model(torch.cat(frames, dim=1), grid)
    assert (
        divergence(fine, PERIODIC) < 1e-12
        and distance(degraded(fine.detach(), PERIODIC, "block_mean"), frames[1]) < 1e-12
    )
    assert model.halo is None and model.needs_periodic and model.trainable == (inside == "cnn")


def test_what_is_asked_of_the_model_inside_is_answered():
    model, plain = strict(CONSTRAINTS["block_mean"]), strict(None)
    assert isinstance(model, Constrained) and not isinstance(plain, Constrained)
    assert model.scale == plain.scale and model.group is plain.group and model.parameter_count == plain.parameter_count
    assert len(relaxed_weights(model)) == len(relaxed_weights(plain)) > 0
    assert model.halo == plain.halo and strict(CONSTRAINTS["gaussian_block_mean"]).halo is None
    with pytest.raises(AttributeError, match="temperature"):
        getattr(model, "temperature")  # noqa: B009


def test_constrained_networks_learn_through_their_constraint():
    torch.manual_seed(0)
    model = build_model("cnn", Task(2), width=2, blocks=0, constraints=CONSTRAINTS["solenoidal"])
    torch.nn.init.normal_(model.tail.convolution.weight)
    grid, coarse = Grid((4, 4, 4)), torch.randn(1, 3, 4, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fine = model(coarse, grid)
    fine.square().mean().backward()
    assert fine.dtype == torch.float32 and divergence(fine.detach().double(), grid.refined(2)) < 1e-6
    assert all(p.grad is not None and p.grad.norm() > 0 for p in model.parameters())


def test_tiles_under_a_local_constraint_equal_the_whole_on_stretched_axes():
    grid = Grid((7, 12, 6), (0.5, 2 / 12, 0.3), ("periodic", "wall", "open"), (0, -1.0, 0), (None, chebyshev(12), None))
    model = build_model("trilinear", Task(2), constraints=CONSTRAINTS["block_mean"])
    coarse = noise(grid, batch=1)
    whole = model(coarse, grid)[0].numpy()
    np.testing.assert_allclose(upscale_array(model, coarse[0].numpy(), grid, 4), whole, rtol=0, atol=1e-13)
    fine = grid.refined(2)
    assert distance(degraded(torch.from_numpy(whole)[None], fine, "block_mean"), coarse) < 1e-13
    globally = build_model("trilinear", Task(2), constraints=CONSTRAINTS["solenoidal"])
    assert divergence(torch.from_numpy(upscale_array(globally, coarse[0].numpy(), grid, 4))[None], fine) < 1e-13


def test_the_card_restores_the_constraint(tmp_path):
    card = ModelCard("cnn", Task(2), {"width": 2, "blocks": 0, "constraints": CONSTRAINTS["both"]})
    model = card.build()
    torch.nn.init.normal_(model.tail.convolution.weight)
    save_model(tmp_path, model, card)
    loaded = load_model(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["options"]["constraints"] == CONSTRAINTS["both"]
    coarse = torch.randn(1, 3, 4, 6, 4)
    assert torch.equal(loaded(coarse, Grid((4, 6, 4))), model.eval()(coarse, Grid((4, 6, 4))))


@pytest.mark.parametrize(
    ("constraints", "irreps", "says"),
    [
        ({"positivity": {}}, "1o", "unknown constraint 'positivity'"),
        (["solenoidal"], "1o", "names with their options"),
        ({"solenoidal": None}, "1o", "names with their options"),
        ({"data_consistency": {"operator": "strided"}}, "1o", "is for the operators block_mean"),
        ({"data_consistency": {}}, "1o", "takes the options"),
        ({"solenoidal": {"operator": "block_mean"}}, "1o", "takes the options"),
        ({"solenoidal": {}}, "0e", "one vector field"),
        (CONSTRAINTS["both"], "2e", "one vector field"),
    ],
)
def test_constraints_that_cannot_be_are_refused(constraints, irreps, says):
    with pytest.raises(ValueError, match=says):
        constrained(build_model("trilinear", Task(2, irreps=irreps)), constraints)


def test_between_walls_means_are_those_over_the_true_cells():
    """Chebyshev cells, whole, upside down, and a stretch of them: R u = c in the cells that the pairs were made in."""
    places = (1 - np.cos(np.pi * (np.arange(16) + 0.5) / 16)) / 2
    fine_grid = Grid(
        (4, 16, 4), (0.5, 1 / 8, 0.5), ("periodic", "wall", "periodic"), centers=(None, tuple(2 * places), None)
    )
    fine = torch.randn(2, 3, 4, 16, 4, dtype=torch.float64)
    coarse = torch.from_numpy(DEGRADE_OPERATORS["block_mean"]()(fine.numpy(), 2, grid=fine_grid))
    consistency = {"operator": "block_mean", "centers": [None, places.tolist(), None]}
    model = build_model("trilinear", Task(2), constraints={"data_consistency": consistency})
    grid = fine_grid.coarsened(2)
    for values, where in ((coarse, grid), (coarse.flip(3), grid.transformed((0, 1, 2), (1,)))):
        made = model(values, where).numpy()
        again = DEGRADE_OPERATORS["block_mean"]()(made, 2, grid=fine_grid)
        assert np.abs(again - values.numpy()).max() < 1e-13
    unaware = build_model("trilinear", Task(2), constraints={"data_consistency": {"operator": "block_mean"}})
    wrong = DEGRADE_OPERATORS["block_mean"]()(unaware(coarse, grid).numpy(), 2, grid=fine_grid)
    assert np.abs(wrong - coarse.numpy()).max() > 1e-3
    faces = grid.faces()[1]
    part = replace(
        grid,
        shape=(2, 5, 2),
        spacing=(grid.spacing[0], (faces[5] - faces[0]) / 5, grid.spacing[2]),
        boundary=("periodic", "open", "periodic"),
        centers=(None, grid.centers[1][:5], None),
    )
    torch.testing.assert_close(
        model(coarse[:, :, :, :5], part)[:, :, :, :8], model(coarse, grid)[:, :, :, :8], rtol=0, atol=1e-12
    )
