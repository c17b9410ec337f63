"""The octahedral groups O and O_h, and how they act on fields.

**Why this group.** Turbulence far from walls looks the same whichever way the camera is turned. A grid of cubes does
not: of all rotations and reflections only those 48 that map the cube to itself move every cell onto a cell. They are
the 3 x 3 matrices with one +1 or -1 in each row and column, and form the group O_h. The 24 of them with determinant +1
are rotations and form O. The matrix R sends the point x to R x; ``G.multiplication[g, h]`` is "first h, then g".

>>> from flowsr.group import octahedral_group
>>> G = octahedral_group("Oh")
>>> G.order, G.operations[0].label
(48, 'E')
>>> quarter_turn = G.index([[0, -1, 0], [1, 0, 0], [0, 0, 1]])  # x -> y -> -x: a right-handed turn about z
>>> G.operations[quarter_turn].label
'C4+[001]'
>>> G.operations[G.multiplication[quarter_turn, quarter_turn]].label
'C2[001]'

**Acting on a field.** A velocity field is turned by moving the arrows and turning each of them:
(g.v)(x) = rho(g) v(g^-1 x). What rho is, the type of the field says, an e3nn irreps string: ``0e`` a scalar (rho = 1),
``1o`` a vector (rho = R), ``1e`` an axial vector such as vorticity (rho = det(R) R), ``2e`` a traceless symmetric
tensor. On arrays (..., component, x, y, z) scalars and vectors turn exactly: entries are reordered, signs changed.
Below, a uniform stream along +x through a box of 2 x 3 x 4 cells becomes, after the quarter turn about z, a stream
along +y through a box of 3 x 2 x 4 cells.

>>> import torch
>>> from flowsr.group import transform_field
>>> stream = torch.zeros(3, 2, 3, 4)
>>> stream[0] = 1.0
>>> turned = transform_field(stream, quarter_turn, "1o", G)
>>> tuple(turned.shape), turned[:, 0, 0, 0].int().tolist()
((3, 3, 2, 4), [0, 1, 0])

**Measuring a symmetry.** An operation M respects the group when turning before it and after it give the same:
M(g.v) = g.M(v) for every g. The mean over 2 x 2 x 2 cells does; taking every second cell does not, because on an even
grid a flip moves the cells it keeps.

>>> def error(operation, velocity):
...     expected = [transform_field(operation(velocity), g, "1o", G) for g in range(G.order)]
...     found = [operation(transform_field(velocity, g, "1o", G)) for g in range(G.order)]
...     return max(float((a - b).norm() / b.norm()) for a, b in zip(found, expected))
>>> velocity = torch.randn(1, 3, 4, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
>>> error(lambda v: torch.nn.functional.avg_pool3d(v, 2), velocity) < 1e-14
True
>>> error(lambda v: v[..., ::2, ::2, ::2], velocity) > 1
True

**Classes and irreps.** Elements that differ only by the choice of axes form a conjugacy class. Every way the group can
act linearly on numbers is a sum of a few irreducible ones, as many as there are classes. A field type of the full
rotation group, restricted to O_h, is such a sum; for a symmetric traceless tensor the diagonal and the off-diagonal
entries never mix:

>>> G.class_names
('E', '8C3', '6C2', '6C4', '3C2', 'i', '6S4', '8S6', '3sigma_h', '6sigma_d')
>>> [irrep.name for irrep in G.irreps]
['A1g', 'A2g', 'Eg', 'T1g', 'T2g', 'A1u', 'A2u', 'Eu', 'T1u', 'T2u']
>>> from flowsr.group import restrict
>>> str(restrict("1o", G)), str(restrict("2e", G))
('T1u', 'Eg + T2g')

**The Fourier transform** writes a function on the group in terms of irreps: ``G.fourier`` is the orthogonal matrix with
rows sqrt(d/n) rho_ij. In that basis a convolution over the group is one small matrix product per irrep.

>>> bool(torch.allclose(torch.tensor(G.fourier) @ torch.tensor(G.fourier).T, torch.eye(48, dtype=torch.float64)))
True

**Subgroups.** A flow that has a special direction keeps only the elements that leave it as it is. A mean wind along z
(a vector) leaves C4v, rotation about z (an axial vector) leaves C4h. Every one of the 98 subgroups has a Schoenflies
name and, where one axis stands out, that axis.

>>> G.stabilizer("T1u", [0, 0, 1]).label, G.stabilizer("T1g", [0, 0, 1]).label
('C4v [001]', 'C4h [001]')
>>> len(G.subgroups), len(G.subgroup_classes)
(98, 33)

Nothing here is a typed-in table: products, classes, irreps, subgroups and their names are computed from the matrices,
and checked against character theory and e3nn in the tests.
"""

from flowsr.group.decomposition import Decomposition, decompose, multiplicities, restrict, split_by_irrep
from flowsr.group.fields import (
    axis_action,
    representation,
    subvoxel_permutation,
    tap_permutation,
    transform_field,
    transform_grid,
    transform_regular,
    transform_scalar,
)
from flowsr.group.irreps import Irrep
from flowsr.group.octahedral import PointGroup, octahedral_group, point_group
from flowsr.group.operations import Operation
from flowsr.group.subgroups import Subgroup

__all__ = [
    "Decomposition",
    "Irrep",
    "Operation",
    "PointGroup",
    "Subgroup",
    "axis_action",
    "decompose",
    "multiplicities",
    "octahedral_group",
    "point_group",
    "representation",
    "restrict",
    "split_by_irrep",
    "subvoxel_permutation",
    "tap_permutation",
    "transform_field",
    "transform_grid",
    "transform_regular",
    "transform_scalar",
]
