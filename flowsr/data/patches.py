"""Random patches of coarse / fine pairs for training, read from stores that may be far larger than memory."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.utils.data import Dataset

from flowsr.data.degrade import DegradeOperator
from flowsr.data.field import SPACE, field_variables, grid_of
from flowsr.data.open import open_field
from flowsr.data.quality import any_within, carries_missing
from flowsr.data.scales import FieldScales, measure_scales, normalized, scales_of
from flowsr.errors import FlowsrError, require
from flowsr.grid import Grid
from flowsr.group import octahedral_group, point_group
from flowsr.group.fields import axis_action, transform_field
from flowsr.windows import EQUAL_STEPS, Window

COARSE, FINE = 0, 1
#: Random places that are tried for one without missing values before all such are listed.
TRIES = 64
#: Coarse planes that are looked at for missing values at once.
PLANES = 16
#: Regions that patches are drawn from in turn, where several are drawn from each; they are kept in memory together.
REGIONS = 8
#: Fine cells along the sides of a region: those of a chunk in flowsr's stores.
REGION_CELLS = 64
Augmentation = Callable[[Tensor, Tensor, Grid, np.random.Generator], tuple[Tensor, Tensor]]


class PatchPairs(Dataset):
    """Pairs (coarse patch with halo, fine core), drawn at random places of random snapshots.

    Along an axis a patch is one of two things. Either it is as long as the box: then a periodic axis is rolled by a
    random number of coarse cells and stays periodic, a wall stays a wall, and there is no halo. Or it is shorter: then
    it has ``halo`` coarse cells on either side, wrapped around periodic boxes, and its ends are ``open``; on an axis
    that is not periodic, patch and halo stay inside the box, so cells within a halo of a wall are seen but not scored.

    What is drawn is a function of (seed, epoch, index) alone, whatever the workers and whatever came before. Every
    snapshot is drawn equally often, up to one draw. Where stores carry missing values (``missing: nan`` of an ingest),
    a patch is drawn from the places at which it and its halo have none, all of them equally often.

    Snapshots that do not fit into memory are read for each patch, many times what it holds: a store unpacks whole
    chunks. With ``neighbours`` of 2 and more as many patches are drawn from each of ``REGIONS`` regions of about a
    chunk, in random order, before the next ones are read. Every place is drawn as often as it would be without.

    Args:
        stores: stores with the groups ``coarse`` and ``fine``, as :func:`flowsr.data.pairs.ingest` writes them.
        patch: coarse cells along a patch's sides, halo not counted; one number, three, or ``None`` for the whole box.
        halo: coarse cells on either side that are seen and not scored.
        samples: draws in an epoch.
        seed: of the draws.
        frames: k, coarse snapshots in a pair: consecutive ones of one store, at equal steps in time.
        target_frame: which of them the fine patch belongs to; by default the last.
        variable: field variable of the stores; default: their only one.
        cache_bytes: keep snapshots in memory up to this many bytes per process; what does not fit is read patch by
            patch, or region by region in half of these bytes.
        neighbours: patches that are drawn from a region.
        augment: called as ``augment(coarse, fine, grid, generator)`` with each pair, and returns a pair.
        shift: the operator that made the coarse fields, to draw pairs between cells too: the fine field is rolled by
            less than a coarse cell along every periodic axis, and degraded again. For whole boxes and one frame.
        normalize: give both fields of a pair in the scales of the whole coarse field that the patch is of, all frames
            of a window together: as a model sees it that takes its units and its frame from the field.
        roll: whether a periodic axis that a patch is as long as is rolled by whole cells.
        viscosity: give the kinematic viscosity as well, in the same scales, 0 where it is not known.

    Attributes:
        grid: the grid of a coarse patch, halo included; its boundary says how a model continues it.
        patch: coarse cells along x, y, z that are scored.
        halo: coarse cells on either side along x, y, z; none where the patch is as long as the box.
        box: the grid of a whole coarse snapshot.
        snapshots: all (store, time) there are to draw from; with several frames, those with a whole window about them,
            and of these the ones with a place for a patch without missing values.
        factor: coarse cell size over fine cell size.
        fine_grid: the grid of a fine patch.
        frame_spacing: step in time between frames; None for one frame.

    Raises:
        FlowsrError: stores that differ in grid or, for several frames, in the spacing of their snapshots; one with
            fewer snapshots than frames; a patch that does not fit into them, or only where values are missing.
    """

    def __init__(
        self,
        stores: Sequence[str | os.PathLike],
        *,
        patch: int | tuple[int, int, int] | None = None,
        halo: int = 0,
        samples: int,
        seed: int,
        frames: int = 1,
        target_frame: int = -1,
        variable: str | None = None,
        cache_bytes: int = 1 << 30,
        neighbours: int = 1,
        augment: Augmentation | None = None,
        shift: DegradeOperator | None = None,
        normalize: bool = False,
        roll: bool = True,
        viscosity: bool = False,
    ):
        self.stores = [Path(store) for store in stores]
        self.samples, self.cache_bytes, self.augment = int(samples), int(cache_bytes), augment
        self.normalize, self.shift, self.viscosity, self._scales = normalize, shift, viscosity, {}
        self.roll = roll
        self.neighbours, self._read = int(neighbours), OrderedDict()
        self.seed = int(seed) % (1 << 64)
        self.window = Window(int(frames), int(target_frame))
        self._process, self._opened, self._cache, self._cached_bytes = None, {}, {}, 0
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        pairs = [self._pair(number) for number in range(len(self.stores))]
        if not pairs:
            raise FlowsrError("no stores to draw patches from", variable="stores", expected="one or more", found="none")
        names, first = field_variables(pairs[0][0]), self.stores[0]
        which = {"variable": "variable", "expected": "one of " + ", ".join(names)}
        require(variable or len(names) == 1, "which variable?", file=first, **which)
        self.variable = variable or names[0]
        self.box, *others = (grid_of(coarse) for coarse, _ in pairs)
        for grid, store in zip(others, self.stores[1:]):
            expected = f"{self.box} as in {first}"
            same = _same_cells(self.box, grid)
            require(same, "stores differ in their grid", file=store, expected=expected, found=grid)
        fine = grid_of(pairs[0][1])
        factors = {f / c for f, c in zip(fine.shape, self.box.shape)}
        expected, whole = f"multiples of {self.box.shape}", len(factors) == 1 and min(factors).is_integer()
        require(whole, "coarse and fine do not match", file=first, expected=expected, found=fine.shape)
        self.factor = int(min(factors))
        self.patch, self.halo = fit_patch(self.box, patch, int(halo), first)
        self.grid = patch_grid(self.box, self.patch, self.halo)
        self.fine_grid = patch_grid(fine, [p * self.factor for p in self.patch])
        if shift is not None:
            whole = self.patch == self.box.shape and frames == 1
            whole = whole and not any(carries_missing(coarse) for coarse, _ in pairs)
            message = "shifts by parts of a cell are for whole boxes, one frame and no missing values"
            require(whole, message, file=first, variable="shifts", found=f"{self.patch} cells, {frames} frames")
        times = [coarse["time"].values for coarse, _ in pairs]
        self.snapshots = [(n, t) for n, store in enumerate(self.stores) for t in self.window.targets(times[n], store)]
        self.frame_spacing, *others = (self.window.spacing(instants) for instants in times)
        for spacing, store in zip(others, self.stores[1:]):
            if spacing is not None and abs(spacing - self.frame_spacing) > EQUAL_STEPS * self.frame_spacing:
                expected, found = f"{self.frame_spacing:.6g} as in {first}", f"{spacing:.6g}"
                message = "runs differ in the spacing of their snapshots"
                raise FlowsrError(message, file=store, variable="time", expected=expected, found=found)
        self._places: dict[tuple[int, int], np.ndarray] = {}
        if any(carries_missing(coarse) for coarse, _ in pairs):
            self._leave_out_missing()

    def __len__(self) -> int:
        return self.samples

    def set_epoch(self, epoch: int) -> None:
        """Draw for this epoch from now on; workers that are running hear of it too."""
        self._epoch[0] = int(epoch)

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Draw number ``index`` of the epoch.

        Returns:
            coarse (k C, p + 2 h, ...) and fine (C, s p, ...): k the frames, the oldest first, p the patch, h the halo
            along the axis, s the factor; and the viscosity (), where it is asked for.

        Raises:
            IndexError: an index that is not in 0 .. samples - 1.
        """
        if not 0 <= index < self.samples:
            raise IndexError(index)
        epoch, (store, time) = int(self._epoch[0]), self.snapshots[self.snapshot_of(index)]
        generator = np.random.default_rng([self.seed, epoch, index])
        region = None
        if self.neighbours > 1:
            drawn = np.random.default_rng([self.seed, epoch, self._region_of(index), 1])
            region = self._around(self._start(store, time, drawn, self._ends()))
        start = self._start(store, time, generator, region or self._ends())
        coarse = [self._patch(store, frame, COARSE, start, region) for frame in self.window.around(time)]
        fine = self._patch(store, time, FINE, start, region)
        if self.shift is not None:
            for axis, kind in enumerate(self.box.boundary, start=1):
                fine = np.roll(fine, int(generator.integers(self.factor)) if kind == "periodic" else 0, axis)
            coarse = [self.shift(fine, self.factor, grid=self.fine_grid)]
        pair, size = (torch.from_numpy(np.concatenate(coarse)), torch.from_numpy(fine)), torch.ones(1)
        if self.normalize:
            if self.shift is None:
                mean, size = self.scales(store, time).tensors(pair[0])
            else:
                mean, size = scales_of(
                    pair[0][None], self.box, self._pair(store)[COARSE][self.variable].attrs["irreps"]
                )
            pair = tuple(normalized(field[None], mean, size)[0] for field in pair)
        pair = pair if self.augment is None else self.augment(*pair, self.grid, generator)
        if not self.viscosity:
            return pair
        known = float(self._pair(store)[COARSE].attrs.get("viscosity") or 0.0)
        return (*pair, torch.tensor(known / float(size) if size > 0 else 0.0))

    def snapshot_of(self, index: int) -> int:
        """Which of ``snapshots`` a draw of this epoch is of: all in a random order, then all in another one."""
        epoch, group = int(self._epoch[0]), REGIONS * self.neighbours
        an_epoch = self.samples if self.neighbours == 1 else -(-self.samples // group) * REGIONS
        lap, place = divmod(epoch * an_epoch + self._region_of(index), len(self.snapshots))
        order = np.random.default_rng([self.seed, lap, 0, 0, 1]).permutation(len(self.snapshots))
        return int(order[place])

    def _region_of(self, index: int) -> int:
        """Number in the epoch of the region that a draw is from; every draw has its own where it has no neighbours."""
        if self.neighbours == 1:
            return index
        group, member = divmod(index, REGIONS * self.neighbours)
        order = np.random.default_rng([self.seed, int(self._epoch[0]), group, 0, 2]).permutation(
            REGIONS * self.neighbours
        )
        return group * REGIONS + int(order[member]) % REGIONS

    def _around(self, start: Sequence[int]) -> list[tuple[int, int]]:
        """The region that a core begins in: along each axis its first coarse cell, and one past the last."""
        side, region = max(1, REGION_CELLS // self.factor), []
        for cell, (first, end) in zip(start, self._ends()):
            low = first + (cell - first) // side * side
            region.append((low, min(low + side, end)))
        return region

    def _patch(self, store: int, time: int, which: int, start: Sequence[int], region) -> np.ndarray:
        """The box of a patch, with its halo in the coarse field, from memory, from the region it is in, or read."""
        size, halo = (self.factor, (0, 0, 0)) if which == FINE else (1, self.halo)
        spans = [((o - h) * size, (p + 2 * h) * size) for o, p, h in zip(start, self.patch, halo)]
        field = self._field(store, time, which)
        if region is None or isinstance(field, np.ndarray):
            return _cut(field, spans)
        corners = [(low - h) * size for (low, _), h in zip(region, halo)]
        key = store, time, which, *corners
        if key in self._read:
            self._read.move_to_end(key)
        else:
            longest = [(high - 1 - low) * size + length for (low, high), (_, length) in zip(region, spans)]
            self._read[key] = _cut(field, list(zip(corners, longest)))
            while len(self._read) > 1 and sum(one.nbytes for one in self._read.values()) > self.cache_bytes // 2:
                self._read.popitem(last=False)
        return _cut(self._read[key], [(o - corner, length) for (o, length), corner in zip(spans, corners)])

    def _start(
        self, store: int, time: int, generator: np.random.Generator, where: Sequence[tuple[int, int]]
    ) -> list[int]:
        """First coarse cell of the core of a patch, drawn from where there is room for it and all values are there."""
        free = self._places.get((store, time))
        for _ in range(TRIES if free is not None else 1):
            start = [int(generator.integers(*ends)) for ends in where]
            if free is None or _bit(free, np.ravel_multi_index(start, self.box.shape)):
                return start
        inside = np.zeros(self.box.shape, dtype=bool)
        inside[tuple(slice(*ends) for ends in where)] = True
        places = np.flatnonzero(np.unpackbits(free, count=inside.size).astype(bool) & inside.ravel())
        return [int(n) for n in np.unravel_index(places[generator.integers(len(places))], self.box.shape)]

    @property
    def cached_whole(self) -> bool:
        """Whether all snapshots are kept in memory."""
        cells = math.prod(self.box.shape) * (1 + self.factor**3)
        field = self._pair(0)[COARSE][self.variable]
        components = math.prod(field.shape[1:-3])
        return len(self.snapshots) * cells * components * field.dtype.itemsize <= self._kept_bytes

    @property
    def _kept_bytes(self) -> int:
        """Bytes for whole snapshots."""
        return self.cache_bytes if self.neighbours == 1 else self.cache_bytes // 2

    def _ends(self) -> list[tuple[int, int]]:
        """Along each axis, the first coarse cell that a core may begin at, and one past the last."""
        ends = []
        for n, p, halo, kind in zip(self.box.shape, self.patch, self.halo, self.box.boundary):
            free = n if self.roll or p < n else 1
            ends.append((0, free) if kind == "periodic" else (halo, n - p - halo + 1))
        return ends

    def _leave_out_missing(self) -> None:
        """Find, once, where the patches without missing values begin; snapshots without such a place are left out.

        The places are kept as bits, once for all snapshots that have the same.
        """
        kept: dict[bytes, np.ndarray] = {}
        missing = lru_cache(maxsize=2 * self.window.frames)(self._missing)
        allowed = np.zeros(self.box.shape, dtype=bool)
        allowed[tuple(slice(*ends) for ends in self._ends())] = True
        for store, time in self.snapshots:
            seen = np.any([missing(store, frame, COARSE) for frame in self.window.around(time)], axis=0)
            near = [(-h, p + 2 * h) for p, h in zip(self.patch, self.halo)]
            scored = [(0, p) for p in self.patch]
            touched = any_within(seen, near) | any_within(missing(store, time, FINE), scored)
            if touched.any():
                bits = np.packbits(allowed & ~touched)
                self._places[store, time] = kept.setdefault(bits.tobytes(), bits)
        self.snapshots = [place for place in self.snapshots if self._places.get(place, np.ones(1)).any()]
        found = f"missing values in each, with a halo of {max(self.halo)}"
        where = {"file": self.stores[0], "variable": "patch", "expected": "one without a missing value", "found": found}
        message = f"no patch of {self.patch} coarse cells to train on"
        require(self.snapshots, message, **where, hint="take a smaller patch or halo")

    def _missing(self, store: int, time: int, which: int) -> np.ndarray:
        """The coarse cells (x, y, z) without a value or, of the fine field, with one in them that has none."""
        pair = self._pair(store)
        if not carries_missing(pair[which]) or (which == FINE and _covers(pair[COARSE])):
            return np.zeros(self.box.shape, dtype=bool)
        size = self.factor if which == FINE else 1
        field = pair[which][self.variable].isel(time=time)
        found = np.empty(self.box.shape, dtype=bool)
        for first in range(0, self.box.shape[0], PLANES):
            values = field[..., first * size : (first + PLANES) * size, :, :].values
            empty = np.isnan(values).reshape(-1, *values.shape[-3:]).any(axis=0)
            x, y, z = (n // size for n in empty.shape)
            found[first : first + PLANES] = empty.reshape(x, size, y, size, z, size).any(axis=(1, 3, 5))
        return found

    def scales(self, store: int, time: int) -> FieldScales:
        """Of the whole coarse field, in the frames about snapshot ``time`` of a store; measured once."""
        if (store, time) not in self._scales:
            frames = [self._field(store, frame, COARSE) for frame in self.window.around(time)]
            irreps = self._pair(store)[COARSE][self.variable].attrs["irreps"]
            self._scales[store, time] = measure_scales(frames, self.box, irreps)
        return self._scales[store, time]

    def __getstate__(self):
        own = {"_process": None, "_opened": {}, "_cache": {}, "_cached_bytes": 0, "_read": OrderedDict()}
        return {**self.__dict__, **own}

    def _field(self, store: int, time: int, which: int):
        """One field at one time: an array where it is in memory or may be, a lazy one where it is too large."""
        self._forget_other_process()
        if (store, time, which) in self._cache:
            return self._cache[store, time, which]
        lazy = self._pair(store)[which][self.variable].isel(time=time)
        if self._cached_bytes + lazy.nbytes > self._kept_bytes:
            return lazy
        self._cached_bytes += lazy.nbytes
        self._cache[store, time, which] = lazy.values
        return self._cache[store, time, which]

    def _pair(self, store: int) -> tuple[xr.Dataset, xr.Dataset]:
        self._forget_other_process()
        if store not in self._opened:
            self._opened[store] = tuple(open_field(self.stores[store], group=group) for group in ("coarse", "fine"))
        return self._opened[store]

    def _forget_other_process(self) -> None:
        """Handles do not survive a fork: each worker opens its own."""
        if self._process != os.getpid():
            self._process, self._opened = os.getpid(), {}


class OctahedralAugmentation:
    """Transforms both fields of a pair by the same random element of a group.

    Args:
        group: ``O`` (rotations), ``Oh`` (and reflections) or another subgroup of O_h, ``C4v [001]``.
        irreps: field type of the variable.
    """

    def __init__(self, group: str = "Oh", irreps: str = "1o"):
        self.group, self.irreps = group, irreps

    def __call__(
        self, coarse: Tensor, fine: Tensor, grid: Grid, generator: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """The pair, transformed; all frames of the coarse field alike.

        Elements that would change the sides, spacings or boundaries of the patch are not drawn.
        """
        group = point_group(self.group)
        elements = self._elements_that_keep(grid, self.group)
        element = elements[int(generator.integers(len(elements)))]
        frames = coarse.unflatten(0, (-1, fine.shape[0]))
        coarse = transform_field(frames, element, self.irreps, group).flatten(0, 1)
        return coarse.contiguous(), transform_field(fine, element, self.irreps, group).contiguous()

    def words(self, grid: Grid) -> str:
        """The group whose elements are drawn on the grid of a patch: ``D2h(100), what the grid keeps of Oh``."""
        group, whole = point_group(self.group), octahedral_group("Oh")
        drawn = self._elements_that_keep(grid, self.group)
        kept = whole.subgroup(whole.index(group.matrices[element]) for element in drawn).label
        return kept if len(drawn) == group.order else f"{kept}, what the grid keeps of {self.group}"

    @staticmethod
    @lru_cache
    def _elements_that_keep(grid: Grid, name: str) -> tuple[int, ...]:
        group = point_group(name)
        images = [grid.transformed(*axis_action(element, group)) for element in range(group.order)]
        return tuple(element for element, other in enumerate(images) if _same_cells(grid, other))


def _covers(coarse: xr.Dataset) -> bool:
    """Whether a coarse cell is missing wherever a fine one in it is, by the operator that made it."""
    return coarse.attrs.get("degrade_operator") in ("block_mean", "gaussian_block_mean")


def _bit(bits: np.ndarray, number: int) -> bool:
    return bool(bits[number >> 3] >> (7 - (number & 7)) & 1)


def _cut(field, spans: list[tuple[int, int]]) -> np.ndarray:
    """(component, x, y, z) of a box given by start and length along each axis, wrapped around the sides of the field.

    A lazy field is read piece by piece, each piece one contiguous box.
    """
    out = np.empty((*field.shape[:-3], *(length for _, length in spans)), dtype=field.dtype)
    pieces = [_pieces(start, length, side) for (start, length), side in zip(spans, field.shape[-3:])]
    for box in product(*pieces):
        sources, targets = zip(*box)
        out[(..., *targets)] = np.asarray(field[(..., *sources)])
    return out if out.ndim == 4 else out[None]


def _pieces(start: int, length: int, side: int) -> list[tuple[slice, slice]]:
    """Contiguous stretches of an axis of ``side`` cells that make up ``length`` cells from ``start``; where they go."""
    pieces, done = [], 0
    while done < length:
        first = (start + done) % side
        count = min(side - first, length - done)
        pieces.append((slice(first, first + count), slice(done, done + count)))
        done += count
    return pieces


def _same_cells(one: Grid, other: Grid) -> bool:
    same = one.shape == other.shape and one.boundary == other.boundary and one.stretched == other.stretched
    if not same or not np.allclose(one.spacing, other.spacing, rtol=1e-5):
        return False
    ends = zip(one.faces(), other.faces(), one.spacing)
    return all(np.abs((a - a[0]) - (b - b[0])).max() < 1e-5 * len(a) * d for a, b, d in ends)


def fit_patch(
    box: Grid, patch, halo: int, store: Path | None = None
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Coarse cells of a patch and of its halo along x, y, z, in a box.

    Raises:
        FlowsrError: a patch or halo that does not fit.
    """
    wanted = box.shape if patch is None else (patch,) * 3 if np.ndim(patch) == 0 else tuple(patch)
    wanted = tuple(int(p) for p in wanted)
    require(halo >= 0, "a halo is not negative", variable="patch_halo", found=halo)
    for axis, side, length, boundary, stretched in zip(SPACE, box.shape, wanted, box.boundary, box.stretched):
        where = {"file": store, "variable": "patch_halo", "expected": f"0 to {side}", "found": halo}
        require(halo <= side, f"a halo longer than the box along {axis}", **where)
        refused = partial(FlowsrError, file=store, variable="patch")
        if stretched and length != side:
            hint = "its cells differ in size, and patches of it would differ in grid"
            message = f"a patch takes the stretched axis {axis} whole"
            raise refused(message, expected=side, found=length, hint=hint)
        room = side if boundary == "periodic" or length == side else side - 2 * halo
        if not 1 <= length <= room:
            message = f"a patch of {length} coarse cells does not fit along {axis}"
            found = f"{length} and a halo of {halo} in {side} {boundary} cells"
            raise refused(message, expected=f"1 to {room}", found=found)
    return wanted, tuple(0 if length == side else halo for length, side in zip(wanted, box.shape))


def patch_grid(box: Grid, patch, halo=(0, 0, 0)) -> Grid:
    """The grid of a patch and its halo, cut out of a box."""
    return replace(
        box,
        shape=tuple(p + 2 * h for p, h in zip(patch, halo)),
        boundary=tuple(b if p == n else "open" for b, p, n in zip(box.boundary, patch, box.shape)),
        origin=tuple(o if stretched else 0.0 for o, stretched in zip(box.origin, box.stretched)),
    )
