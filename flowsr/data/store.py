"""Field stores in Zarr v3 that appear whole or not at all, however the writer ends.

A store grows in a hidden folder beside its target, a :class:`flowsr.files.Partial` whose ``store/`` is the Zarr
hierarchy, with a marker per shard that is on the disk, and takes its name in one step when every shard is there and
matches its marker. Whoever fills it may keep files of their own there (a restart file, say); they go with the partial
store. A writer that starts again after a kill skips the shards that are whole, and the published bytes do not depend on
how often it was killed. A published store holds the checksums of all its files; :func:`damage_in` compares them.

Each array is chunked over space; a chunk holds one time and all components. A shard (one file) has one writer: writes
that are not aligned to shards are refused, since two writers in one shard corrupt it without a word.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from flowsr.data.field import SPACE
from flowsr.errors import FlowsrError
from flowsr.files import (
    CHECKSUMS,
    Damage,
    Partial,
    Sum,
    damage_of,
    file_checksum,
    files_in,
    fsync_file,
    fsync_folder,
    naming,
    read_json,
    read_sums,
    remove,
    tree_checksum,
    write_sums,
)
from flowsr.progress import SILENT, Progress

CHUNK = 64
SHARD = 256
FINGERPRINT = "flowsr_fingerprint"
#: Groups that whoever fills a store may put beside its fields before it is published, each with files of its own.
BESIDE = ("metrics", "report")
Box = tuple[slice, slice, slice]

store_checksum = tree_checksum


def create_store(
    target: str | os.PathLike,
    groups: xr.Dataset | Mapping[str, xr.Dataset],
    *,
    chunk: int | tuple[int, int, int] = CHUNK,
    shard: int | tuple[int, int, int] = SHARD,
    content: str = "",
    fresh: bool = False,
) -> FieldStore:
    """Start a store, or resume one that was begun with the same arguments.

    Args:
        target: where the store will appear, such as ``simulate/seed_000.zarr``.
        groups: a template (coordinates, dims, dtypes and attributes; see
            :func:`flowsr.data.field.field_template`), or several by group name, published together. The values of the
            variables are not looked at; every variable has ``time`` first.
        chunk: cells along x, y, z of a compressed chunk, at most.
        shard: cells along x, y, z of a file, the unit of writing; an axis shorter than this is one shard.
        content: what else decides the values, such as a checksum of their source.
        fresh: drop a partial store, and replace a published flowsr store, instead of using them.

    Returns:
        The store to write to. Its ``published`` is True when the target already is exactly what is asked for; then
        there is nothing left to write.

    Raises:
        FlowsrError: the target, or a partial store beside it, was made from another template; the target is damaged (by
            the names and sizes of its files, and its metadata); or another process is building it.
    """
    target = Path(target)
    plan = _plan({"": groups} if isinstance(groups, xr.Dataset) else groups, chunk, shard)
    decides = json.dumps([plan, content] if content else plan, sort_keys=True)
    fingerprint = hashlib.sha256(decides.encode()).hexdigest()
    if target.exists() or target.is_symlink():
        found = _published_fingerprint(target)
        if found is None:
            expected = "no such name, or a store written by flowsr"
            raise FlowsrError("will not be replaced", file=target, expected=expected)
        if found == fingerprint and not fresh:
            refuse_damaged(target)
            Partial(target).discard_unless_held()
            store = FieldStore(target)
            store.published = True  # also where another process is making it afresh
            return store
        if not fresh:
            message = "this store was made from other data or settings"
            raise FlowsrError(message, file=target, hint="use --fresh to replace it")
    partial = Partial(target)
    folder = partial.folder / "store"
    with naming(target):
        partial.begin(fingerprint, lambda: _lay_down(folder, plan, fingerprint), lambda: _digest(folder), fresh=fresh)
    for name in BESIDE:
        remove(folder / name)
    store = FieldStore(target)
    store._partial = partial
    return store


def damage_in(store: Path, *, deep: bool = True, progress: Progress = SILENT) -> list[Damage]:
    """Files of a published store that are not as they were written.

    Args:
        store: its path.
        deep: compare every checksum, which reads all of it; otherwise names, sizes and the checksums of small files.
        progress: told the fraction looked at.
    """
    # Beside a field's own metadata: Zarr's libraries list the folders of groups, and warn of what is no array there.
    found = sorted([*store.glob(f"*/{CHECKSUMS}"), *store.glob(f"*/*/{CHECKSUMS}")])
    sums = read_sums(found[0] if found else store / CHECKSUMS)
    if isinstance(sums, Damage):
        return [sums]
    damaged, done, total = [], 0, max(1, sum(one.bytes for one in sums.values()))
    for name, written in sums.items():
        damage = damage_of(store / name, written, deep)
        damaged += [] if damage is None else [damage]
        done += written.bytes
        progress(done / total, f"{len(damaged)} damaged" if damaged else "")
    return damaged


def refuse_damaged(store: Path, hint: str = "use --fresh to make it again", *, deep: bool = False) -> None:
    """Look at a published store's names, sizes and metadata before it is used again; if ``deep``, at every byte.

    Raises:
        FlowsrError: files that are not as they were written.
    """
    if damaged := damage_in(store, deep=deep):
        first = damaged[0]
        found = f"{len(damaged)} that are not, the first {first.file.relative_to(store)}: {first.found}"
        message = "this store is damaged"
        raise FlowsrError(message, file=store, expected="files as they were written", found=found, hint=hint)


class FieldStore:
    """A store that is being built, or that is published already.

    :func:`create_store` makes one and locks it for this process. ``FieldStore(target)`` attaches to one that another
    process made, which is what the workers of a parallel job do; it can be pickled.

    Args:
        target: where the store will appear.

    Attributes:
        published: whether the store has appeared under its name.

    Raises:
        FlowsrError: neither the store nor its partial one is there.
    """

    def __init__(self, target: str | os.PathLike):
        self.target = Path(target)
        self._partial = Partial(self.target)
        self._arrays = {}
        self._whole: set[tuple[str, str, str]] = set()
        self.published = not self._partial.begun
        if self.published and not self.target.exists():
            raise FlowsrError("no store here, finished or begun", file=self.target)

    def __enter__(self) -> FieldStore:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def __getstate__(self):
        return {**self.__dict__, "_arrays": {}}

    def close(self) -> None:
        """Let go of the lock; what was written stays, for a later run to resume."""
        self._arrays.clear()
        self._partial.release()

    def discard(self) -> None:
        """Remove what was begun: nobody could go on from it."""
        self._arrays.clear()
        self._partial.discard()

    @property
    def folder(self) -> Path:
        """The Zarr hierarchy, where it is now; until it is published, for groups named in :data:`BESIDE` too."""
        return self.target if self.published else self._partial.folder / "store"

    def read(self, variable: str, time: int, box: Box | None = None, group: str = "") -> np.ndarray:
        """(component, x, y, z) of one snapshot, or of a box of one, as it is on the disk."""
        array = self._array(variable, group)
        inner = (slice(None),) * (array.ndim - 4)
        values = np.asarray(array[(time, *inner, *(box or (slice(None),) * 3))])
        return values if values.ndim == 4 else values[None]

    def boxes(self, variable: str, group: str = "") -> Iterator[Box]:
        """The shards of one snapshot as slices along x, y, z, in C order: the tiles a parallel job hands out."""
        array = self._array(variable, group)
        if array.ndim == 1:
            return
        sides = zip(array.shape[-3:], _unit(array)[-3:])
        yield from product(*([slice(start, min(start + s, n)) for start in range(0, n, s)] for n, s in sides))

    def is_written(self, variable: str, time: int, box: Box | None = None, group: str = "") -> bool:
        """Whether all of a region is on the disk, by its markers; a shard of an earlier run is read once for that."""
        if self.published:
            return True
        array = self._array(variable, group)
        return all(self._is_done(variable, group, array, key) for key in self._shards(array, time, box))

    def write(self, variable: str, values, *, time: int, box: Box | None = None, group: str = "") -> None:
        """Write one snapshot, or a box of one that is aligned to shards, and mark it as done.

        Args:
            values: (component, x, y, z) or (x, y, z) of the box; one number for a series.
            time: index along time.
            box: slices along x, y, z that start at a multiple of the shard and end at one or at the array's end.

        Raises:
            ValueError: a box that is not aligned, or values whose shape or dtype is not the variable's.
        """
        if self.published:
            raise ValueError(f"{self.target} is published: nothing is left to write")
        array = self._array(variable, group)
        values = np.asarray(values)
        region = _region(array, time, box)
        shape = tuple(s.stop - s.start for s in region[1:])
        if values.shape != shape:
            raise ValueError(f"{variable} takes {shape} here, got {values.shape}")
        if not np.can_cast(values.dtype, array.dtype, casting="same_kind"):
            raise ValueError(f"{variable} takes {array.dtype}, got {values.dtype}")
        shards = list(self._shards(array, time, box))
        pieces = [self._piece(variable, group, array, key) for key in shards]
        for _, file in pieces:  # zarr reads what is there, for the cells beyond the array's end
            file.unlink(missing_ok=True)
        with naming(self.target):
            array[region] = values[None]
        for piece, file in pieces:
            fsync_file(file)
            self._partial.mark(*piece, done=Sum.of(file))
            self._whole.add(piece)

    def publish(self, attrs: Mapping[str, Any] | None = None) -> Path:
        """Check that every shard is there and as it was written, and give the store its name.

        Args:
            attrs: further attributes of the store: what was not known before it was full.

        Returns:
            The target.

        Raises:
            FlowsrError: shards that were not written, or whose bytes changed since; the latter count as not written
                from then on.
        """
        if self.published:
            return self.target
        store = self._partial.folder / "store"
        if not self._partial.intact(lambda: _digest(store)):
            message = "the metadata or coordinates changed on the disk before this store was whole"
            raise FlowsrError(message, file=self.target, hint="check the disk, then run again")
        sums, fields = self._verified(), _fields(store)
        if attrs:
            _describe(store, attrs)
        for path in files_in(store):
            name = path.relative_to(store).as_posix()
            if name in sums:
                continue
            if any(path.is_relative_to(field / "c") for field in fields):
                path.unlink()  # a write that a kill cut short
            else:
                sums[name] = Sum.of(path)
        write_sums(min(fields, default=store) / CHECKSUMS, dict(sorted(sums.items())))
        fsync_folder(store)
        self._partial.publish(store)
        self.published = True
        self.close()
        return self.target

    def _verified(self) -> dict[str, Sum]:
        """The checksums of all shards, each compared with what was written."""
        import zarr

        from flowsr.devices import cores  # with torch, which no other store needs

        changed, pieces = 0, []
        folder = self._partial.folder / "store"
        for field in _fields(folder):
            array = zarr.open_array(str(field), mode="r", zarr_format=3)
            group, _, variable = field.relative_to(folder).as_posix().rpartition("/")
            for key in (key for time in range(array.shape[0]) for key in self._shards(array, time, None)):
                piece, file = self._piece(variable, group, array, key)
                pieces.append((piece, file, self._partial.marker(*piece)))
        written, sums = [each for each in pieces if each[2] is not None], {}
        with ThreadPoolExecutor(cores()) as pool:
            damages = pool.map(lambda each: damage_of(*each[1:]), written)
            for (piece, file, marker), damage in zip(written, damages, strict=True):
                if damage is None:
                    sums[file.relative_to(folder).as_posix()] = marker
                    continue
                self._partial.unmark(*piece)
                self._whole.discard(piece)
                changed += 1
        missing = len(pieces) - len(written)
        if missing or changed:
            found = f"{missing} not written, {changed} changed on the disk since"
            where = {"file": self.target, "expected": f"{len(sums) + missing + changed} shards", "found": found}
            hint = "run again to write what is missing"
            raise FlowsrError("this store is not whole and stays unpublished", **where, hint=hint)
        return sums

    def _array(self, variable: str, group: str):
        import zarr

        if (group, variable) not in self._arrays:
            root = self.target if self.published else self._partial.folder / "store"
            with zarr.config.set({"array.write_empty_chunks": True}):
                self._arrays[group, variable] = zarr.open_array(
                    str(root / group / variable), mode="r" if self.published else "r+", zarr_format=3
                )
        return self._arrays[group, variable]

    def _shards(self, array, time: int, box: Box | None) -> Iterator[tuple[int, ...]]:
        region = _region(array, time, box)
        return product(*(range(s.start // u, -(-s.stop // u)) for s, u in zip(region, _unit(array))))

    def _piece(self, variable, group, array, key) -> tuple[tuple[str, str, str], Path]:
        """A shard's marker, and its file."""
        file = self._partial.folder / "store" / group / variable / array.metadata.encode_chunk_key(key)
        return (group, variable, ".".join(map(str, key))), file

    def _is_done(self, variable, group, array, key) -> bool:
        piece, file = self._piece(variable, group, array, key)
        marker = self._partial.marker(*piece)
        if marker is None or damage_of(file, marker, deep=piece not in self._whole) is not None:
            return False
        self._whole.add(piece)
        return True


