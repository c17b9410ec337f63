"""From any layout that flowsr reads to Zarr, HDF5 (flowsr's, JHTDB's or The Well's), NetCDF 4 or VTK for ParaView.

A series of snapshots for ParaView, ``.pvd``, is one VTK file a snapshot, with vorticity and Q beside the velocity
(:mod:`flowsr.data.series`).

What is written appears whole or not at all, and only of a source that did not change meanwhile. A conversion that was
killed is resumed: every finished piece has a marker with its sha256 (:class:`flowsr.files.Partial`), is read back
before it is believed, and all of them, attributes and coordinates are read back once more at the end. The Zarr output
has the same guarantee shard by shard, from :mod:`flowsr.data.store`, and a crc32c in every chunk after that.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar
from xml.sax.saxutils import quoteattr

import h5py
import numpy as np
import xarray as xr

from flowsr.data.content import Content
from flowsr.data.field import SERIES_DIMS, SPACE, field_variables, grid_of, is_vector
from flowsr.data.open import ReadOptions, open_field, read_options
from flowsr.data.readers.hdf5 import lay_down_array, plain, write_header, write_own_words
from flowsr.data.readers.jhtdb import TIMES
from flowsr.data.readers.vtk import OWN_WORDS
from flowsr.data.store import CHUNK, SHARD, Box, FieldStore, as_json, create_store
from flowsr.errors import FlowsrError
from flowsr.files import Partial, Sum, fsync_file, naming, reserve
from flowsr.progress import SILENT, Progress
from flowsr.registry import Registry
from flowsr.spread import STOP, Spread, batches_of

log = logging.getLogger(__name__)

# Cells along z of a piece that is copied at once are so many that a piece has about this many bytes.
PIECE = 1 << 26
#: Bytes that a file may take beside its fields.
HEADERS = 1 << 20


class Target(ABC):
    """A file that is filled piece by piece: a slab of one variable at one time.

    Args:
        path: the unfinished file, under the name that the finished one will have.
        dataset: what it will hold.
        target: where the finished file will be, to name in an error.
    """

    def __init__(self, path: Path, dataset: xr.Dataset, target: Path):
        self.path, self.dataset, self.target = path, dataset, target

    @classmethod
    def left_out(cls, dataset: xr.Dataset) -> dict[str, str]:
        """The variables that this layout has no place for, each with the reason."""
        return {}

    @abstractmethod
    def lay_down(self) -> None:
        """Write everything but the fields."""

    @abstractmethod
    def write(self, name: str, time: int, slab: slice, values: np.ndarray) -> None:
        """Write (component, x, y, z) or (x, y, z) of a slab of z."""

    @abstractmethod
    def read(self, name: str, time: int, slab: slice) -> np.ndarray:
        """The bytes of a slab as they are in the file now, in the order they were given to :meth:`write`."""

    @abstractmethod
    def digest(self) -> str:
        """sha256 of everything in the file but the fields."""


#: Name of an output layout to the class that fills it; ``zarr`` is written by :mod:`flowsr.data.store`.
TARGETS: Registry[type[Target]] = Registry("output layout")
SUFFIXES = {".zarr": "zarr", ".h5": "hdf5", ".hdf5": "hdf5", ".nc": "netcdf", ".vti": "vtk", ".vtr": "vtk"}
#: Of a file that lists the VTK files of a series.
SERIES = ".pvd"


def convert(
    source: str | os.PathLike,
    target: str | os.PathLike,
    options: ReadOptions | None = None,
    *,
    layout: str | None = None,
    chunk: int = CHUNK,
    shard: int = SHARD,
    fresh: bool = False,
    lossy: bool = False,
    spread: Spread | None = None,
    progress: Progress = SILENT,
    **stated: Any,
) -> Path:
    """Copy a field into another layout.

    Nothing is lost: names, attributes and series that a layout of others has no place for lie beside its arrays, as a
    text that :func:`flowsr.data.open_field` reads.

    Args:
        source, options, stated: as :func:`flowsr.data.open_field` takes them.
        target: what to write.
        layout: ``zarr``, ``hdf5``, ``jhtdb``, ``well``, ``netcdf`` or ``vtk``; default: by the target's suffix, which
            may also be ``.pvd``.
        chunk, shard: cells along the sides of a Zarr store's chunks and files.
        fresh: start over, and replace a target that is there.
        lossy: leave out the variables that the layout cannot hold.
        spread: workers that share the copying into a Zarr store; files of the other layouts have one writer.
        progress: told the fraction done and a short message.

    Returns:
        The target.

    Raises:
        FlowsrError: a source that cannot be read, a target that is there, a layout that is unknown or, without
            ``lossy``, cannot hold all fields, or bytes that do not read back as they were written.
    """
    target = Path(target)
    series = layout is None and target.suffix == SERIES
    layout = "vtk" if series else layout or SUFFIXES.get(target.suffix)
    if layout is None:
        expected = f"one of zarr, {', '.join(TARGETS)}, or one of {[*SUFFIXES, SERIES]}"
        raise FlowsrError("which layout?", file=target, expected=expected)
    options = read_options(options, stated)
    dataset = open_field(source, options)
    if layout != "zarr":
        dataset = held(dataset, TARGETS[layout], target, lossy)
    content = Content(Path(source), options.group, options.run)
    decides = json.dumps([content.checksums, options.declared()])
    if series:
        from flowsr.data.series import write_series

        write = functools.partial(write_file, chosen=TARGETS[layout])
        return write_series(dataset, target, decides, content, write, fresh=fresh, progress=progress)
    if layout == "zarr":
        snapshots = _snapshots(dataset)
        with create_store(target, dataset, chunk=chunk, shard=shard, content=decides, fresh=fresh) as store:
            boxes = [] if store.published else [(*piece, box) for piece in snapshots for box in store.boxes(piece[0])]
            copy = functools.partial(copy_boxes, Path(source), options, target)
            if spread is None:
                copy(boxes, progress=progress.share(0.0, 0.95))
            else:
                spread(copy, batches_of(boxes, len(spread)), progress.share(0.0, 0.95))
            for name in dataset.data_vars if not store.published else ():
                for time in range(dataset.sizes["time"]) if dataset[name].dims == SERIES_DIMS else ():
                    store.write(name, dataset[name].values[time], time=time)
            content.refuse_changed()
            return store.publish()
    return write_file(dataset, target, TARGETS[layout], decides, content, fresh=fresh, progress=progress)


def write_file(
    dataset: xr.Dataset,
    target: Path,
    chosen: type[Target],
    decides: str,
    content: Content | None = None,
    *,
    fresh: bool = False,
    progress: Progress = SILENT,
) -> Path:
    """Write a dataset as one file, piece by piece, whole or not at all; one that was killed is resumed.

    Args:
        chosen: fills the file.
        decides: text of what decides its content, beside what the dataset says of itself.
        content: of its source, which must not change meanwhile.

    Raises:
        FlowsrError: a target that is there, a source that changed, bytes that do not read back as they were written.
    """
    partial = Partial(target)
    _refuse_there(target, fresh)
    file = chosen(partial.folder / target.name, dataset, target)
    plan = _plan(dataset, chosen, decides)

    def lay_down() -> None:
        room = partial.folder / "room"
        reserve(room, dataset.nbytes + HEADERS)
        room.unlink()
        file.lay_down()
        reserve(file.path, file.path.stat().st_size)

    with naming(target):
        partial.begin(plan, lay_down, file.digest, fresh=fresh, discard_other=True)
    try:
        _refuse_there(target, fresh)  # another process may have published it while this one came to its lock
        pieces = [(*piece, slab) for piece in _snapshots(dataset) for slab in _slabs(dataset[piece[0]])]
        _fill(file, partial, pieces, progress)
        if content is not None:
            content.refuse_changed()
        partial.publish(file.path)
    finally:
        partial.release()
    progress(1.0, target.name)
    return target


def _snapshots(dataset: xr.Dataset) -> list[tuple[str, int]]:
    return [(name, time) for name in field_variables(dataset) for time in range(dataset.sizes["time"])]


def held(dataset: xr.Dataset, chosen: type[Target], target: Path, lossy: bool) -> xr.Dataset:
    """The dataset without the variables that a layout cannot hold.

    Raises:
        FlowsrError: there are such and they are not to be left out, or nothing is left.
    """
    lost = chosen.left_out(dataset)
    if not lost:
        return dataset
    names, found = ", ".join(lost), "; ".join(f"{name}: {why}" for name, why in lost.items())
    kept = [name for name in field_variables(dataset) if name not in lost]
    hint = "--lossy leaves them out" if kept else None
    if not (lossy and kept):
        raise FlowsrError("this layout does not hold all of it", file=target, variable=names, found=found, hint=hint)
    log.warning("%s: left out: %s", target.name, found)
    return dataset.drop_vars(lost)


def copy_boxes(
    source: Path,
    options: ReadOptions,
    target: Path,
    boxes: Sequence[tuple[str, int, Box]],
    *,
    progress: Progress = SILENT,
) -> None:
    """Copy shards of a source into a store that was laid down, those that are not there yet.

    Args:
        boxes: variable, time and place of each, as :meth:`flowsr.data.FieldStore.boxes` gives them.
    """
    store, dataset = FieldStore(target), open_field(source, options)
    for number, (name, time, box) in enumerate(boxes):
        if STOP.get()():
            return
        if not store.is_written(name, time, box):
            store.write(name, dataset[name][(time, ..., *box)].values, time=time, box=box)
        progress((number + 1) / len(boxes), f"{name} {time}")


def _refuse_there(target: Path, fresh: bool) -> None:
    if target.is_dir():
        raise FlowsrError("a folder has this name", file=target, expected="no such name, or a file")
    if target.exists() and not fresh:
        raise FlowsrError("there is something already", file=target, hint="use --fresh to replace it")


def _fill(file: Target, partial: Partial, pieces: list[tuple[str, int, slice]], progress: Progress) -> None:
    """Write the pieces that are not there yet, then read everything back."""
    for number, (name, time, slab) in enumerate(pieces):
        key = (name, str(time), str(slab.start))
        done = partial.marker(*key)
        if done is None or _digest(_read_or_none(file, name, time, slab)) != done.sha256:
            values = np.ascontiguousarray(file.dataset[name][(time, ..., slab)].values)
            with naming(file.target):
                file.write(name, time, slab, values)
            fsync_file(file.path)
            partial.mark(*key, done=Sum(values.nbytes, _digest(values)))
        progress(0.9 * (number + 1) / len(pieces), f"{name} {time}")
    for name, time, slab in pieces:
        key = (name, str(time), str(slab.start))
        expected = partial.marker(*key)
        if expected is None or _digest(_read_or_none(file, name, time, slab)) != expected.sha256:
            partial.unmark(*key)
            raise _not_read_back(file, "/".join(key))
    if not partial.intact(file.digest):
        raise _not_read_back(file, "attributes and coordinates")


def _not_read_back(file: Target, what: str) -> FlowsrError:
    message, hint = "does not read back as it was written", "check the disk, then convert again"
    return FlowsrError(message, file=file.target, variable=what, hint=hint)


def _plan(dataset: xr.Dataset, chosen: type[Target], decides: str) -> str:
    """Fingerprint of what decides the file: its layout, all but the values, and what these are read from."""
    coords = {k: np.asarray(c.values).tolist() for k, c in dataset.coords.items()}
    content = [chosen.__name__, coords, dict(dataset.attrs), decides]
    content += [(str(k), a.dims, a.shape, a.dtype.str, dict(a.attrs)) for k, a in dataset.data_vars.items()]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _read_or_none(filled: Target, *piece) -> np.ndarray | None:
    try:
        return filled.read(*piece)
    except Exception:  # a file that was being written when its writer was killed may be anything
        return None


def _digest(values: np.ndarray | None) -> str | None:
    return None if values is None else hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _slabs(array: xr.DataArray) -> list[slice]:
    side = array.shape[-1]
    step = max(1, int(PIECE * side / max(1, array[0].nbytes)))
    return [slice(start, min(start + step, side)) for start in range(0, side, step)]


@TARGETS.register("hdf5")
class Hdf5Target(Target):
    """HDF5 in flowsr's own layout; arrays are laid down whole, so that a kill cannot damage what surrounds them."""

    def lay_down(self):
        with h5py.File(self.path, "w") as file:
            write_header(file, self.dataset)
            for name in self.dataset.data_vars:
                array = self.dataset[name]
                if array.dims == ("time",):
                    file[name][:] = array.values

    def write(self, name, time, slab, values):
        array, index = self.place(name, time, slab)
        with h5py.File(self.path, "r+") as file:
            file[array][index] = self.stored(values)

    def read(self, name, time, slab):
        array, index = self.place(name, time, slab)
        with h5py.File(self.path, "r") as file:
            return self.restored(file[array][index], is_vector(self.dataset[name].dims))

    def digest(self):
        fields = {
            self.place(name, time, slice(None))[0]
            for name in field_variables(self.dataset)
            for time in range(self.dataset.sizes["time"])
        }
        digest = hashlib.sha256()

        def add(name: str, item) -> None:
            attrs = {key: repr(np.asarray(value).tolist()) for key, value in sorted(item.attrs.items())}
            shape = (item.shape, item.dtype.str) if isinstance(item, h5py.Dataset) else None
            digest.update(repr((name, attrs, shape)).encode())
            if shape is not None and name not in fields:
                digest.update(repr(np.asarray(item[()]).tolist()).encode())

        with h5py.File(self.path, "r") as file:
            add("/", file)
            file.visititems(add)
        return digest.hexdigest()

    def place(self, name: str, time: int, slab: slice) -> tuple[str, tuple]:
        """Path of the array that holds a slab, and the slab's index there."""
        return name, (time, ..., slab)

    def stored(self, values: np.ndarray) -> np.ndarray:
        """(component, x, y, z) or (x, y, z) in the file's order of axes."""
        return values

    def restored(self, values: np.ndarray, vector: bool) -> np.ndarray:
        """Back to (component, x, y, z), or (x, y, z)."""
        return values


