"""Networks on each of the 98 subgroups of O_h: exact under its elements, and under no other."""

import pytest
import torch

from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.group import octahedral_group, point_group, transform_field, transform_grid
from flowsr.models import Task, build_model

WHOLE = octahedral_group("Oh")
LABELS = [subgroup.label for subgroup in WHOLE.subgroups if subgroup.label not in ("O", "Oh")]  # those: test_networks
GRID = Grid((2, 3, 4), boundary=("periodic", "wall", "open"))


def network(label, name="relaxed", irreps="1o", **options):
    torch.manual_seed(0)
    model = build_model(name, Task(2, irreps), group=label, channels=1, blocks=1, **options).double()
    with torch.no_grad():
        for layer in model.modules():
            if hasattr(layer, "filters"):
                layer.filters.normal_(std=0.3)
    return model.requires_grad_(False)


def error(model, group, element):
    coarse = torch.randn(
        1, model.components, *GRID.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    expected = transform_field(model(coarse, GRID), element, model.irreps, group)
    found = model(transform_field(coarse, element, model.irreps, group), transform_grid(GRID, element, group))
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("label", LABELS)
def test_exact_under_its_elements_and_under_no_other(label):
    model = network(label, irreps="1o" if len(label) % 2 else "0e + 1o")
    assert max(error(model, model.group, g) for g in range(model.group.order)) < 1e-10
    outside = next(g for g in range(48) if not (model.group.matrices == WHOLE.matrices[g]).all((1, 2)).any())
    assert error(model, WHOLE, outside) > 1e-3


def test_early_up_sampling_on_a_subgroup():
    model = build_model("paper_strict", Task(2), group="C2v(100;100)[100]", channels=1).double().requires_grad_(False)
    model.tail.filters.normal_(generator=torch.Generator().manual_seed(2))
    assert max(error(model, model.group, g) for g in range(4)) < 1e-10


def test_an_unknown_group_is_refused():
    with pytest.raises(FlowsrError) as refused:
        network("C5v")
    assert refused.value.variable == "group"


def test_a_group_of_one_element_is_an_ordinary_network():
    model = network("C1")
    assert model.lifting.filters.numel() == 3 * 27 and point_group("C1").order == 1
