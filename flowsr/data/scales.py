"""A field's own scales, its mean where the frame is free and its fluctuation: a model makes it non-dimensional by them.

The equations of a flow know no unit and, along an axis without walls, no frame. A model that divides what it is given
by numbers from training knows both; one that uses the field's own knows neither: M(a u + c) = a M(u) + c holds by
construction. They are taken over the whole field, never over a tile, so that all tiles of one field share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.group.o3 import Irreps

#: Cells along the sides of what is read at once on a pass over a field: whole chunks of most stores.
SIDE = 128


@dataclass(frozen=True)
class FieldScales:
    """What one field is measured in, in its own units.

    Args:
        mean: of every component, over the volume; 0 where no constant may be added (:func:`free_components`).
        fluctuation: RMS over the volume of the length of what is left.
        viscosity: kinematic, for a model that takes the cell Reynolds number (one number, or one a sample, 0 where it
            is not known); None: not known, or of no account.
    """

    mean: tuple[float, ...]
    fluctuation: float
    viscosity: float | Tensor | None = None

    @classmethod
    def unit(cls, components: int) -> FieldScales:
        """Those of a field that is non-dimensional already."""
        return cls((0.0,) * components, 1.0)

    def transformed(self, matrix: np.ndarray) -> FieldScales:
        """Those of the field transformed by a group element, whose matrix acts on its components."""
        return replace(self, mean=tuple((matrix @ np.array(self.mean)).tolist()))

    def tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (1, component) and fluctuation (1,), float64, on a tensor's device."""
        named = dict(dtype=torch.float64, device=like.device)
        return torch.tensor([self.mean], **named), torch.tensor([self.fluctuation], **named)


def free_components(irreps: str, boundary: Sequence[str]) -> tuple[bool, ...]:
    """The components to which the equations allow a constant to be added.

    A velocity along an axis that is periodic or open (Galilean invariance), not through a wall, whose frame is the
    frame; a scalar, of which gradients alone matter. Not a pseudoscalar, a vorticity or a tensor.

    Args:
        irreps: of the field.
        boundary: of x, y, z.
    """
    free: list[bool] = []
    for multiplicity, irrep in Irreps(irreps):
        kind = (irrep.l, irrep.p)
        one = [side != "wall" for side in boundary] if kind == (1, -1) else [kind == (0, 1)] * irrep.dim
        free += one * multiplicity
    return tuple(free)


