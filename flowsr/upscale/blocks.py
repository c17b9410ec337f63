"""Blocks of a plan, read, computed and written at the same time: the one loop, wherever it runs.

A reader is ahead, a writer behind. On CPUs every core computes a tile of its own with one thread, which is quicker than
one tile on all of them and makes a tile's values independent of how many there are; on CUDA two tiles are under way,
each on its own stream and with pinned memory, so that one is copied while the other is computed.

What runs where does not show in the result: a block is computed alike in this process, by a worker on another machine,
and after a kill. Blocks that are on the disk are passed over.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import xarray as xr

from flowsr.data import open_field
from flowsr.data.quality import BadValues, Missing
from flowsr.data.store import FieldStore
from flowsr.devices import cores, resolve_device
from flowsr.errors import BadValue, FlowsrError
from flowsr.files import partial_path, replace_bytes
from flowsr.models import Upscaler
from flowsr.models.base import repeat_cells
from flowsr.models.missing import reached
from flowsr.progress import SILENT, Progress
from flowsr.spread import STOP, only_writing
from flowsr.upscale.plan import Block, UpscalePlan, load_upscaler
from flowsr.upscale.tiles import Cells, Tile, around, fine_slices, tile_grid, upscale_tile, within

#: Blocks that are read before they are wanted.
AHEAD = 2
#: Tiles that are under way at once on a GPU.
STREAMS = 2


@dataclass(frozen=True)
class Piece:
    """A finished block, as an observer sees it.

    Args:
        block: which.
        fine: (component, x, y, z) of its cells, as they are stored.
        coarse: (frames component, x, y, z) of the coarse cells that were read for it, halo included.
        cells: which coarse cells these are, along x, y, z; they wrap on periodic axes.
    """

    block: Block
    fine: np.ndarray
    coarse: np.ndarray
    cells: Tile


class Observer(Protocol):
    """Sees every finished block once, in whatever process; what it found is kept on the disk beside the block.

    It is pickled to the workers. States are merged in the order of the blocks, so that the end does not depend on who
    computed what, and a run that was killed is resumed with the states that it left.
    """

    name: str

    def check(self, plan: UpscalePlan) -> None:
        """Refuse what cannot be observed, before anything is written."""

    def observe(self, plan: UpscalePlan, piece: Piece) -> Mapping[str, np.ndarray]:
        """The block's state, some kilobytes."""

    def finish(self, plan: UpscalePlan, states: Sequence[Mapping[str, np.ndarray]], store: FieldStore) -> None:
        """All states, in the order of ``plan.blocks()``, before the store is published."""


