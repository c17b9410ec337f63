"""Fit a network on particles to flows that are known everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from flowsr.errors import FlowsrError
from flowsr.files import naming, write_bytes_atomic
from flowsr.progress import SILENT, Progress
from flowsr.provenance import versions
from flowsr.tracks.classical import Estimate, left_out, solenoidal
from flowsr.tracks.cloud import Cloud
from flowsr.tracks.learned import save_network
from flowsr.tracks.network import NetworkOptions, Nodes, TracksNetwork, neighbourhood, nodes_of
from flowsr.tracks.particles import Truth
from flowsr.train.checkpoints import discard_checkpoints
from flowsr.train.fit import Fitted, PatchPair, fit
from flowsr.train.settings import Schedule

#: Distance over which the network's slope is taken in training, in the particles' spacing: half to either side.
STEP = 0.1


@dataclass(frozen=True, eq=False)
class Example:
    """A cloud of particles, and points at which the flow and its classical estimate are known.

    Args:
        cloud: particles.
        left: of :func:`flowsr.tracks.classical.left_out`.
        points: (points, 3).
        truth, classical: velocity and gradient there; the classical one is :func:`solenoidal`'s.
        pressure: (points,) over the density, where it is to be compared.
    """

    cloud: Cloud
    left: tuple[np.ndarray, np.ndarray]
    points: np.ndarray
    truth: Estimate
    classical: Estimate
    pressure: np.ndarray | None = None


def example_of(truth: Truth, cloud: Cloud, points: np.ndarray, pressure: bool = False) -> Example:
    """An example of a flow, of the particles that were seen in it, and of points."""
    known = Estimate(truth.velocity_at(points), truth.gradient_at(points))
    there = truth.pressure_at(points) if pressure else None
    return Example(cloud, left_out(cloud), points, known, solenoidal(cloud, points), there)


class Draws(Dataset):
    """Points of the examples, drawn as a pure function of epoch and index: one example and some of its points each.

    Args:
        examples: at least one.
        options: of the network that is to take them.
        count: draws per epoch.
        points: of each draw.
        seed: of the draws.
    """

    def __init__(self, examples: Sequence[Example], options: NetworkOptions, count: int, points: int, seed: int):
        self.count, self.points, self.seed, self.epoch = count, points, seed, 0
        self.examples = [_tensors(example, options) for example in examples]

    def set_epoch(self, epoch: int) -> None:
        """Draw anew."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        # all examples equally often, in another order each time round
        turn, place = divmod(self.epoch * self.count + index, len(self.examples))
        nodes, indices, ways, missed, slopes, scales = self.examples[
            np.random.default_rng((self.seed, turn)).permutation(len(self.examples))[place]
        ]
        rng = np.random.default_rng((self.seed, self.epoch, index, 1))
        chosen = torch.from_numpy(rng.permutation(len(missed))[: self.points])
        along = torch.from_numpy(rng.normal(size=(len(chosen), 3))).to(missed.dtype)
        along = along / along.norm(dim=1, keepdim=True)
        slope = (slopes[chosen] * along[:, None]).sum(-1)
        return (*nodes, indices[chosen], ways[chosen], missed[chosen], along, slope, scales)


def _tensors(example: Example, options: NetworkOptions) -> tuple:
    nodes = nodes_of(example.cloud, options, left=example.left)
    indices, ways = neighbourhood(example.cloud, example.points, options.neighbours, nodes.spacing)
    missed = (example.truth.velocity - example.classical.velocity) / nodes.miss
    slopes = (example.truth.gradient - example.classical.gradient) * nodes.spacing / nodes.miss
    scales = [np.mean((missed**2).sum(1)), np.mean((slopes**2).sum((1, 2)))]
    known, indices = _heard_of(nodes, indices, options.layers)
    return known, indices, *(torch.from_numpy(np.asarray(each)).float() for each in (ways, missed, slopes, scales))


