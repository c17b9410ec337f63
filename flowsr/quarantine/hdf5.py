"""A stranger's HDF5 file: the way to an array without leaving the file, and its chunks unpacked within bounds.

HDF5 unpacks whatever a chunk holds, gigabytes of a few kilobytes. What most files are packed with, deflate and shuffle,
is unpacked here, into as much as a chunk holds and no more; other filters are left to the library, in the disposable
process.
"""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path

import h5py
import numpy as np

from flowsr.errors import UnknownName, Unreadable, require
from flowsr.quarantine import PATIENCE, first_look
from flowsr.quarantine.unpack import unpack

Index = tuple[int | slice, ...]
# Soft links that lead to one another.
MOST_LINKS = 32
# Seconds after which the first look at a file is enough, and objects of it.
ENOUGH = 0.2
MOST_OBJECTS = 10_000
# Of a chunk that does not get smaller, deflate adds this share, and this many bytes.
SLACK, LITTLE = 64, 4096
# Beyond the values that are asked for, what the disposable process may take to read them.
ROOM = 1 << 30
# What texts, references and attributes may take to be read: where they lie in the file, a number there says how much.
ROOM_OF_TEXT = 1 << 28
# Texts of an array that are all read at the first look.
MANY_TEXTS = 10_000
#: Filters that are taken off here, in the order in which they were put on.
OURS = ([h5py.h5z.FILTER_DEFLATE], [h5py.h5z.FILTER_SHUFFLE], [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE])


def node_at(file: h5py.File, inner: str, path: Path):
    """A group or dataset of an open file, by a path along which nothing leads out of the file.

    The library is never asked to follow a link: it would open what another file's name stands for.

    Raises:
        UnknownName: nothing there.
        FlowsrError: a link into another file, or links that lead to each other.
    """
    return file[_resolved(file, inner, path, inner)]


def items_of(node: h5py.Group, path: Path) -> dict[str, h5py.Group | h5py.Dataset]:
    """What is in a group by name, without links that lead to nothing.

    Raises:
        FlowsrError: a link into another file, or links that lead to each other.
    """
    found = {}
    for name in node:
        with suppress(UnknownName):
            found[name] = node_at(node.file, f"{node.name}/{name}", path)
    return found


def _resolved(file: h5py.File, inner: str, path: Path, name: str, left: int = MOST_LINKS) -> str:
    """The path of an object along hard links alone."""
    where, place = {"file": path, "variable": name}, "/"
    parts = [part for part in inner.split("/") if part not in ("", ".")]
    for number, part in enumerate(parts):
        node = file[place]
        link = node.get(part, getlink=True) if isinstance(node, h5py.Group) else None
        inside = not isinstance(link, h5py.ExternalLink)
        require(inside, "a link into another file", **where, expected="data in this file")
        if isinstance(link, h5py.SoftLink):
            require(left > 0, "links that lead to each other", **where, expected="data in this file")
            target = link.path if link.path.startswith("/") else f"{place}/{link.path}"
            return _resolved(file, "/".join([target, *parts[number + 1 :]]), path, name, left - 1)
        if not isinstance(link, h5py.HardLink):
            found = ", ".join(node) if isinstance(node, h5py.Group) else "an array"
            raise UnknownName("no such array", **where, found=found or "nothing")
        place = f"{place.rstrip('/')}/{part}"
    return place


def dataset_at(file: h5py.File, inner: str, path: Path) -> h5py.Dataset:
    """A dataset of an open file, by a path along which nothing leads out of the file.

    Raises:
        FlowsrError: no such array, a link into another file, or numbers that are kept in another.
    """
    node = node_at(file, inner, path)
    require(isinstance(node, h5py.Dataset), "no such array", file=path, variable=inner, found="a group")
    return check_inside(node, path)


def check_inside(item: h5py.Dataset, path: Path) -> h5py.Dataset:
    """The dataset, if its numbers are in its file.

    Raises:
        FlowsrError: they are in another.
    """
    plist = item.id.get_create_plist()
    inside = plist.get_layout() != h5py.h5d.VIRTUAL and not plist.get_external_count()
    require(inside, "its numbers are in another file", file=path, variable=item.name, expected="data in this file")
    return item


def read(item: h5py.Dataset, index: Index, path: Path) -> np.ndarray:
    """The values at ``index`` of a dataset that was found by :func:`dataset_at`.

    Args:
        index: an integer, or a slice of positive step, an axis.

    Raises:
        FlowsrError: a chunk that is damaged, or of which more comes out than it holds.
    """
    plist = item.id.get_create_plist()
    filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    if plist.get_layout() != h5py.h5d.CHUNKED or not filters:
        return item[index]
    cells = [range(n)[part] for part, n in zip(index, item.shape)]
    wanted = [part if isinstance(part, range) else range(part, part + 1) for part in cells]
    same = item.dtype.kind in "fiu" and h5py.h5t.py_create(item.dtype) == item.id.get_type()
    if same and filters in OURS:
        found = _unpacked(item, wanted, filters, path)
    else:
        room = ROOM + 4 * item.dtype.itemsize * (math.prod(map(len, wanted)) + math.prod(item.chunks))
        asked = [[part.start, part.stop, part.step] for part in wanted]
        found = first_look(path, "flowsr.quarantine.hdf5:values", item.name, asked, processor=PATIENCE, memory=room)
    return found[tuple(slice(None) if isinstance(part, slice) else 0 for part in index)]


def values(path: str, name: str, asked: list[list[int]]) -> np.ndarray:
    """The values of a dataset at slices, each first, stop and step, by the library. For the disposable process."""
    with h5py.File(path, "r") as file:
        return np.asarray(dataset_at(file, name, Path(path))[tuple(slice(*part) for part in asked)])