def upscale_blocks(
    plan: UpscalePlan,
    blocks: Sequence[Block],
    observers: Sequence[Observer] = (),
    *,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> None:
    """Compute blocks of a store that was laid down, and write them.

    Args:
        plan: what is upscaled.
        blocks: of the plan; no other process is given any of them.
        observers: see each block before it is written.
        threads: tiles computed at once on a CPU; by default one for every core. On a GPU it is two.
        progress: told the fraction of these blocks that is done.

    Raises:
        FlowsrError: NaN, infinite or missing values in the source, or NaN or infinite ones out of the model.
    """
    store = FieldStore(plan.target)
    pending = [block for block in blocks if not is_done(plan, block, store, observers)]
    if not pending:
        return
    done = len(blocks) - len(pending)

    def tick() -> None:
        nonlocal done
        done += 1
        progress(done / len(blocks), f"{done} of {len(blocks)} blocks")

    device = resolve_device(plan.device)
    model = load_upscaler(plan.model_folder, plan.model_key, device, plan.dtype == "float64")
    field = open_field(plan.source, plan.options)[plan.variable]
    count = STREAMS if device == "cuda" else threads or cores()

    def read(block: Block) -> tuple[Tile, np.ndarray]:
        cells = around(plan.grid, plan.coarse_box(block), plan.tile, plan.halo or 0)
        frames = plan.window.around(plan.targets[block.time])
        return cells, read_cells(field, frames, tuple(part.cells for part in cells), plan.source, plan.missing)

    def finish(block: Block, cells: Tile, coarse: np.ndarray, fine: np.ndarray, tiles: list[Future]) -> None:
        for tile in tiles:
            tile.result()
        piece = Piece(block, fine, coarse, cells)
        for observer in observers:
            _keep_state(plan, block, observer, observer.observe(plan, piece))
        values = fine if plan.components is not None else fine[0]
        store.write(plan.variable, values, time=block.time, box=block.box)

    with _pool(1) as reader, _lanes(count, device) as lanes, _pool(min(count, 2)) as writer:
        reads, writes = deque(), deque()
        left = iter(pending)
        for block in pending:
            if STOP.get()():
                return
            while len(reads) <= AHEAD and (following := next(left, None)) is not None:
                reads.append(reader.submit(read, following))
            cells, coarse = reads.popleft().result()
            shape = tuple(part.stop - part.start for part in block.box)
            fine = np.empty((len(plan.components or (0,)), *shape), dtype=plan.dtype)
            tiles = [
                lanes.submit(_compute, plan, model, device, block, tile, coarse, within(tile, cells), fine)
                for tile in plan.tiles_of(block)
            ]
            writes.append(writer.submit(finish, block, cells, coarse, fine, tiles))
            while len(writes) > count:
                writes.popleft().result()
                tick()
        wait(tiles)
        with only_writing():
            for written in writes:
                written.result()
                tick()


def is_done(plan: UpscalePlan, block: Block, store: FieldStore, observers: Sequence[Observer] = ()) -> bool:
    """Whether a block is on the disk, and what the observers found of it."""
    written = store.is_written(plan.variable, block.time, block.box)
    return written and (store.published or all(_state_file(plan, block, each).exists() for each in observers))


class States(Sequence[Mapping[str, np.ndarray]]):
    """What an observer found of each block, in the order of the blocks; an array of it is read when it is used."""

    def __init__(self, plan: UpscalePlan, observer: Observer):
        self._files, self._of = [_state_file(plan, block, observer) for block in plan.blocks()], (plan, observer)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, number):
        return _State(self._files[number], *self._of)


class _State(Mapping[str, np.ndarray]):
    """One of them. A damaged one is taken away: it counts as not there from then on."""

    def __init__(self, file: Path, plan: UpscalePlan, observer: Observer):
        self._file, self._of = file, (plan, observer)
        with self._checked():
            self._arrays = np.load(file, allow_pickle=False)
            self._names = self._arrays.files

    def __getitem__(self, name: str) -> np.ndarray:
        with self._checked():
            return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, EOFError, AttributeError, zlib.error, zipfile.BadZipFile) as error:
            self._file.unlink(missing_ok=True)
            plan, observer = self._of
            message, hint = f"what '{observer.name}' found of a block is damaged", "run again to look at it again"
            raise FlowsrError(message, file=plan.target, found=error, hint=hint) from None


