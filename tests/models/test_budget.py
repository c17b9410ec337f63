"""What networks cost, against counts by hand."""

import math

import pytest
import torch

from flowsr.grid import Grid
from flowsr.models import Task, Upscaler, build_model
from flowsr.models.budget import matching_width, multiply_adds

BOX = Grid((5, 6, 8))
CELLS = 5 * 6 * 8


def test_a_plain_network_by_hand():
    model = build_model("cnn", Task(3), width=4, blocks=2)
    taps = 27 * (3 * 4 + 4 * 4 * 4 + 4 * 3 * 27)
    assert multiply_adds(model, BOX) == taps * CELLS


def test_a_group_network_by_hand_and_by_its_cheaper_kernel():
    model = build_model("strict", Task(2), group="O", channels=2, blocks=1)
    taps = 27 * (3 * 48 + 2 * 48 * 48 + 48 * 3 * 8)
    assert multiply_adds(model, BOX) == taps * CELLS
    assert multiply_adds(model, BOX, kernel="fourier") < 0.6 * taps * CELLS


def test_transposed_convolutions_count_what_reaches_the_result():
    model = build_model("paper_cnn", Task(2), width=4, blocks=1)
    coarse = 27 * (3 * 4 + 2 * 4 * 4)
    fine = 8 * 4 * 4 + 27 * 4 * 3  # 4^3 taps in steps of two: 8 at every cell
    assert multiply_adds(model, BOX) == (coarse + 8 * fine) * CELLS


def test_boundaries_are_free_and_boxes_count_by_their_cells():
    small = {"edsr": {"width": 3, "blocks": 1}, "e3nn": {"width": 1}, "paper_strict": {"channels": 1}}
    for name, options in small.items():
        model = build_model(name, Task(2), **options)
        count = multiply_adds(model, BOX)
        assert count == multiply_adds(model, Grid(BOX.shape, boundary=("wall",) * 3))
        large = multiply_adds(model, Grid((64, 48, 32)))
        assert large / count == pytest.approx(64 * 48 * 32 / CELLS, rel=0.02)  # e3nn also makes its filters, once


def test_fourier_layers_count_complex_products_as_four():
    model = build_model("fno", Task(2), width=4, layers=2, modes=4)
    kept = 4 * 4 * 3
    narrow = multiply_adds(model, BOX)
    pointwise = CELLS * (3 * 8 + 8 * 4 + 2 * (4 * 4 + 4 * 2 + 2 * 4) + 4 * 8 + 8 * 3 * 8)
    transforms = 2 * 2 * 4 * int(2.5 * CELLS * math.log2(CELLS)) / 2
    assert narrow == pytest.approx(pointwise + transforms + 2 * 4 * kept * 4 * 4, rel=1e-3)


def test_interpolations_multiply_nothing_but_spectra():
    for name in ("nearest", "trilinear", "tricubic"):
        assert multiply_adds(build_model(name, Task(2)), BOX) == 0
    assert multiply_adds(build_model("spectral", Task(2)), BOX) > 0


@pytest.mark.parametrize("complex_too", [False, True])
def test_transforms_by_the_formula(complex_too):
    class Transformed(Upscaler):
        halo = None

        def forward(self, coarse, grid):
            modes = torch.fft.fftn(coarse, dim=(2, 3, 4)) if complex_too else torch.fft.rfftn(coarse, dim=(2, 3, 4))
            return modes.real

    operations = 3 * 512 * 9 * (5 if complex_too else 2.5)
    assert multiply_adds(Transformed(Task(1)), Grid((8, 8, 8))) == operations // 2


def test_the_model_is_left_as_it_was():
    model = build_model("relaxed", Task(2), channels=1).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    multiply_adds(model, BOX)
    assert model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_widths_matched_by_work_instead_of_parameters():
    wanted = multiply_adds(build_model("strict", Task(2), channels=1), BOX)

    def build(width):
        return build_model("cnn", Task(2), width=width)

    def work(model):
        return multiply_adds(model, BOX)

    width = matching_width(build, wanted, cost=work)
    assert abs(work(build(width)) - wanted) == min(abs(work(build(w)) - wanted) for w in range(width - 2, width + 3))
    assert width > matching_width(build, build_model("strict", Task(2), channels=1).parameter_count)
