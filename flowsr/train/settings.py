"""What networks to train, and how: the settings of every fit, declared once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from flowsr.group import point_group
from flowsr.windows import Window

#: Settings of a schedule that say where and beside what a network is trained: they decide no result.
CIRCUMSTANCES = frozenset({"devices", "nodes", "loader_workers", "loggers"})
#: What the name of a network may be: it names a folder as well.
NETWORK_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*")


@dataclass(frozen=True)
class Network:
    """One model to train: a registered name and its options."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    model: str
    """Registered model name (`flowsr models` lists them)."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options of that model."""
    match_parameters: str | None = None
    """Name of another trained model: choose the width that comes nearest to its parameter count."""
    augment: str | None = None
    """Transform every training patch by a random element of this group: O, Oh or a subgroup; default: as they are."""
    constraints: list[Literal["data_consistency", "solenoidal"]] = field(default_factory=list)
    """Physics the output obeys exactly: its degraded field is the input, it has no divergence."""
    base: dict[str, Any] | None = None
    """Options of a linear estimate, solved for first, that the network corrects; default: it corrects interpolation."""
    average: str | None = None
    """Average the trained network's result over this group: O, Oh or a subgroup; default: as it is."""

    def __post_init__(self) -> None:
        for name in ("augment", "average"):
            if (group := getattr(self, name)) is not None:
                point_group(group, name)


@dataclass(frozen=True)
class Schedule:
    """How a network is fitted: what it is shown, what is made small, how long and how fast.

    Raises:
        ValueError: no loss, a negative weight of one, or numbers that are not positive.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}

    patch: int | None = None
    """Coarse cells along a patch's side; default: the whole box."""
    patch_halo: int = 0
    """Coarse cells around a patch that are seen but not scored."""
    shifts: bool = False
    """Draw pairs between cells too: fine fields rolled by parts of a coarse cell along periodic axes, then degraded."""
    loss: Mapping[str, float] = field(default_factory=lambda: {"l1": 1.0})
    """Losses and their weights, 0 for none: l1, l2, gradient_l1, gradient_l2, spectrum, divergence."""
    samples_per_epoch: int = 64
    """Patches drawn per epoch."""
    batch_size: int = 4
    """Patches per step."""
    max_epochs: int = 30
    """Epochs at the most; the learning rate falls to zero over them along half a cosine."""
    patience: int = 10
    """Epochs without a better validation loss before stopping early."""
    learning_rate: float = 2e-3
    """Adam's initial step size."""
    warm_up: float = 0.0
    """Share of the training over which the step size rises to that; 0.1 spares small strict networks a bad start."""
    rates: Literal["equal", "by_fan_in", "matched"] = "equal"
    """by_fan_in: step sizes over what a layer sums; matched: and relaxed weights move by the same share as filters."""
    penalty: Mapping[str, float] = field(default_factory=dict)
    """On what relaxed weights, and those of wall functions, break: weight by irrep of the group, or under `all`."""
    seconds: float | None = None
    """Instead of max_epochs: seconds of training steps, of CPU time on a CPU; the learning rate falls over them."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed", "64-true"] = "auto"
    """auto: bf16 mixed precision on a device that has it, float32 elsewhere."""
    clip: float | None = None
    """Largest norm of a step's gradient, of all weights together; default: as it comes."""
    ema: float | None = None
    """Decay of a moving average of the weights, 0.999 say: it is what is validated and kept; default: no average."""
    compile: bool = False
    """Let torch.compile make one program of the network; it takes a minute first."""
    devices: int = 1
    """Processes on a machine, a device each, that share every batch: CUDA devices, or processes on a CPU."""
    nodes: int = 1
    """Machines that share every batch; started by torchrun or srun (see docs/models.md)."""
    neighbours: int = 1
    """Patches drawn from each region of about a chunk; of data that exceed the memory, 32 and more are read fast."""
    loader_workers: int | None = None
    """Processes that read patches ahead, pinned on CUDA; default: none on a CPU, 2 on CUDA where the data are large."""
    loggers: list[Literal["tensorboard", "mlflow", "wandb"]] = field(default_factory=list)
    """Where losses are logged beside history.csv, by packages that are installed: tensorboard, mlflow, wandb."""

    def __post_init__(self) -> None:
        if not any(self.loss.values()):
            raise ValueError("loss must name at least 1 loss, with a weight above 0")
        for name, weight in self.loss.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"loss.{name} must be 0 or more, got {weight}")
        counts = (
            "patch",
            "samples_per_epoch",
            "batch_size",
            "max_epochs",
            "patience",
            "devices",
            "nodes",
            "neighbours",
        )
        if not 0 <= self.warm_up < 1:
            raise ValueError(f"warm_up must be 0 or more and below 1, got {self.warm_up}")
        for name in (*counts, "learning_rate", "seconds", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if not all(math.isfinite(weight) and weight >= 0 for weight in self.penalty.values()):
            raise ValueError(f"penalty must be 0 or more, got {dict(self.penalty)}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema must be between 0 and 1, got {self.ema}")
        for name in ("patch_halo", "loader_workers"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("batch_size", "samples_per_epoch"):
            if getattr(self, name) % self.processes:
                shared = f"devices x nodes = {self.processes}, which share it equally"
                raise ValueError(f"{name} must be a multiple of {shared}, got {getattr(self, name)}")

    @property
    def processes(self) -> int:
        """Processes that share every batch."""
        return self.devices * self.nodes


def _default_networks() -> dict[str, Network]:
    return {
        "relaxed": Network("relaxed"),
        "strict": Network("strict"),
        "cnn": Network("cnn", match_parameters="relaxed"),
    }


@dataclass(frozen=True)
class Training(Schedule):
    """The networks of an experiment, and how all of them are fitted.

    Raises:
        ValueError: as for :class:`Schedule`, a name that is no name of a folder, no frames, or a target that is none of
            them.
    """

    models: dict[str, Network] = field(default_factory=_default_networks)
    """Networks to train, by the name they carry in the comparison."""
    frames: int = 1
    """Consecutive coarse snapshots that one fine one is made from; a model's own options go before."""
    target_frame: int = -1
    """Which of the frames is wanted fine: 0 the oldest, -1 the latest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.models:
            if not NETWORK_NAME.fullmatch(name):
                raise ValueError(f"a network's name has letters, digits, '_', '-' and '.', got {name!r}")
        _ = self.window

    @property
    def window(self) -> Window:
        """The frames that one target needs."""
        return Window(self.frames, self.target_frame)