@TARGETS.register("netcdf")
class NetcdfTarget(Hdf5Target):
    """NetCDF 4, through h5netcdf."""

    def lay_down(self):
        try:
            import h5netcdf
        except ImportError:
            raise FlowsrError("NetCDF is written by h5netcdf", expected="pip install h5netcdf") from None
        with h5netcdf.File(self.path, "w") as file:
            file.dimensions = {str(name): int(size) for name, size in self.dataset.sizes.items()}
            for name, coord in self.dataset.coords.items():
                text = coord.dtype.kind in "UT"
                stored = file.create_variable(str(name), coord.dims, h5py.string_dtype() if text else coord.dtype)
                stored[...] = coord.values.astype(object) if text else coord.values
                stored.attrs.update(_netcdf_attrs(coord.attrs))
            for name, array in self.dataset.data_vars.items():
                stored = file.create_variable(str(name), array.dims, array.dtype)
                stored.attrs.update(_netcdf_attrs(array.attrs))
                if array.dims == ("time",):
                    stored[...] = array.values
            file.attrs.update(_netcdf_attrs(self.dataset.attrs))
        with h5py.File(self.path, "r+") as file:
            for name in field_variables(self.dataset):  # the first value gives an array its whole place in the file
                file[name][(0,) * file[name].ndim] = 0


