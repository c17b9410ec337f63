"""Networks as a whole: exactly equivariant until trained, honest about their reach, safe on disk."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from flowsr.errors import FlowsrError
from flowsr.files import file_checksum
from flowsr.grid import Grid
from flowsr.group import octahedral_group
from flowsr.group.fields import transform_field
from flowsr.models import ModelCard, Task, build_model, load_model, read_card, relaxed_weights, save_model
from flowsr.models.budget import matching_width
from flowsr.nn import subvoxels_to_space
from tests.models.build import model_of

SIDES = (4, 5, 6)
WALLS = ("wall", "wall", "wall")


def stirred(name, seed=0, **options):
    """A network with every parameter random but the relaxed weights, in float64."""
    torch.manual_seed(seed)
    model = model_of(name, scale=0.7, **options).double().eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if not key.endswith("relaxed_weights"):
                parameter.normal_(std=0.2)
    return model


def equivariance_errors(model, boundary=None, irreps="1o", components=3):
    group = octahedral_group("O" if model.group.name == "O" else "Oh")
    coarse = torch.randn(1, components, *SIDES, dtype=torch.float64)
    boundary = boundary or ("periodic",) * 3
    with torch.no_grad():
        fine = model(coarse, Grid(SIDES, boundary=boundary))
        for element in range(group.order):
            transformed = transform_field(coarse, element, irreps, group)
            expected = transform_field(fine, element, irreps, group)
            got = model(transformed, Grid(transformed.shape[-3:], boundary=boundary))
            yield ((got - expected).norm() / fine.norm()).item()


@pytest.mark.parametrize("name", ["strict", "relaxed"])
@pytest.mark.parametrize("group", ["O", "Oh"])
@pytest.mark.parametrize("boundary", [None, WALLS])
def test_untrained_networks_commute_with_every_element(name, group, boundary):
    model = stirred(name, group=group, channels=1, filter_banks=2)
    assert max(equivariance_errors(model, boundary)) <= 1e-10


@pytest.mark.parametrize(("irreps", "components"), [("0e", 1), ("1o+0e", 4), ("2e", 5)])
def test_other_field_types_commute_too(irreps, components):
    model = stirred("relaxed", group="Oh", channels=1, irreps=irreps)
    assert max(equivariance_errors(model, irreps=irreps, components=components)) <= 1e-10


def test_relaxed_weights_that_differ_break_the_symmetry_by_as_much():
    model = stirred("relaxed", group="O", channels=2)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("relaxed_weights"):
                parameter += 1e-3 * torch.randn_like(parameter)
    assert 1e-4 < max(equivariance_errors(model)) < 1e-2


def test_strict_is_relaxed_with_its_weights_frozen():
    strict, relaxed = stirred("strict", channels=2), stirred("relaxed", channels=2)
    strict.load_state_dict(relaxed.state_dict())
    coarse = torch.randn(1, 3, *SIDES, dtype=torch.float64)
    assert torch.equal(strict(coarse, Grid(SIDES)), relaxed(coarse, Grid(SIDES)))
    assert not any(p.requires_grad for k, p in strict.named_parameters() if k.endswith("relaxed_weights"))
    assert relaxed.parameter_count - strict.parameter_count == sum(w.numel() for w in relaxed_weights(relaxed).values())


@pytest.mark.parametrize("name", ["strict", "relaxed", "cnn"])
def test_training_starts_from_the_interpolation(name):
    coarse = torch.randn(2, 3, *SIDES)
    start = build_model(name, Task(3, scale=2.0))(coarse, Grid(SIDES))
    torch.testing.assert_close(start, build_model("trilinear", Task(3))(coarse, Grid(SIDES)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["strict", "cnn"])
def test_halo_is_the_reach_of_the_network_and_no_more(name):
    model = stirred(name, blocks=1, **({"channels": 1} if name == "strict" else {"width": 3}))
    sides = (2 * model.halo + 3, 3, 3)
    grid, middle = Grid(sides, boundary=("open", "periodic", "periodic")), model.halo + 1
    coarse = torch.randn(1, 3, *sides, dtype=torch.float64)
    poked = coarse.clone()
    poked[:, :, middle] += 1.0
    with torch.no_grad():
        changed = (model(poked, grid) - model(coarse, grid)).abs().amax((0, 1, 3, 4)).reshape(-1, 2).amax(1)
    reached = torch.nonzero(changed > 1e-14).flatten()
    assert (reached - middle).abs().max() == model.halo


def test_subvoxels_go_to_their_places():
    features = torch.arange(2 * 8, dtype=torch.float64).reshape(1, 16, 1, 1, 1)
    fine = subvoxels_to_space(features.unflatten(1, (-1, 8)), 2)
    assert fine.shape == (1, 2, 2, 2, 2)
    assert fine[0, 1, 1, 0, 1] == 8 + 0b101


@pytest.mark.parametrize("target", [20_000, 41_904, 100_000])
def test_matched_budgets_are_as_near_as_widths_allow(target):
    def count(width):
        return build_model("cnn", Task(4), width=width).parameter_count

    width = matching_width(lambda w: build_model("cnn", Task(4), width=w), target)
    assert abs(count(width) - target) == min(abs(count(w) - target) for w in range(1, 40))


def test_saved_and_loaded_models_are_the_same(tmp_path):
    card = ModelCard("relaxed", Task(2, scale=0.5), {"channels": 1, "group": "O"}, {"seed": 1})
    model = card.build()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    save_model(tmp_path, model, card)
    assert read_card(tmp_path) == card
    loaded = load_model(tmp_path)
    assert not loaded.training
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values()))


CARD = ModelCard("cnn", Task(2), {"width": 2})


def rewrite(folder, **parts):
    (folder / "model.json").write_text(json.dumps({**asdict(CARD), **parts}))


def _saved(folder):
    save_model(folder, CARD.build(), CARD)
    return folder


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda f: (f / "model.json").unlink(), "cannot read the model"),
        (lambda f: (f / "model.json").write_text("{"), "not a model card"),
        (lambda f: (f / "model.json").write_text("[]"), "not a model card"),
        (lambda f: rewrite(f, model="cn"), "did you mean 'cnn'"),
        (lambda f: rewrite(f, options={"widht": 2}), "widht"),
        (lambda f: rewrite(f, options={"width": 3}), "weights cannot be loaded"),
        (lambda f: rewrite(f, options=None), "not a model card"),
        (lambda f: rewrite(f, task=None), "not a model card"),
        (lambda f: rewrite(f, task={"factor": 2, "irreps": "1o", "scale": 1.0, "window": {"frames": 0}}), "frames"),
        (lambda f: (f / "model.safetensors").write_bytes(b"not tensors"), "weights that have 11 bytes"),
        (lambda f: (f / "model.safetensors").unlink(), "weights cannot be loaded"),
    ],
)
def test_damaged_models_are_refused_in_one_line(tmp_path, damage, told):
    damage(_saved(tmp_path))
    with pytest.raises(FlowsrError) as error:
        load_model(tmp_path)
    assert told in str(error.value) and "\n" not in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("model", "factor", "options", "told"),
    [
        ("cnn", 2, {"width": 0}, "width must be at least 1, got 0"),
        ("cnn", 2, {"width": -1}, "width must be at least 1, got -1"),
        ("cnn", 2, {"blocks": -1}, "blocks must not be negative, got -1"),
        ("cnn", 0, {}, "factor must be at least 1, got 0"),
        ("strict", 2, {"channels": 0}, "channels must be at least 1, got 0"),
        ("relaxed", 2, {"channels": -1}, "channels must be at least 1, got -1"),
        ("relaxed", 2, {"filter_banks": 0}, "filter_banks must be at least 1, got 0"),
        ("relaxed", 2, {"blocks": -2}, "blocks must not be negative, got -2"),
        ("tricubic", -2, {}, "factor must be at least 1, got -2"),
    ],
)
def test_sizes_that_make_no_network_are_refused_by_name(tmp_path, model, factor, options, told):
    with pytest.raises(ValueError, match=told):
        model_of(model, factor, **options)
    rewrite(_saved(tmp_path), model=model, task={**asdict(CARD)["task"], "factor": factor}, options=options)
    with pytest.raises(FlowsrError, match=told) as error:
        load_model(tmp_path)
    assert str(error.value).startswith(str(tmp_path / "model.json"))


@pytest.mark.parametrize(
    "options",
    [
        {"group": "D4"},
        {"irreps": "velocity"},
        {"irreps": 7},
        {"channels": 1.5},
        {"channels": "many"},
        {"scale": "large"},
        {"factor": None},
        {"factor": "2"},
        {"factor": 2.5},
        {"wall_padding": "mirror"},
    ],
)
def test_options_that_cannot_be_built_are_one_line_with_the_file(tmp_path, options):
    task = asdict(CARD)["task"]
    given = {key: value for key, value in options.items() if key in task}
    rewrite(
        _saved(tmp_path),
        model="relaxed",
        task={**task, **given},
        options={k: v for k, v in options.items() if k not in task},
    )
    with pytest.raises(FlowsrError) as error:
        load_model(tmp_path)
    assert str(error.value).startswith(str(tmp_path / "model.json")) and "\n" not in str(error.value)


def test_weights_of_another_training_are_refused(tmp_path):
    model = CARD.build()
    save_model(tmp_path, model, CARD)
    own = file_checksum(tmp_path / "model.safetensors")
    save_model(tmp_path, model, replace(CARD, training={"weights_sha256": own}))
    assert torch.equal(load_model(tmp_path).head.convolution.weight, model.head.convolution.weight)
    card = (tmp_path / "model.json").read_bytes()
    save_model(tmp_path, CARD.build(), CARD)
    (tmp_path / "model.json").write_bytes(card)
    with pytest.raises(FlowsrError, match="not the weights of this model's card") as error:
        load_model(tmp_path)
    assert str(error.value).startswith(str(tmp_path / "model.safetensors")) and own in str(error.value)


@pytest.mark.parametrize("name", ["cnn", "relaxed", "strict"])
def test_fields_of_another_precision_get_their_own_back(name):
    model = stirred(name).float()
    single, double = torch.randn(1, 3, *SIDES), torch.randn(1, 3, *SIDES, dtype=torch.float64)
    with torch.no_grad():
        assert model(single, Grid(SIDES)).dtype == torch.float32
        fine = model(double, Grid(SIDES))
        assert fine.dtype == torch.float64
        assert torch.equal(fine, model(double.float(), Grid(SIDES)).double())
        exact = stirred(name).double()(double, Grid(SIDES))
        assert (fine - exact).norm() <= 1e-5 * exact.norm()
        assert model.double()(single, Grid(SIDES)).dtype == torch.float32


@pytest.mark.parametrize("name", ["cnn", "relaxed"])
def test_autocast_gives_its_own_precision_near_the_exact_field(name):
    model, coarse = stirred(name).float(), torch.randn(1, 3, *SIDES)
    with torch.no_grad():
        exact = model(coarse, Grid(SIDES))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            fine = model(coarse, Grid(SIDES))
            assert model(coarse.double(), Grid(SIDES)).dtype == torch.float64
    assert fine.dtype == torch.bfloat16
    assert (fine.float() - exact).norm() <= 0.03 * exact.norm()
