"""Trained networks on particles: kept in a folder, and called as the other methods are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowsr.errors import FlowsrError
from flowsr.files import read_regular, write_bytes_atomic, write_json_atomic
from flowsr.tracks.classical import METHODS, Estimate, solenoidal
from flowsr.tracks.cloud import Cloud

if TYPE_CHECKING:
    from torch import Tensor

    from flowsr.tracks.network import Nodes, TracksNetwork

WEIGHTS, CARD = "tracks.safetensors", "tracks.json"
#: What is corrected, as a card names it: weights for another estimate are of no use to this one.
CORRECTED = "solenoidal, with its noise"
#: Points that a network is asked for at once: some 60 kB each.
BATCH = 1000


def save_network(folder: Path, network: TracksNetwork, training: Mapping[str, Any]) -> None:
    """Write weights and card into a folder; each appears whole or not at all.

    Args:
        training: what is to be known of it: data, seed, settings, losses.
    """
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_bytes_atomic(folder / WEIGHTS, save(tensors))
    card = {"corrects": CORRECTED, "options": asdict(network.options), "training": dict(training)}
    write_json_atomic(folder / CARD, card)


def load_network(folder: str | Path) -> TracksNetwork:
    """The network of a folder.

    Raises:
        FlowsrError: no such folder, or files that are not those of a network.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    from flowsr.tracks.network import NetworkOptions, TracksNetwork

    folder = Path(folder)
    try:
        card = dict(json.loads(read_regular(folder / CARD)))
        if (corrects := card.get("corrects")) != CORRECTED:
            hint, where = "train it again", {"file": folder, "variable": "corrects"}
            raise FlowsrError("corrects another estimate", expected=CORRECTED, found=corrects, hint=hint, **where)
        options = NetworkOptions(**card["options"])
        with torch.random.fork_rng(devices=[]):
            network = TracksNetwork(options)
        network.load_state_dict(load((folder / WEIGHTS).read_bytes()))
    except OSError as error:
        found = error.strerror or str(error)
        expected = f"a folder with {CARD} and {WEIGHTS}"
        raise FlowsrError("cannot read the network", file=folder, expected=expected, found=found) from None
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FlowsrError("not a network on particles", file=folder, found=found) from None
    return network.eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class Heard:
    """A cloud as a network knows it, of which points are then told.

    Args:
        nodes: the particles as they came.
        features: of them, after they have heard one another; (particles, components).
    """

    nodes: Nodes
    features: Tensor


def hear(cloud: Cloud, known: TracksNetwork, left: tuple[np.ndarray, np.ndarray] | None = None) -> Heard:
    """What the particles of a cloud know of one another.

    Args:
        left: of :func:`flowsr.tracks.classical.left_out` the cloud, where it is known.
    """
    import torch

    from flowsr.tracks.network import nodes_of

    nodes = nodes_of(cloud, known.options, next(known.parameters()).dtype, left)
    with torch.no_grad():
        return Heard(nodes, known.particles(nodes))


@METHODS.register("network")
def network(cloud: Cloud, points: np.ndarray, model: str | Path | TracksNetwork = "") -> Estimate:
    """A trained network's correction of :func:`flowsr.tracks.classical.solenoidal`, its noise told or found.

    Args:
        cloud, points: particles, and where the field is asked for, (points, 3).
        model: folder of the trained network, or the network itself.

    Raises:
        FlowsrError: no network, one that cannot be read, or one that takes accelerations where none were measured.
    """
    known = _known(model)
    return correct(cloud, points, solenoidal(cloud, points), known, _heard(cloud, known))


def prepared(
    cloud: Cloud, model: str | Path | TracksNetwork, left: tuple[np.ndarray, np.ndarray]
) -> Callable[[np.ndarray], Estimate]:
    """:func:`network` of one cloud, told what :func:`flowsr.tracks.classical.left_out` gives of it."""
    known = _known(model)
    heard = hear(cloud, known, left)
    return lambda points: correct(cloud, points, solenoidal(cloud, points), known, heard)


def correct(cloud: Cloud, points: np.ndarray, classical: Estimate, known: TracksNetwork, heard: Heard) -> Estimate:
    """A classical estimate at some points (:func:`solenoidal`'s) with the network's correction added."""
    from flowsr.tracks.network import neighbourhood

    nodes, features = heard.nodes, heard.features
    indices, ways = neighbourhood(cloud, points, known.options.neighbours, nodes.spacing)
    velocities, gradients = [], []
    for start in range(0, len(points), BATCH):
        part = slice(start, start + BATCH)
        velocity, gradient = known.gradient_at(features[indices[part]], ways[part].to(features.dtype))
        velocities.append(velocity.double().numpy())
        gradients.append(gradient.double().numpy())
    velocity = classical.velocity + nodes.miss * np.concatenate(velocities)
    return Estimate(velocity, classical.gradient + nodes.miss / nodes.spacing * np.concatenate(gradients))


def _known(model: str | Path | TracksNetwork) -> TracksNetwork:
    if not model:
        hint = "--model FOLDER, of a network that was trained (docs: tracks)"
        raise FlowsrError("which network?", variable="model", hint=hint)
    if not isinstance(model, (str, Path)):
        return model
    weights = Path(model).resolve() / WEIGHTS
    return _loaded(weights.parent, weights.stat().st_mtime_ns if weights.is_file() else 0)


@lru_cache(maxsize=4)
def _loaded(folder: Path, written: int) -> TracksNetwork:
    """As it was written then: a folder may be trained into again."""
    return load_network(folder)


#: Kept from one batch of points to the next.
_heard = lru_cache(maxsize=1)(hear)
