"""Order parameters: what symmetry breaking is missing from an equivariant network's input, and its value.

A strictly equivariant network cannot make anything less symmetric than what it is given: if the target breaks a
symmetry of the input, the loss stops at a floor. This is Curie's principle, that the symmetries of the causes are found
in the effects. Give the network a further input, the same everywhere, a vector h in the irreps 0e ... 2o, held at zero.
The loss L(h) of the trained network is a scalar that knows the data, so its gradient at h = 0 is a vector that the
symmetries common to input and target leave as it is, and that points to what would help. Where it is not zero it names,
with its direction, the quantity that the input lacks: ``1e along z`` for a flow in rotation about z.

Source: T. E. Smidt, M. Geiger, B. K. Miller, Finding symmetry breaking order parameters with Euclidean neural networks,
Phys. Rev. Research 3, L012002 (2021), arXiv 2007.02005.

Chance breaks symmetries too: a handful of snapshots has no exact symmetry. With several samples every one has its own
gradient, and because the network is equivariant, turning a sample by g turns its gradient by D(g), exactly. Turning
each by a random element of O_h makes data that have every symmetry on average: what the length of the mean gradient
comes to then is the null that the found one is held against, at no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from flowsr.group import Subgroup, octahedral_group, representation
from flowsr.symmetry.equivariant import PARAMETER, PARAMETER_SIZE, parameter_slices
from flowsr.symmetry.words import describe

ROUND_OFF = 1e-6  # of the longest gradient: what training leaves in components that converge to zero is below
SOLVED = 1e-12  # of the targets' mean square: a network that comes this close lacks nothing
FALSE_ALARMS = 0.01  # chance that the null alone makes any irrep look missing
NULL_DRAWS = 4999

Model = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Fitting:
    """How long networks and order parameters are trained: L-BFGS on all data at once, deterministic.

    Args:
        iterations: of the network alone, before the gradient is taken.
        rounds: alternations between order parameter and network afterwards; 0 to stop at the gradient.
        parameter_iterations, network_iterations: in each round.
        penalty: times |h|^2 and the floor, added to the loss while h is learned; keeps components that nothing asks for
            from drifting.
    """

    iterations: int = 300
    rounds: int = 10
    parameter_iterations: int = 20
    network_iterations: int = 60
    penalty: float = 1e-3


@dataclass(frozen=True)
class OrderParameter:
    """What an equivariant network lacks.

    Args:
        gradients: irrep -> (2 l + 1,) mean over samples of dL/dh at h = 0, in e3nn's component order.
        errors: irrep -> (2 l + 1,) its standard error over samples; zeros for one sample.
        p_values: irrep -> share of the null at least as long; empty for one sample, where round-off alone decides.
        missing: irreps whose gradient is above round-off and above the null, longest first. ``0e`` is never one of
            them: a number breaks nothing.
        floor: mean square error of the network without order parameter.
        values: irrep -> (2 l + 1,) the learned parameter, zeros for irreps that are not missing.
        loss: mean square error with it; the floor where nothing is missing or nothing was learned.
    """

    gradients: Mapping[str, np.ndarray]
    errors: Mapping[str, np.ndarray]
    p_values: Mapping[str, float]
    missing: tuple[str, ...]
    floor: float
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    loss: float = float("nan")

    @property
    def names(self) -> tuple[str, ...]:
        """The missing quantities in words: ``("1e along z",)``."""
        return tuple(describe(irrep, self.gradients[irrep], max(0.05, self._doubt(irrep))) for irrep in self.missing)

    @property
    def kept(self) -> Subgroup:
        """The largest subgroup of O_h that leaves the missing gradients as they are, within three of their errors."""
        group = octahedral_group("Oh")
        kept = set(range(group.order))
        for irrep in self.missing:
            gradient = self.gradients[irrep]
            moved = np.linalg.norm(representation(irrep, group) @ gradient - gradient, axis=1)
            kept &= set(np.flatnonzero(moved <= max(1e-6, 3 * self._doubt(irrep)) * np.linalg.norm(gradient)))
        return max((s for s in group.subgroups if set(s.elements) <= kept), key=lambda s: s.order)

    def _doubt(self, irrep: str) -> float:
        """Standard error of a gradient over its length."""
        return float(np.linalg.norm(self.errors[irrep]) / np.linalg.norm(self.gradients[irrep]))


def order_parameter(
    network: nn.Module, inputs: Tensor, targets: Tensor, *, fitting: Fitting = Fitting(), seed: int = 0
) -> OrderParameter:
    """Train an equivariant network, find what it lacks, and learn that.

    Args:
        network: called as ``network(inputs, parameter)`` with a parameter (batch, 18) in the irreps
            :data:`flowsr.symmetry.equivariant.PARAMETER`; equivariant under O_h at least, float64, trained in place:
            a :class:`~flowsr.symmetry.equivariant.PointNetwork` or
            :class:`~flowsr.symmetry.equivariant.FieldNetwork`.
        inputs: (batch, ...) independent samples.
        targets: (batch, ...) what the network should make of them.
        seed: of the random elements of the null.

    Raises:
        ValueError: inputs and targets of different numbers of samples.
    """
    if len(inputs) != len(targets) or not len(inputs):
        counts = f"{len(inputs)} inputs and {len(targets)} targets"
        raise ValueError(f"as many targets as inputs, at least one: got {counts}")
    nothing = torch.zeros(PARAMETER_SIZE, dtype=targets.dtype, device=targets.device)
    floor = _fit(network, inputs, targets, nothing, fitting.iterations)
    samples = sample_gradients(network, inputs, targets)
    mean, error = samples.mean(axis=0), np.zeros(samples.shape[1])
    if len(samples) > 1:
        error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    parts = parameter_slices()
    p_values = _null_shares(samples, seed) if len(samples) > 1 else {}
    solved = floor <= SOLVED * float(targets.square().mean())
    missing = () if solved else _missing({irrep: np.linalg.norm(mean[part]) for irrep, part in parts.items()}, p_values)
    values, loss = nothing, floor
    if missing and fitting.rounds:
        values, loss = _learn(network, inputs, targets, missing, fitting.penalty * floor, fitting)
    return OrderParameter(
        gradients={irrep: mean[part] for irrep, part in parts.items()},
        errors={irrep: error[part] for irrep, part in parts.items()},
        p_values=p_values,
        missing=missing,
        floor=floor,
        values={irrep: values[part].cpu().numpy() for irrep, part in parts.items()},
        loss=loss,
    )


def sample_gradients(network: Model, inputs: Tensor, targets: Tensor) -> np.ndarray:
    """(batch, 18): the gradient of every sample's mean square error with respect to an order parameter, at zero."""
    parameter = torch.zeros(len(inputs), PARAMETER_SIZE, dtype=targets.dtype, device=targets.device, requires_grad=True)
    losses = (network(inputs, parameter) - targets).square().flatten(1).mean(dim=1)
    (gradient,) = torch.autograd.grad(losses.sum(), parameter)
    return gradient.detach().cpu().numpy()


