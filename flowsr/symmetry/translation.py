"""Homogeneity: whether the same law holds at every place along an axis, by weights that may depend on the place.

A convolution has the same filter everywhere. Relaxed, it is y(x) = sum_k w_k(x_a) phi_k(u)(x): filter banks phi_k, each
with a weight for every position along the axis a, constant to begin with (R. Wang, R. Walters, T. E. Smidt, Relaxed
octahedral group convolution for learning symmetry breaking in 3D physical systems, arXiv 2310.02299, relax translations
this way). Instead of descending from the constant weights step by step, the weights take the one Gauss-Newton step that
leads from the best constant ones to the least squares of the whole, with the curvature averaged over positions; the
step is a mean over independent blocks, so that each has a part in it that can be moved by itself.

The banks are the terms of an equation of motion: 1 (a force, a mean profile), the field itself (damping, growth), its
advection and its Laplacian. Beside the law, the input's own profiles along the axis, <u_c> and <u_c u_d>, are tested.

The test is that of :mod:`flowsr.symmetry.invariance` with shifts along the axis in place of turns: if all places are
alike, every block can be shifted by a distance of its own. Between walls shifts are no symmetry of anything, and the
null is what a homogeneous field with these correlations would give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowsr.grid import Grid
from flowsr.metrics.derivatives import gradient
from flowsr.symmetry.invariance import agreement_p
from flowsr.symmetry.randomization import STANDARD, Significance, block_means

WEIGHTS, PROFILES = "relaxed weights", "profiles of the input"


@dataclass(frozen=True)
class AxisHomogeneity:
    """What is known about one axis.

    Args:
        axis: ``x``, ``y`` or ``z``.
        positions: (n,) cell centres.
        weights: bank -> (components, n) departure of its weights from constant ones, each in units of the r.m.s. target
            over the r.m.s. of the bank.
        errors: bank -> (components, n) standard errors over blocks.
        explained: share of the target's power that weights varying along the axis explain, noise taken off.
        p_values: ``relaxed weights`` and ``profiles of the input`` -> p-value.
        homogeneous: whether both p-values together are above the false alarm rate.
    """

    axis: str
    positions: np.ndarray
    weights: Mapping[str, np.ndarray]
    errors: Mapping[str, np.ndarray]
    explained: float
    p_values: Mapping[str, float]
    homogeneous: bool


def homogeneity(
    inputs: Tensor,
    targets: Tensor,
    grid: Grid,
    *,
    blocks: np.ndarray | None = None,
    significance: Significance = STANDARD,
) -> dict[str, AxisHomogeneity]:
    """Test each axis, by name, for homogeneity.

    Args:
        inputs: (samples, C, x, y, z).
        targets: (samples, D, s x, s y, s z); finer ones are averaged onto the input's cells.
        grid: of the inputs.
        blocks: (samples,) number of the independent block each belongs to; default: each its own.

    Raises:
        ValueError: fewer than two blocks, or fields that do not fit the grid.
    """
    blocks = np.arange(len(inputs)) if blocks is None else np.asarray(blocks)
    if tuple(inputs.shape[2:]) != grid.shape or len(inputs) != len(targets):
        shapes = f"inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)}"
        raise ValueError(f"{shapes} do not fit the grid {grid.shape}")
    inputs, targets = inputs.double(), _onto(targets.double(), grid.shape)
    names, banks = _banks(inputs, targets.shape[1], grid)
    return {"xyz"[axis]: _along(axis, inputs, targets, names, banks, grid, blocks, significance) for axis in range(3)}


def _along(axis, inputs, targets, names, banks, grid: Grid, blocks, significance: Significance) -> AxisHomogeneity:
    """One axis; banks (samples, D, K, x, y, z)."""
    scores = [_scores(_lines(banks[:, d], axis), _lines(targets[:, d], axis)) for d in range(targets.shape[1])]
    steps, whitened = (block_means(np.stack(parts, axis=1), blocks) for parts in zip(*scores))
    profiles = block_means(_profiles(_lines(inputs, axis)), blocks)
    products = {WEIGHTS: _shift_products(whitened), PROFILES: _shift_products(profiles)}
    generator = np.random.default_rng([significance.seed, axis])
    shifts = generator.integers(grid.shape[axis], size=(significance.draws, len(steps)))
    shifts = np.concatenate([np.zeros_like(shifts[:1]), shifts])
    relative = (shifts[:, None, :] - shifts[:, :, None]) % grid.shape[axis]
    power = float(targets.square().mean())
    mean, error = steps.mean(axis=0), steps.std(axis=0, ddof=1) / np.sqrt(len(steps))
    return AxisHomogeneity(
        axis="xyz"[axis],
        positions=grid.coordinates()[axis],
        weights={name: mean[:, k] for k, name in enumerate(names)},
        errors={name: error[:, k] for k, name in enumerate(names)},
        explained=_between_blocks(products[WEIGHTS]) / (power * grid.shape[axis] * targets.shape[1] or 1.0),
        p_values={name: agreement_p({name: k}, relative) for name, k in products.items()},
        homogeneous=agreement_p(products, relative) > significance.false_alarm_rate,
    )


def _banks(inputs: Tensor, components: int, grid: Grid) -> tuple[list[str], Tensor]:
    """Names (K,) and values (samples, D, K, x, y, z) of what the weights multiply."""
    one = torch.ones_like(inputs[:, :1]).expand(-1, components, -1, -1, -1)
    if inputs.shape[1] != components:
        every = inputs[:, None].expand(-1, components, -1, -1, -1, -1)
        return ["1", *(f"input {c}" for c in range(inputs.shape[1]))], torch.cat([one[:, :, None], every], dim=2)
    slopes = gradient(inputs, grid)
    laplacian = sum(gradient(slopes[:, :, a], grid)[:, :, a] for a in range(3))
    found = {"1": one, "u": inputs, "∇²u": laplacian}
    if components == 3:
        found["u·∇u"] = torch.einsum("najkl,ncajkl->ncjkl", inputs, slopes)
    return list(found), torch.stack(list(found.values()), dim=2)


def _lines(field: Tensor, axis: int) -> Tensor:
    """(samples, ..., x, y, z) -> (samples, ..., n, cells across): positions along an axis, and all cells at each."""
    return field.movedim(field.dim() - 3 + axis, -3).flatten(-2)


def _scores(banks: Tensor, target: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Each sample's part in the Gauss-Newton step of the weights, and the same in units in which its square is power.

    Args:
        banks: (samples, K, n, cells).
        target: (samples, n, cells).

    Returns:
        (samples, K, n) steps in units of the bank's r.m.s. over the target's, and (samples, K, n) whitened, with the
        mean over positions, which constant weights would take up, removed.
    """
    samples, count, n, cells = banks.shape
    curvature = torch.einsum("skic,slic->kl", banks, banks) / (samples * n * cells)
    size = curvature.diagonal().sqrt().clamp(min=1e-300)
    correlation = curvature / size[:, None] / size[None, :]
    correlation = correlation + 1e-9 * torch.eye(count, dtype=correlation.dtype)
    scaled = banks / size[:, None, None]
    constant = torch.linalg.solve(correlation, torch.einsum("skic,sic->k", scaled, target) / (samples * n * cells))
    residual = target - torch.einsum("k,skic->sic", constant, scaled)
    gradients = torch.einsum("skic,sic->ski", scaled, residual) / cells
    gradients = gradients - gradients.mean(dim=-1, keepdim=True)
    factor = torch.linalg.cholesky(correlation)
    whitened = torch.linalg.solve_triangular(factor, gradients.movedim(1, 0).flatten(1), upper=False)
    steps = torch.linalg.solve_triangular(factor.T, whitened, upper=True)
    rms = target.square().mean().sqrt().clamp(min=1e-300)
    return tuple(v.unflatten(1, (samples, n)).movedim(0, 1).numpy() for v in (steps / rms, whitened))


