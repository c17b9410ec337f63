"""Between strict and ordinary: relaxed to a subgroup, with as many filter banks as elements, and how fast."""

import numpy as np
import pytest
import torch

from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.group import octahedral_group, point_group, tap_permutation, transform_field, transform_grid
from flowsr.kernels.expansion import expand_group
from flowsr.models import Task, build_model, relaxed_weights
from flowsr.models.octahedral import breaking_power
from flowsr.nn import GroupConv
from flowsr.nn.layer import right_cosets
from flowsr.nn.pointwise import wall_functions
from flowsr.train.rates import REFERENCE_FAN_IN, groups_by_fan_in

CHANNEL = "C2v(100;100)[100]"
GRID = Grid((2, 3, 4), boundary=("periodic", "wall", "periodic"))
WHOLE = octahedral_group("Oh")


def network(spread=0.5, **options):
    torch.manual_seed(0)
    model = build_model("relaxed", Task(2), group="Oh", channels=1, blocks=1, **options).double()
    with torch.no_grad():
        for layer in model.modules():
            if hasattr(layer, "filters"):
                layer.filters.normal_(std=0.1)
                layer.relaxed_weights.add_(spread * torch.randn_like(layer.relaxed_weights))
    return model


def error(model, element):
    coarse = torch.randn(1, 3, *GRID.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = transform_field(model(coarse, GRID), element, "1o", WHOLE)
        found = model(transform_field(coarse, element, "1o", WHOLE), transform_grid(GRID, element, WHOLE))
    return float((found - expected).norm() / expected.norm())


def test_relaxed_to_a_subgroup_keeps_it_whatever_the_weights():
    model, kept = network(relaxed_to=CHANNEL), [WHOLE.index(m) for m in point_group(CHANNEL).matrices]
    assert max(error(model, g) for g in kept) < 1e-10
    assert min(error(model, g) for g in range(48) if g not in kept) > 1e-6
    assert {len(layer.relaxed_weights[0]) for layer in model.modules() if hasattr(layer, "filters")} == {12}
    shown = relaxed_weights(model)
    cosets = right_cosets(WHOLE, point_group(CHANNEL))
    assert all(w.shape == (1, 48) and len(np.unique(w[0, cosets == 3])) == 1 for w in shown.values())


def test_every_step_is_seen_though_weights_are_spread_over_cosets():
    """No stale filter: without a gradient the expanded filters are kept, and a change makes them anew."""
    model = network(relaxed_to="C4v [001]").eval()
    coarse = torch.randn(1, 3, *GRID.shape, dtype=torch.float64)
    with torch.no_grad():
        before = model(coarse, GRID)
        assert torch.equal(model(coarse, GRID), before)
        model.lifting.relaxed_weights.add_(0.5)
        changed = model(coarse, GRID)
        assert not torch.allclose(changed, before)
        model.lifting.relaxed_weights.sub_(0.5)
        assert torch.allclose(model(coarse, GRID), before)


def test_relaxed_to_itself_is_strict_and_to_what_is_no_subgroup_refused():
    model = network(relaxed_to="Oh")
    assert max(error(model, g) for g in range(0, 48, 7)) < 1e-10
    with pytest.raises(FlowsrError) as refused:
        build_model("relaxed", Task(2), group="O", relaxed_to="Cs [010]")
    assert refused.value.variable == "relaxed_to"
    with pytest.raises(ValueError, match="relaxed_to"):
        build_model("strict", Task(2), group="Oh", relaxed_to="O")


def test_as_many_banks_as_elements_make_any_convolution():
    """The far end: with 48 filter banks and one weight of each for every element, any filter from 48 to 48 channels."""
    layer = GroupConv(WHOLE, 1, 1, kernel_size=1, filter_banks=48).double()
    wanted = torch.randn(48, 48, dtype=torch.float64)
    taps = tap_permutation(WHOLE, 1)
    with torch.no_grad():
        layer.relaxed_weights.copy_(torch.eye(48))
        for g in range(48):
            layer.filters[g, 0, 0, :, 0] = wanted[g, WHOLE.multiplication[g].tolist()]
    found = expand_group(layer.filters, layer.weights(), layer.tables)
    assert taps.shape == (48, 1) and torch.allclose(found[:, :, 0, 0, 0], wanted)


def test_matched_rates_move_weights_and_filters_by_the_same_share():
    model = build_model("relaxed", Task(2), group="Oh", channels=2, blocks=1, filter_banks=2)
    of = {id(p): group["lr"] for group in groups_by_fan_in(model, 1e-3, matched=True) for p in group["params"]}
    for layer in (model.lifting, *model.blocks[0].convolutions, model.projection):
        share = of[id(layer.filters)] / layer.deviation
        assert of[id(layer.relaxed_weights)] == pytest.approx(share)
        assert share == pytest.approx(1e-3 * REFERENCE_FAN_IN / layer.fan_in / layer.deviation)
    plain = {id(p): group["lr"] for group in groups_by_fan_in(model, 1e-3) for p in group["params"]}
    assert plain[id(model.lifting.relaxed_weights)] == 1e-3


def test_a_step_moves_the_filter_that_is_seen_as_far_whatever_the_number_of_banks():
    """Their gradients are one at the start, so that their steps add up: four banks at one bank's step die at once."""
    moved = []
    for banks in (1, 4, 48):
        torch.manual_seed(0)
        layer = GroupConv(WHOLE, 1, 1, filter_banks=banks).double()
        before = expand_group(layer.filters, layer.weights(), layer.tables).detach()
        groups = groups_by_fan_in(layer, 1e-3, matched=True)
        optimizer = torch.optim.Adam([group for group in groups if group["params"][0] is layer.filters])
        expand_group(layer.filters, layer.weights(), layer.tables).sum().backward()
        optimizer.step()
        moved.append(expand_group(layer.filters, layer.weights(), layer.tables).detach() - before)
    assert moved[0].abs().min() > 0
    torch.testing.assert_close(moved[1], moved[0])
    torch.testing.assert_close(moved[2], moved[0])


def test_breaking_power_by_irrep():
    model = network(spread=0.0)
    assert all(power.item() < 1e-25 for power in breaking_power(model).values())
    with torch.no_grad():
        model.lifting.relaxed_weights.mul_(0).add_(2 + torch.tensor(WHOLE.irrep("T1u").matrices[:, 0, 0]))
    found = breaking_power(model)
    assert found["T1u"].item() == pytest.approx(1 / 12)  # the mean square 1/3 of an entry over 2^2
    assert sum(power.item() for power in found.values()) == pytest.approx(1 / 12)
    found["T1u"].backward()
    assert float(model.lifting.relaxed_weights.grad.norm()) > 0


def test_wall_functions_are_equal_at_mirrored_places_and_cosines_of_the_angle():
    centers = tuple(1 - np.cos(np.pi * (np.arange(6) + 0.5) / 6))
    grid = Grid(
        (2, 6, 4), spacing=(1.0, 1 / 3, 1.0), boundary=("periodic", "wall", "periodic"), centers=(None, centers, None)
    )
    found = wall_functions(grid, 2)
    assert found.shape == (2, 1, 6, 1) and torch.allclose(found, found.flip(2))
    angle = np.pi * (np.arange(3) + 0.5) / 6
    assert np.allclose(found[:, 0, :3, 0], [np.cos(2 * angle), np.cos(4 * angle)])
    assert not wall_functions(Grid((2, 2, 2)), 1).any()


@pytest.mark.parametrize("name, options", [("strict", {}), ("relaxed", {"relaxed_to": CHANNEL})])
def test_weights_that_know_the_distance_to_a_wall_keep_what_the_walls_keep(name, options):
    torch.manual_seed(0)
    model = build_model(name, Task(2), group="Oh", channels=1, wall_functions=2, **options).double()
    coarse = torch.randn(1, 3, *GRID.shape, dtype=torch.float64)
    with torch.no_grad():
        model.projection.filters.normal_()
        before = model(coarse, GRID)
        for walls in model.walls:
            walls.weights.normal_()
        assert not torch.allclose(model(coarse, GRID), before)  # the weights do something
    kept = [WHOLE.index(m) for m in point_group(CHANNEL).matrices]
    assert max(error(model, g) for g in (range(48) if name == "strict" else kept)) < 1e-10
    if name == "relaxed":
        assert min(error(model, g) for g in range(48) if g not in kept) > 1e-6
    assert model.halo is None  # the distance is known in whole fields only


def test_penalty_and_matched_steps_reach_the_weights_of_wall_functions():
    model = network(spread=0.0, wall_functions=2)
    with torch.no_grad():
        model.walls[1].weights[0] = torch.tensor(WHOLE.irrep("T1u").matrices[:, 0, 0])
        model.walls[1].weights[1] = 2.0  # the same for all elements: nothing is broken by it
    found = breaking_power(model)
    # of 1 + a_1(g) cos(2t) + 2 cos(4t): the mean over g and t of a_1^2 cos^2 over that of the rest squared
    assert found["T1u"].item() == pytest.approx((1 / 3 / 2) / (1 + 4 / 2))
    assert sum(power.item() for power in found.values()) == pytest.approx(found["T1u"].item())
    found["T1u"].backward()
    assert float(model.walls[1].weights.grad[0].norm()) > 0
    rates = {id(p): group["lr"] for group in groups_by_fan_in(model, 0.1, matched=True) for p in group["params"]}
    for walls, maker in zip(model.walls, (model.lifting, model.blocks[0].convolutions[1]), strict=True):
        assert rates[id(walls.weights)] == rates[id(maker.relaxed_weights)] > 0.1


def test_wall_functions_are_refused_where_there_is_no_wall():
    model = build_model("strict", Task(2), group="Oh", channels=1, wall_functions=1)
    model.check_grid(GRID)
    with pytest.raises(ValueError, match=r"boxes with a wall, .*'open'"):
        model.check_grid(Grid((2, 3, 4), boundary=("periodic", "open", "periodic")))
