"""Any network made exactly symmetric after it was trained: its result averaged over a group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from flowsr.data.scales import FieldScales
from flowsr.grid import Grid
from flowsr.group import point_group
from flowsr.group.fields import representation, transform_field, transform_grid
from flowsr.models.base import Upscaler, Wrapper
from flowsr.models.linear import LinearEstimate, check_kept
from flowsr.models.octahedral import Planewise


@contextmanager
def as_trained(model: Upscaler) -> Iterator[None]:
    """Leave averages out in here."""
    averages = [module for module in model.modules() if isinstance(module, GroupAverage)]
    for average in averages:
        average.plain = True
    try:
        yield
    finally:
        for average in averages:
            average.plain = False


class GroupAverage(Wrapper):
    """M(u) = mean over g of g^-1 m(g u) when it is used; m itself while it is trained, validation included.

    Commutes with the group exactly, at as many times m's cost as the group has elements. For a convex loss it is never
    worse on the average over the group than m (Jensen), and what it gains is the share of m's loss that is due to
    imperfect symmetry (Elesedy & Zaidi 2021, arXiv 2102.10333).

    Args:
        model: any up-scaler.
        group: name of a point group, such as ``Oh`` or ``C2v(100;100)[100]``.

    Attributes:
        plain: whether it is m for now.
        over: the group; ``group`` is m's own.

    Raises:
        ValueError: a group of which an element moves the walls that m has weights by plane between.
    """

    def __init__(self, model: Upscaler, group: str):
        super().__init__(model)
        self.plain, self.over = False, point_group(group)
        for module in model.modules():
            if isinstance(module, (LinearEstimate, Planewise)):
                check_kept(module.planes, self.over)

    def extra_repr(self) -> str:
        return f"group={self.over.name}"

    def forward(self, coarse: Tensor, grid: Grid, scales: FieldScales | None = None) -> Tensor:
        """:meth:`Upscaler.forward`."""
        if self.plain:
            return self.inside(coarse, grid, scales)
        sum_, frames = None, coarse.unflatten(1, (self.frames, -1))
        for element in range(self.over.order):
            inverse = int(self.over.inverse[element])
            moved = transform_field(frames, element, self.irreps, self.over).flatten(1, 2).contiguous()
            matrix = representation(self.irreps, self.over)[element]
            known = None if scales is None else scales.transformed(matrix)
            made = self.inside(moved, transform_grid(grid, element, self.over), known)
            back = transform_field(made, inverse, self.irreps, self.over)
            sum_ = back if sum_ is None else sum_ + back
        return torch.as_tensor(sum_) / self.over.order
