"""A network on particles: what a classical estimate of the field misses, from who is where and how fast.

Particles are nodes, each hears its nearest ones; points that are asked for only listen. An interaction is that of
NequIP (Batzner et al., Nature Communications 13, 2453, 2022): radial functions times spherical harmonics of the way to
a neighbour, multiplied with its features (e3nn), summed, mixed, gated, and added to what was there. Here the product
with a neighbour's features is summed before it is mixed, not after: the same map, as the radial functions are a fixed
basis, and for as many neighbours as there are far less to compute.

What the nodes know is what the classical estimate (:func:`flowsr.tracks.classical.solenoidal`) leaves: by how much it
misses a particle that it is not told of, and its velocity gradient there; velocities about the mean, and where they
were measured accelerations. So a linear flow is met exactly, whatever the weights, the network has no unit and no frame
of its own, and it changes with the particles under every rotation, reflection, translation and renumbering.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from flowsr.data.field import tensor_irreps
from flowsr.errors import FlowsrError
from flowsr.group.o3 import Irrep, Irreps, Linear, TensorProduct, spherical_harmonics, wigner_3j
from flowsr.models.steerable import InvariantGate, hidden_types
from flowsr.tracks.classical import left_out, vorticity
from flowsr.tracks.cloud import Cloud

# What is known of a particle: three scalars of the whole cloud, its velocity, what the classical estimate misses of
# it, vorticity and strain there.
KNOWN = Irreps("3x0e + 1o + 1o + 1e + 2e")
# Learned constants that a relaxed network adds: an axis and a tensor that every particle knows (Curie's principle).
RELAXED = Irreps("1e + 1o + 2e")


@dataclass(frozen=True)
class NetworkOptions:
    """A network on particles: how far it sees, in which angles, and what it is told."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    l_max: int = 1
    """Greatest order of the spherical harmonics: 0 knows distances, 1 directions, 2 ellipsoids."""
    width: int = 12
    """Copies of every type among the features."""
    layers: int = 1
    """Interactions among the particles before the points listen."""
    neighbours: int = 32
    """Particles that each hears; the farthest has no weight left, so that the radius follows the density."""
    radial: int = 5
    """Radial functions."""
    head: Literal["velocity", "potential"] = "velocity"
    """potential: the correction is the curl of a vector potential (1e), and has no divergence."""
    accelerations: bool = False
    """Take measured accelerations as well."""
    relaxed: bool = False
    """Add a learned constant, 1e + 1o + 2e, which may break the symmetry: walls, rotation."""

    def __post_init__(self) -> None:
        for name in ("width", "neighbours", "radial"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.l_max < 0 or self.layers < 0:
            raise ValueError(f"l_max and layers must not be negative, got {self.l_max} and {self.layers}")


@dataclass(frozen=True, eq=False)
class Nodes:
    """Particles as a network takes them; lengths in ``spacing``, velocities in ``miss``.

    Args:
        features: (particles, components) of ``KNOWN``, and accelerations where the network takes them.
        indices, ways: (particles, neighbours) and (particles, neighbours, 3): who is near, and the way there.
        spacing: cube root of the volume that a particle has, in the median.
        miss: RMS of what the classical estimate misses of a particle, per component.
    """

    features: Tensor
    indices: Tensor
    ways: Tensor
    spacing: float
    miss: float


def nodes_of(
    cloud: Cloud,
    options: NetworkOptions,
    dtype: torch.dtype = torch.float32,
    left: tuple[np.ndarray, np.ndarray] | None = None,
) -> Nodes:
    """A cloud as a network takes it.

    Args:
        left: what :func:`left_out` gives of the cloud, where it is known.

    Raises:
        FlowsrError: a network that takes accelerations, and a cloud without.
    """
    misses, gradients = left_out(cloud) if left is None else left
    about_mean = cloud.velocities - cloud.velocities.mean(0)
    distances = cloud.nearest(cloud.positions, options.neighbours + 1)[0][:, -1]
    # not of the box, which may be larger than what the particles fill
    spacing = float(np.median(distances) * (4 / 3 * np.pi / options.neighbours) ** (1 / 3))
    tiny = np.finfo(float).tiny ** 0.5
    miss, speed, rate = (max(_size(each), tiny) for each in (misses, about_mean, gradients))
    irreps, matrix = tensor_irreps("none")
    strain = (gradients.reshape(-1, 9) @ matrix.T)[:, Irreps(irreps).slices()[-1]]
    whole = [1.0, miss / speed, math.log(miss / (rate * spacing))]
    parts = [np.broadcast_to(whole, (len(cloud), 3)), about_mean / speed, misses / miss]
    parts += [vorticity(gradients) / (1.5 * rate), strain / rate]
    if options.accelerations:
        if cloud.accelerations is None:
            hint = "columns ax ay az, or a network that was trained without"
            raise FlowsrError("this network takes accelerations, and none were measured", variable="ax", hint=hint)
        felt = cloud.accelerations - cloud.accelerations.mean(0)
        parts.append(felt / max(_size(felt), tiny))
    indices, ways = neighbourhood(cloud, cloud.positions, options.neighbours + 1, spacing)
    features = torch.from_numpy(np.concatenate(parts, 1)).to(dtype)
    return Nodes(features, indices[:, 1:], ways[:, 1:].to(dtype), spacing, miss)


def neighbourhood(cloud: Cloud, points: np.ndarray, count: int, spacing: float) -> tuple[Tensor, Tensor]:
    """Indices (points, neighbours) of the nearest particles, and the ways to them in ``spacing``, float64."""
    indices = cloud.nearest(points, count)[1]
    ways = cloud.displacement(cloud.wrapped(cloud.positions)[indices] - cloud.wrapped(points)[:, None])
    return torch.from_numpy(indices), torch.from_numpy(ways / spacing)


def _size(vectors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(vectors**2)))