@TARGETS.register("jhtdb")
class CutoutTarget(Hdf5Target):
    """HDF5 as the Johns Hopkins Turbulence Databases write cutouts: ``velocity_0001`` (nz, ny, nx, 3), one a time."""

    def lay_down(self):
        grid = grid_of(self.dataset)
        with h5py.File(self.path, "w") as file:
            for name in SPACE:
                file[f"{name}coor"] = self.dataset[name].values
            times = self.dataset["time"].values
            file.attrs.update({"dataset": str(self.dataset.attrs.get("simulation", "flowsr")), "filterWidth": 1})
            file.attrs.update({"t_start": 1, "t_end": len(times), "t_step": 1, TIMES: times})
            for name, n in zip(SPACE, grid.shape):
                file.attrs.update({f"{name}_start": 1, f"{name}_end": n, f"{name}_step": 1})
            for name in field_variables(self.dataset):
                count = self.dataset[name].shape[1] if is_vector(self.dataset[name].dims) else 1
                for time in range(len(times)):
                    shape = (*grid.shape[::-1], count)
                    lay_down_array(file, self.place(name, time)[0], shape, self.dataset[name].dtype)
            write_own_words(file, self.dataset, self.names)

    @classmethod
    def left_out(cls, dataset):
        return _neither_scalar_nor_vector(dataset)

    @functools.cached_property
    def names(self) -> dict[str, str]:
        """Name in the file of each field: letters and underscores, no two the same in lower case."""
        fields = field_variables(self.dataset)
        found = {name: name for name in fields if re.fullmatch("[a-z]([a-z_]*[a-z])?", name)}
        for name in fields:
            fitted = re.sub("[^a-z]+", "_", name.lower()).strip("_") or "field"
            while name not in found and fitted in found.values():
                fitted += "_other"
            found.setdefault(name, fitted)
        return found

    def place(self, name, time, slab=slice(None)):
        return f"{self.names[name]}_{time + 1:04d}", (slab,)

    def stored(self, values):
        return (values if values.ndim == 4 else values[None]).T

    def restored(self, values, vector):
        return values.T if vector else values.T[0]


