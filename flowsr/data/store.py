"""Field stores in Zarr v3 that appear whole or not at all, however the writer ends.

A store grows in a hidden folder beside its target, a :class:`flowsr.files.Partial` whose ``store/`` is the Zarr
hierarchy, with a marker per shard that is on the disk, and takes its name in one step when every shard is there and
matches its marker. Whoever fills it may keep files of their own there (a restart file, say); they go with the partial
store. A writer that starts again after a kill skips the shards that are whole, and the published bytes do not depend on
how often it was killed.

Each array is chunked over space; a chunk holds one time and all components. A shard (one file) has one writer: writes
that are not aligned to shards are refused, since two writers in one shard corrupt it without a word.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path

import numpy as np
import xarray as xr

from flowsr.data.field import SPACE
from flowsr.errors import FlowsrError
from flowsr.files import Partial, file_checksum, fsync_file, fsync_folder, read_json, tree_checksum

CHUNK = 64
SHARD = 256
FINGERPRINT = "flowsr_fingerprint"
Box = tuple[slice, slice, slice]

store_checksum = tree_checksum


def create_store(
    target: str | os.PathLike,
    groups: xr.Dataset | Mapping[str, xr.Dataset],
    *,
    chunk: int | tuple[int, int, int] = CHUNK,
    shard: int | tuple[int, int, int] = SHARD,
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
        fresh: drop a partial store, and replace a published flowsr store, instead of using them.

    Returns:
        The store to write to. Its ``published`` is True when the target already is exactly what is asked for; then
        there is nothing left to write.

    Raises:
        FlowsrError: the target, or a partial store beside it, was made from another template; or another process is
            building it.
    """
    target = Path(target)
    plan = _plan({"": groups} if isinstance(groups, xr.Dataset) else groups, chunk, shard)
    fingerprint = hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()
    if target.exists() or target.is_symlink():
        found = _published_fingerprint(target)
        if found is None:
            expected = "no such name, or a store written by flowsr"
            raise FlowsrError("will not be replaced", file=target, expected=expected)
        if found == fingerprint and not fresh:
            Partial(target).discard()
            return FieldStore(target)
        if not fresh:
            message = "this store was made from other data or settings"
            raise FlowsrError(message, file=target, hint="use --fresh to replace it")
    partial = Partial(target)
    partial.begin(fingerprint, lambda: _lay_down(partial.folder / "store", plan, fingerprint), fresh=fresh)
    store = FieldStore(target)
    store._partial = partial
    return store


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

    def boxes(self, variable: str, group: str = "") -> Iterator[Box]:
        """The shards of one snapshot as slices along x, y, z, in C order: the tiles a parallel job hands out."""
        array = self._array(variable, group)
        if array.ndim == 1:
            return
        sides = zip(array.shape[-3:], _unit(array)[-3:])
        yield from product(*([slice(start, min(start + s, n)) for start in range(0, n, s)] for n, s in sides))

    def is_written(self, variable: str, time: int, box: Box | None = None, group: str = "") -> bool:
        """Whether all of a region is on the disk, going by markers and file sizes."""
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
        array[region] = values[None]
        for key in shards:
            piece, file = self._piece(variable, group, array, key)
            fsync_file(file)
            self._partial.mark(*piece, bytes=file.stat().st_size, sha256=file_checksum(file))

    def publish(self) -> Path:
        """Check that every shard is there and as it was written, and give the store its name.

        Returns:
            The target.

        Raises:
            FlowsrError: shards that were not written, or whose bytes changed since; the latter count as not written
                from then on.
        """
        if self.published:
            return self.target
        self._verify()
        store = self._partial.folder / "store"
        for left_over in store.rglob("*.partial"):
            left_over.unlink()
        fsync_folder(store)
        self._partial.publish(store)
        self.published = True
        self.close()
        return self.target

    def _verify(self) -> None:
        import zarr

        missing, changed, total = 0, 0, 0
        root = zarr.open_group(str(self._partial.folder / "store"), mode="r")
        for path, array in root.members(max_depth=None):
            group, _, variable = path.rpartition("/")
            if not isinstance(array, zarr.Array) or array.metadata.dimension_names == (variable,):
                continue  # a group, or a coordinate
            for key in (key for time in range(array.shape[0]) for key in self._shards(array, time, None)):
                total += 1
                piece, file = self._piece(variable, group, array, key)
                marker = self._partial.marker(*piece)
                if marker is None:
                    missing += 1
                elif not file.exists() or file_checksum(file) != marker["sha256"]:
                    self._partial.unmark(*piece)
                    changed += 1
        if missing or changed:
            found = f"{missing} not written, {changed} changed on the disk since"
            where = {"file": self.target, "expected": f"{total} shards", "found": found}
            hint = "run again to write what is missing"
            raise FlowsrError("this store is not whole and stays unpublished", **where, hint=hint)

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
        return marker is not None and file.exists() and file.stat().st_size == marker["bytes"]


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


def _as_json(attrs: Mapping) -> dict:
    """Attributes with numpy's scalars and arrays as lists, in JSON that has no NaN; a fill value as xarray has it."""
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
    for file in (p for p in folder.rglob("*") if p.is_file()):
        fsync_file(file)


def _published_fingerprint(target: Path) -> str | None:
    metadata = read_json(target / "zarr.json") if target.is_dir() and not target.is_symlink() else None
    return metadata.get("attributes", {}).get(FINGERPRINT) if isinstance(metadata, dict) else None
