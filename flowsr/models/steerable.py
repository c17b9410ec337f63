"""Steerable networks of spherical harmonics: how much of the direction the filters see is an option.

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
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import torch
from torch import Tensor, nn

from flowsr.grid import Grid
from flowsr.group.o3 import Irrep, Irreps, soft_one_hot_linspace, spherical_harmonics, wigner_3j
from flowsr.kernels.conv3d import conv3d
from flowsr.kernels.padding import Boundary, pad, paddings
from flowsr.models.base import MODELS, LearnedUpscaler, Task
from flowsr.nn import subvoxels_to_space

EVEN_SCALAR = Irrep("0e")
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
        lattice = self.lattice_of(steps)
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

    def lattice_of(self, steps: Steps) -> Lattice:
        """The lattice of cells with given sides.

        Raises:
            ValueError: cells so long that the filters see no neighbour along their longest side.
        """
        lattice = replace(self.lattice, steps=steps)
        if min(lattice.reach) < 1:
            raise ValueError(f"cells with sides {steps} are too long for filters of radius {lattice.radius}")
        return lattice

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
        for axis, width in enumerate(self.lattice_of(steps).reach):
            modes = ["none"] * 3
            modes[axis] = paddings(boundary)[axis]
            features = pad(features, width, tuple(modes))
        result = conv3d(features, self.kernel(steps).to(features.dtype))
        return subvoxels_to_space(result.unflatten(1, (-1, self.lattice.factor**3)), self.lattice.factor)


def reachable(irreps_in: Irreps, l_max: int, wanted: list[Irrep], width: int) -> Irreps:
    """``width`` copies of every wanted type that filters up to order ``l_max`` can lead to from a field."""
    filters = [Irrep(order, (-1) ** order) for order in range(l_max + 1)]
    found = {out for (_, source), harmonic in product(irreps_in, filters) for out in source * harmonic}
    return Irreps([(width, kind) for kind in wanted if kind in found])


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
class Steerable(LearnedUpscaler):
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

    Raises:
        ValueError: a width or number of radial functions below 1, negative blocks or order, or a
            radius that is not above 1.
    """

    def __init__(
        self, task: Task, l_max: int = 1, width: int = 8, blocks: int = 2, radius: float = 2.0, radial: int = 3
    ):
        super().__init__(task)
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

    def check_grid(self, grid: Grid) -> None:
        """
        Raises:
            ValueError: cells so long that the filters see no neighbour along their longest side.
        """
        super().check_grid(grid)
        for layer in (self.head, self.tail):
            layer.lattice_of(_steps(grid))

    def correction(self, coarse: Tensor, grid: Grid) -> Tensor:
        steps = _steps(grid)
        features = self.head(coarse, steps, grid.boundary)
        for gate, convolution in zip(self.gates, self.convolutions):
            change = convolution(gate(features), steps, grid.boundary)
            features = features + change if change.shape == features.shape else change
        return self.tail(self.gates[-1](features), steps, grid.boundary)


def _steps(grid: Grid) -> Steps:
    """Cell sizes along x, y, z, the shortest being 1."""
    x, y, z = (round(spacing / min(grid.spacing), 9) for spacing in grid.spacing)
    return x, y, z


def hidden_types(field: Irreps, l_max: int) -> list[Irrep]:
    """Types of the hidden features: true scalars, the field's own, and where filters see directions all to l_max."""
    own = {kind for _, kind in field}
    if l_max > 0:
        own |= {Irrep(order, parity) for order in range(max(l_max, field.lmax) + 1) for parity in (1, -1)}
    return sorted(own | {EVEN_SCALAR}, key=lambda kind: (kind.l, -kind.p))
