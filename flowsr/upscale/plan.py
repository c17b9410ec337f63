"""What upscaling a field will do, decided once: tiles, shards, memory; :mod:`flowsr.upscale.blocks` then does it.

Three divisions of a snapshot, each independent of how many processes there are:

- a *tile* is what the model sees at once, with the halo it needs; its size follows from the memory there is;
- a *shard* is one file of the result, and has one writer;
- a *block* is what is computed and written together: whole shards, whole tiles. Mostly one shard of many tiles.
"""

from __future__ import annotations

import logging
import math
import time as clock
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch.utils._python_dispatch import (
    TorchDispatchMode,
)  # private by name; what torch tells writers of such modes to use

from flowsr import __version__
from flowsr.data import grid_of, open_field
from flowsr.data.content import Content, paths_of
from flowsr.data.field import field_template
from flowsr.data.open import ReadOptions, read_options
from flowsr.data.quality import CARRIED, Missing, carries_missing, refuse_doubled
from flowsr.data.scales import FieldScales
from flowsr.devices import machine_memory, processors, resolve_device
from flowsr.errors import BadValue, FlowsrError, missing_variable
from flowsr.files import file_checksum
from flowsr.grid import Grid, triple
from flowsr.models import ModelCard, Upscaler, load_model, read_card
from flowsr.models.checkpoint import CARD, WEIGHTS, pretrained
from flowsr.models.checkpoint import model_folder as folder_of
from flowsr.models.home import Finding, Verdict, already_fine, compare_with_home, traits_of
from flowsr.models.pretrained import choose, no_model
from flowsr.spread import batches_of
from flowsr.upscale.tiles import Box, Span, Tile, scales_for, spans_in, tiles_in
from flowsr.windows import Window, check_spacing

if TYPE_CHECKING:
    from flowsr.upscale.blocks import Observer

log = logging.getLogger(__name__)
#: Fine cells along the sides of a shard, and of one of a field with a side beyond :data:`HUGE`.
SHARD, LARGE_SHARD, HUGE = 128, 256, 2048
#: Bytes that a process takes before it computes anything: Python, torch, e3nn.
BASE = 600 << 20
#: More memory than this makes no tile faster.
ENOUGH = 1 << 30
#: What a convolution takes beside the tensors that it reads and makes.
WORKSPACE = 1.5
#: Copies of a block that are about at once: being computed, being compressed, waiting for the disk.
COPIES = 3
#: A coarse field of no more cells is taken in one tile without asking what that takes.
SMALL = 16**3


