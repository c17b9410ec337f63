"""What the slice pictures show: one plane through the box, the same quantity of every field on it.

Derivatives are taken only on the plane, by one matrix per axis, so that no gradient of a whole volume is ever formed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from flowsr.grid import Grid
from flowsr.metrics.derivatives import derivative


@dataclass(frozen=True)
class SliceSet:
    """One quantity on one plane: coarse, every model, truth.

    Args:
        label: what is drawn, in words ("Vorticity magnitude").
        symbol: the same as matplotlib mathematics, for the colour bar.
        unit: of the values; ``1`` or empty where they have none.
        signed: whether the values have a meaningful zero in their middle (diverging colours) or start at zero.
        axis_names: names of the two coordinates in the plane.
        length_unit: of the coordinates; ``1`` or empty where they have none.
        extent: low and high side of the box along the first coordinate, then along the second.
        plane: where the plane lies ("z = 3.14").
        coarse: (m1, m2), what the models were given.
        panels: model name -> (n1, n2), what each made of it.
        truth: (n1, n2).

    Raises:
        ValueError: a panel whose shape is not that of the truth.
    """

    label: str
    symbol: str
    unit: str
    signed: bool
    axis_names: tuple[str, str]
    length_unit: str
    extent: tuple[float, float, float, float]
    plane: str
    coarse: np.ndarray
    panels: dict[str, np.ndarray]
    truth: np.ndarray

    def __post_init__(self):
        for name, panel in self.panels.items():
            if panel.shape != self.truth.shape:
                raise ValueError(f"slice of '{name}' has shape {panel.shape}, the truth {self.truth.shape}")

    def error(self, name: str) -> np.ndarray:
        """Model minus truth, (n1, n2)."""
        return self.panels[name] - self.truth

    def relative_error(self, name: str) -> float:
        """r.m.s. error on the plane over the truth's standard deviation there; NaN where the truth is constant."""
        scale = float(np.std(self.truth))
        return float(np.sqrt(np.mean(self.error(name) ** 2))) / scale if scale > 0 else float("nan")


def collect_slices(
    truth, coarse, fields: Mapping[str, object], grid: Grid, *, velocity_unit: str = "1", length_unit: str = "1"
) -> tuple[SliceSet, ...]:
    """Vorticity magnitude and the first velocity component on the middle plane across z.

    The coarse cells whose layer holds the plane are shown as they are. Vorticity magnitude is over the r.m.s. vorticity
    of the truth on the plane, as is the custom; on the coarse grid it is the vorticity of the coarse field. Fields
    without three components have no vorticity: their first component alone is shown.

    Args:
        truth: (component, x, y, z), anything numpy can read.
        coarse: (component, x/s, y/s, z/s).
        fields: model name -> (component, x, y, z), in the order to be drawn.
        grid: grid of the truth.
        velocity_unit: unit of the values.
        length_unit: unit of the grid's spacing.

    Raises:
        ValueError: fields that do not fit the grid.
    """
    truth, coarse = np.asarray(truth), np.asarray(coarse)
    fields = {name: np.asarray(field) for name, field in fields.items()}
    for name, field in {"truth": truth, **fields}.items():
        if field.shape[1:] != grid.shape:
            raise ValueError(f"'{name}' has shape {field.shape}, the grid {grid.shape}")
    factor = grid.shape[0] // coarse.shape[1]
    coarse_grid = grid.coarsened(factor)
    if coarse.shape[1:] != coarse_grid.shape:
        raise ValueError(f"coarse field has shape {coarse.shape}, the coarse grid {coarse_grid.shape}")
    middle = grid.shape[2] // 2
    coarse_middle = middle // factor
    where = {
        "axis_names": ("x", "y"),
        "length_unit": length_unit,
        "extent": (grid.origin[0], grid.origin[0] + grid.lengths[0], grid.origin[1], grid.origin[1] + grid.lengths[1]),
        "plane": f"z = {grid.coordinates()[2][middle]:.3g}"
        + (f" {length_unit}" if length_unit not in ("", "1") else ""),
    }
    component = SliceSet(
        label="Velocity component u" if len(truth) == 3 else "First component",
        symbol="$u$",
        unit=velocity_unit,
        signed=True,
        coarse=coarse[0, :, :, coarse_middle],
        panels={name: field[0, :, :, middle] for name, field in fields.items()},
        truth=truth[0, :, :, middle],
        **where,
    )
    if len(truth) != 3:
        return (component,)
    true_vorticity = vorticity_magnitude(truth, grid, middle)
    scale = float(np.sqrt(np.mean(true_vorticity**2))) or 1.0
    vorticity = SliceSet(
        label="Vorticity magnitude",
        symbol=r"$|\boldsymbol{\omega}|/\omega_{\mathrm{rms}}$",
        unit="1",
        signed=False,
        coarse=vorticity_magnitude(coarse, coarse_grid, coarse_middle) / scale,
        panels={name: vorticity_magnitude(field, grid, middle) / scale for name, field in fields.items()},
        truth=true_vorticity / scale,
        **where,
    )
    return (vorticity, component)


def vorticity_magnitude(velocity: np.ndarray, grid: Grid, layer: int) -> np.ndarray:
    """|curl u| on the plane z = centre of cell ``layer``, (x, y).

    Args:
        velocity: (3, x, y, z).
        grid: its grid.
        layer: index along z.
    """
    along_x, along_y, along_z = (differentiation_matrix(grid, axis) for axis in range(3))
    plane = velocity[..., layer].astype(np.float64)
    by_x = np.einsum("ij,cjk->cik", along_x, plane)
    by_y = np.einsum("ij,ckj->cki", along_y, plane)
    by_z = np.tensordot(velocity, along_z[layer], axes=(3, 0))
    curl = np.stack([by_y[2] - by_z[1], by_z[0] - by_x[2], by_x[1] - by_y[0]])
    return np.sqrt(np.sum(curl**2, axis=0))


def differentiation_matrix(grid: Grid, axis: int) -> np.ndarray:
    """The matrix (cells, cells) of :func:`flowsr.metrics.derivatives.derivative` along one axis."""
    cells = grid.shape[axis]
    line = Grid((cells, 1, 1), (grid.spacing[axis], 1.0, 1.0), (grid.boundary[axis], "periodic", "periodic"))
    identity = torch.eye(cells, dtype=torch.float64).reshape(cells, cells, 1, 1)
    return derivative(identity, line, 0)[:, :, 0, 0].T.numpy()
