"""A periodic field far larger than memory: the first and the last tile wrap on three axes, and are eight pieces."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
import zarr

from flowsr.data.readers.lazy import LazyArray

SIDE = 4096

CHILD = """
import sys
from pathlib import Path
import numpy as np
from flowsr.data import grid_of, open_field
from flowsr.models import Task, build_model
from flowsr.upscale.tiles import spans

dataset = open_field(sys.argv[1])
grid, model = grid_of(dataset), build_model("trilinear", Task(2))
fine = model.upscale(dataset, tile=32).velocity[0]
for end in (0, -1):
    assert np.ptp(spans(grid.shape[0], 32, model.halo, "periodic")[end].cells) == grid.shape[0] - 1, "no wrap"
    part = slice(0, 64) if end == 0 else slice(-64, None)
    values = fine[:, part, part, part].values
    assert values.shape == (3, 64, 64, 64) and (values == 1).all()
lines = Path("/proc/self/status").read_text().splitlines()  # of this program alone: not of the one that started it
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) >> 10)
"""


def sparse_hdf5(path):
    with h5py.File(path, "w") as file:
        for axis, values in coordinates().items():
            file[axis] = values
        shape, chunks = (1, 3, SIDE, SIDE, SIDE), (1, 3, 64, 64, 64)
        file.create_dataset("velocity", shape, "f4", chunks=chunks, fillvalue=1)
        describe(file.attrs, file["velocity"].attrs)
        for axis, label in enumerate(("time", "component", "x", "y", "z")):
            file["velocity"].dims[axis].label = label


def sparse_zarr(path):
    group = zarr.create_group(path)
    for axis, values in coordinates().items():
        group.create_array(axis, data=values, dimension_names=(axis,))
    shape, chunks = (1, 3, SIDE, SIDE, SIDE), (1, 3, 64, 64, 64)
    dims = ("time", "component", "x", "y", "z")
    array = group.create_array(
        "velocity", shape=shape, chunks=chunks, dtype="f4", fill_value=1, dimension_names=dims, compressors=None
    )
    describe(group.attrs, array.attrs)


def coordinates():
    return {"time": np.zeros(1), **{axis: (np.arange(SIDE) + 0.5) / SIDE for axis in "xyz"}}


def describe(field, velocity):
    field["boundary"] = ["periodic"] * 3
    velocity["irreps"], velocity["units"] = "1o", "1"


@pytest.mark.parametrize("write", [sparse_hdf5, sparse_zarr])
def test_the_first_and_the_last_tile_of_4096_cubed_fit_in_memory(write, tmp_path):
    write(tmp_path / "field")
    ended = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path / "field")], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 2000


class Recorded(LazyArray):
    """An array that remembers what it was asked for."""

    def __init__(self, values):
        super().__init__(values.shape, values.dtype, "recorded", "velocity")
        self.values, self.asked = values, []

    def load(self, index):
        self.asked.append(self.values[index].size)
        return self.values[index]


@pytest.mark.parametrize(
    ("cells", "reads", "numbers"),
    [
        (([6, 7, 0, 1], [7, 0], [5, 6, 7, 0]), 8, 32),  # about the seam
        (([0, 1, 2], [7, 6, 5], [3]), 1, 9),
        (([6, 7, 0], slice(2, 7, 2), [1, 2]), 2, 18),
        (([0, 3, 5, 5], slice(None, None, -1), 4), 2, 8 + 24),  # 0, then 3 to 5: one list with holes and repetition
        (([], [1, 2], [3]), 0, 0),
    ],
)
def test_lists_of_cells_are_read_as_two_stretches_an_axis(cells, reads, numbers):
    values = np.arange(512.0).reshape(8, 8, 8)
    lazy = Recorded(values)
    index = [np.array(c, dtype=int) if isinstance(c, list) else c for c in cells]
    got = lazy.as_variable(("x", "y", "z"))[tuple(index)].values
    expected = values
    for axis, chosen in reversed(list(enumerate(index))):
        expected = expected[(slice(None),) * axis + (chosen,)]
    np.testing.assert_array_equal(got, expected)
    assert sum(map(bool, lazy.asked)) == reads and sum(lazy.asked) == numbers
