"""The action on fields, features, taps and sub-voxels, all 48 elements, boxes with unequal sides."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.group import (
    axis_action,
    fields,
    octahedral_group,
    representation,
    subvoxel_permutation,
    tap_permutation,
    transform_field,
    transform_grid,
    transform_regular,
    transform_scalar,
)

bounded = settings(deadline=None, max_examples=25)  # no deadline: the first example imports e3nn
elements = st.integers(0, 47)
sides = st.tuples(*[st.integers(1, 4)] * 3)


def number(group, label):
    return next(g for g, operation in enumerate(group.operations) if operation.label == label)


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def positions(grid):
    """(3, x, y, z): cell centres relative to the centre of the box, as a vector field."""
    centred = [c - o - length / 2 for c, o, length in zip(grid.coordinates(), grid.origin, grid.lengths)]
    return torch.from_numpy(np.stack(np.meshgrid(*centred, indexing="ij")))


# --- the convention, with a picture in words -----------------------------------------------------------------------


def test_picture_first_array_axis_is_x_and_first_component_is_u(full_group):
    """A wind tunnel, 6 cells long in x, 4 wide in y, 2 high in z. One gust in the corner cell at the inlet, on the
    right, on the floor - (x, y, z) = (0, 0, 0) - blows downstream: u = 5, v = w = 0. Now turn the tunnel by a quarter
    about the vertical, so that what pointed along +x points along +y: the tunnel is then 4 cells in x and 6 in y. Seen
    from above, the corner that was at low x and low y is now at *high* x and low y; the gust blows along +y: v = 5.
    """
    tunnel = torch.zeros(3, 6, 4, 2)
    tunnel[0, 0, 0, 0] = 5.0
    turned = transform_field(tunnel, number(full_group, "C4+[001]"), "1o", full_group)
    assert turned.shape == (3, 4, 6, 2)
    assert turned.nonzero().tolist() == [[1, 3, 0, 0]]
    assert turned[1, 3, 0, 0] == 5.0


def test_picture_mirror(full_group):
    """Mirror the tunnel along x. The gust at the inlet appears at the outlet and blows back: u = -5. A whirl about the
    vertical turns the other way round in the mirror; one about the tunnel's axis does not.
    """
    mirror = number(full_group, "sigma_h[100]")
    tunnel = torch.zeros(3, 6, 4, 2)
    tunnel[0, 0, 0, 0] = 5.0
    assert transform_field(tunnel, mirror, "1o", full_group)[:, 5, 0, 0].tolist() == [-5.0, 0.0, 0.0]
    vorticity = torch.tensor([1.0, 2.0, 3.0]).reshape(3, 1, 1, 1)
    assert transform_field(vorticity, mirror, "1e", full_group).flatten().tolist() == [1.0, -2.0, -3.0]


def test_arrows_that_point_away_from_the_centre_always_do(full_group):
    """The field v(x) = x - centre is the same for every observer; any mix-up of axes or components breaks that."""
    grid = Grid((2, 3, 4), (0.5, 0.25, 1.0), origin=(1.0, -2.0, 0.5))
    for g in range(full_group.order):
        turned_grid = transform_grid(grid, g, full_group)
        assert torch.equal(transform_field(positions(grid), g, "1o", full_group), positions(turned_grid))


# --- field types -----------------------------------------------------------------------------------------------------


def test_vectors_axial_vectors_and_pseudoscalars_are_exact(group):
    determinant = np.array([o.determinant for o in group.operations])
    assert np.array_equal(representation("1o", group), group.matrices)
    assert np.array_equal(representation("1e", group), determinant[:, None, None] * group.matrices)
    assert np.array_equal(representation("0e", group), np.ones((group.order, 1, 1)))
    assert np.array_equal(representation("0o", group), determinant[:, None, None].astype(float))


@pytest.mark.parametrize("irreps", ["1o", "2e", "3o", "4e"])
def test_representation_turns_spherical_harmonics(full_group, irreps):
    """Y(R x) = D(R) Y(x), improper R included: the matrices belong to e3nn's own component order."""
    from e3nn.o3 import spherical_harmonics

    points = random(5, 3)
    values = spherical_harmonics(irreps, points, normalize=True)
    for matrix, d in zip(full_group.matrices, representation(irreps, full_group)):
        moved = spherical_harmonics(irreps, points @ torch.tensor(matrix.T, dtype=torch.float64), normalize=True)
        assert torch.allclose(moved, values @ torch.tensor(d.T), atol=1e-12, rtol=0)


