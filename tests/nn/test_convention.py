"""Which array axis is x, which component is u, which way a rotation turns: pinned on a picture small enough to draw.

A still box, and in one cell, far along x, a velocity that points along x:

        y
        |                  the box seen from +z, x to the right, y up;
        . . . . .          the cell "->" is at x = 4, y = 1 (its array index [4, 1, 0]),
        . . . . .          its velocity is u = 1, v = w = 0
        . . . . ->
        . . . . .   -- x

A quarter turn about z, counter-clockwise seen from +z, takes the x axis to the y axis. The cell goes up along y, and
the arrow turns with it: now v = 1.
"""

import numpy as np
import torch

from flowsr.group.fields import representation, transform_field
from flowsr.nn import LiftingConv, Projection
from tests.nn.fields import group_of

QUARTER_TURN_ABOUT_Z = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])  # x -> y, y -> -x


def test_e3nn_orders_a_vector_like_the_axes():
    group = group_of("Oh")
    assert np.array_equal(representation("1o", group), group.matrices)


def test_a_quarter_turn_moves_the_cell_and_turns_the_arrow():
    group = group_of("O")
    field = torch.zeros(1, 3, 5, 4, 1)
    field[0, 0, 4, 1, 0] = 1
    transformed = transform_field(field, group.index(QUARTER_TURN_ABOUT_Z), "1o", group)
    assert transformed.shape == (1, 3, 4, 5, 1)
    # x is now -y of before: index 1 of 4 becomes index 2 of 4; y is x of before: index 4 of 5.
    assert transformed.nonzero().tolist() == [[0, 1, 2, 4, 0]] and float(transformed.sum()) == 1


def test_the_lifting_filter_of_g_is_the_filter_turned_by_g():
    """A filter that looks one cell ahead along x and reads u, in the copy of g looks along g x, at that component."""
    group = group_of("O")
    layer = LiftingConv(group, "1o", 1, 1, bias=False)
    ahead_along_x = 2 * 9 + 1 * 3 + 1  # tap (1, 0, 0) in C order over (y_x, y_y, y_z)
    with torch.no_grad():
        layer.filters.zero_()
        layer.filters[0, 0, 0, 0, ahead_along_x] = 1
        field = torch.zeros(1, 3, 5, 5, 5)
        field[0, 1, 2, 3, 2] = 1  # v = 1 one cell along y from the centre
        response = layer(field)[0, 0]
    turn = group.index(QUARTER_TURN_ABOUT_Z)
    assert float(response[turn, 2, 2, 2]) == 1
    assert float(response[0].abs().sum()) == 0
    seeing = {g for g in range(group.order) if float(response[g, 2, 2, 2]) != 0}
    assert seeing == {g for g in range(group.order) if tuple(group.matrices[g] @ [1, 0, 0]) == (0, 1, 0)}


def test_the_projection_writes_sub_voxels_where_the_group_takes_them():
    """A filter that fills the sub-cell far along x with u, in the term of g fills the one along g x, with that one."""
    group = group_of("O")
    layer = Projection(group, 1, "1o", kernel_size=1, upsample=3)
    far_along_x = 2 * 9 + 1 * 3 + 1  # sub-position (2, 1, 1) of 3^3
    with torch.no_grad():
        layer.filters.zero_()
        layer.filters[0, 0, far_along_x, 0, 0] = 1
        features = torch.zeros(1, 1, group.order, 1, 1, 1)
        features[0, 0, group.index(QUARTER_TURN_ABOUT_Z)] = group.order
        field = layer(features)
    assert field.nonzero().tolist() == [[0, 1, 1, 2, 1]] and float(field.sum()) == 1