def _unit(array) -> tuple[int, ...]:
    return array.shards or array.chunks


def _region(array, time: int, box: Box | None) -> tuple[slice, ...]:
    if not 0 <= time < array.shape[0]:
        raise ValueError(f"time index {time} is outside 0 .. {array.shape[0] - 1}")
    inner = [slice(0, n) for n in array.shape[1:]]
    if box is not None:
        inner[-3:] = [slice(s.start or 0, n if s.stop is None else s.stop) for s, n in zip(box, array.shape[-3:])]
    for name, part, side, unit in zip(SPACE, inner[-3:], array.shape[-3:], _unit(array)[-3:]):
        if not 0 <= part.start < part.stop <= side or part.start % unit or (part.stop % unit and part.stop != side):
            span = f"{name} from {part.start} to {part.stop}"
            raise ValueError(f"{span} is not aligned to shards of {unit} in {side} cells")
    return (slice(time, time + 1), *inner)


def _plan(groups: Mapping[str, xr.Dataset], chunk, shard) -> dict:
    """Everything that decides the store's bytes but the values, as JSON has it."""
    plan = {}
    for name, dataset in groups.items():
        variables = {}
        for key, array in dataset.data_vars.items():
            if array.dims[:1] != ("time",):
                raise ValueError(f"{key} has dims {array.dims}: time must be the first")
            chunks, shards = _chunks_and_shards(array, chunk, shard)
            variables[str(key)] = {
                "dims": list(array.dims),
                "shape": list(array.shape),
                "dtype": array.dtype.newbyteorder("=").name,
                "chunks": chunks,
                "shards": shards,
                "attrs": _as_json(array.attrs),
            }
        coords = {}
        for key, array in dataset.coords.items():
            if array.dims != (key,):
                raise ValueError(f"coordinate {key} has dims {array.dims}: only one along its own dim is kept")
            coords[str(key)] = {"values": array.values.tolist(), "attrs": _as_json(array.attrs)}
        plan[name] = {"attrs": _as_json(dataset.attrs), "coords": coords, "variables": variables}
        plan[name]["attrs"].pop(FINGERPRINT, None)
    return plan