def _keep_state(plan: UpscalePlan, block: Block, observer: Observer, state: Mapping[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez(content, **state)
    replace_bytes(_state_file(plan, block, observer), content.getvalue())


def _state_file(plan: UpscalePlan, block: Block, observer: Observer) -> Path:
    place = ".".join(f"{part.start}-{part.stop}" for part in block.box)
    return partial_path(plan.target) / "states" / observer.name / f"{block.time}.{place}.npz"


@contextmanager
def _pool(workers: int, **how) -> Iterator[ThreadPoolExecutor]:
    """Threads that begin nothing more once the block is left, by whichever way."""
    pool = ThreadPoolExecutor(workers, **how)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _lanes(count: int, device: str) -> Iterator[ThreadPoolExecutor]:
    """Threads that compute a tile each."""
    if device == "cuda":
        torch.cuda.synchronize()  # the weights are there, for every stream
        with _pool(count, initializer=lambda: torch.cuda.set_stream(torch.cuda.Stream())) as pool:
            yield pool
        return
    before = torch.get_num_threads()
    try:
        with _pool(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(before)


def _compute(
    plan: UpscalePlan,
    model: Upscaler,
    device: str,
    block: Block,
    tile: Tile,
    coarse: np.ndarray,
    read: tuple,
    fine: np.ndarray,
) -> None:
    """One tile into its place in the block."""
    scales = plan.scales[block.time] if plan.scales else None
    values = upscale_tile(model, lambda cells: coarse[(slice(None), *read)], plan.grid, tile, device, scales)
    values = _stored(values.numpy(), fine.dtype)
    box = fine_slices(tile, plan.factor)
    bad = ~np.isfinite(values)
    if plan.missing == "nan":
        near = reached(coarse[(slice(None), *read)], plan.halo, tile_grid(plan.grid, tile).boundary)
        core = (slice(part.before, part.before + part.stop - part.start) for part in tile)
        bad &= ~repeat_cells(torch.from_numpy(near[tuple(core)]), plan.factor).numpy()
    if bad.any():
        raise _not_finite(bad, box, block.time, plan)
    inside = (slice(part.start - all_.start, part.stop - all_.start) for part, all_ in zip(box, block.box))
    fine[(slice(None), *inside)] = values


def _stored(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The values as they will be stored; what the dtype has no room for is infinite."""
    with np.errstate(over="ignore"):
        return values.astype(dtype, copy=False)


def _not_finite(bad: np.ndarray, box, time: int, plan: UpscalePlan) -> FlowsrError:
    first = zip("xyz", box, np.argwhere(bad)[0][-3:], strict=True)
    place = ", ".join(f"{axis} {span.start + index}" for axis, span, index in first)
    found = f"{np.count_nonzero(bad)} in this tile, the first at time {time}, {place} of the fine field"
    message, hint = "NaN or infinite values from finite ones", "look at the weights, and at the size of the values"
    message = f"{message}: {plan.attrs['provenance']['model']}"
    return BadValue(message, file=plan.source, variable=plan.variable, expected="0", found=found, hint=hint)


def read_cells(
    field: xr.DataArray, frames: Iterable[int], cells: Cells, source: Path, missing: Missing = "refuse"
) -> np.ndarray:
    """Cells of the frames of a window, along the components: (frames component, x, y, z).

    Args:
        field: (time, component, x, y, z) or without the component, lazy or not.
        frames: its snapshots.
        cells: numbers along x, y, z; they may repeat, where a box wraps onto itself: each cell is read once.
        source: for messages.
        missing: ``nan``: missing values are NaN.

    Raises:
        FlowsrError: infinite values, and missing ones that are to be refused.
    """
    quality, once = BadValues(field), [np.unique(along, return_inverse=True) for along in cells]
    wraps = any(len(along) > len(unique) for along, (unique, _) in zip(cells, once))
    wanted = tuple(unique for unique, _ in once) if wraps else cells

    def read_frame(time: int) -> np.ndarray:
        values = field.isel(time=time).isel(dict(zip("xyz", wanted))).values
        bad = quality.mask(values)
        if missing == "nan":
            values = np.where(bad & ~np.isinf(values), np.array(np.nan, values.dtype), values) if bad.any() else values
            bad = np.isinf(values)
        if bad.any():
            first = zip("xyz", wanted, np.argwhere(bad)[0][-3:])
            place = ", ".join(f"{axis} {along[index]}" for axis, along, index in first)
            found = f"{np.count_nonzero(bad)} NaN, infinite or missing in this tile, the first at time {time}, {place}"
            where = {"file": source, "variable": field.name, "expected": "finite values", "found": found}
            hint = (
                None
                if np.isinf(values).any()
                else "to carry missing values as NaN: --missing nan, or the dataset's attribute missing"
            )
            raise BadValue("NaN, infinite or missing values", **where, hint=hint)
        return values if values.ndim == 4 else values[None]

    values = np.concatenate([read_frame(time) for time in frames])
    return values[(slice(None), *np.ix_(*(place for _, place in once)))] if wraps else values
