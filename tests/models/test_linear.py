"""Linear least squares: an exact linear map is found, symmetries are exact, ridges are chosen where they must be."""

import pytest
import torch

from flowsr.grid import Grid
from flowsr.group import octahedral_group, point_group
from flowsr.group.fields import transform_field
from flowsr.metrics import EquivarianceError
from flowsr.models import Task, build_model
from flowsr.models.averaged import as_trained
from flowsr.models.base import trilinear
from flowsr.models.linear import DISTANCE_PENALTIES, RIDGES, planes_of
from flowsr.testing import assert_equivariant, check_model

MIRRORS = "C2v(100;100)[100]"
CHANNEL = Grid((4, 6, 4), boundary=("periodic", "wall", "periodic"))
BOX = Grid((5, 5, 5))


def solved(grid, group, fields, make, noise=0.0, reach=1):
    """An estimate solved on random fields, and what it was solved for: four parts of them."""
    torch.manual_seed(0)
    model = build_model("linear", Task(2), reach=reach, group=group, planes=planes_of(grid)).double()
    coarse = torch.randn(fields, 3, *grid.shape, dtype=torch.float64)
    fine = trilinear(coarse, 2, grid.boundary) + make(model, coarse)
    fine = fine + noise * torch.randn_like(fine)
    quarters = [model.moments(coarse[i::4], fine[i::4], grid) for i in range(4)]
    return model, model.solve([sum(parts[1:], start=parts[0]) for parts in quarters]), coarse, fine


def symmetric_map(model, coarse, grid):
    """A random linear map that commutes with the model's group."""
    torch.manual_seed(1)
    rows = torch.randn(*model.planes, model.seen + 1, model.made, dtype=torch.float64)
    weights, constants = model._split(rows)
    return model.estimate(coarse, grid, weights, constants)


@pytest.mark.parametrize(("grid", "group"), [(CHANNEL, MIRRORS), (CHANNEL, "C1"), (BOX, "Oh")])
def test_a_linear_map_is_found_and_commutes_with_its_group(grid, group):
    model, found, coarse, fine = solved(grid, group, 40, lambda m, c: symmetric_map(m, c, grid))
    assert found.ridge == RIDGES[0]
    error = (trilinear(coarse, 2, grid.boundary) + model.correction(coarse, grid) - fine).norm() / fine.norm()
    assert error < 1e-4
    assert_equivariant(model, group, grid=grid, tolerance=1e-13)


def test_symmetry_is_worth_data():
    """Noisy pairs, no more than there are weights: an estimate that knows the two walls are alike errs less."""
    errors = {}
    for group in ("C1", MIRRORS):
        true = build_model("linear", Task(2), group=MIRRORS, planes=planes_of(CHANNEL)).double()
        model, _, coarse, _ = solved(CHANNEL, group, 16, lambda _, c, true=true: symmetric_map(true, c, CHANNEL), 10.0)
        wanted = symmetric_map(true, coarse, CHANNEL)
        made = model.correction(coarse, CHANNEL).detach()
        errors[group] = float((made - wanted).norm() / wanted.norm())
    assert errors[MIRRORS] < 0.8 * errors["C1"]


def test_planes_of_one_law_learn_from_each_other_where_data_are_few(monkeypatch):
    """Noisy pairs of a map that is the same in all planes, and of one that is another in each."""
    true = build_model("linear", Task(2), group=MIRRORS, planes=planes_of(CHANNEL)).double()
    rows = torch.randn(*true.planes, true.seen + 1, true.made, generator=torch.manual_seed(1)).double()
    errors = []
    for law in (rows[:, :1].expand_as(rows), rows):
        weights = true._split(law)

        def make(_, coarse, weights=weights):
            return true.estimate(coarse, CHANNEL, *weights)

        model, found, coarse, _ = solved(CHANNEL, MIRRORS, 16, make, noise=10.0)
        assert (found.width > 0) == (law is not rows)
        assert_equivariant(model, MIRRORS, grid=CHANNEL, tolerance=1e-12)
        errors.append((model.correction(coarse, CHANNEL) - make(None, coarse)).norm())
        monkeypatch.setattr("flowsr.models.linear.WIDTHS", (0.0,))
        model, _, coarse, _ = solved(CHANNEL, MIRRORS, 16, make, noise=10.0)
        errors.append((model.correction(coarse, CHANNEL) - make(None, coarse)).norm())
        monkeypatch.undo()
    together, alone, different, apart = errors
    assert together < 0.8 * alone and different == apart


