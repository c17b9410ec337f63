"""Fit one up-scaler to coarse / fine patches with Lightning: early stopping, best weights kept, resumable."""

from __future__ import annotations

import csv
import json
import logging
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from flowsr.data.scales import FieldScales, normalized, scales_of
from flowsr.errors import FlowsrError, require
from flowsr.files import write_text_atomic
from flowsr.grid import Grid
from flowsr.models import Upscaler
from flowsr.models.octahedral import breaking_power
from flowsr.progress import SILENT, Progress
from flowsr.train.checkpoints import (
    BEST,
    HISTORY,
    LAST,
    Checkpoints,
    read_checkpoint,
    read_history,
    resume_from,
    write_checkpoint,
)
from flowsr.train.losses import Objective
from flowsr.train.ranks import of_first, shares, this_rank
from flowsr.train.rates import groups_by_fan_in
from flowsr.train.settings import Schedule

log = logging.getLogger(__name__)
#: Processes that read ahead on CUDA where the data exceed the cache, unless the schedule says how many.
READERS = 2


@dataclass(frozen=True)
class PatchPair:
    """Where patches come from and what they look like.

    Args:
        train: draws (coarse, fine) patches as a pure function of ``set_epoch`` and the index.
        validation: the fixed patches that the best epoch is chosen on.
        grid: grid of a coarse patch, halo included.
        halo: coarse cells on each side, per axis, that are seen but not scored.
        fine_grid: grid of a fine patch, where it is not that of the scored coarse cells, split equally.
        normalized: whether every pair is in the scales of the field it is cut from; otherwise a model that takes its
            units from the field takes them from the patch.
        loss: of a model and a batch, instead of the schedule's, where what is learned from is no patches of a grid.
    """

    train: Dataset
    validation: Dataset
    grid: Grid | None = None
    halo: tuple[int, int, int] = (0, 0, 0)
    fine_grid: Grid | None = None
    normalized: bool = False
    loss: Callable[[nn.Module, Any], Tensor] | None = None


@dataclass(frozen=True)
class Fitted:
    """The outcome: the epoch (from 0) whose weights were kept, its validation loss, and every epoch's line.

    A loss that is NaN or infinite is None in its line.
    """

    best_epoch: int
    best_validation_loss: float
    history: list[dict]

    @property
    def diverged_epoch(self) -> int | None:
        """The first epoch (from 0) with a loss that is NaN or infinite; None where there is none."""
        losses = {line["epoch"]: (line["train_loss"], line["validation_loss"]) for line in self.history}
        return next((epoch for epoch, pair in losses.items() if None in pair), None)


