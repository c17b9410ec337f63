"""Names and what they stand for: flowsr's own entries, those of other packages, and one line for what is neither."""

import logging
import subprocess
import sys

import pytest

from flowsr.errors import FlowsrError, UnknownName
from flowsr.provenance import versions
from flowsr.registry import Registry

GROUP = "flowsr.models"


def install(site, name, entries, source="", group=GROUP):
    """A package as pip leaves it: a module, and a dist-info with entry points."""
    (site / f"{name}.py").write_text(source)
    folder = site / f"{name}-2.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.1\n")
    lines = [f"{entry} = {name}:{what}" for entry, what in entries.items()]
    (folder / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]) + "\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in [path.stem for path in tmp_path.glob("*.py")]:
        sys.modules.pop(name, None)


def registry(**own):
    made = Registry("model", GROUP)
    for name, entry in own.items():
        made.register(name)(entry)
    return made


def test_an_entry_of_another_package_is_imported_when_it_is_asked_for(site):
    install(site, "outside_models", {"theirs": "Model"}, "class Model: pass")
    models = registry(ours=1)
    assert models["ours"] == 1 and "outside_models" not in sys.modules
    assert models["theirs"].__name__ == "Model" and "outside_models" in sys.modules
    assert list(models) == ["ours", "theirs"] and "theirs" in models and "nobody's" not in models


def test_a_registry_without_a_group_looks_nowhere(site):
    install(site, "outside_models", {"theirs": "Model"}, "class Model: pass")
    assert list(Registry("model")) == []


def test_an_unknown_name_is_a_key_error_that_suggests_another_packages(site):
    install(site, "outside_models", {"theirs": "Model"}, "class Model: pass")
    with pytest.raises(KeyError) as caught:
        registry(ours=1)["their"]
    assert isinstance(caught.value, UnknownName) and caught.value.hint == "did you mean 'theirs'?"
    assert str(caught.value) == "unknown model 'their'; expected: one of ours, theirs; did you mean 'theirs'?"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError: No module named 'nothing_of_that_name'"),
        ("", "AttributeError"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two"),
    ],
)
def test_a_package_that_is_broken_is_one_line_with_its_name(site, caplog, source, reason):
    install(site, "broken", {"theirs": "Model"}, source)
    models = registry(ours=1)
    with caplog.at_level(logging.WARNING):
        assert list(models) == ["ours"]
    assert len(caplog.messages) == 1 and "broken 2.1" in caplog.messages[0]
    with pytest.raises(FlowsrError, match=r"'theirs' of broken 2.1 cannot be used") as caught:
        models["theirs"]
    assert caught.value.found.startswith(reason)


def test_two_packages_with_one_name_are_both_refused_and_ours_is_never_replaced(site, caplog):
    for package in ("first", "second"):
        install(site, package, {"theirs": "MODEL", "ours": "MODEL"}, "MODEL = 2")
    models = registry(ours=1)
    with caplog.at_level(logging.WARNING):
        assert list(models) == ["ours"] and models["ours"] == 1
    assert len(caplog.messages) == 2 and "flowsr has one of that name" in "".join(caplog.messages)
    with pytest.raises(FlowsrError, match=r"first 2.1 and second 2.1"):
        models["theirs"]


def test_a_name_of_ones_own_is_not_given_twice():
    with pytest.raises(ValueError, match="registered twice"):
        registry(ours=1).register("ours")(2)


def test_what_extends_flowsr_is_told_with_a_result(site):
    install(site, "outside_models", {"theirs": "Model"})
    assert versions()["outside_models"] == "2.1"


def test_the_list_of_models_has_those_of_other_packages(site):
    source = '''
from flowsr.models import MODELS
from flowsr.models.interpolation import Trilinear

class Model(Trilinear):
    """A model of somebody else."""
'''
    install(site, "outside_models", {"theirs": "Model"}, source)
    install(site, "broken", {"wrong": "Model"}, "1 / 0")
    done = subprocess.run(
        [sys.executable, "-m", "flowsr", "models"],
        env={"PYTHONPATH": str(site), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "theirs         A model of somebody else." in done.stdout
    assert "the model 'wrong' of broken 2.1 cannot be used" in done.stderr and "Traceback" not in done.stderr
