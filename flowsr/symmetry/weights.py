"""Relaxed weights of a trained network, taken apart: what each snapshot asks of them, and what irreps they hold.

**Why this is linear.** At the strict network the relaxed weights of all layers are 1. Let J be the derivative of the
output with respect to them and r the error that the strict filters leave. One Gauss-Newton step takes the weights to

    w = 1 + A^-1 mean_i z_i,      z_i = J_i^T r_i,      A = mean_i J_i^T J_i, averaged over the 48 transformed data
    sets.

Each snapshot i contributes A^-1 z_i, and turning the snapshot by g turns its contribution: (g z)(h) = z(g^-1 h),
because the network with transformed weights is the transformed network. So a data set with random turns, the null,
needs no new training; and the expected weights are invariant under every symmetry of the data, exactly. (This is Rao's
score with Fisher's scoring step; the average over transformed data sets makes A commute with the group, so by Schur's
lemma it mixes neither irreps nor the rows i within one.)

**Penalties.** The step minimizes 1/2 d^T A d - z^T d + penalty(d), d = w - 1. ``symmetric`` adds
strength/2 sum_{rho != A1g} |d_rho|^2, as much symmetry as the data allow; ``sparse`` adds
strength sum_{rho != A1g} sqrt(size) |d_rho| (the group lasso of Yuan & Lin 2006, J. R. Statist. Soc. B 68, 49), which
sets whole irreps to nothing and names the fewest. Strength is in units of the mean eigenvalue of A.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import torch

from flowsr.group import Subgroup, octahedral_group, split_by_irrep
from flowsr.progress import SILENT, Progress
from flowsr.symmetry.network import ProbeNetwork, loss
from flowsr.symmetry.tasks import Samples

ROUNDING = 1e-6  # relative to the weights' whole departure from 1
NOTHING = 1e-9  # a departure from 1 that is rounding itself
# Of the mean eigenvalue in an irrep (Levenberg-Marquardt): directions that the output hardly feels are mostly noise.
RIDGE = 0.3
PROBES, BATCH = 48, 8
Penalty = Literal["none", "symmetric", "sparse"]
PENALTIES: tuple[str, ...] = get_args(Penalty)

Parts = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Scores:
    """What the snapshots ask of one network's relaxed weights.

    Args:
        blocks: (blocks, rows, 48) float64, z summed over each independent block's samples, over the number of samples
            per block on average; a row is a filter bank of a layer.
        gram: irrep -> (rows d, rows d), A, irrep by irrep.
        layers: name of each row's layer, (rows,).
    """

    blocks: np.ndarray
    gram: Parts
    layers: tuple[str, ...]


def measure_scores(
    network: ProbeNetwork, samples: Samples, *, seed: int = 0, per_block: bool = True, progress: Progress = SILENT
) -> Scores:
    """Gradients of the loss with respect to the relaxed weights, block by block, and A, irrep by irrep.

    Args:
        network: a strict network, its weights at 1.
        samples: what it was fitted to.
        seed: of the random probes with which A is estimated.
        per_block: whether blocks are told apart; if not, all samples are one.
    """
    numbers = samples.block_numbers if per_block else [0]
    members = [np.flatnonzero(samples.blocks == u) for u in numbers] if per_block else [np.arange(len(samples))]
    found, tick = [], progress.steps(len(members), "blocks")
    for chosen in members:
        batches = [chosen[i : i + BATCH] for i in range(0, len(chosen), BATCH)]
        found.append(-sum(_gradient(network, lambda c=c: loss(network, samples, c)) for c in batches))
        tick()
    layers = tuple(name for name, layer in network.relaxed_layers.items() for _ in range(len(layer.relaxed_weights)))
    blocks = np.stack(found) * len(members) / len(samples)
    return Scores(blocks, _gram(network, samples, seed), layers)


def _gradient(network: ProbeNetwork, function: Callable[[], torch.Tensor]) -> np.ndarray:
    """(rows, 48) derivative of a number with respect to the relaxed weights."""
    weights = [layer.relaxed_weights for layer in network.relaxed_layers.values()]
    for layer in network.relaxed_layers.values():
        layer.cache.clear()
        layer.relaxed_weights.requires_grad_(True)
    try:
        gradients = torch.autograd.grad(function(), weights)
    finally:
        for layer in network.relaxed_layers.values():
            layer.relaxed_weights.requires_grad_(False)
    return torch.cat(gradients).double().cpu().numpy()


def _gram(network: ProbeNetwork, samples: Samples, seed: int) -> dict[str, np.ndarray]:
    """A, irrep by irrep, from J^T r with random r: their second moment is J^T J. Averaging over the 48 transformed data
    sets is the average over the row index i of each irrep."""
    device = network.projection.filters.device
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(PROBES):
        i = int(torch.randint(len(samples), (), generator=generator))
        probe = torch.randn(samples.targets[i].shape, generator=generator, dtype=samples.targets.dtype).to(device)
        field = samples.inputs[i : i + 1].to(device)
        drawn.append(_gradient(network, lambda f=field, p=probe: (network(f, samples.grid.boundary)[0] * p).sum()))
    parts = to_irreps(np.stack(drawn))
    return {name: np.einsum("nia,nib->ab", x, x) / (x.shape[0] * x.shape[1]) for name, x in parts.items()}


def to_irreps(weights: np.ndarray) -> dict[str, np.ndarray]:
    """The group Fourier transform: (..., rows, 48) -> irrep -> (..., d, rows d).

    Turning the data by g multiplies by rho(g) from the left. Squared norms add up to that of the weights.
    """
    group = octahedral_group("Oh")
    parts = {}
    for name, part in split_by_irrep(np.asarray(weights, dtype=np.float64) @ group.fourier.T, group).items():
        by_component = np.moveaxis(part, -3, -2)  # (..., rows, i, j) -> (..., i, rows, j)
        parts[name] = by_component.reshape(*by_component.shape[:-2], -1)
    return parts


def from_irreps(parts: Parts) -> np.ndarray:
    """The inverse of :func:`to_irreps`: (..., rows, 48)."""
    group = octahedral_group("Oh")
    rows = []
    for irrep in group.irreps:
        d, part = irrep.dimension, np.asarray(parts[irrep.name])
        by_row = np.moveaxis(part.reshape(*part.shape[:-1], -1, d), -2, -3)  # (..., i, rows j) -> (..., rows, i, j)
        rows.append(by_row.reshape(*by_row.shape[:-2], d * d))
    return np.concatenate(rows, axis=-1) @ group.fourier


def departures(scores: Scores) -> np.ndarray:
    """(blocks, rows, 48) what each block contributes to w - 1, which is their mean."""
    parts = to_irreps(scores.blocks)
    return from_irreps({name: x @ np.linalg.inv(_ridged(scores.gram[name])) for name, x in parts.items()})


def penalized(scores: Scores, penalty: str = "none", strength: float = 0.1) -> np.ndarray:
    """(rows, 48) w - 1 of the whole data set under a penalty, see the module; strength in mean eigenvalues of A.

    Raises:
        ValueError: another penalty, or a strength that is negative.
    """
    if penalty not in PENALTIES or strength < 0:
        known = ", ".join(PENALTIES)
        raise ValueError(f"penalty must be one of {known}, its strength at least 0; got {penalty!r}, {strength}")
    parts = to_irreps(scores.blocks.mean(axis=0))
    whole = mean_eigenvalue(scores.gram)
    found = {}
    for name, z in parts.items():
        gram = _ridged(scores.gram[name])
        if name == "A1g" or penalty == "none":
            found[name] = z @ np.linalg.inv(gram)
        elif penalty == "symmetric":
            found[name] = z @ np.linalg.inv(gram + strength * whole * np.eye(len(gram)))
        else:
            found[name] = _group_lasso(z, gram, strength * whole * np.sqrt(z.size))
    return from_irreps(found)


def mean_eigenvalue(gram: Parts) -> float:
    """Mean eigenvalue of A."""
    group = octahedral_group("Oh")
    traces = sum(irrep.dimension * np.trace(gram[irrep.name]) for irrep in group.irreps)
    return float(traces / sum(irrep.dimension * len(gram[irrep.name]) for irrep in group.irreps))


def _ridged(gram: np.ndarray) -> np.ndarray:
    return gram + RIDGE * max(np.trace(gram) / len(gram), 1e-300) * np.eye(len(gram))


def _group_lasso(z: np.ndarray, gram: np.ndarray, threshold: float) -> np.ndarray:
    """argmin 1/2 tr(d gram d^T) - tr(z d^T) + threshold |d|: zero where |z| <= threshold, else
    d = z (gram + threshold/|d| 1)^-1, its length found by bisection."""
    if np.linalg.norm(z) <= threshold:
        return np.zeros_like(z)
    eigenvalues, vectors = np.linalg.eigh(gram)
    transformed = z @ vectors

    def solution(length: float) -> np.ndarray:
        return transformed / (eigenvalues + threshold / length)

    low, high = 0.0, float(np.linalg.norm(transformed / eigenvalues)) + 1e-300
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if np.linalg.norm(solution(middle)) > middle else (low, middle)
    return solution(high) @ vectors.T


@lru_cache
def projector(subgroup: Subgroup, irrep: str) -> np.ndarray:
    """(d, d) projector on the vectors of an irrep that a subgroup leaves alone."""
    return octahedral_group("Oh").irrep(irrep).matrices[list(subgroup.elements)].mean(axis=0)


def deviation(parts: Parts, subgroup: Subgroup) -> float:
    """Share of the weights' varying part (all irreps but A1g) that is not invariant under a subgroup: 0 to 1."""
    away = sum(np.sum((x - projector(subgroup, name) @ x) ** 2) for name, x in parts.items())
    whole = sum(np.sum(x**2) for name, x in parts.items() if name != "A1g")
    return float(min(away / whole, 1.0)) if whole > NOTHING**2 else 0.0


