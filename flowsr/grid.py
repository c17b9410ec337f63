"""The box a field lives in: shape, spacing and boundary of a cell-centred grid.

Array axis 0 of the three spatial axes is x, axis 1 is y, axis 2 is z, everywhere in flowsr. Cell ``i`` of an axis with
spacing ``d`` that starts at ``o`` has its centre at ``o + (i + 1/2) d``; a flip or a permutation of the axes is then
an exact index permutation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

Triple = tuple[float, float, float]
BOUNDARIES = ("periodic", "wall", "open")


@dataclass(frozen=True)
class Grid:
    """A uniform, cell-centred, three-dimensional grid.

    Args:
        shape: number of cells along x, y, z.
        spacing: cell size along x, y, z, in the length unit of the data.
        boundary: ``periodic``, ``wall`` or ``open`` along x, y, z. ``open`` is an artificial edge (the side of a patch):
            what lies beyond is unknown and is extrapolated.
        origin: coordinate of the low corner of the box (not of the first cell centre).

    Raises:
        ValueError: a shape or spacing that is not positive, or an unknown boundary.
    """

    shape: tuple[int, int, int]
    spacing: Triple = (1.0, 1.0, 1.0)
    boundary: tuple[str, str, str] = ("periodic", "periodic", "periodic")
    origin: Triple = (0.0, 0.0, 0.0)

    def __post_init__(self):
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "spacing", tuple(float(d) for d in self.spacing))
        object.__setattr__(self, "boundary", tuple(str(b) for b in self.boundary))
        object.__setattr__(self, "origin", tuple(float(o) for o in self.origin))
        if not (len(self.shape) == len(self.spacing) == len(self.boundary) == len(self.origin) == 3):
            raise ValueError(f"a grid has three axes, got {self}")
        if any(n < 1 for n in self.shape) or any(not d > 0 for d in self.spacing):
            raise ValueError(f"shape and spacing must be positive, got {self.shape} and {self.spacing}")
        if any(b not in BOUNDARIES for b in self.boundary):
            raise ValueError(f"boundary must be one of {BOUNDARIES} per axis, got {self.boundary}")

    @property
    def lengths(self) -> Triple:
        """Side lengths of the box."""
        return tuple(n * d for n, d in zip(self.shape, self.spacing))

    @property
    def periodic(self) -> bool:
        """True when all three axes are periodic."""
        return all(b == "periodic" for b in self.boundary)

    def coordinates(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cell-centre coordinates along x, y, z."""
        return tuple(o + (np.arange(n) + 0.5) * d for o, n, d in zip(self.origin, self.shape, self.spacing))

    def refined(self, factor: int) -> Grid:
        """The grid of the same box with ``factor`` times as many cells along every axis."""
        return replace(self, shape=tuple(n * factor for n in self.shape), spacing=tuple(d / factor for d in self.spacing))

    def coarsened(self, factor: int) -> Grid:
        """The grid of the same box with cells ``factor`` times as long.

        Raises:
            ValueError: a side that ``factor`` does not divide.
        """
        if any(n % factor for n in self.shape):
            raise ValueError(f"factor {factor} does not divide the shape {self.shape}")
        return replace(self, shape=tuple(n // factor for n in self.shape), spacing=tuple(d * factor for d in self.spacing))
