"""Convolutions whose filters are made of spherical harmonics, from a grid to itself or to a finer one.

A filter that commutes with every rotation and reflection of space is a sum, over pairs of an input and an output type,
of a function of the distance times a spherical harmonic of the direction times a Clebsch-Gordan coefficient:

    K(r) = sum over paths, radial functions   w  phi(|r|)  C (Y_l(r / |r|)),    K(R r) = rho_out(R) K(r) rho_in(R)^-1

(Weiler et al. 2018, arXiv 1807.02547, the kernel basis; Thomas et al. 2018, arXiv 1802.08219, the layers). Sampled at
the cells of a grid, it commutes exactly with the elements that map the grid to itself. e3nn gives harmonics,
coefficients and the radial functions. Its own voxel convolution (``e3nn.nn.models.v2104``) spans the same filters; here
they are a function of any displacement, for the step to the finer grid, they know the cell sizes when they are called,
and they are tabulated in double precision whatever precision the network has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import torch
import torch.nn.functional as F
from e3nn.math import soft_one_hot_linspace
from e3nn.o3 import Irrep, Irreps, spherical_harmonics, wigner_3j
from torch import Tensor, nn

from flowsr.kernels.padding import pad
from flowsr.nn.padding import Boundary, paddings
from flowsr.nn.upsample import subvoxels_to_space

Steps = tuple[float, float, float]
CUBE: Steps = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Lattice:
    """Where the cells that a filter sees lie, as seen from where its result lies.

    Args:
        radius: filters are zero from this distance on.
        factor: s; the results are the s^3 parts of a cell, for s = 1 the cell itself.
        steps: cell sizes along x, y, z.
    """

    radius: float
    factor: int = 1
    steps: Steps = CUBE

    @property
    def reach(self) -> tuple[int, int, int]:
        """Cells along x, y, z up to which some filter value is not zero."""
        off_center = (1 - 1 / self.factor) / 2
        return tuple(math.ceil((self.radius - 1e-9) / step + off_center) - 1 for step in self.steps)

    def displacements(self) -> Tensor:
        """(s^3, taps, 3) float64: cell minus result; parts and taps in C order over x, y, z."""
        parts = [((torch.arange(self.factor).double() + 0.5) / self.factor - 0.5) * step for step in self.steps]
        taps = [torch.arange(-n, n + 1).double() * step for n, step in zip(self.reach, self.steps)]
        at = [torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3) for axes in (parts, taps)]
        return at[1][None] - at[0][:, None]

    def nearest(self) -> float:
        """The least distance there is, but none, between cubes."""
        return 1 / self.factor if self.factor % 2 else math.sqrt(3) / (2 * self.factor)


@lru_cache(maxsize=512)
def path_table(lattice: Lattice, orders: tuple[int, int, int], radial: int, device: torch.device) -> Tensor:
    """phi(|r|) C (Y_l(r / |r|)) for one path.

    Args:
        orders: l of the input, of the harmonic and of the output.
        radial: radial functions, bumps at equal distances between zero and the lattice's radius; a filter of order 0
            also has a function that is one at distance zero and vanishes elsewhere.

    Returns:
        (radial functions, 2 l_out + 1, s^3, 2 l_in + 1, taps) float64.
    """
    l_in, l_filter, l_out = orders
    with torch.inference_mode(False), torch.no_grad():
        r = lattice.displacements()
        distance = r.norm(dim=-1)
        start = lattice.nearest() / 2
        phi = soft_one_hot_linspace(distance, start, lattice.radius, radial, "smooth_finite", cutoff=True)
        if l_filter == 0 and lattice.factor % 2:
            phi = torch.cat([phi, (distance < 1e-9).double()[..., None]], dim=-1)
        harmonics = spherical_harmonics(l_filter, r, normalize=True, normalization="component")
        coupling = wigner_3j(l_out, l_filter, l_in, dtype=torch.float64)
        return torch.einsum("ptn,ptm,omi->nopit", phi, harmonics, coupling).contiguous().to(device)


class SteerableConv(nn.Module):
    """f'(X, p) = sum_y K(y - p) f(X + y), p the place of a part in its cell: equivariant under all of O_h.

    All weights start normally distributed, such that every output component has a variance of one if the input has.

    Args:
        irreps_in, irreps_out: e3nn irreps of the fields; components of the same type next to each other.
        l_max: greatest order of the harmonics.
        radius: of the filters, in units of the shortest side of a cell.
        radial: radial functions per path.
        factor: s, parts of a cell along each axis; the result is on the grid of the parts.

    Raises:
        ValueError: an output type that no path leads to.
    """

    def __init__(self, irreps_in: str, irreps_out: str, l_max: int, radius: float, radial: int, factor: int = 1):
        super().__init__()
        self.irreps_in, self.irreps_out = Irreps(irreps_in), Irreps(irreps_out)
        self.lattice, self.radial = Lattice(radius, factor), radial
        self.paths = [
            (i, l_filter, o)
            for o, (_, out) in enumerate(self.irreps_out)
            for i, (_, source) in enumerate(self.irreps_in)
            for l_filter in range(l_max + 1)
            if out in source * Irrep(l_filter, (-1) ** l_filter)
        ]
        leading_to = [sum(path[2] == o for path in self.paths) for o in range(len(self.irreps_out))]
        if not all(leading_to):
            raise ValueError(f"filters up to order {l_max} do not lead from {irreps_in} to {irreps_out}")
        self.weights = nn.ParameterList()
        for i, l_filter, o in self.paths:
            table = self._table((i, l_filter, o), self.lattice, torch.device("cpu"))
            (outputs, _), (inputs, _) = self.irreps_out[o], self.irreps_in[i]
            gain = table.square().sum((0, 3, 4)).mean().item()
            deviation = 1 / math.sqrt(leading_to[o] * inputs * gain)
            self.weights.append(nn.Parameter(torch.randn(len(table), outputs, inputs) * deviation))

    def _table(self, path: tuple[int, int, int], lattice: Lattice, device: torch.device) -> Tensor:
        i, l_filter, o = path
        return path_table(lattice, (self.irreps_in[i].ir.l, l_filter, self.irreps_out[o].ir.l), self.radial, device)

    def kernel(self, steps: Steps = CUBE) -> Tensor:
        """K at the taps, float64: (output component s^3, input component, taps x, y, z).

        Args:
            steps: cell sizes, the shortest being 1.
        """
        lattice = Lattice(self.lattice.radius, self.lattice.factor, steps)
        blocks: dict[tuple[int, int], Tensor] = {}
        for weights, (i, l_filter, o) in zip(self.weights, self.paths):
            table = self._table((i, l_filter, o), lattice, weights.device)
            block = torch.einsum("nvu,nopit->vopuit", weights.double(), table)
            blocks[o, i] = blocks[o, i] + block if (o, i) in blocks else block
        parts, taps = next(iter(blocks.values())).shape[2::3]
        rows = []
        for o, (outputs, out) in enumerate(self.irreps_out):
            row = []
            for i, (inputs, source) in enumerate(self.irreps_in):
                none = self.weights[0].new_zeros((), dtype=torch.float64)
                block = blocks.get((o, i), none.expand(outputs, out.dim, parts, inputs, source.dim, taps))
                row.append(block.reshape(outputs * out.dim * parts, inputs * source.dim, taps))
            rows.append(torch.cat(row, dim=1))
        return torch.cat(rows).unflatten(-1, tuple(2 * n + 1 for n in lattice.reach))

    def forward(self, features: Tensor, steps: Steps, boundary: Boundary) -> Tensor:
        """
        Args:
            features: (batch, component, x, y, z).
            steps: cell sizes along x, y, z, the shortest being 1.
            boundary: ``periodic``, ``wall`` or ``open`` along x, y, z.

        Returns:
            (batch, component, s x, s y, s z).

        Raises:
            ValueError: cells so long that the filters see no neighbour along their longest side.
        """
        reach = Lattice(self.lattice.radius, self.lattice.factor, steps).reach
        if min(reach) < 1:
            raise ValueError(f"cells with sides {steps} are too long for filters of radius {self.lattice.radius}")
        for axis, width in enumerate(reach):
            modes = ["none"] * 3
            modes[axis] = paddings(boundary)[axis]
            features = pad(features, width, tuple(modes))
        result = F.conv3d(features, self.kernel(steps).to(features.dtype))
        return subvoxels_to_space(result.unflatten(1, (-1, self.lattice.factor**3)), self.lattice.factor)


def reachable(irreps_in: Irreps, l_max: int, wanted: list[Irrep], width: int) -> Irreps:
    """``width`` copies of every wanted type that filters up to order ``l_max`` can lead to from a field."""
    filters = [Irrep(order, (-1) ** order) for order in range(l_max + 1)]
    found = {out for (_, source), harmonic in product(irreps_in, filters) for out in source * harmonic}
    return Irreps([(width, kind) for kind in wanted if kind in found])