def _fit(network: nn.Module, inputs: Tensor, targets: Tensor, parameter: Tensor, iterations: int) -> float:
    """Train the network's weights with the parameter held; the mean square error reached."""
    given = parameter.detach().expand(len(inputs), -1)
    return _minimize(list(network.parameters()), lambda: _error(network, inputs, targets, given), iterations)


def _learn(
    network: nn.Module, inputs: Tensor, targets: Tensor, missing: tuple[str, ...], penalty: float, fitting: Fitting
) -> tuple[Tensor, float]:
    """Order parameter and weights in turns; only the missing irreps move."""
    parts = parameter_slices()
    learned = torch.zeros(PARAMETER_SIZE, dtype=targets.dtype, device=targets.device, requires_grad=True)
    open_components = torch.zeros_like(learned)
    for irrep in missing:
        open_components[parts[irrep]] = 1.0

    def penalized() -> Tensor:
        parameter = (learned * open_components).expand(len(inputs), -1)
        return _error(network, inputs, targets, parameter) + penalty * learned.square().sum()

    loss = float("nan")
    for _ in range(fitting.rounds):
        _minimize([learned], penalized, fitting.parameter_iterations)
        loss = _fit(network, inputs, targets, learned * open_components, fitting.network_iterations)
    return (learned * open_components).detach(), loss


def _error(network: Model, inputs: Tensor, targets: Tensor, parameter: Tensor) -> Tensor:
    return (network(inputs, parameter) - targets).square().mean()


def _minimize(parameters: list[Tensor], objective: Callable[[], Tensor], iterations: int) -> float:
    """L-BFGS with a strong Wolfe line search; the value reached."""
    limits = {"max_iter": iterations, "tolerance_grad": 1e-14, "tolerance_change": 1e-18, "history_size": 30}
    optimizer = torch.optim.LBFGS(parameters, line_search_fn="strong_wolfe", **limits)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective()
        value.backward(inputs=parameters)
        return value

    optimizer.step(closure)
    with torch.no_grad():
        return float(objective())


def _null_shares(samples: np.ndarray, seed: int) -> dict[str, float]:
    """For each irrep, how often samples transformed by random elements of O_h have a mean gradient at least as long."""
    group = octahedral_group("Oh")
    elements = np.random.default_rng(seed).integers(group.order, size=(NULL_DRAWS, len(samples)))
    found = {}
    for irrep, part in parameter_slices().items():
        transformed = np.einsum("gij,sj->gsi", representation(irrep, group), samples[:, part])
        null = transformed[elements, np.arange(len(samples))].mean(axis=1)
        lengths = np.linalg.norm(null, axis=-1)
        observed = np.linalg.norm(samples[:, part].mean(axis=0))
        found[irrep] = float((1 + np.sum(lengths >= observed * (1 - 1e-9))) / (1 + NULL_DRAWS))
    return found


def _missing(lengths: Mapping[str, float], p_values: Mapping[str, float]) -> tuple[str, ...]:
    """Above round-off and, where there is a null, above that; five irreps share the false alarms."""
    tested = [irrep for irrep in PARAMETER if irrep != "0e"]
    longest = max(lengths.values())
    found = [
        irrep
        for irrep in tested
        if lengths[irrep] > ROUND_OFF * longest and p_values.get(irrep, 0.0) <= FALSE_ALARMS / len(tested)
    ]
    return tuple(sorted(found, key=lambda irrep: -lengths[irrep]))