def exact_stabilizer(parts: Parts, scale: float | None = None, tolerance: float = ROUNDING) -> Subgroup:
    """The subgroup that leaves weights as they are, to rounding.

    Args:
        parts: irrep -> (d, columns), of w - 1 or a part of it.
        scale: what rounding is relative to; default: the length of the varying part.
        tolerance: relative to it.
    """
    group = octahedral_group("Oh")
    varying = {name: x for name, x in parts.items() if name != "A1g"}
    size = np.sqrt(sum(np.sum(x**2) for x in varying.values()))
    limit = tolerance * (size if scale is None else scale) + NOTHING
    moved = np.zeros(group.order)
    for name, x in varying.items():
        moved += np.sum((group.irrep(name).matrices @ x - x) ** 2, axis=(1, 2))
    unchanged = np.flatnonzero(np.sqrt(moved) <= 2 * limit)
    kept = [s for s in group.subgroups if set(s.elements) <= set(unchanged.tolist())]
    return max(kept, key=lambda s: s.order)


def powers(departure: np.ndarray) -> dict[str, np.ndarray]:
    """Squared length of w in each irrep over that of its mean part: w - 1 (..., rows, 48) -> irrep -> (..., rows).

    A1g is 1. Where the mean part has gone below a tenth of 1, a tenth is taken.
    """
    group = octahedral_group("Oh")
    transformed = np.asarray(departure) @ group.fourier.T
    mean = 1 + np.asarray(departure).mean(axis=-1)
    norm = group.order * np.maximum(np.abs(mean), 0.1) ** 2
    squares = {name: np.sum(part**2, axis=(-2, -1)) for name, part in split_by_irrep(transformed, group).items()}
    return {name: np.ones_like(norm) if name == "A1g" else square / norm for name, square in squares.items()}


def aligned(weights: np.ndarray) -> np.ndarray:
    """(rows, 48) each row w replaced by its w(g a) most like the first row: a filter transformed by a, with weights w(g
    a), is the same layer."""
    group = octahedral_group("Oh")
    transformed = weights[:, group.multiplication]  # [row, g, a] = w(g a)
    reference = weights[0] - weights[0].mean()
    best = np.einsum("g,rga->ra", reference, transformed).argmax(axis=1)
    best[0] = 0
    return np.stack([transformed[row, :, a] for row, a in enumerate(best)])