def test_noise_is_held_down_by_the_ridge():
    _, found, _, _ = solved(CHANNEL, "C1", 8, lambda m, c: 0.0, noise=1.0)
    assert found.ridge == RIDGES[-1] and found.distance_penalty == DISTANCE_PENALTIES[-1]


def test_tiles_and_contract_with_a_longer_reach():
    check_model(build_model("linear", Task(2), reach=2), tolerance=1e-12)
    assert build_model("linear", Task(2), reach=2).halo == 2
    assert build_model("linear", Task(2), planes=planes_of(CHANNEL)).halo is None


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cnn", {"width": 3}),
        ("strict", {"group": MIRRORS, "channels": 1}),
        ("planewise", {"group": MIRRORS, "channels": 1, "planes": planes_of(CHANNEL)}),
    ],
)
def test_a_network_corrects_an_estimate_and_leaves_it_as_it_is(name, options):
    base = {"group": MIRRORS, "planes": planes_of(CHANNEL)}
    model = build_model(name, Task(2), base=base, **options).double()
    estimate, coarse = model.base, torch.randn(2, 3, *CHANNEL.shape, dtype=torch.float64)
    with torch.no_grad():
        weights, constants = estimate._split(torch.randn(1, 6, 1, estimate.seen + 1, estimate.made).double())
        estimate.weights.copy_(weights)
        estimate.constants.copy_(constants)
    alone = build_model("linear", Task(2), **base).double()
    alone.load_state_dict(estimate.state_dict())
    torch.testing.assert_close(model(coarse, CHANNEL), alone(coarse, CHANNEL), rtol=0, atol=1e-12)  # silent at first
    before = estimate.weights.clone()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model(coarse, CHANNEL).square().mean().backward()
    optimizer.step()
    assert torch.equal(estimate.weights, before)
    assert not torch.equal(model(coarse, CHANNEL), alone(coarse, CHANNEL))
    assert model.halo is None
    if name != "cnn":
        assert_equivariant(model, MIRRORS, grid=CHANNEL)


@pytest.mark.parametrize(("grid", "group"), [(CHANNEL, MIRRORS), (CHANNEL, "D4h[010]"), (BOX, "O")])
def test_a_last_step_by_plane_commutes_with_the_group_whatever_its_weights(grid, group):
    torch.manual_seed(0)
    model = build_model("planewise", Task(2), group=group, channels=2, planes=planes_of(grid)).double()
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            parameter.normal_(std=0.3)
    assert_equivariant(model, group, grid=grid, tolerance=1e-12)
    found = model.projection.symmetric().detach()
    if grid is CHANNEL:  # the walls are images of each other, and a plane between them is like no other
        assert found.abs()[0, 0].sum() == pytest.approx(float(found.abs()[0, -1].sum()), rel=1e-12)
        assert (found[0, 0] - found[0, 2]).norm() > 0.1 * found[0, 0].norm()


def test_planes_that_a_group_or_a_field_does_not_have_are_refused():
    with pytest.raises(ValueError, match="does not keep"):
        build_model("planewise", Task(2), group="Oh", planes=planes_of(CHANNEL))
    model = build_model("planewise", Task(2), planes=planes_of(CHANNEL))
    with pytest.raises(ValueError, match="planes are for as many coarse cells"):
        model(torch.zeros(1, 3, 4, 8, 4), Grid((4, 8, 4), boundary=("periodic", "wall", "periodic")))