class Interaction(nn.Module):
    """Neighbours' features times radial functions times harmonics of the way to them, summed and mixed.

    Args:
        irreps_in, irreps_out: of the features of those that are heard, and of the result.
        l_max: greatest order of the harmonics.
        radial: radial functions.
    """

    def __init__(self, irreps_in: Irreps, irreps_out: Irreps, l_max: int, radial: int):
        super().__init__()
        self.irreps_in, self.l_max, self.radial = Irreps(irreps_in), l_max, radial
        wanted = {kind for _, kind in irreps_out}
        self.paths = [
            (i, order, out)
            for i, (_, kind) in enumerate(self.irreps_in)
            for order in range(l_max + 1)
            for out in kind * Irrep(order, (-1) ** order)
            if out in wanted
        ]
        for path, (i, order, out) in enumerate(self.paths):
            coupling = wigner_3j(order, self.irreps_in[i].ir.l, out.l, dtype=torch.float64) * math.sqrt(out.dim)
            self.register_buffer(f"coupling_{path}", coupling.to(torch.get_default_dtype()), persistent=False)
        self.between = Irreps([(radial * self.irreps_in[i].mul, out) for i, _, out in self.paths])
        self.mix = Linear(self.between, irreps_out)

    def forward(self, waves: Tensor, heard: Tensor) -> Tensor:
        """Of (listeners, neighbours, radial, (l_max + 1)^2) and (listeners, neighbours, components) a field each."""
        count, neighbours, radial, harmonics = waves.shape
        moments = waves.reshape(count, neighbours, -1).transpose(1, 2) @ heard
        moments = moments.reshape(count, radial, harmonics, -1)
        kinds = [(mul, kind.dim) for mul, kind in self.irreps_in]
        parts = [
            [
                part.reshape(count, radial, 2 * order + 1, *kind)
                for part, kind in zip(of_order.split([mul * dim for mul, dim in kinds], 3), kinds)
            ]
            for order, of_order in enumerate(moments.split([2 * order + 1 for order in range(self.l_max + 1)], 2))
        ]
        coupled = [
            torch.einsum("pnmci,mio->ponc", parts[order][i], self.get_buffer(f"coupling_{path}")).flatten(2)
            for path, (i, order, _) in enumerate(self.paths)
        ]
        return self._mixed(coupled)

    def _mixed(self, coupled: Sequence[Tensor]) -> Tensor:
        """``mix`` of parts (listeners, 2l + 1, copies), one matrix product for each type of the result.

        e3nn's own takes them joined and cuts them apart again; a cut's derivative fills all of it with zeros.
        """
        found = []
        for k in range(len(self.mix.irreps_out)):
            views = [(i, w) for _, i, w in self.mix.weight_views(yield_instruction=True) if i.i_out == k]
            if not views:
                found.append(coupled[0].new_zeros(len(coupled[0]), self.mix.irreps_out[k].dim))
                continue
            weight = torch.cat([w * i.path_weight for i, w in views])
            of_kind = torch.cat([coupled[i.i_in] for i, _ in views], 2)
            found.append((of_kind @ weight).transpose(1, 2).flatten(1))
        return torch.cat(found, 1)


