"""Models on disk: weights as safetensors, everything else as JSON beside them. Nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any

from flowsr.errors import FlowsrError
from flowsr.files import file_checksum, fsync_folder, open_regular, read_regular, write_bytes_atomic, write_json_atomic
from flowsr.group import Subgroup, octahedral_group, point_group
from flowsr.models.base import MODELS, Task, Upscaler
from flowsr.models.build import build_model
from flowsr.models.home import Home
from flowsr.windows import Window

WEIGHTS, CARD = "model.safetensors", "model.json"
#: Models that come with the package, a folder each.
PRETRAINED = Path(__file__).parent / "weights"
# Widths, depths and factors of models are below this; what one takes besides its parameters to be built, numbers.
LARGEST_SIZE, LARGEST_ARRAY = 1 << 16, 1 << 26


@dataclass(frozen=True)
class ModelCard:
    """What a model is made from, written beside its weights.

    Args:
        model: registered name.
        task: what the data asked of it.
        options: its own, constraints among them.
        training: provenance of the fit, empty before: settings, data, seed, versions, best epoch; for several frames
            ``frame_spacing``, the step in time between them; ``diverged_epoch``, the first with a loss that is NaN or
            infinite, where there is one.
        home: what the fields were like that it was trained on; None before, and in older folders.
    """

    model: str
    task: Task
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    home: Home | None = None

    def build(self) -> Upscaler:
        """The model with fresh weights.

        Raises:
            FlowsrError: an unknown name.
            ValueError, TypeError: options that cannot be.
        """
        return build_model(self.model, self.task, **self.options)

    @property
    def symmetry(self) -> Subgroup:
        """The elements of O_h that the network it names commutes with whatever its weights: those that both it and what
        it corrects are built on, or that it is averaged over."""
        whole, options = octahedral_group("Oh"), self.options

        def elements(group: str | None) -> set[int]:
            return {whole.index(matrix) for matrix in point_group(group or "C1").matrices}

        if self.model in ("strict", "planewise", "paper_strict", "linear"):
            own = options.get("group", signature(MODELS[self.model]).parameters["group"].default)
        else:
            own = "Oh" if self.model == "e3nn" else options.get("relaxed_to")
        base, averaged = options.get("base"), elements(options.get("average"))
        kept = elements(own) if base is None else elements(own) & elements(base.get("group"))
        return whole.subgroup(kept if averaged <= kept else averaged)

    @property
    def equivariant(self) -> bool:
        """Whether it names a network that commutes with all 48 elements, whatever its weights."""
        return self.symmetry.order == octahedral_group("Oh").order

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelCard:
        """The card of its ``dataclasses.asdict``, as JSON has it.

        Raises:
            ValueError, KeyError, TypeError: values that are not those of a card.
        """
        task = values["task"]
        _check_sizes([values["options"], task])
        scale = task["scale"] if task["scale"] is None else float(task["scale"])
        task = Task(task["factor"], str(task["irreps"]), scale, Window(**task["window"]))
        home = None if values.get("home") is None else Home.from_dict(values["home"])
        return cls(str(values["model"]), task, dict(values["options"]), dict(values["training"]), home)


def group_words(found: Mapping[str, Any]) -> str:
    """What a card has under ``training.discovered`` in words: the group, its p, and what it was found in."""
    p = "exact data" if found["p"] is None else f"p = {found['p']:.2g}"
    seen = f", from {found['snapshots']} independent snapshots of {found['runs']} runs" if "snapshots" in found else ""
    rate = f"no larger group is allowed at a false alarm rate of {found['rate']:g}"
    return f"{found['group']}, discovered in the training pairs ({p}{seen}; {rate})"


def pretrained() -> dict[str, Path]:
    """Name to folder of the models that come with the package."""
    return {path.parent.name: path.parent for path in sorted(PRETRAINED.glob(f"*/{CARD}"))}


def model_folder(model: Path | str) -> Path:
    """The folder of a model: itself, or that of one that comes with the package, by its name."""
    return Path(model) if Path(model).exists() else pretrained().get(str(model), Path(model))


def save_model(folder: Path, model: Upscaler, card: ModelCard) -> None:
    """Write ``model.safetensors`` and ``model.json`` into ``folder``; each appears whole or not at all."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes_atomic(folder / WEIGHTS, save(tensors))
    write_json_atomic(folder / CARD, asdict(card))


def read_card(folder: Path | str) -> ModelCard:
    """The card of a saved model, or of one that comes with the package, by its name.

    Raises:
        FlowsrError: no such file, or one that is not a model card.
    """
    path = model_folder(folder) / CARD
    try:
        return ModelCard.from_dict(json.loads(read_regular(path)))
    except OSError as error:
        named = f"a folder with {CARD}, or one of {', '.join(pretrained())}" if pretrained() else None
        reason = error.strerror or str(error)
        raise FlowsrError("cannot read the model", file=path, expected=named, found=reason) from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise FlowsrError(
            "not a model card",
            file=path,
            expected="model, task (factor, irreps, scale, window), options and training",
            found=_in_one_line(error),
        ) from None


