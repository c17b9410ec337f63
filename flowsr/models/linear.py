"""The best linear guess of the fine field from the coarse cells about it: least squares on pairs, no gradient descent.

Between walls every plane has weights of its own, and so the estimate knows where the walls are; along axes without
walls all places share theirs. In a periodic box this is linear stochastic estimation (Adrian 1979), a Wiener filter of
finite extent. It is solved in seconds, and is the interpolation that a network has to beat.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flowsr.grid import Grid
from flowsr.group import PointGroup, point_group
from flowsr.group.fields import axis_action, transform_field, transform_scalar
from flowsr.kernels.padding import pad, paddings
from flowsr.models.base import MODELS, LearnedUpscaler, Task, trilinear

#: Ridges that are tried, in units of the mean variance of a value that is seen.
RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
#: How much more a cell at a distance of d cells is held down: by 1 + a d^2.
DISTANCE_PENALTIES = (0.0, 1.0, 4.0)
#: Planes to either side that a plane's weights are learned from too, as the width of a Gaussian.
WIDTHS = (0.0, 1.0, 2.0)
#: Parts of the training set, in the order of time, each left out once.
FOLDS = 4


def planes_of(grid: Grid) -> tuple[int, int, int]:
    """Along each axis, how many planes have weights of their own: all between walls, otherwise 1."""
    x, y, z = (n if kind == "wall" else 1 for n, kind in zip(grid.shape, grid.boundary, strict=True))
    return x, y, z


def check_planes(planes: tuple[int, int, int], grid: Grid) -> None:
    """
    Raises:
        ValueError: walls across another axis, or another number of planes between them, than there are weights for.
    """
    if max(planes) > 1 and planes != planes_of(grid):
        sides = ", ".join(f"{n} {kind}" for n, kind in zip(grid.shape, grid.boundary, strict=True))
        raise ValueError(f"weights of {planes} planes are for as many coarse cells between walls, got {sides}")


def check_kept(planes: tuple[int, int, int], group: PointGroup) -> None:
    """
    Raises:
        ValueError: a group of which an element does not keep the planes.
    """
    for element in range(group.order):
        source, _ = axis_action(element, group)
        if tuple(planes[axis] for axis in source) != planes:
            raise ValueError(f"{group.name} does not keep the {planes} planes between walls with weights of their own")


def to_planes(values: Tensor, planes: tuple[int, int, int]) -> Tensor:
    """(batch, number, x, y, z) to (planes x, y, z, number, batch and other places)."""
    for axis, along in zip((2, 4, 6), planes, strict=True):
        values = values.unflatten(axis, (along, -1))
    return values.permute(2, 4, 6, 1, 0, 3, 5, 7).flatten(4)


def from_planes(values: Tensor, batch: int, shape: tuple[int, int, int]) -> Tensor:
    """What :func:`to_planes` does, undone: (batch, number, x, y, z)."""
    rest = [n // p for n, p in zip(shape, values.shape[:3], strict=True)]
    values = values.unflatten(-1, (batch, *rest)).permute(4, 3, 0, 5, 1, 6, 2, 7)
    return values.flatten(6, 7).flatten(4, 5).flatten(2, 3)


@MODELS.register("linear")
class LinearEstimate(LearnedUpscaler):
    """Linear least squares from the cells within reach, plane by plane between walls, ridge by cross-validation.

    Every part of a coarse cell is a weighted sum of all components of the (2 reach + 1)^3 cells about it, and a
    constant; weights minimise the mean square error over the training pairs (linear stochastic estimation: Adrian,
    Physics of Fluids 22, 2065, 1979). Moments are averaged over the group before they are solved for, so that the
    estimate commutes with it: two walls that are images of each other share one set of weights. Where data are few, a
    plane's moments take in those of the planes next to it, whose law is nearly the same. Beyond a wall is zero.

    Args:
        reach: coarse cells to either side that are seen.
        group: what the estimate is to commute with; ``C1`` for nothing but translations along axes without walls.
        planes: planes along x, y, z with weights of their own (:func:`planes_of`); the data set them. More than 1
            along an axis needs whole fields of that many cells between walls.

    Raises:
        ValueError: numbers below 1, and a group that does not keep the planes.
    """

    solved = True

    def __init__(self, task: Task, reach: int = 1, group: str = "C1", planes: Sequence[int] = (1, 1, 1)):
        super().__init__(task)
        self.check_size(0, reach=reach)
        if len(planes) != 3 or min(planes) < 1:
            raise ValueError(f"planes are three numbers of at least 1, got {planes}")
        self.reach, self.group = reach, point_group(group)
        self.planes = (int(planes[0]), int(planes[1]), int(planes[2]))
        check_kept(self.planes, self.group)
        self.halo = reach if self.planes == (1, 1, 1) else None
        self.seen = self.components * self.frames * (2 * reach + 1) ** 3
        self.made = self.components * self.factor**3
        self.weights = nn.Parameter(torch.zeros(*self.planes, self.made, self.seen))
        self.constants = nn.Parameter(torch.zeros(*self.planes, self.made))

    def check_grid(self, grid: Grid) -> None:
        super().check_grid(grid)
        check_planes(self.planes, grid)

    def correction(self, coarse: Tensor, grid: Grid) -> Tensor:
        return self.estimate(coarse, grid, self.weights, self.constants)

    def estimate(self, coarse: Tensor, grid: Grid, weights: Tensor, constants: Tensor) -> Tensor:
        """:meth:`correction` with given weights (planes, made, seen) and constants (planes, made).

        Raises:
            ValueError: a field that the planes are not those of.
        """
        check_planes(self.planes, grid)
        made = weights @ to_planes(self._neighbours(coarse, grid), self.planes)
        made = made + constants.unsqueeze(-1).to(made.dtype)
        return self.parts_to_space(from_planes(made, len(coarse), coarse.shape[-3:]))

    def _neighbours(self, coarse: Tensor, grid: Grid) -> Tensor:
        """(batch, seen, x, y, z): frames and components first, then the cells about the place in C order."""
        seen = pad(coarse, self.reach, paddings(grid.boundary, "zero" if self.halo is None else "replicate"))
        for axis in (2, 3, 4):
            seen = seen.unfold(axis, 2 * self.reach + 1, 1)
        return seen.permute(0, 1, 5, 6, 7, 2, 3, 4).flatten(1, 4)

    # -- how it is found -----------------------------------------------------------------------------------------------

    def moments(self, coarse: Tensor, fine: Tensor, grid: Grid, halo: Sequence[int] = (0, 0, 0)) -> list[Moments]:
        """Sums over a batch of pairs in the model's units, in ``FOLDS`` parts along the places.

        Args:
            coarse: (batch, frames component, x, y, z), halo included.
            fine: (batch, component, s x, s y, s z), of the cells without the halo.
            grid: of ``coarse``.
            halo: coarse cells on either side along x, y, z that are seen only.
        """
        inner = tuple(slice(h, n - h) for h, n in zip(halo, grid.shape, strict=True))
        finer = tuple(slice(s.start * self.factor, s.stop * self.factor) for s in inner)
        left = fine - trilinear(self.target(coarse), self.factor, grid.boundary)[(..., *finer)]
        for axis in (2, 4, 6):
            left = left.unflatten(axis, (-1, self.factor))
        made = to_planes(left.permute(0, 1, 3, 5, 7, 2, 4, 6).flatten(1, 4), self.planes).double()
        seen = to_planes(self._neighbours(coarse, grid)[(..., *inner)], self.planes).double()
        seen = torch.cat([seen, torch.ones_like(seen[..., :1, :])], dim=-2)
        parts = zip(seen.chunk(FOLDS, dim=-1), made.chunk(FOLDS, dim=-1), strict=True)
        return [Moments(one.shape[-1], one @ one.mT, one @ other.mT) for one, other in parts]

    @torch.no_grad()
    def solve(self, parts: Sequence[Moments], volumes: Tensor | None = None) -> Solved:
        """Take the weights that leave least; ridge, penalty and width are chosen on the parts left out in turn.

        Args:
            parts: moments of the parts of the training set; of one alone, the largest ridge is taken.
            volumes: (planes, made), of the fine cells, as errors are weighted when ridges are compared.

        Returns:
            What was chosen.
        """
        parts = [self._averaged(part) for part in parts]
        whole = sum(parts[1:], start=parts[0])
        shares = torch.ones(1) if volumes is None else volumes
        found, least = Solved(RIDGES[-1], DISTANCE_PENALTIES[-1], WIDTHS[0]), math.inf
        widths = WIDTHS if max(self.planes) > 1 else WIDTHS[:1]
        for width in widths if len(parts) > 1 else ():
            folds = [(self._widened(whole - part, width), part) for part in parts]
            strongest = DISTANCE_PENALTIES[-1]
            _, ridge = min((self._left(folds, tried, strongest, shares), tried) for tried in RIDGES)
            left, penalty = min((self._left(folds, ridge, tried, shares), tried) for tried in DISTANCE_PENALTIES)
            if left < least:
                found, least = Solved(ridge, penalty, width), left
        held = found.ridge * self._penalty(found.distance_penalty)
        weights, constants = self._split(self._widened(whole, found.width).solution(held))
        self.weights.copy_(weights)
        self.constants.copy_(constants)
        return found

    def _split(self, solution: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (planes, made, seen) and constants (planes, made); averaged, so that they are exactly symmetric."""
        both = self._mean_over_group(solution, self._action_seen, self._action_made).to(self.weights)
        return both[..., :-1, :].mT.contiguous(), both[..., -1, :].contiguous()

    def _penalty(self, strength: float) -> Tensor:
        """(seen + 1,): 1 + strength d^2, d the distance in cells; none on the constant."""
        steps = torch.arange(-self.reach, self.reach + 1, dtype=torch.float64).square()
        squares = (steps[:, None, None] + steps[:, None] + steps).flatten()
        held = 1 + strength * squares.repeat(self.seen // len(squares))
        return torch.cat([held, held.new_zeros(1)])

    def _left(self, folds: Sequence[tuple[Moments, Moments]], ridge: float, penalty: float, shares: Tensor) -> float:
        """Summed square error on the second of every two moments, of the weights that the first give."""
        held = ridge * self._penalty(penalty)
        return float(sum((test.error(rest.solution(held)) * shares).sum() for rest, test in folds))

    def _widened(self, m: Moments, width: float) -> Moments:
        """Moments of every plane, with those of planes d planes away weighted by exp(-(d / width)^2 / 2)."""
        seen, cross = m.seen, m.cross
        for axis, planes in enumerate(self.planes):
            if width and planes > 1:
                at = torch.arange(planes, dtype=seen.dtype)
                near = torch.exp(-(((at[:, None] - at) / width) ** 2) / 2)
                near = near / near.sum(1, keepdim=True)
                seen, cross = (torch.tensordot(near, of, ([1], [axis])).movedim(0, axis) for of in (seen, cross))
        return Moments(m.places, seen, cross)

    def _averaged(self, m: Moments) -> Moments:
        """Moments as they would be had every pair been seen in all orientations of the group."""
        seen = self._mean_over_group(m.seen, self._action_seen, self._action_seen)
        return Moments(m.places, seen, self._mean_over_group(m.cross, self._action_seen, self._action_made))

    def _mean_over_group(self, values: Tensor, left: Callable[[int], Tensor], right: Callable[[int], Tensor]) -> Tensor:
        """(planes, rows, columns), averaged over the group, which moves planes, rows and columns."""
        found = torch.zeros_like(values)
        for element in range(self.group.order):
            moved = transform_scalar(values.movedim((0, 1, 2), (-3, -2, -1)), element, self.group)
            found += left(element) @ moved.movedim((-3, -2, -1), (0, 1, 2)) @ right(element).mT
        return found / self.group.order

    def _action_seen(self, element: int) -> Tensor:
        """(seen + 1, seen + 1) matrix of an element on what is seen, the constant 1 last."""
        side = 2 * self.reach + 1
        basis = torch.eye(self.seen, dtype=torch.float64)
        cube = basis.view(self.seen, self.frames, self.components, side, side, side)
        moved = transform_field(cube, element, self.irreps, self.group).flatten(1).mT
        return torch.block_diag(moved, torch.ones(1, 1, dtype=torch.float64))

    def _action_made(self, element: int) -> Tensor:
        """(made, made) matrix of an element on the parts of a cell."""
        basis = torch.eye(self.made, dtype=torch.float64)
        cube = basis.view(self.made, self.components, self.factor, self.factor, self.factor)
        return transform_field(cube, element, self.irreps, self.group).flatten(1).mT


@dataclass(frozen=True)
class Moments:
    """Sums over places, of what is seen there and of what is to be made of it; those of other places can be added.

    Args:
        places: how many.
        seen: (planes, seen + 1, seen + 1), products of what is seen; the last number seen is 1.
        cross: (planes, seen + 1, made), products with what interpolation leaves.
    """

    places: int
    seen: Tensor
    cross: Tensor

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.places + other.places, self.seen + other.seen, self.cross + other.cross)

    def __sub__(self, other: Moments) -> Moments:
        return Moments(self.places - other.places, self.seen - other.seen, self.cross - other.cross)

    def solution(self, held: Tensor) -> Tensor:
        """(planes, seen + 1, made): ridge regression, ``held`` (seen + 1,) in units of the mean variance seen."""
        products = self.seen / self.places
        variance = (products.diagonal(dim1=-2, dim2=-1) - products[..., -1].square()).mean(-1).clamp(min=1e-30)
        return torch.linalg.solve(products + torch.diag_embed(variance[..., None] * held), self.cross / self.places)

    def error(self, solution: Tensor) -> Tensor:
        """(planes, made): summed square error of a solution, less what does not depend on it."""
        return (solution * (self.seen @ solution - 2 * self.cross)).sum(-2)


@dataclass(frozen=True)
class Solved:
    """The ridge, the distance penalty and the width over planes that a linear estimate was solved with."""

    ridge: float
    distance_penalty: float
    width: float