def fit(
    model: Upscaler,
    patches: PatchPair,
    schedule: Schedule,
    folder: Path,
    *,
    device: str = "auto",
    progress: Progress = SILENT,
) -> Fitted:
    """Fit ``model`` in place and leave it with the weights of its best epoch.

    The loss is that of the schedule, the mean absolute error over the field's scale by default. ``folder`` receives
    ``history.jsonl``, one line per epoch, the same as ``history.csv``, and while the fit runs a checkpoint per epoch:
    called again after a kill, it resumes from the last whole epoch and ends with the same weights as if nothing had
    happened. A damaged checkpoint is one warning, see :func:`flowsr.train.checkpoints.resume_from`. Processes that have
    joined (:mod:`flowsr.train.ranks`) share every batch; the first writes the files.

    Args:
        model: a trainable up-scaler, freshly initialised.
        patches: training and validation patches.
        schedule: length and step size.
        folder: where history and checkpoints are kept.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: told the fraction done and the losses after each epoch.

    Raises:
        FlowsrError: a loss that is unknown or that such patches do not have, a logger that is not installed, or a fit
            that diverged.
    """
    _quiet_lightning()
    check_loggers(schedule)
    rank = this_rank()
    checkpoints, last = folder / "checkpoints", of_first(lambda: resume_from(folder))
    folder.mkdir(parents=True, exist_ok=True)
    steps = schedule.max_epochs * math.ceil(len(patches.train) / schedule.batch_size)
    readers = _readers(patches, schedule, device)
    task = _Regression(model, patches, schedule, steps, readers, device != "cpu" and torch.cuda.is_available())
    best = _Best(checkpoints / BEST, averages=schedule.ema is not None)
    patience = EarlyStopping("validation_loss", patience=schedule.patience, check_on_train_epoch_end=True)
    every_epoch = ModelCheckpoint(
        dirpath=checkpoints,
        filename=Path(LAST).stem,
        monitor=None,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    # before the average, whose weights are validated and go back to their place thereafter
    averaged = [] if schedule.ema is None else [EMAWeightAveraging(decay=schedule.ema, use_buffers=False)]
    history_lines = _History(folder / HISTORY, progress, task.budget)
    company: dict[str, Any] = {"devices": 1, "plugins": [Checkpoints()]}
    if rank.size > 1:
        # unused ones are looked for so that the order of summation is the same from the first step on, and on resuming
        company = {"devices": schedule.devices, "num_nodes": schedule.nodes, "use_distributed_sampler": False}
        company["strategy"] = DDPStrategy(find_unused_parameters=True)
        company["plugins"] = [Checkpoints(), TorchElasticEnvironment()]
    trainer = L.Trainer(
        accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[device],
        precision=resolve_precision(schedule.precision, device),
        max_epochs=schedule.max_epochs if task.budget is None else -1,
        callbacks=[*([task.budget] if task.budget else []), history_lines, best, *averaged, patience, every_epoch],
        gradient_clip_val=schedule.clip,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        logger=[LOGGERS[name](folder) for name in schedule.loggers],
        enable_progress_bar=False,
        enable_model_summary=False,
        **company,
    )
    if last is None or not of_first(lambda: _has_ended(folder / HISTORY, last, schedule)):
        try:
            trainer.fit(task, ckpt_path=None if last is None else str(last), weights_only=True)
        except torch._dynamo.exc.TorchDynamoException as error:
            found = str(error).strip().split("\n")[0]
            message, hint = "torch.compile cannot compile this network here", "leave train.compile out"
            raise FlowsrError(message, variable="train.compile", found=found, hint=hint) from None
    fitted, weights = of_first(lambda: _outcome(folder, best.path))
    model.load_state_dict(weights)
    model.cpu().eval()
    if rank.leads and fitted.diverged_epoch is not None:
        message = (
            "training diverged: epoch %d has a loss that is NaN or infinite; the weights of epoch %d are kept (%s)"
        )
        log.warning(message, fitted.diverged_epoch + 1, fitted.best_epoch + 1, folder)
    return fitted


@torch.no_grad()
def mean_loss(model: Upscaler, patches: PatchPair, schedule: Schedule, split: str) -> float:
    """The schedule's loss of a model as it is, over all patches of ``train`` (its first epoch) or ``validation``."""
    task = _Regression(model, patches, schedule, 1)
    drawn: Dataset = getattr(patches, split)
    losses = [(len(batch[0]), float(task.loss(batch))) for batch in DataLoader(drawn, batch_size=schedule.batch_size)]
    return sum(count * loss for count, loss in losses) / sum(count for count, _ in losses)


def _outcome(folder: Path, best: Path) -> tuple[Fitted, dict[str, Tensor]]:
    if not best.exists():
        message = "training diverged: no epoch had a finite validation loss"
        raise FlowsrError(message, file=folder / HISTORY, hint="lower train.learning_rate")
    kept = read_checkpoint(best)
    return Fitted(kept["epoch"], kept["loss"], read_history(folder / HISTORY)), kept["weights"]


def check_loggers(schedule: Schedule) -> None:
    """Refuse loggers whose package is not installed."""
    for name in schedule.loggers:
        hint = f"pip install {name}, or leave it out of train.loggers: history.csv is always written"
        require(find_spec(name), f"{name} is not installed", variable="train.loggers", found=name, hint=hint)


def check_penalty(model: Upscaler, schedule: Schedule) -> None:
    """Refuse a penalty on an irrep that is none of the network's group."""
    known = breaking_power(model) if schedule.penalty else {}
    for name in schedule.penalty:
        message, expected = "no such irrep in this network's group", ", ".join([*known, "all"])
        require(name in known or name == "all", message, variable="train.penalty", expected=expected, found=name)


def _tensorboard(folder: Path):
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard", version="")


def _mlflow(folder: Path):
    from lightning.pytorch.loggers import MLFlowLogger

    return MLFlowLogger("flowsr", run_name=folder.name, save_dir=str(folder / "mlruns"))


def _wandb(folder: Path):
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(name=folder.name, project="flowsr", save_dir=folder)


#: Loggers by name, of a folder.
LOGGERS: dict[str, Callable[[Path], Any]] = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}


def resolve_precision(precision: str, device: str) -> str:
    """``auto`` made concrete for a device."""
    if precision != "auto":
        return precision
    on_cuda = device != "cpu" and torch.cuda.is_available()
    return "bf16-mixed" if on_cuda and torch.cuda.is_bf16_supported() else "32-true"


