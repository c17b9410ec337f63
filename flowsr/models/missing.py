"""What a model makes of a field with missing values: nothing within its reach of one, and beyond what it always makes.

The model itself never sees a missing value: it is given the mean in their places, and what they reach is made missing
again. Reach is counted in boxes, ``halo`` coarse cells to all sides, so that a field taken whole and one taken tile by
tile, each with its halo, miss the same cells.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flowsr.data.quality import any_within
from flowsr.data.scales import FieldScales, scales_of
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.models.base import Upscaler, repeat_cells


def reached(coarse: np.ndarray, halo: int | None, boundary: tuple[str, str, str]) -> np.ndarray:
    """The coarse cells whose fine ones depend on a missing value.

    Args:
        coarse: (frames component, x, y, z), NaN where missing.
        halo: of the model; None: everything depends on everything.
        boundary: of the axes; periodic ones are wrapped.

    Returns:
        (x, y, z) bool.
    """
    missing = np.isnan(coarse).any(axis=0)
    if not missing.any():
        return missing
    if halo is None:
        return np.ones_like(missing)
    return any_within(missing, [(-halo, 2 * halo + 1)] * 3, boundary)


@torch.no_grad()
def around_missing(model: Upscaler, coarse: Tensor, grid: Grid, scales: FieldScales | None = None) -> Tensor:
    """``model(coarse, grid)`` for a field of which some values are missing, NaN.

    Args:
        coarse: (batch, frames component, x, y, z).
        grid: its grid.
        scales: of the whole field, where ``coarse`` is a tile of it; None: those of what has a value in each sample.

    Returns:
        (batch, component, factor x, factor y, factor z), NaN within the model's reach of a missing value, and
        there only.

    Raises:
        FlowsrError: a model that needs the whole field, of which a missing value leaves nothing.
    """
    missing = torch.isnan(coarse)
    if not bool(missing.any()):
        return model(coarse, grid, **({} if scales is None or not model.needs_scales else {"scales": scales}))
    if scales is None and len(coarse) > 1:
        return torch.cat([around_missing(model, one, grid) for one in coarse.split(1)])
    if model.halo is None:
        where = {"expected": "none", "found": int(missing.sum())}
        hint = "take one with a finite reach"
        raise FlowsrError(f"missing values: {type(model).__name__} needs the whole field", **where, hint=hint)
    near = [reached(values.cpu().numpy(), model.halo, grid.boundary) for values in coarse]
    masked = torch.as_tensor(np.stack(near), device=coarse.device)
    if bool(masked.all()):
        fine = (n * model.factor for n in grid.shape)
        return torch.full((len(coarse), model.components, *fine), torch.nan, dtype=coarse.dtype, device=coarse.device)
    if scales is None:
        mean, fluctuation = scales_of(coarse, grid, model.irreps)
        scales = FieldScales(tuple(mean[0].tolist()), float(fluctuation[0]), model.viscosity)
    fill = torch.tensor(scales.mean * model.frames, dtype=coarse.dtype, device=coarse.device)
    filled = torch.where(missing, fill[:, None, None, None], coarse)
    made = model(filled, grid, **({"scales": scales} if model.needs_scales else {}))
    return made.masked_fill(repeat_cells(masked, model.factor)[:, None], torch.nan)