def _heard_of(nodes: Nodes, indices: Tensor, layers: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """Features, neighbours and ways of the particles that some points hear of, directly or through others, and the
    points' neighbours among them; of those at the rim, whom nobody hears as they would be, neighbours are themselves.
    """
    heard = indices.unique()
    for _ in range(layers):
        inner, heard = heard, torch.cat([heard, nodes.indices[heard].flatten()]).unique()
    place = torch.full((len(nodes.features),), -1)
    place[heard] = torch.arange(len(heard))
    around = place[nodes.indices[heard]]
    if layers:
        rim = ~torch.isin(heard, inner)
        around[rim] = torch.arange(len(heard))[rim, None]
    return (nodes.features[heard], around.clamp(min=0), nodes.ways[heard]), place[indices]


def loss_of(network: nn.Module, batch: Sequence[Tensor]) -> Tensor:
    """Squared error of the corrected velocity over that of the classical one, plus the same of the gradient, halved.

    The gradient's is taken along a random direction at each point, of the difference between two places: what autograd
    would give up to the square of their distance, and a third of its cost.
    """
    features, around, to_around, indices, ways, missed, along, slope, scales = (each[0] for each in batch)
    heard = network.particles(_Nodes(features, around, to_around))[indices].repeat(2, 1, 1)
    away = STEP / 2 * along[:, None]
    ahead, behind = network.at(heard, torch.cat([ways - away, ways + away])).chunk(2)
    of_velocity = ((ahead + behind) / 2 - missed).square().sum(1).mean() / scales[0]
    of_slope = 3 * ((ahead - behind) / STEP - slope).square().sum(1).mean() / scales[1]
    return (of_velocity + of_slope) / 2


@dataclass(frozen=True, eq=False)
class _Nodes:
    """The part of :class:`flowsr.tracks.network.Nodes` that the network itself reads."""

    features: Tensor
    indices: Tensor
    ways: Tensor


def train_network(
    options: NetworkOptions,
    examples: Sequence[Example],
    validation: Sequence[Example],
    folder: Path,
    schedule: Schedule,
    *,
    points: int = 1000,
    seed: int = 0,
    device: str = "cpu",
    notes: Mapping[str, Any] | None = None,
    progress: Progress = SILENT,
) -> Fitted:
    """Fit a network and save it; a fit that was killed is resumed from its folder.

    Args:
        options: of the network.
        examples, validation: what it learns from, and what its best epoch is chosen on.
        folder: receives ``tracks.safetensors``, ``tracks.json`` and ``history.jsonl``.
        schedule: length and step size; a sample is one example and some of its points. Losses and patches are not
            asked of it.
        points: of each sample.
        seed: of weights and draws.
        device: ``auto``, ``cpu`` or ``cuda``.
        notes: what else the card is to say of the training.

    Raises:
        FlowsrError: no examples, or a fit that diverged.
    """
    if not examples or not validation:
        raise FlowsrError("nothing to learn from", variable="clouds", expected="one for training, one for validation")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TracksNetwork(options)
    draws = Draws(examples, options, schedule.samples_per_epoch, points, seed)
    fixed = Draws(validation, options, len(validation), points, seed)
    found = fit(network, PatchPair(draws, fixed, loss=loss_of), schedule, folder, device=device, progress=progress)
    made = {"seed": seed, "examples": len(examples), "best_epoch": found.best_epoch + 1, **(notes or {})}
    made |= {"validation_loss": found.best_validation_loss, "parameters": network.parameter_count}
    save_network(folder, network, {**made, "breaking": network.breaking(), "versions": versions()})
    discard_checkpoints(folder)
    return found


def save_examples(path: Path, examples: Sequence[Example]) -> None:
    """Write examples as one ``.npz``."""
    from io import BytesIO

    arrays: dict[str, Any] = {"count": len(examples)}
    for number, each in enumerate(examples):
        of = {"positions": each.cloud.positions, "velocities": each.cloud.velocities, "points": each.points}
        of |= {"box": np.array([each.cloud.lower, each.cloud.upper]), "boundary": np.array(each.cloud.boundary)}
        of |= {"misses": each.left[0], "slopes": each.left[1]}
        for name, field in (("truth", each.truth), ("classical", each.classical)):
            of |= {f"{name}_velocity": field.velocity, f"{name}_gradient": field.gradient}
        for name, values in (("accelerations", each.cloud.accelerations), ("pressure", each.pressure)):
            if values is not None:
                of[name] = values
        arrays |= {f"{name}_{number}": values for name, values in of.items()}
    buffer = BytesIO()
    np.savez(buffer, **arrays)
    write_bytes_atomic(path, buffer.getvalue())


def load_examples(path: Path) -> list[Example]:
    """What :func:`save_examples` wrote."""
    with naming(path), np.load(path, allow_pickle=False) as file:
        found = []
        for number in range(int(file["count"])):

            def of(name: str, number: int = number):
                return file.get(f"{name}_{number}")

            box = tuple(of("box")[0]), tuple(of("box")[1]), tuple(of("boundary").tolist())
            cloud = Cloud(of("positions"), of("velocities"), *box, of("accelerations"))
            fields = [Estimate(of(f"{name}_velocity"), of(f"{name}_gradient")) for name in ("truth", "classical")]
            found.append(Example(cloud, (of("misses"), of("slopes")), of("points"), *fields, of("pressure")))
        return found