class _Regression(L.LightningModule):
    """The loss over the scored core of each patch; loaders are made anew at each epoch, whose draws know its number."""

    def __init__(
        self,
        model: Upscaler,
        patches: PatchPair,
        schedule: Schedule,
        steps: int,
        readers: int = 0,
        pinned: bool = False,
    ):
        super().__init__()
        self.model, self.patches, self.schedule, self.steps = model, patches, schedule, steps
        self.predict = torch.compile(model.__call__) if schedule.compile else model.__call__
        self.reading = {"num_workers": readers, "pin_memory": pinned and readers > 0}
        if readers:
            clean = get_context("forkserver")  # has imported what they need, and nothing of this process
            clean.set_forkserver_preload(["flowsr.data.patches"])
            self.reading |= {"persistent_workers": True, "multiprocessing_context": clean}
        self.loaders: dict[str, DataLoader] = {}
        if patches.loss is None:
            edges = [h * model.factor for h in patches.halo]
            self.core = (..., *(slice(e, -e if e else None) for e in edges))
            scored = tuple(n - 2 * h for n, h in zip(patches.grid.shape, patches.halo))
            fine_grid = patches.fine_grid or replace(patches.grid, shape=scored).refined(model.factor)
            self.objective = Objective(schedule.loss, fine_grid, model.irreps)
        self.budget = None if schedule.seconds is None else _Budget(schedule.seconds)
        check_penalty(model, schedule)

    def loss(self, batch: Any) -> Tensor:
        if self.patches.loss is not None:
            return self.patches.loss(self.model, batch)
        coarse, fine, *viscosity = batch
        if not self.model.needs_scales:
            return self.objective(self.predict(coarse, self.patches.grid)[self.core], fine, self.model.scale)
        if not self.patches.normalized:
            scales = scales_of(coarse, self.patches.grid, self.model.irreps)
            coarse, fine = (normalized(field, *scales) for field in (coarse, fine))
            viscosity = [each / scales[1].clamp_min(1e-300) for each in viscosity]
        unit = FieldScales.unit(self.model.components)
        unit = replace(unit, viscosity=viscosity[0]) if viscosity else unit
        prediction = self.predict(coarse, self.patches.grid, unit)[self.core]
        return self.objective(prediction, fine, prediction.new_ones(()))

    def training_step(self, batch, index):
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch[0]), sync_dist=True)
        if self.schedule.penalty:
            powers, weights = breaking_power(self.model), self.schedule.penalty
            loss = loss + sum(weights.get(name, weights.get("all", 0.0)) * power for name, power in powers.items())
        return loss

    def validation_step(self, batch, index):
        self.log("validation_loss", self.loss(batch), batch_size=len(batch[0]), sync_dist=True)

    def train_dataloader(self):
        self.patches.train.set_epoch(self.trainer.current_epoch)
        return self._loader("train", shares(len(self.patches.train), self.schedule.batch_size, this_rank()))

    def val_dataloader(self):
        rank, size, count = this_rank(), self.schedule.batch_size, len(self.patches.validation)
        own = range(count)[rank.number :: rank.size] if count >= rank.size else range(count)
        return self._loader("validation", [list(own[first : first + size]) for first in range(0, len(own), size)])

    def _loader(self, of: str, batches: list[list[int]]) -> DataLoader:
        """One that reads ahead is kept: its processes hear of a new epoch."""
        if of in self.loaders:
            return self.loaders[of]
        loader = DataLoader(getattr(self.patches, of), batch_sampler=batches, **self.reading)
        if self.reading["num_workers"]:
            self.loaders[of] = loader
        return loader

    def configure_optimizers(self):
        rate = self.schedule.learning_rate
        if self.schedule.rates != "equal":
            weights = groups_by_fan_in(self.model, rate, matched=self.schedule.rates == "matched")
        else:
            weights = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(weights, lr=rate)
        warm_up = self.schedule.warm_up
        if self.budget is not None:
            decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: share_of_rate(self.budget.done, warm_up))
        elif warm_up:
            decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share_of_rate(step / self.steps, warm_up))
        else:
            decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": decay, "interval": "step"}}


def share_of_rate(done: float, warm_up: float) -> float:
    """Share of the learning rate after a share of the training: half a cosine, times a line up to ``warm_up``."""
    return 0.5 * (1 + math.cos(math.pi * done)) * (min(1.0, done / warm_up) if warm_up else 1.0)


