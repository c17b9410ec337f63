"""Fields too large for memory: boxes of them one after another, and what needs whole lines of them through the disk."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import product
from pathlib import Path

import numpy as np

from flowsr.errors import FlowsrError
from flowsr.files import naming

#: A snapshot of no more cells is taken whole, a larger one in boxes of no more cells.
WHOLE = 1 << 22
#: Cells along x and y of such a box, at most: a chunk of a store.
PENCIL = 64
#: Bytes that are worked on at once.
SLAB = 1 << 26

Box = tuple[slice, slice, slice]


def pencils(shape: Sequence[int]) -> list[Box]:
    """Boxes that divide a snapshot of cells (x, y, z), each as long as the box along z; a small one is one box."""
    nx, ny, nz = shape
    if nx * ny * nz <= WHOLE:
        return [(slice(0, nx), slice(0, ny), slice(0, nz))]
    side = PENCIL
    while side > 1 and side * side * nz > WHOLE:
        side //= 2
    ends = ([slice(start, min(start + side, n)) for start in range(0, n, side)] for n in (nx, ny))
    return [(x, y, slice(0, nz)) for x, y in product(*ends)]


def check_room(size: int, folder: Path | None = None) -> Path:
    """The folder for so many bytes that are worked on; see :class:`Scratch`.

    Raises:
        FlowsrError: the disk has no room for them.
    """
    folder = Path(folder or tempfile.gettempdir()).absolute()
    folder = next(each for each in (folder, *folder.parents) if each.is_dir())
    free = shutil.disk_usage(folder).free
    if size > free:
        where = {"file": folder, "expected": f"{size / 1e9:.3g} GB free", "found": f"{free / 1e9:.3g} GB"}
        raise FlowsrError("no room for a field that is worked on through the disk", **where)
    return folder


class Scratch:
    """An array in a file without a name, which is gone with its last user, however that ends.

    Args:
        shape, dtype: of the array.
        folder: on the disk to use, or one that will be there; default: where the system keeps temporary files
            (``TMPDIR``).

    Raises:
        FlowsrError: the disk has no room for it.
    """

    def __init__(self, shape: Sequence[int], dtype, folder: Path | None = None):
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self.folder = check_room(self.dtype.itemsize * math.prod(self.shape), folder)
        with naming(self.folder):
            self._file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115

    def write(self, box: Sequence[slice], values: np.ndarray) -> None:
        """Write a box, a slice of step one along each axis."""
        offsets, length = self._runs(box)
        rows = np.ascontiguousarray(values, dtype=self.dtype).reshape(len(offsets), length).view(np.uint8)
        with naming(self.folder):
            for offset, row in zip(offsets, rows):
                done = 0
                while done < len(row):
                    done += os.pwrite(self._file.fileno(), row[done:], offset + done)

    def read(self, box: Sequence[slice]) -> np.ndarray:
        """A box, a slice of step one along each axis."""
        offsets, length = self._runs(box)
        rows = np.empty((len(offsets), length), self.dtype)
        with naming(self.folder):
            for offset, row in zip(offsets, rows.view(np.uint8)):
                done = 0
                while done < len(row) and (read := os.preadv(self._file.fileno(), [row[done:]], offset + done)):
                    done += read
        return rows.reshape([part.stop - part.start for part in box])

    def _runs(self, box: Sequence[slice]) -> tuple[list[int], int]:
        """Where each contiguous run of a box begins in the file, in bytes, and the values in it."""
        axis, inner = len(self.shape) - 1, 1
        while axis > 0 and box[axis] == slice(0, self.shape[axis]):
            inner *= self.shape[axis]
            axis -= 1
        sizes = [self.dtype.itemsize * math.prod(self.shape[n + 1 :]) for n in range(axis + 1)]
        starts = [np.arange(part.start, part.stop) * size for part, size in zip(box[:axis], sizes)]
        first = np.array(box[axis].start * sizes[axis])
        return reduce(np.add.outer, starts, first).ravel().tolist(), (box[axis].stop - box[axis].start) * inner


def axis_by_axis(
    read: Callable[[Box], np.ndarray],
    shape: Sequence[int],
    along: Callable[[np.ndarray, int], np.ndarray],
    folder: Path | None = None,
    done: Callable[[float], None] = lambda fraction: None,
) -> Iterator[tuple[int, slice, np.ndarray]]:
    """A function of whole lines applied along z, then y, then x of a field that memory does not hold.

    Args:
        read: gives the (component, x, y, z) values of a box.
        shape: cells of the field along x, y, z.
        along: takes values and an axis of them, -1 for z, -2 for y, -3 for x, and gives values of another length along
            it.
        folder: for the files in which the lines are turned; see :class:`Scratch`.
        done: told the fraction of the work that is done.

    Yields:
        A component's number, cells of the result along y, and the result there (x, y, z).
    """
    boxes = pencils(shape)
    for number, box in enumerate(boxes):
        values = along(read(box), -1)
        if number == 0:
            count, depth = len(values), values.shape[-1]
            whole = slice(0, count), slice(0, shape[0]), slice(0, shape[1]), slice(0, depth)
            lines = turned = Scratch((count, *shape[:2], depth), values.dtype, folder)
        lines.write((whole[0], *box[:2], whole[3]), values)
        done((number + 1) / len(boxes) / 2)
    planes = list(product(range(count), range(shape[0])))
    for number, (component, x) in enumerate(planes):
        place = slice(component, component + 1), slice(x, x + 1)
        values = along(lines.read((*place, *whole[2:])), -2)
        if number == 0 and values.shape[-2] != shape[1]:
            turned = Scratch((count, shape[0], values.shape[-2], depth), values.dtype, folder)
        turned.write((*place, slice(0, values.shape[-2]), whole[3]), values)
        done(0.5 + (number + 1) / len(planes) / 4)
    height = turned.shape[2]
    width = max(1, SLAB // (turned.dtype.itemsize * shape[0] * depth))
    slabs = list(product(range(count), (slice(start, min(start + width, height)) for start in range(0, height, width))))
    for number, (component, y) in enumerate(slabs):
        values = turned.read((slice(component, component + 1), whole[1], y, whole[3]))
        yield component, y, along(values, -3)[0]
        done(0.75 + (number + 1) / len(slabs) / 4)