def test_components_of_a_symmetric_tensor_are_ordered_as_documented(full_group):
    def components(s):
        polar = (2 * s[1, 1] - s[0, 0] - s[2, 2]) / 12**0.5
        return np.array([s[0, 2], s[0, 1], polar, s[1, 2], (s[2, 2] - s[0, 0]) / 2])

    a = random(3, 3).numpy()
    strain = a + a.T - 2 * np.trace(a) / 3 * np.eye(3)
    for r, d in zip(full_group.matrices, representation("2e", full_group)):
        assert np.allclose(components(r @ strain @ r.T), d @ components(strain), atol=1e-12, rtol=0)


def test_representation_leaves_no_trace_in_torch_and_is_read_only(full_group):
    torch.set_default_dtype(torch.float32)
    d = representation.__wrapped__("1o + 2e", full_group)
    with pytest.raises(FlowsrError):
        representation.__wrapped__("nonsense", full_group)
    assert torch.get_default_dtype() == torch.float32 and d.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        d[0, 0, 0] = 2


def test_another_component_order_in_e3nn_would_be_noticed(full_group, monkeypatch):
    class Reordered:
        def D_from_matrix(self, matrices):
            return matrices[:, [1, 2, 0]][:, :, [1, 2, 0]]

    monkeypatch.setattr(fields, "_parsed", lambda irreps: Reordered())
    with pytest.raises(RuntimeError, match="x, y, z"):
        representation.__wrapped__("1o", full_group)


@pytest.mark.parametrize("irreps", ["", "velocity", "1", "0x1o", "1o 2e", "1o+"])
def test_unreadable_field_types(full_group, irreps):
    with pytest.raises(FlowsrError, match="e3nn irreps") as caught:
        representation(irreps, full_group)
    assert repr(irreps) in str(caught.value) and "\n" not in str(caught.value)


# --- the action ------------------------------------------------------------------------------------------------------


