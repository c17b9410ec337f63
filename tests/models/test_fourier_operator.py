"""The Fourier neural operator behind our call: translations, spectra, weights that can be saved, no library."""

import sys

import pytest
import torch

from flowsr.errors import FlowsrError
from flowsr.grid import Grid
from flowsr.models import Task, build_model
from tests.models.build import model_of

BOX = Grid((6, 4, 5))


def stirred(**options):
    torch.manual_seed(0)
    model = model_of("fno", **{"width": 4, "layers": 2, "modes": 4, **options}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def shift_error(model):
    coarse = torch.randn(1, 3, *BOX.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        fine = model(coarse, BOX)
        shifted = model(coarse.roll((1, 2, -1), (2, 3, 4)), BOX)
    return ((shifted - fine.roll((2, 4, -2), (2, 3, 4))).norm() / fine.norm()).item()


def test_translations_are_commuted_with_unless_it_knows_the_coordinates():
    assert shift_error(stirred()) < 1e-5
    assert shift_error(stirred(coordinates=True)) > 1e-3


def test_complex_weights_count_twice_and_follow_every_change_of_precision():
    model = stirred()
    spectral = 2 * 4 * 4 * 4 * 4 * 3  # layers, channels in and out, modes; the half of z that a real field needs
    others = sum(p.numel() for p in model.parameters() if not p.is_complex())
    assert model.parameter_count == 2 * spectral + others
    coarse = torch.randn(1, 3, *BOX.shape)
    with torch.no_grad():
        fine = model(coarse, BOX)
        in_double = model.double()(coarse.double(), BOX)
        assert in_double.dtype == torch.float64 and (in_double - fine).norm() < 1e-5 * fine.norm()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert (model.float()(coarse, BOX).float() - fine).norm() < 1e-2 * fine.norm()


def test_more_modes_than_cells_are_left_out():
    with torch.no_grad():
        assert torch.isfinite(stirred(modes=12)(torch.randn(1, 3, *BOX.shape), BOX)).all()


def test_only_tensors_are_saved():
    state = stirred().state_dict()
    assert all(torch.is_tensor(value) for value in state.values())
    other = build_model("fno", Task(2), width=4, layers=2, modes=4)
    other.load_state_dict(state)
    coarse = torch.randn(1, 3, *BOX.shape)
    with torch.no_grad():
        assert torch.equal(other(coarse, BOX), stirred()(coarse, BOX))


def test_walls_are_refused():
    with pytest.raises(ValueError, match="needs a periodic box"):
        stirred()(torch.randn(1, 3, *BOX.shape), Grid(BOX.shape, boundary=("wall", "periodic", "periodic")))


@pytest.mark.parametrize("bad", ["width", "layers", "modes"])
def test_sizes_that_make_no_operator_are_refused_by_name(bad):
    with pytest.raises(ValueError, match=f"{bad} must be at least 1, got 0"):
        build_model("fno", Task(2), **{bad: 0})


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    """It is looked for when such a model is built, not before."""
    monkeypatch.setitem(sys.modules, "neuralop.models", None)
    monkeypatch.setitem(sys.modules, "neuralop", None)
    with pytest.raises(FlowsrError, match=r"pip install 'flowsr\[baselines\]'") as error:
        build_model("fno", Task(2))
    assert "\n" not in str(error.value)