@TARGETS.register("well")
class WellTarget(Hdf5Target):
    """HDF5 as The Well has it: one trajectory, scalars in t0_fields and vectors in t1_fields."""

    def lay_down(self):
        with h5py.File(self.path, "w") as file:
            facts = {"dataset_name": "flowsr", "grid_type": "cartesian", "n_spatial_dims": 3, "n_trajectories": 1}
            file.attrs.update(facts)
            file.attrs["simulation_parameters"] = np.array([], dtype=h5py.string_dtype())
            for name in ("time", *SPACE):
                file[f"dimensions/{name}"] = self.dataset[name].values
                file[f"dimensions/{name}"].attrs.update({"sample_varying": False, "time_varying": name == "time"})
            file["dimensions"].attrs["spatial_dims"] = list(SPACE)
            for name, kind in zip(SPACE, grid_of(self.dataset).boundary):
                group = file.create_group(f"boundary_conditions/{name}_{kind}")
                group.attrs.update({"bc_type": kind.upper(), "associated_dims": [name], "associated_fields": []})
                group.attrs.update({"sample_varying": False, "time_varying": False})
            file.create_group("scalars").attrs["field_names"] = np.array([], dtype=h5py.string_dtype())
            for group in ("t0_fields", "t1_fields", "t2_fields"):
                names = [n for n in field_variables(self.dataset) if self._path(n).startswith(group)]
                file.create_group(group).attrs["field_names"] = np.array(names, dtype=h5py.string_dtype())
            for name in field_variables(self.dataset):
                array = self.dataset[name]
                sides = (1, array.sizes["time"], *array.shape[-3:], *([3] if is_vector(array.dims) else []))
                stored = lay_down_array(file, self._path(name), sides, array.dtype)
                stored.attrs.update({"sample_varying": True, "time_varying": True, "dim_varying": [True] * 3})
            write_own_words(file, self.dataset, {name: name for name in field_variables(self.dataset)})

    @classmethod
    def left_out(cls, dataset):
        return _neither_scalar_nor_vector(dataset)

    def place(self, name, time, slab):
        return self._path(name), (0, time, slice(None), slice(None), slab)

    def stored(self, values):
        return np.moveaxis(values, 0, -1) if values.ndim == 4 else values

    def restored(self, values, vector):
        return np.moveaxis(values, -1, 0) if vector else values

    def _path(self, name: str) -> str:
        return f"t{int(is_vector(self.dataset[name].dims))}_fields/{name}"


