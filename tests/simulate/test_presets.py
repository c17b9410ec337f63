"""Runs chosen by their result, and the presets: each has a manifest, a cost and its true symmetry group."""

import math
import re
from pathlib import Path
from typing import get_args

import pytest

from flowsr.config.study import load_experiment, parse_experiment
from flowsr.data.manifest import read_manifest
from flowsr.simulate import FLOWS, exact_group, scalars_of
from flowsr.simulate.resolution import SPHERE_RADIUS, cells_for, length_ratio, viscosity_for
from flowsr.simulate.settings import FlowName

ROOT = Path(__file__).parents[2]
PRESETS = sorted((ROOT / "configs" / "dns").glob("*.yaml"))
PRESETS = [path for path in PRESETS if "channel" not in path.stem]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_states_its_cost_and_its_true_symmetry_group(path):
    head = path.read_text()
    stated = re.search(r"^# truth: (.+)$", head, re.M)[1]
    assert re.search(r"^# cost: .+$", head, re.M) and f"flowsr simulate configs/dns/{path.name}" in head
    assert exact_group(load_experiment(path).simulate).label == stated


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_has_a_manifest_that_describes_what_it_makes(path):
    manifest = read_manifest(ROOT / "data_manifests" / f"dns_{path.stem}.yaml")
    experiment = load_experiment(path)
    settings = experiment.simulate
    assert manifest.viscosity == settings.viscosity
    assert tuple(manifest.grid.cells) == settings.shape
    assert tuple(manifest.grid.lengths) == settings.lengths
    assert set(manifest.files) == {f"seed_{seed:03d}" for seed in experiment.simulate.seeds}
    assert set(manifest.variables) == {"velocity", *(scalar.name for scalar in scalars_of(settings))}
    assert manifest.root == f"../{experiment.output}/simulate"
    stated = re.search(r"^# truth: (.+)$", path.read_text(), re.M)[1]
    assert f"Symmetry group: {stated}." in " ".join(manifest.description.split())


def test_the_names_in_the_settings_are_the_registered_flows():
    assert set(get_args(FlowName)) - {"channel"} == set(FLOWS)


@pytest.mark.parametrize(
    ("cells", "viscosity", "re_lambda"), [(32, 0.02, 27), (48, 0.0108, 40), (64, 0.0075, 47), (128, 0.00293, 86)]
)
def test_measured_runs_are_met(cells, viscosity, re_lambda):
    """Forced with power 0.1 in k < 2.5; Re_lambda scatters by 4 and kmax*eta by 0.05."""
    eta = (viscosity**3 / 0.1) ** 0.25
    assert length_ratio(re_lambda - 4) < 1 / (2.5 * eta) < length_ratio(re_lambda + 4)
    assert SPHERE_RADIUS * cells * eta == pytest.approx(1.40, abs=0.06)


@pytest.mark.parametrize("re_lambda", [15.0, 48.0, 86.0, 136.0, 400.0])
def test_a_target_is_reached(re_lambda):
    cells = cells_for(re_lambda, 1.4, 2.5)
    eta = (viscosity_for(cells, 1.4, 0.1) ** 3 / 0.1) ** 0.25
    assert SPHERE_RADIUS * cells * eta == pytest.approx(1.4)
    assert length_ratio(re_lambda * 0.98) <= 1 / (2.5 * eta) <= length_ratio(re_lambda * 1.2)


def test_a_target_fills_in_what_is_not_stated_and_nothing_else():
    def simulate(**values):
        return parse_experiment({"name": "a", "output": "o", "simulate": values}).simulate

    target = {"re_lambda": 48, "kmax_eta": 1.4}
    found = simulate(target=target)
    assert found.cells == 64
    eta = (found.viscosity**3 / found.power) ** 0.25
    assert math.sqrt(2) / 3 * 64 * eta == pytest.approx(1.4)
    assert simulate(target=target, cells=96).cells == 96
    assert simulate(target=target, viscosity=0.01).viscosity == 0.01
    flat = simulate(target=target, lengths=[2 * math.pi, 2 * math.pi, math.pi])
    assert flat.cells == (64, 64, 32) and flat.viscosity == pytest.approx(found.viscosity)
