"""Steerable networks: exactly equivariant under all 48 elements, and no more of the direction than they are allowed."""

import math

import pytest
import torch
from e3nn.nn.models.v2104.voxel_convolution import Convolution
from e3nn.o3 import Irrep, Irreps, rand_matrix

from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import representation, transform_field, transform_grid
from flowsr.models import Task, build_model, steerable
from flowsr.models.budget import matching_width
from flowsr.models.steerable import InvariantGate, Lattice, SteerableConv, hidden_types
from tests.models.build import model_of

SIDES = (4, 5, 6)


def stirred(**options):
    torch.manual_seed(0)
    model = model_of("e3nn", **{"width": 2, "scale": 0.7, **options}).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def equivariance_error(model, grid):
    group = octahedral_group("Oh")
    components = Irreps(model.irreps_in).dim
    coarse = torch.randn(1, components, *grid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    worst = 0.0
    with torch.no_grad():
        fine = model(coarse, grid)
        correction = fine - build_model("trilinear", Task(model.factor))(model.target(coarse), grid)
        assert correction.norm() > 0.05 * fine.norm()  # it is not the interpolation that is tested
        for element in range(group.order):
            transformed = transform_field(coarse, element, model.irreps_in, group)
            expected = transform_field(fine, element, model.irreps, group)
            got = model(transformed, transform_grid(grid, element, group))
            worst = max(worst, float((got - expected).norm() / fine.norm()))
    return worst


@pytest.mark.parametrize("l_max", [0, 1, 2])
@pytest.mark.parametrize("factor", [2, 3])
def test_commutes_with_all_48_elements(l_max, factor):
    model = stirred(l_max=l_max, factor=factor)
    assert equivariance_error(model, Grid(SIDES)) <= 1e-10


@pytest.mark.parametrize("l_max", [0, 1, 2])
def test_unequal_cells_and_walls_too(l_max):
    grid = Grid(SIDES, spacing=(0.1, 0.13, 0.17), boundary=("wall", "periodic", "open"))
    assert equivariance_error(stirred(l_max=l_max), grid) <= 1e-10


@pytest.mark.parametrize("irreps", ["0e", "1e", "2e + 0e", "0o"])
def test_other_field_types_and_several_frames(irreps):
    assert equivariance_error(stirred(irreps=irreps, frames=2, l_max=2, blocks=1), Grid((3, 3, 4))) <= 1e-10


def test_cell_sizes_count():
    """A longer cell is seen from farther off: filters are functions of the distance, not of the cell's number."""
    model = stirred(l_max=1)
    coarse = torch.randn(1, 3, *SIDES, dtype=torch.float64)
    with torch.no_grad():
        cubes, bricks = (model(coarse, Grid(SIDES, spacing=(1.0, 1.0, d))) for d in (1.0, 1.4))
    assert (cubes - bricks).norm() > 0.01 * cubes.norm()
    with pytest.raises(ValueError, match="too long for filters of radius 2"):
        model(coarse, Grid(SIDES, spacing=(1.0, 1.0, 2.5)))
    wider = stirred(l_max=1, radius=3.0)
    assert wider.halo == 8 and torch.isfinite(wider(coarse, Grid(SIDES, spacing=(1.0, 1.0, 2.5)))).all()


@pytest.fixture
def double_precision():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def test_filters_are_steerable_under_every_rotation(monkeypatch, double_precision):
    """K(R r) = rho_out(R) K(r) rho_in(R)^-1 for a rotation that no grid has: the filter is asked at places moved."""
    layer = SteerableConv("2x0e + 1o", "0e + 2x1o + 1e + 2e", l_max=2, radius=2.0, radial=3, factor=2)
    rotation, upright = rand_matrix(), Lattice.displacements
    plain = layer.kernel()
    steerable.path_table.cache_clear()
    try:
        monkeypatch.setattr(Lattice, "displacements", lambda self: upright(self) @ rotation.T)
        transformed = layer.kernel()
    finally:
        steerable.path_table.cache_clear()
    plain, transformed = (kernel.detach().unflatten(0, (-1, 8)).flatten(-3) for kernel in (plain, transformed))
    out, into = (irreps.D_from_matrix(rotation) for irreps in (layer.irreps_out, layer.irreps_in))
    torch.testing.assert_close(transformed, torch.einsum("ab,bpct,dc->apdt", out, plain, into), rtol=0, atol=1e-12)
    assert (plain - transformed).norm() > 0.1 * plain.norm()


def test_filters_span_those_of_the_voxel_convolution_of_e3nn(double_precision):
    torch.manual_seed(0)
    theirs = Convolution("0e + 1o", "0e + 1o + 2e", Irreps.spherical_harmonics(2), diameter=3.9, num_radial_basis=4)
    wanted = theirs.kernel().detach().flatten()
    layer = SteerableConv("0e + 1o", "0e + 1o + 2e", l_max=2, radius=2.0, radial=3)
    columns = []
    with torch.no_grad():
        for weights in layer.weights:
            weights.zero_()
        for weights in layer.weights:
            for entry in range(weights.numel()):
                weights.view(-1)[entry] = 1.0
                columns.append(layer.kernel().flatten())
                weights.view(-1)[entry] = 0.0
    basis = torch.stack(columns, dim=1)
    assert torch.linalg.matrix_rank(basis) == basis.shape[1]  # no weight is idle, no two do the same
    nearest = basis @ torch.linalg.lstsq(basis, wanted).solution
    assert (nearest - wanted).norm() <= 1e-12 * wanted.norm()


def test_order_0_sees_distances_only():
    layer = SteerableConv("1o", "1o", l_max=0, radius=2.0, radial=3).double()
    kernel = layer.kernel().detach().reshape(3, 3, 27)
    distance = Lattice(2.0).displacements().norm(dim=-1)[0]
    for taps in (distance == r for r in distance.unique()):
        spread = kernel[..., taps] - kernel[..., taps][..., :1]
        assert spread.abs().max() < 1e-14
    isotropic = torch.eye(3, dtype=torch.float64)[..., None] * kernel[0, 0]
    torch.testing.assert_close(kernel, isotropic, rtol=0, atol=1e-14)


def test_order_0_carries_scalars_and_the_field_itself():
    assert hidden_types(Irreps("1o"), 0) == [Irrep("0e"), Irrep("1o")]
    assert hidden_types(Irreps("1o"), 1) == [Irrep("0e"), Irrep("0o"), Irrep("1e"), Irrep("1o")]
    assert {kind.l for kind in hidden_types(Irreps("1o"), 2)} == {0, 1, 2}
    assert {kind.l for kind in hidden_types(Irreps("2e"), 1)} == {0, 1, 2}


@pytest.mark.parametrize("l_max", [0, 1, 2])
def test_it_is_not_linear(l_max):
    model, grid = stirred(l_max=l_max), Grid(SIDES)
    a, b = torch.randn(2, 1, 3, *SIDES, dtype=torch.float64)
    with torch.no_grad():
        assert (model(a + b, grid) - model(a, grid) - model(b, grid)).norm() > 0.01 * model(a + b, grid).norm()


def test_gate_keeps_types():
    group = octahedral_group("Oh")
    gate = InvariantGate(Irreps("2x0e + 0o + 2x1o + 2e"), 3).double()
    assert str(gate.irreps_out) == "3x0e+1x0o+2x1o+1x2e"
    values = torch.randn(1, 14, 1, 1, 1, dtype=torch.float64)
    into, out = (representation(str(irreps), group) for irreps in (gate.irreps_in, gate.irreps_out))
    with torch.no_grad():
        for g in range(group.order):
            transformed = gate(torch.einsum("ab,nbxyz->naxyz", torch.tensor(into[g]), values))
            expected = torch.einsum("ab,nbxyz->naxyz", torch.tensor(out[g]), gate(values))
            torch.testing.assert_close(transformed, expected, rtol=0, atol=1e-13)


def test_every_output_starts_with_a_variance_of_one():
    torch.manual_seed(0)
    layer = SteerableConv("8x0e + 8x1o", "8x0e + 8x1o + 8x1e + 8x2e", l_max=2, radius=2.0, radial=3)
    out = layer(torch.randn(4, 32, 8, 8, 8), (1.0, 1.0, 1.0), ("periodic",) * 3)
    for part in layer.irreps_out.slices():
        assert 0.6 < out[:, part].var().item() < 1.5


@pytest.mark.parametrize("target", [8_000, 125_000])
def test_equal_parameters_for_every_order(target):
    for l_max in (0, 1, 2):
        build = lambda width, l_max=l_max: build_model("e3nn", Task(2), l_max=l_max, width=width)  # noqa: E731
        width = matching_width(build, target)
        assert math.isclose(build(width).parameter_count, target, rel_tol=0.1 if target > 10_000 else 0.35)


def test_tables_survive_inference_mode():
    steerable.path_table.cache_clear()
    model = build_model("e3nn", Task(2), width=1, blocks=1)
    coarse = torch.randn(1, 3, 3, 3, 3)
    with torch.inference_mode():
        model(coarse, Grid((3, 3, 3), spacing=(1.0, 1.1, 1.2)))
    model(coarse, Grid((3, 3, 3), spacing=(1.0, 1.1, 1.2))).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_displacements_are_those_of_the_cell_centres(factor):
    """Cell minus part, both where the coarse grid and its refinement have their centres."""
    steps = (1.0, 1.2, 1.5)
    coarse = Grid((5, 5, 5), spacing=steps)
    lattice = Lattice(2.0, factor, steps)
    centers, parts = coarse.coordinates(), coarse.refined(factor).coordinates()
    places = torch.cartesian_prod(*(torch.from_numpy(axis[2 * factor : 3 * factor]) for axis in parts))
    cells = torch.cartesian_prod(
        *(torch.from_numpy(axis[2 - reach : 3 + reach]) for axis, reach in zip(centers, lattice.reach))
    )
    expected = cells[None] - places[:, None]
    torch.testing.assert_close(lattice.displacements(), expected, rtol=0, atol=1e-12)
    for axis, step in enumerate(steps):  # beyond the reach no cell is near enough
        beyond = (lattice.reach[axis] + 1) * step - (1 - 1 / factor) / 2 * step
        assert beyond >= 2.0 - 1e-9


def test_a_part_hears_most_of_the_cells_it_is_near_to():
    """A filter that falls with the distance carries a bump in one coarse cell to the nearest fine cells."""
    layer = SteerableConv("0e", "0e", l_max=0, radius=1.5, radial=3, factor=2).double()
    with torch.no_grad():
        layer.weights[0].copy_(torch.tensor([3.0, 1.0, 0.1]).view(3, 1, 1))
        bump = torch.zeros(1, 1, 5, 5, 5, dtype=torch.float64)
        bump[0, 0, 2, 2, 2] = 1.0
        fine = layer(bump, (1.0, 1.0, 1.0), ("wall",) * 3)[0, 0, :, 4, 4]
    assert fine.argmax() in (4, 5) and fine[4] == pytest.approx(fine[5].item())
    assert fine[3] == pytest.approx(fine[6].item()) and fine[3] > fine[2] >= 0 and fine[4] > fine[3]
