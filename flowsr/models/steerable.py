"""Steerable networks of spherical harmonics: how much of the direction the filters see is an option."""

from __future__ import annotations

import torch
from e3nn.o3 import Irrep, Irreps
from torch import Tensor, nn

from flowsr.grid import Grid
from flowsr.models.base import MODELS
from flowsr.models.network import Network
from flowsr.models.steerable_conv import SteerableConv, reachable

EVEN_SCALAR = Irrep("0e")


class InvariantGate(nn.Module):
    """Nonlinearity of a field of mixed types: everything is scaled by functions of its own invariants.

    The true scalars and the lengths |f| of all other copies are invariant. One linear map, the same at every voxel,
    makes new scalars of them, which pass a SiLU, and for every other copy a gate, which passes a sigmoid and multiplies
    it (the gated nonlinearity of Weiler et al. 2018, arXiv 1807.02547, with lengths among its arguments:
    without them filters of order 0 would leave a velocity no scalar to be gated by, and the network linear).

    Args:
        irreps_in: the field.
        scalars: true scalars in the result.

    Attributes:
        irreps_out: the new scalars, then what is gated.
    """

    def __init__(self, irreps_in: Irreps, scalars: int):
        super().__init__()
        self.irreps_in = Irreps(irreps_in)
        gated = [(count, kind) for count, kind in self.irreps_in if kind != EVEN_SCALAR]
        self.irreps_out = Irreps([(scalars, EVEN_SCALAR), *gated])
        self.scalars, gates = scalars, sum(count for count, _ in gated)
        self.mix = nn.Conv3d(self.irreps_in.num_irreps, scalars + gates, 1)
        self.activation = nn.SiLU()

    def forward(self, features: Tensor) -> Tensor:
        """(batch, component, x, y, z), the components those of ``irreps_in``, to those of ``irreps_out``."""
        invariants, gated = [], []
        for (count, kind), part in zip(self.irreps_in, self.irreps_in.slices()):
            values = features[:, part]
            if kind == EVEN_SCALAR:
                invariants.append(values)
            else:
                copies = values.unflatten(1, (count, kind.dim))
                invariants.append((copies.square().sum(2) + 1e-6).sqrt() - 1e-3)
                gated.append(copies)
        mixed = self.mix(torch.cat(invariants, 1))
        gates = mixed[:, self.scalars :].sigmoid().split([copies.shape[1] for copies in gated], 1)
        scaled = [(copies * gate.unsqueeze(2)).flatten(1, 2) for copies, gate in zip(gated, gates)]
        return torch.cat([self.activation(mixed[:, : self.scalars]), *scaled], 1)


@MODELS.register("e3nn")
class Steerable(Network):
    """Steerable network of e3nn: filters of spherical harmonics up to l_max, features up to that order.

    What angular features buy, asked as Batzner et al. 2022 do of interatomic potentials (NequIP, Nature
    Communications 13, 2453: the error against the training set's size for l = 0 to 3), with equal parameters through
    ``width``. ``l_max`` limits the *filters*: 0 sees distances only, 1 directions, 2 also tensors. It limits
    the hidden features too, but never below the field's own order, because a velocity must come in and go out: for
    ``l_max = 0`` they are scalars and vectors (L0Net), for 1 scalars and vectors of both parities (L1Net), for 2 also
    symmetric tensors. Were they all scalars, the first layer could see of a velocity only its flux through spheres
    about the cell, which is nothing where the flow is incompressible, and the last could write gradients only.

    Convolutions as in 3-D steerable CNNs (Weiler et al. 2018, arXiv 1807.02547), gates between them. The last one goes
    from a cell to its parts with the filters' values at their true displacements, so the network commutes with all 48
    elements, unequal cell sizes included; on a stretched axis cells count with their mean size.
    Halo for the default radius: 1 cell a block and 2.

    Args:
        l_max: greatest order of the filters' harmonics.
        width: copies of every type among the hidden features.
        blocks: gated convolutions between the first and the last.
        radius: of the filters, in units of a cell's shortest side; more than the longest. 2 sees 3 x 3 x 3 cells.
        radial: radial functions per path; 3 are as many as there are distances in 3 x 3 x 3 cells.
        frames, target_frame: see :class:`flowsr.models.base.Upscaler`.

    Raises:
        ValueError: a factor, width, number of radial functions or of frames below 1, negative blocks or order, or a
            radius that is not above 1.
    """

    def __init__(
        self,
        factor: int,
        irreps: str = "1o",
        scale: float = 1.0,
        l_max: int = 1,
        width: int = 8,
        blocks: int = 2,
        radius: float = 2.0,
        radial: int = 3,
        frames: int = 1,
        target_frame: int = -1,
    ):
        super().__init__(factor, irreps, scale, frames, target_frame)
        self.check_size(blocks, width=width, radial=radial)
        if l_max < 0 or not radius > 1:
            raise ValueError(f"l_max must not be negative and radius above 1, got {l_max} and {radius}")
        field, entering = Irreps(self.irreps), Irreps(self.irreps_in)
        wanted = hidden_types(field, l_max)
        options = dict(l_max=l_max, radial=radial)
        self.head = SteerableConv(entering, reachable(entering, l_max, wanted, width), radius=radius, **options)
        self.gates, self.convolutions = nn.ModuleList(), nn.ModuleList()
        known = self.head.irreps_out
        for _ in range(blocks):
            gate = InvariantGate(known, width)
            known = reachable(gate.irreps_out, l_max, wanted, width)
            self.gates.append(gate)
            self.convolutions.append(SteerableConv(gate.irreps_out, known, radius=radius, **options))
        self.gates.append(InvariantGate(known, width))
        self.tail = SteerableConv(self.gates[-1].irreps_out, field, radius=radius - 0.5, factor=self.factor, **options)
        for weights in self.tail.weights:
            nn.init.zeros_(weights)  # training starts from the interpolation
        self.halo = sum(max(layer.lattice.reach) for layer in (self.head, *self.convolutions, self.tail))

    def correction(self, coarse: Tensor, grid: Grid) -> Tensor:
        steps = tuple(round(spacing / min(grid.spacing), 9) for spacing in grid.spacing)
        features = self.head(coarse, steps, grid.boundary)
        for gate, convolution in zip(self.gates, self.convolutions):
            change = convolution(gate(features), steps, grid.boundary)
            features = features + change if change.shape == features.shape else change
        return self.tail(self.gates[-1](features), steps, grid.boundary)


def hidden_types(field: Irreps, l_max: int) -> list[Irrep]:
    """Types of the hidden features: true scalars, the field's own, and where filters see directions all to l_max."""
    own = {kind for _, kind in field}
    if l_max > 0:
        own |= {Irrep(order, parity) for order in range(max(l_max, field.lmax) + 1) for parity in (1, -1)}
    return sorted(own | {EVEN_SCALAR}, key=lambda kind: (kind.l, -kind.p))
