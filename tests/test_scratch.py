import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowsr import scratch
from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.metrics.scales import spectral_moments, streamed_moments
from flowsr.scratch import Scratch, axis_by_axis, pencils


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_box_of_a_scratch_file_is_that_of_the_array(data):
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    values = np.random.default_rng(0).normal(size=shape)

    def box():
        ends = [sorted(data.draw(st.tuples(st.integers(0, n - 1), st.integers(1, n)))) for n in shape]
        return tuple(slice(a, max(b, a + 1)) for a, b in ends)

    file = Scratch(shape, float)
    file.write(tuple(slice(0, n) for n in shape), values)
    for _ in range(3):
        place = box()
        values[place] += 1
        file.write(place, values[place])
        np.testing.assert_array_equal(file.read(place), values[place])
    np.testing.assert_array_equal(file.read(tuple(slice(0, n) for n in shape)), values)


@pytest.mark.parametrize("shape", [(7, 5, 9), (200, 130, 512), (20, 20, 4096), (161, 161, 162)])
def test_pencils_divide_the_box_and_are_as_long_as_it(shape):
    boxes = pencils(shape)
    assert (
        len(boxes) == 1 or max((x.stop - x.start) * (y.stop - y.start) * shape[2] for x, y, _ in boxes) <= scratch.WHOLE
    )
    seen = np.zeros(shape[:2], int)
    for x, y, z in boxes:
        seen[x, y] += 1
        assert z == slice(0, shape[2])
    assert (seen == 1).all()


@pytest.fixture
def nothing_fits(monkeypatch):
    monkeypatch.setattr(scratch, "WHOLE", 0)
    monkeypatch.setattr(scratch, "PENCIL", 4)
    monkeypatch.setattr(scratch, "SLAB", 1)


def test_lines_turned_through_the_disk_are_those_of_memory(nothing_fits, tmp_path):
    field = np.random.default_rng(1).normal(size=(3, 6, 10, 8))
    told = []

    def halved(values, axis):
        return np.add.reduceat(values, range(0, values.shape[axis], 2), axis=axis)

    found = np.empty((3, 3, 5, 4))
    for component, y, values in axis_by_axis(lambda box: field[(..., *box)], (6, 10, 8), halved, tmp_path, told.append):
        found[component][:, y] = values
    np.testing.assert_allclose(found, field.reshape(3, 3, 2, 5, 2, 4, 2).sum((2, 4, 6)), atol=1e-14)
    assert told == sorted(told) and told[-1] == 1.0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(8, 4, 12), (5, 6, 7)])
def test_moments_through_the_disk_are_those_of_memory(nothing_fits, tmp_path, shape):
    velocity, grid = np.random.default_rng(2).normal(1.0, size=(3, *shape)).astype("f4"), Grid(shape, (0.5, 0.1, 0.3))
    whole = spectral_moments(velocity, grid)
    streamed = streamed_moments(lambda box: velocity[(..., *box)], grid, tmp_path)
    for name, value in vars(whole).items():
        assert getattr(streamed, name) == pytest.approx(value, rel=1e-14)


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(FlowsrError, match=r"no room .* expected: 8e\+09 GB free; found: .* GB"):
        Scratch((10**18,), float, tmp_path / "not" / "there")