@dataclass(frozen=True)
class Moments:
    """Mean and variance over some cells, to be merged with those over others (Chan, Golub & LeVeque 1979).

    Args:
        volume: of the cells.
        mean, variance: (batch, component), float64, weighted with the cells' sizes.
    """

    volume: float
    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, values: Tensor, widths: Sequence[np.ndarray] | None = None) -> Moments:
        """Those of (batch, component, x, y, z); ``widths``, the cells' along x, y, z, where they are not all equal.

        Cells of one field, a batch of 1, that have no value (NaN) are left out.
        """
        values = values.double()
        if not torch.compiler.is_exporting() and len(values) == 1 and bool((missing := values.isnan().any(1)[0]).any()):
            return cls._of_the_rest(values, ~missing, widths)
        if widths is None:
            mean = values.mean((2, 3, 4))
            return cls(values[0, 0].numel(), mean, (values - mean[..., None, None, None]).square().mean((2, 3, 4)))
        sizes = [torch.as_tensor(along, dtype=torch.float64, device=values.device) for along in widths]
        x, y, z = (along / along.sum() for along in sizes)
        mean = torch.einsum("bcxyz,x,y,z->bc", values, x, y, z)
        square = (values - mean[..., None, None, None]).square()
        if torch.compiler.is_exporting():  # a graph holds no Python numbers made of its tensors
            volume = float(np.prod([np.sum(along) for along in widths]))
        else:
            volume = float(torch.stack([along.sum() for along in sizes]).prod())
        return cls(volume, mean, torch.einsum("bcxyz,x,y,z->bc", square, x, y, z))

    @classmethod
    def _of_the_rest(cls, values: Tensor, there: Tensor, widths: Sequence[np.ndarray] | None) -> Moments:
        sizes = there.double()
        for along, shape in zip(widths or (), ((-1, 1, 1), (-1, 1), (-1,)), strict=False):
            sizes = sizes * torch.as_tensor(along, dtype=torch.float64, device=values.device).reshape(shape)
        volume, values = float(sizes.sum()), values.nan_to_num()
        share = sizes / max(volume, 1e-300)
        mean = (values * share).sum((2, 3, 4))
        return cls(volume, mean, ((values - mean[..., None, None, None]).square() * share).sum((2, 3, 4)))

    def merged(self, other: Moments) -> Moments:
        """Those over both."""
        if not other.volume or not self.volume:
            return self if self.volume else other
        volume = self.volume + other.volume
        share, step = other.volume / volume, other.mean - self.mean
        variance = self.variance + share * (other.variance - self.variance) + share * (1 - share) * step.square()
        return Moments(volume, self.mean + share * step, variance)

    def scales(self, irreps: str, boundary: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Mean (batch, component), 0 where none may be taken off, and fluctuation (batch,)."""
        free = torch.tensor(free_components(irreps, boundary), device=self.mean.device)
        held = torch.where(free, 0.0, self.mean)
        return torch.where(free, self.mean, 0.0), (self.variance + held.square()).sum(1).sqrt()


def scales_of(field: Tensor, grid: Grid, irreps: str) -> tuple[Tensor, Tensor]:
    """Scales of every sample of a batch, over all its frames together.

    Args:
        field: (batch, frames component, x, y, z), whole boxes.
        grid: theirs.
        irreps: of one frame.

    Returns:
        mean (batch, component) and fluctuation (batch,), float64.
    """
    frames = field.unflatten(1, (-1, Irreps(irreps).dim)).unbind(1)
    moments = _moments(frames[0], grid)
    for frame in frames[1:]:
        moments = moments.merged(_moments(frame, grid))
    return moments.scales(irreps, grid.boundary)


def measure_scales(frames: Sequence[Any], grid: Grid, irreps: str) -> FieldScales:
    """Scales of a field that may be larger than memory, in one pass over it, all its frames together.

    Args:
        frames: (component, x, y, z) or (x, y, z) each, arrays or lazy ones.
        grid: of the whole field.
        irreps: of one frame.
    """
    moments = None
    widths = grid.widths() if any(grid.stretched) else None
    spans = [[slice(a, min(a + SIDE, n)) for a in range(0, n, SIDE)] for n in grid.shape]
    for frame in frames:
        for box in product(*spans):
            values = torch.from_numpy(np.ascontiguousarray(frame[(..., *box)]))
            values = values.reshape(1, -1, *(part.stop - part.start for part in box))
            found = Moments.of(values, widths and [along[part] for along, part in zip(widths, box)])
            moments = found if moments is None else moments.merged(found)
    mean, fluctuation = moments.scales(irreps, grid.boundary)
    return FieldScales(tuple(mean[0].tolist()), float(fluctuation))


def normalized(field: Tensor, mean: Tensor, fluctuation: Tensor) -> Tensor:
    """(field - mean) / fluctuation, in single precision or the field's where that is more; 0 of a field without any.

    Args:
        field: (batch, frames component, x, y, z).
        mean, fluctuation: (batch, component) and (batch,).
    """
    field = field.to(torch.promote_types(field.dtype, torch.float32))
    frames = field.shape[1] // mean.shape[1]
    mean = mean.repeat(1, frames)[..., None, None, None].to(field.dtype)
    size = torch.where(fluctuation > 0, fluctuation, 1.0)[:, None, None, None, None].to(field.dtype)
    return (field - mean) / size


def restored(field: Tensor, mean: Tensor, fluctuation: Tensor) -> Tensor:
    """The inverse: fluctuation field + mean, of (batch, component, x, y, z)."""
    return field * fluctuation[:, None, None, None, None].to(field) + mean[..., None, None, None].to(field)


def _moments(values: Tensor, grid: Grid) -> Moments:
    return Moments.of(values, grid.widths() if any(grid.stretched) else None)
