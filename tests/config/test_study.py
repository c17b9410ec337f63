"""What a person may write in a configuration, and what they are told when it is wrong."""

from pathlib import Path

import pytest

from flowsr.config.study import dump_experiment, load_experiment, load_study, parse_experiment
from flowsr.errors import FlowsrError
from flowsr.settings import merge


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_defaults_are_resolved_and_survive_a_round_trip(write):
    experiment = load_experiment(write("a.yaml", "name: a\noutput: out\n"))
    assert experiment.ingest.factor == 4
    assert load_experiment(write("b.yaml", dump_experiment(experiment))) == experiment


def test_extends_merges_key_by_key(write):
    write("base.yaml", "name: base\noutput: out\ntrain: {max_epochs: 3, batch_size: 2}\n")
    experiment = load_experiment(write("a.yaml", "extends: base.yaml\nname: a\ntrain: {max_epochs: 5}\n"))
    assert (experiment.name, experiment.train.max_epochs, experiment.train.batch_size) == ("a", 5, 2)


def test_overrides_come_last_and_are_yaml(write):
    path = write("a.yaml", "name: a\noutput: out\ntrain: {max_epochs: 3}\n")
    experiment = load_experiment(path, ["train.max_epochs=20", "simulate.seeds=[4, 5]"])
    assert experiment.train.max_epochs == 20 and experiment.simulate.seeds == (4, 5)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: a\noutput: o\ntrain: {max_epoch: 3}\n", ["train.max_epoch", "did you mean 'max_epochs'?"]),
        ("name: a\noutput: o\ntrian: {}\n", ["trian", "did you mean 'train'?"]),
        ("name: a\noutput: o\ntrain: {models: {x: {modle: cnn, model: cnn}}}\n", ["modle", "did you mean 'model'?"]),
        ("name: a\noutput: o\ntrain: {max_epochs: 0}\n", ["train.max_epochs", "must be positive"]),
        ("name: a\n", ["output", "required"]),
        ("- 1\n", ["mapping", "list"]),
        ("name: [\n", ["not valid YAML"]),
        ("extends: missing.yaml\n", ["missing.yaml", "cannot read"]),
        ("extends: a.yaml\n", ["extends itself"]),
    ],
)
def test_mistakes_are_one_line_that_names_the_file_and_the_key(write, text, told):
    path = write("a.yaml", text)
    with pytest.raises(FlowsrError) as error:
        load_experiment(path)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(path.parent))
    for words in told:
        assert words in message


@pytest.mark.parametrize("override", ["train.max_epochs", "=3", "train..x=1", "train.max_epochs=[", "train.nothing=3"])
def test_bad_overrides_are_refused(write, override):
    with pytest.raises(FlowsrError):
        load_experiment(write("a.yaml", "name: a\noutput: o\n"), [override])


def test_merge_leaves_its_arguments_alone():
    base, over = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge(base, over) == {"a": {"b": 1, "c": 2}}
    assert base == {"a": {"b": 1}} and over == {"a": {"c": 2}}


def test_settings_cannot_be_changed_after_reading():
    experiment = parse_experiment({"name": "a", "output": "o"})
    with pytest.raises(ValueError, match="frozen"):
        experiment.name = "b"


def test_a_model_set_to_false_is_left_out_wherever_it_is_named():
    """The published walls study, cut from the command line."""
    path = Path(__file__).parents[2] / "configs" / "walls_small.yaml"
    whole, cut = load_study(path), load_study(path, ["models.cnn_wide=false", "models.relaxed_oh=false"])
    assert set(whole.models) - set(cut.models) == {"cnn_wide", "relaxed_oh"}
    assert "relaxed_oh" not in cut.budget.free and "cnn_wide" not in cut.learning_curve.models
    assert "cnn_wide" in whole.compare.references and "cnn_wide" not in cut.compare.references