@dataclass(frozen=True)
class UpscaleOptions:
    """How a stored field is upscaled: all that may be asked for beside the field, the model and the store.

    Args:
        factor: wanted, where several models fit; of a model that is given its own.
        variable: which field of the source.
        read: how the source is to be read.
        tile: coarse cells along a tile's side; by default as many as ``memory`` allows, so that halos cost little.
        shard: fine cells along the sides of a file of the result; by default 128, of very large fields 256.
        memory: bytes that may be used on a machine, all processes together; by default half of what it has. The tile
            does not depend on how many processes there are, so neither does the result.
        device: ``auto``, ``cpu`` or ``cuda``, of whichever process computes.
        overwrite: replace a store of another source or model.
        verify: compare the checksums of a store that is there already before it is used again.
        force: upscale also what the model cannot be right for: walls, say, where it saw none.
        strict: refuse every field that is not like those that the model was trained on.
        observers: see each block as it is finished (:class:`flowsr.upscale.blocks.Observer`).
    """

    factor: int | None = None
    variable: str = "velocity"
    read: ReadOptions = ReadOptions()  # noqa: RUF009
    tile: int | None = None
    shard: int | None = None
    memory: int | None = None
    device: str = "auto"
    overwrite: bool = False
    verify: bool = False
    force: bool = False
    strict: bool = False
    observers: Sequence[Observer] = ()

    def __post_init__(self) -> None:
        for name in ("tile", "shard", "memory"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise FlowsrError(f"a {name} is at least 1", variable=name, expected="1 or more", found=value)

    def having(self, **given: Any) -> UpscaleOptions:
        """The same with some of them, or of the options of ``read`` such as ``group``, stated one by one.

        Raises:
            FlowsrError: a value that cannot be.
            TypeError: no such option.
        """
        own = {each.name for each in fields(self)}
        stated = {name: value for name, value in given.items() if name not in own}
        mine = {name: value for name, value in given.items() if name in own}
        mine["read"] = read_options(mine.get("read", self.read), stated)
        return replace(self, **mine)


@dataclass(frozen=True)
class Block:
    """What is computed and written together.

    Args:
        time: index among the result's snapshots.
        box: its fine cells, whole shards, as slices along x, y, z.
    """

    time: int
    box: Box


@dataclass(frozen=True)
class Trial:
    """What one tile took.

    Args:
        bytes_per_cell: most memory that tensors held at once, over the coarse cells that were read.
        seconds_per_cell: of one core, or of the device.
    """

    bytes_per_cell: float
    seconds_per_cell: float


@dataclass(frozen=True)
class UpscalePlan:
    """All that decides how a field is upscaled, in plain values: it can be sent to another process.

    Args:
        source: the coarse field.
        options: how the source is read.
        model_folder: of a saved model.
        model_key: sha256 of its weights and of its card.
        target: the store to write.
        variable: of the source.
        device: ``auto``, ``cpu`` or ``cuda``, of the process that computes.
        grid: of the coarse field.
        factor, halo, window: the model's.
        targets: snapshots of the source that are upscaled.
        times: theirs.
        components: names of the field's components; None for a scalar.
        dtype, irreps, units, long_name: of the field.
        attrs: of the result, its provenance among them.
        tile: coarse cells along the sides of a tile.
        shard: fine cells along the sides of a shard.
        missing: nan: what missing values of the source reach is missing in the result.
        trial: what a tile takes, where it was tried.
        scales: of the coarse field in the window of every target, which all its tiles share; none where the model needs
            none, None before the pass over the field (:func:`survey_field`).
        verdict: how the field compares with those that the model was trained on; None before that pass.
        content: what the source held.
    """

    source: Path
    options: ReadOptions
    model_folder: Path
    model_key: tuple[str, ...]
    target: Path
    variable: str
    device: str
    grid: Grid
    factor: int
    halo: int | None
    window: Window
    targets: tuple[int, ...]
    times: tuple[float, ...]
    components: tuple[str, ...] | None
    dtype: str
    irreps: str
    units: str
    long_name: str | None
    attrs: dict[str, Any]
    tile: tuple[int, int, int]
    shard: tuple[int, int, int]
    missing: Missing = "refuse"
    trial: Trial | None = field(default=None, compare=False)
    scales: tuple[FieldScales, ...] | None = None
    verdict: Verdict | None = None
    content: Content | None = field(default=None, compare=False)

    @property
    def fine_grid(self) -> Grid:
        """Of the result."""
        return self.grid.refined(self.factor)

    @property
    def template(self) -> xr.Dataset:
        """The result without its values."""
        return field_template(
            self.fine_grid,
            self.times,
            variable=self.variable,
            irreps=self.irreps,
            components=self.components,
            dtype=self.dtype,
            units=self.units,
            long_name=self.long_name,
            attrs=self.attrs,
        )

    @property
    def block(self) -> tuple[int, int, int]:
        """Fine cells along the sides of a block: whole shards that hold whole tiles."""
        sides = zip(self.tile, self.shard, self.fine_grid.shape)
        return triple(min(n, math.ceil(t * self.factor / s) * s) for t, s, n in sides)

    @property
    def blocks_a_snapshot(self) -> int:
        """How many blocks one snapshot has."""
        return math.prod(math.ceil(n / b) for n, b in zip(self.fine_grid.shape, self.block))

    @property
    def shards(self) -> int:
        """Files of the result."""
        return len(self.times) * math.prod(math.ceil(n / s) for n, s in zip(self.fine_grid.shape, self.shard))

    @property
    def tiles(self) -> int:
        """How often the model is called."""
        return len(self.times) * math.prod(len(self._spans(axis)) for axis in range(3))

    @property
    def bytes(self) -> int:
        """Of the result's values, before compression."""
        return len(self.times) * self._snapshot_bytes(self.fine_grid.shape)

    @property
    def cells_read(self) -> int:
        """Coarse cells that the model is given, halos included, over all tiles."""
        return len(self.times) * math.prod(sum(len(s.cells) for s in self._spans(axis)) for axis in range(3))

    @property
    def tile_bytes(self) -> int | None:
        """Most memory that one tile takes; None where none was tried."""
        return None if self.trial is None else tile_bytes(self.trial, self.grid, self.tile, self.halo)

    def worker_bytes(self, threads: int = 1) -> int:
        """Most memory that a process takes which computes so many tiles at once."""
        return BASE + threads * ((self.tile_bytes or 0) + COPIES * self._snapshot_bytes(self.block))

    def blocks(self, times: Sequence[int] | None = None) -> Iterator[Block]:
        """All blocks of the result, or those of some snapshots, ordered along time, x, y, z."""
        shape = self.fine_grid.shape
        per_axis = [[slice(a, min(a + b, n)) for a in range(0, n, b)] for n, b in zip(shape, self.block)]
        for time in range(len(self.times)) if times is None else times:
            for box in product(*per_axis):
                yield Block(time, box)

    def coarse_box(self, block: Block) -> Box:
        """The coarse cells of a block."""
        return triple(slice(part.start // self.factor, part.stop // self.factor) for part in block.box)

    def tiles_of(self, block: Block) -> list[Tile]:
        """The tiles of a block."""
        return tiles_in(self.grid, self.coarse_box(block), self.tile, self.halo or 0)

    def shards_of(self, block: Block) -> Iterator[tuple[int, ...]]:
        """Numbers of the shards of a block along time, x, y, z.

        Raises:
            ValueError: a block that is not of whole shards.
        """
        for part, side, n in zip(block.box, self.shard, self.fine_grid.shape):
            if not 0 <= part.start < part.stop <= n or part.start % side or (part.stop % side and part.stop != n):
                raise ValueError(f"{part.start} to {part.stop} is not of whole shards of {side} in {n} cells")
        ranges = (range(p.start // s, math.ceil(p.stop / s)) for p, s in zip(block.box, self.shard))
        return product([block.time], *ranges)

    def batches(self, workers: int | None = None) -> list[Sequence[Block]]:
        """All blocks in batches of neighbours, the pieces that workers are given; in one without workers."""
        blocks = list(self.blocks())
        return [blocks] if workers is None else batches_of(blocks, workers)

    def check_one_writer(self, batches: Sequence[Sequence[Block]]) -> None:
        """Refuse batches in which a shard has two writers, or none: two writers in one shard damage it without a word.

        Raises:
            FlowsrError: how many shards, and the first of them.
        """
        counts = [math.ceil(n / s) for n, s in zip(self.fine_grid.shape, self.shard)]
        writers = np.zeros((len(self.times), *counts), dtype=np.int64)
        for block in (block for batch in batches for block in batch):
            writers[tuple(np.array(list(self.shards_of(block))).T)] += 1
        wrong = np.argwhere(writers != 1)
        if len(wrong):
            first = tuple(map(int, wrong[0]))
            found = f"{len(wrong)} of {writers.size} with another number, the first {first} with {writers[first]}"
            message = "the blocks do not divide the result into shards"
            raise FlowsrError(message, file=self.target, expected="one writer a shard", found=found)

    def _spans(self, axis: int) -> list[Span]:
        """The tiles of one axis."""
        length, side = self.grid.shape[axis], self.block[axis] // self.factor
        parts = [slice(start, min(start + side, length)) for start in range(0, length, side)]
        return [each for part in parts for each in spans_in(self.grid, axis, part, self.tile[axis], self.halo or 0)]

    def _snapshot_bytes(self, shape: Sequence[int]) -> int:
        return len(self.components or (0,)) * math.prod(shape) * np.dtype(self.dtype).itemsize


def plan_upscale(
    source: Path,
    model_folder: Path | str | None,
    target: Path,
    how: UpscaleOptions | None = None,
    *,
    trial: bool = False,
    **given: Any,
) -> UpscalePlan:
    """Decide how a stored field is upscaled; nothing is written.

    Args:
        source, model_folder, target, how, given: as :func:`flowsr.upscale.upscale_store` takes them.
        trial: try one tile, also where its size needs no trial.

    Raises:
        FlowsrError: a source or model that cannot be used, frames at another distance in time than the model was
            trained on, or a target that is the source, lies in it or holds it.
    """
    how = (how or UpscaleOptions()).having(**given)
    source, target = Path(source), Path(target)
    variable, options, tile = how.variable, how.read, how.tile
    device = device_here(how.device)
    dataset, said = open_field(source, options), {k: v for k, v in options.declared().items() if k != "group"}
    model_folder, chosen = choose_model(model_folder, dataset, variable, how.factor, source)
    card = read_card(model_folder)
    key = tuple(file_checksum(path) for path in (model_folder / WEIGHTS, model_folder / CARD) if path.exists())
    double = variable in dataset and dataset[variable].dtype == np.float64
    model = load_upscaler(model_folder, key, device, double)
    content = Content(source, options.group, options.run)
    _refuse_over(target, (source, *paths_of(source, options.group)))
    array = field_to_upscale(dataset, variable, model, source)
    grid = grid_of(dataset, source)
    refuse_doubled(dataset, [variable], grid.boundary, source)
    times = dataset.time.values
    targets = targets_of(model, times, source)
    plan = UpscalePlan(
        source=source,
        options=options,
        model_folder=model_folder,
        model_key=key,
        target=target,
        variable=variable,
        device=how.device,
        grid=grid,
        factor=model.factor,
        halo=model.halo,
        window=model.window,
        targets=tuple(targets),
        times=tuple(times[targets].tolist()),
        components=tuple(str(c) for c in dataset.component.values) if "component" in array.dims else None,
        dtype=array.dtype.name,
        irreps=model.irreps,
        units=array.attrs.get("units", "1"),
        long_name=array.attrs.get("long_name"),
        missing="nan" if carries_missing(dataset) else "refuse",
        attrs={
            **{key: dataset.attrs[key] for key in ("viscosity", "length_units") if key in dataset.attrs},
            **({CARRIED: "nan"} if carries_missing(dataset) else {}),
            "provenance": {
                "source": source.name,
                "source_group": options.group,
                **({"read": said} if said else {}),
                "source_sha256": content.checksums,
                "source_provenance": dataset.attrs.get("provenance"),
                "model": card.model,
                **({} if chosen is None else {"chosen": chosen}),
                "options": card.options,
                "weights_sha256": key[0],
                "factor": model.factor,
                "flowsr": __version__,
            },
        },
        tile=grid.shape,
        shard=_shard_sides(grid, model.factor, how.shard),
        content=content,
    )
    if double and model.in_double:
        log.info("%s: float64, and computed so; a float32 copy takes half the time and memory", source.name)
    elif double:
        log.warning("%s: float64, but computed in float32, the only precision that '%s' has", source.name, card.model)
    whole = model.halo is None or math.prod(grid.shape) <= SMALL
    if trial or (tile is None and not whole):
        plan = replace(plan, trial=try_tile(model, grid, device, np.dtype(plan.dtype)))
    if model.halo is not None and (tile is not None or not whole):
        sides = triple([tile] * 3) if tile is not None else _tile_that_fits(plan, device, how.memory)
        plan = replace(plan, tile=triple(min(side, n) for side, n in zip(sides, grid.shape)))
    return plan


def choose_model(
    model: Path | str | None, dataset: xr.Dataset, variable: str, factor: int | None, source: Path
) -> tuple[Path, str | None]:
    """The folder of a model and, where none was given and one that comes with flowsr was chosen, which and why.

    Args:
        model: folder, or name of one that comes with flowsr; None: the one that fits the field.
        dataset: the coarse field.
        variable: of it.
        factor: wanted; None: the model's.
        source: for messages.

    Raises:
        FlowsrError: no such model, another factor than its own, or none that fits.
    """
    if model is not None:
        folder = folder_of(model)
        own = read_card(folder).task.factor
        if factor not in (None, own):
            raise FlowsrError("the model has another factor", file=folder, expected=factor, found=own)
        return folder, None
    if variable not in dataset:
        raise missing_variable(variable, dataset.data_vars, file=source)
    array, grid = dataset[variable], grid_of(dataset, source)
    irreps, viscosity = array.attrs["irreps"], dataset.attrs.get("viscosity")
    traits = traits_of(array, grid, irreps, viscosity)
    operator = dataset.attrs.get("degrade_operator")
    choice = choose(grid, irreps, traits, factor=factor, operator=operator)
    if choice.name is None:
        raise no_model(choice, source, factor)
    sentence = f"model {choice.name}: {choice.reason}"
    log.info("%s", sentence)
    return pretrained()[choice.name], sentence


def survey_field(plan: UpscalePlan) -> UpscalePlan:
    """The plan with what one pass over the coarse field tells: its scales, and whether the model is at home there.

    Both are recorded in the provenance of the result.

    Raises:
        FlowsrError: a field that cannot be read.
    """
    model = load_upscaler(plan.model_folder, plan.model_key, device_here(plan.device), plan.dtype == "float64")
    dataset, card = open_field(plan.source, plan.options), read_card(plan.model_folder)
    array, scales = dataset[plan.variable], []
    if model.needs_scales:
        frames = [[array.isel(time=time) for time in plan.window.around(target)] for target in plan.targets]
        viscosity = dataset.attrs.get("viscosity")
        scales = [scales_for(model, window, plan.grid, viscosity) for window in frames]
    verdict = home_verdict(model, card, array, plan.grid, dataset.attrs, plan.targets)
    measured = [{k: v for k, v in asdict(each).items() if v is not None} for each in scales]
    known = {"scales": measured, "home": asdict(verdict)}
    attrs = {**plan.attrs, "provenance": {**plan.attrs["provenance"], **known}}
    return replace(plan, scales=tuple(scales), verdict=verdict, attrs=attrs)


def home_verdict(
    model: Upscaler,
    card: ModelCard | None,
    array: xr.DataArray,
    grid: Grid,
    attrs: Mapping[str, Any],
    targets: Sequence[int],
) -> Verdict:
    """How a field compares with those that a model was trained on, as far as its card says.

    Args:
        array, grid, attrs: the coarse field, its grid and its dataset's attributes.
        targets: the snapshots that are upscaled.
    """
    verdict = Verdict(unknown=("the model's card does not say where it is at home",))
    if card is not None and card.home is not None:
        traits = traits_of(array, grid, model.irreps, attrs.get("viscosity"), targets)
        operator, oriented = attrs.get("degrade_operator"), not card.equivariant
        verdict = compare_with_home(card.home, traits, grid, operator, oriented=oriented)
    elif attrs.get("viscosity"):
        traits = traits_of(array, grid, model.irreps, attrs["viscosity"], targets[:1])
        verdict = replace(verdict, findings=tuple(already_fine(traits)), snapshots=1)
    made = attrs.get("provenance")
    if isinstance(made, Mapping) and {"model", "factor"} <= made.keys():
        line = f"the field is itself what '{made['model']}' made of a coarser one; is this the coarse one?"
        verdict = replace(verdict, findings=(*verdict.findings, Finding("resolved", line)))
    if model.takes_viscosity and attrs.get("viscosity") is None:
        lacking = "cell Reynolds number: the field does not say its viscosity, and the network does without"
        verdict = replace(verdict, unknown=(*verdict.unknown, lacking))
    if model.trainable and not model.needs_scales:
        lacking = "units and frame: the model is an older one, which knows those of its training alone; train it again"
        verdict = replace(verdict, unknown=(*verdict.unknown, lacking))
    return verdict


def check_verdict(verdict: Verdict, source: Path, variable: str, *, force: bool = False, strict: bool = False) -> None:
    """A line in the log for each thing in which the field is not like those that the model was trained on.

    Args:
        force: say also what is refused otherwise.
        strict: refuse all of it.

    Raises:
        FlowsrError: what is refused.
    """
    refused = () if force else verdict.findings if strict else verdict.refused
    if refused:
        hint = (
            "leave --strict out to upscale it all the same"
            if not verdict.refused
            else "--force upscales it all the same"
        )
        found = "; ".join(finding.line for finding in refused)
        message = "the model is not for this field"
        raise FlowsrError(message, file=source, variable=variable, found=found, hint=hint)
    for finding in verdict.findings:
        log.warning("%s: not at home: %s", source.name, finding.line)


@lru_cache(maxsize=2)
def load_upscaler(folder: Path, key: tuple[str, ...], device: str, double: bool) -> Upscaler:
    """The model saved in ``folder``, on a device, in double precision where it can; loaded once a process for each."""
    model = load_model(folder)
    return (model.double() if double and model.in_double else model).to(device)


def device_here(device: str) -> str:
    """What a plan may use in this process: the device asked for; a CPU where that is a GPU that workers alone have."""
    return "cpu" if device == "cuda" and not torch.cuda.is_available() else resolve_device(device)


def tile_bytes(trial: Trial, grid: Grid, sides: tuple[int, int, int], halo: int | None) -> int:
    """Most memory that a tile of these sides takes, the halo counted along axes that it does not span."""
    read = (n if side >= n else side + 2 * (halo or 0) for side, n in zip(sides, grid.shape))
    return int(WORKSPACE * trial.bytes_per_cell * math.prod(read))


def try_tile(model: Upscaler, grid: Grid, device: str, dtype: np.dtype) -> Trial:
    """Run the model on one small box of noise, as large as a small field or smaller, and see what that takes."""
    sides = triple(min(16 if model.halo is not None else 32, n) for n in grid.shape)
    box = Grid(sides, grid.spacing, grid.boundary)
    try:
        model.check_grid(box)
    except ValueError:  # its weights are for all planes between the walls
        between = zip(grid.shape, sides, grid.boundary)
        box = replace(box, shape=triple(n if kind == "wall" else side for n, side, kind in between))
    cells = math.prod(box.shape)
    values = np.random.default_rng(0).normal(size=(1, model.frames * model.components, *box.shape)).astype(dtype)
    coarse = torch.as_tensor(values, device=device)
    with torch.no_grad():
        model(coarse, box)  # what is made once and kept
        with _Held() as held:
            model(coarse, box)
        _wait(device)
        start = clock.perf_counter()
        model(coarse, box)
        _wait(device)
    return Trial((held.most + coarse.nbytes) / cells, (clock.perf_counter() - start) / cells)


class _Held(TorchDispatchMode):
    """Counts the bytes of the tensors made inside that are alive at once.

    Attributes:
        most: the largest number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most, self._now, self._known = 0, 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, (list, tuple)) else (made,):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self._now += size
            self.most = max(self.most, self._now)
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _shard_sides(grid: Grid, factor: int, shard: int | None) -> tuple[int, int, int]:
    """Fine cells along the sides of a shard: whole coarse cells, and no more than there are."""
    fine = [n * factor for n in grid.shape]
    side = shard or (LARGE_SHARD if max(fine) > HUGE else SHARD)
    return triple(min(n, max(side // factor, 1) * factor) for n in fine)


def _tile_that_fits(plan: UpscalePlan, device: str, memory: int | None) -> tuple[int, int, int]:
    """The largest tile that one core's share of the memory holds beside the blocks that it is of.

    Shares are those of the machine, not of this process, which may be one of several workers: the tile is the same.
    None is so small that it is all halo, however little a share is.
    """
    count = processors() if device == "cpu" else 1
    if device == "cuda":
        enough = (memory or torch.cuda.mem_get_info()[0]) // 4  # two tiles at once, and the caching allocator's slack
    else:
        enough = min((memory or machine_memory() // 2) // count - BASE, ENOUGH if memory is None else 1 << 62)
    side = max(s // plan.factor for s in plan.shard)
    least = min(side, max(plan.halo, round(SMALL ** (1 / 3)) - 2 * plan.halo))
    found = None
    sides = {2 * side, side, least, *(math.ceil(side / n) for n in range(2, side + 1))}
    for cells in sorted((cells for cells in sides if cells >= least), reverse=True):
        found = replace(plan, tile=triple(min(cells, n) for n in plan.grid.shape))
        room = 0 if device == "cuda" else COPIES * found._snapshot_bytes(found.block)
        if cells > side and found.tiles < 4 * count:
            continue  # every core is to have its share
        if found.tile_bytes + room <= enough:
            return found.tile
    log.warning(
        "%s: little memory, tiles of %d cells take %.1f GB a core",
        plan.source.name,
        *found.tile[:1],
        found.worker_bytes() / 1e9,
    )
    return found.tile


def _refuse_over(target: Path, sources: Sequence[Path]) -> None:
    ours = target.resolve()
    for theirs in sources:
        if ours.is_relative_to(theirs.resolve()) or theirs.resolve().is_relative_to(ours):
            message, expected = "the output would be written over the input", "a path apart from it"
            raise FlowsrError(message, file=target, expected=expected, found=theirs)


def targets_of(model: Upscaler, times: np.ndarray, source: Path) -> list[int]:
    """Snapshots that can be upscaled: those with a whole window about them."""
    targets = model.window.targets(times, source)
    check_spacing(model.window.spacing(times), model.frame_spacing, source)
    if len(targets) < len(times):
        line = "%s: %d frames in, one out: %d of %d snapshots have a whole window and are upscaled"
        log.info(line, source.name, model.frames, len(targets), len(times))
    return targets


def field_to_upscale(dataset, variable: str, model: Upscaler, source: Path):
    if variable not in dataset:
        raise missing_variable(variable, dataset.data_vars, file=source)
    found = dataset[variable].attrs["irreps"]
    if found != model.irreps:
        raise FlowsrError(
            "the model is for another field type", file=source, variable=variable, expected=model.irreps, found=found
        )
    try:
        model.check_grid(grid_of(dataset, source))
    except ValueError as error:
        raise BadValue("this model cannot upscale this field", file=source, found=str(error)) from None
    return dataset[variable]