def _chunks_and_shards(array: xr.DataArray, chunk, shard) -> tuple[list[int], list[int]]:
    wanted = dict(zip(SPACE, zip(*(np.broadcast_to(value, 3).tolist() for value in (chunk, shard)))))
    pairs = [(1, 1)]
    for dim, side in zip(array.dims[1:], array.shape[1:]):
        pairs.append(_split_side(side, *wanted[dim]) if dim in SPACE else (side, side))
    chunks, shards = map(list, zip(*pairs))
    return chunks, shards


def _split_side(side: int, chunk: int, shard: int) -> tuple[int, int]:
    """Chunk and shard along one axis: the shard as asked for where it is shorter than the side, else the whole side."""
    if side > shard:
        return max(d for d in range(1, min(chunk, shard) + 1) if shard % d == 0), shard
    count = math.ceil(side / chunk)
    inner = math.ceil(side / count)
    return inner, inner * count


def as_json(value):
    """A value with numpy's scalars and arrays as lists, and as text what JSON has no number for, NaN say."""
    return _strict(json.loads(json.dumps(value, default=lambda value: np.asarray(value).tolist())))


def _as_json(attrs: Mapping) -> dict:
    """Attributes in JSON that has no NaN; a fill value as xarray has it."""
    kept = json.loads(json.dumps(dict(attrs), default=lambda value: np.asarray(value).tolist()))
    if isinstance(kept.get("_FillValue"), float):
        kept["_FillValue"] = base64.b64encode(np.array(kept["_FillValue"], "<f8").tobytes()).decode()
    return _strict(kept)


