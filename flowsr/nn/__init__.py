"""Layers that commute with the octahedral group, exactly, until training says otherwise.

**What the problem is.** Turn a box of turbulence by a quarter turn, and the fine field inside should turn with it. An
ordinary convolutional network does not know this: fed with the transformed box it answers something else. The layers
here know it, for all 24 rotations of a cube (the group O) or all 48 rotations and reflections (O_h): for each element g

    network(g.v) = g.network(v),        (g.v)(x) = rho(g) v(g^-1 x).

The right-hand formula says what turning a field means: look up where the point x came from, g^-1 x, and turn the value
found there by rho(g). A pressure does not turn (rho = 1), a velocity turns like an arrow (rho(g) = g), a vorticity like
an arrow that ignores reflections. The type is written as irreps of e3nn: ``0e``, ``1o``, ``1e``. On a grid of cells a
quarter turn only permutes the cells, so all this holds to rounding: nothing is interpolated anywhere.

**How it is done.** Show the field not one filter but all its transformed copies, and remember which gave which answer.

- *Lifting* does that. Copy g of the filter psi looks at the neighbour x + y with the weights psi has at g^-1 y, and
  turns the field's components back first:  f'(x, g) = sum_y psi(g^-1 y) rho(g^-1) v(x + y).
  The answer has a value for each g: a *regular feature*, of shape (batch, channel, n, x, y, z). When the field turns
  by k,
  its values move to k^-1 x and its n values trade places: (k.f)(x, g) = f(k^-1 x, k^-1 g).
- *Group convolution* goes from such a feature to the next. Its filter also depends on the group element it looks at,
  and only through the relative one, g^-1 h:  f'(x, g) = sum_y sum_h psi(g^-1 y, g^-1 h) f(x + y, h).
- *Projection* returns to a field by turning each g's vote into the frame of the grid and averaging:
  v(x) = (1/n) sum_g rho(g) sum_y phi(g^-1 y) f(x + y, g). With ``upsample=s`` the s^3 parts of each cell have filters
  of their own, which trade places as the group moves the parts.

Between them, whatever treats all n values alike is allowed: an activation, a bias or norm shared over the group,
dropout of whole channels, padding that is the same along the walls of every axis.

**How it is relaxed.** A flow may prefer a direction: it is stratified, it rotates, it has walls. Following Wang,
Walters & Smidt (2023, arXiv 2310.02299), every layer has L filter banks and mixes them by *relaxed weights* that depend
on g: sum_l w_l(g) psi_l instead of psi. They start at 1. While w does not depend on g the network is exactly
equivariant; where the data prefer a direction, training makes w unequal, and which w differ says which symmetry the
flow breaks. With ``relaxed=False`` they stay at 1. For one bank the broken part can be written down:
M(k.f) - k.M(f) = (w(g) - w(k^-1 g)) (k.M_strict f)(x, g).

**Try it.** A network from a coarse velocity to one on twice as many cells, both transformed alike:

>>> import torch
>>> from flowsr.group import octahedral_group
>>> from flowsr.group.fields import transform_field
>>> from flowsr.nn import GroupConv, LiftingConv, Projection
>>> _ = torch.manual_seed(0)
>>> group = octahedral_group("O")
>>> layers = LiftingConv(group, "1o", 1, 2), GroupConv(group, 2, 2), Projection(group, 2, "1o", upsample=2)
>>> lift, convolve, project = (layer.double().requires_grad_(False) for layer in layers)
>>> def network(velocity):
...     return project(torch.relu(convolve(torch.relu(lift(velocity)))))
>>> def equivariance_error(velocity, g):
...     found = network(transform_field(velocity, g, "1o", group))
...     expected = transform_field(network(velocity), g, "1o", group)
...     return float((found - expected).norm() / expected.norm())
>>> velocity = torch.randn(1, 3, 4, 5, 6, dtype=torch.float64)
>>> network(velocity).shape
torch.Size([1, 3, 8, 10, 12])
>>> worst = max(equivariance_error(velocity, g) for g in range(24))
>>> print(f"equivariance error, any of the 24 rotations: {worst:.0e}")  # doctest: +ELLIPSIS
equivariance error, any of the 24 rotations: ...e-1...
>>> _ = convolve.relaxed_weights.mul_(1 + 0.1 * torch.randn(1, 24))
>>> print(f"with relaxed weights 10 % apart: {equivariance_error(velocity, 7):.1g}")
with relaxed weights 10 % apart: 0.2

How each convolution is computed, and by which of several kernels, is the business of :mod:`flowsr.kernels`.
"""

from flowsr.kernels.padding import PERIODIC, Boundary, pad, paddings
from flowsr.nn.group_conv import GroupConv
from flowsr.nn.lifting import LiftingConv
from flowsr.nn.pointwise import OrbitDropout, RegularNorm, activation
from flowsr.nn.projection import Projection
from flowsr.nn.residual import Chain, ResidualBlock
from flowsr.nn.upsample import SubVoxelUpsample, subvoxels_to_space

__all__ = [
    "PERIODIC",
    "Boundary",
    "Chain",
    "GroupConv",
    "LiftingConv",
    "OrbitDropout",
    "Projection",
    "RegularNorm",
    "ResidualBlock",
    "SubVoxelUpsample",
    "activation",
    "pad",
    "paddings",
    "subvoxels_to_space",
]
