"""Heights of layers that a file gives by the geopotential of their faces, as WRF does: ``(PH + PHB) / g``.

Such layers are surfaces of pressure: they move with the flow and follow the ground. Where they stay within a tenth of a
layer of their mean heights, as in large-eddy simulations over flat ground, these are their heights, and the share that
is ignored is said. Skamarock et al., NCAR/TN-556, section 2.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from flowsr.data.readers.lazy import LazyArray
from flowsr.errors import require

GEOPOTENTIAL, GRAVITY = ("PH", "PHB"), 9.81
#: Attribute of such heights: by how much levels differ from them, in layers.
MOVING = "level_motion"
#: How far a face may be from its mean height, in layers; and how many columns along x and y are looked at.
MOST_MOVED, COLUMNS = 0.1, 16


def mean_heights(arrays: Mapping[str, LazyArray], count: int, file) -> tuple[xr.Variable, str] | None:
    """Mean heights of the centres of layers, in m, and what to say of them; None where a file has no geopotential.

    The first and the last snapshot are looked at.

    Args:
        arrays: of the file by name; the geopotential is (time, face, y, x).
        count: of layers.

    Raises:
        FlowsrError: layers that move, or follow the ground, by more than a tenth of their thickness.
    """
    parts = [arrays[name] for name in GEOPOTENTIAL if name in arrays]
    if len(parts) < 2 or any(len(p.shape) != 4 or p.shape != parts[0].shape or p.shape[1] != count + 1 for p in parts):
        return None
    times, _, *sides = parts[0].shape
    columns = [slice(0, None, max(1, n // COLUMNS)) for n in sides]
    index = (slice(0, None, max(1, times - 1)), slice(None), *columns)
    heights = sum(part.read(index).astype(float) for part in parts) / GRAVITY
    faces = heights.mean((0, 2, 3))
    layers = np.diff(faces)
    where = {"file": file, "variable": " + ".join(GEOPOTENTIAL)}
    require((layers > 0).all(), "levels that do not rise", **where, found=faces[:4].round(2).tolist())
    thinnest = np.minimum(np.append(layers, np.inf), np.insert(layers, 0, np.inf))
    moved = float((np.abs(heights - faces[:, None, None]).max((0, 2, 3)) / thinnest).max())
    require(
        moved <= MOST_MOVED,
        "levels that move or follow the ground",
        **where,
        expected=f"heights within {MOST_MOVED:.0%} of a layer of their mean",
        found=f"{moved:.0%}",
        hint="interpolate to fixed heights first, or state them: coordinates: {z: [...]} in a manifest",
    )
    attrs = {"units": "m", "extent": [float(faces[0]), float(faces[-1])], MOVING: moved}
    return xr.Variable(
        ("z",), (faces[1:] + faces[:-1]) / 2, attrs
    ), f"z is the mean of (PH + PHB) / {GRAVITY}, from which levels differ by up to {moved:.1%} of a layer"