def _strict(value):
    """A value in which numbers that JSON has not are text."""
    if isinstance(value, dict):
        return {key: _strict(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_strict(each) for each in value]
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _lay_down(folder: Path, plan: dict, fingerprint: str) -> None:
    """Write metadata and coordinates; the fields' arrays stay empty and read NaN."""
    import zarr
    from zarr.codecs import BloscCodec, Crc32cCodec

    compressors = [BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"), Crc32cCodec()]
    root_attrs = {**plan.get("", {}).get("attrs", {}), FINGERPRINT: fingerprint}
    root = zarr.create_group(str(folder), zarr_format=3, attributes=root_attrs)
    for name, content in plan.items():
        group = root.create_group(name, attributes=content["attrs"]) if name else root
        for key, coord in content["coords"].items():
            values = np.asarray(coord["values"])
            text = values.dtype.kind in "US"
            array = group.create_array(
                key,
                shape=values.shape,
                chunks=values.shape,
                dtype="string" if text else values.dtype,
                compressors=[Crc32cCodec()],
                dimension_names=(key,),
                attributes=coord["attrs"],
                config={"write_empty_chunks": True},
            )
            array[:] = values
        for key, variable in content["variables"].items():
            group.create_array(
                key,
                shape=variable["shape"],
                chunks=variable["chunks"],
                shards=None if variable["shards"] == variable["chunks"] else variable["shards"],
                dtype=variable["dtype"],
                fill_value=float("nan"),
                compressors=compressors,
                dimension_names=variable["dims"],
                attributes=variable["attrs"],
            )
    _consolidate(folder, plan)
    for path in (folder, *folder.rglob("*")):
        (fsync_folder if path.is_dir() else fsync_file)(path)
    fsync_folder(folder.parent)


def _describe(store: Path, attrs: Mapping[str, Any]) -> None:
    """Add attributes to a store that has been laid down."""
    import zarr

    root = zarr.open_group(str(store), mode="r+", zarr_format=3, use_consolidated=False)
    root.attrs.update(_as_json(attrs))
    _consolidate(store, [name for name, _ in root.groups()])
    for path in store.rglob("zarr.json"):
        fsync_file(path)


def _consolidate(folder: Path, groups: Iterable[str]) -> None:
    """Put the metadata of the arrays beside those of their groups: xarray warns of a group where they are not."""
    import zarr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr says that other libraries may not read these; all read them without
        for name in filter(None, groups):
            zarr.consolidate_metadata(str(folder), path=name, zarr_format=3)
        zarr.consolidate_metadata(str(folder), zarr_format=3)


def _fields(store: Path) -> list[Path]:
    """The folders of the arrays that are no coordinates."""
    found = []
    for file in store.rglob("zarr.json"):
        match read_json(file):
            case {"node_type": "array", "dimension_names": names} if names != [file.parent.name]:
                if not _is_beside(file, store):
                    found.append(file.parent)
    return found


def _is_beside(file: Path, store: Path) -> bool:
    return file.relative_to(store).parts[0] in BESIDE


def _digest(store: Path) -> str:
    """sha256 of all that :func:`_lay_down` wrote: names and bytes of every file but the fields' shards."""
    digest, fields = hashlib.sha256(), _fields(store)
    for file in files_in(store):
        if not _is_beside(file, store) and not any(file.is_relative_to(field / "c") for field in fields):
            digest.update(f"{file.relative_to(store).as_posix()}\0{file_checksum(file)}\0".encode())
    return digest.hexdigest()


def is_store(path: Path) -> bool:
    """Whether a folder is a store that flowsr published, or the ``store/`` of a partial one."""
    return _published_fingerprint(path) is not None


def _published_fingerprint(target: Path) -> str | None:
    metadata = read_json(target / "zarr.json") if target.is_dir() and not target.is_symlink() else None
    match metadata:
        case {"attributes": dict(attributes)}:
            return attributes.get(FINGERPRINT)
    return None
