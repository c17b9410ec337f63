"""What the coarse grid does not resolve: subgrid stress of the fine field, and the energy that it takes or gives."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.base import FieldMetric, Quantity, check_on_grid, volume_sum
from flowsr.metrics.gradients import velocity_gradient

_STRESS = "tau_ij = mean(u_i u_j) - mean(u_i) mean(u_j), block mean; Pope, Turbulent Flows (2000), eq. 13.93"
_CORRELATION = "tensor level; Clark, Ferziger & Reynolds, J. Fluid Mech. 91, 1 (1979)"
_TRANSFER = "-tau_ij S_ij; Piomelli, Cabot, Moin & Lee, Phys. Fluids A 3, 1766 (1991)"


def block_mean(field: Tensor, grid: Grid, factor: int) -> Tensor:
    """The mean over the fine cells in each coarse one; on a stretched axis they count by their size.

    Args:
        field: (..., x, y, z).
        grid: its grid.
        factor: fine cells along a coarse one's side.

    Returns:
        (..., x / factor, y / factor, z / factor), on ``grid.coarsened(factor)``.

    Raises:
        ValueError: a side that ``factor`` does not divide.
    """
    grid.coarsened(factor)
    for axis in range(3):
        dim = field.ndim - 3 + axis
        blocks = field.unflatten(dim, (-1, factor))
        if not grid.stretched[axis]:
            field = blocks.mean(dim + 1)
            continue
        widths = torch.as_tensor(grid.widths()[axis], dtype=field.dtype, device=field.device).reshape(-1, factor)
        weights = widths / widths.sum(1, keepdim=True)
        field = (blocks * weights.reshape(*weights.shape, *[1] * (2 - axis))).sum(dim + 1)
    return field


def subgrid_stress(velocity: Tensor, grid: Grid, factor: int) -> Tensor:
    """tau_ij = mean(u_i u_j) - mean(u_i) mean(u_j), the mean being the block mean over the coarse cell.

    Source: Pope, Turbulent Flows (2000), eq. 13.93.

    Args:
        velocity: (batch, 3, x, y, z).
        grid: its grid.
        factor: fine cells along a coarse one's side.

    Returns:
        (batch, 3, 3, x / factor, y / factor, z / factor), velocity^2, positive semidefinite.

    Raises:
        ValueError: a field that is not on the grid, or a side that ``factor`` does not divide.
    """
    check_on_grid(velocity, grid)
    mean = block_mean(velocity, grid, factor)
    rows = [block_mean(velocity[:, i : i + 1] * velocity, grid, factor) - mean[:, i : i + 1] * mean for i in range(3)]
    return torch.stack(rows, dim=1)


def energy_transfer(velocity: Tensor, grid: Grid, factor: int) -> Tensor:
    """P = -tau_ij S_ij: energy per unit mass and time that passes from the coarse to the subgrid scales.

    S is the rate of strain of the block-mean velocity, differentiated on the coarse grid. Above 0 is forward scatter,
    below 0 backscatter. Source: Piomelli, Cabot, Moin & Lee, Phys. Fluids A 3, 1766 (1991).

    Arguments and errors as in :func:`subgrid_stress`; (batch, x / factor, y / factor, z / factor), velocity^3 / length.
    """
    return _transfer(subgrid_stress(velocity, grid, factor), velocity, grid, factor)


def subgrid_stress_error(prediction: Tensor, target: Tensor, grid: Grid, factor: int) -> Tensor:
    """||tau_p - tau_t|| / ||tau_t||, over the volume and all nine components, (batch,), float64.

    1 for a prediction without subgrid scales. Arguments as in :func:`subgrid_stress`.
    """
    return SubgridStress(factor).each(prediction, target, grid)["subgrid_stress_error"]


def subgrid_stress_correlation(prediction: Tensor, target: Tensor, grid: Grid, factor: int) -> Tensor:
    """Correlation of the predicted and the true stress, <p' : t'> / sqrt(<p' : p'> <t' : t'>).

    The mean tensors are taken off, p' = tau_p - <tau_p>; the scalar product of tensors makes the number independent of
    the axes. Source: Clark, Ferziger & Reynolds, J. Fluid Mech. 91, 1 (1979), there for each component. Arguments as in
    :func:`subgrid_stress`; (batch,), float64.
    """
    return SubgridStress(factor).each(prediction, target, grid)["subgrid_stress_correlation"]


class SubgridStress(FieldMetric):
    """Subgrid stress and energy transfer of the prediction at the scale of the coarse cells, pooled over snapshots.

    Args:
        factor: refinement from coarse to fine; the filter is the block mean over ``factor`` cells along each axis.
    """

    needs_vector = True
    scalars: ClassVar = {
        "subgrid_stress_error": Quantity(
            "Subgrid stress error", "1", "lower", f"||tau_p - tau_t|| / ||tau_t||, {_STRESS}"
        ),
        "subgrid_stress_correlation": Quantity("Subgrid stress correlation", "1", "higher", _CORRELATION),
        "energy_transfer_captured": Quantity(
            "Energy transfer captured", "1", "truth", f"<P_p> / <P_t>, P = {_TRANSFER}"
        ),
        "energy_transfer_correlation": Quantity("Energy transfer correlation", "1", "higher", f"of P = {_TRANSFER}"),
        "backscatter_volume": Quantity(
            "Backscatter, share of volume", "1", "truth", f"volume with P < 0, P = {_TRANSFER}"
        ),
        "backscatter_share": Quantity(
            "Backscatter, share of energy", "1", "truth", f"<max(-P, 0)> / <|P|>, P = {_TRANSFER}"
        ),
    }

    def measure(self, prediction, target, grid):
        if self.factor is None:
            raise ValueError("subgrid stress needs the factor between the coarse and the fine grid")
        coarse = grid.coarsened(self.factor)
        fields = prediction.to(torch.float64), target.to(torch.float64)
        stresses = [subgrid_stress(field, grid, self.factor) for field in fields]
        transfers = [_transfer(stress, field, grid, self.factor) for stress, field in zip(stresses, fields)]
        predicted = transfers[0]
        backscatter = ((predicted < 0).to(torch.float64), (-predicted).clamp(min=0), predicted.abs())
        stress_means, stress_products = _moments([stress.flatten(1, 2) for stress in stresses], coarse)
        transfer_means, transfer_products = _moments([transfer[:, None] for transfer in transfers], coarse)
        return {
            "stress_error": volume_sum((stresses[0] - stresses[1]) ** 2, coarse),
            "stress_means": stress_means,
            "stress_products": stress_products,
            "transfer_means": transfer_means,
            "transfer_products": transfer_products,
            "backscatter": torch.stack([volume_sum(values, coarse) for values in backscatter], dim=1),
        }

    def finish(
        self, stress_error, stress_means, stress_products, transfer_means, transfer_products, backscatter, volume
    ):
        size, energy, absolute = backscatter
        predicted, true = transfer_means.squeeze(-1)
        return {
            "subgrid_stress_error": torch.sqrt(stress_error / stress_products[2]),
            "subgrid_stress_correlation": _correlation(stress_means, stress_products, volume),
            "energy_transfer_captured": predicted / true,
            "energy_transfer_correlation": _correlation(transfer_means, transfer_products, volume),
            "backscatter_volume": size / volume,
            "backscatter_share": energy / absolute,
        }


def _transfer(stress: Tensor, velocity: Tensor, grid: Grid, factor: int) -> Tensor:
    return -(stress * velocity_gradient(block_mean(velocity, grid, factor), grid.coarsened(factor))).sum((1, 2))


def _moments(fields: list[Tensor], grid: Grid) -> tuple[Tensor, Tensor]:
    """Integrals of prediction and truth (batch, 2, component), and of p.p, p.t, t.t (batch, 3)."""
    p, t = fields
    means = torch.stack([volume_sum(field, grid, keep=2) for field in fields], dim=1)
    return means, torch.stack([volume_sum(product, grid) for product in (p * p, p * t, t * t)], dim=1)


def _correlation(means: Tensor, products: Tensor, volume: Tensor) -> Tensor:
    p, t = means.unbind(-2)
    of_means = torch.stack([(one * other).sum(-1) for one, other in ((p, p), (p, t), (t, t))], dim=-1)
    pp, pt, tt = (products - of_means / volume[..., None]).unbind(-1)
    return pt / torch.sqrt(pp * tt)