class _Budget(Callback):
    """Ends a fit when its training steps have taken so many seconds, validation not counted."""

    def __init__(self, seconds: float):
        self.seconds, self.spent = seconds, 0.0

    @property
    def done(self) -> float:
        """Share of the seconds that are spent."""
        return min(1.0, self.spent / self.seconds)

    def _now(self, trainer) -> float:
        return time.process_time() if trainer.strategy.root_device.type == "cpu" else time.perf_counter()

    def on_train_batch_start(self, trainer, module, batch, index):
        self.started = self._now(trainer)

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        taken = self._now(trainer) - self.started
        if trainer.world_size > 1:  # of the slowest, so that all agree
            taken = float(trainer.strategy.reduce(torch.tensor(taken, device=module.device), reduce_op="max"))
        self.spent += taken
        if self.spent >= self.seconds:
            trainer.should_stop = True

    def state_dict(self):
        return {"spent": self.spent}

    def load_state_dict(self, state):
        self.spent = state["spent"]


class _History(Callback):
    """One line per epoch, as JSON and as CSV; lines of an epoch that a kill cut short are dropped on resuming."""

    def __init__(self, path: Path, progress: Progress, budget: _Budget | None = None):
        self.path, self.progress, self.budget = path, progress, budget

    def on_train_start(self, trainer, module):
        self.lines = [line for line in read_history(self.path) if line["epoch"] < trainer.current_epoch]
        self.earlier = self.lines[-1]["seconds"] if self.lines else 0.0
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer, module):
        metrics = trainer.callback_metrics
        line = {
            "epoch": trainer.current_epoch,
            "train_loss": _finite(float(metrics["train_loss"])),
            "validation_loss": _finite(float(metrics["validation_loss"])),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(self.earlier + time.perf_counter() - self.start, 3),
        }
        if self.budget is not None:
            line["training_seconds"] = round(self.budget.spent, 3)
        self.lines.append(line)
        if not trainer.is_global_zero:
            return
        write_text_atomic(self.path, "".join(json.dumps(entry, allow_nan=False) + "\n" for entry in self.lines))
        table = StringIO()
        rows = csv.DictWriter(table, list(line), lineterminator="\n")
        rows.writeheader()
        rows.writerows(self.lines)
        write_text_atomic(self.path.with_suffix(".csv"), table.getvalue())
        budget = self.budget
        done = budget.done if budget else (trainer.current_epoch + 1) / trainer.max_epochs
        loss = line["validation_loss"]
        said = "NaN or infinite, training diverged" if loss is None else f"{loss:.4f}"
        self.progress(done, f"epoch {line['epoch'] + 1}: validation loss {said}")


def _finite(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None


class _Best(Callback):
    """The weights of the epoch with the lowest validation loss, in a file that says which epoch and what loss."""

    def __init__(self, path: Path, averages: bool):
        self.path, self.averages = path, averages

    def _weights(self, module) -> dict[str, Tensor]:
        return {name: tensor.detach().cpu() for name, tensor in module.model.state_dict().items()}

    def on_validation_epoch_end(self, trainer, module):
        if self.averages:
            self.validated = {name: tensor.clone() for name, tensor in self._weights(module).items()}

    def on_train_epoch_end(self, trainer, module):
        loss = float(trainer.callback_metrics["validation_loss"])
        if not math.isfinite(loss) or not trainer.is_global_zero:
            return
        earlier = read_checkpoint(self.path) if self.path.exists() else None
        if earlier is None or loss < earlier["loss"] or trainer.current_epoch <= earlier["epoch"]:
            weights = self.validated if self.averages else self._weights(module)
            write_checkpoint(self.path, {"epoch": trainer.current_epoch, "loss": loss, "weights": weights})


def _readers(patches: PatchPair, schedule: Schedule, device: str) -> int:
    """Processes that read ahead."""
    if schedule.loader_workers is not None:
        return schedule.loader_workers
    on_cuda = device != "cpu" and torch.cuda.is_available()
    return READERS if on_cuda and not getattr(patches.train, "cached_whole", True) else 0


def _has_ended(history: Path, last: Path, schedule: Schedule) -> bool:
    """Whether an earlier call came to its end: all epochs are done, patience had run out, or the last loss was NaN.

    Only the epochs that the last checkpoint knows of count: a line may stand beyond it after a kill.
    """
    whole = int(read_checkpoint(last)["epoch"]) + 1
    losses = [line["validation_loss"] for line in read_history(history)][:whole]
    if None in losses[-1:]:
        return True
    best = min(range(len(losses)), key=losses.__getitem__, default=0)
    if schedule.seconds is not None:
        spent = [line.get("training_seconds", 0.0) for line in read_history(history)][:whole]
        return spent[-1] >= round(schedule.seconds, 3) or whole - 1 - best >= schedule.patience
    return whole >= schedule.max_epochs or whole - 1 - best >= schedule.patience


def _quiet_lightning() -> None:
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
    warnings.filterwarnings("ignore", message=".*Grad strides do not match.*")
    warnings.filterwarnings("ignore", message=".*The dirpath has changed from.*")
    warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)`.*")