def _unpacked(item: h5py.Dataset, wanted: list[range], filters: list[int], path: Path) -> np.ndarray:
    """The values of some cells an axis, from chunks that are read as they are stored."""
    chunk = item.chunks
    size, out = item.dtype.itemsize * math.prod(chunk), np.empty([len(cells) for cells in wanted], item.dtype)
    buffer = bytearray(size + size // SLACK + LITTLE)
    for pieces in product(*(list(_pieces(cells, side)) for cells, side in zip(wanted, chunk))):
        place = tuple(number * side for (number, _, _), side in zip(pieces, chunk))
        to = tuple(to for _, _, to in pieces)
        try:
            stored = _stored(item, place, buffer)
            if stored is None:
                out[to] = item.fillvalue
                continue
            content = _through(filters, *stored, size, item.dtype.itemsize)
        except ValueError as error:
            where = {"file": path, "variable": item.name, "found": f"chunk at {place}: {error}"}
            raise Unreadable("damaged or not readable", **where) from None
        out[to] = np.frombuffer(content, item.dtype).reshape(chunk)[tuple(inside for _, inside, _ in pieces)]
    return out


def _pieces(cells: range, side: int) -> Iterator[tuple[int, slice, slice]]:
    """Which chunks along an axis hold some of the cells: number, the cells in the chunk, and where they go."""
    done = 0
    while done < len(cells):
        number = cells[done] // side
        count = len(range(cells[done], min((number + 1) * side, cells.stop), cells.step))
        first = cells[done] - number * side
        last = first + (count - 1) * cells.step + 1
        yield number, slice(first, last, cells.step), slice(done, done + count)
        done += count


def _stored(item: h5py.Dataset, place: tuple[int, ...], buffer: bytearray) -> tuple[int, bytes] | None:
    """Which filters a chunk went without, and its bytes; None of one that was never written.

    Raises:
        ValueError: more bytes than the buffer takes.
    """
    try:
        mask, content = item.id.read_direct_chunk(place, out=buffer)
    except Exception:  # the library's only answer to a chunk that is not there; to ask for it first is slow
        if item.id.get_chunk_info_by_coord(place).byte_offset is None:
            return None
        raise
    return mask, bytes(content)


def _through(filters: list[int], mask: int, content: bytes, size: int, width: int) -> bytes | np.ndarray:
    """A chunk's bytes, its filters taken off.

    Raises:
        ValueError: not as many as it holds.
    """
    for number, kind in reversed(list(enumerate(filters))):
        if mask >> number & 1:
            continue
        if kind == h5py.h5z.FILTER_DEFLATE:
            content = unpack("zlib", content, size)
        elif len(content) == size:
            content = np.ascontiguousarray(np.frombuffer(content, "u1").reshape(width, -1).T)
    found = content.nbytes if isinstance(content, np.ndarray) else len(content)
    if found != size:
        raise ValueError(f"unpacks to {found} bytes, expected {size}")
    return content


def meet(path: str) -> None:
    """Look at every object of a file, as long as it does not take long, and read values of each kind of array.

    For the disposable process: what is damaged is passed over, for whoever reads it to say so.
    """
    end, kinds, seen = time.monotonic() + ENOUGH, set(), 0
    with h5py.File(path, "r") as file:
        waiting = [file["/"]]
        met = {h5py.h5o.get_info(file.id).addr}
        while waiting and seen < MOST_OBJECTS and time.monotonic() < end:
            node = waiting.pop(0)
            seen += 1
            _attributes(node)
            if isinstance(node, h5py.Dataset):
                try:
                    _values(node, kinds, Path(path))
                except MemoryError:
                    raise
                except Exception:
                    pass
                continue
            with suppress(Exception):
                for name in node:
                    with suppress(Exception):
                        hard = isinstance(node.get(name, getlink=True), h5py.HardLink)
                        item = node[name] if hard and len(waiting) < MOST_OBJECTS else None
                        if item is not None and (address := h5py.h5o.get_info(item.id).addr) not in met:
                            met.add(address)
                            waiting.append(item)


def _attributes(node) -> None:
    """All attributes of a node.

    Raises:
        MemoryError: one for which there is no room.
    """
    for name in _names(node):
        with _bounded():
            value = node.attrs[name]
            for reference in np.ravel(value)[:8] if name == "DIMENSION_LIST" else ():
                _ = node.file[reference[0]].name


@contextmanager
def _bounded() -> Iterator[None]:
    """Read what has no size of its own, with little memory; what is damaged is passed over.

    Raises:
        MemoryError: there is no room for it.
    """
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM_OF_TEXT, hard))
    try:
        yield
    except Exception as error:  # HDF5 says in its own words that there is no room
        if isinstance(error, MemoryError) or ("alloc" in str(error) and "past end" not in str(error)):
            raise MemoryError from None
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def _names(node) -> list[str]:
    with suppress(Exception):
        return list(node.attrs)
    return []


def _values(item: h5py.Dataset, kinds: set, path: Path) -> None:
    """Values of the first and the last chunk, if it is the first array of its kind; texts of every array.

    Raises:
        MemoryError: texts for which there is no room.
    """
    check_inside(item, path)
    plist = item.id.get_create_plist()
    filters = tuple(plist.get_filter(number)[:3] for number in range(plist.get_nfilters()))
    kind = (str(item.dtype), plist.get_layout(), filters, item.ndim)
    _ = item.fillvalue, item.chunks, item.maxshape
    if item.dtype.hasobject and item.size <= MANY_TEXTS:
        with _bounded():
            _ = item[...]
        return
    if kind in kinds or not all(item.shape or ()):
        return
    kinds.add(kind)
    for corner in (0, -1):
        with suppress(Exception):
            item[tuple(n + corner if corner else 0 for n in item.shape)]