def test_transform_field_voxel_by_voxel(full_group):
    """(g.v)(R x) = R v(x), written as a loop over voxels with coordinates about the centre."""
    shape = np.array([2, 3, 4])
    field = random(3, *shape)
    for g, r in enumerate(full_group.matrices):
        moved_shape = np.abs(r) @ shape
        turn = torch.tensor(r, dtype=torch.float64)
        expected = torch.empty(3, *moved_shape, dtype=torch.float64)
        for voxel in np.ndindex(*shape):
            doubled = r @ (2 * np.array(voxel) - (shape - 1))
            target = tuple((doubled + moved_shape - 1) // 2)
            expected[(slice(None), *target)] = turn @ field[(slice(None), *voxel)]
        assert torch.equal(transform_field(field, g, "1o", full_group), expected)


@bounded
@given(g=elements, h=elements, shape=sides)
def test_action_of_a_product_is_the_product_of_actions(g, h, shape):
    group = octahedral_group("Oh")
    gh = int(group.multiplication[g, h])
    irreps = "0o + 1o + 1e"
    field = random(2, 7, *shape)
    twice = transform_field(transform_field(field, h, irreps, group), g, irreps, group)
    assert torch.equal(twice, transform_field(field, gh, irreps, group))
    features = random(2, 3, 48, *shape)
    twice = transform_regular(transform_regular(features, h, group), g, group)
    assert torch.equal(twice, transform_regular(features, gh, group))
    grid = Grid(shape, (1.0, 2.0, 3.0), ("periodic", "wall", "open"), (4.0, 5.0, 6.0))
    assert transform_grid(transform_grid(grid, h, group), g, group) == transform_grid(grid, gh, group)


@bounded
@given(g=elements, h=elements, irreps=st.sampled_from(["2e", "0e + 2o", "3o + 1e", "4e"]), shape=sides)
def test_action_on_higher_degrees(g, h, irreps, shape):
    group = octahedral_group("Oh")
    field = random(representation(irreps, group).shape[1], *shape)
    twice = transform_field(transform_field(field, h, irreps, group), g, irreps, group)
    assert torch.allclose(twice, transform_field(field, int(group.multiplication[g, h]), irreps, group), atol=1e-12)


def test_action_commutes_with_curl(full_group):
    """The curl of a vector field (1o) is an axial one (1e), on a periodic box with unequal sides and spacings."""

    def curl(v, spacing):
        d = [[(v[i].roll(-1, j) - v[i].roll(1, j)) / (2 * spacing[j]) for j in range(3)] for i in range(3)]
        return torch.stack([d[2][1] - d[1][2], d[0][2] - d[2][0], d[1][0] - d[0][1]])

    grid = Grid((4, 5, 6), (0.5, 0.3, 0.7))
    velocity = random(3, *grid.shape)
    for g in range(full_group.order):
        spacing = transform_grid(grid, g, full_group).spacing
        after = transform_field(curl(velocity, grid.spacing), g, "1e", full_group)
        before = curl(transform_field(velocity, g, "1o", full_group), spacing)
        assert torch.allclose(after, before, atol=1e-13, rtol=0)


def test_identity_changes_nothing(group):
    field = random(2, 3, 2, 3, 4)
    assert torch.equal(transform_field(field, 0, "1o", group), field)


@pytest.mark.parametrize("lead", [(), (2,), (2, 5)])
def test_any_leading_dimensions(full_group, lead):
    field, features = random(*lead, 3, 2, 3, 4), random(*lead, 48, 2, 3, 4)
    g = number(full_group, "S6+[111]")
    for tensor, action in (
        (field, lambda t: transform_field(t, g, "1o", full_group)),
        (features, lambda t: transform_regular(t, g, full_group)),
    ):
        flat = tensor.reshape(-1, *tensor.shape[len(lead) :])
        one_by_one = torch.stack([action(t) for t in flat])
        assert torch.equal(action(tensor), one_by_one.reshape(*lead, *one_by_one.shape[1:]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32])
def test_dtype_is_kept(full_group, dtype):
    field = torch.arange(3 * 24).reshape(3, 2, 3, 4).to(dtype)
    g = number(full_group, "C3-[111]")
    assert transform_field(field, g, "1e", full_group).dtype == dtype
    assert transform_regular(torch.ones(48, 2, 2, 2).to(dtype), g, full_group).dtype == dtype


def test_nan_stays_in_its_component(full_group):
    field = torch.ones(3, 2, 2, 2)
    field[0] = torch.nan
    turned = transform_field(field, number(full_group, "C4+[001]"), "1o", full_group)
    assert turned.isnan().flatten(1).all(1).tolist() == [False, True, False]


def test_backward_is_the_action_of_the_inverse(full_group):
    for g in range(0, full_group.order, 5):
        inverse = int(full_group.inverse[g])
        for shape, action in (
            ((3, 2, 3, 4), lambda t, e: transform_field(t, e, "1o", full_group)),
            ((48, 2, 3, 4), lambda t, e: transform_regular(t, e, full_group)),
        ):
            tensor = random(*shape).requires_grad_()
            moved = action(tensor, g)
            cotangent = random(*moved.shape, seed=1)
            (gradient,) = torch.autograd.grad(moved, tensor, cotangent)
            assert torch.equal(gradient, action(cotangent, inverse))


def test_regular_features_voxel_by_voxel(group):
    features = random(group.order, 2, 2, 2)
    corners = {voxel: 2 * np.array(voxel) - 1 for voxel in np.ndindex(2, 2, 2)}
    for g in range(0, group.order, 3):
        moved = transform_regular(features, g, group)
        for voxel, position in corners.items():
            source = tuple((group.matrices[g].T @ position + 1) // 2)
            for h in range(group.order):
                assert moved[(h, *voxel)] == features[(group.left_quotient[g, h], *source)]


def test_wrong_number_of_components_or_elements(full_group):
    with pytest.raises(ValueError, match="1o have 3 components, the field has 4"):
        transform_field(torch.zeros(4, 2, 2, 2), 1, "1o", full_group)
    with pytest.raises(ValueError, match="48 elements, the features have 24"):
        transform_regular(torch.zeros(24, 2, 2, 2), 1, full_group)


def test_axis_action_is_permute_then_flip(group):
    array = random(2, 3, 4)
    for g in range(group.order):
        source, flipped = axis_action(g, group)
        assert torch.equal(array.permute(source).flip(flipped), transform_scalar(array, g, group))


def test_grid_sides_spacings_and_boundaries_go_along(full_group):
    grid = Grid((2, 3, 4), (0.1, 0.2, 0.3), ("periodic", "wall", "open"), (0.1, 0.7, -0.3))
    turned = transform_grid(grid, number(full_group, "C4+[001]"), full_group)
    assert turned.shape == (3, 2, 4) and turned.spacing == (0.2, 0.1, 0.3)
    assert turned.boundary == ("wall", "periodic", "open")
    assert transform_grid(grid, 0, full_group) == grid
    centres = [[o + length / 2 for o, length in zip(g.origin, g.lengths)] for g in (grid, turned)]
    assert centres[0] == pytest.approx(centres[1])


# --- taps and sub-voxels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 5])
def test_taps_move_as_offsets_do(group, size):
    offsets = np.array(list(np.ndindex(size, size, size))) - size // 2
    taps = tap_permutation(group, size)
    assert taps.shape == (group.order, size**3) and taps.dtype == np.int64
    for g, r in enumerate(group.matrices):
        assert np.array_equal(offsets[taps[g]], offsets @ r)  # rows y -> g^-1 y = R^T y


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_subvoxels_compose_and_agree_with_the_action_on_a_cube(group, factor):
    parts = subvoxel_permutation(group, factor)
    cube = random(factor, factor, factor)
    for g in range(group.order):
        assert torch.equal(cube.flatten()[torch.tensor(parts[g])], transform_scalar(cube, g, group).flatten())
        for h in range(group.order):
            assert np.array_equal(parts[group.multiplication[g, h]], parts[h][parts[g]])


@pytest.mark.parametrize("factor", [2, 3])
def test_a_fine_field_turns_as_its_cells_and_their_parts_do(full_group, factor):
    """Parts (p, x, y, z) interleaved to a fine array: turning that is turning cells and, within each, its parts."""

    def interleave(parts):
        s, (nx, ny, nz) = factor, parts.shape[1:]
        return parts.reshape(s, s, s, nx, ny, nz).permute(3, 0, 4, 1, 5, 2).reshape(s * nx, s * ny, s * nz)

    parts = random(factor**3, 2, 3, 4)
    table = subvoxel_permutation(full_group, factor)
    for g in range(full_group.order):
        moved = transform_scalar(parts, g, full_group)[torch.tensor(table[g])]
        assert torch.equal(interleave(moved), transform_scalar(interleave(parts), g, full_group))


def test_sizes_that_make_no_sense(group):
    for size in (0, 2, -1):
        with pytest.raises(ValueError, match="odd"):
            tap_permutation(group, size)
    with pytest.raises(ValueError, match="at least 1"):
        subvoxel_permutation(group, 0)


# --- importing -------------------------------------------------------------------------------------------------------


def test_import_is_light():
    """A GPU node has none of these; e3nn takes seconds and is imported when a field type is first asked for."""
    heavy = ("e3nn", "zarr", "dask", "prefect", "pydantic")
    code = f"import flowsr.group, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_torch_s_decorators_say_is_said_without_its_compiler():
    from flowsr.group.o3 import _skipped_when_traced
    from flowsr.kernels.conv3d import constant_when_traced

    def one(x):
        return x + 1

    def other(x):
        return x + 1

    assert constant_when_traced(one).__dict__ == torch.compiler.assume_constant_result(other).__dict__ != {}
    skipped, seen = _skipped_when_traced(other), []

    def backend(graph, _):
        seen.extend(node.target.__name__ for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    def between(x):
        y = skipped(2 * x)
        return y * 3

    torch._dynamo.reset()
    assert torch.compile(between, backend=backend)(torch.ones(1)).item() == 9
    assert "mul" in seen and "add" not in seen