class Square(nn.Module):
    """Every copy of the features multiplied with its own other types, mixed, and added: three and four bodies.

    What is multiplied is scaled to be of order one where it is large, by an invariant: layers of squares of squares
    would otherwise grow without bound on a cloud unlike those of the training.
    """

    def __init__(self, irreps: Irreps):
        super().__init__()
        kinds = {kind for _, kind in irreps}
        paths, products = [], []
        for a, (copies, one) in enumerate(irreps):
            for b, (_, other) in enumerate(irreps[a:], a):
                for out in (kind for kind in one * other if kind in kinds):
                    paths.append((a, b, len(products), "uuu", True))
                    products.append((copies, out))
        self.product = TensorProduct(irreps, irreps, Irreps(products), paths)
        self.mix = Linear(Irreps(products), irreps)

    def forward(self, features: Tensor) -> Tensor:
        scaled = features / (1 + features.square().mean(-1, keepdim=True)).sqrt()
        return features + self.mix(self.product(scaled, scaled))


class Update(nn.Module):
    """Gate and square: what a node makes of what it has heard."""

    def __init__(self, irreps: Irreps, width: int):
        super().__init__()
        self.gate = InvariantGate(irreps, width)
        self.irreps_out = self.gate.irreps_out
        self.square = Square(self.irreps_out)

    def forward(self, features: Tensor) -> Tensor:
        return self.square(_gated(self.gate, features))


def _gated(gate: InvariantGate, features: Tensor) -> Tensor:
    return gate(features[..., None, None, None])[..., 0, 0, 0]


