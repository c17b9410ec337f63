"""Axes whose cells differ in size: the grid, its file, what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsr.data import field_template, grid_of, open_field, write_hdf5
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import axis_action
from tests.data.fields import random_field, store_field

OH = octahedral_group("Oh")


def chebyshev(n):
    """Gauss points of [-1, 1], as a channel code has them."""
    return tuple(-np.cos(np.pi * (np.arange(n) + 0.5) / n))


def channel(shape=(6, 8, 4), centers=None):
    sides = (3.0, 2.0, 1.0)
    return Grid(
        shape,
        tuple(s / n for s, n in zip(sides, shape)),
        ("periodic", "wall", "periodic"),
        (0.0, -1.0, 0.0),
        (None, centers or chebyshev(shape[1]), None),
    )


def test_faces_are_half_way_between_centers_and_at_the_walls():
    grid = Grid((2, 4, 2), (1.0, 1.0, 1.0), ("open", "wall", "open"), centers=(None, (0.25, 1.0, 2.0, 3.5), None))
    np.testing.assert_allclose(grid.faces()[1], [0, 0.625, 1.5, 2.75, 4])
    np.testing.assert_allclose(grid.widths()[1], [0.625, 0.875, 1.25, 1.25])
    np.testing.assert_allclose(grid.faces()[0], [0, 1, 2])
    assert grid.lengths == (2, 4, 2) and grid.stretched == (False, True, False)
    np.testing.assert_allclose(grid.coordinates()[1], [0.25, 1.0, 2.0, 3.5])


def test_a_center_may_lie_on_the_wall():
    grid = Grid((2, 3, 2), boundary=("wall",) * 3, centers=(None, (0.0, 1.0, 3.0), None))
    np.testing.assert_allclose(grid.widths()[1], [0.5, 1.5, 1.0])


def test_equal_steps_are_no_stretching_and_grids_hash():
    centers = tuple((np.arange(4) + 0.5) * 0.1)
    plain = Grid((4, 4, 4), (0.1,) * 3, ("wall",) * 3)
    assert Grid((4, 4, 4), (0.1,) * 3, ("wall",) * 3, centers=(centers,) * 3) == plain
    assert hash(channel()) == hash(channel()) and channel() != Grid((6, 8, 4), channel().spacing)
    assert len({channel(), channel(), plain}) == 2


@pytest.mark.parametrize(
    "centers",
    [
        (0.1, 0.5, 0.4, 0.8),
        (0.1, 0.5, 0.5, 0.8),
        (-0.1, 0.2, 0.5, 0.8),
        (0.1, 0.5, 0.8, 1.2),
        (0.1, 0.5, 0.8),
        (0.1, np.nan, 0.8, 0.9),
    ],
)
def test_centers_that_no_box_has(centers):
    with pytest.raises(ValueError):
        Grid((4, 4, 4), (0.25,) * 3, ("wall",) * 3, centers=(None, centers, None))


def test_a_periodic_axis_has_equal_steps():
    with pytest.raises(ValueError, match="periodic axis"):
        Grid((4, 4, 4), (0.25,) * 3, centers=(None, (0.1, 0.5, 0.8, 0.9), None))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(0.05, 1.0), min_size=4, max_size=12).filter(lambda steps: len(steps) % 2 == 0), st.integers(1, 4)
)
def test_splitting_and_merging_cells_keeps_the_faces(steps, factor):
    n = len(steps)
    centers = tuple(np.cumsum(steps))
    side = centers[-1] + 0.1
    grid = Grid((4, n, 2), (1.0, side / n, 1.0), ("wall",) * 3, centers=(None, centers, None))
    fine = grid.refined((1, factor, 2))
    assert fine.shape == (4, n * factor, 4)
    np.testing.assert_allclose(fine.lengths, grid.lengths)
    parts = fine.coordinates()[1].reshape(n, factor)
    faces = grid.faces()[1]
    assert np.all(parts > faces[:-1, None]) and np.all(parts < faces[1:, None])
    np.testing.assert_allclose(parts.mean(axis=1), (faces[1:] + faces[:-1]) / 2)
    coarse = grid.coarsened((2, 2, 1))
    assert coarse.shape == (2, n // 2, 2) and coarse.spacing[1] == pytest.approx(2 * grid.spacing[1])
    centers, widths = grid.coordinates()[1].reshape(-1, 2), grid.widths()[1].reshape(-1, 2)
    np.testing.assert_allclose(coarse.coordinates()[1], (centers * widths).sum(1) / widths.sum(1))
    np.testing.assert_allclose(coarse.widths()[1].sum(), side)


def test_turning_moves_the_centers_with_the_axis():
    grid = Grid((4, 6, 2), (0.5, 0.5, 0.5), ("wall", "wall", "open"), centers=(None, (0.1, 0.4, 1, 1.5, 2, 2.5), None))
    for element in range(OH.order):
        source, flipped = axis_action(element, OH)
        transformed = grid.transformed(source, flipped)
        new = source.index(1)
        want = grid.widths()[1][::-1] if new in flipped else grid.widths()[1]
        np.testing.assert_allclose(transformed.widths()[new], want, atol=1e-12)
        assert transformed.shape == tuple(grid.shape[axis] for axis in source)
        middle = np.add(grid.origin, grid.lengths) / 2
        np.testing.assert_allclose(np.add(transformed.origin, np.array(transformed.lengths) / 2)[new], middle[new])


@pytest.mark.parametrize("keep", ["zarr", "hdf5"])
def test_a_stretched_field_comes_back_with_its_grid(tmp_path, keep):
    grid = channel()
    fine = random_field(grid, [0.0, 1.0])
    path = store_field(fine, tmp_path / "a.zarr") if keep == "zarr" else write_hdf5(fine, tmp_path / "a.h5")
    found = grid_of(open_field(path))
    assert found.shape == grid.shape and found.stretched == grid.stretched and found.boundary == grid.boundary
    np.testing.assert_allclose(found.widths()[1], grid.widths()[1], rtol=1e-12)
    np.testing.assert_allclose(found.spacing, grid.spacing, rtol=1e-12)


def test_where_the_file_is_silent_the_box_ends_half_a_step_beyond_the_centers():
    dataset = field_template(channel(), [0.0])
    del dataset["y"].attrs["extent"]
    y = np.array(chebyshev(8))
    grid = grid_of(dataset)
    np.testing.assert_allclose(grid.faces()[1][[0, -1]], [1.5 * y[0] - 0.5 * y[1], 1.5 * y[-1] - 0.5 * y[-2]])


@pytest.mark.parametrize("extent", ["wide", [0.0], [-0.5, 1.0], [1.0, -1.0], [np.nan, 1.0]])
def test_an_extent_that_does_not_hold_the_cells(extent):
    dataset = field_template(channel(), [0.0])
    dataset["y"].attrs["extent"] = extent
    with pytest.raises(FlowsrError, match=r"variable: y.extent"):
        grid_of(dataset)
