"""What a saved model owes: its own weights, its symmetry, units and frames, and the output it had when it was saved."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from flowsr.data.scales import free_components
from flowsr.files import file_checksum
from flowsr.grid import Grid, triple
from flowsr.group.o3 import Irreps
from flowsr.models.base import Upscaler
from flowsr.models.checkpoint import WEIGHTS, load_model, model_folder, read_card
from flowsr.models.linear import LinearEstimate
from flowsr.models.octahedral import Planewise

#: The box of the reference input: unequal sides, so that no axis stands for another.
SIDES = (4, 5, 6)
#: Relative errors: of round-off in float64, and of a reference output on another machine.
EXACT, ALIKE = 1e-10, 1e-6
#: Values of the reference output that are kept, evenly spread.
KEPT = 64


@dataclass(frozen=True)
class Check:
    """One thing that was asked of a model.

    Args:
        what: in words.
        found: the answer, in words.
        passed: None where it is a measurement, not a promise.
    """

    what: str
    found: str
    passed: bool | None


def reference_input(model: Upscaler) -> tuple[Tensor, Grid]:
    """A field that needs no file and no random numbers: a few waves along every diagonal, float64.

    Between walls where a model has weights of its own for every plane, or by the distance to a wall.
    """
    sides, kinds = list(SIDES), ["periodic"] * 3
    for module in model.modules():
        for axis, count in enumerate(module.planes if isinstance(module, (LinearEstimate, Planewise)) else ()):
            if count > 1:
                sides[axis], kinds[axis] = count, "wall"
    if "wall" not in kinds and any(getattr(module, "wall_functions", 0) for module in model.modules()):
        kinds[1] = "wall"
    grid, components = Grid(triple(sides), boundary=triple(kinds)), Irreps(model.irreps_in).dim
    x, y, z = (2 * torch.pi * (torch.arange(n, dtype=torch.float64) + 0.5) / n for n in sides)
    phase = torch.arange(components, dtype=torch.float64)[:, None, None, None]
    waves = torch.sin(x[:, None, None] + 2 * y[:, None] + z + phase) + torch.cos(2 * x[:, None, None] - z + 2 * phase)
    return waves[None], grid


def reference_output(model: Upscaler) -> list[float]:
    """Evenly spread values of what the model makes of the reference input, in float64."""
    model = copy.deepcopy(model).cpu().double().eval()
    field, grid = reference_input(model)
    with torch.no_grad():
        values = model(field, grid).flatten()
    return values[:: max(1, len(values) // KEPT)][:KEPT].tolist()


def verify_model(folder: Path) -> Iterator[Check]:
    """Ask a saved model for what its card promises.

    Yields:
        sha256 of the weights; equivariance under the elements that the network is built on and under all 48; a M(u),
        M(0) and M(u + c); the reference output.

    Raises:
        FlowsrError: a folder that is no model.
    """
    from flowsr.metrics.equivariance import equivariance_error  # torchmetrics, which no other use of a model needs

    card, model = read_card(folder), load_model(folder).double()
    checksum, expected = file_checksum(model_folder(folder) / WEIGHTS), card.training.get("weights_sha256")
    yield Check("weights", f"sha256 {checksum}", None if expected is None else checksum == expected)
    field, grid = reference_input(model)
    with torch.no_grad():
        fine = model(field, grid)
        found, own = equivariance_error(model, field, grid, model.irreps_in, model.irreps)[0], card.symmetry
        if 1 < own.order < len(found):
            error = float(found[list(own.elements)].max())
            yield Check(f"equivariance, largest of the {own.order} of {own.label}", f"{error:.2g}", error < EXACT)
        error = float(found.nan_to_num().max())  # NaN where an element turns the box into one that the model refuses
        promised = card.equivariant
        yield Check("equivariance, largest of 48 elements", f"{error:.2g}", error < EXACT if promised else None)
        units = _distance(model(1e3 * field, grid), 1e3 * fine)
        yield Check("another unit: M(a u) = a M(u)", f"{units:.2g}", units < EXACT)
        silent = float(model(0 * field, grid).abs().max())
        yield Check("no field: M(0) = 0", f"{silent:.2g}", silent == 0)
        free = torch.tensor(free_components(model.irreps, grid.boundary), dtype=torch.float64)
        if free.any():
            wind = 3 * free[:, None, None, None]
            frame = _distance(model(field + wind.repeat(model.frames, 1, 1, 1), grid), fine + wind)
            yield Check("another frame: M(u + c) = M(u) + c", f"{frame:.2g}", frame < EXACT)
    kept = card.training.get("reference")
    if kept is not None:
        difference = _distance(torch.tensor(reference_output(model)), torch.tensor(kept))
        yield Check("reference output", f"{difference:.2g} from that of the card", difference < ALIKE)


def compare_models(one: Path, other: Path) -> Iterator[tuple[str, str, str]]:
    """What differs between two saved models: (what, in the first, in the second).

    Raises:
        FlowsrError: a folder that is no model.
    """
    cards, models = [read_card(folder) for folder in (one, other)], [load_model(folder) for folder in (one, other)]
    pairs = {"model": [card.model for card in cards], "task": [card.task for card in cards]}
    for kind in ("options", "training"):
        names = sorted({name for card in cards for name in getattr(card, kind)})
        pairs.update({f"{kind}.{name}": [getattr(card, kind).get(name) for card in cards] for name in names})
    pairs["home"] = [card.home for card in cards]
    for what, (first, second) in pairs.items():
        if first != second:
            yield what, _short(first), _short(second)
    states = [model.state_dict() for model in models]
    for name in sorted({*states[0], *states[1]}):
        first, second = (state.get(name) for state in states)
        if first is None or second is None or first.shape != second.shape:
            yield f"weights {name}", *("none" if t is None else str(tuple(t.shape)) for t in (first, second))
        elif not torch.equal(first, second):
            change = _distance(second, first)
            yield f"weights {name}", f"norm {float(first.norm()):.4g}", f"differ by {change:.2g} of it"


def _distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp_min(1e-300))


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
