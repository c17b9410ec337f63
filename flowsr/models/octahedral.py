"""Octahedral group networks for super-resolution: strict, and relaxed (Wang, Walters & Smidt 2023, arXiv 2310.02299).

Lifting, residual group convolutions on the coarse grid, and one projection that is the sub-voxel step as well: all the
work is done where there are s^3 times fewer points. Every part commutes with the group; the relaxed weights alone may
learn not to.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowsr.grid import Grid
from flowsr.group import PointGroup, point_group, split_by_irrep
from flowsr.group.fields import representation, transform_field, transform_scalar
from flowsr.models.base import MODELS, LearnedUpscaler, Task, cell_reynolds
from flowsr.models.linear import check_kept, check_planes, from_planes, to_planes
from flowsr.nn import Boundary, Chain, GroupConv, LiftingConv, Projection, ResidualBlock, subvoxels_to_space
from flowsr.nn.layer import RelaxedLayer, right_cosets
from flowsr.nn.pointwise import WallWeights, wall_functions


class OctahedralNetwork(LearnedUpscaler):
    """Group-convolutional up-scaler.

    Args:
        group: ``O`` (24 rotations), ``Oh`` (48, with reflections) or any other subgroup of O_h by its label, such as
            ``C2v(100;100)[100]``.
        channels: regular channels, each of them one value per group element.
        blocks: residual blocks of two group convolutions.
        filter_banks: filter banks L of each layer, mixed by its relaxed weights.
        relaxed_to: a subgroup of ``group`` that training cannot break: a relaxed network starts with all of ``group``
            and ends with this at the least.
        wall_functions: functions of the distance to the nearest wall that the relaxed weights depend on as well, the
            same for all elements in a strict network; 0 for none. More than 0 needs whole fields.
        reynolds: whether the first features are told the cell Reynolds number, Delta^2 |S| / nu, by which they grow or
            shrink. Of a field whose viscosity is not known it is 0, which changes nothing.
        wall_padding: how features are continued beyond sides that are not periodic: ``replicate``, ``reflect`` or
            ``zero``.

    Raises:
        ValueError: channels or filter banks below 1, negative blocks, or an unknown group or padding.
    """

    relaxed: bool

    def __init__(
        self,
        task: Task,
        group: str = "O",
        channels: int = 4,
        blocks: int = 1,
        filter_banks: int = 1,
        wall_padding: str = "replicate",
        relaxed_to: str | None = None,
        wall_functions: int = 0,
        reynolds: bool = False,
    ):
        super().__init__(task)
        self.check_size(blocks, channels=channels, filter_banks=filter_banks)
        if wall_functions < 0:
            raise ValueError(f"wall_functions must not be negative, got {wall_functions}")
        self.group = point_group(group)
        if relaxed_to is not None and not self.relaxed:
            raise ValueError("relaxed_to is for relaxed networks")
        kept = None if relaxed_to is None else point_group(relaxed_to)
        shared = dict(filter_banks=filter_banks, relaxed=self.relaxed, wall_padding=wall_padding, relaxed_to=kept)
        self.lifting = LiftingConv(self.group, self.irreps, self.frames, channels, **shared)
        self.blocks = Chain(
            ResidualBlock(lambda: GroupConv(self.group, channels, channels, **shared)) for _ in range(blocks)
        )
        self.takes_viscosity, self.reynolds_lifting = reynolds, None
        if reynolds:
            if self.irreps not in ("1o", "1x1o") or not self.needs_scales:
                raise ValueError("reynolds is for one velocity in its own units, 1o")
            self.reynolds_lifting = LiftingConv(self.group, "0e", 1, channels, bias=False, **shared)
            nn.init.zeros_(self.reynolds_lifting.filters)  # and from the network that is not told the number
        self.projection = Projection(self.group, channels, self.irreps, upsample=self.factor, **shared)
        nn.init.zeros_(self.projection.filters)  # training starts from the interpolation
        self.activation = nn.GELU()
        self.wall_functions, self.halo = wall_functions, 2 + 2 * blocks + reynolds
        if wall_functions:
            numbers = torch.zeros(self.group.order, dtype=torch.int64)
            if self.relaxed:
                numbers = torch.arange(len(numbers)) if kept is None else torch.tensor(right_cosets(self.group, kept))
            self.walls, self.halo = nn.ModuleList(WallWeights(numbers, wall_functions) for _ in range(blocks + 1)), None

    def check_grid(self, grid: Grid) -> None:
        super().check_grid(grid)
        if self.wall_functions and "wall" not in grid.boundary:
            raise ValueError(f"wall_functions are for boxes with a wall, got {grid.boundary}")

    @property
    def wall_layers(self) -> list[tuple[WallWeights, RelaxedLayer]]:
        """The weights by wall distance, and the layer whose features each of them multiplies."""
        makers = [self.lifting, *(block.convolutions[-1] for block in self.blocks)]
        return list(zip(self.walls, makers, strict=True)) if self.wall_functions else []

    def correction(self, coarse: Tensor, grid: Grid, reynolds: Tensor | None = None) -> Tensor:
        features = self.lifting(coarse, grid.boundary)
        if self.reynolds_lifting is not None:
            # over 5 it is 1 at 150; and a filter sums 27 cells that hardly differ
            number = torch.log1p(cell_reynolds(self.target(coarse), grid, reynolds)) / (5 * 27)
            features = features * (1 + self.reynolds_lifting(number.to(features.dtype), grid.boundary))
        if self.wall_functions:
            phi = wall_functions(grid, self.wall_functions).to(features.device)
            for walls, block in zip(self.walls, self.blocks, strict=False):
                features = block(walls(features, phi), grid.boundary)
            features = self.walls[-1](features, phi)
        else:
            features = self.blocks(features, grid.boundary)
        return self.projection(self.activation(features), grid.boundary)


@MODELS.register("relaxed")
class Relaxed(OctahedralNetwork):
    """Starts exactly equivariant; training may break the symmetries that the data break, and says which."""

    relaxed = True


@MODELS.register("strict")
class Strict(OctahedralNetwork):
    """The same network with its relaxed weights frozen: exactly equivariant for ever."""

    relaxed = False


class PlaneProjection(nn.Module):
    """Parts of a coarse cell from the regular features of that cell, with weights of their own in every plane.

    W and b are averaged over the group as they are used, W_kp = rho(k) W_p P(k)^-1 with P the regular representation,
    so that it commutes exactly and planes that are images of each other share theirs. All are zero at the start.

    Args:
        group: a point group.
        channels: regular channels.
        irreps: e3nn irreps of the field that is made.
        factor: parts of a cell along each axis.
        planes: along x, y, z, with weights of their own (:func:`flowsr.models.linear.planes_of`).

    Raises:
        ValueError: a group of which an element does not keep the planes.
    """

    def __init__(self, group: PointGroup, channels: int, irreps: str, factor: int, planes: tuple[int, int, int]):
        super().__init__()
        check_kept(planes, group)
        self.group, self.irreps, self.planes = group, irreps, planes
        self.components, self.factor = len(representation(irreps, group)[0]), factor
        made = self.components * factor**3
        self.weights = nn.Parameter(torch.zeros(*planes, made, channels * group.order))
        self.constants = nn.Parameter(torch.zeros(*planes, made))

    def symmetric(self) -> Tensor:
        """(planes x, y, z, made, features + 1), the constants last."""
        mean = 0
        for element in range(self.group.order):
            moved = []
            for one in (self.weights, self.constants.unsqueeze(-1)):
                one = transform_scalar(one.movedim((0, 1, 2), (-3, -2, -1)), element, self.group)
                cube = one.permute(2, 3, 4, 1, 0).unflatten(-1, (self.components, *[self.factor] * 3))
                moved.append(transform_field(cube, element, self.irreps, self.group).flatten(-4).mT)
            before = self.group.left_quotient[element].tolist()
            turned = moved[0].unflatten(-1, (-1, self.group.order))[..., before].flatten(-2)
            mean = mean + torch.cat([turned, moved[1]], -1) / self.group.order
        return mean

    def forward(self, features: Tensor, boundary: Boundary) -> Tensor:
        """(batch, channel, n, x, y, z) to (batch, component, factor x, factor y, factor z)."""
        weights = self.symmetric().to(features.dtype)
        made = weights[..., :-1] @ to_planes(features.flatten(1, 2), self.planes) + weights[..., -1:]
        parts = from_planes(made, len(features), features.shape[-3:])
        return subvoxels_to_space(parts.unflatten(1, (self.components, -1)), self.factor)


@MODELS.register("planewise")
class Planewise(Strict):
    """A strict network whose last step has weights of its own in every plane between walls.

    What a layer between walls has to do differs from plane to plane, as cells and turbulence do. The last step sees one
    cell and is cheap: it has a 27th of the products of that of ``strict``. What more cells tell at once is left to a
    linear estimate, which has weights of its own in every plane too: put it on one, ``base: {reach: 2}``.

    Args:
        group, channels, blocks, wall_padding: see :class:`OctahedralNetwork`.
        planes: planes along x, y, z with weights of their own; the data set them. More than 1 along an axis needs
            whole fields of that many cells between walls.

    Raises:
        ValueError: as there, and a group that does not keep the planes.
    """

    def __init__(
        self,
        task: Task,
        group: str = "C1",
        channels: int = 4,
        blocks: int = 1,
        wall_padding: str = "replicate",
        planes: Sequence[int] = (1, 1, 1),
    ):
        super().__init__(task, group, channels, blocks, wall_padding=wall_padding)
        if len(planes) != 3 or min(planes) < 1:
            raise ValueError(f"planes are three numbers of at least 1, got {planes}")
        self.planes = (int(planes[0]), int(planes[1]), int(planes[2]))
        self.projection = PlaneProjection(self.group, channels, self.irreps, self.factor, self.planes)
        self.halo = 1 + 2 * blocks if self.planes == (1, 1, 1) else None

    def check_grid(self, grid: Grid) -> None:
        super().check_grid(grid)
        check_planes(self.planes, grid)

    def correction(self, coarse: Tensor, grid: Grid, reynolds: Tensor | None = None) -> Tensor:
        check_planes(self.planes, grid)
        return super().correction(coarse, grid, reynolds)


def relaxed_weights(model: nn.Module) -> dict[str, Tensor]:
    """The relaxed weights of every layer that has them: layer name to (filter bank, group element), detached."""
    return {
        name: layer.weights().detach().cpu() for name, layer in model.named_modules() if isinstance(layer, RelaxedLayer)
    }


def breaking_power(model: nn.Module) -> dict[str, Tensor]:
    """How much of the relaxed weights lies in each irrep but the trivial one, over that, summed over layers.

    Of a layer it is the mean over its filter banks of the squared length of the part in an irrep, over the squared
    length of the mean. So it is of the weights 1 + sum_k a_k(g) cos(2 k t) that depend on the distance to a wall, with
    squared lengths that are means over t (:func:`flowsr.nn.pointwise.wall_functions`): of a cosine 1/2, and 0 across.

    Returns:
        irrep of the network's group to a scalar, differentiable.
    """
    found: dict[str, Tensor] = {}

    def powers(weights: Tensor, layer: RelaxedLayer) -> tuple[dict[str, Tensor], Tensor]:
        parts = split_by_irrep(weights @ layer.tables.fourier.to(weights.dtype).T, layer.group)
        power = {name: part.square().sum((-2, -1)) for name, part in parts.items()}
        trivial = power.pop(layer.group.irreps[0].name)
        return power, trivial

    for layer in model.modules():
        if isinstance(layer, RelaxedLayer):
            power, trivial = powers(layer.weights(), layer)
            for name, of_irrep in power.items():
                found[name] = found.get(name, 0) + (of_irrep / trivial).mean()
        for walls, maker in layer.wall_layers if isinstance(layer, OctahedralNetwork) else ():
            power, trivial = powers(walls.weights[:, walls.numbers], maker)
            for name, of_irrep in power.items():
                found[name] = found.get(name, 0) + of_irrep.sum() / (2 * layer.group.order + trivial.sum())
    return found