class TracksNetwork(nn.Module):
    """The correction of a classical estimate at any point, from particles.

    ``velocity = classical + miss * network``: equivariant under O(3), translations and renumbering, whatever the
    weights. Hidden features are of all types up to ``l_max`` and of both parities, and never less than vectors
    (:func:`flowsr.models.steerable.hidden_types`, as for the networks on grids).
    """

    def __init__(self, options: NetworkOptions):
        super().__init__()
        self.options = options
        known = KNOWN + Irreps("1o") if options.accelerations else KNOWN
        if options.relaxed:
            known = known + RELAXED
            self.constant = nn.Parameter(torch.zeros(RELAXED.dim))
        hidden = Irreps([(options.width, kind) for kind in hidden_types(Irreps("1o + 1e"), options.l_max)])
        self.hears, self.keeps, self.updates = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        features = known
        for _ in range(options.layers):
            self.hears.append(Interaction(features, hidden, options.l_max, options.radial))
            self.keeps.append(Linear(features, hidden))
            self.updates.append(Update(hidden, options.width))
            features = self.updates[-1].irreps_out
        heard = known + features if options.layers else known
        self.listens = Interaction(heard, hidden, options.l_max, options.radial)
        self.concludes = Update(hidden, options.width)
        self.last_gate = InvariantGate(self.concludes.irreps_out, options.width)
        self.head = Linear(self.last_gate.irreps_out, Irreps("1o" if options.head == "velocity" else "1e"))
        with torch.no_grad():
            self.head.weight.mul_(0.1)  # training starts near the classical estimate

    @property
    def parameter_count(self) -> int:
        """Trainable scalars."""
        return sum(each.numel() for each in self.parameters())

    def breaking(self) -> dict[str, float]:
        """Size of the learned constant by irrep; empty where the network is strict."""
        if not self.options.relaxed:
            return {}
        return {
            str(kind): float(self.constant[part].detach().norm()) for (_, kind), part in zip(RELAXED, RELAXED.slices())
        }

    def waves(self, ways: Tensor) -> Tensor:
        """Radial functions times harmonics, (.., neighbours, radial, (l_max + 1)^2): polynomials that end, with their
        slope, at the farthest neighbour."""
        squared = ways.square().sum(-1)
        reach = squared.amax(-1, keepdim=True)
        share = squared / reach
        series = [torch.ones_like(share), 2 * share - 1]
        while len(series) < self.options.radial:
            series.append(2 * series[1] * series[-1] - series[-2])
        end = (1 - share).square() * (4 / math.sqrt(ways.shape[-2]))
        radial = torch.stack(series[: self.options.radial], -1) * end[..., None]
        orders = list(range(self.options.l_max + 1))
        harmonics = spherical_harmonics(orders, ways / reach.sqrt()[..., None], False, "component")
        return radial[..., None] * harmonics[..., None, :]

    def particles(self, nodes: Nodes) -> Tensor:
        """Features of all particles, (particles, components), which points then hear."""
        known = nodes.features
        if self.options.relaxed:
            known = torch.cat([known, self.constant.expand(len(known), -1)], 1)
        if not self.options.layers:
            return known
        waves, features = self.waves(nodes.ways), known
        for hear, keep, update in zip(self.hears, self.keeps, self.updates):
            features = update(hear(waves, features[nodes.indices]) + keep(features))
        return torch.cat([known, features], 1)

    def at(self, heard: Tensor, ways: Tensor, moved: Tensor | None = None) -> Tensor:
        """The correction at points, (points, 3), in units of :class:`Nodes`.

        Args:
            heard: features of each point's neighbours, (points, neighbours, components).
            ways: to them, (points, neighbours, 3).
            moved: (points, 3) that the points are moved by, to be differentiated by.
        """
        if self.options.head == "velocity":
            return self._listen(heard, ways if moved is None else ways - moved[:, None])
        with torch.enable_grad():
            moved = ways.new_zeros(len(ways), 3).requires_grad_() if moved is None else moved
            return _curl(_jacobian(self._listen(heard, ways - moved[:, None]), moved))

    def gradient_at(self, heard: Tensor, ways: Tensor) -> tuple[Tensor, Tensor]:
        """The correction and its gradient (points, 3, 3), derivative of component i along j at [i, j], by autograd."""
        with torch.enable_grad():
            moved = ways.new_zeros(len(ways), 3).requires_grad_()
            velocity = self.at(heard, ways, moved)
            return velocity.detach(), _jacobian(velocity, moved, differentiable=False)

    def _listen(self, heard: Tensor, ways: Tensor) -> Tensor:
        features = self.concludes(self.listens(self.waves(ways), heard))
        return self.head(_gated(self.last_gate, features))


def _jacobian(values: Tensor, by: Tensor, differentiable: bool = True) -> Tensor:
    how = {"create_graph": differentiable, "retain_graph": True}
    return torch.stack([torch.autograd.grad(values[:, i].sum(), by, **how)[0] for i in range(3)], 1)


def _curl(slope: Tensor) -> Tensor:
    return torch.stack([slope[:, (i + 2) % 3, (i + 1) % 3] - slope[:, (i + 1) % 3, (i + 2) % 3] for i in range(3)], 1)
