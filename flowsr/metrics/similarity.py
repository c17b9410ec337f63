"""Structural similarity in three dimensions, of scalars and of vectors."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import FieldMetric, Quantity, volume_of, volume_sum
from flowsr.metrics.fields import COMPONENTS

WINDOW_SIGMA = 1.5  # cells
WINDOW_RADIUS = 5  # cells: 11 along each axis
RANGE_DEVIATIONS = 6.0  # data range in standard deviations of the truth: three to each side
LUMINANCE, CONTRAST = 0.01, 0.03

_SOURCE = "mean of the SSIM index, 11^3 Gaussian window; Wang et al., IEEE Trans. Image Process. 13, 600 (2004), eq. 13"


def gaussian_mean(field: Tensor, grid: Grid) -> Tensor:
    """Mean around every cell with a Gaussian window of 1.5 cells, cut at 5 cells along each axis.

    The window wraps on periodic axes; at walls and open edges it ends with the field, and the weights of the cells
    that are left add up to one. It is the same along every axis, in cells. (..., x, y, z) to (..., x, y, z).
    """
    for axis in range(3):
        dim = field.ndim - 3 + axis
        weights = _window(field.shape[dim], grid.boundary[axis] == "periodic").to(field)
        field = torch.movedim(torch.movedim(field, dim, -1) @ weights.T, -1, dim)
    return field


def data_range_of(target: Tensor, grid: Grid) -> Tensor:
    """Six standard deviations of a component, 6 sqrt(<|t - <t>|^2> / components): the range SSIM is stated for.

    Unlike the difference of the extremes it does not hang on two voxels, and for a vector it does not depend on the
    axes. (batch,), float64, in units of the field (batch, component, x, y, z).
    """
    target = target.to(torch.float64)
    volume = volume_of(target, grid)
    mean = volume_sum(target, grid, keep=2) / volume[:, None]
    power = volume_sum((target - mean[:, :, None, None, None]) ** 2, grid)
    return RANGE_DEVIATIONS * torch.sqrt(power / volume / target.shape[1])


def ssim(prediction: Tensor, target: Tensor, grid: Grid, data_range: float | None = None) -> Tensor:
    """Mean structural similarity of two scalar or two vector fields.

    With local means m, variances v and covariance c from :func:`gaussian_mean`, and for a vector scalar products in the
    place of products, so that the number does not depend on the axes,

        (2 m_p.m_t + C_1) (2 c_pt + C_2) / ((|m_p|^2 + |m_t|^2 + C_1) (v_p + v_t + C_2)),

    C_1 = (0.01 L)^2 and C_2 = (0.03 L)^2 with the data range L (both times the number of components). Source: Wang,
    Bovik, Sheikh & Simoncelli, IEEE Trans. Image Process. 13, 600 (2004), eq. 13, in two dimensions and for scalars.

    Args:
        prediction, target: (batch, component, x, y, z), same unit.
        grid: the grid of both.
        data_range: L, in units of the field; default: :func:`data_range_of` each snapshot's truth.

    Returns:
        (batch,), float64, no unit; 1 for equal fields, nan where L is 0.

    Raises:
        ValueError: shapes that differ.
    """
    return StructuralSimilarity(data_range).each(prediction, target, grid)["ssim"]


class _Similarity(FieldMetric):
    """What both metrics of structural similarity share.

    Args:
        data_range: see :func:`ssim`. Tiles need one that is given: a tile does not know the whole field's.
    """

    def __init__(self, data_range: float | None = None, **options):
        super().__init__(**options)
        self.data_range = data_range
        self.halo = None if data_range is None else WINDOW_RADIUS

    def measure(self, prediction, target, grid):
        similarity = self.similarity_map(prediction, target, grid)
        return {"similarity": volume_sum(similarity, grid, similarity.ndim - 3)}

    def measure_tile(self, tile):
        around = tile.around
        similarity = around.inside(self.similarity_map(around.prediction, around.target, around.grid))
        return {"similarity": volume_sum(similarity, tile.grid, similarity.ndim - 3)}


class StructuralSimilarity(_Similarity):
    """:func:`ssim`, averaged over the volume of everything seen."""

    scalars: ClassVar = {
        "ssim": Quantity("SSIM", "1", "higher", f"{_SOURCE}, range 6 standard deviations of the truth")
    }

    def similarity_map(self, prediction, target, grid):
        return _similarity(prediction, target, grid, _range(target, grid, self.data_range))

    def finish(self, similarity, volume):
        return {"ssim": similarity / volume}


class ComponentSimilarity(_Similarity):
    """:func:`ssim` of u, v and w, each as a scalar field of its own."""

    invariant = False
    needs_vector = True
    scalars: ClassVar = {
        f"ssim_{component}": Quantity(f"SSIM, {component}", "1", "higher", f"{_SOURCE}, for one component")
        for component in COMPONENTS
    }

    def similarity_map(self, prediction, target, grid):
        pairs = zip(prediction.split(1, dim=1), target.split(1, dim=1))
        return torch.stack([_similarity(p, t, grid, _range(t, grid, self.data_range)) for p, t in pairs], dim=1)

    def finish(self, similarity, volume):
        return {f"ssim_{component}": value / volume for component, value in zip(COMPONENTS, similarity)}


def _range(target: Tensor, grid: Grid, data_range: float | None) -> Tensor:
    if data_range is None:
        return data_range_of(target, grid)
    return torch.full((len(target),), data_range, dtype=torch.float64, device=target.device)


def _similarity(prediction: Tensor, target: Tensor, grid: Grid, data_range: Tensor) -> Tensor:
    """The SSIM index of every cell, (batch, x, y, z), float64."""
    prediction, target = prediction.to(torch.float64), target.to(torch.float64)
    means = gaussian_mean(prediction, grid), gaussian_mean(target, grid)
    power, product = (means[0] ** 2).sum(1) + (means[1] ** 2).sum(1), (means[0] * means[1]).sum(1)
    variance = gaussian_mean((prediction**2 + target**2).sum(1), grid) - power
    covariance = gaussian_mean((prediction * target).sum(1), grid) - product
    square = (data_range**2 * target.shape[1])[:, None, None, None]
    bright, clear = LUMINANCE**2 * square, CONTRAST**2 * square
    return (2 * product + bright) * (2 * covariance + clear) / ((power + bright) * (variance + clear))


def _window(cells: int, periodic: bool) -> Tensor:
    """(cells, cells): the weight of every cell in the mean around every other, rows that add up to one."""
    taps = torch.arange(-WINDOW_RADIUS, WINDOW_RADIUS + 1)
    weight = torch.exp(-0.5 * (taps.to(torch.float64) / WINDOW_SIGMA) ** 2)
    near = torch.arange(cells)[:, None] + taps
    inside = torch.ones_like(near, dtype=torch.bool) if periodic else (near >= 0) & (near < cells)
    matrix = torch.zeros((cells, cells), dtype=torch.float64)
    matrix.scatter_add_(1, near % cells, torch.where(inside, weight, 0.0))
    return matrix / matrix.sum(dim=1, keepdim=True)
