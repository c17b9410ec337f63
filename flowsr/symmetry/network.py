"""The small relaxed network that a discovery trains, and how it is trained.

It lifts the field to functions on O_h, passes an activation (and group convolutions, if asked for), and projects back.
All its layers share their filters over the group and have relaxed weights w_l(g) that begin at 1, where the network is
exactly equivariant (Wang, Walters & Smidt 2023, arXiv 2310.02299).

It is trained in two steps. First the filters, with w held at 1: the strict network's loss does not change when a sample
is transformed together with its target, so these filters know nothing of the data's directions. What they leave over
can only be told apart by direction; then the weights take it up (:mod:`flowsr.symmetry.weights`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from flowsr.group import octahedral_group
from flowsr.kernels.padding import PERIODIC, Boundary
from flowsr.nn import GroupConv, LiftingConv, Projection, activation
from flowsr.nn.layer import RelaxedLayer
from flowsr.progress import SILENT, Progress
from flowsr.symmetry.tasks import Samples


@dataclass(frozen=True)
class NetworkShape:
    """The small network.

    Raises:
        ValueError: a size out of its range, or an even kernel size.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    channels: int = 4
    """Regular channels, each with 48 values a cell."""
    hidden: int = 0
    """Group convolutions between lifting and projection."""
    kernel_size: int = 3
    """Taps along a side of the lifting and projection filters; odd."""
    filter_banks: int = 1
    """Banks per layer, each with 48 relaxed weights of its own."""
    activation: Literal["silu", "gelu", "relu"] = "silu"
    """Between the layers."""

    def __post_init__(self):
        if min(self.channels, self.kernel_size, self.filter_banks, self.hidden + 1) < 1:
            raise ValueError("channels, kernel_size and filter_banks are at least 1, hidden at least 0")
        if self.kernel_size % 2 == 0:
            raise ValueError("the kernel size must be odd")


@dataclass(frozen=True)
class Training:
    """How its filters are fitted (Adam, cosine decay to nothing).

    Raises:
        ValueError: a number that is not positive.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    epochs: int = 10
    """Passes over the samples."""
    batch: int = 4
    """Samples per step."""
    step_size: float = 1e-2
    """Of the first step."""

    def __post_init__(self):
        if not (self.epochs > 0 and self.batch > 0 and self.step_size > 0):
            raise ValueError("epochs, batch and step_size are positive")


class ProbeNetwork(nn.Module):
    """lifting -> activation -> (group convolution -> activation) x hidden -> projection, over O_h.

    Args:
        irreps_in, irreps_out: field types of input and output.
        shape: its size.
        factor: output cells per input cell and axis.
    """

    def __init__(self, irreps_in: str, irreps_out: str, shape: NetworkShape = NetworkShape(), factor: int = 1):
        super().__init__()
        group = octahedral_group("Oh")
        size, banks = shape.kernel_size, {"filter_banks": shape.filter_banks, "relaxed": False}
        self.lifting = LiftingConv(group, irreps_in, 1, shape.channels, size, **banks)
        self.hidden = nn.ModuleList(
            GroupConv(group, shape.channels, shape.channels, 1, **banks) for _ in range(shape.hidden)
        )
        self.projection = Projection(group, shape.channels, irreps_out, size, upsample=factor, **banks)
        self.activation = activation(shape.activation)

    def forward(self, field: Tensor, boundary: Boundary = PERIODIC) -> Tensor:
        """(batch, C, x, y, z) to (batch, D, s x, s y, s z); ``boundary`` along x, y, z."""
        features = self.activation(self.lifting(field, boundary))
        for layer in self.hidden:
            features = self.activation(layer(features, boundary))
        return self.projection(features, boundary)

    @property
    def relaxed_layers(self) -> dict[str, RelaxedLayer]:
        """Layers with relaxed weights, by name, in order."""
        hidden = {f"group convolution {i + 1}": layer for i, layer in enumerate(self.hidden)}
        return {"lifting": self.lifting, **hidden, "projection": self.projection}

    def weights(self) -> Tensor:
        """(layers, filter banks, 48) copy of the relaxed weights."""
        return torch.stack([layer.relaxed_weights.detach() for layer in self.relaxed_layers.values()])

    @contextmanager
    def relaxed(self, weights) -> Iterator[ProbeNetwork]:
        """The network with other relaxed weights, (layers, filter banks, 48), for the time being."""
        before = self.weights()
        self._put(torch.as_tensor(np.asarray(weights)))
        try:
            yield self
        finally:
            self._put(before)

    @torch.no_grad()
    def _put(self, weights: Tensor) -> None:
        for layer, values in zip(self.relaxed_layers.values(), weights, strict=True):
            layer.relaxed_weights.copy_(values)
            layer.cache.clear()


def trained_strict(
    samples: Samples,
    shape: NetworkShape = NetworkShape(),
    training: Training = Training(),
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress = SILENT,
) -> ProbeNetwork:
    """A strict network fitted to samples, its relaxed weights at 1 and ready to be relaxed.

    Args:
        samples: normalized ones; the network has their dtype.
        seed: of the filters and of the order of the samples; torch's own random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ProbeNetwork(samples.irreps_in, samples.irreps_out, shape, samples.factor)
        network = network.to(device=device, dtype=samples.inputs.dtype)
        _fit(network, samples, training, progress)
    return network.eval()


def loss(network: ProbeNetwork, samples: Samples, chosen) -> Tensor:
    """Half the summed squared error of the samples numbered ``chosen``."""
    device = network.projection.filters.device
    found = network(samples.inputs[chosen].to(device), samples.grid.boundary)
    return 0.5 * (samples.targets[chosen].to(device) - found).square().sum()


@torch.no_grad()
def explained(network: ProbeNetwork, samples: Samples) -> float:
    """1 - ||target - output||^2 / ||target||^2 over all samples; 0 for a network that gives nothing."""
    missed = sum(2 * float(loss(network, samples, [i])) for i in range(len(samples)))
    return 1 - missed / max(float(samples.targets.double().square().sum()), 1e-300)


def _fit(network: ProbeNetwork, samples: Samples, training: Training, progress: Progress) -> None:
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=training.step_size)
    batches = -(-len(samples) // training.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(training.epochs * batches, 1))
    values = samples.targets[0].numel()
    network.train()
    tick = progress.steps(training.epochs)
    for epoch in range(training.epochs):
        for chosen in torch.randperm(len(samples)).split(training.batch):
            optimizer.zero_grad()
            (loss(network, samples, chosen) / (len(chosen) * values)).backward()
            optimizer.step()
            schedule.step()
        tick(f"epoch {epoch + 1} of {training.epochs}")