@TARGETS.register("vtk")
class VtkTarget(Target):
    """VTK's XML files with raw appended data, cell-centred: image data, or a rectilinear grid for stretched axes.

    VTK has one time a file, so the dataset must have one snapshot; see ``time`` of :func:`convert`. Attributes and the
    cell centres themselves go into a text beside the fields, so that flowsr reads back exactly what it wrote.
    """

    HEADER = 8  # VTK puts the length of each array, a UInt64, before it
    KINDS: ClassVar = {4: "Float32", 8: "Float64"}

    def __init__(self, path, dataset, target):
        super().__init__(path, dataset, target)
        refused = functools.partial(FlowsrError, file=target)
        if dataset.sizes["time"] != 1:
            where = {"variable": "time", "expected": 1, "found": dataset.sizes["time"]}
            raise refused("a VTK file holds one snapshot", **where, hint="name one with --time")
        self.grid = grid_of(dataset)
        self.names = field_variables(dataset)
        self.rectilinear = any(self.grid.stretched) or path.suffix == ".vtr"
        if any(self.grid.stretched) and path.suffix == ".vti":
            raise refused("image data have no stretched axes", expected="a name that ends in .vtr")
        self.head = self._xml()

    @classmethod
    def left_out(cls, dataset):
        kinds = {name: dataset[name].dtype for name in field_variables(dataset)}
        none = "VTK has no such numbers: expected float32 or float64, found"
        return {name: f"{none} {dtype}" for name, dtype in kinds.items() if dtype.itemsize not in cls.KINDS}

    def lay_down(self):
        with open(self.path, "wb") as file:
            file.write(self.head)
            file.truncate(len(self.head) + sum(self._bytes(n) + self.HEADER for n in self.names) + self._tail())
            for name in self.names:
                file.seek(self._start(name) - self.HEADER)
                file.write(np.uint64(self._bytes(name)).tobytes())
            file.seek(self._start(self.names[-1]) + self._bytes(self.names[-1]))
            for faces in self.grid.faces() if self.rectilinear else ():
                file.write(np.uint64(faces.nbytes).tobytes() + faces.astype("<f8").tobytes())
            file.write(b"\n</AppendedData></VTKFile>\n")

    def write(self, name, time, slab, values):
        with open(self.path, "r+b") as file:
            file.seek(self._start(name) + slab.start * self._plane(name))
            file.write(np.ascontiguousarray(values.T, dtype=values.dtype.newbyteorder("<")).tobytes())

    def read(self, name, time, slab):
        array, offset = self.dataset[name], self._start(name) + slab.start * self._plane(name)
        sides = (slab.stop - slab.start, *self.grid.shape[1::-1], *array.shape[1:-3])
        values = np.fromfile(self.path, array.dtype.newbyteorder("<"), int(np.prod(sides)), offset=offset)
        return values.reshape(sides).T

    def digest(self):
        digest = hashlib.sha256()
        with open(self.path, "rb") as file:
            for name in self.names:
                digest.update(file.read(self._start(name) - file.tell()))
                file.seek(self._bytes(name), os.SEEK_CUR)
            digest.update(file.read())
        return digest.hexdigest()

    def _plane(self, name: str) -> int:
        return self._bytes(name) // self.grid.shape[2]

    def _bytes(self, name: str) -> int:
        return int(np.prod(self.dataset[name].shape, dtype=object)) * self.dataset[name].dtype.itemsize

    def _start(self, name: str) -> int:
        before = self.names[: self.names.index(name)]
        return len(self.head) + sum(self._bytes(n) + self.HEADER for n in before) + self.HEADER

    def _tail(self) -> int:
        return sum(f.nbytes + self.HEADER for f in self.grid.faces()) if self.rectilinear else 0

    def _xml(self) -> bytes:
        extent = " ".join(f"0 {n}" for n in self.grid.shape)
        offset, arrays = 0, []
        for name in self.names:
            array = self.dataset[name]
            count = array.shape[1] if is_vector(array.dims) else 1
            arrays.append(
                f'<DataArray type="{self.KINDS[array.dtype.itemsize]}" Name={quoteattr(name)} '
                f'NumberOfComponents="{count}" '
                f'format="appended" offset="{offset}"/>'
            )
            offset += self._bytes(name) + self.HEADER
        cells = f"<CellData>{''.join(arrays)}</CellData>"
        if self.rectilinear:
            kind, where, axes = "RectilinearGrid", "", []
            for axis, faces in zip(SPACE, self.grid.faces()):
                axes.append(f'<DataArray type="Float64" Name="{axis}" format="appended" offset="{offset}"/>')
                offset += faces.nbytes + self.HEADER
            cells += f"<Coordinates>{''.join(axes)}</Coordinates>"
        else:
            spacing, origin = (" ".join(repr(v) for v in three) for three in (self.grid.spacing, self.grid.origin))
            kind, where = "ImageData", f' Origin="{origin}" Spacing="{spacing}"'
        return (
            f'<?xml version="1.0"?>\n<VTKFile type="{kind}" version="1.0" '
            f'byte_order="LittleEndian" header_type="UInt64">\n'
            f'<{kind} WholeExtent="{extent}"{where}>{self._field_data()}'
            f'<Piece Extent="{extent}">{cells}</Piece></{kind}>\n'
            f'<AppendedData encoding="raw">\n_'
        ).encode()

    def _field_data(self) -> str:
        coords = {str(k): {"values": c.values.tolist(), "attrs": dict(c.attrs)} for k, c in self.dataset.coords.items()}
        words = {
            "attrs": dict(self.dataset.attrs),
            "coordinates": coords,
            "variables": {name: dict(self.dataset[name].attrs) for name in self.names},
            "series": {
                str(name): {"values": array.values.tolist(), "attrs": dict(array.attrs)}
                for name, array in self.dataset.data_vars.items()
                if array.dims == SERIES_DIMS
            },
        }
        text = json.dumps(as_json(words)).encode("ascii")
        time = float(self.dataset["time"].values[0])
        return (
            '<FieldData><DataArray type="Float64" Name="TimeValue" NumberOfTuples="1" format="ascii">'
            f'{time!r}</DataArray><Array type="String" Name="{OWN_WORDS}" NumberOfTuples="1" format="ascii">'
            f"{' '.join(map(str, text))} 0</Array></FieldData>"
        )


def _neither_scalar_nor_vector(dataset: xr.Dataset) -> dict[str, str]:
    """The fields of other numbers of components than one and three."""
    others = [
        name for name in field_variables(dataset) if is_vector(dataset[name].dims) and dataset[name].shape[1] != 3
    ]
    return {name: f"{dataset[name].attrs['irreps']} is neither scalar nor vector" for name in others}


def _netcdf_attrs(attrs) -> dict:
    found = {str(name): plain(value) for name, value in attrs.items() if value is not None}
    return {name: int(value) if isinstance(value, bool) else value for name, value in found.items()}