def load_model(folder: Path | str) -> Upscaler:
    """The model saved in ``folder``, or one that comes with the package, by its name; in eval mode on the CPU.

    Raises:
        FlowsrError: files that are missing, damaged, or do not belong together: where the card has the sha256 of the
            weights, under ``weights_sha256``, these and no others are loaded.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = model_folder(folder)
    card = read_card(folder)
    try:
        with open_regular(folder / WEIGHTS) as weights:
            largest = os.fstat(weights.fileno()).st_size
    except OSError as error:
        raise FlowsrError("weights cannot be loaded", file=folder / WEIGHTS, found=_in_one_line(error)) from None
    try:
        with no_larger(largest):
            model = card.build()
    except FlowsrError as error:
        raise FlowsrError(_in_one_line(error), file=folder / CARD) from None
    except (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError, AssertionError, MemoryError) as error:
        message = f"options do not suit model '{card.model}'"
        raise FlowsrError(message, file=folder / CARD, found=_in_one_line(error)) from None
    model.frame_spacing, model.card = card.training.get("frame_spacing"), card
    try:
        checksum = file_checksum(folder / WEIGHTS)
        expected = card.training.get("weights_sha256", checksum)
        if checksum != expected:
            message = "not the weights of this model's card"
            raise FlowsrError(message, file=folder / WEIGHTS, expected=f"sha256 {expected}", found=checksum)
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise FlowsrError("weights cannot be loaded", file=folder / WEIGHTS, found=_in_one_line(error)) from None
    return model.eval()


@contextmanager
def no_larger(values: int) -> Iterator[None]:
    """Stop the building of a model in here at more parameters than so many, or at one array that no model has.

    Raises:
        ValueError: a larger one.
    """
    from torch.nn.modules.module import register_module_parameter_registration_hook
    from torch.utils._python_dispatch import TorchDispatchMode

    count = 0

    def check(size: int, allowed: int) -> None:
        if size > allowed:
            raise ValueError(f"a model of {size} numbers or more, beside weights that have {values} bytes")

    def counted(module, name, parameter) -> None:
        nonlocal count
        count += 0 if parameter is None else parameter.numel()
        check(count, values)

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            first = arguments[0] if arguments else None
            if isinstance(first, (list, tuple)) and all(isinstance(side, int) for side in first):
                check(math.prod(first), LARGEST_ARRAY + values)
            return function(*arguments, **(keywords or {}))

    hook = register_module_parameter_registration_hook(counted)
    try:
        with Sizes():
            yield
    finally:
        hook.remove()


def _check_sizes(value: Any) -> None:
    """Refuse a number that is no width, depth or factor of a model.

    Raises:
        ValueError: a larger one.
    """
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            _check_sizes(each)
    if isinstance(value, int) and abs(value) > LARGEST_SIZE:
        raise ValueError(f"a size of {str(value)[:20]}, expected {LARGEST_SIZE} at most")


def publish_model(folder: Path, served: Path) -> Path:
    """Serve a trained model: ``served/versions/`` gets one more, whole, and ``served/current`` then leads to it.

    Whoever reads ``served/current`` has the old one or the new one, never half of either; a version stays what it is,
    so that a job that has begun with it can end with it.

    Args:
        folder: of a saved model.
        served: holds ``versions`` and ``current``.

    Returns:
        The version's folder, named after its content.

    Raises:
        FlowsrError: no whole model, or one whose training diverged.
    """
    load_model(folder)
    card = read_card(folder)
    if (diverged := card.training.get("diverged_epoch")) is not None:
        found = f"a loss that is NaN or infinite in epoch {diverged}"
        raise FlowsrError("a training that diverged is not published", file=folder / CARD, found=found)
    files = [folder / WEIGHTS, folder / CARD]
    name = hashlib.sha256("".join(map(file_checksum, files)).encode()).hexdigest()[:12]
    version = served / "versions" / name
    if not version.exists():
        version.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=version.parent, ignore_cleanup_errors=True) as place:
            whole = Path(place) / name
            whole.mkdir()
            for file in files:
                write_bytes_atomic(whole / file.name, file.read_bytes())
            with suppress(OSError):  # another process was as quick, and its version has the same content
                os.rename(whole, version)
        fsync_folder(version.parent)
    link = served / f".current.{os.getpid()}"
    link.unlink(missing_ok=True)
    os.symlink(Path("versions") / name, link, target_is_directory=True)
    if (served / "current").is_dir() and not (served / "current").is_symlink():
        shutil.rmtree(served / "current")  # a copy of the folder in which links became what they led to
    os.replace(link, served / "current")
    fsync_folder(served)
    return version


def served_model(model: Path | str | None) -> Path | str | None:
    """The folder of a model: of one with ``current`` the version that this leads to now; else what was given."""
    if model is None:
        return None
    current = Path(model) if Path(model).name == "current" else Path(model) / "current"
    return current.resolve() if current.is_symlink() else current if (current / CARD).is_file() else model


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