def test_weights_by_plane_are_for_the_walls_that_they_were_made_between():
    """In a cube every axis has as many cells: it is the walls that say which planes are which."""
    cube, coarse = Grid((4, 4, 4), boundary=CHANNEL.boundary), torch.randn(1, 3, 4, 4, 4)
    planes = {"planes": planes_of(cube)}
    models = [build_model("linear", Task(2), **planes), build_model("planewise", Task(2), channels=1, **planes)]
    models.append(build_model("cnn", Task(2), width=2, blocks=0, base=planes, average=MIRRORS))
    for model in models:
        found = EquivarianceError()(model, coarse, cube)["equivariance_error_per_element"].y
        assert int(found.isfinite().sum()) == 16  # those that keep the walls
        for across in ((), (0,), (0, 1)):
            other = Grid((4, 4, 4), boundary=tuple("wall" if axis in across else "periodic" for axis in range(3)))
            for refused in (model.check_grid, lambda grid, model=model: model(coarse, grid)):
                with pytest.raises(ValueError, match="as many coarse cells between walls"):
                    refused(other)
    with pytest.raises(ValueError, match="Oh does not keep"):
        build_model("cnn", Task(2), width=2, base=planes, average="Oh")
    build_model("linear", Task(2)).check_grid(cube)  # one set of weights for all planes


def test_an_average_over_a_group_is_exact_and_never_worse():
    """In units and frames of the field too, under constraints too; in training it is the network itself."""
    torch.manual_seed(0)
    model = build_model(
        "cnn", Task(2), width=3, average=MIRRORS, constraints={"data_consistency": {"operator": "block_mean"}}
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    assert_equivariant(model, MIRRORS, grid=CHANNEL)
    check_model(model)
    assert build_model("relaxed", Task(2), group="C4 [001]", average="Oh").group.name == "C4 [001]"  # the network's own
    plain, coarse = model.model.model, torch.randn(4, 3, *CHANNEL.shape)
    with as_trained(model):
        torch.testing.assert_close(model.model(coarse, CHANNEL), plain(coarse, CHANNEL))
    group, wanted, losses = point_group(MIRRORS), torch.randn(4, 3, 8, 12, 8), {}
    for name, one in (("plain", plain), ("average", model.model)):
        turned = [(transform_field(coarse, g, "1o", group), transform_field(wanted, g, "1o", group)) for g in range(4)]
        losses[name] = sum(float((one(c, CHANNEL) - f).square().mean().detach()) for c, f in turned)
    assert losses["average"] < losses["plain"]


def test_elements_that_move_the_walls_are_left_out_of_its_equivariance_error():
    """Sixteen elements of O_h keep the channel's walls; of these it keeps four."""
    torch.manual_seed(0)
    model = build_model("linear", Task(2), group=MIRRORS, planes=planes_of(CHANNEL)).double()
    with torch.no_grad():
        weights, constants = model._split(torch.randn(1, 6, 1, model.seen + 1, model.made).double())
        model.weights.copy_(weights)
        model.constants.copy_(constants)
    found = EquivarianceError()(model, torch.randn(2, 3, *CHANNEL.shape, dtype=torch.float64), CHANNEL)
    errors = found["equivariance_error_per_element"].y
    group = octahedral_group("Oh")
    kept = [group.index(matrix) for matrix in point_group(MIRRORS).matrices]
    assert int(errors.isfinite().sum()) == 16 and float(errors[kept].max()) < 1e-12
    assert float(found["equivariance_error"]) == pytest.approx(float(errors.nanmean()))


def test_what_cannot_be_is_refused():
    model = build_model("linear", Task(2), planes=(1, 6, 1))
    with pytest.raises(ValueError, match="6"):
        model(torch.zeros(1, 3, 4, 8, 4), Grid((4, 8, 4), boundary=CHANNEL.boundary))
    with pytest.raises(ValueError, match="planes"):
        build_model("linear", Task(2), group="Oh", planes=(1, 6, 1))
    for options in ({"reach": 0}, {"planes": (1, 0, 1)}, {"planes": (1, 1)}, {"base": {"reach": 2}}):
        with pytest.raises(ValueError):
            build_model("linear", Task(2), **options)