def _profiles(inputs: Tensor) -> np.ndarray:
    """(samples, C + C (C + 1) / 2, n): <u_c> and <u_c u_d> at each position, less their means, over their r.m.s."""
    first, second = torch.triu_indices(inputs.shape[1], inputs.shape[1])
    rows = torch.cat([inputs.mean(-1), (inputs[:, first] * inputs[:, second]).mean(-1)], dim=1)
    rows = rows - rows.mean(dim=-1, keepdim=True)
    return (rows / rows.square().mean(dim=(0, 2), keepdim=True).sqrt().clamp(min=1e-300)).numpy()


def _shift_products(values: np.ndarray) -> np.ndarray:
    """(blocks, ..., n) -> (blocks, blocks, n): K[s, t, h] = sum over x of v_s(x) v_t(x - h), by Fourier transform."""
    n = values.shape[-1]
    modes = np.fft.rfft(values.reshape(len(values), -1, n), axis=-1)
    return np.fft.irfft(np.einsum("srk,trk->stk", modes, modes.conj()), n=n, axis=-1)


def _between_blocks(products: np.ndarray) -> float:
    """Mean of K[s, t, 0] over pairs of different blocks, not below zero."""
    count = len(products)
    whole = products[:, :, 0]
    return max(0.0, float(whole.sum() - np.trace(whole)) / (count * (count - 1)))


def _onto(fields: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Means over the cells of a coarser grid."""
    factors = [fine // coarse for fine, coarse in zip(fields.shape[2:], shape)]
    if tuple(f * n for f, n in zip(factors, shape)) != tuple(fields.shape[2:]):
        raise ValueError(f"targets {tuple(fields.shape)} are not a refinement of the grid {shape}")
    return fields if factors == [1, 1, 1] else torch.nn.functional.avg_pool3d(fields, factors)
