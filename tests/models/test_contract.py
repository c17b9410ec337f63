"""What every registered model owes its callers, asked of all of them alike."""

import copy

import pytest
import torch

from flowsr.data.scales import FieldScales
from flowsr.grid import Grid
from flowsr.models import MODELS, ModelCard, Task, build_model, load_model, save_model
from flowsr.models.base import trilinear
from flowsr.testing import check_model
from tests.models.build import model_of

#: The smallest network of each kind that has all of its parts.
SMALL = {
    "cnn": {"width": 3, "blocks": 1},
    "relaxed": {"channels": 1, "filter_banks": 2},
    "strict": {"channels": 1},
    "planewise": {"channels": 2},
    "paper_cnn": {"width": 3},
    "paper_relaxed": {"channels": 1, "filter_banks": 2},
    "paper_strict": {"channels": 1},
    "edsr": {"width": 3, "blocks": 2},
    "rcan": {"width": 4, "groups": 2, "blocks": 1},
    "rrdb": {"width": 3},
    "fno": {"width": 3, "layers": 2, "modes": 4},
    "e3nn": {"width": 2, "blocks": 2},
    "deconvolved": {"method": "van_cittert", "iterations": 2},
}
NAMES = sorted(MODELS)
TRAINED = [name for name in NAMES if MODELS[name].trainable]
SIDES = (4, 5, 6)
#: What a halo leaves out of a spline, and what single-precision tables leave of a transform.
INEXACT = {"tricubic": 1e-6, "fno": 1e-6}


def built(name, factor=2, **options):
    return model_of(name, factor, **{**SMALL.get(name, {}), **options})


def stirred(name, seed=0, **options):
    """All parameters random, none zero, in double precision."""
    torch.manual_seed(seed)
    model = built(name, **options).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


def field(sides=SIDES, components=3, seed=0):
    return torch.randn(2, components, *sides, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


#: Of factor 4 these are made of the same parts as of factor 2, in 5 s each.
LONG = {(4, "paper_relaxed"), (4, "paper_strict")}


@pytest.mark.parametrize(
    ("factor", "name"),
    [
        pytest.param(*each, marks=pytest.mark.slow if each in LONG else ())
        for each in ((factor, name) for factor in (2, 4) for name in NAMES)
    ],
)
def test_every_model_pays_what_it_owes(factor, name):
    """Shapes, precisions, walls, units, tiles and gradients."""
    check_model(built(name, factor), tolerance=INEXACT.get(name, 1e-12))


@pytest.mark.parametrize("name", TRAINED)
def test_training_starts_from_the_interpolation_and_moves_every_parameter(name):
    torch.manual_seed(0)
    fresh = built(name, scale=3.0)
    coarse = field().float()
    torch.testing.assert_close(fresh(coarse, Grid(SIDES)), trilinear(coarse, 2, ("periodic",) * 3), rtol=0, atol=1e-5)
    model = stirred(name)
    model(field(), Grid(SIDES)).square().mean().backward()
    trained = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
    assert not [key for key, gradient in trained.items() if gradient is None or not gradient.abs().max() > 0]


@pytest.mark.parametrize("name", TRAINED)
def test_one_step_of_a_fit_gains(name):
    """The gradient at the start, where most of a network is still silent, points somewhere useful."""
    torch.manual_seed(0)
    model = built(name)
    coarse = field().float()
    wanted = trilinear(coarse, 2, ("periodic",) * 3) + 0.1 * build_model("nearest", Task(2))(coarse, Grid(SIDES))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss = (model(coarse, Grid(SIDES)) - wanted).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_seeds_decide_everything(name):
    models = []
    for _ in range(2):
        torch.manual_seed(5)
        models.append(built(name))
    first, second = (model.state_dict() for model in models)
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    with torch.no_grad():
        assert torch.equal(*(model(field(), Grid(SIDES)) for model in models))


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_gives_the_same_field(name, tmp_path):
    model = stirred(name).float()
    before = copy.deepcopy(model.state_dict())
    save_model(tmp_path, model, ModelCard(name, Task(2), SMALL.get(name, {})))
    loaded = load_model(tmp_path)
    assert loaded.state_dict().keys() == before.keys() and all(torch.is_tensor(value) for value in before.values())
    with torch.no_grad():
        assert torch.equal(loaded(field().float(), Grid(SIDES)), model(field().float(), Grid(SIDES)))


@pytest.mark.parametrize("name", NAMES)
def test_several_frames_and_other_field_types(name):
    model = stirred(name, frames=3, irreps="0e")
    coarse = field(components=3)
    with torch.no_grad():
        fine = model(coarse, Grid(SIDES))
        assert fine.shape == (2, 1, *(2 * n for n in SIDES))
        earlier = coarse.clone()
        earlier[:, 0] += 1.0
        assert torch.equal(model(earlier, Grid(SIDES)), fine) is not model.trainable  # only networks look back


@pytest.mark.parametrize("name", NAMES)
def test_the_list_of_models_says_what_each_is(name):
    first = MODELS[name].__doc__.strip().splitlines()[0]
    assert 20 < len(first) <= 125 and first.endswith(".")
    with pytest.raises(ValueError, match="factor must be at least 1"):
        built(name, factor=0)


@pytest.mark.parametrize("name", TRAINED)
def test_the_stated_halo_is_no_more_than_the_reach(name):
    model = stirred(name)
    if model.halo is None:
        assert name in ("rcan", "fno")
        return
    sides = (2 * model.halo + 5, 3, 3)
    middle = model.halo + 2
    poked = field(sides)
    poked[:, :, middle] += 1.0
    grid = Grid(sides, boundary=("open", "periodic", "periodic"))
    with torch.no_grad():
        unit = FieldScales.unit(3)
        change = (model(poked, grid, unit) - model(field(sides), grid, unit)).abs().amax((0, 1, 3, 4))
    changed = torch.nonzero(change.reshape(-1, 2).amax(1) > 0).flatten()
    assert (changed - middle).abs().max() == model.halo


@pytest.mark.parametrize("name", TRAINED)
def test_half_the_digits_are_near_the_whole(name):
    """Mixed precision, as networks are fitted in on a GPU."""
    model, coarse = stirred(name).float(), field().float()
    with torch.no_grad():
        exact = model(coarse, Grid(SIDES))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed = model(coarse, Grid(SIDES))
    assert mixed.dtype == (torch.float32 if name == "fno" else torch.bfloat16)
    assert (mixed.float() - exact).norm() <= 0.05 * exact.norm()
